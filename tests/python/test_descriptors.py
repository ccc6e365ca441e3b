"""Descriptors and sockets that related processes send through queues, pipes and arguments."""

from __future__ import annotations

import os
import pickle
import socket
from multiprocessing import reduction as std_reduction
from typing import Any

import pytest

import shoal.multiprocessing as mp
from conftest import WATCHDOG
from shoal.multiprocessing import reduction


def write_received(conn: Any, data: bytes) -> None:
    for _ in range(2):
        fd = reduction.recv_handle(conn)
        os.write(fd, data)
        os.close(fd)


@pytest.mark.parametrize("duplex", [True, False])
def test_a_descriptor_goes_through_a_pipe(ctx: Any, duplex: bool) -> None:
    there, here = ctx.Pipe(duplex)
    child = ctx.Process(target=write_received, args=(there, b"written"))
    child.start()
    reader, writer = os.pipe()
    for _ in range(2):
        reduction.send_handle(here, writer, child.pid)
    # By then it belongs to the receiver.
    os.close(writer)
    with open(reader, "rb") as file:
        assert file.read() == b"written" * 2
    child.join()
    assert child.exitcode == 0


def send_back(conn: Any) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"from the child")
    os.close(writer)
    reduction.send_handle(conn, reader, os.getppid())
    os.close(reader)
    # The sender lives until the descriptor was fetched.
    conn.recv()


def test_a_child_sends_one_to_its_parent(ctx: Any) -> None:
    here, there = ctx.Pipe()
    child = ctx.Process(target=send_back, args=(there,))
    child.start()
    with open(reduction.recv_handle(here), "rb") as file:
        assert file.read() == b"from the child"
    here.send("done")
    child.join()
    assert child.exitcode == 0


def test_another_type_is_not_accepted_as_a_descriptor() -> None:
    here, there = mp.Pipe()
    here.send("no descriptor")
    with pytest.raises(RuntimeError):
        reduction.recv_handle(there)
    here.close()
    with pytest.raises(EOFError):
        reduction.recv_handle(there)


def test_sockets_keep_their_family_and_type() -> None:
    ours, theirs = socket.socketpair()
    reader, writer = os.pipe()
    with ours, theirs:
        reduction.send_handle(ours, writer, os.getpid())
        os.close(writer)
        os.close(reduction.recv_handle(theirs))
    os.close(reader)
    assert reduction.ForkingPickler is std_reduction.ForkingPickler
    assert set(reduction.__all__) == set(std_reduction.__all__)


def answer(first: socket.socket, fd: Any, carrier: Any) -> None:
    with first, carrier.recv() if hasattr(carrier, "recv") else carrier.get() as second:
        for sock in (first, second):
            sock.sendall(b"answer")
    number = fd.detach()
    os.write(number, b"and this")
    os.close(number)


class Given:
    """A descriptor among the arguments of a process."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __reduce__(self) -> Any:
        return _given, (reduction.DupFd(self.fd),)

    def detach(self) -> int:
        return self.fd


def _given(carried: Any) -> Given:
    return Given(carried.detach())


@pytest.mark.parametrize("kind", ["Pipe", "Queue", "SimpleQueue"])
def test_sockets_are_arguments_and_messages(ctx: Any, kind: str) -> None:
    pairs = [socket.socketpair() for _ in range(2)]
    reader, writer = os.pipe()
    made = getattr(ctx, kind)()
    here, there = made if kind == "Pipe" else (made, made)
    child = ctx.Process(target=answer, args=(pairs[0][1], Given(writer), there))
    child.start()
    getattr(here, "send" if kind == "Pipe" else "put")(pairs[1][1])
    for ours, theirs in pairs:
        with ours:
            assert ours.recv(6) == b"answer"
    child.join()
    assert child.exitcode == 0
    for _, theirs in pairs:
        theirs.close()
    os.close(writer)
    with open(reader, "rb") as file:
        assert file.read() == b"and this"


def answer_and_close(source: Any) -> None:
    conn, _ = source.get() if hasattr(source, "get") else source.recv()
    conn.sendall(b"hello") if isinstance(conn, socket.socket) else conn.send("hello")
    conn.close()


LARGE = [bytes(200_000), [pickle.PickleBuffer(bytes(200_000))], [pickle.PickleBuffer(b"small")]]


@pytest.mark.parametrize("way", ["queue", "pipe"])
@pytest.mark.parametrize("kind", ["connection", "socket"])
@pytest.mark.parametrize("first", range(3))
def test_what_is_sent_with_something_large_ends_with_its_receiver(
    kind: str, way: str, first: int
) -> None:
    # A pickle that nobody receives would keep the descriptor open in this process.
    ctx = mp.get_context("fork")
    source, sink = ctx.Pipe(False)
    if way == "queue":
        source = sink = ctx.Queue()
    for large in LARGE[first:] + LARGE[:first]:
        child = ctx.Process(target=answer_and_close, args=(source,))
        child.start()
        ours, theirs = socket.socketpair() if kind == "socket" else ctx.Pipe()
        sink.put((theirs, large)) if way == "queue" else sink.send((theirs, large))
        child.join()
        theirs.close()
        if isinstance(ours, socket.socket):
            ours.settimeout(WATCHDOG / 2)
            assert ours.recv(5) == b"hello" and ours.recv(5) == b""
        else:
            assert ours.recv() == "hello" and ours.poll(WATCHDOG / 2)
            with pytest.raises(EOFError):
                ours.recv()
        ours.close()
