"""The queues of `multiprocessing`, in shared memory.

Signatures, exceptions and ``close`` are the standard library's. Differences:

- When `put` returns, the object is pickled and in the queue. So `put` raises errors of pickling, and
  `empty` and `qsize` are exact at once.
- There is no feeder thread, so `join_thread` has nothing to wait for.
- A process that is killed while it waits in `get` does not disturb the others.
- A queue can be pickled at any time, not only while a child is started.
- A queue has a `fileno`, so `multiprocessing.connection.wait` can wait for it, or for its
  ``_reader``, which programs use.

Each class is derived from the standard library's, for `isinstance`, and uses nothing of it.
"""

from __future__ import annotations

import time
import weakref
from _multiprocessing import SemLock  # type: ignore[import-not-found]
from multiprocessing.process import parent_process
from queue import Empty, Full
from typing import Any, Callable, Dict, FrozenSet, Iterable, Optional, Type, TypeVar

from .. import _backpressure, _ffi, _handles, _pickling, _queue, _wait
from .._attribute import assignable, default
from .._batches import BytesLike
from .._errors import ShoalError, TimeoutError
from .._lock import Lock
from .._message import Reservation
from .._original import queues as _std
from .._structs import Message

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .._map import Map

__all__ = ["Empty", "Full", "JoinableQueue", "Queue", "SimpleQueue"]

T = TypeVar("T")


@assignable
class _Closable(_queue.Queue[T]):
    """A `shoal.Queue` that a process can close for itself only, as in `multiprocessing`."""

    _dumps = staticmethod(_pickling.dumps)
    _dumps_apart = staticmethod(_pickling.dumps_apart)
    # The exception for the use of a closed queue.
    _closed_error: Type[Exception] = ValueError
    # The sides that this process has closed.
    _closed_sides: FrozenSet[str] = frozenset()

    def __init__(self, maxsize: int = 0, *, ctx: Any = None) -> None:
        super().__init__(maxsize=maxsize)

    # Pickled by `__getstate__` and `__setstate__`, because derived classes of programs override this pair, as with
    # the original, and add to the state. So the state is a tuple.
    __reduce__ = object.__reduce__

    def __reduce_ex__(self, protocol: Any) -> Any:
        # Below 2, the compiled base class cannot be pickled.
        return object.__reduce_ex__(self, max(protocol, 2))

    def __getstate__(self) -> Any:
        _, (_, name) = _handles.Shared.__reduce__(self)
        return (name,)

    def __setstate__(self, state: Any) -> None:
        (name,) = state
        if not self._share(name):
            with _handles.opening(type(self), name):
                _queue.Queue.__init__(self, name, create=False)

    def _live(self) -> Any:
        if self._handle is None:
            raise self._closed_error(f"Queue {self!r} is closed")
        return super()._live()

    @property
    def _closed(self) -> bool:
        return self._handle is None

    def close(self) -> None:
        """Ends the use of the queue by this process. Other processes may continue."""
        self.detach()

    closed = _closed

    def empty(self) -> bool:
        """Whether the queue is empty. Exact. `OSError` if this process closed it."""
        if self._closed:
            raise OSError(f"Queue {self!r} is closed")
        return super().empty()

    @default
    def _maxsize(self) -> int:
        """The bound in messages. Without one, the largest value of a semaphore, as in the original."""
        return _queue.Queue.stats(self).max_items or SemLock.SEM_VALUE_MAX

    def _poll(self, timeout: float = 0.0) -> bool:
        return self._reader.poll(timeout)

    # -- private attributes of the original that programs use: two connections, each with a lock --

    @property
    def _reader(self) -> "_Side":
        return self._side(_READER)

    @property
    def _writer(self) -> "_Side":
        return self._side(_WRITER)

    def _side(self, which: str) -> "_Side":
        # The same object every time, because programs search for it in the list that `connection.wait`
        # returns. A weak reference, because a side refers to its queue.
        sides: Dict[str, "weakref.ref[_Side]"] = self.__dict__.setdefault("_sides", {})
        known = sides.get(which)
        side = None if known is None else known()
        if side is None:
            side = _Side(self, which)
            sides[which] = weakref.ref(side)
        return side

    def _close_side(self, which: str) -> None:
        """Closes one side for this process, which from then on only reads or only writes."""
        self._closed_sides = self._closed_sides | {which}
        if len(self._closed_sides) == 2:
            self.detach()
            return
        for name in _CALLS[which]:
            setattr(self, name, _raise_closed)

    @property
    def _rlock(self) -> Lock:
        return self._side_lock(_READER)

    @property
    def _wlock(self) -> Lock:
        return self._side_lock(_WRITER)

    def _side_lock(self, which: str) -> Lock:
        """A lock for programs that use one side in several steps; `get` and `put` need none.

        It is created on first use. Its name is derived from the queue's.
        """
        locks: Dict[str, Lock] = self.__dict__.setdefault("_locks", {})
        if which not in locks:
            locks[which] = Lock(f"{self._name}{which}")
        return locks[which]

    def _take_slowly(self, buffer: _ffi.Buffer, until: Optional[int]) -> _ffi.Buffer:
        parent = parent_process()
        if _WRITER not in self._closed_sides or parent is None:
            return super()._take_slowly(buffer, until)
        # This process only reads. In the original, `get` raises EOFError once no process can write to
        # the pipe. Here it does once the queue is empty and the parent of this process has ended.
        while True:
            step = time.monotonic_ns() + _CHECK_NS
            try:
                last = step if until is None else min(step, until)
                return super()._take_slowly(buffer, last)
            except Empty:
                if until is not None and time.monotonic_ns() >= until:
                    raise
                if not parent.is_alive() and self.empty():
                    raise EOFError from None

    def __repr__(self) -> str:
        state = "closed" if self._closed else repr(self._name)
        return f"<{type(self).__module__}.{type(self).__qualname__} {state}>"


