"""The queues of `shoal.multiprocessing`: the original's behaviour, without its defects."""

from __future__ import annotations

import gc
import multiprocessing as std
import os
import pickle
import queue as errors
import signal
import threading
from typing import Any

import pytest

import shoal
import shoal.multiprocessing as mp
from conftest import START_METHODS


def echo(incoming: Any, outgoing: Any) -> None:
    while True:
        obj = incoming.get()
        if obj is None:
            return
        outgoing.put((os.getpid(), obj))


def test_a_queue_goes_to_a_child_and_back(ctx: Any) -> None:
    there, back = ctx.Queue(), ctx.Queue()
    child = ctx.Process(target=echo, args=(there, back))
    child.start()
    objects = [1, "two", [3], {"four": b"4"}, "x" * 200_000]
    for obj in objects:
        there.put(obj)
    assert [back.get() for _ in objects] == [(child.pid, obj) for obj in objects]
    there.put(None)
    child.join()
    assert child.exitcode == 0


def test_a_queue_that_its_parent_forgets_still_reaches_the_child(ctx: Any) -> None:
    answer = ctx.Queue()
    child = ctx.Process(target=first_of, args=(filled(ctx, "kept"), answer))
    child.start()
    assert answer.get() == "kept"
    child.join()


def filled(ctx: Any, obj: object) -> Any:
    queue = ctx.Queue()
    queue.put(obj)
    return queue


def first_of(queue: Any, answer: Any) -> None:
    answer.put(queue.get())


def test_a_queue_outlives_the_process_that_made_it(ctx: Any) -> None:
    outer = ctx.Queue()
    started = ctx.Event()
    child = ctx.Process(target=make_queue, args=(outer, started))
    child.start()
    inner = outer.get()
    started.set()
    child.join()
    assert inner.get() == "made by a child"
    inner.put("mine now")
    assert inner.get() == "mine now"


def make_queue(outer: Any, taken: Any) -> None:
    inner = mp.Queue()
    inner.put("made by a child")
    outer.put(inner)
    taken.wait()


@pytest.mark.parametrize("method", START_METHODS)
def test_the_standard_librarys_processes_can_be_given_handles(method: str) -> None:
    answer: "shoal.Queue[str]" = shoal.Queue()
    child = std.get_context(method).Process(target=first_of, args=(kept_by_nobody(), answer))
    child.start()
    assert answer.get() == "kept"
    child.join()
    assert child.exitcode == 0


def kept_by_nobody() -> "shoal.Queue[str]":
    queue: "shoal.Queue[str]" = shoal.Queue()
    queue.put("kept")
    return queue


def test_the_queues_are_classes_and_the_factories_are_methods() -> None:
    for factory, cls in [
        (mp.Queue, mp.queues.Queue),
        (mp.SimpleQueue, mp.queues.SimpleQueue),
        (mp.JoinableQueue, mp.queues.JoinableQueue),
    ]:
        made = factory()
        assert isinstance(made, cls)
        assert cls.__module__ == "shoal.multiprocessing.queues"
        assert isinstance(made, getattr(std.queues, cls.__name__))
    assert isinstance(mp.JoinableQueue(), mp.queues.Queue)


def test_a_queue_has_the_standard_methods_and_errors() -> None:
    queue = mp.Queue(2)
    queue.put(1)
    queue.put(2, True, None)
    assert queue.full() and queue.qsize() == 2 and not queue.empty()
    with pytest.raises(errors.Full):
        queue.put_nowait(3)
    with pytest.raises(errors.Full):
        queue.put(3, timeout=0.01)
    assert queue.get() == 1 and queue.get_nowait() == 2 and queue.empty()
    with pytest.raises(errors.Empty):
        queue.get_nowait()
    with pytest.raises(errors.Empty):
        queue.get(True, 0.01)
    assert queue.put_many("ab") == 2 and queue.get_many() == ["a", "b"]
    queue.cancel_join_thread()
    queue.close()
    queue.close()
    queue.join_thread()
    for use in (queue.get, queue.qsize, lambda: queue.put(1)):
        with pytest.raises(ValueError, match="closed"):
            use()
    with pytest.raises(OSError, match="closed"):
        queue.empty()
    assert "closed" in repr(queue)
    unused = mp.Queue()
    unused.close()
    unused.close()
    assert unused.empty()


