"""The compiled module, in threads, forked children, subinterpreters and hostile programs."""

from __future__ import annotations

import gc
import inspect
import os
import pickle
import random
import signal
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

from conftest import Script, at_rest, ends_well, wait_until
from test_backends import needs_it, run

BATCHES = "get_many", "get_many_bytes"


@needs_it
def test_the_calls_are_compiled_and_documented() -> None:
    for cls, names in {
        shoal.Queue: (*"put get put_bytes get_bytes put_many put_many_bytes lease".split(), *BATCHES),
        shoal.Lease: ("get", "get_bytes", "ack", "__exit__", "__del__"),
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
                named = inspect.Parameter.KEYWORD_ONLY
                assert [(it.name, it.default, it.kind == named) for it in given] == [
                    (it.name, it.default, it.kind == named) for it in expected
                ]


@needs_it
def test_no_class_hides_what_the_compiled_base_has() -> None:
    shared = shoal.Queue, shoal.Connection, shoal.Map, shoal.Value, shoal.multiprocessing.queues.Queue
    taken = shoal.Lease, shoal.Reservation
    for cls, base in [*((it, _hot.Held) for it in shared), *((it, _hot.Taken) for it in taken)]:
        for name, attribute in vars(base).items():
            if name[:2] != "__":
                assert inspect.getattr_static(cls, name) is attribute, (cls, name)


class Counted:
    """A class whose instances are counted."""

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
        queue.put_bytes(data)
        with queue.lease(visible=60) as job:
            assert job.get_bytes() == data
            with pytest.raises(pickle.UnpicklingError):
                job.get()
        queue.put(text)
        queue.lease(False)
        with pytest.raises(ZeroDivisionError):
            with queue.lease(timeout=5):
                1 / 0
        job = queue.lease()
        assert job.attempts == 3 and job.data
        job.extend(60)
        job.ack()
        for call in (job.ack, lambda: queue.lease(False), lambda: queue.lease(timeout=0.001)):
            with pytest.raises((shoal.InvalidError, shoal.Empty)):
                call()
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
    # Other references are taken and dropped too.
    assert [a - b for a, b in zip(after, before) if a - b > 100] == []
    assert sys.getallocatedblocks() - blocks < 150
    assert Counted.alive == 0
    for shared in (queue, lock, rlock, event, permits, table, number, real, words, here, there):
        shared.detach()


@needs_it
def test_keys_that_are_left_to_python_cost_no_memory() -> None:
    with shoal.Map() as table, shoal.List() as words:  # type: ignore[var-annotated]

        def use(number: int) -> None:
            # Another key each time: one that was read before is looked up among the cached ones first.
            large, text = 2**70 + number, f"\udc80 {number}"
            for key in (b"%0100d" % number, large, -large, text, number + 0.5, (number,)):
                assert table.get(key) is None and key not in table
                for wrong in (lambda: table[key], lambda: table.__delitem__(key)):
                    with pytest.raises(KeyError):
                        wrong()
            with pytest.raises((IndexError, OverflowError)):
                words[2**70]

        def size() -> int:
            return int(Path("/proc/self/statm").read_text().split()[0]) * 4096

        use(0)
        before = size()
        for number in range(1, 301):
            use(number)
        # A buffer for each call would be 64 KiB.
        assert size() - before < 300 * (64 << 10)


def test_a_handle_is_freed_with_its_object() -> None:
    made: "List[shoal.Queue[int]]" = [shoal.Queue() for _ in range(3)]
    handles = [queue._handle for queue in made]
    held = [sys.getrefcount(handle) for handle in handles]
    for queue in made:
        queue.detach()
    assert all(sys.getrefcount(handle) < before for handle, before in zip(handles, held))
    # In a reference cycle.
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
        lambda *a: setattr(number, "value", a[0]), lambda *a: number.value, queue.lease, lambda *a: queue.lease(False),
        lambda *a: queue.lease(False).ack(*a), lambda *a: queue.lease(False).get(*a),
        lambda *a: queue.lease(False).__exit__(*a), lambda *a: shoal.Lease.ack(*a), lambda *a: _hot.Taken(*a),
        lambda *a: shoal.Lease.__new__(shoal.Lease).ack(*a), lambda *a: shoal.Lease.__new__(shoal.Lease).get(*a),
        lambda *a: _fast().method(type(a[0]), "Lease", "ack", "text"),
        lambda *a: setattr(queue.lease(False), "_size", a[0]), lambda *a: setattr(queue.lease(False), "_fast", None),
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
    names = ["block", "timeout", "copy", "obj", "data", "wrong", "", "key", "index", "value", "delta", "visible"]
    for _ in range(10_000):
        call = chance.choice(calls)
        args = chance.choices(odd, k=chance.randrange(5))
        named = {chance.choice(names): chance.choice(odd) for _ in range(chance.randrange(3))}
        if not (args or named) or any(it in (None, float("inf"), 2**70, 1.5) for it in args):
            # It could wait forever.
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
def test_a_thread_that_waits_delays_no_other() -> None:
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
    # Longer if this process does not get a core meanwhile.
    while time.monotonic() - began < (0.2 if steps > 100 else 5):
        time.sleep(0)
        steps += 1
    # If one of them held the GIL, there would be one step for each slice of its wait.
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
    wait_until(lambda: at_rest(program.pid))
    sent = time.monotonic()
    program.send_signal(signal.SIGINT)
    assert ends_well(program) == "interrupted\n"
    # Long before the timeouts above.
    assert time.monotonic() - sent < 20


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


def test_threads_may_race_with_detach() -> None:
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


def test_a_second_import_and_a_subinterpreter_work_or_raise_an_error() -> None:
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
