"""Functions of a notebook, or of ``python -c``: no other process can import them."""

from __future__ import annotations

import importlib
import pickle
import sys
from typing import Any


class _ByValue:
    """A function that arrives as itself, made anew from its code."""

    def __init__(self, function: Any) -> None:
        self._function = function

    def __reduce__(self) -> Any:
        cloudpickle = importlib.import_module("cloudpickle")
        return cloudpickle.loads, (cloudpickle.dumps(self._function),)


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
        importlib.import_module("cloudpickle")
    except ImportError:
        name = getattr(function, "__qualname__", repr(function))
        raise pickle.PicklingError(
            f"{name!r} was defined interactively, so a new process cannot import it: put it into "
            "a module, install cloudpickle, or use the fork start method"
        ) from None
    return _ByValue(function)
