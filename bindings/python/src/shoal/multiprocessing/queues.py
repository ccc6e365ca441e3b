"""The queues of `multiprocessing`, in shared memory.

Signatures, exceptions and ``close`` are the standard library's. What differs: an object is
pickled and in the queue when `put` returns, so errors of pickling are raised there and
`empty` and `qsize` are exact at once; there is no feeder thread, so `join_thread` has
nothing to wait for; a process killed while it waits in `get` disturbs nobody; a queue can
be pickled anywhere, not only to a child being started. A queue has a `fileno`, so
`multiprocessing.connection.wait` can wait for it, or for its ``_reader`` as programs have
always done.
"""

from __future__ import annotations

import io
import time
from multiprocessing import connection
from multiprocessing.reduction import ForkingPickler
from typing import Any, Dict, Generic, Iterable, List, Optional, Tuple, Type, TypeVar

from .. import _queue
from .._errors import Empty, Full
from .._frame import LARGE
from .._map import Map

__all__ = ["Empty", "Full", "JoinableQueue", "Queue", "SimpleQueue"]

T = TypeVar("T")

# Picklers not in use, each with the buffer it writes to. Making a ForkingPickler copies its
# table of reducers; using one again does not. A list, so that a reducer or a signal handler
# that itself puts something takes another.
_spare: List[Tuple[io.BytesIO, ForkingPickler]] = []
_KEEP = 1024 * 1024


def _dumps(obj: object) -> bytes:
    """Pickles as `multiprocessing` does: its extra reducers, a library's too, apply."""
    try:
        out, pickler = _spare.pop()
    except IndexError:
        out = io.BytesIO()
        pickler = ForkingPickler(out, -1)
    # A pickler that failed half-way is dropped, not returned.
    pickler.dump(obj)
    data = out.getvalue()
    if len(data) <= _KEEP:
        pickler.clear_memo()
        out.seek(0)
        out.truncate()
        _spare.append((out, pickler))
    return data


def _dumps_apart(obj: object, aside: Any) -> bytes:
    """The same, without what ``aside`` takes."""
    out = io.BytesIO()
    # Type checkers of older versions do not know that it takes what `pickle.Pickler` does.
    make: Any = ForkingPickler
    make(out, -1, True, aside).dump(obj)
    return out.getvalue()


class _Closable(Generic[T]):
    """A queue that this process can close for itself, as `multiprocessing` means it."""

    def __init__(self, maxsize: int = 0, *, ctx: Any = None) -> None:
        self._maxsize = max(0, maxsize)
        self._queue: Optional[_queue.Queue[T]] = _queue.Queue(maxsize=self._maxsize)

    def _open(self, error: Type[Exception] = ValueError) -> _queue.Queue[T]:
        queue = self._queue
        if queue is None:
            raise error(f"Queue {self!r} is closed")
        return queue

    def __getstate__(self) -> Any:
        return self._open(), self._maxsize

    def __setstate__(self, state: Any) -> None:
        self._queue, self._maxsize = state

    @property
    def _closed(self) -> bool:
        return self._queue is None

    def close(self) -> None:
        """This process will use the queue no more; others may go on."""
        self._queue = None

    def empty(self) -> bool:
        """Whether nothing is in the queue: exact. `OSError` if this process closed it."""
        return self._open(OSError).empty()

    def fileno(self) -> int:
        """A descriptor that is readable while there is something to take (see `shoal.Queue`)."""
        return self._open().fileno()

    @property
    def _reader(self) -> "_Side":
        return self._side("r")

    @property
    def _writer(self) -> "_Side":
        return self._side("w")

    def _side(self, which: str) -> "_Side":
        # The same one every time: programs look for it among what `connection.wait` returns.
        sides: Dict[str, _Side] = self.__dict__.setdefault("_sides", {})
        return sides.setdefault(which, _Side(self))

    def __repr__(self) -> str:
        state = "closed" if self._queue is None else repr(self._queue.name)
        return f"<{type(self).__module__}.{type(self).__qualname__} {state}>"


class _Side:
    """What programs use as one of the two connections of an original queue."""

    def __init__(self, queue: _Closable[Any]) -> None:
        self._queue = queue

    @property
    def closed(self) -> bool:
        return self._queue._closed

    def close(self) -> None:
        self._queue.close()

    def fileno(self) -> int:
        return self._queue.fileno()

    def poll(self, timeout: Optional[float] = 0.0) -> bool:
        here: Any = self
        return bool(connection.wait([here], timeout))

    def recv(self) -> Any:
        return self._queue._open().get()

    def send(self, obj: object) -> None:
        self._queue._open().put_bytes(_dumps(obj))


