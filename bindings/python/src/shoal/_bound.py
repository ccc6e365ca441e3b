"""A bound in items on a queue that is bounded in bytes.

A put that must not exceed ``maxsize`` takes an advisory lock (`flock`) on the queue's own
file, looks at the exact length, puts, and lets go. Producers exclude each other, consumers
only ever make room, so the bound is exact. The kernel drops the lock when its holder dies:
a killed producer costs nobody anything. Nothing is waited for under the lock.

The lock is taken through a descriptor opened for the one put, so neither threads nor a
fork can share it by accident. A producer that finds the queue full looks again after a
pause of 0.2 ms that doubles up to 5 ms.
"""

from __future__ import annotations

import fcntl
import os
import time
from typing import Callable, Optional

from . import _ffi
from ._errors import NotFoundError

_DIRECTORY = "/dev/shm"
_FIRST_PAUSE = 0.0002
_LONGEST_PAUSE = 0.005


def put_bounded(
    name: str,
    maxsize: int,
    length: Callable[[], int],
    put_now: Callable[[], int],
    until: Optional[int],
) -> int:
    """Runs ``put_now`` while fewer than ``maxsize`` items are queued; returns its status.

    ``FULL`` when ``until`` (see `_wait.deadline`) has passed first.
    """
    path = f"{_DIRECTORY}/shoal.{name}"
    pause = _FIRST_PAUSE
    while True:
        status = _try_put(path, maxsize, length, put_now)
        if status not in (_ffi.FULL, _ffi.TIMEOUT, _ffi.INTERRUPTED):
            return status
        if until is not None:
            left = 0.0 if until == 0 else (until - time.monotonic_ns()) / 1e9
            if left <= 0:
                return _ffi.FULL
            pause = min(pause, left)
        time.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)


def _try_put(
    path: str, maxsize: int, length: Callable[[], int], put_now: Callable[[], int]
) -> int:
    if length() >= maxsize:
        return _ffi.FULL
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotFoundError(
            f"{path} was unlinked: its bound of {maxsize} items can no longer be kept"
        ) from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        try:
            if length() >= maxsize:
                return _ffi.FULL
            return put_now()
        finally:
            # Explicitly: a process forked by another thread meanwhile has this descriptor
            # too, and the lock would last until both are closed.
            fcntl.flock(fd, fcntl.LOCK_UN)
    finally:
        os.close(fd)
