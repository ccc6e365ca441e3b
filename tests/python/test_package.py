"""The package as a whole: its exports, its types, its library and its header."""

from __future__ import annotations

import ast
import ctypes
import importlib.util
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Dict, List

import pytest

import shoal
from conftest import ROOT
from shoal import _abi, _errors, _ffi, _structs

PACKAGE = Path(shoal.__file__).parent


def header() -> str:
    folder = ROOT / "include"
    text = "".join((folder / name).read_text() for name in ("shoal.h", "shoal_bindings.h"))
    return re.sub(r"/\*.*?\*/|//[^\n]*", " ", text, flags=re.DOTALL)


def header_functions() -> Dict[str, int]:
    """Each function of the header and how many arguments it takes."""
    found = {}
    for name, arguments in re.findall(
        r"\b(shoal_\w+)\s*\(((?:[^()]|\([^()]*\))*)\)\s*;", header()
    ):
        # The comma of a function pointer's own arguments is not ours.
        plain = re.sub(r"\([^()]*\)", "", arguments).strip()
        found[name] = 0 if plain in ("", "void") else plain.count(",") + 1
    return found


def test_every_function_of_the_header_is_declared_with_as_many_arguments() -> None:
    declared = {name: len(arguments) for name, (_, arguments) in _abi.PROTOTYPES.items()}
    expected = header_functions()
    assert len(expected) > 30
    assert declared == expected


def test_a_function_gets_its_types_when_it_is_first_used() -> None:
    library = _ffi.Library(_ffi.lib._name)
    assert "shoal_last_error" not in vars(library)
    function = library.shoal_last_error
    assert (function.restype, function.argtypes) == (ctypes.c_char_p, ())
    assert library.shoal_last_error is function
    with pytest.raises(AttributeError):
        library.no_such_function


def test_a_struct_has_the_size_that_the_library_expects() -> None:
    # A struct that is too short or too long is refused.
    assert _ffi.options(_structs.QueueOptions, _abi.CREATE, capacity=1) is not None
    for kind, name in [(shoal.Queue, "queue"), (shoal.Map, "map"), (shoal.List, "list")]:
        with kind() as shared:
            assert shared.stats().size == ctypes.sizeof(type(shared.stats())), name
            assert shared.created and shared.stats().len == 0
            assert repr(shared.stats()).startswith(f"{name.title()}Stats(len=0, ")
            with pytest.raises(shoal.ExistsError):
                kind(shared.name, exclusive=True)


def test_every_status_of_the_header_has_its_exception() -> None:
    codes = {
        name: int(code)
        for name, code in re.findall(r"\b(SHOAL_OK|SHOAL_ERR_\w+)\s*=\s*(\d+)", header())
    }
    assert codes.pop("SHOAL_OK") == 0
    # Iterators of Python end otherwise.
    assert codes.pop("SHOAL_ERR_END") == _abi.ERR_END
    assert sorted(codes.values()) == sorted(_errors.BY_CODE)
    for name, code in codes.items():
        assert _ffi.lib.shoal_status_name(code) == name.encode()
        words = name[len("SHOAL_ERR_") :].replace("_", "")
        exception = _errors.BY_CODE[code].__name__.upper()
        renamed = {"PERMISSION": "ACCESSERROR", "OS": "SYSTEMCALLERROR"}
        assert exception in (words, words + "ERROR", renamed.get(words))


def test_the_drawn_exception_tree_is_correct() -> None:
    drawn = re.findall(r"\+-- (\w+)", _errors.__doc__ or "")
    assert drawn[0] == "ShoalError"
    assert drawn[1:] == [cls.__name__ for cls in _errors.ShoalError.__subclasses__()]


def test_all_names_exactly_what_is_exported() -> None:
    public = {
        name
        for name in dir(shoal)
        if not name.startswith("_") and name not in ("multiprocessing", "futures")
    }
    assert public | {"__version__"} == set(shoal.__all__)
    assert shoal.__all__ == sorted(shoal.__all__)
    for name in shoal.__all__:
        thing = getattr(shoal, name)
        assert not isinstance(thing, type) or thing.__module__ == "shoal"
    with pytest.raises(AttributeError, match="has no attribute 'no_such_name'"):
        shoal.no_such_name  # type: ignore[attr-defined]  # noqa: B018


