"""Contexts and `Process`: the standard library's machinery with Shoal's objects.

A process has one start method: `set_start_method` here sets that of `multiprocessing`, too. So a
program may use both modules, and libraries that use the standard one follow the same setting.
Children learn it as they do with the standard library.
"""

from __future__ import annotations

import sys
from multiprocessing import context as _std
from multiprocessing import process as _std_process
from multiprocessing.context import (
    AuthenticationError,
    BufferTooShort,
    ProcessError,
    TimeoutError,
    assert_spawning,
    get_spawning_popen,
    set_spawning_popen,
)

from .. import _default

# As in `typing`, whose import is slow. Modules that are needed only to start a process or to make an
# object are imported then.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, ClassVar, Dict, Iterable, List, Mapping, Optional, Tuple

    from .. import _leasing
    from .. import devices as _devices
    from .._lock import Lock as _Lock
    from .connection import PipeConnection
    from .managers import SyncManager
    from .pool import Pool
    from .queues import JoinableQueue, Queue, SimpleQueue
    from .synchronize import Barrier, BoundedSemaphore, Condition, Event, Lock, RLock, Semaphore

# The standard library's start method. Not read through `multiprocessing`: a program may have replaced
# its functions by those of this module.
_setting: Any = _std._default_context

__all__ = [
    "AuthenticationError",
    "BaseContext",
    "BufferTooShort",
    "DefaultContext",
    "ForkContext",
    "ForkProcess",
    "ForkServerContext",
    "ForkServerProcess",
    "Process",
    "ProcessError",
    "SpawnContext",
    "SpawnProcess",
    "TimeoutError",
    "assert_spawning",
    "get_spawning_popen",
    "set_spawning_popen",
]


class _ShoalProcess(_std_process.BaseProcess):
    """What every Process of this module adds to the standard library's.

    Args:
        devices: the devices that the process sees: logical indices among the devices that this
            process sees (``[0, 2]`` or ``"0,2"``), or UUIDs; or a lease (`shoal.lease_devices`),
            which the process then holds until it ends. ``[]`` hides all devices, ``None`` leaves
            the environment unchanged.
        family: the family of the devices: ``"cuda"``, ``"rocm"``, ... (see `shoal.devices`). A lease
            knows its own.
    """

    # Class attributes, so that a subclass that does not call `super().__init__` fails as it would with the
    # standard library, and so that old pickles can be loaded.
    _shoal_devices: Optional[_devices.DevicesArgument] = None
    _shoal_family: str = "cuda"
    _shoal_environment: Optional[Dict[str, Optional[str]]] = None
    # Set while the process is being started: the lease that it is given.
    _shoal_lease: Optional[_leasing.Passed] = None

    def __init__(
        self,
        group: None = None,
        target: Optional[Callable[..., object]] = None,
        name: Optional[str] = None,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] = {},
        *,
        daemon: Optional[bool] = None,
        devices: Optional[_devices.DevicesArgument] = None,
        family: str = "cuda",
    ) -> None:
        super().__init__(group, target, name, args, kwargs, daemon=daemon)
        self._shoal_devices = devices
        self._shoal_family = family

    def start(self) -> None:
        """Starts the process.

        Raises `InvalidError` for a wrong device mask, and `pickle.PicklingError` for a target that was
        defined interactively and cannot be sent. Then no process was started.
        """
        method = getattr(self, "_start_method", None) or _setting.get_start_method()
        # A process that was started before has no target. The standard library refuses it below.
        if method != "fork" and "_target" in self.__dict__:
            from .._interactive import sendable

            self._target: Any = sendable(self._target)
        if self._shoal_devices is not None:
            from .. import _leasing
            from .. import devices as _devices

            worker = _leasing.worker_of(self._shoal_devices)
            family = self._shoal_family if worker is None else worker.lease.family
            self._shoal_environment = _devices.environment(self._shoal_devices, family=family)
            if worker is not None:
                self._shoal_lease = _leasing.Passed(worker.lease)
                # The child unpickles this object, and must not receive the lease as a mask.
                self._shoal_devices = None
            if method == "fork" and family == "cuda" and _cuda_is_initialised():
                import warnings

                warnings.warn(
                    "CUDA is initialised in this process: a forked child can neither use it "
                    "nor see another set of devices; use the spawn start method",
                    RuntimeWarning,
                    stacklevel=2,
                )
        try:
            super().start()
        finally:
            self._shoal_lease = None

    def _bootstrap(self, *args: Any, **kwargs: Any) -> int:
        # Runs in the child. A spawned child has the environment variables already.
        if self._shoal_lease is not None and self._shoal_lease.lease is not None:
            # A forked child does not pass its lease on to its own children.
            self._shoal_lease.lease._pass_to_forks(False)
        if self._shoal_environment:
            from .. import devices as _devices

            _devices._apply(self._shoal_environment)
        method = getattr(self, "_start_method", None) or _setting.get_start_method()
        code: int = 1
        try:
            code = super()._bootstrap(*args, **kwargs)  # type: ignore[misc]
        finally:
            if method != "spawn":
                from .. import _end

                # Unless a subclass runs code after this.
                is_last = type(self)._bootstrap is _ShoalProcess._bootstrap
                _end.of_child(code, is_last)
        return code


