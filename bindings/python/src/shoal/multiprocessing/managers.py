"""`Manager()`: objects in shared memory, without a server process.

A manager makes Shoal's objects: `dict`, `list`, `Namespace`, `Value`, `Array`, `Queue`, `Lock`,
`RLock`, `Semaphore`, `BoundedSemaphore`, `Event`, `Condition` and `Barrier`. There is no server process
that a call would wait for or that could die. They can be sent to other processes: as
arguments, through queues, and inside each other.

Types that a program registers, and `Pool`, live in the standard library's server process. It starts
when the first such object is created, or at once if `start` is given an initializer. A manager with
an address serves other machines and programs. It is the standard library's, and so is every other
name of `multiprocessing.managers`.
"""

from __future__ import annotations

import weakref
from typing import Any, Callable, Iterable, Optional, TypeVar

from .. import _managed
from .._attribute import attribute
from .._original import managers as _std

TYPE_CHECKING = False

__all__ = [
    "ArrayProxy",
    "BarrierProxy",
    "ConditionProxy",
    "DictProxy",
    "EventProxy",
    "ListProxy",
    "NamespaceProxy",
    "SyncManager",
    "ValueProxy",
]

T = TypeVar("T")
_M = TypeVar("_M", bound=_managed.Managed)

# Once a manager has this many objects, its new dictionaries are compact.
_MANY = 64

if TYPE_CHECKING:
    from multiprocessing.managers import (  # type: ignore[attr-defined]
        ArrayProxy,
        BarrierProxy,
        ConditionProxy,
        DictProxy,
        EventProxy,
        ListProxy,
        NamespaceProxy,
        ValueProxy,
    )
else:
    # The standard library's: programs register them for types of their own, and derive from them.
    # The objects that a `SyncManager` makes are instances of them.
    ArrayProxy, ValueProxy = _std.ArrayProxy, _std.ValueProxy
    DictProxy, ListProxy, NamespaceProxy = _std.DictProxy, _std.ListProxy, _std.NamespaceProxy
    BarrierProxy, ConditionProxy, EventProxy = _std.BarrierProxy, _std.ConditionProxy, _std.EventProxy


