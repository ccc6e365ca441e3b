"""Pickling as `multiprocessing` does, with its extra reducers and those of libraries.

A reducer applies from the moment it is registered, although picklers are reused. All picklers here
share one table of reducers, which is updated in place:

- `ForkingPickler.register` (torch calls it when it is imported) changes `_Extra`, which marks the
  table as out of date.
- `copyreg.pickle` changes a table of a few entries. It is compared with its last copy before each
  object is pickled, in 50 ns.

If a program sets its own pickler by ``context.reducer``, that one is used as in the standard library.
"""

from __future__ import annotations

import copyreg
import functools
import pickle
from multiprocessing.reduction import ForkingPickler
from typing import Any, Callable, Dict, List, Tuple

from ._original import context as _context

# Typed as Any, because the stubs of type checkers lack some arguments of the constructor.
_Pickler: Any = ForkingPickler

_Reducers = Dict[Any, Callable[[Any], Any]]

_general: _Reducers = copyreg.dispatch_table
# Its copy at the last update of `_table`. Empty, which `_general` never is, if `_table` is out of date.
_general_copy: _Reducers = {}
# The table of all picklers: `_general` and `_extra`.
_table: _Reducers = {}


class _Extra(Dict[Any, Callable[[Any], Any]]):
    """The reducers of `ForkingPickler`."""


def _invalidating(name: str) -> Any:
    """A method of `dict` that marks `_table` as out of date after it has changed the dictionary."""
    change = getattr(dict, name)

    def method(self: _Extra, *args: Any, **kwargs: Any) -> Any:
        try:
            return change(self, *args, **kwargs)
        finally:
            _general_copy.clear()

    return functools.wraps(change)(method)


for _name in "__setitem__ __delitem__ __ior__ clear pop popitem setdefault update".split():
    setattr(_Extra, _name, _invalidating(_name))

_extra = _Pickler._extra_reducers = _Extra(_Pickler._extra_reducers)


def _renew() -> None:
    """Updates the table to the one that a new pickler would have."""
    global _general_copy
    _general_copy = _general.copy()
    fresh = {**_general_copy, **_extra}
    for kind in _table.keys() - fresh.keys():
        del _table[kind]
    _table.update(fresh)


class _Sink:
    """The file of a pickler, which appends to a list."""

    __slots__ = ("write",)

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self.write = write


# Picklers that are not in use, each with its list. More than one, because a reducer or a signal handler
# may pickle an object while another is being pickled.
_spare: List[Tuple[List[bytes], Any]] = []


def _chosen() -> Any:
    """The class whose ``dumps`` pickles: the standard library's, or a program's own."""
    return getattr(_context.reduction, "ForkingPickler", _Pickler)


def discard_picklers() -> None:
    """Called after a program has set the reducer, so that the next object is pickled by it."""
    _spare.clear()


# A pickler that is written in Python (PyPy's) takes `buffer_callback` by keyword only, which `ForkingPickler`
# does not pass on.
_IN_PYTHON = issubclass(_Pickler, pickle._Pickler)


def _pickler(sink: _Sink, aside: Any = None) -> Any:
    if _IN_PYTHON:
        made = _Pickler(sink, -1)
        made._buffer_callback = aside
    else:
        made = _Pickler(sink, -1, True, aside)
    made.dispatch_table = _table
    return made


def dumps(obj: object, protocol: int = -1) -> bytes:
    """Pickles an object. Has the signature of `pickle.dumps`, but always uses the highest protocol."""
    try:
        both = _spare.pop()
    except IndexError:
        chosen = _chosen()
        if chosen is not _Pickler:
            return bytes(chosen.dumps(obj))
        parts: List[bytes] = []
        both = parts, _pickler(_Sink(parts.append))
    if _general != _general_copy:
        _renew()
    written, pickler = both
    # A pickler that raises is dropped and not returned to the list.
    pickler.dump(obj)
    data = written.pop() if len(written) == 1 else _together(written)
    pickler.clear_memo()
    _spare.append(both)
    return data


def dumps_apart(obj: object, aside: Any) -> bytes:
    """Pickles an object without the buffers that ``aside`` takes (PEP 574)."""
    chosen = _chosen()
    if chosen is not _Pickler:
        return bytes(chosen.dumps(obj))
    written: List[bytes] = []
    if _general != _general_copy:
        _renew()
    _pickler(_Sink(written.append), aside).dump(obj)
    return _together(written)


def _together(written: List[bytes]) -> bytes:
    data = b"".join(written)
    written.clear()
    return data


_renew()