_READER, _WRITER = ".reader", ".writer"
# The methods that raise once a side is closed.
_CALLS = {
    _READER: ["get", "get_nowait", "get_bytes", "get_many", "get_many_bytes", "lease"],
    _WRITER: ["put", "put_nowait", "put_bytes", "put_many", "put_many_bytes", "reserve"],
}
# How often a process that only reads checks whether its parent lives.
_CHECK_NS = 1_000_000_000


def _raise_closed(*_: object, **__: object) -> Any:
    raise OSError("handle is closed")


class _Side:
    """One side of a queue, in place of one of the two connections of an original queue.

    Closing a side affects this process only and leaves the other side open. Closing both closes the
    queue.
    """

    def __init__(self, queue: _Closable[Any], which: str) -> None:
        self._queue = queue
        self._which = which

    @property
    def closed(self) -> bool:
        return self._queue._closed or self._which in self._queue._closed_sides

    @property
    def readable(self) -> bool:
        return self._which == _READER

    @property
    def writable(self) -> bool:
        return self._which == _WRITER

    def close(self) -> None:
        if not self.closed:
            self._queue._close_side(self._which)

    def __enter__(self) -> "_Side":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _open(self, way: str) -> _Closable[Any]:
        if self.closed:
            raise OSError("handle is closed")
        if self._which != way:
            only = "write" if self._which == _WRITER else "read"
            raise OSError(f"connection is {only}-only")
        return self._queue

    def fileno(self) -> int:
        if self.closed:
            raise OSError("handle is closed")
        return self._queue.fileno()

    def poll(self, timeout: Optional[float] = 0.0) -> bool:
        from .._select import wait

        queue = self._open(_READER)
        return not queue.empty() or bool(wait([queue], timeout))

    def recv(self) -> Any:
        return self._open(_READER).get()

    def recv_bytes(self, maxlength: Optional[int] = None) -> bytes:
        if maxlength is not None and maxlength < 0:
            raise ValueError("negative maxlength")
        data = self._open(_READER).get_bytes()
        if maxlength is not None and len(data) > maxlength:
            raise OSError("bad message length")
        return data

    def send(self, obj: object) -> None:
        self._open(_WRITER).put(obj)

    def send_bytes(self, buf: Any, offset: int = 0, size: Optional[int] = None) -> None:
        view = memoryview(buf).cast("B")
        end = len(view) if size is None else offset + size
        if offset < 0 or end < offset or end > len(view):
            raise ValueError("the buffer has no such part")
        self._open(_WRITER).put_bytes(view[offset:end])

    def __reduce__(self) -> Any:
        return _side_of, (self._open(self._which), self._which)


def _side_of(queue: _Closable[Any], which: str) -> _Side:
    return queue._side(which)


class Queue(_Closable[T], _std.Queue):  # type: ignore[misc]
    """`multiprocessing.Queue` in shared memory, with all methods of `shoal.Queue`: `put_many`,
    `get_many`, `lease` and so on.

    ::

        queue = shoal.multiprocessing.Queue()
        queue.put({"resize": "17.png"})
        queue.get(timeout=1.0)
    """

    # Whether nothing had ever been put when this process closed it.
    _closed_unused = False

    def detach(self) -> None:
        """As `close`."""
        try:
            self._closed_unused = self._closed_unused or _queue.Queue.stats(self).put == 0
        except (ShoalError, ValueError):
            # It is closed already, or its memory is corrupted.
            pass
        super().detach()

    def empty(self) -> bool:
        """Whether the queue is empty. Exact. After `close`, true if nothing had ever been put, and
        otherwise `OSError`, as in the original."""
        return self._closed_unused or super().empty()

    def join_thread(self) -> None:
        """Does nothing: every put object is in the queue. `AssertionError` before `close`, as in the
        original."""
        assert self._closed, f"Queue {self!r} not closed"

    def cancel_join_thread(self) -> None:
        """Does nothing: the end of a process never waits for a queue."""


