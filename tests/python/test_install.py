"""`install`: the standard library's `multiprocessing` makes Shoal's objects, for libraries that
import it themselves."""

from __future__ import annotations

import concurrent.futures
import concurrent.futures.process
import inspect
import multiprocessing as std
import multiprocessing.connection
import multiprocessing.managers
import multiprocessing.pool
import multiprocessing.queues
import multiprocessing.sharedctypes
import multiprocessing.synchronize
import os
import subprocess
import sys
import zipfile
from multiprocessing import Lock as early_lock, Pool as early_pool, Queue as early_queue
from multiprocessing.pool import Pool, ThreadPool
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

import pytest

import shoal
import shoal.multiprocessing as mp
from conftest import START_METHODS, Script, ends_well
from shoal import _ffi


def is_ours(thing: object) -> bool:
    return type(thing).__module__.startswith("shoal.")


def std_objects(ctx: Any) -> Dict[str, Any]:
    """One object of each type that the standard library can make, by the name of its method."""
    made: Dict[str, Any] = {
        name: getattr(ctx, name)()
        for name in """Queue JoinableQueue SimpleQueue Lock RLock Semaphore BoundedSemaphore
        Condition Event Manager""".split()
    }
    made["Barrier"] = ctx.Barrier(2)
    made["Value"], made["Array"] = ctx.Value("i", 1), ctx.Array("i", [1, 2])
    made["Pipe"], made["the other end"] = ctx.Pipe()
    made["Pool"] = ctx.Pool(1)
    return made


def give_up(made: Dict[str, Any]) -> None:
    made.pop("Pool").terminate()
    made.pop("Manager").shutdown()


@pytest.mark.parametrize("method", [None, *START_METHODS])
def test_a_context_makes_only_shoal_objects(method: Any) -> None:
    with mp.install():
        made = std_objects(std.get_context(method))
    assert {name: is_ours(thing) for name, thing in made.items()} == dict.fromkeys(made, True)
    assert isinstance(made["Queue"], shoal.Queue) and isinstance(made["Queue"], Queue)
    give_up(made)


def test_names_that_were_imported_before_make_shoal_objects() -> None:
    with mp.install():
        ctx = std.get_context("fork")
        made: List[Any] = [early_queue(), early_lock(), Queue(ctx=ctx), std.Queue()]
        made += [std.synchronize.Barrier(2, ctx=ctx), std.sharedctypes.Array("i", 2)]
        made += std.connection.Pipe()
        assert [is_ours(thing) for thing in made] == [True] * len(made)
        for make in (early_pool, Pool):
            with make(1) as pool:
                assert is_ours(pool) and pool.map(abs, [-1]) == [1]


def test_an_installation_can_be_undone() -> None:
    modules = [std, std.connection, std.managers, std.pool, std.queues, std.sharedctypes]
    modules += [std.synchronize, std.context, sys.modules["multiprocessing.spawn"]]

    def everything() -> List[Tuple[str, Any]]:
        seen = [(module.__name__, dict(vars(module))) for module in modules]
        for module in modules:
            kinds = [thing for thing in vars(module).values() if isinstance(thing, type)]
            # Except for a `__new__` with the original behaviour: see the next test.
            seen += [
                (kind.__name__, {k: v for k, v in vars(kind).items() if k != "__new__"})
                for kind in kinds
            ]
        return seen

    with mp.install():
        # Submodules are attributes of their package once they are imported.
        std.Queue()
    before = everything()
    with mp.install():
        assert everything() != before
        assert is_ours(std.Queue())
    assert everything() == before
    made = [std.Queue(), std.Lock(), std.Value("i"), std.Pipe()[0], std.Barrier(2)]
    assert [is_ours(thing) for thing in made] == [False] * len(made)
    made[0].close()


