"""Shared-memory objects for every process of the machine, in Python values.

::

    import shoal

    mail: shoal.Queue[str] = shoal.Queue("mail")
    mail.put("hello")                       # any process, any language, kill -9 proof

    ages: shoal.Map[str, int] = shoal.Map("ages")
    ages["ada"] = 36

    here, there = shoal.Pipe()              # a conversation of two

    child = shoal.spawn(["nvidia-smi"], devices=[0])
    child.join()

    shoal.wait([mail, child])               # whatever comes first

`shoal.multiprocessing` is `multiprocessing` with its data in shared memory.
"""

from . import _end as _end
from . import devices
from .__version__ import __version__
from ._errors import (
    AccessError,
    BufferTooSmallError,
    ClosedError,
    CorruptError,
    Empty,
    ExhaustedError,
    ExistsError,
    ExpiredError,
    Full,
    InternalError,
    InterruptedError,
    InvalidError,
    NoSpaceError,
    NotFoundError,
    OwnerDiedError,
    PoisonedError,
    ShoalError,
    SystemCallError,
    TimeoutError,
    TooLargeError,
    UnsupportedError,
    VersionMismatchError,
    WrongKindError,
)
from ._array import Array, Value
from ._gc import gc
from ._keys import KeyLock, View
from ._list import BytesList, List
from ._loan import Lease, Reservation
from ._lock import Lock, RLock
from ._map import BytesMap, Map
from ._pipe import Connection, Pipe
from ._process import Process, spawn
from ._queue import Queue
from ._select import wait
from ._sync import Barrier, BoundedSemaphore, Condition, Event, RWLock, Semaphore

__all__ = [
    "AccessError",
    "Array",
    "Barrier",
    "BoundedSemaphore",
    "BufferTooSmallError",
    "BytesList",
    "BytesMap",
    "ClosedError",
    "Condition",
    "Connection",
    "CorruptError",
    "Empty",
    "Event",
    "ExhaustedError",
    "ExistsError",
    "ExpiredError",
    "Full",
    "InternalError",
    "InterruptedError",
    "InvalidError",
    "KeyLock",
    "Lease",
    "List",
    "Lock",
    "Map",
    "NoSpaceError",
    "NotFoundError",
    "OwnerDiedError",
    "Pipe",
    "PoisonedError",
    "Process",
    "Queue",
    "RLock",
    "RWLock",
    "Reservation",
    "Semaphore",
    "ShoalError",
    "SystemCallError",
    "TimeoutError",
    "TooLargeError",
    "UnsupportedError",
    "Value",
    "VersionMismatchError",
    "View",
    "WrongKindError",
    "__version__",
    "devices",
    "gc",
    "spawn",
    "wait",
]

# To a reader of a traceback or of help() these are names of the package.
for _name in __all__:
    _object = globals()[_name]
    if isinstance(_object, type):
        _object.__module__ = __name__
del _name, _object
