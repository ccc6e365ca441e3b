"""Messages that are written in place."""

from __future__ import annotations

import ctypes
from types import TracebackType
from typing import Optional, Type

from . import _ffi


class Reservation:
    """Room in a queue for one message, from `Queue.reserve`.

    ::

        with frames.reserve(1920 * 1080) as room:      # committed at the end of the block
            numpy.copyto(numpy.frombuffer(room.data, "u1"), frame)

    ``data`` is a writable `memoryview` of as many bytes as were asked for; what they hold at
    first is what earlier messages left. Leaving the block by an exception discards the
    reservation, and so does losing it. It has its place in the queue at once, and consumers
    that have taken everything before it wait for it, so fill it without delay, and do not
    wait for room in the same queue meanwhile: nobody can make any by taking what is behind.

    After a fork it stays the parent's: in the child `commit` and `discard` raise.
    """

    def __init__(self, handle: _ffi.QueueHandle, loan: _ffi.Loan) -> None:
        self._handle = handle
        self._loan = loan
        span = (ctypes.c_ubyte * loan.len).from_address(loan.data)
        # Whatever is made from the view keeps the queue mapped.
        span._handle = handle
        self._data = memoryview(span).cast("B")

    @property
    def data(self) -> memoryview:
        """The bytes to write to. Gone once the reservation is committed or discarded."""
        return self._data

    def commit(self, used: Optional[int] = None) -> None:
        """Makes the first ``used`` bytes, or all, a message, there for everybody at once.

        Raises `BufferError` while a numpy array made from ``data`` is still in use (slices
        of ``data`` are not noticed, and must not be written to any more), `TooLargeError` for more than was reserved, and `InvalidError` if it was
        committed or discarded before. After an error the reservation is still there.
        """
        used = self._loan.len if used is None else used
        if used < 0:
            raise ValueError(f"used must not be negative, but is {used}")
        if self._loan.data and used <= self._loan.len:
            self._data.release()
        loan = ctypes.byref(self._loan)
        _ffi.check(_ffi.lib.shoal_queue_commit(self._handle, loan, used))

    def discard(self) -> None:
        """Gives the room back. Nobody sees that it was there. Raises as `commit` does."""
        if self._loan.data:
            self._data.release()
        loan = ctypes.byref(self._loan)
        _ffi.check(_ffi.lib.shoal_queue_discard(self._handle, loan))

    def __enter__(self) -> "Reservation":
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        if not self._loan.data:
            return
        if kind is None:
            self.commit()
        else:
            self.__del__()

    def __del__(self) -> None:
        # Whether or not something still looks at the data. In a forked child the call fails,
        # as it should.
        if self._loan.data:
            _ffi.lib.shoal_queue_discard(self._handle, ctypes.byref(self._loan))

    def __repr__(self) -> str:
        what = f"{self._loan.len} bytes" if self._loan.data else "spent"
        return f"<shoal.Reservation, {what}>"
