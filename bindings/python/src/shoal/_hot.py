"""The compiled classes that have the most frequent calls, where they are to be had.

`shoal._fast` is built with the package. Without it (PyPy, builds of CPython without the interpreter's
lock, subinterpreters, a package that was built with ``SHOAL_COMPILED=0``), or with ``SHOAL_PURE=1`` in the
environment, every call goes through ctypes. Both do the same, and raise the same.

A class of the package has every call written in Python. `compiled` puts a compiled method in the place of
some, which does the common case and calls the one it replaces (``_python_put``, of ``put``) for all the
rest. So what is rare, and each error, is written once.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module

from . import _ffi
from .__version__ import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

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
        # Not built, or not for a build without the interpreter's lock.
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

#: "compiled" or "ctypes": what the most frequent calls go through.
backend = "ctypes" if _fast is None else "compiled"

if TYPE_CHECKING:

    class Held:
        """The base class of shared objects."""

elif _fast is None:

    class Held:
        """The base class of shared objects, where the compiled one is not used."""

else:
    # It has the handle of the object, as `_fast`.
    Held = _fast.Held

def as_argument(handle: _ffi.Handle) -> Any:
    """A handle as the fastest calls take it."""
    return _ffi.prebuilt(handle) if _fast is None else handle


def compiled(cls: _C) -> _C:
    """Puts compiled methods into a class, where they are to be had."""
    for name, call in list(vars(cls).items()) if _fast is not None else ():
        code = getattr(call, "__code__", None)
        if code is None:
            continue
        method = _fast.method(cls.__name__, name, f"{name}{_signature(call)}\n--\n\n{call.__doc__}")
        if method is not None:
            setattr(cls, f"_python_{name}", call)
            setattr(cls, name, method)
    return cls


def _signature(call: Any) -> str:
    """A function's arguments as the first line of a compiled method's text has them."""
    names = list(call.__code__.co_varnames[1 : call.__code__.co_argcount])
    defaults = call.__defaults__ or ()
    for at, default in enumerate(defaults, len(names) - len(defaults)):
        names[at] += f"={default!r}"
    return f"({', '.join(['$self', *names])})"