def test_the_originals_are_made_again_after_uninstall() -> None:
    kinds: List[Any] = [std.synchronize.Lock, std.synchronize.Barrier, Queue, Pool]
    kinds.append(std.managers.SyncManager)
    signatures = [inspect.signature(kind) for kind in kinds]
    with mp.install():
        assert [inspect.signature(kind) for kind in kinds] == signatures
    assert [inspect.signature(kind) for kind in kinds] == signatures
    ctx = std.get_context()

    class Second:
        def __new__(cls, *args: Any, **kwargs: Any) -> Any:
            made = super().__new__(cls)
            made.given = args, kwargs  # type: ignore[attr-defined]
            return made

    class Both(std.synchronize.Barrier, Second):
        pass

    barrier: Any = Both(2, ctx=ctx)
    assert type(barrier) is Both and barrier.given == ((2,), {"ctx": ctx})
    for kind in kinds[:3]:
        with pytest.raises(TypeError):
            kind()
        with pytest.raises(TypeError, match="wrong"):
            kind(ctx=ctx, wrong=1)
    lock = std.synchronize.Lock.__new__(std.synchronize.Lock)
    assert type(lock) is std.synchronize.Lock


def use(queue: Any, lock: Any) -> None:
    with lock:
        queue.put((type(queue).__module__, type(lock).__module__, is_ours(std.Lock())))


@pytest.mark.parametrize("method", START_METHODS)
def test_objects_made_before_the_installation_do_not_change(method: str) -> None:
    ctx = std.get_context(method)
    queue, lock = ctx.Queue(), ctx.Lock()
    with mp.install():
        child = ctx.Process(target=use, args=(queue, lock))
        child.start()
        of_the_original = "multiprocessing.queues", "multiprocessing.synchronize"
        assert queue.get() == (*of_the_original, True)
        child.join()
    queue.close()
    queue.join_thread()


def test_an_installation_can_be_used_by_several_with_blocks() -> None:
    installation = mp.install()
    for _ in range(2):
        with installation:
            with installation:
                assert is_ours(std.Lock())
            assert is_ours(std.Lock())
        assert not is_ours(std.Lock())


def test_it_is_active_until_each_installation_is_undone() -> None:
    first = mp.install()
    with mp.install() as second:
        first.uninstall()
        first.uninstall()
        assert is_ours(std.Lock())
    second.uninstall()
    assert not is_ours(std.Lock())
    mp.install()
    assert is_ours(std.Lock())
    mp.uninstall()
    mp.uninstall()
    assert not is_ours(std.Lock())


def report(queue: Any, ways: List[str]) -> None:
    """The classes of the objects that this process and its descendants make."""
    queue.put((std.parent_process().pid, is_ours(std.Queue()), is_ours(early_lock())))  # type: ignore[union-attr]
    if ways:
        child = std.get_context(ways[0]).Process(target=report, args=(queue, ways[1:]))
        child.start()
        child.join()


# Not a fork server's child of a forked one: there the standard library uses the parent's server as
# its own.
WAYS = [[a, b] for a in START_METHODS for b in START_METHODS if (a, b) != ("fork", "forkserver")]


@pytest.mark.parametrize("ways", WAYS)
def test_children_and_grandchildren_have_it(ways: List[str]) -> None:
    with mp.install():
        queue = std.Queue()
        child = std.get_context(ways[0]).Process(target=report, args=(queue, ways[1:]))
        child.start()
        child.join()
        told = [queue.get(timeout=10) for _ in ways]
    assert told[0][0] == os.getpid() and told[1][0] == child.pid
    assert [it[1:] for it in told] == [(True, True)] * 2


def die() -> None:
    os.kill(os.getpid(), 9)


def makes_ours(_: int) -> Tuple[bool, bool]:
    return is_ours(std.Queue()), is_ours(std.Lock())


@pytest.mark.parametrize("method", START_METHODS)
def test_workers_of_pools_have_it(method: str) -> None:
    with mp.install(), std.get_context(method).Pool(2) as pool:
        assert set(pool.map(makes_ours, range(4))) == {(True, True)}


