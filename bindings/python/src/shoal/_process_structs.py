"""The structs of processes, workers and leases of devices in the C interface, as ctypes sees them.

Generated from src/ffi by `cargo xtask header`; edit there.
"""

from __future__ import annotations

from ctypes import POINTER, Structure, c_char, c_char_p, c_int32, c_int64, c_size_t, c_uint32
from ctypes import c_uint64, c_void_p

from ._sized import Sized

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class LeaseOptions(Sized):
    """``shoal_lease_options``: The devices that a request is for."""

    _fields_ = [
        ("size", c_size_t),
        ("count", c_size_t),
        ("family", c_char_p),
        ("order", c_char_p),
        ("command", c_char_p),
        ("min_free", c_uint64),
        ("share_memory", c_uint64),
        ("share_slots", c_uint32),
        ("share_of", c_uint32),
        ("min_idle", c_uint32),
        ("reserved", c_uint32),
    ]
    #: How many devices; 0 is one.
    count: int
    #: Their family, such as "cuda"; NULL is the only one that this machine has devices of.
    family: Any
    #: The devices to be preferred, the first ones most: numbers that count in what this process
    #: sees, or unique ids, separated by commas.
    order: Any
    #: What others read as the command that has the lease; NULL is that of this process.
    command: Any
    #: How many bytes of a device's memory must be free now, whichever processes use the rest.
    min_free: int
    #: To lease parts of devices: how many bytes of the memory of each.
    share_memory: int
    #: To lease parts of devices: how many slots of each,
    share_slots: int
    #: and how many slots a device is divided into for this purpose: 1 of 4 is a quarter.
    share_of: int
    #: The percentage of the time for which a device must be idle.
    min_idle: int
    #: 0.
    reserved: int


class Exit(Structure):
    """``shoal_exit``: The end of a process."""

    _fields_ = [
        ("kind", c_uint32),
        ("code", c_int32),
    ]
    #: SHOAL_EXIT_EXITED, SHOAL_EXIT_SIGNALED or SHOAL_EXIT_UNKNOWN.
    kind: int
    #: The exit code, the number of the signal, or -1.
    code: int


class FdMap(Structure):
    """``shoal_fd_map``: A descriptor for a child."""

    _fields_ = [
        ("from", c_int32),
        ("to", c_int32),
    ]
    #: Its number in the child, 3 to 1023.
    to: int


class SpawnOptions(Sized):
    """``shoal_spawn_options``: A child to be started."""

    _fields_ = [
        ("size", c_size_t),
        ("file", c_char_p),
        ("argv", POINTER(c_char_p)),
        ("envp", POINTER(c_char_p)),
        ("env_set", POINTER(c_char_p)),
        ("env_unset", POINTER(c_char_p)),
        ("cwd", c_char_p),
        ("stdio", c_int32 * 3),
        ("n_fds", c_uint32),
        ("fds", c_void_p),
        ("flags", c_uint64),
        ("device_family", c_char_p),
        ("device_mask", c_char_p),
        ("lease", c_void_p),
        ("lease_mode", c_uint32),
        ("worker", c_uint32),
        ("workers", c_uint32),
        ("reserved", c_uint32),
    ]
    #: The program; a name without '/' is searched in the PATH that the child will have.
    file: Any
    #: The program's argv: its name first, NULL last.
    argv: Any
    #: Its whole environment, as "NAME=value", NULL last.
    envp: Any
    #: Variables set on top, as "NAME=value", NULL last; or NULL.
    env_set: Any
    #: Names of variables removed then, NULL last; or NULL.
    env_unset: Any
    #: The directory it starts in; NULL is that of this process.
    cwd: Any
    #: Its standard input, output and error: SHOAL_STDIO_INHERIT (0), SHOAL_STDIO_NULL,
    #: SHOAL_STDIO_PIPE or SHOAL_STDIO_FD(n).
    stdio: Any
    #: How many `fds` there are.
    n_fds: int
    #: Descriptors to give the child in addition to 0, 1 and 2.
    fds: Any
    #: SHOAL_SPAWN_NEW_GROUP, ...
    flags: int
    #: The family of devices that `device_mask` is about, such as "cuda"; NULL leaves the child with
    #: the devices of this process.
    device_family: Any
    #: The devices of that family the child sees, counted in what this process sees: "0,2"; "" hides
    #: all.
    device_mask: Any
    #: A lease of devices that the child has too, and whose devices it sees; or NULL.
    lease: Any
    #: What it sees of them: SHOAL_LEASE_EXCLUSIVE (0), ...
    lease_mode: int
    #: Which of the children that share the lease it is, from 0 on,
    worker: int
    #: of how many; 0 is one.
    workers: int
    #: 0.
    reserved: int


