"""`multiprocessing.shared_memory` itself: nothing of it is replaced."""

import sys
from multiprocessing import shared_memory
from multiprocessing.shared_memory import *  # noqa: F403  (for type checkers and readers)

sys.modules[__name__] = shared_memory
