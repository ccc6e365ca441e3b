"""What the containers and queues of a manager contain, for the search for objects that are still in use."""

from __future__ import annotations

from typing import Any, Iterator

from . import _queue
from ._errors import Empty, ShoalError
from ._list import BytesList
from ._map import BytesMap

# More messages of a queue are not searched, because reading one takes longer the more are before it.
_MOST_MESSAGES = 1024


def version_of(container: Any) -> int:
    """A number that changes with the container."""
    stats = container.stats()
    version: int
    if isinstance(container, BytesMap):
        version = stats.changes
    elif isinstance(container, BytesList):
        version = stats.version
    else:
        version = stats.put + stats.taken
    return version


def pickles(container: Any) -> Iterator[bytes]:
    """The pickles in a container. `ShoalError` if some of them cannot be read."""
    if isinstance(container, _queue.Queue):
        yield from _messages(container)
    else:
        yield from container.values() if isinstance(container, BytesMap) else container


def _messages(queue: "_queue.Queue[Any]") -> Iterator[bytes]:
    stats = queue.stats()
    if stats.len > _MOST_MESSAGES or stats.unfinished > stats.len:
        raise ShoalError(f"queue {queue.name!r} has many messages, or some that are leased")
    # From the end: if others take messages meanwhile, one may come twice, and none is left out.
    for index in reversed(range(stats.len)):
        try:
            yield queue.peek_bytes(index)
        except Empty:
            pass
