"""Waits that Ctrl-C can end.

A thread inside the native library cannot run Python's signal handlers. A signal ends its sleep,
unless it comes just before that, or to another thread than the one that waits. So every wait is
cut into slices: after each the interpreter runs what handlers are due (Ctrl-C raises
`KeyboardInterrupt` there) and the call is entered again with what is left until its deadline.

Each slice is twice as long as the one before, up to a bound, since an idle machine should be idle
and every new call looks for a while before it sleeps. So a signal that was missed is noticed after
as much time at most as the wait had taken by then.
"""

from __future__ import annotations

from time import monotonic_ns
from typing import Callable, Optional

from . import _abi

# How long a blocking call stays in the library at first before Python looks at its signals.
SLICE_NS = 50_000_000
# And at most.
_LONGEST_NS = 1_000_000_000

# Longer timeouts than this (30 years) mean forever: nanoseconds have to fit 64 bits.
_FOREVER_SECONDS = 1e9


def deadline(block: bool, timeout: Optional[float]) -> Optional[int]:
    """The monotonic nanosecond at which to give up. ``None`` is never, 0 is at once."""
    if not block:
        return 0
    if timeout is None or timeout > _FOREVER_SECONDS:
        return None
    if timeout <= 0:
        return 0
    return monotonic_ns() + int(timeout * 1e9)


def nanoseconds(seconds: float) -> int:
    """A length of time, which must not be negative."""
    if seconds < 0:
        raise ValueError(f"a length of time must not be negative, but is {seconds}")
    return int(min(seconds, _FOREVER_SECONDS) * 1e9)


def wait(call: Callable[[int], int], until: Optional[int]) -> int:
    """Runs ``call(timeout_ns)`` until it answers, or ``until`` has passed.

    Returns the last status, a timeout once the time is up.
    ``call`` is always made at least once. It raises what it means to have no handle any more.
    """
    slice_ns, is_retried = SLICE_NS, False
    while True:
        if until is None:
            timeout_ns = slice_ns
        elif until == 0:
            timeout_ns = _abi.NOWAIT
        else:
            timeout_ns = max(0, min(slice_ns, until - monotonic_ns()))
        status = call(timeout_ns)
        if status == _abi.ERR_INTERRUPTED:
            continue
        if status == _abi.ERR_CLOSED and not is_retried:
            # Closed for all, or for this process: then another thread has detached the object
            # meanwhile, and `call` says so.
            is_retried = True
            continue
        if status != _abi.ERR_TIMEOUT:
            return status
        if until is not None and monotonic_ns() >= until:
            return status
        slice_ns = min(2 * slice_ns, _LONGEST_NS)
