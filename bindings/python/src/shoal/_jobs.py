"""The jobs of a pool: their tasks, and the results that are not complete."""

from __future__ import annotations

import functools
import itertools
import threading
from typing import Any, Dict, Iterable, Iterator

from . import _ffi
from ._original import pool as _std
from ._result_waits import ResultCondition, ResultEvent


class Tasks:
    """The tasks of a job, made without running Python code for each. An exception of the iterable is raised by the
    iteration."""

    def __init__(self, job: int, function: Any, iterable: Iterable[Any]) -> None:
        self.job = job
        # `chain` calls `__iter__` of the iterable with the first task, and not here, in the program's thread.
        numbers, arguments = itertools.count(), zip(itertools.chain.from_iterable((iterable,)))
        self._all: Iterator[Any] = zip(
            itertools.repeat(job), numbers, itertools.repeat(function), arguments, itertools.repeat({})
        )

    def __iter__(self) -> Iterator[Any]:
        return self._all


class Cache(Dict[int, Any]):
    """The results that are not complete, by job. Wakes the supervising thread when the last one of a
    closed pool is removed."""

    def __init__(self, engine: Any) -> None:
        super().__init__()
        self._engine = engine
        # Its attribute ``job``: the newest job of the calling thread.
        self.newest = threading.local()

    def __setitem__(self, job: int, result: Any) -> None:
        self.newest.job = job
        # No thread waits for the result yet, so its event or condition can be replaced.
        if isinstance(result, _std.IMapIterator):
            result._cond = ResultCondition(result)
        else:
            result._event = ResultEvent()
        super().__setitem__(job, result)

    def __delitem__(self, job: int) -> None:
        super().__delitem__(job)
        if not self and self._engine.state != _std.RUN:
            self._engine.wakeup.put()


def submits(name: str) -> Any:
    """A method of the original that registers a job and then hands it over. If it raises after the first step, for
    a wrong ``chunksize`` or by a signal handler, the job is dropped: `join` waits for every registered job."""
    original = getattr(_std.Pool, name)
    names = original.__code__.co_varnames
    # After `self`. Not every method has it.
    at = names.index("chunksize") - 1 if "chunksize" in names else len(names)

    @functools.wraps(original)
    def submit(self: Any, *args: Any, **kwds: Any) -> Any:
        chunksize = args[at] if len(args) > at else kwds.get("chunksize")
        if chunksize is not None:
            _ffi.whole(chunksize, "chunksize")
        newest = self._cache.newest
        before, newest.job = getattr(newest, "job", None), None
        try:
            return original(self, *args, **kwds)
        except BaseException:
            if newest.job is not None:
                self._engine.drop(newest.job)
            raise
        finally:
            # A signal handler may submit a job while another one is being submitted.
            newest.job = before

    return submit
