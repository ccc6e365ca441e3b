"""`multiprocessing.popen_forkserver` itself: nothing of it is replaced."""

import sys
from multiprocessing import popen_forkserver
from multiprocessing.popen_forkserver import *  # noqa: F403  (for type checkers and readers)

sys.modules[__name__] = popen_forkserver
