"""Methods of maps that a `dict` lacks: swaps, versions, batches, expiry, locks of keys, waits."""

from __future__ import annotations

import ctypes
from contextlib import nullcontext
from types import TracebackType
from typing import Any, ContextManager, Dict, Generic, Iterable, Mapping
from typing import MutableMapping, Optional, Tuple, Type, TypeVar, cast

from . import _abi, _ffi, _structs, _wait
from ._attribute import attribute
from ._codec import is_equal
from ._errors import UnsupportedError, error_for
from ._span import Span

K = TypeVar("K")
V = TypeVar("V")

_lib = _ffi.lib


class MapHandle(_ffi.Handle):
    """A ``shoal_map *``."""

    release = _lib.shoal_map_free


class WalkHandle(_ffi.Handle):
    """A ``shoal_map_iter *``. It reads through the map's handle, which it keeps alive."""

    release = _lib.shoal_map_iter_free
    map: MapHandle


class Keys(Generic[K, V]):
    """The methods of maps that a `dict` lacks, on top of the abstract ones below."""

    # Whether values are plain bytes, which are equal only if they are the same.
    _of_bytes = False

    def _live(self) -> Any:
        raise NotImplementedError

    def stats(self) -> _structs.MapStats:
        raise NotImplementedError

    def _encode_key(self, key: Any) -> bytes:
        raise NotImplementedError

    def _encode_value(self, value: V) -> bytes:
        raise NotImplementedError

    def _decode_value(self, data: Any) -> V:
        raise NotImplementedError

    # -- versions ---------------------------------------------------------------------

    def get_versioned(self, key: K) -> Optional[Tuple[V, int]]:
        """The value of ``key`` and its version; ``None`` if the key is absent.

        Versions are never 0. Each later value of a key has a higher version.
        """
        found = self._read_versioned(self._encode_key(key))
        return None if found is None else (self._decode_value(found[0]), found[1])

    def _read_versioned(self, key: bytes) -> Optional[Tuple[bytes, int]]:
        version = ctypes.c_uint64()
        buffer = _ffi.take_buffer()
        try:
            while True:
                status = _lib.shoal_map_get(
                    self._live(),
                    key,
                    len(key),
                    buffer.address,
                    buffer.size,
                    buffer.length_ref,
                    ctypes.byref(version),
                )
                if status == _abi.OK:
                    return bytes(buffer.view[: buffer.length.value]), version.value
                if status == _abi.ERR_NOT_FOUND:
                    return None
                if status != _abi.ERR_BUFFER_TOO_SMALL:
                    raise _ffi.error(status)
                buffer = _ffi.take_buffer(buffer.length.value)
        finally:
            _ffi.give_buffer(buffer)

    def version_of(self, key: K) -> int:
        """The version of the value of ``key``; 0 if the key is absent."""
        data = self._encode_key(key)
        out = ctypes.c_uint64()
        _ffi.check(
            _lib.shoal_map_version(self._live(), data, len(data), ctypes.byref(out))
        )
        return out.value

    def compare_swap_version(self, key: K, version: int, new: Optional[V]) -> bool:
        """Sets ``key`` to ``new`` if its value still has this version. Returns whether it did.

        A ``version`` of 0 expects that the key is absent. A ``new`` of ``None`` removes the key.
        """
        version = _ffi.number(version, "version")
        data = None if new is None else self._encode_value(new)
        return self._swap_version(self._encode_key(key), version, data)

    def _swap_version(self, key: bytes, version: int, new: Optional[bytes]) -> bool:
        size = 0 if new is None else len(new)
        return _ffi.fetch_bool(
            _lib.shoal_map_compare_swap_version, self._live(), key, len(key), version, new, size
        )

    def compare_swap(self, key: K, expected: Optional[V], new: Optional[V]) -> bool:
        """Sets ``key`` to ``new`` if its value is ``expected``. Atomic. Returns whether it was.

        ``None`` means absence: an ``expected`` of ``None`` inserts, a ``new`` of ``None`` removes. Values
        are equal if their encoded bytes are, or else by ``==``, so ``1`` is ``1.0``. A value that cannot be
        unpickled or compared, such as an array, is equal to one of the same bytes only.
        """
        k = self._encode_key(key)
        value = None if new is None else self._encode_value(new)
        if expected is None:
            return self._swap(k, None, value)
        if self._swap(k, self._encode_value(expected), value):
            return True
        while not self._of_bytes:
            found = self._read_versioned(k)
            if found is None or not is_equal(self._decode_value, found[0], expected):
                return False
            if self._swap_version(k, found[1], value):
                return True
        return False

    def _swap(self, key: bytes, expected: Optional[bytes], new: Optional[bytes]) -> bool:
        swapped = ctypes.c_bool()
        _ffi.check(
            _lib.shoal_map_compare_swap(
                self._live(),
                key,
                len(key),
                expected,
                0 if expected is None else len(expected),
                new,
                0 if new is None else len(new),
                ctypes.byref(swapped),
            )
        )
        return swapped.value

    # -- batches ----------------------------------------------------------------------

    def get_many(self, keys: Iterable[K]) -> Dict[K, V]:
        """The values of those of ``keys`` that are present. Each part of the map is locked once.

        Each value was current at some moment of the call, but not all of them at the same moment.
        """
        wanted = list(keys)
        encoded = [self._encode_key(key) for key in wanted]
        slices, values = _ffi.Slices(encoded), (_structs.Slice * len(encoded))()
        buffer = _ffi.take_buffer()
        try:
            while True:
                status = _lib.shoal_map_get_many(
                    self._live(),
                    slices.address,
                    slices.count,
                    buffer.address,
                    buffer.size,
                    buffer.length_ref,
                    values,
                )
                if status == _abi.OK:
                    break
                if status != _abi.ERR_BUFFER_TOO_SMALL:
                    raise _ffi.error(status)
                buffer = _ffi.take_buffer(buffer.length.value)
            found: Dict[K, V] = {}
            for key, value in zip(wanted, values):
                if value.data is not None:
                    start = value.data - buffer.address if value.len else 0
                    found[key] = self._decode_value(buffer.view[start : start + value.len])
            return found
        finally:
            _ffi.give_buffer(buffer)

    def set_many(self, items: Mapping[K, V]) -> None:
        """Sets all of ``items``. Each part of the map is locked once.

        Each key is set atomically, but all of them together are not. ``m.update(a_mapping)`` calls
        this method.
        """
        if not hasattr(items, "items"):
            raise TypeError(f"items is a mapping of keys to values, not {items!r}")
        # One pass over the mapping, because others may change it meanwhile: two passes could pair keys with
        # wrong values.
        pairs = list(items.items())
        keys = _ffi.Slices([self._encode_key(key) for key, _ in pairs])
        values = _ffi.Slices([self._encode_value(value) for _, value in pairs])
        _ffi.check(
            _lib.shoal_map_set_many(self._live(), keys.address, values.address, keys.count)
        )

    def update(self, other: Any = (), /, **more: Any) -> None:
        """As `dict.update`. A mapping, and a ``dict``, is set by `set_many`."""
        if isinstance(other, Mapping):
            self.set_many(other)
        else:
            MutableMapping.update(cast(Any, self), other)
        if more:
            self.set_many(cast(Any, more))

    # -- expiry -----------------------------------------------------------------------

    def set_for(self, key: K, value: V, seconds: float) -> None:
        """Sets ``key``, which expires after ``seconds`` seconds and is then absent.

        Any other way of setting the key makes it permanent; `add` keeps its expiry time. Time in which
        the machine is suspended does not count.
        """
        k, v, life = self._encode_key(key), self._encode_value(value), _wait.nanoseconds(seconds)
        _ffi.check(_lib.shoal_map_set_for(self._live(), k, len(k), v, len(v), life))

    def expire(self, key: K, seconds: Optional[float]) -> bool:
        """Makes ``key`` expire after ``seconds`` seconds; ``None`` is never. Returns whether it exists."""
        data = self._encode_key(key)
        life = _abi.FOREVER
        if seconds is not None:
            life = _wait.nanoseconds(seconds, otherwise=" or None")
        status = _lib.shoal_map_expire(self._live(), data, len(data), life)
        if status == _abi.ERR_NOT_FOUND:
            return False
        _ffi.check(status)
        return True

    def time_left(self, key: K) -> Optional[float]:
        """The number of seconds until ``key`` expires; ``None`` if it never does.

        Raises `KeyError` if the key is absent.
        """
        data = self._encode_key(key)
        out = ctypes.c_int64()
        status = _lib.shoal_map_time_left(self._live(), data, len(data), ctypes.byref(out))
        if status == _abi.ERR_NOT_FOUND:
            raise KeyError(key)
        _ffi.check(status)
        return None if out.value == _abi.FOREVER else out.value / 1e9

    def purge(self) -> int:
        """Removes every expired key and returns how many there were.

        Changes of the map also remove them, a few at a time.
        """
        return _ffi.fetch_u64(_lib.shoal_map_purge, self._live())

    # -- locks and changes ------------------------------------------------------------

    def lock_key(self, key: K, timeout: Optional[float] = None) -> "KeyLock":
        """Waits for the lock of ``key``, which may be absent, for work in several steps.

        ::

            with ledger.lock_key("ada") as lock:
                if lock.owner_died:          # its last owner was killed while it held the lock
                    check("ada")
                ...

        The lock prevents only that others lock the same key (`update_with` locks it). It is released
        when its holder dies. Any thread of the process may release it.

        Each part of the map has room for twelve locks and views. While they are taken, the call
        waits as for the lock. Locking several keys cannot deadlock if all processes lock them in the
        same order and hold few at a time.

        Raises `TimeoutError` after ``timeout`` seconds; `InvalidError` if this thread holds the lock
        already; `ExhaustedError` if this thread itself holds all twelve locks of that part of the map;
        `UnsupportedError` if the map has a relay.
        """
        return KeyLock(self, self._encode_key(key), timeout)

    def _lock_unless_relayed(self, key: K) -> ContextManager[object]:
        """The lock of ``key``; no lock if the map has a relay, which compares versions only."""
        try:
            return self.lock_key(key)
        except UnsupportedError:
            return nullcontext()

    @attribute
    def version(self) -> int:
        """A number that grows with every change of the map."""
        return self.stats().changes

    def wait_change(self, seen: int, timeout: Optional[float] = None) -> int:
        """Waits until `version` is not ``seen``, and returns the new version.

        Raises `TimeoutError` after ``timeout`` seconds.
        """
        out, seen = ctypes.c_uint64(), _ffi.number(seen, "seen")
        status = _wait.wait(
            lambda ns: _lib.shoal_map_wait_change(self._live(), seen, ns, ctypes.byref(out)),
            _wait.deadline(True, timeout),
        )
        _ffi.check(status)
        return out.value

    def wait_key(self, key: K, seen: int, timeout: Optional[float] = None) -> int:
        """Waits until `version_of` ``key`` is not ``seen``, and returns the new version.

        ::

            version = settings.version_of("level")
            while True:
                version = settings.wait_key("level", version)
                use(settings.get("level"))       # absent if the version is 0

        That is until the key is set, removed, or expires. Raises `TimeoutError` after ``timeout``
        seconds.
        """
        data = self._encode_key(key)
        out, seen = ctypes.c_uint64(), _ffi.number(seen, "seen")
        status = _wait.wait(
            lambda ns: _lib.shoal_map_wait_key(
                self._live(), data, len(data), seen, ns, ctypes.byref(out)
            ),
            _wait.deadline(True, timeout),
        )
        _ffi.check(status)
        return out.value


