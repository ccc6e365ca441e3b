"""The standard library's `multiprocessing`, whatever a program has put in its place.

``from ._original import queues`` is ``from multiprocessing import queues``. Programs replace names
of that module by those of `shoal.multiprocessing`, or put the one into ``sys.modules`` for the
other: then the plain import would give Shoal's own module back.
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
    put_there = sys.modules.get(_name)
    if put_there is not _package:
        _import_all(put_there)
    return _import(name)


def _import(name: str) -> Any:
    from importlib import import_module

    return import_module(f"{_name}.{name}")


def _import_all(put_there: Any) -> None:
    """Imports the submodules while their package is where their own imports look for it.

    All of them: they import each other in the middle of their functions.
    """
    import pkgutil

    sys.modules[_name] = _package
    try:
        for module in pkgutil.iter_modules(_package.__path__):
            if not module.ispkg and "win32" not in module.name:
                _import(module.name)
    finally:
        if put_there is not None:
            sys.modules[_name] = put_there
