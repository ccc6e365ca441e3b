"""`shoal.Pipe`: a connection of two ends, as `multiprocessing.Pipe`.

A connection that is sent to another process takes a descriptor along, as `multiprocessing` passes
descriptors. The descriptor keeps the end open until that process has opened it. So the sender may
close its own connection at once, and the other side never sees a closed end in between.
"""

from __future__ import annotations

import ctypes
import errno
from functools import lru_cache
from multiprocessing.context import BufferTooShort, get_spawning_popen
from typing import Any, Callable, Optional, Tuple, TypeVar, Union

from . import _abi, _ffi, _hot, _wait
from ._errors import ClosedError, UnsupportedError
from ._frame import LARGE, PROTOCOL, Sender, unpickle
from ._handles import Shared, _holds, hold_for, unlink
from ._message import PipeLease, PipeReservation, viewed
from ._original import reduction, resource_sharer
from ._queue import taken
from ._structs import Message, PipeOptions, PipeStats

_R = TypeVar("_R")
_ConnectionT = TypeVar("_ConnectionT", bound="Connection")

BytesLike = Union[bytes, bytearray, memoryview]

_lib = _ffi.lib
_send = _ffi.untyped("shoal_pipe_send")
_recv = _ffi.untyped("shoal_pipe_recv")
_SLICE = _wait.SLICE_NS
_INT_MAX = _ffi.INT_MAX
_take_buffer, _give_buffer = _ffi.take_buffer, _ffi.give_buffer
_sharer = resource_sharer._resource_sharer


class PipeHandle(_ffi.Handle):
    """A ``shoal_pipe *``."""

    release = _lib.shoal_pipe_free
    waitable = "pipe"


def Pipe(
    duplex: bool = True, *, capacity: int = 0, max_capacity: int = 0
) -> "Tuple[Connection, Connection]":
    """Both ends of a new pipe. Without ``duplex`` the first end receives and the second sends.

    Args:
        duplex: whether both ends send and receive.
        capacity: bytes of messages that each direction holds at first; 0 for the default.
        max_capacity: bytes to which it may grow; then senders wait. 0 for the default.

    Raises:
        NoSpaceError: shared memory is full.
    """
    return pair(Connection, duplex, capacity, max_capacity)


def pair(
    cls: "type[_ConnectionT]", duplex: bool, capacity: int = 0, max_capacity: int = 0
) -> "Tuple[_ConnectionT, _ConnectionT]":
    """As `Pipe`, with connections of the given class."""
    first, second = PipeHandle(), PipeHandle()
    how = _options(_abi.CREATE, bool(duplex), capacity, max_capacity)
    _ffi.check(_lib.shoal_pipe_pair(how, ctypes.byref(first), ctypes.byref(second)))
    name = _ffi.name_of(first)
    here = cls._of(first, name, _abi.FIRST_END, (True, bool(duplex)))
    return here, cls._of(second, name, _abi.SECOND_END, (bool(duplex), True))


@lru_cache(maxsize=16, typed=True)
def _options(flags: int, duplex: bool, capacity: int, max_capacity: int) -> Any:
    flags |= 0 if duplex else _abi.SIMPLEX
    return _ffi.options(
        PipeOptions, flags, capacity=capacity, max_capacity=max_capacity
    )


