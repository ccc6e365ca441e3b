"""The same programs with `shoal.multiprocessing` and with `multiprocessing`.

    cargo xtask bench --python [--seconds 1] [--repeat 3]

Each workload is a function of the module, and runs in turn with both modules. Processes are
forked before the clock starts, and have answered by then. Received objects are read.
"""

from __future__ import annotations

import argparse
import multiprocessing as standard
import os
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from queue import Empty
from typing import Any, Callable, Dict, List, Tuple

import shoal.futures
import shoal.multiprocessing

try:
    import numpy
except ImportError:
    numpy = None

MESSAGE = (7, "a small tuple", 0.5)
BYTES = bytes(64 * 1024)
KEYS = [f"key {number}" for number in range(1000)]
LOCKERS = 4
TASKS = 100_000
CALLS = 20_000
# Without numpy, bytes: as much is copied, but their content is not read.
ARRAY: Any = numpy.ones(1_250_000) if numpy else bytes(10_000_000)


def echo(connection: Any, other: Any) -> None:
    # A forked child has both.
    other.close()
    while True:
        message = connection.recv()
        if message is None:
            return
        connection.send(message)


def round_trip(mp: Any, seconds: float, what: Any) -> float:
    """Microseconds to another process and back: the median. The last element is read."""
    here, there = mp.Pipe()
    child = mp.Process(target=echo, args=(there, here))
    child.start()
    there.close()
    took: List[int] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(took) < 3:
        start = time.perf_counter_ns()
        here.send(what)
        answer = here.recv()
        took.append(time.perf_counter_ns() - start)
        if answer[-1] != what[-1]:
            sys.exit("the answer is not the message that was sent")
    here.send(None)
    child.join()
    return statistics.median(took) / 1e3


def pipe_round_trip(mp: Any, seconds: float) -> float:
    """Microseconds of a round trip of a small tuple."""
    return round_trip(mp, seconds, MESSAGE)


def pipe_array(mp: Any, seconds: float) -> float:
    """Milliseconds of a round trip of an array of 10 MB."""
    return round_trip(mp, seconds, ARRAY) / 1e3


def pour(connection: Any, other: Any) -> None:
    other.close()
    try:
        while True:
            connection.send_bytes(BYTES)
    except (BrokenPipeError, ConnectionResetError):
        return


def pipe_bytes(mp: Any, seconds: float) -> float:
    """Megabytes a second in messages of 64 KiB."""
    receiver, sender = mp.Pipe(False)
    child = mp.Process(target=pour, args=(sender, receiver))
    child.start()
    sender.close()
    for _ in range(100):
        receiver.recv_bytes()
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        if receiver.recv_bytes()[-1] != 0:
            sys.exit("the bytes are not the ones that were sent")
        count += 1
    took = time.perf_counter() - start
    receiver.close()
    child.join()
    return count * len(BYTES) / took / 1e6


def lock_alone(mp: Any, seconds: float) -> float:
    """Thousand ``with lock:`` a second by one process."""
    lock = mp.Lock()
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        for _ in range(1000):
            with lock:
                pass
        count += 1000
    return count / (time.perf_counter() - start) / 1e3


def lock_again(lock: Any, ready: Any, seconds: float, done: Any) -> None:
    ready.wait()
    end, count = time.perf_counter() + seconds, 0
    while time.perf_counter() < end:
        for _ in range(100):
            with lock:
                pass
        count += 100
    done.send(count)


def lock_contended(mp: Any, seconds: float) -> float:
    """Thousand ``with lock:`` a second by four processes together."""
    lock, ready = mp.Lock(), mp.Barrier(LOCKERS)
    ends = [mp.Pipe(False) for _ in range(LOCKERS)]
    children = [
        mp.Process(target=lock_again, args=(lock, ready, seconds, sender)) for _, sender in ends
    ]
    for child in children:
        child.start()
    count = sum(receiver.recv() for receiver, _ in ends)
    for child in children:
        child.join()
    return count / seconds / 1e3


