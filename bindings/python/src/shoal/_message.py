"""Messages in place: reserved for writing, or leased for reading."""

from __future__ import annotations

import ctypes
import pickle
from functools import cached_property
from types import TracebackType
from typing import Any, Optional, Type, TypeVar, cast

from . import _ffi, _frame, _hot, _wait
from ._original import util
from ._span import Span
from ._structs import Message


def _end(function: Any, handle: _ffi.Handle, message: Message) -> None:
    function(handle, ctypes.byref(message))


class _InPlace(_hot.Taken):
    """What a reservation and a lease have in common: a span, until it is given back."""

    _READONLY = False
    # The span, once it was asked for: to make one costs more than to copy a small message.
    _made_span: Optional[Span] = None

    def __init__(self, handle: _ffi.Handle, message: Message) -> None:
        self._handle = handle
        self._message = message
        self._size = message.len

    # A lease that a compiled `Queue.lease` made has both from the moment on that they are asked for.
    @cached_property
    def _handle(self) -> _ffi.Handle:
        return cast(_ffi.Handle, self._fast)

    @cached_property
    def _message(self) -> Message:
        # It lies in this object, which has it and so outlives it.
        return Message.from_address(self._address)

    @property
    def _span(self) -> Span:
        span = self._made_span
        if span is None:
            message = self._message
            span = Span(message.data or 0, message.len, self._handle, readonly=self._READONLY)
            if not message.data:
                # There is nothing to look at any more.
                span.view.release()
            self._made_span = span
        return span

    def _end(self, function: Any, *arguments: int) -> None:
        """Gives it back, unless something like a numpy array still looks at it."""
        if self._message.data and self._made_span is not None:
            self._made_span.give_up()
        _ffi.check(function(self._handle, ctypes.byref(self._message), *arguments))

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
        # Whether or not something still looks at the data. In a forked child the call fails,
        # as it should.
        if self._message.data:
            self._abandon()

    def __repr__(self) -> str:
        what = f"{self._size} bytes" if self._message.data else "spent"
        return f"<shoal.{type(self).__name__}, {what}>"


class Reservation(_InPlace):
    """Room in a queue or a pipe for one message, from `Queue.reserve` or `Connection.reserve`.

    ::

        with frames.reserve(1920 * 1080) as room:      # committed at the end of the block
            numpy.copyto(numpy.frombuffer(room.data, "u1"), frame)

    ``data`` is a writable `memoryview` of as many bytes as were asked for; what they hold at
    first is what earlier messages left. Leaving the block by an exception discards the
    reservation, and so does losing it. The message gets its place in the queue when it is
    committed; no consumer waits for it before.

    After a fork it stays the parent's: in the child `commit` and `discard` raise.
    """

    __module__ = "shoal"

    _commit = _ffi.lib.shoal_queue_commit
    _discard = _ffi.lib.shoal_queue_discard

    @property
    def data(self) -> memoryview:
        """The bytes to write to. Gone once the reservation is committed or discarded."""
        return self._span.view

    def commit(self, used: Optional[int] = None) -> None:
        """Makes the first ``used`` bytes, or all, a message, there for everybody at once.

        Raises `BufferError` while a slice of ``data``, or a numpy array made from it, is still
        in use, `TooLargeError` for more than was reserved, and `InvalidError` if it was
        committed or discarded before. After an error the reservation is still there.
        """
        used = self._size if used is None else used
        if used < 0:
            raise ValueError(f"used must not be negative, but is {used}")
        if self._message.data and used > self._size:
            # Raises, and must not take the data away.
            message = ctypes.byref(self._message)
            _ffi.check(self._commit(self._handle, message, used))
        self._end(self._commit, used)

    def discard(self) -> None:
        """Gives the room back. No other process sees that it was there. Raises as `commit` does."""
        self._end(self._discard)

    _finish = commit

    def _abandon(self) -> None:
        self._discard(self._handle, ctypes.byref(self._message))

    def __enter__(self) -> "Reservation":
        return self


class PipeReservation(Reservation):
    """Room in a pipe."""

    _commit = _ffi.lib.shoal_pipe_commit
    _discard = _ffi.lib.shoal_pipe_discard


