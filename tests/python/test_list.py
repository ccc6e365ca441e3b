"""`shoal.List` and `shoal.BytesList`: the promises of every method."""

from __future__ import annotations

import os
import pickle
import random
import signal
from typing import Any, Iterator, List

import pytest

import shoal
import shoal.multiprocessing as mp
from conftest import START_METHODS, Script, ends_well

VALUES = [None, True, 0, -1, 2**63 - 1, 2**63, 1.0, "s", b"", b"12345678", [1, {"a": ()}]]


@pytest.fixture
def shared() -> Iterator["shoal.List[Any]"]:
    with shoal.List[Any]() as made:
        yield made


def test_a_shared_list_behaves_like_a_list(shared: "shoal.List[Any]") -> None:
    shared.append("a")
    shared += ["b", "c"]
    assert shared == ["a", "b", "c"] and len(shared) == 3 and "b" in shared and bool(shared)
    assert shared[0] == "a" and shared[-1] == "c" and shared[1:] == ["b", "c"]
    shared[-1] = {"c": 3}
    shared.insert(0, None)
    assert shared.copy() == [None, "a", "b", {"c": 3}] == list(shared)
    assert shared.pop() == {"c": 3} and shared.pop(0) is None
    assert [shared.index("b"), shared.count("a"), shared.count("x")] == [1, 1, 0]
    shared.remove("a")
    assert shared == ["b"] and shared != ["c"] and shared != "b"
    shared.clear()
    assert not shared and list(shared) == [] and shared == []


def test_a_shared_list_refuses_what_a_list_refuses(shared: "shoal.List[Any]") -> None:
    plain = [1, 2]
    shared.extend(plain)
    for index in (2, -3, 2**70, -(2**70)):
        for one in (plain, shared):
            with pytest.raises(IndexError):
                one[index]
            with pytest.raises(IndexError):
                one[index] = 3
            with pytest.raises(IndexError):
                del one[index]
            with pytest.raises((IndexError, OverflowError)):
                one.pop(index)
    for one in (plain, shared):
        with pytest.raises(ValueError):
            one.remove(9)
        with pytest.raises(ValueError):
            one.index(9)
        with pytest.raises(ValueError):
            one.index(1, 1)
        with pytest.raises(ValueError):
            one[::2] = [1, 2, 3]
        with pytest.raises(TypeError):
            one["x"]  # type: ignore[call-overload]
        with pytest.raises(TypeError):
            one + 1
        with pytest.raises(TypeError):
            hash(one)
    assert shared == plain
    shared.clear()
    with pytest.raises(IndexError):
        shared.pop()


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_any_value_is_returned_unchanged(shared: "shoal.List[Any]", value: Any) -> None:
    shared.append(value)
    assert shared[0] == value and type(shared[0]) is type(value)
    assert shared.pop() == value


def a_slice(chance: random.Random, length: int) -> slice:
    bounds = [None, *range(-length - 2, length + 3)]
    step = chance.choice([None, None, 1, 1, 2, 3, -1, -2])
    return slice(chance.choice(bounds), chance.choice(bounds), step)


@pytest.mark.parametrize("seed", range(6))
def test_random_operations_have_the_results_of_a_list(
    shared: "shoal.List[Any]", seed: int
) -> None:
    chance, plain = random.Random(seed), []  # type: ignore[var-annotated]
    for _ in range(700):
        at = chance.randint(-len(plain) - 2, len(plain) + 1)
        some = [chance.randrange(20) for _ in range(chance.randrange(5))]
        cut = a_slice(chance, len(plain))
        times = chance.choice([0, 1, 1, 2])
        operations = [
            lambda x: x.append(at),
            lambda x: x.insert(at, "i"),
            lambda x: x.extend(some),
            lambda x: x.pop(at),
            lambda x: x.pop(),
            lambda x: x[at],
            lambda x: x.__setitem__(at, "s"),
            lambda x: x.__delitem__(at),
            lambda x: x[cut],
            lambda x: x.__setitem__(cut, some),
            lambda x: x.__setitem__(cut, ["r"] * len(x[cut])),
            lambda x: x.__delitem__(cut),
            lambda x: x.remove(some[0]),
            lambda x: x.index(some[0], at),
            lambda x: x.count(some[0]),
            lambda x: x.sort(key=str, reverse=bool(times)),
            lambda x: x.reverse(),
            lambda x: x * times,
            lambda x: x + some,
            lambda x: list(reversed(x)),
            lambda x: some in x,
            lambda x: list(x.__imul__(times)) if len(x) < 40 else x.clear(),
        ]
        operation = chance.choice(operations)
        results: List[Any] = []
        for one in (plain, shared):
            try:
                results.append(operation(one))
            except (IndexError, ValueError) as err:
                results.append(type(err))
        assert results[0] == results[1]
        assert shared == plain and len(shared) == len(plain)


