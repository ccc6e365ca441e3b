"""`shoal.Queue` in one process: the promises of every method."""

from __future__ import annotations

import os
import pickle
import queue as std
import threading
from array import array
from typing import Any, Dict, List

import pytest

import shoal


def test_objects_are_returned_equal_and_in_order(queue: "shoal.Queue[Any]") -> None:
    objects = [1, "two", b"three", None, {"four": [5, 6.0]}, (7, {8})]
    for obj in objects:
        queue.put(obj)
    assert [queue.get() for _ in objects] == objects


def test_raw_messages_are_the_bytes_that_were_put(queue: "shoal.Queue[Any]") -> None:
    for data in (b"", b"x", bytes(range(256)), b"y" * 100_000):
        queue.put_bytes(data)
        assert queue.get_bytes() == data
    queue.put_bytes(bytearray(b"array"))
    queue.put_bytes(memoryview(b"a view")[2:])
    assert queue.get_many_bytes() == [b"array", b"view"]


def test_put_bytes_of_something_else_is_a_type_error(queue: "shoal.Queue[Any]") -> None:
    with pytest.raises(TypeError):
        queue.put_bytes("text")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        queue.put_bytes(3)  # type: ignore[arg-type]
    assert queue.empty()


def test_get_of_a_raw_message_is_an_error_with_advice(queue: "shoal.Queue[Any]") -> None:
    queue.put_bytes(b"hello from C")
    with pytest.raises(pickle.UnpicklingError, match="get_bytes"):
        queue.get()


def test_size_and_emptiness_are_exact_at_once(queue: "shoal.Queue[Any]") -> None:
    for n in range(100):
        assert queue.qsize() == len(queue) == n
        assert queue.empty() == (n == 0)
        queue.put(n)
    for n in range(100):
        assert queue.get_nowait() == n
    assert queue.empty() and bool(queue)


def test_an_empty_queue_raises_the_standard_empty(queue: "shoal.Queue[Any]") -> None:
    for take in (queue.get_nowait, lambda: queue.get(False), lambda: queue.get(True, 0.01)):
        with pytest.raises(std.Empty):
            take()
    with pytest.raises(shoal.Empty):
        queue.get(timeout=-1)
    with pytest.raises(shoal.Empty):
        queue.get_many(timeout=0.01)


def test_a_full_queue_raises_the_standard_full() -> None:
    with shoal.Queue[bytes](capacity=4096, max_capacity=4096) as queue:
        with pytest.raises(std.Full):
            while True:
                queue.put_bytes(b"z" * 1000, block=False)
        size = queue.qsize()
        with pytest.raises(shoal.Full):
            queue.put_bytes(b"z" * 1000, timeout=0.01)
        assert queue.qsize() == size > 0


def test_a_message_that_can_never_fit_is_refused_at_once_with_both_sizes() -> None:
    with shoal.Queue[bytes](capacity=4096, max_capacity=4096) as queue:
        with pytest.raises(shoal.TooLargeError, match=r"100000.*\d{4}"):
            queue.put_bytes(b"x" * 100_000)
        queue.put_bytes(b"x" * queue.max_message, block=False)
        assert queue.qsize() == 1


def test_a_queue_takes_a_hundred_thousand_objects_before_anyone_reads(
    queue: "shoal.Queue[Any]",
) -> None:
    assert queue.put_many(range(100_000)) == 100_000
    taken = []
    while not queue.empty():
        taken += queue.get_many(1000)
    assert taken == list(range(100_000))


def test_a_large_object_passes(queue: "shoal.Queue[Any]") -> None:
    obj = bytes(20_000_000)
    queue.put(obj)
    assert queue.get() == obj


def test_many_are_put_and_taken_in_order(queue: "shoal.Queue[Any]") -> None:
    assert queue.put_many([]) == 0
    assert queue.put_many(str(i) for i in range(1000)) == 1000
    assert queue.get_many(10) == [str(i) for i in range(10)]
    assert queue.get_many(10_000) == [str(i) for i in range(10, 1000)]
    assert queue.get_many(0) == []


def test_get_many_grows_its_buffer_for_the_first_message(queue: "shoal.Queue[Any]") -> None:
    queue.put_many_bytes([b"a" * 300_000, b"b"])
    lengths = []
    while not queue.empty():
        lengths += [len(message) for message in queue.get_many_bytes()]
    assert lengths == [300_000, 1]


def test_put_many_returns_how_many_fitted() -> None:
    with shoal.Queue[bytes](capacity=4096, max_capacity=4096) as queue:
        done = queue.put_many_bytes([b"x" * 1000] * 100, block=False)
        assert 0 < done < 100
        assert queue.qsize() == done
        with pytest.raises(shoal.Full):
            queue.put_many_bytes([b"x" * 1000], block=False)


