"""`shoal.List` and `shoal.BytesList`: a list that processes share."""

from __future__ import annotations

import ctypes
import operator
import pickle
from typing import Any, Callable, Dict, Iterable, Iterator, List as PyList, MutableSequence
from typing import Optional, Sequence, Tuple, TypeVar, Union, cast, overload

from . import _abi, _codec, _ffi, _hot
from ._attribute import attribute
from ._handles import Shared, unlink
from ._structs import ListOptions, ListStats

T = TypeVar("T")
_R = TypeVar("_R")
_L = TypeVar("_L", bound="_SharedList[Any]")

_lib = _ffi.lib
_END = 2**63 - 1
_FIRST = -(2**63)
_SIZE_MAX = ctypes.c_size_t(-1).value
# How many elements iteration copies at a time.
_STEP = 256
# How often to sort a list that others change meanwhile.
_SORTS = 100


def _index(index: Any, what: str = "list index out of range") -> int:
    """An index that fits 64 bits. `IndexError` with the text ``what`` otherwise."""
    if what[:4] == "list" and not hasattr(index, "__index__"):
        kind = type(index).__name__
        raise TypeError(f"list indices must be integers or slices, not {kind}")
    found = operator.index(index)
    if not _FIRST <= found <= _END:
        raise IndexError(what)
    return found


def _bound(index: Any) -> int:
    """The bound of a slice, clamped to 64 bits."""
    return max(_FIRST, min(operator.index(index), _END))


class ListHandle(_ffi.Handle):
    """A ``shoal_list *``."""

    release = _lib.shoal_list_free


