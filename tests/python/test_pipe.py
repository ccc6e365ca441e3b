"""Pipes: `shoal.Pipe`, and the one of `shoal.multiprocessing`."""

from __future__ import annotations

import errno
import multiprocessing as std
import os
import select
import threading
import time
from multiprocessing import BufferTooShort
from typing import Any

import pytest

import shoal
import shoal.multiprocessing as mp
from conftest import START_METHODS
from shoal.multiprocessing.connection import wait


def echo(connection: Any) -> None:
    while True:
        message = connection.recv()
        connection.send((os.getpid(), message))
        if message is None:
            return


def test_messages_go_both_ways_between_a_process_and_its_child(ctx: Any) -> None:
    here, there = ctx.Pipe()
    child = ctx.Process(target=echo, args=(there,))
    child.start()
    there.close()
    for message in (1, "two", [3], {"four": b"4"}, "x" * 200_000, None):
        here.send(message)
        assert here.recv() == (child.pid, message)
    with pytest.raises(EOFError):
        here.recv()
    with pytest.raises(BrokenPipeError) as error:
        here.send(1)
    assert error.value.errno == errno.EPIPE
    child.join()


def say_and_close(connection: Any, go_on: Any) -> None:
    connection.send_bytes(b"last words")
    connection.close()
    go_on.get()


def test_an_end_is_closed_when_all_live_processes_have_closed_it(ctx: Any) -> None:
    receiver, sender = ctx.Pipe(False)
    go_on = ctx.SimpleQueue()
    child = ctx.Process(target=say_and_close, args=(sender, go_on))
    child.start()
    # At once, while a child that is spawned has not opened it yet.
    sender.close()
    assert receiver.recv_bytes() == b"last words"
    with pytest.raises(EOFError):
        receiver.recv_bytes()
    assert child.is_alive()
    go_on.put(None)
    child.join()


def say_and_hang(connection: Any) -> None:
    connection.send("here")
    time.sleep(1000)


def test_a_kill_closes_the_connection(ctx: Any) -> None:
    receiver, sender = ctx.Pipe(False)
    child = ctx.Process(target=say_and_hang, args=(sender,))
    child.start()
    sender.close()
    assert wait([receiver]) == [receiver]
    assert receiver.recv() == "here"
    assert wait([receiver, child.sentinel], 0.01) == []
    child.kill()
    child.join()
    assert wait([receiver]) == [receiver]
    assert receiver.poll(None)
    with pytest.raises(EOFError):
        receiver.recv()


def send_through(queue: Any) -> None:
    with queue.get() as connection:
        connection.send("arrived")


def test_a_connection_travels_through_a_queue_and_its_sender_closes_it(ctx: Any) -> None:
    queue = ctx.Queue()
    receiver, sender = ctx.Pipe(False)
    child = ctx.Process(target=send_through, args=(queue,))
    child.start()
    queue.put(sender)
    sender.close()
    assert receiver.recv() == "arrived"
    with pytest.raises(EOFError):
        receiver.recv()
    child.join()


def test_the_standard_librarys_process_can_be_given_a_connection() -> None:
    for method in START_METHODS:
        receiver, sender = shoal.Pipe(False)
        child = std.get_context(method).Process(target=shoal.Connection.send, args=(sender, 5))
        child.start()
        assert receiver.recv() == 5
        child.join()


def test_bytes_go_from_and_into_parts_of_buffers() -> None:
    here, there = shoal.Pipe()
    here.send_bytes(bytearray(b"abcdef"), 2, 3)
    here.send_bytes(memoryview(b"abcdef"), 4)
    here.send_bytes(b"")
    assert [there.recv_bytes() for _ in range(3)] == [b"cde", b"ef", b""]
    buffer = bytearray(b"-" * 8)
    here.send_bytes(b"12345")
    assert there.recv_bytes_into(buffer, 2) == 5 and buffer == b"--12345-"
    here.send_bytes(b"123456789")
    with pytest.raises(BufferTooShort) as told:
        there.recv_bytes_into(buffer)
    assert told.value.args == (b"123456789",)
    for wrong in [(b"abc", -1), (b"abc", 4), (b"abc", 0, -1), (b"abc", 1, 3)]:
        with pytest.raises(ValueError):
            here.send_bytes(*wrong)
    with pytest.raises(ValueError):
        there.recv_bytes(-1)
    with pytest.raises(ValueError):
        there.recv_bytes_into(buffer, 9)
    here.send_bytes(b"too long")
    with pytest.raises(OSError, match="bad message length"):
        there.recv_bytes(7)
    assert not there.readable and there.writable


def twice(connection: Any) -> None:
    connection.send(connection.recv())