def _cuda_is_initialised() -> bool:
    torch = sys.modules.get("torch")
    try:
        return bool(torch is not None and torch.cuda.is_initialized())
    except AttributeError:
        return False


class Process(_ShoalProcess, _std.Process):
    """A process, with the start method that is in force when it is started."""

    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        return _default_context.get_context().Process._Popen(process_obj)


class ForkProcess(_ShoalProcess, _std.ForkProcess):
    """A process started by fork."""

    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        from .._popen import ForkPopen

        return ForkPopen(process_obj)


class SpawnProcess(_ShoalProcess, _std.SpawnProcess):
    """A process started as a new interpreter."""

    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        from .._popen_new import SpawnPopen

        return SpawnPopen(process_obj)


class ForkServerProcess(_ShoalProcess, _std.ForkServerProcess):
    """A process forked from a small server."""

    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        from .._popen_new import ForkServerPopen

        return ForkServerPopen(process_obj)


_std_reducer: Any = _std.BaseContext.__dict__["reducer"]


class BaseContext(_std.BaseContext):
    """The factories of `multiprocessing`. Objects that hold data are Shoal's."""

    Process: ClassVar[Any]

    @property
    def reducer(self) -> Any:
        """The standard library's property: how objects are pickled."""
        return _std_reducer.fget(self)

    @reducer.setter
    def reducer(self, reduction: Any) -> None:
        # Imported before the reducer is replaced. These modules use it in place of the module
        # `multiprocessing.reduction`, and an `AbstractReducer` lacks some of its functions. Arguments
        # of processes are pickled without the new reducer.
        from .._original import popen_forkserver, popen_spawn_posix, resource_sharer  # noqa: F401

        _std_reducer.fset(self, reduction)
        pickling: Any = sys.modules.get("shoal._pickling")
        if pickling is not None:
            pickling.discard_picklers()

    def Queue(self, maxsize: int = 0) -> "Queue[Any]":
        """A queue of Python objects: `shoal.multiprocessing.queues.Queue`."""
        # The module and not the class: `from .queues import Queue` would call the `__getattr__` of that module.
        from . import queues

        return queues.Queue(maxsize, ctx=self.get_context())

    def JoinableQueue(self, maxsize: int = 0) -> "JoinableQueue[Any]":
        """A queue with `task_done` and `join`."""
        from . import queues

        return queues.JoinableQueue(maxsize, ctx=self.get_context())

    def SimpleQueue(self) -> "SimpleQueue[Any]":
        """A queue with `get`, `put` and `empty` only."""
        from . import queues

        return queues.SimpleQueue(ctx=self.get_context())

    def Pipe(self, duplex: bool = True) -> "Tuple[PipeConnection, PipeConnection]":  # type: ignore[override]
        """Both ends of a pipe. Without ``duplex`` the first end receives and the second sends."""
        from . import connection

        return connection.Pipe(duplex)

    def Lock(self) -> "Lock":
        """A lock. If its owner dies, the next process gets it."""
        from . import synchronize

        # The standard library's queues, such as an executor's, protect the ends of a pipe by locks.
        caller = sys._getframe(1).f_globals.get("__name__")
        kind = synchronize.PipeLock if caller == "multiprocessing.queues" else synchronize.Lock
        return kind(ctx=self.get_context())

    def RLock(self) -> "RLock":
        """A lock that its thread may take again."""
        from . import synchronize

        return synchronize.RLock(ctx=self.get_context())

    def Condition(self, lock: "Optional[_Lock]" = None) -> "Condition":  # type: ignore[override]
        """A condition variable, with a new `RLock` if ``lock`` is None."""
        from . import synchronize

        return synchronize.Condition(lock, ctx=self.get_context())

    def Semaphore(self, value: int = 1) -> "Semaphore":
        """A semaphore. The permits of a killed process are released."""
        from . import synchronize

        return synchronize.Semaphore(value, ctx=self.get_context())

    def BoundedSemaphore(self, value: int = 1) -> "BoundedSemaphore":
        """A semaphore that never has more permits than ``value``."""
        from . import synchronize

        return synchronize.BoundedSemaphore(value, ctx=self.get_context())

    def Event(self) -> "Event":
        """A flag that processes wait for."""
        from . import synchronize

        return synchronize.Event(ctx=self.get_context())

    def Barrier(
        self,
        parties: int,
        action: Optional[Callable[[], object]] = None,
        timeout: Optional[float] = None,
    ) -> "Barrier":
        """A barrier. The death of a process that waits breaks it."""
        from . import synchronize

        return synchronize.Barrier(parties, action, timeout, ctx=self.get_context())

    def Value(self, typecode_or_type: Any, *args: Any, lock: Any = True) -> Any:
        """A shared value of a C type, and its lock."""
        from . import sharedctypes

        return sharedctypes.Value(typecode_or_type, *args, lock=lock, ctx=self.get_context())

    def Array(
        self, typecode_or_type: Any, size_or_initializer: Any, *, lock: Any = True
    ) -> Any:
        """A shared array of a C type, and its lock."""
        from . import sharedctypes

        return sharedctypes.Array(typecode_or_type, size_or_initializer, lock=lock, ctx=self.get_context())

    def Manager(self) -> "SyncManager":
        """A started manager: shared dictionaries, lists and more, without a server process."""
        from . import managers

        manager = managers.SyncManager(ctx=self.get_context())
        manager.start()
        return manager

    def Pool(
        self,
        processes: Optional[int] = None,
        initializer: Optional[Callable[..., object]] = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: Optional[int] = None,
        *,
        devices: Optional[_devices.DevicesArgument] = None,
        family: str = "cuda",
        pickler: Any = None,
    ) -> "Pool":
        """A pool that survives the death of a worker: `shoal.multiprocessing.pool.Pool`."""
        from . import pool

        return pool.Pool(
            processes,
            initializer,
            initargs,
            maxtasksperchild,
            context=self.get_context(),
            devices=devices,
            family=family,
            pickler=pickler,
        )

    def get_context(self, method: Optional[str] = None) -> Any:
        """The context of a start method. Without ``method``, this one."""
        if method is None:
            return self
        try:
            ctx = _concrete_contexts[method]
        except KeyError:
            raise ValueError(f"cannot find context for {method!r}") from None
        ctx._check_available()
        return ctx


