"""`install`: the standard library's `multiprocessing` makes Shoal's objects.

No names of other modules are exchanged, since a library may have imported them long ago. The standard
library's own classes turn what they make into ours::

    multiprocessing.Queue(), from multiprocessing import Queue, get_context("spawn").Queue(),
    multiprocessing.queues.Queue(ctx=...)
                 |  all of them come to
    multiprocessing.queues.Queue.__init__ --> class of the object: shoal.multiprocessing.queues.Queue

So each class stays what it is, for `isinstance`, for pickling and for classes that are derived from
it, and to undo it is to put the functions back. A class that is *derived* from one of them keeps
what it inherits, the standard library's: `ThreadPool`, the queue of `concurrent.futures`, a manager
with types of its own.

A spawned child gets it with its preparations (`spawn.get_preparation_data`), before it imports the
main module; its children get it from it.
"""

from __future__ import annotations

import functools
import sys
import threading
import types
from typing import Any, Callable, List, Tuple

from . import _hot
from ._original import connection as _connection
from ._original import context as _context
from ._original import managers as _managers
from ._original import pool as _pool
from ._original import queues as _queues
from ._original import sharedctypes as _sharedctypes
from ._original import spawn as _spawn
from ._original import synchronize as _synchronize

_lock = threading.RLock()
# How many installations are in force, and what undoes the first.
_count = 0
_undo: List[Callable[[], None]] = []


class Installation:
    """What `install` returns: undone at the end of a ``with`` block, or by `uninstall`."""

    _is_undone = False

    def uninstall(self) -> None:
        """Undoes this installation, once; the others stay in force."""
        if not self._is_undone:
            self._is_undone = True
            uninstall()

    def __enter__(self) -> "Installation":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.uninstall()


def install() -> Installation:
    """See `shoal.multiprocessing.install`."""
    global _count
    if _hot.backend == "compiled":
        # A compiled base gives objects another layout, so the class of one cannot be changed.
        raise RuntimeError(
            "install() works with ctypes only: unset SHOAL_COMPILED in the environment"
        )
    with _lock:
        if _count == 0:
            _put_in_place()
        _count += 1
    return Installation()


def uninstall() -> None:
    """See `shoal.multiprocessing.uninstall`."""
    global _count
    with _lock:
        if _count == 1:
            while _undo:
                _undo.pop()()
        _count = max(0, _count - 1)


def _put_in_place() -> None:
    from . import _popen, _popen_new
    from .multiprocessing import connection, managers, pool, queues, sharedctypes, synchronize

    try:
        # What the standard library makes for itself, of what no program sees, stays a pipe of
        # the kernel's.
        kept = types.ModuleType(_connection.__name__, _connection.__doc__)
        kept.__dict__.update(_connection.__dict__)
        for user in (_queues, _managers):
            _replace(user, "connection", kept)
        for original, ours, names in (
            (_queues, queues, "Queue JoinableQueue SimpleQueue"),
            (
                _synchronize,
                synchronize,
                "Lock RLock Semaphore BoundedSemaphore Condition Event Barrier",
            ),
            (_managers, managers, "SyncManager"),
            (_pool, pool, "Pool"),
        ):
            for name in names.split():
                _convert(getattr(original, name), getattr(ours, name))
        for original, ours, names in (
            (_connection, connection, "Pipe wait"),
            (_sharedctypes, sharedctypes, "Value Array"),
        ):
            for name in names.split():
                _replace(original, name, getattr(ours, name))
        for kind, popen in (
            (_context.ForkProcess, _popen.ForkPopen),
            (_context.SpawnProcess, _popen_new.SpawnPopen),
            (_context.ForkServerProcess, _popen_new.ForkServerPopen),
        ):
            _replace(kind, "_Popen", staticmethod(popen))
        _replace(_spawn, "get_preparation_data", _preparing(_spawn.get_preparation_data))
    except BaseException:
        while _undo:
            _undo.pop()()
        raise


def _replace(owner: Any, name: str, value: Any) -> None:
    if name in owner.__dict__:
        before = owner.__dict__[name]
        _undo.append(lambda: setattr(owner, name, before))
    else:
        _undo.append(lambda: delattr(owner, name))
    setattr(owner, name, value)


def _convert(original: Any, ours: Any) -> None:
    """Objects of the class ``original`` become ours when they are made.

    Those that a queue of the standard library's needs for its pipe are of their own class. Not by
    ``__new__``: a class that once had one of its own cannot be made as it was.
    """
    from .multiprocessing import synchronize

    initialise = original.__init__

    @functools.wraps(initialise)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        if type(self) is original:
            kind = ours
            if original is _synchronize.Lock and _is_asked_by_a_queue(sys._getframe(1)):
                kind = synchronize.PipeLock
            self.__class__ = kind
            kind.__init__(self, *args, **kwargs)
        else:
            initialise(self, *args, **kwargs)

    _replace(original, "__init__", __init__)


def _is_asked_by_a_queue(frame: Any) -> bool:
    """Whether a context makes this for a queue of the standard library's, which is a pipe."""
    return frame.f_back is not None and frame.f_back.f_globals is _queues.__dict__


def _preparing(original: Any) -> Any:
    def get_preparation_data(name: str) -> Any:
        data = original(name)
        data["shoal"] = _InChild(data["sys_path"])
        return data

    return get_preparation_data


class _InChild:
    """Installs in the process that unpickles it.

    That is before the child has the path to find Shoal on: so it is told here, and the way in is
    an expression of builtins.
    """

    def __init__(self, path: List[str]) -> None:
        self._path = path

    def __reduce__(self) -> Tuple[Any, Any]:
        expression = (
            f"(setattr(__import__('sys'), 'path', {self._path!r}), "
            f"__import__({__name__!r}, fromlist=['install']).install())[0]"
        )
        return eval, (expression,)
