"""The compiled module is chosen automatically, and equals ctypes, to the text of each exception."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

import shoal
from shoal import _ffi

IS_BUILT = (
    sys.implementation.name == "cpython"
    and sys.version_info >= (3, 9)
    and importlib.util.find_spec("shoal._fast") is not None
)
needs_it = pytest.mark.skipif(shoal.backend != "compiled", reason="without the compiled module")


def run(text: str, **environment: str) -> str:
    """The output of a program in an environment."""
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


def test_the_compiled_module_is_used_if_present_unless_disabled() -> None:
    text = "import shoal; print(shoal.backend, type(shoal.Queue.put).__name__)"
    expected = ["compiled", "method_descriptor"] if IS_BUILT else ["ctypes", "function"]
    for unset in ("", "0"):
        assert run(text, SHOAL_PURE=unset).split() == expected
    assert run(text, SHOAL_PURE="1").split() == ["ctypes", "function"]


# A program that prints the errors of each call.
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
tell("state", lambda: (q.qsize(), len(q), q.empty(), q.full(), q.maxsize))
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
tell("closed", q.get_nowait)
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
for state in (q.qsize, q.empty, q.full, q.fileno, lambda: q.maxsize, lambda: q.qsize(1)):
    tell("detached", state)

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
        tell("with", lambda: (taken, lock.locked(), lock._depth()))
    tell("depth", lock._depth)
    tell("locked", lock.locked)
    lock.detach()
    tell("detached", lock.acquire)
    tell("detached", lock.release)
    tell("detached", lock.__enter__)
    tell("detached", lambda: lock.__exit__(None, None, None))
    tell("detached", lock._depth)

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
    tell("detached", permits.get_value)

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
q.put((1, 2)); q.put((1, 2))
for end in ("ack", "nack"):
    lease = q.lease(timeout=0)
    getattr(lease, end)()
    for name in ("get", "get_bytes", "ack", "nack", "keep"):
        tell("ended", getattr(lease, name))
    tell("ended", lambda: lease.extend(1))
while not q.empty():
    q.get_many_bytes()
q.close()
tell("closed", q.lease)
tell("closed", lambda: q.reserve(1))
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
def test_both_backends_return_and_raise_the_same() -> None:
    compiled, plain = run(WRONG, SHOAL_PURE="0"), run(WRONG, SHOAL_PURE="1")
    assert "ArithmeticError" in plain and plain.count("detached") > 10
    assert "Traceback" not in plain
    # Line by line: the difference of the whole lists would take very long to print.
    for mine, expected in zip(compiled.splitlines(), plain.splitlines()):
        assert mine == expected
    assert compiled.count("\n") == plain.count("\n") > 3000


# If the map has a relay, a failed change may have waited for it, or have been made.
ONCE = r"""
import shoal
from shoal import _ffi

def again(*_): raise AssertionError("a second call")
for name in ("set", "add")[: 2 if shoal.backend == "compiled" else 1]:
    setattr(_ffi.lib, f"shoal_map_{name}", again)
kept = shoal.Map()
for change in (lambda: kept.__setitem__("k" * 70_000, 1), lambda: kept.add("k" * 70_000)):
    try:
        change()
    except shoal.TooLargeError as error:
        print(error)
"""


@pytest.mark.parametrize("pure", ["0", "1"])
def test_a_failed_change_of_a_map_is_not_repeated(pure: str) -> None:
    found = run(ONCE, SHOAL_PURE=pure).splitlines()
    assert len(found) == 2 and all("limit of 65536 bytes" in line for line in found)
