"""`multiprocessing`, with its data in shared memory::

    import shoal.multiprocessing as mp      # instead of: import multiprocessing as mp

Processes are started by the standard library's own machinery, so start methods and `Process` behave
as in the standard library. Differences:

==========================================  ===================================================
``Process``                                 and ``devices=``, ``family=``: the child's device mask
``Queue``, ``SimpleQueue``,                 shared memory, no feeder thread; see `.queues`
``JoinableQueue``
``Pipe``, ``connection.wait``               shared memory, whole messages; see `.connection`
``Lock``, ``RLock``, ``Semaphore``,          shared memory, released when their owner dies;
``BoundedSemaphore``, ``Event``,            see `.synchronize`
``Condition``, ``Barrier``
``Value``, ``Array``                        shared memory, with such a lock; see `.sharedctypes`
``Manager()``                               dictionaries, lists, namespaces, locks ... without a
                                            server process; see `.managers`
``Pool``                                    survives its workers, and ``devices=``; see `.pool`
``set_start_method``, ``get_context`` ...   the standard library's setting, shared with it
==========================================  ===================================================

Everything else **is** the standard library's: ``RawValue`` and ``RawArray`` (plain memory),
``Client`` and ``Listener`` (sockets), ``ThreadPool`` and ``dummy`` (threads), ``shared_memory``,
objects of a manager that need a server, and the internals ``forkserver``, ``heap``, ``popen_*``,
``process``, ``resource_sharer``, ``resource_tracker``, ``spawn``, ``util`` and ``reduction``, except
``send_handle`` and ``recv_handle``, which take the pipes of this module, too. Contexts of this module
work with `concurrent.futures.ProcessPoolExecutor` and the standard library's own ``Pool``.
``MULTIPROCESSING.md`` beside the package's README lists all differences.
"""

from __future__ import annotations

from multiprocessing import active_children, cpu_count, current_process, parent_process

# Imported now, while the name is sure to be the standard library's.
from .._original import _package as _std
from . import context
from .context import (
    AuthenticationError,
    BufferTooShort,
    Process,
    ProcessError,
    TimeoutError,
    _default_context,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any as _Any

    from ..devices import set_visible_devices
    from . import connection as connection
    from .._install import Installation
    from . import managers as managers
    from . import pool as pool
    from . import queues as queues
    from . import sharedctypes as sharedctypes
    from . import synchronize as synchronize
del TYPE_CHECKING

# Where ``python -m shoal.multiprocessing`` finds ``__main__``. Not in this folder, whose files are those
# of the standard library's package: its own tests check that.
__path__.append(f"{__path__[0]}/program")

Array = _default_context.Array
Barrier = _default_context.Barrier
BoundedSemaphore = _default_context.BoundedSemaphore
Condition = _default_context.Condition
Event = _default_context.Event
JoinableQueue = _default_context.JoinableQueue
Lock = _default_context.Lock
Manager = _default_context.Manager
Pipe = _default_context.Pipe
Pool = _default_context.Pool
Queue = _default_context.Queue
RLock = _default_context.RLock
RawArray = _default_context.RawArray
RawValue = _default_context.RawValue
Semaphore = _default_context.Semaphore
SimpleQueue = _default_context.SimpleQueue
Value = _default_context.Value
allow_connection_pickling = _default_context.allow_connection_pickling
freeze_support = _default_context.freeze_support
get_all_start_methods = _default_context.get_all_start_methods
get_context = _default_context.get_context
get_logger = _default_context.get_logger
get_start_method = _default_context.get_start_method
log_to_stderr = _default_context.log_to_stderr
set_executable = _default_context.set_executable
set_forkserver_preload = _default_context.set_forkserver_preload
set_start_method = _default_context.set_start_method



def install() -> "Installation":
    """Makes the standard library's `multiprocessing` create this module's objects, for libraries and
    programs that import that package themselves::

        shoal.multiprocessing.install()         # before or after they are imported
        with shoal.multiprocessing.install():   # until the end of the block
            library.run()

    Queues, pipes, locks, values, arrays, managers and pools that are made from now on are Shoal's,
    whichever name and context makes them, and also in children of every start method. Objects that
    exist already do not change, nor do classes that a library has derived from the standard
    library's. What a killed child leaves in shared memory is removed, as for this module's processes.

    May be called several times; it is in force until each call has been undone. It applies to all
    threads, whichever of them calls it.
    """
    from .._install import install

    return install()


def uninstall() -> None:
    """Undoes one `install`; does nothing if there is none. Objects that were made do not change."""
    from .._install import uninstall

    uninstall()


__all__ = [
    "Array",
    "AuthenticationError",
    "Barrier",
    "BoundedSemaphore",
    "BufferTooShort",
    "Condition",
    "Event",
    "JoinableQueue",
    "Lock",
    "Manager",
    "Pipe",
    "Pool",
    "Process",
    "ProcessError",
    "Queue",
    "RLock",
    "RawArray",
    "RawValue",
    "Semaphore",
    "SimpleQueue",
    "TimeoutError",
    "Value",
    "active_children",
    "allow_connection_pickling",
    "context",
    "cpu_count",
    "current_process",
    "freeze_support",
    "get_all_start_methods",
    "get_context",
    "get_logger",
    "get_start_method",
    "install",
    "log_to_stderr",
    "parent_process",
    "reducer",
    "set_executable",
    "set_forkserver_preload",
    "set_start_method",
    "set_visible_devices",
    "uninstall",
]


_REPLACED = "connection managers pool queues reduction sharedctypes synchronize".split()


def __getattr__(name: str) -> "_Any":
    if name in _REPLACED:
        from importlib import import_module

        return import_module(f"{__name__}.{name}")
    if name == "set_visible_devices":
        from ..devices import set_visible_devices

        return set_visible_devices
    # ``reducer``, which a program may set on the standard module, and names that are rarely used.
    return getattr(_std, name)
