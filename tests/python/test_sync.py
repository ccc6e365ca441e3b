"""Locks and other primitives: as in `multiprocessing`, and after the death of a process."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import time
import weakref
from contextlib import ExitStack
from typing import Any, List

import pytest

import shoal
import shoal.multiprocessing as mp
from conftest import START_METHODS, wait_until
from shoal import _lock

fork = multiprocessing.get_context("fork")

KINDS = [
    shoal.Lock,
    shoal.RLock,
    shoal.Semaphore,
    shoal.BoundedSemaphore,
    shoal.Event,
    shoal.Condition,
    lambda: shoal.Barrier(2),
    shoal.RWLock,
]


def start(target: Any, *args: Any) -> Any:
    process = fork.Process(target=target, args=args)
    process.start()
    return process


def kill(process: Any) -> None:
    os.kill(process.pid, signal.SIGKILL)
    process.join()


def take_and_die(lock: Any) -> None:
    lock.acquire()
    os.kill(os.getpid(), signal.SIGKILL)


def add(lock: Any, numbers: Any, times: int) -> None:
    for _ in range(times):
        with lock:
            numbers["n"] = numbers["n"] + 1


@pytest.mark.parametrize("method", START_METHODS)
@pytest.mark.parametrize("kind", [shoal.Lock, shoal.RLock, shoal.Semaphore])
def test_one_process_holds_the_lock_at_a_time(kind: Any, method: str) -> None:
    context = multiprocessing.get_context(method)
    lock = kind()
    numbers: shoal.Map[str, int] = shoal.Map()
    numbers["n"] = 0
    children = [context.Process(target=add, args=(lock, numbers, 200)) for _ in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join()
        assert child.exitcode == 0
    assert numbers["n"] == 600


@pytest.mark.parametrize("kind", KINDS)
def test_every_primitive_is_the_same_after_pickling(kind: Any) -> None:
    made = kind()
    assert pickle.loads(pickle.dumps(made)) is made
    assert made.name in repr(made)
    made.detach()
    with pytest.raises(shoal.ClosedError):
        pickle.dumps(made)


def test_a_name_is_the_same_lock_and_of_one_kind(name: str) -> None:
    lock = shoal.Lock(name)
    same = shoal.Lock(name, create=False)
    with lock:
        assert not same.acquire(block=False)
        assert same.locked()
    with pytest.raises(shoal.WrongKindError, match="recursive"):
        shoal.RLock(name)
    with pytest.raises(shoal.WrongKindError):
        shoal.Event(name)
    shoal.Lock.unlink(name)


def test_a_plain_lock_is_released_by_any_process_and_once() -> None:
    lock = shoal.Lock()
    assert lock.acquire() and not lock.acquire(False)
    assert not lock.acquire(timeout=0.01)
    child = start(lock.release)
    child.join()
    assert not lock.locked()
    with pytest.raises(ValueError):
        lock.release()


def test_a_recursive_lock_belongs_to_its_thread() -> None:
    lock = shoal.RLock()
    with pytest.raises(AssertionError):
        lock.release()
    with lock, lock:
        got = []
        other = threading.Thread(target=lambda: got.append(lock.acquire(False)))
        other.start()
        other.join()
        assert got == [False]
    assert not lock.locked()


@pytest.mark.parametrize("kind", [shoal.Lock, shoal.RLock])
def test_with_uses_the_methods_of_a_subclass(kind: Any) -> None:
    class Counted(kind):  # type: ignore[misc]
        entered = 0

        def __enter__(self) -> bool:
            self.entered += 1
            taken: bool = super().__enter__()
            return taken

    lock = Counted()
    with lock as taken:
        assert taken is True and lock.locked()
    assert lock.entered == 1 and not lock.locked()


@pytest.mark.parametrize("make", KINDS)
def test_an_exit_stack_enters_what_with_does(make: Any) -> None:
    one = make()
    with ExitStack() as stack:
        stack.enter_context(one)


@pytest.mark.parametrize("kind", [shoal.Lock, shoal.RLock])
def test_a_lock_is_freed_with_the_last_reference(kind: Any) -> None:
    lock = kind()
    gone = weakref.ref(lock)
    del lock
    assert gone() is None


@pytest.mark.parametrize("kind", [shoal.Lock, shoal.RLock])
def test_with_a_detached_lock_is_an_error(kind: Any) -> None:
    lock = kind()
    lock.detach()
    with pytest.raises(shoal.ClosedError):
        with lock:
            pass


@pytest.mark.parametrize("kind", [shoal.Lock, shoal.RLock])
def test_the_lock_of_a_dead_owner_goes_to_the_next_with_an_error(kind: Any) -> None:
    lock = kind()
    for enter in (lock.acquire, lock.__enter__):
        start(take_and_die, lock).join()
        assert enter()
        assert lock.owner_died
        lock.release()
        assert not lock.owner_died and not lock.locked()
        with lock:
            assert not lock.owner_died


def test_a_release_that_fails_does_not_hide_the_death_of_an_owner() -> None:
    lock = shoal.RLock()
    start(take_and_die, lock).join()

    def elsewhere() -> None:
        with pytest.raises(AssertionError):
            lock.release()

    with lock, lock:
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        assert lock.owner_died
        lock.release()
        assert lock.owner_died and lock.acquire() and lock.owner_died
    assert not lock.owner_died
    with pytest.raises(AssertionError):
        lock.release()
    with lock:
        assert not lock.owner_died


def test_a_release_leaves_what_the_next_owner_has_found(monkeypatch: pytest.MonkeyPatch) -> None:
    unlock = _lock._lib.shoal_lock_unlock_any

    def unlock_and_let_another_take(handle: Any) -> int:
        status: int = unlock(handle)
        start(take_and_die, lock).join()
        thread = threading.Thread(target=lock.acquire)
        thread.start()
        thread.join()
        return status

    lock = shoal.Lock()
    start(take_and_die, lock).join()
    assert lock.acquire() and lock.owner_died
    with monkeypatch.context() as patch:
        patch.setattr(_lock._lib, "shoal_lock_unlock_any", unlock_and_let_another_take)
        lock.release()
    assert lock.owner_died and lock.locked()
    lock.release()
    assert not lock.owner_died and not lock.locked()


def test_a_waiter_gets_the_lock_of_a_process_that_is_killed() -> None:
    lock, taken = shoal.Lock(), shoal.Event()

    def hold() -> None:
        with lock:
            taken.set()
            time.sleep(1000)

    child = start(hold)
    assert taken.wait()
    threading.Timer(0.1, kill, [child]).start()
    assert lock.acquire(timeout=30) and lock.owner_died
    lock.release()


def test_permits_of_a_dead_process_are_released_and_a_bound_holds() -> None:
    places = shoal.BoundedSemaphore(2)
    start(take_and_die, places).join()
    assert places.acquire() and places.acquire()
    assert not places.acquire(False) and places.get_value() == 0
    places.release(2)
    with pytest.raises(ValueError):
        places.release()
    signals = shoal.Semaphore(0)
    signals.release()
    assert signals.acquire(timeout=0)


def test_an_event_wakes_all_that_wait() -> None:
    event = shoal.Event()
    assert not event.wait(0.01) and not event.is_set()
    child = start(event.wait)
    kill(child)  # a dead waiter blocks no process
    threading.Timer(0.05, event.set).start()
    assert event.wait(30) and event.is_set()
    event.clear()
    assert not event.is_set()


@pytest.mark.parametrize("kind", [shoal.Lock, shoal.RLock])
def test_a_notification_reaches_a_live_waiter(kind: Any) -> None:
    condition = shoal.Condition(kind())
    answers: shoal.Queue[str] = shoal.Queue()

    def wait(name: str) -> None:
        with condition:
            answers.put("waits")
            condition.wait()
            answers.put(name)

    first = start(wait, "first")
    assert answers.get() == "waits"
    with condition:
        pass  # the lock is released, so the thread waits
    second = start(wait, "second")
    assert answers.get() == "waits"
    with condition:
        kill(first)
        condition.notify()
    assert answers.get() == "second"
    second.join()
    with pytest.raises(AssertionError):
        condition.notify()
    with pytest.raises(AssertionError):
        condition.wait()


def test_a_wait_releases_a_recursive_lock_completely() -> None:
    condition = shoal.Condition()
    seen = []

    def tell() -> None:
        with condition:
            seen.append(1)
            condition.notify_all()

    with condition, condition:
        assert not condition.wait(0.01)
        other = threading.Thread(target=tell)
        other.start()
        assert condition.wait_for(lambda: seen, 30) == [1]
        assert condition.wait_for(lambda: False, 0.01) is False
        assert condition._lock._depth() == 2
    other.join()


def pass_on(condition: Any, turns: Any) -> None:
    with condition:
        assert condition.wait_for(lambda: turns.value == 1, 30)
        turns.value = 2
        condition.notify_all()


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_a_condition_takes_a_lock_of_the_standard_library(ctx: Any, kind: str) -> None:
    lock = getattr(multiprocessing.get_context(ctx.get_start_method()), kind)()
    condition, turns = ctx.Condition(lock), ctx.Value("i", 0)
    for use in (condition.wait, condition.notify, condition.notify_all):
        with pytest.raises(AssertionError):
            use()
    child = ctx.Process(target=pass_on, args=(condition, turns))
    child.start()
    with condition:
        turns.value = 1
        condition.notify_all()
        assert condition.wait_for(lambda: turns.value == 2, 30)
    child.join()
    assert child.exitcode == 0


def wait_with_the_lock_twice(condition: Any, number: Any) -> None:
    with condition, condition:
        number.value = 1
        condition.notify()
        assert condition.wait_for(lambda: number.value == 2, 20)


def test_a_condition_takes_the_lock_of_a_value(ctx: Any) -> None:
    number = ctx.Value("i", 0)
    condition = ctx.Condition(number.get_lock())
    with pytest.raises(AssertionError):
        condition.notify()
    with condition:
        child = ctx.Process(target=wait_with_the_lock_twice, args=(condition, number))
        child.start()
        assert condition.wait_for(lambda: number.value == 1, 20)
        number.value = 2
        condition.notify()
    child.join()
    assert child.exitcode == 0


def test_a_barrier_opens_and_its_action_runs_once() -> None:
    done = []
    barrier = shoal.Barrier(3, action=lambda: done.append(1))
    indexes = []
    threads = [
        threading.Thread(target=lambda: indexes.append(barrier.wait())) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    indexes.append(barrier.wait(30))
    for thread in threads:
        thread.join()
    assert sorted(indexes) == [0, 1, 2] and done == [1]
    assert (barrier.parties, barrier.n_waiting, barrier.broken) == (3, 0, False)


def test_a_barrier_breaks_for_a_death_a_timeout_and_an_exception() -> None:
    barrier = shoal.Barrier(2)
    child = start(barrier.wait)
    while barrier.n_waiting == 0:
        time.sleep(0.001)
    kill(child)
    for _ in range(2):
        with pytest.raises(threading.BrokenBarrierError):
            barrier.wait()
    barrier.reset()
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait(0.01)
    assert barrier.broken

    def fail() -> None:
        raise KeyError("fails")

    alone = shoal.Barrier(1, fail)
    with pytest.raises(KeyError):
        alone.wait()
    assert alone.broken and alone.n_waiting == 0


def test_readers_share_and_the_death_of_a_writer_is_reported() -> None:
    lock = shoal.RWLock()
    with lock.reading(), lock.reading():
        assert not lock.acquire_write(False)
    with lock.writing():
        assert not lock.acquire_read(timeout=0.01)
    with pytest.raises(ValueError):
        lock.release_read()

    def write_and_die() -> None:
        lock.acquire_write()
        os.kill(os.getpid(), signal.SIGKILL)

    start(write_and_die).join()
    with lock.reading():
        assert lock.owner_died
    with lock.writing():
        assert lock.owner_died
    with lock.reading():
        assert not lock.owner_died


def test_ctrl_c_ends_a_wait() -> None:
    lock = shoal.Lock()
    lock.acquire()
    with pytest.raises(KeyboardInterrupt):
        # Inside the block: outside it would end all tests.
        threading.Timer(0.1, signal.raise_signal, [signal.SIGINT]).start()
        lock.acquire()


@pytest.mark.parametrize("module", [shoal, mp])
def test_a_notification_of_any_number_wakes_as_many_as_wait(module: Any) -> None:
    condition = module.Condition()
    woken: List[bool] = []

    def wait(timeout: float) -> None:
        with condition:
            woken.append(condition.wait(timeout))

    def waiting(timeout: float) -> "List[threading.Thread]":
        threads = [threading.Thread(target=wait, args=(timeout,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        wait_until(lambda: condition._waiting() == 3)
        return threads

    for number in (2**32, 2**64 + 1, 3):
        threads = waiting(60.0)
        with condition:
            condition.notify(number)
        for thread in threads:
            thread.join()
        assert woken == [True] * 3
        woken.clear()
    threads = waiting(0.5)
    with condition:
        condition.notify(0)
        condition.notify(-1)
        condition.notify(-(2**64))
    for thread in threads:
        thread.join()
    assert woken == [False] * 3


@pytest.mark.parametrize("module", [shoal, mp])
def test_the_text_of_an_object_shows_its_state(module: Any) -> None:
    def shown(made: Any) -> str:
        text = repr(made)
        assert text.startswith(f"<{type(made).__module__}.{type(made).__name__} {made.name!r}, ")
        return text[:-1].partition(f"{made.name!r}, ")[2]

    lock, again, permits = module.Lock(), module.RLock(), module.Semaphore(3)
    barrier, condition = module.Barrier(2), module.Condition()
    assert shown(lock) == shown(again) == "free" and shown(permits) == "value 3"
    with lock, again, again, permits:
        assert shown(lock) == "held by this thread"
        assert shown(again) == "held by this thread, 2 times" and shown(permits) == "value 2"
        others = []
        thread = threading.Thread(target=lambda: others.extend(map(shown, (lock, again))))
        thread.start()
        thread.join()
        assert others == ["held", "held"]
    assert shown(barrier) == "0 of 2 waiting" and shown(condition).startswith("0 waiting, <")
    barrier.abort()
    assert shown(barrier) == "broken"
    for made in (lock, permits, barrier, condition):
        made.detach()
        assert shown(made) == "detached"


def test_the_text_of_a_flag_and_a_read_write_lock_shows_the_state() -> None:
    flag, lock = shoal.Event(), shoal.RWLock()
    assert repr(flag) == f"<shoal.Event {flag.name!r}, unset>"
    flag.set()
    assert repr(flag) == f"<shoal.Event {flag.name!r}, set>"
    with lock.reading():
        assert repr(lock) == f"<shoal.RWLock {lock.name!r}, 1 reading>"
    with lock.writing():
        assert repr(lock) == f"<shoal.RWLock {lock.name!r}, held for writing>"
