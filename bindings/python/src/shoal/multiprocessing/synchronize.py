"""`multiprocessing.synchronize` itself: nothing of it is replaced."""

import sys
from multiprocessing import synchronize
from multiprocessing.synchronize import *  # noqa: F403  (for type checkers and readers)

sys.modules[__name__] = synchronize