class ForkContext(BaseContext, _std.ForkContext):
    """The context of the start method ``fork``."""

    _name = "fork"
    Process = ForkProcess


class SpawnContext(BaseContext, _std.SpawnContext):
    """The context of the start method ``spawn``."""

    _name = "spawn"
    Process = SpawnProcess


class ForkServerContext(BaseContext, _std.ForkServerContext):
    """The context of the start method ``forkserver``."""

    _name = "forkserver"
    Process = ForkServerProcess

    def _check_available(self) -> None:
        _setting.get_context("forkserver")


class DefaultContext(BaseContext, _std.DefaultContext):
    """The context of the start method in force, which this module shares with the standard library."""

    Process = Process

    def __init__(self) -> None:
        """Does nothing: the state is the standard library's."""

    def get_context(self, method: Optional[str] = None) -> Any:
        return super().get_context(method or _setting.get_start_method())

    def set_start_method(self, method: Optional[str], force: bool = False) -> None:
        """Sets the start method here and in `multiprocessing`. `RuntimeError` if it is set already,
        unless ``force`` is true."""
        _setting.set_start_method(method, force)

    def get_start_method(self, allow_none: bool = False) -> Any:
        """The start method in force. It is chosen now, unless ``allow_none`` is true."""
        return _setting.get_start_method(allow_none)

    def get_all_start_methods(self) -> List[str]:
        """The start methods of this platform, the default first."""
        methods: List[str] = _setting.get_all_start_methods()
        return methods


_concrete_contexts: Dict[str, BaseContext] = {
    "fork": ForkContext(),
    "spawn": SpawnContext(),
    "forkserver": ForkServerContext(),
}
_default_context = _default.context = DefaultContext()


def __getattr__(name: str) -> Any:
    return getattr(_std, name)
