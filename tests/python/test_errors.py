"""Exceptions, and the behaviour with a full /dev/shm."""

from __future__ import annotations

import builtins
import operator
import os
import pickle
import queue
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any, Callable, List, Tuple, Type

import pytest

import shoal
import shoal.multiprocessing as mp
from conftest import PRIVATE, START_METHODS
from shoal import _errors


@pytest.mark.parametrize("cls", sorted(_errors.BY_CODE.values(), key=lambda cls: cls.__name__))
def test_an_exception_can_be_sent_to_another_process(cls: "type[shoal.ShoalError]") -> None:
    error = pickle.loads(pickle.dumps(cls("what happened")))
    assert type(error) is cls and "what happened" in str(error)
    assert cls.__module__ == "shoal" and isinstance(error, shoal.ShoalError)


def test_exceptions_derive_from_the_standard_ones() -> None:
    for ours, theirs in [
        (shoal.Empty, queue.Empty),
        (shoal.Full, queue.Full),
        (shoal.TimeoutError, builtins.TimeoutError),
        (shoal.NotFoundError, FileNotFoundError),
        (shoal.ExistsError, FileExistsError),
        (shoal.AccessError, PermissionError),
        (shoal.InvalidError, ValueError),
        (shoal.TooLargeError, ValueError),
        (shoal.ClosedError, ValueError),
        (shoal.WrongKindError, TypeError),
        (shoal.NoSpaceError, OSError),
    ]:
        assert issubclass(ours, theirs)
        assert issubclass(ours, shoal.ShoalError)


FULL = """
    import errno, os, shoal
    shared, queue = shoal.BytesMap(), shoal.Queue()
    put = 0
    try:
        while True:
            queue.put_bytes(bytes(100_000), block=False)
            put += 1
    except shoal.NoSpaceError as err:
        assert err.errno == errno.ENOSPC and "no space" in str(err), err
    written = 0
    try:
        while True:
            shared[b"%d" % written] = bytes(10_000)
            written += 1
    except shoal.NoSpaceError as err:
        pass
    try:
        for _ in range(1000): kept = shoal.Queue(capacity=1 << 22)
        raise SystemExit("there was room")
    except shoal.NoSpaceError: pass
    # Nothing is lost, and it works again once there is room.
    assert queue.qsize() == put > 0 and len(shared) == written
    assert all(len(queue.get_bytes(block=False)) == 100_000 for _ in range(put))
    assert all(len(value) == 10_000 for value in shared.values())
    shared.clear()
    queue.put_bytes(bytes(100_000), block=False)
    print("survived", os.listdir("/dev/shm") != [])
"""


@pytest.mark.skipif(not PRIVATE, reason="needs the right to mount a small /dev/shm")
def test_a_full_dev_shm_is_an_error_and_loses_nothing() -> None:
    mount = 'mount -t tmpfs -o size=4m tmpfs /dev/shm && "$0" -c "$1" && ls -A /dev/shm'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", mount, sys.executable, textwrap.dedent(FULL)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    )
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "survived True\n")


def run_in_small_shm(folder: Path, text: str, method: str, size: str) -> Tuple[int, str]:
    """Runs a program with a ``/dev/shm`` of this size. Returns its exit code, and its output with the names
    of the files that are left."""
    program = folder / "program.py"
    program.write_text(textwrap.dedent(text))
    mount = f'mount -t tmpfs -o size={size} tmpfs /dev/shm && "$0" "$1" "$2" && ls -A /dev/shm'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", mount, sys.executable, str(program), method],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return done.returncode, done.stdout


LARGE = """
    import ctypes, sys, shoal.multiprocessing as mp

    class Table(ctypes.Structure):
        _fields_ = [("cells", ctypes.c_double * 1_000_000), ("used", ctypes.c_int)]

    def fill(array, text, table):
        with array.get_lock():
            array[7] += 0.5
        text.value = b"filled"
        with table:
            table.used += 1

    if __name__ == "__main__":
        ctx = mp.get_context(sys.argv[1])
        array, text = ctx.Array("d", 1_000_000), ctx.Array("c", 8_000_000, lock=ctx.Lock())
        table = ctx.Value(Table)
        for _ in range(2):
            child = ctx.Process(target=fill, args=(array, text, table))
            child.start()
            child.join()
            assert child.exitcode == 0
        assert (array[7], text.value, table.used, len(array)) == (1.0, b"filled", 2, 1_000_000)
        assert isinstance(array.get_lock(), mp.synchronize.RLock)
        assert list(ctx.Array("d", iter([1.5] * 1_000_000))[:2]) == [1.5, 1.5]
"""


@pytest.mark.skipif(not PRIVATE, reason="needs the right to mount a small /dev/shm")
@pytest.mark.parametrize("method", START_METHODS)
def test_a_value_or_array_without_room_is_made_elsewhere(method: str, tmp_path: Path) -> None:
    assert run_in_small_shm(tmp_path, LARGE, method, "4m") == (0, "")


