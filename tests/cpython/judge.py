"""The standard library's own tests of `multiprocessing`, run against `shoal.multiprocessing`, and
those of the process pools of `concurrent.futures`, run with its contexts, and with the executor of
`shoal.futures` in place of the original.

    cargo xtask cpython-tests [--python NAME] [fork|spawn|forkserver ...] [--only WORD ...]

The files are those of the running interpreter; only the name of the module is changed. All tests run
except those of ``multiprocessing.dummy`` and of thread pools, which are about threads.
``expected.txt`` lists the tests that are expected to fail, with the reasons. This program fails if any
other test fails, or if one of these passes. It first checks that the objects under test are Shoal's,
and that the tests notice a queue that loses messages.

Some interpreters come without the tests of `concurrent.futures`. Then it prints a line about that.
"""

from __future__ import annotations

import argparse
import faulthandler
import importlib
import importlib.util
import re
import signal
import sys
import unittest
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import resource_sharer, util
from pathlib import Path
from typing import Any, Callable, Dict, List, Set, Tuple

import shoal.futures
import shoal.multiprocessing as mp

HERE = Path(__file__).resolve().parent
METHODS = ["fork", "spawn", "forkserver"]
OBJECTS = """Queue JoinableQueue SimpleQueue Pipe Lock RLock Semaphore BoundedSemaphore Condition
Event""".split()

# A watchdog, not a measure: a test that hangs fails, and says where.
WATCHDOG = 60
# The reason of a test that is expected to hang begins with this.
HANGS, SHORT_WATCHDOG = "waits for ever: ", 5

# A file until 3.11, and a package since. The second name is that of the copy for our executor.
EXECUTORS = "test_concurrent_futures"
OWN = "test_shoal_futures"

# Each form of a line of the original that imports the module, and its replacement.
IMPORTS = [
    (r"^(\s*)import multiprocessing\.(\w+)$",
     r"\1import shoal.multiprocessing.\2; from shoal import multiprocessing"),
    (r"^(\s*)import multiprocessing as", r"\1import shoal.multiprocessing as"),
    (r"^(\s*)import multiprocessing$", r"\1from shoal import multiprocessing"),
    (r"^(\s*)from multiprocessing(\.\w+)? import", r"\1from shoal.multiprocessing\2 import"),
]

# For our executor: also the lines that name the original.
OWN_IMPORTS = [
    *IMPORTS,
    (r"\A", "import shoal.futures\n"),
    (r"\bfutures\.ProcessPoolExecutor\b", "shoal.futures.ProcessPoolExecutor"),
    (r"from concurrent\.futures import \{executor_type\}",
     "from shoal.futures import {executor_type}"),
]


def find(name: str) -> "Path | None":
    """The standard library's tests of this name: a file or the first of a package."""
    try:
        spec = importlib.util.find_spec(f"test.{name}")
    except ModuleNotFoundError:
        spec = None
    return None if spec is None or spec.origin is None else Path(spec.origin)


def copy(path: Path, to: Path, imports: List[Tuple[str, str]] = IMPORTS) -> None:
    """Copies a file of tests, with the name of the module changed."""
    source = path.read_text(encoding="utf-8")
    for pattern, replacement in imports:
        source = re.sub(pattern, replacement, source, flags=re.MULTILINE)
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_text(source, encoding="utf-8")


def prepare(folder: Path) -> None:
    """Writes the tests, and a module for each start method, to where children can import them."""
    original = find("_test_multiprocessing")
    if original is None:
        sys.exit(f"{sys.executable} came without the standard library's tests")
    # The tests, and the programs that they start.
    for name in (original.name, "mp_fork_bomb.py", "mp_preload.py"):
        copy(original.with_name(name), folder / name)
    for method in METHODS:
        (folder / f"with_{method}.py").write_text(
            "import _test_multiprocessing as original\n"
            f"original.install_tests_in_module_dict(globals(), {method!r})\n",
            encoding="utf-8",
        )
    executors = find(EXECUTORS)
    for name, imports in ((EXECUTORS, IMPORTS), (OWN, OWN_IMPORTS)):
        if executors is not None and executors.name == "__init__.py":
            for path in executors.parent.glob("*.py"):
                copy(path, folder / name / path.name, imports)
        elif executors is not None:
            copy(executors, folder / f"{name}.py", imports)


