"""`shoal.Supervisor`: supervised workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

import shoal


def sh(script: str, workers: int, **options: Any) -> shoal.Supervisor:
    return shoal.Supervisor(["sh", "-c", script], workers, **options)


def test_output_has_the_number_of_its_worker_and_workers_have_their_devices() -> None:
    reader, writer = os.pipe()
    script = "echo $SHOAL_WORKER/$SHOAL_WORKERS $CUDA_VISIBLE_DEVICES; cat"
    env = {"CUDA_VISIBLE_DEVICES": "4,5,6", "PATH": os.environ["PATH"]}
    with sh(script, 2, env=env, devices="0-2", stdout=writer) as workers:
        os.close(writer)
        assert workers.wait() == 0
    with open(reader) as text:
        assert sorted(text) == ["[0] 0/2 4\n", "[1] 1/2 5,6\n"]


def test_a_failure_is_the_exit_code_and_stops_the_others() -> None:
    script = "test $SHOAL_WORKER = 1 && exit 7; exec sleep 600"
    with sh(script, 3) as workers:
        assert workers.wait() == 7 == workers.wait()
        assert workers.workers[1] == ("failed", None, 0, 7)
        assert workers.workers[0].exitcode == -signal.SIGTERM
    with sh("kill -9 $$", 1) as workers:
        assert workers.wait() == -signal.SIGKILL


def test_a_crash_loop_is_reported_and_a_success_ends_restarts() -> None:
    quick = {"restart": "failure", "backoff": (0.001, 0.002)}
    with sh("exit 3", 1, max_restarts=2, **quick) as workers:
        events = list(workers.events())
    kinds = [event.kind for event in events]
    assert kinds == ["started", "exited", "restarting"] * 2 + ["started", "exited", "gave_up"]
    assert "crash loop" in str(events[-1]) and events[-2].exitcode == 3
    # A failure, although each run was a success.
    with sh("exit 0", 1, max_restarts=2, restart="always", backoff=(0.001, 0.002)) as workers:
        assert workers.wait() == 1
    with sh("test $SHOAL_WORKER_RESTARTS = 2", 2, max_restarts=None, **quick) as workers:
        assert workers.wait() == 0
        assert [worker.restarts for worker in workers.workers] == [2, 2]


def test_workers_can_be_signalled_stopped_and_waited_for() -> None:
    reader, writer = os.pipe()
    script = "trap '' TERM; echo; while :; do sleep 600; done"
    with sh(script, 2, labels=False, keep_going=True, stdout=writer) as workers:
        os.close(writer)
        # A worker that has not set its trap yet would end by SIGTERM.
        with open(reader) as text:
            assert [text.readline() for _ in range(2)] == ["\n", "\n"]
        with pytest.raises(shoal.TimeoutError):
            workers.wait(0.01)
        assert repr(workers) == "<shoal.Supervisor, 2 of 2 workers running>"
        workers.send_signal(signal.SIGKILL, 1)
        while workers.workers[1].state == "running":
            time.sleep(0.001)
        workers.stop(0.05)
        assert workers.workers[0].exitcode == -signal.SIGKILL
        assert workers.wait() == -signal.SIGKILL


def test_invalid_options_are_refused() -> None:
    with pytest.raises(shoal.NotFoundError, match="no-such-program"):
        shoal.Supervisor(["no-such-program"], 2)
    for workers in (0, -1):
        with pytest.raises(ValueError, match="at least one"):
            sh("true", workers)
    with pytest.raises(shoal.TooLargeError, match="4096"):
        sh("true", 5000)
    with pytest.raises(ValueError, match="restart"):
        sh("true", 1, restart="sometimes")
    with pytest.raises(ValueError, match="max_restarts"):
        sh("true", 1, max_restarts=0)
    with pytest.raises(shoal.InvalidError, match="pipe"):
        sh("true", 1, stdout=subprocess.PIPE)
    with sh("exec sleep 600", 1) as supervisor:
        with pytest.raises(ValueError, match="no worker 1"):
            supervisor.send_signal(signal.SIGTERM, 1)
        with pytest.raises(shoal.InvalidError, match="no signal 99"):
            supervisor.send_signal(99)


@pytest.mark.parametrize("end", ["os.kill(os.getpid(), 9)", "os._exit(0)", "sys.exit(0)", "1 / 0"])
def test_workers_end_with_the_interpreter_however_it_ends(end: str) -> None:
    reader, writer = os.pipe()
    program = f"""
import os, shoal, sys
script = "setsid sleep 600 & (setsid sleep 600 &); echo; sleep 600"
workers = shoal.Supervisor(["sh", "-c", script], 2, labels=False, grace=0.1, stdout={writer})
os.read({reader}, 1); os.read({reader}, 1)
{end}
"""
    host = subprocess.Popen(
        [sys.executable, "-c", program], pass_fds=(reader, writer), stderr=subprocess.DEVNULL
    )
    os.close(writer)
    host.wait()
    # The file ends when the last process with the pipe has ended.
    with open(reader, "rb") as rest:
        assert rest.read().strip() == b""