class _SharedList(Shared, MutableSequence[T]):
    """The methods of both lists, on top of the abstract encoding of elements."""

    # Whether elements are plain bytes, which are equal only if they are the same.
    _of_bytes = False

    def __init__(
        self,
        name: Optional[str] = None,
        *,
        create: bool = True,
        exclusive: bool = False,
        persistent: bool = False,
        capacity: int = 0,
        max_capacity: int = 0,
    ) -> None:
        self._open_with(
            _lib.shoal_list_open,
            ListHandle(),
            None if name is None else _ffi.encode(name),
            _ffi.options(
                ListOptions,
                _ffi.flags(create, exclusive, persistent),
                capacity=capacity,
                max_capacity=max_capacity,
            ),
        )

    def _encode(self, value: Any) -> bytes:
        raise NotImplementedError

    def _decode(self, data: Any) -> T:
        raise NotImplementedError

    # -- reading ----------------------------------------------------------------------

    def _read(self, function: Any, index: Any, convert: Callable[[Any], _R], what: str) -> _R:
        """Calls `shoal_list_get` or `_pop`."""
        at = _index(index, what)
        buffer = _ffi.take_buffer()
        try:
            while True:
                status = function(
                    self._live(), at, buffer.address, buffer.size, buffer.length_ref
                )
                if status == _abi.OK:
                    return convert(buffer.view[: buffer.length.value])
                if status == _abi.ERR_NOT_FOUND:
                    raise IndexError(what)
                if status == _abi.ERR_BUFFER_TOO_SMALL:
                    # Nothing was taken. The element may have changed by the next try.
                    buffer = _ffi.take_buffer(buffer.length.value)
                elif status != _abi.ERR_INTERRUPTED:
                    raise _ffi.error(status)
        finally:
            _ffi.give_buffer(buffer)

    def _some(self, start: int, most: int, room: int) -> Tuple[PyList[bytes], int, bool]:
        """Up to ``most`` elements from ``start`` on that fit ``room`` bytes, the list's version, and
        whether the list ends after them, all at one moment. There is at least one element unless the
        list ends."""
        lens = (ctypes.c_size_t * most)()
        count, version = ctypes.c_size_t(), ctypes.c_uint64()
        buffer = _ffi.take_buffer(room)
        try:
            while True:
                status = _lib.shoal_list_get_many(
                    self._live(),
                    start,
                    buffer.address,
                    buffer.size,
                    lens,
                    most,
                    ctypes.byref(count),
                    ctypes.byref(version),
                )
                if status == _abi.OK:
                    break
                if status != _abi.ERR_BUFFER_TOO_SMALL:
                    raise _ffi.error(status)
                buffer = _ffi.take_buffer(lens[0])
            found, at = [], 0
            for length in lens[: count.value]:
                found.append(bytes(buffer.view[at : at + length]))
                at += length
            ended = len(found) < most and lens[len(found)] == _SIZE_MAX
            return found, version.value, ended
        finally:
            _ffi.give_buffer(buffer)

    def _snapshot(self, start: int = 0, stop: int = _END) -> Tuple[PyList[bytes], int]:
        """The elements from ``start`` to ``stop``, which are not negative, and the list's version, all
        at one moment."""
        most, room = _STEP, 1 << 16
        while True:
            found: PyList[bytes] = []
            first: Optional[int] = None
            while start + len(found) < stop:
                left = min(most, stop - start - len(found))
                some, version, ended = self._some(start + len(found), left, room)
                if first is not None and version != first:
                    break
                first = version
                found += some
                if ended:
                    return found, version
                most, room = min(most * 2, 1 << 20), min(room * 2, 1 << 26)
            else:
                return found, 0 if first is None else first
            # Another process changed the list in between. Each further try reads in larger steps, so that
            # finally one step reads the whole list.
            size = sum(map(len, found)) + sum(map(len, some))
            most, room = max(most, 2 * len(self)), max(room, 2 * size)

    def _values(self) -> PyList[T]:
        return [self._decode(data) for data in self._snapshot()[0]]

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> PyList[T]: ...

    def __getitem__(self, index: Union[int, slice]) -> Any:
        if not isinstance(index, slice):
            return self._read(
                _lib.shoal_list_get, index, self._decode, "list index out of range"
            )
        start, stop = index.start or 0, index.stop
        ahead = index.step is None or operator.index(index.step) > 0
        if ahead and stop is not None and _bound(start) >= 0 and _bound(stop) >= 0:
            found = self._snapshot(_bound(start), _bound(stop))[0][:: index.step]
        else:
            found = self._snapshot()[0][index]
        return [self._decode(data) for data in found]

    def __len__(self) -> int:
        return _ffi.fetch_u64(_lib.shoal_list_len, self._live())

    def __iter__(self) -> Iterator[T]:
        at = 0
        while True:
            some = self._some(at, _STEP, 1 << 16)[0]
            if not some:
                return
            for data in some:
                yield self._decode(data)
            at += len(some)

    def __reversed__(self) -> Iterator[T]:
        return reversed(self._values())

    def __contains__(self, value: object) -> bool:
        return any(value is one or value == one for one in self)

    def index(self, value: Any, start: int = 0, stop: int = _END) -> int:
        """The index of the first ``value``, at one moment. `ValueError` if there is none."""
        return self._values().index(value, start, stop)

    def count(self, value: Any) -> int:
        """How many elements equal ``value``, at one moment."""
        return self._values().count(value)

    def copy(self) -> PyList[T]:
        """A plain `list` of the elements, at one moment."""
        return self._values()

    # -- writing ----------------------------------------------------------------------

    def _splice(self, start: int, stop: int, items: Sequence[bytes]) -> None:
        new = _ffi.Slices(items)
        _ffi.check(_lib.shoal_list_splice(self._live(), start, stop, new.address, new.count))

    def _splice_if(self, version: int, start: int, stop: int, items: Sequence[bytes]) -> bool:
        new = _ffi.Slices(items)
        return _ffi.fetch_bool(
            _lib.shoal_list_splice_if, self._live(), version, start, stop, new.address, new.count
        )

    def _rearrange_if(self, version: int, order: Sequence[int]) -> bool:
        array = (ctypes.c_uint64 * len(order))(*order)
        return _ffi.fetch_bool(
            _lib.shoal_list_rearrange_if, self._live(), version, array, len(order)
        )

    def _rearrange_same(self, items: Sequence[bytes], order: Sequence[int]) -> bool:
        first = _ffi.Slices(items)
        array = (ctypes.c_uint64 * len(order))(*order)
        return _ffi.fetch_bool(
            _lib.shoal_list_rearrange_same,
            self._live(),
            first.address,
            first.count,
            array,
            len(order),
        )

    def append(self, value: T) -> None:
        """Adds ``value`` at the end."""
        self._append_slowly(self._encode(value))

    def _append_slowly(self, data: bytes) -> None:
        _ffi.check(_lib.shoal_list_append(self._live(), data, len(data)))

    def extend(self, values: Iterable[T]) -> None:
        """Adds all of ``values`` at the end, as one operation."""
        self._splice(_END, _END, [self._encode(value) for value in values])

    def insert(self, index: int, value: T) -> None:
        """Adds ``value`` before ``index``."""
        data = self._encode(value)
        at = _bound(index)
        _ffi.check(_lib.shoal_list_insert(self._live(), at, data, len(data)))

    def pop(self, index: int = -1) -> T:
        """Removes and returns one element. If processes race, each gets a different one."""
        return self._read(_lib.shoal_list_pop, index, self._decode, "pop index out of range")

    def remove(self, value: Any) -> None:
        """Removes the first ``value``; `ValueError` if there is none."""
        while True:
            found, version = self._snapshot()
            at = [self._decode(data) for data in found].index(value)
            if self._splice_if(version, at, at + 1, ()):
                return
            if self._rearrange_same(found[: at + 1], range(at)):
                return

    def clear(self) -> None:
        """Removes every element, as one operation."""
        _ffi.check(_lib.shoal_list_clear(self._live()))

    @overload
    def __setitem__(self, index: int, value: T) -> None: ...

    @overload
    def __setitem__(self, index: slice, value: Iterable[T]) -> None: ...

    def __setitem__(self, index: Union[int, slice], value: Any) -> None:
        if not isinstance(index, slice):
            data = self._encode(value)
            what = "list assignment index out of range"
            at = _index(index, what)
            status = _lib.shoal_list_set(self._live(), at, data, len(data))
            if status == _abi.ERR_NOT_FOUND:
                raise IndexError(what)
            _ffi.check(status)
            return
        new = [self._encode(one) for one in value]
        if index.step is None or operator.index(index.step) == 1:
            self._splice(*_bounds(index), new)
            return
        while True:
            found, version = self._snapshot()
            found[index] = new
            changed = range(*index.indices(len(found)))
            if not changed:
                return
            first, last = min(changed), max(changed) + 1
            if self._splice_if(version, first, last, found[first:last]):
                return

    def __delitem__(self, index: Union[int, slice]) -> None:
        if not isinstance(index, slice):
            what = "list assignment index out of range"
            self._read(_lib.shoal_list_pop, index, lambda _: None, what)
        elif index.step is None or operator.index(index.step) == 1:
            self._splice(*_bounds(index), ())
        else:
            while True:
                version = self._version()
                order = list(range(len(self)))
                del order[index]
                if self._rearrange_if(version, order):
                    return

    def _version(self) -> int:
        return self._some(0, 0, 0)[1]

    def reverse(self) -> None:
        """Reverses the list, as one operation."""
        _ffi.check(_lib.shoal_list_reverse(self._live()))

    def sort(
        self, *, key: Optional[Callable[[T], Any]] = None, reverse: bool = False
    ) -> None:
        """Sorts the list, as one operation: no process sees it half sorted, and no element is copied.

        The elements are compared in this process, without a lock. What others append meanwhile stays behind
        the sorted elements. If they change the list in another way, it is read and compared again; ``key`` is
        called for new elements only.

        Raises:
            ValueError: the list was changed in each of 100 attempts, for example by ``key``.
        """
        keys: Dict[bytes, PyList[Any]] = {}
        for _ in range(_SORTS):
            found, version = self._snapshot()
            values: PyList[Any] = []
            for data in found:
                # Each element has a key of its own, also if others are equal to it.
                known = keys.get(data)
                if known:
                    values.append(known.pop())
                else:
                    value = self._decode(data)
                    values.append(value if key is None else key(value))
            order = sorted(range(len(values)), key=values.__getitem__, reverse=reverse)
            if self._rearrange_if(version, order) or self._rearrange_same(found, order):
                return
            keys = {}
            for data, value in zip(found, values):
                keys.setdefault(data, []).append(value)
        raise ValueError(
            f"list modified during sort: it was changed in each of {_SORTS} attempts; let those who change it"
            " take a lock, and sort it under that lock"
        )

    def swap(self, a: int, b: int) -> None:
        """Exchanges two elements, as one operation."""
        what = "list index out of range"
        status = _lib.shoal_list_swap(self._live(), _index(a), _index(b))
        if status == _abi.ERR_NOT_FOUND:
            raise IndexError(what)
        _ffi.check(status)

    def compare_swap(self, index: int, expected: T, new: T) -> bool:
        """Sets an element to ``new`` if it is ``expected``. Atomic. Returns whether it was.

        False, too, if there is no such element. Elements are compared as by `Map.compare_swap`.
        """
        data = self._encode(new)
        old = self._encode(expected)
        while not self._swap_bytes(index, old, data):
            if self._of_bytes:
                return False
            try:
                old = self._read(_lib.shoal_list_get, index, bytes, "list index out of range")
            except IndexError:
                return False
            if not _codec.is_equal(self._decode, old, expected):
                return False
        return True

    def _swap_bytes(self, index: int, old: bytes, new: bytes) -> bool:
        return _ffi.fetch_bool(
            _lib.shoal_list_compare_swap,
            self._live(),
            _index(index),
            old,
            len(old),
            new,
            len(new),
        )

    def update_with(self, index: int, function: Callable[[T], T]) -> T:
        """Replaces an element by ``function(element)``. Atomic. Returns the new element.

        ``function`` is called again if another process changes the element meanwhile, so it must have
        no side effects.
        """
        while True:
            old = self._read(_lib.shoal_list_get, index, bytes, "list index out of range")
            new = function(self._decode(old))
            if self._swap_bytes(index, old, self._encode(new)):
                return new

    # -- as a list --------------------------------------------------------------------

    def __iadd__(self: _L, values: Iterable[Any]) -> _L:  # type: ignore[misc]
        self.extend(values)
        return self

    def __imul__(self: _L, times: int) -> _L:
        count = operator.index(times)
        if count <= 0:
            self.clear()
            return self
        while True:
            found, version = self._snapshot()
            if self._splice_if(version, _END, _END, found * (count - 1)):
                return self

    def __add__(self, other: Any) -> PyList[T]:
        if not isinstance(other, (list, _SharedList)):
            return NotImplemented
        return self._values() + cast(PyList[T], _plain(other))

    def __radd__(self, other: Any) -> PyList[T]:
        if not isinstance(other, list):
            return NotImplemented
        return cast(PyList[T], other) + self._values()

    def __mul__(self, times: int) -> PyList[T]:
        return self._values() * times

    __rmul__ = __mul__

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, (list, _SharedList)):
            return NotImplemented
        return bool(self._values() == _plain(other))

    def __lt__(self, other: Any) -> bool:
        return cast(bool, self._values() < _plain(other))

    def __le__(self, other: Any) -> bool:
        return cast(bool, self._values() <= _plain(other))

    def __gt__(self, other: Any) -> bool:
        return cast(bool, self._values() > _plain(other))

    def __ge__(self, other: Any) -> bool:
        return cast(bool, self._values() >= _plain(other))

    __hash__ = None  # type: ignore[assignment]

    # -- the object -------------------------------------------------------------------

    def stats(self) -> ListStats:
        """Statistics of the list."""
        return _ffi.fetch_stats(_lib.shoal_list_stat, self._live(), ListStats)

    @staticmethod
    def unlink(name: str) -> None:
        """Removes the name. Attached processes may continue. Needed for persistent lists."""
        unlink(name, _abi.KIND_LIST)

    def __repr__(self) -> str:
        state = "detached" if self._handle is None else f"{len(self)} elements"
        return f"<shoal.{type(self).__name__} {self._name!r}, {state}>"


