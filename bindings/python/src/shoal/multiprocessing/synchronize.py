"""The locks of `multiprocessing`, in shared memory: `shoal.Lock` and its relatives.

Methods and exceptions are the standard library's. What differs: the lock of a process that was
killed goes to the next one (`Lock.owner_died` tells), permits of the dead return, `Event.set`
and `Condition.notify` never wait for a dead waiter, and each can be pickled anywhere, not only
to a child that is being started. Each class is derived from the standard library's, for
`isinstance`; nothing of that is used.
"""

from __future__ import annotations

from typing import Any, Callable, Optional

from .. import _lock, _sync
from .._original import synchronize as _std

__all__ = ["Barrier", "BoundedSemaphore", "Condition", "Event", "Lock", "RLock", "Semaphore"]


class Lock(_lock.Lock, _std.Lock):  # type: ignore[misc]
    """`multiprocessing.Lock`; see `shoal.Lock`."""

    def __init__(self, *, ctx: Any = None) -> None:
        super().__init__()


class RLock(_lock.RLock, _std.RLock):  # type: ignore[misc]
    """`multiprocessing.RLock`; see `shoal.RLock`."""

    def __init__(self, *, ctx: Any = None) -> None:
        super().__init__()


class Semaphore(_sync.Semaphore, _std.Semaphore):  # type: ignore[misc]
    """`multiprocessing.Semaphore`; see `shoal.Semaphore`."""

    def __init__(self, value: int = 1, *, ctx: Any = None) -> None:
        super().__init__(value)


class BoundedSemaphore(_sync.BoundedSemaphore, _std.BoundedSemaphore):  # type: ignore[misc]
    """`multiprocessing.BoundedSemaphore`; see `shoal.BoundedSemaphore`."""

    def __init__(self, value: int = 1, *, ctx: Any = None) -> None:
        super().__init__(value)


class Event(_sync.Event, _std.Event):  # type: ignore[misc]
    """`multiprocessing.Event`; see `shoal.Event`."""

    def __init__(self, *, ctx: Any = None) -> None:
        super().__init__()

    def __repr__(self) -> str:
        state = "detached" if self.detached else "set" if self.is_set() else "unset"
        return f"<{type(self).__qualname__} at {self._name!r} {state}>"


class Condition(_sync.Condition, _std.Condition):  # type: ignore[misc]
    """`multiprocessing.Condition`; see `shoal.Condition`."""

    def __init__(self, lock: Optional[_lock.Lock] = None, *, ctx: Any = None) -> None:
        super().__init__(RLock() if lock is None else lock)


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
