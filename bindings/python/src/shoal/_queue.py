"""`shoal.Queue`: a queue of Python objects or plain bytes between processes."""

from __future__ import annotations

import ctypes
import pickle
from typing import Callable, Optional, TypeVar, cast

from . import _abi, _ffi, _frame, _hot, _wait
from ._attribute import attribute
from ._batches import Batches, BytesLike
from ._errors import ClosedError, Empty, Full, NotFoundError
from ._frame import unpickle
from ._handles import Shared, attach, unlink
from ._message import Lease, Reservation, viewed
from ._structs import Message, QueueOptions, QueueStats

T = TypeVar("T")
_R = TypeVar("_R")

_put = _ffi.untyped("shoal_queue_put")
_get = _ffi.untyped("shoal_queue_get")
_lease = _ffi.untyped("shoal_queue_lease")
_INT_MAX = _ffi.INT_MAX
_take_buffer, _give_buffer, _spare = _ffi.take_buffer, _ffi.give_buffer, _ffi.spare
_loads = pickle.loads
_SLICE = _wait.SLICE_NS
_LARGE = _frame.LARGE
_PROTOCOL = _frame.PROTOCOL


class QueueHandle(_ffi.Handle):
    """A ``shoal_queue *``."""

    release = _ffi.lib.shoal_queue_free
    waitable = "queue"


