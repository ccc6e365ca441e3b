"""The structs of objects in the C interface, as ctypes sees them.

Generated from src/ffi by `cargo xtask header`; edit there.
"""

from __future__ import annotations

from ctypes import Structure, c_bool, c_char, c_char_p, c_int, c_size_t, c_uint32, c_uint64
from ctypes import c_void_p

from ._sized import Sized

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Slice(Structure):
    """``shoal_slice``: Bytes that belong to the caller."""

    _fields_ = [
        ("data", c_void_p),
        ("len", c_size_t),
    ]
    #: The first byte; may be NULL if `len` is 0.
    data: Any
    #: How many there are.
    len: int


class SyncOptions(Sized):
    """``shoal_sync_options``: How to open a lock, read-write lock, semaphore, event, condition or
    barrier."""

    _fields_ = [
        ("size", c_size_t),
        ("flags", c_uint64),
        ("count", c_uint64),
    ]
    #: SHOAL_CREATE, SHOAL_EXCLUSIVE, SHOAL_PERSISTENT; SHOAL_RECURSIVE of a lock, SHOAL_BOUNDED of
    #: a semaphore.
    flags: int
    #: The permits of a new semaphore, or the parties of a new barrier; 0 for all others.
    count: int


class QueueOptions(Sized):
    """``shoal_queue_options``: How to open a queue."""

    _fields_ = [
        ("size", c_size_t),
        ("flags", c_uint64),
        ("capacity", c_uint64),
        ("max_capacity", c_uint64),
        ("max_items", c_uint64),
        ("max_attempts", c_uint64),
    ]
    #: SHOAL_CREATE, SHOAL_EXCLUSIVE, SHOAL_PERSISTENT.
    flags: int
    #: Bytes of the ring at first, rounded up to a power of two; 0 for 64 KiB.
    capacity: int
    #: Bytes to which the ring may grow, rounded up to a power of two; 0 for 16 GiB, or less where
    #: address space or files are limited.
    max_capacity: int
    #: The most messages that were put and not taken; 0 for as many as fit.
    max_items: int
    #: How often a message is leased before it becomes a dead letter, at most 255; 0 for any number
    #: of times.
    max_attempts: int


class QueueStats(Sized):
    """``shoal_queue_stats``: Statistics of a queue."""

    _fields_ = [
        ("size", c_size_t),
        ("len", c_uint64),
        ("bytes", c_uint64),
        ("capacity", c_uint64),
        ("max_capacity", c_uint64),
        ("max_items", c_uint64),
        ("max_message", c_uint64),
        ("max_attempts", c_uint64),
        ("leased", c_uint64),
        ("waiting", c_uint64),
        ("unfinished", c_uint64),
        ("put", c_uint64),
        ("put_bytes", c_uint64),
        ("taken", c_uint64),
        ("taken_bytes", c_uint64),
        ("closed", c_bool),
        ("relayed", c_bool),
    ]
    #: Messages that wait to be got.
    len: int
    #: Bytes of these messages, without those that were given back.
    bytes: int
    #: Bytes of the ring now.
    capacity: int
    #: Bytes to which the ring may grow.
    max_capacity: int
    #: The most messages that were put and not taken; 0 for as many as fit.
    max_items: int
    #: Bytes of the longest message that can ever be put.
    max_message: int
    #: How often a message is leased before it becomes a dead letter; 0 for any number of times.
    max_attempts: int
    #: Messages that are leased.
    leased: int
    #: Messages that were given back and wait to be delivered again; `len` includes them.
    waiting: int
    #: Messages that were put and are not finished: neither got nor acked, nor moved to the dead
    #: letters.
    unfinished: int
    #: Messages that were ever put.
    put: int
    #: Their bytes.
    put_bytes: int
    #: Messages that were ever taken: got, or leased for the first time.
    taken: int
    #: Their bytes.
    taken_bytes: int
    #: Whether the queue was closed.
    closed: bool
    #: Whether the queue has a relay: what is put goes there, and comes back when the relay delivers
    #: it.
    relayed: bool


class Message(Structure):
    """``shoal_message``: A message in place: reserved for writing by `shoal_queue_reserve` and
    `shoal_pipe_reserve`, or leased for reading by `shoal_queue_lease` and `shoal_pipe_lease`."""

    _fields_ = [
        ("data", c_void_p),
        ("len", c_size_t),
        ("attempts", c_uint32),
        ("block", c_uint32),
        ("number", c_uint64),
        ("owner", c_uint64),
    ]
    #: Where it is.
    data: Any
    #: Its bytes.
    len: int
    #: How often it was leased, this time included; 255 stands for more.
    attempts: int
    #: For the library only.
    block: int
    #: For the library only.
    number: int
    #: For the library only.
    owner: int


