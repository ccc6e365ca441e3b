"""Functions defined where no other process can import them, as in a notebook."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from conftest import WATCHDOG

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
def test_without_cloudpickle_the_error_says_in_a_line_what_to_do(program: str, method: str) -> None:
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
def test_with_fork_there_is_nothing_to_send(program: str) -> None:
    done = run(HIDE + program.format(method="fork"))
    assert done.stdout.split()[-1] in ("0", "42") and done.stderr == ""
