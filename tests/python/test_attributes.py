"""Attributes of objects, and whether objects are instances of the original classes."""

from __future__ import annotations

import copy
import ctypes
import inspect
import logging.config
import multiprocessing.managers as std_managers
import multiprocessing.pool as std_pool
import multiprocessing.queues as std_queues
import multiprocessing.sharedctypes as std_sharedctypes
import multiprocessing.synchronize as std_synchronize
import pickle
import sys
import threading
from multiprocessing import connection as std_connection, context as std_context
from typing import Any, Callable, Dict, List
from unittest import mock

import pytest

import shoal
import shoal.multiprocessing as mp
from conftest import Script, ends_well


class Point(ctypes.Structure):
    _fields_ = [("x", ctypes.c_int), ("y", ctypes.c_double)]


PLAIN: Dict[str, Callable[[], Any]] = {
    "shoal.Queue": shoal.Queue,
    "shoal.Map": shoal.Map,
    "shoal.List": shoal.List,
    "shoal.RWLock": shoal.RWLock,
    "Queue": mp.Queue,
    "JoinableQueue": mp.JoinableQueue,
    "SimpleQueue": mp.SimpleQueue,
    "Lock": mp.Lock,
    "RLock": mp.RLock,
    "Semaphore": mp.Semaphore,
    "BoundedSemaphore": mp.BoundedSemaphore,
    "Condition": mp.Condition,
    "Event": mp.Event,
    "Barrier": lambda: mp.Barrier(1),
    "Value": lambda: mp.Value("i", 1),
    "Value of a structure": lambda: mp.Value(Point, 1, 2.0),
    "Array": lambda: mp.Array("i", 2),
    "Array of characters": lambda: mp.Array("c", b"ab"),
    "Connection": lambda: mp.Pipe()[0],
}
# Each with its original class.
MANAGED = {
    "dict": std_managers.DictProxy,
    "list": std_managers.ListProxy,
    "Namespace": std_managers.NamespaceProxy,
    "Value": std_managers.ValueProxy,
    "Array": std_managers.ArrayProxy,
    "Lock": std_managers.AcquirerProxy,
    "RLock": std_managers.AcquirerProxy,
    "Semaphore": std_managers.AcquirerProxy,
    "BoundedSemaphore": std_managers.AcquirerProxy,
    "Condition": std_managers.ConditionProxy,
    "Event": std_managers.EventProxy,
    "Barrier": std_managers.BarrierProxy,
    "Queue": std_managers.BaseProxy,
    "JoinableQueue": std_managers.BaseProxy,
}
ARGUMENTS = {"Value": ("i", 1), "Array": ("i", [1, 2]), "Barrier": (1,)}


def all_of(thing: Any) -> List[str]:
    """Every name that code may ask for."""
    return sorted({*dir(thing), *(name for kind in type(thing).__mro__ for name in vars(kind))})


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize("detached", [False, True])
def test_a_missing_attribute_raises_only_attribute_error(kind: str, detached: bool) -> None:
    made = PLAIN[kind]()
    if detached:
        made.detach()
    for name in all_of(made):
        hasattr(made, name)
    inspect.getmembers(made)
    mock.create_autospec(made, instance=True)
    # Every name that `dir` lists exists.
    for name in dir(made):
        getattr(made, name)
    made.detach()


def set_own_attributes(made: Any, original: Any) -> None:
    for name in ("name", "detached", "maxsize", "stats", "closed", "title"):
        if hasattr(made, name) and not hasattr(original, name):
            setattr(made, name, f"my {name}")
            assert getattr(made, name) == f"my {name}"
    kept = {"close", "detach", "value", "raw", *getattr(made, "_fields", ())}
    for name in dir(type(made)):
        if name[:1] != "_" and not hasattr(original, name) and name not in kept:
            before = made.__dict__.get(name, made)
            setattr(made, name, "mine")
            assert getattr(made, name) == "mine"
            # As with any attribute, the one of the class is visible again.
            if before is made:
                delattr(made, name)
            else:
                made.__dict__[name] = before


