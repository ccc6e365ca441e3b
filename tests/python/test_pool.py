"""`shoal.multiprocessing.Pool`: the original's behaviour, and kills that break the original."""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
import time
from typing import Any, Dict, Iterator, List

import pytest

import shoal
import shoal.multiprocessing as mp
from shoal import _worker
from conftest import START_METHODS, Script, ends_well, wait_until
from shoal.multiprocessing.pool import WorkerDiedError


def square(x: int) -> int:
    return x * x


def die_of(x: int, victim: int, how: str) -> int:
    if x == victim:
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        os._exit(0) if how == "exit" else sys.exit()
    return x


@pytest.mark.parametrize("how", ["kill", "exit", "sys.exit"])
def test_the_task_of_a_worker_that_dies_fails_and_the_others_do_not(ctx: Any, how: str) -> None:
    with ctx.Pool(2) as pool:
        results = [pool.apply_async(die_of, (x, 5, how)) for x in range(20)]
        for x, result in enumerate(results):
            if x == 5:
                with pytest.raises(WorkerDiedError, match="died"):
                    result.get()
            else:
                assert result.get() == x
        with pytest.raises(mp.ProcessError):
            pool.map(functools.partial(die_of, victim=3, how=how), range(6), chunksize=1)
        # It has filled up again.
        assert pool.map(square, range(100)) == [x * x for x in range(100)]
        wait_until(lambda: all(worker.is_alive() for worker in pool._pool))
        assert len(pool._pool) == 2


def test_an_iterator_over_results_raises_for_a_death_and_continues(ctx: Any) -> None:
    with ctx.Pool(2) as pool:
        found = pool.imap(functools.partial(die_of, victim=2, how="kill"), range(5))
        assert [next(found), next(found)] == [0, 1]
        with pytest.raises(WorkerDiedError):
            next(found)
        assert list(found) == [3, 4]


def test_idle_workers_that_are_killed_are_replaced(ctx: Any) -> None:
    with ctx.Pool(3) as pool:
        assert pool.map(square, range(9)) == [x * x for x in range(9)]
        before = [worker.pid for worker in pool._pool]
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        assert pool.map(square, range(30), chunksize=1) == [x * x for x in range(30)]
        wait_until(lambda: not set(before) & {worker.pid for worker in pool._pool})


