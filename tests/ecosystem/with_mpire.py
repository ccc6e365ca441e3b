"""Worker pools of mpire: results, state of workers, an exception, a task that takes too long."""

from __future__ import annotations

import time
from typing import Any

from mpire import WorkerPool
from side import install, result


def square(number: int) -> int:
    return number * number


def begin(state: Any) -> None:
    state["sum"] = 0


def add(state: Any, number: int) -> int:
    state["sum"] += number
    return int(state["sum"])


def end(state: Any) -> int:
    return int(state["sum"])


def fail(number: int) -> int:
    if number == 5:
        raise ArithmeticError(number)
    return number


def slow(number: int) -> int:
    time.sleep(60 if number == 2 else 0)
    return number


def main() -> None:
    install()
    for method in ["fork", "spawn"]:
        with WorkerPool(n_jobs=2, start_method=method) as pool:
            result(method, pool.map(square, range(300)))
            result(sorted(pool.imap_unordered(square, range(40), chunk_size=3)))
        with WorkerPool(n_jobs=2, start_method=method, use_worker_state=True) as pool:
            pool.map(add, range(100), worker_init=begin, worker_exit=end)
            result("together", sum(pool.get_exit_results()))
        with WorkerPool(n_jobs=2, start_method=method) as pool:
            try:
                pool.map(fail, range(20))
            except ArithmeticError as err:
                result("failed", str(err).strip().splitlines()[-1])
            try:
                pool.map(slow, range(4), task_timeout=1, chunk_size=1)
            except TimeoutError:
                result("too slow")


if __name__ == "__main__":
    main()
