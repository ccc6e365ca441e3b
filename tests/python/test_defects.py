"""What the standard library's queue gets wrong, and this one must not.

Each of these fails, or hangs, with ``import multiprocessing as mp``.
"""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

import shoal.multiprocessing as mp
from conftest import START_METHODS, asleep, wait_until


@pytest.fixture(params=START_METHODS)
def ctx(request: pytest.FixtureRequest) -> Any:
    return mp.get_context(request.param)


def take_one(queue: Any, ready: Any, taken: Any) -> None:
    ready.put(os.getpid())
    taken.put(queue.get())


def test_an_idle_consumer_may_be_killed(ctx: Any) -> None:
    # 1. The standard library's consumer dies holding the lock that all others need.
    queue, ready, taken = ctx.Queue(), ctx.Queue(), ctx.Queue()
    victim = ctx.Process(target=take_one, args=(queue, ready, taken))
    victim.start()
    ready.get()
    wait_until(lambda: asleep(victim.pid))
    os.kill(victim.pid, signal.SIGKILL)
    victim.join()
    other = ctx.Process(target=take_one, args=(queue, ready, taken))
    other.start()
    queue.put("for whoever is left")
    assert taken.get() == "for whoever is left"
    other.join()


def wait_for_it(event: Any, ready: Any) -> None:
    ready.put(1)
    event.get()


def test_waking_does_not_wait_for_a_dead_waiter(ctx: Any) -> None:
    # 2. There: Event.set() after a waiter's death never returns. Here: a put, which wakes
    # whoever sleeps, after the death of a sleeper.
    queue, ready = ctx.Queue(), ctx.Queue()
    waiters = [ctx.Process(target=wait_for_it, args=(queue, ready)) for _ in range(3)]
    for waiter in waiters:
        waiter.start()
    for _ in waiters:
        ready.get()
    wait_until(lambda: all(asleep(waiter.pid) for waiter in waiters))
    os.kill(waiters[0].pid, signal.SIGKILL)
    waiters[0].join()
    queue.put(1)
    queue.put(2)
    for waiter in waiters[1:]:
        waiter.join()
        assert waiter.exitcode == 0


def put_much(queue: Any) -> None:
    for _ in range(100):
        queue.put(bytes(10_000))


def test_a_child_may_be_joined_before_its_queue_is_drained(ctx: Any) -> None:
    # 3. There: a child cannot end before its feeder thread has emptied into a 64 KiB pipe.
    queue = ctx.Queue()
    child = ctx.Process(target=put_much, args=(queue,))
    child.start()
    child.join()
    assert child.exitcode == 0
    assert queue.qsize() == 100
    assert [len(queue.get()) for _ in range(100)] == [10_000] * 100


def test_what_was_put_is_there_at_once() -> None:
    # 4. There: empty() and get_nowait() may deny it until the feeder thread has run.
    queue = mp.Queue()
    for n in range(2000):
        queue.put(n)
        assert not queue.empty()
        assert queue.qsize() == 1
        assert queue.get_nowait() == n
        assert queue.empty()
