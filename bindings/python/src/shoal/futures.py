"""`ProcessPoolExecutor`, whose calls and results travel through shared memory.

Interface and behaviour are those of `concurrent.futures.ProcessPoolExecutor`, of which the class is
a subclass. Its futures are `concurrent.futures.Future`, the death of a worker breaks it with
`concurrent.futures.process.BrokenProcessPool`, and code that accepts the original accepts it, such
as asyncio's ``run_in_executor``. Differences:

- `submit` pickles a call if the workers' queue has room for it; otherwise the call is pickled once
  there is room. If pickling fails, the future holds the exception, as with the original.
- Calls in the workers' queue cannot be cancelled. The queue holds one call more than there are
  workers, as with the original, and in addition as many as the workers complete within 10 ms. The
  additional calls are taken back if calls take longer than expected, and by
  ``shutdown(cancel_futures=True)``.
- ``max_tasks_per_child`` works with every version of Python.
- Without ``mp_context`` it uses the default of `shoal.multiprocessing`. Every context works.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from collections import deque
from concurrent.futures import Executor, Future
from concurrent.futures import _base, process
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from itertools import islice
from multiprocessing import connection
from traceback import format_exception
from typing import Any, Callable, Deque, Dict, Iterable, Iterator, List, Optional, Set, Tuple

from . import _executor, _ffi, _frame, _queue, _worker
from ._errors import ClosedError, Empty, Full, NoSpaceError
from ._result_waits import Wakeup
from .multiprocessing import pool as _pool

__all__ = ["BrokenProcessPool", "ProcessPoolExecutor"]

# Typed as Any, because the stubs of type checkers lack the private names.
_std: Any = process

# How many seconds of work the workers' queue may hold beyond its least depth.
AHEAD = 0.01
# If no result comes for this many seconds, the additional work is taken back.
READY_TIMEOUT = 0.05


class _Calls(_queue.Queue[Any]):
    """The queue from which workers take calls."""

    def join_thread(self) -> None:
        """Does nothing: no thread feeds this queue. Programs call it, because the original has such a thread."""


class _Call:
    """A submitted call that is not done."""

    __slots__ = ("number", "future", "work", "data")

    def __init__(self, number: int, future: "Future[Any]", work: Tuple[Any, ...]) -> None:
        self.number = number
        self.future = future
        # Function, arguments and keyword arguments. Kept until the call is done: its message refers
        # to shared objects by name only and does not keep them alive.
        self.work = work
        # The pickled call, while it is not in the workers' queue.
        self.data = b""


class _Dispatcher:
    """The state that an executor and its threads share.

    It does not refer to the executor, so that an executor without references is freed.
    """

    def __init__(
        self,
        start: Callable[[int, "_Dispatcher"], Any],
        max_workers: int,
        by_fork: bool,
    ) -> None:
        # Guards the state that both the program's threads and the manager change. Reentrant, because
        # pickling a call may run code that submits another.
        self.lock = threading.RLock()
        self.start = start
        self.max_workers = max_workers
        self.by_fork = by_fork
        self.calls = _Calls()
        self.results: "_queue.Queue[Any]" = _queue.Queue()
        self.encode = _pool._encoder(by_fork, None)
        self.wakeup = Wakeup()
        # The workers, by process id and by number.
        self.processes: Dict[int, Any] = {}
        self.workers: Dict[int, Any] = {}
        self.manager: Optional[_Manager] = None
        # Every call that was submitted and is not done, by number. It is either in `waiting`, or in
        # `ready`: then it is in the workers' queue or a worker runs it. `depth` limits `ready`.
        self.futures: Dict[int, "Future[Any]"] = {}
        self.waiting: Deque[_Call] = deque()
        self.ready: Dict[int, _Call] = {}
        # How many messages were put into `calls`, as its statistics have it.
        self.puts = 0
        self.depth = self.least_depth = max_workers + 1
        self.count = 0
        # No more calls are accepted: after `shutdown`, or once the executor is garbage.
        self.closed = False
        self.broken: Any = False
        self.failures: List[Tuple["Future[Any]", BaseException]] = []
        # The number of each worker, by its sentinel; for the watcher.
        self.watched: Dict[Any, int] = {}
        self.is_over = False

    # -- called by threads of the program and by the manager, with the lock held --------------------

    def add(self, future: "Future[Any]", work: Tuple[Any, ...]) -> None:
        try:
            self.start_workers(len(self.futures) + 1)
            if self.manager is None:
                manager = _Manager(self)
                manager.start()
                self.manager = manager
                _managers.add(manager)
        except BaseException:
            if self.manager is None:
                self.end_workers(True)
            raise
        self.count += 1
        call = _Call(self.count, future, work)
        try:
            self.futures[call.number] = future
            self.waiting.append(call)
            if len(self.ready) < self.depth:
                self.make_ready()
        except BaseException:
            # Ctrl-C. The program gets no future, so the call is dropped; if it is in the workers' queue already, its
            # result is dropped.
            self.futures.pop(call.number, None)
            with contextlib.suppress(ValueError):
                self.waiting.remove(call)
            raise

    def start_workers(self, calls: int) -> None:
        """Starts workers until there are enough for this number of calls."""
        wanted = min(self.max_workers, calls)
        if self.by_fork:
            # All at once, before the executor starts its threads: a fork copies no other thread.
            if self.manager is not None:
                return
            wanted = self.max_workers
        while len(self.processes) < wanted:
            self.count += 1
            number = self.count
            worker = self.start(number, self)
            self.processes[worker.pid] = self.workers[number] = worker
            self.watched[worker.sentinel] = number
            self.wakeup.put()

    def end_workers(self, by_force: bool) -> None:
        """Waits for all workers to end."""
        workers = list(self.processes.values())
        for worker in workers:
            if by_force:
                worker.terminate()
        for worker in workers:
            worker.join()

    def make_ready(self) -> None:
        """Moves calls to the workers' queue. `report_failures` reports those that cannot be pickled."""
        while self.waiting and len(self.ready) < self.depth:
            call = self.waiting[0]
            try:
                is_cancelled = not call.future.set_running_or_notify_cancel()
                self.waiting.popleft()
                if is_cancelled:
                    del self.futures[call.number]
                    continue
                if not call.data:
                    call.data = self.encode(call.number, 0, *call.work)
                if len(call.data) >= _worker.LARGE and len(self.ready) > self.max_workers:
                    # Large calls may not all fit: those beyond one for each worker wait here.
                    raise Full
                # Before the message is visible, because its result may come at once.
                self.ready[call.number] = call
                self.calls.put_bytes(call.data, block=False)
                self.puts += 1
                call.data = b""
            except BaseException as error:
                main = threading.current_thread() is threading.main_thread()
                if main and not isinstance(error, Exception):
                    # Ctrl-C, which may come at any instruction. The program gets it, and the call does not fail.
                    self.interrupted(call)
                    raise
                self.ready.pop(call.number, None)
                # There is room or memory again once one of the ready calls is taken or done.
                if isinstance(error, (Full, NoSpaceError)) and self.ready:
                    self.wait_again([call])
                    return
                del self.futures[call.number]
                self.failures.append((call.future, error))

    def interrupted(self, call: _Call) -> None:
        """A signal handler raised while this call was moved. If it is not in the workers' queue, it waits again."""
        before, self.puts = self.puts, self.calls.stats().put
        if self.puts > before:
            return
        self.ready.pop(call.number, None)
        if call.future._state == _base.CANCELLED_AND_NOTIFIED:
            self.futures.pop(call.number, None)
            if call in self.waiting:
                self.waiting.remove(call)
        elif call in self.waiting:
            call.future._state = _base.PENDING
        elif call.number in self.futures:
            self.wait_again([call])

    def wait_again(self, calls: List[_Call]) -> None:
        """Returns calls from the workers' queue to those that wait."""
        for call in reversed(calls):
            with call.future._condition:
                call.future._state = _base.PENDING
            self.waiting.appendleft(call)

    def take_back(self) -> None:
        """Takes back the calls that no worker has begun."""
        taken: List[_Call] = []
        with contextlib.suppress(Empty, ClosedError):
            while True:
                for data in self.calls.get_many_bytes(block=False):
                    call = self.ready.pop(_worker.TASK.unpack_from(data)[0])
                    call.data = data
                    taken.append(call)
        self.wait_again(taken)
        self.depth = self.least_depth

    # -- called by any thread, without the lock ----------------------------------------------------

    def report_failures(self) -> None:
        """Sets exceptions without the lock, because callbacks of futures may run any code."""
        while self.failures:
            with contextlib.suppress(IndexError):
                future, error = self.failures.pop()
                _executor.add_cause(error)
                future.set_exception(error)

    def wake(self) -> None:
        """Makes the manager check whether it has to end. Also called by finalizers."""
        with self.lock:
            if not self.is_over:
                # If the queue is full, the manager is awake.
                with contextlib.suppress(Full):
                    self.results.put_bytes(_worker.ACTION, block=False)

    def close(self, *_: object) -> None:
        self.closed = True
        self.wake()

    def cancel(self) -> None:
        """Cancels all calls except the first ``least_depth``, which the original's queue would contain."""
        with self.lock:
            if not self.is_over and not self.broken:
                self.take_back()
                self.make_ready()
            cancelled, self.waiting = list(self.waiting), deque()
            for call in cancelled:
                self.futures.pop(call.number, None)
        for call in cancelled:
            if call.future.cancel():
                call.future.set_running_or_notify_cancel()
        self.report_failures()

    # -- called by the thread that watches the workers ---------------------------------------------

    def watch(self) -> None:
        """Reports each worker that ends to the manager, after the results that the worker put."""
        while not self.is_over:
            events: List[Any] = [self.wakeup, *self.watched]
            found: Any
            for found in connection.wait(events):
                if found is self.wakeup:
                    self.wakeup.clear()
                    continue
                gone = _worker.RESULT.pack(0, 0, self.watched.pop(found), _executor.GONE)
                _worker.put_throttled(self.results, gone, 0, lambda: not self.is_over)