class SupervisorOptions(Sized):
    """``shoal_supervisor_options``: Workers to be started."""

    _fields_ = [
        ("size", c_size_t),
        ("program", c_void_p),
        ("workers", c_size_t),
        ("restart", c_uint32),
        ("max_restarts", c_uint32),
        ("backoff_ns", c_int64),
        ("max_backoff_ns", c_int64),
        ("healthy_ns", c_int64),
        ("grace_ns", c_int64),
        ("flags", c_uint64),
    ]
    #: What each worker runs.
    program: Any
    #: How many, 1 to 4096.
    workers: int
    #: SHOAL_RESTART_NEVER, SHOAL_RESTART_ON_FAILURE or SHOAL_RESTART_ALWAYS.
    restart: int
    #: How many times in a row a worker is started again without a run of `healthy_ns` in between.
    max_restarts: int
    #: How long to wait before the first restart; it doubles with each further one.
    backoff_ns: int
    #: The longest such wait.
    max_backoff_ns: int
    #: A run of this length begins the count of restarts again.
    healthy_ns: int
    #: How long workers have to end after SIGTERM before they are killed, when another one has
    #: failed or the handle is freed.
    grace_ns: int
    #: SHOAL_SUPERVISOR_KEEP_GOING, SHOAL_SUPERVISOR_PLAIN.
    flags: int


class Outcome(Structure):
    """``shoal_outcome``: How all workers together have ended."""

    _fields_ = [
        ("kind", c_uint32),
        ("exit_kind", c_uint32),
        ("exit_code", c_int32),
        ("reserved", c_uint32),
        ("worker", c_int64),
    ]
    #: SHOAL_OUTCOME_SUCCEEDED, SHOAL_OUTCOME_FAILED or SHOAL_OUTCOME_STOPPED.
    kind: int
    #: How the last run of the first worker that failed has ended: as `kind` of a `shoal_exit`.
    exit_kind: int
    #: and as its `code`.
    exit_code: int
    #: 0.
    reserved: int
    #: The first worker that failed, or -1.
    worker: int


class WorkerStatus(Sized):
    """``shoal_worker_status``: One worker at one moment."""

    _fields_ = [
        ("size", c_size_t),
        ("state", c_uint32),
        ("pid", c_int32),
        ("restarts", c_uint32),
        ("exit_kind", c_uint32),
        ("exit_code", c_int32),
        ("reserved", c_uint32),
    ]
    #: SHOAL_WORKER_WAITING, ...
    state: int
    #: Its process while it runs, else 0.
    pid: int
    #: How often it was started again.
    restarts: int
    #: How its last run ended, as `kind` of a `shoal_exit`: SHOAL_EXIT_UNKNOWN if none has,
    exit_kind: int
    #: and as its `code`.
    exit_code: int
    #: 0.
    reserved: int


class WorkerEvent(Sized):
    """``shoal_worker_event``: Something that has happened to a worker."""

    _fields_ = [
        ("size", c_size_t),
        ("worker", c_int64),
        ("kind", c_uint32),
        ("pid", c_int32),
        ("exit_kind", c_uint32),
        ("exit_code", c_int32),
        ("text", c_char * 256),
    ]
    #: The worker, or SHOAL_EVERY_WORKER.
    worker: int
    #: SHOAL_WORKER_EVENT_STARTED, ...
    kind: int
    #: Its process, where there is one, else 0.
    pid: int
    #: How it ended, where it did, as `kind` of a `shoal_exit`; else SHOAL_EXIT_UNKNOWN,
    exit_kind: int
    #: and as its `code`.
    exit_code: int
    #: A sentence about it that ends with NUL.
    text: bytes
