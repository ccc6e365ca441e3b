"""`shoal.lease_devices`: devices that no other program leases at the same time."""

from __future__ import annotations

import ctypes
import os
import re
from dataclasses import dataclass
from types import TracebackType
from typing import Dict, Iterator, List, Optional, Sequence, Tuple, Type, Union

from . import _abi, _ffi, _wait
from ._process_structs import LeaseOptions

_lib = _ffi.lib

Size = Union[int, str]
"""Bytes as a number, or as text: ``"10G"``, ``"512M"``, ``"1.5T"`` (powers of 1024)."""

_MODES = {
    "exclusive": _abi.LEASE_EXCLUSIVE,
    "rotate": _abi.LEASE_ROTATE,
    "index-only": _abi.LEASE_INDEX_ONLY,
}
_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}


@dataclass(frozen=True)
class Device:
    """A device of this machine."""

    id: str
    """Its unique id or bus address. Does not depend on which other devices are present."""
    family: str
    index: int
    """Its number in its family's runtime without a mask."""
    name: str
    memory: Optional[int]
    """In bytes; ``None`` if the device does not report it."""
    free: Optional[int]
    """The memory that no process uses, in bytes; ``None`` if the device does not report it."""
    utilisation: Optional[int]
    """The percentage of the last second or less during which it was busy; ``None`` if unknown."""


@dataclass(frozen=True)
class Holder:
    """A lease of any program on this machine, or a request that waits for one."""

    id: str
    """Begins with the ids of the leases of which this one is a part."""
    is_waiting: bool
    uid: int
    """The user id."""
    pid: Optional[int]
    """The process that requested the lease, as it wrote it. Its children may hold the lease now."""
    since: Optional[int]
    """In seconds since 1970."""
    devices: Dict[str, float]
    """The leased part of each device: 1.0 is the whole. For a request that waits, the devices that it could get."""
    command: str
    """As the process that requested the lease wrote it."""


def size(value: Size, what: str) -> int:
    """A number of bytes."""
    if isinstance(value, int) and not isinstance(value, bool):
        if not 0 <= value < 2**64:
            raise ValueError(f"{what} is a number of bytes from 0 to 2**64 - 1, not {value}")
        return value
    if not isinstance(value, str):
        raise TypeError(f"{what} is a number of bytes or text like '10G', not {value!r}")
    match = re.fullmatch(r"\s*(\d+)(?:\.(\d{1,9}))?\s*([KMGT]?)(?:i?B)?\s*", value, re.IGNORECASE)
    if match is None or (match[2] and not match[3]):
        raise _ffi.invalid(f"invalid {what} {value!r}: it is not a number of bytes, such as '10G'")
    part = match[2] or "0"
    shift = _UNITS[match[3].upper()]
    scale: int = 10 ** len(part)
    result = (int(match[1]) << shift) + (int(part) << shift) // scale
    if result >= 2**64:
        raise ValueError(f"{what} of {value!r} is more than 2**64 - 1 bytes")
    return result


def _number(field: str) -> Optional[int]:
    return None if field == "-" else int(field)


def _device(fields: Sequence[str]) -> Device:
    name = "" if fields[3] == "-" else fields[3]
    known = [_number(it) for it in fields[4:7]]
    return Device(fields[0], fields[1], int(fields[2]), name, known[0], known[1], known[2])


def _lines(text: bytes) -> Iterator[List[str]]:
    for line in text.decode("utf-8", "replace").split("\n"):
        if line:
            yield line.split("\t")


def discover(family: Optional[str] = None) -> List[Device]:
    """The devices of this machine, of one family or of all. Masks have no effect.

    It waits for a vendor's library, for 10 seconds at most (``SHOAL_NVML_TIMEOUT``).
    """
    wanted = None if family is None else _ffi.encode(family, "family")
    return [_device(it) for it in _lines(_ffi.fetch_text(_lib.shoal_device_discover, wanted))]


def holders() -> List[Holder]:
    """Every lease of this machine, and every request that waits, in the order of arrival."""
    found = []
    for fields in _lines(_ffi.fetch_text(_lib.shoal_lease_holders)):
        devices: Dict[str, float] = {}
        for entry in filter(None, fields[5].split(",")):
            device, _, part = entry.rpartition("=")
            devices[device] = float(part)
        waits = fields[1] == "waiting"
        pid, since = _number(fields[3]), _number(fields[4])
        found.append(Holder(fields[0], waits, int(fields[2]), pid, since, devices, fields[6]))
    return found


class LeaseHandle(_ffi.Handle):
    """A ``shoal_lease *``."""

    release = _lib.shoal_lease_free


