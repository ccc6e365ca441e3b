"""The base class of all shared objects: a name, a handle, and the lifetime of the handle.

A process attaches to an object once per name: unpickling an object whose name is attached returns
the existing one. The handle is freed by `detach`, at the end of a ``with`` block, by the garbage
collector, or at the end of the process (see `_end`), whichever comes first. The last process that
detaches from an ephemeral object removes it from ``/dev/shm``.
"""

from __future__ import annotations

import os
import threading
import weakref
from contextlib import contextmanager
from ctypes import byref, c_bool
from multiprocessing.context import get_spawning_popen
from typing import Any, Callable, Iterator, List, Optional, Tuple, Type, TypeVar, cast
from weakref import WeakSet, WeakValueDictionary

from . import _end, _ffi, _hot
from ._attribute import default
from ._errors import ClosedError, NotFoundError

_SharedT = TypeVar("_SharedT", bound="Shared")

# This process's object of each class and name.
_attached: "WeakValueDictionary[Tuple[type, str], Shared]" = WeakValueDictionary()
# The other objects of the same class and name. By id, because maps compare by content and are not hashable.
_further: "WeakValueDictionary[int, Shared]" = WeakValueDictionary()
# Objects with a method ``release`` that keep something alive for other processes.
_holds: "WeakSet[Any]" = WeakSet()
_attaching = threading.RLock()


class Shared(_hot.Held):
    """An attached shared object. Safe to use from any number of threads."""

    _handle: Optional[_ffi.Handle]
    # The handle as the argument of the most frequent calls; None once detached.
    _fast: Any
    _name: str
    _created = False
    # Whether this process has removed its name. A new object may have that name since then.
    _is_unlinked = False

    def _open_with(self, function: Any, handle: _ffi.Handle, *arguments: Any) -> None:
        """Opens or creates the object by a function of the library, and adopts the handle."""
        created = c_bool()
        _ffi.check(function(*arguments, byref(handle), byref(created)))
        self._created = created.value
        self._adopt(handle, _ffi.name_of(handle))

    def _adopt(self, handle: _ffi.Handle, name: str) -> None:
        self._handle = handle
        self._fast = _hot.as_argument(handle)
        self._name = name
        with _attaching:
            handle.users = [weakref.ref(self), *_users(handle)]
            known = _attached.get((type(self), name))
            if known is None:
                _attached[type(self), name] = self
            elif self._created or known._is_unlinked:
                # An older object of this process no longer has that name.
                _further[id(known)] = known
                _attached[type(self), name] = self
            else:
                _further[id(self)] = self

    @default
    def created(self) -> bool:
        """Whether this call created the shared object; false if it existed."""
        return self._created

    @property
    def name(self) -> str:
        """The name by which other processes, in any language, open this object."""
        return self._name

    @property
    def detached(self) -> bool:
        """Whether this Python object was detached."""
        return self._handle is None

    def detach(self) -> None:
        """Ends the use of the object by this process; using it afterwards raises `ClosedError`.

        Other processes are not disturbed. The last process that detaches removes an ephemeral object.
        May be called twice. A thread that waits in a call raises `ClosedError` at once; or within a
        second, if this process has another Python object with the same handle (``raw`` of a map or a
        list, a copy of a queue).
        """
        self._forget()
        with _attaching:
            if _attached.get((type(self), self._name)) is self:
                del _attached[type(self), self._name]

    def _forget(self) -> None:
        """Drops the handle. If no other object uses it, ends the waits of threads through it."""
        handle = self._handle
        self._handle = self._fast = None
        if handle is None:
            return
        with _attaching:
            handle.users = [it for it in _users(handle) if it() is not self]
            is_last = not handle.users
        if is_last:
            _ffi.lib.shoal_end_waits(handle)

    def _live(self) -> Any:
        """The handle. The caller keeps it in a local variable while it calls the library."""
        handle = self._handle
        if handle is None:
            raise ClosedError(f"{type(self).__name__} {self._name!r} is detached")
        return handle

    def _raise_for(self, status: int) -> None:
        """Raises the exception for the status of the last call, if it is not 0."""
        if status:
            # A call through `_fast`, which is None once this object is detached, has another reason then.
            self._live()
            raise _ffi.error(status)

    def _share(self, name: str) -> bool:
        """Adopts the handle that this process already has for ``name``. Returns whether there is one."""
        with _attaching:
            other = _attached.get((type(self), name))
            handle = None if other is None else other._handle
            if handle is not None:
                self._adopt(handle, name)
        return handle is not None

    def __dir__(self) -> List[str]:
        # The server of a `BaseManager` reads every attribute that is listed here, so attributes that
        # raise are left out; and so are the Python versions of compiled methods.
        names = [name for name in super().__dir__() if not name.startswith("_python_")]
        return [name for name in names if self._has(name)]

    def _has(self, name: str) -> bool:
        """Whether an attribute can be read now. Never waits."""
        return hasattr(self, name)

    def __enter__(self: _SharedT) -> _SharedT:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.detach()

    def __reduce__(self) -> Any:
        handle = self._live()
        child = get_spawning_popen()
        if child is not None:
            hold_for(child).add(handle)
        return attach, (type(self), self._name)


