"""Semaphores between processes.

`shoal.Lock` documents what applies to all objects that processes wait for.
"""

from __future__ import annotations

from typing import Any, Optional, Type

from . import _abi, _ffi, _hot, _wait
from ._lock import Sync
from ._structs import SemaphoreStats

_lib = _ffi.lib
_acquire = _ffi.untyped("shoal_semaphore_acquire")
_release = _ffi.untyped("shoal_semaphore_release")


class SemaphoreHandle(_ffi.Handle):
    """A ``shoal_semaphore *``."""

    release = _lib.shoal_semaphore_free


class KeptSemaphoreHandle(SemaphoreHandle):
    """A ``shoal_semaphore *`` whose permits stay taken when it is freed."""

    before_release = _lib.shoal_semaphore_keep


@_hot.compiled
class Semaphore(Sync):
    """A number of permits, as `multiprocessing.Semaphore`. The permits of a dead process are released.

    ::

        slots = shoal.Semaphore(4, "slots")
        with slots:
            ...

    A permit belongs to the process that acquired it. Any process may release: a process without a
    permit releases that of another process, or adds a permit if none is taken. A forked child holds no
    permit.

    Args:
        value: the number of permits of a new semaphore.
        name, create, exclusive, persistent: as for `Lock`.
    """

    __module__ = "shoal"

    _kind = "semaphore"
    _number = "value"
    _limits = (0, 2**31 - 1)
    _own_flags = 0
    _handle_type: Type[SemaphoreHandle] = SemaphoreHandle

    def __init__(
        self,
        value: int = 1,
        name: Optional[str] = None,
        *,
        create: bool = True,
        exclusive: bool = False,
        persistent: bool = False,
    ) -> None:
        flags = _ffi.flags(create, exclusive, persistent)
        self._open(name, self._handle_type(), flags | self._own_flags, value)

    def _reopen(self, name: str, *state: Any) -> None:
        self._open(name, self._handle_type(), 0)

    def acquire(self, block: bool = True, timeout: Optional[float] = None) -> bool:
        """Takes a permit, and waits for one if ``block`` is true, for ``timeout`` seconds at most.

        Returns whether it got one. Ctrl-C ends the wait.
        """
        if timeout is not None:
            timeout = _wait.seconds(timeout)
        if _acquire(self._fast, _abi.NOWAIT) == 0:
            return True
        status = _wait.wait(
            lambda ns: _lib.shoal_semaphore_acquire(self._live(), ns),
            _wait.deadline(block, timeout),
        )
        if status == _abi.ERR_TIMEOUT:
            return False
        _ffi.check(status)
        return True

    def release(self, n: int = 1) -> None:
        """Releases permits.

        Raises:
            InvalidError: (a `ValueError`) a `BoundedSemaphore` would have more permits than at first.
        """
        if type(n) is not int:
            n = _ffi.whole(n, "n")
        if not 1 <= n < 2**31:
            raise ValueError("n must be one or more, and less than 2**31")
        if _release(self._fast, n):
            # Nothing was released. The second call reports the reason.
            _ffi.check(_lib.shoal_semaphore_release(self._live(), n))

    def _shown(self) -> str:
        return f"value {self.get_value()}"

    def get_value(self) -> int:
        """How many permits are free now."""
        return Semaphore.stats(self).value

    def stats(self) -> SemaphoreStats:
        """Statistics of the semaphore."""
        return _ffi.fetch_stats(_lib.shoal_semaphore_stat, self._live(), SemaphoreStats)

    def _held(self) -> int:
        """How many permits this process has."""
        return Semaphore.stats(self).held

    # Not the methods of a derived class that overrides `acquire` and `release`, as with `Lock`.

    def __enter__(self) -> bool:  # type: ignore[override]
        return Semaphore.acquire(self)

    def __exit__(self, *exc_info: object) -> None:
        Semaphore.release(self)


class BoundedSemaphore(Semaphore):
    """A semaphore that never has more permits than its initial value."""

    __module__ = "shoal"

    _own_flags = _abi.BOUNDED
    _limits = (1, 2**31 - 1)
