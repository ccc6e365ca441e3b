"""Ctrl-C, signals and deadlines in calls that wait."""

from __future__ import annotations

import os
import resource
import signal
import threading
import time
from typing import Any, Callable, Dict, List, Optional, Tuple, Type

import pytest

import shoal
import shoal.multiprocessing as mp
from shoal import _abi, _wait
from conftest import WATCHDOG, Script, at_rest, ends_well, wait_until

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
    wait_until(lambda: at_rest(child.pid))
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
    wait_until(lambda: at_rest(child.pid))
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
        # If the wait held the GIL, this line would run only after it.
        queue.put("at once")
        thread.join()
        assert got == ["at once"]


def test_a_wait_checks_for_signals_less_often_the_longer_it_takes() -> None:
    slices: List[int] = []

    def call(timeout_ns: int) -> int:
        slices.append(timeout_ns)
        return _abi.ERR_TIMEOUT if len(slices) < 20 else _abi.OK

    assert _wait.wait(call, None) == _abi.OK
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


Kind = Tuple[Callable[[], Any], Callable[[Any], Any]]


def taken(lock: Any) -> Any:
    lock.acquire()
    return lock


def locked(items: Any) -> Any:
    items.get_lock().acquire()
    return items


def taken_elsewhere(made: Any, take: Callable[[Any], object]) -> Any:
    """State of another thread, which ends with that thread."""
    kept: List[object] = []
    thread = threading.Thread(target=lambda: kept.append(take(made)))
    thread.start()
    thread.join()
    # As long as the object lives.
    HELD[id(made)] = (made, kept)
    return made


HELD: Dict[int, object] = {}


def full(**how: Any) -> shoal.Queue[Any]:
    queue = shoal.Queue[Any](maxsize=1, **how)
    queue.put(b"first")
    return queue


def notified(condition: shoal.Condition) -> None:
    with condition:
        condition.wait()


def small_end() -> Any:
    end, other = shoal.Pipe(capacity=4096, max_capacity=4096)
    end.send_bytes(bytes(3000))
    HELD[id(end)] = other
    return end


RWLOCK: "Dict[str, Callable[[Any], Any]]" = {
    "read": lambda lock: lock.acquire_read(),
    "write": lambda lock: lock.acquire_write(),
}

DETACHED: Dict[str, Kind] = {
    "queue.get": (shoal.Queue, lambda queue: queue.get()),
    "queue.get with a timeout": (shoal.Queue, lambda queue: queue.get(timeout=1000)),
    "queue.get without a copy": (shoal.Queue, lambda queue: queue.get(copy=False)),
    "queue.get_bytes": (shoal.Queue, lambda queue: queue.get_bytes()),
    "queue.get_many": (shoal.Queue, lambda queue: queue.get_many()),
    "queue.lease": (shoal.Queue, lambda queue: queue.lease()),
    "queue.put": (full, lambda queue: queue.put(b"more")),
    "queue.put of something large": (full, lambda queue: queue.put(bytes(10**6))),
    "queue.put_bytes": (full, lambda queue: queue.put_bytes(b"more")),
    "queue.put_many": (full, lambda queue: queue.put_many([1, 2])),
    "queue.reserve": (full, lambda queue: queue.reserve(10)),
    "queue.join": (full, lambda queue: queue.join()),
    "wait for a queue": (shoal.Queue, lambda queue: shoal.wait([queue])),
    "map.wait_change": (shoal.Map, lambda shared: shared.wait_change(shared.version)),
    "map.wait_key": (shoal.Map, lambda shared: shared.wait_key("k", 0)),
    "map.lock_key": (
        lambda: taken_elsewhere(shoal.Map(), lambda it: it.lock_key("k")),
        lambda shared: shared.lock_key("k"),
    ),
    "lock": (lambda: taken(shoal.Lock()), lambda lock: lock.acquire()),
    "lock with a timeout": (lambda: taken(shoal.Lock()), lambda lock: lock.acquire(timeout=1000)),
    "with lock": (lambda: taken(shoal.Lock()), lambda lock: lock.__enter__()),
    "rlock": (lambda: taken(shoal.RLock()), lambda lock: lock.acquire()),
    "semaphore": (lambda: shoal.Semaphore(0), lambda semaphore: semaphore.acquire()),
    "event": (shoal.Event, lambda event: event.wait()),
    "condition": (shoal.Condition, notified),
    "barrier": (lambda: shoal.Barrier(2), lambda barrier: barrier.wait()),
    "rwlock.read": (
        lambda: taken_elsewhere(shoal.RWLock(), RWLOCK["write"]),
        RWLOCK["read"],
    ),
    "rwlock.write": (
        lambda: taken_elsewhere(shoal.RWLock(), RWLOCK["read"]),
        RWLOCK["write"],
    ),
    "lock of an array": (
        lambda: locked(shoal.Array("i", 3)),
        lambda array: array.get_lock().acquire(),
    ),
    "lock of a value": (
        lambda: locked(shoal.Value("i", 3)),
        lambda value: value.get_lock().acquire(),
    ),
}

