"""The programs in examples/python behave as documented, on real input."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import List

import pytest

import shoal
from conftest import ROOT, START_METHODS, WATCHDOG

EXAMPLES = ROOT / "examples" / "python"


def run(program: str, *args: str) -> List[str]:
    env = {k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES"}
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / program), *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        timeout=WATCHDOG,
        env=env,
    )
    assert done.returncode == 0 and done.stderr == "", done.stdout + done.stderr
    return done.stdout.splitlines()


def test_processes() -> None:
    lines = run("processes.py")
    assert sorted(lines[:10]) == [f"process {i}: {i} squared is {i * i}" for i in range(10)]
    assert lines[10:] == [f"all ten are over, exit codes {[0] * 10}"]


@pytest.mark.parametrize("method", START_METHODS)
def test_shared_queue(method: str) -> None:
    lines = run("shared_queue.py", method)
    assert {int(line.split()[1]) for line in lines[:10]} == set(range(10))
    assert all(re.fullmatch(r"process \d (took .*|found the queue empty)", x) for x in lines[:10])
    assert all(line.startswith("the parent took message ") for line in lines[10:-1])
    assert lines[-1] == f"{method}: 10 messages accounted for, 0 left"


def test_leases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOAL_FAKE_DEVICES", "cuda:4:24G")
    monkeypatch.setenv("SHOAL_LEASE_DIR", str(tmp_path / "leases"))
    lines = run("leases.py")
    assert lines[4] == "leased 0,1"
    steps = dict(line.split(" on device ") for line in lines[5:9])
    assert set(steps) == {f"step {i}" for i in range(4)} and set(steps.values()) <= {"0", "1"}
    assert re.fullmatch(r"pid \d+ has GPU-.*, GPU-.*", lines[9])


def test_manager_dict() -> None:
    words = "shared memory objects and locks in every language you like".split()
    assert run("manager_dict.py") == [
        *(f"d[{word!r}] = {i}" for i, word in enumerate(words)),
        "10 words, from ten processes",
    ]


@pytest.mark.parametrize("program", ["processes.py", "shared_queue.py", "manager_dict.py"])
def test_the_program_is_an_ordinary_multiprocessing_one(program: str, tmp_path: Path) -> None:
    text = (EXAMPLES / program).read_text()
    changed = text.replace("import shoal.multiprocessing as mp", "import multiprocessing as mp")
    assert changed != text and "import shoal" not in changed
    (tmp_path / program).write_text(changed)
    ours, theirs = run(program), run(str(tmp_path / program))
    assert len(ours) == len(theirs) or program == "shared_queue.py"
    assert ours[-1] == theirs[-1]


@pytest.mark.parametrize("method", START_METHODS)
def test_killed_workers(method: str) -> None:
    lines = run("killed_workers.py", method)
    example = runpy.run_path(str(EXAMPLES / "killed_workers.py"))
    assert lines[:24] == [example["paint"](row) for row in range(24)]
    assert re.fullmatch(r"\d+ painters were killed", lines[24])
    assert lines[25:] == ["24 rows of 24 are there"]


def test_wordcount_of_the_sources() -> None:
    files = [str(path) for path in sorted((ROOT / "src").rglob("*.rs"))]
    words: "Counter[str]" = Counter()
    for file in files:
        words.update(re.findall(r"[a-z']+", Path(file).read_text(encoding="utf-8").lower()))
    lines = run("wordcount.py", *files)
    top = sorted(words.items(), key=lambda entry: (-entry[1], entry[0]))[:5]
    assert lines[:5] == [f"{count:8} {word}" for word, count in top]
    assert lines[5:] == [
        f"{sum(words.values())} words, {len(words)} of them different, counted by 4 workers",
        "one process alone counts the same",
    ]


def test_cache() -> None:
    assert run("cache.py") == ["80 squares were wanted, 20 were worked out"]


def test_counters() -> None:
    line, end = run("counters.py")
    assert end == "bea was killed, and no addition is missing"
    told = re.fullmatch(r"of (\d+) additions (\d+) are written down", line)
    assert told is not None, line
    added, written = map(int, told.groups())
    # Four workers 300 times, and three of them again.
    assert written >= 2100 and added - written in (0, 1)


def test_settings() -> None:
    levels = ["calm", "busy", "mad", "stop"]
    assert run("settings.py") == [f"all three are {level}" for level in levels]


def test_event_loop() -> None:
    assert run("event_loop.py") == [
        "100 findings of ada",
        "100 findings of bea",
        "100 findings of cleo",
        "the clock ticked all the while",
    ]


def test_devices() -> None:
    seen = {}
    *shown, last = run("devices.py")
    for line in shown:
        way, _, what = line.partition(" the child sees ")
        seen[way.strip()] = what
    assert seen["1. exported in the shell"] == "0,1"
    assert seen["2. set before the command"] == "1"
    assert seen["3. set in the script"] == "2,3,5"
    for method in START_METHODS:
        assert seen[f"4. Process(devices=[0]), {method}"] == "2"
        assert seen[f"4. Process(devices=[2, 1]), {method}"] == "5,3"
        assert seen[f"4. Process(devices=[]), {method}"] == "-1"
    assert seen["5. shoal.spawn(devices=[1])"] == "3"
    assert last.startswith("devices=[3] of three: ")


def test_two_peers_converse(name: str) -> None:
    left, right, counts = f"{name}-left", f"{name}-right", f"{name}-counts"
    with shoal.Queue(left), shoal.Queue(right), shoal.BytesMap(counts) as origins:
        peers = [
            subprocess.Popen(
                [sys.executable, str(EXAMPLES / "peer.py"), inbox, outbox, counts, who, "1000"],
                stdout=subprocess.PIPE,
                text=True,
            )
            for inbox, outbox, who in [(left, right, "ann"), (right, left, "bob")]
        ]
        out = [peer.communicate(timeout=WATCHDOG)[0] for peer in peers]
        assert out == [
            "ann: put 1000, got 1000 (1000 from bob)\n",
            "bob: put 1000, got 1000 (1000 from ann)\n",
        ]
        assert origins.add(b"from:ann", 0) == origins.add(b"from:bob", 0) == 1000
