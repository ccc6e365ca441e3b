"""Queues in event loops, and `shoal.wait`."""

from __future__ import annotations

import asyncio
import os
import select
import selectors
import signal
import socket
import sys
import threading
import time
from multiprocessing import connection
from typing import Any, List

import pytest

import shoal
import shoal.multiprocessing as mp
from conftest import WATCHDOG, Script, asleep, ends_well, wait_until

COUNT = 200


def readable(thing: Any, timeout: float = 0) -> bool:
    return bool(select.select([thing], [], [], timeout)[0])


def put_all(queue: Any, count: int = COUNT) -> None:
    for number in range(count):
        queue.put(number)


def test_a_queue_is_readable_while_it_has_a_message() -> None:
    with shoal.Queue[str]() as queue:
        assert not readable(queue)
        queue.put("one")
        assert readable(queue, WATCHDOG)
        queue.put("two")
        assert queue.get_nowait() == "one" and readable(queue)
        assert queue.get_nowait() == "two" and not readable(queue)
        queue.put("three")
        assert readable(queue, WATCHDOG)
        assert queue.get_many() == ["three"] and not readable(queue)
        queue.close()
        assert readable(queue, WATCHDOG)
        with pytest.raises(shoal.ClosedError):
            queue.get_nowait()
        assert readable(queue)


def test_a_descriptor_belongs_to_its_handle_and_is_closed_with_it() -> None:
    queue = shoal.Queue[int]()
    fd = queue.fileno()
    assert queue.fileno() == fd and fd > 2 and not os.get_inheritable(fd)
    queue.detach()
    with pytest.raises(OSError):
        os.fstat(fd)
    with pytest.raises(shoal.ClosedError):
        queue.fileno()


def test_asyncio_reads_from_a_queue_that_another_process_fills() -> None:
    async def read(queue: "shoal.Queue[int]") -> List[int]:
        loop = asyncio.get_running_loop()
        everything: "asyncio.Future[List[int]]" = loop.create_future()
        got: List[int] = []

        def on_readable() -> None:
            # Once for each message: it stays readable until the last is taken.
            try:
                got.append(queue.get_nowait())
            except shoal.Empty:
                return
            if len(got) == COUNT:
                everything.set_result(got)

        loop.add_reader(queue, on_readable)
        try:
            return await everything
        finally:
            loop.remove_reader(queue)

    with shoal.Queue[int]() as queue:
        child = mp.get_context("spawn").Process(target=put_all, args=(queue,))
        child.start()
        assert asyncio.run(read(queue)) == list(range(COUNT))
        child.join()


def test_selectors_distinguish_queues_and_sockets() -> None:
    ours, theirs = socket.socketpair()
    with shoal.Queue[str]() as queue, ours, theirs, selectors.DefaultSelector() as selector:
        selector.register(queue, selectors.EVENT_READ, "queue")
        selector.register(ours, selectors.EVENT_READ, "socket")
        assert selector.select(0) == []
        queue.put("x")
        assert [key.data for key, _ in selector.select()] == ["queue"]
        assert queue.get_nowait() == "x"
        theirs.send(b"x")
        assert [key.data for key, _ in selector.select()] == ["socket"]
        selector.unregister(queue)


@pytest.mark.parametrize("through", ["the queue", "its reader"])
def test_the_wait_of_multiprocessing_waits_for_queues(through: str) -> None:
    ctx = mp.get_context("fork")
    queues = [ctx.Queue() for _ in range(3)]
    children = [ctx.Process(target=put_all, args=(queue,)) for queue in queues]
    waited: List[Any] = queues if through == "the queue" else [q._reader for q in queues]
    got: List[List[int]] = [[], [], []]
    assert connection.wait(waited, 0) == []
    for child in children:
        child.start()
    ended: List[Any] = [child.sentinel for child in children]
    while ended or any(len(numbers) < COUNT for numbers in got):
        for ready in connection.wait(waited + ended):
            if ready in ended:
                ended.remove(ready)
            else:
                # It is readable once for each message, and only then, as no other process takes.
                index = waited.index(ready)
                got[index].append(queues[index].get())
    assert got == [list(range(COUNT))] * 3
    assert connection.wait(waited, 0) == []
    for child in children:
        child.join()


