"""Setting the results of a pool. No exception of a program's callback may end a thread of the pool."""

from __future__ import annotations

import sys
from multiprocessing.context import ProcessError
from typing import Any, Tuple


def failure(what: str, error: BaseException) -> Exception:
    """The exception with which a task fails. A `SystemExit` or `KeyboardInterrupt` is wrapped: it must
    end neither a thread of the pool nor the program that asks for the result."""
    if isinstance(error, Exception):
        return error
    wrapped = ProcessError(f"{what} raised {error!r}")
    wrapped.__cause__ = error
    return wrapped


def complete(waited_for: Any, index: int, result: Tuple[bool, Any]) -> None:
    """Sets a result. An exception of the program's callback is only reported."""
    try:
        waited_for._set(index, result)
    except BaseException:
        # Threads that wait for the result must still be woken.
        sys.excepthook(*sys.exc_info())
        waited_for._callback = waited_for._error_callback = None
        waited_for._number_left = 1
        waited_for._set(index, result)


def end_iteration(result: Any, error: Exception) -> None:
    """Makes an iterator yield the results that it has, then raise the error, and then end."""
    result._items.append((False, error))
    result._unsorted.clear()
    result._index += 1
    result._length = result._index
    result._cond.notify()
    del result._cache[result._job]
    result._pool = None
