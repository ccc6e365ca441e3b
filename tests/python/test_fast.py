"""The compiled module: that it is chosen by itself, and does what ctypes does."""

from __future__ import annotations

import gc
import importlib.util
import inspect
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
import types
from pathlib import Path
from typing import Any, Callable, List

import pytest

import shoal
import shoal.multiprocessing
from shoal import _ffi, _hot

from conftest import Script, ends_well, wait_until

IS_BUILT = (
    sys.implementation.name == "cpython"
    and sys.version_info >= (3, 9)
    and importlib.util.find_spec("shoal._fast") is not None
)
needs_it = pytest.mark.skipif(shoal.backend != "compiled", reason="without the compiled module")


def run(text: str, **environment: str) -> str:
    """What a program prints, run in an environment."""
    package = str(Path(shoal.__file__).parents[1])
    given = {**os.environ, "PYTHONPATH": package, "SHOAL_LIBRARY": _ffi.lib._name}
    done = subprocess.run(
        [sys.executable, "-c", text],
        env={**given, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_the_compiled_module_is_used_where_it_is_there_unless_told_not_to() -> None:
    text = "import shoal; print(shoal.backend, type(shoal.Queue.put).__name__)"
    expected = ["compiled", "method_descriptor"] if IS_BUILT else ["ctypes", "function"]
    for unset in ("", "0"):
        assert run(text, SHOAL_PURE=unset).split() == expected
    assert run(text, SHOAL_PURE="1").split() == ["ctypes", "function"]


# What can go wrong with each call, as a program that prints it.
WRONG = r"""
import shoal, re, pickle
def tell(what, call):
    try:
        result = call()
    except BaseException as error:
        bases = [it.__name__ for it in type(error).__mro__]
        result = bases, str(error)
    result = re.sub(r"'anon-[0-9a-f]+'", "NAME", str(result))
    print(what, re.sub(r"0x[0-9a-f]+", "0x", result))

class Odd:
    def __bool__(self): raise ArithmeticError("neither")
class NoPickle:
    def __reduce__(self): raise ZeroDivisionError("no")

q = shoal.Queue()
def stocked(call):
    def with_stock(*args, **named):
        while q.qsize() < 3:
            q.put_bytes(b"\x80\x05K\x01.")
        return call(*args, **named)
    return with_stock
for name in ("put", "put_bytes", "get", "get_bytes", "put_nowait", "get_nowait"):
    call = stocked(getattr(q, name))
    tell(name, call)
    tell(name, lambda: call(b"a", False, 0.0, 1, 2))
    tell(name, lambda: call(wrong=1))
    tell(name, lambda: call(b"abc", None))
    tell(name, lambda: call(b"abc", timeout="x"))
    tell(name, lambda: call(timeout="x"))
    tell(name, lambda: call(Odd()))
    tell(name, lambda: call(b"abc", Odd()))
    tell(name, lambda: call(NoPickle()))
while not q.empty():
    tell("left", lambda: q.get_bytes(False))
q.detach()
q = shoal.Queue(maxsize=2)
q.put(1); q.put(2)
tell("full", lambda: q.put(3, False))
tell("full", lambda: q.put_bytes(b"3", True, 0.01))
q.get(); q.get()
tell("empty", lambda: q.get(False))
tell("empty", lambda: q.get(True, 0.01))
tell("empty", lambda: q.get_bytes(timeout=-1))
q.put_bytes(b"raw")
tell("raw", q.get)
q.put_bytes(b"")
tell("raw", q.get)
q.put_bytes(b"\x80raw")
tell("raw", q.get)
q.put_bytes(bytearray(b"bytearray")); q.put_bytes(memoryview(b"view"))
tell("bytes", lambda: (q.get_bytes(), q.get_bytes()))
q.put(b"x" * 100_000)
tell("large", lambda: len(q.get()))
q.put("x" * 100_000)
tell("large", lambda: len(q.get()))
q.put("y" * 100_000, False)
tell("large", lambda: len(q.get(copy=False)))
q.put((1, "small"))
tell("view", lambda: q.get(copy=False))
q.close()
tell("closed", lambda: q.put(1))
tell("closed", lambda: q.put_bytes(b"1"))
tell("closed", q.get)
tell("closed", q.get_bytes)
q.detach()
tell("detached", lambda: q.put(1))
tell("detached", lambda: q.put(b"x" * 100_000))
tell("detached", lambda: q.put_bytes(b"1"))
tell("detached", q.get)
tell("detached", q.get_bytes)

for kind in (shoal.Lock, shoal.RLock):
    lock = kind()
    tell("release", lock.release)
    tell("acquire", lock.acquire)
    tell("acquire", lambda: lock.acquire(False))
    tell("acquire", lambda: lock.acquire(True, 0.01))
    tell("acquire", lambda: lock.acquire(wrong=1))
    tell("acquire", lambda: lock.acquire(1, 2, 3))
    tell("release", lock.release)
    with lock as taken:
        tell("with", lambda: (taken, lock.locked()))
    tell("locked", lock.locked)
    lock.detach()
    tell("detached", lock.acquire)
    tell("detached", lock.release)
    tell("detached", lock.__enter__)
    tell("detached", lambda: lock.__exit__(None, None, None))

for kind in (shoal.Semaphore, shoal.BoundedSemaphore):
    permits = kind(1)
    tell("acquire", permits.acquire)
    tell("acquire", lambda: permits.acquire(False))
    tell("acquire", lambda: permits.acquire(True, 0.01))
    tell("acquire", lambda: permits.acquire(1, 2, 3))
    tell("release", permits.release)
    tell("release", permits.release)
    tell("release", lambda: permits.release(0))
    tell("release", lambda: permits.release("x"))
    tell("permits", permits.get_value)
    permits.detach()
    tell("detached", permits.acquire)
    tell("detached", permits.release)

value = shoal.Value("i", 5)
items = value.get_lock()
tell("value", lambda: value.value)
tell("value", lambda: setattr(value, "value", 6))
tell("value", lambda: setattr(value, "value", "x"))
tell("value", lambda: value.value)
with items as taken, items:
    tell("value", lambda: (taken, value.value, items.owner_died))
tell("released", items.release)
tell("released", lambda: items.__exit__(None, None, None))
tell("released", lambda: items.__exit__())
tell("taken", lambda: items.__enter__(1))
value.detach()
tell("value", lambda: value.value)
tell("value", lambda: setattr(value, "value", 6))

class Eight:
    def __reduce__(self): return "Eight"
kept = shoal.Map()
for key in ("k", "\xe9\u20ac", "", "s\udcff", "\udcff", 5, 2**70, b"b", None, 1.5, (1, "x"), [], "k" * 70000):
    for value in (1, -1, 2**63 - 1, -2**63, 2**63, True, None, "text", 1.5, (1,), "abc", "ab", NoPickle()):
        tell("set", lambda: kept.__setitem__(key, value))
        tell("found", lambda: kept.get(key, "nothing"))
        tell("raw", lambda: sorted(kept.raw.items()) if len(str(key)) < 100 else 0)
    tell("clear", kept.clear)
tell("set", lambda: kept.__setitem__("k"))
tell("set", lambda: kept.__setitem__("k", value=1))
class Text(str): pass
tell("set", lambda: kept.__setitem__(Text("text"), 1))
tell("raw", lambda: sorted(kept.raw.items()))
kept.detach()
tell("detached", lambda: kept.__setitem__("k", 1))
small = shoal.Map(max_capacity=1 << 20)
tell("full", lambda: small.__setitem__("k", b"x" * (2 << 20)))

for key in ("k", "\xe9\u20ac", "", "s\udcff", 5, -7, 2**63 - 1, -2**63, 2**63, b"b", b"", b"b" * 62, b"b" * 63, b"b" * 99,
            None, 1.5, (1, "x"), [], Text("text"), True):
    kept = shoal.Map()
    tell("in", lambda: (key in kept, kept.get(key), kept.get(key, 3), kept.get(key=key, default=4)))
    tell("missing", lambda: kept[key])
    tell("missing", lambda: kept.__delitem__(key))
    tell("add", lambda: [kept.add(key), kept.add(key, 5), kept.add(key, delta=-2), kept.add(key, 2**70), kept.add(key, 0.5)])
    tell("add", lambda: kept.add(key, "x"))
    tell("in", lambda: (key in kept, kept[key], kept.get(key), kept.get(key, 3)))
    for value in (1, "text", None, [1], b"x" * 70_000):
        tell("set", lambda: kept.__setitem__(key, value))
        for _ in range(4):
            tell("got", lambda: (kept[key], kept.get(key)))
    tell("add", lambda: kept.add(key))
    tell("raw", lambda: [k for k in kept.raw if len(k) < 100])
    tell("removed", lambda: (kept.__delitem__(key), key in kept, kept.get(key)))
kept = shoal.Map()
kept.raw[b"other"] = b"no pickle"
kept.raw[b"\xffq"] = b"no key"
kept.raw[b"empty"] = b""
for _ in range(3):
    for key in ("other", "empty", "missing"):
        tell("other", lambda: kept[key])
        tell("other", lambda: kept.get(key))
for name in ("get", "add", "__getitem__", "__setitem__", "__delitem__", "__contains__"):
    call = getattr(kept, name)
    tell(name, call)
    tell(name, lambda: call(1, 2, 3, 4))
    tell(name, lambda: call("k", wrong=1))
    tell(name, lambda: call("k", key="k"))
kept.detach()
for name in ("get", "add", "__getitem__", "__delitem__", "__contains__"):
    tell("detached", lambda: getattr(kept, name)("k"))
tell("detached", lambda: kept.__setitem__("k", NoPickle()))

some = shoal.List()
for value in (1, -1, 2**63, True, None, "text", "abc", 1.5, b"x" * 70_000, NoPickle()):
    tell("append", lambda: some.append(value))
some.raw.append(b"other"); some.raw.append(b"")
for index in range(-12, 13):
    tell("index", lambda: some[index])
tell("append", lambda: some.append(value=3))
for index in (2**70, -2**70, "x", 1.5, None, True, Odd(), slice(1, 3), slice(None, None, 2)):
    tell("index", lambda: some[index])
    tell("pop", lambda: some.pop(index))
tell("append", some.append)
tell("append", lambda: some.append(1, 2))
tell("pop", lambda: some.pop(1, 2))
tell("pop", lambda: some.pop(index=0))
while len(some):
    tell("pop", some.pop)
tell("pop", some.pop)
tell("pop", lambda: some.pop(0))
some.detach()
tell("detached", lambda: some[0])
tell("detached", some.pop)
tell("detached", lambda: some.append(1))
tell("detached", lambda: some.append(NoPickle()))

here, there = shoal.Pipe()
for value in (1, "text", (1, None), b"x" * 100_000, "y" * 100_000, NoPickle()):
    tell("send", lambda: here.send(value))
    tell("poll", lambda: (there.poll(), there.poll(0), there.poll(timeout=0.0)))
    tell("recv", lambda: there.recv() if there.poll() else None)
for call in (here.send, here.send_bytes):
    tell("send", call)
    tell("send", lambda: call(1, 2, 3, 4))
    tell("send", lambda: call(wrong=1))
    tell("send", lambda: call(None))
there.recv()
tell("send", lambda: here.send(obj=1))
for data in (b"", b"raw", bytearray(b"array"), memoryview(b"view"), b"x" * 100_000, "text"):
    tell("send", lambda: here.send_bytes(data))
tell("send", lambda: here.send_bytes(b"offset", 2, 3))
tell("send", lambda: here.send_bytes(buf=b"named"))
tell("recv", there.recv)
tell("recv", lambda: there.recv(copy=True))
tell("recv", lambda: there.recv(1, 2))
for _ in range(4):
    tell("recv", lambda: len(there.recv_bytes()))
tell("recv", lambda: there.recv_bytes(None))
tell("recv", lambda: there.recv_bytes(maxlength=10))
here.send(5)
tell("view", lambda: there.recv(copy=False))
here.send_bytes(b"too long")
tell("long", lambda: there.recv_bytes(2))
tell("deaf", there.recv)
tell("deaf", there.poll)
tell("deaf", there.recv_bytes)
tell("send", lambda: there.send(1))
there.close()
tell("closed", lambda: there.send(1))
tell("closed", there.recv)
tell("closed", there.poll)
tell("gone", lambda: [here.send(1) for _ in range(2)])
tell("left", lambda: here.recv())
tell("left", lambda: here.recv())
tell("left", lambda: here.poll())
here.close()
reader, writer = shoal.Pipe(duplex=False)
tell("one way", lambda: reader.send(1))
tell("one way", writer.recv)
tell("one way", writer.poll)
writer.close(); reader.close()

q = shoal.Queue(maxsize=300)
many = [(number, "x") for number in range(280)]
for given in (many, tuple(many), iter(many), [], [1, NoPickle()], 5, None, "text", [b"y" * 70_000]):
    tell("put_many", lambda: q.put_many(given, False))
    tell("get_many", lambda: q.get_many(7, False))
    tell("get_many", lambda: len(q.get_many(block=False)))
    tell("get_many", lambda: len(q.get_many(1000, timeout=0)))
for given in ([b"a", b"", b"c"], (b"a",), [b"a", "text"], [b"a", bytearray(b"b")], [b"z" * 70_000, b"x"], 5):
    tell("put_many", lambda: q.put_many_bytes(given, False))
    tell("get_many", lambda: q.get_many_bytes(timeout=0.01))
    tell("get_many", lambda: len(q.get_many_bytes(max_items=2, block=False)))
tell("part", lambda: q.put_many(many, timeout=0.01))
tell("part", lambda: q.put_many(many, timeout=0.01))
tell("part", lambda: q.put_many(many, False))
for most in (0, -1, 2**70, "x", None, 1.5, True):
    tell("most", lambda: len(q.get_many(most, False)))
tell("most", lambda: q.get_many(1, 2, 3, 4))
tell("most", lambda: q.put_many(objs=[1], wrong=2))
while not q.empty():
    q.get_many_bytes()
q.put_bytes(b"raw"); q.put(1)
tell("raw", lambda: q.get_many(block=False))
for timeout in (0, 0.0, -1, 0.02, 1e-9, float("nan"), -float("inf"), True, "x", Odd()):
    tell("timeout", lambda: q.get(timeout=timeout))
    tell("timeout", lambda: q.get(True, timeout))
    tell("timeout", lambda: q.get(block=False, timeout=timeout))
    tell("timeout", lambda: q.get_bytes(timeout=timeout))
    tell("timeout", lambda: q.get_many(timeout=timeout))
    tell("not full", lambda: (q.put(1, timeout=timeout), q.put(obj=2, block=True), q.get(), q.get()))
q.close()
tell("closed", lambda: q.put_many([1]))
tell("closed", lambda: q.get_many())
q.detach()
tell("detached", lambda: q.put_many([1]))
tell("detached", lambda: q.put_many_bytes([b"1"]))
tell("detached", lambda: q.get_many())

import ctypes
class Own(ctypes.c_int): pass
for kind in [*"cubBhHiIlLqQfd", ctypes.c_int, ctypes.c_bool, ctypes.c_int.__ctype_be__, Own, ctypes.c_longdouble]:
    for lock in (True, False, shoal.RLock()):
        value = shoal.Value(kind, lock=lock)
        for new in (0, 1, -1, 2**31, 2**63, 2**64 + 3, -2**63 - 1, 2**200, 1.5, -0.0, 1e300, float("inf"), True, None, "x", b"x", Odd()):
            tell(kind, lambda: setattr(value, "value", new))
            tell(kind, lambda: value.value)
        tell(kind, lambda: delattr(value, "value"))
        tell(kind, lambda: setattr(value, "other", 3))
        tell(kind, lambda: value.other)
        tell(kind, lambda: value.missing)
        value.detach()
        tell(kind, lambda: value.value)
        tell(kind, lambda: setattr(value, "value", 1))
class Pair(ctypes.Structure):
    _fields_ = [("value", ctypes.c_int), ("x", ctypes.c_double)]
value = shoal.Value(Pair, 1, 2.5)
tell("pair", lambda: (value.value, value.x))
tell("pair", lambda: setattr(value, "value", 7))
tell("pair", lambda: setattr(value, "x", 7))
tell("pair", lambda: (value.value, value.x))

event = shoal.Event()
tell("event", event.is_set)
tell("event", event.set)
tell("event", event.is_set)
tell("event", lambda: event.clear(1))
tell("event", event.clear)
tell("event", event.is_set)
event.detach()
for call in (event.is_set, event.set, event.clear):
    tell("event", call)
"""


@needs_it
def test_both_do_and_raise_the_same() -> None:
    compiled, plain = run(WRONG, SHOAL_PURE="0"), run(WRONG, SHOAL_PURE="1")
    assert "ArithmeticError" in plain and plain.count("detached") > 10
    assert "Traceback" not in plain
    # Line by line: a comparison of the lists would be shown for ages.
    for mine, expected in zip(compiled.splitlines(), plain.splitlines()):
        assert mine == expected
    assert compiled.count("\n") == plain.count("\n") > 3000


BATCHES = "get_many", "get_many_bytes"


@needs_it
def test_the_calls_are_compiled_and_documented() -> None:
    for cls, names in {
        shoal.Queue: (*"put get put_bytes get_bytes put_many put_many_bytes".split(), *BATCHES),
        shoal.Lock: ("acquire", "release", "__enter__", "__exit__"),
        shoal.RLock: ("acquire", "release", "__enter__", "__exit__"),
        shoal.Event: ("set", "clear", "is_set"),
        shoal.Semaphore: ("acquire", "release", "__enter__", "__exit__"),
        shoal.Map: ("__getitem__", "__setitem__", "__delitem__", "__contains__", "get", "add"),
        shoal.List: ("__getitem__", "append", "pop"),
        shoal.Connection: ("send", "recv", "send_bytes", "recv_bytes", "poll"),
        type(shoal.Value("i").get_lock()): ("__enter__", "__exit__"),
    }.items():
        for name in names:
            call: Any = getattr(cls, name)
            assert type(call).__name__ == "method_descriptor", call
            assert pickle.loads(pickle.dumps(call)) is call
            python: Any = getattr(cls, f"_python_{name}")
            assert call.__doc__ == str(python.__doc__)
            if name[0] != "_":
                given = inspect.signature(call).parameters.values()
                expected = inspect.signature(python).parameters.values()
                assert [(it.name, it.default) for it in given] == [
                    (it.name, it.default) for it in expected
                ]


@needs_it
def test_no_class_hides_what_the_compiled_base_has() -> None:
    for cls in (shoal.Queue, shoal.Connection, shoal.Map, shoal.Value, shoal.multiprocessing.queues.Queue):
        for name, attribute in vars(_hot.Held).items():
            if name[:2] != "__":
                assert inspect.getattr_static(cls, name) is attribute, (cls, name)


class Counted:
    """Something whose instances are counted."""

    alive = 0

    def __init__(self) -> None:
        Counted.alive += 1

    def __del__(self) -> None:
        Counted.alive -= 1

    def __reduce__(self) -> Any:
        return Counted, ()


def counts(*things: Any) -> List[int]:
    gc.collect()
    return [sys.getrefcount(thing) for thing in things]


def test_no_call_leaks_a_reference() -> None:
    queue: "shoal.Queue[Any]" = shoal.Queue(maxsize=2)
    lock, rlock, event = shoal.Lock(), shoal.RLock(), shoal.Event()
    permits, table = shoal.Semaphore(1), shoal.Map()  # type: ignore[var-annotated]
    number, words = shoal.Value("i"), shoal.List()  # type: ignore[var-annotated]
    real = shoal.Value("d")
    here, there = shoal.Pipe()
    key, large = f"key {id(queue)}", 2**70
    data, text = b"some bytes" * 3, "".join(["a text of ", str(id(queue))])

    def use() -> None:
        queue.put_bytes(data)
        queue.get_bytes()
        queue.put((text, Counted()), True, None)
        queue.get(True, None)
        queue.put(text)
        queue.put(text, block=True)
        for call in (queue.put, queue.put_bytes):
            with pytest.raises(shoal.Full):
                call(data, False)
        queue.get()
        queue.get(False, None, copy=True)
        for take in (queue.get, queue.get_bytes):
            with pytest.raises(shoal.Empty):
                take(False)
        for one in (lock, rlock):
            with one:
                pass
            assert one.acquire(True, None)
            one.release()
            with pytest.raises((ValueError, AssertionError)):
                one.release()
        number.value = number.value + 1
        number.value = large
        real.value = real.value + 1.0
        with pytest.raises(TypeError):
            number.value = text
        with pytest.raises(AttributeError):
            number.other
        event.set()
        assert event.is_set()
        event.clear()
        permits.acquire()
        assert not permits.acquire(False)
        permits.release()
        for value in (1, 2**80, text, data, True, None):
            table[text] = value
            assert key not in table and table.get(key) is None and table.get(key, data) is data
            assert [table[text] for _ in range(4)] == [value] * 4 == [table.get(text)] * 4
            words.append(value)
            assert words[0] == words[-1] == value and words.pop() == value
            here.send((value, data))
            assert there.poll() and there.recv() == (value, data) and not there.poll()
            here.send_bytes(data)
            assert there.recv_bytes() == data
        for many in ([text, value], (data,), [Counted(), None]):
            assert queue.put_many(many) == len(many)
            assert len(queue.get_many()) == len(many)
        assert queue.put_many_bytes([data, data, data], False) == 2
        assert queue.get_many_bytes(1, timeout=0.5) == [data]
        with pytest.raises(pickle.UnpicklingError):
            queue.get_many(block=True)
        with pytest.raises(shoal.Empty):
            queue.get(timeout=0.001)
        queue.put(obj=text)
        with queue.lease() as job:
            assert job.get() == text
        table.add(key)
        table.add(key=key, delta=3)
        del table[key]
        for wrong in (lambda: table[key], lambda: table.__delitem__(key)):
            with pytest.raises(KeyError):
                wrong()
        with pytest.raises(IndexError):
            words[0]
        with pytest.raises(IndexError):
            words.pop()
        for fails in (lambda it: table.__setitem__(text, it), words.append, queue.put, here.send):
            with pytest.raises((TypeError, AttributeError)):
                fails(i for i in ())

    use()
    watched = (data, text, True, None, queue, lock, rlock, event, queue._handle, lock._handle)
    watched += (key, large, table, words, here, there, number, real, table._handle, here._handle)
    watched += (pickle.dumps, pickle.loads, shoal.Queue, shoal.Map, number.get_lock())
    before = counts(*watched)
    blocks = sys.getallocatedblocks()
    for _ in range(200):
        use()
    after = counts(*watched)
    # Others come and go, too.
    assert [a - b for a, b in zip(after, before) if a - b > 100] == []
    assert sys.getallocatedblocks() - blocks < 150
    assert Counted.alive == 0
    for shared in (queue, lock, rlock, event, permits, table, number, real, words, here, there):
        shared.detach()


def test_a_handle_goes_with_its_object() -> None:
    made: "List[shoal.Queue[int]]" = [shoal.Queue() for _ in range(3)]
    handles = [queue._handle for queue in made]
    held = [sys.getrefcount(handle) for handle in handles]
    for queue in made:
        queue.detach()
    assert all(sys.getrefcount(handle) < before for handle, before in zip(handles, held))
    # In a circle of references.
    around: Any = shoal.Queue()
    around.itself = around
    name = around.name
    del around
    gc.collect()
    with pytest.raises(shoal.NotFoundError):
        shoal.Queue(name, create=False)


@needs_it
def test_hostile_arguments_crash_nothing() -> None:
    queue: "shoal.Queue[Any]" = shoal.Queue(maxsize=4)
    lock, event = shoal.Lock(), shoal.Event()
    permits, table = shoal.Semaphore(1), shoal.Map()  # type: ignore[var-annotated]
    words, number = shoal.List(), shoal.Value("i")  # type: ignore[var-annotated]
    here, there = shoal.Pipe()
    chance = random.Random(5)
    odd: List[Any] = [
        None, 0, -1, 2**70, -(2**70), 1.5, float("nan"), float("inf"), "", "x" * 70_000, b"",
        b"x" * 70_000, bytearray(b"y"), memoryview(b"z"), [], {}, object(), type, print, lambda: 1,
        queue, lock, Ellipsis, shoal.Queue, _ffi.Handle(), ctypes_pointer(),
    ]  # fmt: skip
    calls: List[Callable[..., Any]] = [
        table.__setitem__, table.__getitem__, table.__delitem__, table.__contains__, table.get, table.add,
        words.append, words.pop, words.__getitem__, number.__setattr__, queue.put_many,
        queue.put_many_bytes, queue.get_many, queue.get_many_bytes, here.poll, there.send_bytes, there.send,
        permits.acquire, permits.release, permits.__exit__, permits.__enter__, queue.put, queue.get,
        queue.put_bytes, queue.get_bytes, lock.acquire, lock.release,
        lambda *a: setattr(number, "value", a[0]), lambda *a: number.value, lambda *a: queue.lease(False),
        lambda *a: setattr(table, "_cache", a[0]), lambda *a: setattr(table, "_pause", a[0]),
        lambda *a: table._cache.update({"k": a, "text": (*a, 1, 2)}), lambda *a: table["k"],
        lambda *a: shoal.Map.__getitem__(_hot.Held(), *a), lambda *a: shoal.Value.value.__get__(a[0]),
        lambda *a: shoal.List.pop(queue, *a), lambda *a: _fast().method(*a), lambda *a: _fast().names(*a),
        lambda *a: _fast().setup(*a), lambda *a: _fast().method(type(a[0]), "Map", "get", "text"),
        lambda *a: _fast().place(a[0], 0, "i", a[1]), lambda *a: _fast().Word(0, a[0]).value,
        lambda *a: _fast().Word(1, a[0]), lambda *a: setattr(_fast().GOT_ONCE[0], "found", a[0]),
        lock.__enter__, lock.__exit__, event.set, event.clear, event.is_set,
        lambda *a, **n: shoal.Queue.put(*a, **n), lambda *a, **n: shoal.Lock.__enter__(*a, **n),
        lambda *a: setattr(queue, "_large", *a[:1]), lambda *a: setattr(event, "_fast", a[0]),
        lambda *a: _hot.Held(*a), lambda *a: shoal.Lock.release(_hot.Held(), *a),
        lambda *a: shoal.Queue.get(_hot.Held(), *a), lambda *a: shoal.Event.set(_hot.Held()),
        lambda *a: shoal.Queue.put(_hot.Held(), *a), lambda *a: shoal.Lock.__enter__(event, *a),
        lambda *a: shoal.Event.is_set(lock), lambda *a: shoal.Queue.get_bytes(lock, *a),
    ]  # fmt: skip
    names = ["block", "timeout", "copy", "obj", "data", "wrong", "", "key", "index", "value", "delta"]
    for _ in range(10_000):
        call = chance.choice(calls)
        args = chance.choices(odd, k=chance.randrange(5))
        named = {chance.choice(names): chance.choice(odd) for _ in range(chance.randrange(3))}
        if not (args or named) or any(it in (None, float("inf"), 2**70, 1.5) for it in args):
            # Could wait for good.
            args, named = [b"some", False], {}
        named = {name: it for name, it in named.items() if name != "timeout"}
        named["timeout"] = 0
        if isinstance(call, types.FunctionType) and not call.__code__.co_flags & inspect.CO_VARKEYWORDS:
            named = {}
        try:
            call(*args, **named)
        except Exception:
            pass
    event._fast = None
    assert shoal.backend == _hot.backend
    words.append("still")
    assert words.pop() == "still"


def _fast() -> Any:
    from shoal import _fast  # type: ignore[attr-defined]

    return _fast


def ctypes_pointer() -> Any:
    import ctypes

    return ctypes.c_void_p(8)


@needs_it
def test_a_thread_that_waits_holds_up_no_other() -> None:
    queue: "shoal.Queue[int]" = shoal.Queue(maxsize=1)
    lock = shoal.Lock()
    lock.acquire()
    found: List[Any] = []

    def enter() -> None:
        with lock:
            found.append("entered")

    here, there = shoal.Pipe()
    calls = [
        queue.get,
        queue.get_bytes,
        lambda: queue.get(timeout=60),
        lambda: queue.get_many(1),
        here.recv,
        here.recv_bytes,
    ]
    threads = [threading.Thread(target=lambda call=call: found.append(call())) for call in calls]
    threads.append(threading.Thread(target=enter))
    for thread in threads:
        thread.start()
    began, steps = time.monotonic(), 0
    while time.monotonic() - began < 0.2:
        time.sleep(0)
        steps += 1
    # Had one of them kept the interpreter, there would be one step for each slice of its wait.
    assert steps > 100 and not found
    for _ in range(4):
        queue.put_bytes(b"\x80\x05K\x01.")
    for _ in range(2):
        there.send_bytes(b"\x80\x05K\x01.")
    lock.release()
    for thread in threads:
        thread.join()
    assert len(found) == 7
    queue.detach()
    lock.detach()


@pytest.mark.parametrize(
    "call",
    [
        "queue.get()",
        "queue.get_bytes()",
        "queue.get(timeout=30)",
        "queue.get_many()",
        "full.put(1)",
        "full.put(1, timeout=30)",
        "full.put_many([1, 2])",
        "lock.__enter__()",
        "permits.acquire()",
        "here.recv()",
        "here.recv_bytes()",
    ],
)
def test_ctrl_c_ends_a_wait(script: Script, call: str) -> None:
    program = script(
        f"""
        import shoal
        queue, lock = shoal.Queue(), shoal.Lock()
        full, permits = shoal.Queue(maxsize=1), shoal.Semaphore(0)
        here, there = shoal.Pipe()
        full.put(1)
        lock.acquire()
        print("waits", flush=True)
        try:
            {call}
        except KeyboardInterrupt:
            print("interrupted")
        """
    )
    assert program.stdout is not None
    assert program.stdout.readline() == "waits\n"
    time.sleep(0.2)
    sent = time.monotonic()
    program.send_signal(signal.SIGINT)
    assert ends_well(program) == "interrupted\n"
    assert time.monotonic() - sent < 5


@pytest.mark.parametrize("wait", ["get", "get_bytes", "put", "put_bytes"])
def test_a_wait_ends_when_its_object_is_detached(wait: str) -> None:
    queue: "shoal.Queue[Any]" = shoal.Queue(maxsize=1)
    ended: List[BaseException] = []
    if "put" in wait:
        queue.put_bytes(b"full")

    def call() -> None:
        try:
            getattr(queue, wait)(*[b"more"] * ("put" in wait))
        except BaseException as error:
            ended.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    time.sleep(0.1)
    queue.detach()
    thread.join(10)
    assert [type(error) for error in ended] == [shoal.ClosedError]


def test_threads_that_race_with_detach() -> None:
    for _ in range(30):
        queue: "shoal.Queue[int]" = shoal.Queue(maxsize=8)
        lock = shoal.Lock()

        def work(put: bool, queue: Any = queue, lock: Any = lock) -> None:
            try:
                while True:
                    with lock:
                        queue.put(1, timeout=0.01) if put else queue.get(timeout=0.01)
            except (shoal.ShoalError, shoal.Full, shoal.Empty):
                pass

        threads = [threading.Thread(target=work, args=(put,)) for put in (True, False, True)]
        for thread in threads:
            thread.start()
        time.sleep(0.002)
        queue.detach()
        lock.detach()
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_it_works_in_a_forked_child() -> None:
    queue: "shoal.Queue[Any]" = shoal.Queue()
    lock, event = shoal.Lock(), shoal.Event()
    lock.acquire()
    pid = os.fork()
    if pid == 0:
        try:
            with lock:
                queue.put(("from", os.getpid()))
            event.set()
        finally:
            os._exit(0)
    time.sleep(0.05)
    assert queue.empty()
    lock.release()
    wait_until(event.is_set)
    assert queue.get() == ("from", pid)
    os.waitpid(pid, 0)


def test_a_second_import_and_a_subinterpreter_work_or_say_why() -> None:
    text = """
import importlib, sys, shoal
queue = shoal.Queue(); queue.put(1)
importlib.reload(sys.modules["shoal._queue"])
importlib.reload(shoal)
assert queue.get() == 1
for name in [name for name in sys.modules if name.split(".")[0] == "shoal"]:
    del sys.modules[name]
import shoal as again
other = again.Queue(); other.put(2)
assert other.get() == 2 and again.backend in ("compiled", "ctypes")
queue.put(3)
assert queue.get() == 3
try:
    import _xxsubinterpreters as interpreters
except ImportError:
    try:
        import _interpreters as interpreters
    except ImportError:
        interpreters = None
if interpreters is not None and hasattr(interpreters, "run_string"):
    inner = "try:\\n import shoal\\n q = shoal.Queue(); q.put(4); assert q.get() == 4\\n" \
        " assert shoal.backend == 'ctypes'\\nexcept ImportError: pass"
    interpreters.run_string(interpreters.create(), inner)
    if shoal.backend == "compiled":
        inner = "try: import shoal._fast as it; it.setup('', type)\\n" \
            "except ImportError as error: assert 'interpreter' in str(error), error\\n" \
            "else: raise AssertionError"
        interpreters.run_string(interpreters.create(), inner)
queue.put(5)
assert queue.get() == 5
print("well")
"""
    assert run(text) == "well\n"
