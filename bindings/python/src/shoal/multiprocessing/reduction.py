"""`multiprocessing.reduction`, whose `send_handle` and `recv_handle` take pipes of this package, too.

A pipe in shared memory cannot carry a descriptor. The message says where to fetch a duplicate, as
the pickle of a socket does. The receiver, which must be a process of the same `multiprocessing`
family, fetches it from this process. So the sender has to live until then. It may close its own
descriptor at once.
"""

from __future__ import annotations

from multiprocessing import reduction as _std
from multiprocessing import resource_sharer
from typing import Any

from .._pipe import Connection as _Pipe

# Typed as Any, because the stubs of type checkers lack the private names.
_original: Any = _std
_DupFd: Any = resource_sharer.DupFd

globals().update({name: getattr(_std, name) for name in _std.__all__})
__all__ = list(_std.__all__)


def send_handle(conn: Any, handle: int, destination_pid: int) -> None:
    """Sends a descriptor over a connection of sockets or of this package. Raises as
    `shoal.Connection.send` does."""
    if isinstance(conn, _Pipe):
        conn.send(_DupFd(handle))
    else:
        _original.send_handle(conn, handle, destination_pid)


def recv_handle(conn: Any) -> int:
    """Waits for a descriptor and returns it. The caller closes it.

    Raises as `shoal.Connection.recv` does, `RuntimeError` if the message is not a descriptor, and
    `OSError` if the sender has ended.
    """
    fd: int
    if not isinstance(conn, _Pipe):
        fd = _original.recv_handle(conn)
        return fd
    sent = conn.recv()
    if not isinstance(sent, _DupFd):
        raise RuntimeError("Invalid data received")
    fd = sent.detach()
    return fd


def __getattr__(name: str) -> Any:
    return getattr(_original, name)