class DeviceLease(Sequence[str]):
    """Devices that this process has leased: a sequence of their unique ids.

    The argument ``devices=`` of `shoal.spawn`, `multiprocessing.Process` and `multiprocessing.Pool`
    accepts it. Their children then hold the lease, too, until the last of them ends. ``str`` gives the
    mask: the numbers that the devices have in this process.

    As a context manager it releases this process's hold at the end. So does the garbage collector. A
    forked child holds the lease only if it was started with ``devices=``.

    ::

        with shoal.lease_devices(2) as lease:
            shoal.spawn(["train"], devices=lease).join()
    """

    __module__ = "shoal"

    def __init__(self, handle: LeaseHandle, mode: str) -> None:
        self._handle: Optional[LeaseHandle] = handle
        self._mode = mode
        self._id = _ffi.fetch_text(_lib.shoal_lease_id, handle).decode()
        self._mask = _ffi.fetch_text(_lib.shoal_lease_mask, handle).decode()
        devices = list(_lines(_ffi.fetch_text(_lib.shoal_lease_devices, handle)))
        self._devices = tuple(_device(it) for it in devices)
        self._shares = tuple(float(it[8]) for it in devices)
        self._pid = os.getpid()

    @property
    def id(self) -> str:
        """Its name among the leases of this machine."""
        return self._id

    @property
    def devices(self) -> Tuple[Device, ...]:
        """The devices, with their memory and load at the time of the lease."""
        return self._devices

    @property
    def shares(self) -> Tuple[float, ...]:
        """The leased part of each device: 1.0 is the whole."""
        return self._shares

    @property
    def family(self) -> str:
        """The family of the devices."""
        return self._devices[0].family

    def worker(self, number: int, workers: int, mode: Optional[str] = None) -> WorkerDevices:
        """The devices of one of several children, for its ``devices=``. `Pool` does this itself.

        With as many workers as devices, each worker has one device. ``mode`` defaults to that of the
        lease. With ``"exclusive"`` the worker sees its own devices only; with ``"rotate"`` all devices
        of the lease, its own ones first; with ``"index-only"`` what this process sees. In every mode
        ``SHOAL_DEVICE_INDEX`` contains the numbers of the worker's devices.
        """
        return WorkerDevices(self, number, workers, mode or self._mode)

    def environment(self) -> Dict[str, Optional[str]]:
        """The changes in the environment of a single child; ``None`` means that a variable is removed."""
        return self.worker(0, 1).environment()

    def fileno(self) -> int:
        """A descriptor. Every process that has a copy of it holds the lease."""
        return _ffi.fetch_int(_lib.shoal_lease_fd, self._held())

    def release(self) -> None:
        """Releases this process's hold on the lease. Children keep theirs. May be called twice."""
        self._handle = None

    def _held(self) -> LeaseHandle:
        if self._handle is None:
            raise _ffi.invalid(f"invalid lease {self._id}: it was released")
        return self._handle

    def _pass_to_forks(self, on: bool) -> None:
        _ffi.check(_lib.shoal_lease_pass_to_forks(self._held(), on))

    def __len__(self) -> int:
        return len(self._devices)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        ids = [it.id for it in self._devices]
        return ids[index]

    def __str__(self) -> str:
        return self._mask

    def __enter__(self) -> DeviceLease:
        self._held()
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.release()

    def __reduce__(self) -> Tuple[object, ...]:
        raise TypeError("pass a lease of devices to a child by devices=, not as an argument")

    def __repr__(self) -> str:
        state = "" if self._handle is not None else ", released"
        return f"<shoal.DeviceLease of {self.family} {self._mask}{state}>"


class WorkerDevices:
    """The devices of a lease that one worker sees: see `DeviceLease.worker`."""

    def __init__(self, lease: DeviceLease, number: int, workers: int, mode: str) -> None:
        if mode not in _MODES:
            raise ValueError(f"mode is one of {', '.join(_MODES)}, not {mode!r}")
        if not 0 <= number < workers:
            raise ValueError(f"there is no worker {number} of {workers}: they are counted from 0")
        _ffi.number(workers, "workers", 32)
        self.lease = lease
        self.number = number
        self.workers = workers
        self.mode = _MODES[mode]

    def environment(self) -> Dict[str, Optional[str]]:
        """The changes in the worker's environment; ``None`` means that a variable is removed."""
        handle = self.lease._held()
        which = (handle, self.mode, self.number, self.workers)
        text = _ffi.fetch_text(_lib.shoal_lease_environment, *which)
        changes: Dict[str, Optional[str]] = {}
        for entry in os.fsdecode(text).split("\0"):
            if entry:
                name, equals, value = entry.partition("=")
                changes[name] = value if equals else None
        return changes


def worker_of(devices: object) -> Optional[WorkerDevices]:
    """The `WorkerDevices` of an argument ``devices=`` that is a lease or a part of one, else ``None``."""
    if isinstance(devices, DeviceLease):
        return devices.worker(0, 1)
    return devices if isinstance(devices, WorkerDevices) else None


