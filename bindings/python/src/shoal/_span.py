"""Bytes in shared memory that Python reads or writes in place."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

# What `sys.getrefcount` says of memory that only its `Span` refers to: that, and the argument.
_ALONE = 2


class Span:
    """Bytes in shared memory, and whether anything made from them is still in use."""

    def __init__(self, address: int, size: int, handle: Any, *, readonly: bool) -> None:
        memory: Any = (ctypes.c_ubyte * size).from_address(address)
        # Whatever is made from the view keeps the object mapped.
        memory._handle = handle
        self.memory = memory
        self._readonly = readonly
        self.view = self._look()

    def _look(self) -> memoryview:
        view = memoryview(self.memory).cast("B")
        return view.toreadonly() if self._readonly else view

    def give_up(self) -> None:
        """Ends the view. `BufferError` while a slice of it, or an array, looks at the memory."""
        self.view.release()
        # Slices and numpy's arrays hold the memory without being exports of the view.
        if sys.getrefcount(self.memory) > _ALONE:
            self.view = self._look()
            raise BufferError("something made from the data is still in use")
