"""kill -9 of a process that uses a queue or a map: the others continue."""

from __future__ import annotations

import os
import random
import signal
import time
from typing import Any, List

import pytest

import shoal
import shoal.multiprocessing as mp
from conftest import START_METHODS, Script, asleep, objects, wait_until


def take_for_ever(queue: Any, ready: Any) -> None:
    ready.put(os.getpid())
    while True:
        queue.get()


@pytest.mark.parametrize("method", START_METHODS)
def test_a_consumer_killed_while_it_waits_does_not_disturb_the_others(method: str) -> None:
    ctx = mp.get_context(method)
    queue, ready = ctx.Queue(), ctx.Queue()
    consumers = [ctx.Process(target=take_for_ever, args=(queue, ready)) for _ in range(2)]
    for consumer in consumers:
        consumer.start()
    for _ in consumers:
        ready.get()
    for consumer in consumers:
        wait_until(lambda: asleep(consumer.pid))
        os.kill(consumer.pid, signal.SIGKILL)
        consumer.join()
        assert consumer.exitcode == -signal.SIGKILL
    queue.put("still here")
    assert queue.qsize() == 1 and not queue.empty()
    assert queue.get() == "still here"
    assert queue.empty()


def hold_for_ever(end: Any, queue: Any, ready: Any) -> None:
    ready.put(os.getpid())
    time.sleep(1000)


def test_an_object_that_only_a_killed_child_had_is_removed(ctx: Any) -> None:
    ready, queue = ctx.Queue(), ctx.Queue()
    here, there = ctx.Pipe()
    names = {f"shoal.{queue.name}", f"shoal.{there.name}"}
    child = ctx.Process(target=hold_for_ever, args=(there, queue, ready))
    child.start()
    ready.get()
    here.close()
    there.close()
    queue.detach()
    del queue, here, there
    assert names <= objects()
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    assert not names & objects()


def put_for_ever(queue: Any, who: int) -> None:
    number = 0
    while True:
        queue.put((who, number))
        number += 1


def test_producers_killed_at_random_lose_no_message_they_had_put() -> None:
    ctx = mp.get_context("fork")
    chance = random.Random(1)
    with shoal.Queue[Any](capacity=1 << 16, max_capacity=1 << 16) as queue:
        for round in range(10):
            producers = [ctx.Process(target=put_for_ever, args=(queue, i)) for i in range(2)]
            for producer in producers:
                producer.start()
            expected = {0: 0, 1: 0}
            for _ in range(chance.randrange(100, 3000)):
                who, number = queue.get()
                assert number == expected[who]
                expected[who] += 1
            for producer in producers:
                os.kill(producer.pid, signal.SIGKILL)
                producer.join()
            # The present messages are in order, without a gap, and len is exact.
            for _ in range(queue.qsize()):
                who, number = queue.get(block=False)
                assert number == expected[who]
                expected[who] += 1
            assert queue.empty()


def count_for_ever(shared: Any) -> None:
    while True:
        shared.add("count")
        shared["text"] = "x" * random.randrange(1000)
        shared.pop("text", None)


def test_writers_of_a_map_killed_at_random_leave_it_consistent() -> None:
    ctx = mp.get_context("fork")
    with shoal.Map[str, Any]() as shared:
        for _ in range(10):
            writers = [ctx.Process(target=count_for_ever, args=(shared,)) for _ in range(2)]
            for writer in writers:
                writer.start()
            time.sleep(random.random() / 20)
            for writer in writers:
                os.kill(writer.pid, signal.SIGKILL)
                writer.join()
            count = shared.get("count", 0)
            assert shared.add("count") == count + 1
            entries = shared.copy()
            assert set(entries) <= {"count", "text"} and len(shared) == len(entries)
            assert set(entries.get("text", "x")) <= {"x"}


def test_an_object_outlives_its_killed_creator(script: Script, name: str) -> None:
    creator = script(
        """
        import shoal, sys, time
        queue = shoal.Queue(sys.argv[1])
        queue.put("left behind")
        print("ready", flush=True)
        time.sleep(1000)
        """,
        name,
    )
    assert creator.stdout is not None and creator.stdout.readline() == "ready\n"
    with shoal.Queue[str](name, create=False) as queue:
        creator.kill()
        creator.wait()
        assert queue.get() == "left behind"
        queue.put("usable")
        assert queue.get() == "usable"


def test_killed_children_leave_nothing_once_the_parent_ends(script: Script) -> None:
    child = script(
        """
        import os, signal, shoal.multiprocessing as mp
        def wait(queue):
            queue.get()
        if __name__ == "__main__":
            queue = mp.Queue()
            children: list = [mp.Process(target=wait, args=(queue,)) for _ in range(3)]
            for child in children: child.start()
            for child in children: os.kill(child.pid, signal.SIGKILL)
            for child in children: child.join()
            print([child.exitcode for child in children])
        """
    )
    out, err = child.communicate()
    assert (out, err) == ("[-9, -9, -9]\n", "")


@pytest.mark.parametrize("method", START_METHODS)
def test_children_clean_up_after_a_killed_parent(method: str, script: Script) -> None:
    parent = script(
        """
        import os, sys, shoal.multiprocessing as mp
        def last(queue, ready):
            ready.put(os.getpid())
            queue.get()
        if __name__ == "__main__":
            ctx = mp.get_context(sys.argv[1])
            queue, ready = ctx.Queue(), ctx.Queue()
            child = ctx.Process(target=last, args=(queue, ready))
            child.start()
            print(ready.get(), queue.name, flush=True)
            child.join()
        """,
        method,
    )
    assert parent.stdout is not None
    pid, name = parent.stdout.readline().split()
    with shoal.Queue[None](name, create=False) as queue:
        parent.kill()
        parent.wait()
        queue.put(None)
        wait_until(lambda: not os.path.exists(f"/proc/{pid}"))
    # The fixture checks that nothing is left.


def hold(name: str, ready: Any) -> None:
    kept: List[Any] = [shoal.Queue(name)]
    ready.put(1)
    signal.pause()
    kept.clear()


def test_a_name_whose_holders_were_all_killed_can_be_used_again(name: str) -> None:
    ctx = mp.get_context("fork")
    with shoal.Queue[int]() as ready:
        process = ctx.Process(target=hold, args=(name, ready))
        process.start()
        ready.get()
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    with pytest.raises(shoal.NotFoundError):
        shoal.Queue(name, create=False)
    with shoal.Queue[str](name, exclusive=True) as queue:
        queue.put("anew")
        assert queue.get() == "anew"
