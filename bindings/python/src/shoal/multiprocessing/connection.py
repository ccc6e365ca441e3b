"""`multiprocessing.connection` itself: nothing of it is replaced."""

import sys
from multiprocessing import connection
from multiprocessing.connection import *  # noqa: F403  (for type checkers and readers)

sys.modules[__name__] = connection
