"""Loads the native library. Only this file does; `_abi` has the prototypes of its functions.

`ctypes.CDLL` releases the GIL around each call, so a thread that waits in the library does not block
other threads. (`ctypes.PyDLL`, which keeps the GIL, gains nothing for `put` and `get`.)

A handle is a `ctypes.c_void_p` that frees its pointer when the last reference to it is dropped
(`_native`). Callers pass the handle itself, so a call in one thread keeps the pointer alive while
another thread drops its reference. (A call that waits returns: see `_handles.Shared.detach`.)
"""

from __future__ import annotations

import ctypes
import operator
import os
import sys
from array import array
from ctypes import byref, c_bool, c_char_p, c_int, c_size_t, c_uint64, c_void_p
from itertools import accumulate, chain

from . import _abi
from ._native import Handle as Handle
from .__version__ import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional, Sequence, Type, TypeVar, Union

    from ._errors import ShoalError
    from ._sized import Sized

    _StatsT = TypeVar("_StatsT", bound=Sized)
    BytesLike = Union[bytes, bytearray, memoryview]

LIBRARY_VARIABLE = "SHOAL_LIBRARY"


def library_path() -> str:
    """The library file to load: ``SHOAL_LIBRARY`` if set, else the package's own."""
    given = os.environ.get(LIBRARY_VARIABLE)
    if given:
        if not os.path.isfile(given):
            raise ImportError(
                f"{LIBRARY_VARIABLE} names {given!r}, which is not a file: point it to a "
                "built libshoal.so, or unset it to use the package's own"
            )
        return given
    own = os.path.join(os.path.dirname(os.path.abspath(__file__)), "libshoal.so")
    if not os.path.isfile(own):
        raise ImportError(
            f"the native library is missing: {own} does not exist. Install the package "
            "(pip install <checkout>/bindings/python), or run cargo build --release and set "
            f"{LIBRARY_VARIABLE}=<checkout>/target/release/libshoal.so"
        )
    return own


class Library(ctypes.CDLL):
    """The library. Each function gets its prototype on first use."""

    def __getattr__(self, name: str) -> Any:
        if name not in _abi.PROTOTYPES:
            raise AttributeError(name)
        function = self[name]
        function.restype, function.argtypes = _abi.PROTOTYPES[name]
        # The next access finds the attribute without this method.
        setattr(self, name, function)
        return function

    def __getitem__(self, name: Any) -> Any:
        """A function, without its prototype."""
        try:
            return super().__getitem__(name)
        except AttributeError:
            raise ImportError(
                f"{self._name} has no function {name}: it is not the library of shoal {__version__}"
            ) from None


def _load() -> Library:
    path = library_path()
    try:
        library = Library(os.path.realpath(path))
    except OSError as err:
        raise ImportError(f"the native library {path} cannot be loaded: {err}") from err
    found = library.shoal_version().decode()
    if found != __version__:
        raise ImportError(
            f"{path} is version {found}, this package is version {__version__}: rebuild or "
            f"reinstall the package, or unset {LIBRARY_VARIABLE}"
        )
    if library.shoal_abi_version() != _abi.ABI_VERSION:
        raise ImportError(f"{path} has another interface than this package: rebuild both")
    return library


lib = _load()


def untyped(name: str) -> Any:
    """A function without a prototype, for frequent calls.

    ctypes spends half the time of a call with five arguments on converting them to the types of the
    prototype. Without one, it passes handles, `bytes` and arrays as pointers, and an `int` as a C int,
    which libffi extends to the register. So no number above `INT_MAX` may be passed. A put and a get
    take 1740 ns with prototypes and 840 ns without. In PyPy, calls with a prototype are faster.
    """
    return _without_prototype(lib, name)


INT_MAX = 2**31 - 1

# PyPy has no `PyDLL`.
_with_gil = getattr(ctypes, "PyDLL", ctypes.CDLL)(lib._name)


