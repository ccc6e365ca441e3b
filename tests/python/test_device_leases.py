"""Leases of devices in Python, and the children that are given one."""

import multiprocessing as std
import os
import signal
import subprocess
import sys
import time

import pytest
import shoal
import shoal.multiprocessing as mp
from shoal import devices

from conftest import interrupt_everywhere

FAKE = "cuda:4:24G:20G:5"


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    """A machine of four devices, with its own leases."""
    place = tmp_path / "leases"
    monkeypatch.setenv("SHOAL_FAKE_DEVICES", FAKE)
    monkeypatch.setenv("SHOAL_LEASE_DIR", str(place))
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "SHOAL_LEASE"):
        monkeypatch.delenv(name, raising=False)
    return place


def free():
    """How many devices no lease has."""
    taken = [device for holder in devices.holders() for device in holder.devices]
    return 4 - len(taken)


def wait_until(condition, what):
    """A watchdog, and no measurement."""
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until, what
        time.sleep(0.01)


def test_devices_are_discovered():
    found = devices.discover()
    assert [it.index for it in found] == [0, 1, 2, 3]
    assert found[0].memory == 24 << 30 and found[0].free == 20 << 30
    assert found[0].utilisation == 5 and found[0].family == "cuda"
    with pytest.raises(shoal.NotFoundError):
        devices.discover("abacus")


def test_a_lease_is_a_mask_until_the_end_of_the_block():
    with shoal.lease_devices(2, min_free="10G") as mask:
        assert str(mask) == "0,1"
        assert list(mask) == [it.id for it in devices.discover()][:2]
        assert free() == 2
        holder = devices.holders()[0]
        assert holder.pid == os.getpid() and holder.uid == os.getuid()
        assert not holder.is_waiting and holder.id == mask.id
    assert free() == 4
    with pytest.raises(shoal.InvalidError):
        mask.environment()


def test_a_request_that_cannot_be_satisfied_is_an_error():
    with pytest.raises(shoal.TooLargeError, match="number of devices of 5"):
        shoal.lease_devices(5, timeout=0)
    with pytest.raises(shoal.InvalidError, match="25769803776"):
        shoal.lease_devices(1, min_free="80G", timeout=0)
    with pytest.raises(shoal.NotFoundError, match="no device of rocm: .* devices of cuda"):
        shoal.lease_devices(1, family="rocm", timeout=0)
    with shoal.lease_devices(4), pytest.raises(shoal.TimeoutError):
        shoal.lease_devices(1, timeout=0)
    with shoal.lease_devices(4), pytest.raises(shoal.TimeoutError):
        shoal.lease_devices(1, timeout=0.02)
    assert free() == 4
    for wrong in ({"count": 0}, {"share": (0, 2)}, {"mode": "?"}, {"max_utilisation": 101}):
        with pytest.raises(ValueError):
            shoal.lease_devices(**wrong)
    for wrong in ({"count": 1.5}, {"min_free": 1.5}, {"share": []}):
        with pytest.raises((TypeError, ValueError)):
            shoal.lease_devices(**wrong)


def test_one_device_can_be_shared():
    with shoal.lease_devices(share="1/4", order=[2]) as quarter:
        assert str(quarter) == "2" and quarter.shares == (0.25,)
        with shoal.lease_devices(share="12G", order=[2]) as half:
            assert str(half) == "2" and half.shares == (0.5,)
            with shoal.lease_devices(share="12G", order=[2]) as other:
                assert str(other) == "0"