@pytest.mark.parametrize("kind", [kind for kind in PLAIN if not kind.startswith("shoal.")])
def test_programs_set_attributes_that_the_original_does_not_have(kind: str) -> None:
    made = PLAIN[kind]()
    original = next(it for it in type(made).__mro__ if it.__module__.startswith("multiprocessing."))
    set_own_attributes(made, original)
    shown = [name for name in dir(type(made)) if name[:1] != "_"]
    assert all(getattr(type(made), name).__doc__ for name in ("name", "detached") if name in shown)
    made.detach()
    assert made.__dict__["name"] == "my name"


@pytest.mark.parametrize("kind", ["dict", "list", "Array", "Lock", "Queue"])
def test_programs_set_attributes_of_objects_that_a_manager_makes(kind: str) -> None:
    with mp.Manager() as manager:
        set_own_attributes(getattr(manager, kind)(*ARGUMENTS.get(kind, ())), MANAGED[kind])


class Jobs(mp.queues.Queue):  # type: ignore[misc]
    """A program's own queue, with attributes that no original has."""

    def __init__(self, name: str, maxsize: int, ctx: Any) -> None:
        super().__init__(maxsize, ctx=ctx)
        self.name, self.maxsize, self.stats, self.detached = name, maxsize, {"put": 0}, False

    def put(self, *args: Any) -> None:
        super().put(*args)
        self.stats["put"] += 1


def test_a_subclass_may_choose_the_names_of_its_attributes(ctx: Any) -> None:
    jobs = Jobs("jobs", 2, ctx)
    jobs.put(1)
    jobs.put(2)
    assert (jobs.name, jobs.maxsize, jobs.stats, jobs.detached) == ("jobs", 2, {"put": 2}, False)
    assert jobs.full() and jobs.qsize() == 2 and jobs.get() == 1 and not jobs.full()
    assert pickle.loads(pickle.dumps(jobs)).get() == 2
    jobs.close()
    assert jobs._closed


@pytest.mark.parametrize("kind, name", [("i", "value"), (Point, "x")])
def test_dir_does_not_wait_for_a_lock(kind: Any, name: str) -> None:
    value = mp.Value(kind, 1)
    value.acquire()
    names: List[str] = []
    thread = threading.Thread(target=lambda: names.extend(dir(value)), daemon=True)
    thread.start()
    thread.join(20)
    value.release()
    assert name in names


def test_the_error_of_an_attribute_is_the_usual_one_and_an_attribute_error() -> None:
    queue: "shoal.Queue[int]" = shoal.Queue()
    queue.detach()
    for _ in range(2):
        with pytest.raises(shoal.ClosedError, match="is detached") as caught:
            queue.nbytes  # noqa: B018
        assert isinstance(caught.value, AttributeError)
        assert type(caught.value).__name__ == "ClosedError"
    assert type(pickle.loads(pickle.dumps(caught.value))) is shoal.ClosedError
    closed = mp.Queue()
    closed.close()
    with pytest.raises(ValueError, match="is closed"):
        closed.maxsize  # noqa: B018
    for value, name in ((mp.Value("i", 1), "value"), (mp.Value(Point, 1, 2.0), "x")):
        value.detach()
        with pytest.raises(shoal.ClosedError):
            getattr(value, name)
        with pytest.raises(AttributeError, match="no attribute 'other'"):
            value.other  # noqa: B018


def test_errors_of_the_system_are_attribute_errors_too() -> None:
    from shoal._attribute import as_attribute_error

    error = as_attribute_error(shoal.NoSpaceError("nothing is left"))
    assert isinstance(error, AttributeError) and "nothing is left" in str(error)


