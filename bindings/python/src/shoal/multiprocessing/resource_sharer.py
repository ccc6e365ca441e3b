"""`multiprocessing.resource_sharer` itself: nothing of it is replaced."""

import sys
from multiprocessing import resource_sharer
from multiprocessing.resource_sharer import *  # noqa: F403  (for type checkers and readers)

sys.modules[__name__] = resource_sharer
