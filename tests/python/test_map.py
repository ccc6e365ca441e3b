"""`shoal.Map` and `shoal.BytesMap` in one process: the promises of every method."""

from __future__ import annotations

import collections
import datetime
import enum
import itertools
import os
import struct
import threading
import uuid
from typing import Any

import pytest

import shoal


class Colour(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    LOW = 1


Place = collections.namedtuple("Place", "x y")


class Text(str):
    pass


class Data(bytes):
    pass


class Whole(int):
    pass


class Real(float):
    pass


_numbers = itertools.count()


class Incomparable:
    """As an array of numpy: the result of a comparison is neither true nor false."""

    def __init__(self) -> None:
        self.number = next(_numbers)

    def __eq__(self, other: object) -> bool:
        raise ValueError("neither true nor false")


class Caseless(str):
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Caseless) and self.lower() == other.lower()

    def __hash__(self) -> int:
        return hash(self.lower())


KEYS = [
    "text",
    "",
    "grüße",
    b"bytes",
    b"",
    b"\xff",
    0,
    -5,
    10**30,
    1.5,
    float("inf"),
    None,
    ("a", 1, (b"x", None)),
    frozenset({"b", 2}),
    Colour.RED,
]

VALUES = [None, True, 0, -1, 2**63 - 1, 2**63, -(2**70), 1.0, "s", b"", b"12345678", [1, {"a": ()}]]


def test_a_map_behaves_like_a_dictionary(shared: "shoal.Map[Any, Any]") -> None:
    shared["a"] = 1
    shared["b"] = [2]
    assert shared == {"a": 1, "b": [2]} and len(shared) == 2 and "a" in shared
    shared["a"] = "changed"
    assert shared["a"] == "changed" and shared.get("x") is None and shared.get("x", 3) == 3
    del shared["a"]
    with pytest.raises(KeyError):
        shared["a"]
    with pytest.raises(KeyError):
        del shared["a"]
    assert "a" not in shared and bool(shared)
    shared.update({"c": 3}, d=4)
    assert sorted(shared) == ["b", "c", "d"]
    assert sorted(shared.keys()) == ["b", "c", "d"]
    assert sorted(shared.items())[1:] == [("c", 3), ("d", 4)]
    assert [2] in shared.values() and ("c", 3) in shared.items()
    assert shared.copy() == {"b": [2], "c": 3, "d": 4}
    shared.clear()
    assert not shared and list(shared) == []


def test_keys_of_every_type_are_returned_unchanged(shared: "shoal.Map[Any, Any]") -> None:
    for n, key in enumerate(KEYS):
        shared[key] = n
    assert len(shared) == len(KEYS)
    for n, key in enumerate(KEYS):
        assert shared[key] == n and key in shared
    assert set(shared) == set(KEYS)


def test_keys_that_are_equal_are_one_key(shared: "shoal.Map[Any, Any]") -> None:
    part = "x" * 5
    noon, safe = datetime.datetime(2026, 11, 30, 12), uuid.SafeUUID.safe
    for equal in [
        (1, True, 1.0, 1 + 0j, 1 - 0j),
        (0, False, -0.0, 0j, -0j),
        (complex(0.0, 1.0), complex(-0.0, 1.0)),
        ((part, part), ("x" * 5, "xxxxx")),
        (noon, noon.replace(fold=1)),
        (noon.time(), noon.time().replace(fold=1)),
        (uuid.UUID(int=5), uuid.UUID(int=5, is_safe=safe)),
        (range(0), range(5, 5), range(7, 2)),
        (range(3, 4), range(3, 9, 10), range(3, -9, -20)),
        (range(0, 3, 2), range(0, 4, 2)),
        (range(9, 0, -4), range(9, -1, -4)),
        (range(10**30), range(0, 10**30, 1)),
        ((range(0),), (range(5, 5),)),
    ]:
        shared.clear()
        for n, key in enumerate(equal):
            shared[key] = n
            assert all(shared[other] == n for other in equal)
        assert len(shared) == 1 and list(shared) == [equal[0]]


def test_every_text_is_a_key(shared: "shoal.Map[Any, Any]") -> None:
    names = ["\udcffname", "\udcff", "\ud800", "a\udc80", "\udcc3\udca9", "\xe9", "\udcffu", "\xff"]
    keys = [*names, *((name, 1) for name in names), frozenset(names)]
    for number, key in enumerate(keys):
        shared[key] = number
    assert shared == {key: number for number, key in enumerate(keys)}
    # A name of a file that is not UTF-8 is the bytes of that name.
    assert shared.raw[b"a\x80"] == shared.raw[os.fsencode("a\udc80")]


