"""Events, conditions, barriers and read-write locks between processes.

Each survives the death of a process that uses it. `shoal.Lock` documents what applies to all of them.
"""

from __future__ import annotations

import ctypes
from contextlib import contextmanager
from threading import BrokenBarrierError
from time import monotonic
from types import TracebackType
from typing import Any, Callable, Iterator, Optional, Tuple, Type, TypeVar

from . import _abi, _ffi, _hot, _wait
from ._attribute import attribute
from ._errors import ClosedError
from ._lock import Lock, RLock, Sync
from ._structs import BarrierStats, ConditionStats, RwlockStats

_R = TypeVar("_R")
_lib = _ffi.lib
_notify = _ffi.untyped("shoal_condition_notify")


class EventHandle(_ffi.Handle):
    """A ``shoal_event *``."""

    release = _lib.shoal_event_free


@_hot.compiled
class Event(Sync):
    """A flag that processes wait for, as `multiprocessing.Event`.

    ::

        ready = shoal.Event("ready")
        ready.wait(timeout=5.0)

    `set` never waits for a waiter, even a dead one. A thread that began to wait before `set` is woken,
    even if `clear` follows at once. A forked child may use the event.

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

    def _shown(self) -> str:
        return "set" if Event.is_set(self) else "unset"

    def is_set(self) -> bool:
        """Whether the flag is set."""
        return _ffi.fetch_bool(_lib.shoal_event_is_set, self._live())

    def set(self) -> None:
        """Sets the flag and wakes all waiters."""
        _ffi.check(_lib.shoal_event_set(self._live()))

    def clear(self) -> None:
        """Clears the flag."""
        _ffi.check(_lib.shoal_event_clear(self._live()))

    def wait(self, timeout: Optional[float] = None) -> bool:
        """Waits until the flag is set. Returns false after ``timeout`` seconds. Ctrl-C ends the wait."""
        status = _wait.wait(
            lambda ns: _lib.shoal_event_wait(self._live(), ns), _wait.deadline(True, timeout)
        )
        if status == _abi.ERR_TIMEOUT:
            return False
        _ffi.check(status)
        return True


# Values that the library never writes: no place of a condition or barrier, and neither true nor false.
_NO_PLACE, _UNWRITTEN = 2**32 - 1, 255


class ConditionHandle(_ffi.Handle):
    """A ``shoal_condition *``."""

    release = _lib.shoal_condition_free


class Condition(Sync):
    """A condition variable, as `multiprocessing.Condition`.

    ::

        with condition:
            condition.wait_for(lambda: state.value == 3)

    A `notify` reaches a live process if one waits: if a notified process dies before it has the lock
    again, another waiter is notified.

    Args:
        lock: a `Lock`, an `RLock`, or the lock of a `Value` or `Array`; ``None`` creates an `RLock`.
            All processes that open a condition by its name must pass the same lock.
        name, create, exclusive, persistent: as for `Lock`.
    """

    __module__ = "shoal"

    _kind = "condition"
    # The type of the lock of a condition that is made without one.
    _own_lock: Callable[[], Any] = RLock

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
            raise ValueError("a condition with a name needs a lock that others can open")
        self._has_own_lock = lock is None
        self._use(self._own_lock() if lock is None else lock)
        flags = _ffi.flags(create, exclusive, persistent)
        self._open(name, ConditionHandle(), flags)

    def _use(self, lock: Lock) -> None:
        # A lock of the standard library has the second.
        if not (hasattr(lock, "_depth") or hasattr(lock, "_semlock")):
            hint = ": pass a name as name=" if isinstance(lock, str) else ""
            raise TypeError(f"lock is a Lock or an RLock, not {lock!r}{hint}")
        self._lock = lock
        self.acquire = lock.acquire
        self.release = lock.release

    def _depth(self) -> int:
        """How often the calling thread has the lock."""
        lock: Any = self._lock
        if hasattr(lock, "_depth"):
            return int(lock._depth())
        # A lock of the standard library.
        inner = lock._semlock
        return int(inner._count()) if inner._is_mine() else 0

    def _reopen(self, name: str, *state: Any) -> None:
        lock, self._has_own_lock = state
        self._use(lock)
        self._open(name, ConditionHandle(), 0)

    def _state(self) -> Tuple[Any, ...]:
        return self._lock, self._has_own_lock

    def detach(self) -> None:
        """As `Shared.detach`, also for its lock, unless that was passed to it."""
        super().detach()
        if self._has_own_lock:
            self._lock.detach()

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
        """Releases the lock, waits for a notification, and takes the lock again.

        Returns false if no notification came within ``timeout`` seconds. Ctrl-C ends the wait.
        `AssertionError` if this thread does not hold the lock.
        """
        depth = self._depth()
        assert depth, "must acquire() condition before using wait()"
        handle = self._live()
        until = _wait.deadline(True, timeout)
        # The library writes both. If a signal handler raises, only they show what has happened.
        place, notified = ctypes.c_uint32(_NO_PLACE), ctypes.c_uint8(_UNWRITTEN)
        try:
            _ffi.check(_lib.shoal_condition_enlist(handle, ctypes.byref(place)))
            for _ in range(depth):
                self._lock.release()
            status = _wait.wait(
                lambda ns: _lib.shoal_condition_sleep(self._live(), place, ns), until
            )
            if status != _abi.ERR_TIMEOUT:
                _ffi.check(status)
            for _ in range(depth):
                self._lock.acquire()
            # This call is last: if this process dies before it, its notification is passed to another waiter.
            _ffi.check(_lib.shoal_condition_leave(handle, place, ctypes.byref(notified)))
        except BaseException:
            try:
                while self._depth() < depth:
                    self._lock.acquire()
            finally:
                if place.value != _NO_PLACE:
                    if notified.value == _UNWRITTEN:
                        _lib.shoal_condition_leave(handle, place, ctypes.byref(notified))
                    if notified.value == 1:
                        # An exception ends this wait, so the notification is passed to another waiter.
                        _lib.shoal_condition_notify(handle, 1)
            raise
        return notified.value == 1

    def wait_for(self, predicate: Callable[[], _R], timeout: Optional[float] = None) -> _R:
        """Waits until ``predicate()`` is true, for ``timeout`` seconds at most. Returns its last value."""
        until = None if timeout is None else monotonic() + _wait.seconds(timeout)
        result = predicate()
        while not result:
            left = None if until is None else until - monotonic()
            if left is not None and left <= 0:
                break
            self.wait(left)
            result = predicate()
        return result

    def _shown(self) -> str:
        return f"{self._waiting()} waiting, {self._lock!r}"

    def _waiting(self) -> int:
        """How many threads wait."""
        return Condition.stats(self).waiting

    def stats(self) -> ConditionStats:
        """Statistics of the condition."""
        return _ffi.fetch_stats(_lib.shoal_condition_stat, self._live(), ConditionStats)

    def notify(self, n: int = 1) -> None:
        """Wakes ``n`` waiters, the longest waiting first; all if there are fewer."""
        assert self._depth(), "lock is not owned"
        count = max(0, min(_ffi.whole(n, "n"), _abi.ALL))
        if _notify(self._fast, count):
            # The second call reports the reason.
            _ffi.check(_lib.shoal_condition_notify(self._live(), count))

    def notify_all(self) -> None:
        """Wakes all waiters."""
        Condition.notify(self, _abi.ALL)


class BarrierHandle(_ffi.Handle):
    """A ``shoal_barrier *``."""

    release = _lib.shoal_barrier_free


class Barrier(Sync):
    """A barrier for a number of processes or threads, as `multiprocessing.Barrier`.

    ::

        start = shoal.Barrier(4, name="start")
        start.wait()

    If a waiter dies or its wait times out, the barrier is broken: all calls raise
    `threading.BrokenBarrierError` until `reset` is called.

    Args:
        parties: the number of threads that wait for each other, from 1 to 512.
        action: called by the last thread that arrives, before all continue.
        timeout: the default timeout of `wait`, in seconds.
        name, create, exclusive, persistent: as for `Lock`.
    """

    __module__ = "shoal"

    _kind = "barrier"
    _number = "parties"
    _limits = (1, 512)

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
        """Waits until all parties have arrived. Returns how many arrived before this thread.

        Raises `threading.BrokenBarrierError` if the barrier is broken, or after ``timeout`` seconds. If a
        signal handler raises, as for Ctrl-C, this thread has not arrived, and the barrier is not broken.
        """
        handle = self._live()
        until = _wait.deadline(True, self._timeout if timeout is None else timeout)
        # The library writes the place: as in `Condition.wait`.
        place, index, last = ctypes.c_uint32(_NO_PLACE), ctypes.c_uint32(), ctypes.c_bool()
        out = [ctypes.byref(it) for it in (place, index, last)]
        # Arriving waits only if the previous round is not over.
        arrive_until = until or None
        try:
            status = _wait.wait(
                lambda ns: _lib.shoal_barrier_arrive(self._live(), ns, *out), arrive_until
            )
            self._check(status)
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
        except BaseException as error:
            # If the place was given up already, this fails and changes nothing.
            if place.value != _NO_PLACE:
                # Breaks the barrier if the action raised, or if another thread has detached it. If a signal
                # handler raised, this thread has not arrived.
                breaks = last.value or isinstance(error, ClosedError)
                (_lib.shoal_barrier_give_up if breaks else _lib.shoal_barrier_leave)(handle, place)
            raise
        self._check(status)
        return index.value

    def _shown(self) -> str:
        stats = Barrier.stats(self)
        return "broken" if stats.broken else f"{stats.waiting} of {stats.parties} waiting"

    def reset(self) -> None:
        """Makes the barrier usable again. Present waiters get `BrokenBarrierError`."""
        _ffi.check(_lib.shoal_barrier_reset(self._live()))

    def abort(self) -> None:
        """Breaks the barrier."""
        _ffi.check(_lib.shoal_barrier_abort(self._live()))

    def stats(self) -> BarrierStats:
        """Statistics of the barrier."""
        return _ffi.fetch_stats(_lib.shoal_barrier_stat, self._live(), BarrierStats)

    @attribute
    def parties(self) -> int:
        """The number of threads that wait for each other."""
        return Barrier.stats(self).parties

    @attribute
    def n_waiting(self) -> int:
        """How many threads wait."""
        return Barrier.stats(self).waiting

    @attribute
    def broken(self) -> bool:
        """Whether the barrier is broken."""
        return Barrier.stats(self).broken


class RwLockHandle(_ffi.Handle):
    """A ``shoal_rwlock *``."""

    release = _lib.shoal_rwlock_free


class RWLock(Sync):
    """A lock that many threads hold for reading, or one for writing.

    ::

        lock = shoal.RWLock()
        with lock.reading():
            ...
        with lock.writing():
            ...

    Writers are preferred: while one waits, no new reader gets the lock. If a writer dies,
    `owner_died` is true for every process that takes the lock, until a writer has released it. A forked
    child holds no lock.

    Args:
        name, create, exclusive, persistent: as for `Lock`.
    """

    __module__ = "shoal"

    _kind = "rwlock"
    #: Whether a writer died while holding the lock, as of the last acquisition by this process.
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
        """Statistics of the lock."""
        return _ffi.fetch_stats(_lib.shoal_rwlock_stat, self._live(), RwlockStats)

    def _shown(self) -> str:
        stats = RWLock.stats(self)
        return "held for writing" if stats.writer else f"{stats.readers} reading"

    def acquire_read(self, block: bool = True, timeout: Optional[float] = None) -> bool:
        """Takes the lock for reading. Waits, and returns whether it got it, as `Lock.acquire` does."""
        return self._acquire(_lib.shoal_rwlock_lock_read, block, timeout)

    def acquire_write(self, block: bool = True, timeout: Optional[float] = None) -> bool:
        """Takes the lock for writing. Waits, and returns whether it got it, as `Lock.acquire` does."""
        return self._acquire(_lib.shoal_rwlock_lock_write, block, timeout)

    def release_read(self) -> None:
        """Releases one hold for reading. `InvalidError` if this process has none."""
        _ffi.check(_lib.shoal_rwlock_unlock_read(self._live()))

    def release_write(self) -> None:
        """Releases the hold for writing. `InvalidError` if this process has none."""
        _ffi.check(_lib.shoal_rwlock_unlock_write(self._live()))

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Holds the lock for reading during the ``with`` block."""
        self.acquire_read()
        try:
            yield
        finally:
            self.release_read()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Holds the lock for writing during the ``with`` block."""
        self.acquire_write()
        try:
            yield
        finally:
            self.release_write()
