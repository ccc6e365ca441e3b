"""The constants and functions of the C interface, as ctypes sees them.

Generated from src/ffi by `cargo xtask header`; edit there.
"""

from __future__ import annotations

from ctypes import c_bool, c_char_p, c_double, c_int, c_int64, c_size_t, c_uint32, c_uint64
from ctypes import c_void_p

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Tuple

ABI_VERSION = 0
FOREVER = -1
NOWAIT = 0
CREATE = 1
EXCLUSIVE = 2
PERSISTENT = 4
FIRST_END = 0
SECOND_END = 1
SIMPLEX = 32
ORDERED = 64
COMPACT = 128
RECURSIVE = 8
BOUNDED = 16
ALL = 4294967295
LEASE_EXCLUSIVE = 0
LEASE_ROTATE = 1
LEASE_INDEX_ONLY = 2
EXIT_EXITED = 0
EXIT_SIGNALED = 1
EXIT_UNKNOWN = 2
SPAWN_NEW_GROUP = 1
SPAWN_NEW_SESSION = 2
SPAWN_DIE_WITH_PARENT = 4
SPAWN_KEEP_SIGNALS = 8
STDIO_INHERIT = 0
STDIO_NULL = -1
STDIO_PIPE = -2
STDIO_IS_FD = 1073741824
RESTART_NEVER = 0
RESTART_ON_FAILURE = 1
RESTART_ALWAYS = 2
SUPERVISOR_KEEP_GOING = 1
SUPERVISOR_PLAIN = 2
EVERY_WORKER = -1
OUTCOME_SUCCEEDED = 0
OUTCOME_FAILED = 1
OUTCOME_STOPPED = 2
WORKER_WAITING = 0
WORKER_RUNNING = 1
WORKER_RESTARTING = 2
WORKER_ENDED = 3
WORKER_FAILED = 4
WORKER_EVENT_STARTED = 0
WORKER_EVENT_EXITED = 1
WORKER_EVENT_RESTARTING = 2
WORKER_EVENT_START_FAILED = 3
WORKER_EVENT_GAVE_UP = 4
WORKER_EVENT_STOPPING = 5
WORKER_EVENT_KILLING = 6
WORKER_EVENT_GUARDIAN_LOST = 7

KIND_ANY = 0
KIND_QUEUE = 1
KIND_MAP = 2
KIND_LIST = 3
KIND_PIPE = 4
KIND_ARRAY = 5
KIND_LOCK = 8
KIND_SEMAPHORE = 9
KIND_EVENT = 10
KIND_CONDITION = 11
KIND_BARRIER = 12
KIND_RWLOCK = 13
OK = 0
ERR_INVALID = 1
ERR_NOT_FOUND = 2
ERR_EXISTS = 3
ERR_PERMISSION = 4
ERR_NO_SPACE = 5
ERR_TOO_LARGE = 6
ERR_BUFFER_TOO_SMALL = 7
ERR_TIMEOUT = 8
ERR_END = 9
ERR_CLOSED = 10
ERR_INTERRUPTED = 11
ERR_WRONG_KIND = 12
ERR_VERSION_MISMATCH = 13
ERR_CORRUPT = 14
ERR_POISONED = 15
ERR_EXPIRED = 16
ERR_EXHAUSTED = 17
ERR_UNSUPPORTED = 18
ERR_OS = 19
ERR_INTERNAL = 20

