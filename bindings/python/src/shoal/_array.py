"""`shoal.Value` and `shoal.Array`: a scalar or an array of a C type in shared memory, with a lock."""

from __future__ import annotations

import ctypes
from multiprocessing.context import get_spawning_popen
from typing import Any, Callable, Dict, Iterator, Optional, Set, Tuple
from weakref import WeakKeyDictionary

from . import _abi, _ffi, _hot, _wait
from ._attribute import attribute
from ._errors import CorruptError
from ._handles import Shared, attach, hold_for, unlink
from ._structs import ArrayOptions, ArrayStats

_lib = _ffi.lib

#: The type codes of the module `array` and of `multiprocessing`.
TYPES: Dict[str, Any] = {
    "c": ctypes.c_char,
    "u": ctypes.c_wchar,
    "b": ctypes.c_byte,
    "B": ctypes.c_ubyte,
    "h": ctypes.c_short,
    "H": ctypes.c_ushort,
    "i": ctypes.c_int,
    "I": ctypes.c_uint,
    "l": ctypes.c_long,
    "L": ctypes.c_ulong,
    "q": ctypes.c_longlong,
    "Q": ctypes.c_ulonglong,
    "f": ctypes.c_float,
    "d": ctypes.c_double,
}


# By type; the first code where several have the same type.
_CODES = {known: code for code, known in reversed(list(TYPES.items()))}


def _type(typecode_or_type: Any) -> Any:
    if isinstance(typecode_or_type, str):
        try:
            return TYPES[typecode_or_type]
        except KeyError:
            known = " ".join(TYPES)
            raise TypeError(f"{typecode_or_type!r} is not a type code: {known}") from None
    return typecode_or_type


class ArrayHandle(_ffi.Handle):
    """A ``shoal_array *``."""

    release = _lib.shoal_array_free


@_hot.compiled
class ItemsLock(_hot.Held):
    """The lock of a `Value` or an `Array`. The thread that holds it may take it again.

    It is part of the value or array and has no name of its own. It is pickled as the lock of that object.
    """

    def __init__(self, handle: ArrayHandle, made_by: Tuple[Any, ...]) -> None:
        self._handle = handle
        # The function that makes its value or array in another process, and the arguments.
        self._made_by = made_by
        self._fast = _hot.as_argument(handle)
        self._owner_died = False

    def acquire(self, block: bool = True, timeout: Optional[float] = None) -> bool:
        """Takes the lock, and waits for it if ``block`` is true, for ``timeout`` seconds at most.

        Returns whether it got the lock. If the previous owner died while it held the lock, the call
        succeeds and `owner_died` is true.
        """
        died = ctypes.c_bool()
        out = ctypes.byref(died)
        status = _wait.wait(
            lambda ns: _lib.shoal_array_lock(self._handle, ns, out),
            _wait.deadline(block, timeout),
        )
        if status == _abi.ERR_TIMEOUT:
            return False
        _ffi.check(status)
        # Only the thread that holds the lock sets it. It stays true in a recursive acquisition.
        self._owner_died = died.value or (self._owner_died and self._depth() > 1)
        return True

    def release(self) -> None:
        """Releases the lock. `AssertionError` if this thread does not hold it, as an `RLock`."""
        status = _lib.shoal_array_unlock(self._handle)
        if status:
            raise AssertionError(str(_ffi.error(status)))

    def _depth(self) -> int:
        """How many times the calling thread holds the lock."""
        return _ffi.fetch_stats(_lib.shoal_array_stat, self._handle, ArrayStats).lock_depth

    @property
    def owner_died(self) -> bool:
        """Whether the previous owner died while it held the lock, as of the last acquisition by this process."""
        return self._owner_died

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *exc_info: object) -> None:
        self.release()

    def __reduce__(self) -> Any:
        child = get_spawning_popen()
        if child is not None:
            hold_for(child).add(self._handle)
        return _lock_of, self._made_by


