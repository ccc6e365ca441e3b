"""A wrong argument is a `TypeError` or a `ValueError` that names it, whether or not the call would use it."""

from __future__ import annotations

import decimal
import fractions
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Dict

import pytest

import shoal
import shoal.multiprocessing as mp
from shoal import _ffi
from shoal.futures import ProcessPoolExecutor

NAN = float("nan")


def queue_of(*messages: object) -> "shoal.Queue[Any]":
    made: shoal.Queue[Any] = shoal.Queue()
    made.put_many(messages)
    return made


def map_of(**entries: object) -> "shoal.Map[str, Any]":
    made: shoal.Map[str, Any] = shoal.Map()
    made.update(entries)
    return made


# Calls that need not wait, with a timeout.
TIMEOUTS: Dict[str, Callable[[Any], object]] = {
    "Lock.acquire": lambda t: shoal.Lock().acquire(timeout=t),
    "Lock.acquire without waiting": lambda t: shoal.Lock().acquire(False, t),
    "RLock.acquire": lambda t: shoal.RLock().acquire(True, t),
    "Semaphore.acquire": lambda t: shoal.Semaphore().acquire(timeout=t),
    "Event.wait": lambda t: shoal.Event().wait(t),
    "Barrier.wait": lambda t: shoal.Barrier(1).wait(t),
    "Barrier": lambda t: shoal.Barrier(1, timeout=t).wait(),
    "RWLock.acquire_read": lambda t: shoal.RWLock().acquire_read(timeout=t),
    "RWLock.acquire_write": lambda t: shoal.RWLock().acquire_write(timeout=t),
    "Value.acquire": lambda t: shoal.Value("i").acquire(timeout=t),
    "Queue.put": lambda t: queue_of().put(1, timeout=t),
    "Queue.put without waiting": lambda t: queue_of().put(1, False, t),
    "Queue.put of a large object": lambda t: queue_of().put(bytes(100_000), True, t),
    "Queue.put_bytes": lambda t: queue_of().put_bytes(b"1", timeout=t),
    "Queue.put_many": lambda t: queue_of().put_many([1], timeout=t),
    "Queue.put_many_bytes": lambda t: queue_of().put_many_bytes([b"1"], False, t),
    "Queue.reserve": lambda t: queue_of().reserve(1, timeout=t),
    "Queue.get": lambda t: queue_of(1).get(timeout=t),
    "Queue.get without waiting": lambda t: queue_of(1).get(False, t),
    "Queue.get without a copy": lambda t: queue_of(1).get(True, t, copy=False),
    "Queue.get_bytes": lambda t: queue_of(1).get_bytes(timeout=t),
    "Queue.get_many": lambda t: queue_of(1).get_many(timeout=t),
    "Queue.get_many without waiting": lambda t: queue_of(1).get_many(5, False, t),
    "Queue.lease": lambda t: queue_of(1).lease(timeout=t),
    "Queue.join": lambda t: queue_of().join(t),
    "Map.lock_key": lambda t: map_of().lock_key("k", t),
    "Map.wait_key": lambda t: map_of(k=1).wait_key("k", 0, t),
    "Map.wait_change": lambda t: map_of(k=1).wait_change(0, t),
    "Connection.poll": lambda t: shoal.Pipe()[0].poll(t),
    "wait": lambda t: shoal.wait([queue_of(1)], t),
    "Process.join": lambda t: joined().join(t),
    "multiprocessing.Lock": lambda t: mp.Lock().acquire(timeout=t),
    "multiprocessing.Queue": lambda t: mp.Queue().put(1, timeout=t),
    "multiprocessing.JoinableQueue": lambda t: mp.JoinableQueue().join(t),
    "multiprocessing.connection.wait": lambda t: mp.connection.wait([mp.Pipe()[0]], t),
}


def joined() -> shoal.Process:
    child = shoal.spawn(["true"])
    child.join()
    return child


@pytest.mark.parametrize("call", TIMEOUTS.values(), ids=TIMEOUTS)
def test_a_timeout_that_is_no_number_is_an_error_before_anything_happens(
    call: Callable[[Any], object],
) -> None:
    for wrong in ("x", b"1", [], 1j):
        with pytest.raises(TypeError) as caught:
            call(wrong)
        assert str(caught.value) == f"timeout is a number of seconds or None, not {wrong!r}"
    with pytest.raises(ValueError, match="timeout is a number of seconds or None, not nan"):
        call(NAN)
    for right in (decimal.Decimal("0.001"), fractions.Fraction(1, 1000), True, -1, -(10**400)):
        try:
            call(right)
        except (shoal.TimeoutError, shoal.NotFoundError):
            pass


def test_a_call_with_a_wrong_timeout_takes_nothing() -> None:
    lock, queue = shoal.Lock(), queue_of(1, 2)
    for call in (lock.acquire, queue.get, queue.get_many, queue.lease, queue.put):
        with pytest.raises(TypeError):
            call(timeout="x", **({"obj": 3} if call == queue.put else {}))  # type: ignore[operator]
    assert not lock.locked() and queue.qsize() == 2 and queue.leased == 0
    condition = shoal.Condition()
    with condition:
        for wait in (condition.wait, lambda t: condition.wait_for(lambda: False, t)):
            with pytest.raises(TypeError, match="timeout is a number"):
                wait("x")  # type: ignore[operator]
        assert condition._depth() == 1


