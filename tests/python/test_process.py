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
from conftest import Script, ends_well, wait_until


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


def test_pipes_are_the_streams_of_the_child() -> None:
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


def test_files_and_devnull_are_the_streams_of_the_child(tmp_path: Path) -> None:
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


def test_a_child_can_have_its_own_group_and_session() -> None:
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


def test_a_forgotten_child_leaves_no_zombie_once_another_has_started() -> None:
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


def test_a_child_has_streams_that_its_parent_keeps_from_programs(script: Script) -> None:
    parent = script(
        """
        import os, shoal
        for stream in range(3):
            os.set_inheritable(stream, False)
        print("parent", flush=True)
        for die_with_parent in (False, True):
            child = shoal.spawn(["echo", "child"], die_with_parent=die_with_parent)
            assert child.join() == 0
        """
    )
    assert ends_well(parent) == "parent\nchild\nchild\n"


def test_a_stream_that_its_parent_has_closed_is_devnull_in_a_child(script: Script) -> None:
    parent = script(
        """
        import os, shoal, subprocess
        os.close(0)
        os.close(2)
        queue = shoal.Queue()
        show = (
            "readlink /proc/$$/fd/0 /proc/$$/fd/2; cat;"
            "for fd in /proc/$$/fd/*; do [ -e $fd ] && echo ${fd##*/}; done; true"
        )
        for die_with_parent in (False, True):
            shoal.spawn(["sh", "-c", show], die_with_parent=die_with_parent).join()
            with shoal.spawn(
                ["cat"], stdin=subprocess.PIPE, stderr=1, die_with_parent=die_with_parent
            ) as child:
                child.stdin.write(b"through a pipe\\n")
        """
    )
    seen = "/dev/null\n/dev/null\n0\n1\n2\nthrough a pipe\n"
    assert ends_well(parent) == seen + seen


def test_a_process_that_is_forked_meanwhile_delays_no_child_and_keeps_no_pipe(
    script: Script,
) -> None:
    parent = script(
        """
        import os, shoal, signal, subprocess, threading, time, warnings

        # Since 3.12 a fork beside threads is one.
        warnings.simplefilter("ignore")
        done, forked = threading.Event(), []

        def fork() -> None:
            while not done.is_set() and len(forked) < 300:
                pid = os.fork()
                if pid == 0:
                    signal.alarm(100)
                    signal.pause()
                forked.append(pid)
                time.sleep(0.002)

        thread = threading.Thread(target=fork)
        thread.start()
        for number in range(60):
            for die_with_parent in (False, True):
                child = shoal.spawn(
                    ["echo", str(number)], stdout=subprocess.PIPE, die_with_parent=die_with_parent
                )
                assert child.stdout.read() == b"%d\\n" % number
                assert child.join() == 0
        done.set()
        thread.join()
        for pid in forked:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        print(len(forked) > 0)
        """
    )
    assert ends_well(parent) == "True\n"


def test_an_exit_that_the_kernel_reaps_is_known_or_reported_as_unknown(script: Script) -> None:
    parent = script(
        """
        import shoal, signal
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        for code in (7, 255):
            child = shoal.spawn(["sh", "-c", f"exit {code}"])
            child.join()
            print(child.exitcode, child.exit_is_known)
        """
    )
    kept = tuple(int(n) for n in os.uname().release.split("-")[0].split(".")[:2]) >= (6, 15)
    seen = "7 True\n255 True\n" if kept else "255 False\n255 False\n"
    assert ends_well(parent) == seen


def test_an_exit_is_not_known_before_the_end() -> None:
    child = shoal.spawn(["sleep", "1000"])
    assert child.exitcode is None and not child.exit_is_known
    child.kill()
    child.join()
    assert child.exit_is_known