# The errors that a program expects that was written for the originals.
CLOSED_AS: Dict[str, Tuple[Callable[[], Any], Callable[[Any], Any], Type[Exception], str]] = {
    "queue.get": (mp.Queue, lambda queue: queue.get(), ValueError, "is closed"),
    "connection.recv": (small_end, lambda end: end.recv(), OSError, "handle is closed"),
    "connection.send": (
        small_end,
        lambda end: end.send_bytes(bytes(3000)),
        OSError,
        "handle is closed",
    ),
    "connection.poll": (
        small_end,
        lambda end: end.poll(None),
        OSError,
        "handle is closed",
    ),
}


def raised_in_a_thread(
    monkeypatch: pytest.MonkeyPatch,
    shared: Any,
    call: Callable[[Any], Any],
    end: Callable[[], object],
) -> BaseException:
    """The error of ``call`` when it waits and ``end()`` is called."""
    # No slice of a wait ends in this test: a call that returns was woken.
    monkeypatch.setattr(_wait, "SLICE_NS", 10**15)
    monkeypatch.setattr(_wait, "_LONGEST_NS", 10**15)
    raised: List[BaseException] = []

    def wait() -> None:
        try:
            call(shared)
        except BaseException as err:
            raised.append(err)

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.1)
    assert thread.is_alive()
    end()
    thread.join()
    return raised[0]


@pytest.mark.parametrize("kind", DETACHED.values(), ids=DETACHED)
def test_a_wait_ends_when_another_thread_detaches_the_object(
    kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, call = kind
    shared = make()
    error = raised_in_a_thread(monkeypatch, shared, call, shared.detach)
    HELD.clear()
    assert isinstance(error, shoal.ClosedError) and "detached" in str(error)


@pytest.mark.parametrize("kind", CLOSED_AS.values(), ids=CLOSED_AS)
def test_a_wait_that_a_detach_ends_raises_the_error_of_the_original(
    kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, call, expected, text = kind
    shared = make()
    error = raised_in_a_thread(monkeypatch, shared, call, shared.close)
    HELD.clear()
    assert isinstance(error, expected) and text in str(error)


def test_the_end_of_one_object_is_not_that_of_another_with_its_handle() -> None:
    shared = shoal.Map[str, int]()
    raw = shared.raw
    seen = raw.version
    changed: List[int] = []
    thread = threading.Thread(target=lambda: changed.append(raw.wait_change(seen)))
    thread.start()
    time.sleep(0.1)
    shared.detach()
    assert thread.is_alive()
    raw[b"k"] = b"v"
    thread.join()
    assert changed and changed[0] > seen
    raw.detach()


def test_the_last_object_with_a_handle_ends_its_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = shoal.Map[str, int]()
    for _ in range(3):
        # This `raw` is freed at once, and is no longer a user of the handle.
        assert len(shared.raw) == 0
    raw = shared.raw
    raw.detach()
    end = shared.detach
    error = raised_in_a_thread(monkeypatch, shared, lambda it: it.wait_key("k", 0), end)
    assert isinstance(error, shoal.ClosedError)


def test_a_child_that_detaches_wakes_none_of_its_parents_threads() -> None:
    queue, event = shoal.Queue[int](), shoal.Event()
    got: List[object] = []
    threads = [
        threading.Thread(target=lambda: got.append(queue.get())),
        threading.Thread(target=lambda: got.append(event.wait())),
    ]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    pid = os.fork()
    if pid == 0:
        queue.detach()
        event.detach()
        os._exit(0)
    assert os.waitpid(pid, 0) == (pid, 0)
    assert all(thread.is_alive() for thread in threads)
    queue.put(7)
    event.set()
    for thread in threads:
        thread.join()
    assert sorted(got, key=str) == [7, True]
    queue.detach()
    event.detach()


def test_the_notification_of_a_thread_that_leaves_goes_to_another() -> None:
    lock = shoal.Lock()
    condition = shoal.Condition(lock)
    told: List[str] = []

    def wait() -> None:
        with lock:
            try:
                told.append("notified" if condition.wait() else "late")
            except KeyError:
                told.append("left")

    # The first one is notified, and then leaves by an exception.
    sleeps, raised = _wait.wait, []

    def leaves(call: Callable[[int], int], until: Optional[int]) -> int:
        status = sleeps(call, until)
        if threading.current_thread().name == "leaver" and not raised:
            raised.append(True)
            raise KeyError
        return status

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_wait, "wait", leaves)
        first = threading.Thread(target=wait, name="leaver")
        first.start()
        wait_until(lambda: condition.stats().waiting == 1)
        second = threading.Thread(target=wait)
        second.start()
        wait_until(lambda: condition.stats().waiting == 2)
        with lock:
            condition.notify()
        first.join()
        second.join()
    assert told == ["left", "notified"]
    condition.detach()
    lock.detach()
