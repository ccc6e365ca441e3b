"""Names, handles and their end: open, pickle, fork, detach, exit."""

from __future__ import annotations

import os
import pickle
import shutil
from typing import Any

import pytest

import shoal
import shoal.multiprocessing as mp
from conftest import SHM, Script, ends_well, objects
from test_backends import run

KINDS = [shoal.Queue, shoal.Map]


@pytest.mark.parametrize("kind", KINDS)
def test_a_name_is_the_same_object_everywhere(kind: Any, name: str) -> None:
    with kind(name) as made, kind(name, create=False) as opened:
        assert made.name == opened.name == name
        assert made is not opened
        assert (SHM / f"shoal.{name}").exists()
    assert not (SHM / f"shoal.{name}").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_object_is_not_found_and_an_existing_one_is_not_recreated(
    kind: Any, name: str
) -> None:
    with pytest.raises(FileNotFoundError, match=name):
        kind(name, create=False)
    with pytest.raises(shoal.NotFoundError):
        kind.unlink(name)
    with kind(name, exclusive=True):
        with pytest.raises(FileExistsError, match=name):
            kind(name, exclusive=True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bad", ["", "a/b", "../x", "sp ace", "x" * 300, "nul\0l", "ümlaut"])
def test_a_wrong_name_is_a_value_error(kind: Any, bad: str) -> None:
    with pytest.raises(ValueError):
        kind(bad)


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_sizes_are_refused(kind: Any) -> None:
    with pytest.raises(shoal.ShoalError):
        kind(capacity=1 << 62, max_capacity=1 << 62)
    with pytest.raises(ValueError):
        kind(capacity=1 << 20, max_capacity=1 << 14)


def test_a_map_cannot_be_opened_as_a_queue_nor_a_queue_as_a_map(name: str) -> None:
    with shoal.Queue(name):
        with pytest.raises(shoal.WrongKindError, match="queue"):
            shoal.Map(name)
    with shoal.Map(name):
        with pytest.raises(TypeError, match="map"):
            shoal.Queue(name)


def test_invalid_files_in_dev_shm_are_refused(name: str) -> None:
    path = SHM / f"shoal.{name}"
    for content in (b"", b"short", bytes(8192), os.urandom(8192)):
        path.write_bytes(content)
        try:
            with pytest.raises(shoal.ShoalError):
                shoal.Queue(name, create=False)
            with pytest.raises(shoal.ShoalError):
                shoal.Map(name, create=False)
        finally:
            path.unlink()


@pytest.mark.parametrize("kind", KINDS)
def test_a_persistent_object_stays_until_it_is_unlinked(kind: Any, name: str) -> None:
    with kind(name, persistent=True):
        pass
    try:
        with kind(name, create=False) as again:
            assert again.name == name
    finally:
        kind.unlink(name)
    with pytest.raises(shoal.NotFoundError):
        kind(name, create=False)


@pytest.mark.parametrize("kind", [shoal.Queue, shoal.Map, shoal.BytesMap])
def test_unpickling_returns_the_existing_handle(kind: Any) -> None:
    with kind() as made:
        data = pickle.dumps(made)
        assert pickle.loads(data) is made
        assert pickle.loads(pickle.dumps({"deep": [made]}))["deep"][0] is made
    with pytest.raises(shoal.ClosedError):
        pickle.dumps(made)
    with pytest.raises(shoal.NotFoundError):
        pickle.loads(data)


def test_a_pickled_queue_keeps_its_bound(script: Script) -> None:
    with shoal.Queue[int](maxsize=2) as queue:
        child = script(
            """
            import pickle, sys
            queue = pickle.loads(bytes.fromhex(sys.argv[1]))
            again = pickle.loads(bytes.fromhex(sys.argv[1]))
            queue.put(1)
            print(queue.maxsize, queue.full(), again is queue)
            """,
            pickle.dumps(queue).hex(),
        )
        assert ends_well(child) == "2 False True\n"
        assert queue.qsize() == 1


def test_a_queue_travels_through_a_queue() -> None:
    with shoal.Queue[Any]() as outer, shoal.Queue[str]() as inner:
        outer.put(inner)
        inner.put("found")
        assert outer.get().get() == "found"


def test_a_forgotten_handle_is_freed() -> None:
    before = objects()
    queue = shoal.Queue[int]()
    file = f"shoal.{queue.name}"
    assert file in objects() - before
    del queue
    assert file not in objects()


def test_the_last_process_removes_the_object(script: Script, name: str) -> None:
    child = script(
        """
        import sys, shoal
        queue = shoal.Queue(sys.argv[1])
        queue.put("from the child")
        print("ready", flush=True)
        sys.stdin.read()
        assert queue.get() == "from the parent"
        """,
        name,
        stdin=-1,
    )
    assert child.stdout is not None and child.stdout.readline() == "ready\n"
    queue = shoal.Queue[str](name, create=False)
    assert queue.get() == "from the child"
    queue.put("from the parent")
    queue.detach()
    assert (SHM / f"shoal.{name}").exists()
    ends_well(child)
    assert not (SHM / f"shoal.{name}").exists()


def test_a_forked_child_uses_what_it_inherits() -> None:
    with shoal.Queue[str]() as there, shoal.Queue[str]() as back, shoal.Map[
        str, int
    ]() as shared:
        pid = os.fork()
        if pid == 0:
            try:
                shared["child"] = os.getpid()
                back.put("from the child")
                os._exit(there.get() != "from the parent")
            finally:
                os._exit(2)
        assert back.get() == "from the child"
        there.put("from the parent")
        assert os.waitpid(pid, 0)[1] == 0
        assert shared["child"] == pid


ENDINGS = {
    "by itself": "pass",
    "with handles in globals of a module": "import builtins; builtins.kept = (queue, shared)",
    "by sys.exit": "import sys; sys.exit(0)",
    "with a thread waiting": """
import threading, time
def wait():
    try: queue.get()
    except shoal.ClosedError: pass
threading.Thread(target=wait, daemon=True).start()
time.sleep(0.1)
""",
    "after a walk was left half-way": "shared['k'] = 1; walk = iter(shared); next(walk)",
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_program_that_ends_leaves_nothing(ending: str, script: Script) -> None:
    program = "import shoal\nqueue, shared = shoal.Queue(), shoal.Map()\nprint(queue.name)\n"
    out = ends_well(script(program + ENDINGS[ending]))
    assert f"shoal.{out.strip()}" not in objects()


def test_a_program_that_fails_leaves_nothing(script: Script) -> None:
    child = script(
        """
        import shoal
        queue = shoal.Queue()
        print(queue.name)
        raise SystemError("on purpose")
        """
    )
    out, err = child.communicate()
    assert child.returncode == 1 and "on purpose" in err
    assert f"shoal.{out.strip()}" not in objects()


def test_gc_removes_objects_of_killed_processes_and_nothing_else(script: Script) -> None:
    # Created first: the first creation in a process collects too.
    with shoal.Map[str, int]() as shared:
        child = script(
            """
            import os, signal, shoal
            queue = shoal.Queue()
            print(queue.name, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
            """
        )
        out, _ = child.communicate()
        assert f"shoal.{out.strip()}" in objects()
        assert shoal.gc() >= 1
        assert f"shoal.{out.strip()}" not in objects()
        shared["still"] = 1
        assert shared["still"] == 1


def test_the_first_creation_of_a_process_collects_objects_of_killed_processes(
    script: Script
) -> None:
    dead = script(
        """
        import os, signal, shoal
        queues = [shoal.Queue() for _ in range(3)]
        print(*(queue.name for queue in queues), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    names = {f"shoal.{name}" for name in dead.communicate()[0].split()}
    assert len(names) == 3
    # A creation spends a few milliseconds on that. On a busy machine the next process does the rest.
    for _ in range(20):
        script("import shoal; shoal.Lock()").communicate()
        if not names & objects():
            return
    assert not names & objects()


def test_shoal_dir_names_the_directory_of_objects(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = SHM / f"test-dir-{os.getpid()}"
    directory.mkdir()
    try:
        monkeypatch.setenv("SHOAL_DIR", str(directory))
        child = script(
            """
            import os, shoal
            import shoal.multiprocessing as mp

            def work(queue, shared):
                shared["from"] = queue.get()

            if __name__ == "__main__":
                ctx = mp.get_context("spawn")
                queue, shared = shoal.Queue("there"), shoal.Map()
                print(sorted(os.listdir(os.environ["SHOAL_DIR"])) != [], flush=True)
                queue.put(5)
                process = ctx.Process(target=work, args=(queue, shared))
                process.start()
                process.join()
                print(shared["from"])
            """
        )
        out, err = child.communicate()
        assert out.split() == ["True", "5"], err
        assert not list(directory.iterdir())
        monkeypatch.setenv("SHOAL_DIR", str(directory / "missing"))
        child = script(
            """
            import shoal
            try:
                shoal.Queue()
            except shoal.UnsupportedError as err:
                print(err)
            """
        )
        out, err = child.communicate()
        assert str(directory / "missing") in out, err
    finally:
        shutil.rmtree(directory)


@pytest.mark.parametrize(
    "kind", [shoal.Queue, shoal.Map, shoal.List, shoal.Lock, shoal.Event], ids=lambda it: it.__name__
)
def test_a_pickle_is_of_the_object_that_has_the_name_now(kind: Any, name: str) -> None:
    first = kind(name)
    assert pickle.loads(pickle.dumps(first)) is first
    second = kind(name)
    assert pickle.loads(pickle.dumps(second)) is first
    kind.unlink(name)
    # Still found by threads of this process, until there is another object of that name.
    assert pickle.loads(pickle.dumps(first)) is first
    third = kind(name)
    assert third.created and pickle.loads(pickle.dumps(third)) is third
    third.detach()
    fourth = kind(name)
    assert pickle.loads(pickle.dumps(fourth)) is fourth
    first.detach()
    assert pickle.loads(pickle.dumps(fourth)) is fourth
    kind.unlink(name)
    # Made by another process.
    run(f"import shoal; shoal.{kind.__name__}({name!r}, persistent=True)")
    fifth = kind(name)
    assert not fifth.created and pickle.loads(pickle.dumps(fifth)) is fifth
    kind.unlink(name)


@pytest.mark.parametrize("module", [shoal, mp], ids=["shoal", "multiprocessing"])
def test_detaching_removes_the_lock_of_an_object_as_well(module: Any) -> None:
    for make in (
        lambda: module.Value("i", 3),
        lambda: module.Value("i", 3, lock=False) if module is shoal else module.Value("d"),
        lambda: module.Array("i", 3),
        lambda: module.Condition(),
    ):
        before = objects()
        one = make()
        assert objects() > before
        with one:
            pass
        one.detach()
        assert objects() == before
        with pytest.raises(shoal.ClosedError):
            one.acquire()
        with pytest.raises(shoal.ClosedError):
            with one:
                pass


@pytest.mark.parametrize("make", [lambda lock: shoal.Value("i", lock=lock), shoal.Condition, mp.Condition])
def test_detaching_does_not_detach_the_lock_that_was_passed(make: Any) -> None:
    lock = shoal.RLock()
    one = make(lock)
    with one:
        one.detach()
        assert lock._depth() == 1
    # Released at the end of the block.
    assert lock._depth() == 0


def test_the_lock_of_a_value_can_be_used_after_the_value_is_detached() -> None:
    value = shoal.Value("i", 3)
    lock = value.get_lock()
    value.detach()
    with lock:
        assert lock._depth() == 1
    with pytest.raises(shoal.ClosedError):
        value.get_lock()
    with pytest.raises(shoal.ClosedError):
        value.value


def detach_copy(condition: Any) -> None:
    with condition:
        condition.notify_all()
    condition.detach()
    assert condition._lock.detached


def test_a_copy_of_a_condition_detaches_its_lock() -> None:
    for condition in (shoal.Condition(), mp.Condition()):
        child = mp.get_context("spawn").Process(target=detach_copy, args=(condition,))
        child.start()
        child.join()
        assert child.exitcode == 0
        with condition:
            pass
        condition.detach()
