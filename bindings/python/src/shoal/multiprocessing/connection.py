"""`multiprocessing.connection`, whose `Pipe` is in shared memory (see `shoal.Pipe`).

The ends of a pipe are `PipeConnection` objects, which are instances of `Connection` too. `Client`
and `Listener` use sockets and are the standard library's. `wait` takes both kinds of connection.
"""

from __future__ import annotations

import ctypes
import time
from typing import TYPE_CHECKING, Any, Callable, Iterable, List, Optional, Tuple

from .. import _abi, _backpressure, _ffi, _pickling, _pipe
from .._attribute import assignable
from .._errors import ShoalError
from .._original import connection as _std
from .._structs import Message
from .._wait import seconds

__all__ = ["Client", "Connection", "Listener", "Pipe", "wait"]

Client, Connection, Listener = _std.Client, _std.Connection, _std.Listener
# Bound at import, because a program may replace the standard library's `wait` by the one below. `install` may have
# replaced it already.
_wait = getattr(_std.wait, "__wrapped__", _std.wait)

if TYPE_CHECKING:
    _Base = _pipe.Connection
else:

    class _Base(_pipe.Connection, Connection):
        # `Connection.__del__` closes a descriptor, which this class does not have.
        def __del__(self) -> None:
            pass


@assignable
class PipeConnection(_Base):
    """One end of a pipe in shared memory, with the methods of a `Connection`."""

    _dumps = staticmethod(_pickling.dumps)
    _dumps_apart = staticmethod(_pickling.dumps_apart)

    def _send_with(self, call: Callable[[int], int]) -> None:
        _backpressure.send(lambda: super(PipeConnection, self)._send_with(call), self._all_is_read)

    def _is_ready(self) -> bool:
        """Whether `wait` returns it: there is something to receive, or the other end was closed."""
        if self.readable:
            return self.poll(0)
        handle, message = self._live(), Message()
        out = ctypes.byref(message)
        # The only call that reports the closed end without sending anything.
        status = _ffi.lib.shoal_pipe_reserve(handle, 0, _abi.NOWAIT, out)
        if status == _abi.OK:
            _ffi.lib.shoal_pipe_discard(handle, out)
        closed: bool = status == _abi.ERR_CLOSED
        return closed

    def _all_is_read(self) -> bool:
        """Whether every message that was sent from this end has been received."""
        try:
            other = _pipe.Connection(self._name, 1 - self._end, create=False)
        except ShoalError:
            return True
        with other:
            return _pipe.Connection.stats(other).len == 0


def Pipe(duplex: bool = True) -> "Tuple[PipeConnection, PipeConnection]":
    """Both ends of a new pipe. Without ``duplex`` the first end receives and the second sends.

    Raises `NoSpaceError` if shared memory is full.
    """
    return _pipe.pair(PipeConnection, duplex)


# How often `wait` checks whether the other end of a connection that only sends was closed.
_CHECK_SECONDS = 0.05


def wait(object_list: Iterable[Any], timeout: Optional[float] = None) -> List[Any]:
    """Waits until at least one object is ready, and returns all that are: connections, sentinels of
    processes, queues, sockets, descriptors. The list is empty after ``timeout`` seconds.

    A connection that only sends is ready once its other end was closed."""
    things = list(object_list)
    if not any(isinstance(one, PipeConnection) for one in things):
        ready: List[Any] = _wait(things, timeout)
        return ready
    until = None if timeout is None else time.monotonic() + seconds(timeout)
    # An end that only sends has no descriptor, and is polled.
    watched = [one for one in things if not isinstance(one, PipeConnection) or one.readable]
    longest = None if len(watched) == len(things) else _CHECK_SECONDS
    while True:
        # Asked first: it takes no system call.
        early = [one for one in things if isinstance(one, PipeConnection) and one._is_ready()]
        left = longest
        if until is not None:
            left = max(0.0, until - time.monotonic())
            left = left if longest is None else min(left, longest)
        found = _wait(watched, 0 if early else left)
        # A descriptor may still be readable after another process has received the message.
        ready = [
            one
            for one in things
            if (one._is_ready() if isinstance(one, PipeConnection) else one in found)
        ]
        if ready or (until is not None and time.monotonic() >= until):
            return ready


def __getattr__(name: str) -> Any:
    return getattr(_std, name)
