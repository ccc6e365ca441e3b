"""Sending while no shared memory is left."""

from __future__ import annotations

import time
from typing import Callable, TypeVar

from ._errors import NoSpaceError

_R = TypeVar("_R")
# The longest time between two tries, in seconds.
_LONGEST = 0.1


def send(call: Callable[[], _R], is_empty: Callable[[], bool]) -> _R:
    """Sends a message, and waits for a reader if there is no memory for it.

    The writer of an original pipe waits for its reader. Here it waits while there are messages, whose
    memory comes back when they are read. If there are none, `NoSpaceError` is raised.
    """
    was_empty, nap = False, 0.001
    while True:
        try:
            return call()
        except NoSpaceError:
            if was_empty:
                raise
        # If so, once more: the last message may have been read just now.
        was_empty = is_empty()
        if not was_empty:
            time.sleep(nap)
            nap = min(2 * nap, _LONGEST)
