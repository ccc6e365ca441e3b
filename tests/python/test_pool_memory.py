"""A pool whose workers find no room in shared memory. Forked workers inherit what a test replaces."""

from __future__ import annotations

import time
from typing import Any, List

import pytest

import shoal
import shoal.multiprocessing as mp
from shoal import _worker
from shoal.multiprocessing.pool import WorkerDiedError

fork = mp.get_context("fork")


def square(x: int) -> int:
    return x * x


def slow_square(x: int) -> int:
    time.sleep(0.01)
    return x * x


def pids(pool: Any) -> List[int]:
    return [worker.pid for worker in pool._pool]


def full(*_: object, **__: object) -> Any:
    raise shoal.NoSpaceError("no space: 4096 more bytes do not fit")


def test_tasks_that_cannot_be_leased_fail_and_the_workers_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(shoal.Queue, "lease", full)
        pool = fork.Pool(2)
    with pool:
        before = pids(pool)
        waited_for = [pool.apply_async(square, (x,)) for x in range(8)]
        for result in [*waited_for, pool.map_async(square, range(8))]:
            with pytest.raises(shoal.NoSpaceError, match="4096 more bytes"):
                result.get()
        assert pids(pool) == before and pool._engine.broken is None


def test_a_task_waits_for_the_memory_of_another_and_is_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lease = shoal.Queue.lease

    def one_at_a_time(self: Any, *args: Any, **more: Any) -> Any:
        return full() if self.leased else lease(self, *args, **more)

    with monkeypatch.context() as patch:
        patch.setattr(shoal.Queue, "lease", one_at_a_time)
        pool = fork.Pool(2)
    with pool:
        assert pool.map(slow_square, range(20), chunksize=1) == [x * x for x in range(20)]


def test_a_small_answer_waits_for_room(monkeypatch: pytest.MonkeyPatch) -> None:
    put_bytes = shoal.Queue.put_bytes
    left = 5

    def sometimes_full(self: Any, *args: Any, **more: Any) -> Any:
        nonlocal left
        left -= 1
        return full() if left > 0 else put_bytes(self, *args, **more)

    with monkeypatch.context() as patch:
        # Workers put nothing but results. The first one is the message that they are ready.
        patch.setattr(shoal.Queue, "put_bytes", sometimes_full)
        pool = fork.Pool(1)
    with pool:
        before = pids(pool)
        assert pool.map(square, range(4)) == [0, 1, 4, 9]
        assert pids(pool) == before


def test_workers_that_start_and_cannot_take_a_task_are_not_replaced_forever(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(self: Any) -> Any:
        raise RuntimeError("no memory")

    monkeypatch.setattr(_worker.Tasks, "take", fail)
    with fork.Pool(2) as pool:
        with pytest.raises(WorkerDiedError, match="4 workers in a row"):
            pool.map(square, range(10))
        with pytest.raises(WorkerDiedError):
            pool.apply(square, (1,))
    assert "no memory" in capfd.readouterr().err


def test_idle_workers_that_are_killed_break_no_pool() -> None:
    with fork.Pool(1) as pool:
        for x in range(5):
            for _ in range(3):
                worker = pool._pool[0]
                number = pool._engine._living[worker]
                # Killed once it is ready, before its first result. Two workers in a row that are killed before
                # they are ready do break the pool, so another worker's readiness does not count.
                while worker.exitcode is None:
                    if number in pool._engine._ready:
                        worker.kill()
                    time.sleep(0.001)
                while pool._pool[0] is worker:
                    time.sleep(0.001)
            assert pool.apply(square, (x,)) == x * x