@pytest.mark.parametrize("make", [lambda ctx: shoal.Pipe(), lambda ctx: ctx.Pipe()])
def test_large_objects_arrive_unchanged_and_are_mutable(ctx: Any, make: Any) -> None:
    here, there = make(ctx)
    large = [bytes(range(256)) * 1000, bytearray(300_000), {"part": bytearray(b"x" * 200_000)}]
    for thing in large:
        child = ctx.Process(target=twice, args=(there,))
        child.start()
        here.send(thing)
        back = here.recv()
        assert back == thing and type(back) is type(thing)
        child.join()
    back["part"][0] = 1
    here.send("small again")
    assert there.recv() == "small again"


def test_a_large_array_belongs_to_its_receiver() -> None:
    numpy = pytest.importorskip("numpy")
    here, there = shoal.Pipe()
    array = numpy.arange(100_000.0)
    for _ in range(3):
        here.send({"array": array})
        got = there.recv()["array"]
        got += 1
        assert (got == array + 1).all()


def test_a_message_is_written_in_place() -> None:
    here, there = shoal.Pipe()
    with here.reserve(10) as room:
        room.data[:5] = b"hello"
        room.commit(5)
    with pytest.raises(KeyError):
        with here.reserve(10):
            raise KeyError
    assert there.recv_bytes() == b"hello" and not there.poll()
    there.close()
    with pytest.raises(BrokenPipeError):
        here.reserve(1)
    receiver, sender = shoal.Pipe(False)
    with pytest.raises(OSError, match="read-only"):
        receiver.reserve(1)
    with pytest.raises(ValueError):
        sender.reserve(-1)


def test_wrong_directions_and_closed_ends_are_errors() -> None:
    receiver, sender = shoal.Pipe(duplex=False)
    assert receiver.readable and not receiver.writable
    assert sender.writable and not sender.readable
    with pytest.raises(OSError, match="read-only"):
        receiver.send(1)
    with pytest.raises(OSError, match="write-only"):
        sender.recv()
    with pytest.raises(OSError, match="write-only"):
        sender.poll()
    receiver.close()
    assert receiver.closed and not sender.closed
    for call in (receiver.recv, receiver.poll, receiver.fileno, receiver.recv_bytes):
        with pytest.raises(OSError, match="handle is closed"):
            call()
    with pytest.raises(BrokenPipeError):
        sender.send(1)


def test_poll_waits_until_its_timeout() -> None:
    here, there = shoal.Pipe()
    assert not here.poll() and not here.poll(0.01)
    timer = threading.Timer(0.05, there.send, ["now"])
    timer.start()
    assert here.poll(None) and here.recv() == "now"
    timer.join()
    there.close()
    assert here.poll()


def test_a_descriptor_serves_an_event_loop() -> None:
    here, there = shoal.Pipe()
    assert select.select([here], [], [], 0)[0] == []
    there.send(1)
    assert select.select([here], [], [])[0] == [here]
    assert here.recv() == 1 and not here.poll()
    there.close()
    assert select.select([here], [], [])[0] == [here]
    with pytest.raises(EOFError):
        here.recv()


def test_the_ends_of_a_named_pipe_are_opened_in_any_order(name: str) -> None:
    second = shoal.Connection(name, 1)
    second.send("early")
    with shoal.Connection(name, 0, create=False) as first:
        assert first.recv() == "early"
    with pytest.raises(EOFError):
        second.recv()
    with pytest.raises(ValueError):
        shoal.Connection(name, 2)
    with pytest.raises(shoal.WrongKindError):
        shoal.Queue(name)


def test_a_connection_is_an_instance_of_the_standard_class() -> None:
    here, there = mp.Pipe()
    assert isinstance(here, mp.connection.Connection)
    assert isinstance(here, shoal.Connection)
    sockets = std.Pipe()
    there.send(1)
    sockets[1].send(2)
    assert wait([sockets[0], here], 5) == [sockets[0], here]
    for end in sockets:
        end.close()


def test_an_end_that_only_sends_is_ready_once_its_reader_has_closed() -> None:
    reader, writer = mp.Pipe(False)
    other, quiet = mp.Pipe(False)
    assert wait([writer], 0) == wait([writer, reader], 0.01) == []
    writer.send("message")
    assert wait([writer, reader]) == [reader] and reader.recv() == "message"
    quiet.send("ready")
    assert wait([writer, other]) == [other]
    threading.Timer(0.1, reader.close).start()
    assert wait([quiet, writer]) == [writer]
    assert wait([writer, other, quiet], 60) == [writer, other]
    writer.close()
    with pytest.raises(OSError):
        wait([writer], 0)
    # Nothing was taken from the pipe, and nothing is left in it.
    assert other.recv() == "ready" and not other.poll()
    for number in range(3):
        assert wait([quiet], 0) == []
        quiet.send(number)
    assert [other.recv() for _ in range(3)] == [0, 1, 2]
