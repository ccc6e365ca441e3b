"""PyPy, where it is installed: every kind of object works there, through ctypes."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

import shoal
from shoal import _ffi

PYPY = shutil.which("pypy3")

PROGRAM = '''
import gc, sys
import shoal
import shoal.multiprocessing as mp


def echo(connection, lock, number, queue):
    with lock, number.get_lock():
        number.value += 1
    queue.put({"got": connection.recv()})
    connection.send(bytes(1 << 20))


def square(number):
    return number * number


def main(method):
    ctx = mp.get_context(method)
    here, there = ctx.Pipe()
    lock, number, queue = ctx.Lock(), ctx.Value("i", 41), ctx.Queue()
    child = ctx.Process(target=echo, args=(there, lock, number, queue))
    child.start()
    here.send("x" * 200_000)
    assert len(queue.get()["got"]) == 200_000
    assert here.recv() == bytes(1 << 20)
    child.join()
    assert child.exitcode == 0 and number.value == 42
    with ctx.Pool(2) as pool:
        assert pool.map(square, range(100)) == [square(it) for it in range(100)]
    with ctx.Manager() as manager:
        shared = manager.dict(a=manager.list([1, 2]))
        shared["a"].append(3)
        assert list(shared["a"]) == [1, 2, 3]


def native():
    assert shoal.backend == "ctypes"
    with shoal.Queue() as queue:
        queue.put_many(range(100))
        assert queue.get_many() == list(range(100))
        with queue.reserve(5) as room:
            room.data[:] = b"12345"
        with queue.lease() as job:
            assert bytes(job.data) == b"12345" and job.attempts == 1
        queue.put(bytes(3 << 20))
        assert queue.get(copy=False) == bytes(3 << 20)
        try:
            queue.get_nowait()
        except shoal.Empty:
            pass
    with shoal.Map() as shared, shoal.List() as several:
        shared.update({str(it): it for it in range(100)})
        assert shared["7"] == 7 and len(shared) == 100
        assert shared.get_many(["1", "2", "none"]) == {"1": 1, "2": 2}
        several.extend(range(10))
        several.sort(reverse=True)
        assert several[:3] == [9, 8, 7]
    child = shoal.spawn([sys.executable, "-c", "raise SystemExit(3)"], env={"PATH": "/bin"})
    assert child.join() == 3
    # The collector frees the objects that the program drops.
    name = shoal.Queue().name
    gc.collect()
    gc.collect()
    try:
        shoal.Queue(name, create=False)
        raise SystemExit("it is there")
    except shoal.NotFoundError:
        pass


if __name__ == "__main__":
    native()
    for method in ("fork", "spawn", "forkserver"):
        main(method)
    print("all is well")
'''


@pytest.mark.skipif(PYPY is None, reason="without pypy3")
def test_a_program_works_on_pypy(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    package = str(Path(shoal.__file__).parents[1])
    given = {**os.environ, "PYTHONPATH": package, "SHOAL_LIBRARY": _ffi.lib._name}
    done = subprocess.run(
        [str(PYPY), str(script)],
        env=given,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    assert done.stdout == "all is well\n"
