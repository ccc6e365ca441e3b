"""`Manager()`: dictionaries and lists in shared memory, without a server process.

`dict` and `list` are Shoal's: no process serves them, so there is nobody to ask, to wait
for or to lose. `Queue` and `JoinableQueue` are those of this package. Every other type a
manager makes (`Namespace`, `Lock`, `Event`, `Value`, `Pool`, types registered by a program
...) comes from the standard library's `SyncManager`, which is started when the first of
them is asked for; other names of `multiprocessing.managers` are that module's own.
"""

from __future__ import annotations

import multiprocessing.managers as _std
from typing import Any, Dict, Iterable, List as PyList, Optional, Tuple, TypeVar

from .._list import List
from .._map import Map
from .queues import JoinableQueue, Queue

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

    def __repr__(self) -> str:
        return f"<DictProxy object, typeid 'dict' at {id(self):#x}>"


class ListProxy(List[T]):
    """A list in shared memory: `shoal.List`, with the manners of a manager's list.

    ``str()`` shows the elements. ``l[i] += 1`` is two calls; `update_with` is one.
    """

    def __str__(self) -> str:
        return str(self.copy())

    def __repr__(self) -> str:
        return f"<ListProxy object, typeid 'list' at {id(self):#x}>"


class _Server(_std.SyncManager):
    """The standard library's manager, with types registered through `SyncManager` here."""


class SyncManager:
    """What `Manager()` returns. It holds what it made until `shutdown`, or its ``with``."""

    def __init__(self, *, ctx: Any = None) -> None:
        self._ctx = ctx
        self._made: PyList[Any] = []
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
        """A shared list of what is in ``sequence``."""
        made: ListProxy[Any] = ListProxy()
        made.extend(sequence)
        return self._keep(made)

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