@_hot.compiled
class Queue(Shared, _frame.Sender, Batches[T]):
    """A first-in first-out queue between processes of this machine.

    ::

        queue: shoal.Queue[str] = shoal.Queue("mail")   # the same in every process
        queue.put("hello")
        queue.get()

    ``Queue(name)`` opens the queue or creates it; ``Queue()`` creates one with a generated name. A
    queue can be pickled, so it can be an argument of a process or of a pool's task, or a message of
    another queue. A process that unpickles it opens it by name, so another process has to hold it
    until then. A forked child may use the queue.

    `put` and `get` pickle; `put_bytes` and `get_bytes` do not, for programs in other languages.
    Pickling happens outside the queue's locks. Any thread may call any method. A process that is
    killed inside a call never blocks others; at most the message that it was putting or taking is
    lost.

    Waiting calls take ``block`` and ``timeout`` (in seconds) as `queue.Queue` does, raise `Empty` and
    `Full`, which are the classes of the module `queue` as well, and end at once on Ctrl-C.

    Args:
        name: letters, digits, ``.``, ``_`` and ``-``; ``None`` generates a name.
        create: create the queue if it does not exist; if false, that raises `NotFoundError`.
        exclusive: raise `ExistsError` if the queue exists.
        persistent: the queue stays until `unlink`, not only while a process is attached.
        capacity: bytes of messages that it holds at first; 0 is the library's default.
        max_capacity: bytes to which it may grow; 0 is the library's default.
        maxsize: the most messages that were put and not taken; 0 means as many as fit. Leased messages
            are not counted, nor those that were given back: with them it may hold more. This and the
            capacities apply when the queue is created; they are ignored when it exists.
        max_attempts: how often `lease` delivers a message before it is moved to `dead_letters`, at
            most 255; 0 is any number of times.
    """

    __module__ = "shoal"

    # The bound, once it was asked for. It never changes.
    _max_items: Optional[int] = None

    def __init__(
        self,
        name: Optional[str] = None,
        *,
        create: bool = True,
        exclusive: bool = False,
        persistent: bool = False,
        capacity: int = 0,
        max_capacity: int = 0,
        maxsize: int = 0,
        max_attempts: int = 0,
    ) -> None:
        self._open_with(
            _ffi.lib.shoal_queue_open,
            QueueHandle(),
            None if name is None else _ffi.encode(name),
            _ffi.options(
                QueueOptions,
                _ffi.flags(create, exclusive, persistent),
                capacity=capacity,
                max_capacity=max_capacity,
                max_items=max(0, _ffi.whole(maxsize, "maxsize")),
                max_attempts=max_attempts,
            ),
        )

    _unpickle = staticmethod(unpickle)

    # -- one message ------------------------------------------------------------------

    def put(self, obj: T, block: bool = True, timeout: Optional[float] = None) -> None:
        """Appends an object. When the call returns, every process can take it.

        Large `bytes`, arrays, and other objects with out-of-band buffers (PEP 574) are written directly
        into shared memory, and not into a pickle first.

        Raises `Full` if there is no room in time, `TooLargeError` if the object can never fit,
        `ClosedError` after `close`, and the exceptions of pickling.
        """
        if timeout is not None:
            timeout = _wait.seconds(timeout)
        data = None
        if not self._large:
            data = self._dumps(obj, _PROTOCOL)
            size = len(data)
            if size < _LARGE:
                timeout_ns = _SLICE if block and timeout is None else 0
                if _put(self._fast, data, size, timeout_ns):
                    self._put_slowly(data, block, timeout)
                return
        self._send_large(obj, data, block, timeout)

    def put_nowait(self, obj: T) -> None:
        """`put` without waiting."""
        self.put(obj, False)

    def put_bytes(
        self, data: BytesLike, block: bool = True, timeout: Optional[float] = None
    ) -> None:
        """Appends these bytes as one message. Waits and raises as `put` does."""
        if timeout is not None:
            timeout = _wait.seconds(timeout)
        if type(data) is not bytes:
            data = bytes(memoryview(data))
        size = len(data)
        # One call inlined: nearly every put succeeds without waiting. The slow path below reports a
        # wrong handle or size.
        timeout_ns = _SLICE if block and timeout is None else 0
        if size > _INT_MAX or _put(self._fast, data, size, timeout_ns):
            self._put_slowly(data, block, timeout)

    _send_whole = put_bytes

    def _put_slowly(self, data: bytes, block: bool, timeout: Optional[float]) -> None:
        until = _wait.deadline(block, timeout)

        def call(timeout_ns: int) -> int:
            lib = _ffi.lib
            status: int = lib.shoal_queue_put(self._live(), data, len(data), timeout_ns)
            return status

        status = _wait.wait(call, until)
        if status:
            raise self._put_error(status)

    def _put_error(self, status: int) -> Exception:
        if status == _abi.ERR_TIMEOUT:
            return Full(f"queue {self._name!r} has no room: it is full, or shared memory is")
        if status == _abi.ERR_CLOSED:
            return ClosedError(f"queue {self._name!r} is closed")
        return _ffi.error(status)

    def _take_error(self, status: int) -> Exception:
        if status == _abi.ERR_TIMEOUT:
            return Empty(f"queue {self._name!r} is empty")
        if status == _abi.ERR_CLOSED:
            return ClosedError(f"queue {self._name!r} is closed and empty")
        return _ffi.error(status)

    def reserve(
        self, size: int, block: bool = True, timeout: Optional[float] = None
    ) -> Reservation:
        """Allocates a message of ``size`` bytes, which the caller writes in place.

        The message consists of raw bytes, for `get_bytes`. It is copied once less than by `put_bytes`.
        Waits and raises as `put` does. A reservation counts as a message for ``maxsize``.
        """
        size = _ffi.number(size, "size")
        message = Message()
        reservation = Reservation(self._live(), message)

        def call(timeout_ns: int) -> int:
            out = ctypes.byref(message)
            status: int = _ffi.lib.shoal_queue_reserve(self._live(), size, timeout_ns, out)
            return status

        try:
            status = _wait.wait(call, _wait.deadline(block, timeout))
            if status:
                raise self._put_error(status)
            reservation._begin()
        except BaseException:
            reservation._give_back()
            raise
        return reservation

    # -- leases ---------------------------------------------------------------------------

    def lease(
        self,
        block: bool = True,
        timeout: Optional[float] = None,
        *,
        visible: Optional[float] = None,
    ) -> Lease:
        """Leases the oldest message: it is removed by the ack, once the work on it is done::

            with jobs.lease() as job:       # acked at the end; returned by an exception
                resize(job.get())

        Another consumer gets the message if this process dies, or neither acks nor extends the lease
        within ``visible`` seconds. Waits and raises as `get` does, and raises `ExhaustedError` or
        `NoSpaceError` if there is no room for more leases.
        """
        if timeout is not None:
            timeout = _wait.seconds(timeout)
        handle = self._handle
        if handle is not None and visible is None:
            # One call inlined, as in `put_bytes`.
            message = Message()
            lease = Lease(handle, message)
            timeout_ns = _SLICE if block and timeout is None else 0
            try:
                status = _lease(handle, _abi.FOREVER, timeout_ns, ctypes.byref(message))
                lease._begin()
            except BaseException:
                lease._give_back()
                raise
            if not status:
                return lease
        return self._lease_slowly(block, timeout, visible)

    _lease_class = Lease

    def _lease_slowly(
        self, block: bool, timeout: Optional[float], visible: Optional[float]
    ) -> Lease:
        visible_ns = _abi.FOREVER
        if visible is not None:
            visible_ns = _wait.nanoseconds(visible, "visible", " or None")
        message = Message()
        out = ctypes.byref(message)
        lease = Lease(self._live(), message)

        def call(timeout_ns: int) -> int:
            status: int = _ffi.lib.shoal_queue_lease(self._live(), visible_ns, timeout_ns, out)
            return status

        try:
            status = _wait.wait(call, _wait.deadline(block, timeout))
            if status:
                raise self._take_error(status)
            lease._begin()
        except BaseException:
            lease._give_back()
            raise
        return lease

    def join(self, timeout: Optional[float] = None) -> None:
        """Waits until every message has been taken by `get`, acked, or moved to the dead letters.

        Raises `TimeoutError` if that takes longer than ``timeout`` seconds.
        """

        def call(timeout_ns: int) -> int:
            status: int = _ffi.lib.shoal_queue_join(self._live(), timeout_ns)
            return status

        _ffi.check(_wait.wait(call, _wait.deadline(True, timeout)))

    @attribute
    def unfinished(self) -> int:
        """How many messages were put and neither taken by `get`, nor acked, nor moved to the dead
        letters.

        Exact while no process puts or takes. ``join(0)`` tells exactly whether there are any.
        """
        return Queue.stats(self).unfinished

    @attribute
    def leased(self) -> int:
        """How many messages are leased."""
        return Queue.stats(self).leased

    @attribute
    def max_attempts(self) -> int:
        """How often a message is delivered before it is moved to the dead letters; 0 if unlimited."""
        return Queue.stats(self).max_attempts

    @attribute
    def dead_letters(self) -> "Queue[T]":
        """The queue of messages that were delivered ``max_attempts`` times and not acked.

        Its name is the name of this queue and ``.dead``. `AttributeError` if ``max_attempts`` is 0.

        If it refuses a message (it was closed, or has a smaller bound), the message stays here, and the move
        is retried ten times a second by calls that take from this queue or join it. Such a call raises
        `InvalidError`.
        """
        handle = QueueHandle()
        try:
            _ffi.check(_ffi.lib.shoal_queue_dead_letters(self._live(), ctypes.byref(handle)))
        except NotFoundError:
            raise AttributeError(
                f"queue {self._name!r} has no dead letters: it was made without max_attempts"
            ) from None
        return attach(Queue, _ffi.name_of(handle))

    # -- taking ---------------------------------------------------------------------------

    def get(
        self, block: bool = True, timeout: Optional[float] = None, copy: bool = True
    ) -> T:
        """Takes the oldest object. It is unpickled, so the processes that put must be trusted.

        With ``copy=False`` the large parts of the object stay in shared memory: arrays are read-only
        views, and a large `bytes` or `bytearray` is a `memoryview`. (One inside another object is
        copied, unless it was put as a `pickle.PickleBuffer`.) The message is leased until its last view
        is freed. If this process dies before that, another consumer gets it. The number of such
        messages is bounded (`ExhaustedError`), and a forked child must not use the views of its parent.

        Raises `Empty` if no object comes in time, and `ClosedError` once the queue is closed and empty.
        """
        if timeout is not None:
            timeout = _wait.seconds(timeout)
        if not copy:
            return cast(T, viewed(self.lease(block, timeout)))
        # The common path of `_take` and `unpickle`, inlined, because Python calls are expensive.
        try:
            buffer = _spare.pop()
        except IndexError:
            buffer = _take_buffer()
        timeout_ns = _SLICE if block and timeout is None else 0
        if not _get(self._fast, timeout_ns, buffer.pointer, buffer.size, buffer.length_ref):
            data = buffer.view[: buffer.length.value]
            obj: T = _loads(data) if data and data[0] == 0x80 else unpickle(data)
            _spare.append(buffer)
            return obj
        _spare.append(buffer)
        return cast(T, self._take(unpickle, block, timeout))

    def peek(self, index: int = 0) -> T:
        """Returns an object that stays in the queue. Index 0 is the next one to be taken.

        Objects that were returned by a lease come first. Leased and delayed objects are not included.
        The call delays consumers by some nanoseconds for each object before ``index``.

        Raises `Empty` if there are fewer objects.
        """
        return cast(T, unpickle(memoryview(self.peek_bytes(index))))

    def peek_bytes(self, index: int = 0) -> bytes:
        """`peek` for messages of plain bytes."""
        index = _ffi.number(index, "index")
        try:
            return _ffi.fetch_text(_ffi.lib.shoal_queue_peek, self._live(), index)
        except NotFoundError:
            raise Empty(f"queue {self._name!r} has no message {index}") from None

    def get_nowait(self) -> T:
        """`get` without waiting."""
        obj: T = self._take(unpickle, False, None)
        return obj

    def get_bytes(self, block: bool = True, timeout: Optional[float] = None) -> bytes:
        """Takes the oldest message as bytes. Waits and raises as `get` does."""
        return self._take(bytes, block, timeout)

    def _take(
        self, convert: Callable[[memoryview], _R], block: bool, timeout: Optional[float]
    ) -> _R:
        if timeout is not None:
            timeout = _wait.seconds(timeout)
        buffer = _take_buffer()
        timeout_ns = _SLICE if block and timeout is None else 0
        try:
            if _get(self._fast, timeout_ns, buffer.pointer, buffer.size, buffer.length_ref):
                buffer = self._take_slowly(buffer, _wait.deadline(block, timeout))
        except BaseException:
            _give_buffer(buffer)
            raise
        return taken(buffer, convert)

    def _take_slowly(self, buffer: _ffi.Buffer, until: Optional[int]) -> _ffi.Buffer:
        """Waits for a message. Returns the buffer that contains it: the given one or a larger one."""

        def call(timeout_ns: int) -> int:
            status: int = _ffi.lib.shoal_queue_get(
                self._live(), timeout_ns, buffer.address, buffer.size, buffer.length_ref
            )
            return status

        while True:
            status = _wait.wait(call, until)
            if status == _abi.ERR_BUFFER_TOO_SMALL:
                # The message stays. Another consumer may take it before the next try.
                buffer = _ffi.take_buffer(buffer.length.value)
                continue
            if status:
                raise self._take_error(status)
            return buffer

    # -- state ------------------------------------------------------------------------

    def stats(self) -> QueueStats:
        """Statistics of the queue. They are consistent if no process uses it meanwhile."""
        return _ffi.fetch_stats(_ffi.lib.shoal_queue_stat, self._live(), QueueStats)

    def qsize(self) -> int:
        """How many messages are in the queue. Exact at the time of the call."""
        return _ffi.fetch_u64(_ffi.lib.shoal_queue_len, self._live())

    def __len__(self) -> int:
        return Queue.qsize(self)

    def __bool__(self) -> bool:
        return True

    def empty(self) -> bool:
        """Whether the queue has no message. It counts every message whose `put` has returned."""
        return Queue.qsize(self) == 0

    def full(self) -> bool:
        """Whether ``maxsize`` messages are in the queue; false if there is no bound."""
        return 0 < self.maxsize <= Queue.qsize(self)

    @attribute
    def maxsize(self) -> int:
        """The bound in messages, or 0."""
        if self._max_items is None or self._handle is None:
            self._max_items = Queue.stats(self).max_items
        return self._max_items

    @attribute
    def nbytes(self) -> int:
        """The size in bytes of the messages in the queue that were never delivered."""
        return Queue.stats(self).bytes

    @attribute
    def capacity(self) -> int:
        """How many bytes of messages fit now, without growth."""
        return Queue.stats(self).capacity

    @attribute
    def max_capacity(self) -> int:
        """The number of bytes to which it may grow."""
        return Queue.stats(self).max_capacity

    @attribute
    def max_message(self) -> int:
        """The size in bytes of the largest message that the queue accepts."""
        return Queue.stats(self).max_message

    def fileno(self) -> int:
        """A descriptor that is readable while the queue has a message, or `closed` is true.

        `select`, `selectors`, `asyncio` (``loop.add_reader``) and `multiprocessing.connection.wait`
        can wait for it, beside sockets and pipes. It is readable when the put of an object has
        returned. Once a call in any process has taken the last object and returned, it is not readable
        any more. So readers that poll it again under a lock of their own, and then take, do not wait.
        Without such a lock, take with `get_nowait` until `Empty`; even a single take for each time it is
        readable may raise `Empty`, because others take, too.

        The descriptor belongs to this process and is closed with the handle: unregister it before
        `detach`, and register a new one in a forked child. Do not read from it, write to it or close
        it. It costs two descriptors, and a FIFO beside the queue's file for as long as that exists. The
        first call of this method or of `shoal.wait` in a process starts a native thread, which runs until
        the process ends. Python 3.12 and later warn about it, as about any thread, when the process forks.
        """
        return _ffi.fetch_int(_ffi.lib.shoal_queue_fd, self._live())

    def close(self) -> None:
        """Closes the queue for all processes: puts fail, and gets fail once the queue is empty.

        Both raise `ClosedError`, in every process and language. Closing twice has no effect. To end
        only the use by this process, call `detach`, or use ``with``.
        """
        _ffi.check(_ffi.lib.shoal_queue_close(self._live()))

    @attribute
    def closed(self) -> bool:
        """Whether the queue was closed."""
        return Queue.stats(self).closed

    @staticmethod
    def unlink(name: str) -> None:
        """Removes the name. Attached processes may continue. Needed for persistent queues."""
        unlink(name, _abi.KIND_QUEUE)

    def __repr__(self) -> str:
        state = "detached" if self._handle is None else f"{self.qsize()} messages"
        return f"<shoal.Queue {self._name!r}, {state}>"


def taken(buffer: _ffi.Buffer, convert: Callable[[memoryview], _R]) -> _R:
    """Converts the message in a buffer, and returns the buffer to the list."""
    data = buffer.view[: buffer.length.value]
    if convert is unpickle and _frame.is_frame(data) and buffer.size < 2 * len(data):
        # The object refers to this buffer, which nothing else uses from now on.
        return cast(_R, _frame.load(data, _frame.OWNED))
    result = convert(data)
    _give_buffer(buffer)
    return result
