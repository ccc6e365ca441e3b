"""The modules that a fork server imports, so that its children do not have to."""

from . import _install as _install
from . import _popen as _popen
from . import _popen_new as _popen_new
from . import _worker as _worker
from .multiprocessing import connection as connection
from .multiprocessing import managers as managers
from .multiprocessing import pool as pool
from .multiprocessing import queues as queues
from .multiprocessing import sharedctypes as sharedctypes
from .multiprocessing import synchronize as synchronize
