"""Ctrl-C, signals and deadlines in calls that wait."""

from __future__ import annotations

import resource
import signal
import threading
import time
from typing import Any, Callable, List, Tuple

import pytest

import shoal
from shoal import _ffi, _wait
from conftest import WATCHDOG, Script, asleep, ends_well, wait_until

WAITS = {
    "get": "shoal.Queue().get()",
    "get with a timeout": "shoal.Queue().get(timeout=1000)",
    "get_many": "shoal.Queue().get_many()",
    "put": "q = shoal.Queue(capacity=4096, max_capacity=4096)\nwhile True: q.put(bytes(1000))",
    "put with a bound": "q = shoal.Queue(maxsize=1)\nwhile True: q.put(0)",
    "a multiprocessing queue": "import shoal.multiprocessing as mp; mp.Queue().get()",
    "join of a process": "shoal.spawn(['sleep', '1000'], die_with_parent=True).join()",
}


@pytest.mark.parametrize("wait", WAITS)
def test_ctrl_c_ends_a_wait_with_keyboard_interrupt(wait: str, script: Script) -> None:
    child = script("import shoal, sys\nprint('ready', flush=True)\n" + WAITS[wait])
    assert child.stdout is not None and child.stdout.readline() == "ready\n"
    wait_until(lambda: asleep(child.pid))
    time.sleep(0.2)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=WATCHDOG)
    assert err.rstrip().endswith("KeyboardInterrupt")
    assert child.returncode in (130, -signal.SIGINT)


def test_ctrl_c_is_seen_when_another_thread_takes_the_signal(script: Script) -> None:
    child = script(
        """
        import shoal, signal, threading, time
        def busy():
            # Signals of the process go to this thread, which does not run handlers.
            while True: time.sleep(0.001)
        threading.Thread(target=busy, daemon=True).start()
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        print("ready", flush=True)
        shoal.Queue().get()
        """
    )
    assert child.stdout is not None and child.stdout.readline() == "ready\n"
    time.sleep(0.2)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=WATCHDOG)
    assert err.rstrip().endswith("KeyboardInterrupt")


def test_a_handler_that_returns_does_not_end_the_wait(script: Script) -> None:
    child = script(
        """
        import shoal, signal, sys, threading
        queue = shoal.Queue()
        signal.signal(signal.SIGUSR1, lambda *_: print("handled", flush=True))
        signal.signal(signal.SIGUSR2, lambda *_: queue.put("put by a handler"))
        print("ready", flush=True)
        print(queue.get(timeout=1000))
        """
    )
    assert child.stdout is not None and child.stdout.readline() == "ready\n"
    for _ in range(3):
        child.send_signal(signal.SIGUSR1)
        assert child.stdout.readline() == "handled\n"
    child.send_signal(signal.SIGUSR2)
    assert ends_well(child) == "put by a handler\n"


def test_a_wait_never_ends_before_its_time() -> None:
    with shoal.Queue[int]() as queue:
        for timeout in (0.01, 0.12, 0.3):
            start = time.monotonic()
            with pytest.raises(shoal.Empty):
                queue.get(timeout=timeout)
            assert time.monotonic() - start >= timeout


def test_a_timeout_without_end_is_allowed() -> None:
    with shoal.Queue[int]() as queue:
        queue.put(1)
        assert queue.get(timeout=float("inf")) == 1
        with pytest.raises(ValueError):
            queue.get(timeout=float("nan"))


def test_other_threads_run_while_one_waits() -> None:
    with shoal.Queue[str]() as queue:
        got = []
        thread = threading.Thread(target=lambda: got.append(queue.get()))
        thread.start()
        # If the wait held the interpreter this line would come only after it.
        queue.put("at once")
        thread.join()
        assert got == ["at once"]


def test_a_wait_looks_for_signals_less_often_the_longer_it_takes() -> None:
    slices: List[int] = []

    def call(timeout_ns: int) -> int:
        slices.append(timeout_ns)
        return _ffi.TIMEOUT if len(slices) < 20 else _ffi.OK

    assert _wait.wait(call, None) == _ffi.OK
    assert slices == sorted(slices)
    assert slices[0] == _wait.SLICE_NS < slices[-1] == slices[-2]


IDLE = {
    "queue": lambda: (shoal.Queue(), "get"),
    "event": lambda: (shoal.Event(), "wait"),
    "semaphore": lambda: (shoal.Semaphore(0), "acquire"),
}


@pytest.mark.parametrize("kind", IDLE)
def test_a_long_wait_hardly_ever_wakes_up(kind: str) -> None:
    waiting, method = IDLE[kind]()
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
    try:
        getattr(waiting, method)(timeout=1)
    except shoal.Empty:
        pass
    assert resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw - before < 60
    waiting.detach()


def notified(condition: shoal.Condition) -> None:
    with condition:
        condition.wait()


def taken(lock: Any) -> Any:
    lock.acquire()
    return lock


DETACHED = {
    "queue": (shoal.Queue, lambda queue: queue.get()),
    "lease": (shoal.Queue, lambda queue: queue.lease()),
    "map": (shoal.Map, lambda shared: shared.wait_change(shared.version)),
    "lock": (lambda: taken(shoal.Lock()), lambda lock: lock.acquire()),
    "semaphore": (lambda: shoal.Semaphore(0), lambda semaphore: semaphore.acquire()),
    "event": (shoal.Event, lambda event: event.wait()),
    "condition": (shoal.Condition, notified),
    "barrier": (lambda: shoal.Barrier(2), lambda barrier: barrier.wait()),
}
Kind = Tuple[Callable[[], Any], Callable[[Any], Any]]


@pytest.mark.parametrize("kind", DETACHED.values(), ids=DETACHED)
def test_a_thread_that_waits_comes_back_when_another_detaches_the_object(kind: Kind) -> None:
    make, call = kind
    shared = make()
    raised = []

    def wait() -> None:
        try:
            call(shared)
        except shoal.ClosedError:
            raised.append(True)

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.1)
    shared.detach()
    thread.join()
    assert raised
