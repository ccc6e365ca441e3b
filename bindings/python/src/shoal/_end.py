"""The end of this process: what becomes of its objects then, and when.

They can be used for as long as the standard library's: in `atexit` callbacks, finalizers,
``__del__`` of globals and daemon threads. So they are given up as late as can be.

- A program, a child that was spawned, and any process that forked by itself end through the exit
  handlers of C. There the native library gives up what is left, when all of Python is over.
- A child of ``fork`` or of a fork server ends by `os._exit`, which runs no such handler. Here
  `of_child` is the last that its `Process` of `shoal.multiprocessing` does. A `Process` of the
  standard library has no such place: Python 3.13 and later run `atexit` callbacks, of which this
  is the last; before, it is the last of `multiprocessing`'s finalizers.
"""

from __future__ import annotations

import atexit
import sys
import threading
import time
from multiprocessing import get_start_method
from multiprocessing.process import current_process, parent_process

from . import _ffi

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, List

# Whether a child runs `atexit` callbacks before it leaves by `os._exit`.
_CHILD_RUNS_ATEXIT = sys.version_info >= (3, 13)


def _objects() -> "List[Any]":
    """The objects that this process has; not even their module if it never had one."""
    handles: Any = sys.modules.get(f"{__package__}._handles")
    return list(handles._everything.values()) if handles else []


def settle() -> None:
    """Does what is to be done with objects before a process ends by itself, and is not killed."""
    for shared in _objects():
        handle = shared._handle
        if handle is not None and type(handle).settle is not None:
            type(handle).settle(handle)


def deliver() -> None:
    """Waits a moment until others know of what this process has put.

    A program that waits for a queue's descriptor and for the end of this process takes the end for
    a death if the descriptor tells nothing yet. A thread makes the one readable, of the program or of this
    process, and the kernel the other: so this process makes way for the thread.
    """
    tries = _TRIES
    for shared in _objects():
        is_seen = getattr(shared, "_is_seen", None)
        while is_seen is not None and not is_seen() and tries:
            time.sleep(0.001)
            tries -= 1


# A tenth of a second. On a machine so busy that the thread waits for a core, each takes longer, too.
_TRIES = 100


def _let_go() -> None:
    """Gives up what is held for other processes, which would outlive this one's objects."""
    handles: Any = sys.modules.get(f"{__package__}._handles")
    for hold in list(handles._holds) if handles else []:
        hold.release()


def leave() -> None:
    """Gives up every object, the last of all that is done with any."""
    deliver()
    settle()
    _let_go()
    if not _has_other_threads():
        for shared in _objects():
            shared._forget()
    # Otherwise the handles stay: a daemon thread that waits through one would come back from its call, and
    # say that the object is closed. What a thread has locked is handed on when the process has ended.
    _ffi.lib.shoal_leave()


def of_child(code: int, may_exit: bool) -> None:
    """The end of a child of ``fork`` or of a fork server, which leaves by `os._exit` next.

    With other threads there, all of them daemons, it does not return if it ``may_exit``: none of
    them may come back from a call and find its object given up.
    """
    if _CHILD_RUNS_ATEXIT:
        # As the standard library does next, so that all of the program's are over.
        atexit._run_exitfuncs()
    if may_exit and _has_other_threads():
        deliver()
        settle()
        _let_go()
        _leave_and_exit(code & 0xFF)
    leave()


_leave_and_exit = _ffi.never_waits("shoal_leave_and_exit")


def _has_other_threads() -> bool:
    return len(sys._current_frames()) > 1


def _leave_after_threads() -> None:
    # What `multiprocessing` does next, and for a second time then does not.
    threading._shutdown()  # type: ignore[attr-defined]
    leave()


def _watch(_: object = None) -> None:
    """Has this process do at its end what has to be done in time for that."""
    process: Any = current_process()
    is_child = parent_process() is not None
    # Otherwise it comes to `of_child`, or to `deliver` if it was spawned.
    is_of_the_original = not hasattr(process, "_shoal_family")
    from ._original import util

    if not is_child or "spawn" == (process._start_method or get_start_method()):
        # When its children are over, which may not have fetched yet what is held for them.
        util.Finalize(None, _let_go, exitpriority=-sys.maxsize)
        if is_child and is_of_the_original:
            util.Finalize(None, deliver, exitpriority=-sys.maxsize)
    elif not is_of_the_original:
        pass
    elif _CHILD_RUNS_ATEXIT:
        atexit.register(leave)
    else:
        util.Finalize(None, _leave_after_threads, exitpriority=-sys.maxsize)


class _Sentinel:
    """Something for `register_after_fork` to hang the registration on."""


_sentinel = _Sentinel()

# For a process that ends by itself; nothing that it does later can be foreseen here, but for what
# a handle does when it goes. Now, so that it is the last of `atexit`'s callbacks.
atexit.register(settle)


def begin() -> None:
    """From now on this process may have objects."""
    from ._original import util

    _watch()
    # multiprocessing forgets its finalizers in a forked child, then runs these.
    util.register_after_fork(_sentinel, _watch)
