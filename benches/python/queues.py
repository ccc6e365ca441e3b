"""Shoal's queue beside `multiprocessing.Queue` and faster-fifo, with Python objects.

    cargo xtask bench --python [--seconds 1] [--repeat 3]

Producers put small tuples singly; consumers take them singly, or many at a time where a line says so.
First with the default queues, which are unbounded (faster-fifo's has the size of its buffer), then with
bounded ones. Every process is forked before the clock starts, and a shared value says when to begin
and to stop. Only objects that were taken within the window count.
Consumers read each object. faster-fifo is skipped where it is not installed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import queue
import statistics
import sys
import time
from typing import Any, Callable, Dict, List, Tuple

import shoal

try:
    from faster_fifo import Queue as FasterFifo
except ImportError:
    FasterFifo = None

TOPOLOGIES = [(1, 1), (4, 4), (10, 1)]
RING = 1 << 22
MANY = 100
TEXT = "a small tuple"

GATHER, RUN, STOP = range(3)

fork = multiprocessing.get_context("fork")


def item(number: int) -> Tuple[int, str, float]:
    return (number, TEXT, 0.5)


def shoal_queue(bounded: bool) -> Any:
    return shoal.Queue(capacity=RING, max_capacity=RING) if bounded else shoal.Queue()


def standard_queue(bounded: bool) -> Any:
    # The bound keeps its feeder thread from being further ahead than the others' rings allow.
    return fork.Queue(RING // 64 if bounded else 0)


def faster_fifo_queue(bounded: bool) -> Any:
    return FasterFifo(max_size_bytes=RING)


def produce(channel: Any, many: bool, phase: Any, done: Any, place: int) -> None:
    put, number = channel.put, 0
    done[place] = 0
    while phase.value == GATHER:
        time.sleep(0.001)
    while phase.value == RUN:
        try:
            for number in range(number, number + 50):
                put(item(number), timeout=0.05)
        except queue.Full:
            pass
    if hasattr(channel, "cancel_join_thread"):
        # The end of the process does not wait for objects in its buffer.
        channel.cancel_join_thread()


def consume(channel: Any, many: bool, phase: Any, done: Any, place: int) -> None:
    get, taken = channel.get, 0
    get_many = getattr(channel, "get_many", None)
    done[place] = 0
    while True:
        try:
            if many:
                for obj in get_many(MANY, timeout=0.05):
                    if obj[1] != TEXT:
                        os._exit(1)
                    taken += 1
            else:
                for _ in range(50):
                    if get(timeout=0.05)[1] != TEXT:
                        os._exit(1)
                    taken += 1
        except queue.Empty:
            if phase.value == STOP:
                return
        done[place] = taken


def once(
    make: Callable[[bool], Any],
    bounded: bool,
    producers: int,
    consumers: int,
    many: bool,
    seconds: float,
) -> float:
    """Thousand taken objects a second."""
    channel = make(bounded)
    phase = fork.Value("i", GATHER, lock=False)
    done = fork.Array("q", [-1] * (producers + consumers), lock=False)
    workers = [
        fork.Process(
            target=produce if place < producers else consume,
            args=(channel, many, phase, done, place),
        )
        for place in range(producers + consumers)
    ]
    for worker in workers:
        worker.start()
    while min(done) < 0:
        time.sleep(0.001)
    phase.value = RUN
    time.sleep(seconds / 5)
    start, before = time.perf_counter(), sum(done[producers:])
    time.sleep(seconds)
    took, after = time.perf_counter() - start, sum(done[producers:])
    phase.value = STOP
    for worker in workers:
        worker.join()
        if worker.exitcode != 0:
            sys.exit(f"a worker of {make.__name__} ended with {worker.exitcode}")
    rate: float = (after - before) / took / 1e3
    return rate


def main() -> None:
    parser = argparse.ArgumentParser(description="Queues of Python objects, side by side.")
    parser.add_argument("--seconds", type=float, default=1.0, help="how long each window is")
    parser.add_argument("--repeat", type=int, default=3, help="how many windows each")
    options = parser.parse_args()
    kinds: Dict[str, Callable[[bool], Any]] = {
        "shoal": shoal_queue,
        "multiprocessing": standard_queue,
    }
    if FasterFifo is None:
        print("skipped: faster-fifo is not installed")
    else:
        kinds["faster-fifo"] = faster_fifo_queue
    print(f"Small tuples, thousand a second: medians of {options.repeat} windows of "
          f"{options.seconds} s, shoal {shoal.backend}")
    for bounded in (False, True):
        print("bounded queues" if bounded else "queues by default")
        print("procs  take  queue            median     least      most  shoal is")
        for producers, consumers in TOPOLOGIES:
            for many in (False, True):
                show(kinds, bounded, producers, consumers, many, options)


def show(
    kinds: Dict[str, Callable[[bool], Any]],
    bounded: bool,
    producers: int,
    consumers: int,
    many: bool,
    options: argparse.Namespace,
) -> None:
    rates: Dict[str, List[float]] = {}
    # In turn, so that a busy moment of the machine affects all queues.
    for _ in range(options.repeat):
        for name, make in kinds.items():
            if not many or name != "multiprocessing":
                rate = once(make, bounded, producers, consumers, many, options.seconds)
                rates.setdefault(name, []).append(rate)
    own = statistics.median(rates["shoal"])
    for name, all_of_it in rates.items():
        median = statistics.median(all_of_it)
        print(
            f"{producers:>2}x{consumers:<2}  {'many' if many else 'one':4}  "
            f"{name:15} {median:>8.0f}  {min(all_of_it):>8.0f}  "
            f"{max(all_of_it):>8.0f}  {own / median:>7.2f}x",
            flush=True,
        )


if __name__ == "__main__":
    main()