class PipeLease(_InPlace):
    """A message that this process reads where it is, from `Connection.lease`.

    ::

        with frames.lease() as frame:           # acked at the end of the block
            show(frame.get())

    Leaving the block by an exception gives the message back, and so does losing the lease,
    or the death of the process: then another holder of this end receives it.

    After a fork it stays the parent's: in the child `ack` and `nack` raise.
    """

    _READONLY = True
    _ack = _ffi.lib.shoal_pipe_ack
    _nack = _ffi.lib.shoal_pipe_nack

    def __init__(self, handle: _ffi.Handle, message: Message) -> None:
        super().__init__(handle, message)
        self._attempts = message.attempts

    @property
    def data(self) -> memoryview:
        """The message, to be read where it is; as the bytes it is. Gone after `ack` or `nack`."""
        return self._span.view

    @property
    def attempts(self) -> int:
        """How often it was delivered, this time included; 255 for more."""
        return self._attempts

    def get(self) -> Any:
        """The object that was put or sent. Only unpickle what programs you trust have sent."""
        place = self._message.data
        if self._made_span is None and place and 0 < self._size < _frame.LARGE:
            data = ctypes.string_at(place, self._size)
            if data[0] == _frame.PICKLE:
                return pickle.loads(data)
        return _frame.unpickle(self._span.view)

    def get_bytes(self) -> bytes:
        """A copy of the message, as the bytes it is."""
        place = self._message.data
        if self._made_span is None and place:
            return ctypes.string_at(place, self._size)
        return bytes(self._span.view)

    def ack(self) -> None:
        """The work is done: the message is gone.

        Raises `ExpiredError` if its time was over, so that another gets it or has it (while no
        process has looked at the queue since, the call succeeds); `InvalidError` if it was acked or
        given back before; and `BufferError` while a slice of ``data``, or a numpy array made from
        it, is still in use.
        """
        self._end(self._ack)

    def keep(self) -> memoryview:
        """The message, acked when nothing looks at it any more instead of by `ack`."""
        span, message = self._span, Message.from_buffer_copy(self._message)
        # In a forked child this does nothing; at the end of the process it is done in time.
        ends = (self._ack, self._handle, message)
        util.Finalize(span.memory, _end, args=ends, exitpriority=10)
        # Spent, as far as this object is concerned.
        self._message.data = None
        return span.view

    def nack(self, delay: float = 0.0) -> None:
        """Gives it back, to be delivered again after ``delay`` seconds. After its last delivery it goes
        to the dead letters at once. Raises as `ack`."""
        self._end(self._nack, _wait.nanoseconds(delay))

    _finish = ack

    def _abandon(self) -> None:
        self._nack(self._handle, ctypes.byref(self._message), 0)

    def __enter__(self: _LeaseT) -> _LeaseT:
        return self


@_hot.compiled
class Lease(PipeLease):
    """A message that this process works on, from `Queue.lease`.

    ::

        with jobs.lease() as job:               # acked at the end of the block
            resize(job.get())

    Leaving the block by an exception gives the message back, and so does losing the lease,
    or the death of the process: then another consumer gets it. A message whose worker died
    just before the ack is worked on twice.

    After a fork it stays the parent's: in the child `ack`, `nack` and `extend` raise.
    """

    __module__ = "shoal"

    _ack = _ffi.untyped("shoal_queue_ack")
    _nack = _ffi.lib.shoal_queue_nack

    _raise_for = staticmethod(_ffi.check)

    def extend(self, visible: float) -> None:
        """Moves the end of the lease to ``visible`` seconds from now, or sets one.

        Raises as `ack`; after `ExpiredError` the data can still be read.
        """
        message = ctypes.byref(self._message)
        visible_ns = _wait.nanoseconds(visible)
        _ffi.check(_ffi.lib.shoal_queue_extend(self._handle, message, visible_ns))


_LeaseT = TypeVar("_LeaseT", bound=PipeLease)


def viewed(lease: PipeLease) -> Any:
    """The object of a message, whose large parts stay where they are until nothing looks at them."""
    if _frame.is_frame(lease.data):
        return _frame.load(lease.keep(), _frame.VIEWED)
    # Gone, even if it cannot be unpickled.
    data = bytes(lease.data)
    lease.ack()
    return _frame.unpickle(memoryview(data))