def attach(
    cls: Type[_SharedT], name: str, opened: Optional[Callable[[], _SharedT]] = None
) -> _SharedT:
    """This process's object of that class and name. It is opened if there is none yet."""
    with _attaching:
        found = _attached.get((cls, name))
        if found is None:
            with opening(cls, name):
                found = opened() if opened else cls(name, create=False)  # type: ignore[call-arg]
        return cast(_SharedT, found)


@contextmanager
def opening(cls: Type[Any], name: str) -> Iterator[None]:
    """Gives the error of an object that was received, and has no name of the program's, a better text."""
    try:
        yield
    except NotFoundError:
        if not name.startswith("anon-"):
            raise
        raise NotFoundError(
            f"the {cls.__name__} that was sent does not exist any more: no process holds it. Keep a reference to"
            " it in the process that made it until the receiver has it"
        ) from None


def unlink(name: str, kind: int) -> None:
    """Removes the name of an object, which has to be of this kind.

    Raises `NotFoundError`, `WrongKindError` or `AccessError`; and `TimeoutError` if another process has been
    opening or leaving the object for five seconds, which means that it is stopped.
    """
    _ffi.unlink(name, kind)
    with _attaching:
        for (_, known), shared in list(_attached.items()):
            if known == name:
                shared._is_unlinked = True


def all_objects() -> List[Shared]:
    """The objects of this process that are not detached, and some that are."""
    # In this order: an object that is moved meanwhile is in the second one before it leaves the first.
    return [*_attached.values(), *_further.values()]


def _users(handle: _ffi.Handle) -> "List[weakref.ref[Any]]":
    """The objects that use a handle."""
    return [it for it in handle.users if it() is not None]


class Hold:
    """Keeps handles alive for a child that has not attached to them yet."""

    def __init__(self) -> None:
        self._handles: List[_ffi.Handle] = []
        self._inherited: List[object] = []
        _holds.add(self)

    def add(self, handle: _ffi.Handle) -> None:
        """Keeps one handle."""
        self._handles.append(handle)

    def add_inherited(self, descriptor: object) -> None:
        """Keeps a descriptor of which the child has its own copy as soon as it exists."""
        self._inherited.append(descriptor)

    def inherited(self) -> None:
        """Releases the descriptors, because the child exists."""
        self._inherited = []

    def release(self) -> None:
        """Releases everything."""
        self._handles = []
        self.inherited()


def hold_for(popen: Any) -> Hold:
    """The hold that lives as long as the `multiprocessing` object of a child process."""
    hold = getattr(popen, "_shoal_hold", None)
    if hold is None:
        hold = popen._shoal_hold = Hold()
    return cast(Hold, hold)


def _renew_lock() -> None:
    global _attaching
    _attaching = threading.RLock()


# A child that is forked while another thread holds the lock would inherit a lock that is never released.
os.register_at_fork(after_in_child=_renew_lock)

_end.begin()
