"""`multiprocessing.util` itself: nothing of it is replaced."""

import sys
from multiprocessing import util
from multiprocessing.util import *  # noqa: F403  (for type checkers and readers)

sys.modules[__name__] = util
