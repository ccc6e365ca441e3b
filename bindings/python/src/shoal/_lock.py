"""`shoal.Lock` and `shoal.RLock`: locks between processes. If an owner dies, the next gets the lock.

``with lock:`` enters and leaves by one call each, made with the GIL held (`_ffi.never_waits`), because
neither call waits. Only a thread that finds the lock taken releases the GIL and sleeps in the library.
``with lock: pass`` takes 540 ns through ctypes and 125 ns compiled; with `multiprocessing.Lock` it takes
300 ns.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from types import TracebackType
from typing import Any, Callable, Optional, Tuple, Type, TypeVar, cast

from . import _abi, _ffi, _handles, _hot, _wait
from ._errors import WrongKindError
from ._handles import Shared
from ._structs import LockStats, SyncOptions

_SyncT = TypeVar("_SyncT", bound="Sync")

_lib = _ffi.lib
_try = _ffi.never_waits("shoal_lock_try")
_unlock = _ffi.never_waits("shoal_lock_unlock_any")
_SLICE = _wait.SLICE_NS
_lock_within = _ffi.untyped("shoal_lock_lock")


class LockHandle(_ffi.Handle):
    """A ``shoal_lock *``."""

    release = _lib.shoal_lock_free


@lru_cache(maxsize=16, typed=True)
def _sync_options(flags: int, count: int) -> "ctypes._CArgObject":
    """A pointer to the options of locks, semaphores, events, conditions, barriers and RW locks."""
    return ctypes.byref(SyncOptions(flags=flags, count=count))


class Sync(Shared):
    """The base class of locks, semaphores, events, conditions, barriers and RW locks."""

    _kind = ""
    # The argument that is the number of a semaphore or a barrier, and its limits.
    _number = ""
    _limits = (0, 0)

    def _open(
        self, name: Optional[str], handle: _ffi.Handle, flags: int, count: int = 0
    ) -> None:
        if isinstance(count, str):
            raise TypeError(f"{self._number} is a whole number, not {count!r}: pass a name as name=")
        count = _ffi.whole(count, self._number)
        if not 0 <= count < 1 << 64:
            # The library checks the others.
            least, most = self._limits
            raise ValueError(f"{self._number} is a number from {least} to {most}, not {count}")
        self._open_with(
            getattr(_lib, f"shoal_{self._kind}_open"),
            handle,
            None if name is None else _ffi.encode(name),
            _sync_options(flags, count),
        )

    def _reopen(self, name: str, *state: Any) -> None:
        """Opens an existing object, instead of ``__init__``."""
        raise NotImplementedError

    def _state(self) -> Tuple[Any, ...]:
        """The arguments of `_reopen` after the name."""
        return ()

    def __reduce__(self) -> Any:
        # Raises if detached, and keeps the object alive for a child that is being started.
        _, (cls, name) = super().__reduce__()
        return _attach, (cls, name, *self._state())

    @classmethod
    def unlink(cls, name: str) -> None:
        """Removes a name. Processes that have the object open may continue.

        Raises:
            NotFoundError: there is no object of that name.
            WrongKindError: the object is of another type.
        """
        _handles.unlink(name, getattr(_abi, f"KIND_{cls._kind.upper()}"))

    def _shown(self) -> str:
        """The state, for `repr`."""
        raise NotImplementedError

    def __repr__(self) -> str:
        state = "detached" if self._handle is None else self._shown()
        return f"<{type(self).__module__}.{type(self).__qualname__} {self._name!r}, {state}>"


def _attach(cls: Type[_SyncT], name: str, *state: Any) -> _SyncT:
    with _handles._attaching:
        found = _handles._attached.get((cls, name))
        if found is None:
            made = cls.__new__(cls)
            with _handles.opening(cls, name):
                made._reopen(name, *state)
            found = made
        return cast(_SyncT, found)


@_hot.compiled
class Lock(Sync):
    """A lock between processes and threads, as `multiprocessing.Lock`.

    ::

        lock = shoal.Lock()      # or Lock("name"), the same in every process
        with lock:
            ...

    Any thread of any process may release it. The lock is not first come, first served: the first thread
    that tries after a release gets it. A waiter that was passed over is served next. The owner is a
    process: if a *thread* ends while it holds the lock, the lock stays taken until another thread
    releases it, or this process ends or detaches. A forked child does not hold its parent's locks.

    **If the owner dies** or detaches, the next process gets the lock, and `owner_died` is true until
    that process releases it. An exception would end programs that are written for `multiprocessing`,
    whose locks stay taken then. A program that has data to repair checks `owner_died`.

    Args:
        name: letters, digits, ``.``, ``_`` and ``-``; ``None`` generates a name.
        create: create the lock if it does not exist; if false, that raises `NotFoundError`.
        exclusive: raise `ExistsError` if the lock exists.
        persistent: the lock stays until `unlink`, not only while a process is attached.
    """

    __module__ = "shoal"

    _kind = "lock"
    _own_flags = 0
    #: Whether the previous owner died while it held the lock, which this process holds now.
    owner_died = False
    # The output `owner_died` of the last call that got the lock. While a thread holds the lock, no other
    # thread writes to it, because a call that does not get the lock does not write it.
    _died: ctypes.c_bool
    _died_ref: "ctypes._CArgObject"
    # The arguments of `_try` and of `_unlock`. A call with a prebuilt tuple takes 60 ns less.
    _try_with: Tuple[Any, Any]
    _unlock_with: Tuple[Any]

    def __init__(
        self,
        name: Optional[str] = None,
        *,
        create: bool = True,
        exclusive: bool = False,
        persistent: bool = False,
    ) -> None:
        flags = _ffi.flags(create, exclusive, persistent)
        self._open_lock(name, flags | (self._own_flags if create else 0))

    def _open_lock(self, name: Optional[str], flags: int) -> None:
        self._died = ctypes.c_bool()
        self._died_ref = ctypes.byref(self._died)
        self._open(name, LockHandle(), flags)
        if self._created:
            return
        recursive = Lock.stats(self).recursive
        if recursive != bool(self._own_flags):
            found = "recursive" if recursive else "not recursive"
            self.detach()
            raise WrongKindError(f"the lock {self._name!r} is {found}")

    def _adopt(self, handle: _ffi.Handle, name: str) -> None:
        super()._adopt(handle, name)
        self._call_with(self._fast)

    def _forget(self) -> None:
        self._call_with(None)
        super()._forget()

    def _call_with(self, fast: Any) -> None:
        """Sets the handle of the fast calls. With None they fail, and the slow path is taken."""
        self._fast = fast
        self._try_with, self._unlock_with = (fast, self._died_ref), (fast,)

    def _reopen(self, name: str, *state: Any) -> None:
        self._open_lock(name, 0)

    def acquire(self, block: bool = True, timeout: Optional[float] = None) -> bool:
        """Takes the lock, and waits for it if ``block`` is true, for ``timeout`` seconds at most.

        Returns whether it got the lock. Ctrl-C ends the wait. A thread that holds the lock already
        waits for itself, unless the lock is an `RLock`.
        """
        if timeout is not None:
            timeout = _wait.seconds(timeout)
        status = _try(*self._try_with)
        if status:
            status = _wait.wait(
                lambda ns: _lib.shoal_lock_lock(self._live(), ns, self._died_ref),
                _wait.deadline(block, timeout),
            )
            if status == _abi.ERR_TIMEOUT:
                return False
        elif not self._died:
            return True
        return self._taken(status)

    def _taken(self, status: int) -> bool:
        """Handles the status with which a try or a wait for the lock ended."""
        if status == _abi.OK and self._died:
            # Reported once; this process now holds the lock.
            self.owner_died = True
            # So that `__exit__` takes the slow path, which resets `owner_died`.
            self._call_with(None)
        elif status == _abi.OK:
            # Still true if this is a recursive acquisition.
            self.owner_died = self.owner_died and self._depth() > 1
        elif status in (_abi.ERR_TIMEOUT, _abi.ERR_INTERRUPTED) or self._fast is None:
            return self.acquire()
        else:
            _ffi.check(status)
        return True

    def _taken_from_dead_owner(self) -> bool:
        """Called by a compiled method that got the lock of a dead owner."""
        self._died.value = True
        return self._taken(_abi.OK)

    def release(self) -> None:
        """Releases the lock, whichever process took it.

        Raises:
            InvalidError: (a `ValueError`) the lock is not taken.
        """
        if _unlock(*self._unlock_with) == 0:
            return
        handle, died = self._live(), self.owner_died
        if died and (not self._own_flags or self._depth() == 1):
            # Before the lock is released: the next owner may be a thread of this process, and set it again.
            self.owner_died = False
            self._call_with(_hot.as_argument(handle))
        status = _lib.shoal_lock_unlock_any(handle)
        if status:
            if died:
                self.owner_died = True
                self._call_with(None)
            raise self._not_mine(_ffi.error(status))

    def _not_mine(self, error: Exception) -> Exception:
        """The exception for a release that is not allowed."""
        return error

    def __enter__(self, _try: Callable[[Any, Any], int] = _try) -> bool:  # type: ignore[override]
        status = _try(*self._try_with)
        if status:
            # Usually the lock is held for a short time: one wait here is cheaper than `acquire`.
            status = _lock_within(self._fast, _SLICE, self._died_ref)
        if status or self._died:
            return self._taken(status)
        return True

    def __exit__(  # type: ignore[override]
        self,
        kind: Optional[Type[BaseException]],
        value: Optional[BaseException],
        trace: Optional[TracebackType],
        _unlock: Callable[[Any], int] = _unlock,
    ) -> None:
        if _unlock(*self._unlock_with):
            self.release()

    def _shown(self) -> str:
        stats = Lock.stats(self)
        # A lock does not record its owner, only whether it is this thread.
        if stats.depth:
            times = f", {stats.depth} times" if stats.depth > 1 else ""
            return f"held by this thread{times}"
        return "held" if stats.held else "free"

    def locked(self) -> bool:
        """Whether the lock is taken."""
        return Lock.stats(self).held

    def stats(self) -> LockStats:
        """Statistics of the lock. ``depth`` is that of the calling thread."""
        return _ffi.fetch_stats(_lib.shoal_lock_stat, self._live(), LockStats)

    def _depth(self) -> int:
        """How many times the calling thread holds the lock."""
        depth = ctypes.c_uint32()
        _ffi.check(_lib.shoal_lock_depth(self._live(), ctypes.byref(depth)))
        return depth.value


class RLock(Lock):
    """A lock that the thread which holds it may take again, as `multiprocessing.RLock`.

    That thread must release it as many times. A release by another thread raises `AssertionError`, as
    in the standard library. If a thread ends while it holds the lock, the lock stays taken until this
    process ends or detaches. For everything else see `Lock`.

    ::

        lock = shoal.RLock()
        with lock, lock:
            ...
    """

    __module__ = "shoal"

    _own_flags = _abi.RECURSIVE

    def _not_mine(self, error: Exception) -> Exception:
        return AssertionError(str(error))