def test_a_base_manager_serves_our_objects_to_other_programs(script: Script) -> None:
    out = ends_well(
        script(
            """
            import ctypes, threading
            from multiprocessing.managers import BaseManager
            import shoal.multiprocessing as mp
            class Point(ctypes.Structure): _fields_ = [("x", ctypes.c_int)]
            made = {
                "queue": mp.Queue(), "joinable": mp.JoinableQueue(), "simple": mp.SimpleQueue(),
                "lock": mp.Lock(), "rlock": mp.RLock(), "semaphore": mp.Semaphore(),
                "condition": mp.Condition(), "event": mp.Event(), "barrier": mp.Barrier(1),
                "value": mp.Value("i"), "point": mp.Value(Point), "array": mp.Array("i", 2),
                "text": mp.Array("c", 2), "connection": mp.Pipe()[0],
            }
            class Server(BaseManager): pass
            class Client(BaseManager): pass
            for name in made:
                Server.register(name, callable=lambda name=name: made[name])
                Client.register(name)
            server = Server(("127.0.0.1", 0), authkey=b"key").get_server()
            threading.Thread(target=server.serve_forever, daemon=True).start()
            client = Client(server.address, authkey=b"key")
            client.connect()
            def use():
                # Proxies are freed when this returns: at exit, this process's own server no longer answers them.
                for name in ("queue", "joinable", "simple"):
                    queue = getattr(client, name)()
                    queue.put({"a": 1})
                    assert queue.get() == {"a": 1}
                for name in ("lock", "rlock", "semaphore", "condition", "value", "point", "array"):
                    lock = getattr(client, name)()
                    assert lock.acquire()
                    lock.release()
                event = client.event()
                event.set()
                assert event.is_set() and client.barrier().wait() == 0
                client.text(), client.connection()
            use()
            print("served")
            """
        )
    )
    assert out == "served\n"


def test_objects_are_instances_of_the_original_classes(ctx: Any) -> None:
    for name in "Queue SimpleQueue JoinableQueue".split():
        assert isinstance(getattr(ctx, name)(), getattr(std_queues, name))
    for name in "Lock RLock Semaphore BoundedSemaphore Condition Event".split():
        assert isinstance(getattr(ctx, name)(), getattr(std_synchronize, name))
    assert isinstance(ctx.JoinableQueue(), std_queues.Queue)
    assert isinstance(ctx.Barrier(2), std_synchronize.Barrier)
    original: Any = std_sharedctypes
    assert isinstance(ctx.Value("i", 1), original.Synchronized)
    assert isinstance(ctx.Value(Point, 1, 2.0), original.SynchronizedBase)
    assert isinstance(ctx.Array("i", 3), original.SynchronizedArray)
    assert isinstance(ctx.Array("c", 3), original.SynchronizedString)
    assert all(isinstance(end, std_connection.Connection) for end in ctx.Pipe())
    with ctx.Pool(1) as pool:
        assert isinstance(pool, std_pool.Pool)
    assert type(ctx) in type(ctx).__mro__ and isinstance(ctx, std_context.BaseContext)
    assert isinstance(ctx, getattr(std_context, type(ctx).__name__))
    assert isinstance(ctx.Process(), std_context.process.BaseProcess)  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", MANAGED)
def test_objects_of_a_manager_are_instances_of_the_original_proxies(kind: str) -> None:
    with mp.Manager() as manager:
        made = getattr(manager, kind)(*ARGUMENTS.get(kind, ()))
        assert isinstance(made, MANAGED[kind])
        # It is a proxy only by its class: no method would call a server.
        for name in dir(MANAGED[kind]):
            owner = next(it for it in type(made).__mro__ if name in vars(it))
            asks = owner.__module__ == std_managers.__name__ and callable(vars(owner)[name])
            assert not asks or name in vars(std_managers.BaseProxy) or name in made.__dict__, name


def test_a_deep_copy_of_a_managers_object_is_its_contents() -> None:
    with mp.Manager() as manager:
        assert copy.deepcopy(manager.dict(a=1)) == {"a": 1}
        plain = copy.deepcopy(manager.list([1, 2]))
        assert type(plain) is list and plain == [1, 2]
        assert copy.deepcopy(manager.Namespace(a=1)).a == 1


@pytest.mark.skipif(sys.version_info < (3, 13), reason="takes no such queue")
def test_logging_takes_our_queues() -> None:
    with mp.Manager() as manager:
        for queue in (mp.Queue(), mp.JoinableQueue(), manager.Queue()):
            handler = {"class": "logging.handlers.QueueHandler", "queue": queue}
            name = "test_logging_takes_our_queues"
            logger = {"handlers": ["to queue"], "level": "INFO"}
            config = {"version": 1, "handlers": {"to queue": handler}, "loggers": {name: logger}}
            logging.config.dictConfig({**config, "disable_existing_loggers": False})
            log = logging.getLogger(name)
            log.info("hello")
            assert queue.get(timeout=10).getMessage() == "hello"
            log.handlers.clear()
