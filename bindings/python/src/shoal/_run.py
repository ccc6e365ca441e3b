"""``python -m shoal.multiprocessing script.py arguments``: runs an unchanged program."""

from __future__ import annotations

import builtins
import importlib.util
import os
import sys
from importlib.machinery import PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any, List, NoReturn

from ._install import install

USAGE = """usage: python -m shoal.multiprocessing script.py [argument ...]
       python -m shoal.multiprocessing -m module [argument ...]
Runs a program with the objects of multiprocessing in shared memory."""


def main(arguments: List[str]) -> None:
    """Runs the program that the arguments name in this process, after `install`."""
    if not arguments or arguments == ["-m"]:
        _exit(USAGE)
    if arguments[0] in ("-h", "--help"):
        print(USAGE)
        return
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        path = ""
        spec = _module(arguments[1])
    else:
        sys.argv = arguments
        # An absolute path, as Python uses: the program finds its own files after a change of directory.
        # `sys.argv` keeps the path as it was given.
        path = os.path.join(os.getcwd(), arguments[0])
        spec = _script(path)
    install()
    _run(spec, path)


def _module(name: str) -> Any:
    """The spec of a module, or of a package's ``__main__``."""
    try:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            spec = importlib.util.find_spec(f"{name}.__main__")
    except (ImportError, ValueError) as error:
        _exit(f"Error while finding module {name!r}: {error}")
    if spec is None or spec.loader is None:
        _exit(f"No module named {name!r} that can be run")
    return spec


def _script(path: str) -> Any:
    """The spec of a directory or zip file with a ``__main__.py``; None for a plain file."""
    if not os.path.exists(path):
        _exit(f"can't open file {path!r}: there is no such file")
    spec = PathFinder.find_spec("__main__", [path])
    if spec is None and os.path.isdir(path):
        _exit(f"can't find '__main__' module in {path!r}")
    # Replaces the working directory, which ``-m`` has put there, unless `-I` or `-P` was given.
    is_safe = getattr(sys.flags, "safe_path", sys.flags.isolated)
    if spec and is_safe:
        sys.path.insert(0, path)
    elif spec or not is_safe:
        sys.path[0] = path if spec else os.path.dirname(os.path.realpath(path))
    return spec


def _run(spec: Any, path: str) -> None:
    if spec is None:
        file = path
        loader: Any = SourceFileLoader("__main__", file)
        # Not `get_code`, which would write a cache file.
        code = loader.source_to_code(loader.get_data(file), file)
    else:
        loader = spec.loader
        file = loader.get_filename(spec.name)
        code = loader.get_code(spec.name)
        if spec.name != "__main__":
            sys.argv[0] = file
    if code is None:
        _exit(f"No code object available for {spec.name}")
    program = ModuleType("__main__")
    program.__dict__.update(
        __builtins__=builtins,
        __file__=file,
        __cached__=getattr(spec, "cached", None),
        __loader__=loader,
        __package__=getattr(spec, "parent", None),
        # Spawned children find the program by this, or by ``__file__``.
        __spec__=spec,
    )
    if sys.version_info < (3, 14):
        # A main module has it before its first annotation.
        program.__dict__["__annotations__"] = {}
    # Keeps the running module alive, because the interpreter clears the globals of a freed module.
    sys.modules["shoal.multiprocessing.__main__"] = sys.modules["__main__"]
    sys.modules["__main__"] = program
    exec(code, program.__dict__)


def _exit(why: str) -> NoReturn:
    print(why, file=sys.stderr)
    sys.exit(2)