# Neither true nor false: the library has not written the output.
_UNWRITTEN = 255


class KeyLock:
    """A locked key, from `Map.lock_key`. Unlocks at the end of a ``with`` block."""

    __module__ = "shoal"

    _handle: Any = None

    def __init__(self, keys: "Keys[Any, Any]", key: bytes, timeout: Optional[float]) -> None:
        live = keys._live()
        # The library writes 0 or 1 once it has locked the key. If a signal handler raises, only this shows whether
        # the key is locked.
        died = ctypes.c_uint8(_UNWRITTEN)
        self._key = key
        try:
            status = _wait.wait(
                lambda ns: _lib.shoal_map_lock_key(
                    keys._live(), key, len(key), ns, ctypes.byref(died)
                ),
                _wait.deadline(True, timeout),
            )
            _ffi.check(status)
            self._owner_died = bool(died.value)
            self._handle = live
        except BaseException:
            if died.value != _UNWRITTEN:
                self._handle = None
                _lib.shoal_map_unlock_key(live, key, len(key))
            raise

    @property
    def owner_died(self) -> bool:
        """Whether the previous owner died while it held the lock.

        A change that it made in several steps may be incomplete.
        """
        return self._owner_died

    def release(self) -> None:
        """Unlocks the key. `InvalidError` if it was released before, or in a forked child."""
        handle, self._handle = self._handle, None
        if handle is None:
            raise error_for(1, "invalid lock: it was released before")
        _ffi.check(_lib.shoal_map_unlock_key(handle, self._key, len(self._key)))

    def __enter__(self) -> "KeyLock":
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        if self._handle is not None:
            self.release()

    def __del__(self) -> None:
        if self._handle is not None:
            # In a forked child this fails and changes nothing, as intended.
            _lib.shoal_map_unlock_key(self._handle, self._key, len(self._key))


