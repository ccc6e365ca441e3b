"""`shoal.Supervisor`: starts, restarts and stops workers."""

from __future__ import annotations

import ctypes
from signal import SIGTERM
from typing import Any, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Type

from . import _abi, _ffi, _wait
from ._process import StrPath, Stream, as_exitcode, signal_number, spawn_options, stream_code
from ._process_structs import Outcome, SupervisorOptions, WorkerEvent, WorkerStatus
from .devices import DevicesArgument

_lib = _ffi.lib

_RESTARTS = {
    None: _abi.RESTART_NEVER,
    "failure": _abi.RESTART_ON_FAILURE,
    "always": _abi.RESTART_ALWAYS,
}
_STATES = ("waiting", "running", "restarting", "ended", "failed")
_KINDS = (
    "started",
    "exited",
    "restarting",
    "start_failed",
    "gave_up",
    "stopping",
    "killing",
    "guardian_lost",
)
# In `max_restarts`: no limit.
_UNLIMITED = 2**32 - 1


class SupervisorHandle(_ffi.Handle):
    """A ``shoal_supervisor *``."""

    release = _lib.shoal_supervisor_free


class Worker(NamedTuple):
    """A worker of a `Supervisor` at one moment."""

    #: ``"waiting"``, ``"running"``, ``"restarting"``, ``"ended"`` or ``"failed"``.
    state: str
    #: Its process while it runs, else ``None``.
    pid: Optional[int]
    #: The number of restarts.
    restarts: int
    #: The exit code of its last run, as in `Process.exitcode`; ``None`` if no run has ended.
    exitcode: Optional[int]


class SupervisorEvent(NamedTuple):
    """An event of the workers of a `Supervisor`. ``str`` gives a sentence."""

    #: ``"started"``, ``"exited"``, ``"restarting"``, ``"start_failed"``, ``"gave_up"``,
    #: ``"stopping"``, ``"killing"``, ``"guardian_lost"``.
    kind: str
    #: The number of the worker; ``None`` if the event is about all workers.
    worker: Optional[int]
    #: Its process, if it has one.
    pid: Optional[int]
    #: Its exit code, if it has ended.
    exitcode: Optional[int]
    #: A sentence that describes the event.
    text: str

    def __str__(self) -> str:
        return self.text


def _backoff(pair: Any) -> Tuple[float, float]:
    try:
        first, longest = pair
    except (TypeError, ValueError):
        raise TypeError(
            f"backoff is the first and the longest delay in seconds, not {pair!r}"
        ) from None
    return first, longest


