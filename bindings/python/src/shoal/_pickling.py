"""Pickling as `multiprocessing` does: its extra reducers, and a library's too, apply."""

from __future__ import annotations

from multiprocessing.reduction import ForkingPickler
from typing import Any, Callable, List, Tuple

# As it is, the type checkers' library does not know all that a pickler takes.
_Pickler: Any = ForkingPickler


class _Sink:
    """What a pickler writes to: a list."""

    __slots__ = ("write",)

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self.write = write


# Picklers not in use, each with what it writes to. Making one copies its table of reducers; using
# one again does not. A list, so that a reducer or a signal handler that itself pickles something
# takes another.
_spare: List[Tuple[List[bytes], Any]] = []


def dumps(obj: object, protocol: int = -1) -> bytes:
    """Pickles an object; called as `pickle.dumps` is, but ``protocol`` is always the highest."""
    try:
        both = _spare.pop()
    except IndexError:
        parts: List[bytes] = []
        both = parts, _Pickler(_Sink(parts.append), -1)
    written, pickler = both
    # A pickler that failed half-way is dropped, not returned.
    pickler.dump(obj)
    data = written.pop() if len(written) == 1 else _together(written)
    pickler.clear_memo()
    _spare.append(both)
    return data


def dumps_apart(obj: object, aside: Any) -> bytes:
    """Pickles an object without what ``aside`` takes (PEP 574)."""
    written: List[bytes] = []
    _Pickler(_Sink(written.append), -1, True, aside).dump(obj)
    return _together(written)


def _together(written: List[bytes]) -> bytes:
    data = b"".join(written)
    written.clear()
    return data