class Passed:
    """A lease that is sent to a child of `multiprocessing`, which holds it until it ends."""

    def __init__(self, lease: DeviceLease) -> None:
        self.lease: Optional[DeviceLease] = lease

    def __reduce__(self) -> Tuple[object, ...]:
        from ._original import reduction

        assert self.lease is not None
        return _receive, (reduction.DupFd(self.lease.fileno()),)


# The descriptors of leases that this process received from its parent.
_received: List[int] = []


def _receive(passed: object) -> None:
    _received.append(passed.detach())  # type: ignore[attr-defined]


_Share = Union[None, Size, Tuple[int, int]]


def _set_share(options: LeaseOptions, share: _Share) -> None:
    if share is None or share == "all":
        return
    if isinstance(share, str) and re.fullmatch(r"\d+/\d+", share):
        slots, _, of = share.partition("/")
        share = (int(slots), int(of))
    if isinstance(share, tuple):
        if len(share) != 2 or not all(isinstance(it, int) and 0 < it < 2**32 for it in share):
            raise ValueError(f"share is slots of a total, such as (1, 4), not {share!r}")
        options.share_slots, options.share_of = share
        return
    options.share_memory = size(share, "share")
    if options.share_memory == 0:
        raise ValueError("a share must not be 0 bytes")


def lease_devices(
    count: int = 1,
    *,
    family: Optional[str] = None,
    share: _Share = None,
    min_free: Optional[Size] = None,
    max_utilisation: Optional[int] = None,
    order: Optional[Sequence[Union[int, str]]] = None,
    timeout: Optional[float] = None,
    mode: str = "exclusive",
    command: Optional[str] = None,
) -> DeviceLease:
    """Leases devices, all of them at once, and waits for them. Requests are served in their order.

    ::

        with shoal.lease_devices(2, min_free="10G") as mask:
            shoal.spawn(["train"], devices=mask).join()

    As long as all programs lease their devices, no two use the same device. The lease ends with the
    last process that holds it, even if that is killed.

    Args:
        count: the number of devices.
        family: ``"cuda"``, ``"rocm"``, ...; ``None`` if the machine has devices of one family only.
        share: a part of each device instead of whole devices: memory (``"8G"``), or slots of a total
            (``"1/4"`` or ``(1, 4)``).
        min_free: only devices with this much memory that no process uses now, with or without a lease.
        max_utilisation: only devices that are busy for at most this percentage of the time.
        order: preferred devices, the most preferred first: numbers in this process, or ids.
        timeout: seconds after which it raises `TimeoutError`; 0 does not wait, ``None`` waits forever.
        mode: what each of several workers sees: see `DeviceLease.worker`.
        command: the command that `holders` shows for the lease.

    Raises `ValueError` or `TypeError` for an invalid argument, `NotFoundError` if there is no device of
    the family, and `TooLargeError` or `InvalidError` if the machine can never satisfy the request.
    """
    if mode not in _MODES:
        raise ValueError(f"mode is one of {', '.join(_MODES)}, not {mode!r}")
    if isinstance(count, bool) or not isinstance(count, int):
        raise TypeError(f"count is a number of devices, not {count!r}")
    if not 0 < count < 2**31:
        raise ValueError(f"count is a number of devices, at least 1, not {count}")
    options = LeaseOptions()
    options.count = count
    options.family = None if family is None else _ffi.encode(family, "family")
    options.command = None if command is None else _ffi.encode(command, "command")
    if order is not None:
        if isinstance(order, str):
            order = order.split(",")
        options.order = _ffi.encode(",".join(str(it) for it in order), "order")
    if min_free is not None:
        options.min_free = size(min_free, "min_free")
    if max_utilisation is not None:
        if not 0 <= _ffi.whole(max_utilisation, "max_utilisation") <= 100:
            raise ValueError(f"max_utilisation is 0 to 100 percent, not {max_utilisation}")
        options.min_idle = 100 - max_utilisation
    _set_share(options, share)
    handle = LeaseHandle()
    until = _wait.deadline(True, timeout)

    def call(timeout_ns: int) -> int:
        status: int = _lib.shoal_lease_wait(handle, timeout_ns)
        return status

    # Ctrl-C may come as soon as the request is in the queue, so the request is made within the `try`.
    try:
        if until == 0:
            now, out = _abi.NOWAIT, ctypes.byref(handle)
            _ffi.check(_lib.shoal_lease_acquire(ctypes.byref(options), now, out))
        else:
            _ffi.check(_lib.shoal_lease_request(ctypes.byref(options), ctypes.byref(handle)))
            _ffi.check(_wait.wait(call, until))
        return DeviceLease(handle, mode)
    except BaseException:
        # Leaves the queue of requests now, and not when the traceback is freed.
        handle = LeaseHandle()
        raise
