"""What the threads of a pool or an executor wait for: results, and the ends of processes."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any, Callable, Iterator, Optional


def _slices() -> Iterator[float]:
    """The lengths of the slices of a wait for a result, in seconds.

    The interpreter misses a Ctrl-C that arrives just before it begins to wait (about 3 % of them on a
    busy machine). It runs signal handlers between two slices. Each slice is twice as long as the one
    before, so that an idle process uses little processor time.
    """
    seconds = 0.05
    while True:
        yield seconds
        seconds = min(2 * seconds, 0.5)


class ResultEvent(threading.Event):
    """Set when a result is complete. A wait for it is cut into slices."""

    def wait(self, timeout: Optional[float] = None) -> bool:
        if timeout is None:
            for seconds in _slices():
                if super().wait(seconds):
                    return True
        return super().wait(timeout)


class ResultCondition(threading.Condition):
    """Notified when an iterator has a next result. A wait for it is cut into slices."""

    def __init__(self, results: Any) -> None:
        super().__init__(threading.Lock())
        self._results = weakref.ref(results)

    def wait(self, timeout: Optional[float] = None) -> bool:
        if timeout is not None:
            return super().wait(timeout)
        for seconds in _slices():
            if super().wait(seconds):
                break
            results = self._results()
            if results is None or results._items or results._index == results._length:
                break
        return True


class Wakeup:
    """Wakes a thread that waits for processes in `connection.wait`."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)

    def put(self, _what: None = None) -> None:
        try:
            os.write(self._writer, b"!")
        except BlockingIOError:
            pass

    def fileno(self) -> int:
        return self._reader

    def clear(self) -> None:
        try:
            os.read(self._reader, 4096)
        except BlockingIOError:
            pass

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        close(self._reader)
        close(self._writer)
