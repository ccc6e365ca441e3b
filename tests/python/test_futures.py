"""`shoal.futures.ProcessPoolExecutor`: the original's interface and additional promises."""

from __future__ import annotations

import asyncio
import concurrent.futures
import multiprocessing as std
import os
import pickle
import threading
import time
import weakref
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, List

import pytest

import shoal
import shoal.multiprocessing as mp
from conftest import Script, ends_well, interrupt_everywhere, wait_until
from shoal.futures import ProcessPoolExecutor
from tasks import die, fail, initialise, raises_when_unpickled, see_initialised, square


def leave(code: int) -> None:
    raise SystemExit(code)


def end_quietly() -> None:
    os._exit(0)


def note(folder: Path, number: int) -> None:
    (folder / str(number)).touch()


def sleep_for(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def test_calls_run_and_their_errors_are_raised(ctx: Any) -> None:
    with ProcessPoolExecutor(2, mp_context=ctx, initializer=initialise, initargs=(7,)) as executor:
        assert isinstance(executor, concurrent.futures.ProcessPoolExecutor)
        assert list(executor.map(square, range(500))) == [n * n for n in range(500)]
        assert list(executor.map(pow, [2] * 10, range(10), chunksize=3)) == [
            2**n for n in range(10)
        ]
        assert list(executor.map(square, [], chunksize=3)) == []
        future = executor.submit(see_initialised)
        assert type(future) is concurrent.futures.Future and future.result() == [7]
        with pytest.raises(LookupError, match="wrong") as caught:
            executor.submit(fail, "wrong").result()
        assert "raise LookupError" in str(caught.value.__cause__)
        with pytest.raises(SystemExit):
            executor.submit(leave, 3).result()
        for call in (executor.submit(lambda: None), executor.submit(threading.Lock)):
            with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
                call.result()
        large = executor.submit(bytes, 3 << 20).result()
        assert large == bytes(3 << 20)
        assert executor.submit(len, large).result() == 3 << 20
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(square, 2)


def test_it_works_with_a_context_of_the_standard_library() -> None:
    for method in ("fork", "spawn"):
        with ProcessPoolExecutor(1, mp_context=std.get_context(method)) as executor:
            assert executor.submit(square, 7).result() == 49


@pytest.mark.parametrize("death", [die, end_quietly, raises_when_unpickled])
def test_a_workers_death_breaks_it_and_ends_all_waits(ctx: Any, death: Any) -> None:
    with ProcessPoolExecutor(2, mp_context=ctx) as executor:
        # The worker dies only after all calls were submitted, because then no call can be submitted.
        unfinished, gate = [executor.submit(time.sleep, 60)], ctx.Event()
        executor.submit(gate.wait, 30)
        unfinished.append(executor.submit(death))
        unfinished += [executor.submit(square, n) for n in range(100)]
        gate.set()
        for future in unfinished:
            try:
                # Some calls may be done before.
                assert future.result(60) in [n * n for n in range(100)]
            except BrokenProcessPool:
                pass
        assert isinstance(unfinished[0].exception(), BrokenProcessPool)
        with pytest.raises(BrokenProcessPool):
            executor.submit(square, 2)


def test_an_initializer_that_fails_breaks_it(ctx: Any, capfd: Any) -> None:
    with ProcessPoolExecutor(2, mp_context=ctx, initializer=fail, initargs=("no",)) as executor:
        with pytest.raises(BrokenProcessPool):
            executor.submit(square, 2).result(60)


def test_waits_for_cancelled_calls_end_when_it_breaks(ctx: Any) -> None:
    with ProcessPoolExecutor(1, mp_context=ctx) as executor:
        gate = ctx.Event()
        executor.submit(gate.wait, 30)
        calls = [executor.submit(die)] + [executor.submit(square, n) for n in range(20)]
        assert calls[-1].cancel()
        gate.set()
        assert not concurrent.futures.wait(calls, 60).not_done
        assert calls[-1].cancelled() and isinstance(calls[-2].exception(), BrokenProcessPool)


def test_calls_start_in_the_order_they_were_submitted(ctx: Any) -> None:
    order = ctx.Queue()
    with ProcessPoolExecutor(1, mp_context=ctx) as executor:
        for number in range(2000):
            executor.submit(order.put, number)
    assert [order.get() for _ in range(2000)] == list(range(2000))


def test_a_cancelled_call_never_runs(ctx: Any, tmp_path: Path) -> None:
    with ProcessPoolExecutor(1, mp_context=ctx) as executor:
        # So that many calls are queued when the slow one starts.
        list(executor.map(square, range(3000)))
        gate = ctx.Event()
        slow = executor.submit(gate.wait, 30)
        later = [executor.submit(note, tmp_path, n) for n in range(300)]
        cancelled = {n for n, future in enumerate(later) if n >= 5 and future.cancel()}
        assert not slow.done() and len(cancelled) == 295
        gate.set()
    ran = {int(path.name) for path in tmp_path.iterdir()}
    assert ran == set(range(300)) - cancelled
    assert all(future.done() for future in later)


def test_slow_calls_behind_fast_ones_can_be_cancelled() -> None:
    with ProcessPoolExecutor(1, mp_context=mp.get_context("fork")) as executor:
        started = time.monotonic()
        calls = [executor.submit(sleep_for, 0.0) for _ in range(3000)]
        slow = [executor.submit(sleep_for, 0.4) for _ in range(100)]
        concurrent.futures.wait(calls)
        # Before the first is done, those in the queue may not have been put there yet.
        wait_until(lambda: slow[0].done() and sum(future.running() for future in slow) <= 2)
        assert sum(future.cancel() for future in slow) >= 90
        assert time.monotonic() - started < 60


def test_a_shutdown_can_cancel_calls_that_have_not_begun(ctx: Any) -> None:
    executor = ProcessPoolExecutor(1, mp_context=ctx)
    list(executor.map(square, range(1000)))
    gate = ctx.Event()
    executor.submit(gate.wait, 30)
    later = [executor.submit(sleep_for, 0.05) for _ in range(300)]
    # The worker continues while the shutdown cancels the last one.
    later[-1].add_done_callback(lambda _: gate.set())
    executor.shutdown(cancel_futures=True)
    done, others = concurrent.futures.wait(later, 60)
    assert not others and sum(future.cancelled() for future in later) >= 290
    assert all(future.result() == 0.05 for future in later if not future.cancelled())


def test_a_shutdown_without_waiting_completes_submitted_calls(ctx: Any) -> None:
    executor = ProcessPoolExecutor(2, mp_context=ctx)
    later = [executor.submit(sleep_for, 0.01) for _ in range(20)]
    executor.shutdown(wait=False)
    assert [future.result(60) for future in later] == [0.01] * 20
    executor.shutdown()


def test_workers_are_replaced_after_their_number_of_calls() -> None:
    with ProcessPoolExecutor(1, max_tasks_per_child=2) as executor:
        pids = [executor.submit(os.getpid).result() for _ in range(5)]
    assert pids[0] == pids[1] != pids[2] == pids[3] != pids[4]
    with pytest.raises(ValueError, match="fork"):
        ProcessPoolExecutor(mp_context=mp.get_context("fork"), max_tasks_per_child=2)


def test_an_executor_without_references_finishes_and_ends(ctx: Any) -> None:
    executor = ProcessPoolExecutor(2, mp_context=ctx)
    results = executor.map(square, range(100))
    manager, gone = executor._executor_manager_thread, weakref.ref(executor)
    del executor
    assert gone() is None and list(results) == [n * n for n in range(100)]
    assert manager is not None
    manager.join(60)
    assert not manager.is_alive()


def test_arguments_that_only_the_call_holds_live_until_it_is_done(ctx: Any) -> None:
    with ProcessPoolExecutor(1, mp_context=ctx) as executor:
        executor.submit(time.sleep, 0.2)
        puts = []
        for number in range(3):
            # A message contains only the name of the queue.
            puts.append(executor.submit(shoal.Queue().put, number))
        assert [future.result(60) for future in puts] == [None] * 3


def test_a_callback_can_submit(ctx: Any) -> None:
    with ProcessPoolExecutor(2, mp_context=ctx) as executor:
        more: List[Any] = []
        for what in (square, lambda number: number):
            first = executor.submit(what, 3)
            first.add_done_callback(lambda future: more.append(executor.submit(square, 4)))
            concurrent.futures.wait([first])
        wait_until(lambda: len(more) == 2)
        assert [future.result(60) for future in more] == [16, 16]


def test_an_event_loop_runs_calls_in_it(ctx: Any) -> None:
    async def main() -> List[int]:
        loop = asyncio.get_running_loop()
        with ProcessPoolExecutor(2, mp_context=ctx) as executor:
            calls = [loop.run_in_executor(executor, square, n) for n in range(20)]
            return await asyncio.gather(*calls)

    assert asyncio.run(main()) == [n * n for n in range(20)]


def test_submitted_calls_complete_before_the_program_ends(ctx: Any, script: Script) -> None:
    text = """
        import time
        import shoal.futures, shoal.multiprocessing as mp
        if __name__ == "__main__":
            executor = shoal.futures.ProcessPoolExecutor(2, mp_context=mp.get_context("METHOD"))
            executor.submit(time.sleep, 0.2)
            late = executor.submit(pow, 2, 5)
            late.add_done_callback(lambda future: print(future.result(), flush=True))
        """
    assert ends_well(script(text.replace("METHOD", ctx.get_start_method()))) == "32\n"


def test_a_forked_child_cannot_use_it_and_does_not_disturb_it() -> None:
    ctx = mp.get_context("fork")
    with ProcessPoolExecutor(1, mp_context=ctx) as executor:
        assert executor.submit(square, 3).result() == 9
        child = ctx.Process(target=use_parents, args=(executor,))
        child.start()
        child.join()
        assert child.exitcode == 0
        assert executor.submit(square, 4).result(60) == 16


def use_parents(executor: Any) -> None:
    with executor, pytest.raises(BrokenProcessPool, match="parent"):
        executor.submit(square, 2)


class Interrupted:
    """Ctrl-C comes while it is pickled."""

    def __reduce__(self) -> Any:
        raise KeyboardInterrupt


def test_ctrl_c_while_a_call_is_pickled_is_the_programs(ctx: Any) -> None:
    with ProcessPoolExecutor(1, mp_context=ctx) as executor:
        for _ in range(5):
            with pytest.raises(KeyboardInterrupt):
                executor.submit(square, Interrupted())
            assert executor.submit(square, 3).result() == 9
        assert not executor._dispatcher.futures and not executor._dispatcher.waiting


def test_ctrl_c_at_any_instruction_of_submit_loses_no_other_call() -> None:
    with ProcessPoolExecutor(1, mp_context=mp.get_context("fork")) as executor:
        dispatcher = executor._dispatcher
        expected: List[Any] = []

        def submit() -> None:
            # The third one waits until the first one is done, if there was no interruption.
            for number in range(3):
                expected.append((executor.submit(square, number), number * number))

        def check(place: str) -> None:
            for future, value in expected:
                assert future.result(30) == value, place
            expected.clear()
            wait_until(lambda: not (dispatcher.futures or dispatcher.ready or dispatcher.waiting))

        executor.submit(square, 1).result()
        functions = [ProcessPoolExecutor.submit, type(dispatcher).add, type(dispatcher).make_ready]
        assert interrupt_everywhere(submit, functions, check) > 20
