"""`multiprocessing.pool` itself: nothing of it is replaced."""

import sys
from multiprocessing import pool
from multiprocessing.pool import *  # noqa: F403  (for type checkers and readers)

sys.modules[__name__] = pool
