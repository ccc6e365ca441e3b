"""Computing processes, and the jobs of a window that is measured beside them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from array import array
from contextlib import contextmanager
from typing import Any, Callable, Iterator, List, NamedTuple, Optional

# Jobs that have not ended this many seconds after their window hang.
LIMIT = 60.0

fork = multiprocessing.get_context("fork")


@contextmanager
def neighbours(number: int, nice: int, idle_class: bool) -> Iterator[None]:
    """Runs this many computing processes during the block."""
    children = [
        fork.Process(target=_compute, args=(os.getpid(), nice, idle_class), daemon=True)
        for _ in range(number)
    ]
    for child in children:
        child.start()
    try:
        # The scheduler favours a process that has just begun.
        time.sleep(0.2 if number else 0.0)
        yield
    finally:
        for child in children:
            child.kill()
            child.join()


def _compute(parent: int, nice: int, idle_class: bool) -> None:
    # Ctrl-C reaches the parent, which ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(nice)
    if idle_class:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    while os.getppid() == parent:
        for _ in range(100_000):
            pass


class Tally(NamedTuple):
    """The work of one process in its window."""

    done: int
    seconds: float
    # Nanoseconds of single operations.
    samples: "array[int]" = array("q")


class Measured(NamedTuple):
    """The work of all processes of a window together."""

    # Operations a second.
    rate: float
    # Seconds of all processes for a million operations, and for a second.
    cpu_per_million: float
    cpu_per_second: float
    samples: "array[int]"


class Window:
    """The times of a window, and when the processor time of a job begins to count."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.cpu = 0.0

    def begin(self) -> "tuple[int, int]":
        """Begins the window; returns its begin and its end, in nanoseconds."""
        self.cpu = time.process_time()
        start = time.perf_counter_ns()
        return start, start + int(self.seconds * 1e9)


# The jobs that only serve another one have no tally.
Job = Callable[[Window], Optional[Tally]]


def run_jobs(mp: Any, seconds: float, *jobs: Job, server: Optional[int] = None) -> Measured:
    """Runs each job in its own process.

    Args:
        mp: the module whose processes run the jobs.
        seconds: the length of the window.
        server: the pid of a server process, if the jobs use one.
    """
    before = 0.0 if server is None else _cpu_of(server)
    receivers: List[Any] = []
    children: List[Any] = []
    try:
        for job in jobs:
            receiver, sender = fork.Pipe(False)
            child = mp.Process(target=_work, args=(job, seconds, sender))
            child.start()
            sender.close()
            receivers.append(receiver)
            children.append(child)
        cpu, tallies = 0.0, []
        for receiver in receivers:
            if not receiver.poll(seconds + LIMIT):
                sys.exit("a process hangs")
            try:
                used, tally = receiver.recv()
            except EOFError:
                sys.exit("a process did not do its work")
            cpu += used
            if tally is not None:
                tallies.append(tally)
        for child in children:
            child.join()
    finally:
        for child in children:
            if child.is_alive():
                child.kill()
                child.join()
    if server is not None:
        cpu += _cpu_of(server) - before
    samples = array("q")
    for tally in tallies:
        samples.extend(tally.samples)
    done = sum(tally.done for tally in tallies)
    took = max(tally.seconds for tally in tallies)
    rate = sum(tally.done / tally.seconds for tally in tallies)
    return Measured(rate, cpu / max(done, 1) * 1e6, cpu / took, samples)


def _work(job: Job, seconds: float, sender: Any) -> None:
    window = Window(seconds)
    tally = job(window)
    sender.send((time.process_time() - window.cpu, tally))


def _cpu_of(pid: int) -> float:
    """The processor time of all threads of a process, in seconds."""
    # As clock_getcpuclockid(3) makes it, which Python does not have.
    return time.clock_gettime(~pid << 3 | 2)
