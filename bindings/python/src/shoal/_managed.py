"""What a manager makes: `shoal.multiprocessing.managers`.

These classes are not what a program finds under their names in that module. There it finds the
standard library's, each of which is a base class of the one here. A program uses those as proxies: it
registers them with a manager of its own, and derives proxies from them. These ones are no proxies.
"""

from __future__ import annotations

import weakref
from typing import Any, Dict, Generic, List as PyList, Optional, Tuple, TypeVar

from . import _array, _pickling
from ._attribute import as_attribute_error, assignable, attribute
from ._list import List
from ._map import Map
from ._original import managers as _std
from .multiprocessing import queues, synchronize

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .multiprocessing.managers import SyncManager

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")


class Managed:
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


@assignable
class DictProxy(Managed, _Map[K, V], _std.DictProxy):  # type: ignore[misc]
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


@assignable
class ListProxy(Managed, List[T], _std.ListProxy):  # type: ignore[misc]
    """A list in shared memory: `shoal.List` with the interface of a manager's list.

    ``str()`` shows the elements. ``l[i] += 1`` is two calls, between which another process may change
    the element; `update_with` is one call.
    """

    _typeid = "list"

    _dumps = staticmethod(_pickling.dumps)

    def __str__(self) -> str:
        return str(self.copy())


class _InMap(Managed):
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


@assignable
class ArrayProxy(Managed, _array.Array, _std.ArrayProxy):  # type: ignore[misc]
    """An array of a C type in shared memory: `shoal.Array`, without a lock of its own."""

    _typeid = "Array"

    def __init__(self, typecode: Any, sequence: Any, **opening: Any) -> None:
        super().__init__(typecode, sequence if opening else list(sequence), **opening)

    def _getvalue(self) -> Any:
        return _std.array.array(self._type._type_, self[:])

    def __str__(self) -> str:
        return str(self[:])


class QueueProxy(Managed, queues.JoinableQueue[T], _std.BaseProxy):  # type: ignore[misc]
    """A queue with `task_done` and `join`."""

    _typeid = "Queue"

    def _give_up(self) -> None:
        self.close()


class _Acquirer(Managed):
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


class ConditionProxy(Managed, synchronize.Condition, _std.ConditionProxy):  # type: ignore[misc]
    """Waiting for a change of what a lock guards; see `shoal.Condition`."""

    _typeid = "Condition"

    def __init__(self, lock: Any = None) -> None:
        super().__init__(RLockProxy() if lock is None else lock)


class EventProxy(Managed, synchronize.Event, _std.EventProxy):  # type: ignore[misc]
    """A flag that processes wait for; see `shoal.Event`."""

    _typeid = "Event"


class BarrierProxy(Managed, synchronize.Barrier, _std.BarrierProxy):  # type: ignore[misc]
    """A barrier; see `shoal.Barrier`. The last process that arrives runs the action."""

    _typeid = "Barrier"
