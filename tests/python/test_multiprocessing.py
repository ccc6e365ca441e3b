"""`shoal.multiprocessing` beside the module that it replaces."""

from __future__ import annotations

import importlib
import multiprocessing as std
import multiprocessing.queues
import os
import pickle
import queue as errors
import sys
import threading
from typing import Any, List

import pytest

import shoal
import shoal.multiprocessing as mp
from conftest import Script, at_rest, ends_well, wait_until


def fill(d: Any, l: Any, n: int) -> None:
    d[n] = n * n
    l.append(n)
    d.add("sum", n)


def test_a_managers_dict_and_list_are_shared(ctx: Any) -> None:
    with ctx.Manager() as manager:
        d, l = manager.dict(first=1), manager.list("ab")
        children = [ctx.Process(target=fill, args=(d, l, n)) for n in range(5)]
        for child in children:
            child.start()
        for child in children:
            child.join()
        assert d["first"] == 1 and d["sum"] == 10
        assert sorted(l[2:]) == [0, 1, 2, 3, 4] and l[:2] == ["a", "b"]
        assert {k: v for k, v in d.items() if isinstance(k, int)} == {
            n: n * n for n in range(5)
        }


def test_a_managers_dict_behaves_like_a_dict() -> None:
    with mp.Manager() as manager:
        d = manager.dict([("a", 1)], b=2)
        assert isinstance(d, mp.managers.DictProxy)
        assert str(manager.dict({"a": 1})) == "{'a': 1}"
        assert sorted(d.keys()) == ["a", "b"] and isinstance(d.keys(), list)
        assert sorted(d.values()) == [1, 2] and sorted(d.items()) == [("a", 1), ("b", 2)]
        assert d | {"c": 3} == {"a": 1, "b": 2, "c": 3} == {"c": 3} | d
        d |= {"c": 4}
        assert d.pop("c") == 4 and d.copy() == {"a": 1, "b": 2} == d
        assert d.setdefault("a", 9) == 1 and len(d) == 2 and "a" in d
        d["nested"] = manager.list([1])
        d["nested"].append(2)
        assert list(d["nested"]) == [1, 2]


def test_a_managers_list_behaves_like_a_list() -> None:
    with mp.Manager() as manager:
        l, plain = manager.list(range(5)), list(range(5))
        for change in (
            lambda x: x.append(9),
            lambda x: x.extend([8, 7]),
            lambda x: x.insert(1, 6),
            lambda x: x.pop(),
            lambda x: x.pop(0),
            lambda x: x.remove(9),
            lambda x: x.reverse(),
            lambda x: x.sort(key=lambda v: -v),
            lambda x: x.__setitem__(0, 100),
            lambda x: x.__setitem__(slice(1, 3), [1, 2, 3]),
            lambda x: x.__delitem__(0),
            lambda x: x.__iadd__([5]),
            lambda x: x.__imul__(2),
        ):
            change(l)
            change(plain)
            assert list(l) == plain and len(l) == len(plain) and l == plain
        assert l.index(5) == plain.index(5) and l.count(5) == plain.count(5) and 5 in l
        assert list(reversed(l)) == plain[::-1] and l + [1] == plain + [1] and 2 * l == plain * 2
        assert str(l) == str(plain) and l.copy() == plain
        assert l.update_with(0, lambda v: v + 1) == plain[0] + 1
        with pytest.raises(IndexError):
            l[1000]
        l.clear()
        assert list(l) == []
        with pytest.raises(IndexError):
            l.pop()


def put_square(queue: Any, n: int) -> int:
    queue.put(n * n)
    return n


def test_queues_and_dicts_can_be_given_to_a_pool(ctx: Any) -> None:
    queue = ctx.Queue()
    with ctx.Pool(2) as pool:
        assert pool.starmap(put_square, [(queue, n) for n in range(5)]) == list(range(5))
    assert sorted(queue.get() for _ in range(5)) == [0, 1, 4, 9, 16]


class Subclass(mp.Process):
    def __init__(self, queue: Any) -> None:
        super().__init__(name="a subclass", daemon=True)
        self.queue = queue

    def run(self) -> None:
        self.queue.put((self.name, mp.current_process().name, self.daemon))


def test_process_can_be_subclassed() -> None:
    queue = mp.Queue()
    process = Subclass(queue)
    process.start()
    assert queue.get() == ("a subclass", "a subclass", True)
    process.join()
    assert isinstance(process, std.process.BaseProcess) and process.exitcode == 0


