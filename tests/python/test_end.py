"""The end of a process: objects can be used until then, and nothing is left after it."""

from __future__ import annotations

import concurrent.futures
import gc
import logging
import logging.handlers
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from multiprocessing import util
from typing import Any, Callable, List

import pytest

import shoal
import shoal.multiprocessing as mp
from conftest import Script, ends_well, objects, wait_until

kept: List[Any] = []


def run(ctx: Any, target: Callable[..., object], *args: Any) -> int:
    """Runs a child; returns its exit code."""
    child = ctx.Process(target=target, args=args)
    child.start()
    child.join()
    code: int = child.exitcode
    return code


# -- what can be used ---------------------------------------------------------------------------


def test_objects_can_be_used_until_the_interpreter_ends(ctx: Any, script: Script) -> None:
    text = """
        import atexit, threading, weakref

        def use(what):
            with lock:
                queue.put(what); value.value += 1
                print(queue.get(timeout=60), flush=True)
        atexit.register(use, "a callback from before the import")
        import shoal.multiprocessing as mp

        class Global:
            def __del__(self):
                self.use("a finalizer of a global")
        def generate():
            mine = use, lock, queue, value
            try: yield
            finally:
                with lock: print("a generator's end", flush=True)
        def wait_with(function):
            threading.Thread(target=function, daemon=True).start()
        if __name__ == "__main__":
            ctx = mp.get_context("METHOD")
            lock, queue, value = ctx.Lock(), ctx.Queue(), ctx.Value("i", 7)
            event, taken, (here, there) = ctx.Event(), ctx.Semaphore(0), ctx.Pipe()
            for function in (ctx.Queue().get, event.wait, here.recv, taken.acquire):
                wait_with(function)
            one, other = Global(), Global()
            one.use = lambda what, use=use: use(what)
            other.use = one.use
            weakref.finalize(other, use, "a weakref's")
            started = generate(); next(started)
        """
    out = ends_well(script(text.replace("METHOD", ctx.get_start_method())))
    assert sorted(set(out.splitlines())) == [
        "a callback from before the import",
        "a finalizer of a global",
        "a generator's end",
        "a weakref's",
    ]


class Written:
    """A stream whose text goes into a queue."""

    def __init__(self, queue: Any) -> None:
        self.write = self.put = queue.put

    def flush(self) -> None:
        self.put("flushed")


def end_busily(told: Any, never: Any) -> None:
    log = util.get_logger()
    log.addHandler(logging.handlers.QueueHandler(told))
    log.setLevel(logging.INFO)
    # Its threads end only when the interpreter ends its threads.
    executor = concurrent.futures.ThreadPoolExecutor(1)
    executor.submit(int).result()
    kept.append(executor)
    taken = mp.Semaphore(0)
    for function in (never.get, mp.Event().wait, taken.acquire):
        threading.Thread(target=function, daemon=True).start()

    def put_late() -> None:
        time.sleep(0.2)
        told.put("a thread that is no daemon")

    threading.Thread(target=put_late).start()
    util.Finalize(None, told.put, args=("a finalizer",), exitpriority=-(10**6))
    sys.stdout = Written(told)  # type: ignore[assignment]


def test_a_child_can_use_objects_until_its_last_line(ctx: Any, capfd: Any) -> None:
    told, never = ctx.Queue(), ctx.Queue()
    assert run(ctx, end_busily, told, never) == 0
    said = [getattr(one, "msg", one) for one in (told.get() for _ in range(told.qsize()))]
    # Python 3.13 and later run finalizers after the process has flushed its streams.
    assert "a finalizer" in said and "flushed" in said and said[-1] in ("flushed", "a finalizer")
    assert said.index("a thread that is no daemon") < said.index("process exiting with exitcode 0")
    assert capfd.readouterr().err == ""


def put_for_ever(queue: Any) -> None:
    while True:
        queue.put(1)
        queue.get()


def leave_a_thread_at_work(queue: Any) -> None:
    threading.Thread(target=put_for_ever, args=(queue,), daemon=True).start()
    time.sleep(0.05)


