"""`shoal.gc`: removes what killed processes left in shared memory."""

from __future__ import annotations

import ctypes

from . import _ffi


def gc() -> int:
    """Removes the objects whose processes were all killed, and objects whose creation was cut short by
    a kill. Returns how many it removed.

    It never removes an object that a live process uses, a persistent object, or an object of another
    user. It searches ``/dev/shm``, or the directory that the environment variable ``SHOAL_DIR`` names,
    and waits for no other process. A call is rarely needed: the first creation of an object in a
    process does the same for up to 5 ms, or 50 ms if there is much to remove, and so does a call that
    finds no memory.

    ::

        removed = shoal.gc()
    """
    removed = ctypes.c_size_t()
    _ffi.check(_ffi.lib.shoal_gc(ctypes.byref(removed)))
    return removed.value
