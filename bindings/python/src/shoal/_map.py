"""`shoal.Map` and `shoal.BytesMap`: a dictionary that processes share."""

from __future__ import annotations

import ctypes
import pickle
import time
from contextlib import nullcontext
from numbers import Integral, Number
from typing import Any, Callable, ContextManager, Dict, Iterator, List, MutableMapping, Optional
from typing import Tuple, TypeVar, Union, cast, overload

from . import _abi, _codec, _ffi, _hot, _structs
from ._attribute import attribute
from ._cache import CACHED_KEYS, GOT_ONCE, MISSING as _MISSING, Cached
from ._errors import InvalidError
from ._handles import Shared, unlink
from ._keys import Keys, MapHandle, View, WalkHandle
from ._views import Items, Values

K = TypeVar("K")
V = TypeVar("V")
_D = TypeVar("_D")
_R = TypeVar("_R")

_lib = _ffi.lib

# For keys and values of up to `INT_MAX` bytes. With a small tuple a get takes 3.5 us with prototypes
# and 3.1 us without, a set 4.3 us and 2.9 us.
_get = _ffi.untyped("shoal_map_get")
_set = _ffi.untyped("shoal_map_set")
_INT_MAX = _ffi.INT_MAX
_take_buffer, _give_buffer = _ffi.take_buffer, _ffi.give_buffer
_encode_key = _codec.encode_key
_number = _codec.COUNTER.unpack_from
# The first number that is too large for a counter.
_COUNTER_END = 1 << 63
# The methods of `Map` that encode and decode the most frequent keys and values themselves.
_SHORTCUTS = "__getitem__", "__setitem__", "__delitem__", "__contains__", "get", "add"


