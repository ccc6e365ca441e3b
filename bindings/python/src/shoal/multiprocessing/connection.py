"""`multiprocessing.connection`, whose `Pipe` is in shared memory (see `shoal.Pipe`).

What a pipe gives is a `PipeConnection`, which is a `Connection` too. `Client` and `Listener`
talk over sockets and are the standard library's; `wait` takes the connections of both.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Callable, Iterable, List, Optional, Tuple

from .. import _behind, _pickling, _pipe
from .._attribute import assignable
from .._errors import ShoalError
from .._original import connection as _std

__all__ = ["Client", "Connection", "Listener", "Pipe", "wait"]

Client, Connection, Listener = _std.Client, _std.Connection, _std.Listener
# Here, since a program may put `wait` below in its place.
_wait = _std.wait

if TYPE_CHECKING:
    _Base = _pipe.Connection
else:

    class _Base(_pipe.Connection, Connection):
        # The other base closes descriptors here, and has none.
        def __del__(self) -> None:
            pass


@assignable
class PipeConnection(_Base):
    """One end of a pipe in shared memory, with the methods of a `Connection`."""

    _dumps = staticmethod(_pickling.dumps)
    _dumps_apart = staticmethod(_pickling.dumps_apart)

    def _send_with(self, call: Callable[[int], int]) -> None:
        _behind.send(lambda: super(PipeConnection, self)._send_with(call), self._all_is_read)

    def _all_is_read(self) -> bool:
        """Whether nothing that was sent from this end waits to be received."""
        try:
            other = _pipe.Connection(self._name, 1 - self._end, create=False)
        except ShoalError:
            return True
        with other:
            return _pipe.Connection.stats(other).len == 0


def Pipe(duplex: bool = True) -> "Tuple[PipeConnection, PipeConnection]":
    """Both ends of a new pipe; without ``duplex`` the first one receives and the second sends."""
    return _pipe.pair(PipeConnection, duplex)


def wait(object_list: Iterable[Any], timeout: Optional[float] = None) -> List[Any]:
    """Waits until some of these are ready, and returns them: connections, sentinels of processes,
    queues, sockets, descriptors. The list is empty after ``timeout`` seconds without any."""
    things = list(object_list)
    if not any(isinstance(one, PipeConnection) for one in things):
        ready: List[Any] = _wait(things, timeout)
        return ready
    until = None if timeout is None else time.monotonic() + timeout
    while True:
        # A pipe knows at once what its descriptor says a little later.
        told = [one for one in things if isinstance(one, PipeConnection) and one.poll(0)]
        left = None if until is None else max(0.0, until - time.monotonic())
        found = _wait(things, 0 if told else left)
        # And a descriptor may tell of what another process has received since.
        ready = [
            one
            for one in things
            if (one.poll(0) if isinstance(one, PipeConnection) else one in found)
        ]
        if ready or (until is not None and time.monotonic() >= until):
            return ready


def __getattr__(name: str) -> Any:
    return getattr(_std, name)