def _plain(other: Any) -> Any:
    return other._values() if isinstance(other, _SharedList) else other


def _bounds(index: slice) -> Tuple[int, int]:
    start = 0 if index.start is None else _bound(index.start)
    return start, _END if index.stop is None else _bound(index.stop)


class BytesList(_SharedList[bytes]):
    """A shared list of bytes, as programs in other languages see it.

    ::

        scores = shoal.BytesList("scores")      # the name that a C, C++ or Rust program uses
        scores.append(b"36")

    `List.raw` shows the elements of a `List` in this way. Arguments and methods are those of `List`.
    """

    __module__ = "shoal"

    _of_bytes = True

    def _encode(self, value: Any) -> bytes:
        return _codec.as_bytes(value, "an element of a BytesList")

    def _decode(self, data: Any) -> bytes:
        return bytes(data)


@_hot.compiled
class List(_SharedList[T]):
    """A list that processes of this machine share.

    ::

        scores: shoal.List[int] = shoal.List("scores")   # the same in every process
        scores.append(36)
        scores += [17, 42]                               # one operation
        scores.sort(reverse=True)

    ``List(name)`` opens the list or creates it; ``List()`` creates one with a generated name. It has
    the interface of a `list`. Each method, slice and operator is one operation: other processes see an
    `extend` or a `sort` wholly or not at all. But ``l[i] += 1`` is two calls: use `update_with`. An
    element is a copy: changing it changes nothing in the list until it is set again.

    `append`, indexing, and removing at either end take constant time. Iteration copies a few hundred
    elements at a time. If others insert or remove elements before its position, it may yield an
    element twice or skip one; ``l[:]`` has the elements at one moment.

    Elements are any objects that can be pickled; `_codec` defines the encoding. Elements are
    unpickled, so open only lists that programs you trust write to.

    Arguments are those of `shoal.Map`, without ``ordered``. A forked child may use the list. A process
    that is killed inside a call never blocks others, and its operation takes effect wholly or not at
    all.
    """

    __module__ = "shoal"

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        shortcuts = "__getitem__", "append", "pop"
        _hot.without_shortcuts(cls, List, _SharedList, ("_encode", "_decode"), shortcuts)

    # How elements are pickled, always with the highest protocol.
    _dumps: Any = staticmethod(pickle.dumps)

    def _encode(self, value: T) -> bytes:
        return _codec.encode_value(value, self._dumps)

    def _decode(self, data: Any) -> T:
        return cast(T, _codec.decode_value(data))

    @attribute
    def raw(self) -> BytesList:
        """The same list as a `BytesList`, for elements of programs in other languages."""
        view = BytesList.__new__(BytesList)
        view._adopt(self._live(), self._name)
        return view
