"""The workers of `shoal.futures.ProcessPoolExecutor`. The messages are those of pools' workers."""

from __future__ import annotations

import signal
from concurrent.futures import _base, process
from multiprocessing import parent_process
from typing import Any, Callable, Dict, Iterable, List, Optional, Tuple

from . import _queue, _worker
from ._errors import ClosedError, Empty, ShoalError
from ._pickling import dumps

# The type checkers' library knows only what is documented.
_std: Any = process

# What is told besides results: a worker, that it ends as it should; and the thread that watches
# the workers, that one has ended.
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
    """What a worker does."""
    if initializer is not None:
        try:
            initializer(*initargs)
        except BaseException:
            _base.LOGGER.critical("Exception in initializer:", exc_info=True)
            # The executor notices that this process ended unasked.
            return
    parent = parent_process()

    def is_wanted() -> bool:
        return parent is None or parent.is_alive()

    functions: Dict[bytes, Any] = {}
    done = 0
    try:
        while max_tasks is None or done < max_tasks:
            try:
                call = calls.get_bytes(timeout=_worker.LOOK_SECONDS)
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
                # Too large for shared memory, most likely. To tell so there may be room.
                results.put_bytes(_failure(head, error))
            # What a call came with is not kept until the next.
            del call, result
            done += 1
    except KeyboardInterrupt:
        # The whole group was interrupted. A traceback from each worker would not help.
        raise SystemExit(128 + signal.SIGINT) from None
    results.put_bytes(_worker.RESULT.pack(0, 0, number, LEAVING))


def _answer(head: Tuple[int, int, int], call: bytes, functions: Dict[bytes, Any]) -> bytes:
    """Runs a call; the message that tells its result. What cannot be unpickled ends the worker, and
    so breaks the executor, as it does the original."""
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
    told = _std._ExceptionWithTraceback(error, error.__traceback__)
    head_of_it = _worker.RESULT.pack(*head, _worker.RAISED)
    try:
        return head_of_it + dumps(told)
    except BaseException as other:
        return head_of_it + dumps(_std._ExceptionWithTraceback(other, other.__traceback__))


def run_chunk(fn: Callable[..., Any], chunk: List[Tuple[Any, ...]]) -> List[Any]:
    return [fn(*args) for args in chunk]
