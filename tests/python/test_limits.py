"""The smallest and largest keys and values of a map, and views whose holder was killed."""

from __future__ import annotations

import os
import re
import signal
from typing import Any, Iterator, List, Tuple

import pytest

import shoal
import shoal.multiprocessing as mp
from conftest import SHM

MAX_KEY = 65_536
HUGE = 300_000_000


@pytest.fixture
def raw() -> Iterator[shoal.BytesMap]:
    with shoal.BytesMap() as made:
        yield made


def test_empty_bytes_are_a_key_and_a_value(raw: shoal.BytesMap) -> None:
    assert b"" not in raw and raw.get(b"") is None
    raw[b""] = b""
    raw[b"k"] = b""
    assert raw == {b"": b"", b"k": b""} and raw.get_many([b"", b"k"]) == {b"": b"", b"k": b""}
    assert raw.compare_swap(b"", b"", b"some") and not raw.compare_swap(b"", b"", b"more")
    assert raw.get_versioned(b"") == (b"some", raw.version_of(b""))
    with raw.lock_key(b"", timeout=0), raw.view(b"k") as view:
        assert view.data.nbytes == 0
    assert raw.pop(b"") == b"some" and raw.pop(b"k") == b"" and len(raw) == 0


def test_empty_text_empty_bytes_and_none_are_three_keys(shared: Any) -> None:
    shared[""], shared[b""], shared[()] = b"", "", ()
    assert shared[""] == b"" and shared[b""] == "" and shared[()] == ()
    assert set(shared) == {"", b"", ()} and shared.raw[b""] == shared.raw.pop(b"")
    assert "" not in shared and len(shared) == 2


def test_the_largest_key_is_a_key(raw: shoal.BytesMap) -> None:
    largest = b"k" * MAX_KEY
    raw[largest] = b"v"
    # Equal except for the end.
    raw[largest[1:] + b"l"] = b"w"
    assert raw[largest] == b"v" and largest in raw and len(raw) == 2
    assert set(raw) == {largest, largest[1:] + b"l"}
    with raw.lock_key(largest, timeout=0), raw.view(largest) as view:
        assert view.data == b"v"
    assert raw.pop(largest) == b"v" and largest not in raw
    assert raw.add(largest) == 1


TOO_LONG = b"k" * (MAX_KEY + 1)


@pytest.mark.parametrize(
    "use",
    [
        lambda raw: raw.__setitem__(TOO_LONG, b"v"),
        lambda raw: raw.insert(TOO_LONG, b"v"),
        lambda raw: raw.set_for(TOO_LONG, b"v", 1),
        lambda raw: raw.set_many({b"k": b"v", TOO_LONG: b"v"}),
        lambda raw: raw.compare_swap(TOO_LONG, None, b"v"),
        lambda raw: raw.compare_swap_version(TOO_LONG, 0, b"v"),
        lambda raw: raw.add(TOO_LONG),
        lambda raw: raw.add_float(TOO_LONG, 0.5),
        lambda raw: raw.lock_key(TOO_LONG),
    ],
)
def test_a_larger_key_is_an_error_that_names_the_limit(raw: shoal.BytesMap, use: Any) -> None:
    with pytest.raises(shoal.TooLargeError, match=r"key .*\b65537\b.* limit of 65536 bytes"):
        use(raw)
    assert len(raw) == 0 and raw.version == 0


