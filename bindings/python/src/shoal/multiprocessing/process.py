"""`multiprocessing.process` itself: nothing of it is replaced."""

import sys
from multiprocessing import process
from multiprocessing.process import *  # noqa: F403  (for type checkers and readers)

sys.modules[__name__] = process
