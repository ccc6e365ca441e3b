"""How long Ctrl-C takes: from the signal to the terminal's process group until all have ended.

    cargo xtask bench --python [--seconds 1] [--repeat 3]

A parent and a child wait for the same thing, each in its own program, with ``shoal.multiprocessing``
and with ``multiprocessing``. The end of the interpreter is part of it. A process that is still there after some
seconds is killed, and the time is infinite.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import time
from typing import List

PROGRAM = """
import {module} as mp, time

def sleep(n):
    time.sleep(1000)

def pool():
    with mp.Pool(3) as workers:
        workers.map(sleep, range(100), 1)

def wait(queue, tasks, lock, event, barrier, there):
    try:
        {wait}
    except KeyboardInterrupt:
        pass

if __name__ == "__main__":
    mp.set_start_method("fork")
    queue, tasks, lock = mp.Queue(), mp.JoinableQueue(), mp.Lock()
    event, barrier, (here, there) = mp.Event(), mp.Barrier(9), mp.Pipe()
    tasks.put(0)
    lock.acquire()
    args = queue, tasks, lock, event, barrier, there
    child = None if "pool" in {wait!r} else mp.Process(target=wait, args=args)
    if child:
        child.start()
    print("ready", flush=True)
    wait(*args)
    if child:
        child.join()
"""
WAITS = ["queue.get()", "tasks.join()", "lock.acquire()", "event.wait()", "barrier.wait()",
         "there.recv()", "mp.connection.wait([there])", "pool()"]
MODULES = ["shoal.multiprocessing", "multiprocessing"]
LIMIT = 5.0

# A shell starts programs in the background with SIGINT ignored, and their children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


def once(module: str, wait: str) -> float:
    """Milliseconds; infinity for one that had to be killed."""
    text = PROGRAM.format(module=module, wait=wait)
    started = subprocess.Popen(
        [sys.executable, "-c", text],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert started.stdout is not None
    started.stdout.readline()
    # Until all of them wait.
    time.sleep(0.3)
    start = time.perf_counter()
    os.killpg(started.pid, signal.SIGINT)
    try:
        # The pipe ends when all processes have closed it.
        started.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        os.killpg(started.pid, signal.SIGKILL)
        started.communicate()
        return float("inf")
    return (time.perf_counter() - start) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description="How long Ctrl-C takes.")
    parser.add_argument("--seconds", type=float, default=1.0, help="not used here")
    parser.add_argument("--repeat", type=int, default=3, help="how many times each")
    options = parser.parse_args()
    print(f"\nCtrl-C, milliseconds until no process is left: medians of {options.repeat} (most)")
    for wait in WAITS:
        line = f"{wait:30}"
        for module in MODULES:
            took: List[float] = [once(module, wait) for _ in range(options.repeat)]
            line += f"  {module} {statistics.median(took):6.0f} ({max(took):4.0f})"
        print(line, flush=True)


if __name__ == "__main__":
    main()
