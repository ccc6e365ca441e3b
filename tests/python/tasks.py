"""Calls for the workers of executors. They are in a module of their own, because workers that are
spawned import it.
"""

from __future__ import annotations

import os
import signal
from typing import Any, List

initialised: List[Any] = []


def square(number: int) -> int:
    return number * number


def initialise(what: Any) -> None:
    initialised.append(what)


def see_initialised() -> List[Any]:
    return initialised


def fail(message: str) -> None:
    raise LookupError(message)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def raises_when_unpickled() -> Any:
    return Unreadable()


class Unreadable:
    def __reduce__(self) -> Any:
        return fail, ("unpickled",)