@_hot.compiled
class Connection(Shared, Sender):
    """One end of a pipe, with the methods of `multiprocessing.connection.Connection`.

    ::

        here, there = shoal.Pipe()
        there.send([1, "two"])
        here.recv()

    Unrelated programs open the ends of a named pipe: ``Connection("chat", 0)`` and
    ``Connection("chat", 1)``. Calls wait for an end that no process has opened yet.

    The connection is closed when all holders of the other end have closed it or died. Then `recv`
    raises `EOFError` once all messages that were sent before have been received, and `send` raises
    `BrokenPipeError`. A waiting call notices a kill within a tenth of a second. A forked child holds
    the ends that its parent holds, so each of the two closes the end that it does not use.

    A connection can be sent to another process of the same `multiprocessing` family: through a pipe or
    a queue, or as an argument of a process. Both processes may continue to use their own. Any thread
    may call any method. Each message goes to one receiver, whole.

    Args:
        name: letters, digits, ``.``, ``_`` and ``-``.
        end: 0 or 1. In a pipe of one direction, 0 receives and 1 sends.
        create: create the pipe if it does not exist; if false, that raises `NotFoundError`.
        duplex, capacity, max_capacity: of a new pipe, as for `Pipe`.
        persistent: a new pipe stays until `unlink`, not only while a process is attached.
    """

    __module__ = "shoal"

    _end: int
    _ways: Tuple[bool, bool]
    _unpickle = staticmethod(unpickle)

    def __init__(
        self,
        name: str,
        end: int,
        *,
        create: bool = True,
        duplex: bool = True,
        capacity: int = 0,
        max_capacity: int = 0,
        persistent: bool = False,
    ) -> None:
        if end not in (0, 1):
            raise ValueError(f"a pipe has the ends 0 and 1, not {end!r}")
        how = _options(_ffi.flags(create, False, persistent), bool(duplex), capacity, max_capacity)
        self._end = end
        self._open_with(
            _lib.shoal_pipe_open, PipeHandle(), _ffi.encode(name), end, how
        )

    @classmethod
    def _of(
        cls: "type[_ConnectionT]", handle: PipeHandle, name: str, end: int, ways: Tuple[bool, bool]
    ) -> _ConnectionT:
        """An end of a pipe that this process has made. ``ways``: whether it receives and sends."""
        self = cls.__new__(cls)
        self._end = end
        self._ways = ways
        self._created = True
        super(Connection, self)._adopt(handle, name)
        return self

    def _adopt(self, handle: _ffi.Handle, name: str) -> None:
        stats = _ffi.fetch_stats(_lib.shoal_pipe_stat, handle, PipeStats)
        self._ways = stats.receives, stats.sends
        super()._adopt(handle, name)

    def _live(self) -> Any:
        handle = self._handle
        if handle is None:
            raise OSError("handle is closed")
        return handle

    # -- sending --------------------------------------------------------------------------

    def send(self, obj: Any) -> None:
        """Sends an object. Waits while the pipe is full.

        Large `bytes`, arrays, and other objects with out-of-band buffers (PEP 574) are written directly
        into shared memory, and not into a pickle first.

        Raises `BrokenPipeError` if the other end is closed, and the exceptions of pickling.
        """
        data = None
        if not self._large:
            data = self._dumps(obj, PROTOCOL)
            if len(data) < LARGE:
                self._send_whole(data)
                return
        self._send_large(obj, data)

    def send_bytes(self, buf: BytesLike, offset: int = 0, size: Optional[int] = None) -> None:
        """Sends bytes as one message: ``size`` bytes from ``offset`` on, or all.

        Raises as `send` does, and `ValueError` if the buffer has fewer bytes.
        """
        view = memoryview(buf).cast("B")
        if type(offset) is not int:
            offset = _ffi.whole(offset, "offset")
        if offset < 0:
            raise ValueError("offset is negative")
        if len(view) < offset:
            raise ValueError("buffer length < offset")
        if size is None:
            size = len(view) - offset
        elif _ffi.whole(size, "size") < 0:
            raise ValueError("size is negative")
        elif offset + size > len(view):
            raise ValueError("buffer length < offset + size")
        self._send_whole(bytes(view[offset : offset + size]))

    def reserve(self, size: int) -> PipeReservation:
        """Waits for memory for a message of ``size`` bytes, which the caller writes in place.

        The message consists of raw bytes, for `recv_bytes`. Raises as `send` does.
        """
        size = _ffi.number(size, "size")
        message = Message()
        reservation = PipeReservation(self._live(), message)
        try:
            self._send_with(
                lambda ns: _lib.shoal_pipe_reserve(self._live(), size, ns, ctypes.byref(message))
            )
            reservation._begin()
        except BaseException:
            reservation._give_back()
            raise
        return reservation

    def _send_whole(self, data: bytes) -> None:
        size = len(data)
        # One call inlined: nearly every message is sent without waiting.
        if size > _INT_MAX or _send(self._fast, data, size, _SLICE):
            self._send_slowly(data)

    def _send_slowly(self, data: bytes) -> None:
        self._send_with(lambda ns: _lib.shoal_pipe_send(self._live(), data, len(data), ns))

    def _send_with(self, call: Callable[[int], int]) -> None:
        try:
            _ffi.check(_wait.wait(call, None))
        except ClosedError:
            gone = f"the other end of pipe {self._name!r} is gone"
            raise BrokenPipeError(errno.EPIPE, gone) from None
        except UnsupportedError:
            raise OSError("connection is read-only") from None

    # -- receiving --------------------------------------------------------------------------

    def recv(self, copy: bool = True) -> Any:
        """Waits for an object and receives it. It is unpickled, so the sender must be trusted.

        With ``copy=False`` the large parts of the object stay in shared memory, as with `Queue.get`. If
        this process dies while it has views of them, another process that holds this end receives the
        message.

        Raises `EOFError` if the other end is closed and all messages have been received.
        """
        return self._take(unpickle) if copy else viewed(self.lease())

    def lease(self) -> PipeLease:
        """Waits for a message, which the caller reads in place. Raises as `recv` does, and
        `ExhaustedError` if all leases are taken."""
        message = Message()
        lease = PipeLease(self._live(), message)
        try:
            self._receive(lambda ns: _lib.shoal_pipe_lease(self._live(), ns, ctypes.byref(message)))
            lease._begin()
        except BaseException:
            lease._give_back()
            raise
        return lease

    def recv_bytes(self, maxlength: Optional[int] = None) -> bytes:
        """Waits for a message and receives its bytes.

        Raises `EOFError` as `recv` does, and `OSError` for a message longer than ``maxlength``. After
        that nothing more can be received by this object.
        """
        if maxlength is not None and _ffi.whole(maxlength, "maxlength") < 0:
            raise ValueError("negative maxlength")
        data = self._take(bytes)
        if maxlength is not None and len(data) > maxlength:
            self._ways = False, self._ways[1]
            if not self._ways[1]:
                self.close()
            raise OSError("bad message length")
        return data

    def recv_bytes_into(self, buf: Union[bytearray, memoryview], offset: int = 0) -> int:
        """Waits for a message, receives it into a buffer from ``offset`` on, and returns its length.

        ``buf`` is any writable object with the buffer protocol. Raises `EOFError` as `recv` does, and
        `multiprocessing.BufferTooShort` with the message if the buffer is too small.
        """
        view = memoryview(buf).cast("B")
        offset = _ffi.whole(offset, "offset")
        if offset < 0:
            raise ValueError("negative offset")
        if offset > len(view):
            raise ValueError("offset too large")
        room = len(view) - offset
        place = (ctypes.c_char * room).from_buffer(view, offset)
        length = ctypes.c_size_t()
        status = self._receive(
            lambda ns: _lib.shoal_pipe_recv(
                self._live(), ns, ctypes.addressof(place), room, ctypes.byref(length)
            )
        )
        if status == _abi.ERR_BUFFER_TOO_SMALL:
            raise BufferTooShort(self._take(bytes))
        return length.value

    def poll(self, timeout: Optional[float] = 0.0) -> bool:
        """Whether there is something to receive, or the other end is closed. Waits for that for ``timeout``
        seconds at most; 0 does not wait, ``None`` waits forever."""
        out = ctypes.c_bool()

        def call(timeout_ns: int) -> int:
            status: int = _lib.shoal_pipe_poll(self._live(), timeout_ns, ctypes.byref(out))
            return status or (_abi.OK if out.value else _abi.ERR_TIMEOUT)

        self._check_readable()
        status = _wait.wait(call, _wait.deadline(True, timeout))
        if status == _abi.ERR_TIMEOUT:
            return False
        _ffi.check(status)
        return True

    def _take(self, convert: Callable[[memoryview], _R]) -> _R:
        buffer = _take_buffer()
        try:
            if not self._ways[0] or _recv(
                self._fast, _SLICE, buffer.pointer, buffer.size, buffer.length_ref
            ):
                buffer = self._take_slowly(buffer)
        except BaseException:
            _give_buffer(buffer)
            raise
        return taken(buffer, convert)

    def _take_slowly(self, buffer: _ffi.Buffer) -> _ffi.Buffer:
        while True:
            status = self._receive(
                lambda ns: _lib.shoal_pipe_recv(
                    self._live(), ns, buffer.address, buffer.size, buffer.length_ref
                )
            )
            if status == _abi.OK:
                return buffer
            # The message stays. Another receiver may take it before the next try.
            buffer = _ffi.take_buffer(buffer.length.value)

    def _receive(self, call: Callable[[int], int]) -> int:
        """Waits for a message. Returns OK or BUFFER_TOO_SMALL."""
        self._check_readable()
        status = _wait.wait(call, None)
        if status == _abi.ERR_CLOSED:
            raise EOFError
        if status != _abi.ERR_BUFFER_TOO_SMALL:
            _ffi.check(status)
        return status

    def _check_readable(self) -> None:
        self._live()
        if not self._ways[0]:
            raise OSError("connection is write-only")

    # -- state ------------------------------------------------------------------------------

    def stats(self) -> PipeStats:
        """Statistics of this end of the pipe."""
        return _ffi.fetch_stats(_lib.shoal_pipe_stat, self._live(), PipeStats)

    @property
    def closed(self) -> bool:
        """Whether this connection object was closed."""
        return self._handle is None

    @property
    def readable(self) -> bool:
        """Whether this end receives."""
        return self._ways[0]

    @property
    def writable(self) -> bool:
        """Whether this end sends."""
        return self._ways[1]

    def close(self) -> None:
        """Closes this connection. The other side notices once all holders of this end have closed it."""
        self.detach()

    def fileno(self) -> int:
        """A descriptor that is readable while there is a message to receive, and once the other end is
        closed; for event loops, as `Queue.fileno`. `UnsupportedError` for an end that only sends."""
        return _ffi.fetch_int(_lib.shoal_pipe_fd, self._live())

    @staticmethod
    def unlink(name: str) -> None:
        """Removes the name. Attached processes may continue. Needed for persistent pipes."""
        unlink(name, _abi.KIND_PIPE)

    def __reduce__(self) -> Any:
        hold = _Held(self._live(), self._name)
        child = get_spawning_popen()
        if child is None:
            return _receive, (type(self), self._name, self._end, _Fetched(hold))
        hold_for(child).add_inherited(hold)
        return _receive, (type(self), self._name, self._end, reduction.DupFd(hold.fd))

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"end {self._end}"
        return f"<{type(self).__module__}.{type(self).__qualname__} {self._name!r}, {state}>"


