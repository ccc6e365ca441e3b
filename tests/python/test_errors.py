"""Exceptions, and what a full /dev/shm does."""

from __future__ import annotations

import builtins
import os
import pickle
import queue
import subprocess
import sys
import textwrap

import pytest

import shoal
from conftest import PRIVATE
from shoal import _errors


@pytest.mark.parametrize("cls", sorted(_errors.BY_CODE.values(), key=lambda cls: cls.__name__))
def test_an_exception_can_be_sent_to_another_process(cls: "type[shoal.ShoalError]") -> None:
    error = pickle.loads(pickle.dumps(cls("what happened")))
    assert type(error) is cls and "what happened" in str(error)
    assert cls.__module__ == "shoal" and isinstance(error, shoal.ShoalError)


def test_exceptions_are_those_code_already_catches() -> None:
    for ours, theirs in [
        (shoal.Empty, queue.Empty),
        (shoal.Full, queue.Full),
        (shoal.TimeoutError, builtins.TimeoutError),
        (shoal.NotFoundError, FileNotFoundError),
        (shoal.ExistsError, FileExistsError),
        (shoal.AccessError, PermissionError),
        (shoal.InvalidError, ValueError),
        (shoal.TooLargeError, ValueError),
        (shoal.ClosedError, ValueError),
        (shoal.WrongKindError, TypeError),
        (shoal.NoSpaceError, OSError),
    ]:
        assert issubclass(ours, theirs)
        assert issubclass(ours, shoal.ShoalError)


FULL = """
    import errno, os, shoal
    shared, queue = shoal.BytesMap(), shoal.Queue()
    put = 0
    try:
        while True:
            queue.put_bytes(bytes(100_000), block=False)
            put += 1
    except shoal.NoSpaceError as err:
        assert err.errno == errno.ENOSPC and "no space" in str(err), err
    written = 0
    try:
        while True:
            shared[b"%d" % written] = bytes(10_000)
            written += 1
    except shoal.NoSpaceError as err:
        pass
    try:
        for _ in range(1000): kept = shoal.Queue(capacity=1 << 22)
        raise SystemExit("there was room")
    except shoal.NoSpaceError: pass
    # Nothing is lost, and it works again once there is room.
    assert queue.qsize() == put > 0 and len(shared) == written
    assert all(len(queue.get_bytes(block=False)) == 100_000 for _ in range(put))
    assert all(len(value) == 10_000 for value in shared.values())
    shared.clear()
    queue.put_bytes(bytes(100_000), block=False)
    print("survived", os.listdir("/dev/shm") != [])
"""


@pytest.mark.skipif(not PRIVATE, reason="needs the right to mount a small /dev/shm")
def test_a_full_dev_shm_is_an_error_and_loses_nothing() -> None:
    mount = 'mount -t tmpfs -o size=4m tmpfs /dev/shm && "$0" -c "$1" && ls -A /dev/shm'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", mount, sys.executable, textwrap.dedent(FULL)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    )
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "survived True\n")