def test_a_forked_child_has_its_own_descriptor() -> None:
    with shoal.Queue[str]() as queue, shoal.Queue[str]() as answers:
        fd = queue.fileno()
        queue.put("for both to see")
        assert readable(queue, WATCHDOG)

        def child() -> None:
            answers.put(f"{queue.fileno() != fd} {queue.get_nowait()}")
            assert not readable(queue)
            answers.put("waiting")
            assert readable(queue, WATCHDOG)
            answers.put(queue.get_nowait())

        process = mp.get_context("fork").Process(target=child)
        process.start()
        assert answers.get() == "True for both to see"
        assert answers.get() == "waiting"
        # A message that the child took is gone for its parent too.
        assert not readable(fd)
        queue.put("for the child")
        assert answers.get() == "for the child"
        process.join()
        assert process.exitcode == 0


def read_politely(source: Any, lock: Any, out: Any, method: str) -> None:
    """Polls the descriptor, takes the lock, asks the descriptor again and then receives."""
    poller = select.poll()
    poller.register(source, select.POLLIN)
    got = 0
    while True:
        poller.poll()
        with lock:
            if not poller.poll(0):
                continue
            if not source.poll(0):
                # Here a program would wait while it holds the lock.
                return out.put("readable in vain")
            if getattr(source, method)() is None:
                return out.put(got)
        got += 1


@pytest.mark.parametrize("start", ["fork", "spawn"])
@pytest.mark.parametrize("kind", ["pipe", "queue"])
def test_readers_that_share_an_end_poll_lock_poll_and_receive(start: str, kind: str) -> None:
    ctx = mp.get_context(start)
    lock, out = ctx.Lock(), ctx.Queue()
    if kind == "pipe":
        source, sink = ctx.Pipe(duplex=False)
    else:
        source = sink = ctx.Queue()
    count, put = 300, sink.send if kind == "pipe" else sink.put
    readers = [
        ctx.Process(
            target=read_politely if kind == "pipe" else read_queue_politely,
            args=(source, lock, out, "recv"),
        )
        for _ in range(3)
    ]
    for reader in readers:
        reader.start()
    for index in range(count):
        put(index)
        if index % 3 == 0:
            time.sleep(0.0005)
    for _ in readers:
        put(None)
    assert sum(out.get() for _ in readers) == count
    for reader in readers:
        reader.join()


def read_queue_politely(queue: Any, lock: Any, out: Any, method: str) -> None:
    read_politely(queue._reader, lock, out, method)


def test_polling_a_reader_polls_its_queue() -> None:
    queue = mp.Queue()
    reader = queue._reader
    assert not reader.poll() and not reader.poll(0.01) and not reader.poll(-1)
    queue.put(1)
    # At once, and without a descriptor.
    assert reader.poll() and reader.poll(None) and reader.recv() == 1
    assert not reader.poll()
    queue.close()
    with pytest.raises(OSError):
        reader.poll()


def test_wait_returns_all_that_are_ready_in_their_order() -> None:
    with shoal.Queue[int]() as a, shoal.Queue[int]() as b, shoal.Queue[int]() as c:
        assert shoal.wait([a, b, c], 0) == []
        assert shoal.wait([a, b, c], 0.01) == []
        c.put(1)
        assert shoal.wait([a, b, c]) == [c]
        a.put(1)
        assert shoal.wait((a, b, c), timeout=5) == [a, c]
        a.get(), c.get()
        b.close()
        assert shoal.wait(iter([a, b, c])) == [b]