class _Held:
    """A descriptor that keeps an end of a pipe open."""

    def __init__(self, handle: PipeHandle, name: str) -> None:
        self.fd = _ffi.fetch_int(_lib.shoal_pipe_hold, handle)
        self._name = _ffi.encode(name)
        _holds.add(self)

    def release(self, _release: Any = _lib.shoal_pipe_drop_hold) -> None:
        """Closes it, once."""
        name = self.__dict__.pop("_name", None)
        if name is not None:
            _release(name, self.fd)

    __del__ = release


class _Fetched:
    """As `multiprocessing.resource_sharer.DupFd`, for a `_Held` descriptor, which has to be released by
    the library instead of closed."""

    def __init__(self, hold: _Held) -> None:
        held = [hold]

        def send(connection: Any, pid: int) -> None:
            reduction.send_handle(connection, held[0].fd, pid)

        # Kept until another process has fetched it, or this process ends.
        self._id = _sharer.register(send, held.clear)

    def detach(self) -> int:
        """Fetches the descriptor into the calling process."""
        with _sharer.get_connection(self._id) as connection:
            fd: int = reduction.recv_handle(connection)
            return fd


def _receive(cls: "type[_ConnectionT]", name: str, end: int, hold: Any) -> _ConnectionT:
    fd: int = hold.detach()
    try:
        return cls(name, end, create=False)
    finally:
        _lib.shoal_pipe_drop_hold(_ffi.encode(name), fd)
