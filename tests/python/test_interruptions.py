"""Ctrl-C, or any handler that raises, at any moment of a call that takes something: nothing stays taken.

The Python versions of the calls are tested: a compiled call runs no handler, and leaves long waits to them.
"""

from __future__ import annotations

import gc
import signal
import threading
from typing import Any, Callable

import pytest

import shoal
from shoal import _message, _wait
from shoal._keys import KeyLock, View

from conftest import interrupt_everywhere, wait_until


def python(cls: Any, name: str) -> Any:
    """A method as it is written in Python, compiled or not."""
    return getattr(cls, f"_python_{name}", None) or getattr(cls, name)


LEASED = [
    _message._InPlace.__init__,
    _message.PipeLease.__init__,
    _message.PipeLease._begin,
    _message._InPlace._begin,
    _wait.wait,
]
RESERVED = [_message._InPlace.__init__, _message._InPlace._begin, _wait.wait]
VIEWED = [View.__init__, View._begin]


@pytest.mark.parametrize("slowly", [False, True])
def test_an_interrupted_lease_leaves_the_message_in_the_queue(
    queue: "shoal.Queue[Any]", slowly: bool
) -> None:
    lease = python(shoal.Queue, "lease")

    def take() -> Any:
        given = queue._lease_slowly(True, 5, None) if slowly else lease(queue, True, 5)
        return given.attempts

    def check(place: str) -> None:
        assert queue.leased == 0 and queue.qsize() == 1, place

    queue.put("text")
    functions = [lease, shoal.Queue._lease_slowly, *LEASED]
    assert interrupt_everywhere(take, functions, check) > 5
    with queue.lease(False) as job:
        assert job.get() == "text"


def test_an_interrupted_wait_for_a_lease_leaves_nothing(queue: "shoal.Queue[Any]") -> None:
    def take() -> None:
        with pytest.raises(shoal.Empty):
            queue._lease_slowly(True, 0.0001, None)

    def check(place: str) -> None:
        assert queue.leased == 0, place

    assert interrupt_everywhere(take, [shoal.Queue._lease_slowly, *LEASED], check) > 5


def test_an_interrupted_reservation_takes_no_room() -> None:
    # A reservation counts as a message.
    with shoal.Queue(maxsize=1) as queue:

        def reserve() -> Any:
            reservation = queue.reserve(100, False)
            assert len(reservation.data) == 100
            reservation.discard()

        def check(place: str) -> None:
            try:
                queue.reserve(100, False).discard()
            except shoal.Full:
                pytest.fail(place)

        assert interrupt_everywhere(reserve, [shoal.Queue.reserve, *RESERVED], check) > 5


def test_interrupted_calls_of_a_pipe_take_nothing() -> None:
    here, there = shoal.Pipe()
    with here, there:
        here.send_bytes(b"text")

        def lease() -> None:
            there.lease()._give_back()

        def check(place: str) -> None:
            # The message is in the pipe, and not leased by the interrupted call.
            assert there.poll(), place

        functions = [shoal.Connection.lease, shoal.Connection._receive, *LEASED]
        assert interrupt_everywhere(lease, functions, check) > 5
        assert there.recv_bytes() == b"text"

        def reserve() -> None:
            here.reserve(100).discard()

        functions = [shoal.Connection.reserve, shoal.Connection._send_with, *RESERVED]

        def none_left(place: str) -> None:
            found = (it for it in gc.get_objects() if isinstance(it, _message.PipeReservation))
            assert not any(it._message.data for it in found), place

        assert interrupt_everywhere(reserve, functions, none_left) > 5


def test_an_interrupted_key_lock_is_not_locked(shared: "shoal.Map[Any, Any]") -> None:
    def lock() -> None:
        shared.lock_key("key", 5).release()

    def check(place: str) -> None:
        try:
            shared.lock_key("key", 0).release()
        except (shoal.InvalidError, shoal.TimeoutError):
            pytest.fail(place)

    assert interrupt_everywhere(lock, [KeyLock.__init__, _wait.wait], check) > 5


def test_an_interrupted_wait_for_a_key_does_not_unlock_it(shared: "shoal.Map[Any, Any]") -> None:
    taken, over = threading.Event(), threading.Event()

    def hold() -> None:
        with shared.lock_key("key"):
            taken.set()
            over.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    taken.wait()
    try:

        def lock() -> None:
            with pytest.raises(shoal.TimeoutError):
                shared.lock_key("key", 0.0001)

        def check(place: str) -> None:
            with pytest.raises(shoal.TimeoutError):
                shared.lock_key("key", 0)
                pytest.fail(place)

        assert interrupt_everywhere(lock, [KeyLock.__init__, _wait.wait], check) > 5
    finally:
        over.set()
        holder.join()


