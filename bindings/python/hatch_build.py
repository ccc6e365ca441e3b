"""Builds the native library and the command line with cargo and packs them into the wheel.

The library is plain C to Python (ctypes), so one wheel serves every CPython from 3.9 on:
its tag is ``py3-none-manylinux_2_<N>_<machine>``. Where it comes from, in this order:

1. the file that the environment variable ``SHOAL_LIBRARY`` names, packed as it is, and the
   command line if that lies beside it;
2. ``cargo build --release`` in the checkout this package lies in.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

LIBRARY = "libshoal.so"
# The command line, which `python -m shoal` becomes; not beside a library that is built alone.
PROGRAM = "shoal-command"


class NativeLibraryHook(BuildHookInterface):
    """Puts ``libshoal.so`` and the command line beside ``shoal/__init__.py``."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        self._scratch = tempfile.mkdtemp()
        library = self._library()
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{_platform_tag(library)}"
        files = {LIBRARY: library, PROGRAM: library.with_name("shoal")}
        for name, source in files.items():
            if not source.is_file():
                continue
            if version == "editable":
                # An editable install runs the package from the source tree, so they have to
                # lie there too. Renamed into place: a running program may have them mapped.
                target = Path(self.root, "src", "shoal", name)
                scratch = target.with_suffix(f".{os.getpid()}")
                shutil.copy(source, scratch)
                os.replace(scratch, target)
            else:
                lean = self._without_debug_information(source)
                build_data["force_include"][str(lean)] = f"shoal/{name}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _without_debug_information(self, file: Path) -> Path:
        """A copy a seventh of the size, where there is a ``strip``."""
        strip, lean = shutil.which("strip"), Path(self._scratch, file.name)
        command = [strip or "", "--strip-debug", "-o", str(lean), str(file)]
        if strip is None or subprocess.run(command).returncode != 0:
            return file
        return lean

    def _library(self) -> Path:
        given = os.environ.get("SHOAL_LIBRARY")
        if given:
            path = Path(given).resolve()
            if not path.is_file():
                raise RuntimeError(f"SHOAL_LIBRARY names {given!r}, which is not a file")
            return path
        checkout = Path(self.root).resolve().parents[1]
        if not (checkout / "Cargo.toml").is_file() or not (checkout / "src" / "lib.rs").is_file():
            raise RuntimeError(
                f"the Rust sources of shoal are not in {checkout}: this package is built from "
                "a checkout (pip install <checkout>/bindings/python), or with SHOAL_LIBRARY "
                "naming a built libshoal.so"
            )
        return _cargo_build(checkout)


def _cargo_build(checkout: Path) -> Path:
    cargo = os.environ.get("CARGO") or shutil.which("cargo")
    if cargo is None:
        raise RuntimeError(
            "cargo is not on PATH: install Rust (https://rustup.rs), or set SHOAL_LIBRARY to "
            "a built libshoal.so"
        )
    command = [cargo, "build", "--release", "--features", "cli", "--lib", "--bins"]
    # The messages name the files made, wherever CARGO_TARGET_DIR or a config puts them.
    command.append("--message-format=json-render-diagnostics")
    done = subprocess.run(command, cwd=checkout, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"`{' '.join(command)}` failed in {checkout}; its output is above")
    for line in done.stdout.splitlines():
        message = json.loads(line) if line.startswith("{") else {}
        if message.get("reason") == "compiler-artifact" and message["target"]["name"] == "shoal":
            for name in message["filenames"]:
                if os.path.basename(name) == LIBRARY:
                    return Path(name)
    raise RuntimeError(f"cargo built no {LIBRARY}; is `cdylib` still a crate type of shoal?")


def _platform_tag(library: Path) -> str:
    """The newest C library that ``library`` needs decides, as PEP 600 says, not the builder's."""
    machine = sysconfig.get_platform().split("-", 1)[1].replace("-", "_").replace(".", "_")
    needed = re.findall(rb"\bGLIBC_2\.(\d+)", library.read_bytes())
    if not needed:
        return f"linux_{machine}"
    return f"manylinux_2_{max(17, *map(int, needed))}_{machine}"
