"""The same small programs with `shoal.multiprocessing` and with `multiprocessing`, beside others.

    cargo xtask bench --python --busy 0,1,2,4 [--nice 19 | --idle-class] [--only queue]

The workloads run beside this many computing processes, in turn with both modules, window by
window. Each window has its own processes, which are forked before the clock starts and read every
message that they receive. The ratio of both modules is computed for each round.
"""

from __future__ import annotations

import argparse
import multiprocessing as standard
import statistics
import sys
import time
from array import array
from functools import partial
from typing import Any, Callable, Dict, List, Tuple

import shoal.multiprocessing
from neighbours import Measured, Tally, Window, fork, neighbours, run_jobs

TEXT = "a small tuple"
LOCKERS = 4
# Exchanges before the clock starts.
WARM = 5
# How far a producer may be ahead of its consumer, and how often it checks.
AHEAD, CHECK_EVERY = 20_000, 100
KEYS = [f"key {number}" for number in range(1000)]

clock = time.perf_counter_ns


def item(number: int) -> Tuple[int, str, float]:
    return (number, TEXT, 0.5)


# -- round trips ------------------------------------------------------------------------------


def ask(send: Callable[[Any], Any], receive: Callable[[], Any], window: Window) -> Tally:
    for number in range(WARM):
        send(item(number))
        receive()
    samples, number = array("q"), 0
    start, end = window.begin()
    before = start
    while before < end:
        number += 1
        message = item(number)
        send(message)
        if receive() != message:
            sys.exit("the answer is not the message that was sent")
        now = clock()
        samples.append(now - before)
        before = now
    send(None)
    return Tally(number, (before - start) / 1e9, samples)


def answer(receive: Callable[[], Any], send: Callable[[Any], Any], window: Window) -> None:
    for _ in range(WARM):
        send(receive())
    window.begin()
    for message in iter(receive, None):
        send(message)


def pipe_trips(mp: Any, seconds: float) -> Measured:
    here, there = mp.Pipe()
    return run_jobs(
        mp, seconds, partial(ask, here.send, here.recv), partial(answer, there.recv, there.send)
    )


def queue_trips(mp: Any, seconds: float) -> Measured:
    to, back = mp.Queue(), mp.Queue()
    return run_jobs(mp, seconds, partial(ask, to.put, back.get), partial(answer, to.get, back.put))


def event_trips(mp: Any, seconds: float) -> Measured:
    """Two events, and the number that the woken process has to find."""
    to, back, number = mp.Event(), mp.Event(), fork.RawValue("q", 0)

    def send(message: Any) -> None:
        number.value = -1 if message is None else message[0]
        to.set()

    def receive() -> Any:
        back.wait()
        back.clear()
        return item(number.value - 1)

    def take() -> Any:
        to.wait()
        to.clear()
        return None if number.value < 0 else number.value

    def give(received: int) -> None:
        number.value = received + 1
        back.set()

    return run_jobs(mp, seconds, partial(ask, send, receive), partial(answer, take, give))


