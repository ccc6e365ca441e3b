"""Frames: messages of large objects, whose parts are written into shared memory once.

Pickling copies a large array into the pickle, a put copies the pickle into the queue, and a get and
unpickling copy it twice more. In a frame the large parts stay out of the pickle (pickle protocol 5,
PEP 574) and are written directly to the place of the message::

    byte 0   8     magic; no pickle of protocol 2 or later begins like it
         8   4     number of buffers
        12   4     kind: PICKLED, or BYTES or BYTEARRAY, which have one buffer and no pickle
        16   8     length of the pickle in bytes
        24   8 n   length of each buffer in bytes
                   the pickle
                   each buffer, at the next multiple of 64

All numbers are little-endian. Sizes are checked against the message before they are used.
"""

from __future__ import annotations

import pickle
import struct
from typing import Any, Callable, List, Optional, Sequence, Tuple, Union

MAGIC = b"\x93SHOAL5\0"
PICKLED, BYTES, BYTEARRAY = range(3)

COPIED, OWNED, VIEWED = "copied", "owned", "viewed"

PROTOCOL = pickle.HIGHEST_PROTOCOL
# The first byte of every pickle of protocol 2 and later.
PICKLE = 0x80

# In bytes. Below that, copying a pickle is faster than making a frame.
LARGE = 64 * 1024

_HEAD = struct.Struct("<8sIIQ")
_ALIGN = 64


class Frame:
    """A frame whose parts are not joined yet."""

    def __init__(self, kind: int, pickled: bytes, buffers: Sequence[memoryview]) -> None:
        sizes = [buffer.nbytes for buffer in buffers]
        head = _HEAD.pack(MAGIC, len(sizes), kind, len(pickled))
        self._head = head + struct.pack(f"<{len(sizes)}Q", *sizes) + pickled
        self._buffers = buffers
        self._places, self.size = _places(len(self._head), sizes)

    def write(self, to: memoryview) -> None:
        """Writes the message to ``to``, which has `size` bytes."""
        to[: len(self._head)] = self._head
        for place, buffer in zip(self._places, self._buffers):
            to[place : place + buffer.nbytes] = buffer

    def __bytes__(self) -> bytes:
        together = bytearray(self.size)
        self.write(memoryview(together))
        return bytes(together)


_Message = Union[bytes, Frame]
_Aside = Callable[[pickle.PickleBuffer], Any]


