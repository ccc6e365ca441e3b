"""`Manager()`: objects in shared memory, without a server process.

What a manager makes is Shoal's: `dict`, `list`, `Namespace`, `Value`, `Array`, `Queue`, locks and
their relatives. No process serves them, so no call waits for a server, and no server can die. They
can be sent to other processes: as arguments, through queues, and inside each other.

Types registered by a program, and `Pool`, live in the standard library's server process, which
starts when the first of them is asked for, or at once if `start` is given an initializer. A
manager with an address serves other machines and programs: it is the standard library's, and so is
every other name of `multiprocessing.managers`.
"""

from __future__ import annotations

import weakref
from multiprocessing.context import ProcessError
from typing import Any, Callable, Dict, Generic, Iterable, List as PyList, Optional, Tuple, TypeVar

from .. import _array, _pickling
from .._attribute import as_attribute_error, attribute
from .._list import List
from .._map import Map
from .._original import managers as _std
from . import queues, synchronize

__all__ = [
    "ArrayProxy",
    "BarrierProxy",
    "BoundedSemaphoreProxy",
    "ConditionProxy",
    "DictProxy",
    "EventProxy",
    "ListProxy",
    "LockProxy",
    "NamespaceProxy",
    "QueueProxy",
    "RLockProxy",
    "SemaphoreProxy",
    "SyncManager",
    "ValueProxy",
]

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")
_M = TypeVar("_M", bound="_Managed")


