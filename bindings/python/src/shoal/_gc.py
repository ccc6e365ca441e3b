"""`shoal.gc`: what killed processes left in shared memory."""

from __future__ import annotations

import ctypes

from . import _ffi


def gc() -> int:
    """Removes objects whose every process was killed, and unfinished ones; how many.

    Never touches what a live process uses, what is persistent, or another user's.
    """
    removed = ctypes.c_size_t()
    _ffi.check(_ffi.lib.shoal_gc(ctypes.byref(removed)))
    return removed.value