BEHIND = """
    import time, sys, shoal, shoal.multiprocessing as mp

    def produce(send, sent):
        for number in range(40):
            send((number, bytes(500_000 if number % 4 else 50)))
            sent.value = number + 1

    def consume(ctx, send, receive, keep):
        sent = ctx.Value("i", 0)
        child = ctx.Process(target=produce, args=(send, sent))
        child.start()
        seen = -1
        while sent.value == 0 or seen != sent.value:
            seen = sent.value
            time.sleep(0.3)
        # Not all messages fit at the same time.
        assert 0 < seen < 40, seen
        assert [receive()[0] for _ in range(40)] == list(range(40))
        child.join()
        assert child.exitcode == 0
        # If no message is left whose memory could be freed, it is an error.
        try:
            send(bytes(16 << 20))
        except shoal.NoSpaceError:
            keep.close()

    if __name__ == "__main__":
        ctx = mp.get_context(sys.argv[1])
        here, there = ctx.Pipe(False)
        consume(ctx, there.send, here.recv, here)
        del here, there
        queue = ctx.SimpleQueue()
        consume(ctx, queue.put, queue.get, queue)
        assert queue._closed
"""


@pytest.mark.skipif(not PRIVATE, reason="needs the right to mount a small /dev/shm")
@pytest.mark.parametrize("method", START_METHODS)
def test_a_sender_without_memory_waits_for_its_reader(method: str, tmp_path: Path) -> None:
    assert run_in_small_shm(tmp_path, BEHIND, method, "8m") == (0, "")


WORKERS = """
    import sys, shoal.multiprocessing as mp
    from shoal.futures import ProcessPoolExecutor

    def length(data):
        return len(data)

    def make(size):
        return bytes(size)

    if __name__ == "__main__":
        ctx = mp.get_context(sys.argv[1])
        for size in 1_900_000, 500_000:
            for function, argument, result in (
                (length, bytes(size), size), (make, size, bytes(size))
            ):
                with ctx.Pool(4) as pool:
                    waits = [pool.apply_async(function, (argument,)) for _ in range(24)]
                    assert all(wait.get() == result for wait in waits)
                    assert pool.map(function, [argument] * 24, chunksize=1) == [result] * 24
                with ProcessPoolExecutor(4, mp_context=ctx) as executor:
                    assert list(executor.map(function, [argument] * 24)) == [result] * 24
        # What can never fit is an error, and the others are done.
        with ctx.Pool(2) as pool:
            waits = [pool.apply_async(make, (n,)) for n in (10, 16 << 20, 20)]
            assert len(waits[0].get()) == 10 and len(waits[2].get()) == 20
            try:
                waits[1].get()
            except mp.pool.MaybeEncodingError:
                pass
"""


@pytest.mark.skipif(not PRIVATE, reason="needs the right to mount a small /dev/shm")
@pytest.mark.parametrize("method", START_METHODS)
def test_tasks_and_results_wait_for_memory(method: str, tmp_path: Path) -> None:
    assert run_in_small_shm(tmp_path, WORKERS, method, "8m") == (0, "")


def test_errors_of_a_manager_s_objects_have_the_texts_of_the_original() -> None:
    with mp.Manager() as manager:
        array, items, space = manager.Array("i", [1, 2]), manager.list([1]), manager.Namespace()

        def set_item(things: Any, index: Any) -> None:
            things[index] = 1

        def delete(name: str) -> None:
            delattr(space, name)

        integers = "array indices must be integers"
        kinds = "list indices must be integers or slices, not str"
        calls: List[Tuple[Callable[[], Any], Type[Exception], str]] = [
            (lambda: array[2], IndexError, "array index out of range"),
            (lambda: array[-3], IndexError, "array index out of range"),
            (lambda: set_item(array, 2), IndexError, "array assignment index out of range"),
            (lambda: array["a"], TypeError, integers),
            (lambda: set_item(array, "a"), TypeError, integers),
            (lambda: items["a"], TypeError, kinds),  # type: ignore[call-overload]
            (lambda: set_item(items, "a"), TypeError, kinds),
            (lambda: operator.delitem(items, "a"), TypeError, kinds),  # type: ignore[call-overload]
            (lambda: items.pop("a"), TypeError, "'str' object cannot be interpreted as an integer"),  # type: ignore[arg-type]
            (lambda: space.missing, AttributeError, "'Namespace' object has no attribute 'missing'"),
            (lambda: delete("missing"), AttributeError, "'Namespace' object has no attribute 'missing'"),
        ]
        for call, kind, text in calls:
            with pytest.raises(kind) as caught:
                call()
            assert str(caught.value) == text
        # An error of the value is its own.
        with pytest.raises(TypeError, match="'str' object cannot be interpreted"):
            array[0] = "a"
