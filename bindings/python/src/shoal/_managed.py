"""The classes of the objects that a manager of `shoal.multiprocessing.managers` makes.

That module exports the standard library's proxy classes under the same names, because programs
register those with a manager of their own and derive proxies from them. Each class here is derived
from the proxy class of its name, so that `isinstance` holds, but it is no proxy.
"""

from __future__ import annotations

import os
import re
import sys
import weakref
from contextlib import contextmanager
from typing import Any, Dict, FrozenSet, Generic, Iterator, List as PyList, Optional, Set, Tuple, TypeVar

from . import _array, _contents, _ffi, _handles, _queue, _served, _wait
from ._attribute import as_attribute_error, assignable, attribute
from ._errors import ClosedError, Empty, NotFoundError, ShoalError
from ._list import BytesList, List
from ._map import BytesMap, Map
from ._original import managers as _std
from .multiprocessing import queues, synchronize

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .multiprocessing.managers import SyncManager

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")


class Managed:
    """The base class of the objects that a manager makes.

    Once an object has been pickled, the manager keeps it alive; see `Sent`.
    """

    # Set by the manager that made the object. An unpickled copy has none.
    _manager: "Optional[weakref.ref[SyncManager]]" = None
    _typeid = ""

    def _shared_name(self) -> str:
        """The name in shared memory that a pickle of this object contains."""
        name: str = self._name  # type: ignore[attr-defined]
        return name

    def __reduce_ex__(self, protocol: Any) -> Any:
        manager = None if self._manager is None else self._manager()
        if manager is not None:
            manager._sent.add(self)
        return super().__reduce_ex__(protocol)

    def _shut_down(self) -> None:
        """Detaches from the object when its manager is shut down."""
        self.detach()  # type: ignore[attr-defined]

    def _getvalue(self) -> Any:
        """A copy of the contents."""
        return self.copy()  # type: ignore[attr-defined]

    def _callmethod(self, methodname: str, args: Any = (), kwds: Any = {}) -> Any:
        """Calls a method by its name, as a proxy does."""
        return getattr(self, methodname)(*args, **kwds)

    def __deepcopy__(self, memo: Any) -> Any:
        return self._getvalue()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} object, typeid {self._typeid!r} at {id(self):#x}>"


# The generated name of an object that was made without one. A pickle contains it in plain text.
_NAME = re.compile(rb"anon-[0-9a-f]{32}")
# How many objects are sent before the first search.
_FIRST = 32
# The cost of searching a container and of searching an entry, in bytes; and how many bytes may be searched
# for each object that is sent, so that searches take a small part of a program's time.
_CONTAINER, _ENTRY, _SHARE = 1024, 64, 1 << 13


class Sent:
    """The objects of one manager that were pickled.

    The manager keeps them alive, as a server does: a dictionary that was put into another one may
    have no other reference. `_search` looks for their names in all containers and queues of managers
    that this process uses, or that other processes may use. An object is released after two searches in
    a row that do not find it, so an object that is in transit is kept for a while.
    """

    def __init__(self, made: "weakref.WeakValueDictionary[int, Managed]") -> None:
        # All objects that the manager has made. By id, because maps compare by content and are not
        # hashable.
        self._made = made
        self._objects: Dict[int, Managed] = {}
        # The ids of the objects that the last search did not find.
        self._not_found: Set[int] = set()
        # The containers that another process may use, even if this one does not, by name.
        self._given: Dict[str, Any] = {}
        # What the last search found, by container: the container's version, and the names in it.
        self._found: Dict[str, Tuple[int, FrozenSet[bytes]]] = {}
        # The number of objects and containers at which the next search is due.
        self._limit = _FIRST
        _all_sent.add(self)

    def add(self, one: Managed) -> None:
        """Keeps an object that is being pickled."""
        self._not_found.discard(id(one))
        self._objects[id(one)] = one
        self._give(one)

    def _give(self, one: Managed) -> None:
        if isinstance(one, ListProxy):
            self._given[one._name] = BytesList
        elif isinstance(one, (DictProxy, _InMap)):
            self._given[one._shared_name()] = BytesMap
        elif isinstance(one, QueueProxy):
            self._given[one._name] = _queue.Queue

    def give_all(self) -> None:
        """Notes every container as used by another process: a forked child inherits all of them."""
        for one in list(self._made.values()):
            self._give(one)

    def clear(self) -> None:
        """Releases all objects."""
        self._objects.clear()
        self._given.clear()
        self._found.clear()

    def search_if_due(self) -> None:
        """Releases objects that no container holds, once there are enough to justify a search."""
        if len(self._objects) + len(self._given) > self._limit:
            # So that other threads do not begin a search meanwhile.
            self._limit *= 2
            cost = self._search()
            left = len(self._objects) + len(self._given)
            # Objects that the next search may release do not delay it. A container counts twice,
            # because it is in both dictionaries.
            staying = max(0, left - 2 * len(self._not_found))
            self._limit = left + _FIRST + staying + cost // _SHARE

    def _search(self) -> int:
        """Releases what two searches in a row have not found. Returns the cost of this one."""
        names: Set[bytes] = set()
        found: Dict[str, Tuple[int, FrozenSet[bytes]]] = {}
        cost = 0
        try:
            for container in self._containers():
                cost += _CONTAINER
                with container:
                    # Read before the entries, which may change meanwhile.
                    version = _contents.version_of(container)
                    known = self._found.get(container._name)
                    if known is None or known[0] != version:
                        here: Set[bytes] = set()
                        for data in _contents.pickles(container):
                            cost += _ENTRY + len(data)
                            here.update(_NAME.findall(data))
                        known = version, frozenset(here)
                found[container._name] = known
                names |= known[1]
        except ShoalError:
            # The search is incomplete, so a name that was not found may still be in a container.
            return cost
        self._found = found
        for key, one in list(self._objects.items()):
            if one._shared_name().encode() in names:
                self._not_found.discard(key)
            elif key not in self._not_found:
                self._not_found.add(key)
            else:
                self._objects.pop(key, None)
                # Another thread may have pickled it again meanwhile: `add` has removed the mark.
                if key not in self._not_found:
                    self._objects[key] = one
                self._not_found.discard(key)
        return cost

    def _containers(self) -> Iterator[Any]:
        """The containers of managers that this process uses, and those that only others may use."""
        here: Set[str] = set()
        kinds: Any = ((BytesMap, _Map), (BytesList, ListProxy), (_queue.Queue, QueueProxy))
        for shared in _handles.all_objects():
            handle = shared._handle
            kind: Any = next((kind for kind, of in kinds if isinstance(shared, of)), None)
            if kind and handle and shared._name not in here:
                here.add(shared._name)
                container = kind.__new__(kind)
                container._adopt(handle, shared._name)
                yield container
        for name, kind in list(self._given.items()):
            if name not in here:
                try:
                    yield kind(name, create=False)
                except NotFoundError:
                    # No process uses the container any more.
                    self._given.pop(name, None)


# The `Sent` of each manager of this process.
_all_sent: "weakref.WeakSet[Sent]" = weakref.WeakSet()


def _before_fork() -> None:
    for sent in list(_all_sent):
        sent.give_all()


os.register_at_fork(before=_before_fork)


class _Map(Map[K, V]):
    """A map whose values are pickled like the arguments of a process, so they may be shared objects."""

    _dumps = staticmethod(_served.dumps)


@assignable
class DictProxy(Managed, _Map[K, V], _std.DictProxy):  # type: ignore[misc]
    """A dictionary in shared memory: `shoal.Map` with the interface of a manager's dict.

    `keys`, `values` and `items` are lists, ``str()`` shows the entries. It keeps the order of
    insertion. If its manager has 64 objects already, it is a compact map (see `shoal.Map`).
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

    # By identity, as for a proxy. The base class is not hashable, because it compares by content.
    __hash__ = object.__hash__

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

    __hash__ = object.__hash__  # type: ignore[assignment]

    _dumps = staticmethod(_served.dumps)

    def __str__(self) -> str:
        return str(self.copy())


class _InMap(Managed):
    """An object whose parts are the entries of a map."""

    _map: Map[str, Any]

    # Pickled by its state. The method of a proxy would connect to a server.
    __reduce__ = object.__reduce__

    def __getstate__(self) -> Any:
        return self._map

    def __setstate__(self, state: Any) -> None:
        self._map = state

    def _shared_name(self) -> str:
        return self._map._name

    def _shut_down(self) -> None:
        self._map.detach()


class NamespaceProxy(_InMap, _std.NamespaceProxy):  # type: ignore[misc]
    """Attributes in shared memory. Attributes that begin with ``_`` belong to this Python object only.

    ``ns.count += 1`` is two calls, between which another process may change the attribute.
    """

    _typeid = "Namespace"

    def __init__(self, /, **values: Any) -> None:
        self._map = _Map(compact=True)
        self._map.update(values)

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_"):
            try:
                return self._map[name]
            except KeyError:
                pass
            except Exception as error:
                raise as_attribute_error(error) from error.__cause__
            raise AttributeError(_NO_ATTRIBUTE.format(name))
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
                raise AttributeError(_NO_ATTRIBUTE.format(name)) from None

    def _getvalue(self) -> Any:
        return _std.Namespace(**self._map.copy())

    def _callmethod(self, methodname: str, args: Any = (), kwds: Any = {}) -> Any:
        if methodname == "__getattribute__":
            # A shared attribute, which `object.__getattribute__` does not find.
            return getattr(self, *args)
        return super()._callmethod(methodname, args, kwds)

    def __str__(self) -> str:
        return str(self._getvalue())


# The text of the namespace in the original's server.
_NO_ATTRIBUTE = "'Namespace' object has no attribute {!r}"


class ValueProxy(_InMap, Generic[T], _std.ValueProxy):  # type: ignore[misc]
    """One object in shared memory: `get`, `set`, or ``value``. The type code is only stored."""

    _typeid = "Value"
    _KEY, _CODE = "", "typecode"

    def __init__(self, typecode: Any, value: T) -> None:
        self._map = _Map(compact=True)
        self._map.update({self._KEY: value, self._CODE: typecode})

    def get(self) -> T:
        """The object."""
        value: T = self._map[self._KEY]
        return value

    def set(self, value: T) -> None:
        """Replaces the object."""
        self._map[self._KEY] = value

    value = attribute(get).setter(set)

    def _getvalue(self) -> Any:
        return _std.Value(self._map[self._CODE], self.get())

    def __str__(self) -> str:
        return str(self._getvalue())


@assignable
class ArrayProxy(Managed, _array.Array, _std.ArrayProxy):  # type: ignore[misc]
    """An array of a C type in shared memory: `shoal.Array`, without a lock of its own."""

    _typeid = "Array"

    def __init__(self, typecode: Any, sequence: Any, **opening: Any) -> None:
        super().__init__(typecode, sequence if opening else _items(typecode, sequence), **opening)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return _std.array.array(self._type._type_, super().__getitem__(index))
        with _errors_of_array(index, "array index out of range"):
            return super().__getitem__(index)

    def __setitem__(self, index: Any, new: Any) -> None:
        code = self._type._type_
        if isinstance(index, slice):
            super().__setitem__(index, _items(code, new))
        else:
            with _errors_of_array(index, "array assignment index out of range"):
                super().__setitem__(index, _items(code, [new])[0])

    def _getvalue(self) -> Any:
        return self[:]

    def __str__(self) -> str:
        return str(self[:])


@contextmanager
def _errors_of_array(index: Any, out_of_range: str) -> Iterator[None]:
    """Raises errors of an index with the text of the module `array`."""
    if not hasattr(index, "__index__"):
        raise TypeError("array indices must be integers")
    try:
        yield
    except IndexError:
        raise IndexError(out_of_range) from None


def _items(typecode: Any, sequence: Any) -> PyList[Any]:
    """The items of an array. `OverflowError` for an integer that the type cannot represent, as in the original,
    which uses the module `array`. ctypes would truncate it."""
    items = list(sequence)
    if isinstance(typecode, str) and typecode in _INTEGERS:
        _std.array.array(typecode, items)
    return items


_INTEGERS = tuple("bBhHiIlLqQ")


class QueueProxy(Managed, queues.JoinableQueue[T], _std.BaseProxy):  # type: ignore[misc]
    """A queue with `task_done` and `join`."""

    _typeid = "Queue"
    _dumps = staticmethod(_served.dumps)
    _dumps_apart = staticmethod(_served.dumps_apart)

    def put(self, obj: T, block: bool = True, timeout: Optional[float] = None) -> None:
        """As `shoal.Queue.put`. `ValueError` for a negative timeout, if the queue has a bound."""
        if block and _is_negative(timeout) and _queue.Queue.stats(self).max_items:
            raise ValueError(_NEGATIVE)
        super().put(obj, block, timeout)

    def get(
        self, block: bool = True, timeout: Optional[float] = None, copy: bool = True
    ) -> T:
        """As `shoal.Queue.get`. `ValueError` for a negative timeout."""
        if block and _is_negative(timeout):
            raise ValueError(_NEGATIVE)
        return super().get(block, timeout, copy)

    def _shut_down(self) -> None:
        self.close()

    if sys.version_info >= (3, 13):

        def shutdown(self, immediate: bool = False) -> None:
            """As `queue.Queue.shutdown`. From now on `put` raises `queue.ShutDown`, and so does `get` once
            the queue is empty. If ``immediate``, its messages are dropped."""
            _queue.Queue.close(self)
            dropped = 0
            try:
                while immediate:
                    dropped += len(self.get_many_bytes(block=False))
            except (Empty, ClosedError):
                pass
            if dropped:
                self._finish(dropped)

        def _put_error(self, status: int) -> Exception:
            error = super()._put_error(status)
            return _shut_down() if isinstance(error, ClosedError) else error

        def _take_slowly(self, buffer: _ffi.Buffer, until: Optional[int]) -> _ffi.Buffer:
            try:
                return super()._take_slowly(buffer, until)
            except ClosedError:
                raise _shut_down() from None


def _is_negative(timeout: Optional[float]) -> bool:
    return timeout is not None and _wait.seconds(timeout) < 0


# The text of the error of `queue.Queue`.
_NEGATIVE = "'timeout' must be a non-negative number"


def _shut_down() -> Exception:
    import queue

    error: Exception = queue.ShutDown()  # type: ignore[attr-defined,unused-ignore]
    return error


class _Acquirer(Managed):
    """A lock with the arguments and errors of `threading`, as a manager's locks have."""

    def acquire(self, blocking: bool = True, timeout: Optional[float] = None) -> bool:
        """Takes the lock. Returns whether it was free within the timeout."""
        limit = None if timeout is None else self._limit(blocking, timeout)
        taken: bool = super().acquire(blocking, limit)  # type: ignore[misc]
        return taken

    def _limit(self, blocking: bool, timeout: float) -> Optional[float]:
        """How long to wait at most; ``None`` is forever. `ValueError` as a lock of `threading`."""
        timeout = _wait.seconds(timeout)
        if timeout == -1:
            return None
        if not blocking:
            raise ValueError("can't specify a timeout for a non-blocking call")
        if timeout < 0:
            raise ValueError("timeout value must be a non-negative number")
        return timeout

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
    """A lock that the thread which holds it may take again; see `shoal.RLock`."""

    _typeid = "RLock"


class _Permits(_Acquirer):
    """A semaphore, which accepts a negative timeout and then does not wait."""

    def _limit(self, blocking: bool, timeout: float) -> Optional[float]:
        if not blocking:
            raise ValueError("can't specify timeout for non-blocking acquire")
        return timeout


class SemaphoreProxy(_Permits, synchronize.Semaphore, _std.AcquirerProxy):  # type: ignore[misc]
    """A number of permits; see `shoal.Semaphore`."""

    _typeid = "Semaphore"
    release = synchronize.Semaphore.release


class BoundedSemaphoreProxy(_Permits, synchronize.BoundedSemaphore, _std.AcquirerProxy):  # type: ignore[misc]
    """A semaphore that never has more permits than it was made with."""

    _typeid = "BoundedSemaphore"
    release = synchronize.BoundedSemaphore.release


class ConditionProxy(Managed, synchronize.Condition, _std.ConditionProxy):  # type: ignore[misc]
    """A condition variable; see `shoal.Condition`."""

    _typeid = "Condition"
    _own_lock = RLockProxy

    def _check_owned(self) -> None:
        if not self._depth():
            raise RuntimeError("the lock of the condition is not acquired")

    def wait(self, timeout: Optional[float] = None) -> bool:
        """As `shoal.Condition.wait`. `RuntimeError` in a thread that does not hold the lock."""
        self._check_owned()
        return super().wait(timeout)

    def notify(self, n: int = 1) -> None:
        """As `shoal.Condition.notify`. `RuntimeError` in a thread that does not hold the lock."""
        self._check_owned()
        super().notify(n)

    def notify_all(self) -> None:
        """As `shoal.Condition.notify_all`. `RuntimeError` in a thread that does not hold the lock."""
        self._check_owned()
        super().notify_all()


class EventProxy(Managed, synchronize.Event, _std.EventProxy):  # type: ignore[misc]
    """A flag that processes wait for; see `shoal.Event`."""

    _typeid = "Event"


class BarrierProxy(Managed, synchronize.Barrier, _std.BarrierProxy):  # type: ignore[misc]
    """A barrier; see `shoal.Barrier`. The last process that arrives runs the action."""

    _typeid = "Barrier"