def feed(queue: Any, over: Any, what: Any) -> None:
    while not over.is_set():
        queue.put(what)


def stream(mp: Any, seconds: float, what: Any, **how: bool) -> float:
    """Messages a second through a queue, from one process to another that reads the last element."""
    queue, over = mp.Queue(8), mp.Event()
    child = mp.Process(target=feed, args=(queue, over, what))
    child.start()
    for _ in range(3):
        queue.get(**how)
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        if queue.get(**how)[-1] != what[-1]:
            sys.exit("an object is not the one that was put")
        count += 1
    took = time.perf_counter() - start
    over.set()
    while child.is_alive() or not queue.empty():
        try:
            queue.get(timeout=0.05)
        except Empty:
            pass
    child.join()
    return count / took


def queue_bytes(mp: Any, seconds: float) -> float:
    """Thousand `bytes` of 64 KiB a second through a queue."""
    return stream(mp, seconds, BYTES) / 1e3


def queue_array(mp: Any, seconds: float) -> float:
    """Arrays of 10 MB a second through a queue."""
    return stream(mp, seconds, ARRAY)


def queue_array_in_place(mp: Any, seconds: float) -> float:
    """The same, read in place where the queue supports it."""
    how = {"copy": False} if type(mp).__module__.startswith("shoal") else {}
    return stream(mp, seconds, ARRAY, **how)


def nothing(number: int) -> int:
    return number


def pool_map(mp: Any, seconds: float) -> float:
    """Thousand tasks a second of a pool of four, one at a time."""
    with mp.Pool(4) as pool:
        pool.map(nothing, range(1000), 1)
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            if pool.map(nothing, range(TASKS), 1) != list(range(TASKS)):
                sys.exit("the results are wrong")
            count += TASKS
        return count / (time.perf_counter() - start) / 1e3


def pool_apply(mp: Any, seconds: float) -> float:
    """Microseconds of one `apply` of a pool of four: the median."""
    took: List[int] = []
    with mp.Pool(4) as pool:
        pool.map(nothing, range(1000), 1)
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            start = time.perf_counter_ns()
            pool.apply(nothing, (1,))
            took.append(time.perf_counter_ns() - start)
    return statistics.median(took) / 1e3


def executor_map(mp: Any, seconds: float) -> float:
    """Thousand calls a second of an executor of four, one at a time."""
    is_ours = isinstance(mp, shoal.multiprocessing.context.BaseContext)
    kind = shoal.futures.ProcessPoolExecutor if is_ours else ProcessPoolExecutor
    with kind(4, mp_context=mp) as executor:
        list(executor.map(nothing, range(1000)))
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            if list(executor.map(nothing, range(CALLS))) != list(range(CALLS)):
                sys.exit("the results are wrong")
            count += CALLS
        return count / (time.perf_counter() - start) / 1e3


def managed(mp: Any, seconds: float, step: Callable[[Any, str, int], object]) -> float:
    with mp.Manager() as manager:
        shared = manager.dict({key: number for number, key in enumerate(KEYS)})
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            for number, key in enumerate(KEYS[:100]):
                step(shared, key, number)
            count += 100
        return count / (time.perf_counter() - start) / 1e3


def get(shared: Any, key: str, number: int) -> None:
    if shared[key] != number:
        sys.exit("a value is not the one that was set")


def put(shared: Any, key: str, number: int) -> None:
    shared[key] = number


def dict_get(mp: Any, seconds: float) -> float:
    """Thousand gets a second of ``Manager().dict()``."""
    return managed(mp, seconds, get)


def dict_set(mp: Any, seconds: float) -> float:
    """Thousand sets a second of ``Manager().dict()``."""
    return managed(mp, seconds, put)


def making(make: Callable[[Any], object]) -> Callable[[Any, float], float]:
    """Microseconds to make an object and drop it."""

    def run(mp: Any, seconds: float) -> float:
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            for _ in range(20):
                make(mp)
            count += 20
        return (time.perf_counter() - start) / count * 1e6

    return run


