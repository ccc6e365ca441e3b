"""`shoal.multiprocessing.Manager`: objects without a server, and the server where one is needed."""

from __future__ import annotations

import gc
import os
import pickle
import queue as queue_module
import signal
import sys
import weakref
from array import array as std_array
from collections import defaultdict
from typing import Any

import pytest

import shoal
import shoal.multiprocessing as mp
from conftest import START_METHODS, Script, ends_well, objects
from shoal.multiprocessing import managers
from shoal.multiprocessing.managers import BaseManager, SyncManager


def children_of_mine() -> int:
    return len(mp.active_children())


def use(ns: Any, value: Any, array: Any, queue: Any, lock: Any, event: Any, barrier: Any) -> None:
    ns.count += 1
    ns.where = os.getpid()
    value.value = value.get() + ["child"]
    array[1] = 2.5
    with lock:
        queue.put(queue.get() + 1)
    queue.task_done()
    event.set()
    barrier.wait()


def test_objects_of_a_manager_are_shared_without_a_server(ctx: Any) -> None:
    with ctx.Manager() as manager:
        ns, value = manager.Namespace(count=1), manager.Value("i", ["parent"])
        array, queue = manager.Array("d", [0, 1, 2]), manager.Queue()
        lock, event, barrier = manager.Lock(), manager.Event(), manager.Barrier(2)
        assert children_of_mine() == 0
        queue.put(7)
        child = ctx.Process(target=use, args=(ns, value, array, queue, lock, event, barrier))
        child.start()
        barrier.wait()
        child.join()
        assert child.exitcode == 0
        assert (ns.count, ns.where) == (2, child.pid)
        assert value.value == ["parent", "child"]
        assert str(value) == "Value('i', ['parent', 'child'])"
        assert list(array) == [0, 2.5, 2] and len(array) == 3 and array[1:] == std_array("d", [2.5, 2])
        assert str(array) == "array('d', [0.0, 2.5, 2.0])"
        assert queue.get() == 8 and event.is_set()
        assert str(ns).startswith("Namespace(") and "count=2" in str(ns)


def test_a_namespace_has_attributes_and_names_a_missing_one() -> None:
    with mp.Manager() as manager:
        ns = manager.Namespace(a=1)
        ns._local = 5
        del ns.a
        for missing in ("a", "_other"):
            with pytest.raises(AttributeError, match=missing):
                getattr(ns, missing)
        with pytest.raises(AttributeError):
            del ns.a
        # Names of a dictionary's methods are names like any other.
        ns.items, ns.get, ns.name = 1, 2, 3
        assert (ns.items, ns.get, ns.name, ns._local) == (1, 2, 3, 5)
        assert ns._getvalue().__dict__ == {"items": 1, "get": 2, "name": 3}


def test_a_managers_locks_have_the_arguments_and_errors_of_threading() -> None:
    with mp.Manager() as manager:
        lock, again = manager.Lock(), manager.RLock()
        assert lock.acquire(blocking=True, timeout=-1) and not lock.acquire(blocking=False)
        assert not lock.acquire(True, 0.01)
        lock.release()
        for either in (lock, again):
            with pytest.raises(RuntimeError):
                either.release()
            for wrong in ((False, 1), (False, 0), (True, -5)):
                with pytest.raises(ValueError):
                    either.acquire(*wrong)
            assert either.acquire(False, -1)
            either.release()
        # To a semaphore -1 is not forever.
        permits = manager.Semaphore(0)
        assert not permits.acquire(True, -1)
        with pytest.raises(ValueError):
            permits.acquire(False, 1)
        bounded = manager.BoundedSemaphore(1)
        with pytest.raises(ValueError):
            bounded.release()
        condition = manager.Condition()
        with condition:
            assert not condition.wait(0.01)
        with manager.Condition(lock), pytest.raises(RuntimeError):
            again.release()
        for call in (condition.wait, condition.notify, condition.notify_all):
            with pytest.raises(RuntimeError):
                call()
        with pytest.raises(RuntimeError):
            condition.wait_for(lambda: False)


