"""Pickling as `multiprocessing` does: its extra reducers, and a library's too, apply.

They apply from the moment they are registered, though a pickler is used again and again. All picklers
here have one table of reducers between them, which is brought up to date in place:

- What `ForkingPickler.register` is told (torch does, when it is imported) comes to `_Extra`, which
  says that the table is out of date.
- `copyreg.pickle` calls nothing of ours. Its table, of a few entries, is compared with what it was
  before each object, in 50 ns.

A program may have a pickler of its own, by ``context.reducer``. It is used as the standard library uses it.
"""

from __future__ import annotations

import copyreg
import functools
from multiprocessing.reduction import ForkingPickler
from typing import Any, Callable, Dict, List, Tuple

from ._original import context as _context

# As it is, the type checkers' library does not know all that a pickler takes.
_Pickler: Any = ForkingPickler

_Reducers = Dict[Any, Callable[[Any], Any]]

_general: _Reducers = copyreg.dispatch_table
# What was in it when the table was made; empty, as it never is, if the table is out of date.
_general_then: _Reducers = {}
_table: _Reducers = {}


class _Extra(Dict[Any, Callable[[Any], Any]]):
    """The reducers of `ForkingPickler`."""


def _noted(name: str) -> Any:
    change = getattr(dict, name)

    def method(self: _Extra, *args: Any, **kwargs: Any) -> Any:
        try:
            return change(self, *args, **kwargs)
        finally:
            _general_then.clear()

    return functools.wraps(change)(method)


for _name in "__setitem__ __delitem__ __ior__ clear pop popitem setdefault update".split():
    setattr(_Extra, _name, _noted(_name))

_extra = _Pickler._extra_reducers = _Extra(_Pickler._extra_reducers)


def _renew() -> None:
    """Makes the table what a pickler that is made now would have."""
    global _general_then
    _general_then = _general.copy()
    fresh = {**_general_then, **_extra}
    for kind in _table.keys() - fresh.keys():
        del _table[kind]
    _table.update(fresh)


class _Sink:
    """What a pickler writes to: a list."""

    __slots__ = ("write",)

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self.write = write


# Picklers not in use, each with what it writes to. A list, so that a reducer or a signal handler that
# itself pickles something takes another.
_spare: List[Tuple[List[bytes], Any]] = []


def _chosen() -> Any:
    """The class whose ``dumps`` pickles: the standard library's, or a program's own."""
    return getattr(_context.reduction, "ForkingPickler", _Pickler)


def choose_anew() -> None:
    """A program has set the reducer. Before the first object is pickled there is nothing to do."""
    _spare.clear()


def _pickler(*args: Any) -> Any:
    made = _Pickler(*args)
    made.dispatch_table = _table
    return made


def dumps(obj: object, protocol: int = -1) -> bytes:
    """Pickles an object; called as `pickle.dumps` is, but ``protocol`` is always the highest."""
    try:
        both = _spare.pop()
    except IndexError:
        chosen = _chosen()
        if chosen is not _Pickler:
            return bytes(chosen.dumps(obj))
        parts: List[bytes] = []
        both = parts, _pickler(_Sink(parts.append), -1)
    if _general != _general_then:
        _renew()
    written, pickler = both
    # A pickler that failed half-way is dropped, not returned.
    pickler.dump(obj)
    data = written.pop() if len(written) == 1 else _together(written)
    pickler.clear_memo()
    _spare.append(both)
    return data


def dumps_apart(obj: object, aside: Any) -> bytes:
    """Pickles an object without what ``aside`` takes (PEP 574)."""
    chosen = _chosen()
    if chosen is not _Pickler:
        return bytes(chosen.dumps(obj))
    written: List[bytes] = []
    if _general != _general_then:
        _renew()
    _pickler(_Sink(written.append), -1, True, aside).dump(obj)
    return _together(written)


def _together(written: List[bytes]) -> bytes:
    data = b"".join(written)
    written.clear()
    return data


_renew()
