"""Pools of pebble: results, time limits that kill a worker, workers that die, cancellation."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import CancelledError, TimeoutError
from typing import Any

from pebble import ProcessExpired, ProcessPool
from side import context, result


def square(number: int) -> int:
    return number * number


def slow(number: int) -> int:
    time.sleep(60 if number == 2 else 0)
    return number


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def told(future: Any) -> Any:
    try:
        return future.result()
    except (TimeoutError, CancelledError, ProcessExpired) as err:
        return type(err).__name__


def main() -> None:
    for method in ["fork", "spawn"]:
        with ProcessPool(max_workers=2, context=context(method)) as pool:
            result(method, [told(pool.schedule(square, args=[it])) for it in range(30)])
            # A short limit for the slow one only: on a busy machine any task may take a second.
            limits = [60, 60, 1, 60, 60]
            calls = [pool.schedule(slow, args=[n], timeout=it) for n, it in enumerate(limits)]
            result([told(it) for it in calls])
            result([told(pool.schedule(die)) for _ in range(2)])
            waiting = pool.schedule(slow, args=[2])
            waiting.cancel()
            result(told(waiting))
            result(list(pool.map(square, range(50), chunksize=7).result()))


if __name__ == "__main__":
    main()
