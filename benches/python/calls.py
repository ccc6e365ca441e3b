"""Nanoseconds of single calls in one process, compiled and through ctypes.

    cargo xtask bench --python [--seconds 0.2] [--repeat 3]

Each backend runs in its own process, in turn. A workload runs many short times, of which the shortest
counts: other programs of the machine only make runs longer. The table also has the time of pickling alone,
the time of the object of the standard library or of Python, and how many times as fast the compiled
backend of Shoal is.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import pickle
import subprocess
import sys
import time
import timeit
from typing import Any, Dict, List

import shoal

MESSAGE = (7, "a small tuple", 0.5)
BATCH = [MESSAGE] * 100
MOMENT = 200e-6
PURE = "SHOAL_PURE"

# The call, the object of Shoal, and what it is compared with: another object, or another call.
WORKLOADS: Dict[str, Any] = {
    "queue: put and get, a small tuple": ("it.put(m); it.get()", shoal.Queue, "loads(dumps(m, 5))"),
    "queue: put and get, 30 bytes": ("it.put_bytes(b); it.get_bytes()", shoal.Queue, "loads(dumps(m, 5))"),
    "queue: a hundred in a batch": (
        "it.put_many(batch); it.get_many()",
        shoal.Queue,
        "for one in batch: loads(dumps(one, 5))",
    ),
    "queue: put, lease, get and ack": (
        "it.put(m); job = it.lease(); job.get(); job.ack()",
        shoal.Queue,
        "loads(dumps(m, 5))",
    ),
    "pipe: send and recv": ("it[0].send(m); it[1].recv()", shoal.Pipe, multiprocessing.Pipe),
    "pipe: poll": ("it[1].poll()", shoal.Pipe, multiprocessing.Pipe),
    "lock: with": ("\nwith it: pass", shoal.Lock, multiprocessing.Lock),
    "rlock: with": ("\nwith it: pass", shoal.RLock, multiprocessing.RLock),
    "semaphore: with": ("\nwith it: pass", shoal.Semaphore, multiprocessing.Semaphore),
    "semaphore: acquire and release": (
        "it.acquire(); it.release()",
        shoal.Semaphore,
        multiprocessing.Semaphore,
    ),
    "event: set, is_set and clear": (
        "it.set(); it.is_set(); it.clear()",
        shoal.Event,
        multiprocessing.Event,
    ),
    "value: get": ("it.value", lambda: shoal.Value("i"), lambda: multiprocessing.Value("i")),
    "value: set": ("it.value = 7", lambda: shoal.Value("i"), lambda: multiprocessing.Value("i")),
    "map: get": ("it['key']", lambda: _filled(shoal.Map()), lambda: _filled({})),
    "map: set": ("it['key'] = 7", shoal.Map, dict),
    "map: set and get": ("it['key'] = 7; it['key']", shoal.Map, dict),
    "map: in": ("'key' in it", lambda: _filled(shoal.Map()), lambda: _filled({})),
    "map: set and remove": ("it['key'] = 7; del it['key']", shoal.Map, dict),
    "map: add": ("it.add('key')", shoal.Map, None),
    "list: index": ("it[0]", lambda: _long(shoal.List()), lambda: _long([])),
    "list: append and pop": ("it.append(7); it.pop()", shoal.List, list),
}


def _filled(table: Any) -> Any:
    table["key"] = 7
    return table


def _long(items: Any) -> Any:
    items.append(7)
    return items


def nanoseconds(call: str, it: Any, seconds: float) -> float:
    """The nanoseconds of one call, in the fastest run."""
    given = dict(it=it, m=MESSAGE, b=b"x" * 30, batch=BATCH, loads=pickle.loads, dumps=pickle.dumps)
    timer = timeit.Timer(call, globals=given)
    # As many calls as take less time than a time slice of the scheduler.
    calls = max(5, int(MOMENT / min(timer.repeat(5, 20)) * 20))
    took: List[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(took) < 3:
        took.append(timer.timeit(calls))
    return min(took) / calls * 1e9


def measure(seconds: float) -> Dict[str, Dict[str, float]]:
    """The nanoseconds of each workload in this process."""
    took: Dict[str, Dict[str, float]] = {}
    for what, (call, ours, beside) in WORKLOADS.items():
        took[what] = {shoal.backend: nanoseconds(call, ours(), seconds)}
        if isinstance(beside, str):
            took[what]["beside"] = nanoseconds(beside, None, seconds)
        elif beside is not None:
            took[what]["beside"] = nanoseconds(call, beside(), seconds)
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description="Nanoseconds of single calls.")
    parser.add_argument("--seconds", type=float, default=0.2, help="how long each call is repeated")
    parser.add_argument("--repeat", type=int, default=3, help="how many times each")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.seconds)))
        return
    best: Dict[str, Dict[str, float]] = {what: {} for what in WORKLOADS}
    for _ in range(options.repeat):
        for pure in ("0", "1"):
            run = subprocess.run(
                [sys.executable, __file__, "--measure", "--seconds", str(options.seconds)],
                env={**os.environ, PURE: pure},
                stdout=subprocess.PIPE,
                check=True,
            )
            for what, took in json.loads(run.stdout).items():
                for who, ns in took.items():
                    best[what][who] = min(ns, best[what].get(who, ns))
    print("Single calls in one process, nanoseconds. Beside them: pickling alone for queues, a dict for")
    print("maps, a list for lists, and multiprocessing for the rest.")
    print(f"{'':<36}{'compiled':>10}{'ctypes':>10}{'beside':>10}{'shoal is':>10}")
    for what, took in best.items():
        cells = [f"{took[who]:.0f}" if who in took else "" for who in ("compiled", "ctypes", "beside")]
        fastest = took.get("compiled", took["ctypes"])
        cells.append(f"{took['beside'] / fastest:.2f}x" if "beside" in took else "")
        print(f"{what:<36}" + "".join(f"{cell:>10}" for cell in cells))


if __name__ == "__main__":
    main()
