"""`shoal.gc`: what killed processes left in shared memory."""

from __future__ import annotations

import ctypes

from . import _ffi


def gc() -> int:
    """Removes objects whose every process was killed, and unfinished ones; how many.

    Never touches what a live process uses, what is persistent, or another user's. The first
    object that a process creates does the same for up to 5 ms, or 50 ms if there is much to
    remove, and so does what finds no memory.
    Looks in ``/dev/shm``, or in the directory that the environment variable ``SHOAL_DIR`` names.
    """
    removed = ctypes.c_size_t()
    _ffi.check(_ffi.lib.shoal_gc(ctypes.byref(removed)))
    return removed.value
