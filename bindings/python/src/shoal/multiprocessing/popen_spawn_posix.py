"""`multiprocessing.popen_spawn_posix` itself: nothing of it is replaced."""

import sys
from multiprocessing import popen_spawn_posix
from multiprocessing.popen_spawn_posix import *  # noqa: F403  (for type checkers and readers)

sys.modules[__name__] = popen_spawn_posix