@pytest.mark.parametrize(
    "call, what",
    [
        (lambda t: map_of(k=1).set_for("k", 1, t), "seconds"),
        (lambda t: map_of(k=1).expire("k", t), "seconds"),
        (lambda t: queue_of(1).lease(visible=t), "visible"),
        (lambda t: queue_of(1).lease().extend(t), "visible"),
        (lambda t: queue_of(1).lease().nack(t), "delay"),
        (lambda t: shoal.Supervisor(["true"], 1, grace=t), "grace"),
        (lambda t: shoal.Supervisor(["true"], 1, healthy_after=t), "healthy_after"),
        (lambda t: shoal.Supervisor(["true"], 1, backoff=(0.1, t)), "backoff"),
    ],
)
def test_a_wrong_duration_is_an_error_that_names_it(call: Any, what: str) -> None:
    for wrong in ("x", [], NAN):
        with pytest.raises(ValueError if wrong is NAN else TypeError) as caught:
            call(wrong)
        assert str(caught.value).startswith(f"{what} is a number of seconds")
    with pytest.raises(ValueError, match=f"{what} must not be negative, but is -1"):
        call(-1)


NAMED = [shoal.Queue, shoal.Map, shoal.List, shoal.Lock, shoal.Event, shoal.RWLock]


def test_a_name_of_another_type_or_place_is_an_error_that_says_so() -> None:
    for kind in NAMED:
        for wrong in (b"x", 5):
            with pytest.raises(TypeError, match="name is text, not "):
                kind(wrong)  # type: ignore[operator]
        with pytest.raises(shoal.InvalidError, match="invalid name .*surrogate"):
            kind("\ud800")
    for make, what in [
        (shoal.Semaphore, "value is a whole number"),
        (shoal.BoundedSemaphore, "value is a whole number"),
        (shoal.Barrier, "parties is a whole number"),
        (shoal.Condition, "lock is a Lock or an RLock"),
    ]:
        with pytest.raises(TypeError, match=f"{what}, not 'my-name': pass a name as name="):
            make("my-name")  # type: ignore[arg-type,operator]
        with pytest.raises(TypeError, match=f"{what}, not 1.5"):
            make(1.5)  # type: ignore[arg-type,operator]
    with pytest.raises(TypeError, match="family is text, not None"):
        shoal.devices.variable(None)  # type: ignore[arg-type]


def test_a_wrong_number_is_an_error_that_names_it() -> None:
    queue = queue_of(1)
    for call, what in [
        (lambda n: shoal.Queue(max_attempts=n), "max_attempts"),
        (lambda n: queue.get_many(n, False), "max_items"),
        (lambda n: queue.get_many_bytes(n, False), "max_items"),
    ]:
        with pytest.raises(ValueError, match=f"{what} is a number from 0 .* not -1"):
            call(-1)
        with pytest.raises(TypeError, match=f"{what} is a whole number, not 1.5"):
            call(1.5)
    assert queue.get_many(0) == [] and queue.qsize() == 1
    for release in (shoal.Semaphore().release, mp.Semaphore().release):
        with pytest.raises(TypeError, match="n is a whole number, not 1.5"):
            release(1.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="delta is a number, not 'x'"):
        shoal.BytesMap().add_float(b"k", "x")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="items is a mapping"):
        map_of().set_many([("k", 1)])  # type: ignore[arg-type]
    with pytest.raises(shoal.TooLargeError, match="number of items of 9223372036854775808 is above"):
        shoal.Array("i", 2**63)


def test_a_number_that_is_not_whole_is_an_error_that_names_it() -> None:
    fork = mp.get_context("fork")
    one, other = shoal.Pipe()
    one.send(1)
    with fork.Pool(1) as pool, ProcessPoolExecutor(1, fork) as executor:
        for what, call in [
            ("processes", lambda n: fork.Pool(n)),
            ("chunksize", lambda n: pool.map(abs, [1], n)),
            ("chunksize", lambda n: pool.starmap_async(abs, [(1,)], chunksize=n)),
            ("chunksize", lambda n: pool.imap(abs, [1], n)),
            ("chunksize", lambda n: pool.imap_unordered(abs, [1], chunksize=n)),
            ("max_workers", lambda n: ProcessPoolExecutor(n)),
            ("chunksize", lambda n: executor.map(abs, [1], chunksize=n)),
            ("workers", lambda n: shoal.Supervisor(["true"], n)),
            ("offset", lambda n: one.send_bytes(b"abc", n)),
            ("size", lambda n: one.send_bytes(b"abc", 0, n)),
            ("maxlength", lambda n: other.recv_bytes(n)),
            ("offset", lambda n: other.recv_bytes_into(bytearray(9), n)),
        ]:
            for wrong in (NAN, 1.0, "1"):
                with pytest.raises(TypeError) as caught:
                    call(wrong)
                assert str(caught.value) == f"{what} is a whole number, not {wrong!r}"
        # Another type of integer is one.
        assert list(executor.map(abs, [-1, -2], chunksize=Index())) == [1, 2]  # type: ignore[arg-type]
    with fork.Pool(Index()) as pool, ProcessPoolExecutor(Index(), fork) as executor:  # type: ignore[arg-type]
        assert pool.apply(abs, (-1,)) == executor.submit(abs, -1).result() == 1
    assert other.recv() == 1


