"""Functions that no other process can import: a notebook's, those of ``python -c``, lambdas."""

from __future__ import annotations

import importlib
import pickle
import sys
from typing import Any, Callable, NamedTuple


class Pickler(NamedTuple):
    """Two functions of a module like ``cloudpickle``, which every process can import."""

    dumps: Callable[[Any], bytes]
    loads: Callable[[bytes], Any]

    @classmethod
    def of(cls, module: Any) -> "Pickler":
        """What a module has."""
        try:
            return cls(module.dumps, module.loads)
        except AttributeError:
            raise TypeError(
                f"a pickler is a module with dumps and loads, such as cloudpickle, not {module!r}"
            ) from None


class ByValue:
    """Something that arrives as itself, by another way of pickling: a function made anew from its
    code."""

    def __init__(self, thing: Any, pickler: Pickler) -> None:
        self._thing = thing
        self._pickler = pickler

    def __reduce__(self) -> Any:
        return self._pickler.loads, (self._pickler.dumps(self._thing),)


def cannot_be_imported(thing: object) -> bool:
    """Whether a function or class was defined where a new process will not find it."""
    if getattr(thing, "__module__", None) != "__main__":
        return False
    main = sys.modules["__main__"]
    return getattr(main, "__spec__", None) is None and not hasattr(main, "__file__")


def sendable(function: Any) -> Any:
    """What to pickle in place of ``function``; `pickle.PicklingError` if there is no way.

    With ``cloudpickle`` installed a function that cannot be imported is sent as its code.
    """
    if not cannot_be_imported(function):
        return function
    try:
        pickler = Pickler.of(importlib.import_module("cloudpickle"))
    except ImportError:
        name = getattr(function, "__qualname__", repr(function))
        raise pickle.PicklingError(
            f"{name!r} was defined interactively, so a new process cannot import it: put it into "
            "a module, install cloudpickle, or use the fork start method"
        ) from None
    return ByValue(function, pickler)
