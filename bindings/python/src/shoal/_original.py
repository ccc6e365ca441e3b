"""The standard library's `multiprocessing`, even if a program has replaced it.

``from ._original import queues`` means ``from multiprocessing import queues``. Programs replace names
of that package by those of `shoal.multiprocessing`, or put `shoal.multiprocessing` into
``sys.modules`` under its name. Then the plain import would return Shoal's own module.
"""

from __future__ import annotations

import multiprocessing
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_package = multiprocessing
_name = multiprocessing.__name__


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    replacement = sys.modules.get(_name)
    if replacement is not _package:
        _import_all(replacement)
    return _import(name)


def _import(name: str) -> Any:
    from importlib import import_module

    return import_module(f"{_name}.{name}")


def _import_all(replacement: Any) -> None:
    """Imports all submodules while the original package is in ``sys.modules``.

    All of them at once, because their functions import other submodules when they are called.
    """
    import pkgutil

    sys.modules[_name] = _package
    try:
        for module in pkgutil.iter_modules(_package.__path__):
            if not module.ispkg and "win32" not in module.name:
                _import(module.name)
    finally:
        if replacement is not None:
            sys.modules[_name] = replacement