def test_a_full_queue_blocks_until_there_is_room() -> None:
    queue = mp.Queue(1)
    queue.put(1)
    thread = threading.Thread(target=queue.put, args=(2,))
    thread.start()
    thread.join(0.05)
    assert thread.is_alive() and queue.qsize() == 1
    assert queue.get() == 1
    thread.join()
    assert queue.get() == 2


def test_a_simple_queue_can_be_closed() -> None:
    queue = mp.SimpleQueue()
    assert queue.empty()
    queue.put([1])
    assert not queue.empty() and queue.get() == [1]
    queue.close()
    # A pipe, in the original.
    for use in (queue.get, queue.empty, lambda: queue.put(1)):
        with pytest.raises(OSError, match="closed"):
            use()


def work(queue: Any, done: Any) -> None:
    while True:
        task = queue.get()
        done.put(task)
        queue.task_done()


def test_join_of_a_joinable_queue_ends_with_its_timeout() -> None:
    queue = mp.JoinableQueue()
    queue.put(1)
    with pytest.raises(TimeoutError):
        queue.join(0.01)
    queue.task_done()
    queue.join(0.01)


def finish_and_be_killed(queue: Any) -> None:
    """The part of `task_done` before it wakes the processes in `join`."""
    queue._count.add(mp.queues._UNFINISHED, -1)
    os.kill(os.getpid(), signal.SIGKILL)


def test_join_returns_although_the_last_worker_to_finish_was_killed(ctx: Any) -> None:
    queue = ctx.JoinableQueue()
    queue.put(1)
    worker = ctx.Process(target=finish_and_be_killed, args=(queue,))
    worker.start()
    queue.join()
    worker.join()
    assert worker.exitcode == -signal.SIGKILL


class Counting(mp.queues.Queue):
    """An extension as programs write it for the original: more state, which is pickled too."""

    def __init__(self) -> None:
        super().__init__(ctx=mp.get_context())
        self.sizes = mp.Value("i", 0)

    def __getstate__(self) -> Any:
        return {"parent": super().__getstate__(), "sizes": self.sizes}

    def __setstate__(self, state: Any) -> None:
        super().__setstate__(state["parent"])
        self.sizes = state["sizes"]

    def put(self, obj: Any, *args: Any, **kwargs: Any) -> None:
        super().put(obj, *args, **kwargs)
        with self.sizes.get_lock():
            self.sizes.value += 1


class CountingToo(Counting):
    """The other way to add state, to a tuple."""

    def __getstate__(self) -> Any:
        return mp.queues.Queue.__getstate__(self) + (self.sizes,)

    def __setstate__(self, state: Any) -> None:
        mp.queues.Queue.__setstate__(self, state[:-1])
        self.sizes = state[-1]


class Tagged(mp.queues.JoinableQueue):
    """The same, of a queue that has a state of its own."""

    def __init__(self, tag: str) -> None:
        super().__init__(ctx=mp.get_context())
        self.tag = tag

    def __getstate__(self) -> Any:
        return super().__getstate__() + (self.tag,)

    def __setstate__(self, state: Any) -> None:
        super().__setstate__(state[:-1])
        self.tag = state[-1]


def put_two(queue: Any) -> None:
    queue.put("a")
    queue.put("b")


@pytest.mark.parametrize("kind", [Counting, CountingToo])
def test_a_queue_is_extended_as_the_original_is(ctx: Any, kind: Any) -> None:
    queue = kind()
    child = ctx.Process(target=put_two, args=(queue,))
    child.start()
    assert [queue.get(), queue.get()] == ["a", "b"]
    child.join()
    assert queue.sizes.value == 2


def put_tag(queue: Any) -> None:
    queue.put(queue.tag)


def test_a_joinable_queue_is_extended_as_the_original_is(ctx: Any) -> None:
    queue = Tagged("mine")
    child = ctx.Process(target=put_tag, args=(queue,))
    child.start()
    assert queue.get() == "mine"
    queue.task_done()
    queue.join()
    child.join()


def test_a_queue_of_multiprocessing_is_a_shoal_queue() -> None:
    queue = mp.Queue()
    queue.put("work")
    assert shoal.wait([queue], 5) == [queue]
    with queue.lease() as job:
        assert job.get() == "work"
    same = pickle.loads(pickle.dumps(queue))
    same.put(1)
    queue.close()
    assert same.get() == 1


