"""Backpressure: a sender waits for its reader when shared memory is full."""

from __future__ import annotations

import time
from typing import Callable, TypeVar

from ._errors import NoSpaceError

_R = TypeVar("_R")
# The longest pause between two tries, in seconds.
_LONGEST_PAUSE = 0.1


def send(call: Callable[[], _R], is_empty: Callable[[], bool]) -> _R:
    """Calls ``call``, which sends a message, and retries it while memory is full and messages wait.

    A writer to a pipe of the kernel waits for its reader. Here it waits while ``is_empty()`` is false,
    because the memory of messages is freed when they are read. If none are left, `NoSpaceError` is
    raised.
    """
    was_empty, pause = False, 0.001
    while True:
        try:
            return call()
        except NoSpaceError:
            if was_empty:
                raise
        # If it is empty, one more try: the last message may have been read after the failed one.
        was_empty = is_empty()
        if not was_empty:
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