def make_pipe(mp: Any) -> None:
    for end in mp.Pipe():
        end.close()


def make_nested(mp: Any, seconds: float) -> float:
    """Microseconds to make a managed dictionary of ten entries in another one."""
    with mp.Manager() as manager:
        outer = manager.dict()
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            inner = manager.dict()
            for key in KEYS[:10]:
                inner[key] = count
            outer[count] = inner
            count += 1
        return (time.perf_counter() - start) / count * 1e6


def fork_beside(mp: Any, seconds: float) -> float:
    """Milliseconds until a process with 1000 locks has forked and its child runs."""
    kept = [mp.Lock() for _ in range(1000)]
    taken = []
    begun = time.perf_counter()
    while not taken or time.perf_counter() - begun < seconds:
        reader, writer = os.pipe()
        start = time.perf_counter()
        child = os.fork()
        if child == 0:
            os.write(writer, b"x")
            os._exit(0)
        os.read(reader, 1)
        taken.append(time.perf_counter() - start)
        os.waitpid(child, 0)
        os.close(reader)
        os.close(writer)
    assert len(kept) == 1000
    return statistics.median(taken) * 1e3


# The workloads, and whether less is better.
WORKLOADS: Dict[str, Tuple[Callable[[Any, float], float], bool]] = {
    "pipe round trip, us": (pipe_round_trip, True),
    "pipe 64 KiB, MB/s": (pipe_bytes, False),
    "pipe 10 MB, ms": (pipe_array, True),
    "queue 64 KiB, k/s": (queue_bytes, False),
    "queue 10 MB, /s": (queue_array, False),
    "  read in place": (queue_array_in_place, False),
    "Pool.map of 100 000, k/s": (pool_map, False),
    "Pool.apply, us": (pool_apply, True),
    "executor's map, k/s": (executor_map, False),
    "with lock, k/s": (lock_alone, False),
    "with lock by 4, k/s": (lock_contended, False),
    "dict get, k/s": (dict_get, False),
    "dict set, k/s": (dict_set, False),
    "make a Lock, us": (making(lambda mp: mp.Lock()), True),
    "make an Event, us": (making(lambda mp: mp.Event()), True),
    "make a Condition, us": (making(lambda mp: mp.Condition()), True),
    "make a Queue, us": (making(lambda mp: mp.Queue()), True),
    "make a Value, us": (making(lambda mp: mp.Value("i", 0)), True),
    "make a Pipe, us": (making(make_pipe), True),
    "make a dict of ten, us": (make_nested, True),
    "fork, 1000 locks, ms": (fork_beside, True),
}


def main() -> None:
    parser = argparse.ArgumentParser(description="One program with either module.")
    parser.add_argument("--seconds", type=float, default=1.0, help="how long each window is")
    parser.add_argument("--repeat", type=int, default=3, help="how many windows each")
    parser.add_argument("--only", default="", help="those whose names contain this")
    options = parser.parse_args()
    modules = {"shoal": shoal.multiprocessing, "multiprocessing": standard}
    contexts = {name: module.get_context("fork") for name, module in modules.items()}
    print(f"\nshoal {shoal.backend}: medians of {options.repeat} windows of {options.seconds} s")
    print(f"{'':24} {'shoal':>12} {'least':>9} {'most':>9} {'multiproc.':>12}  shoal is")
    chosen = [it for it in WORKLOADS.items() if options.only in it[0]]
    for name, (run, less) in chosen:
        found: Dict[str, List[float]] = {module: [] for module in contexts}
        for _ in range(options.repeat):
            for module, context in contexts.items():
                found[module].append(run(context, options.seconds))
        own, theirs = (statistics.median(found[module]) for module in contexts)
        ratio = theirs / own if less else own / theirs
        least, most = min(found["shoal"]), max(found["shoal"])
        print(
            f"{name:24} {own:>12.1f} {least:>9.1f} {most:>9.1f} {theirs:>12.1f}  {ratio:>7.2f}x",
            flush=True,
        )


if __name__ == "__main__":
    main()