def test_a_larger_key_is_never_present(raw: shoal.BytesMap, shared: Any) -> None:
    assert TOO_LONG not in raw and raw.get(TOO_LONG) is None
    with pytest.raises(KeyError):
        raw[TOO_LONG]
    # The size of a text is that of its UTF-8.
    shared["é" * (MAX_KEY // 2)] = 1
    for more in ("é" * (MAX_KEY // 2) + "e", "k" * (MAX_KEY + 1)):
        for delta in (1, 0.5):
            with pytest.raises(shoal.TooLargeError, match="limit of 65536 bytes"):
                shared.add(more, delta)
    assert len(shared) == 1


def test_the_largest_value_is_stored_and_a_larger_one_is_an_error() -> None:
    with shoal.BytesMap(max_capacity=1 << 20) as raw:
        raw[b"k"] = b"before"
        with pytest.raises(shoal.TooLargeError) as caught:
            raw[b"k"] = bytes(1 << 20)
        found = re.fullmatch(
            r"value of 1048576 bytes is larger than the limit of (\d+) bytes", str(caught.value)
        )
        assert found is not None, caught.value
        limit = int(found.group(1))
        for change in (raw.__setitem__, raw.insert):
            with pytest.raises(shoal.TooLargeError, match=f"limit of {limit} bytes"):
                change(b"k", bytes(limit + 1))
        assert raw[b"k"] == b"before"
        value = bytes(range(256)) * (limit // 256) + bytes(limit % 256)
        raw[b"k"] = value
        assert raw[b"k"] == value
        with raw.view(b"k") as view:
            assert view.data == value


def needs_room(size: int) -> None:
    left = os.statvfs(SHM)
    free = left.f_bavail * left.f_frsize
    if free < size:
        pytest.skip(f"{SHM} has {free >> 20} MiB free, and this needs {size >> 20}")


def pattern() -> bytes:
    return bytes(i * 7 % 251 for i in range(1_000_000)) * (HUGE // 1_000_000)


def look(raw: shoal.BytesMap, told: Any) -> None:
    with raw.view(b"huge") as view:
        told.put(view.data.nbytes)
        told.put(bytes(view.data) == pattern())


@pytest.mark.timeout(300)
def test_300_megabytes_are_read_in_place_by_another_process(raw: shoal.BytesMap) -> None:
    needs_room(2 * HUGE)
    ctx = mp.get_context("fork")
    with shoal.Queue[Any]() as told:
        raw[b"huge"] = pattern()
        raw[b"small"] = b"beside it"
        child = ctx.Process(target=look, args=(raw, told))
        child.start()
        assert told.get() == HUGE and told.get() is True
        child.join()
        assert child.exitcode == 0
    assert raw[b"small"] == b"beside it" and len(raw.pop(b"huge")) == HUGE


def put_in(shared: Any) -> None:
    shared["huge"] = pattern()


@pytest.mark.timeout(300)
def test_300_megabytes_pass_from_one_process_to_another(shared: Any) -> None:
    needs_room(2 * HUGE)
    child = mp.get_context("fork").Process(target=put_in, args=(shared,))
    child.start()
    child.join()
    assert child.exitcode == 0
    assert shared.pop("huge") == pattern() and len(shared) == 0


def view_and_wait(raw: shoal.BytesMap, views: int, told: Any) -> None:
    kept: List[Any] = [raw.view(b"k") for _ in range(views)]
    told.put(bytes(kept[-1].data[:3]))
    signal.pause()


def opened_as(way: str, raw: shoal.BytesMap) -> Any:
    return raw if way == "BytesMap" else shoal.Map(raw.name, create=False).raw


@pytest.mark.parametrize("way", ["BytesMap", "Map.raw"])
def test_the_views_of_a_killed_process_are_free_for_others(
    ctx: Any, raw: shoal.BytesMap, way: str
) -> None:
    raw[b"k"] = b"old" * 1000
    with shoal.Queue[bytes]() as told:
        # There is no room for more.
        holder = ctx.Process(target=view_and_wait, args=(opened_as(way, raw), 12, told))
        holder.start()
        assert told.get() == b"old"
        with pytest.raises(shoal.ExhaustedError):
            raw.view(b"k")
        os.kill(holder.pid, signal.SIGKILL)
        holder.join()
        views = [raw.view(b"k") for _ in range(12)]
        assert all(view.data == b"old" * 1000 for view in views)
        for view in views:
            view.release()


def test_memory_that_a_killed_process_viewed_is_free_for_others(ctx: Any) -> None:
    # There is room for two of the largest values: the one that is viewed, and its successor.
    with shoal.BytesMap(max_capacity=1 << 20) as raw, shoal.Queue[bytes]() as told:
        raw[b"k"] = b"old" * 150_000
        holder = ctx.Process(target=view_and_wait, args=(raw, 1, told))
        holder.start()
        assert told.get() == b"old"
        raw[b"k"] = b"new" * 150_000
        with pytest.raises(shoal.NoSpaceError):
            raw[b"k"] = b"own" * 150_000
        assert raw[b"k"] == b"new" * 150_000
        os.kill(holder.pid, signal.SIGKILL)
        holder.join()
        raw[b"k"] = b"own" * 150_000
        assert raw[b"k"] == b"own" * 150_000


@pytest.mark.parametrize("number", [-1, 2**64, 2**64 + 4096])
@pytest.mark.parametrize("what", ["capacity", "max_capacity"])
@pytest.mark.parametrize("kind", [shoal.Queue, shoal.Map, shoal.List])
def test_a_capacity_of_another_type_is_an_error_that_names_it(
    kind: Any, what: str, number: int
) -> None:
    with pytest.raises(ValueError, match=f"^{what} is a number.*{number}"):
        kind(**{what: number})


def test_a_bound_beyond_64_bits_is_an_error_that_names_it() -> None:
    for what in ("maxsize", "max_attempts"):
        with pytest.raises(ValueError, match=f"^{what} is a number"):
            shoal.Queue(**{what: 2**64})


@pytest.mark.parametrize("kind", [shoal.Queue, shoal.Map, shoal.List])
def test_a_capacity_that_is_too_large_is_an_error_that_names_it(kind: Any) -> None:
    for what in ("capacity", "max_capacity"):
        with pytest.raises(shoal.TooLargeError, match=f"^{what} of {2**60} bytes"):
            kind(**{what: 2**60})


def arguments() -> "Iterator[Tuple[str, Any, int]]":
    """The name of an argument, a call with it, and the largest number that C has for it."""
    queue: "shoal.Queue[Any]" = shoal.Queue()
    table: "shoal.Map[str, Any]" = shoal.Map()
    here, _there = shoal.Pipe()
    room = queue.reserve(8)
    child = shoal.spawn(["sleep", "60"], die_with_parent=True)
    most = 2**64 - 1
    yield "size", queue.reserve, most
    yield "size", here.reserve, most
    yield "used", room.commit, most
    yield "index", queue.peek, most
    yield "version", lambda n: table.compare_swap_version("k", n, 1), most
    yield "seen", lambda n: table.wait_change(n, 0), most
    yield "seen", lambda n: table.wait_key("k", n, 0), most
    yield "delta", lambda n: table.raw.add(b"k", n), 2**63 - 1
    yield "items", lambda n: shoal.Array("i", n), most
    yield "max_attempts", lambda n: shoal.Queue(max_attempts=n), most
    yield "signal", child.send_signal, 2**31 - 1
    yield "descriptor", lambda n: shoal.wait([n], 0), 2**31 - 1
    yield "descriptor", lambda n: shoal.spawn(["true"], stdin=n), 2**30 - 1
    yield "workers", lambda n: shoal.Supervisor(["true"], n), most
    child.kill()
    child.join()


def test_a_number_beyond_its_type_is_an_error_that_names_it() -> None:
    for name, call, most in arguments():
        # ctypes would pass the lowest bits: 2**64 + 8 as 8.
        for number in (most + 1, 2**64 + 8, 2**64, 2**200):
            with pytest.raises(ValueError, match=f"{name}.* {number}"):
                call(number)
        if name != "max_attempts":
            with pytest.raises(ValueError):
                call(-(2**200))


def test_a_managers_array_refuses_a_number_that_its_type_cannot_have() -> None:
    # As the original, and not as an array of ctypes, which takes the lowest bits.
    with mp.Manager() as manager:
        for code, most in ("b", 127), ("B", 255), ("i", 2**31 - 1), ("Q", 2**64 - 1):
            array = manager.Array(code, [0, most, 1])
            for number in (most + 1, -(2**64)):
                with pytest.raises(OverflowError):
                    manager.Array(code, [number])
                with pytest.raises(OverflowError):
                    array[0] = number
                with pytest.raises(OverflowError):
                    array[0:2] = [1, number]
            assert list(array) == [0, most, 1]
            array[0:2] = [most, 3]
            array[2] = 5
            assert list(array) == [most, 3, 5]
