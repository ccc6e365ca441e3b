"""Messages that are written in place."""

from __future__ import annotations

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
