"""Functions that no other process can import: those of a notebook or of ``python -c``, and lambdas."""

from __future__ import annotations

import importlib
import pickle
import sys
import threading
from typing import Any, Callable, NamedTuple


class Pickler(NamedTuple):
    """The functions of a module such as ``cloudpickle``, which every process can import."""

    dumps: Callable[[Any], bytes]
    loads: Callable[[bytes], Any]

    @classmethod
    def of(cls, module: Any) -> "Pickler":
        """The pickler of a module. `TypeError` if it lacks one of the functions."""
        try:
            return cls(module.dumps, module.loads)
        except AttributeError:
            raise TypeError(
                f"a pickler is a module with dumps and loads, such as cloudpickle, not {module!r}"
            ) from None


class ByValue:
    """Wraps an object so that it is pickled by another pickler, which sends a function as its code."""

    def __init__(self, obj: Any, pickler: Pickler) -> None:
        self._obj = obj
        self._pickler = pickler

    def __reduce__(self) -> Any:
        return self._pickler.loads, (self._pickler.dumps(self._obj),)


def _has_main_file() -> bool:
    return hasattr(sys.modules.get("__main__"), "__file__")


_had_main_file = _has_main_file()


def cannot_be_imported(obj: object) -> bool:
    """Whether a function or class was defined where a new process cannot import it."""
    if getattr(obj, "__module__", None) != "__main__":
        return False
    if getattr(sys.modules["__main__"], "__spec__", None) is not None or _has_main_file():
        return False
    # At the end of the program, while `atexit` callbacks run, Python has deleted `__file__`. Processes
    # that were started before still have it.
    return threading.main_thread().is_alive() or not _had_main_file


def sendable(function: Any) -> Any:
    """The object to pickle in the place of ``function``: itself if it can be imported.

    Otherwise it is sent as its code if ``cloudpickle`` is installed, and else the call raises
    `pickle.PicklingError`.
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
