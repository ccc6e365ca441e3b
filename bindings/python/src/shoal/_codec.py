r"""How `shoal.Map` writes Python keys and values as bytes, and `shoal.List` its elements.

Keys. Equal keys give equal bytes, whatever process writes them:

====================  =============================================================
``str``               its UTF-8, and nothing else: other languages read it as it is
``bytes``             ``FF 'b'`` and the bytes
``int``, ``bool``     ``FF 'i'`` and the decimal digits; so is a ``float`` that is whole
``float``             ``FF 'f'`` and its ``repr``
``None``              ``FF 'n'``
``tuple``             ``FF 't'``, then each element's encoding after its length (u32 LE)
``frozenset``         ``FF 's'``, then the same for the elements in order of their bytes
any other hashable    ``FF 'p'`` and its pickle (protocol 4, memo off); equal keys of such
                      a type must pickle to equal bytes
====================  =============================================================

A number of numpy, and an object of a class that is derived from ``str``, ``bytes``, ``int`` or
``float``, is written as the value that it equals, and comes back as that value. A member of an
`enum.Enum` and a ``namedtuple`` have more than their value. They are pickled, so that they come back as
they were, and are other keys than the value that they equal.

UTF-8 never contains ``FF``, so no text is taken for one of the others. A key of another
program that is not UTF-8 reads as text with surrogate escapes, as file names do, and finds
the same entry again.

Values. An ``int`` that fits 64 bits is 8 bytes, little-endian, signed: the number that
`Map.add` counts in, here and in every language. Everything else is its pickle, which starts
with ``80``; a pickle of exactly 8 bytes gets a ninth, zero, that unpickling ignores.
"""

from __future__ import annotations

import io
import pickle
import struct
from enum import Enum
from numbers import Integral
from typing import Any, Callable, List

_MARK = 0xFF
_LENGTH = struct.Struct("<I")
COUNTER = struct.Struct("<q")
_PICKLE_MARK = 0x80
_MIN = -(1 << 63)
_MAX = (1 << 63) - 1


def encode_key(key: Any) -> bytes:
    """The bytes of a key. `TypeError` if it is not hashable."""
    kind = type(key)
    if kind is str:
        try:
            text: bytes = key.encode()
            return text
        except UnicodeEncodeError:
            data: bytes = key.encode("utf-8", "surrogateescape")
        if data[:1] == b"\xff":
            raise ValueError(f"the key {key!r} cannot be told from an encoded one")
        return data
    if kind is bytes:
        tagged: bytes = b"\xffb" + key
        return tagged
    if kind is int:
        return b"\xffi%d" % key
    return _encode_rare_key(key)


def _encode_rare_key(key: Any) -> bytes:
    code = hash(key)
    kind = type(key)
    if kind is bool:
        return b"\xffi%d" % key
    if kind is float:
        return b"\xffi%d" % int(key) if key.is_integer() else b"\xfff" + repr(key).encode()
    if key is None:
        return b"\xffn"
    if kind is tuple:
        return b"\xfft" + _join([encode_key(element) for element in key])
    if kind is frozenset:
        return b"\xffs" + _join(sorted(encode_key(element) for element in key))
    plain = _plain(key)
    # A class may compare in a way of its own.
    if type(plain) in _PLAIN and hash(plain) == code and plain == key:
        return encode_key(plain)
    out = io.BytesIO()
    pickler = pickle.Pickler(out, 4)
    # No memo: whether two parts of the key are one object must not show in the bytes.
    pickler.fast = True
    pickler.dump(key)
    return b"\xffp" + out.getvalue()


_PLAIN = frozenset((str, bytes, int, float, bool))


def _plain(key: Any) -> Any:
    """The value of a type in `_PLAIN` that a key may equal; the key itself if there is none."""
    if isinstance(key, Enum):
        return key
    if isinstance(key, str):
        return str.__str__(key)
    if isinstance(key, bytes):
        return bytes(memoryview(key))
    if isinstance(key, float):
        return float.__float__(key)
    if isinstance(key, Integral):
        return int(key)
    # The other numbers of numpy: `float32`, `bool_` ...
    return key.item() if hasattr(type(key), "dtype") and hasattr(key, "item") else key


def decode_key(data: bytes) -> Any:
    """The key that `encode_key` wrote, or the text another program did."""
    if data[:1] != b"\xff":
        return data.decode("utf-8", "surrogateescape")
    tag, body = data[1:2], data[2:]
    if tag == b"b":
        return body
    if tag == b"i":
        return int(body)
    if tag == b"f":
        return float(body)
    if tag == b"n":
        return None
    if tag == b"t":
        return tuple(decode_key(part) for part in _split(body))
    if tag == b"s":
        return frozenset(decode_key(part) for part in _split(body))
    if tag == b"p":
        return pickle.loads(body)
    raise ValueError(f"the key {data!r} was not written by shoal.Map: read it with shoal.BytesMap")


def as_bytes(data: Any, what: str) -> bytes:
    """Bytes that are written as they are. `TypeError` if they are something else; ``what`` says of what."""
    if type(data) is bytes:
        return data
    if isinstance(data, (bytes, bytearray, memoryview)):
        return bytes(data)
    raise TypeError(f"{what} is bytes, not {type(data).__name__}")


def _join(parts: List[bytes]) -> bytes:
    return b"".join(_LENGTH.pack(len(part)) + part for part in parts)


def _split(body: bytes) -> List[bytes]:
    parts: List[bytes] = []
    at = 0
    while at < len(body):
        if at + 4 > len(body):
            raise ValueError("a key ends within a length")
        (length,) = _LENGTH.unpack_from(body, at)
        at += 4
        if length > len(body) - at:
            raise ValueError("a key's element is longer than the key")
        parts.append(body[at : at + length])
        at += length
    return parts


def encode_value(value: Any, dumps: Callable[[Any, int], bytes] = pickle.dumps) -> bytes:
    """The bytes of a value."""
    if type(value) is int and _MIN <= value <= _MAX:
        return COUNTER.pack(value)
    data = dumps(value, pickle.HIGHEST_PROTOCOL)
    return data + b"\0" if len(data) == 8 else data


def decode_value(data: Any) -> Any:
    """The value that `encode_value` wrote, from bytes or a view of them."""
    if len(data) == 8:
        return COUNTER.unpack(data)[0]
    if len(data) and data[0] == _PICKLE_MARK:
        return pickle.loads(data)
    raise ValueError(
        "the value was not written by shoal.Map or shoal.List: read it with shoal.BytesMap or "
        "shoal.BytesList"
    )
