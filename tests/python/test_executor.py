"""Executors and pools of the standard library with contexts of `shoal.multiprocessing`, and the
internal attributes of queues and locks that they use.""" 

from __future__ import annotations

import asyncio
import concurrent.futures as futures
import multiprocessing as std
import multiprocessing.pool as std_pool
import os
import pickle
import signal
import sys
import threading
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, List

import pytest

import shoal
from conftest import Script, ends_well, wait_until
from tasks import die, fail, initialise, raises_when_unpickled, see_initialised, square


def hang(started: Any) -> None:
    started.set()
    time.sleep(60)


# -- executors ----------------------------------------------------------------------------------


def test_an_executor_runs_calls_and_passes_on_their_errors(ctx: Any) -> None:
    with futures.ProcessPoolExecutor(
        2, mp_context=ctx, initializer=initialise, initargs=(7,)
    ) as executor:
        assert list(executor.map(square, range(50))) == [n * n for n in range(50)]
        assert executor.submit(see_initialised).result() == [7]
        with pytest.raises(LookupError, match="wrong"):
            executor.submit(fail, "wrong").result()
        with pytest.raises((pickle.PicklingError, AttributeError)):
            executor.submit(lambda: None).result()
        large = executor.submit(bytes, 3 << 20).result()
        assert large == bytes(3 << 20)


def test_an_executor_whose_worker_dies_is_broken_and_does_not_hang(ctx: Any) -> None:
    for death in (die, raises_when_unpickled):
        with futures.ProcessPoolExecutor(2, mp_context=ctx) as executor:
            # Both workers run: the original does not check a worker that it is starting.
            list(executor.map(time.sleep, [0.1, 0.1]))
            unfinished = [executor.submit(time.sleep, 60), executor.submit(death)]
            for future in unfinished:
                with pytest.raises(BrokenProcessPool):
                    future.result(60)
            with pytest.raises(BrokenProcessPool):
                executor.submit(square, 2)


def test_an_executor_cancels_calls_that_have_not_begun(ctx: Any) -> None:
    with futures.ProcessPoolExecutor(1, mp_context=ctx) as executor:
        later = [executor.submit(time.sleep, 0.05) for _ in range(200)]
        executor.shutdown(cancel_futures=True)
        assert any(future.cancelled() for future in later)
        assert all(future.done() for future in later)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="new in Python 3.11")
def test_an_executor_renews_its_workers() -> None:
    import shoal.multiprocessing as mp

    with futures.ProcessPoolExecutor(
        1, mp_context=mp.get_context("spawn"), max_tasks_per_child=2
    ) as executor:
        pids = [executor.submit(os.getpid).result() for _ in range(4)]
    assert pids[0] == pids[1] != pids[2] == pids[3]


def test_an_event_loop_runs_calls_in_an_executor(ctx: Any) -> None:
    async def main() -> List[int]:
        loop = asyncio.get_running_loop()
        with futures.ProcessPoolExecutor(2, mp_context=ctx) as executor:
            calls = [loop.run_in_executor(executor, square, n) for n in range(5)]
            return await asyncio.gather(*calls)

    assert asyncio.run(main()) == [0, 1, 4, 9, 16]


def test_an_executor_that_is_not_shut_down_ends_with_the_program(
    ctx: Any, script: Script
) -> None:
    text = """
        import concurrent.futures, shoal.multiprocessing as mp
        if __name__ == "__main__":
            ctx = mp.get_context("METHOD")
            executor = concurrent.futures.ProcessPoolExecutor(2, mp_context=ctx)
            late = executor.submit(pow, 2, 5)
            late.add_done_callback(lambda future: print(future.result(), flush=True))
        """
    assert ends_well(script(text.replace("METHOD", ctx.get_start_method()))) == "32\n"


# -- pools --------------------------------------------------------------------------------------


def test_the_standard_librarys_pool_works_with_our_context(ctx: Any) -> None:
    with std_pool.Pool(2, context=ctx) as pool:
        assert pool.map(square, range(100)) == [n * n for n in range(100)]
        assert sorted(pool.imap_unordered(square, range(9))) == [n * n for n in range(9)]
        with pytest.raises(LookupError, match="wrong"):
            pool.apply(fail, ("wrong",))
        pool.close()
        pool.join()
    with std_pool.Pool(1, context=ctx, maxtasksperchild=2) as pool:
        assert len(set(pool.map(call_getpid, range(6), 1))) >= 3


