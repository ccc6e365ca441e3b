"""Classes that are derived from those of the package, and objects in reference cycles, in both backends."""

from __future__ import annotations

import gc
import pickle
import sys
import threading
import weakref
from typing import Any

import shoal
from test_backends import needs_it


class OwnValue(shoal.Value):
    pass


def test_objects_in_reference_cycles_are_freed() -> None:
    class Tagged:
        alive = 0

        def __init__(self) -> None:
            Tagged.alive += 1

        def __del__(self) -> None:
            Tagged.alive -= 1

    def make() -> None:
        # A value and its lock, as in a process that has received the lock.
        value = OwnValue("i", 3)
        value.get_lock()._keeps = value
        assert value.value == 3
        # A map that is among its own cached values, and functions that refer to their object.
        table: Any = shoal.Map()
        table["a"] = 1
        table._cache["itself"] = (table, 1, table)
        queue: Any = shoal.Queue()
        queue.put(1)
        lease = queue.lease()
        lease.itself = lease
        for one in (value, table, queue, lease):
            one.tag = Tagged()
        queue.itself = queue

    def churn() -> None:
        for _ in range(20):
            make()
            gc.collect()

    make()
    assert Tagged.alive == 4
    gc.collect()
    assert Tagged.alive == 0
    threads = [threading.Thread(target=churn) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gc.collect()
    assert Tagged.alive == 0


@needs_it
def test_an_object_keeps_its_class_and_no_other() -> None:
    for base in (shoal.Value, shoal.Lease):
        kind: Any = type("Kind", (base,), {})
        before = sys.getrefcount(kind)
        some = [kind.__new__(kind, "i") for _ in range(10)]
        assert sys.getrefcount(kind) == before + 10 and all(map(gc.is_tracked, some))
        del some
        assert sys.getrefcount(kind) == before
        # The class and its object refer to each other.
        kind.one = kind.__new__(kind, "i")
        gone = weakref.ref(kind)
        del kind
        gc.collect()
        assert gone() is None


class Upper(shoal.Map[Any, Any]):
    def _encode_key(self, key: Any) -> bytes:
        return super()._encode_key(key.upper())

    def _decode_value(self, data: Any) -> Any:
        return ["decoded", super()._decode_value(data)]


class Tenfold(shoal.List[Any]):
    def _encode(self, value: Any) -> bytes:
        return super()._encode(value * 10)


class Clamped(shoal.Value):
    @property
    def value(self) -> Any:
        return super().value

    @value.setter
    def value(self, new: Any) -> None:
        inherited: Any = shoal.Value.value
        inherited.__set__(self, min(new, 9))


class Counting(shoal.Queue[Any]):
    made = 0

    def _dumps(self, obj: Any, protocol: int) -> bytes:
        self.made += 1
        return pickle.dumps(obj, protocol)


def test_the_methods_of_a_derived_class_are_called() -> None:
    number = Clamped("i", 0)
    number.value = 7
    assert (number.value, number.get_obj().value) == (7, 7)
    number.value = 70
    assert (number.value, number.get_obj().value) == (9, 9)
    table = Upper()
    for _ in range(3):
        table["a"] = 1
        assert table["A"] == table.get("a") == ["decoded", 1] and "a" in table
        assert table.add("a", 2) == 3
        assert table.raw.copy() == {b"A": (3).to_bytes(8, "little")}
        del table["a"]
        assert table.get("A") is None
    words = Tenfold()
    words.append(1)
    assert words[0] == words.pop() == 10
    queue = Counting()
    for n in range(3):
        queue.put(n)
    assert queue.made == 3 and queue.get_many() == [0, 1, 2]
    queue._dumps = lambda obj, protocol: pickle.dumps([obj], protocol)  # type: ignore[method-assign]
    queue.put(4)
    assert queue.get() == [4]