def test_a_child_has_it_before_it_imports_the_program(script: Script) -> None:
    out = ends_well(
        script(
            """
            import multiprocessing, sys, types
            if __name__ != "__main__":
                # In a child, before it has received anything from the parent.
                lock = multiprocessing.Lock()
                print(type(lock).__module__)
            def work(): pass
            if __name__ == "__main__":
                import shoal.multiprocessing
                with shoal.multiprocessing.install():
                    for method in ("spawn", "forkserver"):
                        child = multiprocessing.get_context(method).Process(target=work)
                        child.start(); child.join()
                        assert child.exitcode == 0
                child = multiprocessing.get_context("spawn").Process(target=work)
                child.start(); child.join()
            """
        )
    )
    ours, original = "shoal.multiprocessing.synchronize", "multiprocessing.synchronize"
    assert out.split()[-1] == original and set(out.split()[:-1]) == {ours}


def test_a_child_finds_the_package_where_its_parent_did(script: Script, tmp_path: Path) -> None:
    # By a path that only the parent's program has added.
    package = str(Path(shoal.__file__).parents[1])
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment["SHOAL_LIBRARY"] = _ffi.lib._name
    out = ends_well(
        script(
            f"""
            import sys
            if __name__ == "__main__":
                sys.path.insert(0, {package!r})
                import shoal.multiprocessing
                shoal.multiprocessing.install()
            import multiprocessing
            def work(): print(type(multiprocessing.Lock()).__module__)
            if __name__ == "__main__":
                child = multiprocessing.get_context("spawn").Process(target=work)
                child.start(); child.join()
            """,
            env=environment,
        )
    )
    assert out == "shoal.multiprocessing.synchronize\n"


@pytest.mark.parametrize("method", START_METHODS)
def test_executors_work(method: str) -> None:
    with mp.install():
        ctx = std.get_context(method)
        with concurrent.futures.ProcessPoolExecutor(2, mp_context=ctx) as executor:
            assert list(executor.map(makes_ours, range(4))) == [(True, True)] * 4
            with pytest.raises(concurrent.futures.process.BrokenProcessPool):
                executor.submit(die).result()


class OwnQueue(Queue):  # type: ignore[type-arg]
    def __init__(self) -> None:
        super().__init__(ctx=std.get_context())


class OwnManager(std.managers.SyncManager):
    pass


OwnManager.register("words", list)


def test_subclasses_of_the_originals_do_not_change() -> None:
    with mp.install():
        own = OwnQueue()
        assert type(own) is OwnQueue
        # A lock that does not go to the next process after a kill: a message in the pipe may be incomplete.
        lock: Any = mp.synchronize
        assert type(own._rlock) is lock.PipeLock  # type: ignore[attr-defined]
        with ThreadPool(2) as pool:
            assert type(pool) is ThreadPool and pool.map(abs, [-1, -2]) == [1, 2]
        call_queue = concurrent.futures.process._SafeQueue.__mro__  # type: ignore[attr-defined]
        assert not [kind for kind in call_queue if kind.__module__.startswith("shoal.")]
        with OwnManager(ctx=std.get_context("fork")) as manager:
            assert manager.words("ab").index("b") == 1  # type: ignore[attr-defined]
        with std.managers.SyncManager() as manager:
            assert is_ours(manager) and is_ours(manager.dict())
        with std.Manager() as manager:
            assert is_ours(manager)
    own.close()


def test_objects_of_a_killed_standard_child_are_removed_by_its_join() -> None:
    # As for this module's processes; the fixture checks after each test that nothing is left.
    with mp.install():
        child = std.get_context("fork").Process(target=die)
        child.start()
        child.join()
    assert child.exitcode == -9


def test_wait_accepts_both_kinds_of_connections() -> None:
    original, its_end = std.Pipe()
    with mp.install():
        ours, our_end = std.Pipe()
        its_end.send(1)
        our_end.send(2)
        assert set(std.connection.wait([original, ours], 10)) == {original, ours}
        assert original.recv() == 1 and ours.recv() == 2
        assert std.connection.wait([original, ours], 0) == [] and not original.poll(0)
    for end in (original, its_end):
        end.close()


