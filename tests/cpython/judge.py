"""The standard library's own tests of `multiprocessing`, run against `shoal.multiprocessing`.

    cargo xtask cpython-tests [--python NAME] [fork|spawn|forkserver ...] [--only WORD ...]

The file is the running interpreter's, with nothing changed but the name of the module. All of its
tests run but those of ``multiprocessing.dummy``, which are about threads. What is expected to fail
stands with its reason in ``expected.txt``; anything else that fails, and whatever is expected to
fail and passes, makes this fail. Before that it makes sure that the objects under test are
Shoal's, and that the tests notice a queue that loses what is put.
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
from pathlib import Path
from types import ModuleType
from typing import Any, Dict, List, Set

import shoal.multiprocessing as mp

HERE = Path(__file__).resolve().parent
METHODS = ["fork", "spawn", "forkserver"]
OBJECTS = """Queue JoinableQueue SimpleQueue Pipe Lock RLock Semaphore BoundedSemaphore Condition
Event""".split()

# A watchdog, not a measure: a test that hangs fails, and says where.
WATCHDOG = 60

# Each line of the original that imports the module, as it has to be.
IMPORTS = [
    (r"^(\s*)import multiprocessing\.(\w+)$",
     r"\1import shoal.multiprocessing.\2; from shoal import multiprocessing"),
    (r"^(\s*)import multiprocessing as", r"\1import shoal.multiprocessing as"),
    (r"^(\s*)import multiprocessing$", r"\1from shoal import multiprocessing"),
    (r"^(\s*)from multiprocessing(\.\w+)? import", r"\1from shoal.multiprocessing\2 import"),
]


def prepare(folder: Path) -> None:
    """Writes the tests, and a module for each start method, to where children can import them."""
    spec = importlib.util.find_spec("test._test_multiprocessing")
    if spec is None or spec.origin is None:
        sys.exit(f"{sys.executable} came without the standard library's tests")
    folder.mkdir(parents=True, exist_ok=True)
    # The tests, and the programs that they start.
    for name in (Path(spec.origin).name, "mp_fork_bomb.py", "mp_preload.py"):
        path = Path(spec.origin).with_name(name)
        source = path.read_text(encoding="utf-8")
        for pattern, replacement in IMPORTS:
            source = re.sub(pattern, replacement, source, flags=re.MULTILINE)
        (folder / path.name).write_text(source, encoding="utf-8")
    for method in METHODS:
        (folder / f"with_{method}.py").write_text(
            "import _test_multiprocessing as original\n"
            f"original.install_tests_in_module_dict(globals(), {method!r})\n",
            encoding="utf-8",
        )


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

    def __init__(self) -> None:
        super().__init__()
        self.bad: Dict[str, str] = {}
        self.ran: Set[str] = set()

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self.ran.add(short(test))
        signal.alarm(WATCHDOG)

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
    """``Queue.test_put``, with processes; ``manager.Queue.test_put``; ``TestWait.test_wait``."""
    name = test.id().split(".", 1)[-1]
    return name.replace("WithProcessesTest", "", 1).replace("WithManagerTest", "manager.", 1)


def tests_of(module: ModuleType, words: List[str]) -> unittest.TestSuite:
    """The tests whose names have one of the words, if there are any words."""
    suite, loader = unittest.TestSuite(), unittest.TestLoader()
    for name, case in sorted(vars(module).items()):
        if not isinstance(case, type) or not issubclass(case, unittest.TestCase):
            continue
        # A class with its tests, so that what they share is set up once.
        tests = [
            test
            for test in loader.loadTestsFromTestCase(case)
            if not words or any(word in short(test) for word in words)
        ]
        if not name.startswith("WithThreads"):
            suite.addTest(unittest.TestSuite(tests))
    return suite


def run(module: ModuleType, words: List[str]) -> Verdict:
    """Runs them, as unittest's own runner would."""
    verdict = Verdict()
    for case in tests_of(module, words):
        case.run(verdict)
        # As if there were none before: the module's and the class's ends are behind us.
        verdict._previousTestClass = None  # type: ignore[attr-defined]
        for child in mp.active_children():
            child.kill()
            child.join()
    return verdict


def look_at_the_judge(module: ModuleType, method: str) -> None:
    """A judge that does not judge Shoal, or that finds no fault with a broken queue, is no good."""
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
    broken = run(module, ["Queue.test_qsize"])
    queue.put = put
    if not broken.bad:
        sys.exit("the tests are content with a queue that loses everything")


def on_alarm(number: int, frame: object) -> None:
    faulthandler.dump_traceback()
    raise AssertionError(f"it took longer than {WATCHDOG} s")


def judge(method: str, words: List[str]) -> bool:
    """Whether all that fails with this start method is what is expected to."""
    module = importlib.import_module(f"with_{method}")
    if not words:
        look_at_the_judge(module, method)
    verdict, known = run(module, words), expected(method)
    names: Set[str] = set(verdict.bad)
    for name in sorted(names - set(known)):
        print(f"{method}: {name} failed:\n{verdict.bad[name]}")
    # Not every version of Python has all of them.
    surprises = sorted((set(known) & verdict.ran) - names)
    for name in surprises:
        print(f"{method}: {name} is expected to fail and did not: {known[name]}")
    print(
        f"{method}: {verdict.testsRun} tests, {len(names)} failed, "
        f"{len(names & set(known))} of them as expected; {len(verdict.skipped)} skipped"
    )
    return not names - set(known) and not surprises


def main() -> None:
    parser = argparse.ArgumentParser(description="The standard library's tests as judge.")
    parser.add_argument("methods", nargs="*", default=METHODS)
    parser.add_argument("--folder", type=Path, required=True, help="for the tests' copies")
    parser.add_argument("--only", nargs="+", default=[], help="words in the names of tests")
    options = parser.parse_args()
    prepare(options.folder)
    sys.path.insert(0, str(options.folder))
    signal.signal(signal.SIGALRM, on_alarm)
    content = [judge(method, options.only) for method in options.methods]
    sys.exit(not all(content))


if __name__ == "__main__":
    main()