class _Managed:
    """An object that a manager made.

    Once it was sent to another place the manager keeps it, as a server would: a dictionary that was
    put into another one may have no other reference.

    Each class is derived from the standard library's proxy for the sake of `isinstance`, and uses
    nothing of it.
    """

    # Set by the manager that made the object. A copy that was received has none.
    _manager: "Optional[weakref.ref[SyncManager]]" = None
    _typeid = ""

    def __reduce_ex__(self, protocol: Any) -> Any:
        manager = None if self._manager is None else self._manager()
        if manager is not None:
            manager._sent[id(self)] = self
        return super().__reduce_ex__(protocol)

    def _give_up(self) -> None:
        """Releases the object: the manager is shut down."""
        self.detach()  # type: ignore[attr-defined]

    def _getvalue(self) -> Any:
        """A copy of the contents."""
        return self.copy()  # type: ignore[attr-defined]

    def _callmethod(self, methodname: str, args: Any = (), kwds: Any = {}) -> Any:
        """Calls a method by its name, as a proxy's."""
        return getattr(self, methodname)(*args, **kwds)

    def __deepcopy__(self, memo: Any) -> Any:
        return self._getvalue()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} object, typeid {self._typeid!r} at {id(self):#x}>"


class _Map(Map[K, V]):
    """A map whose values are pickled like the arguments of a process, so they may be shared objects."""

    _dumps = staticmethod(_pickling.dumps)


class DictProxy(_Managed, _Map[K, V], _std.DictProxy):  # type: ignore[misc]
    """A dictionary in shared memory: `shoal.Map` with the interface of a manager's dict.

    `keys`, `values` and `items` are lists, ``str()`` shows the entries. It keeps the order of
    insertion.
    """

    _typeid = "dict"

    def __init__(self, name: Optional[str] = None, **opening: Any) -> None:
        super().__init__(name, **{"ordered": True, **opening})

    def keys(self) -> PyList[K]:  # type: ignore[override]
        """The keys, as a list."""
        return list(self)

    def values(self) -> PyList[V]:  # type: ignore[override]
        """The values, as a list."""
        return list(super().values())

    def items(self) -> PyList[Tuple[K, V]]:  # type: ignore[override]
        """The entries, as a list."""
        return list(super().items())

    def __or__(self, other: Any) -> Dict[K, V]:
        return {**self.copy(), **dict(other)}

    def __ror__(self, other: Any) -> Dict[K, V]:
        return {**dict(other), **self.copy()}

    def __ior__(self, other: Any) -> "DictProxy[K, V]":
        self.update(other)
        return self

    def __str__(self) -> str:
        return str(self.copy())


class ListProxy(_Managed, List[T], _std.ListProxy):  # type: ignore[misc]
    """A list in shared memory: `shoal.List` with the interface of a manager's list.

    ``str()`` shows the elements. ``l[i] += 1`` is two calls, between which another process may change
    the element; `update_with` is one call.
    """

    _typeid = "list"

    _dumps = staticmethod(_pickling.dumps)

    def __str__(self) -> str:
        return str(self.copy())


class _InMap(_Managed):
    """An object whose parts are the entries of a map."""

    _map: Map[str, Any]

    # Pickled by its state. A proxy's own method would connect to a server.
    __reduce__ = object.__reduce__

    def __getstate__(self) -> Any:
        return self._map

    def __setstate__(self, state: Any) -> None:
        self._map = state

    def _give_up(self) -> None:
        self._map.detach()


class NamespaceProxy(_InMap, _std.NamespaceProxy):  # type: ignore[misc]
    """Attributes in shared memory; those that begin with ``_`` are this handle's own.

    ``ns.count += 1`` is two calls, between which another process may change it.
    """

    _typeid = "Namespace"

    def __init__(self, **values: Any) -> None:
        self._map = _Map()
        self._map.update(values)

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_"):
            try:
                return self._map[name]
            except KeyError:
                pass
            except Exception as error:
                raise as_attribute_error(error) from error.__cause__
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            object.__setattr__(self, name, value)
        else:
            self._map[name] = value

    def __delattr__(self, name: str) -> None:
        if name.startswith("_"):
            object.__delattr__(self, name)
        else:
            try:
                del self._map[name]
            except KeyError:
                raise AttributeError(name) from None

    def _getvalue(self) -> Any:
        return _std.Namespace(**self._map.copy())

    def __str__(self) -> str:
        return str(self._getvalue())


class ValueProxy(_InMap, Generic[T], _std.ValueProxy):  # type: ignore[misc]
    """One object in shared memory: `get`, `set`, or ``value``. The type code is not used."""

    _typeid = "Value"
    _KEY = ""

    def __init__(self, typecode: Any, value: T) -> None:
        self._map = _Map()
        self._map[self._KEY] = value

    def get(self) -> T:
        """The object."""
        value: T = self._map[self._KEY]
        return value

    def set(self, value: T) -> None:
        """Replaces the object."""
        self._map[self._KEY] = value

    value = attribute(get).setter(set)

    def _getvalue(self) -> Any:
        return _std.Value(None, self.get())

    def __str__(self) -> str:
        return f"Value({self.get()!r})"


class ArrayProxy(_Managed, _array.Array, _std.ArrayProxy):  # type: ignore[misc]
    """An array of a C type in shared memory: `shoal.Array`, without a lock of its own."""

    _typeid = "Array"

    def __init__(self, typecode: Any, sequence: Any, **opening: Any) -> None:
        super().__init__(typecode, sequence if opening else list(sequence), **opening)

    def _getvalue(self) -> Any:
        return _std.array.array(self._type._type_, self[:])

    def __str__(self) -> str:
        return str(self[:])


class QueueProxy(_Managed, queues.JoinableQueue[T], _std.BaseProxy):  # type: ignore[misc]
    """A queue with `task_done` and `join`."""

    _typeid = "Queue"

    def _give_up(self) -> None:
        self.close()


class _Acquirer(_Managed):
    """A lock whose arguments and errors are those of `threading`, as a manager's are."""

    def acquire(self, blocking: bool = True, timeout: Optional[float] = None) -> bool:
        """Takes the lock. False: it was not free within the timeout."""
        # In `threading` -1 is forever.
        limit = None if timeout is not None and timeout < 0 else timeout
        taken: bool = super().acquire(blocking, limit)  # type: ignore[misc]
        return taken

    def release(self) -> None:
        """Releases the lock. `RuntimeError` in a thread that does not hold it."""
        try:
            super().release()  # type: ignore[misc]
        except (ValueError, AssertionError) as error:
            raise RuntimeError(str(error)) from None


class LockProxy(_Acquirer, synchronize.Lock, _std.AcquirerProxy):  # type: ignore[misc]
    """A lock; see `shoal.Lock`."""

    _typeid = "Lock"


class RLockProxy(_Acquirer, synchronize.RLock, _std.AcquirerProxy):  # type: ignore[misc]
    """A lock that its thread may take again; see `shoal.RLock`."""

    _typeid = "RLock"


class SemaphoreProxy(_Acquirer, synchronize.Semaphore, _std.AcquirerProxy):  # type: ignore[misc]
    """A number of permits; see `shoal.Semaphore`."""

    _typeid = "Semaphore"
    release = synchronize.Semaphore.release


class BoundedSemaphoreProxy(_Acquirer, synchronize.BoundedSemaphore, _std.AcquirerProxy):  # type: ignore[misc]
    """A semaphore that never has more permits than it was made with."""

    _typeid = "BoundedSemaphore"
    release = synchronize.BoundedSemaphore.release


class ConditionProxy(_Managed, synchronize.Condition, _std.ConditionProxy):  # type: ignore[misc]
    """Waiting for a change of what a lock guards; see `shoal.Condition`."""

    _typeid = "Condition"

    def __init__(self, lock: Any = None) -> None:
        super().__init__(RLockProxy() if lock is None else lock)


class EventProxy(_Managed, synchronize.Event, _std.EventProxy):  # type: ignore[misc]
    """A flag that processes wait for; see `shoal.Event`."""

    _typeid = "Event"


class BarrierProxy(_Managed, synchronize.Barrier, _std.BarrierProxy):  # type: ignore[misc]
    """A barrier; see `shoal.Barrier`. The last process that arrives runs the action."""

    _typeid = "Barrier"


class SyncManager(_std.SyncManager):  # type: ignore[misc]
    """What `Manager()` returns; see the head of this module.

    An object that was sent to another place lives until `shutdown` or the end of ``with``. Another
    lives as long as a process refers to it.
    """

    def __init__(self, address: Any = None, *args: Any, **kwargs: Any) -> None:
        super().__init__(address, *args, **kwargs)
        self._process: Any = None
        self._stop_server: Callable[[], object] = lambda: None
        # Whether the standard library's server makes every object, in a child or in another program.
        self._is_served = address is not None
        # By id, since maps compare by content and so have no hash.
        self._made: "weakref.WeakValueDictionary[int, _Managed]" = weakref.WeakValueDictionary()
        self._sent: Dict[int, _Managed] = {}

    # -- the server, if there has to be one ------------------------------------------------

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
        # The instance's attribute would hide the method `shutdown`.
        self._stop_server = self.__dict__.pop("shutdown")

    def _need_server(self) -> None:
        if self._process is None and not self._is_served and self._state.value == _STARTED:
            self._state.value = _INITIAL
            self._serve()

    def connect(self) -> None:
        """Connects to the server at the address, which then makes every object."""
        super().connect()
        self._is_served = True

    def _create(self, *args: Any, **kwds: Any) -> Any:
        self._need_server()
        return super()._create(*args, **kwds)

    @attribute
    def address(self) -> Any:
        """Where the server listens. Starts one, if there is none."""
        self._need_server()
        return self._address

    def join(self, timeout: Optional[float] = None) -> None:
        """Waits for the end of the server, if there is one."""
        if self._process is not None:
            super().join(timeout)

    def shutdown(self) -> None:
        """Releases every object that this manager made. Children that use one may continue."""
        self._state.value = _SHUTDOWN
        for one in list(self._made.values()):
            one._give_up()
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
        if self._state.value != _STARTED:
            raise ProcessError("Manager has shut down")

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

    # -- what it makes ---------------------------------------------------------------------

    def _make(self, kind: Callable[..., _M], *args: Any, **kwds: Any) -> _M:
        self._check()
        if self._is_served:
            served: _M = getattr(_std.SyncManager, kind._typeid)(self, *args, **kwds)  # type: ignore[attr-defined]
            return served
        one = kind(*args, **kwds)
        one._manager = weakref.ref(self)
        self._made[id(one)] = one
        return one

    def dict(self, *args: Any, **kwargs: Any) -> "DictProxy[Any, Any]":
        """A shared dictionary, filled as `dict` fills one."""
        if self._is_served:
            return self._make(DictProxy, *args, **kwargs)
        made: DictProxy[Any, Any] = self._make(DictProxy)
        if args or kwargs:
            made.update(dict(*args, **kwargs))
        return made

    def list(self, sequence: Iterable[Any] = ()) -> "ListProxy[Any]":
        """A shared list of what is in ``sequence``."""
        if self._is_served:
            return self._make(ListProxy, sequence)
        made: ListProxy[Any] = self._make(ListProxy)
        made.extend(sequence)
        return made

    def Namespace(self, **values: Any) -> NamespaceProxy:
        """Shared attributes."""
        return self._make(NamespaceProxy, **values)

    def Value(self, typecode: Any, value: T) -> "ValueProxy[T]":
        """A shared object."""
        return self._make(ValueProxy, typecode, value)

    def Array(self, typecode: str, sequence: Iterable[Any]) -> ArrayProxy:
        """A shared array of a C type."""
        return self._make(ArrayProxy, typecode, sequence)

    def Queue(self, maxsize: int = 0) -> "QueueProxy[Any]":
        """A shared queue."""
        return self._make(QueueProxy, maxsize)

    def JoinableQueue(self, maxsize: int = 0) -> "QueueProxy[Any]":
        """A shared queue: the same."""
        return self._make(QueueProxy, maxsize)

    def Lock(self) -> LockProxy:
        """A shared lock."""
        return self._make(LockProxy)

    def RLock(self) -> RLockProxy:
        """A shared lock that its thread may take again."""
        return self._make(RLockProxy)

    def Semaphore(self, value: int = 1) -> SemaphoreProxy:
        """Shared permits."""
        return self._make(SemaphoreProxy, value)

    def BoundedSemaphore(self, value: int = 1) -> BoundedSemaphoreProxy:
        """Shared permits, never more than at first."""
        return self._make(BoundedSemaphoreProxy, value)

    def Condition(self, lock: Any = None) -> ConditionProxy:
        """A shared condition."""
        return self._make(ConditionProxy, *([] if lock is None else [lock]))

    def Event(self) -> EventProxy:
        """A shared event."""
        return self._make(EventProxy)

    def Barrier(self, *args: Any, **kwargs: Any) -> BarrierProxy:
        """A shared barrier."""
        return self._make(BarrierProxy, *args, **kwargs)


_INITIAL, _STARTED, _SHUTDOWN = (
    _std.State.INITIAL,
    _std.State.STARTED,
    _std.State.SHUTDOWN,
)


def __getattr__(name: str) -> Any:
    return getattr(_std, name)
