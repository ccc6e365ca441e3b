"""Messages that are written in place."""

from __future__ import annotations

import gc
import os
import pickle
import subprocess
import sys
from typing import Any

import pytest

import shoal


def test_a_block_commits_at_its_end(queue: "shoal.Queue[Any]") -> None:
    with queue.reserve(5) as room:
        room.data[:] = b"hello"
        assert queue.empty()
    assert queue.get_bytes(False) == b"hello"


def test_a_prefix_may_be_committed(queue: "shoal.Queue[Any]") -> None:
    with queue.reserve(1000) as room:
        pickled = pickle.dumps({"a": 1})
        room.data[: len(pickled)] = pickled
        room.commit(len(pickled))
    assert queue.get(False) == {"a": 1}


def test_an_exception_discards(queue: "shoal.Queue[Any]") -> None:
    with pytest.raises(KeyError):
        with queue.reserve(5) as room:
            room.data[:] = b"hello"
            raise KeyError
    queue.put_bytes(b"next")
    assert queue.get_bytes(False) == b"next"


def test_after_an_exception_the_data_cannot_reach_another_message(
    queue: "shoal.Queue[Any]",
) -> None:
    with pytest.raises(KeyError):
        with queue.reserve(4096) as room:
            kept = room.data
            kept[:] = b"A" * 4096
            raise KeyError
    with queue.reserve(4096) as other:
        other.data[:] = b"B" * 4096
        for data in (lambda: kept, lambda: room.data):
            with pytest.raises(ValueError):
                data()[:] = b"C" * 4096
    assert queue.get_bytes(False) == b"B" * 4096


@pytest.mark.parametrize("how", ["an exception", "the collector"])
def test_memory_that_an_array_still_refers_to_becomes_no_other_message(how: str) -> None:
    queue: "shoal.Queue[Any]" = shoal.Queue(maxsize=2)
    for holds in (pickle.PickleBuffer, lambda data: data[10:20]):
        room = queue.reserve(4096)
        # As a numpy array does, these refer to the memory and not to the reservation.
        array = memoryview(holds(room.data))
        if how == "an exception":
            with pytest.raises(KeyError):
                with room:
                    raise KeyError
            with pytest.raises(ValueError):
                room.data[0]
        del room
        gc.collect()
        with queue.reserve(4096) as other:
            other.data[:] = b"B" * 4096
            array[:] = b"C" * len(array)
        # It counts as a message until then.
        with pytest.raises(shoal.Full):
            queue.put_bytes(b"", False)
        assert queue.get_bytes(False) == b"B" * 4096
        del array
        gc.collect()
        assert queue.put_many_bytes([b"", b""], False) == len(queue.get_many_bytes()) == 2


def test_a_reservation_that_is_lost_is_discarded(queue: "shoal.Queue[Any]") -> None:
    queue.reserve(5)
    queue.put_bytes(b"next")
    assert queue.get_bytes(False) == b"next"


def test_messages_have_the_order_of_their_commits(queue: "shoal.Queue[Any]") -> None:
    second, first = queue.reserve(1), queue.reserve(1)
    first.data[:] = b"1"
    first.commit()
    assert queue.get_bytes(False) == b"1"
    with pytest.raises(shoal.Empty):
        queue.get_bytes(False)
    second.data[:] = b"2"
    second.commit()
    assert queue.get_bytes(False) == b"2"


def test_a_view_of_the_data_prevents_the_commit(queue: "shoal.Queue[Any]") -> None:
    room = queue.reserve(8)
    # As numpy does, it asks for the buffer itself and keeps it.
    holder = pickle.PickleBuffer(room.data)
    with pytest.raises(BufferError):
        room.commit()
    with pytest.raises(BufferError):
        room.discard()
    room.data[:4] = b"abcd"
    holder.release()
    room.commit(4)
    assert queue.get_bytes(False) == b"abcd"
    with pytest.raises(ValueError):
        room.data[0]


def test_a_view_outlives_the_queue() -> None:
    queue: "shoal.Queue[Any]" = shoal.Queue()
    room = queue.reserve(8)
    view = room.data[:]
    del room, queue
    view[:] = b"harmless"


def test_wrong_use_is_an_error_that_names_it(queue: "shoal.Queue[Any]") -> None:
    room = queue.reserve(8)
    with pytest.raises(shoal.TooLargeError, match="9 .*8"):
        room.commit(9)
    with pytest.raises(ValueError, match="-1"):
        room.commit(-1)
    room.commit(0)
    assert queue.get_bytes(False) == b""
    for again in (room.commit, room.discard):
        with pytest.raises(shoal.InvalidError):
            again()
    with pytest.raises(ValueError, match="-1"):
        queue.reserve(-1)
    small: "shoal.Queue[Any]" = shoal.Queue(capacity=4096, max_capacity=4096)
    with pytest.raises(shoal.TooLargeError):
        small.reserve(4096)
    bounded: "shoal.Queue[Any]" = shoal.Queue(maxsize=1)
    with bounded.reserve(1), pytest.raises(shoal.Full):
        bounded.reserve(1, False)
    assert bounded.full()
    assert "spent" in repr(room)


def test_a_dead_writer_delays_no_other(queue: "shoal.Queue[Any]") -> None:
    script = f"""
import os, shoal
room = shoal.Queue({queue.name!r}).reserve(100)
os.kill(os.getpid(), 9)
"""
    died = subprocess.run([sys.executable, "-c", script], env=os.environ, check=False)
    assert died.returncode == -9
    queue.put_bytes(b"behind")
    assert queue.get_bytes() == b"behind"
