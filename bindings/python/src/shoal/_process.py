"""`shoal.spawn`: a program as a child process."""

from __future__ import annotations

import ctypes
import os
import subprocess
from signal import SIGKILL, SIGTERM
from typing import IO, Any, BinaryIO, List, Mapping, Optional, Sequence, Type, Union

from . import _abi, _ffi, _wait
from ._attribute import attribute
from ._leasing import worker_of
from ._structs import Exit, SpawnOptions
from .devices import DevicesArgument, _mask

StrPath = Union[str, bytes, "os.PathLike[str]", "os.PathLike[bytes]"]
Stream = Union[None, int, IO[Any]]

_lib = _ffi.lib


class ProcessHandle(_ffi.Handle):
    """A ``shoal_process *``."""

    release = _lib.shoal_process_free
    waitable = "process"


def spawn(
    argv: Sequence[StrPath],
    *,
    env: Optional[Mapping[str, str]] = None,
    cwd: Optional[StrPath] = None,
    stdin: Stream = None,
    stdout: Stream = None,
    stderr: Stream = None,
    devices: Optional[DevicesArgument] = None,
    family: str = "cuda",
    new_group: bool = False,
    new_session: bool = False,
    die_with_parent: bool = False,
) -> Process:
    """Starts a program and returns at once.

    Whatever keeps it from starting, a missing program included, is an error of this call.
    The child gets no descriptor but its three streams, no signal handler and no mask. It
    always has these three: one that this process has closed leads to nowhere in the child.

    Args:
        argv: the program and its arguments. A program without ``/`` is looked for in the
            ``PATH`` the child will have.
        env: its whole environment, as in `subprocess`; ``None`` is this process's.
        cwd: the directory it starts in.
        stdin, stdout, stderr: ``None`` shares this process's; a file or descriptor;
            ``subprocess.DEVNULL``; ``subprocess.PIPE`` for a pipe whose other end is the
            attribute of that name.
        devices: the devices it sees, in this process's numbers (see `shoal.devices`); or a lease,
            which it has then until it ends.
        family: whose devices. A lease has its own.
        new_group: in a process group of its own, which Ctrl-C does not reach.
        new_session: in a session of its own, without the terminal.
        die_with_parent: it is killed when this process ends, even by ``kill -9``, and when it
            executes another program. Its own children are not covered, nor is a program that
            changes its user.
    """
    streams = [stream_code(s) for s in (stdin, stdout, stderr)]
    options = spawn_options(argv, env, cwd, streams, devices, family)
    options.flags = (
        (_abi.SPAWN_NEW_GROUP * new_group)
        | (_abi.SPAWN_NEW_SESSION * new_session)
        | (_abi.SPAWN_DIE_WITH_PARENT * die_with_parent)
    )
    handle = ProcessHandle()
    _ffi.check(_lib.shoal_process_spawn(ctypes.byref(options), ctypes.byref(handle)))
    return Process(handle, [s == _abi.STDIO_PIPE for s in streams])


def spawn_options(
    argv: Sequence[StrPath],
    env: Optional[Mapping[str, str]],
    cwd: Optional[StrPath],
    streams: Sequence[int],
    devices: Optional[DevicesArgument],
    family: str,
) -> SpawnOptions:
    """What a child gets, as the library takes it."""
    if isinstance(argv, (str, bytes)):
        raise TypeError("argv is a list: the program, and its arguments one by one")
    arguments = [os.fsencode(arg) for arg in argv]
    if not arguments:
        raise ValueError("argv is empty: it starts with the program")
    options = SpawnOptions()
    options.argv = _ffi.strings(arguments)
    if env is not None:
        options.envp = _ffi.strings([_setting(name, value) for name, value in env.items()])
    if cwd is not None:
        (options.cwd,) = _ffi.strings([os.fsencode(cwd)])[:1]
    options.stdio = (ctypes.c_int32 * 3)(*streams)
    worker = worker_of(devices)
    if worker is not None:
        options.lease = worker.lease._held().value
        options.lease_mode = worker.mode
        options.worker, options.workers = worker.number, worker.workers
    elif devices is not None:
        options.device_family = _ffi.encode(family)
        options.device_mask = _ffi.encode(_mask(devices), "mask")
    return options


def _setting(name: str, value: str) -> bytes:
    if not name or "=" in name:
        raise ValueError(f"{name!r} is no name of an environment variable")
    return os.fsencode(name) + b"=" + os.fsencode(value)