def condition_trips(mp: Any, seconds: float) -> Measured:
    """Even numbers are one process's turn, and odd ones the other's. A negative number marks the end."""
    condition, number = mp.Condition(), fork.RawValue("q", 0)

    def step(to: int, until: int) -> None:
        with condition:
            number.value = to
            condition.notify()
            while to >= 0 and number.value >= 0 and number.value % 2 != until:
                condition.wait()

    def send(message: Any) -> None:
        # Notifies and waits in one step, as programs do with a condition.
        step(-1 if message is None else message[0] * 2 + 1, 0)

    def receive() -> Any:
        return item(number.value // 2 - 1)

    def serve(window: Window) -> None:
        window.begin()
        with condition:
            while number.value >= 0:
                if number.value % 2:
                    number.value += 1
                    condition.notify()
                else:
                    condition.wait()

    return run_jobs(mp, seconds, partial(ask, send, receive), serve)


# -- locks ------------------------------------------------------------------------------------


def take_turns(lock: Any, gate: Any, total: Any, window: Window) -> Tally:
    gate.wait()
    count = 0
    start, end = window.begin()
    while clock() < end:
        for _ in range(9):
            with lock:
                pass
        with lock:
            total.value += 1
        count += 10
    return Tally(count, (clock() - start) / 1e9)


def locked(make: Callable[[Any], Any], mp: Any, seconds: float) -> Measured:
    """``with lock: pass`` by four processes. One of ten counts, which only a lock makes exact."""
    lock, gate, total = make(mp), fork.Barrier(LOCKERS), fork.RawValue("q", 0)
    counts = fork.RawArray("q", LOCKERS)

    def job(place: int, window: Window) -> Tally:
        tally = take_turns(lock, gate, total, window)
        counts[place] = tally.done
        return tally

    measured = run_jobs(mp, seconds, *(partial(job, place) for place in range(LOCKERS)))
    if total.value * 10 != sum(counts):
        sys.exit("two processes had the lock at the same time")
    return measured


# -- queues -----------------------------------------------------------------------------------


def produce(queue: Any, taken: Any, over: Any, window: Window) -> None:
    number = 0
    window.begin()
    while not over.value:
        for number in range(number, number + CHECK_EVERY):
            queue.put(item(number))
        number += 1
        while number - taken.value > AHEAD and not over.value:
            time.sleep(0.001)
    queue.put(None)
    # The remaining work of a feeder thread counts too.
    queue.close()
    queue.join_thread()


def consume(queue: Any, taken: Any, over: Any, window: Window) -> Tally:
    get, number = queue.get, 0
    message = get()
    start, end = window.begin()
    seconds, within = 0.0, 0
    while message is not None:
        if message[0] != number or message[1] != TEXT:
            sys.exit("a message is not the one that was put")
        number += 1
        taken.value = number
        if not seconds and clock() >= end:
            seconds, within = (clock() - start) / 1e9, number
            over.value = 1
        message = get()
    # The rate is that of the window; the processor time of the rest is proportional.
    return Tally(number, seconds * number / within)


def queue_stream(mp: Any, seconds: float) -> Measured:
    """The default queue, which is unbounded."""
    queue, taken, over = mp.Queue(), fork.RawValue("q", 0), fork.RawValue("b", 0)
    return run_jobs(
        mp, seconds, partial(produce, queue, taken, over), partial(consume, queue, taken, over)
    )


# -- dictionaries -----------------------------------------------------------------------------


def managed(setting: bool, mp: Any, seconds: float) -> Measured:
    def work(window: Window) -> Tally:
        samples = array("q")
        shared[KEYS[0]] = 0
        start, end = window.begin()
        before = start
        while before < end:
            for number, key in enumerate(KEYS[:100]):
                if setting:
                    shared[key] = number
                elif shared[key] != number:
                    sys.exit("a value is not the one that was set")
                now = clock()
                samples.append(now - before)
                before = now
        if shared.copy() != {key: number for number, key in enumerate(KEYS)}:
            sys.exit("the dictionary has other entries than were set")
        return Tally(len(samples), (before - start) / 1e9, samples)

    with mp.Manager() as manager:
        shared = manager.dict({key: number for number, key in enumerate(KEYS)})
        # Shoal's manager has no process.
        served = getattr(manager, "_process", None)
        return run_jobs(mp, seconds, work, server=served.pid if served else None)


# -- few messages -----------------------------------------------------------------------------


def trickle(send: Callable[[Any], Any], rate: int, window: Window) -> None:
    for _ in range(WARM):
        send((0, 0))
        time.sleep(0.001)
    start, _ = window.begin()
    for number in range(1, int(window.seconds * rate) + 1):
        early = start + number * 1_000_000_000 // rate - clock()
        if early > 0:
            time.sleep(early / 1e9)
        send((number, clock()))
    send(None)


def listen(receive: Callable[[], Any], window: Window) -> Tally:
    for _ in range(WARM):
        receive()
    samples = array("q")
    start, _ = window.begin()
    for number, sent in iter(receive, None):
        samples.append(clock() - sent)
        if number != len(samples):
            sys.exit("a message is missing")
    return Tally(len(samples), (clock() - start) / 1e9, samples)


def quiet(kind: str, rate: int, mp: Any, seconds: float) -> Measured:
    if kind == "pipe":
        receiver, sender = mp.Pipe(False)
        send, receive = sender.send, receiver.recv
    else:
        queue = mp.Queue()
        send, receive = queue.put, queue.get
    return run_jobs(mp, seconds, partial(trickle, send, rate), partial(listen, receive))


# -- the table --------------------------------------------------------------------------------

RATE, CPU = "k/s", "CPU ms/s"
Workload = Callable[[Any, float], Measured]
# The workloads, and the figure of each that is compared.
WORKLOADS: Dict[str, Tuple[Workload, str]] = {
    "pipe round trips": (pipe_trips, RATE),
    "event ping-pong": (event_trips, RATE),
    "condition ping-pong": (condition_trips, RATE),
    "lock by four": (partial(locked, lambda mp: mp.Lock()), RATE),
    "rlock by four": (partial(locked, lambda mp: mp.RLock()), RATE),
    "semaphore by four": (partial(locked, lambda mp: mp.Semaphore(1)), RATE),
    "queue 1x1": (queue_stream, RATE),
    "queue round trips": (queue_trips, RATE),
    "dict set": (partial(managed, True), RATE),
    "dict get": (partial(managed, False), RATE),
    **{
        f"quiet {kind}, {rate}/s": (partial(quiet, kind, rate), CPU)
        for kind in ("pipe", "queue")
        for rate in (100, 1_000, 10_000)
    },
}
# The goals: how many times as good, alone and beside computing processes.
GOALS: Dict[str, Tuple[float, float]] = {
    "pipe round trips": (4.0, 1.0),
    "event ping-pong": (1.5, 1.5),
    "lock by four": (1.2, 1.2),
    "queue 1x1": (4.0, 4.0),
    "queue round trips": (4.0, 4.0),
    **{name: (1.0, 0.0) for name in WORKLOADS if name.startswith("quiet")},
}
THEIRS, OURS = "multiprocessing", "shoal"
CONTEXTS = {THEIRS: standard.get_context("fork"), OURS: shoal.multiprocessing.get_context("fork")}


def measure(run: Workload, seconds: float, repeat: int) -> Dict[str, List[Measured]]:
    found: Dict[str, List[Measured]] = {name: [] for name in CONTEXTS}
    for turn in range(repeat):
        for name in sorted(CONTEXTS, reverse=bool(turn % 2)):
            found[name].append(run(CONTEXTS[name], seconds))
    return found


def percentile(windows: List[Measured], part: float) -> str:
    """Microseconds, of all windows together."""
    samples = sorted(one for window in windows for one in window.samples)
    if not samples:
        return "-"
    value = samples[min(len(samples) - 1, int(len(samples) * part))] / 1e3
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def report(name: str, busy: int, found: Dict[str, List[Measured]], unit: str) -> float:
    """Prints a line of the table; returns how many times as good Shoal was."""
    values = {
        module: [it.rate / 1e3 if unit == RATE else it.cpu_per_second * 1e3 for it in windows]
        for module, windows in found.items()
    }
    pairs = zip(values[OURS], values[THEIRS])
    ratios = [ours / theirs if unit == RATE else theirs / ours for ours, theirs in pairs]
    medians = [statistics.median(values[module]) for module in (THEIRS, OURS)]
    cells = [
        "/".join(percentile(found[module], part) for module in (THEIRS, OURS))
        for part in (0.5, 0.99, 0.999)
    ]
    cpu = "/".join(
        f"{statistics.median(it.cpu_per_million for it in found[module]):.2f}"
        for module in (THEIRS, OURS)
    )
    ratio = statistics.median(ratios)
    print(
        f"{name:20} {busy:>2} {medians[0]:>10.2f} {medians[1]:>10.2f} {unit:8} "
        f"{cells[0]:>13} {cells[1]:>15} {cells[2]:>15} {cpu:>15} "
        f"{ratio:>7.2f}x {min(ratios):>7.2f}x",
        flush=True,
    )
    return ratio


def counts(text: str) -> List[int]:
    """The numbers of an option such as ``--busy 0,1,2,4``."""
    numbers = [int(word) for word in text.split(",")]
    if min(numbers) < 0:
        raise ValueError(text)
    return numbers


def main() -> None:
    parser = argparse.ArgumentParser(description="Python programs beside others that compute.")
    parser.add_argument(
        "--busy", type=counts, default="0,1,2,4", help="how many processes that compute"
    )
    parser.add_argument("--nice", type=int, default=0, help="the nice value of these processes")
    parser.add_argument("--idle-class", action="store_true", help="these processes have SCHED_IDLE")
    parser.add_argument("--only", default="", help="the workloads whose names contain this")
    parser.add_argument("--seconds", type=float, default=0.5, help="how long each window is")
    parser.add_argument("--repeat", type=int, default=5, help="how many windows each")
    options = parser.parse_args()
    how = "SCHED_IDLE" if options.idle_class else f"nice {options.nice}"
    print(
        f"Beside processes that compute ({how}): medians of {options.repeat} windows of "
        f"{options.seconds} s.\nPairs are multiprocessing/shoal; CPU is seconds for a million."
    )
    print(
        f"{'':20} {'N':>2} {'multiproc.':>10} {'shoal':>10} {'':8} {'p50 us':>13} {'p99 us':>15} "
        f"{'p99.9 us':>15} {'CPU':>15} {'shoal is':>8} {'worst':>8}"
    )
    judged: List[str] = []
    for name, (run, unit) in WORKLOADS.items():
        if options.only not in name:
            continue
        for busy in options.busy:
            with neighbours(busy, options.nice, options.idle_class):
                found = measure(run, options.seconds, options.repeat)
            ratio = report(name, busy, found, unit)
            goal = GOALS.get(name, (0.0, 0.0))[busy > 0]
            if goal:
                verdict = "reached" if ratio >= goal else "missed "
                judged.append(f"{verdict} {name}, N = {busy}: {ratio:.2f}x, at least {goal}x")
    print("\ngoals", *judged, sep="\n")


if __name__ == "__main__":
    main()