class PipeOptions(Sized):
    """``shoal_pipe_options``: How to open a pipe."""

    _fields_ = [
        ("size", c_size_t),
        ("flags", c_uint64),
        ("capacity", c_uint64),
        ("max_capacity", c_uint64),
        ("max_items", c_uint64),
    ]
    #: SHOAL_CREATE, SHOAL_EXCLUSIVE, SHOAL_PERSISTENT, SHOAL_SIMPLEX.
    flags: int
    #: As in `shoal_queue_options`; 0 for 8 KiB.
    capacity: int
    #: As in `shoal_queue_options`.
    max_capacity: int
    #: As in `shoal_queue_options`.
    max_items: int


class PipeStats(Sized):
    """``shoal_pipe_stats``: Statistics of an end of a pipe."""

    _fields_ = [
        ("size", c_size_t),
        ("len", c_uint64),
        ("bytes", c_uint64),
        ("receives", c_bool),
        ("sends", c_bool),
    ]
    #: Messages that wait to be received here.
    len: int
    #: Bytes of these messages.
    bytes: int
    #: Whether this end receives.
    receives: bool
    #: Whether this end sends.
    sends: bool


class MapOptions(Sized):
    """``shoal_map_options``: How to open a map."""

    _fields_ = [
        ("size", c_size_t),
        ("flags", c_uint64),
        ("capacity", c_uint64),
        ("max_capacity", c_uint64),
    ]
    #: SHOAL_CREATE, SHOAL_EXCLUSIVE, SHOAL_PERSISTENT, SHOAL_ORDERED, SHOAL_COMPACT.
    flags: int
    #: Bytes of data for which memory is reserved from the start; 0 for none.
    capacity: int
    #: Bytes of data to which it may grow, from 1 MiB to 512 GiB; 0 for 64 GiB, or less where
    #: address space or files are limited.
    max_capacity: int


class MapStats(Sized):
    """``shoal_map_stats``: Statistics of a map."""

    _fields_ = [
        ("size", c_size_t),
        ("len", c_uint64),
        ("expiring", c_uint64),
        ("used", c_uint64),
        ("changes", c_uint64),
        ("max_capacity", c_uint64),
        ("max_value", c_uint64),
        ("ordered", c_bool),
        ("relayed", c_bool),
        ("compact", c_bool),
    ]
    #: How many keys it has.
    len: int
    #: How many keys have a time to live, including expired ones that are not yet removed.
    expiring: int
    #: Bytes of memory that entries and tables take.
    used: int
    #: A number that grows with every change of the map, for `shoal_map_wait_change`.
    changes: int
    #: Bytes of data to which it may grow.
    max_capacity: int
    #: Bytes of the longest value that can ever be set.
    max_value: int
    #: Whether it was created with SHOAL_ORDERED.
    ordered: bool
    #: Whether the map has a relay: changes go there, and come back when the relay delivers them.
    relayed: bool
    #: Whether it was created with SHOAL_COMPACT.
    compact: bool


class View(Structure):
    """``shoal_view``: A value in a map that is read in place."""

    _fields_ = [
        ("data", c_void_p),
        ("len", c_size_t),
        ("version", c_uint64),
        ("place", c_uint64),
        ("hold", c_uint64),
        ("owner", c_uint64),
    ]
    #: The value; NULL once the view is ended.
    data: Any
    #: Its bytes.
    len: int
    #: Its version.
    version: int
    #: For the library only.
    place: int
    #: For the library only.
    hold: int
    #: For the library only.
    owner: int


class ListOptions(Sized):
    """``shoal_list_options``: How to open a list."""

    _fields_ = [
        ("size", c_size_t),
        ("flags", c_uint64),
        ("capacity", c_uint64),
        ("max_capacity", c_uint64),
    ]
    #: SHOAL_CREATE, SHOAL_EXCLUSIVE, SHOAL_PERSISTENT.
    flags: int
    #: Bytes of data for which there is room from the start; 0 for the default.
    capacity: int
    #: Bytes of data to which it may grow; 0 for 64 GiB, or less where address space or files are
    #: limited.
    max_capacity: int


