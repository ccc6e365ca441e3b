"""`multiprocessing.dummy` itself, which is threads: nothing of it is replaced."""

import sys
from multiprocessing import dummy
from multiprocessing.dummy import *  # noqa: F403  (for type checkers and readers)
from multiprocessing.dummy import connection

sys.modules[__name__] = dummy
sys.modules[__name__ + ".connection"] = connection