def test_interrupted_views_take_no_room() -> None:
    with shoal.BytesMap() as raw:
        raw[b"key"] = b"value"

        def view() -> None:
            given = raw.view(b"key")
            assert given.data == b"value"
            given.release()

        def check(place: str) -> None:
            # A part of a map has room for twelve.
            views = [raw.view(b"key") for _ in range(12)]
            for one in views:
                one.release()

        assert interrupt_everywhere(view, [shoal.BytesMap.view, *VIEWED], check) > 5


@pytest.mark.parametrize("make", [shoal.Lock, shoal.RLock])
def test_an_interrupted_wait_for_a_condition_leaves_no_waiter(make: Callable[[], Any]) -> None:
    lock = make()
    condition = shoal.Condition(lock)
    levels = 2 if make is shoal.RLock else 1

    def wait() -> None:
        assert not condition.wait(0.0001)

    def check(place: str) -> None:
        assert condition.stats().waiting == 0, place
        assert lock._depth() == levels, place

    for _ in range(levels):
        lock.acquire()
    assert interrupt_everywhere(wait, [shoal.Condition.wait, _wait.wait], check) > 5
    assert lock._depth() == levels
    for _ in range(levels):
        lock.release()


def test_the_notification_of_an_interrupted_wait_goes_to_another() -> None:
    lock = shoal.RLock()
    condition = shoal.Condition(lock)
    notified = []

    def other() -> None:
        with lock:
            notified.append(condition.wait(30))

    def wait() -> None:
        # Another thread notifies this one as soon as it has released the lock.
        thread = threading.Thread(target=notify)
        thread.start()
        try:
            assert condition.wait(30)
        finally:
            lock.release()
            thread.join()
            lock.acquire()

    def notify() -> None:
        with lock:
            condition.notify()

    def check(place: str) -> None:
        lock.release()
        waiter = threading.Thread(target=other)
        waiter.start()
        while condition.stats().waiting == 0:
            pass
        with lock:
            condition.notify()
        waiter.join()
        lock.acquire()
        assert notified.pop(), place

    with lock:
        assert interrupt_everywhere(wait, [shoal.Condition.wait], check) > 5


def test_an_interrupted_wait_at_a_barrier_has_not_arrived() -> None:
    barriers = [shoal.Barrier(2)]

    def wait() -> None:
        with pytest.raises(threading.BrokenBarrierError):
            barriers[-1].wait(0.0001)

    def check(place: str) -> None:
        barrier = barriers.pop()
        assert barrier.n_waiting == 0, place
        # It is broken only if the wait had timed out before the interruption.
        if not barrier.broken:
            other = threading.Thread(target=barrier.wait, args=(30,))
            other.start()
            barrier.wait(30)
            other.join()
        barriers.append(shoal.Barrier(2))

    assert interrupt_everywhere(wait, [shoal.Barrier.wait, _wait.wait], check) > 5


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("during", ["the wait", "the action"])
def test_a_barrier_whose_waiter_is_interrupted_is_not_broken(during: str) -> None:
    def interrupt(*_: object) -> None:
        raise Interrupted

    waiter, results = threading.get_ident(), []

    def signal_waiter() -> None:
        signal.pthread_kill(waiter, signal.SIGUSR1)
        wait_until(is_interrupted.is_set)

    def meet() -> None:
        wait_until(lambda: barrier.n_waiting == 1)
        if during == "the wait":
            signal_waiter()
        results.append(barrier.wait(30))

    is_interrupted = threading.Event()
    action = signal_waiter if during == "the action" else None
    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with shoal.Barrier(2, action) as barrier:
            other = threading.Thread(target=meet)
            other.start()
            with pytest.raises(Interrupted):
                barrier.wait(30)
            assert not barrier.broken
            is_interrupted.set()
            if during == "the wait":
                results.append(barrier.wait(30))
            other.join()
            # An arrival before the action counts.
            assert sorted(results) == ([0, 1] if during == "the wait" else [1])
            assert (barrier.broken, barrier.n_waiting) == (False, 0)
    finally:
        signal.signal(signal.SIGUSR1, before)