@pytest.mark.parametrize("how", ["attributes", "get_context", "sys.modules"])
def test_names_of_the_original_may_be_replaced_by_hand(script: Script, how: str) -> None:
    # `install` is recommended, but programs have these lines: they must neither recurse nor break.
    out = ends_well(
        script(
            """
            import sys, multiprocessing as std
            import shoal.multiprocessing as mp
            if sys.argv[1] == "attributes":
                for name in mp.__all__: setattr(std, name, getattr(mp, name))
            elif sys.argv[1] == "get_context":
                std.get_context = mp.get_context
            else:
                sys.modules["multiprocessing"] = mp
            import multiprocessing
            if __name__ == "__main__":
                for method in ("fork", "spawn", "forkserver"):
                    ctx = multiprocessing.get_context(method)
                    print(type(ctx.Lock()).__module__)
                    queue = ctx.Queue()
                    child = ctx.Process(target=queue.put, args=(method,))
                    child.start(); print(queue.get()); child.join()
                    with ctx.Pool(1) as pool: print(pool.map(abs, [-1]))
                print(multiprocessing.get_start_method())
            """,
            how,
        )
    )
    lines = [["shoal.multiprocessing.synchronize", way, "[1]"] for way in START_METHODS]
    assert out.split()[:-1] == [word for line in lines for word in line]