def stream_code(stream: Stream) -> int:
    """A standard stream, as the library takes it."""
    if stream is None:
        return _abi.STDIO_INHERIT
    if not isinstance(stream, int):
        stream.flush()
        stream = stream.fileno()
    if stream == subprocess.PIPE:
        return _abi.STDIO_PIPE
    if stream == subprocess.DEVNULL:
        return _abi.STDIO_NULL
    if stream < 0:
        raise ValueError(f"{stream} is not a descriptor (subprocess.STDOUT is not supported)")
    return stream + 1


def _open(fd: int, which: int) -> BinaryIO:
    if which:
        return os.fdopen(fd, "rb")
    return os.fdopen(fd, "wb")


def as_exitcode(kind: int, code: int) -> int:
    """As `subprocess` and `multiprocessing` count: a signal is negative, unknown 255."""
    if kind == _abi.EXIT_UNKNOWN:
        return 255
    return -code if kind == _abi.EXIT_SIGNALED else code


class Process:
    """A program started by `spawn`. Safe to use from any thread.

    As a context manager it closes its pipes and joins. Dropping it without a join does no harm: the
    program goes on, and once it has ended the next `spawn` collects it.
    """

    __module__ = "shoal"

    stdin: Optional[BinaryIO]
    stdout: Optional[BinaryIO]
    stderr: Optional[BinaryIO]

    def __init__(self, handle: ProcessHandle, pipes: Sequence[bool]) -> None:
        self._handle = handle
        self._pid = _ffi.fetch_int(_lib.shoal_process_pid, handle)
        self._exitcode: Optional[int] = None
        self._known = False
        ends: List[Optional[BinaryIO]] = [
            _open(_ffi.fetch_int(_lib.shoal_process_stdio, handle, which), which) if pipe else None
            for which, pipe in enumerate(pipes)
        ]
        self.stdin, self.stdout, self.stderr = ends

    @property
    def pid(self) -> int:
        """The process id."""
        return self._pid

    @attribute
    def exitcode(self) -> Optional[int]:
        """Its exit code, ``-signal`` if a signal killed it, ``None`` while it runs.

        255 also stands for an exit that is not known: see `exit_is_known`.
        """
        if self._exitcode is None:
            self._poll(0)
        return self._exitcode

    @attribute
    def exit_is_known(self) -> bool:
        """Whether it is over and `exitcode` tells how. Does not wait.

        It is over and not known if something else collected the child, ``os.wait`` or the
        kernel where ``SIGCHLD`` is ignored, on Linux before 6.15. Since then the kernel keeps
        the exit, and this process learns it all the same.
        """
        return self.exitcode is not None and self._known

    def is_alive(self) -> bool:
        """Whether it still runs."""
        return self.exitcode is None

    def join(self, timeout: Optional[float] = None) -> int:
        """Waits for its end; its exit code, ``-signal`` if a signal killed it.

        `TimeoutError` after ``timeout`` seconds. Joining again gives the same. 255 if that
        is not known, which `exit_is_known` tells from an exit code of 255.
        """
        if self._exitcode is None:
            self._poll(_wait.deadline(True, timeout))
        if self._exitcode is None:
            raise _ffi.error(_abi.ERR_TIMEOUT)
        return self._exitcode

    def _poll(self, until: Optional[int]) -> None:
        end = Exit()
        end_ref = ctypes.byref(end)

        def call(timeout_ns: int) -> int:
            status: int = _lib.shoal_process_join(self._handle, timeout_ns, end_ref)
            return status

        status = _wait.wait(call, until)
        if status == _abi.ERR_TIMEOUT:
            return
        _ffi.check(status)
        self._known = end.kind != _abi.EXIT_UNKNOWN
        self._exitcode = as_exitcode(end.kind, end.code)

    def fileno(self) -> int:
        """A descriptor that `select` finds readable once the process has ended."""
        return _ffi.fetch_int(_lib.shoal_process_fd, self._handle)

    def send_signal(self, signal: int, *, group: bool = False) -> None:
        """Sends it a signal, or all of its process group.

        Nothing happens if it is over: never does another process get it.
        """
        _ffi.check(_lib.shoal_process_signal(self._handle, signal, group))

    def terminate(self) -> None:
        """Asks it to end: ``SIGTERM``."""
        self.send_signal(SIGTERM)

    def kill(self) -> None:
        """Ends it: ``SIGKILL``."""
        self.send_signal(SIGKILL)

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], value: object, traceback: object
    ) -> None:
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                stream.close()
        self.join()

    def __repr__(self) -> str:
        code = self.exitcode
        state = "running" if code is None else f"exit code {code}"
        return f"<shoal.Process {self._pid}, {state}>"