class _SharedMap(Shared, Keys[K, V], MutableMapping[K, V]):
    """The methods of both maps, on top of the abstract encoding of keys and values."""

    def __init__(
        self,
        name: Optional[str] = None,
        *,
        create: bool = True,
        exclusive: bool = False,
        persistent: bool = False,
        capacity: int = 0,
        max_capacity: int = 0,
        ordered: bool = False,
        compact: bool = False,
    ) -> None:
        flags = _ffi.flags(create, exclusive, persistent)
        flags |= (_abi.ORDERED * ordered) | (_abi.COMPACT * compact)
        self._open_with(
            _lib.shoal_map_open,
            MapHandle(),
            None if name is None else _ffi.encode(name),
            _ffi.options(
                _structs.MapOptions, flags, capacity=capacity, max_capacity=max_capacity
            ),
        )

    def _encode_key(self, key: Any) -> bytes:
        raise NotImplementedError

    def _decode_key(self, data: bytes) -> K:
        raise NotImplementedError

    def _encode_value(self, value: V) -> bytes:
        raise NotImplementedError

    def _decode_value(self, data: Any) -> V:
        raise NotImplementedError

    # -- reading ----------------------------------------------------------------------

    def _find(self, key: bytes) -> Any:
        """The value of ``key``; ``_MISSING`` if the key is absent."""
        buffer = _ffi.take_buffer()
        try:
            call = _get if len(key) <= _ffi.INT_MAX else _lib.shoal_map_get
            status = call(
                self._live(), key, len(key), buffer.pointer, buffer.size, buffer.length_ref, None
            )
            if status == _abi.OK:
                return self._decode_value(buffer.view[: buffer.length.value])
        finally:
            _ffi.give_buffer(buffer)
        if status == _abi.ERR_NOT_FOUND:
            return _MISSING
        return self._read(_lib.shoal_map_get, key, self._decode_value, None)

    def _read(
        self, function: Any, key: bytes, convert: Callable[[Any], _R], *more: None
    ) -> _R:
        """Calls `shoal_map_get`, with ``more`` outputs, or `_take`; ``_MISSING`` if the key is absent."""
        buffer = _ffi.take_buffer()
        try:
            while True:
                out = buffer.address, buffer.size, buffer.length_ref
                status = function(self._live(), key, len(key), *out, *more)
                if status == _abi.OK:
                    return convert(buffer.view[: buffer.length.value])
                if status == _abi.ERR_NOT_FOUND:
                    return cast(_R, _MISSING)
                if status == _abi.ERR_BUFFER_TOO_SMALL:
                    # Nothing was taken; the value may have changed by the next try.
                    buffer = _ffi.take_buffer(buffer.length.value)
                elif status != _abi.ERR_INTERRUPTED:
                    raise _ffi.error(status)
        finally:
            _ffi.give_buffer(buffer)

    def _lookup(self, key: Any) -> Any:
        """The value of ``key``; ``_MISSING`` if the key is absent."""
        return self._find(self._encode_key(key))

    def __getitem__(self, key: K) -> V:
        value = self._lookup(key)
        if value is _MISSING:
            raise KeyError(key)
        return cast(V, value)

    @overload
    def get(self, key: K) -> Optional[V]: ...

    @overload
    def get(self, key: K, default: Union[V, _D]) -> Union[V, _D]: ...

    def get(self, key: K, default: Any = None) -> Any:
        """The value of ``key``, or ``default``."""
        value = self._lookup(key)
        return default if value is _MISSING else value

    def __contains__(self, key: object) -> bool:
        data = self._encode_key(key)
        found = ctypes.c_bool()
        _ffi.check(
            _lib.shoal_map_contains(self._live(), data, len(data), ctypes.byref(found))
        )
        return found.value

    def __len__(self) -> int:
        return _ffi.fetch_u64(_lib.shoal_map_len, self._live())

    @attribute
    def ordered(self) -> bool:
        """Whether the map was created with ``ordered``."""
        return _SharedMap.stats(self).ordered

    def stats(self) -> _structs.MapStats:
        """Statistics of the map."""
        return _ffi.fetch_stats(_lib.shoal_map_stat, self._live(), _structs.MapStats)

    def __bool__(self) -> bool:
        return len(self) > 0

    def __iter__(self) -> Iterator[K]:
        for key, _ in self._entries():
            yield self._decode_key(key)

    def _entries(self) -> Iterator[Tuple[bytes, bytes]]:
        """Copies of the entries. A key that is present during the whole walk is yielded exactly once."""
        live = self._live()
        walk = WalkHandle()
        _ffi.check(_lib.shoal_map_iter_new(live, ctypes.byref(walk)))
        walk.map = live
        key, value = ctypes.c_void_p(), ctypes.c_void_p()
        key_length, value_length = ctypes.c_size_t(), ctypes.c_size_t()
        out = [ctypes.byref(x) for x in (key, key_length, value, value_length)]
        while True:
            status = _lib.shoal_map_iter_next(walk, *out)
            if status == _abi.ERR_END:
                return
            if status == _abi.ERR_INTERRUPTED:
                continue
            _ffi.check(status)
            yield (
                ctypes.string_at(key.value or 0, key_length.value) if key_length.value else b"",
                ctypes.string_at(value.value or 0, value_length.value)
                if value_length.value
                else b"",
            )

    def items(self) -> Items[K, V]:
        """A view of the entries. Each iteration is one walk over the map."""
        return Items(self)

    def values(self) -> Values[V]:
        """A view of the values. Each iteration is one walk over the map."""
        return Values(self)

    def copy(self) -> Dict[K, V]:
        """A plain `dict` of the entries."""
        return dict(self.items())

    # -- writing ----------------------------------------------------------------------

    def __setitem__(self, key: K, value: V) -> None:
        k, v = self._encode_key(key), self._encode_value(value)
        if len(k) | len(v) > _INT_MAX:
            self._set_again(k, v, _abi.ERR_INTERRUPTED)
        else:
            status = _set(self._fast, k, len(k), v, len(v))
            if status:
                self._set_again(k, v, status)

    def _set_again(self, key: bytes, value: bytes, status: int) -> None:
        """Repeats a call that a signal ended before it set anything. Raises for any other status: if the map has
        a relay, the call may have waited for its answer, and the relay may have set the value."""
        while status == _abi.ERR_INTERRUPTED:
            status = _lib.shoal_map_set(self._live(), key, len(key), value, len(value))
        self._raise_for(status)

    def __delitem__(self, key: K) -> None:
        data = self._encode_key(key)
        status = _lib.shoal_map_remove(self._live(), data, len(data))
        if status == _abi.ERR_NOT_FOUND:
            raise KeyError(key)
        _ffi.check(status)

    def insert(self, key: K, value: V) -> bool:
        """Sets ``key`` if it is absent. Atomic. Returns whether it was absent."""
        return self._insert(self._encode_key(key), self._encode_value(value))

    def _insert(self, key: bytes, value: bytes) -> bool:
        inserted = ctypes.c_bool()
        _ffi.check(
            _lib.shoal_map_insert(
                self._live(), key, len(key), value, len(value), ctypes.byref(inserted)
            )
        )
        return inserted.value

    @overload
    def setdefault(self: "_SharedMap[K, Optional[_D]]", key: K) -> Optional[_D]: ...

    @overload
    def setdefault(self, key: K, default: V) -> V: ...

    def setdefault(self, key: K, default: Any = None) -> Any:
        """The value of ``key``, which is set to ``default`` if it is absent. Atomic.

        If several processes race, one sets its default, and all return that value.
        """
        k, v = self._encode_key(key), self._encode_value(default)
        while True:
            value = self._find(k)
            if value is not _MISSING:
                return value
            if self._insert(k, v):
                return default

    @overload
    def pop(self, key: K) -> V: ...

    @overload
    def pop(self, key: K, default: Union[V, _D]) -> Union[V, _D]: ...

    def pop(self, key: K, default: Any = _MISSING) -> Any:
        """Removes ``key`` and returns its value. Atomic: if processes race, one gets the value."""
        value = self._read(_lib.shoal_map_take, self._encode_key(key), self._decode_value)
        if value is not _MISSING:
            return value
        if default is _MISSING:
            raise KeyError(key)
        return default

    def popitem(self) -> Tuple[K, V]:
        """Removes and returns an entry: the last one of an ordered map, else any. `KeyError` if the map
        is empty."""
        while True:
            is_empty = True
            keys = self._last_key() if self.ordered else (key for key, _ in self._entries())
            for key in keys:
                is_empty = False
                value = self._read(_lib.shoal_map_take, key, self._decode_value)
                if value is not _MISSING:
                    return self._decode_key(key), value
            if is_empty:
                raise KeyError("popitem(): the map is empty")

    def _last_key(self) -> List[bytes]:
        """The key of an ordered map that was inserted last, in a list; an empty list if there is none."""
        key: Any = self._read(
            lambda live, _key, _length, *out: _lib.shoal_map_last_key(live, *out), b"", bytes
        )
        return [] if key is _MISSING else [key]

    def clear(self) -> None:
        """Removes every entry."""
        _ffi.check(_lib.shoal_map_clear(self._live()))

    def update_with(self, key: K, function: Callable[[V], V], default: V = _MISSING) -> V:
        """Replaces the value of ``key`` by ``function(value)``. Atomic. Returns the new value.

        If the key is absent, ``function`` gets ``default``, or the call raises `KeyError` without one.
        The key is locked meanwhile (see `lock_key`), so the updates of several processes follow one
        another. If the value is changed by other means meanwhile, ``function`` is called again, so it
        must have no side effects. A kill at any time leaves the old value or the new one.
        """
        k = self._encode_key(key)
        with self._lock_unless_relayed(key):
            while True:
                found = self._read_versioned(k)
                if found is not None:
                    old, version = self._decode_value(found[0]), found[1]
                elif default is not _MISSING:
                    old, version = default, 0
                else:
                    raise KeyError(key)
                new = function(old)
                if self._swap_version(k, version, self._encode_value(new)):
                    return new

    # -- the object -------------------------------------------------------------------

    @staticmethod
    def unlink(name: str) -> None:
        """Removes the name. Attached processes may continue. Needed for persistent maps."""
        unlink(name, _abi.KIND_MAP)

    def __repr__(self) -> str:
        state = "detached" if self._handle is None else f"{len(self)} entries"
        return f"<shoal.{type(self).__name__} {self._name!r}, {state}>"