def test_a_process_is_started_once(ctx: Any) -> None:
    process = ctx.Process(target=print, args=("",), kwargs={"end": ""})
    process.start()
    with pytest.raises(AssertionError, match="cannot start a process twice"):
        process.start()
    process.join()
    with pytest.raises(AssertionError, match="cannot start a process twice"):
        process.start()
    assert process.exitcode == 0


def test_the_start_method_is_one_with_the_standard_librarys(script: Script) -> None:
    out = ends_well(
        script(
            """
            import multiprocessing as std, shoal.multiprocessing as mp
            def report(queue):
                queue.put((std.get_start_method(), mp.get_start_method(), mp.Process.__module__))
            if __name__ == "__main__":
                print(mp.get_start_method(allow_none=True))
                mp.set_start_method("spawn")
                print(std.get_start_method(), mp.get_context().get_start_method())
                try: mp.set_start_method("fork")
                except RuntimeError as err: print(err)
                queue = mp.Queue()
                child = mp.Process(target=report, args=(queue,))
                child.start(); child.join()
                print(*queue.get())
            """
        )
    )
    assert out.splitlines() == [
        "None",
        "spawn spawn",
        "context has already been set",
        "spawn spawn shoal.multiprocessing.context",
    ]


def test_a_wrong_start_method_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="cannot find context"):
        mp.get_context("teleport")
    with pytest.raises(ValueError):
        mp.get_context("fork").set_start_method("spawn")
    assert mp.get_all_start_methods() == std.get_all_start_methods()


def test_every_public_name_of_the_original_is_there() -> None:
    assert set(std.__all__) <= set(mp.__all__)
    for name in std.__all__:
        assert getattr(mp, name) is not None
    namespace: "dict[str, Any]" = {}
    exec("from shoal.multiprocessing import *", namespace)
    assert set(mp.__all__) <= set(namespace)
    with pytest.raises(AttributeError):
        mp.no_such_name


@pytest.mark.parametrize(
    "module",
    """dummy dummy.connection forkserver heap process resource_sharer
    resource_tracker shared_memory spawn util""".split(),
)
def test_a_module_that_is_not_replaced_is_the_original(module: str) -> None:
    ours = importlib.import_module(f"shoal.multiprocessing.{module}")
    assert ours is importlib.import_module(f"multiprocessing.{module}")


def test_other_names_of_replaced_modules_are_the_originals() -> None:
    from multiprocessing.managers import BaseManager

    assert mp.managers.BaseManager is BaseManager
    for ours, original in ((shoal.Empty, "Empty"), (shoal.Full, "Full")):
        assert getattr(mp.queues, original) is getattr(errors, original)
        assert issubclass(ours, getattr(errors, original))
    with pytest.raises(mp.queues.Empty):
        mp.Queue().get_nowait()


def test_ctrl_c_ends_parent_and_children_and_leaves_nothing(script: Script) -> None:
    import signal

    child = script(
        """
        import shoal.multiprocessing as mp
        def wait(queue, ready):
            try:
                ready.put(1)
                queue.get()
            except KeyboardInterrupt: pass
        if __name__ == "__main__":
            queue, ready = mp.Queue(), mp.JoinableQueue()
            with mp.Manager() as manager:
                kept = manager.dict(), manager.list()
                children = [mp.Process(target=wait, args=(queue, ready)) for _ in range(3)]
                for child in children: child.start()
                for child in children: ready.get()
                print("ready", flush=True)
                queue.get()
        """,
        start_new_session=True,
    )
    assert child.stdout is not None and child.stdout.readline() == "ready\n"
    wait_until(lambda: at_rest(child.pid))
    os.killpg(child.pid, signal.SIGINT)
    _, err = child.communicate()
    assert err.rstrip().endswith("KeyboardInterrupt") and "leaked" not in err


def see(queue: Any) -> None:
    queue.put(os.environ.get("CUDA_VISIBLE_DEVICES"))