def test_a_key_of_a_derived_class_is_the_value_that_it_equals(
    shared: "shoal.Map[Any, Any]",
) -> None:
    pairs = [(Text("k"), "k"), (Data(b"k"), b"k"), (Whole(7), 7), (Real(7.5), 7.5), (Real(8), 8)]
    for derived, plain in [*pairs, ((Text("k"), Whole(1)), ("k", 1))]:
        for first, second in ((derived, plain), (plain, derived)):
            shared.clear()
            shared[first] = "first"
            assert shared[second] == "first" and second in shared
            shared[second] = "second"
            assert list(shared.items()) == [(plain, "second")]
            assert all(type(key) is type(plain) for key in shared)
    # It equals no text.
    shared.clear()
    shared[Caseless("k")] = 1
    assert "k" not in shared and type(next(iter(shared))) is Caseless


def test_a_numpy_number_is_the_key_that_it_equals(shared: "shoal.Map[Any, Any]") -> None:
    numpy = pytest.importorskip("numpy")
    pairs = [(numpy.int64(-1), -1), (numpy.uint8(200), 200), (numpy.float64(1.5), 1.5)]
    pairs += [(numpy.float32(0.1), float(numpy.float32(0.1))), (numpy.bool_(True), True)]
    pairs += [(numpy.str_("k"), "k"), (numpy.bytes_(b"k"), b"k")]
    for key, plain in [*pairs, ((numpy.int64(1), "a"), (1, "a"))]:
        shared.clear()
        shared[key] = 1
        assert shared[plain] == 1 and list(shared) == [plain]
        shared[plain] = 2
        assert shared[key] == 2 and len(shared) == 1
    when = numpy.datetime64("2026-11-30")
    shared.clear()
    shared[when] = 1
    assert list(shared) == [when]


def test_members_of_an_enum_and_named_tuples_are_returned_unchanged(
    shared: "shoal.Map[Any, Any]",
) -> None:
    shared[Level.LOW] = shared[Place(1, 2)] = "there"
    low, place = sorted(shared, key=str)
    assert low is Level.LOW and type(place) is Place and place.y == 2
    assert shared[Level.LOW] == shared[Place(1, 2)] == "there"
    assert 1 not in shared and (1, 2) not in shared


def test_an_unhashable_key_is_a_type_error(shared: "shoal.Map[Any, Any]") -> None:
    for key in ([], {}, ([],), {1}):
        with pytest.raises(TypeError):
            shared[key] = 1
    assert len(shared) == 0


def test_values_of_every_type_are_returned_unchanged(shared: "shoal.Map[Any, Any]") -> None:
    for n, value in enumerate(VALUES):
        shared[n] = value
    for n, value in enumerate(VALUES):
        assert shared[n] == value and type(shared[n]) is type(value)


def test_pickles_of_eight_bytes_are_not_taken_for_counters(
    shared: "shoal.Map[Any, Any]",
) -> None:
    shared["k"] = b"ab"  # pickles to 80 05 43 02 'a' 'b' 94 2e
    assert shared["k"] == b"ab"
    for size in range(20):
        shared["k"] = "x" * size
        assert shared["k"] == "x" * size


def test_large_values_pass(shared: "shoal.Map[Any, Any]") -> None:
    value = bytes(range(256)) * 1000
    shared["large"] = value
    assert shared["large"] == value
    assert shared.pop("large") == value


def test_add_counts_from_zero_and_wraps(shared: "shoal.Map[Any, Any]") -> None:
    assert shared.add("n") == 1
    assert shared.add("n", 41) == 42 == shared["n"]
    shared["n"] = 2**63 - 1
    assert shared.add("n", 1) == -(2**63)


def test_insert_setdefault_and_pop(shared: "shoal.Map[Any, Any]") -> None:
    assert shared.insert("k", 1) and not shared.insert("k", 2)
    assert shared.setdefault("k", 3) == 1 and shared.setdefault("new", [4]) == [4]
    assert shared.pop("k") == 1 and shared.pop("k", None) is None
    with pytest.raises(KeyError):
        shared.pop("k")
    assert shared.popitem() == ("new", [4])
    with pytest.raises(KeyError):
        shared.popitem()


def test_compare_swap_replaces_only_an_expected_value(shared: "shoal.Map[Any, Any]") -> None:
    assert shared.compare_swap("k", None, 1)
    assert not shared.compare_swap("k", None, 2)
    assert not shared.compare_swap("k", 2, 3)
    assert shared.compare_swap("k", 1, "two")
    assert shared.compare_swap("k", "two", None)
    assert "k" not in shared


def test_compare_swap_compares_values_as_python_does(shared: "shoal.Map[Any, Any]") -> None:
    forms = [1, 1.0, True, 1 + 0j], [{1, 2, 3}, {3, 2, 1}, frozenset({1, 2, 3})], [[1, True], [1.0, 1]]
    for equal in forms:
        for stored in equal:
            for expected in equal:
                shared["k"] = stored
                assert shared.compare_swap("k", expected, "new") and shared["k"] == "new"
                shared["k"] = stored
                assert shared.compare_swap("k", expected, None) and "k" not in shared
                assert not shared.compare_swap("k", expected, "new")
    shared["k"] = ["a", Incomparable()]
    assert not shared.compare_swap("k", ["a", Incomparable()], 1)
    shared.raw[b"k"] = b"of another program"
    assert not shared.compare_swap("k", "of another program", 1)
    shared.raw[b"k"] = b"\x80of another program"
    assert not shared.compare_swap("k", 1.0, 1)
    assert not shared.raw.compare_swap(b"k", b"", b"1")


