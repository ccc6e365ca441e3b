"""Messages that are written in place (reservations) or read in place (leases)."""

from __future__ import annotations

import ctypes
import math
import pickle
from functools import cached_property
from types import TracebackType
from typing import Any, Optional, Type, TypeVar, cast

from . import _abi, _ffi, _frame, _hot, _wait
from ._original import util
from ._span import Span
from ._structs import Message


def _end(function: Any, handle: _ffi.Handle, message: Message) -> None:
    function(handle, ctypes.byref(message))


class _InPlace(_hot.Taken):
    """The base class of reservations and leases: a message and a span of its memory.

    The object is made before the library writes its message, because a signal handler may raise as soon as that
    call returns. After the call, `_begin` is called, or `_give_back` if there was an exception.
    """

    _READONLY = False
    # The span, made on first use, because making it takes longer than copying a small message.
    _made_span: Optional[Span] = None

    def __init__(self, handle: _ffi.Handle, message: Message) -> None:
        self._handle = handle
        self._message = message
        self._size = message.len

    def _begin(self) -> None:
        """Called once the library has written the message."""
        self._size = self._message.len

    def _give_back(self) -> None:
        """Abandons the message, if there is one, because a traceback may keep this object alive."""
        if self._message.data:
            self._abandon()

    # For a lease that the compiled `Queue.lease` made. Both are set on first use.
    @cached_property
    def _handle(self) -> _ffi.Handle:
        return cast(_ffi.Handle, self._fast)

    @cached_property
    def _message(self) -> Message:
        # It is in the memory of this object. Without an address, a signal handler has raised before the
        # lease was complete.
        address = getattr(self, "_address", None)
        return Message.from_address(address) if address else Message()

    @property
    def _span(self) -> Span:
        span = self._made_span
        if span is None:
            message = self._message
            span = Span(message.data or 0, message.len, self._handle, readonly=self._READONLY)
            if not message.data:
                # The reservation or lease has ended.
                span.view.release()
            self._made_span = span
        return span

    def _end(self, function: Any, *arguments: int) -> None:
        """Ends it. `BufferError` while something, such as a numpy array, refers to the memory."""
        if self._message.data and self._made_span is not None:
            self._made_span.end()
        _ffi.check(function(self._handle, ctypes.byref(self._message), *arguments))

    def _end_later(self, function: Any) -> None:
        """Ends it when nothing refers to its memory any more."""
        message = Message.from_buffer_copy(self._message)
        # In a forked child this does nothing. At the end of the process it runs before the process detaches.
        ends = (function, self._handle, message)
        util.Finalize(self._span.memory, _end, args=ends, exitpriority=10)
        # This object no longer has the message.
        self._message.data = None

    def _drop_view(self) -> bool:
        """Ends the view of the data. Returns whether nothing else refers to the memory."""
        span = self._made_span
        return span is None or span.drop()

    def _abandon(self) -> None:
        raise NotImplementedError

    def _finish(self) -> None:
        raise NotImplementedError

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        if not self._message.data:
            return
        if kind is None:
            self._finish()
        else:
            self._abandon()

    def __del__(self) -> None:
        # In a forked child the call fails and changes nothing, as intended.
        self._give_back()

    def __repr__(self) -> str:
        state = f"{self._size} bytes" if self._message.data else "spent"
        return f"<shoal.{type(self).__name__}, {state}>"


class Reservation(_InPlace):
    """Memory for one message in a queue or a pipe, from `Queue.reserve` or `Connection.reserve`.

    ::

        with frames.reserve(1920 * 1080) as room:      # committed at the end of the block
            numpy.copyto(numpy.frombuffer(room.data, "u1"), frame)

    ``data`` is a writable `memoryview` of the requested size. At first it holds bytes of earlier
    messages. An exception that leaves the block discards the reservation, and so does the garbage
    collector. If a numpy array made from ``data`` is left then, the memory is freed after the array. The
    message gets its position in the queue by the commit; consumers do not wait for it.

    After a fork it belongs to the parent: in the child `commit` and `discard` raise.
    """

    __module__ = "shoal"

    _commit = _ffi.lib.shoal_queue_commit
    _discard = _ffi.lib.shoal_queue_discard

    @property
    def data(self) -> memoryview:
        """The bytes to write to. Invalid once the reservation is committed or discarded."""
        return self._span.view

    def commit(self, used: Optional[int] = None) -> None:
        """Publishes the first ``used`` bytes, or all, as a message. Does not wait.

        Raises `BufferError` while a slice of ``data``, or a numpy array made from it, is in use;
        `TooLargeError` for more than was reserved; and `InvalidError` if it was committed or discarded
        before. After an error the reservation is still valid.
        """
        used = self._size if used is None else _ffi.number(used, "used")
        if self._message.data and used > self._size:
            # Raises, and must not end the view.
            message = ctypes.byref(self._message)
            _ffi.check(self._commit(self._handle, message, used))
        self._end(self._commit, used)

    def discard(self) -> None:
        """Frees the memory. No other process sees the message. Raises as `commit` does."""
        self._end(self._discard)

    _finish = commit

    def _abandon(self) -> None:
        if self._drop_view():
            self._discard(self._handle, ctypes.byref(self._message))
        else:
            # Something still refers to the memory and may write to it, so it must not be used for another message.
            self._end_later(self._discard)
            self._made_span = None

    def __enter__(self) -> "Reservation":
        return self


