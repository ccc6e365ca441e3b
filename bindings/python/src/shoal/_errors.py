"""Every exception of the package, and the status code each stands for.

::

    Exception
     +-- ShoalError                 every failure reported by the library
          +-- InvalidError             (ValueError)        an argument the call does not accept
          +-- NotFoundError            (FileNotFoundError) no object, program or device so named
          +-- ExistsError              (FileExistsError)   the name is taken
          +-- AccessError              (PermissionError)   another user's object
          +-- NoSpaceError             (OSError, ENOSPC)   shared memory is full
          +-- TooLargeError            (ValueError)        can never fit, however long one waits
          +-- BufferTooSmallError      (ValueError)        a caller's buffer; nothing was taken
          +-- TimeoutError             (TimeoutError)      the deadline passed
          +-- Full                     (queue.Full)        no room now, or none in time
          +-- Empty                    (queue.Empty)       nothing there now, or nothing in time
          +-- ClosedError              (ValueError)        the queue is closed, and drained
          +-- InterruptedError         (InterruptedError)  a signal; waits resume by themselves
          +-- WrongKindError           (TypeError)         a map opened as a queue
          +-- VersionMismatchError                         made by an incompatible library
          +-- CorruptError                                 shared bytes break an invariant
          +-- PoisonedError                                not repairable after a death in it
          +-- OwnerDiedError                               the owner died holding it
          +-- ExhaustedError                               all of a fixed number of places taken
          +-- UnsupportedError         (NotImplementedError)
          +-- SystemCallError          (OSError)           any other error of the system
          +-- InternalError            (RuntimeError)      a failure inside the library
          +-- ExpiredError                                 a lease's time was over

The second base, where there is one, is the built-in exception that code written against the
standard library already catches: ``except queue.Empty`` works.
"""

from __future__ import annotations

import builtins
import errno
import queue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar, Dict, Type


class ShoalError(Exception):
    """A failure reported by the library. ``code`` is its status in C."""

    code: ClassVar[int] = -1


class InvalidError(ShoalError, ValueError):
    """An argument is outside what the call accepts."""

    code = 1


class NotFoundError(ShoalError, FileNotFoundError):
    """No shared object, key, program or device of this name."""

    code = 2


class ExistsError(ShoalError, FileExistsError):
    """A shared object of this name exists already and a new one was asked for."""

    code = 3


class AccessError(ShoalError, PermissionError):
    """Access was refused, or the object belongs to another user."""

    code = 4


class NoSpaceError(ShoalError, OSError):
    """The file system of shared memory (``/dev/shm``, or ``SHOAL_DIR``) is full."""

    code = 5

    def __init__(self, message: str = "shared memory is full") -> None:
        super().__init__(message)
        self.errno = errno.ENOSPC


class TooLargeError(ShoalError, ValueError):
    """The data can never fit."""

    code = 6


class BufferTooSmallError(ShoalError, ValueError):
    """The buffer cannot hold what is there; nothing was taken."""

    code = 7


class TimeoutError(ShoalError, builtins.TimeoutError):
    """The deadline passed."""

    code = 8


class Full(ShoalError, queue.Full):
    """There is no room now, or none came free in time."""

    code = 9


class Empty(ShoalError, queue.Empty):
    """There is nothing to take now, or nothing came in time."""

    code = 10


class ClosedError(ShoalError, ValueError):
    """The queue is closed: it takes nothing more, and all it held has been taken."""

    code = 11


class InterruptedError(ShoalError, builtins.InterruptedError):
    """A signal handler ran while the call waited. Waits of this package resume by themselves."""

    code = 12


class WrongKindError(ShoalError, TypeError):
    """The object is of another kind than the one it was opened as."""

    code = 13


class VersionMismatchError(ShoalError):
    """The object was made by an incompatible version or platform."""

    code = 14


class CorruptError(ShoalError):
    """Bytes in shared memory break an invariant of the structure."""

    code = 15


class PoisonedError(ShoalError):
    """The object could not be repaired after a process died in it and refuses all use."""

    code = 16


class OwnerDiedError(ShoalError):
    """The process that owned the thing died holding it."""

    code = 17


class ExhaustedError(ShoalError):
    """Every one of a fixed number of places is taken."""

    code = 18


class UnsupportedError(ShoalError, NotImplementedError):
    """The platform lacks what the call needs."""

    code = 19


class SystemCallError(ShoalError, OSError):
    """An error of the operating system that no other class describes."""

    code = 20


class InternalError(ShoalError, RuntimeError):
    """The library itself failed."""

    code = 21


class ExpiredError(ShoalError):
    """The lease's time was over: its message is delivered again."""

    code = 22


def _by_code() -> Dict[int, Type[ShoalError]]:
    return {cls.code: cls for cls in ShoalError.__subclasses__()}


BY_CODE: Dict[int, Type[ShoalError]] = _by_code()

# To a reader of a traceback these are names of the package.
for _public in (ShoalError, *BY_CODE.values()):
    _public.__module__ = "shoal"


def error_for(code: int, message: str) -> ShoalError:
    """The exception for a status code; an unknown code is a plain `ShoalError`."""
    return BY_CODE.get(code, ShoalError)(message)
