"""The locks of `multiprocessing` in shared memory: `shoal.Lock`, `shoal.Semaphore` and so on.

Methods and exceptions are the standard library's. Differences:

- If a process is killed while it holds a lock, the next process gets the lock, and `Lock.owner_died` is true.
- The permits of a killed process are released. Those of a process that ends normally stay taken, as
  in the standard library. (A `shoal.Semaphore` releases them in either case.)
- `Event.set` and `Condition.notify` never wait for a dead waiter.
- Each object can be pickled at any time, not only while a child is started.

Each class is derived from the standard library's, for `isinstance`, and uses nothing of it.
"""

from __future__ import annotations

import errno
import time
from types import TracebackType
from typing import Any, Callable, Optional, Tuple, Type

from .. import _lock, _semaphore, _sync
from .._attribute import assignable
from .._original import synchronize as _std

__all__ = ["Barrier", "BoundedSemaphore", "Condition", "Event", "Lock", "RLock", "Semaphore"]


class _SemLock:
    """The attribute ``_semlock`` of an original lock or semaphore, with its interface.

    `concurrent.futures.ProcessPoolExecutor` uses it, and programs that use the internals of the
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
        """The native library's pointer; 0 once detached."""
        handle = self._lock._handle
        return 0 if handle is None else handle.value or 0

    @property
    def kind(self) -> int:
        """0 for a recursive lock, 1 for a lock or semaphore."""
        return int(not isinstance(self._lock, _lock.RLock))

    @property
    def maxvalue(self) -> int:
        """The largest possible value."""
        if isinstance(self._lock, _lock.Lock):
            return 1
        most: int = getattr(self._lock, "_most", self.SEM_VALUE_MAX)
        return most

    def _count(self) -> int:
        """How often the calling thread holds the lock, or how many permits this process holds."""
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
        """Does nothing: a forked child holds no lock and no permit."""


class _Number:
    """A number of waiters, in place of a semaphore of the original condition."""

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
    """The lock of one end of a pipe, for the queues of the standard library.

    A process that is killed while it holds this lock may have read or written part of a message. The next
    owner would unpickle the rest of it. So the next process that takes the lock gets an error, and so does
    every later one.
    """

    def _taken(self, status: int) -> bool:
        taken = super()._taken(status)
        if self.owner_died:
            # Detached while it is held, so that the next process also sees a dead owner.
            self.detach()
            raise self._partial_message_error()
        return taken

    def _partial_message_error(self) -> Exception:
        return BrokenPipeError(
            errno.EPIPE,
            "a process was killed while it used this queue's pipe, which may contain part of a message",
        )

    def _live(self) -> Any:
        if self.owner_died and self._handle is None:
            raise self._partial_message_error()
        return super()._live()

    def __enter__(self) -> bool:  # type: ignore[override]
        try:
            return super().__enter__()
        except BrokenPipeError:
            # Usually the parent, such as an executor, notices that a process was killed, and ends this
            # one. The pause lets it do so before this process prints a traceback.
            time.sleep(_BEFORE_TRACEBACK)
            raise


# In seconds.
_BEFORE_TRACEBACK = 1.0


@assignable
class RLock(_lock.RLock, _std.RLock):  # type: ignore[misc]
    """`multiprocessing.RLock`; see `shoal.RLock`."""

    def __init__(self, *, ctx: Any = None) -> None:
        super().__init__()

    @property
    def _semlock(self) -> _SemLock:
        return _SemLock(self)


@assignable
class Semaphore(_semaphore.Semaphore, _std.Semaphore):  # type: ignore[misc]
    """`multiprocessing.Semaphore`; see `shoal.Semaphore`.

    The permits of a process stay taken if it ends normally and are released if it is killed.
    """

    _handle_type = _semaphore.KeptSemaphoreHandle

    def __init__(self, value: int = 1, *, ctx: Any = None) -> None:
        super().__init__(value)

    @property
    def _semlock(self) -> _SemLock:
        return _SemLock(self)


@assignable
class BoundedSemaphore(_semaphore.BoundedSemaphore, _std.BoundedSemaphore):  # type: ignore[misc]
    """`multiprocessing.BoundedSemaphore`; see `shoal.BoundedSemaphore`, and `Semaphore`."""

    _handle_type = _semaphore.KeptSemaphoreHandle

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

    _own_lock = RLock

    def __init__(self, lock: Optional[_lock.Lock] = None, *, ctx: Any = None) -> None:
        super().__init__(lock)

    # Private attributes of the original: how many threads sleep, and how many of them are being
    # woken. Here there is only the first number.

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
