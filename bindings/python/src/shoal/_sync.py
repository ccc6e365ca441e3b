"""What waits and tells between processes: semaphores, events, conditions, barriers, and a lock
for many readers. Each outlives its users; see `shoal.Lock` for what they have in common."""

from __future__ import annotations

import ctypes
from contextlib import contextmanager
from threading import BrokenBarrierError
from time import monotonic
from types import TracebackType
from typing import Any, Callable, Iterator, Optional, Tuple, Type, TypeVar

from . import _abi, _ffi, _hot, _wait
from ._attribute import attribute
from ._lock import Lock, RLock, Sync
from ._structs import BarrierStats, ConditionStats, RwlockStats, SemaphoreStats

_R = TypeVar("_R")
_lib = _ffi.lib
_acquire = _ffi.untyped("shoal_semaphore_acquire")
_release = _ffi.untyped("shoal_semaphore_release")


class SemaphoreHandle(_ffi.Handle):
    """A ``shoal_semaphore *``."""

    release = _lib.shoal_semaphore_free


class KeptSemaphoreHandle(SemaphoreHandle):
    """A ``shoal_semaphore *`` whose permits stay taken when it goes."""

    settle = _lib.shoal_semaphore_keep


@_hot.compiled
class Semaphore(Sync):
    """A number of permits, as `multiprocessing.Semaphore`; those of a dead process are released.

    A permit belongs to the process that acquired it. Any process may release: one that
    has none releases that of another, or adds one if none is acquired.

    Args:
        value: the permits of a new semaphore.
        name, create, exclusive, persistent: as for `Lock`.
    """

    __module__ = "shoal"

    _kind = "semaphore"
    _own_flags = 0
    _handle_type: Type[SemaphoreHandle] = SemaphoreHandle

    def __init__(
        self,
        value: int = 1,
        name: Optional[str] = None,
        *,
        create: bool = True,
        exclusive: bool = False,
        persistent: bool = False,
    ) -> None:
        flags = _ffi.flags(create, exclusive, persistent)
        self._open(name, self._handle_type(), flags | self._own_flags, value)

    def _reopen(self, name: str, *state: Any) -> None:
        self._open(name, self._handle_type(), 0)

    def acquire(self, block: bool = True, timeout: Optional[float] = None) -> bool:
        """Takes a permit; whether there was one, at once or within ``timeout`` seconds."""
        if _acquire(self._fast, _abi.NOWAIT) == 0:
            return True
        status = _wait.wait(
            lambda ns: _lib.shoal_semaphore_acquire(self._live(), ns),
            _wait.deadline(block, timeout),
        )
        if status == _abi.ERR_TIMEOUT:
            return False
        _ffi.check(status)
        return True

    def release(self, n: int = 1) -> None:
        """Releases permits.

        Raises:
            InvalidError: (a `ValueError`) more than a `BoundedSemaphore` ever had.
        """
        if not 1 <= n < 2**31:
            raise ValueError("n must be one or more, and less than 2**31")
        if _release(self._fast, n):
            # It has released nothing, and says why again.
            _ffi.check(_lib.shoal_semaphore_release(self._live(), n))

    def get_value(self) -> int:
        """How many permits can be had now."""
        return Semaphore.stats(self).value

    def stats(self) -> SemaphoreStats:
        """All that there is to know about the semaphore."""
        return _ffi.fetch_stats(_lib.shoal_semaphore_stat, self._live(), SemaphoreStats)

    def _held(self) -> int:
        """How many permits this process has."""
        return Semaphore.stats(self).held

    # Whatever a derived class makes of `acquire` and `release`, as with `Lock`.

    def __enter__(self) -> bool:  # type: ignore[override]
        return Semaphore.acquire(self)

    def __exit__(self, *exc_info: object) -> None:
        Semaphore.release(self)


class BoundedSemaphore(Semaphore):
    """A semaphore that never has more permits than at first."""

    __module__ = "shoal"

    _own_flags = _abi.BOUNDED


class EventHandle(_ffi.Handle):
    """A ``shoal_event *``."""

    release = _lib.shoal_event_free


