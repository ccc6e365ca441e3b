"""What a fork server imports once, so that none of its children has to."""

from .. import _popen as _popen
from .. import _popen_new as _popen_new
from .. import _worker as _worker
from . import _install as _install
from . import connection as connection
from . import managers as managers
from . import pool as pool
from . import queues as queues
from . import sharedctypes as sharedctypes
from . import synchronize as synchronize
