"""`multiprocessing.forkserver` itself: nothing of it is replaced."""

import sys
from multiprocessing import forkserver
from multiprocessing.forkserver import *  # noqa: F403  (for type checkers and readers)

sys.modules[__name__] = forkserver
