"""Shared-memory objects for every process of the machine, in Python values.

::

    import shoal

    mail: shoal.Queue[str] = shoal.Queue("mail")
    mail.put("hello")                       # from any process, in any language

    ages: shoal.Map[str, int] = shoal.Map("ages")
    ages["ada"] = 36

    here, there = shoal.Pipe()              # a connection of two ends

    child = shoal.spawn(["nvidia-smi"], devices=[0])
    child.join()

    shoal.wait([mail, child])               # those that are ready

`shoal.multiprocessing` is `multiprocessing` with its data in shared memory.
"""

import sys as _sys

# First, and in syntax that older versions parse.
if _sys.version_info < (3, 9):
    raise ImportError("shoal needs Python 3.9 or later; this is " + _sys.version.split()[0])

from . import _end as _end
from . import _ffi as _ffi
from .__version__ import __version__

# As in `typing`, which takes longer to import than the rest of this module.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, List as _List

    from . import devices as devices
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
    from ._hot import backend
    from ._keys import KeyLock, View
    from ._leasing import DeviceLease, lease_devices
    from ._list import BytesList, List
    from ._lock import Lock, RLock
    from ._map import BytesMap, Map
    from ._message import Lease, Reservation
    from ._pipe import Connection, Pipe
    from ._process import Process, spawn
    from ._queue import Queue
    from ._select import wait
    from ._semaphore import BoundedSemaphore, Semaphore
    from ._supervisor import Supervisor
    from ._sync import Barrier, Condition, Event, RWLock
del TYPE_CHECKING

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
    "DeviceLease",
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
    "Supervisor",
    "SystemCallError",
    "TimeoutError",
    "TooLargeError",
    "UnsupportedError",
    "Value",
    "VersionMismatchError",
    "View",
    "WrongKindError",
    "__version__",
    "backend",
    "devices",
    "gc",
    "lease_devices",
    "spawn",
    "wait",
]

# The module that defines each name. It is imported on first use, so that a program that uses queues
# does not load lists. Each class sets its ``__module__`` to this package, for tracebacks and help().
_WHERE = {
    "": "devices",
    "_errors": """
        AccessError BufferTooSmallError ClosedError CorruptError Empty ExhaustedError
        ExistsError ExpiredError Full InternalError InterruptedError InvalidError
        NoSpaceError NotFoundError OwnerDiedError PoisonedError ShoalError SystemCallError
        TimeoutError TooLargeError UnsupportedError VersionMismatchError WrongKindError
    """,
    "__version__": "__version__",
    "_array": "Array Value",
    "_gc": "gc",
    "_hot": "backend",
    "_keys": "KeyLock View",
    "_leasing": "DeviceLease lease_devices",
    "_list": "BytesList List",
    "_lock": "Lock RLock",
    "_map": "BytesMap Map",
    "_message": "Lease Reservation",
    "_pipe": "Connection Pipe",
    "_process": "Process spawn",
    "_queue": "Queue",
    "_select": "wait",
    "_semaphore": "BoundedSemaphore Semaphore",
    "_supervisor": "Supervisor",
    "_sync": "Barrier Condition Event RWLock",
}
_where = {name: module for module, names in _WHERE.items() for name in names.split()}


def __getattr__(name: str) -> "Any":
    from importlib import import_module

    if name not in _where:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if _where[name]:
        globals()[name] = getattr(import_module(f"{__name__}.{_where[name]}"), name)
    else:
        import_module(f"{__name__}.{name}")
    return globals()[name]


def __dir__() -> "_List[str]":
    return sorted({*globals(), *__all__})