def test_update_with_loses_no_update_of_racing_threads(shared: "shoal.Map[Any, Any]") -> None:
    def work() -> None:
        for _ in range(100):
            shared.update_with("list", lambda items: items + [0], default=[])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(shared["list"]) == 400
    with pytest.raises(KeyError):
        shared.update_with("absent", lambda value: value)


def test_of_racing_setdefaults_one_wins_and_all_agree(shared: "shoal.Map[Any, Any]") -> None:
    results: "list[Any]" = []
    threads = [
        threading.Thread(target=lambda i=i: results.append(shared.setdefault("k", i)))
        for i in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(results)) == 1 and shared["k"] == results[0]


def test_iteration_yields_each_of_a_thousand_entries_once(shared: "shoal.Map[Any, Any]") -> None:
    for n in range(1000):
        shared[n] = n * n
    walked = list(shared.items())
    assert len(walked) == 1000 and dict(walked) == {n: n * n for n in range(1000)}
    # An iteration that is abandoned half-way, and one during which the map changes.
    for _ in shared:
        break
    for key in shared:
        del shared[key]
    assert len(shared) == 0


def test_other_languages_read_text_keys_and_integers_unchanged(
    shared: "shoal.Map[Any, Any]",
) -> None:
    shared["größe"] = -7
    raw = shared.raw
    assert dict(raw) == {"größe".encode(): struct.pack("<q", -7)}
    raw[b"from C"] = struct.pack("<q", 12)
    assert shared["from C"] == 12
    raw.detach()
    assert shared["from C"] == 12


def test_foreign_keys_and_values_are_reachable(shared: "shoal.Map[Any, Any]") -> None:
    shared.raw[b"\x80\x81"] = b"plain"
    (key,) = shared
    assert key in shared
    with pytest.raises(ValueError, match="BytesMap"):
        shared[key]
    assert shared.raw.pop(b"\x80\x81") == b"plain"
    shared.raw[b"\xff?"] = b""
    with pytest.raises(ValueError, match="BytesMap"):
        list(shared)
    assert "\udcff?" not in shared
    shared.clear()


def test_a_bytes_map_takes_bytes_only(name: str) -> None:
    with shoal.BytesMap(name) as raw:
        raw[b"k"] = bytearray(b"v")
        assert raw[b"k"] == b"v" and raw.add(b"n", 5) == 5 and list(raw.items())
        for key, value in [("k", b"v"), (b"k", "v"), (3, b"v")]:
            with pytest.raises(TypeError):
                raw[key] = value  # type: ignore[index,assignment]


def test_a_detached_map_refuses_use() -> None:
    shared = shoal.Map[str, int]()
    shared.detach()
    with pytest.raises(shoal.ClosedError, match="detached"):
        shared["k"] = 1
    assert "detached" in repr(shared)


@pytest.mark.parametrize("ordered", [False, True])
def test_popitem_of_expired_keys_is_an_error_and_no_hang(ordered: bool) -> None:
    with shoal.Map(ordered=ordered) as shared:
        for key in range(20):
            shared.set_for(key, key, 0.0)
        with pytest.raises(KeyError, match="the map is empty"):
            shared.popitem()
        assert len(shared) == 0
        shared.set_for("gone", 1, 0.0)
        shared["there"] = 2
        assert shared.popitem() == ("there", 2)
        with pytest.raises(KeyError):
            shared.popitem()


def test_popitem_of_an_ordered_map_reads_no_other_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    with shoal.Map(ordered=True) as shared:
        for key in range(300):
            shared[key] = key
        shared[0] = "replaced"
        shared["k" * 50_000] = "a long key"
        monkeypatch.setattr(shoal.Map, "_entries", None)
        assert shared.popitem() == ("k" * 50_000, "a long key")
        assert [shared.popitem()[0] for _ in range(300)] == list(reversed(range(300)))
        with pytest.raises(KeyError, match="the map is empty"):
            shared.popitem()


def test_every_call_of_a_bytes_map_takes_bytes_only() -> None:
    with shoal.BytesMap() as raw:
        raw[b"spent"] = bytes(8)
        for call in (raw.add, lambda key: raw.add_float(key, 0.5), raw.view, raw.get, raw.lock_key):
            for key in ("spent", 5, None):
                with pytest.raises(TypeError):
                    call(key)
        for key in (b"spent", bytearray(b"spent"), memoryview(b"-spent-")[1:-1]):
            with raw.view(key) as view:
                assert view.data.nbytes == 8
            raw.add_float(key, 0.5)
        assert raw.add_float(b"spent", 0) == 1.5 and list(raw) == [b"spent"]