def never_waits(name: str) -> Any:
    """A function without a prototype that is called with the GIL held.

    For functions that never wait, with an argument made by `prebuilt`. Releasing the GIL and taking it
    again costs more than such a call.
    """
    return _without_prototype(_with_gil, name)


def _without_prototype(library: ctypes.CDLL, name: str) -> Any:
    assert name in _abi.PROTOTYPES
    return library[name] if sys.implementation.name == "cpython" else getattr(lib, name)


class _Place(ctypes.c_char):
    """The memory to which a handle points."""

    handle: Handle


def prebuilt(handle: Handle) -> "ctypes._CArgObject":
    """The handle as an argument that ctypes passes without conversion. It keeps the handle alive."""
    place = _Place.from_address(handle.value or 0)
    place.handle = handle
    return byref(place)


def flags(create: bool, exclusive: bool, persistent: bool) -> int:
    """The flags with which an object is opened."""
    return (
        (_abi.CREATE * create) | (_abi.EXCLUSIVE * exclusive) | (_abi.PERSISTENT * persistent)
    )


def error(status: int) -> ShoalError:
    """The exception for a status that the calling thread's last call returned."""
    # Imported here, because a program without errors does not need these classes.
    from ._errors import BY_CODE, ShoalError, error_for

    text: Optional[bytes] = lib.shoal_last_error()
    message = text.decode("utf-8", "replace") if text else ""
    return error_for(status, message or BY_CODE.get(status, ShoalError).__doc__ or "")


def invalid(message: str) -> ShoalError:
    """The exception for an argument that cannot be passed to the library."""
    from ._errors import InvalidError

    return InvalidError(message)


def check(status: int) -> None:
    """Raises the exception for a status that is not 0."""
    if status:
        raise error(status)


def version() -> str:
    """The version of the native library."""
    text: bytes = lib.shoal_version()
    return text.decode()


def name_of(handle: Handle) -> str:
    """The name of an object."""
    name: bytes = lib.shoal_name(handle)
    return name.decode()


def unlink(name: str, kind: int) -> None:
    """Removes the name of an object, which has to be of this kind."""
    check(lib.shoal_unlink(encode(name), kind))


def fetch_stats(function: Any, handle: Handle, kind: Type[_StatsT]) -> _StatsT:
    """Calls ``function(handle, stats *out)`` and returns what it wrote."""
    out = kind()
    check(function(handle, byref(out)))
    return out


def fetch_u64(function: Any, handle: Handle) -> int:
    """Calls ``function(handle, uint64_t *out)`` and returns what it wrote."""
    out = c_uint64()
    check(function(handle, byref(out)))
    return out.value


def fetch_bool(function: Any, *arguments: Any) -> bool:
    """Calls ``function(..., bool *out)`` and returns what it wrote."""
    out = c_bool()
    check(function(*arguments, byref(out)))
    return out.value


class Buffer:
    """Memory that the library writes into, with prebuilt arguments for calls."""

    __slots__ = ("address", "array", "length", "length_ref", "pointer", "size", "view")

    def __init__(self, size: int) -> None:
        self.array = (ctypes.c_char * size)()
        self.view = memoryview(self.array).cast("B")
        self.address = ctypes.addressof(self.array)
        self.pointer = byref(self.array)
        self.size = size
        self.length = c_size_t()
        self.length_ref = byref(self.length)


# Buffers that are not in use. A list and not a buffer per thread: pop and append are atomic, and a
# signal handler or an unpickled object that uses a queue during a call takes another buffer.
spare: "list[Buffer]" = []
# The smallest buffer.
_SMALL = 64 * 1024
# The largest buffer that is kept. Less than `INT_MAX`.
_KEEP = 4 * 1024 * 1024


