"""The workers of `shoal.multiprocessing.Pool`, and the messages between a pool and its workers."""

from __future__ import annotations

import ctypes
import itertools
import pickle
import signal
import struct
import time
import types
from contextlib import suppress
from multiprocessing.process import parent_process
from typing import Any, Callable, Dict, Iterable, Optional, Tuple, Union

from . import _backpressure, _queue
from ._errors import ClosedError, Empty, ExhaustedError, Full, NoSpaceError, ShoalError
from ._interactive import ByValue, Pickler
from ._message import Lease
from ._original import pool as _std
from ._original import util
from ._pickling import dumps

# The head of a task: the job, the index of the task in the job, how to call the function (`CALL`,
# `MAP`, `STARMAP`), and the length of the pickled function. The pickled function follows if it is
# pickled by name, and then the pickled arguments.
TASK = struct.Struct("<QQBI")
CALL, MAP, STARMAP = range(3)
# The head of a result: the job, the index, the number of the worker, and the kind of result. The
# pickled value follows.
RESULT = struct.Struct("<QQQB")
RAISED, RETURNED, LOST, READY = range(4)
# An empty message wakes the thread that takes results. The thread of a pool then runs the next
# action that another thread of the pool has posted.
ACTION = b""

# The largest number of tasks that wait in shared memory. More gain nothing, and an iterable may be
# infinite.
BACKLOG = 1024
# A message of this size or more is held back while as many messages as there are workers are queued.
LARGE = 1 << 20
# How often a waiting worker checks whether its parent is alive, and a thread whether its pool is.
CHECK_SECONDS = 1.0
# The longest sleep of a thread that holds a large message back, before it checks again.
LONGEST_PAUSE = 0.1
# After this many checks in a row that find no message in the queue, a message that does not fit is an error.
IDLE_CHECKS = 8
# How many functions a worker caches.
FUNCTIONS = 256


def is_pickled_by_name(function: Any) -> bool:
    """Whether pickle stores only the name under which the function can be imported.

    Then every copy is the same object, so a worker needs to unpickle it only once.
    """
    if type(function) is types.BuiltinFunctionType:
        return isinstance(function.__self__, types.ModuleType)
    return type(function) in (types.FunctionType, type)


def put_throttled(
    to: "_queue.Queue[Any]", data: bytes, limit: int, goes_on: Callable[[], object]
) -> None:
    """Puts a message. A large one first waits until fewer than ``limit`` messages are in the queue.

    Large messages may not all fit. If there is no memory for a message, the call waits until others are taken
    or done, and raises `NoSpaceError` if there are none. Once ``goes_on()`` is false, no process takes messages
    any more. Then the call drops the message and returns.
    """
    if len(data) < LARGE:
        try:
            return to.put_bytes(data, timeout=CHECK_SECONDS)
        except (Full, NoSpaceError):
            if not goes_on():
                return
    else:
        pause = 0.0005
        while to.qsize() >= limit and goes_on():
            time.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)
    _put_with_backpressure(to, data, goes_on)


def _put_with_backpressure(
    to: "_queue.Queue[Any]", data: bytes, goes_on: Callable[[], object]
) -> None:
    """Puts a message as `put_throttled` says. Apart from it, because its closures cost each call."""
    idle = 0

    def is_idle() -> bool:
        # Checked several times: a message that another process is putting at this moment is not counted yet.
        nonlocal idle
        idle = 0 if to.unfinished else idle + 1
        return idle > IDLE_CHECKS or not goes_on()

    while True:
        try:
            return _backpressure.send(lambda: to.put_bytes(data, timeout=CHECK_SECONDS), is_idle)
        except (Full, NoSpaceError) as error:
            if not goes_on():
                return
            if isinstance(error, NoSpaceError):
                raise


def put_small(to: "_queue.Queue[Any]", data: bytes, goes_on: Callable[[], object]) -> None:
    """Puts a small message. While shared memory is full, it waits until earlier messages are taken, or until
    ``goes_on()`` is false."""
    while True:
        try:
            return to.put_bytes(data)
        except NoSpaceError:
            if not goes_on():
                return
            time.sleep(LONGEST_PAUSE)


class Refused:
    """A task that could not be leased, and why."""

    def __init__(self, task: bytes, error: ShoalError) -> None:
        self.task = task
        self.error = error