@pytest.mark.parametrize("method", START_METHODS)
def test_keys_of_the_programs_own_types_are_the_same_in_its_children(
    script: Script, method: str
) -> None:
    program = """
        import collections, dataclasses, enum, sys
        import shoal.multiprocessing as mp

        @dataclasses.dataclass(frozen=True)
        class Place:
            name: str
            more: object = None

        class Colour(enum.Enum):
            RED, BLUE = 1, 2

        Point = collections.namedtuple("Point", "x y")

        def function(): pass

        keys = [
            Place("a"), Place("__mp_main__", (Colour.RED, Place, function)), Colour.RED, Point(1, 2),
            (Colour.BLUE, Place("b" * 300)), frozenset([Colour.RED, Colour.BLUE]), Place, function,
        ]

        def use(table, told):
            told.put([table.pop(key, None) for key in keys[:2]] + [table[key] for key in keys[2:]])
            for key in keys:
                table[key] = "child"

        if __name__ == "__main__":
            ctx = mp.get_context(sys.argv[1])
            told, table = ctx.Queue(), ctx.Manager().dict((key, "parent") for key in keys)
            child = ctx.Process(target=use, args=(table, told))
            child.start()
            child.join()
            assert told.get() == ["parent"] * len(keys)
            assert table.copy() == dict.fromkeys(keys, "child")
    """
    assert ends_well(script(program, method)) == ""


class Counter:
    """A type of a program."""

    def __init__(self, count: int) -> None:
        self.count = count

    def add(self, number: int) -> int:
        self.count += number
        return self.count


class Counting(SyncManager):
    pass


Counting.register("Counter", Counter)


def add_to_all(counters: Any, listed: Any, made: Any) -> None:
    for counter in (*counters.values(), *listed):
        counter.add(10)
    listed.append(made)


def test_a_container_keeps_what_only_a_server_can_make(ctx: Any) -> None:
    with Counting(ctx=ctx) as manager:
        counters = manager.dict(a=manager.Counter(1))
        listed = manager.list([manager.Counter(2)])
        counters["b"] = manager.Counter(3)
        queue, ns = manager.Queue(), manager.Namespace(counter=manager.Counter(4))
        queue.put([manager.Counter(5), bytes(100_000)])
        made = manager.Counter(6)
        child = ctx.Process(target=add_to_all, args=(counters, listed, made))
        child.start()
        child.join()
        assert child.exitcode == 0
        del made
        found = [counters["a"], counters["b"], *listed, ns.counter, queue.get()[0]]
        assert [counter.add(0) for counter in found] == [11, 13, 12, 6, 4, 5]


def get_until_shut_down(queue: Any, got: Any) -> None:
    try:
        while True:
            got.put(queue.get())
            queue.task_done()
    except queue_module.ShutDown:  # type: ignore[attr-defined,unused-ignore]
        got.put("shut down")


@pytest.mark.skipif(sys.version_info < (3, 13), reason="queues can be shut down since Python 3.13")
def test_a_managers_queue_can_be_shut_down(ctx: Any) -> None:
    shut_down: Any = getattr(queue_module, "ShutDown")
    with ctx.Manager() as manager:
        queue, got = manager.Queue(), ctx.Queue()
        child = ctx.Process(target=get_until_shut_down, args=(queue, got))
        child.start()
        queue.put(1)
        assert got.get() == 1
        queue.shutdown()
        assert got.get() == "shut down"
        child.join()
        queue.join()
        for call in (queue.get, queue.get_nowait, lambda: queue.put(1), lambda: queue.put_nowait(1)):
            with pytest.raises(shut_down):
                call()
        queue = manager.Queue()
        for number in range(3):
            queue.put(number)
        queue.shutdown()
        # The objects in the queue can still be taken.
        assert queue.get() == 0
        queue.task_done()
        queue.shutdown(immediate=True)
        with pytest.raises(shut_down):
            queue.get()
        queue.join()
        queue.shutdown()