class View:
    """A value of a `BytesMap`, read in place, from `BytesMap.view`.

    ::

        with cache.view(b"weights") as view:
            total = numpy.frombuffer(view.data, "f4").sum()     # no copy was made

    The value does not change while the view exists, even if the key is set or removed. A forked child
    must not use it.
    """

    __module__ = "shoal"

    # For an object whose construction a signal handler has interrupted.
    _view = _structs.View()

    def __init__(self, handle: _ffi.Handle, view: _structs.View) -> None:
        self._handle = handle
        self._view = view

    def _begin(self) -> None:
        """Called once the library has written the view. As with a lease, this object is made before that."""
        self._version: int = self._view.version
        self._span = Span(self._view.data, self._view.len, self._handle, readonly=True)

    def _give_back(self) -> None:
        """Ends the view, if there is one, even if something refers to its data."""
        if self._view.data:
            # In a forked child this fails and changes nothing, as intended.
            _lib.shoal_map_view_end(self._handle, ctypes.byref(self._view))

    @property
    def data(self) -> memoryview:
        """The value, read-only. Invalid once the view is released."""
        return self._span.view

    @property
    def version(self) -> int:
        """The version of the value; see `Map.get_versioned`."""
        return self._version

    def release(self) -> None:
        """Releases the value. `BufferError` while a slice of ``data``, or an array made from it,
        is in use.
        """
        if self._view.data:
            self._span.end()
        _ffi.check(_lib.shoal_map_view_end(self._handle, ctypes.byref(self._view)))

    def __enter__(self) -> "View":
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        if self._view.data:
            self.release()

    def __del__(self) -> None:
        self._give_back()