def take_buffer(size: int = _SMALL) -> Buffer:
    """A buffer of at least ``size`` bytes, for `give_buffer` to take back."""
    try:
        buffer = spare.pop()
        if buffer.size >= size:
            return buffer
    except IndexError:
        pass
    # A quarter more, so that slowly growing messages do not need a new buffer each.
    return Buffer(max(size + size // 4, _SMALL))


def give_buffer(buffer: Buffer) -> None:
    """Returns a buffer to the list. A very large one is freed."""
    if buffer.size <= _KEEP:
        spare.append(buffer)


def options(kind: Type[Sized], flags: int, **numbers: int) -> "ctypes._CArgObject":
    """A pointer to the options of a queue, a map, a list or a pipe, with these numbers."""
    for what, value in numbers.items():
        numbers[what] = number(value, "maxsize" if what == "max_items" else what)
    return byref(kind(flags=flags, **numbers))


def whole(value: Any, what: str) -> int:
    """A number that a program has passed. `TypeError`, which names ``what``, for anything but an integer."""
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{what} is a whole number, not {value!r}") from None


def number(value: Any, what: str, bits: int = 64, *, signed: bool = False) -> int:
    """A number that a program has passed, for an argument or a field of ``bits`` bits.

    `ValueError`, which names ``what``, if it does not fit: ctypes would silently truncate it.
    """
    found = whole(value, what)
    end = bits - signed
    if not (-(1 << end) if signed else 0) <= found < 1 << end:
        least = f"-2**{end}" if signed else "0"
        raise ValueError(f"{what} is a number from {least} to 2**{end} - 1, not {found}")
    return found


def encode(text: str, what: str = "name") -> bytes:
    """Text as UTF-8 for the library, which checks it. NUL is refused here: it would end the text."""
    if not isinstance(text, str):
        raise TypeError(f"{what} is text, not {text!r}")
    if "\0" in text:
        raise invalid(f"invalid {what}: it contains a NUL character")
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise invalid(f"invalid {what} {text!r}: it contains a surrogate") from None


def strings(items: Sequence[bytes]) -> Any:
    """A C array of strings, NULL last."""
    for item in items:
        if b"\0" in item:
            raise invalid(f"invalid text: {item!r} contains a NUL character")
    return (c_char_p * (len(items) + 1))(*items, None)


class Slices:
    """A C array of ``shoal_slice``: the pieces of a copy of ``items``, which are bytes or buffers."""

    __slots__ = ("_pairs", "_text", "address", "count")

    def __init__(self, items: Sequence[BytesLike]) -> None:
        # The `len` of another type may differ from its number of bytes.
        if set(map(type, items)) != {bytes}:
            items = [it if type(it) is bytes else bytes(memoryview(it)) for it in items]
        # Keeps the bytes (in PyPy, a copy of them) at the same address while this object lives.
        self._text = c_char_p(b"".join(items))
        lengths = list(map(len, items))
        first = ctypes.cast(self._text, c_void_p).value or 0
        # Pairs of an address and a length.
        pairs = chain.from_iterable(zip(accumulate(lengths, initial=first), lengths))
        self._pairs = array("Q", pairs)
        self.address = self._pairs.buffer_info()[0]
        self.count = len(lengths)


def fetch_text(function: Any, *arguments: Any) -> bytes:
    """Calls ``function(..., char *buf, size_t capacity, size_t *len)`` and returns what it wrote."""
    buffer = take_buffer()
    try:
        while True:
            status = function(*arguments, buffer.address, buffer.size, buffer.length_ref)
            if status == _abi.OK:
                return bytes(buffer.view[: buffer.length.value])
            if status != _abi.ERR_BUFFER_TOO_SMALL:
                raise error(status)
            buffer = take_buffer(buffer.length.value)
    finally:
        give_buffer(buffer)


def fetch_int(function: Any, *arguments: Any) -> int:
    """Calls ``function(..., int *out)`` and returns what it wrote."""
    out = c_int()
    check(function(*arguments, byref(out)))
    return out.value
