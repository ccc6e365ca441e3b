"""C, C++, Rust and Python share queues and a map at the same time."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Dict, List

import pytest

from conftest import ROOT

COUNT = 3000
# Building comes first, and a machine may be busy.
WATCHDOG = 300.0


def built() -> Dict[str, Path]:
    """The Rust examples and the library, by name; with the profile and features of the library of these tests."""
    command = ["cargo", "build", "--quiet", "--message-format=json-render-diagnostics"]
    command += ["--release", "--features", "cli"]
    command += ["--package", "shoal", "--lib", "--example", "together", "--example", "peer"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, timeout=WATCHDOG)
    found = {}
    for line in done.stdout.splitlines():
        message = json.loads(line)
        if message["reason"] != "compiler-artifact":
            continue
        if message["executable"]:
            found[message["target"]["name"]] = Path(message["executable"])
        for file in map(Path, message["filenames"]):
            if file.name == "libshoal.so":
                found["library"] = file
    return found


@pytest.mark.timeout(WATCHDOG)
@pytest.mark.skipif(shutil.which("cargo") is None, reason="needs cargo")
def test_four_languages_produce_and_consume(tmp_path: Path) -> None:
    rust = built()
    flags = ["-O1", f"-I{ROOT}/include", f"-I{ROOT}/bindings/cpp"]
    shutil.copyfile(rust["library"], tmp_path / "libshoal.so.0")
    for compiler, source in [("cc", "c/peer.c"), ("c++", "cpp/peer.cpp")]:
        program = tmp_path / f"peer-{compiler}"
        command = [compiler, *flags, str(ROOT / "examples" / source), "-o", str(program)]
        command += [str(rust["library"]), f"-Wl,-rpath,{tmp_path}"]
        subprocess.run(command, check=True, timeout=WATCHDOG)

    # Without spaces, at which `together` splits.
    os.symlink(ROOT / "examples" / "python" / "peer.py", tmp_path / "peer.py")
    peers = {
        "python": f"{sys.executable} {tmp_path}/peer.py",
        "c": f"{tmp_path}/peer-cc",
        "cpp": f"{tmp_path}/peer-c++",
        "rust": str(rust["peer"]),
    }
    command = [str(rust["together"]), "--count", str(COUNT)]
    command += [f"{name}={program}" for name, program in peers.items()]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=WATCHDOG)
    assert done.returncode == 0, done.stdout
    lines: List[str] = done.stdout.splitlines()
    for name in peers:
        # Once around one queue, once in a ring.
        assert lines.count(f"{COUNT} messages from {name} were consumed") == 2
    assert lines[-1] == "the queues are empty, and nothing was lost"