@_hot.compiled
class Event(Sync):
    """Something that has happened or not, as `multiprocessing.Event`.

    `set` never waits for those that wait, dead or alive; a thread that began to wait before a `set`
    is woken even if `clear` follows at once.

    Args:
        name, create, exclusive, persistent: as for `Lock`.
    """

    __module__ = "shoal"

    _kind = "event"

    def __init__(
        self,
        name: Optional[str] = None,
        *,
        create: bool = True,
        exclusive: bool = False,
        persistent: bool = False,
    ) -> None:
        self._open(name, EventHandle(), _ffi.flags(create, exclusive, persistent))

    def _reopen(self, name: str, *state: Any) -> None:
        self._open(name, EventHandle(), 0)

    def is_set(self) -> bool:
        """Whether it has happened."""
        return _ffi.fetch_bool(_lib.shoal_event_is_set, self._live())

    def set(self) -> None:
        """It has happened: wakes all that wait."""
        _ffi.check(_lib.shoal_event_set(self._live()))

    def clear(self) -> None:
        """It has not."""
        _ffi.check(_lib.shoal_event_clear(self._live()))

    def wait(self, timeout: Optional[float] = None) -> bool:
        """Waits until it has happened; false if that took longer than ``timeout`` seconds."""
        status = _wait.wait(
            lambda ns: _lib.shoal_event_wait(self._live(), ns), _wait.deadline(True, timeout)
        )
        if status == _abi.ERR_TIMEOUT:
            return False
        _ffi.check(status)
        return True


class ConditionHandle(_ffi.Handle):
    """A ``shoal_condition *``."""

    release = _lib.shoal_condition_free