def test_a_joinable_queue_waits_for_every_task(ctx: Any) -> None:
    queue, done = ctx.JoinableQueue(), ctx.Queue()
    workers = [ctx.Process(target=work, args=(queue, done), daemon=True) for _ in range(2)]
    for worker in workers:
        worker.start()
    for n in range(20):
        queue.put(n)
    queue.join()
    assert sorted(done.get() for _ in range(20)) == list(range(20))
    with pytest.raises(ValueError, match="too many"):
        queue.task_done()
    for worker in workers:
        worker.terminate()
        worker.join()


def test_put_raises_for_an_object_that_cannot_be_pickled(ctx: Any) -> None:
    queue = ctx.Queue()
    with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
        queue.put(lambda: None)
    queue.put("fine")
    assert queue.get() == "fine" and queue.empty()


def test_a_connection_travels_through_a_queue() -> None:
    # As multiprocessing's own reducers allow; plain pickle would not.
    queue = mp.Queue()
    ours, theirs = mp.Pipe()
    queue.put(theirs)
    received = queue.get()
    received.send("hello")
    assert ours.recv() == "hello"
    for end in (ours, theirs, received):
        end.close()


def test_a_queue_has_the_internal_attributes_that_programs_use() -> None:
    from multiprocessing.synchronize import SEM_VALUE_MAX  # type: ignore[attr-defined]

    assert (mp.Queue(3)._maxsize, mp.JoinableQueue()._maxsize) == (3, SEM_VALUE_MAX)
    for queue in (mp.Queue(), mp.SimpleQueue()):
        assert queue._poll() is False
        queue.put(1)
        assert queue._poll() is True and queue._poll(1) is True and queue.get() == 1
    changed = mp.Queue(1)
    changed._maxsize = 5
    assert changed._maxsize == 5


def test_every_way_to_put_counts_an_unfinished_object() -> None:
    for queue in (mp.JoinableQueue(), mp.Manager().JoinableQueue()):
        queue.put(1)
        queue.put(bytes(100_000))
        queue.put_nowait(2)
        queue.put_bytes(b"3")
        assert queue.put_many([4, 5]) == queue.put_many_bytes([b"6", b"7"]) == 2
        queue._writer.send_bytes(b"8")
        with queue.reserve(1) as room:
            room.data[:] = b"9"
        # These put nothing.
        queue.reserve(1).discard()
        queue.reserve(1)
        with pytest.raises(KeyError), queue.reserve(1):
            raise KeyError
        with queue.reserve(1) as room:
            kept = pickle.PickleBuffer(room.data)
            with pytest.raises(BufferError):
                room.commit()
            kept.release()
            room.discard()
        for _ in range(10):
            with pytest.raises(shoal.TimeoutError):
                queue.join(0)
            queue.get_bytes()
            queue.task_done()
        queue.join(0)
        assert queue.empty()
        with pytest.raises(ValueError):
            queue.task_done()


def test_bytes_that_cannot_be_put_are_not_counted() -> None:
    queue = mp.JoinableQueue(2)
    queue.put_bytes(b"1")
    assert queue.put_many_bytes([b"2", b"3"], False) == 1
    for call in (
        lambda: queue.put_bytes(b"", False),
        lambda: queue.put_many_bytes([b""], False),
        lambda: queue.reserve(1, False),
    ):
        with pytest.raises(shoal.Full):
            call()
    for _ in range(2):
        queue.get_bytes()
        queue.task_done()
    queue.join(0)


@pytest.mark.parametrize("kind", ["Queue", "JoinableQueue", "SimpleQueue", "Lock", "Event"])
def test_objects_can_be_pickled_by_every_protocol(kind: str) -> None:
    made = getattr(mp, kind)()
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        same = pickle.loads(pickle.dumps(made, protocol))
        assert type(same) is type(made) and same._name == made._name


@pytest.mark.parametrize("kind", ["Queue", "SimpleQueue", "Lock", "Event", "Semaphore", "Condition"])
def test_the_error_about_an_object_that_nobody_kept_says_what_to_do(kind: str) -> None:
    data = pickle.dumps(getattr(mp, kind)())
    gc.collect()
    with pytest.raises(shoal.NotFoundError, match="was sent does not exist any more: .* Keep a reference"):
        pickle.loads(data)
