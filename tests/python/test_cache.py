"""A cached value of a map is never older than the last change."""

from __future__ import annotations

import enum
import gc
import os
import random
import signal
import time
from typing import Any

import pytest

import shoal
import shoal.multiprocessing as mp
from shoal import _cache, _map

MANY = _cache._MOST_CACHED


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Values are always cached, however often they are outdated."""
    monkeypatch.setattr(_cache, "_FIRST_PAUSE", 0)
    monkeypatch.setattr(_cache, "_LONGEST_PAUSE", 0)


def no_call(*_: Any) -> int:
    raise AssertionError("the map was asked")


def got_without_a_call(monkeypatch: pytest.MonkeyPatch, shared: Any, key: Any) -> Any:
    with monkeypatch.context() as patched:
        patched.setattr(_map, "_get", no_call)
        return shared[key], shared.get(key)


@pytest.mark.parametrize("value", [7, -(1 << 80), 0.5, True, None, "text", b"bytes"])
def test_a_value_that_was_read_twice_is_read_without_a_call(
    monkeypatch: pytest.MonkeyPatch, shared: Any, value: Any
) -> None:
    for key in ("text", 5, b"bytes"):
        shared[key] = value
        assert shared[key] == shared.get(key) == value
        first, second = got_without_a_call(monkeypatch, shared, key)
        assert first == second == value and type(first) is type(value)


def test_a_change_is_seen_at_once_whichever_process_makes_it(shared: Any) -> None:
    other = shoal.BytesMap(shared.name, create=False)
    changes = [
        lambda: shared.__setitem__("k", 1),
        lambda: other.__setitem__(b"k", (2).to_bytes(8, "little")),
        lambda: shared.add("k", 1),
        lambda: shared.compare_swap("k", 3, 4),
        lambda: shared.update({"k": 5}),
        lambda: shared.update_with("k", lambda old: old + 1),
    ]
    for number, change in enumerate(changes, 1):
        change()
        assert [shared["k"] for _ in range(4)] == [number] * 4
    for end in (lambda: shared.pop("k"), shared.clear, lambda: shared.__delitem__("k")):
        shared["k"] = "there"
        assert [shared["k"] for _ in range(4)] == ["there"] * 4
        end()
        with pytest.raises(KeyError):
            shared["k"]
        assert shared.get("k") is None


def set_to(shared: Any, value: int) -> None:
    shared["k"] = value


def test_a_change_by_another_process_is_seen_at_once(ctx: Any, shared: Any) -> None:
    for value in range(3):
        child = ctx.Process(target=set_to, args=(shared, value))
        child.start()
        child.join()
        assert [shared["k"] for _ in range(4)] == [value] * 4


def test_a_value_that_expires_is_not_cached(shared: Any) -> None:
    shared["for good"] = 1
    shared.set_for("expiring", 1, seconds=0.05)
    # Other keys of its shard are not cached either, and still return the right value.
    while "expiring" in shared:
        shared.get("expiring"), shared["for good"]
    for _ in range(3):
        with pytest.raises(KeyError):
            shared["expiring"]
        assert shared["for good"] == 1


class Text(str, enum.Enum):
    """Equal to a text, and another key."""

    A = "a"


def test_a_key_of_another_type_that_compares_equal_is_not_confused(shared: Any) -> None:
    shared["a"] = "plain"
    assert [shared["a"] for _ in range(3)] == ["plain"] * 3
    assert shared.get(Text.A) is None
    shared[1] = "one"
    assert [shared[1] for _ in range(3)] == ["one"] * 3
    # As in a dict.
    assert shared[True] == shared[1.0] == "one"
    with pytest.raises(TypeError):
        shared[[1]]


def test_a_mutable_value_is_a_new_object_each_time(shared: Any) -> None:
    shared["list"] = [1]
    for _ in range(4):
        shared["list"].append(2)
    assert shared["list"] == [1] and shared["list"] is not shared["list"]


def test_cached_values_are_few_and_small(shared: Any) -> None:
    shared.update({number: number for number in range(MANY + 100)})
    for _ in range(3):
        assert all(shared[number] == number for number in range(MANY + 100))
        assert len(shared._cache) <= MANY
    shared["large"] = "x" * 10_000
    assert [len(shared["large"]) for _ in range(3)] == [10_000] * 3
    assert shared._cache["large"] is _cache.GOT_ONCE


def test_nothing_is_cached_of_a_detached_map() -> None:
    shared: "shoal.Map[str, int]" = shoal.Map()
    shared["k"] = 1
    assert [shared["k"] for _ in range(3)] == [1] * 3
    word = shared._cache["k"][0]
    shared.detach()
    for _ in range(2):
        with pytest.raises(shoal.ClosedError):
            shared["k"]
        with pytest.raises(shoal.ClosedError):
            shared.get("k")
    gc.collect()
    # A program with a view of it still has the memory.
    assert word.value > 0


def test_hardly_any_value_is_cached_while_all_values_change(
    monkeypatch: pytest.MonkeyPatch, shared: Any
) -> None:
    monkeypatch.undo()
    # Long enough that each invalidation lengthens the pause, even on a slow machine.
    monkeypatch.setattr(_cache, "_PAUSE_MEMORY", 60.0)
    cached = []
    get = _map.Map._get_and_cache
    monkeypatch.setattr(_map.Map, "_get_and_cache", lambda *of: cached.append(of) or get(*of))
    for number in range(10_000):
        shared["k"] = number
        assert shared["k"] == number
    assert 0 < len(cached) < 20
    # After that it is cached.
    for _ in range(2 * _cache._LONGEST_PAUSE):
        shared["k"]
    assert got_without_a_call(monkeypatch, shared, "k") == (9999, 9999)


KEYS = [f"key {number}" for number in range(200)]


def count_up(shared: Any, told: Any) -> None:
    chance = random.Random(os.getpid())
    while True:
        which = chance.randrange(len(KEYS))
        number = told[which] + 1
        shared[KEYS[which]] = number
        told[which] = number


def test_no_cached_value_is_older_than_one_announced_before_the_read() -> None:
    ctx = mp.get_context("fork")
    chance = random.Random(3)
    told: Any = ctx.RawArray("q", len(KEYS))
    with shoal.Map[str, int]() as shared:
        shared.update({key: 0 for key in KEYS})
        for _ in range(12):
            writer = ctx.Process(target=count_up, args=(shared, told))
            writer.start()
            until = time.monotonic() + 0.1
            while time.monotonic() < until:
                # Mostly one of a few keys, which are therefore cached in between.
                which = chance.randrange(8) if chance.random() < 0.9 else chance.randrange(200)
                before = told[which]
                assert shared[KEYS[which]] >= before
            os.kill(writer.pid, signal.SIGKILL)
            writer.join()
            # If it was killed between the set and the announcement, one set was not announced.
            for which, key in enumerate(KEYS):
                assert shared[key] - told[which] in (0, 1)
                told[which] = shared[key]