class _Items(Shared):
    """The base class of values and arrays: items of a C type in shared memory."""

    _object: Any
    _type: Any
    # None once it is detached, unless the program passed it.
    _lock: Any
    # For a structure: the names of its fields that are attributes of the value.
    _fields: Set[str] = set()

    def _make(
        self,
        item: Any,
        count: int,
        lock: Any,
        name: Optional[str],
        create: bool,
        exclusive: bool,
        persistent: bool,
    ) -> None:
        """Opens or creates the object, and sets its lock."""
        self._type, self._locks = item, lock
        code = getattr(item, "_type_", None)
        options = ArrayOptions(
            flags=_ffi.flags(create, exclusive, persistent),
            item_size=ctypes.sizeof(item) if create else 0,
            count=_ffi.number(count, "the number of items"),
            format=code.encode() if create and isinstance(code, str) else None,
        )
        encoded = None if name is None else _ffi.encode(name)
        handle = ArrayHandle()
        self._open_with(_lib.shoal_array_open, handle, encoded, ctypes.byref(options))
        self._lock = lock if _is_lock(lock) else ItemsLock(handle, self._made_by())

    def _made_by(self) -> Tuple[Any, ...]:
        """The function that makes it in another process, and the arguments."""
        raise NotImplementedError

    def __reduce__(self) -> Any:
        super().__reduce__()  # raises if it is detached, and keeps it for a child
        make, *arguments = self._made_by()
        return make, tuple(arguments)

    def stats(self) -> ArrayStats:
        """Statistics of the items."""
        return _ffi.fetch_stats(_lib.shoal_array_stat, self._live(), ArrayStats)

    def _map(self, what: Any) -> None:
        """Makes the ctypes object, which keeps the memory mapped while it lives."""
        live = self._live()
        data, size = ctypes.c_void_p(), ctypes.c_size_t()
        _ffi.check(_lib.shoal_array_data(live, ctypes.byref(data), ctypes.byref(size)))
        if ctypes.sizeof(what) > size.value:
            # ctypes does not check its accesses: they would go beyond the mapping.
            raise CorruptError(f"{self._name!r} has {size.value} bytes, not {ctypes.sizeof(what)}")
        self._object = what.from_address(data.value)
        self._object._handle = live

    def _count(self) -> int:
        stats, wanted = _Items.stats(self), ctypes.sizeof(self._type)
        if stats.item_size != wanted:
            raise TypeError(f"items of {self._name!r} have {stats.item_size} bytes, not {wanted}")
        return stats.count

    def detach(self) -> None:
        """Ends the use of the object by this process; see `Shared.detach`."""
        super().detach()
        self._object = None
        if isinstance(self._lock, ItemsLock):
            # It keeps the handle. A program that has got it from `get_lock` may continue to use it.
            self._lock = None
            _hot.place(self, 0, "i", None)

    def get_obj(self) -> Any:
        """The ctypes object. Its use takes no lock. It stays valid after `detach`.

        ``numpy.frombuffer(array.get_obj(), "f8")`` is a numpy array without a copy.
        """
        self._live()
        return self._object

    def get_lock(self) -> Any:
        """The lock, for changes in several steps: ``with counter.get_lock(): ...``."""
        lock = self._lock
        if lock is None:
            self._live()
        return lock

    def acquire(self, block: bool = True, timeout: Optional[float] = None) -> bool:
        """Takes the lock; see `ItemsLock.acquire`."""
        taken: bool = _Items.get_lock(self).acquire(block, timeout)
        return taken

    def release(self) -> None:
        """Releases the lock."""
        _Items.get_lock(self).release()

    def __enter__(self) -> bool:  # type: ignore[override]
        return _Items.acquire(self)

    def __exit__(self, *exc_info: object) -> None:
        _Items.release(self)

    def _has(self, name: str) -> bool:
        if name in ("value", "raw") or name in self._fields:
            # Without the lock, because this must not wait.
            return hasattr(self._object, name)
        return super()._has(name)

    def _guard(self) -> Any:
        return _Items.get_lock(self) if self._locks else _NOTHING

    @staticmethod
    def unlink(name: str) -> None:
        """Removes the name. Attached processes may continue."""
        unlink(name, _abi.KIND_ARRAY)


def _is_lock(lock: Any) -> bool:
    return hasattr(lock, "acquire")


class _Nothing:
    def __enter__(self) -> None:
        return None

    def __exit__(self, *exc_info: object) -> None:
        return None


_NOTHING = _Nothing()


@_hot.compiled
class Value(_Items):
    """A value of a C type that processes share, as `multiprocessing.Value`.

    ::

        counter = shoal.Value("i", 0)
        with counter.get_lock():
            counter.value += 1                   # reading and writing are two steps

    ``typecode_or_type`` is one of `TYPES` or a ctypes type. The fields of a `ctypes.Structure` become
    attributes, even where a method has the same name. Reading and writing take the value's own lock;
    no lock if ``lock`` is false; or the lock that is passed as ``lock``, which several values may
    share. Other processes open the same value by its ``name``; the process that creates it sets its
    value. A forked child may use it.
    """

    __module__ = "shoal"

    def __new__(cls, typecode_or_type: Any, *args: Any, **kwargs: Any) -> Any:
        return super().__new__(_with_fields(cls, typecode_or_type))

    def __init__(
        self,
        typecode_or_type: Any,
        *args: Any,
        lock: Any = True,
        name: Optional[str] = None,
        create: bool = True,
        exclusive: bool = False,
        persistent: bool = False,
    ) -> None:
        item = _type(typecode_or_type)
        self._make(item, 1, lock, name, create, exclusive, persistent)
        if not self._created:
            self._count()
        self._map(item)
        if not _is_lock(lock):
            code = _CODES.get(item)
            own_lock = self._lock if lock else None
            _hot.place(self, ctypes.addressof(self._object), code, own_lock)
        if args and self._created:
            self._object.__init__(*args)

    def _made_by(self) -> Tuple[Any, ...]:
        kind = type(self)
        cls = kind.__base__ if "_fields" in kind.__dict__ else kind
        return _value, cls, self._name, self._type, self._locks

    @attribute
    def value(self) -> Any:
        """The value. Reading and writing wait for the lock."""
        self._live()
        with self._guard():
            return self._object.value

    @value.setter
    def value(self, new: Any) -> None:
        self._live()
        with self._guard():
            self._object.value = new

    def __repr__(self) -> str:
        state = "detached" if self._handle is None else repr(self._object)
        return f"<shoal.Value {self._name!r}, {state}>"


