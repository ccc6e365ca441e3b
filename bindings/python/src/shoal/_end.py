"""The end of this process: when and how it detaches from its objects.

Objects can be used for as long as those of the standard library: in `atexit` callbacks, finalizers,
``__del__`` of globals and daemon threads. So the process detaches as late as possible.

- A program, a spawned child, and a process that called `os.fork` itself end through the exit handlers
  of C. There the native library detaches, after the interpreter has ended.
- A child of ``fork`` or of a fork server ends by `os._exit`, which runs no such handler. A `Process`
  of `shoal.multiprocessing` calls `of_child` last. A `Process` of the standard library cannot: there
  `leave` is the last of `multiprocessing`'s finalizers. Python 3.13 and later run these in the `atexit`
  callback that was registered first, which is called last.
"""

from __future__ import annotations

import atexit
import sys
import threading
from multiprocessing import get_start_method
from multiprocessing.process import current_process, parent_process

from . import _ffi

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, List

# Whether a child runs `atexit` callbacks before it ends by `os._exit`.
_CHILD_RUNS_ATEXIT = sys.version_info >= (3, 13)


def _objects() -> "List[Any]":
    """The objects of this process. Does not import their module if the process never had any."""
    handles: Any = sys.modules.get(f"{__package__}._handles")
    return handles.all_objects() if handles else []


def _before_release() -> None:
    """Calls `Handle.before_release` for each object: this process ends normally and is not killed."""
    for shared in _objects():
        handle = shared._handle
        if handle is not None and type(handle).before_release is not None:
            type(handle).before_release(handle)


def _release_holds() -> None:
    """Releases what this process keeps alive for other processes."""
    handles: Any = sys.modules.get(f"{__package__}._handles")
    for hold in list(handles._holds) if handles else []:
        hold.release()


def leave() -> None:
    """Detaches from every object. No object may be used afterwards."""
    _before_release()
    _release_holds()
    if not _has_other_threads():
        for shared in _objects():
            shared._forget()
    # With other threads the handles stay: otherwise a daemon thread that waits in a call would return from it
    # with an error. Locks that a thread holds go to the next process once this one has ended.
    _ffi.lib.shoal_leave()


def of_child(code: int, may_exit: bool) -> None:
    """The end of a child of ``fork`` or of a fork server, which calls `os._exit` next.

    If there are other threads (all are daemons) and it ``may_exit``, this function ends the process
    and does not return: no thread may return from a call and find its object detached.
    """
    if _CHILD_RUNS_ATEXIT:
        # The standard library does this next. It is done here so that the program's callbacks run first.
        atexit._run_exitfuncs()
    if may_exit and _has_other_threads():
        _before_release()
        _release_holds()
        _leave_and_exit(code & 0xFF)
    leave()


_leave_and_exit = _ffi.never_waits("shoal_leave_and_exit")


def _has_other_threads() -> bool:
    return len(sys._current_frames()) > 1


def _leave_after_threads() -> None:
    # `multiprocessing` has called this, or calls it next. A second call does nothing.
    threading._shutdown()  # type: ignore[attr-defined]
    leave()


def _watch(_: object = None) -> None:
    """Registers what this process does at its end."""
    process: Any = current_process()
    from ._original import util

    if parent_process() is None or "spawn" == (process._start_method or get_start_method()):
        # After its children have ended: they may not have fetched yet what is held for them.
        util.Finalize(None, _release_holds, exitpriority=-sys.maxsize)
    elif not hasattr(process, "_shoal_family"):
        # A `Process` of `shoal.multiprocessing` calls `of_child` itself.
        util.Finalize(None, _leave_after_threads, exitpriority=-sys.maxsize)


class _Sentinel:
    """`register_after_fork` needs an object that it can refer to weakly."""


_sentinel = _Sentinel()

# Registered at import, so that it runs after the program's own `atexit` callbacks. Objects that are made
# after it has run call `before_release` when their handle is freed.
atexit.register(_before_release)


def begin() -> None:
    """Called once, before this process makes its first object."""
    from ._original import util

    _watch()
    # In a forked child, multiprocessing drops its finalizers and then calls `_watch`.
    util.register_after_fork(_sentinel, _watch)
