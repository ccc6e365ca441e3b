"""`Pool`, whose tasks and results travel through shared memory.

Tasks, the collection of results and every method of a pool are the standard library's.
Differences:

- If a worker dies, only the task that it ran is lost. Workers *lease* tasks. The lease of a dead
  worker goes to another worker, which does not run the task again but reports it. The result of
  the task is then a `WorkerDiedError`. The pool replaces the worker and continues.
- If new workers keep dying before they can take a task (an ``initializer`` that raises), every
  task of the pool fails with `WorkerDiedError`, and no more workers are started.
- If shared memory has no room for the lease of a task, the task waits until a worker has finished another
  one. If no worker has a task, it fails with `NoSpaceError`.
- Tasks that are not done when a pool is terminated fail with `multiprocessing.ProcessError`. In the
  standard library, a thread that waits for such a task waits forever.
- A function that is pickled by name is pickled once and unpickled once by each worker.
- ``devices=`` masks the devices of the workers; ``"rotate"`` gives each worker one of the devices
  that this process sees, in turn.

`ThreadPool` and everything else here are the standard library's own.
"""

from __future__ import annotations

import itertools
import os
import pickle
import queue
import re
import signal
import threading
from collections import deque
from contextlib import suppress
from multiprocessing.context import ProcessError
from typing import Any, Callable, Deque, Dict, Iterable, Iterator, List, Optional, Set, Tuple

from .. import _default, _ffi, _jobs, _queue, _results, _worker
from .. import devices as _devices
from .._errors import Full, InvalidError, NoSpaceError
from .._interactive import ByValue, Pickler, sendable
from .._original import connection, util
from .._original import pool as _std
from .._pickling import dumps
from .._result_waits import Wakeup

__all__ = ["AsyncResult", "Pool", "ThreadPool", "WorkerDiedError"]

AsyncResult, ThreadPool = _std.AsyncResult, _std.ThreadPool
INIT, RUN, CLOSE, TERMINATE = _std.INIT, _std.RUN, _std.CLOSE, _std.TERMINATE


# Tasks that are put in one call at most.
_BATCH = 64
# Of the messages with results.
_unpack_result, _HEAD = _worker.RESULT.unpack_from, _worker.RESULT.size
# Results of this kind and of smaller ones have a pickled value.
_RETURNED = _worker.RETURNED
# The exit code of a worker that was idle when Ctrl-C came.
_INTERRUPTED = 128 + signal.SIGINT


class WorkerDiedError(ProcessError):
    """The process that ran a task died before it had put a result."""