class ListStats(Sized):
    """``shoal_list_stats``: Statistics of a list."""

    _fields_ = [
        ("size", c_size_t),
        ("len", c_uint64),
        ("used", c_uint64),
        ("version", c_uint64),
        ("max_capacity", c_uint64),
        ("max_element", c_uint64),
    ]
    #: How many elements it has.
    len: int
    #: Bytes of memory that elements and the table take.
    used: int
    #: A number that differs after every change of the list.
    version: int
    #: Bytes of data to which it may grow.
    max_capacity: int
    #: Bytes of the longest element that can ever be added.
    max_element: int


class ArrayOptions(Sized):
    """``shoal_array_options``: How to open an array."""

    _fields_ = [
        ("size", c_size_t),
        ("flags", c_uint64),
        ("item_size", c_uint64),
        ("count", c_uint64),
        ("format", c_char_p),
    ]
    #: SHOAL_CREATE, SHOAL_EXCLUSIVE, SHOAL_PERSISTENT.
    flags: int
    #: Bytes of an item, at least 1 of a new array.
    item_size: int
    #: How many items there are.
    count: int
    #: A description of an item in up to 16 bytes, such as a type code; NULL for none.
    format: Any


class ArrayStats(Sized):
    """``shoal_array_stats``: Statistics of an array."""

    _fields_ = [
        ("size", c_size_t),
        ("item_size", c_uint64),
        ("count", c_uint64),
        ("format", c_char * 17),
        ("lock_depth", c_uint32),
    ]
    #: Bytes of an item.
    item_size: int
    #: How many items there are.
    count: int
    #: The creator's description of an item; ends with NUL.
    format: bytes
    #: How often the calling thread has taken the lock by this handle.
    lock_depth: int


class LockStats(Sized):
    """``shoal_lock_stats``: Statistics of a lock."""

    _fields_ = [
        ("size", c_size_t),
        ("depth", c_uint32),
        ("held", c_bool),
        ("recursive", c_bool),
    ]
    #: How often the calling thread has taken it by this handle.
    depth: int
    #: Whether it is taken.
    held: bool
    #: Whether it is recursive.
    recursive: bool


class RwlockStats(Sized):
    """``shoal_rwlock_stats``: Statistics of a read-write lock."""

    _fields_ = [
        ("size", c_size_t),
        ("readers", c_uint64),
        ("writer", c_bool),
    ]
    #: How often it is held for reading.
    readers: int
    #: Whether it is held for writing.
    writer: bool


class SemaphoreStats(Sized):
    """``shoal_semaphore_stats``: Statistics of a semaphore."""

    _fields_ = [
        ("size", c_size_t),
        ("value", c_uint64),
        ("held", c_uint64),
    ]
    #: Permits that can be acquired now, including those of dead processes.
    value: int
    #: Permits that this process has acquired through this handle and not released.
    held: int


class ConditionStats(Sized):
    """``shoal_condition_stats``: Statistics of a condition."""

    _fields_ = [
        ("size", c_size_t),
        ("waiting", c_uint64),
    ]
    #: How many wait and have not been notified.
    waiting: int


class BarrierStats(Sized):
    """``shoal_barrier_stats``: Statistics of a barrier."""

    _fields_ = [
        ("size", c_size_t),
        ("parties", c_uint64),
        ("waiting", c_uint64),
        ("broken", c_bool),
    ]
    #: How many wait for each other.
    parties: int
    #: How many wait.
    waiting: int
    #: Whether it is broken.
    broken: bool


class Waitable(Structure):
    """``shoal_waitable``: Something to wait for: one of the pointers, or `fd` where all of them are
    NULL."""

    _fields_ = [
        ("queue", c_void_p),
        ("pipe", c_void_p),
        ("process", c_void_p),
        ("fd", c_int),
    ]
    #: Ready while there is something to get, and once it is closed or poisoned.
    queue: Any
    #: Ready while there is something to receive, and once the connection is over.
    pipe: Any
    #: Ready once it has ended.
    process: Any
    #: Ready while it is readable, or at its end.
    fd: int


class Watched(Structure):
    """``shoal_watched``: How to find out, without a call, whether the value of a key may have
    changed."""

    _fields_ = [
        ("word", c_void_p),
        ("seen", c_uint64),
    ]
    #: A number in shared memory; NULL if the value must not be kept.
    word: Any
    #: What the number was before the value was read.
    seen: int