def _places(start: int, sizes: Sequence[int]) -> Tuple[List[int], int]:
    """Where each buffer begins, and where the last one ends."""
    places = []
    for size in sizes:
        start = -(-start // _ALIGN) * _ALIGN
        places.append(start)
        start += size
    return places, start


def of_bytes(obj: Any) -> Optional[Frame]:
    """The frame of a large `bytes` or `bytearray`; None for anything else."""
    kind = type(obj)
    if (kind is bytes or kind is bytearray) and len(obj) >= LARGE:
        return Frame(BYTES if kind is bytes else BYTEARRAY, b"", [memoryview(obj)])
    return None


def message(
    obj: object,
    dumps: Callable[[object, int], bytes],
    dumps_apart: Callable[[object, _Aside], bytes],
) -> _Message:
    """The message of an object: a plain pickle, or a frame if the object has large parts.

    Both functions pickle. ``dumps_apart`` leaves out the buffers with which it calls its second
    argument.
    """
    frame = of_bytes(obj)
    if frame is not None:
        return frame
    buffers: List[pickle.PickleBuffer] = []
    pickled = dumps_apart(obj, buffers.append)
    try:
        views = [buffer.raw() for buffer in buffers]
    except BufferError:
        # A buffer is not contiguous. A plain pickle copies it into one that is.
        views = []
    # A pickle that refers to descriptors must not be made again, even if its buffers are small.
    if sum(view.nbytes for view in views) >= LARGE or (views and passes_descriptors(pickled)):
        return Frame(PICKLED, pickled, views)
    return dumps(obj, PROTOCOL) if buffers else pickled


# The modules and classes by which a pickle names a descriptor that its receiver fetches (`_pipe._Fetched`).
_DESCRIPTORS = b"resource_sharer", b"_Fetched"


def passes_descriptors(pickled: bytes) -> bool:
    """Whether the receiver of a pickle may fetch descriptors, of connections or sockets.

    Such an object must not be pickled twice. The descriptors of a pickle that no process receives would stay
    open in this process, and the other end of a connection would not notice that it was closed.
    """
    return any(name in pickled for name in _DESCRIPTORS)


class Sender:
    """A queue or a pipe, which sends objects that may be large."""

    # Whether the last object was large.
    _large = False
    # Both pickle with `PROTOCOL`; the second one leaves out the buffers that its second argument takes
    # (PEP 574). The protocol is passed by each caller: a `partial` that holds it costs 170 ns a call.
    _dumps: Any = staticmethod(pickle.dumps)
    _dumps_apart: Any = staticmethod(
        lambda obj, aside: pickle.dumps(obj, PROTOCOL, buffer_callback=aside)
    )

    # `_send_whole` sends a message of bytes. `reserve` reserves memory for a message of a given size.
    _send_whole: Callable[..., None]
    reserve: Callable[..., Any]

    def _send_large(self, obj: object, pickled: Any, *waiting: Any) -> None:
        """Sends an object, of which ``pickled`` is a large pickle, or None."""
        if isinstance(pickled, bytes) and passes_descriptors(pickled):
            # The next object is pickled once, with its buffers out of band.
            self._large = True
            self._send_whole(pickled, *waiting)
            return
        frame = message(obj, self._dumps, self._dumps_apart)
        if isinstance(frame, bytes):
            self._large = len(frame) >= LARGE
            self._send_whole(frame, *waiting)
            return
        # The next object is not pickled first to find out whether it is large.
        self._large = True
        with self._room(frame.size, *waiting) as reservation:
            frame.write(reservation.data)

    def _room(self, size: int, *waiting: Any) -> Any:
        """A reservation for a frame. A queue that counts objects has counted this one already."""
        return self.reserve(size, *waiting)


def is_frame(data: memoryview) -> bool:
    """Whether a message is a frame."""
    return len(data) > 0 and data[0] == MAGIC[0]


def load(data: memoryview, parts: str) -> Any:
    """The object of a frame. ``parts`` says what its large parts are.

    ``COPIED``: copies. ``OWNED``: views of ``data``, which nothing else uses. ``VIEWED``: views of
    ``data``, which may be shared memory; then a `bytes` or `bytearray` is a view, too.
    """
    kind, pickled, views = _parts(data)
    if kind == PICKLED:
        buffers = (bytearray(view) if parts == COPIED else view for view in views)
        return pickle.loads(pickled, buffers=buffers)
    if parts == VIEWED:
        return views[0]
    return bytes(views[0]) if kind == BYTES else bytearray(views[0])


def unpickle(data: memoryview) -> Any:
    """The object in a message of `Queue.put`."""
    if data and data[0] == PICKLE:
        return pickle.loads(data)
    if is_frame(data):
        return load(data, COPIED)
    raise pickle.UnpicklingError(
        "the message was not put by Queue.put: take raw messages with get_bytes"
    )


def _parts(data: memoryview) -> Tuple[int, memoryview, List[memoryview]]:
    try:
        magic, count, kind, length = _HEAD.unpack_from(data)
        sizes = struct.unpack_from(f"<{count}Q", data, _HEAD.size)
    except (struct.error, MemoryError, OverflowError):
        raise pickle.UnpicklingError("a message of a large object is truncated") from None
    start = _HEAD.size + 8 * count
    places, end = _places(start + length, sizes)
    if magic != MAGIC or end > len(data) or (kind != PICKLED and count != 1) or kind > BYTEARRAY:
        raise pickle.UnpicklingError("a message of a large object is invalid")
    views = [data[place : place + size] for place, size in zip(places, sizes)]
    return kind, data[start : start + length], views
