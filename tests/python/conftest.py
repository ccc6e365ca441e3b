"""Shared by all tests: unique names, scripts, and a check of /dev/shm after each test."""

from __future__ import annotations

import ctypes
import dis
import gc
import itertools
import os
import signal
import subprocess
import sys
import textwrap
import time
import types
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Sequence, Set

import pytest

import shoal
import shoal.multiprocessing as mp

ROOT = Path(__file__).resolve().parents[2]
SHM = Path("/dev/shm")
START_METHODS = ["fork", "spawn", "forkserver"]

# A watchdog, not a measurement: a test that hangs fails.
WATCHDOG = 60.0

# A shell starts programs in the background with SIGINT ignored, and their children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

_count = itertools.count()

_CLONE_NEWNS = 0x20000
_MS_PRIVATE_ALL = 0x4000 | 0x40000


def _own_shared_memory() -> bool:
    """Gives this process and its children their own /dev/shm, where that is allowed.

    What other programs of the machine leave there is then not taken for our leaks.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    return (
        os.geteuid() == 0
        and libc.unshare(_CLONE_NEWNS) == 0
        and libc.mount(b"none", b"/", None, _MS_PRIVATE_ALL, None) == 0
        and libc.mount(b"tmpfs", b"/dev/shm", b"tmpfs", 0, None) == 0
    )


# Each worker of pytest-xdist has its own. Children started by spawn import this file again and keep
# the /dev/shm of their parent.
_WORKER = os.environ.get("PYTEST_XDIST_WORKER", "the only one")
PRIVATE = os.environ.get("SHOAL_TEST_SHM") == _WORKER or _own_shared_memory()
if PRIVATE:
    os.environ["SHOAL_TEST_SHM"] = _WORKER


def pytest_collection_modifyitems(items: List[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(WATCHDOG))


def objects() -> Set[str]:
    """The files of shared objects that are there now."""
    return {path.name for path in SHM.iterdir() if path.name.startswith(("shoal.", "shoal~"))}


def in_use_elsewhere(file: str) -> bool:
    """Whether a living process other than this one has the object mapped."""
    for maps in Path("/proc").glob("[0-9]*/maps"):
        if maps.parent.name == str(os.getpid()):
            continue
        try:
            if f"/{file}" in maps.read_text():
                return True
        except OSError:
            continue
    return False


@pytest.fixture(params=START_METHODS)
def ctx(request: pytest.FixtureRequest) -> Any:
    """The context of each start method."""
    return mp.get_context(request.param)


@pytest.fixture(autouse=True)
def nothing_stays_behind() -> Iterator[None]:
    """After each test: no new object is left."""
    before = objects()
    yield
    # Children that were just killed may take a moment to end; without a /dev/shm of our
    # own, objects of other programs may exist. An object that stays without a user was leaked.
    for attempt in range(50):
        gc.collect()
        left = {name for name in objects() - before if not in_use_elsewhere(name)}
        if not left:
            return
        time.sleep(0.1)
    if PRIVATE:
        for name in left:
            (SHM / name).unlink()
    pytest.fail(f"left behind in {SHM}: {sorted(left)}")


@pytest.fixture
def name() -> str:
    """A name for a shared object that no other test uses."""
    return f"test-{os.getpid()}-{next(_count)}"


@pytest.fixture
def queue() -> "Iterator[shoal.Queue[object]]":
    with shoal.Queue() as made:
        yield made


@pytest.fixture
def shared() -> "Iterator[shoal.Map[object, object]]":
    with shoal.Map() as made:
        yield made


Script = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Script]:
    """Starts Python on a text, as a separate program."""
    started: "List[subprocess.Popen[str]]" = []

    def start(text: str, *args: str, **options: object) -> "subprocess.Popen[str]":
        path = tmp_path / f"script{len(started)}.py"
        path.write_text(textwrap.dedent(text))
        process: "subprocess.Popen[str]" = subprocess.Popen(
            [sys.executable, str(path), *args],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,  # type: ignore[call-overload]
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        # Not until the end of the file: a child that hangs may have the pipe too.
        with process:
            pass


def ends_well(process: "subprocess.Popen[str]") -> str:
    """Waits for a program; returns its output. It must succeed and print nothing on stderr."""
    out, err = process.communicate(timeout=WATCHDOG)
    assert process.returncode == 0, f"exit {process.returncode}\n{out}\n{err}"
    assert err == ""
    return out


def wait_until(condition: Callable[[], bool]) -> None:
    """Returns once ``condition`` holds; fails if it never does."""
    for _ in range(int(WATCHDOG * 100)):
        if condition():
            return
        time.sleep(0.01)
    pytest.fail("the condition never came true")


def asleep(pid: int) -> bool:
    """Whether a process sleeps in the kernel."""
    stat = Path(f"/proc/{pid}/stat").read_text()
    return stat.rpartition(")")[2].split()[0] == "S"


def at_rest(pid: int) -> bool:
    """Whether a process sleeps and continues to sleep: it has reached its wait.

    One that has to wait for a core is not asleep, however long that takes.
    """
    for _ in range(5):
        if not asleep(pid):
            return False
        time.sleep(0.02)
    return True


def _codes(function: Callable[..., Any]) -> Set[types.CodeType]:
    """The code of a function and of the functions in it."""
    found, left = set(), [function.__code__]
    while left:
        code = left.pop()
        found.add(code)
        left += [it for it in code.co_consts if isinstance(it, types.CodeType)]
    return found


def interrupt_everywhere(
    call: Callable[[], object],
    functions: Sequence[Callable[..., Any]],
    check: Callable[[str], object],
) -> int:
    """Calls ``call`` once for each instruction of ``functions`` at which Python may run a signal handler, and raises
    `KeyboardInterrupt` there. Returns how many there were. Since Python 3.11 these are those after a call.

    After each, ``check`` is called while the traceback keeps the variables of the functions alive, with a text that
    names the instruction. Once an exception is raised in the functions, what follows is their own clean-up,
    which is not interrupted.
    """
    codes = set().union(*(_codes(function) for function in functions))
    number = 0
    while True:
        number += 1
        left, place = number, ""
        before: Dict[types.FrameType, str] = {}

        def trace(frame: types.FrameType, event: str, _arg: object) -> Any:
            nonlocal left, place
            if frame.f_code not in codes:
                return None
            frame.f_trace_opcodes = True
            if event == "exception":
                left = 0
            if event == "opcode":
                last = before.get(frame, "CALL")
                before[frame] = dis.opname[frame.f_code.co_code[frame.f_lasti]]
                if not last.startswith(("CALL", "RESUME", "JUMP_BACKWARD")):
                    return trace
                left -= 1
                if left == 0:
                    place = f"instruction {number}, line {frame.f_lineno} of {frame.f_code.co_name}"
                    raise KeyboardInterrupt
            return trace

        sys.settrace(trace)
        try:
            call()
        except KeyboardInterrupt:
            sys.settrace(None)
            check(place)
        else:
            sys.settrace(None)
            if not place:
                return number - 1
        finally:
            sys.settrace(None)
            before.clear()
