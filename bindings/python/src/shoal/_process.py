"""`shoal.spawn`: a program as a child process."""

from __future__ import annotations

import ctypes
import os
import subprocess
from signal import SIGKILL, SIGTERM
from typing import IO, Any, BinaryIO, Iterable, List, Mapping, Optional, Sequence, Type, Union

from . import _abi, _ffi, _wait
from ._attribute import attribute
from ._leasing import worker_of
from ._process_structs import Exit, SpawnOptions
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
    """Starts a program. Returns once the program runs, and does not wait for its end.

    ::

        child = shoal.spawn(["sort", "words.txt"], stdout=subprocess.PIPE)
        words = child.stdout.read()
        child.join()

    Every failure to start it, such as a missing program, is an error of this call. The child inherits
    its three standard streams and no other descriptor, no signal handler and no signal mask. It always
    has the three streams: one that is closed in this process is ``/dev/null`` in the child.

    Args:
        argv: the program and its arguments. A program without ``/`` is searched in the ``PATH`` of
            the child. ``/bin/sh`` runs a script without a ``#!`` line.
        env: the whole environment, as in `subprocess`; ``None`` is that of this process.
        cwd: the directory in which it starts.
        stdin, stdout, stderr: ``None`` inherits the stream; or a file or descriptor;
            ``subprocess.DEVNULL``; ``subprocess.PIPE`` for a pipe whose other end is the attribute of
            that name.
        devices: the devices that it sees, numbered as in this process (see `shoal.devices`); or a
            lease, which it holds until it ends.
        family: the family of the devices. A lease has its own.
        new_group: starts it in a new process group, which Ctrl-C does not reach.
        new_session: starts it in a new session, without the terminal.
        die_with_parent: kills it when this process ends, even by ``kill -9``, and when this process
            executes another program. This does not cover its own children, or a program that changes
            its user.

    Raises `NotFoundError` if there is no such program, `AccessError` if it may not be executed, and
    other `ShoalError` classes for the system's reason.
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
    """The options of a child, as a struct of the library."""
    if isinstance(argv, (str, bytes)) or not isinstance(argv, Iterable):
        raise TypeError(f"argv is a list of the program and its arguments, not {argv!r}")
    arguments = [os.fsencode(arg) for arg in argv]
    if not arguments:
        raise ValueError("argv is empty: its first element is the program")
    options = SpawnOptions()
    options.argv = _ffi.strings(arguments)
    if env is not None:
        if not isinstance(env, Mapping):
            raise TypeError(f"env is a mapping of names to values, not {env!r}")
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
        options.device_family = _ffi.encode(family, "family")
        options.device_mask = _ffi.encode(_mask(devices), "mask")
    return options


def _setting(name: str, value: str) -> bytes:
    encoded = os.fsencode(name)
    if not encoded or b"=" in encoded:
        raise ValueError(f"{name!r} is not a name of an environment variable")
    return encoded + b"=" + os.fsencode(value)


def stream_code(stream: Stream) -> int:
    """A standard stream as a number for the library."""
    if stream is None:
        return _abi.STDIO_INHERIT
    if not isinstance(stream, int):
        if not (hasattr(stream, "fileno") and hasattr(stream, "flush")):
            raise TypeError(
                f"a stream is a file, a descriptor, subprocess.PIPE or subprocess.DEVNULL, not {stream!r}"
            )
        stream.flush()
        stream = stream.fileno()
    if stream == subprocess.PIPE:
        return _abi.STDIO_PIPE
    if stream == subprocess.DEVNULL:
        return _abi.STDIO_NULL
    if stream < 0:
        raise ValueError(f"{stream} is not a descriptor (subprocess.STDOUT is not supported)")
    # No kernel has descriptors of more bits.
    return _ffi.number(stream, "a descriptor", 30) ^ _abi.STDIO_IS_FD


def signal_number(signal: int) -> int:
    """The number of a signal as a C int."""
    return _ffi.number(signal, "a signal", 32, signed=True)


def _open(fd: int, which: int) -> BinaryIO:
    if which:
        return os.fdopen(fd, "rb")
    return os.fdopen(fd, "wb")


def as_exitcode(kind: int, code: int) -> int:
    """The exit code as `subprocess` and `multiprocessing` define it: negative for a signal, 255 if it is
    unknown."""
    if kind == _abi.EXIT_UNKNOWN:
        return 255
    return -code if kind == _abi.EXIT_SIGNALED else code


class Process:
    """A program that was started by `spawn`. Safe to use from any thread.

    As a context manager it closes its pipes and joins. It may be dropped without a join: the program
    continues, and the next `spawn` after its end reaps it.
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

        255 may also mean that the exit code is unknown: see `exit_is_known`.
        """
        if self._exitcode is None:
            self._poll(0)
        return self._exitcode

    @attribute
    def exit_is_known(self) -> bool:
        """Whether the program has ended and `exitcode` is its exit code. Does not wait.

        The code is unknown if other code reaped the child: ``os.wait``, or the kernel where
        ``SIGCHLD`` is ignored, on Linux before 6.15. Newer kernels keep the exit code.
        """
        return self.exitcode is not None and self._known

    def is_alive(self) -> bool:
        """Whether the program still runs."""
        return self.exitcode is None

    def join(self, timeout: Optional[float] = None) -> int:
        """Waits for the end of the program. Returns its exit code, ``-signal`` if a signal killed it.

        Raises `TimeoutError` after ``timeout`` seconds. Joining again returns the same. An unknown
        code is 255; `exit_is_known` distinguishes it from an exit code of 255.
        """
        until = _wait.deadline(True, timeout)
        if self._exitcode is None:
            self._poll(until)
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
        """A descriptor that is readable once the program has ended, for `select` and event loops."""
        return _ffi.fetch_int(_lib.shoal_process_fd, self._handle)

    def send_signal(self, signal: int, *, group: bool = False) -> None:
        """Sends a signal to the program, or with ``group`` to its process group.

        Does nothing if it has ended. The signal never reaches another process that reuses its id.
        """
        signal = signal_number(signal)
        _ffi.check(_lib.shoal_process_signal(self._handle, signal, group))

    def terminate(self) -> None:
        """Sends ``SIGTERM``."""
        self.send_signal(SIGTERM)

    def kill(self) -> None:
        """Sends ``SIGKILL``."""
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
