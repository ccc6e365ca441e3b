"""Reducers, which turn objects into bytes, registered at any time."""

from __future__ import annotations

import copyreg
import io
import multiprocessing.reduction
import socket
import threading
from multiprocessing.reduction import AbstractReducer, ForkingPickler
from typing import Any, Callable, Iterator

import pytest

import shoal.multiprocessing as mp


class Handle:
    """Cannot be pickled without a reducer."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.lock = threading.Lock()


def double(number: int) -> Handle:
    return Handle(2 * number)


Register = Callable[[Callable[[Handle], Any]], object]
REGISTER = {
    "ForkingPickler": lambda reducer: ForkingPickler.register(Handle, reducer),
    "copyreg": lambda reducer: copyreg.pickle(Handle, reducer),
}


@pytest.fixture(params=REGISTER)
def register(request: pytest.FixtureRequest) -> Iterator[Register]:
    yield REGISTER[request.param]
    ForkingPickler._extra_reducers.pop(Handle, None)  # type: ignore[attr-defined]
    copyreg.dispatch_table.pop(Handle, None)


def through_queue(value: Any) -> Any:
    with mp.Queue() as queue:
        queue.put(1)
        queue.put(value)
        assert queue.get() == 1
        return queue.get()


def through_pipe(value: Any) -> Any:
    here, there = mp.Pipe()
    here.send(value)
    try:
        return there.recv()
    finally:
        here.close()
        there.close()


def through_manager(value: Any) -> Any:
    with mp.Manager() as manager:
        made = manager.dict(a=value), manager.list([value]), manager.Namespace(a=value)
        values = [made[0]["a"], made[1][0], made[2].a, manager.Value("i", value).value]
        assert len({it.number for it in values}) == 1
        return values[0]


WAYS = [through_queue, through_pipe, through_manager]


@pytest.mark.parametrize("through", WAYS)
def test_a_reducer_is_used_from_its_registration(
    through: Callable[[Any], Any], register: Register
) -> None:
    with pytest.raises(TypeError):
        through(Handle(1))
    register(lambda handle: (Handle, (handle.number,)))
    assert through(Handle(1)).number == 1
    # So does another one that replaces it.
    register(lambda handle: (double, (handle.number,)))
    assert through(Handle(1)).number == 2


def test_a_reducer_that_is_removed_is_used_no_more() -> None:
    for table in (ForkingPickler._extra_reducers, copyreg.dispatch_table):  # type: ignore[attr-defined]
        table.update({Handle: lambda handle: (Handle, (handle.number,))})
        assert through_queue(Handle(3)).number == 3
        del table[Handle]
        with pytest.raises(TypeError):
            through_queue(Handle(3))


class Registers:
    """Registers a reducer while it is pickled itself, as an import in the middle does."""

    def __reduce__(self) -> Any:
        ForkingPickler.register(Handle, lambda handle: (Handle, (handle.number,)))
        return through_queue, (1,)


def test_a_reducer_may_be_registered_while_something_is_pickled() -> None:
    try:
        through_queue(Registers())
        assert through_queue(Handle(4)).number == 4
    finally:
        del ForkingPickler._extra_reducers[Handle]  # type: ignore[attr-defined]


def test_a_reducer_of_multiprocessing_precedes_a_general_one(register: Register) -> None:
    copyreg.pickle(Handle, lambda handle: (Handle, (handle.number,)))
    ForkingPickler.register(Handle, lambda handle: (double, (handle.number,)))
    assert through_queue(Handle(1)).number == 2


class OwnPickler(ForkingPickler):
    """Changes its arguments and cannot be made in another way than by its `dumps`."""

    def __init__(self, file: Any) -> None:
        super().__init__(file, 4)

    def reducer_override(self, obj: Any) -> Any:
        return (double, (obj.number,)) if isinstance(obj, Handle) else NotImplemented

    @classmethod
    def dumps(cls, obj: Any, protocol: Any = None) -> Any:
        out = io.BytesIO()
        cls(out).dump(obj)
        return out.getbuffer()


class OwnReducer(AbstractReducer):
    ForkingPickler = OwnPickler
    register = OwnPickler.register


@pytest.fixture
def own_reducer(ctx: Any) -> Iterator[Any]:
    original = multiprocessing.reduction
    assert ctx.reducer is original
    ctx.reducer = OwnReducer()
    yield ctx.reducer
    ctx.reducer = original


def do_nothing() -> None:
    pass


@pytest.mark.parametrize("through", WAYS)
def test_a_contexts_reducer_pickles(
    ctx: Any, through: Callable[[Any], Any], own_reducer: Any
) -> None:
    assert multiprocessing.get_context("spawn").reducer is own_reducer
    assert through(Handle(3)).number == 6
    if through is not through_manager:
        assert through([bytes(200_000), Handle(4)])[1].number == 8
    queue = ctx.Queue()
    queue.put(Handle(5))
    child = ctx.Process(target=do_nothing)
    child.start()
    child.join()
    assert child.exitcode == 0 and queue.get().number == 10


def test_the_standard_librarys_reducer_is_restored(own_reducer: Any) -> None:
    assert through_queue(Handle(1)).number == 2
    mp.get_context().reducer = multiprocessing.reduction
    with pytest.raises(TypeError):
        through_queue(Handle(1))
    mp.get_context().reducer = own_reducer
    assert through_queue(Handle(1)).number == 2


def test_a_managers_dict_takes_what_multiprocessing_can_send() -> None:
    ours, theirs = socket.socketpair()
    with mp.Manager() as manager:
        kept = manager.dict(socket=ours)
        kept["method"] = "word".upper
        got = kept["socket"]
        got.sendall(b"hello")
        assert theirs.recv(5) == b"hello" and kept["method"]() == "WORD"
    for one in (ours, theirs, got):
        one.close()
