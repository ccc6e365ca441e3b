"""`multiprocessing.popen_fork` itself: nothing of it is replaced."""

import sys
from multiprocessing import popen_fork
from multiprocessing.popen_fork import *  # noqa: F403  (for type checkers and readers)

sys.modules[__name__] = popen_fork