class SyncManager(_std.SyncManager):  # type: ignore[misc]
    """What `Manager()` returns; see the docstring of this module.

    ::

        with shoal.multiprocessing.Manager() as manager:
            results = manager.dict()

    An object lives as long as a process refers to it or a container of this manager contains it.
    `shutdown`, and the end of a ``with`` block, release this process's handles of all objects.
    """

    def __init__(self, address: Any = None, *args: Any, **kwargs: Any) -> None:
        super().__init__(address, *args, **kwargs)
        self._process: Any = None
        self._stop_server: Callable[[], object] = lambda: None
        # Whether every object lives in a server of the standard library, in a child or in another
        # program.
        self._is_served = address is not None
        self._made: "weakref.WeakValueDictionary[int, _managed.Managed]"
        self._made = weakref.WeakValueDictionary()
        self._sent = _managed.Sent(self._made)

    # -- the server, if one is needed --------------------------------------------------------

    def start(
        self, initializer: Optional[Callable[..., object]] = None, initargs: Iterable[Any] = ()
    ) -> None:
        """Starts the manager. A server process starts only if there is an initializer for it to run."""
        if initializer is not None or self._is_served or self._state.value != _INITIAL:
            self._serve(initializer, initargs)
        else:
            self._state.value = _STARTED

    def _serve(
        self, initializer: Optional[Callable[..., object]] = None, initargs: Iterable[Any] = ()
    ) -> None:
        super().start(initializer, initargs)
        # The instance attribute would hide the method `shutdown`.
        self._stop_server = self.__dict__.pop("shutdown")

    def _need_server(self) -> None:
        if self._process is None and not self._is_served and self._state.value == _STARTED:
            self._state.value = _INITIAL
            self._serve()

    def connect(self) -> None:
        """Connects to the server at the address, which then makes every object."""
        super().connect()
        self._is_served = True

    def _create(self, /, *args: Any, **kwds: Any) -> Any:
        self._need_server()
        return super()._create(*args, **kwds)

    @attribute
    def address(self) -> Any:
        """The address at which the server listens. Starts a server if there is none."""
        self._need_server()
        return self._address

    def join(self, timeout: Optional[float] = None) -> None:
        """Waits for the end of the server, if there is one."""
        if self._process is not None:
            super().join(timeout)

    def shutdown(self) -> None:
        """Detaches from every object that this manager made. Children that use one may continue."""
        self._state.value = _SHUTDOWN
        for one in list(self._made.values()):
            one._shut_down()
        self._made.clear()
        self._sent.clear()
        self._stop_server()

    def __enter__(self) -> "SyncManager":
        if self._state.value == _INITIAL:
            self.start()
        self._check()
        return self

    def _check(self) -> None:
        assert self._state.value != _INITIAL, "manager not yet started"
        assert self._state.value == _STARTED, "manager has shut down"

    def _number_of_objects(self) -> int:
        if self._is_served or self._process is not None:
            count: int = super()._number_of_objects()
            return count
        return len(self._made)

    def _debug_info(self) -> str:
        if self._is_served or self._process is not None:
            text: str = super()._debug_info()
            return text
        return "\n".join(map(repr, list(self._made.values())))

    # -- factories -------------------------------------------------------------------------

    def _make(self, kind: Callable[..., _M], /, *args: Any, **kwds: Any) -> _M:
        self._check()
        if self._is_served:
            served: _M = getattr(_std.SyncManager, kind._typeid)(self, *args, **kwds)  # type: ignore[attr-defined]
            return served
        one = kind(*args, **kwds)
        one._manager = weakref.ref(self)
        self._made[id(one)] = one
        self._sent.search_if_due()
        return one

    def dict(self, /, *args: Any, **kwargs: Any) -> "_managed.DictProxy[Any, Any]":
        """A shared dictionary, with the arguments of `dict`."""
        if self._is_served:
            return self._make(_managed.DictProxy, *args, **kwargs)
        # Dictionaries are assumed to be small if a program has many.
        compact = len(self._made) >= _MANY
        made: _managed.DictProxy[Any, Any] = self._make(_managed.DictProxy, compact=compact)
        if args or kwargs:
            made.update(dict(*args, **kwargs))
        return made

    def list(self, sequence: Iterable[Any] = ()) -> "_managed.ListProxy[Any]":
        """A shared list of the elements of ``sequence``."""
        if self._is_served:
            return self._make(_managed.ListProxy, sequence)
        made: _managed.ListProxy[Any] = self._make(_managed.ListProxy)
        made.extend(sequence)
        return made

    def Namespace(self, /, **values: Any) -> _managed.NamespaceProxy:
        """Shared attributes."""
        return self._make(_managed.NamespaceProxy, **values)

    def Value(self, typecode: Any, value: T) -> "_managed.ValueProxy[T]":
        """A shared object."""
        return self._make(_managed.ValueProxy, typecode, value)

    def Array(self, typecode: str, sequence: Iterable[Any]) -> _managed.ArrayProxy:
        """A shared array of a C type."""
        return self._make(_managed.ArrayProxy, typecode, sequence)

    def Queue(self, maxsize: int = 0) -> "_managed.QueueProxy[Any]":
        """A shared queue."""
        return self._make(_managed.QueueProxy, maxsize)

    def JoinableQueue(self, maxsize: int = 0) -> "_managed.QueueProxy[Any]":
        """The same as `Queue`, which has `task_done` and `join`."""
        return self._make(_managed.QueueProxy, maxsize)

    def Lock(self) -> _managed.LockProxy:
        """A shared lock."""
        return self._make(_managed.LockProxy)

    def RLock(self) -> _managed.RLockProxy:
        """A shared lock that its thread may take again."""
        return self._make(_managed.RLockProxy)

    def Semaphore(self, value: int = 1) -> _managed.SemaphoreProxy:
        """A shared semaphore."""
        return self._make(_managed.SemaphoreProxy, value)

    def BoundedSemaphore(self, value: int = 1) -> _managed.BoundedSemaphoreProxy:
        """A shared semaphore that never has more permits than ``value``."""
        return self._make(_managed.BoundedSemaphoreProxy, value)

    def Condition(self, lock: Any = None) -> _managed.ConditionProxy:
        """A shared condition."""
        return self._make(_managed.ConditionProxy, *([] if lock is None else [lock]))

    def Event(self) -> _managed.EventProxy:
        """A shared event."""
        return self._make(_managed.EventProxy)

    def Barrier(self, *args: Any, **kwargs: Any) -> _managed.BarrierProxy:
        """A shared barrier."""
        return self._make(_managed.BarrierProxy, *args, **kwargs)


_INITIAL, _STARTED, _SHUTDOWN = (
    _std.State.INITIAL,
    _std.State.STARTED,
    _std.State.SHUTDOWN,
)


def __getattr__(name: str) -> Any:
    return getattr(_std, name)
