"""`Manager()`: dictionaries and lists in shared memory, without a server process.

`dict` and `list` are Shoal's: no process serves them, so there is nobody to ask, to wait
for or to lose. `Queue` and `JoinableQueue` are those of this package. Every other type a
manager makes (`Namespace`, `Lock`, `Event`, `Value`, `Pool`, types registered by a program
...) comes from the standard library's `SyncManager`, which is started when the first of
them is asked for; other names of `multiprocessing.managers` are that module's own.
"""

from __future__ import annotations

import multiprocessing.managers as _std
import pickle
from typing import Any, Callable, Dict, Iterable, Iterator, List, MutableSequence, Optional
from typing import Tuple, TypeVar, Union, overload

from .._map import BytesMap, Map
from .queues import JoinableQueue, Queue, _dumps

__all__ = ["DictProxy", "ListProxy", "SyncManager"]

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")
_R = TypeVar("_R")


class DictProxy(Map[K, V]):
    """A dictionary in shared memory: `shoal.Map`, with the manners of a manager's dict.

    `keys`, `values` and `items` are lists, ``str()`` shows the entries. Unlike a dict it
    does not keep the order of insertion, and `popitem` takes any entry.
    """

    def keys(self) -> List[K]:  # type: ignore[override]
        """The keys, as a list."""
        return list(self)

    def values(self) -> List[V]:  # type: ignore[override]
        """The values, as a list."""
        return list(super().values())

    def items(self) -> List[Tuple[K, V]]:  # type: ignore[override]
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

    def __repr__(self) -> str:
        return f"<DictProxy object, typeid 'dict' at {id(self):#x}>"


_LIST = b"list"


class ListProxy(MutableSequence[T]):
    """A list in shared memory.

    The whole list is one pickled value of a shared map. A change unpickles it, applies the
    change and swaps the new list in if nobody was faster, else starts again: every method
    is atomic and no death can break one, but each costs time proportional to the length.
    ``l[i] += 1`` is two calls; `update_with` is one.
    """

    def __init__(self, sequence: Iterable[T] = ()) -> None:
        self._map: BytesMap = BytesMap()
        self._map[_LIST] = _dumps(list(sequence))

    @property
    def name(self) -> str:
        """The name of the shared map that holds the list."""
        return self._map.name

    def detach(self) -> None:
        """Gives up this process's hold on the list."""
        self._map.detach()

    def _load(self) -> List[T]:
        found: List[T] = pickle.loads(self._map[_LIST])
        return found

    def _change(self, change: Callable[[List[T]], _R]) -> _R:
        """Runs ``change`` on the list and publishes it; again if someone was faster."""
        while True:
            old = self._map[_LIST]
            items: List[T] = pickle.loads(old)
            result = change(items)
            if self._map.compare_swap(_LIST, old, _dumps(items)):
                return result

    def update_with(self, index: int, function: Callable[[T], T]) -> T:
        """Replaces one element by ``function`` of it, atomically; the new element."""

        def change(items: List[T]) -> T:
            items[index] = function(items[index])
            return items[index]

        return self._change(change)

    def __len__(self) -> int:
        return len(self._load())

    def __iter__(self) -> Iterator[T]:
        return iter(self._load())

    def __reversed__(self) -> Iterator[T]:
        return reversed(self._load())

    def __contains__(self, value: object) -> bool:
        return value in self._load()

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> List[T]: ...

    def __getitem__(self, index: Union[int, slice]) -> Any:
        return self._load()[index]

    def __setitem__(self, index: Any, value: Any) -> None:
        self._change(lambda items: items.__setitem__(index, value))

    def __delitem__(self, index: Any) -> None:
        self._change(lambda items: items.__delitem__(index))

    def insert(self, index: int, value: T) -> None:
        """Inserts ``value`` before ``index``."""
        self._change(lambda items: items.insert(index, value))

    def append(self, value: T) -> None:
        """Appends ``value``."""
        self._change(lambda items: items.append(value))

    def extend(self, values: Iterable[T]) -> None:
        """Appends all of ``values``, together."""
        added = list(values)
        self._change(lambda items: items.extend(added))

    def pop(self, index: int = -1) -> T:
        """Removes and returns one element; of racing processes each gets another."""
        return self._change(lambda items: items.pop(index))

    def remove(self, value: T) -> None:
        """Removes the first ``value``."""
        self._change(lambda items: items.remove(value))

    def clear(self) -> None:
        """Removes everything."""
        self._change(lambda items: items.clear())

    def reverse(self) -> None:
        """Reverses the list in place."""
        self._change(lambda items: items.reverse())

    def sort(self, *, key: Optional[Callable[[T], Any]] = None, reverse: bool = False) -> None:
        """Sorts the list in place."""
        self._change(lambda items: items.sort(key=key, reverse=reverse))

    def index(self, value: T, start: int = 0, stop: Optional[int] = None) -> int:
        """Where the first ``value`` is."""
        items = self._load()
        return items.index(value, start, len(items) if stop is None else stop)

    def count(self, value: T) -> int:
        """How often ``value`` is there."""
        return self._load().count(value)

    def copy(self) -> List[T]:
        """A plain `list` of the elements."""
        return self._load()

    def __add__(self, other: List[T]) -> List[T]:
        return self._load() + list(other)

    def __iadd__(self, other: Iterable[T]) -> "ListProxy[T]":
        self.extend(other)
        return self

    def __mul__(self, times: int) -> List[T]:
        return self._load() * times

    __rmul__ = __mul__

    def __imul__(self, times: int) -> "ListProxy[T]":
        self._change(lambda items: items.__imul__(times))
        return self

    def __eq__(self, other: object) -> bool:
        if isinstance(other, ListProxy):
            return bool(self._load() == other._load())
        return bool(self._load() == other)

    def __str__(self) -> str:
        return str(self._load())

    def __repr__(self) -> str:
        return f"<ListProxy object, typeid 'list' at {id(self):#x}>"


