"""A picture whose workers are killed at random, and of which no row is missing.

    python killed_workers.py [fork | spawn | forkserver]

Each row is a message that a worker leases: if the worker is killed, another one gets the row.
A row may be painted twice that way, but the second time it is the same.
"""

import random
import sys
import time
from typing import List

import shoal
import shoal.multiprocessing as mp

WIDTH, HEIGHT = 72, 24


def paint(row: int) -> str:
    """One row of the Mandelbrot set."""
    line = ""
    for column in range(WIDTH):
        c = complex(column / WIDTH * 3.2 - 2.3, row / HEIGHT * 2.4 - 1.2)
        z, steps = 0j, 0
        while abs(z) < 2 and steps < 2000:
            z, steps = z * z + c, steps + 1
        line += " .:-=+*#%@"[min(9, steps // 3)]
    return line


def worker(rows: "shoal.Queue[int]", picture: "shoal.Map[int, str]") -> None:
    try:
        while True:
            with rows.lease() as lease:  # acked at the end of the block
                row = lease.get()
                picture[row] = paint(row)
    except shoal.ClosedError:
        pass  # no worker is left that could return a row


def main() -> None:
    mp.set_start_method(sys.argv[1] if len(sys.argv) > 1 else "fork")
    rows: "shoal.Queue[int]" = shoal.Queue()
    picture: "shoal.Map[int, str]" = shoal.Map()
    rows.put_many(range(HEIGHT))
    rows.close()

    def start() -> mp.Process:
        process = mp.Process(target=worker, args=(rows, picture))
        process.start()
        return process

    workers: List[mp.Process] = [start() for _ in range(4)]
    killed, longest = 0, 0.02 if mp.get_start_method() == "fork" else 0.5
    while rows.unfinished:
        time.sleep(random.uniform(0, longest))
        victim = random.choice(workers)
        if victim.is_alive():
            victim.kill()
            victim.join()
            workers.remove(victim)
            workers.append(start())
            killed += 1
            longest *= 1.02  # so that it comes to an end on a busy machine as well
    for process in workers:
        process.join()

    for row in range(HEIGHT):
        print(picture[row])
    print(f"{killed} painters were killed")
    print(f"{len(picture)} rows of {HEIGHT} are there")


if __name__ == "__main__":
    main()
