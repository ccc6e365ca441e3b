"""Reads the containers and queues of a manager, to find the objects that are still in use."""

from __future__ import annotations

from typing import Any, Iterator

from . import _queue
from ._errors import Empty, ShoalError
from ._list import BytesList
from ._map import BytesMap

# Longer queues are not searched, because the time to read a message grows with the number before it.
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
    # From the end: if others take messages meanwhile, one may be read twice, but none is skipped.
    for index in reversed(range(stats.len)):
        try:
            yield queue.peek_bytes(index)
        except Empty:
            pass