class _Manager(threading.Thread):
    """Collects results, keeps calls ready, and ends the workers."""

    def __init__(self, dispatcher: _Dispatcher) -> None:
        super().__init__(name="shoal-executor")
        self.dispatcher = dispatcher
        # The numbers of the workers that announced their end.
        self.leaving: Set[int] = set()
        self.done = 0
        self.since = time.monotonic()

    def run(self) -> None:
        dispatcher = self.dispatcher
        watcher = threading.Thread(target=dispatcher.watch, daemon=True, name="shoal-watcher")
        why: Optional[List[str]] = None
        try:
            watcher.start()
            succeeded = self.serve()
        except BaseException as error:
            why = format_exception(type(error), error, error.__traceback__)
            succeeded = False
        if not succeeded:
            self.fail_all(why)
        dispatcher.calls.close()
        dispatcher.end_workers(by_force=not succeeded)
        with dispatcher.lock:
            dispatcher.is_over = True
        dispatcher.wakeup.put()
        if watcher.ident is not None:
            watcher.join()
        dispatcher.calls.detach()
        dispatcher.results.detach()
        # Breaks the reference cycle between the two.
        dispatcher.manager = None
        _managers.discard(self)

    def serve(self) -> bool:
        """Serves until no call is left and none can come. Returns False if a worker died."""
        dispatcher = self.dispatcher
        while dispatcher.futures or not (dispatcher.closed or _program_ends):
            timeout = READY_TIMEOUT if len(dispatcher.ready) > dispatcher.least_depth else None
            try:
                messages = dispatcher.results.get_many_bytes(timeout=timeout)
            except Empty:
                # The calls take longer than expected.
                messages = []
                with dispatcher.lock:
                    dispatcher.take_back()
            for message in messages:
                if message and not self.handle(message):
                    return False
            now = time.monotonic()
            if now - self.since >= AHEAD / 2:
                ahead = int(AHEAD * self.done / (now - self.since))
                dispatcher.depth = dispatcher.least_depth + min(ahead, _worker.BACKLOG)
                self.done, self.since = 0, now
            with dispatcher.lock:
                dispatcher.make_ready()
            dispatcher.report_failures()
            # Frees the memory of the last result before the wait for the next.
            messages = []
            message = b""
        return True

    def handle(self, message: bytes) -> bool:
        """Gives a result to its future. Returns False if the message says that a worker died."""
        dispatcher = self.dispatcher
        number, _, worker, kind = _worker.RESULT.unpack_from(message)
        if kind == _executor.LEAVING:
            self.leaving.add(worker)
            return True
        if kind == _executor.GONE:
            return self.reap(worker)
        value = _frame.unpickle(memoryview(message)[_worker.RESULT.size :])
        dispatcher.ready.pop(number, None)
        future = dispatcher.futures.pop(number, None)
        self.done += 1
        if not dispatcher.futures:
            # The duration of the next calls is unknown.
            dispatcher.depth = dispatcher.least_depth
            self.done, self.since = 0, time.monotonic()
        if future is not None:
            if kind == _worker.RETURNED:
                future.set_result(value)
            else:
                future.set_exception(value)
        return True

    def reap(self, number: int) -> bool:
        """Replaces a worker that has ended. Returns False if it had not announced its end."""
        dispatcher = self.dispatcher
        if number not in self.leaving:
            return False
        self.leaving.discard(number)
        with dispatcher.lock:
            worker = dispatcher.workers.pop(number)
            worker.join()
            dispatcher.processes.pop(worker.pid, None)
            dispatcher.start_workers(len(dispatcher.futures))
        return True

    def fail_all(self, why: Optional[List[str]]) -> None:
        """Marks the executor as broken and fails every call that is not done."""
        dispatcher = self.dispatcher
        with dispatcher.lock:
            dispatcher.broken = (
                "A child process terminated abruptly, the process pool is not usable anymore"
            )
            for call in dispatcher.waiting:
                # Notifies the threads that wait for a cancelled call.
                if not call.future.set_running_or_notify_cancel():
                    del dispatcher.futures[call.number]
            dispatcher.waiting.clear()
            dispatcher.ready.clear()
            futures, dispatcher.futures = list(dispatcher.futures.values()), {}
        error = BrokenProcessPool(
            "A process in the process pool was terminated abruptly while the future was running"
            " or pending."
        )
        if why is not None:
            error.__cause__ = _std._RemoteTraceback(f"\n'''\n{''.join(why)}'''")
        dispatcher.report_failures()
        for future in futures:
            future.set_exception(error)


