"""`multiprocessing.reduction` itself: nothing of it is replaced."""

import sys
from multiprocessing import reduction
from multiprocessing.reduction import *  # noqa: F403  (for type checkers and readers)

sys.modules[__name__] = reduction
