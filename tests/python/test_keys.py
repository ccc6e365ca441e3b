"""Operations of maps on keys beyond a `dict`: versions, expiry, locks, views, changes."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any, Dict, Iterator, Mapping

import pytest

import shoal
import shoal.multiprocessing as mp
from conftest import START_METHODS, wait_until


@pytest.fixture
def raw() -> Iterator[shoal.BytesMap]:
    with shoal.BytesMap() as made:
        yield made


def test_a_value_that_was_set_again_has_another_version(shared: "shoal.Map[Any, Any]") -> None:
    assert shared.get_versioned("k") is None and shared.version_of("k") == 0
    assert shared.compare_swap_version("k", 0, [1])
    assert not shared.compare_swap_version("k", 0, [2])
    value, version = shared.get_versioned("k") or (None, 0)
    assert value == [1] and version == shared.version_of("k") > 0
    shared["k"] = [1]
    assert not shared.compare_swap_version("k", version, [3])
    assert shared.compare_swap_version("k", shared.version_of("k"), None)
    assert "k" not in shared
    shared["k"] = "x" * 200_000
    assert shared.get_versioned("k") == ("x" * 200_000, shared.version_of("k"))


def test_many_keys_are_set_and_read_in_one_call(shared: "shoal.Map[Any, Any]") -> None:
    items = {i: str(i) * (i % 50) for i in range(500)}
    shared.set_many(items)
    assert shared == items
    assert shared.get_many([3, "none", 7, 3]) == {3: "333", 7: "7777777"}
    assert shared.get_many([]) == {}
    shared.update({"big": b"x" * 300_000}, more=1)
    shared.update([("pair", 2)])
    assert shared.get_many(["big", "more", "pair"]) == {
        "big": b"x" * 300_000,
        "more": 1,
        "pair": 2,
    }
    with pytest.raises(shoal.TooLargeError):
        shared.set_many({"ok": 1, "x" * 70_000: 2})
    assert "ok" not in shared


def test_empty_values_among_many_are_values(raw: shoal.BytesMap) -> None:
    raw.set_many({b"": b"", b"k": b"v"})
    assert raw.get_many([b"", b"k", b"none"]) == {b"": b"", b"k": b"v"}


def test_a_key_expires_after_its_time_to_live(shared: "shoal.Map[Any, Any]") -> None:
    shared.set_for("k", 1, 1000)
    left = shared.time_left("k")
    assert left is not None and 500 < left <= 1000
    assert shared.add("k") == 2 and shared.time_left("k") is not None
    assert shared.expire("k", None) and shared.time_left("k") is None
    assert shared.expire("k", 0) and "k" not in shared and shared.get("k") is None
    assert not shared.expire("k", 1)
    with pytest.raises(KeyError):
        shared.time_left("k")
    with pytest.raises(KeyError):
        shared["k"]
    # Changes of nearby keys may have removed it already.
    assert shared.purge() <= 1 and len(shared) == 0
    with pytest.raises(ValueError):
        shared.set_for("k", 1, -1)


def lock_and_die(names: "shoal.Map[Any, Any]", locked: Any) -> None:
    lock = names.lock_key("k")
    locked.put(lock.owner_died)
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("method", START_METHODS)
def test_the_key_lock_of_a_killed_holder_goes_to_the_next(method: str) -> None:
    ctx = mp.get_context(method)
    with shoal.Map[Any, Any]() as names:
        locked = ctx.Queue()
        holder = ctx.Process(target=lock_and_die, args=(names, locked))
        holder.start()
        assert locked.get() is False
        with names.lock_key("k") as lock:
            assert lock.owner_died
        holder.join()
        with names.lock_key("k", timeout=0) as lock:
            assert not lock.owner_died


def test_a_locked_key_makes_others_wait(shared: "shoal.Map[Any, Any]") -> None:
    lock = shared.lock_key("k")
    with pytest.raises(shoal.InvalidError):
        shared.lock_key("k")
    outcome = []

    def other() -> None:
        with pytest.raises(shoal.TimeoutError):
            shared.lock_key("k", timeout=0.01)
        with shared.lock_key("another"):
            pass
        outcome.append("refused")
        with shared.lock_key("k"):
            outcome.append("mine")

    thread = threading.Thread(target=other)
    thread.start()
    wait_until(lambda: outcome == ["refused"] or not thread.is_alive())
    time.sleep(0.05)
    assert outcome == ["refused"]
    lock.release()
    thread.join()
    assert outcome == ["refused", "mine"]
    with pytest.raises(shoal.InvalidError):
        lock.release()
    # A lock without a reference is released.
    shared.lock_key("k")
    shared.lock_key("k", timeout=0).release()


def count_up(names: "shoal.Map[Any, Any]", times: int) -> None:
    for _ in range(times):
        names.update_with("n", lambda n: [n[0] + 1], [0])


def test_no_update_of_a_key_is_lost() -> None:
    ctx = mp.get_context("fork")
    with shoal.Map[Any, Any]() as names:
        workers = [ctx.Process(target=count_up, args=(names, 200)) for _ in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
            assert worker.exitcode == 0
        assert names["n"] == [800]
        with pytest.raises(KeyError):
            names.update_with("none", lambda n: n)


def test_floats_are_added(raw: shoal.BytesMap) -> None:
    assert raw.add_float(b"x", 0.25) == 0.25
    assert raw.add_float(b"x", 1) == 1.25
    raw[b"x"] = b"text"
    with pytest.raises(shoal.InvalidError):
        raw.add_float(b"x", 1)


def test_a_view_does_not_change(raw: shoal.BytesMap) -> None:
    raw[b"k"] = b"in place" * 1000
    with raw.view(b"k") as view:
        assert view.version == raw.version_of(b"k")
        raw[b"k"] = b"replaced"
        assert bytes(view.data) == b"in place" * 1000
        with pytest.raises(TypeError):
            view.data[0] = 1  # type: ignore[index]
    with pytest.raises(shoal.InvalidError):
        view.release()
    with pytest.raises(ValueError):
        view.data[0]
    with pytest.raises(KeyError):
        raw.view(b"none")
    raw[b"empty"] = b""
    with raw.view(b"empty") as view:
        assert bytes(view.data) == b""


def test_more_views_than_slots_are_an_error(raw: shoal.BytesMap) -> None:
    raw[b"k"] = b"v"
    views = [raw.view(b"k") for _ in range(12)]
    with pytest.raises(shoal.ExhaustedError):
        raw.view(b"k")
    views.pop()
    raw.view(b"k").release()
    assert all(bytes(view.data) == b"v" for view in views)


def test_a_slice_of_a_view_is_noticed(raw: shoal.BytesMap) -> None:
    raw[b"k"] = bytes(range(16))
    view = raw.view(b"k")
    part = view.data[3:5][1:]
    with pytest.raises(BufferError):
        view.release()
    assert bytes(part) == b"\x04" and view.data[0] == 0
    del part
    view.release()


def test_a_numpy_array_of_a_view_is_noticed(raw: shoal.BytesMap) -> None:
    numpy = pytest.importorskip("numpy")
    raw[b"k"] = bytes(range(16))
    view = raw.view(b"k")
    array = numpy.frombuffer(view.data, "u1")
    with pytest.raises(BufferError):
        view.release()
    assert array.sum() == 120
    del array
    view.release()


def change(names: "shoal.Map[Any, Any]", waiting: Any) -> None:
    waiting.get()
    names["k"] = 1
    waiting.get()
    del names["k"]


def test_a_thread_that_waits_for_a_key_is_woken_by_changes() -> None:
    ctx = mp.get_context("fork")
    with shoal.Map[Any, Any]() as names:
        waiting = ctx.Queue()
        with pytest.raises(shoal.TimeoutError):
            names.wait_key("k", 0, timeout=0.01)
        with pytest.raises(shoal.TimeoutError):
            names.wait_change(names.version, timeout=0)
        before = names.version
        other = ctx.Process(target=change, args=(names, waiting))
        other.start()
        waiting.put("go")
        version = names.wait_key("k", 0)
        assert version > 0 and names["k"] == 1
        assert names.wait_change(before) > before
        waiting.put("go")
        assert names.wait_key("k", version) == 0
        other.join()


class Changing(Mapping[Any, Any]):
    """A mapping that loses entries while it is read."""

    def __init__(self, entries: Dict[Any, Any]) -> None:
        self.entries = entries

    def __getitem__(self, key: Any) -> Any:
        return self.entries[key]

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Any]:
        yield from list(self.entries)
        self.entries.popitem()

    def values(self) -> Any:
        return [0]

    def items(self) -> Any:
        return list(self.entries.items())


def test_a_mapping_that_changes_while_it_is_read_gives_each_key_its_own_value(
    shared: "shoal.Map[Any, Any]", raw: shoal.BytesMap
) -> None:
    entries = {number: [number] for number in range(1000)}
    for change in (shared.update, shared.set_many):
        change(Changing(dict(entries)))
        assert shared.copy() == entries
        shared.clear()
    texts = {b"%d" % number: b"value %d" % number for number in range(1000)}
    raw.update(Changing(dict(texts)))
    assert raw.copy() == texts


def test_a_map_that_others_change_can_be_copied(shared: "shoal.Map[Any, Any]") -> None:
    over = threading.Event()
    for number in range(200):
        shared[number] = str(number)

    def change() -> None:
        number = 200
        while not over.is_set():
            shared.pop(number - 200, None)
            shared[number] = str(number)
            number += 1

    thread = threading.Thread(target=change)
    thread.start()
    try:
        with shoal.Map() as copy:
            for _ in range(50):
                copy.update(shared)
                assert all(value == str(key) for key, value in copy.items())
    finally:
        over.set()
        thread.join()
