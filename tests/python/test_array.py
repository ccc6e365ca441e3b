"""`shoal.Value` and `shoal.Array`: C types in shared memory, with a lock."""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import struct
import threading
from typing import Any

import pytest

import shoal
import shoal.multiprocessing as mp
from conftest import START_METHODS
from shoal import _array


class Point(ctypes.Structure):
    _fields_ = [("x", ctypes.c_double), ("y", ctypes.c_int)]


def count_up(counter: Any, samples: Any, times: int) -> None:
    for _ in range(times):
        with counter.get_lock():
            counter.value += 1
        with samples.get_lock():
            samples[-1] += 0.5


@pytest.mark.parametrize("method", START_METHODS)
def test_additions_under_the_lock_are_all_counted(method: str) -> None:
    counter, samples = shoal.Value("i", 5), shoal.Array("d", 3)
    ctx = mp.get_context(method)
    workers = [ctx.Process(target=count_up, args=(counter, samples, 100)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert counter.value == 305 and samples[:] == [0.0, 0.0, 150.0]


@pytest.mark.parametrize("code, value", [("b", -3), ("B", 200), ("q", -(2**63)), ("d", 1.5)])
def test_a_value_returns_what_was_assigned(code: str, value: Any) -> None:
    assert shoal.Value(code).value == 0
    one = shoal.Value(code, value)
    assert one.value == value
    one.value = 7
    assert one.value == 7 and one.get_obj().value == 7
    with pytest.raises(TypeError):
        one.value = "text"


def test_an_array_behaves_like_the_standard_one() -> None:
    array = shoal.Array("i", range(10))
    assert len(array) == 10 and array[3] == 3 and array[-1] == 9
    assert array[2:5] == [2, 3, 4] and array[::3] == [0, 3, 6, 9] and list(array) == array[:]
    array[0] = 42
    array[1:3] = [7, 8]
    assert array[:4] == [42, 7, 8, 3]
    for bad in (10, -11):
        with pytest.raises(IndexError):
            array[bad]
    with pytest.raises(ValueError):
        array[0:2] = [1]
    assert len(shoal.Array("i", 0)) == 0
    text = shoal.Array("c", 10)
    text.value = b"hello"
    assert text.value == b"hello" and text.raw == b"hello" + bytes(5)
    text.raw = b"0123456789"
    assert text.raw == b"0123456789"
    digits = [b"%d" % number for number in range(10)]
    assert list(text) == digits and list(reversed(text)) == digits[::-1] and text[3] == b"3"
    assert b"3" in text and b"x" not in text and max(text) == b"9"
    assert list(shoal.Array("u", "ab")) == ["a", "b"] and list(shoal.Array("c", 0)) == []
    with pytest.raises(TypeError):
        shoal.Array("?", 1)
    with pytest.raises(ValueError):
        shoal.Array("i", -1)


def test_a_structure_has_its_fields() -> None:
    point = shoal.Value(Point, 1.5, 2)
    assert (point.x, point.y) == (1.5, 2)
    point.y = 9
    assert point.get_obj().y == 9
    with pytest.raises(AttributeError):
        point.z
    points = shoal.Array(Point, [(1.0, 2), (3.0, 4)], lock=False)
    points[1].x = 5.0
    assert points[1].x == 5.0 and points[0].y == 2


class Player(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char * 16), ("created", ctypes.c_double), ("_id", ctypes.c_int)]


class Guest(Player):
    _fields_ = [(name, ctypes.c_int) for name in "stats detach get_lock acquire value handle".split()]


def rename(player: Any) -> None:
    player.name = b"eve"
    player.stats += 1
    player.get_obj().acquire += 1


@pytest.mark.parametrize("make", [shoal.Value, mp.Value])
def test_a_field_may_have_the_name_of_a_method_or_attribute(ctx: Any, make: Any) -> None:
    player = make(Guest, b"bob", 1.5, 7, 3, 4, 5, 6, 8, 9)
    assert (player.name, player.created, player._id) == (b"bob", 1.5, 7)
    assert (player.stats, player.detach, player.get_lock) == (3, 4, 5)
    assert (player.acquire, player.value, player.handle) == (6, 8, 9)
    assert {"name", "stats", "created"} <= set(dir(player))
    for name in "name created detach get_lock".split():
        setattr(player, name, b"x" if name == "name" else 2)
        assert getattr(player.get_obj(), name) == getattr(player, name)
    child = ctx.Process(target=rename, args=(player,))
    child.start()
    child.join()
    assert (player.name, player.stats, player.acquire) == (b"eve", 4, 7)
    with player:
        assert pickle.loads(pickle.dumps(player)) is player
    assert type(make(Guest)) is type(player) and isinstance(player, shoal.Value)
    # Another structure has its own fields.
    assert not callable(make(Point).x) and callable(make(Point).detach)


def take_and_die(counter: Any) -> None:
    counter.acquire()
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("method", START_METHODS)
def test_the_lock_of_a_killed_process_goes_to_the_next(method: str) -> None:
    counter = shoal.Value("i")
    worker = mp.get_context(method).Process(target=take_and_die, args=(counter,))
    worker.start()
    worker.join()
    lock = counter.get_lock()
    with lock:
        assert lock.owner_died
        counter.value = 1
    # It is free again, for another thread too, and the death was reported once.
    outcome = []

    def other() -> None:
        outcome.append((counter.acquire(False), lock.owner_died))
        counter.release()

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert outcome == [(True, False)] and counter.value == 1


def test_the_death_is_known_until_the_lock_is_released() -> None:
    counter = shoal.Value("i")
    lock = counter.get_lock()

    def elsewhere() -> None:
        assert not lock.acquire(timeout=0.01) and not lock.acquire(False)

    for _ in range(2):
        worker = mp.get_context("fork").Process(target=take_and_die, args=(counter,))
        worker.start()
        worker.join()
        with lock:
            assert lock.owner_died
            # Taken again by this thread, and not by another one.
            counter.value += 1
            with counter, lock:
                assert lock.owner_died and lock.acquire() and lock.owner_died
                lock.release()
            thread = threading.Thread(target=elsewhere)
            thread.start()
            thread.join()
            assert lock.owner_died
        for take in (lock.acquire, lock.__enter__):
            assert take() and not lock.owner_died
            lock.release()
    assert counter.value == 2


def add_under(given: Any, times: int) -> None:
    lock = given["lock"]
    for _ in range(times):
        with lock:
            given["counter"].value += 1
            given["other"].value += 1


@pytest.mark.parametrize("first", ["lock", "counter", "other"])
def test_the_lock_of_a_value_is_sent_like_any_other(ctx: Any, first: str) -> None:
    counter = ctx.Value("i")
    # It may guard other values, too.
    other = ctx.Value("i", lock=counter.get_lock())
    given = {"lock": counter.get_lock(), "counter": counter, "other": other}
    given = {first: given[first], **given}
    children = [ctx.Process(target=add_under, args=(given, 100)) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0]
    assert counter.value == other.value == 200
    queue = ctx.Queue()
    queue.put(counter.get_lock())
    assert queue.get() is counter.get_lock()


def test_only_the_thread_that_has_the_lock_releases_it() -> None:
    counter = shoal.Value("i")
    with counter, counter:
        outcome = []

        def other() -> None:
            outcome.append(counter.acquire(False))
            with pytest.raises(AssertionError, match="not"):
                counter.release()

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert outcome == [False]
    with pytest.raises(AssertionError, match="not"):
        counter.release()


def test_the_first_creator_of_a_name_sets_its_values(name: str) -> None:
    first = shoal.Array("d", [1.0, 2.0], name=name)
    other = shoal.Array("d", [8.0, 9.0], name=name)
    assert other[:] == [1.0, 2.0]
    other[0] = 5.0
    assert first[0] == 5.0
    same = pickle.loads(pickle.dumps(first))
    assert same is first
    with pytest.raises(shoal.InvalidError, match="8, not 4"):
        shoal.Array("i", 2, name=name)
    with pytest.raises(shoal.InvalidError):
        shoal.Array("d", 3, name=name)
    with pytest.raises(shoal.ExistsError):
        shoal.Array("d", 2, name=name, exclusive=True)
    shoal.Array.unlink(name)


def test_a_forged_size_never_leads_beyond_the_memory(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = shoal.Array("B", 4096, name=name)
    open_it = _array._Items._make

    def open_and_forge(self: Any, *args: Any) -> None:
        open_it(self, *args)
        # The header begins at byte 36864 of the file, and the number of items at its byte 72.
        with open(f"/dev/shm/shoal.{name}", "r+b", buffering=0) as file:
            os.pwrite(file.fileno(), struct.pack("<Q", 1 << 33), 36864 + 72)

    monkeypatch.setattr(_array._Items, "_make", open_and_forge)
    # The sizes are those that were checked when it was opened.
    other = shoal.Array("B", 0, name=name, create=False)
    assert len(other) == 4096 and ctypes.sizeof(other.get_obj()) == 4096
    assert first.stats().count == other.stats().count == 4096
    monkeypatch.undo()
    # From now on it cannot be opened.
    with pytest.raises(shoal.CorruptError):
        shoal.Array("B", 0, name=name, create=False)
    # Whatever the library says, no object is made that is larger than the memory.
    monkeypatch.setattr(_array._Items, "_count", lambda self: 4097)
    with pytest.raises(shoal.CorruptError, match="has 4096 bytes, not 4097"):
        shoal.Array("B", 4096)


def test_a_numpy_view_keeps_the_memory_mapped() -> None:
    numpy = pytest.importorskip("numpy")
    array = shoal.Array("d", 100)
    view = numpy.frombuffer(array.get_obj(), "f8")
    view[:] = 2.5
    assert array[99] == 2.5
    array.detach()
    view[:] = 3.5
    assert view.sum() == 350.0
    with pytest.raises(shoal.ClosedError):
        array[0]


def test_a_numpy_view_of_a_value_shares_its_memory() -> None:
    numpy = pytest.importorskip("numpy")
    value = shoal.Value("d", 1.5)
    view = numpy.frombuffer(value.get_obj(), "f8")
    assert view.shape == (1,) and view[0] == 1.5
    view[0] = 2.5
    assert value.value == 2.5
    value.value = 3.5
    assert view[0] == 3.5
    value.detach()
    assert view[0] == 3.5
    point = shoal.Value(Point, 1.5, 2)
    fields = numpy.dtype([("x", "f8"), ("y", "i4")], align=True)
    (row,) = numpy.frombuffer(point.get_obj(), fields)
    point.y = 9
    assert row["x"] == 1.5 and row["y"] == 9


def test_a_memoryview_is_the_memory() -> None:
    array = shoal.Array("i", [1, 2, 3])
    view = memoryview(array.get_obj()).cast("B").cast("i")
    array[1] = 7
    assert view[1] == 7
    del array
    assert view[1] == 7