def kill_now_and_then(x: int) -> int:
    if x % 50 == 49:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def test_workers_killed_at_any_time_lose_only_their_own_task() -> None:
    # Workers are also killed by another thread, at random moments: for example between a result and its ack.
    with mp.get_context("fork").Pool(4) as pool:
        over = threading.Event()

        def reaper() -> None:
            while not over.wait(0.003):
                if pool._engine._failed_starts >= 4:
                    # Pauses the kills: the pool gives up after eight workers that end before they are ready.
                    continue
                try:
                    os.kill(pool._pool[0].pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass

        thread = threading.Thread(target=reaper)
        thread.start()
        try:
            results = [pool.apply_async(kill_now_and_then, (x,)) for x in range(2000)]
            died = 0
            for x, result in enumerate(results):
                try:
                    assert result.get() == x and x % 50 != 49
                except WorkerDiedError:
                    died += 1
        finally:
            over.set()
            thread.join()
        assert 40 <= died < 2000
        assert pool.map(square, range(100)) == [x * x for x in range(100)]


def test_a_result_that_was_sent_just_before_a_death_counts_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Workers, which are forked, die between sending a result and acking the task.
    done = _worker.Tasks.done
    lives = mp.get_context("fork").Value("i", 5)

    def die_first(tasks: Any, lease: shoal.Lease) -> None:
        with lives.get_lock():
            lives.value -= 1
            if lives.value >= 0:
                os.kill(os.getpid(), signal.SIGKILL)
        done(tasks, lease)

    monkeypatch.setattr(_worker.Tasks, "done", die_first)
    with mp.get_context("fork").Pool(2) as pool:
        assert pool.map(square, range(40), chunksize=1) == [x * x for x in range(40)]
        lives.value = 5
        found = sorted(pool.imap_unordered(square, range(40)))
        assert found == [x * x for x in range(40)]


def fail_to_start() -> None:
    raise RuntimeError("no database")


def test_workers_that_cannot_start_fail_the_tasks_and_are_not_replaced_forever(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with mp.Pool(2, initializer=fail_to_start) as pool:
        with pytest.raises(WorkerDiedError, match="4 workers in a row"):
            pool.map(square, range(10))
        with pytest.raises(WorkerDiedError):
            pool.apply(square, (1,))
        with pytest.raises(WorkerDiedError):
            next(pool.imap(square, [1]))
    assert "no database" in capfd.readouterr().err


def test_unfinished_tasks_of_a_terminated_pool_fail() -> None:
    with mp.Pool(2) as pool:
        endless = pool.map_async(time.sleep, [1000] * 10, chunksize=1)
        called: List[object] = []
        single = pool.apply_async(time.sleep, (1000,), error_callback=called.append)
        several = pool.imap(time.sleep, [1000] * 3)
    pool.join()
    for waiting in (endless.get, single.get, lambda: next(several)):
        with pytest.raises(mp.ProcessError, match="terminated"):
            waiting()
    assert called == []
    with pytest.raises(ValueError):
        pool.map(square, [1])


def test_a_callback_that_raises_does_not_block_the_others(
    capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: object) -> None:
        raise KeyError("a callback's own mistake")

    with mp.Pool(2) as pool:
        assert pool.apply_async(square, (3,), callback=fail).get() == 9
        assert pool.map_async(square, range(5), callback=fail).get() == [0, 1, 4, 9, 16]
        with pytest.raises(TypeError):
            pool.apply_async(square, ("x",), error_callback=fail).get()
        assert pool.map(square, range(5)) == [0, 1, 4, 9, 16]
    assert capsys.readouterr().err.count('KeyError: "a callback') == 3


def die_of_signal_40() -> None:
    os.kill(os.getpid(), 40)


def test_a_signal_without_a_name_is_reported_by_its_number() -> None:
    with mp.Pool(1) as pool:
        with pytest.raises(WorkerDiedError):
            pool.apply(die_of_signal_40)
        assert pool.apply(square, (3,)) == 9


class Unloadable:
    """Can be pickled, and not be unpickled where it arrives."""

    def __reduce__(self) -> Any:
        return (int, ("not a number",))


def unloadable() -> Unloadable:
    return Unloadable()


def no_result() -> Any:
    return lambda: None


def test_a_result_that_cannot_be_pickled_is_an_error_and_no_hang() -> None:
    with mp.Pool(1) as pool:
        with pytest.raises(mp.pool.MaybeEncodingError):
            pool.apply(no_result)
        with pytest.raises(ValueError, match="not a number"):
            pool.apply(unloadable)
        with pytest.raises(ValueError, match="not a number"):
            pool.apply(square, (Unloadable(),))
        assert pool.apply(square, (3,)) == 9


class Counter:
    """What a task does to the object its method belongs to is not seen by the next task."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, n: int) -> int:
        self.count += n
        return self.count


def test_every_task_has_its_own_copy_of_a_bound_methods_object() -> None:
    with mp.Pool(1) as pool:
        assert pool.map(Counter().add, [1, 1, 1], chunksize=1) == [1, 1, 1]


def endless(seen: List[int]) -> Iterator[int]:
    for n in range(10**9):
        seen.append(n)
        yield n


def test_an_endless_iterable_does_not_fill_the_memory() -> None:
    seen: List[int] = []
    with mp.Pool(2) as pool:
        results = pool.imap(time.sleep, (0.001 for _ in endless(seen)))
        for _ in range(20):
            next(results)
        assert len(seen) < 10_000


def test_a_generator_may_wait_for_results_of_its_earlier_tasks() -> None:
    room = threading.Semaphore(2)

    def bounded() -> Iterator[int]:
        for n in range(50):
            room.acquire()
            yield n

    with mp.Pool(2) as pool:
        for n, result in enumerate(pool.imap(square, bounded())):
            assert result == n * n
            room.release()


def test_large_tasks_and_results_wait_for_each_other() -> None:
    big = bytes(3_000_000)
    with mp.Pool(2) as pool:
        for result in pool.imap(bytes, (big for _ in range(40))):
            assert result == big


def make(queue: Any, n: int) -> Any:
    queue.put(n)
    return n, queue


def test_queues_locks_and_dicts_go_into_a_pool_and_come_back(ctx: Any) -> None:
    queue, lock, table = ctx.Queue(), ctx.Lock(), ctx.Manager().dict()
    with ctx.Pool(2) as pool:
        n, same = pool.apply(make, (queue, 4))
        assert n == 4 and same.get() == 4
        assert pool.apply(holds, (lock,)) is False
        pool.starmap(table.__setitem__, [("a", 1), ("b", 2)])
        assert table.copy() == {"a": 1, "b": 2}


def holds(lock: Any) -> bool:
    with lock:
        return not lock.locked()


def seen_devices(_: object) -> Any:
    time.sleep(0.2)
    return os.environ.get("CUDA_VISIBLE_DEVICES")


def test_devices_rotate_over_the_workers(ctx: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5,7")
    with ctx.Pool(4, devices="rotate") as pool:
        assert set(pool.map(seen_devices, range(4), chunksize=1)) <= {"3", "5", "7"}
        before: Dict[int, Any] = {worker.pid: worker for worker in pool._pool}
        environments = [environment(pid) for pid in before] if ctx._name == "spawn" else []
        assert environments in ([], ["3", "5", "7", "3"])
    with ctx.Pool(2, devices=[0, 2]) as pool:
        assert pool.apply(seen_devices, (0,)) == "3,7"


def environment(pid: int) -> str:
    with open(f"/proc/{pid}/environ") as file:
        pairs = dict(pair.split("=", 1) for pair in file.read().split("\0") if pair)
    return pairs["CUDA_VISIBLE_DEVICES"]


def test_devices_that_cannot_rotate_are_an_error_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(shoal.InvalidError, match="no cuda device"):
        mp.Pool(2, devices="rotate")
    monkeypatch.delenv("HIP_VISIBLE_DEVICES", raising=False)
    with pytest.raises(shoal.InvalidError, match="rotate"):
        mp.Pool(2, devices="rotate", family="rocm")
    with pytest.raises(shoal.InvalidError):
        mp.Pool(1, devices=[99])


def test_ctrl_c_ends_the_pool_and_its_workers(script: Script) -> None:
    program = script(
        """
        import time
        import shoal.multiprocessing as mp

        def work(n):
            # In one piece: the others write it at the same time.
            print("at work\\n", end="", flush=True)
            time.sleep(1000)

        if __name__ == "__main__":
            try:
                with mp.Pool(3) as pool:
                    waiting = pool.map_async(work, range(100), chunksize=1)
                    waiting.get()
            except KeyboardInterrupt:
                print("interrupted", flush=True)
        """,
        start_new_session=True,
    )
    assert program.stdout is not None
    for _ in range(3):
        assert program.stdout.readline() == "at work\n"
    os.killpg(program.pid, signal.SIGINT)
    assert "interrupted" in ends_well(program)


def test_workers_end_with_a_parent_that_is_killed(script: Script) -> None:
    program = script(
        """
        import time
        import shoal.multiprocessing as mp

        if __name__ == "__main__":
            pool = mp.Pool(2)
            pool.map(abs, range(10))
            print(*(worker.pid for worker in pool._pool), flush=True)
            time.sleep(1000)
        """
    )
    assert program.stdout is not None
    workers = [int(pid) for pid in program.stdout.readline().split()]
    program.kill()
    program.wait()
    wait_until(lambda: not any(is_running(pid) for pid in workers))
    shoal.gc()


def is_running(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(") ", 1)[1][0] != "Z"
    except OSError:
        # It does not exist, or ended between the open and the read.
        return False


@pytest.mark.parametrize(
    "end", ["pool.close(); pool.join()", "pool.terminate(); pool.join()", "pool.terminate()", ""]
)
def test_a_pool_prints_nothing_however_it_ends(script: Script, end: str) -> None:
    program = script(f"""
        import shoal.multiprocessing as mp

        def square(x):
            return x * x

        if __name__ == "__main__":
            pool = mp.Pool(2)
            print(pool.map(square, range(4)))
            {end}
        """)
    assert ends_well(program) == "[0, 1, 4, 9]\n"


def after(event: Any, x: int) -> int:
    if x:
        event.wait()
    return x


def test_imap_unordered_yields_each_result_as_soon_as_it_is_ready(ctx: Any) -> None:
    event = ctx.Event()
    with ctx.Pool(2) as pool:
        results = pool.imap_unordered(functools.partial(after, event), range(3))
        # As a progress bar needs it: the others are not ready.
        assert next(results) == 0
        event.set()
        assert sorted(results) == [1, 2]


class Raises:
    """Raises something other than an `Exception` where it is pickled or unpickled."""

    def __init__(self, error: BaseException, here: bool = False) -> None:
        self.error, self.here = error, here

    def __reduce__(self) -> Any:
        if self.here:
            raise self.error
        return _raise, (self.error,)


def _raise(error: BaseException) -> None:
    raise error


def make_raising(error: BaseException) -> Raises:
    return Raises(error)


def numbers_and(error: BaseException) -> Iterator[int]:
    yield 1
    raise error


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_an_exit_outside_a_worker_fails_its_task_and_not_the_pool(
    ctx: Any, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: List[Any] = []
    monkeypatch.setattr(sys, "excepthook", lambda *args: told.append(args[0]))
    name = type(error).__name__
    with ctx.Pool(2) as pool:
        for attempt in (
            # Where the result arrives, where the task is pickled, and in the program's iterable.
            lambda: pool.apply(make_raising, (error,)),
            lambda: pool.map(make_raising, [error]),
            lambda: next(pool.imap(make_raising, [error])),
            lambda: pool.apply(square, (Raises(error, here=True),)),
            lambda: list(pool.imap_unordered(square, numbers_and(error))),
        ):
            with pytest.raises(mp.ProcessError, match=name) as caught:
                attempt()
            assert type(caught.value.__cause__) is type(error)
        # In a callback too.
        pool.apply_async(square, (3,), callback=lambda _: _raise(error)).wait()
        wait_until(lambda: told == [type(error)])
        assert pool.map(square, range(5)) == [0, 1, 4, 9, 16]


class Failing:
    """An iterable of ten numbers that fails at the third."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __len__(self) -> int:
        return 10

    def __iter__(self) -> Iterator[int]:
        yield from (1, 2)
        raise self._error


@pytest.mark.parametrize("error", [ValueError("no third"), SystemExit(3), KeyboardInterrupt()])
def test_an_iterable_that_fails_fails_its_job_and_not_the_pool(error: BaseException) -> None:
    expected: Any = type(error) if isinstance(error, Exception) else mp.ProcessError
    with mp.Pool(2) as pool:
        for size in (1, 2):
            with pytest.raises(expected):
                pool.map(square, Failing(error), size)
            numbers = pool.imap(square, Failing(error), size)
            if size == 1:
                assert [next(numbers), next(numbers)] == [1, 4]
            with pytest.raises(expected):
                list(numbers)
            assert list(numbers) == []
        assert pool.map(square, range(5)) == [0, 1, 4, 9, 16]


@pytest.mark.parametrize("method", START_METHODS)
def test_a_pool_can_be_used_when_the_program_is_over(script: Script, method: str) -> None:
    program = """
        import atexit, sys
        import shoal.multiprocessing as mp
        sys.modules["cloudpickle"] = None

        def square(x):
            return x * x

        def end():
            print(pool.map(square, range(3)))
            pool.terminate()

        if __name__ == "__main__":
            pool = mp.get_context(sys.argv[1]).Pool(1)
            atexit.register(end)
    """
    assert ends_well(script(program, method)) == "[0, 1, 4]\n"


def test_a_pool_whose_workers_other_code_reaps_replaces_them_and_is_idle(script: Script) -> None:
    text = """
        import os, signal, time
        import shoal.multiprocessing as mp

        def pid(_):
            return os.getpid()

        def collect(*_):
            try:
                while os.waitpid(-1, os.WNOHANG)[0]: pass
            except ChildProcessError:
                pass

        if __name__ == "__main__":
            signal.signal(signal.SIGCHLD, HANDLER)
            ctx = mp.get_context("METHOD")
            child = ctx.Process(target=pid, args=(1,))
            child.start(); child.join()
            assert child.exitcode in (0, 255) and not child.is_alive()
            with ctx.Pool(2, maxtasksperchild=1) as pool:
                print(len(set(pool.map(pid, range(6), 1))))
            with ctx.Pool(2) as pool:
                os.kill(pool.apply(pid, (1,)), signal.SIGKILL)
                engine, looks = pool._engine, []
                reap = engine.reap
                engine.reap = lambda: looks.append(1) or reap()
                print(pool.apply(abs, (-3,)))
                # Its pipe is closed shortly before a process ends, and the pool checks for the end.
                time.sleep(0.5)
                looks.clear()
                time.sleep(0.5)
                print(len(looks) < 100)
                pool.close(); pool.join()
        """
    for method in ("fork", "spawn"):
        for handler in ("signal.SIG_IGN", "collect"):
            program = script(text.replace("METHOD", method).replace("HANDLER", handler))
            assert ends_well(program) == "6\n3\nTrue\n"


def fail_late(gate: Any) -> None:
    gate.acquire()
    raise RuntimeError("no database")


def test_a_callback_that_raises_while_the_pool_breaks_does_not_block_the_others(
    capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(_: object) -> None:
        raise KeyError("a callback's own mistake")

    gate = mp.Semaphore(0)
    with mp.Pool(1, initializer=fail_late, initargs=(gate,)) as pool:
        waited_for = [
            pool.apply_async(square, (3,), error_callback=fail),
            pool.map_async(square, [1, 2], error_callback=fail),
            pool.apply_async(square, (4,)),
        ]
        gate.release(2)
        for result in waited_for:
            with pytest.raises(WorkerDiedError, match="2 workers in a row"):
                result.get()
    assert capfd.readouterr().err.count('KeyError: "a callback') == 2
