"""The locks of `multiprocessing`, in shared memory: `shoal.Lock` and its relatives.

Methods and exceptions are the standard library's. What differs: the lock of a process that was
killed goes to the next one (`Lock.owner_died` tells), permits of the killed return, `Event.set`
and `Condition.notify` never wait for a dead waiter, and each can be pickled anywhere, not only
to a child that is being started. Each class is derived from the standard library's, for
`isinstance`; nothing of that is used.

Permits stay taken when the process that has them ends by itself, as ever: only those of one that
was killed return. (Those of a `shoal.Semaphore` return in either case.)
"""

from __future__ import annotations

import errno
import time
from types import TracebackType
from typing import Any, Callable, Optional, Tuple, Type

from .. import _lock, _sync
from .._attribute import assignable
from .._original import synchronize as _std

__all__ = ["Barrier", "BoundedSemaphore", "Condition", "Event", "Lock", "RLock", "Semaphore"]


class _SemLock:
    """What programs find as ``_semlock`` in an original lock or semaphore, with its interface.

    `concurrent.futures.ProcessPoolExecutor` is among them, and all that use the internals of the
    standard library's queues.
    """

    SEM_VALUE_MAX: int = _std.SEM_VALUE_MAX

    def __init__(self, lock: Any) -> None:
        self._lock = lock
        self.acquire = lock.acquire
        self.release = lock.release

    def __enter__(self) -> bool:
        taken: bool = self._lock.__enter__()
        return taken

    def __exit__(
        self,
        kind: Optional[Type[BaseException]] = None,
        value: Optional[BaseException] = None,
        trace: Optional[TracebackType] = None,
    ) -> None:
        self._lock.__exit__(kind, value, trace)

    @property
    def name(self) -> str:
        """The name of the object in shared memory."""
        name: str = self._lock._name
        return name

    @property
    def handle(self) -> int:
        """The native library's pointer; 0 once this process has given it up."""
        handle = self._lock._handle
        return 0 if handle is None else handle.value or 0

    @property
    def kind(self) -> int:
        """Whether it is recursive, 0, or counts, 1."""
        return int(not isinstance(self._lock, _lock.RLock))

    @property
    def maxvalue(self) -> int:
        """The most that its value can be."""
        if isinstance(self._lock, _lock.Lock):
            return 1
        most: int = getattr(self._lock, "_most", self.SEM_VALUE_MAX)
        return most

    def _count(self) -> int:
        """How often the calling thread has the lock, or this process a permit."""
        if isinstance(self._lock, _lock.Lock):
            return self._lock._depth()
        held: int = self._lock._held()
        return held

    def _is_mine(self) -> bool:
        return self._count() > 0

    def _get_value(self) -> int:
        if isinstance(self._lock, _lock.Lock):
            return int(not self._lock.locked())
        value: int = self._lock.get_value()
        return value

    def _is_zero(self) -> bool:
        return self._get_value() == 0

    def _after_fork(self) -> None:
        """Nothing: a child begins with no lock and no permit."""


class _Number:
    """A number inside an original condition, which there is a semaphore."""

    def __init__(self, get_value: Callable[[], int]) -> None:
        self.get_value = get_value


@assignable
class Lock(_lock.Lock, _std.Lock):  # type: ignore[misc]
    """`multiprocessing.Lock`; see `shoal.Lock`."""

    def __init__(self, *, ctx: Any = None) -> None:
        super().__init__()

    @property
    def _semlock(self) -> _SemLock:
        return _SemLock(self)


class PipeLock(Lock):
    """The lock of one end of a pipe, in the queues of the standard library.

    A process that is killed with it may have read or written a part of a message. To hand the lock
    on would mean to take the rest for a message: data for a pickle. So
    a process that would get the lock of a dead one gets an error instead, and so does the next.
    """

    def _taken(self, status: int) -> bool:
        taken = super()._taken(status)
        if self.owner_died:
            # As if by death: so the next one is told, too.
            self.detach()
            raise self._torn()
        return taken

    def _torn(self) -> Exception:
        return BrokenPipeError(
            errno.EPIPE, "a process was killed while it used this queue's pipe: what it holds is torn"
        )

    def _live(self) -> Any:
        if self.owner_died and self._handle is None:
            raise self._torn()
        return super()._live()

    def __enter__(self) -> bool:  # type: ignore[override]
        try:
            return super().__enter__()
        except BrokenPipeError:
            # Mostly another process learns of the death and ends this one, as an
            # executor does. Otherwise it would have a traceback to show for it.
            time.sleep(_MOMENT)
            raise


_MOMENT = 1.0


@assignable
class RLock(_lock.RLock, _std.RLock):  # type: ignore[misc]
    """`multiprocessing.RLock`; see `shoal.RLock`."""

    def __init__(self, *, ctx: Any = None) -> None:
        super().__init__()

    @property
    def _semlock(self) -> _SemLock:
        return _SemLock(self)


@assignable
class Semaphore(_sync.Semaphore, _std.Semaphore):  # type: ignore[misc]
    """`multiprocessing.Semaphore`; see `shoal.Semaphore`.

    Permits stay taken when the process that has them ends by itself, and return when it is killed.
    """

    _handle_type = _sync.KeptSemaphoreHandle

    def __init__(self, value: int = 1, *, ctx: Any = None) -> None:
        super().__init__(value)

    @property
    def _semlock(self) -> _SemLock:
        return _SemLock(self)


@assignable
class BoundedSemaphore(_sync.BoundedSemaphore, _std.BoundedSemaphore):  # type: ignore[misc]
    """`multiprocessing.BoundedSemaphore`; see `shoal.BoundedSemaphore`, and `Semaphore`."""

    _handle_type = _sync.KeptSemaphoreHandle

    def __init__(self, value: int = 1, *, ctx: Any = None) -> None:
        super().__init__(value)
        self._most = value

    def _state(self) -> Tuple[Any, ...]:
        return (self._most,)

    def _reopen(self, name: str, *state: Any) -> None:
        (self._most,) = state
        super()._reopen(name)

    @property
    def _semlock(self) -> _SemLock:
        return _SemLock(self)


@assignable
class Event(_sync.Event, _std.Event):  # type: ignore[misc]
    """`multiprocessing.Event`; see `shoal.Event`."""

    def __init__(self, *, ctx: Any = None) -> None:
        super().__init__()

    def __repr__(self) -> str:
        state = "detached" if self._handle is None else "set" if self.is_set() else "unset"
        return f"<{type(self).__qualname__} at {self._name!r} {state}>"


@assignable
class Condition(_sync.Condition, _std.Condition):  # type: ignore[misc]
    """`multiprocessing.Condition`; see `shoal.Condition`."""

    def __init__(self, lock: Optional[_lock.Lock] = None, *, ctx: Any = None) -> None:
        super().__init__(RLock() if lock is None else lock)

    # What is inside an original: how many sleep, and how many of them are being woken, which
    # here is one number.

    @property
    def _sleeping_count(self) -> _Number:
        return _Number(self._waiting)

    @property
    def _woken_count(self) -> _Number:
        return _Number(int)

    @property
    def _wait_semaphore(self) -> _Number:
        return _Number(int)


@assignable
class Barrier(_sync.Barrier, _std.Barrier):  # type: ignore[misc]
    """`multiprocessing.Barrier`; see `shoal.Barrier`."""

    def __init__(
        self,
        parties: int,
        action: Optional[Callable[[], object]] = None,
        timeout: Optional[float] = None,
        *,
        ctx: Any = None,
    ) -> None:
        super().__init__(parties, action, timeout)


def __getattr__(name: str) -> Any:
    return getattr(_std, name)
