"""Nanoseconds of single calls in one process, compiled and through ctypes.

    cargo xtask bench --python

Each backend runs in a process of its own, by turns; the best of all turns counts. What pickling alone
takes, and the standard library, stand beside them.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import subprocess
import sys
import timeit
from typing import Any, Dict

import shoal

MESSAGE = (7, "a small tuple", 0.5)
TURNS, CALLS = 5, 20_000

# What is called, on what of shoal, on what of the standard library, and what is beside it.
WORKLOADS: Dict[str, Any] = {
    "put and get, a small tuple": ("it.put(m); it.get()", shoal.Queue, None),
    "put and get, bytes": ("it.put_bytes(b); it.get_bytes()", shoal.Queue, None),
    "pickle alone": ("loads(dumps(m, 5))", None, lambda: None),
    "with lock": ("with it: pass", shoal.Lock, multiprocessing.Lock),
    "with rlock": ("with it: pass", shoal.RLock, multiprocessing.RLock),
    "semaphore": ("it.acquire(); it.release()", shoal.Semaphore, multiprocessing.Semaphore),
    "event": ("it.set(); it.is_set(); it.clear()", shoal.Event, multiprocessing.Event),
    "value": ("it.value = it.value", lambda: shoal.Value("i"), lambda: multiprocessing.Value("i")),
    "map get": ("it['key']", lambda: _filled(shoal.Map()), lambda: _filled({})),
    "map set": ("it['key'] = 7", shoal.Map, dict),
}


def _filled(table: Any) -> Any:
    table["key"] = 7
    return table


def measure() -> Dict[str, Dict[str, float]]:
    """Nanoseconds of each workload in this process."""
    took: Dict[str, Dict[str, float]] = {}
    for what, (call, ours, theirs) in WORKLOADS.items():
        took[what] = {}
        for who, make in ((shoal.backend, ours), ("standard", theirs)):
            if make is None:
                continue
            given = dict(it=make(), m=MESSAGE, b=b"x" * 30, loads=pickle.loads, dumps=pickle.dumps)
            best = min(timeit.repeat(call, globals=given, number=CALLS, repeat=3))
            took[what][who] = best / CALLS * 1e9
    return took


def main() -> None:
    if "--measure" in sys.argv:
        print(json.dumps(measure()))
        return
    best: Dict[str, Dict[str, float]] = {what: {} for what in WORKLOADS}
    for _ in range(TURNS):
        for pure in ("0", "1"):
            run = subprocess.run(
                [sys.executable, __file__, "--measure"],
                env={**os.environ, "SHOAL_PURE": pure},
                stdout=subprocess.PIPE,
                check=True,
            )
            for what, took in json.loads(run.stdout).items():
                for who, ns in took.items():
                    best[what][who] = min(ns, best[what].get(who, ns))
    print(f"{'ns':<28}{'compiled':>10}{'ctypes':>10}{'standard':>10}")
    for what, took in best.items():
        cells = (f"{took[who]:.0f}" if who in took else "" for who in ("compiled", "ctypes", "standard"))
        print(f"{what:<28}" + "".join(f"{cell:>10}" for cell in cells))


if __name__ == "__main__":
    main()