class _Engine:
    """The state that a pool's threads share.

    It does not refer to the pool, so that a pool without references is freed. One thread starts and
    reaps workers, one puts tasks, and one collects results. Only the last one changes a result that
    a thread of the program waits for.
    """

    def __init__(
        self,
        start: Callable[[int, int, "_Engine"], Any],
        processes: int,
        by_fork: bool,
        pickler: Optional[Pickler],
    ) -> None:
        self.start = start
        self.encode = _encoder(by_fork, pickler)
        self.processes = processes
        self.state = RUN
        self.tasks: "_queue.Queue[Any]" = _queue.Queue(maxsize=_worker.BACKLOG)
        self.results: "_queue.Queue[Any]" = _queue.Queue()
        self.jobs: "queue.SimpleQueue[Any]" = queue.SimpleQueue()
        self.wakeup = Wakeup()
        self.cache = _jobs.Cache(self)
        self.workers: List[Any] = []
        self.broken: Optional[WorkerDiedError] = None
        self._numbers = itertools.count()
        self._living: Dict[Any, int] = {}
        self._actions: Deque[Tuple[Callable[..., None], Tuple[Any, ...]]] = deque()
        self._collecting = True
        # Used by the collector: the workers that have started, the last result of each worker, and the
        # descriptions of recent deaths.
        self._ready: Set[int] = set()
        self._last: Dict[int, Tuple[int, int]] = {}
        self._deaths: Deque[str] = deque(maxlen=8)
        # How many workers in a row have ended before they had put a result.
        self._failed_starts = 0
        self.threads = [
            threading.Thread(target=run, daemon=True)
            for run in (self._supervise, self._feed, self._collect)
        ]

    # -- workers: called by the thread that supervises them -----------------------------------

    def refill(self) -> None:
        """Starts a worker for each index that has none."""
        for place in range(self.processes):
            if place < len(self.workers) and self.workers[place] in self._living:
                continue
            number = next(self._numbers)
            worker = self.start(place, number, self)
            self._living[worker] = number
            self.workers[place : place + 1] = [worker]
            util.debug("added worker")

    def reap(self) -> bool:
        """Joins the workers that have ended. Returns whether there were any."""
        ended = [worker for worker in self._living if worker.exitcode is not None]
        for worker in ended:
            worker.join()
            number = self._living.pop(worker)
            self._post(self._worker_ended, number, worker.name, worker.pid, worker.exitcode)
        return bool(ended)

    def _supervise(self) -> None:
        while self.state == RUN or (self.cache and self.state != TERMINATE):
            if self.reap() and self.broken is None:
                try:
                    self.refill()
                except Exception as error:
                    self._post(self._break, f"no new worker can be started: {error}")
            events: List[Any] = [self.wakeup, *(worker.sentinel for worker in self._living)]
            connection.wait(events)
            self.wakeup.clear()
        self.jobs.put(None)

    # -- tasks: called by the thread that puts them -------------------------------------------

    def _feed(self) -> None:
        for tasks, set_length in iter(self.jobs.get, None):
            index, job = -1, getattr(tasks, "job", None)
            tasks = iter(tasks)
            # Tasks are put in batches, which grow from one task. Those of `imap` are put one by one, because its
            # iterable may wait for the results of the tasks before.
            batch: List[Tuple[int, int, bytes]] = []
            most, longest = 1, _BATCH if set_length is None else 1
            while True:
                failed: Optional[Exception] = self.broken
                try:
                    task = next(tasks, None)
                except BaseException as error:
                    # The program's iterable has raised, and is not called again.
                    task = None
                    index += 1
                    self._post(self._fail_rest, job, index, _results.failure("the iterable", error))
                if self.state == TERMINATE:
                    return
                if task is not None:
                    index = task[1]
                    if failed is None:
                        try:
                            batch.append((task[0], index, self.encode(*task)))
                        except BaseException as error:
                            failed = _results.failure("pickling the task", error)
                    if failed is not None:
                        self._post(self._set, task[0], index, (False, failed))
                if task is None or len(batch) >= most:
                    self._put(batch)
                    batch, most = [], min(2 * most, longest)
                if task is None:
                    break
            if set_length is not None:
                self._post(self._set_length, set_length, index + 1)
            # Keeps no arguments alive while it waits for the next job.
            tasks = task = failed = set_length = None
        self.tasks.close()
        self._post(self._stop_collecting)

    def _put(self, batch: List[Tuple[int, int, bytes]]) -> None:
        """Puts tasks in their order. A task that cannot be put fails."""
        while batch and self._takes_tasks():
            messages = [data for _, _, data in batch]
            put = 1
            try:
                put = self._put_some(messages)
            except Full:
                put = 0
            except BaseException as error:
                job, index, _ = batch[0]
                self._post(self._set, job, index, (False, _results.failure("putting the task", error)))
            del batch[:put]

    def _put_some(self, messages: List[bytes]) -> int:
        """Puts the first of the messages, or more. Returns how many."""
        if len(messages) > 1 and max(map(len, messages)) < _worker.LARGE:
            # If they do not fit together, they are put one by one, which waits for memory.
            with suppress(NoSpaceError):
                return self.tasks.put_many_bytes(messages, timeout=_worker.CHECK_SECONDS)
        _worker.put_throttled(self.tasks, messages[0], self.processes, self._takes_tasks)
        return 1

    def _takes_tasks(self) -> bool:
        return self.state != TERMINATE and self.broken is None

    # -- results: called by the thread that collects them, except `_post` ---------------------

    def _post(self, action: Callable[..., None], *args: Any) -> None:
        """Lets the collector run an action, after all results that were put before."""
        self._actions.append((action, args))
        _worker.put_small(self.results, _worker.ACTION, lambda: self._collecting)

    def _stop_collecting(self) -> None:
        self._collecting = False

    def _collect(self) -> None:
        while self._collecting:
            for message in self.results.get_many_bytes(256):
                if self.state == TERMINATE:
                    self._collecting = False
                    break
                if message:
                    self._take(message)
                else:
                    self._run_action()
            # Frees the last result before the wait for the next.
            del message
        self._fail_all(ProcessError("the pool was terminated before this was done"), quietly=True)

    def _run_action(self) -> None:
        action, args = self._actions.popleft()
        action(*args)

    def _take(self, message: bytes) -> None:
        job, index, number, kind = _unpack_result(message)
        if kind == _worker.READY:
            # This does not reset `_failed_starts`, because the worker may still fail to take a task.
            self._ready.add(number)
            return
        if number not in self._last:
            self._failed_starts = 0
        if kind <= _RETURNED:
            self._last[number] = job, index
            waited_for = self.cache.get(job)
            # Otherwise the whole job has failed.
            if waited_for is not None:
                try:
                    value = pickle.loads(message[_HEAD:])
                except BaseException as error:
                    kind, value = _worker.RAISED, _results.failure("unpickling the result", error)
                _results.complete(waited_for, index, (kind == _RETURNED, value))
            return
        # `LOST`. The worker may have put the result, and was killed before it acked the task.
        has_result = (job, index) in self._last.values()
        self._last[number] = job, index
        if not has_result:
            latest = f" (latest death: {self._deaths[-1]})" if self._deaths else ""
            died = WorkerDiedError(f"the worker that ran this task died{latest}")
            self._set(job, index, (False, died))

    def _set(self, job: int, index: int, result: Tuple[bool, Any]) -> None:
        waited_for = self.cache.get(job)
        if waited_for is None:
            # The whole job has failed.
            return
        _results.complete(waited_for, index, result)

    def _fail_rest(self, job: int, index: int, error: Exception) -> None:
        """The iterable of a job has failed, so no task after this one comes."""
        waited_for = self.cache.get(job)
        if isinstance(waited_for, _std.MapResult):
            # Otherwise it would wait for the results of all elements of the iterable.
            waited_for._number_left = 1
        self._set(job, index, (False, error))

    def _set_length(self, set_length: Callable[[int], None], length: int) -> None:
        if set_length.__self__._job in self.cache:  # type: ignore[attr-defined]
            set_length(length)

    def drop(self, job: int) -> None:
        """Lets the collector forget a job that the program will not ask for, and its results."""
        self._post(self._drop, job)

    def _drop(self, job: int) -> None:
        if job in self.cache:
            del self.cache[job]

    def _worker_ended(self, number: int, name: str, pid: int, code: int) -> None:
        has_result = number in self._last
        if code == 0:
            self._last.pop(number, None)
        else:
            how = f"killed by {_signal(-code)}" if code < 0 else f"exit code {code}"
            self._deaths.append(f"{name}, pid {pid}, {how}")
        was_ready = number in self._ready
        self._ready.discard(number)
        if has_result or (was_ready and (code <= 0 or code == _INTERRUPTED)):
            # It has run a task, or was killed or interrupted after it had started.
            return
        self._failed_starts += 1
        if self._failed_starts == 2 * self.processes:
            last = self._deaths[-1] if self._deaths else f"{name}, pid {pid}"
            self._break(
                f"{self._failed_starts} workers in a row ended before they could take a task"
                f" (the last: {last})"
            )

    def _break(self, why: str) -> None:
        """Fails every incomplete result, now and later."""
        self.broken = WorkerDiedError(why)
        self._fail_all(self.broken)

    def _fail_all(self, error: Exception, quietly: bool = False) -> None:
        """Fails every incomplete result. ``quietly`` does not call the program's error callbacks."""
        for result in list(self.cache.values()):
            if isinstance(result, _std.IMapIterator):
                with result._cond:
                    _results.end_iteration(result, error)
                continue
            if quietly:
                result._error_callback = None
            if isinstance(result, _std.MapResult):
                result._number_left = 1
            _results.complete(result, 0, (False, error))

    # -- the end ------------------------------------------------------------------------------

    def terminate(self) -> None:
        """Ends the workers and the threads, whatever they are doing."""
        if self.results.detached:
            # The pool has ended already, by `close` and `join`.
            return
        self.state = TERMINATE
        self.wakeup.put()
        me = threading.current_thread()
        supervisor, feeder, collector = self.threads
        if supervisor.is_alive() and supervisor is not me:
            # First, because it starts workers.
            supervisor.join()
        for worker in self.workers:
            if worker.exitcode is None:
                worker.terminate()
        self.results.put_bytes(_worker.ACTION)
        for thread in (feeder, collector):
            if thread.is_alive() and thread is not me:
                thread.join()
        for worker in self.workers:
            worker.join()
        self.detach_queues()

    def detach_queues(self) -> None:
        """Detaches from the queues, once no thread uses them.

        A process that is forked later would inherit them. If it were killed as the last process, the
        queues would stay in ``/dev/shm``.
        """
        if not any(thread.is_alive() for thread in self.threads):
            self.tasks.detach()
            self.results.detach()


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _dumps_by(pickler: Pickler) -> Callable[[Any], bytes]:
    return lambda obj: dumps(ByValue(obj, pickler))