@pytest.mark.parametrize("mask, seen", [([0], "2"), ([1, 0], "3,2"), ("1", "3")])
def test_a_child_sees_the_devices_it_was_given(
    ctx: Any, mask: Any, seen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    queue = ctx.Queue()
    child = ctx.Process(target=see, args=(queue,), devices=mask)
    child.start()
    assert queue.get() == seen
    child.join()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "2,3"


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_child_without_a_mask_sees_what_its_parent_sees(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # (A fork server's children see what the server saw when it was started.)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    queue = mp.Queue()
    child = mp.get_context(method).Process(target=see, args=(queue,))
    child.start()
    assert queue.get() == "2,3"
    child.join()


@pytest.mark.parametrize("mask", [[2], [0, 0], "0,GPU-1a2b", "garbage", [-1], [0.5], "0,,1"])
def test_a_wrong_mask_is_an_error_before_anything_starts(
    ctx: Any, mask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    child = ctx.Process(target=see, args=(None,), devices=mask)
    with pytest.raises((ValueError, TypeError)):
        child.start()
    assert child.pid is None


def test_the_mask_is_set_before_the_child_imports_the_program(script: Script) -> None:
    out = ends_well(
        script(
            """
            import os
            SEEN = os.environ.get("CUDA_VISIBLE_DEVICES")
            import shoal.multiprocessing as mp
            def show(): print(SEEN, flush=True)
            if __name__ == "__main__":
                for method in ("spawn", "forkserver"):
                    child = mp.get_context(method).Process(target=show, devices=[4, 5])
                    child.start(); child.join()
            """,
            env={k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES"},
        )
    )
    # From 3.13.1 on, the server imports the main module itself, before any mask is set.
    assert out.splitlines()[0] == "4,5"
    assert out.splitlines()[1] == "4,5" or sys.version_info >= (3, 13, 1)


def test_fork_warns_when_cuda_is_initialised(monkeypatch: pytest.MonkeyPatch) -> None:
    class Cuda:
        @staticmethod
        def is_initialized() -> bool:
            return True

    class Torch:
        cuda = Cuda

    monkeypatch.setitem(sys.modules, "torch", Torch)  # type: ignore[arg-type]
    child = mp.get_context("fork").Process(target=int, devices=[0])
    with pytest.warns(RuntimeWarning, match="spawn"):
        child.start()
    child.join()


def test_children_and_parents_are_listed() -> None:
    queue = mp.Queue()
    child = mp.Process(target=queue.get)
    child.start()
    assert child in mp.active_children()
    queue.put("go")
    child.join()
    assert child not in mp.active_children() and mp.parent_process() is None
    names: List[str] = [mp.current_process().name]
    assert names == ["MainProcess"]


def hold_and_hang(lock: Any, ready: Any) -> None:
    lock.acquire()
    ready.set()
    threading.Event().wait()


def test_locks_and_other_primitives_are_shoals_and_survive_a_kill(ctx: Any) -> None:
    from shoal.multiprocessing import synchronize

    lock, ready = ctx.Lock(), ctx.Event()
    for made, kind in [
        (lock, "Lock"),
        (ready, "Event"),
        (ctx.RLock(), "RLock"),
        (ctx.Semaphore(2), "Semaphore"),
        (ctx.BoundedSemaphore(2), "BoundedSemaphore"),
        (ctx.Condition(), "Condition"),
        (ctx.Barrier(2, timeout=1), "Barrier"),
    ]:
        assert type(made) is getattr(synchronize, kind)
        assert isinstance(made, getattr(shoal, kind))
        assert type(pickle.loads(pickle.dumps(made))) is type(made)
    child = ctx.Process(target=hold_and_hang, args=(lock, ready))
    child.start()
    assert ready.wait(60)
    assert not lock.acquire(False)
    child.kill()
    assert lock.acquire(timeout=60) and lock.owner_died
    lock.release()
    with pytest.raises(ValueError):
        lock.release()
    child.join()


def add_to(value: Any, array: Any, times: int) -> None:
    for _ in range(times):
        with value.get_lock():
            value.value += 1
            array[1] += 2


def test_values_and_arrays_are_shoals_and_share_a_given_lock(ctx: Any) -> None:
    lock = ctx.RLock()
    value, array = ctx.Value("i", 5, lock=lock), ctx.Array("d", [1, 2, 3], lock=lock)
    assert isinstance(value, shoal.Value) and isinstance(array, shoal.Array)
    assert value.get_lock() is lock and array.get_lock() is lock
    children = [ctx.Process(target=add_to, args=(value, array, 100)) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert value.value == 205 and list(array) == [1, 402, 3]
    text = mp.Array("c", b"hello")
    assert text.value == b"hello" and isinstance(text, shoal.Array)
    assert not hasattr(mp.Value("i", 1, lock=False), "get_lock")
    with pytest.raises(AttributeError):
        mp.Value("i", lock="no lock")


def test_a_fork_servers_children_have_our_modules_already(script: Script) -> None:
    out = ends_well(
        script(
            """
            import sys
            if __name__ != "__main__":
                # The first line of the program that a child runs.
                print("shoal.multiprocessing.pool" in sys.modules)
            import shoal.multiprocessing as mp
            def work(): pass
            if __name__ == "__main__":
                ctx = mp.get_context("forkserver")
                mp.set_forkserver_preload(["array"])
                for _ in range(2):
                    child = ctx.Process(target=work)
                    child.start(); child.join()
            """
        )
    )
    assert out.split() == ["True", "True"]