def test_what_a_manager_makes_can_be_in_a_set() -> None:
    with mp.Manager() as manager:
        made = [manager.dict(), manager.dict(), manager.list(), manager.Namespace(), manager.Queue()]
        made += [manager.Value("i", 1), manager.Array("i", [1]), manager.Lock(), manager.Event()]
        assert len(set(made)) == len(made) and made[1] in set(made)


def test_a_namespace_has_the_methods_of_the_original_proxy() -> None:
    with mp.Manager() as manager:
        ns = manager.Namespace(a=1)
        assert ns._callmethod("__getattribute__", ("a",)) == 1
        ns._callmethod("__setattr__", ("a", 2))
        assert ns.a == 2
        with pytest.raises(AttributeError):
            ns._callmethod("__getattribute__", ("b",))


def put_deeper(outer: Any) -> None:
    outer["inner"]["deep"].append(3)
    outer["inner"]["n"] += 1


def test_nested_objects_are_shared_and_live_as_long_as_the_manager(ctx: Any) -> None:
    with ctx.Manager() as manager:
        outer = manager.dict()
        outer["inner"] = manager.dict(n=1, deep=manager.list([1, 2]))
        gc.collect()
        child = ctx.Process(target=put_deeper, args=(outer,))
        child.start()
        child.join()
        assert outer["inner"]["deep"][:] == [1, 2, 3] and outer["inner"]["n"] == 2


def test_an_object_that_was_not_sent_is_removed_with_its_last_reference() -> None:
    with mp.Manager() as manager:
        before = objects()
        for _ in range(3):
            table = manager.dict(a=1)
            assert len(objects() - before) == 1
            del table
            gc.collect()
            assert objects() == before
        assert manager._number_of_objects() == 0
        kept = manager.dict()
        assert manager._number_of_objects() == 1 and "'dict'" in manager._debug_info()
        assert kept._callmethod("setdefault", ("a", 2)) == 2


def use_queue(queue: Any) -> None:
    queue.put("used")


def test_an_object_that_was_sent_is_removed_when_no_process_has_it(ctx: Any) -> None:
    with ctx.Manager() as manager, ctx.Pool(1) as pool:
        table, items, values = manager.dict(), manager.list(), manager.Namespace()
        for number in range(300):
            queue = manager.Queue()
            if number % 10 == 0:
                pool.apply(use_queue, (queue,))
                assert queue.get() == "used"
            else:
                pickle.dumps(queue)
            table["x"] = manager.list([number])
            table[number] = manager.dict(n=number)
            del table[number]
            items.append(manager.Value("i", number))
            values.last = manager.Namespace(n=manager.list([number]))
            if len(items) > 3:
                assert items.pop(0).value == number - 3
        assert table["x"][:] == [299] and items[-1].value == 299 and values.last.n[0] == 299
        assert len(objects()) < 600


def make_and_leave(manager: Any, ctx: Any, ready: Any) -> Any:
    """Starts a child with the only container of an object."""
    given = manager.dict()
    given["inner"] = manager.list([manager.dict(n=5)])
    child = ctx.Process(target=read_inner, args=(given, ready))
    child.start()
    return child


def read_inner(given: Any, ready: Any) -> None:
    ready.wait()
    assert given["inner"][0]["n"] == 5


def test_an_object_in_a_container_stays_however_many_were_sent(ctx: Any) -> None:
    with ctx.Manager() as manager:
        ready = manager.Event()
        child = make_and_leave(manager, ctx, ready)
        outer, values = manager.dict(), manager.Namespace(a=manager.list([1]))
        outer["list"], outer["value"] = manager.list([manager.dict(n=1)]), manager.Value("i", values)
        outer["queue"], outer["condition"] = manager.Queue(), manager.Condition(manager.Lock())
        outer["many"] = [manager.list([number]) for number in range(200)]
        del values
        gc.collect()
        for number in range(300):
            pickle.dumps(manager.dict())
            outer["last"] = manager.list([number])
        assert len(objects()) < 600
        assert outer["list"][0]["n"] == 1 and outer["value"].value.a[:] == [1]
        assert [each[0] for each in outer["many"]] == list(range(200))
        outer["queue"].put(3)
        with outer["condition"]:
            outer["condition"].notify()
        assert outer["queue"].get() == 3 and outer["last"][0] == 299
        ready.set()
        child.join()
        assert child.exitcode == 0