class _Server(_std.SyncManager):
    """The standard library's manager, with types registered through `SyncManager` here."""


class SyncManager:
    """What `Manager()` returns. It holds what it made until `shutdown`, or its ``with``."""

    def __init__(self, *, ctx: Any = None) -> None:
        self._ctx = ctx
        self._made: List[Any] = []
        self._server: Optional[_Server] = None

    @classmethod
    def register(cls, typeid: str, *args: Any, **kwargs: Any) -> None:
        """Adds a type, which a server process will hold, as `BaseManager.register` does."""
        _Server.register(typeid, *args, **kwargs)

    def _keep(self, made: _R) -> _R:
        # As long as the manager, like a server would: a dictionary put into another one
        # has nobody else to hold it.
        self._made.append(made)
        return made

    def dict(self, *args: Any, **kwargs: Any) -> "DictProxy[Any, Any]":
        """A shared dictionary, filled as `dict` fills one."""
        made: DictProxy[Any, Any] = DictProxy()
        if args or kwargs:
            made.update(dict(*args, **kwargs))
        return self._keep(made)

    def list(self, sequence: Iterable[Any] = ()) -> "ListProxy[Any]":
        """A shared list."""
        return self._keep(ListProxy(sequence))

    def Queue(self, maxsize: int = 0) -> "Queue[Any]":
        """A shared queue."""
        return self._keep(Queue(maxsize))

    def JoinableQueue(self, maxsize: int = 0) -> "JoinableQueue[Any]":
        """A shared queue with `task_done` and `join`."""
        return self._keep(JoinableQueue(maxsize))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not hasattr(_Server, name):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        if self._server is None:
            self._server = _Server(ctx=self._std_context())
            self._server.start()
        return getattr(self._server, name)

    def _std_context(self) -> Any:
        import multiprocessing

        method = None if self._ctx is None else self._ctx.get_start_method()
        return multiprocessing.get_context(method)

    def start(self, *args: Any, **kwargs: Any) -> None:
        """Nothing to start: accepted so that programs written for a server run."""

    def shutdown(self) -> None:
        """Gives up everything made here; children that use it may go on."""
        made, self._made = self._made, []
        for one in made:
            one.close() if isinstance(one, Queue) else one.detach()
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()

    def __enter__(self) -> "SyncManager":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.shutdown()


def __getattr__(name: str) -> Any:
    return getattr(_std, name)
