"""`shoal.wait`: several queues and processes at once."""

from __future__ import annotations

import ctypes
from typing import Any, Iterable, List, Optional, Sequence, TypeVar, Union, overload

from . import _ffi, _wait
from ._process import Process
from ._queue import Queue

T = TypeVar("T")
Thing = Union["Queue[Any]", Process]

_SIZE = ctypes.sizeof(_ffi.Waitable)


@overload
def wait(things: "Iterable[Queue[T]]", timeout: Optional[float] = None) -> "List[Queue[T]]": ...
@overload
def wait(things: Iterable[Process], timeout: Optional[float] = None) -> List[Process]: ...
@overload
def wait(things: Iterable[Thing], timeout: Optional[float] = None) -> List[Thing]: ...
def wait(things: Iterable[Any], timeout: Optional[float] = None) -> List[Any]:
    """Waits until one of these queues and processes is ready; all that are, in their order.

    ::

        for ready in shoal.wait([jobs, cancelled, child]):
            if ready is jobs: ...

    A queue is ready while there is something to take, and once it is closed; a process once
    it has ended. The list is empty after ``timeout`` seconds without any; 0 only looks.
    Without anything to wait for it is an `InvalidError`. Any number of threads may wait
    for the same things, and Ctrl-C ends it.

    If others take from a queue as well it may be empty again by the time you do: take with
    `get_nowait`. A process that has ended may have put something just before: look into
    its queue once more. What has no handle of this package, like a socket, can be waited for
    together with queues by `selectors` or `multiprocessing.connection.wait`, as a queue has
    a `fileno`.
    """
    wanted = list(things)
    found = ctypes.c_size_t()

    def call(timeout_ns: int) -> int:
        # Anew for each slice: another thread may detach a queue in between.
        handles = _handles(wanted)
        status: int = _ffi.lib.shoal_wait_any(
            _waitables(handles), len(handles), timeout_ns, ctypes.byref(found)
        )
        return status

    status = _wait.wait(call, _wait.deadline(True, timeout))
    if status == _ffi.TIMEOUT:
        return []
    _ffi.check(status)
    handles = _handles(wanted)
    array = _waitables(handles)
    return [
        thing
        for index, thing in enumerate(wanted)
        if index == found.value or _is_ready(array, index)
    ]


def _handles(things: Iterable[Thing]) -> List[_ffi.Handle]:
    handles: List[_ffi.Handle] = []
    for thing in things:
        if not isinstance(thing, (Queue, Process)):
            raise TypeError(f"{thing!r} is neither a shoal.Queue nor a shoal.Process")
        handles.append(thing._live() if isinstance(thing, Queue) else thing._handle)
    return handles


def _waitables(handles: Sequence[_ffi.Handle]) -> "ctypes.Array[_ffi.Waitable]":
    """What the library wants; the handles are still the caller's to keep."""
    array = (_ffi.Waitable * len(handles))()
    for waitable, handle in zip(array, handles):
        if isinstance(handle, _ffi.QueueHandle):
            waitable.queue = handle.value
        else:
            waitable.process = handle.value
    return array


def _is_ready(array: "ctypes.Array[_ffi.Waitable]", index: int) -> bool:
    one = ctypes.byref(array, index * _SIZE)
    while True:
        status = _ffi.lib.shoal_wait_any(one, 1, _ffi.NOWAIT, ctypes.byref(ctypes.c_size_t()))
        if status == _ffi.TIMEOUT:
            return False
        if status != _ffi.INTERRUPTED:
            _ffi.check(status)
            return True