def test_a_program_has_the_lease_until_it_ends():
    with shoal.lease_devices(1, order=[3]) as mask:
        code = "echo $CUDA_VISIBLE_DEVICES; read line"
        program = shoal.spawn(
            ["sh", "-c", code], devices=mask, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert program.stdout.readline() == b"3\n"
    # Its parent has released its part.
    assert free() == 3
    program.kill()
    program.join()
    wait_until(lambda: free() == 4, "the lease ends with its last holder")


def test_an_orphan_keeps_its_lease():
    code = (
        "import os, shoal, subprocess\n"
        "mask = shoal.lease_devices(2)\n"
        "null = subprocess.DEVNULL\n"
        "child = shoal.spawn(['sleep', '60'], devices=mask, stdout=null)\n"
        "print(child.pid, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    parent = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE)
    orphan = int(parent.stdout)
    assert free() == 2
    os.kill(orphan, signal.SIGKILL)
    wait_until(lambda: free() == 4, "the lease ends with the orphan")


def _report(pipe):
    pipe.send((os.environ.get("CUDA_VISIBLE_DEVICES"), os.environ.get("SHOAL_DEVICE_INDEX")))
    pipe.recv()


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_process_has_the_lease_with_every_start_method(method):
    ctx = mp.get_context(method)
    ours, theirs = std.Pipe()
    with shoal.lease_devices(2, order=[1, 2]) as mask:
        process = ctx.Process(target=_report, args=(theirs,), devices=mask)
        process.start()
        assert ours.recv() == ("1,2", "0,1")
    assert free() == 2
    ours.send(None)
    process.join()
    assert process.exitcode == 0
    wait_until(lambda: free() == 4, "the lease ends with the process")


def _wait(pipe):
    pipe.send(None)
    pipe.recv()


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_process_that_was_not_given_the_lease_does_not_have_it(method):
    ours, theirs = std.Pipe()
    with shoal.lease_devices(2):
        process = mp.get_context(method).Process(target=_wait, args=(theirs,))
        process.start()
        ours.recv()
    assert free() == 4
    ours.send(None)
    process.join()


def _mask(all_at_work):
    all_at_work.wait()
    return os.environ["CUDA_VISIBLE_DEVICES"]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_pool_spreads_the_devices_over_its_workers(method):
    ctx = mp.get_context(method)
    # So each worker has one task, however long the others take to start.
    all_at_work = ctx.Barrier(4)
    with shoal.lease_devices(2, order=[2, 3]) as mask:
        with ctx.Pool(4, devices=mask) as pool:
            assert set(pool.map(_mask, [all_at_work] * 4, chunksize=1)) == {"2", "3"}
    wait_until(lambda: free() == 4, "the lease ends with the pool")


def _nested(_):
    with shoal.lease_devices(1, timeout=30) as inner:
        held = [it for it in devices.holders() if it.id == inner.id]
        time.sleep(0.01)
        return inner.id, list(held[0].devices)


def test_pools_nest():
    with shoal.lease_devices(2, order=[1, 3]) as mask:
        ids = set(mask)
        processes = []
        ctx = mp.get_context("spawn")
        queue = ctx.SimpleQueue()
        for number in range(4):
            processes.append(ctx.Process(target=_put, args=(queue, number), devices=mask))
            processes[-1].start()
        for _ in processes:
            inner, used = queue.get()
            assert inner.startswith(mask.id + ".")
            assert len(used) == 1 and set(used) <= ids
        for process in processes:
            process.join()


def _put(queue, number):
    queue.put(_nested(number))


def test_this_process_can_be_masked_by_its_lease():
    code = (
        "import os, shoal\n"
        "with shoal.lease_devices(2, order=[2, 3]) as mask:\n"
        "    shoal.devices.set_visible_devices(mask)\n"
        "    print(os.environ['CUDA_VISIBLE_DEVICES'])\n"
        "    with shoal.lease_devices(1) as inner:\n"
        "        print(inner.id.startswith(mask.id), inner[0] == mask[0])\n"
    )
    said = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True)
    assert said.stdout == b"2,3\nTrue True\n"


def test_ctrl_c_ends_a_wait_and_leaves_the_queue_of_requests():
    code = (
        "import shoal, sys\n"
        "print('waits', flush=True)\n"
        "try:\n"
        "    shoal.lease_devices(1)\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with shoal.lease_devices(4):
        child = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert child.stdout.readline() == b"waits\n"
        wait_until(lambda: [it.is_waiting for it in devices.holders()] == [False, True], "it waits")
        child.send_signal(signal.SIGINT)
        assert child.stdout.readline() == b"interrupted\n"
        wait_until(lambda: len(devices.holders()) == 1, "its place is given up")
        child.communicate(b"")


def test_ctrl_c_at_any_instruction_of_a_request_leaves_the_queue_of_requests():
    def request():
        with pytest.raises(shoal.TimeoutError):
            shoal.lease_devices(1, timeout=0.001)

    def check(place):
        assert len(devices.holders()) == 1, place

    with shoal.lease_devices(4):
        assert interrupt_everywhere(request, [shoal.lease_devices], check) > 10
    assert devices.holders() == []


def test_a_lease_is_not_an_argument():
    with shoal.lease_devices(1) as mask:
        process = mp.get_context("spawn").Process(target=print, args=(mask,))
        with pytest.raises(TypeError, match="devices="):
            process.start()
