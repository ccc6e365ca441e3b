"""`shoal.spawn`: programs as children."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import shoal
from conftest import Script, wait_until


def python(code: str, **options: Any) -> shoal.Process:
    return shoal.spawn([sys.executable, "-c", code], **options)


def output(code: str, **options: Any) -> str:
    with python(code, stdout=subprocess.PIPE, **options) as child:
        assert child.stdout is not None
        text = child.stdout.read().decode()
    assert child.exitcode == 0
    return text


def test_the_exit_code_is_the_programs() -> None:
    for code in (0, 1, 77):
        child = python(f"raise SystemExit({code})")
        assert child.join() == code == child.exitcode == child.join()


def test_a_death_by_signal_is_a_negative_code() -> None:
    for end, number in [
        (lambda c: c.kill(), signal.SIGKILL),
        (lambda c: c.terminate(), signal.SIGTERM),
        (lambda c: c.send_signal(signal.SIGUSR1), signal.SIGUSR1),
    ]:
        child = shoal.spawn(["sleep", "1000"])
        assert child.exitcode is None and child.is_alive()
        end(child)
        assert child.join() == -number
        assert not child.is_alive()


def test_a_join_that_takes_too_long_times_out() -> None:
    child = shoal.spawn(["sleep", "1000"])
    for timeout in (0, 0.01):
        with pytest.raises(TimeoutError):
            child.join(timeout)
    child.kill()
    child.join(1000)
    child.kill()
    child.terminate()


@pytest.mark.parametrize("program", ["/no/such/program", "no-such-program-anywhere"])
def test_a_missing_program_is_an_error_of_the_call(program: str) -> None:
    with pytest.raises(FileNotFoundError, match="no"):
        shoal.spawn([program])


def test_a_program_that_may_not_be_run_is_an_error_of_the_call(tmp_path: Path) -> None:
    path = tmp_path / "program"
    path.write_text("#!/bin/sh\n")
    with pytest.raises((PermissionError, OSError)):
        shoal.spawn([str(path)])


@pytest.mark.parametrize("argv", [[], "ls", [b"\0"], ["a\0b"]])
def test_wrong_arguments_are_refused(argv: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        shoal.spawn(argv)


def test_arguments_and_environment_arrive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import os, sys; print(sys.argv[1:], os.environ.get('A'), os.environ.get('B'), os.getcwd())"
    monkeypatch.setenv("A", "inherited")
    argv = [sys.executable, "-c", code, "ä b", ""]
    for env, seen in [(None, "inherited None"), ({"B": "only"}, "None only")]:
        with shoal.spawn(argv, env=env, cwd=tmp_path, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            assert child.stdout.read().decode() == f"['ä b', ''] {seen} {tmp_path}\n"


def test_pipes_lead_to_and_from_the_child() -> None:
    with python(
        "import sys; data = sys.stdin.read(); print(data.upper()); print(data, file=sys.stderr)",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as child:
        assert child.stdin and child.stdout and child.stderr
        child.stdin.write(b"hello")
        child.stdin.close()
        assert child.stdout.read() == b"HELLO\n" and child.stderr.read() == b"hello\n"
    assert child.exitcode == 0


def test_files_and_nothing_lead_to_and_from_the_child(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with open(path, "wb") as file:
        assert shoal.spawn(["echo", "hi"], stdout=file).join() == 0
        assert shoal.spawn(["echo", "there"], stdout=file.fileno()).join() == 0
    assert path.read_text() == "hi\nthere\n"
    assert python("import sys; assert sys.stdin.read() == ''", stdin=subprocess.DEVNULL).join() == 0


def test_a_child_has_no_descriptors_but_its_own() -> None:
    read, write = os.pipe()
    os.set_inheritable(write, True)
    with shoal.Queue[int]():
        assert output("import os; print(os.listdir('/proc/self/fd'))") == "['0', '1', '2', '3']\n"
    os.close(read)
    os.close(write)


def test_a_group_and_a_session_of_its_own() -> None:
    code = "import os; print(os.getpgrp() == os.getpid(), os.getsid(0) == os.getpid())"
    assert output(code) == "False False\n"
    assert output(code, new_group=True) == "True False\n"
    assert output(code, new_session=True) == "True True\n"


def test_a_child_can_die_with_its_parent(script: Script) -> None:
    parent = script(
        """
        import shoal, time
        child = shoal.spawn(["sleep", "1000"], die_with_parent=True)
        print(child.pid, flush=True)
        time.sleep(1000)
        """
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    wait_until(lambda: not Path(f"/proc/{pid}").exists() or "Z" in state(pid))


def state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
    except OSError:
        return "Z"


def test_a_child_sees_the_devices_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    code = "import os; print(os.environ['CUDA_VISIBLE_DEVICES'], os.environ.get('ROCR_VISIBLE_DEVICES'))"
    assert output(code) == "4,6 None\n"
    assert output(code, devices=[1]) == "6 None\n"
    assert output(code, devices="1,0") == "6,4 None\n"
    assert output(code, devices=[]) == "-1 None\n"
    with pytest.raises(ValueError):
        python(code, devices=[2])
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "4,6"


def test_a_forgotten_child_leaves_no_zombie_once_another_has_come() -> None:
    pid = shoal.spawn(["true"]).pid
    wait_until(lambda: " Z " in state(pid) or not Path(f"/proc/{pid}").exists())
    shoal.spawn(["true"]).join()
    assert not Path(f"/proc/{pid}").exists()


def test_a_process_describes_itself() -> None:
    child = shoal.spawn(["sleep", "1000"])
    assert str(child.pid) in repr(child) and "running" in repr(child)
    child.kill()
    child.join()
    assert "-9" in repr(child)
