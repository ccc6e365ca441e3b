"""`multiprocessing.heap` itself: nothing of it is replaced."""

import sys
from multiprocessing import heap
from multiprocessing.heap import *  # noqa: F403  (for type checkers and readers)

sys.modules[__name__] = heap