def leave_threads_waiting(taken: Any, ready: Any) -> None:
    def wait(call: Any) -> None:
        ready.release()
        call()

    here, there = mp.Pipe()
    calls = [mp.Queue().get, mp.Event().wait, here.recv, taken.acquire, mp.Semaphore(0).acquire]
    kept.append(there)
    for call in calls:
        threading.Thread(target=wait, args=(call,), daemon=True).start()
    for _ in calls:
        ready.acquire()


def test_threads_that_wait_when_their_process_ends_make_no_noise(ctx: Any, capfd: Any) -> None:
    taken, ready = ctx.Lock(), ctx.Semaphore(0)
    with taken:
        for other in (ctx, multiprocessing.get_context(ctx.get_start_method())):
            for _ in range(3):
                assert run(other, leave_threads_waiting, taken, ready) == 0
    assert capfd.readouterr().err == ""


def finalize_with(queue: Any, lock: Any) -> None:
    def tell() -> None:
        with lock:
            queue.put("the last finalizer")

    # As the original's queues, whose threads still send then.
    util.Finalize(None, tell, exitpriority=-1000)


def test_a_child_of_the_originals_can_use_objects_in_finalizers(ctx: Any) -> None:
    original = multiprocessing.get_context(ctx.get_start_method())
    queue, lock = ctx.Queue(), ctx.Lock()
    assert run(original, finalize_with, queue, lock) == 0
    assert queue.get(block=False) == "the last finalizer"


def test_a_thread_that_works_when_its_process_ends_prints_nothing(ctx: Any, capfd: Any) -> None:
    queue = ctx.Queue()
    for _ in range(5):
        assert run(ctx, leave_a_thread_at_work, queue) == 0
    assert capfd.readouterr().err == "" and queue.qsize() <= 5
    queue.put("still whole")
    assert "still whole" in [queue.get() for _ in range(queue.qsize())]


@pytest.mark.parametrize("module", ["multiprocessing", "shoal.multiprocessing"])
def test_threads_that_wait_when_their_process_ends_make_no_noise(
    module: str, ctx: Any, script: Script
) -> None:
    text = """
        import MODULE as processes, threading
        import shoal.multiprocessing as mp

        kept = []
        def leave_threads_waiting(queue):
            here, there = mp.Pipe()
            kept.append(there)
            for wait in (queue.get, mp.Queue().get, mp.Event().wait, here.recv):
                threading.Thread(target=wait, daemon=True).start()
            queue.put(1)
        if __name__ == "__main__":
            for _ in range(5):
                child = processes.get_context("METHOD").Process(
                    target=leave_threads_waiting, args=(mp.Queue(),))
                child.start()
                child.join()
                assert child.exitcode == 0
        """
    ends_well(script(text.replace("MODULE", module).replace("METHOD", ctx.get_start_method())))


class Circle:
    def __init__(self, lock: Any, said: List[str]) -> None:
        self.lock, self.said, self.me = lock, said, self

    def __del__(self) -> None:
        with self.lock:
            self.said.append("bye")


def test_a_finalizer_in_a_reference_cycle_can_use_its_objects() -> None:
    gc.collect()
    before, callbacks, said = objects(), list(gc.callbacks), ["before"]
    lock = mp.Lock()
    garbage = [Circle(lock, said), Circle(mp.Lock(), said)]
    del lock, garbage
    gc.collect()
    assert said == ["before", "bye", "bye"]
    assert objects() == before and gc.callbacks == callbacks


# -- what is left -------------------------------------------------------------------------------


def make_globals(how: str) -> None:
    kept.append(mp.Value("i", 1))
    kept.append(mp.Array("d", 10).get_obj())
    manager = mp.Manager()
    kept.append((manager, manager.dict(a=1), manager.list([1]), manager.Array("i", [1])))
    kept.append((mp.Queue(), mp.Pipe(), mp.Lock(), mp.Condition(), shoal.Value("i", 1)))
    mp.Queue().put(mp.Pipe())
    if how == "exit":
        sys.exit(3)
    if how == "raise":
        sys.stderr = open(os.devnull, "w")
        raise ValueError


