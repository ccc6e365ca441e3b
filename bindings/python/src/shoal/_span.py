"""Bytes in shared memory that Python reads or writes in place."""

from __future__ import annotations

import ctypes
from typing import Any

from ._native import COUNTS_REFERENCES, references


class Span:
    """A view of bytes in shared memory. It can tell whether anything made from it is still in use.

    That needs reference counts. In PyPy, which has none, it is a view of a copy, which is written back at the
    end.
    """

    def __init__(self, address: int, size: int, handle: Any, *, readonly: bool) -> None:
        memory: Any = (ctypes.c_ubyte * size).from_address(address)
        # Anything made from the view keeps the shared object mapped.
        memory._handle = handle
        self.memory = memory
        if not COUNTS_REFERENCES:
            self._shared = memory
            self.memory = type(memory).from_buffer_copy(memory)
        self._readonly = readonly
        self.view = self._make_view()

    def _make_view(self) -> memoryview:
        view = memoryview(self.memory).cast("B")
        return view.toreadonly() if self._readonly else view

    def end(self) -> None:
        """Ends the view. `BufferError` while a slice of it, or an array, refers to the memory."""
        self.view.release()
        # Slices and numpy's arrays refer to the memory without being exports of the view.
        if self._references() > _ALONE:
            self.view = self._make_view()
            raise BufferError("something made from the data is still in use")
        if not (COUNTS_REFERENCES or self._readonly):
            ctypes.memmove(self._shared, self.memory, ctypes.sizeof(self.memory))

    def drop(self) -> bool:
        """Ends the view without writing back. Returns whether nothing else refers to the memory."""
        try:
            self.view.release()
        except BufferError:
            # Something has asked the view for its buffer.
            return False
        return self._references() <= _ALONE

    def _references(self) -> int:
        return references(self.memory)


_probe = Span.__new__(Span)
_probe.memory = ctypes.c_ubyte()
# What `_references` returns if only the `Span` refers to the memory.
_ALONE = _probe._references()
