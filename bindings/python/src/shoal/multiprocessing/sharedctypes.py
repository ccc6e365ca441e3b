"""`multiprocessing.sharedctypes` itself: nothing of it is replaced."""

import sys
from multiprocessing import sharedctypes
from multiprocessing.sharedctypes import *  # noqa: F403  (for type checkers and readers)

sys.modules[__name__] = sharedctypes
