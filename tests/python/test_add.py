"""`shoal.Map.add`: a counter for integers, and the sum of Python for other numbers."""

from __future__ import annotations

import enum
import os
import signal
import struct
import threading
import time
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

import shoal
import shoal.multiprocessing as mp
from conftest import wait_until

ABSENT: Any = object()


class Size(enum.IntEnum):
    LARGE = 3


class Whole(int):
    pass


class Joined(str):
    """No number, though something can be added to it."""

    def __add__(self, other: object) -> "Joined":
        return Joined(f"{self!s} and {other}")


@pytest.mark.parametrize(
    "old, delta",
    [
        (ABSENT, 0.5),
        (ABSENT, 2**64),
        (ABSENT, Fraction(1, 3)),
        (1, 0.5),
        (0.5, 1),
        (0.5, 0.25),
        (-1.5, -1),
        (1.5, True),
        (True, 1),
        (False, 0.5),
        (5, 2**64),
        (5, -(2**63) - 1),
        (2**63, 1),
        (-(2**70), -1),
        (2**63, -1),
        (1, 1j),
        (Fraction(1, 3), 1),
        (Decimal("0.1"), Decimal("0.2")),
        (Size.LARGE, 1),
        (Whole(2), Whole(3)),
        (0.5, Size.LARGE),
        (1e308, 1e308),
    ],
)
def test_the_sum_is_what_python_computes(shared: Any, old: Any, delta: Any) -> None:
    if old is not ABSENT:
        shared["k"] = old
    expected = (0 if old is ABSENT else old) + delta
    for found in (shared.add("k", delta), shared["k"]):
        assert found == expected and type(found) is type(expected)
    assert shared.add("k", delta) == expected + delta == shared["k"]


@pytest.mark.parametrize("delta", [True, Size.LARGE, Whole(3)], ids=repr)
def test_an_instance_of_an_int_subclass_counts_as_an_int(shared: Any, delta: Any) -> None:
    assert shared.add("k", delta) == delta and type(shared["k"]) is int
    assert shared.raw[b"k"] == struct.pack("<q", delta)
    # So it is a counter, which wraps around.
    shared["k"] = 2**63 - 1
    assert shared.add("k", delta) == int(delta) - 2**63 - 1


def test_a_numpy_number_is_a_number(shared: Any) -> None:
    numpy = pytest.importorskip("numpy")
    assert shared.add("k", numpy.int32(3)) == 3 and type(shared["k"]) is int
    assert shared.add("k", numpy.float64(0.5)) == 3.5 == shared["k"]


def test_a_sum_that_fits_64_bits_again_is_a_counter_again(shared: Any) -> None:
    shared["k"] = 2**63
    assert shared.add("k", -1) == 2**63 - 1
    assert shared.raw[b"k"] == struct.pack("<q", 2**63 - 1)
    assert shared.raw.add(b"k", -1) == 2**63 - 2 == shared["k"]


@pytest.mark.parametrize(
    "old, delta",
    [
        ("text", 1),
        ("text", 0.5),
        ("text", "more"),
        ([1], 1),
        (None, 1),
        (None, 0.5),
        (b"12345678", 1),
        (Joined("text"), 1),
        (Joined("text"), 0.5),
        (1, "text"),
        (1, None),
        (0.5, [1]),
        (0.5, Decimal("0.1")),
    ],
)
def test_adding_to_another_type_is_a_type_error_and_changes_nothing(
    shared: Any, old: Any, delta: Any
) -> None:
    shared["k"] = old
    version = shared.version_of("k")
    with pytest.raises(TypeError):
        shared.add("k", delta)
    assert shared["k"] == old and shared.version_of("k") == version
    with pytest.raises(TypeError):
        shared.add("absent", "text")
    assert "absent" not in shared
    # The key is not locked.
    with shared.lock_key("k", timeout=0) as lock:
        assert not lock.owner_died