def _encoder(by_fork: bool, pickler: Optional[Pickler]) -> Callable[..., bytes]:
    """A function that makes the message of a task.

    It caches the last pickled function, because all tasks of a map have the same.
    """
    pickle = dumps if pickler is None else _dumps_by(pickler)
    mapstar, starmapstar, pack = _std.mapstar, _std.starmapstar, _worker.TASK.pack
    known: Any = None
    name = b""

    def encode(job: int, index: int, function: Any, args: Any, kwds: Any) -> bytes:
        nonlocal known, name
        how, payload = _worker.CALL, (args, kwds)
        if function is mapstar or function is starmapstar:
            how = _worker.MAP if function is mapstar else _worker.STARMAP
            function, payload = args[0]
        if function is known:
            return pack(job, index, how, len(name)) + name + pickle(payload)
        if _worker.is_pickled_by_name(function):
            # A forked worker has every function that was defined before the fork.
            name = pickle(function if by_fork or pickler else sendable(function))
            known = function
            return pack(job, index, how, len(name)) + name + pickle(payload)
        # In one pickle, so that an object that both refer to is a single object in the worker, too.
        return pack(job, index, how, 0) + pickle((function, payload))

    return encode


def _one_of(place: int, family: str) -> str:
    """The mask of one worker for ``devices="rotate"``."""
    seen = _devices.visible(family)
    if seen is not None:
        count = len(seen)
    elif family == "cuda":
        # Without a mask all devices of the machine are visible.
        count = sum(1 for name in os.listdir("/dev") if re.fullmatch(r"nvidia\d+", name))
    else:
        raise InvalidError(
            f'devices="rotate" needs {_devices.variable(family)}, which lists the devices'
        )
    if count == 0:
        raise InvalidError(f'devices="rotate", but this process sees no {family} device')
    return str(place % count)