class Index:
    """An integer of another type. It cannot be compared."""

    def __index__(self) -> int:
        return 2


def test_a_number_that_the_library_cannot_represent_is_an_error_with_the_real_limits() -> None:
    for module in (shoal, mp):
        for kind, what, least, most in [
            ("Semaphore", "value", 0, 2**31 - 1),
            ("BoundedSemaphore", "value", 1, 2**31 - 1),
            ("Barrier", "parties", 1, 512),
        ]:
            make = getattr(module, kind)
            for wrong in (-1, 2**64):
                with pytest.raises(ValueError) as caught:
                    make(wrong)
                assert str(caught.value) == f"{what} is a number from {least} to {most}, not {wrong}"
            make(least), make(most)
            with pytest.raises(shoal.TooLargeError, match=f"above the limit of {most}"):
                make(most + 1)
            if least:
                with pytest.raises(shoal.InvalidError):
                    make(least - 1)


def test_a_wrong_option_of_a_program_is_an_error_that_names_it() -> None:
    wrong: Any
    for wrong, what in [
        ({"stdout": "/tmp/log"}, "a stream is a file, a descriptor, .* not '/tmp/log'"),
        ({"env": []}, "env is a mapping"),
        ({"argv": 5}, "argv is a list"),
        ({"devices": b"0"}, "devices are a list or text"),
    ]:
        with pytest.raises(TypeError, match=what):
            shoal.spawn(**{"argv": ["true"], **wrong})
    with pytest.raises(TypeError, match="backoff is the first and the longest delay"):
        shoal.Supervisor(["true"], 1, backoff=-1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="devices are a list or text"):
        shoal.devices.resolve(b"0")  # type: ignore[arg-type]


# Calls every method with each wrong argument in each place. A timer ends the calls that wait.
EVERY = r"""
import inspect, signal, sys
import shoal, shoal.multiprocessing as mp
class Stuck(BaseException): pass
def ring(*_): raise Stuck
signal.signal(signal.SIGALRM, ring)
WRONG = ["text", "\ud800", b"bytes", 1.5, None, 2**70, -2**70, 2**63, [], object()]
GIVEN = {"key": b"k", "index": 0, "value": b"v", "values": [], "expected": b"", "new": b"", "block": False,
    "timeout": 0, "function": lambda old: old, "items": {}, "keys": [], "predicate": lambda: True,
    "data": b"d", "objs": [1], "buf": bytearray(9)}
queue, table, some, (here, there) = shoal.Queue(), shoal.BytesMap(), shoal.BytesList(), shoal.Pipe()
queue.put(1); there.send(1)
objects = [queue, shoal.Map(), table, shoal.List(), some, here, shoal.Lock(), shoal.RLock(), shoal.Semaphore(),
    shoal.Event(), shoal.Condition(), shoal.Barrier(2), shoal.RWLock(), shoal.Value("i"), shoal.Array("i", 3),
    queue.lease(), queue.reserve(4), mp.Queue(), mp.JoinableQueue(), mp.SimpleQueue()]
for it in objects:
    for name in dir(type(it)):
        call = getattr(it, name, None)
        if name[:1] == "_" or name in ("sort", "detach", "close") or not callable(call):
            continue
        places = [p for p in inspect.signature(call).parameters.values() if p.kind != p.VAR_KEYWORD]
        needed = {p.name: GIVEN.get(p.name, 1) for p in places if p.default is p.empty or p.name in GIVEN}
        for place in places:
            for wrong in WRONG:
                given = {**needed, place.name: wrong}
                at = [given.pop(p.name) for p in places if p.kind == p.POSITIONAL_ONLY and p.name in given]
                signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
                try:
                    try:
                        call(*at, **given)
                    finally:
                        signal.setitimer(signal.ITIMER_REAL, 0)
                except (Stuck, TypeError, ValueError, OverflowError, LookupError, OSError, AssertionError, RuntimeError, shoal.ShoalError):
                    pass
                except Exception as error:
                    print(f"{type(it).__name__}.{name}({place.name}={wrong!r}): {error!r}")
"""


@pytest.mark.parametrize("pure", ["0", "1"])
def test_no_wrong_argument_raises_an_error_of_another_kind(pure: str) -> None:
    package = str(Path(shoal.__file__).parents[1])
    given = {"PYTHONPATH": package, "SHOAL_LIBRARY": _ffi.lib._name, "SHOAL_PURE": pure}
    done = subprocess.run(
        [sys.executable, "-c", EVERY],
        env={**os.environ, **given},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "")
