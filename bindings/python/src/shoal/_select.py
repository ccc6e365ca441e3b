"""`shoal.wait`: waits for several queues, connections, processes and descriptors at once."""

from __future__ import annotations

import ctypes
from typing import Any, Iterable, List, Optional, Sequence, TypeVar, Union, overload

from . import _abi, _ffi, _wait
from ._handles import Shared
from ._structs import Waitable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from ._pipe import Connection
    from ._process import Process
    from ._queue import Queue

    class HasFileno(Protocol):
        """A socket, a file, or any other object with a descriptor."""

        def fileno(self) -> int: ...


T = TypeVar("T")
Thing = Union["Queue[Any]", "Connection", "Process", "HasFileno", int]

_SIZE = ctypes.sizeof(Waitable)


@overload
def wait(things: "Iterable[Queue[T]]", timeout: Optional[float] = None) -> "List[Queue[T]]": ...
@overload
def wait(things: Iterable[Process], timeout: Optional[float] = None) -> List[Process]: ...
@overload
def wait(things: Iterable[Thing], timeout: Optional[float] = None) -> List[Thing]: ...
def wait(things: Iterable[Any], timeout: Optional[float] = None) -> List[Any]:
    """Waits until at least one of these things is ready. Returns all that are ready, in their order.

    ::

        for ready in shoal.wait([jobs, cancelled, child, socket]):
            if ready is jobs: ...

    A queue is ready while it has a message, and once it is closed; a `Connection` while it has a
    message, and once the other end is closed; a process once it has ended; a descriptor, or an object
    with a ``fileno()``, while it is readable or at its end. The list is empty after ``timeout``
    seconds; 0 does not wait. Raises `InvalidError` if there is nothing to wait for. Any number of
    threads may wait for the same things. Ctrl-C ends the wait.

    Another consumer may empty a queue before the caller does, so take with `get_nowait`. A process may
    have put a message just before its end, so check its queue once more after that.
    """
    wanted = list(things)
    found = ctypes.c_size_t()

    def call(timeout_ns: int) -> int:
        # Made for each slice, because another thread may detach a queue in between.
        handles = _handles(wanted)
        status: int = _ffi.lib.shoal_wait_any(
            _waitables(handles), len(handles), timeout_ns, ctypes.byref(found)
        )
        return status

    status = _wait.wait(call, _wait.deadline(True, timeout))
    if status == _abi.ERR_TIMEOUT:
        return []
    _ffi.check(status)
    handles = _handles(wanted)
    array = _waitables(handles)
    return [
        thing
        for index, thing in enumerate(wanted)
        if index == found.value or _is_ready(array, index)
    ]


def _handles(things: Iterable[Any]) -> "List[Union[_ffi.Handle, int]]":
    """The handle of each thing, or its descriptor if it has no handle."""
    return [_handle(thing) for thing in things]


def _handle(thing: Any) -> Union[_ffi.Handle, int]:
    if isinstance(thing, Shared):
        handle: _ffi.Handle = thing._live()
        if handle.waitable:
            return handle
    elif isinstance(thing, int):
        return _ffi.number(thing, "a descriptor", 32, signed=True)
    else:
        # Imported late, because it takes longer than everything else that a program with queues imports.
        from ._process import Process

        if isinstance(thing, Process):
            return thing._handle
        if hasattr(thing, "fileno"):
            return int(thing.fileno())
    raise TypeError(
        f"{thing!r} is neither a shoal.Queue nor a shoal.Connection, a shoal.Process or a descriptor"
    )


def _waitables(
    handles: "Sequence[Union[_ffi.Handle, int]]",
) -> "ctypes.Array[Waitable]":
    """An array for the library. The caller keeps the handles alive."""
    array = (Waitable * len(handles))()
    for waitable, handle in zip(array, handles):
        if isinstance(handle, int):
            waitable.fd = handle
        else:
            setattr(waitable, handle.waitable, handle.value)
    return array


def _is_ready(array: "ctypes.Array[Waitable]", index: int) -> bool:
    one = ctypes.byref(array, index * _SIZE)
    while True:
        status = _ffi.lib.shoal_wait_any(one, 1, _abi.NOWAIT, ctypes.byref(ctypes.c_size_t()))
        if status == _abi.ERR_TIMEOUT:
            return False
        if status != _abi.ERR_INTERRUPTED:
            _ffi.check(status)
            return True
