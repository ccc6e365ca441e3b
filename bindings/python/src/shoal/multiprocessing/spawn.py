"""`multiprocessing.spawn` itself: nothing of it is replaced."""

import sys
from multiprocessing import spawn
from multiprocessing.spawn import *  # noqa: F403  (for type checkers and readers)

sys.modules[__name__] = spawn