class Tasks:
    """The tasks as a worker takes them: leased, one at a time."""

    def __init__(self, tasks: "_queue.Queue[Any]") -> None:
        self._tasks = tasks
        self._parent = parent_process()

    def take(self) -> Union[Lease, Refused, None]:
        """The next task; None if there will be no more.

        A lease needs memory. If there is none, the call waits until another lease ends, which frees some. If no
        message is leased, it takes a task without a lease, which then fails.
        """
        pause, was_alone = 0.0005, False
        while True:
            try:
                return self._tasks.lease(timeout=CHECK_SECONDS)
            except Empty:
                if not self.are_wanted():
                    return None
            except ClosedError:
                return None
            except (NoSpaceError, ExhaustedError) as error:
                # Also before this try: otherwise a lease may have ended after the try and before the check.
                is_alone = not self._tasks.leased
                if is_alone and not was_alone:
                    was_alone = True
                    continue
                was_alone = is_alone
                if is_alone:
                    with suppress(Empty, ClosedError):
                        return Refused(self._tasks.get_bytes(block=False), error)
                if not self.are_wanted():
                    return None
                time.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)

    def are_wanted(self) -> bool:
        """Whether the pool's process lives."""
        return self._parent is None or self._parent.is_alive()

    def done(self, lease: Lease) -> None:
        """Removes a task whose result has been put."""
        lease.ack()


def contents(lease: Lease) -> "Union[bytes, memoryview]":
    """The bytes of a task, valid until its ack: a copy if it is small, otherwise a view."""
    if lease._size < LARGE:
        return lease.get_bytes()
    # Not the lease's own view, which must not be in use at the ack: the traceback of an exception may refer to
    # the task for longer.
    span = (ctypes.c_ubyte * lease._size).from_address(lease._message.data)
    return memoryview(span).cast("B")


def work(
    number: int,
    tasks: "_queue.Queue[Any]",
    results: "_queue.Queue[Any]",
    limit: int,
    initializer: Optional[Callable[..., object]],
    initargs: Iterable[Any],
    maxtasks: Optional[int],
    pickler: Optional[Pickler] = None,
) -> None:
    """Runs tasks until the queue is closed, the pool's process has ended, or ``maxtasks`` are done.

    With a ``pickler``, results are pickled by it.
    """
    if initializer is not None:
        initializer(*initargs)
    functions: Dict[bytes, Any] = {}
    taken = Tasks(tasks)
    put_small(results, RESULT.pack(0, 0, number, READY), taken.are_wanted)
    completed = 0
    try:
        while maxtasks is None or completed < maxtasks:
            lease = taken.take()
            if lease is None:
                break
            if isinstance(lease, Refused):
                job, index, _, _ = TASK.unpack_from(lease.task)
                failed = RESULT.pack(job, index, number, RAISED) + dumps(lease.error)
                put_small(results, failed, taken.are_wanted)
                continue
            task = contents(lease)
            job, index, how, length = TASK.unpack_from(task)
            head = (job, index, number)
            if lease.attempts > 1:
                # Another worker leased it and died.
                put_small(results, RESULT.pack(*head, LOST), taken.are_wanted)
            else:
                result = answer(head, how, length, task, functions, pickler)
                try:
                    put_throttled(results, result, limit, taken.are_wanted)
                except ShoalError as error:
                    # Most likely the result is too large for shared memory. The error is small.
                    wrapped = _std.MaybeEncodingError(error, f"{len(result)} bytes")
                    failed = RESULT.pack(*head, RAISED) + dumps(wrapped)
                    put_small(results, failed, taken.are_wanted)
            del task
            taken.done(lease)
            completed += 1
    except KeyboardInterrupt:
        # Ctrl-C reaches the whole process group. A traceback from each worker would not help.
        raise SystemExit(128 + signal.SIGINT) from None
    util.debug("worker exiting after %d tasks", completed)


def unpack(
    task: "Union[bytes, memoryview]", length: int, functions: Dict[bytes, Any]
) -> Tuple[Any, Any]:
    """The function of a task, from the cache ``functions`` if it is there, and its payload."""
    end = TASK.size + length
    payload = pickle.loads(task[end:])
    if not length:
        function, payload = payload
        return function, payload
    name = bytes(task[TASK.size : end])
    if name not in functions:
        if len(functions) >= FUNCTIONS:
            functions.clear()
        functions[name] = pickle.loads(name)
    return functions[name], payload


def answer(
    head: Tuple[int, int, int],
    how: int,
    length: int,
    task: "Union[bytes, memoryview]",
    functions: Dict[bytes, Any],
    pickler: Optional[Pickler] = None,
) -> bytes:
    """Runs a task and returns the message with its result."""
    job, index, number = head
    function: Any = None
    try:
        function, payload = unpack(task, length, functions)
        value: Any
        if how == MAP:
            value = list(map(function, payload))
        elif how == STARMAP:
            value = list(itertools.starmap(function, payload))
        else:
            args, kwds = payload
            value = function(*args, **kwds)
        kind = RETURNED
    except Exception as error:
        value, kind = error, RAISED
        if function is not _std._helper_reraises_exception:
            value = _std.ExceptionWithTraceback(error, error.__traceback__)
    try:
        sent = ByValue(value, pickler) if pickler else value
        return RESULT.pack(job, index, number, kind) + dumps(sent)
    except Exception as error:
        util.debug("Possible encoding error while sending result: %s", error)
        return RESULT.pack(*head, RAISED) + dumps(_std.MaybeEncodingError(error, value))