def test_wait_ends_with_a_message_or_the_end_of_a_process() -> None:
    with shoal.Queue[int]() as queue:
        code = f"import shoal; shoal.Queue({queue.name!r}, create=False).put(7)"
        sleeper = shoal.spawn(["sleep", "600"], die_with_parent=True)
        child = shoal.spawn([sys.executable, "-c", code], env=dict(os.environ))
        assert shoal.wait([sleeper, queue]) == [queue]
        assert queue.get_nowait() == 7
        assert shoal.wait([sleeper, queue, child]) == [child]
        assert child.join(0) == 0
        sleeper.kill()
        assert shoal.wait([sleeper]) == [sleeper]
        sleeper.join()
        assert shoal.wait([sleeper, child], 0) == [sleeper, child]


def test_connections_sockets_and_descriptors_are_waited_for_with_queues() -> None:
    here, there = shoal.Pipe()
    left, right = socket.socketpair()
    reader, writer = os.pipe()
    with shoal.Queue[int]() as queue, here, there, left, right:
        things: Any = [queue, here, left, reader]
        assert shoal.wait(things, 0) == []
        there.send("hello")
        assert shoal.wait(things) == [here]
        right.send(b"hello")
        assert shoal.wait(things) == [here, left]
        assert here.recv() == "hello" and left.recv(9) == b"hello"
        os.close(writer)
        assert shoal.wait(things) == [reader]
        there.close()
        assert shoal.wait(things) == [here, reader]
        os.close(reader)
        with pytest.raises(shoal.InvalidError):
            shoal.wait(things)


def test_an_object_that_cannot_be_waited_for_is_refused() -> None:
    with pytest.raises(shoal.InvalidError):
        shoal.wait([])
    with pytest.raises(TypeError, match="neither"):
        shoal.wait(["text"])  # type: ignore[arg-type]
    with shoal.Queue[int]() as queue:
        pass
    with pytest.raises(shoal.ClosedError):
        shoal.wait([queue])


def test_wait_ends_when_another_thread_detaches_a_queue() -> None:
    queue = shoal.Queue[int]()
    ends: List[BaseException] = []

    def wait() -> None:
        try:
            shoal.wait([queue])
        except shoal.ClosedError as err:
            ends.append(err)

    thread = threading.Thread(target=wait)
    thread.start()
    queue.detach()
    thread.join(WATCHDOG)
    assert len(ends) == 1


def test_many_threads_wait_for_the_same_queues_and_each_message_is_taken_once() -> None:
    with shoal.Queue[int]() as a, shoal.Queue[int]() as b:
        got: List[int] = []

        def take() -> None:
            while True:
                for queue in shoal.wait([a, b]):
                    try:
                        got.append(queue.get_nowait())
                    except shoal.Empty:
                        pass
                    except shoal.ClosedError:
                        return

        threads = [threading.Thread(target=take) for _ in range(3)]
        for thread in threads:
            thread.start()
        put_all(a)
        put_all(b)
        wait_until(lambda: len(got) == 2 * COUNT)
        a.close()
        for thread in threads:
            thread.join()
        assert sorted(got) == sorted(2 * list(range(COUNT)))


def test_ctrl_c_ends_it_and_other_signals_do_not(script: Script) -> None:
    child = script(
        """
        import shoal, signal
        queue = shoal.Queue()
        signal.signal(signal.SIGUSR1, lambda *_: print("handled", flush=True))
        signal.signal(signal.SIGUSR2, lambda *_: queue.put("put by a handler"))
        print("ready", flush=True)
        try:
            for ready in shoal.wait([queue], timeout=1000):
                print(ready.get(), flush=True)
            shoal.wait([queue])
        except KeyboardInterrupt:
            print("interrupted")
        """
    )
    assert child.stdout is not None and child.stdout.readline() == "ready\n"
    for _ in range(3):
        child.send_signal(signal.SIGUSR1)
        assert child.stdout.readline() == "handled\n"
    child.send_signal(signal.SIGUSR2)
    assert child.stdout.readline() == "put by a handler\n"
    wait_until(lambda: asleep(child.pid))
    child.send_signal(signal.SIGINT)
    assert ends_well(child) == "interrupted\n"