class BytesMap(_SharedMap[bytes, bytes]):
    """A shared map from bytes to bytes, as programs in other languages see it.

    ::

        ages = shoal.BytesMap("ages")       # the name that a C, C++ or Rust program uses
        ages[b"ada"] = b"36"

    `Map.raw` shows the entries of a `Map` in this way. Arguments and methods are those of `Map`. A
    counter of `add` is 8 bytes, little-endian, signed.
    """

    __module__ = "shoal"

    _of_bytes = True

    def _encode_key(self, key: Any) -> bytes:
        return _codec.as_bytes(key, "a key of a BytesMap")

    def _decode_key(self, data: bytes) -> bytes:
        return data

    def _encode_value(self, value: Any) -> bytes:
        return _codec.as_bytes(value, "a value of a BytesMap")

    def _decode_value(self, data: Any) -> bytes:
        return bytes(data)

    def add(self, key: bytes, delta: int = 1) -> int:
        """Adds ``delta`` to the integer of ``key``. Atomic. Returns the sum. An absent key counts as 0.

        Wraps around at 64 bits. `InvalidError` if the value is no such integer.
        """
        data, delta = self._encode_key(key), _ffi.number(delta, "delta", signed=True)
        out = ctypes.c_int64()
        _ffi.check(_lib.shoal_map_add(self._live(), data, len(data), delta, ctypes.byref(out)))
        return out.value

    def add_float(self, key: bytes, delta: float) -> float:
        """Adds ``delta`` to the double of ``key``. Atomic. Returns the sum. An absent key counts as 0.

        The value is 8 bytes, little-endian; `InvalidError` if it is not.
        """
        data, out = self._encode_key(key), ctypes.c_double()
        try:
            number = ctypes.c_double(delta)
        except TypeError:
            raise TypeError(f"delta is a number, not {delta!r}") from None
        _ffi.check(
            _lib.shoal_map_add_f64(self._live(), data, len(data), number, ctypes.byref(out))
        )
        return out.value

    def view(self, key: bytes) -> View:
        """The value of ``key`` in place, without a copy. `KeyError` if the key is absent.

        `ExhaustedError` if all twelve views and key locks of its part of the map are taken.
        """
        data, live, place = self._encode_key(key), self._live(), _structs.View()
        view = View(live, place)
        try:
            status = _lib.shoal_map_view(live, data, len(data), ctypes.byref(place))
            if status == _abi.ERR_NOT_FOUND:
                raise KeyError(key)
            _ffi.check(status)
            view._begin()
        except BaseException:
            view._give_back()
            raise
        return view


