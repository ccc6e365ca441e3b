"""Bytes in shared memory that Python reads or writes in place."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

# `sys.getrefcount` of memory to which only its `Span` refers: that reference and the argument.
_ALONE = 2


class Span:
    """A view of bytes in shared memory. It can tell whether anything made from it is still in use."""

    def __init__(self, address: int, size: int, handle: Any, *, readonly: bool) -> None:
        memory: Any = (ctypes.c_ubyte * size).from_address(address)
        # Anything made from the view keeps the shared object mapped.
        memory._handle = handle
        self.memory = memory
        self._readonly = readonly
        self.view = self._make_view()

    def _make_view(self) -> memoryview:
        view = memoryview(self.memory).cast("B")
        return view.toreadonly() if self._readonly else view

    def end(self) -> None:
        """Ends the view. `BufferError` while a slice of it, or an array, refers to the memory."""
        self.view.release()
        # Slices and numpy's arrays refer to the memory without being exports of the view.
        if sys.getrefcount(self.memory) > _ALONE:
            self.view = self._make_view()
            raise BufferError("something made from the data is still in use")