def test_comparisons_and_concatenations_have_the_results_of_a_list(
    shared: "shoal.List[Any]"
) -> None:
    shared.extend([1, 2])
    with shoal.List[Any]() as other:
        other.extend([1, 3])
        assert shared < other and other > [1, 2] and shared <= [1, 2] and shared >= [1]
        assert shared + other == [1, 2, 1, 3] and [0] + shared == [0, 1, 2]
        assert 2 * shared == [1, 2, 1, 2] and shared != other
    same = shared
    same += shared
    assert same is shared and shared == [1, 2, 1, 2]
    shared[1:1] = shared
    assert shared == [1, 1, 2, 1, 2, 2, 1, 2]


def test_a_long_list_is_read_in_slices_and_completely(shared: "shoal.List[Any]") -> None:
    plain = [str(i) * (i % 50) for i in range(5000)] + ["large" * 100_000]
    shared.extend(plain)
    assert shared == plain and list(shared) == plain
    assert shared[4000:] == plain[4000:] and shared[10:4500] == plain[10:4500]
    assert shared[::-7] == plain[::-7]
    shared.sort()
    plain.sort()
    assert shared == plain


def test_equal_elements_keep_their_order(shared: "shoal.List[Any]") -> None:
    plain = [(i % 3, i) for i in range(50)]
    for reverse in (False, True):
        shared[:] = plain
        shared.sort(key=lambda pair: pair[0], reverse=reverse)
        assert shared == sorted(plain, key=lambda pair: pair[0], reverse=reverse)

def test_a_list_that_grows_while_it_is_sorted_has_the_new_elements_at_its_end(
    shared: "shoal.List[Any]",
) -> None:
    shared.extend([3, 1, 2])
    asked: List[int] = []

    def key(value: int) -> int:
        asked.append(value)
        shared.append(9 - len(asked))
        return value

    shared.sort(key=key)
    assert shared == [1, 2, 3, 8, 7, 6] and asked == [3, 1, 2]


def test_a_list_that_changes_while_it_is_sorted_is_sorted_again(shared: "shoal.List[Any]") -> None:
    shared.extend([3, 1, 2, 2])
    asked: List[int] = []

    def key(value: int) -> int:
        asked.append(value)
        if len(asked) == 2:
            shared[0] = 0
        return value

    shared.sort(key=key)
    assert shared == [0, 1, 2, 2] and asked == [3, 1, 2, 2, 0]


def test_a_list_that_changes_in_each_attempt_to_sort_it_is_an_error(
    shared: "shoal.List[Any]",
) -> None:
    class Never:
        def __init__(self, value: int) -> None:
            self.value = value

        def __lt__(self, other: "Never") -> bool:
            shared[0] += 1
            return self.value < other.value

    shared.extend([3, 1, 2])
    with pytest.raises(ValueError, match="list modified during sort: "):
        shared.sort(key=Never)
    assert shared[1:] == [1, 2]


def test_an_element_is_removed_though_others_are_appended_meanwhile(
    shared: "shoal.List[Any]",
) -> None:
    class Equal:
        def __eq__(self, other: object) -> bool:
            shared.append("new")
            return other == 2

    shared.extend([1, 2, 3])
    shared.remove(Equal())
    assert shared[:2] == [1, 3] and set(shared[2:]) == {"new"}


def test_a_key_that_raises_changes_nothing(shared: "shoal.List[Any]") -> None:
    shared.extend([3, "a", 1])
    with pytest.raises(TypeError):
        shared.sort()
    assert shared == [3, "a", 1]


