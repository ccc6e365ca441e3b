"""Leased messages, and what happens to those that are not acked."""

from __future__ import annotations

import math
import os
import pickle
import subprocess
import sys
import threading
from typing import Any

import pytest

import shoal


def test_a_block_acks_at_its_end(queue: "shoal.Queue[Any]") -> None:
    queue.put({"a": 1})
    with queue.lease() as job:
        assert (job.get(), job.attempts) == ({"a": 1}, 1)
        assert (queue.leased, queue.unfinished, queue.qsize()) == (1, 1, 0)
    assert queue.unfinished == 0
    assert "spent" in repr(job)


def test_an_exception_returns_the_message(queue: "shoal.Queue[Any]") -> None:
    queue.put_bytes(b"job")
    for attempt in (1, 2):
        with pytest.raises(KeyError):
            with queue.lease() as job:
                assert (bytes(job.data), job.attempts) == (b"job", attempt)
                raise KeyError
    queue.lease(False)  # lost at once
    with queue.lease(False) as job:
        assert job.attempts == 4


def test_after_an_exception_the_data_of_a_lease_is_invalid(queue: "shoal.Queue[Any]") -> None:
    queue.put_bytes(b"job")
    with pytest.raises(KeyError):
        with queue.lease() as job:
            kept = job.data
            raise KeyError
    for data in (lambda: kept, lambda: job.data):
        with pytest.raises(ValueError):
            data()[0]
    # It is returned even if something still refers to it.
    with pytest.raises(KeyError):
        with queue.lease() as job:
            holder = pickle.PickleBuffer(job.data)
            raise KeyError
    holder.release()
    assert queue.get_bytes(False) == b"job"


def test_a_closed_queue_ends_though_a_message_is_never_delivered_again(
    queue: "shoal.Queue[Any]",
) -> None:
    queue.put("bad")
    queue.lease().nack(math.inf)
    queue.close()
    with pytest.raises(shoal.ClosedError):
        queue.get(False)
    assert queue.unfinished == 1


def test_a_message_may_be_acked_or_returned_inside_the_block(queue: "shoal.Queue[Any]") -> None:
    queue.put(1)
    with queue.lease() as job:
        # Long enough that the next call comes before the lease expires, even on a busy machine.
        job.nack(2)
    with pytest.raises(shoal.Empty):
        queue.lease(False)
    with queue.lease() as job:
        assert job.attempts == 2
        job.ack()
        for again in (job.ack, job.nack):
            with pytest.raises(shoal.InvalidError):
                again()
    with pytest.raises(ValueError):
        job.data[0]
    assert queue.unfinished == 0


def test_a_message_that_was_acked_or_returned_cannot_be_read(queue: "shoal.Queue[Any]") -> None:
    for end in ("ack", "nack"):
        for has_view in (False, True):
            queue.put("work")
            job = queue.lease()
            assert not has_view or len(job.data)
            getattr(job, end)()
            for read in (job.get, job.get_bytes, job.keep):
                with pytest.raises(shoal.InvalidError, match="it has ended already"):
                    read()
            assert end == "ack" or queue.get() == "work"


def test_the_data_is_read_in_place_and_is_read_only(queue: "shoal.Queue[Any]") -> None:
    queue.put_bytes(b"12345678")
    job = queue.lease()
    assert job.data.readonly
    holder = pickle.PickleBuffer(job.data)
    with pytest.raises(BufferError):
        job.ack()
    holder.release()
    job.ack()


def test_get_bytes_copies_the_message(queue: "shoal.Queue[Any]") -> None:
    for message in (b"", b"12345678", b"x" * 100_000):
        queue.put_bytes(message)
        job = queue.lease()
        copy = job.get_bytes()
        assert copy == message == bytes(job.data) == job.get_bytes()
        job.ack()
        assert copy == message
        with pytest.raises(ValueError):
            job.get_bytes()


def test_only_one_of_several_threads_acks_a_lease(queue: "shoal.Queue[Any]") -> None:
    for _ in range(50):
        queue.put(1)
        job, begin, refused = queue.lease(), threading.Barrier(3), []

        def ack() -> None:
            begin.wait()
            try:
                job.ack()
            except shoal.InvalidError:
                refused.append(1)

        threads = [threading.Thread(target=ack) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(refused), queue.unfinished) == (2, 0)


def test_a_consumer_that_is_too_slow_is_told(queue: "shoal.Queue[Any]") -> None:
    queue.put("work")
    slow = queue.lease(visible=0.001)
    with queue.lease() as quick:
        assert (quick.get(), quick.attempts) == ("work", 2)
        with pytest.raises(shoal.ExpiredError):
            slow.extend(1)
        assert slow.get() == "work"
        with pytest.raises(shoal.ExpiredError):
            slow.ack()
        quick.extend(60)
    assert queue.unfinished == 0


def test_a_message_that_was_delivered_too_often_becomes_a_dead_letter() -> None:
    queue: "shoal.Queue[str]" = shoal.Queue(max_attempts=2)
    assert queue.max_attempts == 2
    queue.put("poison")
    for _ in range(2):
        queue.lease(False)
    with pytest.raises(shoal.Empty):
        queue.lease(False)
    assert queue.dead_letters.name == queue.name + ".dead"
    assert queue.dead_letters.get(False) == "poison"
    queue.join(0)
    with pytest.raises(AttributeError, match="made without max_attempts"):
        shoal.Queue().dead_letters  # noqa: B018
    with pytest.raises(shoal.TooLargeError, match="max_attempts of 256 is above the limit of 255"):
        shoal.Queue(max_attempts=256)


def test_join_waits_for_the_last_message(queue: "shoal.Queue[Any]") -> None:
    queue.join()
    queue.put(1)
    for timeout in (0, 0.01):
        with pytest.raises(shoal.TimeoutError):
            queue.join(timeout)
    script = f"""
import shoal
with shoal.Queue({queue.name!r}).lease() as job:
    print(job.get())
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as worker:
        queue.join()
        assert worker.communicate()[0] == b"1\n"


def test_the_death_of_its_holder_returns_the_message(queue: "shoal.Queue[Any]") -> None:
    queue.put("work")
    script = f"""
import os, shoal
job = shoal.Queue({queue.name!r}).lease()
os.kill(os.getpid(), 9)
"""
    died = subprocess.run([sys.executable, "-c", script], env=os.environ, check=False)
    assert died.returncode == -9
    with queue.lease() as job:
        assert (job.get(), job.attempts) == ("work", 2)


def test_wrong_use_is_an_error_that_names_it(queue: "shoal.Queue[Any]") -> None:
    with pytest.raises(shoal.Empty):
        queue.lease(False)
    with pytest.raises(shoal.Empty):
        queue.lease(timeout=0.01)
    for call in (lambda: queue.lease(visible=-1), lambda: queue.lease(False).nack(-1)):
        queue.put(1)
        with pytest.raises(ValueError, match="-1"):
            call()
    queue.close()
    with queue.lease(), queue.lease(), pytest.raises(shoal.ClosedError):
        queue.lease()


def test_a_view_outlives_the_queue() -> None:
    queue: "shoal.Queue[Any]" = shoal.Queue()
    queue.put_bytes(b"12345678")
    job = queue.lease()
    view = job.data[:]
    del job, queue
    assert len(bytes(view)) == 8
