"""What owns a pointer of the native library, and when that is freed.

The last reference to a handle frees it, as with any object. What refers to handles may be part of a
circle, though, and be found by the garbage collector. That calls the finalizers of all it has
found in any order, those of handles before those of a program's objects that still use a lock, and
only then takes the objects apart. So a handle that others still refer to when its own finalizer
runs is freed once the collector is done; or at the end of the interpreter, when there is no such
time, by the end of the process (see `_end`).
"""

from __future__ import annotations

import gc
import sys
from ctypes import c_void_p

TYPE_CHECKING = False
if TYPE_CHECKING:
    import weakref
    from typing import Any, Callable, ClassVar, List


class _Probe(c_void_p):
    """Learns which reference count `__del__` sees of an object without references."""

    seen = 0

    def __del__(self) -> None:
        _Probe.seen = sys.getrefcount(self)


_Probe()
_ALONE = _Probe.seen


class Handle(c_void_p):
    """Owns one native pointer; the last reference to go frees it."""

    release: ClassVar[Any] = None
    # What is done with it before it is freed, unless the process is killed.
    settle: ClassVar[Any] = None
    # The field of `shoal_waitable` that it goes into, if it can be waited for.
    waitable: ClassVar[str] = ""
    # The objects that use it, some of which may be gone.
    users: "List[weakref.ref[Any]]"

    # By identity: ctypes makes its types unhashable.
    __hash__ = object.__hash__

    # Its globals may be gone at the end of the interpreter.
    def __del__(
        self,
        _references: Callable[[object], int] = sys.getrefcount,
        _alone: int = _ALONE,
        _is_ending: Callable[[], bool] = sys.is_finalizing,
    ) -> None:
        if not self.value:
            return
        if _references(self) <= _alone:
            self._free()
        elif not _is_ending():
            if not _postponed:
                gc.callbacks.append(_free_postponed)
            _postponed.append(self)
        elif type(self).settle is not None:
            type(self).settle(self)

    def _free(self) -> None:
        if type(self).settle is not None:
            type(self).settle(self)
        type(self).release(self)
        self.value = None


# Handles that the garbage collector has found. It calls a finalizer once only.
_postponed: List[Handle] = []


def _free_postponed(phase: str, _: object) -> None:
    if phase == "stop":
        gc.callbacks.remove(_free_postponed)
        while _postponed:
            handle = _postponed.pop()
            # Unless a finalizer has brought back to life what refers to it.
            if sys.getrefcount(handle) <= 2:
                handle._free()
