"""Every exception of the package, with its status code.

::

    Exception
     +-- ShoalError                 every failure reported by the library
          +-- InvalidError             (ValueError)        an argument the call does not accept
          +-- NotFoundError            (FileNotFoundError) no object, program or device so named
          +-- ExistsError              (FileExistsError)   the name is taken
          +-- AccessError              (PermissionError)   another user's object
          +-- NoSpaceError             (OSError, ENOSPC)   shared memory is full
          +-- TooLargeError            (ValueError)        can never fit; waiting does not help
          +-- BufferTooSmallError      (ValueError)        a caller's buffer; nothing was taken
          +-- TimeoutError             (TimeoutError)      the deadline passed
          +-- Full                     (queue.Full)        no room, or none within the timeout
          +-- Empty                    (queue.Empty)       no message, or none within the timeout
          +-- ClosedError              (ValueError)        the queue is closed and empty
          +-- InterruptedError         (InterruptedError)  a signal; waits resume by themselves
          +-- WrongKindError           (TypeError)         an object of another kind
          +-- VersionMismatchError                         made by an incompatible library
          +-- CorruptError                                 shared bytes break an invariant
          +-- PoisonedError                                could not be repaired after a kill
          +-- OwnerDiedError                               its owner died while holding it
          +-- ExhaustedError                               all of a fixed number of slots are taken
          +-- UnsupportedError         (NotImplementedError)
          +-- SystemCallError          (OSError)           any other error of the system
          +-- InternalError            (RuntimeError)      a failure inside the library
          +-- ExpiredError                                 a lease has expired

The second base, where there is one, is the built-in exception that code written against the
standard library already catches: ``except queue.Empty`` works.
"""

from __future__ import annotations

import builtins
import errno
import queue

from . import _abi

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar, Dict, Type


class ShoalError(Exception):
    """A failure reported by the library. ``code`` is its status in C."""

    code: ClassVar[int] = -1


class InvalidError(ShoalError, ValueError):
    """An argument is outside what the call accepts."""

    code = _abi.ERR_INVALID


class NotFoundError(ShoalError, FileNotFoundError):
    """No shared object, key, program or device of this name."""

    code = _abi.ERR_NOT_FOUND


class ExistsError(ShoalError, FileExistsError):
    """A shared object of this name exists already, and the call was to create a new one."""

    code = _abi.ERR_EXISTS


class AccessError(ShoalError, PermissionError):
    """Access was refused, or the object belongs to another user."""

    code = _abi.ERR_PERMISSION


class NoSpaceError(ShoalError, OSError):
    """The file system of shared memory (``/dev/shm``, or ``SHOAL_DIR``) or the object is full."""

    code = _abi.ERR_NO_SPACE

    def __init__(self, message: str = "shared memory is full") -> None:
        super().__init__(message)
        self.errno = errno.ENOSPC


class TooLargeError(ShoalError, ValueError):
    """The data can never fit."""

    code = _abi.ERR_TOO_LARGE


class BufferTooSmallError(ShoalError, ValueError):
    """The buffer is too small for the data; nothing was taken."""

    code = _abi.ERR_BUFFER_TOO_SMALL


class TimeoutError(ShoalError, builtins.TimeoutError):
    """The deadline passed."""

    code = _abi.ERR_TIMEOUT


class Full(ShoalError, queue.Full):
    """There is no room now, or there was none in time."""

    code = _abi.ERR_TIMEOUT


class Empty(ShoalError, queue.Empty):
    """There is nothing to take now, or nothing came in time."""

    code = _abi.ERR_TIMEOUT


class ClosedError(ShoalError, ValueError):
    """The queue is closed: it takes nothing more, and all it held has been taken."""

    code = _abi.ERR_CLOSED


class InterruptedError(ShoalError, builtins.InterruptedError):
    """A signal handler ran while the call waited. Waits of this package resume by themselves."""

    code = _abi.ERR_INTERRUPTED


class WrongKindError(ShoalError, TypeError):
    """The object is of another kind than the one it was opened as."""

    code = _abi.ERR_WRONG_KIND


class VersionMismatchError(ShoalError):
    """The object was made by an incompatible version or platform."""

    code = _abi.ERR_VERSION_MISMATCH


class CorruptError(ShoalError):
    """Bytes in shared memory break an invariant of the structure."""

    code = _abi.ERR_CORRUPT


class PoisonedError(ShoalError):
    """The object could not be repaired after a process died in it and refuses all use."""

    code = _abi.ERR_POISONED


class OwnerDiedError(ShoalError):
    """The owner of an object died while holding it. Locks report that by `owner_died` instead."""


class ExhaustedError(ShoalError):
    """All of a fixed number of slots are taken."""

    code = _abi.ERR_EXHAUSTED


class UnsupportedError(ShoalError, NotImplementedError):
    """The platform lacks what the call needs."""

    code = _abi.ERR_UNSUPPORTED


class SystemCallError(ShoalError, OSError):
    """An error of the operating system that no other class describes."""

    code = _abi.ERR_OS


class InternalError(ShoalError, RuntimeError):
    """The library itself failed."""

    code = _abi.ERR_INTERNAL


class ExpiredError(ShoalError):
    """The lease has expired, so its message is delivered again."""

    code = _abi.ERR_EXPIRED


def _by_code() -> Dict[int, Type[ShoalError]]:
    # Queues raise `Full` or `Empty` in the place of `TimeoutError`.
    exceptions = set(ShoalError.__subclasses__()) - {Full, Empty, OwnerDiedError}
    return {cls.code: cls for cls in exceptions}


BY_CODE: Dict[int, Type[ShoalError]] = _by_code()

# Tracebacks show the public name, ``shoal.Full``.
for _public in (ShoalError, *ShoalError.__subclasses__()):
    _public.__module__ = "shoal"


def error_for(code: int, message: str) -> ShoalError:
    """The exception for a status code; an unknown code is a plain `ShoalError`."""
    return BY_CODE.get(code, ShoalError)(message)
