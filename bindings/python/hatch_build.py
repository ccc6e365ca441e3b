"""Builds the native library, the command line and the compiled module with cargo, and packs them into the wheel.

The library is plain C to Python (ctypes), so one wheel serves every interpreter from Python 3.9 on:
its tag is ``py3-none-manylinux_2_<N>_<machine>``. The library comes from, in this order:

1. the file that the environment variable ``SHOAL_LIBRARY`` names, packed as it is, and the
   command line if that lies beside it;
2. ``cargo build --release`` in ``rust`` beside this file, which a source distribution has, or in the checkout
   this package lies in.

The compiled module ``shoal._fast`` is built from ``fast`` beside this file, for CPython's stable ABI, so one
file, ``_fast.abi3.so``, serves every CPython. Other interpreters do not find a module of that name and use
ctypes, so the tag does not name the ABI. The module is optional: if cargo cannot build it, or with
``SHOAL_COMPILED=0``, it is left out, and one line of the build says so.

A source distribution has the sources of all three.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

LIBRARY = "libshoal.so"
# The command line, which `python -m shoal` becomes; not beside a library that is built alone.
PROGRAM = "shoal-command"
# The file name of the compiled module for the stable ABI, and the name that cargo gives it.
MODULE = "_fast.abi3.so"
MODULE_LIBRARY = "libshoal_fast.so"


# The folder of the library's sources in a source distribution, and the files of the checkout that go there.
SOURCES = "rust"
# The command line includes the benchmark.
SOURCE_FILES = ("Cargo.lock", "build.rs", "src", "benches/harness")


class NativeLibraryHook(BuildHookInterface):
    """Puts ``libshoal.so``, the command line and the module beside ``shoal/__init__.py``."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        self._scratch = tempfile.mkdtemp()
        try:
            self._add(version, build_data)
        except RuntimeError as why:
            # One line instead of a traceback.
            self.app.abort(f"shoal cannot be built: {why}")

    def _add(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name == "sdist":
            self._add_sources(build_data["force_include"])
            return
        library = self._library()
        build_data["pure_python"] = False
        module = self._module()
        build_data["tag"] = f"py3-none-{_platform_tag(library, module)}"
        files = {LIBRARY: library, PROGRAM: library.with_name("shoal"), MODULE: module}
        for name, source in files.items():
            if source is None or not source.is_file():
                continue
            if version == "editable":
                # An editable install runs the package from the source tree, so they have to be
                # there too. Renamed into place, because a running program may have them mapped.
                target = Path(self.root, "src", "shoal", name)
                scratch = target.with_suffix(f".{os.getpid()}")
                shutil.copy(source, scratch)
                os.replace(scratch, target)
            else:
                stripped = self._without_debug_information(source)
                build_data["force_include"][str(stripped)] = f"shoal/{name}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _add_sources(self, included: dict[str, str]) -> None:
        """Puts what the library is built from into a source distribution."""
        sources = _sources(Path(self.root))
        if sources == Path(self.root, SOURCES):
            # This is a source distribution, which has them already.
            return
        for name in SOURCE_FILES:
            included[str(sources / name)] = f"{SOURCES}/{name}"
        manifest = Path(self._scratch, "Cargo.toml")
        manifest.write_text(_manifest_of_its_own((sources / "Cargo.toml").read_text()))
        included[str(manifest)] = f"{SOURCES}/Cargo.toml"

    def _without_debug_information(self, file: Path) -> Path:
        """A copy without debug information, a seventh of the size; the file itself if there is no ``strip``."""
        strip, stripped = shutil.which("strip"), Path(self._scratch, file.name)
        command = [strip or "", "--strip-debug", "-o", str(stripped), str(file)]
        if strip is None or subprocess.run(command).returncode != 0:
            return file
        return stripped

    def _module(self) -> Path | None:
        """The compiled module, or None if it cannot be built."""
        try:
            if os.environ.get("SHOAL_COMPILED", "1") == "0":
                raise RuntimeError("SHOAL_COMPILED is 0")
            if sys.implementation.name != "cpython" or sysconfig.get_config_var("Py_GIL_DISABLED"):
                raise RuntimeError("it is for builds of CPython with the GIL")
            sources = Path(self.root, "fast").resolve()
            if not (sources / "Cargo.toml").is_file():
                raise RuntimeError(f"its sources are not in {sources}")
            return _build_module(sources)
        except RuntimeError as why:
            self.app.display_warning(
                f"shoal is installed without its compiled module, and uses ctypes: {why}"
            )
            return None

    def _library(self) -> Path:
        given = os.environ.get("SHOAL_LIBRARY")
        if given:
            path = Path(given).resolve()
            if not path.is_file():
                raise RuntimeError(f"SHOAL_LIBRARY names {given!r}, which is not a file")
            contents = path.read_bytes()
            if not contents.startswith(b"\x7fELF") or b"shoal_abi_version" not in contents:
                raise RuntimeError(f"SHOAL_LIBRARY names {given!r}, which is not a libshoal.so")
            return path
        return _cargo_build(_sources(Path(self.root)))


def _sources(root: Path) -> Path:
    """The folder with the library's sources."""
    places = Path(root, SOURCES), root.resolve().parents[1]
    for place in places:
        if (place / "Cargo.toml").is_file() and (place / "src" / "lib.rs").is_file():
            return place
    raise RuntimeError(
        f"the Rust sources of shoal are not in {places[1]}: this package is built from "
        "a checkout (pip install <checkout>/bindings/python), from a source distribution, or with "
        "SHOAL_LIBRARY naming a built libshoal.so"
    )


def _manifest_of_its_own(manifest: str) -> str:
    """The library's manifest without what only the checkout has: other packages, benchmarks, and tests."""
    parts = re.split(r"(?m)^(?=\[)", manifest)
    left_out = "[workspace]", "[[bench]]", "[dev-dependencies]", "[profile.release.package]"
    # An empty workspace, so that cargo does not add the package to the workspace of a folder above it.
    return "".join(["[workspace]\n\n", *(part for part in parts if not part.startswith(left_out))])


def _cargo_build(checkout: Path) -> Path:
    cargo = _cargo()
    if cargo is None:
        raise RuntimeError(
            "cargo is not on PATH: install Rust (https://rustup.rs), or set SHOAL_LIBRARY to "
            "a built libshoal.so"
        )
    command = [cargo, "build", "--release", "--features", "cli", "--lib", "--bins"]
    return _built_by(command, checkout, dict(os.environ), LIBRARY)


def _build_module(sources: Path) -> Path:
    cargo = _cargo()
    if cargo is None:
        raise RuntimeError("cargo is not on PATH")
    environment = dict(os.environ)
    # The stable ABI is the same for every interpreter, so the build needs none.
    environment["PYO3_NO_PYTHON"] = "1"
    command = [cargo, "build", "--release"]
    if "CARGO_TARGET_DIR" not in environment:
        command.append(f"--target-dir={_sources(sources.parent) / 'target' / 'python'}")
    return _built_by(command, sources, environment, MODULE_LIBRARY)


def _cargo() -> str | None:
    return os.environ.get("CARGO") or shutil.which("cargo")


def _built_by(command: list[str], where: Path, environment: dict[str, str], file: str) -> Path:
    """Runs ``cargo build``. Returns the library of this name that it built."""
    # The messages name the built files, wherever CARGO_TARGET_DIR or a configuration puts them.
    command = [*command, "--message-format=json-render-diagnostics"]
    done = subprocess.run(command, cwd=where, env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"`{' '.join(command)}` failed in {where}; its output is above")
    for line in done.stdout.splitlines():
        message = json.loads(line) if line.startswith("{") else {}
        if message.get("reason") == "compiler-artifact":
            for name in message["filenames"]:
                if os.path.basename(name) == file:
                    return Path(name)
    raise RuntimeError(f"cargo built no {file}; is `cdylib` still a crate type?")


def _platform_tag(*libraries: Path | None) -> str:
    """The tag for the newest version of the C library that any of them needs (PEP 600), not for the builder's."""
    machine = sysconfig.get_platform().split("-", 1)[1].replace("-", "_").replace(".", "_")
    needed = [
        version
        for library in libraries
        if library is not None
        for version in re.findall(rb"\bGLIBC_2\.(\d+)", library.read_bytes())
    ]
    if not needed:
        return f"linux_{machine}"
    return f"manylinux_2_{max(17, *map(int, needed))}_{machine}"
