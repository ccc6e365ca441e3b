"""Pickling for the containers of a manager, which may hold the only reference to an object in a server.

Such an object is of a type that a program registers with a manager. Its server keeps it as long as any process
has a proxy for it.
"""

from __future__ import annotations

import io
import pickle
from multiprocessing.process import current_process
from typing import Any, Dict, List

from . import _pickling
from ._original import managers as _std

# Not empty if this process has proxies for objects in a server.
_served = _std.BaseProxy._address_to_local
_PROXY = _std.RebuildProxy.__name__.encode()


def dumps(obj: object, protocol: int = -1) -> bytes:
    """Pickles an object that is put into a container of a manager."""
    data = _pickling.dumps(obj, protocol)
    if _served and _PROXY in data:
        _Served(io.BytesIO(data)).load()
    return data


def dumps_apart(obj: object, aside: Any) -> bytes:
    """As `dumps`, without the buffers that ``aside`` takes."""
    if not _served:
        return _pickling.dumps_apart(obj, aside)
    buffers: List[Any] = []

    def both(buffer: Any) -> Any:
        buffers.append(buffer)
        return aside(buffer)

    data = _pickling.dumps_apart(obj, both)
    if _PROXY in data:
        _Served(io.BytesIO(data), buffers=buffers).load()
    return data


class _Served(pickle.Unpickler):
    """Asks the servers to keep the objects whose proxies are in a pickle."""

    def find_class(self, module: str, name: str) -> Any:
        found = super().find_class(module, name)
        return _keep if found is _std.RebuildProxy else found


def _keep(_make: Any, token: Any, serializer: str, how: Dict[str, Any]) -> None:
    """Makes a server keep an object until the server ends, as for an object in one of its own containers."""
    connect = _std.listener_client[serializer][1]
    key = how.get("authkey") or current_process().authkey
    with connect(token.address, authkey=key) as connection:
        _std.dispatch(connection, None, "incref", (token.id,))