class Pool(_std.Pool):  # type: ignore[misc]
    """`multiprocessing.Pool`; the docstring of this module lists the differences.

    ::

        with Pool(4) as pool:
            squares = pool.map(square, range(1000))

    Args:
        processes: the number of workers; ``None`` is one for each core.
        initializer: called by each worker with ``initargs`` before its first task.
        maxtasksperchild: a worker is replaced after this many tasks.
        context: the context that starts the workers.
        devices: as for `shoal.multiprocessing.Process`, the same for all workers; or
            ``"rotate"``: worker *i* sees the device *i* modulo the number of devices that this
            process sees; or a lease (`shoal.lease_devices`), whose devices are spread over the
            workers. Workers hold the lease until they end.
        family: the family of the devices: ``"cuda"``, ``"rocm"``, ... ``"rotate"`` needs the
            family's variable, except for ``"cuda"``, whose devices are counted in ``/dev``.
        pickler: a module with ``dumps`` and ``loads`` that workers can import, such as
            ``cloudpickle`` or ``dill``. It pickles functions, arguments and results. Then a task may
            be a lambda or an inner function.

    Raises what starting a process raises; then no worker is left. A pool's threads end with `join`.
    A forked child must not use its parent's pool.
    """

    def __init__(
        self,
        processes: Optional[int] = None,
        initializer: Optional[Callable[..., object]] = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: Optional[int] = None,
        context: Any = None,
        *,
        devices: Optional[_devices.DevicesArgument] = None,
        family: str = "cuda",
        pickler: Any = None,
    ) -> None:
        # `__del__` needs these if the constructor fails.
        self._pool: List[Any] = []
        self._state = INIT
        self._change_notifier: Any = None
        if processes is None:
            processes = getattr(os, "process_cpu_count", os.cpu_count)() or 1
        processes = _ffi.whole(processes, "processes")
        if processes < 1:
            raise ValueError("Number of processes must be at least 1")
        if maxtasksperchild is not None:
            if not isinstance(maxtasksperchild, int) or maxtasksperchild <= 0:
                raise ValueError("maxtasksperchild must be a positive int or None")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        if isinstance(devices, _devices.DeviceLease):
            devices.environment()
        elif devices == "rotate":
            _one_of(0, family)
        by = None if pickler is None else Pickler.of(pickler)
        if context is None:
            context = _default.context.get_context()
        self._ctx = context
        by_fork = context.get_start_method() == "fork"
        begin: Any = (initializer, initargs)
        if by is not None and not by_fork:
            begin = [ByValue(it, by) for it in begin]

        def start(place: int, number: int, engine: _Engine) -> Any:
            masked: Dict[str, Any] = {}
            if devices is not None:
                mask: Any = devices
                if isinstance(devices, _devices.DeviceLease):
                    mask = devices.worker(place % processes, processes)
                elif devices == "rotate":
                    mask = _one_of(place, family)
                masked = {"devices": mask, "family": family}
            args = (number, engine.tasks, engine.results, engine.processes)
            worker = make(
                context,
                target=_worker.work,
                args=(*args, *begin, maxtasksperchild, by),
                **masked,
            )
            worker.name = worker.name.replace("Process", "PoolWorker")
            worker.daemon = True
            worker.start()
            return worker

        make = self.Process
        engine = self._engine = _Engine(start, processes, by_fork, by)
        self._processes = processes
        self._pool = engine.workers
        self._cache = engine.cache
        self._taskqueue = engine.jobs
        self._change_notifier = engine.wakeup
        try:
            engine.refill()
        except BaseException:
            for worker in engine.workers:
                if worker.exitcode is None:
                    worker.terminate()
            for worker in engine.workers:
                worker.join()
            raise
        for thread in engine.threads:
            thread.start()
        self._worker_handler, self._task_handler, self._result_handler = engine.threads
        self._terminate = util.Finalize(self, engine.terminate, exitpriority=15)
        self._state = RUN

    apply_async, _map_async = _jobs.submits("apply_async"), _jobs.submits("_map_async")
    imap, imap_unordered = _jobs.submits("imap"), _jobs.submits("imap_unordered")

    def _guarded_task_generation(self, result_job: int, func: Any, iterable: Any) -> _jobs.Tasks:
        return _jobs.Tasks(result_job, func, iterable)

    def _repopulate_pool(self) -> None:
        self._engine.wakeup.put()

    def close(self) -> None:
        """Accepts no more tasks. The workers end when all tasks are done. Does not wait."""
        util.debug("closing pool")
        if self._state == RUN:
            self._state = CLOSE
            self._engine.state = CLOSE
            self._engine.wakeup.put()

    def join(self) -> None:
        """Waits for the workers to end, after `close` or `terminate`."""
        super().join()
        self._engine.detach_queues()


def __getattr__(name: str) -> Any:
    return getattr(_std, name)