@pytest.mark.parametrize("how, code", [("return", 0), ("exit", 3), ("raise", 1)])
@pytest.mark.parametrize("module", [mp, multiprocessing])
def test_a_child_that_ends_normally_leaves_nothing(
    ctx: Any, module: Any, how: str, code: int
) -> None:
    before = objects()
    assert run(module.get_context(ctx.get_start_method()), make_globals, how) == code
    assert objects() == before


def send_and_end(queue: Any) -> None:
    here, there = mp.Pipe()
    queue.put(here)


def test_a_connection_that_nobody_received_is_freed_with_its_sender(
    ctx: Any, script: Script
) -> None:
    before, queue = objects(), ctx.Queue()
    assert run(ctx, send_and_end, queue) == 0
    queue.close()
    assert objects() == before
    ends_well(
        script(
            """
            import shoal.multiprocessing as mp
            queue, (here, there) = mp.Queue(), mp.Pipe()
            queue.put(here)
            """
        )
    )
    assert objects() == before


# -- permits and locks after the end -------------------------------------------------------------


def take(how: str, one: Any) -> None:
    one.acquire()
    if how == "exit":
        sys.exit(3)
    if how == "raise":
        sys.stderr = open(os.devnull, "w")
        raise ValueError
    if how == "exit at once":
        os._exit(0)
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "terminate":
        os.kill(os.getpid(), signal.SIGTERM)
    if how == "exec":
        os.execv("/bin/true", ["true"])


ENDS = ["return", "exit", "raise"]
KILLS = ["exit at once", "kill", "terminate", "exec"]


@pytest.mark.parametrize("how", ENDS + KILLS)
def test_permits_stay_taken_unless_their_process_is_killed(ctx: Any, how: str) -> None:
    permits, bounded = ctx.Semaphore(3), ctx.BoundedSemaphore(2)
    run(ctx, take, how, permits)
    run(ctx, take, how, bounded)
    taken = how in ENDS
    assert permits.get_value() == 3 - taken and bounded.get_value() == 2 - taken
    if taken:
        permits.release()
        bounded.release()
    assert permits.get_value() == 3
    with pytest.raises(ValueError):
        bounded.release()


def take_and_forget(pickled: bytes, ready: Any) -> None:
    pickle.loads(pickled).acquire()
    ready.set()
    time.sleep(60)


def test_permits_stay_taken_when_their_process_forgets_the_semaphore() -> None:
    ctx = mp.get_context("spawn")
    permits, ready = ctx.Semaphore(3), ctx.Event()
    child = ctx.Process(target=take_and_forget, args=(pickle.dumps(permits), ready))
    child.start()
    assert ready.wait(60)
    assert permits.get_value() == 2
    # A permit without an owner is not released by a kill either.
    child.kill()
    child.join()
    assert permits.get_value() == 2


@pytest.mark.parametrize("how", ENDS + KILLS)
def test_a_lock_goes_to_the_next_however_its_owner_ends(ctx: Any, how: str) -> None:
    for lock in (ctx.Lock(), ctx.RLock()):
        run(ctx, take, how, lock)
        assert lock.acquire(timeout=60)


@pytest.mark.parametrize("how", ENDS + KILLS)
def test_permits_of_a_shoal_semaphore_are_released_however_their_owner_ends(how: str) -> None:
    permits = shoal.Semaphore(3)
    run(mp.get_context("fork"), take, how, permits)
    assert permits.get_value() == 3


def test_permits_stay_taken_when_their_program_ends(script: Script) -> None:
    permits = mp.Semaphore(3)
    text = """
        import pickle, sys, shoal.multiprocessing
        permits = pickle.loads(bytes.fromhex(sys.argv[1]))
        permits.acquire()
        if sys.argv[2] == "exit": sys.exit()
        """
    for how in ("return", "exit"):
        ends_well(script(text, pickle.dumps(permits).hex(), how))
    assert permits.get_value() == 1


def test_objects_of_a_process_that_calls_os_exit_are_collected(ctx: Any) -> None:
    before = objects()
    assert run(ctx, make_and_exit_at_once) == 0
    assert len(objects() - before) == 1
    wait_until(lambda: shoal.gc() >= 0 and objects() == before)


def make_and_exit_at_once() -> None:
    kept.append(mp.Queue())
    os._exit(0)
