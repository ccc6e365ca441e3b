"""`Map.wait_change`: sleeping until anything in a map changes, by any process."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

import shoal
import shoal.multiprocessing as mp
from conftest import asleep, wait_until


def tell_of_changes(shared: Any, told: Any) -> None:
    """Puts the version, and then each that it has waited for."""
    seen = shared.version
    while True:
        told.put(seen)
        seen = shared.wait_change(seen)


CHANGES = [
    lambda shared: shared.__setitem__("new", 1),
    lambda shared: shared.__setitem__("new", 1),
    lambda shared: shared.add("new"),
    lambda shared: shared.add("new", 0.5),
    lambda shared: shared.update({"a": 1, "b": 2}),
    lambda shared: shared.setdefault("other", []),
    lambda shared: shared.update_with("other", lambda old: old + [1]),
    lambda shared: shared.compare_swap("a", 1, 2),
    lambda shared: shared.pop("a"),
    lambda shared: shared.__delitem__("b"),
    lambda shared: shared.clear(),
]


def test_a_waiting_thread_is_woken_by_a_change_of_any_key(ctx: Any, shared: Any) -> None:
    with shoal.Queue[int]() as told:
        waiter = ctx.Process(target=tell_of_changes, args=(shared, told))
        waiter.start()
        seen = told.get()
        for change in CHANGES:
            wait_until(lambda: asleep(waiter.pid))
            assert told.empty()
            before = shared.version
            change(shared)
            # A change of several keys is several changes, maybe, and seen as one or more.
            while seen != shared.version:
                later = told.get()
                assert later > seen
                seen = later
            assert seen > before
        # Reading changes nothing, and wakes no waiter.
        assert shared.get("new") is None and "a" not in shared and not list(shared)
        with pytest.raises(KeyError):
            del shared["a"]
        assert shared.version == seen and told.empty()
        os.kill(waiter.pid, signal.SIGKILL)
        waiter.join()


def wait_for_seconds(shared: Any, seconds: float, told: Any) -> None:
    seen = shared.version
    told.put("waits")
    try:
        told.put(shared.wait_change(seen, timeout=seconds) - seen)
    except shoal.TimeoutError as error:
        told.put(str(error))


def test_a_wait_without_a_change_ends_at_its_deadline(ctx: Any, shared: Any) -> None:
    shared["k"] = 1
    with shoal.Queue[Any]() as told:
        waiter = ctx.Process(target=wait_for_seconds, args=(shared, 0.1, told))
        waiter.start()
        assert told.get() == "waits"
        found = told.get()
        assert isinstance(found, str) and "time" in found
        waiter.join()
        assert waiter.exitcode == 0
    # A wait for a change that has already happened returns at once.
    version = shared.version
    assert shared.wait_change(version - 1, timeout=0) == version


def test_a_wait_ends_with_a_change_before_a_far_deadline(shared: Any) -> None:
    ctx = mp.get_context("fork")
    with shoal.Queue[Any]() as told:
        waiter = ctx.Process(target=wait_for_seconds, args=(shared, 1e6, told))
        waiter.start()
        assert told.get() == "waits"
        wait_until(lambda: asleep(waiter.pid))
        shared["k"] = 1
        assert told.get() > 0
        waiter.join()


def test_a_killed_waiter_does_not_block_wake_ups_of_others(shared: Any) -> None:
    ctx = mp.get_context("fork")
    with shoal.Queue[int]() as told, shoal.Queue[int]() as lost:
        waiters = [
            ctx.Process(target=tell_of_changes, args=(shared, queue))
            for queue in (lost, told, lost)
        ]
        for waiter in waiters:
            waiter.start()
            wait_until(lambda: asleep(waiter.pid))
        for waiter in waiters[::2]:
            os.kill(waiter.pid, signal.SIGKILL)
            waiter.join()
        before = told.get()
        shared["k"] = 1
        assert told.get() > before
        os.kill(waiters[1].pid, signal.SIGKILL)
        waiters[1].join()