class ProcessPoolExecutor(_std.ProcessPoolExecutor):  # type: ignore[misc]
    """`concurrent.futures.ProcessPoolExecutor`; the docstring of this module lists the differences.

    ::

        with ProcessPoolExecutor(4) as executor:
            squares = list(executor.map(square, range(1000), chunksize=50))

    Args:
        max_workers: the largest number of workers; ``None`` is one for each core.
        mp_context: the context that starts the workers; ``None`` is the default of
            `shoal.multiprocessing`, or its ``spawn`` if ``max_tasks_per_child`` is given.
        initializer: called by each worker with ``initargs`` before its first call. If it raises,
            the executor is broken.
        max_tasks_per_child: a worker is replaced after this many calls. Not with the start method
            fork, whose workers are all started at once.

    A forked child must not use its parent's executor: `submit` raises `BrokenProcessPool` there.
    """

    def __init__(
        self,
        max_workers: Optional[int] = None,
        mp_context: Any = None,
        initializer: Optional[Callable[..., object]] = None,
        initargs: Tuple[Any, ...] = (),
        *,
        max_tasks_per_child: Optional[int] = None,
    ) -> None:
        if max_workers is None:
            max_workers = getattr(os, "process_cpu_count", os.cpu_count)() or 1
        max_workers = _ffi.whole(max_workers, "max_workers")
        if max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        if mp_context is None:
            from . import multiprocessing

            method = None if max_tasks_per_child is None else "spawn"
            mp_context = multiprocessing.get_context(method)
        by_fork = mp_context.get_start_method(allow_none=False) == "fork"
        if max_tasks_per_child is not None:
            if not isinstance(max_tasks_per_child, int):
                raise TypeError("max_tasks_per_child must be an integer")
            if max_tasks_per_child <= 0:
                raise ValueError("max_tasks_per_child must be >= 1")
            if by_fork:
                raise ValueError(
                    "max_tasks_per_child is incompatible with the 'fork' multiprocessing start"
                    " method; supply a different mp_context."
                )
        self._max_workers = max_workers
        self._mp_context = mp_context
        self._initializer = initializer
        self._initargs = initargs
        self._max_tasks_per_child = max_tasks_per_child
        self._safe_to_dynamically_spawn_children = not by_fork

        def start(number: int, dispatcher: _Dispatcher) -> Any:
            args = (number, dispatcher.calls, dispatcher.results, max_workers)
            worker = mp_context.Process(
                target=_executor.work, args=(*args, initializer, initargs, max_tasks_per_child)
            )
            worker.start()
            return worker

        self._dispatcher = _Dispatcher(start, max_workers, by_fork)
        weakref.finalize(self, self._dispatcher.close).atexit = False
        _dispatchers.add(self._dispatcher)

    # Private attributes of the original that programs read:

    @property
    def _processes(self) -> Dict[int, Any]:
        return self._dispatcher.processes

    @property
    def _executor_manager_thread(self) -> "Optional[_Manager]":
        return self._dispatcher.manager

    @property
    def _call_queue(self) -> _Calls:
        return self._dispatcher.calls

    @property
    def _pending_work_items(self) -> "Dict[int, Future[Any]]":
        return self._dispatcher.futures

    @property
    def _broken(self) -> Any:
        return self._dispatcher.broken

    @property
    def _shutdown_thread(self) -> bool:
        return bool(self._dispatcher.closed or self._dispatcher.broken)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        future: "Future[Any]" = Future()
        dispatcher = self._dispatcher
        with dispatcher.lock:
            if dispatcher.broken:
                raise BrokenProcessPool(dispatcher.broken)
            if dispatcher.closed:
                raise RuntimeError("cannot schedule new futures after shutdown")
            if _program_ends:
                raise RuntimeError("cannot schedule new futures after interpreter shutdown")
            dispatcher.add(future, (fn, args, kwargs))
        if dispatcher.failures:
            dispatcher.report_failures()
            dispatcher.wake()
        return future

    submit.__doc__ = Executor.submit.__doc__

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: Optional[float] = None,
        chunksize: int = 1,
        **more: Any,
    ) -> Iterator[Any]:
        """As the original's `map`. ``chunksize`` calls travel in one message."""
        chunksize = _ffi.whole(chunksize, "chunksize")
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if chunksize == 1:
            return Executor.map(self, fn, *iterables, timeout=timeout, **more)
        tuples = zip(*iterables)
        chunks = iter(lambda: list(islice(tuples, chunksize)), [])
        results = Executor.map(self, partial(_executor.run_chunk, fn), chunks, timeout=timeout, **more)
        flat: Iterator[Any] = _std._chain_from_iterable_of_lists(results)
        return flat

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        dispatcher = self._dispatcher
        dispatcher.close()
        if cancel_futures:
            dispatcher.cancel()
            dispatcher.wake()
        manager = dispatcher.manager
        if manager is None:
            # It was never used.
            with dispatcher.lock:
                dispatcher.is_over = True
            dispatcher.calls.detach()
            dispatcher.results.detach()
        elif wait:
            manager.join()

    shutdown.__doc__ = Executor.shutdown.__doc__


# -- the end of the program, and forks ------------------------------------------------------------

_managers: Set[_Manager] = set()
_dispatchers: "weakref.WeakSet[_Dispatcher]" = weakref.WeakSet()
_program_ends = False


def _end_all() -> None:
    """Waits for every submitted call before the program ends, as the original does."""
    global _program_ends
    _program_ends = True
    managers = list(_managers)
    for manager in managers:
        manager.dispatcher.wake()
    for manager in managers:
        manager.join()


def _in_forked_child() -> None:
    """Marks the parent's executors as unusable: their threads do not exist in the child."""
    _managers.clear()
    for dispatcher in list(_dispatchers):
        dispatcher.lock = threading.RLock()
        dispatcher.broken = "this executor belongs to the parent process"
        dispatcher.is_over = True


threading._register_atexit(_end_all)  # type: ignore[attr-defined]
os.register_at_fork(after_in_child=_in_forked_child)