def test_a_sum_that_python_cannot_compute_changes_nothing(shared: Any) -> None:
    shared["k"] = 10**400
    with pytest.raises(OverflowError):
        shared.add("k", 0.5)
    assert shared["k"] == 10**400
    shared.raw[b"k"] = b"of another program"
    for delta in (1, 0.5):
        with pytest.raises(ValueError, match="BytesMap"):
            shared.add("k", delta)
    assert shared.raw[b"k"] == b"of another program"


def test_a_map_of_bytes_has_counters_only(shared: Any) -> None:
    shared["k"] = 0.5
    with pytest.raises(shoal.InvalidError):
        shared.raw.add(b"k", 1)
    assert shared["k"] == 0.5


def test_an_addition_keeps_the_expiry_of_the_key(shared: Any) -> None:
    shared.set_for("k", 0.5, 1000)
    for _ in range(3):
        shared.add("k", 0.5)
        left = shared.time_left("k")
        assert left is not None and 500 < left <= 1000
    assert shared["k"] == 2.0
    shared.set_for("short", 0.5, 0.01)
    # The sum grows until the key expires; then it starts again, without an expiry.
    wait_until(lambda: bool(shared.add("short", 0.5) == 0.5))
    assert shared.time_left("short") is None
    shared["stays"] = 0.5
    shared.add("stays", 0.5)
    assert shared.time_left("stays") is None


def test_a_change_without_the_lock_is_not_lost(shared: Any) -> None:
    changes = [lambda: shared.add("k", 3), lambda: shared.__setitem__("k", 0.25)]
    changes += [lambda: shared.pop("k"), lambda: shared.set_for("k", 1, 1000)]

    class Slow(Fraction):
        """While it is added, another handle changes the value."""

        def __radd__(self, old: Any) -> Any:
            if changes:
                changes.pop(0)()
            return old + 0.5

    shared["k"] = 1
    shared.add("k", Slow(1, 2))
    assert changes == [] and shared["k"] == 1.5
    assert shared.time_left("k") > 500


def test_add_waits_only_for_the_lock_of_another_thread(shared: Any) -> None:
    outcome = []
    shared["k"] = 0.5
    with shared.lock_key("k"):
        assert shared.add("k", 0.5) == 1.0
        thread = threading.Thread(target=lambda: outcome.append(shared.add("k", 0.5)))
        thread.start()
        time.sleep(0.05)
        assert outcome == [] and shared["k"] == 1.0
    thread.join()
    assert outcome == [1.5] and shared["k"] == 1.5


def add_often(shared: Any, delta: Any, times: int) -> None:
    for _ in range(times):
        shared.add("sum", delta)


# The deltas turn the counter into a number of another type.
@pytest.mark.parametrize("deltas", [[1, 0.5, 1, 0.25], [1, 2**64, 1, -3]])
def test_no_addition_of_several_processes_is_lost(ctx: Any, shared: Any, deltas: Any) -> None:
    workers = [ctx.Process(target=add_often, args=(shared, delta, 200)) for delta in deltas]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert shared["sum"] == 200 * sum(deltas)


def add_for_ever(shared: Any, me: str) -> None:
    while True:
        shared.add("sum", 0.5)
        shared.add(me)


def test_an_addition_happens_wholly_or_not_at_all_when_a_process_is_killed() -> None:
    ctx = mp.get_context("fork")
    with shoal.Map[Any, Any]() as shared:
        names = []
        for round in range(6):
            farm = {
                f"{round}-{who}": ctx.Process(target=add_for_ever, args=(shared, f"{round}-{who}"))
                for who in range(3)
            }
            for worker in farm.values():
                worker.start()
            for name, worker in farm.items():
                # Every worker makes progress, whatever the killed ones were doing.
                goal = shared.get(name, 0) + 20
                wait_until(lambda: bool(shared.get(name, 0) > goal))
                os.kill(worker.pid, signal.SIGKILL)
                worker.join()
            names += farm
            written = sum(shared[name] for name in names)
            added = shared["sum"] / 0.5
            # Each killed process may have made one addition that it has not recorded.
            assert written <= added <= written + len(names)
            assert shared.add("sum", 0.5) == (added + 1) * 0.5
            shared.add("sum", -0.5)
