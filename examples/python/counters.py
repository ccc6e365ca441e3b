"""Shared counters: four workers add concurrently, and one of them is killed meanwhile.

    python counters.py

Every worker adds to one sum and after each time writes down that it did, in a counter of its own.
`add` is done wholly or not at all, so nothing is missing in the sum, and at most one addition of
the one that was killed is not written down.
"""

import signal
import time
from typing import List

import shoal
import shoal.multiprocessing as mp

WORKERS = ["ada", "bea", "cleo", "dora"]
WEIGHT = 0.5


def work(sums: "shoal.Map[str, float]", me: str, stop: shoal.Event) -> None:
    while not stop.is_set():
        sums.add("sum", WEIGHT)
        sums.add(me)


def wait_for_more(sums: "shoal.Map[str, float]", workers: List[str]) -> None:
    goals = {name: sums.get(name, 0) + 300 for name in workers}
    while any(sums.get(name, 0) < goal for name, goal in goals.items()):
        time.sleep(0.001)


def main() -> None:
    sums: "shoal.Map[str, float]" = shoal.Map()
    stop = shoal.Event()
    farm = {name: mp.Process(target=work, args=(sums, name, stop)) for name in WORKERS}
    for worker in farm.values():
        worker.start()
    wait_for_more(sums, WORKERS)
    farm["bea"].kill()
    # The others continue.
    wait_for_more(sums, [name for name in WORKERS if name != "bea"])
    stop.set()
    for worker in farm.values():
        worker.join()
    (killed,) = (name for name in WORKERS if farm[name].exitcode == -signal.SIGKILL)
    written = sum(sums[name] for name in WORKERS)
    added = sums["sum"] / WEIGHT
    assert written <= added <= written + 1
    print(f"of {added:.0f} additions {written} are written down")
    print(f"{killed} was killed, and no addition is missing")


if __name__ == "__main__":
    main()
