"""Selects which of the two modules a program uses. Its results have to be the same with both.

    python with_tqdm.py original
    python with_tqdm.py shoal
"""

from __future__ import annotations

import importlib
import multiprocessing
import sys
from typing import Any

SHOAL = sys.argv[1:2] == ["shoal"]


def context(method: str) -> Any:
    """A context of this side's module."""
    name = "shoal.multiprocessing" if SHOAL else "multiprocessing"
    return importlib.import_module(name).get_context(method)


def install() -> None:
    """For libraries that import `multiprocessing` themselves."""
    if SHOAL:
        importlib.import_module("shoal.multiprocessing").install()
        queue = multiprocessing.get_context("fork").Queue()
        assert type(queue).__module__.startswith("shoal"), type(queue)


def result(*said: Any) -> None:
    """A line that is compared."""
    print(*said, flush=True)