class PipeReservation(Reservation):
    """Memory for one message in a pipe."""

    _commit = _ffi.lib.shoal_pipe_commit
    _discard = _ffi.lib.shoal_pipe_discard


class PipeLease(_InPlace):
    """A message that this process reads in place, from `Connection.lease`.

    ::

        with frames.lease() as frame:           # acked at the end of the block
            show(frame.get())

    An exception that leaves the block returns the message to the pipe, and so does the garbage
    collector, or the death of the process. Then another holder of this end receives it.

    After a fork it belongs to the parent: in the child `ack` and `nack` raise.
    """

    _READONLY = True
    _ack = _ffi.lib.shoal_pipe_ack
    _nack = _ffi.lib.shoal_pipe_nack

    def __init__(self, handle: _ffi.Handle, message: Message) -> None:
        super().__init__(handle, message)
        self._attempts = message.attempts

    def _begin(self) -> None:
        super()._begin()
        self._attempts = self._message.attempts

    @property
    def data(self) -> memoryview:
        """The bytes of the message, read-only, in place. Invalid after `ack` or `nack`."""
        return self._span.view

    @property
    def attempts(self) -> int:
        """How often the message was delivered, including this time, up to 255."""
        return self._attempts

    def _valid(self) -> int:
        """The address of the message."""
        place: Optional[int] = self._message.data
        if not place:
            raise _ffi.invalid("invalid message: it has ended already")
        return place

    def get(self) -> Any:
        """The object that was put or sent. It is unpickled, so the sender must be trusted.

        Raises `InvalidError` if the message was acked or nacked before.
        """
        place = self._valid()
        if self._made_span is None and 0 < self._size < _frame.LARGE:
            data = ctypes.string_at(place, self._size)
            if data[0] == _frame.PICKLE:
                return pickle.loads(data)
        return _frame.unpickle(self._span.view)

    def get_bytes(self) -> bytes:
        """A copy of the message, as the bytes it is. Raises as `get` does."""
        place = self._valid()
        if self._made_span is None:
            return ctypes.string_at(place, self._size)
        return bytes(self._span.view)

    def ack(self) -> None:
        """Removes the message, because the work is done. Does not wait.

        Raises `ExpiredError` if the lease has expired, so that another consumer has the message or will
        get it (the call succeeds if no process has checked the queue since then); `InvalidError` if it
        was acked or nacked before; and `BufferError` while a slice of ``data``, or a numpy array made
        from it, is in use.
        """
        self._end(self._ack)

    def keep(self) -> memoryview:
        """The message, which is acked when nothing refers to it any more, instead of by `ack`."""
        self._valid()
        view = self._span.view
        self._end_later(self._ack)
        return view

    def nack(self, delay: float = 0.0) -> None:
        """Returns the message, which is delivered again after ``delay`` seconds. After its last delivery
        it goes to the dead letters at once. With an infinite delay it is never delivered again, and a
        closed queue does not wait for it. Raises as `ack` does."""
        delay_ns = _wait.nanoseconds(delay, "delay")
        self._end(self._nack, _abi.FOREVER if delay == math.inf else delay_ns)

    _finish = ack

    def _abandon(self) -> None:
        # Returned even if something still refers to the message, because it can only read.
        self._drop_view()
        self._nack(self._handle, ctypes.byref(self._message), 0)

    def __enter__(self: _LeaseT) -> _LeaseT:
        return self


@_hot.compiled
class Lease(PipeLease):
    """A message that this process works on, from `Queue.lease`.

    ::

        with jobs.lease() as job:               # acked at the end of the block
            resize(job.get())

    An exception that leaves the block returns the message to the queue, and so does the garbage
    collector, or the death of the process. Then another consumer gets it. If a worker dies just before
    the ack, the work is done twice.

    After a fork it belongs to the parent: in the child `ack`, `nack` and `extend` raise.
    """

    __module__ = "shoal"

    _ack = _ffi.untyped("shoal_queue_ack")
    _nack = _ffi.lib.shoal_queue_nack

    _raise_for = staticmethod(_ffi.check)

    def extend(self, visible: float) -> None:
        """Sets the expiry of the lease to ``visible`` seconds from now.

        Raises as `ack` does. After `ExpiredError` the data can still be read.
        """
        message = ctypes.byref(self._message)
        visible_ns = _wait.nanoseconds(visible, "visible")
        _ffi.check(_ffi.lib.shoal_queue_extend(self._handle, message, visible_ns))


_LeaseT = TypeVar("_LeaseT", bound=PipeLease)


def viewed(lease: PipeLease) -> Any:
    """The object of a message. Its large parts stay in shared memory until nothing refers to them."""
    if _frame.is_frame(lease.data):
        return _frame.load(lease.keep(), _frame.VIEWED)
    # Acked first, so that the message is removed even if it cannot be unpickled.
    data = bytes(lease.data)
    lease.ack()
    return _frame.unpickle(memoryview(data))
