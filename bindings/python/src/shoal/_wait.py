"""Waits that Ctrl-C can end.

A thread inside the native library cannot run Python's signal handlers. A signal ends its sleep, unless
it arrives just before the sleep or in another thread. So every wait is cut into slices. After each
slice the interpreter runs pending signal handlers (Ctrl-C raises `KeyboardInterrupt` there), and the
library is called again with the time that is left.

Each slice is twice as long as the one before, up to a bound, because every new call spins for a while
before it sleeps, and an idle process should use little processor time. So a missed signal is handled
with a delay of at most about the time that the wait had taken before it.
"""

from __future__ import annotations

from time import monotonic_ns
from typing import Any, Callable, Optional

from . import _abi

# The length of the first slice.
SLICE_NS = 50_000_000
# The length of the longest slice.
_LONGEST_NS = 1_000_000_000

# A longer timeout than this (30 years) means forever, because nanoseconds have to fit 64 bits.
_FOREVER_SECONDS = 1e9


def seconds(value: Any, what: str = "timeout", otherwise: str = " or None") -> float:
    """A time that a program has passed, from -30 to 30 years. `TypeError` or `ValueError`, which names ``what``, if
    it is no number. So a wrong timeout is an error even if the call need not wait."""
    if type(value) in (float, int) and -_FOREVER_SECONDS < value < _FOREVER_SECONDS:
        usual: float = value
        return usual
    if not isinstance(value, (float, int)):
        kind = type(value)
        try:
            # `float` itself also reads texts.
            if not (hasattr(kind, "__float__") or hasattr(kind, "__index__")):
                raise TypeError
            value = float(value)
        except TypeError:
            text = f"{what} is a number of seconds{otherwise}, not {value!r}"
            raise TypeError(text) from None
    if value != value:
        raise ValueError(f"{what} is a number of seconds{otherwise}, not {value!r}")
    found: float = max(-_FOREVER_SECONDS, min(value, _FOREVER_SECONDS))
    return found


def deadline(block: bool, timeout: Optional[float]) -> Optional[int]:
    """The end of a wait in nanoseconds of the monotonic clock. ``None`` is never, 0 does not wait."""
    left = _FOREVER_SECONDS if timeout is None else seconds(timeout)
    if not block or left <= 0:
        return 0
    if left >= _FOREVER_SECONDS:
        return None
    return monotonic_ns() + int(left * 1e9)


def nanoseconds(value: Any, what: str = "seconds", otherwise: str = "") -> int:
    """A duration in nanoseconds. Raises as `seconds` does, and `ValueError` if it is negative."""
    found = seconds(value, what, otherwise)
    if found < 0:
        raise ValueError(f"{what} must not be negative, but is {value!r}")
    return int(found * 1e9)


def wait(call: Callable[[int], int], until: Optional[int]) -> int:
    """Calls ``call(timeout_ns)`` until it returns a status other than a timeout, or ``until`` has passed.

    Returns the last status. ``call`` is called at least once. It raises if the object was detached.
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
            # Either the object is closed, or another thread of this process has detached it. In the
            # second case the next call raises.
            is_retried = True
            continue
        if status != _abi.ERR_TIMEOUT:
            return status
        if until is not None and monotonic_ns() >= until:
            return status
        slice_ns = min(2 * slice_ns, _LONGEST_NS)