# The classes that `_with_fields` has made, by structure and then by class.
_made: "WeakKeyDictionary[Any, Dict[Any, Any]]" = WeakKeyDictionary()
# The attributes that a value needs itself. A field of such a name is an attribute of `get_obj()` only.
_OWN = frozenset("_fast _fields _handle _lock _locks _name _object _type".split())


def _with_fields(cls: Any, item: Any) -> Any:
    """The class of a value of this type. For a structure it has the fields as properties.

    Fields take precedence over methods and attributes of a value, because a program's structure may
    use any of those names.
    """
    if not isinstance(item, type) or not issubclass(item, (ctypes.Structure, ctypes.Union)):
        return cls
    if "_fields" in cls.__dict__:
        return cls
    known = _made.setdefault(item, {})
    if cls not in known:
        declared = (field for kind in item.__mro__ for field in kind.__dict__.get("_fields_", ()))
        names = {field[0] for field in declared} - _OWN
        names = {name for name in names if name[:1] != "_" or not hasattr(cls, name)}
        body = {**{name: _field(name) for name in names}, "_fields": names}
        same = {"__module__": cls.__module__, "__qualname__": cls.__qualname__}
        known[cls] = type(cls.__name__, (cls,), {**body, **same, "__doc__": cls.__doc__})
    return known[cls]


def _field(name: str) -> property:
    def get(self: Any) -> Any:
        """A field of the structure."""
        self._live()
        with self._guard():
            return getattr(self._object, name)

    def set(self: Any, new: Any) -> None:
        self._live()
        with self._guard():
            setattr(self._object, name, new)

    return attribute(get).setter(set)


class Array(_Items):
    """Items of a C type that processes share, as `multiprocessing.Array`.

    ::

        samples = shoal.Array("d", 1000)
        samples[3] = 1.5                                       # under the lock
        view = numpy.frombuffer(samples.get_obj(), "f8")       # no lock, and no copy

    ``typecode_or_type`` is one of `TYPES` or a ctypes type. ``size_or_initializer`` is the number of
    items, which are zeros, or a sequence of items. ``lock`` and ``name`` are as for `Value`; the process
    that creates the array sets its items. A forked child may use it.
    """

    __module__ = "shoal"

    def __init__(
        self,
        typecode_or_type: Any,
        size_or_initializer: Any,
        *,
        lock: Any = True,
        name: Optional[str] = None,
        create: bool = True,
        exclusive: bool = False,
        persistent: bool = False,
    ) -> None:
        item = _type(typecode_or_type)
        first = None if isinstance(size_or_initializer, int) else list(size_or_initializer)
        count = size_or_initializer if first is None else len(first)
        if count < 0:
            raise ValueError(f"an array has at least 0 items, not {count}")
        self._make(item, count, lock, name, create, exclusive, persistent)
        self._map(item * self._count())
        if self._created and first is not None:
            self._object.__init__(*first)

    def _made_by(self) -> Tuple[Any, ...]:
        return _array, type(self), self._name, self._type, self._locks

    def __len__(self) -> int:
        return len(self.get_obj())

    def __getitem__(self, index: Any) -> Any:
        self._live()
        with self._guard():
            return self._object[index]

    def __setitem__(self, index: Any, new: Any) -> None:
        self._live()
        with self._guard():
            self._object[index] = new

    def __iter__(self) -> Iterator[Any]:
        items = self[:]
        if isinstance(items, bytes):
            # Of length 1, as an index gives them.
            return (items[at : at + 1] for at in range(len(items)))
        return iter(items)

    @attribute
    def value(self) -> Any:
        """The text up to the first zero, for an array of characters."""
        self._live()
        with self._guard():
            return self._object.value

    @value.setter
    def value(self, new: Any) -> None:
        self._live()
        with self._guard():
            self._object.value = new

    @attribute
    def raw(self) -> bytes:
        """All bytes, for an array of ``c``."""
        self._live()
        with self._guard():
            return bytes(self._object.raw)

    @raw.setter
    def raw(self, new: bytes) -> None:
        self._live()
        with self._guard():
            self._object.raw = new

    def __repr__(self) -> str:
        state = "detached" if self._handle is None else f"{len(self)} items"
        return f"<shoal.Array {self._name!r}, {state}>"


def _lock_of(make: Callable[..., _Items], *arguments: Any) -> Any:
    items = make(*arguments)
    lock = items.get_lock()
    if not items._created:
        # While the lock exists, its value or array must not be opened a second time: a thread that holds the one
        # lock would wait for itself at the other.
        lock._keeps = items
    return lock


def _value(cls: Any, name: str, item: Any, lock: Any) -> Any:
    kind = _with_fields(cls, item)
    return attach(kind, name, lambda: kind(item, lock=lock, name=name, create=False))


def _array(cls: Any, name: str, item: Any, lock: Any) -> Any:
    return attach(cls, name, lambda: cls(item, 0, lock=lock, name=name, create=False))