class Queue(_Closable[T]):
    """`multiprocessing.Queue`, in shared memory; ``put_many`` and ``get_many`` besides."""

    def put(self, obj: T, block: bool = True, timeout: Optional[float] = None) -> None:
        """Appends an object; `queue.Full` if there is no room (in time)."""
        queue = self._open()
        if not queue._large:
            data = _dumps(obj)
            if len(data) < LARGE:
                queue.put_bytes(data, block, timeout)
                return
        queue.put_large(obj, _dumps_apart, block, timeout)

    def put_nowait(self, obj: T) -> None:
        """`put` without waiting."""
        self.put(obj, False)

    def get(
        self, block: bool = True, timeout: Optional[float] = None, copy: bool = True
    ) -> T:
        """Takes the oldest object; `queue.Empty` if there is none (in time).

        With ``copy=False`` large arrays stay in shared memory (see `shoal.Queue.get`).
        """
        return self._open().get(block, timeout, copy)

    def get_nowait(self) -> T:
        """`get` without waiting."""
        return self._open().get(False)

    def put_many(
        self, objs: Iterable[T], block: bool = True, timeout: Optional[float] = None
    ) -> int:
        """Appends objects in order, many under one lock; how many (see `shoal.Queue`)."""
        return self._open().put_many_bytes([_dumps(obj) for obj in objs], block, timeout)

    def get_many(
        self, max_items: int = 256, block: bool = True, timeout: Optional[float] = None
    ) -> List[T]:
        """Waits for one object, then takes what is there, up to ``max_items``."""
        return self._open().get_many(max_items, block, timeout)

    def qsize(self) -> int:
        """How many objects are in the queue: exact."""
        return self._open().qsize()

    def full(self) -> bool:
        """Whether ``maxsize`` objects are in the queue."""
        return self._open().full()

    def join_thread(self) -> None:
        """Nothing: what was put is in the queue. Only after `close`, as ever."""
        assert self._closed, f"Queue {self!r} not closed"

    def cancel_join_thread(self) -> None:
        """Nothing: the end of a process never waits for a queue."""


class SimpleQueue(_Closable[T]):
    """`multiprocessing.SimpleQueue`, in shared memory."""

    def _open(self, error: Type[Exception] = OSError) -> _queue.Queue[T]:
        # The original is a pipe.
        return super()._open(error)

    def __init__(self, *, ctx: Any = None) -> None:
        super().__init__(ctx=ctx)

    def put(self, obj: T) -> None:
        """Appends an object."""
        self._open().put_bytes(_dumps(obj))

    def get(self) -> T:
        """Takes the oldest object, waiting for one."""
        return self._open().get()


_UNFINISHED = "unfinished"
_FIRST_PAUSE = 0.0002
_LONGEST_PAUSE = 0.02


class JoinableQueue(Queue[T]):
    """`multiprocessing.JoinableQueue`: counts what was put and not yet reported done.

    The count is an atomic number in a shared map, so no death leaves it locked; a task
    whose worker died before `task_done` stays unfinished, as it does in the standard
    library. `join` looks at the count every 0.2 to 20 ms.
    """

    def __init__(self, maxsize: int = 0, *, ctx: Any = None) -> None:
        super().__init__(maxsize, ctx=ctx)
        self._count: Map[str, int] = Map()

    def __getstate__(self) -> Any:
        return super().__getstate__(), self._count

    def __setstate__(self, state: Any) -> None:
        inner, self._count = state
        super().__setstate__(inner)

    def put(self, obj: T, block: bool = True, timeout: Optional[float] = None) -> None:
        """Appends an object, one more that is unfinished."""
        # Counted first: a worker may take it and report it before this call is back.
        self._count.add(_UNFINISHED, 1)
        try:
            super().put(obj, block, timeout)
        except BaseException:
            self._count.add(_UNFINISHED, -1)
            raise

    def put_many(
        self, objs: Iterable[T], block: bool = True, timeout: Optional[float] = None
    ) -> int:
        """Appends objects, all of them unfinished."""
        batch = list(objs)
        self._count.add(_UNFINISHED, len(batch))
        done = 0
        try:
            done = super().put_many(batch, block, timeout)
        finally:
            if done < len(batch):
                self._count.add(_UNFINISHED, done - len(batch))
        return done

    def task_done(self) -> None:
        """Reports one object taken by `get` as finished."""
        if self._count.add(_UNFINISHED, -1) < 0:
            self._count.add(_UNFINISHED, 1)
            raise ValueError("task_done() called too many times")

    def join(self) -> None:
        """Waits until everything put has been reported finished."""
        pause = _FIRST_PAUSE
        while self._count.get(_UNFINISHED, 0) > 0:
            time.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