def expected(method: str) -> Dict[str, str]:
    """The tests that are to fail with this start method, and why."""
    found: Dict[str, str] = {}
    for line in (HERE / "expected.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            test, methods, reason = line.split(maxsplit=2)
            if methods == "all" or method in methods.split(","):
                found[test] = reason
    return found


class Verdict(unittest.TestResult):
    """Which tests failed, with a watchdog over each."""

    def __init__(self, known: Dict[str, str]) -> None:
        super().__init__()
        self.known = known
        self.bad: Dict[str, str] = {}
        self.ran: Set[str] = set()

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self.ran.add(short(test))
        hangs = self.known.get(short(test), "").startswith(HANGS)
        signal.alarm(SHORT_WATCHDOG if hangs else WATCHDOG)

    def stopTest(self, test: unittest.TestCase) -> None:
        signal.alarm(0)
        super().stopTest(test)

    def _failed(self, test: Any, problem: Any) -> None:
        self.bad[short(test)] = self._exc_info_to_string(problem, test)  # type: ignore

    addError = addFailure = _failed

    def addSubTest(self, test: Any, subtest: Any, problem: Any) -> None:
        if problem:
            self._failed(test, problem)


def short(test: unittest.TestCase) -> str:
    """``Queue.test_put``, with processes; ``manager.Queue.test_put``; ``TestWait.test_wait``;
    ``executor.WaitTest.test_all_completed``; ``own.WaitTest.test_all_completed``."""
    name = ".".join(test.id().split(".")[-2:])
    kind = EXECUTOR_TYPES.get(getattr(test, "executor_type", None))
    if kind is not None:
        return re.sub("^ProcessPool(Forkserver|Fork|Spawn)", f"{kind}.", name)
    return name.replace("WithProcessesTest", "", 1).replace("WithManagerTest", "manager.", 1)


# By the attribute `executor_type` of test cases.
EXECUTOR_TYPES: Dict[Any, str] = {
    ProcessPoolExecutor: "executor",
    shoal.futures.ProcessPoolExecutor: "own",
}


def multiprocessings(method: str) -> List[type]:
    """The test cases of `multiprocessing`."""
    found = vars(importlib.import_module(f"with_{method}"))
    return [
        case
        for name, case in sorted(found.items())
        if isinstance(case, type)
        and issubclass(case, unittest.TestCase)
        and not name.startswith("WithThreads")
    ]


def executors(method: str) -> List[type]:
    """The test cases of executors of processes; none if the interpreter came without."""
    return executors_of(EXECUTORS, method)


def own_executors(method: str) -> List[type]:
    """The same for our executor."""
    return executors_of(OWN, method)


def executors_of(name: str, method: str) -> List[type]:
    if find(EXECUTORS) is None:
        return []
    top = importlib.import_module(name)
    modules = [top]
    if hasattr(top, "__path__"):
        folder = Path(top.__path__[0])
        parts = sorted(path.stem for path in folder.glob("test_*.py"))
        modules = [importlib.import_module(f"{name}.{part}") for part in parts]
    return [
        case
        for module in modules
        for _, case in sorted(vars(module).items())
        if isinstance(case, type)
        and issubclass(case, unittest.TestCase)
        and getattr(case, "executor_type", None) in EXECUTOR_TYPES
        and getattr(case, "ctx", None) == method
    ]


def tests_of(cases: List[type], words: List[str]) -> unittest.TestSuite:
    """The tests whose names have one of the words, if there are any words."""
    suite, loader = unittest.TestSuite(), unittest.TestLoader()
    for case in cases:
        # The module's end, after each class here, removes the directory of its socket.
        case.addClassCleanup(mp.resource_sharer.stop, timeout=5)  # type: ignore[attr-defined]
        # A class with its tests, so that what they share is set up once.
        tests = [
            test
            for test in loader.loadTestsFromTestCase(case)  # type: ignore[arg-type]
            if not words or any(word in short(test) for word in words)
        ]
        suite.addTest(unittest.TestSuite(tests))
    return suite


def run(cases: List[type], words: List[str], known: Dict[str, str] = {}) -> Verdict:
    """Runs them, as unittest's own runner would."""
    verdict = Verdict(known)
    for case in tests_of(cases, words):
        case.run(verdict)
        # Otherwise the next run would call the ends of this class and module a second time.
        verdict._previousTestClass = None  # type: ignore[attr-defined]
        for child in mp.active_children():
            child.kill()
            child.join()
    return verdict


def check_the_tests(method: str) -> None:
    """Checks that the tests use Shoal's objects, and that they fail with a broken queue."""
    ctx = mp.get_context(method)
    for name in OBJECTS:
        made = getattr(ctx, name)()
        one = made[0] if isinstance(made, tuple) else made
        if not type(one).__module__.startswith("shoal."):
            sys.exit(f"{name}() makes a {type(one)}, which is not Shoal's")
    for cls in (mp.pool.Pool, mp.managers.SyncManager, mp.Process):
        if not cls.__module__.startswith("shoal."):
            sys.exit(f"{cls} is not Shoal's")
    queue: Any = mp.queues.Queue
    put = queue.put
    queue.put = lambda *args, **kwargs: None
    broken = run(multiprocessings(method), ["Queue.test_qsize"])
    queue.put = put
    if not broken.bad:
        sys.exit("the tests pass with a queue that loses every message")


def check_the_executors(method: str) -> None:
    """Checks that the tests of executors use Shoal's queues."""
    side: Any = mp.queues._Side  # type: ignore[attr-defined]
    recv = side.recv
    side.recv = None
    broken = run(executors(method), ["ProcessPoolExecutorTest.test_submit"])
    side.recv = recv
    if not broken.bad:
        sys.exit("the executors do not use the queues of shoal.multiprocessing")


def check_our_executor(method: str) -> None:
    """Checks that our executor uses Shoal's queues for calls and results."""
    queue: Any = shoal.Queue
    get_many_bytes = queue.get_many_bytes
    queue.get_many_bytes = None
    broken = run(own_executors(method), ["ProcessPoolExecutorTest.test_submit"])
    queue.get_many_bytes = get_many_bytes
    if not broken.bad:
        sys.exit("shoal.futures does not use the queues of shoal")


def stop_the_sharer_before_cleanups() -> None:
    """The tests' own clean-up removes the folder of the socket on which the resource sharer listens. Tests
    of the original have not started the sharer by then, but ours have: descriptors go through it."""
    clean_up = util._cleanup_tests  # type: ignore[attr-defined]

    def clean_up_all() -> None:
        resource_sharer.stop(timeout=WATCHDOG)
        clean_up()

    util._cleanup_tests = clean_up_all  # type: ignore[attr-defined]


def on_alarm(number: int, frame: object) -> None:
    faulthandler.dump_traceback()
    raise AssertionError("it took too long")


def judge(what: str, method: str, cases: List[type], words: List[str]) -> bool:
    """Whether exactly the expected tests fail with this start method."""
    known = expected(method)
    verdict = run(cases, words, known)
    names: Set[str] = set(verdict.bad)
    for name in sorted(names - set(known)):
        print(f"{method}: {name} failed:\n{verdict.bad[name]}")
    # Not every version of Python has all of them.
    surprises = sorted((set(known) & verdict.ran) - names)
    for name in surprises:
        print(f"{method}: {name} is expected to fail and did not: {known[name]}")
    print(
        f"{what}, {method}: {verdict.testsRun} tests, {len(names)} failed, "
        f"{len(names & set(known))} of them as expected; {len(verdict.skipped)} skipped",
        flush=True,
    )
    return not names - set(known) and not surprises


# Each set of tests: the function that finds its test cases, and the check that runs before them.
JUDGES: Dict[str, "tuple[Callable[[str], List[type]], Callable[[str], None]]"] = {
    "multiprocessing": (multiprocessings, check_the_tests),
    "executors": (executors, check_the_executors),
    "shoal.futures": (own_executors, check_our_executor),
}


def main() -> None:
    parser = argparse.ArgumentParser(description="The standard library's tests as judge.")
    parser.add_argument("methods", nargs="*", default=METHODS)
    parser.add_argument("--folder", type=Path, required=True, help="for the tests' copies")
    parser.add_argument("--only", nargs="+", default=[], help="words in the names of tests")
    options = parser.parse_args()
    prepare(options.folder)
    stop_the_sharer_before_cleanups()
    sys.path.insert(0, str(options.folder))
    signal.signal(signal.SIGALRM, on_alarm)
    # A shell starts its background jobs with SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    importlib.import_module("test.support").verbose = 0  # type: ignore[attr-defined]
    passed = []
    for what, (find_cases, check) in JUDGES.items():
        for method in options.methods:
            cases = find_cases(method)
            if not cases:
                print(f"{what}, {method}: {sys.executable} came without these tests")
                continue
            if not options.only:
                check(method)
            passed.append(judge(what, method, cases, options.only))
    sys.exit(not all(passed))


if __name__ == "__main__":
    main()
