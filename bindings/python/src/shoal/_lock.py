"""`shoal.Lock` and `shoal.RLock`: locks between processes that outlive their owners.

``with lock:`` is to cost little, so its way in and its way out are one call each, made with
the interpreter's lock held (`_ffi.never_waits`): neither ever waits. Only who finds the lock
taken lets go of the interpreter and sleeps in the library.

The way in does without a method, too. ``with`` calls what it finds as ``__enter__`` by way of
the type, and a slot found there has each lock's own: the ``__next__`` of an iterator that tries
to take the lock and looks up in a table what the answer means. All of that is the interpreter's
own machinery; only an answer that is not in the table gets to code of ours. NB: ``with lock:
pass``, 490 ns (560 with a method) where `multiprocessing.Lock` took 300; with four processes at
it on two cores 310 ns where that took 550.
"""

from __future__ import annotations

import ctypes
import weakref
from itertools import repeat, starmap
from types import TracebackType
from typing import Any, Callable, Dict, Optional, Tuple, Type, TypeVar, cast

from . import _ffi, _handles, _wait
from ._errors import WrongKindError
from ._handles import Shared

_SyncT = TypeVar("_SyncT", bound="Sync")

_lib = _ffi.lib
_try = _ffi.never_waits("shoal_lock_try")
_unlock = _ffi.never_waits("shoal_lock_unlock")
_SLICE = _wait.SLICE_NS
_wait_for_it = _ffi.untyped("shoal_lock_lock")


class Sync(Shared):
    """A shared object whose ``with`` is its own, and which is opened by its name alone."""

    _kind = ""

    def _open(
        self, name: Optional[str], handle: _ffi.Handle, flags: int, count: int = 0
    ) -> None:
        _ffi.check(
            getattr(_lib, f"shoal_{self._kind}_open")(
                None if name is None else _ffi.encode(name),
                _ffi.sync_options(flags, count),
                ctypes.byref(handle),
            )
        )
        self._adopt(handle, getattr(_lib, f"shoal_{self._kind}_name")(handle).decode())

    def _reopen(self, name: str, *state: Any) -> None:
        """What ``__init__`` is to others, for one that exists."""
        raise NotImplementedError

    def _state(self) -> Tuple[Any, ...]:
        """What `_reopen` needs beside the name."""
        return ()

    def __reduce__(self) -> Any:
        # Raises if it is detached, and keeps it for a child that is being started.
        _, (cls, name) = super().__reduce__()
        return _attach, (cls, name, *self._state())

    @classmethod
    def unlink(cls, name: str) -> None:
        """Removes a name; who has the object open keeps it.

        Raises:
            NotFoundError, WrongKindError: it is no object, or none of this type.
        """
        _ffi.check(getattr(_lib, f"shoal_{cls._kind}_unlink")(_ffi.encode(name)))

    def __repr__(self) -> str:
        return f"<shoal.{type(self).__name__} {self._name!r}>"


def _attach(cls: Type[_SyncT], name: str, *state: Any) -> _SyncT:
    with _handles._attaching:
        found = _handles._attached.get((cls, name))
        if found is None:
            made = cls.__new__(cls)
            made._reopen(name, *state)
            found = made
        return cast(_SyncT, found)


class _Answers(Dict[int, bool]):
    """What `shoal_lock_try` answers, and whether the lock is taken then."""

    def __init__(self, lock: "Lock") -> None:
        super().__init__({_ffi.OK: True})
        # Or the lock would keep itself. Whoever enters it does.
        self._lock = weakref.ref(lock)

    def __missing__(self, _answer: int) -> bool:
        lock = self._lock()
        return lock is not None and lock._enter()


