"""Compiled methods for the most frequent calls, where they are available.

`shoal._fast` is built with the package. Without it (PyPy, free-threaded builds of CPython,
subinterpreters, a package that was built with ``SHOAL_COMPILED=0``), or with ``SHOAL_PURE=1`` in the
environment, every call goes through ctypes. Both behave alike and raise the same exceptions.

Every method is written in Python. `compiled` replaces some methods by compiled ones. A compiled method
handles the common case and calls the Python method that it replaced (``_python_put`` for ``put``) for
everything else. So rare cases and errors are written once.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module

from . import _ffi
from .__version__ import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional, Sequence, TypeVar

    _C = TypeVar("_C", bound=type)

PURE_VARIABLE = "SHOAL_PURE"


def _load() -> Any:
    """The compiled module, or None."""
    if os.environ.get(PURE_VARIABLE, "0") not in ("", "0"):
        return None
    if sys.implementation.name != "cpython" or sys.version_info < (3, 9):
        return None
    try:
        fast: Any = import_module(f"{__package__}._fast")
    except ImportError:
        # It was not built, or this is a free-threaded build of CPython.
        return None
    if fast.VERSION != __version__:
        return None
    try:
        fast.setup(_ffi.lib._name, _ffi.Handle)
    except ImportError:
        # In a subinterpreter, or in use by another copy of the package or with another library.
        return None
    return fast


_fast = _load()

#: "compiled" or "ctypes": how the most frequent calls reach the library.
backend = "ctypes" if _fast is None else "compiled"

if TYPE_CHECKING:

    class Held:
        """The base class of shared objects."""

    class Taken(Held):
        """The base class of reservations and leases."""

        _size: int
        _attempts: int
        # The address of the `shoal_message`. Once it has been read, Python handles every call.
        _address: int
        _fast: Any

elif _fast is None:

    class Held:
        """The base class of shared objects, where the compiled one is not used."""

    class Taken(Held):
        """The base class of reservations and leases, where the compiled one is not used."""

else:
    # It stores the handle of the object in the attribute `_fast`.
    Held = _fast.Held
    # It can contain a message as well.
    Taken = _fast.Taken

#: The compiled counterparts of names in `_cache`, or None.
Word = None if _fast is None else _fast.Word
GOT_ONCE = None if _fast is None else _fast.GOT_ONCE


def as_argument(handle: _ffi.Handle) -> Any:
    """A handle as the argument of the most frequent calls."""
    return _ffi.prebuilt(handle) if _fast is None else handle


def place(value: Any, address: Optional[int], code: Any, lock: Any) -> None:
    """Tells the compiled methods of a value the address of its number.

    ``code`` is its type code, and ``lock`` its `ItemsLock` or None. With any other ``code`` or ``lock``,
    the value is read and written in Python.
    """
    if _fast is not None and isinstance(code, str) and (lock is None or isinstance(lock, Held)):
        _fast.place(value, address, code, lock)


def compiled(cls: _C) -> _C:
    """Replaces methods and properties of a class by compiled ones, where they are available."""
    for name in _fast.names(cls.__name__) if _fast is not None else ():
        python = getattr(cls, name)
        has_signature = not isinstance(python, property) and name[:1] != "_"
        text = f"{name}{_signature(python)}\n--\n\n" if has_signature else ""
        setattr(cls, f"_python_{name}", python)
        setattr(cls, name, _fast.method(cls, cls.__name__, name, f"{text}{python.__doc__}"))
    return cls


def without_shortcuts(
    cls: Any, base: Any, general: Any, hooks: Sequence[str], names: Sequence[str]
) -> None:
    """Lets a class that is derived from ``base`` override the methods in ``hooks``.

    The methods of ``base`` in ``names`` do not call all of the hooks. If the class overrides a hook, they are
    replaced by those of ``general``, the base class of ``base``, or else by the Python versions, which call it.
    """
    if all(getattr(cls, hook) is getattr(base, hook) for hook in hooks):
        return
    for name in names:
        here = getattr(base, name)
        if getattr(cls, name) is here:
            python = getattr(base, f"_python_{name}", here)
            setattr(cls, name, getattr(general, name, python))


def _signature(call: Any) -> str:
    """A function's arguments, in the format of the first line of a compiled method's docstring."""
    code = call.__code__
    names = list(code.co_varnames[1 : code.co_argcount])
    defaults = call.__defaults__ or ()
    for at, default in enumerate(defaults, len(names) - len(defaults)):
        names[at] += f"={default!r}"
    named = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    if named:
        names += ["*", *(f"{name}={call.__kwdefaults__[name]!r}" for name in named)]
    return f"({', '.join(['$self', *names])})"
