"""The queues of `multiprocessing`, in shared memory.

Signatures, exceptions and ``close`` are the standard library's. What differs: an object is
pickled and in the queue when `put` returns, so errors of pickling are raised there and
`empty` and `qsize` are exact at once; there is no feeder thread, so `join_thread` has
nothing to wait for; a process killed while it waits in `get` disturbs nobody; a queue can
be pickled anywhere, not only to a child being started. A queue has a `fileno`, so
`multiprocessing.connection.wait` can wait for it, or for its ``_reader`` as programs have
always done. Each class is derived from the standard library's, for `isinstance`; nothing of that is
used.
"""

from __future__ import annotations

import time
from typing import Any, Dict, Iterable, Optional, Type, TypeVar

from .. import _handles, _pickling, _queue
from .._errors import Empty, Full, TimeoutError
from .._map import Map
from .._original import queues as _std
from . import connection

__all__ = ["Empty", "Full", "JoinableQueue", "Queue", "SimpleQueue"]

T = TypeVar("T")


class _Closable(_queue.Queue[T]):
    """A `shoal.Queue` that this process can close for itself, as `multiprocessing` means it."""

    _dumps = staticmethod(_pickling.dumps)
    _dumps_apart = staticmethod(_pickling.dumps_apart)
    # What it is to use one that is closed.
    _closed_error: Type[Exception] = ValueError

    def __init__(self, maxsize: int = 0, *, ctx: Any = None) -> None:
        super().__init__(maxsize=maxsize)

    # Pickled by its state: programs extend this pair, as the original's.
    __reduce__ = object.__reduce__

    def __getstate__(self) -> Any:
        _, (_, name) = _handles.Shared.__reduce__(self)
        return name

    def __setstate__(self, state: Any) -> None:
        if not self._share(state):
            _queue.Queue.__init__(self, state, create=False)

    def _live(self) -> Any:
        if self._handle is None:
            raise self._closed_error(f"Queue {self!r} is closed")
        return super()._live()

    @property
    def _closed(self) -> bool:
        return self._handle is None

    def close(self) -> None:
        """This process will use the queue no more; others may go on."""
        self.detach()

    closed = _closed

    def empty(self) -> bool:
        """Whether nothing is in the queue: exact. `OSError` if this process closed it."""
        if self._closed:
            raise OSError(f"Queue {self!r} is closed")
        return super().empty()

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
        state = "closed" if self._closed else repr(self._name)
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
        return self._queue.get()

    def send(self, obj: object) -> None:
        self._queue.put(obj)


class Queue(_Closable[T], _std.Queue):  # type: ignore[misc]
    """`multiprocessing.Queue`, in shared memory, and a `shoal.Queue`: with `put_many`, `get_many`,
    leases and all."""

    def join_thread(self) -> None:
        """Nothing: what was put is in the queue. Only after `close`, as ever."""
        assert self._closed, f"Queue {self!r} not closed"

    def cancel_join_thread(self) -> None:
        """Nothing: the end of a process never waits for a queue."""


class SimpleQueue(_Closable[T], _std.SimpleQueue):  # type: ignore[misc]
    """`multiprocessing.SimpleQueue`, in shared memory."""

    # The original is a pipe.
    _closed_error = OSError

    def __init__(self, *, ctx: Any = None) -> None:
        super().__init__(ctx=ctx)


_UNFINISHED = "unfinished"
# How often the count has reached zero, which those who join wait for.
_ALL_DONE = "all done"
# The longest wait, in seconds: a wake-up can die with whoever owed it.
_SLICE = 0.1


class JoinableQueue(Queue[T], _std.JoinableQueue):  # type: ignore[misc]
    """`multiprocessing.JoinableQueue`: counts what was put and not yet reported done.

    The count is an atomic number in a shared map, so no death leaves it locked; a task
    whose worker died before `task_done` stays unfinished, as it does in the standard
    library. `join` is woken when the count reaches zero.
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
            self._finish(1)
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
                self._finish(len(batch) - done)
        return done

    def _finish(self, number: int) -> int:
        """So many are finished, or were never put; how many are not."""
        left = self._count.add(_UNFINISHED, -number)
        if left == 0:
            # Not each time: to wake those who join takes longer than a small task. Killed before
            # this, it costs them a slice.
            self._count.add(_ALL_DONE, 1)
        return left

    def task_done(self) -> None:
        """Reports one object taken by `get` as finished."""
        if self._finish(1) < 0:
            self._count.add(_UNFINISHED, 1)
            raise ValueError("task_done() called too many times")

    def join(self, timeout: Optional[float] = None) -> None:
        """Waits until everything put has been reported finished.

        Raises `TimeoutError` if that takes longer than ``timeout`` seconds.
        """
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            seen = self._count.version_of(_ALL_DONE)
            if self._count.get(_UNFINISHED, 0) <= 0:
                return
            left = _SLICE if until is None else min(_SLICE, until - time.monotonic())
            if left <= 0:
                raise TimeoutError(f"queue {self._name!r} has tasks that are not done")
            try:
                self._count.wait_key(_ALL_DONE, seen, left)
            except TimeoutError:
                pass
