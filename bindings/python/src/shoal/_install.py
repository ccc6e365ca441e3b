"""`install`: the standard library's `multiprocessing` makes Shoal's objects.

Classes of other modules are not replaced, because a library may have imported them before. Instead the
standard library's own classes make Shoal's objects::

    multiprocessing.Queue(), from multiprocessing import Queue, get_context("spawn").Queue(),
    multiprocessing.queues.Queue(ctx=...)
                 |  all of them call
    multiprocessing.queues.Queue.__new__ --> an object of shoal.multiprocessing.queues.Queue

So each class keeps its identity for `isinstance`, for pickling and for derived classes, and
`uninstall` only restores functions. A class that is *derived* from one of them behaves as before:
`ThreadPool`, the queue of `concurrent.futures`, a manager with types of its own.

A spawned child installs when it unpickles its preparation data (`spawn.get_preparation_data`), before
it imports the main module. Its own children do so in turn.
"""

from __future__ import annotations

import functools
import sys
import threading
import types
from importlib import import_module
from typing import Any, Callable, List, Tuple

from ._original import connection as _connection
from ._original import context as _context
from ._original import managers as _managers
from ._original import pool as _pool
from ._original import queues as _queues
from ._original import sharedctypes as _sharedctypes
from ._original import spawn as _spawn
from ._original import synchronize as _synchronize

_lock = threading.RLock()
# The number of installations in force, and the functions that undo them.
_count = 0
_undo: List[Callable[[], None]] = []


class Installation:
    """What `install` returns: undone at the end of a ``with`` block, or by `uninstall`."""

    _is_undone = False
    # How many ``with`` blocks of this object are open.
    _blocks = 0

    def uninstall(self) -> None:
        """Undoes this installation, once; the others stay in force."""
        with _lock:
            if not self._is_undone:
                self._is_undone = True
                uninstall()

    def __enter__(self) -> "Installation":
        with _lock:
            if self._is_undone:
                install()
                self._is_undone = False
            self._blocks += 1
        return self

    def __exit__(self, *exc_info: object) -> None:
        with _lock:
            self._blocks -= 1
            if self._blocks == 0:
                self.uninstall()


def install() -> Installation:
    """See `shoal.multiprocessing.install`."""
    global _count
    with _lock:
        if _count == 0:
            _install()
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


def _install() -> None:
    from .multiprocessing import context

    try:
        # Pipes that the standard library uses internally stay pipes of the kernel.
        originals = types.ModuleType(_connection.__name__, _connection.__doc__)
        originals.__dict__.update(_connection.__dict__)
        for user in (_queues, _managers):
            _replace(user, "connection", originals)
        for original, names in (
            (_queues, "Queue JoinableQueue SimpleQueue"),
            (_synchronize, "Lock RLock Semaphore BoundedSemaphore Condition Event Barrier"),
            (_managers, "SyncManager"),
            (_pool, "Pool"),
        ):
            for name in names.split():
                _convert(getattr(original, name), name)
        for original, names in ((_connection, "Pipe wait"), (_sharedctypes, "Value Array")):
            for name in names.split():
                _replace(original, name, _function(getattr(original, name)))
        for kind in (context.ForkProcess, context.SpawnProcess, context.ForkServerProcess):
            _replace(getattr(_context, kind.__name__), "_Popen", staticmethod(kind._Popen))
        _replace(_spawn, "get_preparation_data", _preparing(_spawn.get_preparation_data))
    except BaseException:
        while _undo:
            _undo.pop()()
        raise


def _ours(original: Any, name: str) -> Any:
    """The object of this package that has the name in the place of ``original``.

    Its module is imported on first use, because the import of all of them takes longer than the start of a child,
    and most children need few.
    """
    return getattr(import_module(f"{__package__}.{original.__module__}"), name)


def _function(original: Any) -> Any:
    """A function that calls ours."""

    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        return _ours(original, original.__name__)(*args, **kwargs)

    return call


def _replace(owner: Any, name: str, value: Any) -> None:
    if name in owner.__dict__:
        before = owner.__dict__[name]
        _undo.append(lambda: setattr(owner, name, before))
    else:
        _undo.append(lambda: delattr(owner, name))
    setattr(owner, name, value)


def _convert(original: Any, name: str) -> None:
    """Makes a call of the class ``original`` create an object of ours, which is derived from it.

    Unpickling an object of the original class also calls ``__new__``, but without the required
    arguments of the constructor. Then an object of the original class is made.
    """
    if "__new__" not in original.__dict__:
        # Never undone: once a class has had a ``__new__`` in Python, removing it does not restore the
        # former behaviour, because `object.__new__` then refuses the arguments of the constructor.
        setattr(original, "__new__", staticmethod(_new(original)))
    plain = original.__new__
    code, defaults = original.__init__.__code__, original.__init__.__kwdefaults__ or {}
    end = code.co_argcount + code.co_kwonlyargcount
    required = set(code.co_varnames[code.co_argcount : end]) - defaults.keys()

    def __new__(cls: Any, *args: Any, **kwargs: Any) -> Any:
        if cls is not original or not required <= kwargs.keys():
            return plain(cls, *args, **kwargs)
        ours = name
        if original is _synchronize.Lock and _is_called_by_a_queue(sys._getframe(1)):
            ours = "PipeLock"
        kind = _ours(original, ours)
        return kind.__new__(kind)

    __new__.__wrapped__ = original.__init__  # type: ignore[attr-defined]
    _replace(original, "__new__", staticmethod(__new__))


def _new(original: Any) -> Callable[..., Any]:
    """A ``__new__`` that behaves as if the class had none."""

    def __new__(cls: Any, *args: Any, **kwargs: Any) -> Any:
        new = super(original, cls).__new__
        return new(cls) if new is object.__new__ else new(cls, *args, **kwargs)

    # So that `inspect` shows the signature of the constructor.
    __new__.__wrapped__ = original.__init__  # type: ignore[attr-defined]
    return __new__


def _is_called_by_a_queue(frame: Any) -> bool:
    """Whether a context makes a lock for a queue of the standard library, which is a pipe."""
    return frame.f_back is not None and frame.f_back.f_globals is _queues.__dict__


def _preparing(original: Any) -> Any:
    def get_preparation_data(name: str) -> Any:
        data = original(name)
        data["shoal"] = _InChild(data["sys_path"])
        return data

    return get_preparation_data


class _InChild:
    """Calls `install` in the process that unpickles it.

    At that time the child does not have its parent's ``sys.path`` yet. So the path is set here, by an
    expression of builtins, which needs no import.
    """

    def __init__(self, path: List[str]) -> None:
        self._path = path

    def __reduce__(self) -> Tuple[Any, Any]:
        expression = (
            f"(setattr(__import__('sys'), 'path', {self._path!r}), "
            f"__import__({__name__!r}, fromlist=['install']).install())[0]"
        )
        return eval, (expression,)