class Supervisor:
    """Starts workers that all run one program, and supervises them.

    Failed workers are restarted on request. All workers, and every process that they have started, end
    when this process ends, even if it is killed. As a context manager it stops them. Safe to use from
    any thread. In a forked child every call fails.

    ::

        argv = ["python3", "work.py"]
        with shoal.Supervisor(argv, 4, devices="0-3", restart="failure") as workers:
            workers.wait()

    Each worker has the environment variables ``SHOAL_WORKER`` (its number, from 0),
    ``SHOAL_WORKERS`` (how many there are) and ``SHOAL_WORKER_RESTARTS``.

    Args:
        argv: the program and its arguments, as for `spawn`.
        workers: the number of workers, 1 to 4096.
        env, cwd: as for `spawn`. Restarted workers get the same.
        stdin: ``None`` is the null device; or a file or descriptor; ``subprocess.DEVNULL``.
        stdout, stderr: ``None`` is the stream of this process; or a file or descriptor;
            ``subprocess.DEVNULL``.
        devices, family: the devices to spread over the workers, or a lease, as for `spawn`.
        restart: which workers are restarted: ``None``, ``"failure"`` or ``"always"``.
        max_restarts: how many times in a row a worker is restarted without a run of
            ``healthy_after`` seconds in between, at least 1; ``None`` is without limit. After one
            more short run, a crash loop, the worker has failed for good.
        backoff: the first and the longest delay before a restart, in seconds. Delays double in
            between.
        healthy_after: a run of this many seconds resets the count of restarts.
        grace: seconds after a stop signal until workers are killed.
        keep_going: whether the other workers continue when one has failed for good.
        labels: whether each line that a worker writes is preceded by its number: ``[3] loaded``.

    Raises what `spawn` raises if a worker cannot be started; then none runs.
    """

    __module__ = "shoal"

    def __init__(
        self,
        argv: Sequence[StrPath],
        workers: int,
        *,
        env: Optional[Mapping[str, str]] = None,
        cwd: Optional[StrPath] = None,
        stdin: Stream = None,
        stdout: Stream = None,
        stderr: Stream = None,
        devices: Optional[DevicesArgument] = None,
        family: str = "cuda",
        restart: Optional[str] = None,
        max_restarts: Optional[int] = 10,
        backoff: Tuple[float, float] = (0.1, 10.0),
        healthy_after: float = 10.0,
        grace: float = 10.0,
        keep_going: bool = False,
        labels: bool = True,
    ) -> None:
        if restart not in _RESTARTS:
            raise ValueError(f"restart is None, 'failure' or 'always', not {restart!r}")
        if max_restarts is None:
            max_restarts = _UNLIMITED
        if not 1 <= _ffi.whole(max_restarts, "max_restarts") <= _UNLIMITED:
            raise ValueError(f"max_restarts is at least 1, not {max_restarts}")
        workers = _ffi.whole(workers, "workers")
        if workers < 1:
            raise ValueError(f"there must be at least one worker, not {workers}")
        streams = [stream_code(s) for s in (stdin, stdout, stderr)]
        program = spawn_options(argv, env, cwd, streams, devices, family)
        options = SupervisorOptions()
        options.program = ctypes.addressof(program)
        options.workers = _ffi.number(workers, "workers")
        options.restart = _RESTARTS[restart]
        options.max_restarts = max_restarts
        # 0 would mean the default of the library.
        first, longest = _backoff(backoff)
        times = [("backoff", first), ("backoff", longest)]
        times += [("healthy_after", healthy_after), ("grace", grace)]
        lengths = [max(1, _wait.nanoseconds(time, what)) for what, time in times]
        options.backoff_ns, options.max_backoff_ns, options.healthy_ns, options.grace_ns = lengths
        options.flags = (_abi.SUPERVISOR_KEEP_GOING * keep_going) | (
            _abi.SUPERVISOR_PLAIN * (not labels)
        )
        self._grace_ns = lengths[-1]
        self._count = workers
        self._handle = SupervisorHandle()
        handle = ctypes.byref(self._handle)
        _ffi.check(_lib.shoal_supervisor_start(ctypes.byref(options), handle))

    def wait(self, timeout: Optional[float] = None) -> int:
        """Waits until all workers have ended for good.

        Returns 0 if each worker ended with success or was stopped, else the exit code of the first one
        that failed: ``-signal`` if a signal killed it, 255 if it could not be restarted, 1 if it
        ended with success too often in a row. Raises `TimeoutError` after ``timeout`` seconds.
        """
        end = Outcome()
        end_ref = ctypes.byref(end)

        def call(timeout_ns: int) -> int:
            status: int = _lib.shoal_supervisor_wait(self._handle, timeout_ns, end_ref)
            return status

        _ffi.check(_wait.wait(call, _wait.deadline(True, timeout)))
        if end.kind != _abi.OUTCOME_FAILED:
            return 0
        # A crash loop of successes is a failure.
        return as_exitcode(end.exit_kind, end.exit_code) or 1

    def stop(self, grace: Optional[float] = None, *, signal: int = SIGTERM) -> None:
        """Stops all workers, and waits until they and all processes that they started have ended.

        They get ``signal``, and are killed after ``grace`` seconds; ``None`` is the ``grace`` of the
        constructor. None is restarted.
        """
        grace_ns = self._grace_ns if grace is None else _wait.nanoseconds(grace, "grace", " or None")
        signal = signal_number(signal)
        _ffi.check(_lib.shoal_supervisor_begin_stop(self._handle, signal, grace_ns))
        self.wait()

    def send_signal(self, signal: int, worker: Optional[int] = None) -> None:
        """Sends a signal to the process group of a worker, or of each worker that runs."""
        number = _abi.EVERY_WORKER if worker is None else self._number(worker)
        _ffi.check(_lib.shoal_supervisor_signal(self._handle, number, signal_number(signal)))

    def _number(self, worker: int) -> int:
        if not 0 <= _ffi.whole(worker, "worker") < self._count:
            raise ValueError(f"there is no worker {worker}: the last one is {self._count - 1}")
        return worker

    @property
    def workers(self) -> List[Worker]:
        """The state of each worker now."""
        return [self._worker(number) for number in range(self._count)]

    def _worker(self, number: int) -> Worker:
        status = WorkerStatus()
        out = ctypes.byref(status)
        _ffi.check(_lib.shoal_supervisor_worker(self._handle, number, out))
        known = status.exit_kind != _abi.EXIT_UNKNOWN
        exitcode = as_exitcode(status.exit_kind, status.exit_code) if known else None
        return Worker(_STATES[status.state], status.pid or None, status.restarts, exitcode)

    def events(self) -> Iterator[SupervisorEvent]:
        """Yields events until all workers have ended for good. Waits for each event.

        Each event goes to one caller. At least the latest 1024 events are kept.
        """
        event = WorkerEvent()
        out = ctypes.byref(event)

        def call(timeout_ns: int) -> int:
            status: int = _lib.shoal_supervisor_event(self._handle, timeout_ns, out)
            return status

        while True:
            status = _wait.wait(call, None)
            if status == _abi.ERR_END:
                return
            _ffi.check(status)
            known = event.exit_kind != _abi.EXIT_UNKNOWN
            yield SupervisorEvent(
                _KINDS[event.kind] if event.kind < len(_KINDS) else str(event.kind),
                event.worker if event.worker >= 0 else None,
                event.pid or None,
                as_exitcode(event.exit_kind, event.exit_code) if known else None,
                event.text.decode(errors="replace"),
            )

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], value: object, traceback: object
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        running = sum(worker.state == "running" for worker in self.workers)
        return f"<shoal.Supervisor, {running} of {self._count} workers running>"
