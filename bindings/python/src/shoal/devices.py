"""Which devices a process sees, and which its children will see.

A vendor's runtime reads one environment variable when it starts, ``CUDA_VISIBLE_DEVICES`` for CUDA.
Here a mask is a list of *logical* numbers among the devices that this process sees itself: under
``CUDA_VISIBLE_DEVICES=2,3`` the mask ``[1]`` is device 3. A mask may also consist of UUIDs. An empty
mask hides every device. An invalid mask is an error and never truncated.

    shoal.spawn(["train"], devices=[0, 1])              # one program
    mp.Process(target=train, devices=[0]).start()       # one process
    shoal.devices.set_visible_devices([0])              # this script, before CUDA starts

`shoal.lease_devices` finds devices that no other program leases; a lease is a mask, too. `discover`
lists the devices of the machine, `holders` the leases.
"""

from __future__ import annotations

import os
import threading
import warnings
from contextlib import contextmanager
from typing import Dict, Iterator, List, Optional, Sequence, Union

from . import _abi, _ffi
from ._leasing import Device, DeviceLease, Holder, WorkerDevices, discover, holders, worker_of

__all__ = [
    "Device",
    "DeviceLease",
    "DevicesArgument",
    "Holder",
    "WorkerDevices",
    "discover",
    "environment",
    "families",
    "holders",
    "resolve",
    "set_visible_devices",
    "variable",
    "visible",
]

_lib = _ffi.lib

DevicesArgument = Union[
    str, Sequence[int], Sequence[str], Sequence[Union[int, str]], DeviceLease, WorkerDevices
]
"""A mask: ``[0, 2]``, ``["GPU-1a2b..."]`` or the same as text, ``"0,2"``; or a lease."""


def _mask(devices: DevicesArgument) -> str:
    """The mask as text for the library, which checks it. Only types are checked here."""
    if isinstance(devices, str):
        return devices
    if isinstance(devices, DeviceLease):
        return str(devices)
    if not isinstance(devices, Sequence) or isinstance(devices, (bytes, bytearray, memoryview)):
        raise TypeError(f"devices are a list or text like '0,2', not {type(devices).__name__}")
    entries: List[str] = []
    for entry in devices:
        if isinstance(entry, bool) or not isinstance(entry, (int, str)):
            raise TypeError(f"a device is a number or a UUID, not {entry!r}")
        if isinstance(entry, str) and (not entry or "," in entry):
            raise ValueError(f"{entry!r} in a list of devices is not one device")
        entries.append(str(entry))
    return ",".join(entries)


def resolve(devices: DevicesArgument, *, family: str = "cuda") -> str:
    """The value of the family's environment variable for a child that is to see these devices.

    Raises `InvalidError` (a `ValueError`) for a number beyond the devices that this process sees, a
    device that is named twice, a mixture of numbers and UUIDs, or a text that names no device.

    ::

        shoal.devices.resolve([1])      # "3" under CUDA_VISIBLE_DEVICES=2,3
    """
    mask = _ffi.encode(_mask(devices), "mask")
    value = _ffi.fetch_text(_lib.shoal_device_resolve, _ffi.encode(family, "family"), None, mask)
    return value.decode()


def environment(devices: DevicesArgument, *, family: str = "cuda") -> Dict[str, Optional[str]]:
    """All changes of a child's environment; ``None`` means that the variable is removed.

    Besides the mask: ``CUDA_DEVICE_ORDER`` is set to ``PCI_BUS_ID``, unless it is set, so that numbers
    are those of ``nvidia-smi``. A second variable of the family is composed with the mask and removed,
    because the runtime would apply it again to the new mask. A lease knows its family.
    """
    worker = worker_of(devices)
    if worker is not None:
        return worker.environment()
    mask = _ffi.encode(_mask(devices), "mask")
    text = _ffi.fetch_text(_lib.shoal_device_environment, _ffi.encode(family, "family"), mask)
    changes: Dict[str, Optional[str]] = {}
    for entry in os.fsdecode(text).split("\0"):
        if entry:
            name, equals, value = entry.partition("=")
            changes[name] = value if equals else None
    return changes


def variable(family: str = "cuda") -> str:
    """The environment variable of a family's mask. `NotFoundError` for an unknown family."""
    found: Optional[bytes] = _lib.shoal_device_variable(_ffi.encode(family, "family"))
    if found is None:
        raise _ffi.error(_abi.ERR_NOT_FOUND)
    return found.decode()


def families() -> List[str]:
    """The names of all families."""
    found: List[str] = []
    while True:
        name: Optional[bytes] = _lib.shoal_device_family(len(found))
        if name is None:
            return found
        found.append(name.decode())


def visible(family: str = "cuda") -> Optional[List[str]]:
    """The devices in this process's environment, as they are named there; ``None`` if all are visible."""
    text = _ffi.fetch_text(_lib.shoal_device_visible, _ffi.encode(family, "family")).decode()
    if text == "all":
        return None
    return [] if text == "none" else text.split(",")


def set_visible_devices(devices: DevicesArgument, *, family: str = "cuda") -> None:
    """Makes this process, and children that it starts later, see these devices only.

    It changes ``os.environ``. The vendor's runtime reads that once, when it starts, so call this before
    anything that uses the runtime. It warns (`RuntimeWarning`) if the runtime's library is loaded
    already, because then it may be too late. A second call selects among the devices of the first.
    With a lease, later leases of this process are parts of that lease. Raises as `resolve` does.
    """
    if isinstance(devices, DeviceLease):
        family = devices.family
    changes = environment(devices, family=family)
    # The library changes the environment of C. Python keeps a copy of it, which is changed below.
    if _ffi.fetch_bool(
        _lib.shoal_device_set_visible, _ffi.encode(family, "family"), _ffi.encode(_mask(devices), "mask")
    ):
        warnings.warn(
            f"the runtime of {family!r} devices is loaded in this process and may have read "
            f"{variable(family)} already: set the mask before importing what uses it",
            RuntimeWarning,
            stacklevel=2,
        )
    _apply(changes)


def _apply(changes: Dict[str, Optional[str]]) -> None:
    for name, value in changes.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


_changing = threading.Lock()


@contextmanager
def _in_environment(changes: Dict[str, Optional[str]]) -> Iterator[None]:
    """Applies changes to ``os.environ`` while a child is started, and restores it afterwards.

    One child at a time, because `multiprocessing` cannot give a child an environment of its own. Other
    threads that start programs in these milliseconds see the changes.
    """
    with _changing:
        before = {name: os.environ.get(name) for name in changes}
        try:
            _apply(changes)
            yield
        finally:
            _apply(before)


def _renew_lock() -> None:
    global _changing
    _changing = threading.Lock()


# A child that is forked while another thread holds the lock would inherit a lock that is never released.
os.register_at_fork(after_in_child=_renew_lock)