def test_a_bound_in_items_is_kept() -> None:
    with shoal.Queue[int](maxsize=3) as queue:
        for n in range(3):
            assert not queue.full()
            queue.put(n)
        assert queue.full() and queue.maxsize == 3
        with pytest.raises(std.Full):
            queue.put_nowait(3)
        with pytest.raises(std.Full):
            queue.put(3, timeout=0.01)
        with pytest.raises(std.Full):
            queue.put_many([3, 4], block=False)
        assert queue.get() == 0
        assert queue.put_many([3, 4], timeout=0.01) == 1
        assert queue.get_many() == [1, 2, 3]


def test_a_bound_is_kept_by_many_producers_at_once() -> None:
    with shoal.Queue[int](maxsize=5) as queue:
        most = 0

        def produce() -> None:
            for n in range(50):
                queue.put(n)

        threads = [threading.Thread(target=produce) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(200):
            most = max(most, queue.qsize())
            queue.get()
        for thread in threads:
            thread.join()
        assert queue.empty()
        assert most <= 5


def test_a_closed_queue_is_drained_and_then_raises_an_error(queue: "shoal.Queue[Any]") -> None:
    queue.put("last")
    assert not queue.closed
    queue.close()
    queue.close()
    assert queue.closed
    puts = (queue.put, queue.put_nowait, queue.reserve)
    for put in (*puts, lambda _: queue.put(bytes(100_000)), lambda _: queue.put_many([1])):
        with pytest.raises(shoal.ClosedError) as caught:
            put(1)
        assert str(caught.value) == f"queue {queue.name!r} is closed"
    assert queue.get() == "last"
    takes = (queue.get, queue.get_nowait, queue.get_bytes, queue.get_many, queue.get_many_bytes)
    for take in (*takes, queue.lease, lambda: queue.get(copy=False)):
        with pytest.raises(shoal.ClosedError) as caught:
            take()
        assert str(caught.value) == f"queue {queue.name!r} is closed and empty"


def test_closing_wakes_all_that_wait(queue: "shoal.Queue[Any]") -> None:
    raised = []

    def wait() -> None:
        try:
            queue.get()
        except shoal.ClosedError as err:
            raised.append(err)

    thread = threading.Thread(target=wait)
    thread.start()
    queue.close()
    thread.join()
    assert len(raised) == 1


def test_a_detached_queue_refuses_use_and_its_waits_end() -> None:
    queue = shoal.Queue[int]()
    raised = []

    def wait() -> None:
        try:
            queue.get()
        except shoal.ClosedError as err:
            raised.append(err)

    thread = threading.Thread(target=wait)
    thread.start()
    queue.detach()
    queue.detach()
    thread.join()
    assert len(raised) == 1 and queue.detached
    with pytest.raises(shoal.ClosedError, match="detached"):
        queue.put(1)
    assert "detached" in repr(queue)


def test_threads_lose_and_duplicate_nothing(queue: "shoal.Queue[Any]") -> None:
    taken: "list[Any]" = []

    def produce(base: int) -> None:
        for n in range(500):
            queue.put(base + n)

    def consume() -> None:
        for _ in range(500):
            taken.append(queue.get())

    threads = [threading.Thread(target=produce, args=(i * 500,)) for i in range(4)]
    threads += [threading.Thread(target=consume) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == list(range(2000))


def test_an_object_that_uses_the_queue_while_it_is_unpickled_is_served(
    queue: "shoal.Queue[Any]",
) -> None:
    queue.put(_TakesAnother(queue.name))
    queue.put("inner")
    assert queue.get() == "inner"
    assert queue.empty()


class _TakesAnother:
    def __init__(self, name: str) -> None:
        self.name = name

    def __reduce__(self) -> Any:
        return _take, (self.name,)


def _take(name: str) -> Any:
    with shoal.Queue[Any](name, create=False) as queue:
        return queue.get()


def test_put_raises_for_an_object_that_cannot_be_pickled_and_leaves_nothing(
    queue: "shoal.Queue[Any]",
) -> None:
    with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
        queue.put(lambda: None)
    assert queue.empty()


def test_a_queue_reports_its_sizes(queue: "shoal.Queue[Any]") -> None:
    assert queue.nbytes == 0
    queue.put_bytes(b"x" * 100)
    assert queue.nbytes >= 100
    assert queue.capacity >= 4096
    assert queue.max_message > 1_000_000
    assert queue.name in repr(queue) and "1 message" in repr(queue)


def test_peek_takes_nothing(queue: "shoal.Queue[Any]") -> None:
    with pytest.raises(std.Empty):
        queue.peek()
    queue.put({"first": [1]})
    queue.put_bytes(b"raw")
    queue.put("x" * 1_000_000)
    assert queue.peek() == queue.peek(0) == {"first": [1]}
    assert queue.peek_bytes(1) == b"raw"
    assert queue.peek(2) == "x" * 1_000_000
    with pytest.raises(std.Empty):
        queue.peek(3)
    with pytest.raises(ValueError):
        queue.peek(-1)
    assert queue.qsize() == 3
    assert queue.get() == {"first": [1]}
    stats = queue.stats()
    assert (stats.put, stats.taken, stats.len) == (3, 1, 2)


class Lying(bytes):
    """Bytes whose `len` is more than their size."""

    def __len__(self) -> int:
        return 1 << 20

    def __bytes__(self) -> bytes:
        return self


def test_a_message_has_the_bytes_of_its_buffer_and_no_others(queue: "shoal.Queue[Any]") -> None:
    numbers = array("i", [1, 2, 3])
    strange: List[Any] = [numbers, memoryview(numbers)[::2], Lying(b"text"), bytearray(b"more")]
    expected = [numbers.tobytes(), array("i", [1, 3]).tobytes(), b"text", b"more"]
    for given in (strange, tuple(strange), iter(strange)):
        assert queue.put_many_bytes(given) == 4
        assert queue.get_many_bytes() == expected
    for one, bytes_of_it in zip(strange, expected):
        queue.put_bytes(one)
        assert queue.get_bytes() == bytes_of_it
    for wrong in ("text", 5, None):
        with pytest.raises(TypeError):
            queue.put_many_bytes([wrong])  # type: ignore[list-item]


def test_bytes_of_maps_and_lists_are_those_of_their_buffers() -> None:
    with shoal.BytesMap() as raw, shoal.BytesList() as elements:
        lying = Lying(b"text")
        raw[lying] = lying
        raw.set_many({lying: lying, b"k": memoryview(array("i", [7]))})
        assert raw.copy() == {b"text": b"text", b"k": array("i", [7]).tobytes()}
        elements.append(lying)
        elements.extend([lying, lying])
        elements[0] = lying
        assert elements.copy() == [b"text"] * 3


class Unreadable:
    """Raises when it is unpickled."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        return fail, (self.error,)


def fail(error: BaseException) -> None:
    raise error


def test_an_object_that_cannot_be_unpickled_costs_no_other_of_its_batch(
    queue: "shoal.Queue[Any]",
) -> None:
    bad = Unreadable(ValueError("not readable"))
    for batch in ([1, bad, 3, 4], [bad, 1, 3, 4], [1, 3, 4, bad]):
        queue.put_many(batch)
        with pytest.raises(ValueError, match="not readable"):
            queue.get_many()
        queue.put(5)
        # The kept objects come before those in the queue, and the maximum applies to them.
        expected = [it for it in batch if it is not bad]
        assert queue.get_many(2, False) == expected[:2]
        assert queue.get_many(block=False) == expected[2:]
        assert queue.get_many(block=False) == [5]
        with pytest.raises(std.Empty):
            queue.get_many(block=False)


def test_several_bad_objects_of_a_batch_are_reported_one_after_another(
    queue: "shoal.Queue[Any]",
) -> None:
    bad = Unreadable(ValueError("not readable"))
    queue.put_many([1, bad, 2, bad, 3])
    queue.put_bytes(b"no pickle")
    found: List[Any] = []
    errors: List[BaseException] = []
    while len(found) < 3:
        try:
            found += queue.get_many(2, False)
        except (ValueError, pickle.UnpicklingError) as error:
            errors.append(error)
    with pytest.raises(std.Empty):
        queue.get_many(block=False)
    assert found == [1, 2, 3] and len(errors) == 3


def test_ctrl_c_while_a_batch_is_unpickled_costs_no_object(queue: "shoal.Queue[Any]") -> None:
    interrupted = [KeyboardInterrupt()]

    class Once(Unreadable):
        def __reduce__(self) -> Any:
            return pop_and_fail, (id(interrupted),)

    pending[id(interrupted)] = interrupted
    queue.put_many([1, Once(ValueError()), 3])
    with pytest.raises(KeyboardInterrupt):
        queue.get_many()
    assert queue.get_many() == [1, "after it", 3]


pending: Dict[int, List[BaseException]] = {}


def pop_and_fail(which: int) -> str:
    if pending[which]:
        raise pending[which].pop()
    return "after it"


def test_a_forked_child_does_not_take_what_its_parent_keeps(queue: "shoal.Queue[Any]") -> None:
    queue.put_many([1, Unreadable(ValueError())])
    with pytest.raises(ValueError):
        queue.get_many()
    child = os.fork()
    if child == 0:
        try:
            queue.get_many(block=False)
        except std.Empty:
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert queue.get_many(block=False) == [1]
