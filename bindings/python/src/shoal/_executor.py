"""The workers of `shoal.futures.ProcessPoolExecutor`. The messages are those of pools' workers."""

from __future__ import annotations

import signal
from concurrent.futures import _base, process
from multiprocessing import parent_process
from traceback import format_exception
from typing import Any, Callable, Dict, Iterable, List, Optional, Tuple

from . import _queue, _worker
from ._errors import ClosedError, Empty, ShoalError
from ._pickling import dumps

# Typed as Any, because the stubs of type checkers lack the private names.
_std: Any = process

# Two more kinds of message among the results: a worker announces that it ends normally, and the
# thread that watches the workers reports that a worker has ended.
LEAVING, GONE = 4, 5


def work(
    number: int,
    calls: "_queue.Queue[Any]",
    results: "_queue.Queue[Any]",
    limit: int,
    initializer: Optional[Callable[..., object]],
    initargs: Iterable[Any],
    max_tasks: Optional[int],
) -> None:
    """Runs calls until the queue is closed, the executor's process has ended, or ``max_tasks`` are done."""
    if initializer is not None:
        try:
            initializer(*initargs)
        except BaseException:
            _base.LOGGER.critical("Exception in initializer:", exc_info=True)
            # The executor sees that this process ended without an announcement.
            return
    parent = parent_process()

    def is_wanted() -> bool:
        return parent is None or parent.is_alive()

    functions: Dict[bytes, Any] = {}
    done = 0
    try:
        while max_tasks is None or done < max_tasks:
            try:
                call = calls.get_bytes(timeout=_worker.CHECK_SECONDS)
            except Empty:
                if is_wanted():
                    continue
                return
            except ClosedError:
                break
            head = (_worker.TASK.unpack_from(call)[0], 0, number)
            result = _answer(head, call, functions)
            try:
                _worker.put_throttled(results, result, limit, is_wanted)
            except ShoalError as error:
                # Most likely the result is too large for shared memory. The error is small.
                results.put_bytes(_failure(head, error))
            # Frees the call and its result before the wait for the next call.
            del call, result
            done += 1
    except KeyboardInterrupt:
        # Ctrl-C reaches the whole process group. A traceback from each worker would not help.
        raise SystemExit(128 + signal.SIGINT) from None
    results.put_bytes(_worker.RESULT.pack(0, 0, number, LEAVING))


def _answer(head: Tuple[int, int, int], call: bytes, functions: Dict[bytes, Any]) -> bytes:
    """Runs a call and returns the message with its result. A call that cannot be unpickled ends the
    worker and breaks the executor, as with the original."""
    _, _, _, length = _worker.TASK.unpack_from(call)
    function, (args, kwargs) = _worker.unpack(call, length, functions)
    try:
        value = function(*args, **kwargs)
    except BaseException as error:
        return _failure(head, error)
    try:
        return _worker.RESULT.pack(*head, _worker.RETURNED) + dumps(value)
    except BaseException as error:
        return _failure(head, error)


def _failure(head: Tuple[int, int, int], error: BaseException) -> bytes:
    wrapped = _std._ExceptionWithTraceback(error, error.__traceback__)
    header = _worker.RESULT.pack(*head, _worker.RAISED)
    try:
        return header + dumps(wrapped)
    except BaseException as other:
        return header + dumps(_std._ExceptionWithTraceback(other, other.__traceback__))


def run_chunk(fn: Callable[..., Any], chunk: List[Tuple[Any, ...]]) -> List[Any]:
    """Runs the calls of one message of `ProcessPoolExecutor.map`."""
    return [fn(*args) for args in chunk]


def add_cause(error: BaseException) -> None:
    """Keeps the text of a traceback as the cause of its exception, as the original does."""
    trace = "".join(format_exception(type(error), error, error.__traceback__))
    error.__cause__ = _std._RemoteTraceback(f'\n"""\n{trace}"""')
