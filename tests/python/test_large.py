"""Large objects: written into shared memory once, and read in place on request."""

from __future__ import annotations

import array
import gc
import os
import pickle
import signal
import struct
from typing import Any, List

import pytest

import shoal
import shoal.multiprocessing as mp
from conftest import wait_until
from shoal import _frame

SIZE = 300_000


class Block:
    """Pickles its bytes out of band, as numpy's arrays do."""

    def __init__(self, data: Any, note: str = "") -> None:
        self.data, self.note = memoryview(data), note

    def __reduce_ex__(self, protocol: Any) -> Any:
        assert protocol >= 5
        return Block, (pickle.PickleBuffer(self.data), self.note)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Block) and (self.data, self.note) == (other.data, other.note)


def pattern(size: int = SIZE) -> bytes:
    return bytes(i * 7 % 251 for i in range(1000)) * (size // 1000)


def either(kind: str, **bounds: int) -> Any:
    return shoal.Queue(**bounds) if kind == "shoal" else mp.Queue(*bounds.values())


@pytest.mark.parametrize("kind", ["shoal", "multiprocessing"])
@pytest.mark.parametrize(
    "obj",
    [pattern(), bytearray(pattern()), Block(pattern()), [Block(pattern(), "a"), {"b": Block(b"")}]],
    ids=["bytes", "bytearray", "block", "blocks"],
)
def test_a_large_object_is_returned_unchanged(kind: str, obj: Any) -> None:
    queue = either(kind)
    for _ in range(3):
        queue.put(obj)
        queue.put("small")
    for _ in range(3):
        found = queue.get()
        assert type(found) is type(obj) and found == obj
        assert queue.get() == "small"


@pytest.mark.parametrize("kind", ["shoal", "multiprocessing"])
def test_the_reader_owns_a_received_object(kind: str) -> None:
    queue = either(kind)
    queue.put(Block(bytearray(pattern())))
    queue.put(Block(bytearray(SIZE)))
    first = queue.get()
    first.data[0] = 99
    second = queue.get()
    assert (first.data[0], first.data[1:], second.data[0]) == (99, pattern()[1:], 0)


def queue_of(one: Any) -> "shoal.Queue[Any]":
    queue: "shoal.Queue[Any]" = one if isinstance(one, shoal.Queue) else one._open()
    return queue


@pytest.mark.parametrize("kind", ["shoal", "multiprocessing"])
def test_without_a_copy_the_message_stays_until_the_last_view_is_gone(kind: str) -> None:
    queue = either(kind)
    queue.put([Block(pattern()), 7])
    block, seven = queue.get(copy=False)
    assert block.data == pattern() and seven == 7 and block.data.readonly
    part = block.data[10:20]
    del block
    gc.collect()
    assert queue_of(queue).leased == 1 and part == pattern()[10:20]
    for _ in range(5):
        queue.put(Block(bytes(SIZE)))
        queue.get()
    assert part == pattern()[10:20]
    del part
    gc.collect()
    assert queue_of(queue).leased == 0 and queue.empty()


def test_without_a_copy_bytes_are_a_view_and_small_things_are_themselves() -> None:
    queue: "shoal.Queue[Any]" = shoal.Queue()
    for thing in (pattern(), bytearray(pattern()), b"small", (1, "two")):
        queue.put(thing)
    view, other = queue.get(copy=False), queue.get(copy=False)
    assert isinstance(view, memoryview) and view == other == pattern()
    assert queue.get(copy=False) == b"small" and queue.get(copy=False) == (1, "two")
    with pytest.raises(shoal.Empty):
        queue.get(False, copy=False)
    del view, other
    assert queue.leased == 0


def test_a_pipe_has_views_too_and_drops_a_message_that_cannot_be_unpickled() -> None:
    here, there = mp.Pipe()
    for thing in ([Block(pattern()), 7], pattern(), "small"):
        there.send(thing)
    block, seven = here.recv(copy=False)
    view = here.recv(copy=False)
    assert block.data == view == pattern() and seven == 7 and block.data.readonly
    assert here.recv(copy=False) == "small"
    there.send_bytes(b"no pickle")
    with pytest.raises(Exception):
        here.recv(copy=False)
    there.send_bytes(b"raw")
    with here.lease() as lease:
        assert lease.data == b"raw" and lease.attempts == 1
    assert not here.poll()
    # No process overwrites the memory of the views.
    for _ in range(5):
        there.send(Block(bytes(SIZE)))
        here.recv()
    assert block.data == view == pattern()
    here.close()
    assert view == pattern()
    with pytest.raises(OSError, match="write-only|closed"):
        here.lease()


def test_a_view_outlives_its_queues_handle() -> None:
    queue: "shoal.Queue[Any]" = shoal.Queue()
    queue.put(pattern())
    view = queue.get(copy=False)
    queue.detach()
    del queue
    gc.collect()
    assert view == pattern()


def test_a_bounded_queue_takes_large_objects_too() -> None:
    queue: "mp.queues.Queue[Any]" = mp.Queue(1)
    queue.put(pattern())
    with pytest.raises(shoal.Full):
        queue.put(pattern(), False)
    assert queue.get() == pattern()


def test_a_large_object_that_can_never_fit_is_an_error() -> None:
    queue: "shoal.Queue[Any]" = shoal.Queue(capacity=1 << 16, max_capacity=1 << 18)
    for _ in range(2):
        with pytest.raises(shoal.TooLargeError):
            queue.put(bytes(1 << 20))
    queue.put("small")
    assert queue.get() == "small"


def test_views_that_are_not_in_one_piece_are_copied_into_the_pickle() -> None:
    queue: "shoal.Queue[Any]" = shoal.Queue()
    data = memoryview(bytes(2 * SIZE))[::2]
    with pytest.raises(pickle.PicklingError):
        queue.put(Block(data))
    queue.put("next")
    assert queue.get() == "next"


def hold(queue: Any, ready: Any) -> None:
    view = queue.get(copy=False)
    ready.put(len(view))
    signal.pause()
    del view


def hold_and_end(queue: Any, ready: Any) -> None:
    global kept
    kept = queue.get(copy=False)
    ready.put(len(kept))


kept: Any = None


def test_a_message_that_a_killed_process_viewed_goes_to_another(ctx: Any) -> None:
    queue, ready = ctx.Queue(), ctx.Queue()
    child = ctx.Process(target=hold, args=(queue, ready))
    child.start()
    queue.put(pattern())
    assert ready.get() == SIZE
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    assert queue.get() == pattern()


def test_a_message_that_was_viewed_until_a_process_ended_was_taken(ctx: Any) -> None:
    queue, ready = ctx.Queue(), ctx.Queue()
    child = ctx.Process(target=hold_and_end, args=(queue, ready))
    child.start()
    queue.put(pattern())
    assert ready.get() == SIZE
    child.join()
    assert child.exitcode == 0
    wait_until(lambda: queue_of(queue).leased == 0)
    assert queue.empty()


def broken_frames() -> List[bytes]:
    whole = bytes(
        _frame.message(
            [Block(pattern())],
            pickle.dumps,
            lambda obj, aside: pickle.dumps(obj, 5, buffer_callback=aside),
        )
    )
    head = struct.Struct("<8sIIQ")
    return [
        whole[:10],
        whole[:30],
        whole[:-1],
        _frame.MAGIC[:4] + b"WRON" + whole[8:],
        head.pack(_frame.MAGIC, 2**32 - 1, 0, 0),
        head.pack(_frame.MAGIC, 1, 0, 2**63) + whole[24:],
        head.pack(_frame.MAGIC, 1, 9, 0) + whole[24:],
        head.pack(_frame.MAGIC, 0, _frame.BYTES, 0),
        head.pack(_frame.MAGIC, 1, 0, 0) + struct.pack("<Q", 2**64 - 1),
    ]


@pytest.mark.parametrize("copy", [True, False])
def test_a_truncated_message_or_one_with_wrong_sizes_is_an_error(copy: bool) -> None:
    queue: "shoal.Queue[Any]" = shoal.Queue()
    for message in broken_frames():
        queue.put_bytes(message)
        with pytest.raises((pickle.UnpicklingError, EOFError)):
            queue.get(copy=copy)
        gc.collect()
        assert queue.empty() and queue.leased == 0


def test_a_numpy_array_is_a_view() -> None:
    numpy = pytest.importorskip("numpy")
    queue: "shoal.Queue[Any]" = shoal.Queue()
    numbers = numpy.arange(100_000, dtype="f8").reshape(100, 1000)
    queue.put({"numbers": numbers})
    queue.put(numbers)
    own = queue.get()["numbers"]
    own += 1
    assert (own == numbers + 1).all()
    view = queue.get(copy=False)
    assert (view == numbers).all() and not view.flags.writeable and not view.flags.owndata
    assert queue.leased == 1
    column = view[:, 3]
    del view
    gc.collect()
    assert queue.leased == 1 and column[2] == 2003
    del column
    gc.collect()
    assert queue.leased == 0


def test_arrays_of_the_standard_library_are_pickled_as_usual() -> None:
    queue: "shoal.Queue[Any]" = shoal.Queue()
    numbers = array.array("d", range(50_000))
    queue.put(numbers)
    assert queue.get() == numbers


def test_bytes_inside_others_are_copies_unless_put_as_a_buffer() -> None:
    data = os.urandom(200_000)
    with shoal.Queue() as queue:
        queue.put({"plain": data, "apart": pickle.PickleBuffer(data), "array": [bytearray(data)]})
        got = queue.get(copy=False)
        assert type(got["plain"]) is bytes and type(got["array"][0]) is bytearray
        view = memoryview(got["apart"])
        assert queue.leased == 1 and view == got["plain"] == got["array"][0] == data
        del got, view
        assert queue.leased == 0