def call_getpid(_: int) -> int:
    return os.getpid()


def test_the_standard_librarys_pool_can_be_terminated_while_it_works(ctx: Any) -> None:
    pool = std_pool.Pool(2, initialise, (1,), context=ctx)
    manager = ctx.Manager()
    started = manager.Event()
    pool.apply_async(hang, (started,))
    assert started.wait(60)
    pool.terminate()
    pool.join()
    manager.shutdown()


def test_workers_of_a_killed_programs_pool_end(script: Script) -> None:
    program = script(
        """
        import multiprocessing.pool, shoal.multiprocessing as mp, time
        if __name__ == "__main__":
            pool = multiprocessing.pool.Pool(2, context=mp.get_context("fork"))
            pool.map(abs, range(10))
            print(*(worker.pid for worker in pool._pool), flush=True)
            time.sleep(60)
        """
    )
    assert program.stdout is not None
    pids = [int(pid) for pid in program.stdout.readline().split()]
    assert len(pids) == 2
    program.kill()
    program.wait()
    wait_until(lambda: not any(is_running(pid) for pid in pids))
    shoal.gc()


def is_running(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


# -- the two sides of a queue ---------------------------------------------------------------------


def use_one_side(queue: Any, answers: Any) -> None:
    queue._writer.close()
    answers._reader.close()
    for _ in range(2):
        answers.put(queue.get())


@pytest.mark.parametrize("kind", ["Queue", "SimpleQueue", "JoinableQueue"])
def test_a_process_that_closes_one_side_can_use_the_other(ctx: Any, kind: str) -> None:
    queue, answers = getattr(ctx, kind)(), ctx.SimpleQueue()
    child = ctx.Process(target=use_one_side, args=(queue, answers))
    child.start()
    queue.put("one")
    queue._reader.close()
    queue.put("two")
    assert [answers.get(), answers.get()] == ["one", "two"]
    child.join()
    assert child.exitcode == 0


@pytest.mark.parametrize("kind", ["Queue", "SimpleQueue"])
def test_a_closed_side_refuses_and_the_other_does_not(ctx: Any, kind: str) -> None:
    queue = getattr(ctx, kind)()
    queue.put(1)
    queue._writer.close()
    assert queue._writer.closed and not queue._reader.closed
    for call in (lambda: queue.put(2), lambda: queue.put_many([2]), lambda: queue._writer.send(2)):
        with pytest.raises(OSError, match="handle is closed"):
            call()
    assert queue.get() == 1 and queue.empty() and not queue._reader.poll()
    queue._writer.close()
    queue._reader.close()
    with pytest.raises((OSError, ValueError), match="closed"):
        queue.get()
    assert queue.detached


def test_a_side_is_a_connection_of_one_direction(ctx: Any) -> None:
    queue = ctx.SimpleQueue()
    reader, writer = queue._reader, queue._writer
    assert (reader.readable, reader.writable) == (True, False)
    assert (writer.readable, writer.writable) == (False, True)
    writer.send([1, "two"])
    writer.send_bytes(b"three", 1, 3)
    assert reader.poll() and std.connection.wait([reader], 60) == [reader]
    assert reader.recv() == [1, "two"] and reader.recv_bytes() == b"hre"
    for call in (lambda: reader.send(1), lambda: writer.recv(), lambda: writer.poll()):
        with pytest.raises(OSError, match="-only"):
            call()
    timer = threading.Timer(0.05, queue.put, ("late",))
    timer.start()
    assert reader.poll(60) and reader.recv() == "late"
    timer.join()
    assert queue._reader is reader
    del queue
    writer.send("still there")
    assert reader.recv() == "still there"
    with writer:
        pass
    assert writer.closed


def take_under_lock(queue: Any, told: Any) -> None:
    for _ in range(50):
        with queue._rlock:
            assert queue._reader.poll(60)
            told.put(queue._reader.recv())


def test_a_reader_can_poll_and_receive_under_the_readers_lock(ctx: Any) -> None:
    queue, told = ctx.Queue(), ctx.Queue()
    for number in range(100):
        queue.put(number)
    children = [ctx.Process(target=take_under_lock, args=(queue, told)) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join()
        assert child.exitcode == 0
    assert sorted(told.get() for _ in range(100)) == list(range(100))


def put_and_end(queue: Any) -> None:
    queue.put("the last word")


@pytest.mark.parametrize("module", [shoal.multiprocessing, std])
def test_a_put_is_seen_before_the_end_of_its_process(module: Any) -> None:
    # As executors distinguish a worker that has finished from one that has died.
    queue = shoal.multiprocessing.get_context("fork").SimpleQueue()
    queue._reader.fileno()
    for _ in range(20):
        child = module.get_context("fork").Process(target=put_and_end, args=(queue,))
        child.start()
        child.join()
        assert std.connection.wait([queue._reader], 0) == [queue._reader]
        assert queue.get() == "the last word"
        assert std.connection.wait([queue._reader], 0) == []


# -- what is inside a lock ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["Lock", "RLock", "Semaphore", "BoundedSemaphore"])
def test_a_lock_has_the_internal_attributes_of_the_original(ctx: Any, kind: str) -> None:
    lock, original = getattr(ctx, kind)(), getattr(std.get_context("fork"), kind)()
    ours, theirs = lock._semlock, original._semlock
    missing = {name for name in dir(theirs) if not hasattr(ours, name)} - {"_rebuild"}
    assert not missing
    for sem in (ours, theirs):
        assert (sem._count(), sem._is_mine(), sem._get_value(), sem._is_zero()) == (
            (0, False, 1, False)
        )
        with sem:
            assert (sem._count(), sem._is_mine(), sem._get_value(), sem._is_zero()) == (
                (1, True, 0, True)
            )
        assert sem.acquire(False) and sem._is_zero()
        sem.release()
    assert (ours.kind, ours.maxvalue) == (theirs.kind, theirs.maxvalue)
    assert pickle.loads(pickle.dumps(lock))._semlock.maxvalue == ours.maxvalue
    lock.detach()
    for name in dir(ours):
        getattr(ours, name)


def test_a_condition_reports_the_number_of_sleepers() -> None:
    condition = std.get_context("fork").Condition(), shoal.multiprocessing.Condition()
    for one in condition:
        sleeper = threading.Thread(target=sleep_in, args=(one,))
        sleeper.start()
        wait_until(lambda: one._sleeping_count.get_value() == 1)
        with one:
            one.notify()
        sleeper.join()
        with one:
            one.notify_all()
        assert one._sleeping_count.get_value() - one._woken_count.get_value() == 0
        assert one._wait_semaphore.get_value() == 0


def sleep_in(condition: Any) -> None:
    with condition:
        condition.wait(60)


def die_in_a_message(queue: Any) -> None:
    with queue._rlock:
        os.read(queue._reader.fileno(), 6)
        os.kill(os.getpid(), signal.SIGKILL)


def report_get(queue: Any, told: Any) -> None:
    try:
        told.put(queue.get())
    except OSError as error:
        told.put(type(error))


def test_bytes_after_a_partial_message_are_not_read_as_a_message(
    ctx: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from multiprocessing import queues
    from shoal.multiprocessing import synchronize

    monkeypatch.setattr(synchronize, "_BEFORE_TRACEBACK", 0.0)
    # A pipe of the standard library, under Shoal's locks, as an executor has it.
    queue: Any = queues.SimpleQueue(ctx=ctx)
    told = ctx.Queue()
    # The rest after the size and the head of the outer pickle is another pickle.
    queue.put(pickle.dumps("from the inside").ljust(2000, b"."))
    children = [ctx.Process(target=die_in_a_message, args=(queue,))]
    children += [ctx.Process(target=report_get, args=(queue, told)) for _ in range(2)]
    for child in children:
        child.start()
        if child is children[0]:
            child.join()
    assert [told.get() for _ in range(2)] == [BrokenPipeError] * 2
    for _ in range(2):
        with pytest.raises(BrokenPipeError, match="part of a message"):
            queue.get()
    for child in children:
        child.join()
    # A lock that a program makes goes to the next process.
    lock = ctx.Lock()
    child = ctx.Process(target=take_and_die, args=(lock,))
    child.start()
    child.join()
    assert lock.acquire(timeout=60)


def take_and_die(lock: Any) -> None:
    lock.acquire()
    die()
