"""The views that `items` and `values` of a map return. Each iteration is one pass over the map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ItemsView, Iterator, Tuple, TypeVar, ValuesView

if TYPE_CHECKING:
    from ._map import _SharedMap

K = TypeVar("K")
V = TypeVar("V")


class Items(ItemsView[K, V]):
    """Entries in one walk, instead of a look-up for each key."""

    _mapping: "_SharedMap[K, V]"

    def __iter__(self) -> Iterator[Tuple[K, V]]:
        mapping = self._mapping
        for key, value in mapping._entries():
            yield mapping._decode_key(key), mapping._decode_value(value)


class Values(ValuesView[V]):
    """Values in one walk, instead of a look-up for each key."""

    _mapping: "_SharedMap[Any, V]"

    def __iter__(self) -> Iterator[V]:
        mapping = self._mapping
        for _, value in mapping._entries():
            yield mapping._decode_value(value)