def test_swaps_and_updates_are_atomic(shared: "shoal.List[Any]") -> None:
    shared.extend([1, 2, 3])
    shared.swap(0, -1)
    assert shared == [3, 2, 1]
    assert shared.compare_swap(0, 3, 30) and not shared.compare_swap(0, 3, 31)
    assert shared.compare_swap(0, 30.0, True) and shared.compare_swap(0, 1, 30)
    assert not shared.compare_swap(3, 1, 2) and not shared.raw.compare_swap(0, b"", b"")
    assert shared.update_with(-1, lambda n: n + 1) == 2
    assert shared == [30, 2, 2]
    with pytest.raises(IndexError):
        shared.swap(0, 3)


def test_the_same_list_under_its_name(shared: "shoal.List[Any]") -> None:
    shared.append(1)
    assert pickle.loads(pickle.dumps(shared)) is shared
    other: "shoal.List[Any]" = shoal.List(shared.name, create=False)
    assert other == shared and repr(other) == f"<shoal.List {shared.name!r}, 1 elements>"
    assert list(other.raw) == [b"\1\0\0\0\0\0\0\0"]
    other.raw.append(b"no pickle")
    with pytest.raises(ValueError, match="BytesList"):
        shared[-1]
    with pytest.raises(TypeError, match="bytes"):
        other.raw.append("text")  # type: ignore[arg-type]
    other.detach()
    with pytest.raises(shoal.ClosedError):
        other.append(2)
    with pytest.raises(shoal.WrongKindError):
        shoal.Map(shared.name)


def test_a_full_list_does_not_change() -> None:
    with shoal.List[bytes](max_capacity=1 << 17) as full:
        full.extend([b"x" * 1000] * 90)
        for change in (
            lambda: full.extend([b"y" * 1000] * 90),
            lambda: full.insert(3, b"z" * 50_000),
            lambda: full.__imul__(3),
        ):
            with pytest.raises(shoal.NoSpaceError):
                change()
            assert full == [b"x" * 1000] * 90


def fill(shared: Any, who: int) -> None:
    for number in range(300):
        shared.append((who, number))
        if number % 3 == 0:
            shared.extend([shared.pop(0)])
        if number % 100 == 0:
            shared.sort()


@pytest.mark.parametrize("method", START_METHODS)
def test_several_processes_lose_nothing(shared: "shoal.List[Any]", method: str) -> None:
    ctx = mp.get_context(method)
    children = [ctx.Process(target=fill, args=(shared, who)) for who in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join()
        assert child.exitcode == 0
    assert sorted(shared) == [(who, number) for who in range(3) for number in range(300)]


def change_for_ever(shared: Any, seed: int) -> None:
    chance = random.Random(seed)
    while True:
        pair = [chance.randrange(1000)] * 2
        # After every change, the list still consists of pairs of equal numbers.
        at = 2 * chance.randrange(10)
        choice = chance.randrange(6)
        if choice < 3:
            shared[at:at] = pair
        elif choice == 3:
            shared[at : at + 2] = pair
        elif choice == 4:
            del shared[at : at + 2]
        elif len(shared) > 60:
            del shared[20:]
        else:
            shared.reverse()


def test_a_change_happens_wholly_or_not_at_all_when_a_process_is_killed(
    shared: "shoal.List[Any]"
) -> None:
    ctx = mp.get_context("fork")
    for seed in range(12):
        children = [ctx.Process(target=change_for_ever, args=(shared, seed)) for _ in range(2)]
        for child in children:
            child.start()
        for _ in range(20):
            seen = shared[:]
            assert seen[::2] == seen[1::2]
        for child in children:
            os.kill(child.pid, signal.SIGKILL)
            child.join()
        seen = shared.copy()
        assert seen[::2] == seen[1::2] and len(seen) == len(shared)


def test_another_program_sees_the_list(shared: "shoal.List[Any]", script: Script) -> None:
    shared.append("here")
    program = script(
        f"""
        import shoal
        found = shoal.List({shared.name!r}, create=False)
        print(found.pop())
        found += ["there"]
        """
    )
    assert ends_well(program) == "here\n" and shared == ["there"]
