"""Defects of the standard library's queue that this one must not have.

Each of these fails, or hangs, with ``import multiprocessing as mp``.
"""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

import shoal.multiprocessing as mp
from conftest import Script, asleep, at_rest, ends_well, wait_until


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
    queue.put("for the process that is left")
    assert taken.get() == "for the process that is left"
    other.join()


def wait_for_it(event: Any, ready: Any) -> None:
    ready.put(1)
    event.get()


def test_waking_does_not_wait_for_a_dead_waiter(ctx: Any) -> None:
    # 2. There: Event.set() after a waiter's death never returns. Here: a put, which wakes
    # a process that sleeps, after the death of a sleeper.
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
    # 3. There: a child cannot end before its feeder thread has written everything to a 64 KiB pipe.
    queue = ctx.Queue()
    child = ctx.Process(target=put_much, args=(queue,))
    child.start()
    child.join()
    assert child.exitcode == 0
    assert queue.qsize() == 100
    assert [len(queue.get()) for _ in range(100)] == [10_000] * 100


def test_a_message_is_visible_as_soon_as_put_returns() -> None:
    # 4. There: empty() and get_nowait() may not see it until the feeder thread has run.
    queue = mp.Queue()
    for n in range(2000):
        queue.put(n)
        assert not queue.empty()
        assert queue.qsize() == 1
        assert queue.get_nowait() == n
        assert queue.empty()


def wait_for_event(event: Any, ready: Any) -> None:
    ready.put(1)
    event.wait()


def test_an_event_can_be_set_although_a_waiter_is_dead(ctx: Any) -> None:
    # 2. There: set() waits forever for dead waiters to confirm that they woke up.
    event, ready = ctx.Event(), ctx.Queue()
    waiters = [ctx.Process(target=wait_for_event, args=(event, ready)) for _ in range(2)]
    for waiter in waiters:
        waiter.start()
        ready.get()
    wait_until(lambda: all(asleep(waiter.pid) for waiter in waiters))
    os.kill(waiters[0].pid, signal.SIGKILL)
    waiters[0].join()
    event.set()
    waiters[1].join()
    assert waiters[1].exitcode == 0


def count(table: Any, times: int) -> None:
    for _ in range(times):
        table.update_with("n", lambda n: n + 1)
        table.add("m", 1)


def test_a_managers_dict_has_updates_that_are_atomic(ctx: Any) -> None:
    # There: d["n"] += 1 is a get and a set, and loses changes of others in between.
    with ctx.Manager() as manager:
        table = manager.dict(n=0, m=0)
        children = [ctx.Process(target=count, args=(table, 300)) for _ in range(3)]
        for child in children:
            child.start()
        for child in children:
            child.join()
        assert (table["n"], table["m"]) == (900, 900)


def test_a_child_that_ends_removes_nothing_and_no_warning_is_printed(
    ctx: Any, script: Script
) -> None:
    # There: a resource tracker unlinks objects that others still use, and warns at the end.
    program = script(
        f"""
        import os, shoal.multiprocessing as mp

        def use(queue, lock, table):
            with lock:
                table[os.getpid()] = queue.get()
            os._exit(0)         # no exit handlers run

        if __name__ == "__main__":
            ctx = mp.get_context({ctx._name!r})
            queue, lock, table = ctx.Queue(), ctx.Lock(), ctx.Manager().dict()
            for n in range(3):
                queue.put(n)
                child = ctx.Process(target=use, args=(queue, lock, table))
                child.start()
                child.join()
            print(sorted(table.values()))
        """
    )
    assert ends_well(program) == "[0, 1, 2]\n"


WAITS = {
    "get": "q.get()",
    "put": "full.put(1)",
    "join": "tasks.join()",
    "lock": "lock.acquire()",
    "semaphore": "semaphore.acquire()",
    "event": "event.wait()",
    "barrier": "barrier.wait()",
    "condition": "with condition: condition.wait()",
    "recv": "there.recv()",
    "poll": "there.poll(None)",
    "wait": "mp.connection.wait([there, q])",
}


@pytest.mark.parametrize("what", WAITS)
def test_ctrl_c_ends_every_wait_in_parents_and_children(script: Script, what: str) -> None:
    program = script(
        f"""
        import shoal.multiprocessing as mp

        def wait(q, full, tasks, lock, semaphore, event, barrier, condition, there, ready):
            ready.release()
            try:
                {WAITS[what]}
            except KeyboardInterrupt:
                pass

        if __name__ == "__main__":
            q, full, tasks = mp.Queue(), mp.Queue(1), mp.JoinableQueue()
            full.put(0)
            tasks.put(0)
            lock, semaphore = mp.Lock(), mp.Semaphore(0)
            lock.acquire()
            event, barrier, condition = mp.Event(), mp.Barrier(9), mp.Condition()
            here, there = mp.Pipe()
            ready = mp.Semaphore(0)
            given = q, full, tasks, lock, semaphore, event, barrier, condition, there, ready
            child = mp.Process(target=wait, args=given)
            child.start()
            ready.acquire()
            print(child.pid, flush=True)
            wait(*given)
            child.join()
            print("over", child.exitcode)
        """,
        start_new_session=True,
    )
    assert program.stdout is not None
    child = int(program.stdout.readline())
    wait_until(lambda: at_rest(child) and at_rest(program.pid))
    os.killpg(program.pid, signal.SIGINT)
    assert ends_well(program) == "over 0\n"
