"""The owner of a pointer of the native library, and when the pointer is freed.

A handle is freed when its last reference is dropped. But objects that refer to handles may be part of a
reference cycle. The garbage collector calls the finalizers of a cycle in any order, so the finalizer of
a handle may run before that of a program's object that still uses the handle. The collector clears the
objects only afterwards. So a handle that is still referred to when its finalizer runs is freed once the
collection is over. At the end of the interpreter no collection ends; then the end of the process frees
it (see `_end`).

PyPy does not count references. Its collector finalizes an object before those that it refers to, except
in cycles.
"""

from __future__ import annotations

import gc
import sys
from ctypes import c_void_p

TYPE_CHECKING = False
if TYPE_CHECKING:
    import weakref
    from typing import Any, Callable, ClassVar, List, Sequence


COUNTS_REFERENCES = hasattr(sys, "getrefcount")
# The number of references to an object; 0 where they are not counted.
references: Callable[[object], int] = getattr(sys, "getrefcount", lambda _: 0)


class _Probe(c_void_p):
    """Measures which reference counts a function sees for an object without other references."""

    in_del = 0

    def __del__(self, _references: Callable[[object], int] = references) -> None:
        _Probe.in_del = _references(self)

    @staticmethod
    def in_variable() -> int:
        probe = _Probe()
        return references(probe)


_IN_VARIABLE = _Probe.in_variable()
_IN_DEL = _Probe.in_del


class Handle(c_void_p):
    """Owns one native pointer and frees it when the last reference to the handle is dropped."""

    # The function of the library that frees the pointer.
    release: ClassVar[Any] = None
    # A function that is called before `release`, and at a normal end of the process.
    before_release: ClassVar[Any] = None
    # The field of `shoal_waitable` for this kind of handle; empty if it cannot be waited for.
    waitable: ClassVar[str] = ""
    # The objects that use the handle. Some may have been freed.
    users: "Sequence[weakref.ref[Any]]" = ()

    # By identity: ctypes makes its types unhashable.
    __hash__ = object.__hash__

    # Arguments with defaults, because globals may be deleted at the end of the interpreter.
    def __del__(
        self,
        _references: Callable[[object], int] = references,
        _alone: int = _IN_DEL,
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
        elif type(self).before_release is not None:
            type(self).before_release(self)

    def _free(self) -> None:
        if type(self).before_release is not None:
            type(self).before_release(self)
        type(self).release(self)
        self.value = None


# Handles to be freed when the collection is over. The collector calls each finalizer only once.
_postponed: List[Handle] = []


def _free_postponed(phase: str, _: object) -> None:
    if phase == "stop":
        gc.callbacks.remove(_free_postponed)
        while _postponed:
            handle = _postponed.pop()
            # Unless a finalizer has resurrected an object that refers to it.
            if references(handle) <= _IN_VARIABLE:
                handle._free()