class Condition(Sync):
    """Waiting for a change of what a lock guards, as `multiprocessing.Condition`.

    A `notify` reaches a process that lives, if one waits: what one was told that died before
    it could act on it, another is told.

    Args:
        lock: a `Lock` or `RLock`; a new `RLock` if there is none. All that open a condition by
            its name bring the same lock.
        name, create, exclusive, persistent: as for `Lock`.
    """

    __module__ = "shoal"

    _kind = "condition"

    def __init__(
        self,
        lock: Optional[Lock] = None,
        name: Optional[str] = None,
        *,
        create: bool = True,
        exclusive: bool = False,
        persistent: bool = False,
    ) -> None:
        if lock is None and name is not None:
            raise ValueError("a condition with a name needs a lock that others can open, too")
        self._use(RLock() if lock is None else lock)
        flags = _ffi.flags(create, exclusive, persistent)
        self._open(name, ConditionHandle(), flags)

    def _use(self, lock: Lock) -> None:
        self._lock = lock
        self.acquire = lock.acquire
        self.release = lock.release

    def _depth(self) -> int:
        """How often the calling thread has the lock."""
        lock: Any = self._lock
        if isinstance(lock, Lock):
            return lock._depth()
        # One of the standard library's.
        inner = lock._semlock
        depth: int = inner._count() if inner._is_mine() else 0
        return depth

    def _reopen(self, name: str, *state: Any) -> None:
        self._use(state[0])
        self._open(name, ConditionHandle(), 0)

    def _state(self) -> Tuple[Any, ...]:
        return (self._lock,)

    def __enter__(self) -> bool:  # type: ignore[override]
        return self._lock.__enter__()

    def __exit__(  # type: ignore[override]
        self,
        kind: Optional[Type[BaseException]],
        value: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self._lock.__exit__(kind, value, trace)

    def wait(self, timeout: Optional[float] = None) -> bool:
        """Lets go of the lock, waits to be notified, and takes the lock again.

        Returns false if that took longer than ``timeout`` seconds.
        """
        depth = self._depth()
        assert depth, "must acquire() condition before using wait()"
        handle = self._live()
        place, notified, is_over = ctypes.c_uint32(), ctypes.c_bool(), False
        _ffi.check(_lib.shoal_condition_enlist(handle, ctypes.byref(place)))
        try:
            for _ in range(depth):
                self._lock.release()
            until = _wait.deadline(True, timeout)
            status = _wait.wait(
                lambda ns: _lib.shoal_condition_sleep(self._live(), place, ns), until
            )
            if status != _abi.ERR_TIMEOUT:
                _ffi.check(status)
            is_over = True
        finally:
            try:
                for _ in range(depth):
                    self._lock.acquire()
            finally:
                # Last: until then, what this one was told would be told to another if it died.
                status = _lib.shoal_condition_leave(handle, place, ctypes.byref(notified))
                if notified.value and not is_over:
                    # An exception came in between: it is for another.
                    _lib.shoal_condition_notify(handle, 1)
        _ffi.check(status)
        return notified.value

    def wait_for(self, predicate: Callable[[], _R], timeout: Optional[float] = None) -> _R:
        """Waits until ``predicate()`` is true, and returns what it said last."""
        until = None if timeout is None else monotonic() + timeout
        result = predicate()
        while not result:
            left = None if until is None else until - monotonic()
            if left is not None and left <= 0:
                break
            self.wait(left)
            result = predicate()
        return result

    def _waiting(self) -> int:
        """How many wait."""
        return Condition.stats(self).waiting

    def stats(self) -> ConditionStats:
        """All that there is to know about the condition."""
        return _ffi.fetch_stats(_lib.shoal_condition_stat, self._live(), ConditionStats)

    def notify(self, n: int = 1) -> None:
        """Wakes ``n`` of those that wait, the longest waiting first."""
        assert self._depth(), "lock is not owned"
        _ffi.check(_lib.shoal_condition_notify(self._live(), n))

    def notify_all(self) -> None:
        """Wakes all that wait."""
        assert self._depth(), "lock is not owned"
        _ffi.check(_lib.shoal_condition_notify(self._live(), _abi.ALL))


class BarrierHandle(_ffi.Handle):
    """A ``shoal_barrier *``."""

    release = _lib.shoal_barrier_free


class Barrier(Sync):
    """A meeting point for a number of processes or threads, as `multiprocessing.Barrier`.

    When one that waits dies, or gives up waiting, the barrier is broken: all get
    `threading.BrokenBarrierError` until `reset` is called.

    Args:
        parties: how many meet, from 1 to 512.
        action: what the last one to come calls before all go on.
        timeout: how long `wait` waits if it is not told.
        name, create, exclusive, persistent: as for `Lock`.
    """

    __module__ = "shoal"

    _kind = "barrier"

    def __init__(
        self,
        parties: int,
        action: Optional[Callable[[], object]] = None,
        timeout: Optional[float] = None,
        name: Optional[str] = None,
        *,
        create: bool = True,
        exclusive: bool = False,
        persistent: bool = False,
    ) -> None:
        self._action, self._timeout = action, timeout
        flags = _ffi.flags(create, exclusive, persistent)
        self._open(name, BarrierHandle(), flags, parties)

    def _reopen(self, name: str, *state: Any) -> None:
        self._action, self._timeout = state
        self._open(name, BarrierHandle(), 0)

    def _state(self) -> Tuple[Any, ...]:
        return (self._action, self._timeout)

    def _check(self, status: int) -> None:
        if status in (_abi.ERR_POISONED, _abi.ERR_TIMEOUT):
            raise BrokenBarrierError(str(_ffi.error(status)))
        _ffi.check(status)

    def wait(self, timeout: Optional[float] = None) -> int:
        """Waits until all are there; returns how many came before this one."""
        handle = self._live()
        until = _wait.deadline(True, self._timeout if timeout is None else timeout)
        place, index, last = ctypes.c_uint32(), ctypes.c_uint32(), ctypes.c_bool()
        out = [ctypes.byref(it) for it in (place, index, last)]
        # Coming does not wait, unless the round before is not over.
        arrive_until = until or None
        status = _wait.wait(
            lambda ns: _lib.shoal_barrier_arrive(self._live(), ns, *out), arrive_until
        )
        self._check(status)
        try:
            if last.value:
                if self._action is not None:
                    self._action()
                status = _lib.shoal_barrier_pass(handle, place)
            else:
                status = _wait.wait(
                    lambda ns: _lib.shoal_barrier_sleep(self._live(), place, ns), until
                )
                if status == _abi.ERR_TIMEOUT:
                    status = _lib.shoal_barrier_give_up(handle, place)
        except BaseException:
            _lib.shoal_barrier_give_up(handle, place)
            raise
        self._check(status)
        return index.value

    def reset(self) -> None:
        """Makes it usable again; those that wait get `BrokenBarrierError`."""
        _ffi.check(_lib.shoal_barrier_reset(self._live()))

    def abort(self) -> None:
        """Breaks it."""
        _ffi.check(_lib.shoal_barrier_abort(self._live()))

    def stats(self) -> BarrierStats:
        """All that there is to know about the barrier."""
        return _ffi.fetch_stats(_lib.shoal_barrier_stat, self._live(), BarrierStats)

    @attribute
    def parties(self) -> int:
        """How many meet here."""
        return Barrier.stats(self).parties

    @attribute
    def n_waiting(self) -> int:
        """How many wait."""
        return Barrier.stats(self).waiting

    @attribute
    def broken(self) -> bool:
        """Whether it is broken."""
        return Barrier.stats(self).broken


class RwLockHandle(_ffi.Handle):
    """A ``shoal_rwlock *``."""

    release = _lib.shoal_rwlock_free


class RWLock(Sync):
    """A lock that many hold for reading, or one for writing.

    ::

        lock = shoal.RWLock()
        with lock.reading():
            ...
        with lock.writing():
            ...

    Writers are preferred: while one waits, no new reader comes in. When a writer dies,
    `owner_died` is true for all that take the lock, until another one has written.

    Args:
        name, create, exclusive, persistent: as for `Lock`.
    """

    __module__ = "shoal"

    _kind = "rwlock"
    #: Whether a writer had died with the lock when this process last took it.
    owner_died = False

    def __init__(
        self,
        name: Optional[str] = None,
        *,
        create: bool = True,
        exclusive: bool = False,
        persistent: bool = False,
    ) -> None:
        self._open(name, RwLockHandle(), _ffi.flags(create, exclusive, persistent))

    def _reopen(self, name: str, *state: Any) -> None:
        self._open(name, RwLockHandle(), 0)

    def _acquire(self, function: Any, block: bool, timeout: Optional[float]) -> bool:
        until = _wait.deadline(block, timeout)
        died = ctypes.c_bool()
        out = ctypes.byref(died)
        status = _wait.wait(lambda ns: function(self._live(), ns, out), until)
        if status == _abi.ERR_TIMEOUT:
            return False
        _ffi.check(status)
        self.owner_died = died.value
        return True

    def stats(self) -> RwlockStats:
        """All that there is to know about the lock."""
        return _ffi.fetch_stats(_lib.shoal_rwlock_stat, self._live(), RwlockStats)

    def acquire_read(self, block: bool = True, timeout: Optional[float] = None) -> bool:
        """Takes the lock for reading; whether it was to be had in time."""
        return self._acquire(_lib.shoal_rwlock_lock_read, block, timeout)

    def acquire_write(self, block: bool = True, timeout: Optional[float] = None) -> bool:
        """Takes the lock for writing; whether it was to be had in time."""
        return self._acquire(_lib.shoal_rwlock_lock_write, block, timeout)

    def release_read(self) -> None:
        """Gives back one hold for reading; `InvalidError` if this process has none."""
        _ffi.check(_lib.shoal_rwlock_unlock_read(self._live()))

    def release_write(self) -> None:
        """Gives back the hold for writing; `InvalidError` if this process has none."""
        _ffi.check(_lib.shoal_rwlock_unlock_write(self._live()))

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Holds the lock for reading while in the ``with`` block."""
        self.acquire_read()
        try:
            yield
        finally:
            self.release_read()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Holds the lock for writing while in the ``with`` block."""
        self.acquire_write()
        try:
            yield
        finally:
            self.release_write()