@_hot.compiled
class Map(Cached, _SharedMap[K, V]):
    """A dictionary that processes of this machine share.

    ::

        ages: shoal.Map[str, int] = shoal.Map("ages")   # the same in every process
        ages["ada"] = 36
        ages.add("ada", 1)                              # atomic

    ``Map(name)`` opens the map or creates it; ``Map()`` creates one with a generated name. It has the
    interface of a `dict`. Every call is atomic for its key, including `setdefault`, `pop`, `add` and
    `compare_swap`. But ``m[k] += 1`` is two calls: use `add` or `update_with`. A value is a copy:
    changing a list that was read changes nothing in the map until the list is set again.

    Keys are texts, numbers, bytes, tuples of these, or any hashable object that can be pickled. A key has
    at most 65536 bytes, a text in UTF-8. Keys that are equal are one key; those of other types have to
    pickle to equal bytes, which instances of a class with its own ``__eq__``, and the same time in two
    zones, do not. Values are any objects that can be pickled. `_codec` defines the encoding: for other languages, text keys
    are UTF-8 and integers 8 bytes; `raw` shows everything else. Values are unpickled, so open only
    maps that programs you trust write to.

    A number, text or bytes that this process has read before is returned from a cache in its own memory,
    as long as nothing changes in the same part of the map.

    Arguments are those of `shoal.Queue`, without ``maxsize`` and ``max_attempts``. A new map with
    ``ordered=True`` keeps the order of insertion, as a `dict` does; this takes 8 bytes for each entry,
    and each iteration begins by copying all keys. With ``compact=True`` it has 4 parts with a lock each
    instead of 64: empty it takes 12 KiB of memory instead of 48, and at most 4 processes change it at
    the same time. That is for programs with many maps of a few keys each. A forked child may use the map.
    A process that is killed inside a call never blocks others, and leaves the old value or the new one.
    """

    __module__ = "shoal"

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        hooks = "_encode_key", "_encode_value", "_decode_value"
        _hot.without_shortcuts(cls, Map, _SharedMap, hooks, _SHORTCUTS)

    def _encode_key(self, key: Any) -> bytes:
        return _codec.encode_key(key)

    def _decode_key(self, data: bytes) -> K:
        return cast(K, _codec.decode_key(data))

    # How values are pickled, always with the highest protocol.
    _dumps: Any = staticmethod(pickle.dumps)

    def _encode_value(self, value: V) -> bytes:
        return _codec.encode_value(value, self._dumps)

    def _decode_value(self, data: Any) -> V:
        return cast(V, _codec.decode_value(data))

    def __getitem__(self, key: K) -> V:
        # The shortest path through `get`, inlined.
        if not self._pause and type(key) in CACHED_KEYS:
            copy = self._cache.get(key)
            if copy is not None and copy[0].value == copy[1]:
                cached: V = copy[2]
                return cached
        # Not the `get` of a derived class: `dict.__getitem__` does not call that either.
        value: V = Map.get(self, key, _MISSING)
        if value is _MISSING:
            raise KeyError(key)
        return value

    @overload
    def get(self, key: K) -> Optional[V]: ...

    @overload
    def get(self, key: K, default: Union[V, _D]) -> Union[V, _D]: ...

    def get(self, key: Any, default: Any = None) -> Any:
        """The value of ``key``, or ``default``."""
        # `_find` and all that it calls, inlined for the most frequent keys and values. A Python call
        # costs as much as the lookup itself: without inlining a get takes 40 % longer.
        # `> 0`, because threads may overwrite each other's decrement.
        if self._pause > 0:
            self._pause -= 1
        elif type(key) in CACHED_KEYS:
            copy = self._cache.get(key)
            if copy is None:
                self._note(key)
            elif copy[0].value == copy[1]:
                return copy[2]
            elif copy is GOT_ONCE:
                value = self._get_and_cache(key)
                return default if value is _MISSING else value
            else:
                self._invalidate(key, copy[0])
        data = _encode_key(key)
        size = len(data)
        if size <= _INT_MAX:
            # If something raises below, the buffer is freed and not returned.
            buffer = _take_buffer()
            pointer, length = buffer.pointer, buffer.length_ref
            if _get(self._fast, data, size, pointer, buffer.size, length, None) == 0:
                size = buffer.length.value
                if size == 8:
                    value = _number(buffer.view)[0]
                else:
                    value = _codec.decode_value(buffer.view[:size])
                _give_buffer(buffer)
                return value
            _give_buffer(buffer)
        value = self._find(data)
        return default if value is _MISSING else value

    @overload
    def add(self: "Map[K, int]", key: K, delta: int = 1) -> int: ...

    @overload
    def add(self: "Map[K, float]", key: K, delta: float = 1) -> float: ...

    @overload
    def add(self, key: K, delta: Any = 1) -> Any: ...

    def add(self, key: Any, delta: Any = 1) -> Any:
        """Adds ``delta`` to the number of ``key``. Atomic. Returns the sum. An absent key counts as 0.

        ::

            visits.add("ada")                    # a counter: one call, in every language
            spent.add("ada", 0.25)               # any other number: a sum as in Python

        An `int` added to an `int` is a counter of 64 bits, which wraps around. A ``delta`` that is a
        `bool`, or of a class derived from `int`, counts as its `int`. If either is another number (a
        `float`, a `fractions.Fraction`, an `int` beyond 64 bits), ``key`` is set to ``old + delta`` as
        Python computes it. The key is locked meanwhile (see `lock_key`), unless this thread holds the
        lock. A kill at any time adds ``delta`` or nothing.

        The key keeps its expiry time, except that after a kill directly after such a sum was set it may
        never expire. `TypeError` if either is not a number; then nothing is changed.
        """
        if type(delta) is int or isinstance(delta, Integral):
            delta = int(delta)
            # ctypes would truncate a larger number.
            if -_COUNTER_END <= delta < _COUNTER_END:
                data, out = self._encode_key(key), ctypes.c_int64()
                status = _lib.shoal_map_add(
                    self._live(), data, len(data), delta, ctypes.byref(out)
                )
                if status == _abi.OK:
                    return out.value
                if status != InvalidError.code:
                    raise _ffi.error(status)
        elif not isinstance(delta, Number):
            raise TypeError(f"delta is a number, not {type(delta).__name__}")
        return self._add_as_python(key, delta)

    def _add_as_python(self, key: Any, delta: Any) -> Any:
        """`add` if the value or the sum is not a counter."""
        k = self._encode_key(key)
        with self._lock_unless_held(key):
            while True:
                found = self._read_versioned(k)
                old: Any = 0
                version = 0
                if found is not None:
                    old, version = self._decode_value(found[0]), found[1]
                if not isinstance(old, Number):
                    kind = type(old).__name__
                    raise TypeError(f"add needs a number, but the value of {key!r} is of type {kind}")
                new = cast(Any, old) + delta
                try:
                    left = None if found is None else self.time_left(key)
                except KeyError:
                    # It has expired since it was read.
                    continue
                read_at = time.monotonic()
                # Fails if a counter was changed meanwhile, which takes no lock.
                if self._swap_version(k, version, self._encode_value(new)):
                    if left is not None:
                        self.expire(key, max(0.0, left - (time.monotonic() - read_at)))
                    return new

    def _lock_unless_held(self, key: Any) -> ContextManager[object]:
        """The lock of ``key``; no lock if this thread holds it."""
        try:
            return self._lock_unless_relayed(key)
        except InvalidError:
            return nullcontext()

    @attribute
    def raw(self) -> BytesMap:
        """The same map as a `BytesMap`, for entries of programs in other languages."""
        view = BytesMap.__new__(BytesMap)
        view._adopt(self._live(), self._name)
        return view
