"""Large objects as messages: what they consist of is written into shared memory once.

Pickling copies a large array into the pickle, putting copies that into the queue, and getting and
unpickling copy it twice more. Here the large parts stay out of the pickle (pickle protocol 5,
PEP 574), and are written straight to where the message lies::

    byte 0   8     magic; no pickle of protocol 2 or later begins like it
         8   4     how many buffers
        12   4     what it is: PICKLED, or BYTES or BYTEARRAY, which have one buffer and no pickle
        16   8     bytes of the pickle
        24   8 n   bytes of each buffer
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

# Smaller ones are copied faster than they are taken care of.
LARGE = 64 * 1024

_HEAD = struct.Struct("<8sIIQ")
_ALIGN = 64


class Frame:
    """A message in parts, which does not hold them together yet."""

    def __init__(self, what: int, pickled: bytes, buffers: Sequence[memoryview]) -> None:
        sizes = [buffer.nbytes for buffer in buffers]
        head = _HEAD.pack(MAGIC, len(sizes), what, len(pickled))
        self._head = head + struct.pack(f"<{len(sizes)}Q", *sizes) + pickled
        self._buffers = buffers
        self._places, self.size = _places(len(self._head), sizes)

    def write(self, to: memoryview) -> None:
        """Writes the message; ``to`` has `size` bytes."""
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
    """The message of a large `bytes` or `bytearray`; None for anything else."""
    kind = type(obj)
    if (kind is bytes or kind is bytearray) and len(obj) >= LARGE:
        return Frame(BYTES if kind is bytes else BYTEARRAY, b"", [memoryview(obj)])
    return None


def message(
    obj: object,
    dumps: Callable[[object, int], bytes],
    dumps_apart: Callable[[object, _Aside], bytes],
) -> _Message:
    """The message of an object: a plain pickle, unless it has large parts.

    Both pickle; what the second argument of ``dumps_apart`` is called with stays out.
    """
    frame = of_bytes(obj)
    if frame is not None:
        return frame
    buffers: List[pickle.PickleBuffer] = []
    pickled = dumps_apart(obj, buffers.append)
    try:
        views = [buffer.raw() for buffer in buffers]
    except BufferError:
        # Not contiguous: pickling makes it so.
        views = []
    if sum(view.nbytes for view in views) >= LARGE:
        return Frame(PICKLED, pickled, views)
    return dumps(obj, PROTOCOL) if buffers else pickled


class Sender:
    """An object that sends others, some of which may be large."""

    # Whether the last one was.
    _large = False
    # How objects are pickled, always with `PROTOCOL`, and how without what the second argument
    # takes (PEP 574). Not a `partial` that holds the protocol. Measured: a small tuple takes 396 ns
    # with a `partial`, and 226 without.
    _dumps: Any = staticmethod(pickle.dumps)
    _dumps_apart: Any = staticmethod(
        lambda obj, aside: pickle.dumps(obj, PROTOCOL, buffer_callback=aside)
    )

    # What sends a message of bytes, and what makes room for one of a size.
    _send_whole: Callable[..., None]
    reserve: Callable[..., Any]

    def _send_large(self, obj: object, *waiting: Any) -> None:
        message_of_it = message(obj, self._dumps, self._dumps_apart)
        if isinstance(message_of_it, bytes):
            self._large = len(message_of_it) >= LARGE
            self._send_whole(message_of_it, *waiting)
            return
        # Next time it is not pickled first to find out that it is large.
        self._large = True
        with self.reserve(message_of_it.size, *waiting) as room:
            message_of_it.write(room.data)


def is_frame(data: memoryview) -> bool:
    """Whether a message is one of these."""
    return len(data) > 0 and data[0] == MAGIC[0]


def load(data: memoryview, parts: str) -> Any:
    """The object. Its large parts are copied from ``data`` (``COPIED``), or lie in it, which nothing
    else uses (``OWNED``) or others do (``VIEWED``: of bytes it is a view, too)."""
    what, pickled, views = _parts(data)
    if what == PICKLED:
        buffers = (bytearray(view) if parts == COPIED else view for view in views)
        return pickle.loads(pickled, buffers=buffers)
    if parts == VIEWED:
        return views[0]
    return bytes(views[0]) if what == BYTES else bytearray(views[0])


def unpickle(data: memoryview) -> Any:
    """The object a message of `Queue.put` holds."""
    if data and data[0] == PICKLE:
        return pickle.loads(data)
    if is_frame(data):
        return load(data, COPIED)
    raise pickle.UnpicklingError(
        "the message was not put by Queue.put: take raw messages with get_bytes"
    )


def _parts(data: memoryview) -> Tuple[int, memoryview, List[memoryview]]:
    try:
        magic, count, what, length = _HEAD.unpack_from(data)
        sizes = struct.unpack_from(f"<{count}Q", data, _HEAD.size)
    except (struct.error, MemoryError, OverflowError):
        raise pickle.UnpicklingError("a message of parts is cut off") from None
    start = _HEAD.size + 8 * count
    places, end = _places(start + length, sizes)
    if magic != MAGIC or end > len(data) or (what != PICKLED and count != 1) or what > BYTEARRAY:
        raise pickle.UnpicklingError("a message of parts does not hold together")
    views = [data[place : place + size] for place, size in zip(places, sizes)]
    return what, data[start : start + length], views