# Each function's result and arguments. A pointer is a `c_void_p`, which takes `byref()`, an array and
# an address; text is a `c_char_p`.
PROTOTYPES: Dict[str, Tuple[Any, Tuple[Any, ...]]] = {
    "shoal_last_error": (c_char_p, ()),
    "shoal_status_name": (c_char_p, (c_uint32,)),
    "shoal_version": (c_char_p, ()),
    "shoal_abi_version": (c_uint32, ()),
    "shoal_gc": (c_uint32, (c_void_p,)),
    "shoal_leave": (c_uint32, ()),
    "shoal_name": (c_char_p, (c_void_p,)),
    "shoal_unlink": (c_uint32, (c_char_p, c_uint32)),
    "shoal_end_waits": (c_uint32, (c_void_p,)),
    "shoal_queue_open": (c_uint32, (c_char_p, c_void_p, c_void_p, c_void_p)),
    "shoal_queue_free": (None, (c_void_p,)),
    "shoal_queue_stat": (c_uint32, (c_void_p, c_void_p)),
    "shoal_queue_put": (c_uint32, (c_void_p, c_void_p, c_size_t, c_int64)),
    "shoal_queue_put_many": (c_uint32, (c_void_p, c_void_p, c_size_t, c_int64, c_void_p)),
    "shoal_queue_get": (c_uint32, (c_void_p, c_int64, c_void_p, c_size_t, c_void_p)),
    "shoal_queue_peek": (c_uint32, (c_void_p, c_uint64, c_void_p, c_size_t, c_void_p)),
    "shoal_queue_get_many": (
        c_uint32,
        (c_void_p, c_int64, c_void_p, c_size_t, c_void_p, c_size_t, c_void_p),
    ),
    "shoal_queue_len": (c_uint32, (c_void_p, c_void_p)),
    "shoal_queue_close": (c_uint32, (c_void_p,)),
    "shoal_queue_join": (c_uint32, (c_void_p, c_int64)),
    "shoal_queue_dead_letters": (c_uint32, (c_void_p, c_void_p)),
    "shoal_queue_fd": (c_uint32, (c_void_p, c_void_p)),
    "shoal_queue_reserve": (c_uint32, (c_void_p, c_size_t, c_int64, c_void_p)),
    "shoal_queue_commit": (c_uint32, (c_void_p, c_void_p, c_size_t)),
    "shoal_queue_discard": (c_uint32, (c_void_p, c_void_p)),
    "shoal_queue_lease": (c_uint32, (c_void_p, c_int64, c_int64, c_void_p)),
    "shoal_queue_ack": (c_uint32, (c_void_p, c_void_p)),
    "shoal_queue_nack": (c_uint32, (c_void_p, c_void_p, c_int64)),
    "shoal_queue_extend": (c_uint32, (c_void_p, c_void_p, c_int64)),
    "shoal_pipe_open": (c_uint32, (c_char_p, c_uint32, c_void_p, c_void_p, c_void_p)),
    "shoal_pipe_pair": (c_uint32, (c_void_p, c_void_p, c_void_p)),
    "shoal_pipe_free": (None, (c_void_p,)),
    "shoal_pipe_stat": (c_uint32, (c_void_p, c_void_p)),
    "shoal_pipe_send": (c_uint32, (c_void_p, c_void_p, c_size_t, c_int64)),
    "shoal_pipe_recv": (c_uint32, (c_void_p, c_int64, c_void_p, c_size_t, c_void_p)),
    "shoal_pipe_reserve": (c_uint32, (c_void_p, c_size_t, c_int64, c_void_p)),
    "shoal_pipe_commit": (c_uint32, (c_void_p, c_void_p, c_size_t)),
    "shoal_pipe_discard": (c_uint32, (c_void_p, c_void_p)),
    "shoal_pipe_lease": (c_uint32, (c_void_p, c_int64, c_void_p)),
    "shoal_pipe_ack": (c_uint32, (c_void_p, c_void_p)),
    "shoal_pipe_nack": (c_uint32, (c_void_p, c_void_p, c_int64)),
    "shoal_pipe_poll": (c_uint32, (c_void_p, c_int64, c_void_p)),
    "shoal_pipe_fd": (c_uint32, (c_void_p, c_void_p)),
    "shoal_map_open": (c_uint32, (c_char_p, c_void_p, c_void_p, c_void_p)),
    "shoal_map_free": (None, (c_void_p,)),
    "shoal_map_stat": (c_uint32, (c_void_p, c_void_p)),
    "shoal_map_set": (c_uint32, (c_void_p, c_void_p, c_size_t, c_void_p, c_size_t)),
    "shoal_map_get": (
        c_uint32,
        (c_void_p, c_void_p, c_size_t, c_void_p, c_size_t, c_void_p, c_void_p),
    ),
    "shoal_map_insert": (c_uint32, (c_void_p, c_void_p, c_size_t, c_void_p, c_size_t, c_void_p)),
    "shoal_map_remove": (c_uint32, (c_void_p, c_void_p, c_size_t)),
    "shoal_map_take": (c_uint32, (c_void_p, c_void_p, c_size_t, c_void_p, c_size_t, c_void_p)),
    "shoal_map_contains": (c_uint32, (c_void_p, c_void_p, c_size_t, c_void_p)),
    "shoal_map_compare_swap": (
        c_uint32,
        (c_void_p, c_void_p, c_size_t, c_void_p, c_size_t, c_void_p, c_size_t, c_void_p),
    ),
    "shoal_map_len": (c_uint32, (c_void_p, c_void_p)),
    "shoal_map_clear": (c_uint32, (c_void_p,)),
    "shoal_map_iter_new": (c_uint32, (c_void_p, c_void_p)),
    "shoal_map_iter_next": (c_uint32, (c_void_p, c_void_p, c_void_p, c_void_p, c_void_p)),
    "shoal_map_iter_free": (None, (c_void_p,)),
    "shoal_map_version": (c_uint32, (c_void_p, c_void_p, c_size_t, c_void_p)),
    "shoal_map_compare_swap_version": (
        c_uint32,
        (c_void_p, c_void_p, c_size_t, c_uint64, c_void_p, c_size_t, c_void_p),
    ),
    "shoal_map_add": (c_uint32, (c_void_p, c_void_p, c_size_t, c_int64, c_void_p)),
    "shoal_map_add_f64": (c_uint32, (c_void_p, c_void_p, c_size_t, c_double, c_void_p)),
    "shoal_map_set_many": (c_uint32, (c_void_p, c_void_p, c_void_p, c_size_t)),
    "shoal_map_get_many": (
        c_uint32,
        (c_void_p, c_void_p, c_size_t, c_void_p, c_size_t, c_void_p, c_void_p),
    ),
    "shoal_map_set_for": (c_uint32, (c_void_p, c_void_p, c_size_t, c_void_p, c_size_t, c_int64)),
    "shoal_map_expire": (c_uint32, (c_void_p, c_void_p, c_size_t, c_int64)),
    "shoal_map_time_left": (c_uint32, (c_void_p, c_void_p, c_size_t, c_void_p)),
    "shoal_map_purge": (c_uint32, (c_void_p, c_void_p)),
    "shoal_map_lock_key": (c_uint32, (c_void_p, c_void_p, c_size_t, c_int64, c_void_p)),
    "shoal_map_unlock_key": (c_uint32, (c_void_p, c_void_p, c_size_t)),
    "shoal_map_wait_change": (c_uint32, (c_void_p, c_uint64, c_int64, c_void_p)),
    "shoal_map_wait_key": (c_uint32, (c_void_p, c_void_p, c_size_t, c_uint64, c_int64, c_void_p)),
    "shoal_map_view": (c_uint32, (c_void_p, c_void_p, c_size_t, c_void_p)),
    "shoal_map_view_end": (c_uint32, (c_void_p, c_void_p)),
    "shoal_list_open": (c_uint32, (c_char_p, c_void_p, c_void_p, c_void_p)),
    "shoal_list_free": (None, (c_void_p,)),
    "shoal_list_stat": (c_uint32, (c_void_p, c_void_p)),
    "shoal_list_append": (c_uint32, (c_void_p, c_void_p, c_size_t)),
    "shoal_list_insert": (c_uint32, (c_void_p, c_int64, c_void_p, c_size_t)),
    "shoal_list_get": (c_uint32, (c_void_p, c_int64, c_void_p, c_size_t, c_void_p)),
    "shoal_list_pop": (c_uint32, (c_void_p, c_int64, c_void_p, c_size_t, c_void_p)),
    "shoal_list_set": (c_uint32, (c_void_p, c_int64, c_void_p, c_size_t)),
    "shoal_list_compare_swap": (
        c_uint32,
        (c_void_p, c_int64, c_void_p, c_size_t, c_void_p, c_size_t, c_void_p),
    ),
    "shoal_list_swap": (c_uint32, (c_void_p, c_int64, c_int64)),
    "shoal_list_splice": (c_uint32, (c_void_p, c_int64, c_int64, c_void_p, c_size_t)),
    "shoal_list_get_many": (
        c_uint32,
        (c_void_p, c_uint64, c_void_p, c_size_t, c_void_p, c_size_t, c_void_p, c_void_p),
    ),
    "shoal_list_sort": (c_uint32, (c_void_p, c_void_p, c_void_p)),
    "shoal_list_reverse": (c_uint32, (c_void_p,)),
    "shoal_list_len": (c_uint32, (c_void_p, c_void_p)),
    "shoal_list_clear": (c_uint32, (c_void_p,)),
    "shoal_array_open": (c_uint32, (c_char_p, c_void_p, c_void_p, c_void_p)),
    "shoal_array_free": (None, (c_void_p,)),
    "shoal_array_stat": (c_uint32, (c_void_p, c_void_p)),
    "shoal_array_data": (c_uint32, (c_void_p, c_void_p, c_void_p)),
    "shoal_array_lock": (c_uint32, (c_void_p, c_int64, c_void_p)),
    "shoal_array_unlock": (c_uint32, (c_void_p,)),
    "shoal_lock_open": (c_uint32, (c_char_p, c_void_p, c_void_p, c_void_p)),
    "shoal_lock_free": (None, (c_void_p,)),
    "shoal_lock_stat": (c_uint32, (c_void_p, c_void_p)),
    "shoal_lock_lock": (c_uint32, (c_void_p, c_int64, c_void_p)),
    "shoal_lock_unlock": (c_uint32, (c_void_p,)),
    "shoal_rwlock_open": (c_uint32, (c_char_p, c_void_p, c_void_p, c_void_p)),
    "shoal_rwlock_free": (None, (c_void_p,)),
    "shoal_rwlock_stat": (c_uint32, (c_void_p, c_void_p)),
    "shoal_rwlock_lock_read": (c_uint32, (c_void_p, c_int64, c_void_p)),
    "shoal_rwlock_lock_write": (c_uint32, (c_void_p, c_int64, c_void_p)),
    "shoal_rwlock_unlock_read": (c_uint32, (c_void_p,)),
    "shoal_rwlock_unlock_write": (c_uint32, (c_void_p,)),
    "shoal_semaphore_open": (c_uint32, (c_char_p, c_void_p, c_void_p, c_void_p)),
    "shoal_semaphore_free": (None, (c_void_p,)),
    "shoal_semaphore_stat": (c_uint32, (c_void_p, c_void_p)),
    "shoal_semaphore_acquire": (c_uint32, (c_void_p, c_int64)),
    "shoal_semaphore_release": (c_uint32, (c_void_p, c_uint32)),
    "shoal_event_open": (c_uint32, (c_char_p, c_void_p, c_void_p, c_void_p)),
    "shoal_event_free": (None, (c_void_p,)),
    "shoal_event_set": (c_uint32, (c_void_p,)),
    "shoal_event_clear": (c_uint32, (c_void_p,)),
    "shoal_event_is_set": (c_uint32, (c_void_p, c_void_p)),
    "shoal_event_wait": (c_uint32, (c_void_p, c_int64)),
    "shoal_condition_open": (c_uint32, (c_char_p, c_void_p, c_void_p, c_void_p)),
    "shoal_condition_free": (None, (c_void_p,)),
    "shoal_condition_stat": (c_uint32, (c_void_p, c_void_p)),
    "shoal_condition_wait": (c_uint32, (c_void_p, c_void_p, c_int64, c_void_p)),
    "shoal_condition_notify": (c_uint32, (c_void_p, c_uint32)),
    "shoal_barrier_open": (c_uint32, (c_char_p, c_void_p, c_void_p, c_void_p)),
    "shoal_barrier_free": (None, (c_void_p,)),
    "shoal_barrier_stat": (c_uint32, (c_void_p, c_void_p)),
    "shoal_barrier_wait": (c_uint32, (c_void_p, c_int64, c_void_p)),
    "shoal_barrier_abort": (c_uint32, (c_void_p,)),
    "shoal_barrier_reset": (c_uint32, (c_void_p,)),
    "shoal_wait_any": (c_uint32, (c_void_p, c_size_t, c_int64, c_void_p)),
    "shoal_device_resolve": (
        c_uint32,
        (c_char_p, c_char_p, c_char_p, c_void_p, c_size_t, c_void_p),
    ),
    "shoal_device_environment": (c_uint32, (c_char_p, c_char_p, c_void_p, c_size_t, c_void_p)),
    "shoal_device_visible": (c_uint32, (c_char_p, c_void_p, c_size_t, c_void_p)),
    "shoal_device_discover": (c_uint32, (c_char_p, c_void_p, c_size_t, c_void_p)),
    "shoal_device_set_visible": (c_uint32, (c_char_p, c_char_p, c_void_p)),
    "shoal_device_family": (c_char_p, (c_size_t,)),
    "shoal_device_variable": (c_char_p, (c_char_p,)),
    "shoal_lease_acquire": (c_uint32, (c_void_p, c_int64, c_void_p)),
    "shoal_lease_request": (c_uint32, (c_void_p, c_void_p)),
    "shoal_lease_wait": (c_uint32, (c_void_p, c_int64)),
    "shoal_lease_mask": (c_uint32, (c_void_p, c_void_p, c_size_t, c_void_p)),
    "shoal_lease_id": (c_uint32, (c_void_p, c_void_p, c_size_t, c_void_p)),
    "shoal_lease_devices": (c_uint32, (c_void_p, c_void_p, c_size_t, c_void_p)),
    "shoal_lease_environment": (
        c_uint32,
        (c_void_p, c_uint32, c_size_t, c_size_t, c_void_p, c_size_t, c_void_p),
    ),
    "shoal_lease_fd": (c_uint32, (c_void_p, c_void_p)),
    "shoal_lease_keep_on_exec": (c_uint32, (c_void_p, c_bool)),
    "shoal_lease_holders": (c_uint32, (c_void_p, c_size_t, c_void_p)),
    "shoal_lease_free": (None, (c_void_p,)),
    "shoal_process_spawn": (c_uint32, (c_void_p, c_void_p)),
    "shoal_process_fork": (c_uint32, (c_void_p, c_void_p, c_void_p, c_void_p)),
    "shoal_process_join": (c_uint32, (c_void_p, c_int64, c_void_p)),
    "shoal_process_pid": (c_uint32, (c_void_p, c_void_p)),
    "shoal_process_fd": (c_uint32, (c_void_p, c_void_p)),
    "shoal_process_signal": (c_uint32, (c_void_p, c_int, c_bool)),
    "shoal_process_stdio": (c_uint32, (c_void_p, c_int, c_void_p)),
    "shoal_process_free": (None, (c_void_p,)),
    "shoal_supervisor_start": (c_uint32, (c_void_p, c_void_p)),
    "shoal_supervisor_wait": (c_uint32, (c_void_p, c_int64, c_void_p)),
    "shoal_supervisor_stop": (c_uint32, (c_void_p, c_int64)),
    "shoal_supervisor_begin_stop": (c_uint32, (c_void_p, c_int, c_int64)),
    "shoal_supervisor_signal": (c_uint32, (c_void_p, c_int64, c_int)),
    "shoal_supervisor_worker": (c_uint32, (c_void_p, c_int64, c_void_p)),
    "shoal_supervisor_event": (c_uint32, (c_void_p, c_int64, c_void_p)),
    "shoal_supervisor_free": (None, (c_void_p,)),
    "shoal_leave_and_exit": (None, (c_int,)),
    "shoal_lease_pass_to_forks": (c_uint32, (c_void_p, c_bool)),
    "shoal_pipe_hold": (c_uint32, (c_void_p, c_void_p)),
    "shoal_pipe_drop_hold": (c_uint32, (c_char_p, c_int)),
    "shoal_map_get_watched": (
        c_uint32,
        (c_void_p, c_void_p, c_size_t, c_void_p, c_size_t, c_void_p, c_void_p),
    ),
    "shoal_map_last_key": (c_uint32, (c_void_p, c_void_p, c_size_t, c_void_p)),
    "shoal_list_splice_if": (
        c_uint32,
        (c_void_p, c_uint64, c_int64, c_int64, c_void_p, c_size_t, c_void_p),
    ),
    "shoal_list_rearrange_if": (c_uint32, (c_void_p, c_uint64, c_void_p, c_size_t, c_void_p)),
    "shoal_list_rearrange_same": (
        c_uint32,
        (c_void_p, c_void_p, c_size_t, c_void_p, c_size_t, c_void_p),
    ),
    "shoal_lock_try": (c_uint32, (c_void_p, c_void_p)),
    "shoal_lock_unlock_any": (c_uint32, (c_void_p,)),
    "shoal_lock_depth": (c_uint32, (c_void_p, c_void_p)),
    "shoal_semaphore_try_acquire": (c_uint32, (c_void_p,)),
    "shoal_semaphore_try_release": (c_uint32, (c_void_p, c_uint32)),
    "shoal_semaphore_try_value": (c_uint32, (c_void_p, c_void_p)),
    "shoal_semaphore_keep": (c_uint32, (c_void_p,)),
    "shoal_condition_enlist": (c_uint32, (c_void_p, c_void_p)),
    "shoal_condition_sleep": (c_uint32, (c_void_p, c_uint32, c_int64)),
    "shoal_condition_leave": (c_uint32, (c_void_p, c_uint32, c_void_p)),
    "shoal_barrier_arrive": (c_uint32, (c_void_p, c_int64, c_void_p, c_void_p, c_void_p)),
    "shoal_barrier_pass": (c_uint32, (c_void_p, c_uint32)),
    "shoal_barrier_sleep": (c_uint32, (c_void_p, c_uint32, c_int64)),
    "shoal_barrier_leave": (c_uint32, (c_void_p, c_uint32)),
    "shoal_barrier_give_up": (c_uint32, (c_void_p, c_uint32)),
    "shoal_queue_try_put": (c_uint32, (c_void_p, c_void_p, c_size_t)),
    "shoal_queue_try_get": (c_uint32, (c_void_p, c_void_p, c_size_t, c_void_p)),
}
