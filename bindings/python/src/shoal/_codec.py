r"""How `shoal.Map` encodes Python keys and values as bytes, and `shoal.List` its elements.

Keys. Equal keys give equal bytes, whichever process writes them:

====================  =============================================================
``str``               its UTF-8 without a prefix, so other languages read it directly
``bytes``             ``FF 'b'`` and the bytes
``int``, ``bool``     ``FF 'i'`` and the decimal digits; the same for a whole ``float``
``float``             ``FF 'f'`` and its ``repr``
``None``              ``FF 'n'``
``tuple``             ``FF 't'``, then each element's encoding after its length (u32 LE)
``frozenset``         ``FF 's'``, then the same for the elements in order of their bytes
any other hashable    ``FF 'p'`` and its pickle (protocol 4, memo off), with the program's
                      module as ``__main__``; equal keys of such a type must pickle to
                      equal bytes
====================  =============================================================

A ``complex`` without an imaginary part is encoded as its real part. Before a key is pickled, what its
comparison ignores is removed: the ``fold`` of a `datetime.datetime` and a `datetime.time`, ``is_safe`` of a
`uuid.UUID`, and the end of a `range` between two of its numbers. Times of different zones are different keys,
because a key would lose its zone otherwise.

A number of numpy, and an object of a class that is derived from ``str``, ``bytes``, ``int`` or
``float``, is encoded as the value that it equals, and decoded as that value. A member of an
`enum.Enum` and a ``namedtuple`` consist of more than their value. They are pickled, so they are decoded
as they were, and are different keys from the value that they equal.

UTF-8 never contains ``FF``, so a text is never mistaken for another type. A key of a program in
another language that is not UTF-8 is decoded as text with surrogate escapes, as file names are, and
that text finds the same entry again. Any other text with surrogates, also one whose bytes would begin
with ``FF``, is ``FF 'u'`` and its UTF-8 with surrogates.

Values. An ``int`` that fits 64 bits is 8 bytes, little-endian, signed: the representation that
`Map.add` uses in every language. Any other value is its pickle, which starts with ``80``. A pickle of
exactly 8 bytes gets a ninth byte, zero, which unpickling ignores.
"""

from __future__ import annotations

import io
import pickle
import struct
from enum import Enum
from numbers import Integral
from typing import Any, Callable, List, Tuple

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
            return _encode_surrogates(key)
    if kind is bytes:
        tagged: bytes = b"\xffb" + key
        return tagged
    if kind is int:
        return b"\xffi%d" % key
    return _encode_rare_key(key)


def _encode_surrogates(key: str) -> bytes:
    """The bytes of a text with surrogates: the same as another program writes for such a name of a file, if
    `decode_key` returns the same text for them."""
    try:
        data = key.encode("utf-8", "surrogateescape")
        if data[:1] != b"\xff" and data.decode("utf-8", "surrogateescape") == key:
            return data
    except UnicodeEncodeError:
        pass
    return b"\xffu" + key.encode("utf-8", "surrogatepass")


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
    if kind is complex:
        if not key.imag:
            return encode_key(key.real)
        # The sum has no negative zero.
        return _pickled(complex(key.real + 0.0, key.imag + 0.0))
    plain = _plain(key)
    # A derived class may define its own comparison.
    if type(plain) in _PLAIN and hash(plain) == code and plain == key:
        return encode_key(plain)
    return _pickled(_simplest(key))


def _simplest(key: Any) -> Any:
    """A key without what its comparison ignores."""
    kind = type(key)
    if kind is range:
        if not key:
            return range(0)
        first, last = key[0], key[-1]
        return range(first, first + 1) if first == last else range(first, last + key.step, key.step)
    simple: Any = key
    if kind.__module__ == "datetime" and hasattr(kind, "fold"):
        simple = simple.replace(fold=0)
    elif kind.__module__ == "uuid" and kind.__name__ == "UUID":
        simple = kind(int=simple.int)
    return simple


def _pickled(key: Any) -> bytes:
    out = io.BytesIO()
    pickler = pickle.Pickler(out, 4)
    # No memo, so that the bytes do not depend on whether two parts of the key are one object.
    pickler.fast = True
    pickler.dump(key)
    data = out.getvalue()
    return b"\xffp" + (_renamed(data) if _IN_CHILD in data else data)


# The name of the program's module in a child that was not forked, and in its parent. Both can unpickle either.
_IN_CHILD = b"__mp_main__"
_MAIN = b"__main__"


def _renamed(data: bytes) -> bytes:
    """A pickle without memo that names the program's types as the parent does, in module ``__main__``."""
    from pickletools import genops

    ops: List[Tuple[str, Any, int]] = [(op.name, arg, at or 0) for op, arg, at in genops(data)]
    # The module's name, the type's, and the opcode that takes both.
    found = [
        name[2]
        for name, _, taken in zip(ops, ops[1:], ops[2:])
        if taken[0] == "STACK_GLOBAL" and name[1] == _IN_CHILD.decode()
    ]
    old, new = (bytes((0x8C, len(name))) + name for name in (_IN_CHILD, _MAIN))
    whole = bytearray(data)
    for name, length, at in ops:
        if name == "FRAME":
            inside = sum(at < place < at + length for place in found)
            less = inside * (len(old) - len(new))
            whole[at + 1 : at + 9] = (length - less).to_bytes(8, "little")
    for place in reversed(found):
        whole[place : place + len(old)] = new
    return bytes(whole)


_PLAIN = frozenset((str, bytes, int, float, bool, complex))


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
    """The key that `encode_key` encoded, or the text that another program wrote."""
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
    if tag == b"u":
        return body.decode("utf-8", "surrogatepass")
    raise ValueError(f"the key {data!r} was not written by shoal.Map: read it with shoal.BytesMap")


def as_bytes(data: Any, what: str) -> bytes:
    """Bytes that are stored unchanged. `TypeError`, which names ``what``, for anything else."""
    if type(data) is bytes:
        return data
    if isinstance(data, (bytes, bytearray, memoryview)):
        # Through a view: the `__bytes__` of a derived class may return a derived class again, whose `len` may be
        # wrong.
        return bytes(memoryview(data))
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


def is_equal(decode: Callable[[bytes], Any], data: bytes, value: Any) -> bool:
    """Whether encoded bytes are those of an equal value. If that cannot be told, they are not."""
    try:
        return bool(decode(data) == value)
    except Exception:
        return False


def decode_value(data: Any) -> Any:
    """The value that `encode_value` encoded, from bytes or a view of them."""
    if len(data) == 8:
        return COUNTER.unpack(data)[0]
    if len(data) and data[0] == _PICKLE_MARK:
        return pickle.loads(data)
    raise ValueError(
        "the value was not written by shoal.Map or shoal.List: read it with shoal.BytesMap or "
        "shoal.BytesList"
    )