class Lock(Sync):
    """A lock between any processes and threads, as `multiprocessing.Lock`.

    ::

        lock = shoal.Lock()      # or Lock("name"), the same in every process
        with lock:
            ...

    Anybody may release it. It has no queue: who asks when it comes free gets it.

    **If its owner dies**, or detaches, the next one gets the lock, and `owner_died` is true
    until that one releases it. An exception instead would be the end of programs that are
    written for `multiprocessing`, whose locks simply stay taken then; who has something to
    mend asks.

    Args:
        name: letters, digits, ``.``, ``_`` and ``-``; ``None`` generates one.
        create: make the lock if it is missing; otherwise that is `NotFoundError`.
        exclusive: insist on making it; `ExistsError` if it is there.
        persistent: it stays until `unlink`, not only while someone is attached.
    """

    # Each lock has its own: see the head of this module.
    __slots__ = {"__enter__": "`acquire`, without an end to the patience."}
    __enter__: Callable[[], bool]  # type: ignore[assignment]

    _kind = "lock"
    _own_flags = 0
    #: Whether the last owner died with the lock, which this process now holds.
    owner_died = False

    def __init__(
        self,
        name: Optional[str] = None,
        *,
        create: bool = True,
        exclusive: bool = False,
        persistent: bool = False,
    ) -> None:
        flags = _ffi.flags(create, exclusive, persistent)
        self._take_up(name, flags | (self._own_flags if create else 0))

    def _take_up(self, name: Optional[str], flags: int) -> None:
        self._arm(None)
        handle = _ffi.LockHandle()
        self._open(name, handle, flags)
        recursive = _ffi.fetch_bool(_lib.shoal_lock_is_recursive, handle)
        if recursive != bool(self._own_flags):
            found = "recursive" if recursive else "not recursive"
            self.detach()
            raise WrongKindError(f"the lock {self._name!r} is {found}")
        self._arm(self._fast)

    def _arm(self, fast: Any) -> None:
        """How the lock is taken and given back at once; None while there is more to it."""
        self._fast = fast
        answers = map(_Answers(self).__getitem__, starmap(_try, repeat((fast,))))
        # Not by its name, which is another's if a subclass has a method of that name.
        _enter_slot.__set__(self, answers.__next__)

    def _reopen(self, name: str, *state: Any) -> None:
        self._take_up(name, 0)

    def _forget(self) -> None:
        self._arm(None)
        super()._forget()

    def acquire(self, block: bool = True, timeout: Optional[float] = None) -> bool:
        """Takes the lock; whether it was to be had, at once or within ``timeout`` seconds."""
        if _try(self._fast) == 0:
            return True
        handle = self._live()
        status = _wait.wait(
            lambda ns: _lib.shoal_lock_lock(handle, ns), _wait.deadline(block, timeout)
        )
        if status == _ffi.TIMEOUT:
            return False
        return self._taken(status)

    def _taken(self, status: int) -> bool:
        """What a status means that a wait for the lock ended with."""
        if status == _ffi.OWNER_DIED:
            # Told once, and this process has the lock.
            self.owner_died = True
            self._arm(None)
        elif status == _ffi.OK:
            # Again, or after somebody else has released it for this process.
            self.owner_died = self.owner_died and self._depth() > 1
        elif status in (_ffi.TIMEOUT, _ffi.INTERRUPTED) or self._fast is None:
            return self.acquire()
        else:
            _ffi.check(status)
        return True

    def release(self) -> None:
        """Gives the lock back, whoever took it.

        Raises:
            InvalidError: (a `ValueError`) nobody has it.
        """
        if _unlock(self._fast) == 0:
            return
        handle = self._live()
        status = _lib.shoal_lock_unlock(handle)
        if status:
            raise self._not_mine(_ffi.error(status))
        if not self._depth():
            self.owner_died = False
            self._arm(_ffi.prebuilt(handle))

    def _not_mine(self, error: Exception) -> Exception:
        """What a release is answered with that nobody may do."""
        return error

    def _enter(self) -> bool:
        """The way in for who could not take the lock at once."""
        # Mostly somebody is about to leave, so the longer way can wait.
        status = _wait_for_it(self._fast, _SLICE)
        return status == 0 or self._taken(status)

    def __exit__(  # type: ignore[override]
        self,
        kind: Optional[Type[BaseException]],
        value: Optional[BaseException],
        trace: Optional[TracebackType],
        _unlock: Callable[[Any], int] = _unlock,
    ) -> None:
        if _unlock(self._fast):
            self.release()

    def locked(self) -> bool:
        """Whether anybody has the lock."""
        return _ffi.fetch_bool(_lib.shoal_lock_is_held, self._live())

    def _depth(self) -> int:
        """How often the calling thread has the lock."""
        out = ctypes.c_uint32()
        _ffi.check(_lib.shoal_lock_depth(self._live(), ctypes.byref(out)))
        return out.value


_enter_slot: Any = Lock.__enter__


class RLock(Lock):
    """A lock that the thread which has it may take again, as `multiprocessing.RLock`.

    It must be released as often, by that thread: otherwise it is an `AssertionError`, as in
    the standard library. For the rest, see `Lock`.
    """

    _own_flags = _ffi.RECURSIVE

    def _not_mine(self, error: Exception) -> Exception:
        return AssertionError(str(error))
