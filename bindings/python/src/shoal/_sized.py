"""Structs of the C interface that begin with their own size."""

from __future__ import annotations

from ctypes import Structure, sizeof

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Sized(Structure):
    """A struct whose first field is its size, so that libraries of other versions can read it."""

    def __init__(self, **fields: Any) -> None:
        super().__init__(sizeof(self), **fields)

    def __repr__(self) -> str:
        fields = [f"{field[0]}={getattr(self, field[0])!r}" for field in self._fields_[1:]]
        return f"{type(self).__name__}({', '.join(fields)})"