def test_unused_modules_are_not_imported() -> None:
    seen = """
import sys
import shoal.multiprocessing as mp
rare = [name for name in ("typing", "pathlib", "subprocess", "shoal._list") if name in sys.modules]
with mp.Lock(): pass
print(rare, "shoal._lock" in sys.modules, "shoal._list" in sys.modules)
with mp.Queue() as queue: queue.put(1); queue.get()
print([name for name in ("dataclasses", "shoal._process", "shoal._map") if name in sys.modules])
from shoal import *
print(List, Queue, devices.__name__)
"""
    done = subprocess.run(
        [sys.executable, "-S", "-c", seen],
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert done.stdout.splitlines() == [
        "[] True False",
        "[]",
        "<class 'shoal.List'> <class 'shoal.Queue'> shoal.devices",
    ]


def test_only_one_file_declares_foreign_functions() -> None:
    for path in PACKAGE.rglob("*.py"):
        if path.name != "_ffi.py":
            text = path.read_text()
            assert "argtypes" not in text and "CDLL" not in text, path


def test_nothing_but_the_standard_library_is_imported() -> None:
    allowed = {"shoal", "__future__", *getattr(sys, "stdlib_module_names", ())}
    if len(allowed) == 2:
        pytest.skip("this Python does not list its modules")
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            modules: List[str] = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                modules = [node.module or ""]
            for module in modules:
                assert module.split(".")[0] in allowed, (path, module)


def test_the_version_is_the_crates() -> None:
    cargo = (ROOT / "Cargo.toml").read_text()
    version = re.search(r'^version = "(.*)"', cargo, flags=re.MULTILINE)
    assert version is not None
    assert shoal.__version__ == version.group(1) == _ffi.version()


def test_every_public_item_is_documented() -> None:
    for name in shoal.__all__:
        thing = getattr(shoal, name)
        if name != "__version__":
            assert thing.__doc__, name
        if isinstance(thing, type):
            for attribute, value in vars(thing).items():
                if callable(value) and not attribute.startswith("_"):
                    assert value.__doc__, f"{name}.{attribute}"


def test_the_package_is_typed() -> None:
    assert (PACKAGE / "py.typed").exists()


@pytest.mark.timeout(600)
def test_mypy_accepts_the_package_in_strict_mode() -> None:
    if importlib.util.find_spec("mypy") is None:
        pytest.skip("mypy is not installed")
    source = ROOT / "bindings" / "python"
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "src/shoal", str(ROOT / "examples" / "python")],
        cwd=source,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout


def load(library: str) -> str:
    """The output of importing the package with this library."""
    done = subprocess.run(
        [sys.executable, "-c", "import shoal"],
        env={**os.environ, "SHOAL_LIBRARY": library, "PYTHONPATH": str(PACKAGE.parent)},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == 1
    return done.stderr.strip().splitlines()[-1]


def test_a_wrong_library_is_an_error_with_advice(tmp_path: Path) -> None:
    assert "SHOAL_LIBRARY" in load(str(tmp_path / "missing.so"))
    rubbish = tmp_path / "libshoal.so"
    rubbish.write_text("no library")
    assert "cannot be loaded" in load(str(rubbish))
    libc = [line.split()[-1] for line in open("/proc/self/maps") if "libc.so" in line][0]
    assert "not the library of shoal" in load(libc)


def test_a_package_without_its_library_is_an_error_with_advice(tmp_path: Path) -> None:
    import shutil

    shutil.copytree(PACKAGE, tmp_path / "shoal", ignore=shutil.ignore_patterns("*.so"))
    env = {k: v for k, v in os.environ.items() if k != "SHOAL_LIBRARY"}
    done = subprocess.run(
        [sys.executable, "-c", "import shoal"],
        env={**env, "PYTHONPATH": str(tmp_path)},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == 1
    assert "cargo build --release" in done.stderr and "pip install" in done.stderr


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["devices", "families"], ["no"]])
def test_python_m_shoal_is_the_command_line(arguments: List[str]) -> None:
    program = PACKAGE / "shoal-command"
    if not program.exists():
        pytest.skip("installed with a library alone")
    outcomes = [
        subprocess.run([*start, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for start in ([str(program)], [sys.executable, "-m", "shoal"])
    ]
    assert outcomes[0].returncode == outcomes[1].returncode
    for out in ("stdout", "stderr"):
        named, unnamed = (getattr(outcome, out) for outcome in outcomes)
        assert named.replace(b"shoal-command", b"shoal") == unnamed


def test_the_modules_of_multiprocessing_are_those_of_the_standard_library() -> None:
    # Programs list the folder, for example the standard library's own tests.
    ours = {path.stem for path in (PACKAGE / "multiprocessing").glob("*.py")}
    theirs = {path.stem for path in Path(multiprocessing.__file__).parent.glob("*.py")}
    assert ours - theirs - {"__main__"} == set()


@pytest.mark.parametrize("version", ["3.6", "3.7", "3.8"])
def test_an_older_python_is_refused_with_a_sentence(version: str) -> None:
    places = [
        *Path.home().glob(f".pyenv/versions/{version}.*/bin/python3"),
        *filter(None, [shutil.which(f"python{version}")]),
    ]
    if not places:
        pytest.skip(f"there is no Python {version}")
    package = Path(shoal.__file__).parent.parent
    env = {**os.environ, "PYTHONPATH": str(package), "PYTHONDONTWRITEBYTECODE": "1"}
    for module in ("shoal", "shoal.multiprocessing"):
        command = [str(places[0]), "-c", f"import {module}"]
        done = subprocess.run(command, stderr=subprocess.PIPE, env=env)
        assert f"shoal needs Python 3.9 or later; this is {version}".encode() in done.stderr