class SimpleQueue(_Closable[T], _std.SimpleQueue):  # type: ignore[misc]
    """`multiprocessing.SimpleQueue` in shared memory."""

    # The error of the original, which is a pipe.
    _closed_error = OSError

    def __init__(self, *, ctx: Any = None) -> None:
        super().__init__(ctx=ctx)

    def _put_slowly(self, data: bytes, block: bool, timeout: Optional[float]) -> None:
        put = super()._put_slowly
        if not block or timeout is not None:
            put(data, block, timeout)
        else:
            _backpressure.send(lambda: put(data, block, timeout), super().empty)

    def reserve(
        self, size: int, block: bool = True, timeout: Optional[float] = None
    ) -> Reservation:
        """As `shoal.Queue.reserve`."""
        reserve = super().reserve
        if not block or timeout is not None:
            return reserve(size, block, timeout)
        return _backpressure.send(lambda: reserve(size, block, timeout), super().empty)


_UNFINISHED = "unfinished"
# The key of a counter that changes whenever the count reaches zero. `join` waits for a change.
_ALL_DONE = "all done"
# The longest slice of a wait, in seconds. A wake-up is lost if a process is killed before it sends it.
_SLICE = 0.1


class _CountedReservation(Reservation):
    """A reservation in a `JoinableQueue`."""

    def __init__(self, queue: "JoinableQueue[Any]", plain: Reservation) -> None:
        super().__init__(plain._handle, Message.from_buffer_copy(plain._message))
        self._queue = queue
        # It belongs to this object from now on.
        plain._message.data = None

    def commit(self, used: Optional[int] = None) -> None:
        """As `Reservation.commit`."""
        commit = super().commit
        self._queue._counted(1, lambda: commit(used) or 1)

    _finish = commit


class JoinableQueue(Queue[T], _std.JoinableQueue):  # type: ignore[misc]
    """`multiprocessing.JoinableQueue`: counts the objects that were put and not reported as done.

    The count is an atomic number in a shared map, so a killed process leaves nothing locked. An object
    whose worker died before `task_done` stays unfinished, as in the standard library. `join` is woken
    when the count reaches zero.
    """

    def __init__(self, maxsize: int = 0, *, ctx: Any = None) -> None:
        from .._map import Map

        super().__init__(maxsize, ctx=ctx)
        self._count: Map[str, int] = Map()

    def __getstate__(self) -> Any:
        return (*super().__getstate__(), self._count)

    def __setstate__(self, state: Any) -> None:
        *inner, self._count = state
        super().__setstate__(inner)

    def put(self, obj: T, block: bool = True, timeout: Optional[float] = None) -> None:
        """Appends an object and counts it as unfinished."""
        # `_counted`, inlined for speed. Counted first, because a worker may take the object and report it before
        # this call returns.
        self._count.add(_UNFINISHED, 1)
        try:
            super().put(obj, block, timeout)
        except BaseException:
            self._finish(1)
            raise

    def put_bytes(
        self, data: BytesLike, block: bool = True, timeout: Optional[float] = None
    ) -> None:
        """Appends these bytes and counts them as one unfinished object."""
        put = super().put_bytes
        self._counted(1, lambda: put(data, block, timeout) or 1)

    def put_many(
        self, objs: Iterable[T], block: bool = True, timeout: Optional[float] = None
    ) -> int:
        """Appends objects and counts them as unfinished. Returns how many were put."""
        batch = list(objs)
        put = super().put_many
        return self._counted(len(batch), lambda: put(batch, block, timeout))

    def put_many_bytes(
        self, items: Iterable[BytesLike], block: bool = True, timeout: Optional[float] = None
    ) -> int:
        """`put_many` for messages of plain bytes."""
        batch = list(items)
        put = super().put_many_bytes
        return self._counted(len(batch), lambda: put(batch, block, timeout))

    def _counted(self, number: int, put: Callable[[], int]) -> int:
        """Counts objects, and calls ``put``, which appends them and returns how many it has appended."""
        self._count.add(_UNFINISHED, number)
        done = 0
        try:
            done = put()
        finally:
            if done < number:
                self._finish(number - done)
        return done

    def reserve(
        self, size: int, block: bool = True, timeout: Optional[float] = None
    ) -> Reservation:
        """As `shoal.Queue.reserve`. The commit counts the message as an unfinished object."""
        return _CountedReservation(self, super().reserve(size, block, timeout))

    def _room(self, size: int, *waiting: Any) -> Reservation:
        # For an object that `put` has counted.
        return super().reserve(size, *waiting)

    def _finish(self, number: int) -> int:
        """Subtracts objects that are finished or were never put. Returns how many are left."""
        left = self._count.add(_UNFINISHED, -number)
        if left == 0:
            # Only at zero, because waking `join` takes longer than a small task. If this process is
            # killed before this line, `join` returns one slice later.
            self._count.add(_ALL_DONE, 1)
        return left

    def task_done(self) -> None:
        """Reports one object that was taken by `get` as finished. `ValueError` if none is left."""
        if self._finish(1) < 0:
            self._count.add(_UNFINISHED, 1)
            raise ValueError("task_done() called too many times")

    def join(self, timeout: Optional[float] = None) -> None:
        """Waits until every object that was put has been reported as finished.

        Raises `TimeoutError` if that takes longer than ``timeout`` seconds.
        """
        until = None if timeout is None else time.monotonic() + _wait.seconds(timeout)
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
