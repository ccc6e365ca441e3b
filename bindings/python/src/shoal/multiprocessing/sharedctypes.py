"""`multiprocessing.sharedctypes`: values and arrays of C types in shared memory.

Values and arrays with a lock are `shoal.Value` and `shoal.Array`, whose lock survives its owner. Those
without a lock, `RawValue` and `RawArray`, are plain memory and the standard library's. So are those for which
``/dev/shm`` has no room: their memory is a file in the temporary directory, as in the original.
"""

from __future__ import annotations

import ctypes
from typing import Any

from .. import _array
from .._attribute import assignable
from .._errors import NoSpaceError
from .._original import sharedctypes as _std

__all__ = ["Array", "RawArray", "RawValue", "Value", "copy"]

RawArray, RawValue, copy = _std.RawArray, _std.RawValue, _std.copy


@assignable
class Synchronized(_array.Value, _std.Synchronized):  # type: ignore[misc]
    """The class of `Value`; see `shoal.Value`."""


@assignable
class SynchronizedArray(_array.Array, _std.SynchronizedArray):  # type: ignore[misc]
    """The class of `Array`; see `shoal.Array`."""


class SynchronizedString(SynchronizedArray, _std.SynchronizedString):  # type: ignore[misc]
    """The class of an `Array` of characters, with ``value`` and ``raw``."""


def Value(typecode_or_type: Any, *args: Any, lock: Any = True, ctx: Any = None) -> Any:
    """A shared value of a C type. It has a lock of its own if ``lock`` is true, the given lock if it
    is one, and none if it is false."""
    if lock is False:
        return RawValue(typecode_or_type, *args)
    given = _given(lock)
    try:
        return Synchronized(typecode_or_type, *args, lock=True if given is None else given)
    except NoSpaceError:
        return _elsewhere(RawValue(typecode_or_type, *args), given)


def Array(
    typecode_or_type: Any, size_or_initializer: Any, *, lock: Any = True, ctx: Any = None
) -> Any:
    """A shared array of a C type. It has a lock of its own if ``lock`` is true, the given lock if it
    is one, and none if it is false."""
    if lock is False:
        return RawArray(typecode_or_type, size_or_initializer)
    given = _given(lock)
    items = size_or_initializer
    if not isinstance(items, int) and not hasattr(items, "__len__"):
        items = list(items)
    text = typecode_or_type in ("c", ctypes.c_char)
    cls = SynchronizedString if text else SynchronizedArray
    try:
        return cls(typecode_or_type, items, lock=True if given is None else given)
    except NoSpaceError:
        return _elsewhere(RawArray(typecode_or_type, items), given)


def _given(lock: Any) -> Any:
    """The lock that the program passed, or None."""
    if lock is True or lock is None:
        return None
    if not hasattr(lock, "acquire"):
        raise AttributeError(f"{lock!r} has no method 'acquire'")
    return lock


def _elsewhere(raw: Any, given: Any) -> Any:
    """The standard library's object, with one of our locks or the given one."""
    from .synchronize import RLock

    return _std.synchronized(raw, RLock() if given is None else given)


def __getattr__(name: str) -> Any:
    return getattr(_std, name)