def test_a_manager_that_is_shut_down_makes_no_objects() -> None:
    manager = mp.Manager()
    table = manager.dict()
    manager.shutdown()
    manager.join()
    with pytest.raises(shoal.ClosedError):
        table["a"] = 1
    with pytest.raises(AssertionError):
        manager.list()
    with pytest.raises(AssertionError):
        SyncManager().list()


class Account:
    def __init__(self) -> None:
        self.sum = 0

    def enter(self, amount: int) -> int:
        self.sum += amount
        return self.sum


class Bank(SyncManager):
    """A program's own manager."""


Bank.register("Account", Account)


def test_a_server_starts_for_a_programs_own_types_and_not_before() -> None:
    with Bank() as manager:
        table = manager.dict(a=1)
        assert children_of_mine() == 0
        account = manager.Account()
        assert children_of_mine() == 1
        assert account.enter(3) == 3 and account.enter(4) == 7
        assert table["a"] == 1 and manager.list([1])[0] == 1
    assert children_of_mine() == 0


class Settings:
    def __init__(self, level: int) -> None:
        self.level = level


class SettingsProxy(managers.NamespaceProxy):  # type: ignore[misc]
    _exposed_ = ("__getattribute__", "__setattr__")

    def raised(self) -> int:
        self.level += 1
        level: int = self._callmethod("__getattribute__", ("level",))
        return level


class Registry(BaseManager):
    """A manager that serves a program's types through the standard proxies."""


class SharedRegistry(SyncManager):
    """A manager that has everything of `Manager()` too."""


for kind in (Registry, SharedRegistry):
    kind.register("defaultdict", defaultdict, managers.DictProxy)
    kind.register("items", list, managers.ListProxy)
    kind.register("Settings", Settings, SettingsProxy)


def use_registered(table: Any, items: Any, settings: Any) -> None:
    table["child"] = table["none"] + 1
    items.append("child")
    settings.raised()


@pytest.mark.parametrize("kind", [Registry, SharedRegistry])
def test_the_proxies_serve_a_programs_own_types(ctx: Any, kind: Any) -> None:
    with kind(ctx=ctx) as manager:
        table, items = manager.defaultdict(int), manager.items([1])
        settings = manager.Settings(3)
        assert isinstance(table, managers.DictProxy) and isinstance(items, managers.ListProxy)
        child = ctx.Process(target=use_registered, args=(table, items, settings))
        child.start()
        child.join()
        assert table.copy() == {"none": 0, "child": 1} and items[:] == [1, "child"]
        assert type(settings) is SettingsProxy and settings.raised() == 5 == settings.level


def note_start(path: str) -> None:
    with open(path, "w") as file:
        file.write(str(os.getpid()))


def test_an_initializer_runs_in_a_server(tmp_path: Any) -> None:
    manager = SyncManager()
    with pytest.raises(TypeError):
        manager.start(1)  # type: ignore[arg-type]
    manager.start(signal.signal, (signal.SIGINT, signal.SIG_IGN))
    assert children_of_mine() == 1 and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
    manager.shutdown()
    other = SyncManager()
    other.start(note_start, (str(tmp_path / "pid"),))
    assert (tmp_path / "pid").read_text() != str(os.getpid())
    other.shutdown()
    other.join()


def test_a_manager_with_an_address_can_be_reached_by_other_programs() -> None:
    served = SyncManager(address=("127.0.0.1", 0), authkey=b"key")
    served.start()
    try:
        client = SyncManager(address=served.address, authkey=b"key")
        client.connect()
        table = client.dict(a=1)
        assert not isinstance(table, shoal.Map) and table["a"] == 1
        assert served._number_of_objects() == 1
    finally:
        served.shutdown()


