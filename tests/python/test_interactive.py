"""Functions defined where no other process can import them, as in a notebook."""

from __future__ import annotations

import importlib.util
import pickle
import subprocess
import sys
import threading
from typing import Any

import pytest

import shoal.multiprocessing as mp
from conftest import START_METHODS, WATCHDOG

HAS_CLOUDPICKLE = importlib.util.find_spec("cloudpickle") is not None

WITH_PROCESS = """
import shoal.multiprocessing as mp
ctx = mp.get_context({method!r})
def work(queue): queue.put(SEVEN * 6)
SEVEN = 7
queue = ctx.Queue()
child = ctx.Process(target=work, args=(queue,))
child.start()
child.join()
print(queue.get(), child.exitcode)
"""
WITH_POOL = """
import shoal.multiprocessing as mp
def work(n): return SEVEN * n
SEVEN = 7
with mp.get_context({method!r}).Pool(2) as pool:
    print(pool.map(work, range(4)), pool.apply(work, (6,)))
"""
HIDE = "import sys; sys.modules['cloudpickle'] = None\n"


def run(program: str) -> "subprocess.CompletedProcess[str]":
    # Like a notebook: no file, and no name to import it by.
    return subprocess.run(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        timeout=WATCHDOG,
    )


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
@pytest.mark.parametrize("program", [WITH_PROCESS, WITH_POOL])
def test_without_cloudpickle_the_error_gives_advice_in_one_line(program: str, method: str) -> None:
    done = run(HIDE + program.format(method=method))
    assert done.returncode == 1
    last = done.stderr.rstrip().splitlines()[-1]
    assert "'work' was defined interactively" in last and "cloudpickle" in last


@pytest.mark.skipif(not HAS_CLOUDPICKLE, reason="cloudpickle is not installed")
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_with_cloudpickle_such_a_function_is_sent_as_its_code(method: str) -> None:
    done = run(WITH_PROCESS.format(method=method))
    assert (done.stdout, done.stderr) == ("42 0\n", "")
    done = run(WITH_POOL.format(method=method))
    assert (done.stdout, done.stderr) == ("[0, 7, 14, 21] 42\n", "")


@pytest.mark.parametrize("program", [WITH_PROCESS, WITH_POOL])
def test_fork_sends_no_function(program: str) -> None:
    done = run(HIDE + program.format(method="fork"))
    assert done.stdout.split()[-1] in ("0", "42") and done.stderr == ""


def by_value(pickler: Any, method: str) -> None:
    """A pool whose functions, arguments and results no process could import."""
    seven = 7

    class Inner:
        def __init__(self, number: int) -> None:
            self.number = number

    with mp.get_context(method).Pool(
        2, initializer=lambda *args: setattr(mp, "started", args), initargs=(Inner(1),), pickler=pickler
    ) as pool:
        assert pool.map(lambda n: n * seven, range(4)) == [0, 7, 14, 21]
        assert pool.apply(lambda thing: thing.number, (Inner(5),)) == 5
        assert pool.apply(lambda: mp.started[0].number) == 1  # type: ignore[attr-defined]
        assert pool.apply(lambda: lambda: seven)() == 7
        assert list(pool.imap_unordered(lambda n: Inner(n).number, [3])) == [3]
        with pytest.raises(ZeroDivisionError):
            pool.apply(lambda: 1 / 0)
        assert pool.starmap(divmod, [(7, 2)]) == [(3, 1)]


@pytest.mark.parametrize("method", START_METHODS)
@pytest.mark.parametrize("name", ["cloudpickle", "dill"])
def test_a_pool_takes_any_function_that_its_pickler_supports(name: str, method: str) -> None:
    by_value(pytest.importorskip(name), method)


def test_a_pickler_needs_dumps_and_loads() -> None:
    with pytest.raises(TypeError, match="a module with dumps and loads"):
        mp.Pool(1, pickler="cloudpickle")


def test_a_result_that_a_pickler_cannot_send_fails_the_task() -> None:
    with mp.get_context("fork").Pool(1, pickler=pickle) as pool:
        assert pool.map(abs, [-1]) == [1]
        with pytest.raises(mp.pool.MaybeEncodingError):
            pool.apply(threading.Lock)
        with pytest.raises(Exception, match="pickle"):
            pool.apply(lambda: 1)
        assert pool.map(abs, [-2]) == [2]
