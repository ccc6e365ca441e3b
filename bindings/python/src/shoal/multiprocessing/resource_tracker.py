"""`multiprocessing.resource_tracker` itself: nothing of it is replaced."""

import sys
from multiprocessing import resource_tracker
from multiprocessing.resource_tracker import *  # noqa: F403  (for type checkers and readers)

sys.modules[__name__] = resource_tracker