def test_a_manager_is_an_instance_of_the_original() -> None:
    from multiprocessing import managers as original

    with mp.Manager() as manager:
        assert isinstance(manager, original.SyncManager)
        assert manager.address  # starts a server
    assert BaseManager is original.BaseManager
    # A type that is registered with a Shoal manager stays there.
    assert not hasattr(original.SyncManager, "Account") and not hasattr(SyncManager, "Account")


def test_many_nested_dictionaries_take_little_memory() -> None:
    entries = {str(key): key for key in range(10)}
    with mp.Manager() as manager:
        outer = manager.dict()
        for number in range(200):
            outer[number] = manager.dict(entries)
        inner = [outer[number] for number in range(200)]
        # The first dictionaries of a manager are not compact, the later ones are.
        assert [it.stats().compact for it in inner[:1] + inner[-1:]] == [False, True]
        files = [os.stat(f"/dev/shm/shoal.{it.name}") for it in inner[-100:]]
        assert sum(file.st_blocks * 512 for file in files) / len(files) < 40 << 10
        assert all(dict(it) == entries for it in inner)


def test_a_dictionary_keeps_the_order_of_insertion() -> None:
    with mp.Manager() as manager:
        keys = [f"key {i * 37 % 101}" for i in range(101)]
        shared = manager.dict((key, i) for i, key in enumerate(keys))
        assert list(shared) == shared.keys() == keys
        shared[keys[50]] = "changed"
        shared[keys[7]] = "x" * (1 << 20)
        del shared[keys[3]]
        shared[keys[3]] = "inserted again"
        keys.append(keys.pop(3))
        assert shared.keys() == keys and list(shared.copy()) == keys
        assert shared.popitem() == (keys.pop(), "inserted again")
        assert list(dict(shared)) == keys
        # The output of the cookbook.
        shared.clear()
        shared[1], shared["2"], shared[0.25] = "1", 2, None
        assert str(shared) == "{1: '1', '2': 2, 0.25: None}"


def test_every_name_may_be_a_key_or_an_attribute() -> None:
    names = "self kind args kwds kwargs values typeid name other compact ordered".split()
    entries = {name: number for number, name in enumerate(names)}
    with mp.Manager() as manager:
        made = manager.dict(**entries)
        assert dict(made) == entries
        space = manager.Namespace(**entries)
        assert [getattr(space, name) for name in names] == list(range(len(names)))


def test_an_object_that_waits_in_a_queue_of_the_manager_is_kept() -> None:
    with mp.Manager() as manager:
        queue, other = manager.Queue(), manager.Queue()

        def make_many() -> None:
            # Enough for searches that release the objects that are in no container.
            for _ in range(4):
                kept = [manager.list() for _ in range(150)]
                table = manager.dict(enumerate(kept))
                table.clear()

        queue.put(manager.list([1]))
        queue.put([bytes(100_000), manager.dict(a=2)])
        other.put("text")
        make_many()
        assert list(queue.get()) == [1]
        assert dict(queue.get()[1]) == {"a": 2}
        # Once it has been taken, it is released.
        queue.put(manager.list([3]))
        gone = weakref.ref(next(one for one in manager._sent._objects.values() if one == [3]))
        queue.get()
        make_many()
        gc.collect()
        assert gone() is None
        # A message that is leased may be delivered again.
        queue.put(manager.list([4]))
        lease = queue.lease()
        make_many()
        lease.nack()
        assert list(queue.get()) == [4]


def test_a_negative_timeout_of_a_queue_is_an_error_as_in_the_original() -> None:
    with mp.Manager() as manager:
        queue, bounded = manager.Queue(), manager.Queue(1)
        for one in (queue_module.Queue(), queue):
            one.put(1, True, -1)
            with pytest.raises(ValueError, match="'timeout' must be a non-negative number"):
                one.get(timeout=-1)
            assert one.get(False, -1) == 1
            with pytest.raises(queue_module.Empty):
                one.get(False, -1)
        for one in (queue_module.Queue(1), bounded):
            with pytest.raises(ValueError, match="'timeout' must be a non-negative number"):
                one.put(1, timeout=-0.5)
            one.put(1, False, -1)
            with pytest.raises(queue_module.Full):
                one.put(2, False, -1)