def run(
    *arguments: str, cwd: Path, options: Sequence[str] = ()
) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, *options, "-m", "shoal.multiprocessing", *arguments]
    return subprocess.run(
        command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


PROGRAM = """
import multiprocessing, sys
from beside import helper
from multiprocessing import Process, Queue
def work(queue): queue.put((type(queue).__module__, __name__, helper()))
if __name__ == "__main__":
    for method in multiprocessing.get_all_start_methods():
        multiprocessing.set_start_method(method, force=True)
        queue = Queue()
        child = Process(target=work, args=(queue,))
        child.start()
        print(*queue.get())
        child.join()
    print(sys.argv[1:], __file__.rpartition("/")[2])
    sys.exit(int(sys.argv[1]))
"""


def program(folder: Path, name: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "beside.py").write_text("def helper(): return 'helped'\n")
    (folder / name).write_text(PROGRAM)
    return folder / name


def check(done: "subprocess.CompletedProcess[str]", name: str, *mains: str) -> None:
    assert done.returncode == 3, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert {words[0] for words in lines[:-1]} == {"shoal.multiprocessing.queues"}
    assert {words[1] for words in lines[:-1]} <= set(mains)
    assert {words[2] for words in lines[:-1]} == {"helped"} and len(lines) == 4
    assert " ".join(lines[-1]) == f"['3', '--flag'] {name}"
    assert done.stderr == ""


def test_a_program_is_run_unchanged(tmp_path: Path) -> None:
    script = program(tmp_path / "there", "program.py")
    done = run(str(script), "3", "--flag", cwd=tmp_path)
    check(done, "program.py", "__main__", "__mp_main__")
    assert not list(tmp_path.glob("there/**/program*.pyc"))


def test_a_module_is_run_unchanged(tmp_path: Path) -> None:
    program(tmp_path, "program.py")
    done = run("-m", "program", "3", "--flag", cwd=tmp_path)
    check(done, "program.py", "__main__", "__mp_main__", "program")


MOVES = """
import os, sys
os.chdir("/")
print(__file__, sys.argv, sys.path, __annotations__)
"""


# Options that keep the folder of a script out of `sys.path`.
SAFE = ["-P"] if sys.version_info >= (3, 11) else ["-I"]


@pytest.mark.parametrize("options", [[], SAFE])
@pytest.mark.parametrize("given", ["moves.py", "./app/../moves.py", "app", "app.zip"])
def test_a_program_gets_the_variables_that_python_sets(
    given: str, options: List[str], tmp_path: Path
) -> None:
    (tmp_path / "app").mkdir()
    for file in ("moves.py", "app/__main__.py"):
        (tmp_path / file).write_text(MOVES)
    with zipfile.ZipFile(tmp_path / "app.zip", "w") as archive:
        archive.write(tmp_path / "moves.py", "__main__.py")
    command = [sys.executable, *options, given, "1"]
    plain = subprocess.check_output(command, cwd=tmp_path, text=True)
    done = run(given, "1", cwd=tmp_path, options=options)
    assert (done.stdout, done.stderr) == (plain, "")


@pytest.mark.parametrize("packed", [False, True])
def test_a_folder_or_zip_file_with_a_main_is_run(tmp_path: Path, packed: bool) -> None:
    (tmp_path / "app").mkdir()
    main = "from inside import main\nif __name__ == '__main__': main()\n"
    (tmp_path / "app/__main__.py").write_text(main)
    inside = "import multiprocessing\ndef work(): print(type(multiprocessing.Lock()).__module__)\n"
    inside += "def main():\n    child = multiprocessing.get_context('spawn').Process(target=work)\n"
    inside += "    child.start(); child.join()\n"
    (tmp_path / "app/inside.py").write_text(inside)
    what = "app"
    if packed:
        what = "app.zip"
        with zipfile.ZipFile(tmp_path / what, "w") as archive:
            for file in ("__main__.py", "inside.py"):
                archive.write(tmp_path / "app" / file, file)
    done = run(what, cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("shoal.multiprocessing.synchronize\n", "")


@pytest.mark.parametrize(
    "arguments, said",
    [
        ([], "usage:"),
        (["-m"], "usage:"),
        (["missing.py"], "no such file"),
        (["-m", "no_such_module"], "no_such_module"),
        (["."], "__main__"),
    ],
)
def test_a_program_that_cannot_be_run_is_an_error(
    arguments: List[str], said: str, tmp_path: Path
) -> None:
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr


def test_the_exit_of_the_program_is_passed_on(tmp_path: Path) -> None:
    text = "import atexit\natexit.register(lambda: print(word))\nword = 'late'\n1 / 0\n"
    (tmp_path / "fails.py").write_text(text)
    done = run("fails.py", cwd=tmp_path)
    assert done.returncode == 1 and done.stdout == "late\n"
    assert done.stderr.rstrip().endswith("ZeroDivisionError: division by zero")
    assert "1 / 0" in done.stderr


def test_a_failed_installation_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise OSError("not now")

    from shoal import _install

    mp.install().uninstall()  # leaves a `__new__`

    def names() -> List[Any]:
        return [std.Queue.__func__, Queue.__new__, Queue.__init__, std.connection.Pipe]  # type: ignore[attr-defined]

    before = names()
    monkeypatch.setattr(_install, "_preparing", fails)
    with pytest.raises(OSError, match="not now"):
        mp.install()
    assert before == names()
    assert not is_ours(std.Lock())


def test_a_child_imports_only_the_modules_of_the_objects_that_it_makes(script: Script) -> None:
    out = ends_well(
        script(
            """
            import multiprocessing, pickle, sys
            from multiprocessing import connection
            def ours():
                return {name[22:] for name in sys.modules if name.startswith("shoal.multiprocessing.")}
            def work():
                print(*ours())
                assert pickle.loads(pickle.dumps(connection.wait)) is connection.wait
                multiprocessing.Lock()
                print(*ours() - {"context"})
                here, there = multiprocessing.Pipe()
                here.send(1)
                assert isinstance(here, connection.Connection) and connection.wait([here, there], 9) == [there]
                assert ours() == {"connection", "context", "synchronize"}
            if __name__ == "__main__":
                import shoal.multiprocessing
                shoal.multiprocessing.install()
                child = multiprocessing.get_context("spawn").Process(target=work)
                child.start(); child.join()
                assert child.exitcode == 0
            """
        )
    )
    assert out == "context\nsynchronize\n"


def test_functions_keep_their_name_and_signature() -> None:
    functions = [(std.connection, name) for name in ("Pipe", "wait")]
    functions += [(std.sharedctypes, name) for name in ("Value", "Array")]

    def described() -> List[Any]:
        made = [getattr(module, name) for module, name in functions]
        return [(it.__module__, it.__qualname__, inspect.signature(it)) for it in made]

    before = described()
    with mp.install():
        assert described() == before
