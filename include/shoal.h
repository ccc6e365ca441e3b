/*
 * SPDX-License-Identifier: MIT OR Apache-2.0
 * Generated from src/ffi by `cargo xtask header`; edit there.
 */

/**
 * Shoal: queues, pipes, maps, lists, arrays, locks and child processes for the programs of one machine,
 * which survive each other's death.
 *
 * # Contents
 *
 * - General: errors, versions, names, and cleaning up after processes.
 * - Queue: messages of any length, which any number of processes put and get.
 * - Pipe: a connection of two ends, for messages.
 * - Map: keys and values, which any number of processes read and write.
 * - List: a sequence of byte strings that any number of processes read and write.
 * - Array: items of one size in plain shared memory, and a lock for them.
 * - Lock: a lock between processes and threads.
 * - Read-write lock: a lock that many hold for reading, or one for writing.
 * - Semaphore: permits that processes acquire and release.
 * - Event: a flag that is set or not, and that processes wait for.
 * - Condition: waiting for a change of something that a `shoal_lock` guards.
 * - Barrier: a point at which a fixed number of processes or threads wait for each other.
 * - Waiting: waiting for the first of several queues, pipes, processes and descriptors.
 * - Device: which devices, such as GPUs, this process and its children see.
 * - Lease: devices that no other program has at the same time, as long as all of them ask for leases.
 * - Process: programs that are started, and copies of this process.
 * - Supervisor: workers that are supervised: started together, restarted when they fail, and ended together, also when this process is killed.
 *
 * What only language bindings need is in `shoal_bindings.h`.
 *
 * # Conventions
 *
 * - Functions are named `shoal_<object>_<verb>`.
 * - Parameters come in this order: the handle; inputs; the timeout; outputs. A buffer to be filled is three
 *   outputs: `buf`, `capacity` (the bytes there) and `*len` (the bytes used).
 * - Most functions return a `shoal_status`; 0 is success. `shoal_last_error()` then has a sentence about it
 *   for the calling thread. There are no partial successes, except where a count says so.
 * - A timeout is a number of nanoseconds. SHOAL_FOREVER (or any negative number) waits without limit,
 *   SHOAL_NOWAIT (0) does not wait. When the time is over the status is SHOAL_ERR_TIMEOUT, with SHOAL_NOWAIT
 *   too; only `shoal_pipe_poll` answers by its result. Durations are nanoseconds as well, and SHOAL_FOREVER
 *   is without limit. Setting the system's clock has no effect on them, and the time in which the machine is
 *   suspended does not count.
 * - Handles (`shoal_queue *`, ...) are opaque. A handle that is NULL, misaligned, freed or of another type is
 *   SHOAL_ERR_INVALID. The library cannot detect a pointer to memory that is not mapped, nor a freed handle
 *   whose memory is in use for a later one.
 * - Strings are UTF-8 and end with NUL. Data is a pointer and a length; the pointer may be NULL if the length
 *   is 0. What you pass in stays yours, and is not used after the call.
 * - After a failure a handle output is NULL, counts and lengths are 0, and other outputs are unchanged. Only
 *   SHOAL_ERR_BUFFER_TOO_SMALL writes the size needed to `*len`; nothing is taken then.
 * - An output may be NULL if it is not the main result: each `bool *` that is not named `out`, and those named
 *   `version`, `index`, `sum`, `removed` and `end`. The others may not.
 * - A compiler warns if a status is dropped, except of functions that are called for their effect alone.
 * - Options and statistics are structs that begin with `size`: set it to `sizeof` the struct, and options
 *   otherwise to zero for the defaults. A program compiled against an older header continues to work.
 *
 * # Opening
 *
 * `shoal_<object>_open` opens what exists, or with SHOAL_CREATE creates it if there is none of that name.
 *
 * - `name`: 1 to 200 letters, digits, '.', '_', '-'. NULL always creates an object under a new name, which
 *   `shoal_name` returns.
 * - `options`: NULL opens what exists. Sizes and lifetime apply if this call creates the object; one that
 *   exists keeps its own.
 * - `*out`: the handle. It is yours until `shoal_<object>_free`. `*created`: whether this call created it.
 *
 * It waits only for processes that are opening or leaving the same object, for some seconds at most. Several
 * threads and processes may call it at the same time: one of them creates the object.
 *
 * Errors: SHOAL_ERR_INVALID (name, options); SHOAL_ERR_NOT_FOUND; SHOAL_ERR_EXISTS (SHOAL_EXCLUSIVE);
 * SHOAL_ERR_WRONG_KIND; SHOAL_ERR_PERMISSION; SHOAL_ERR_NO_SPACE; SHOAL_ERR_TOO_LARGE (a size);
 * SHOAL_ERR_VERSION_MISMATCH; SHOAL_ERR_EXHAUSTED (more than a thousand handles on it);
 * SHOAL_ERR_UNSUPPORTED (no directory for objects); SHOAL_ERR_OS (such as no file descriptor left);
 * SHOAL_ERR_TIMEOUT (a process that opens or leaves the object is stopped; the message says which).
 *
 * # Freeing
 *
 * `shoal_<object>_free` frees a handle; NULL is allowed. The last handle of all processes removes an object
 * that is not persistent, with what is in it. Once the function is called, no other thread may begin to use
 * the handle. Threads that wait in a call through it return SHOAL_ERR_CLOSED first (better: end the waits by
 * `shoal_end_waits`, and join the threads). If one does not return within a second, the object stays open
 * until the process ends. In a forked child the child's copy is freed. To free a handle twice has no effect,
 * as long as its memory is not in use for a later one.
 *
 * # Statistics
 *
 * `shoal_<object>_stat` fills in a struct, of which you set `size`. The numbers are those of one moment if no
 * process changes the object meanwhile.
 *
 * # Locks
 *
 * A function that takes a lock says by `*owner_died` whether its last owner died, or freed its handle, while
 * it had the lock: what the lock guards may be half changed then. It is reported once: to unlock declares
 * the data consistent. The caller holds the lock as usual.
 *
 * What is locked, acquired or leased belongs to a handle in a process, not to a thread. A thread that ends
 * with a lock leaves it taken for as long as its process has the handle: another thread can unlock a plain
 * lock and a key, release a permit or a read-write lock, and end a lease. A recursive lock, and that of an
 * array, can only be unlocked by its own thread; a thread that begins after that thread's end may be mistaken
 * for it. A forked child holds nothing that its parent has locked.
 *
 * # Blocking, threads, fork
 *
 * A function with a timeout waits for what its comment says, at most until the time is over. If a process is
 * stopped inside a call on the object, the function may wait a second for it, even if the timeout is shorter.
 * Every other function waits at most for other processes' calls on the same object that are in progress; its
 * comment says if it may wait for anything else.
 *
 * Every function may be called from any thread at any time, on the same handle too, except for what is said
 * of freeing and of `shoal_map_iter`. No function is async-signal-safe. No signal handler is installed, and no
 * setting of the process is touched, except by `shoal_device_set_visible`.
 *
 * A signal handler that runs while a call sleeps ends it with SHOAL_ERR_INTERRUPTED: call again to go on. One
 * that runs before the call sleeps, or between two sleeps, does not: a program that must notice a signal waits
 * with a timeout. `pthread_cancel` does not end a call: the thread ends at its next cancellation point
 * outside the library. Its type must not be PTHREAD_CANCEL_ASYNCHRONOUS during a call.
 *
 * A thread needs a stack of 64 KiB for any function, in addition to thread-local variables and callbacks.
 * (PTHREAD_STACK_MIN is too small.)
 *
 * Handles work in a forked child, which becomes a participant of its own. Its copies of process handles cannot
 * tell how those processes ended. Of a process with other threads the usual rule holds for your own code: what
 * they had locked stays locked in the child. Handles do not survive exec: open by name. Before a
 * fork, each handle takes one more of the 1024 slots of its object for the child, and the library opens a
 * descriptor; one is kept in reserve for a fork at which none is free, or at which the directory of the objects
 * and /proc cannot be reached (`chroot`). A child for which there is none has no part in the objects: what its
 * parent has stays untouched, and its calls through inherited handles fail with SHOAL_ERR_EXHAUSTED, except for
 * those that take no lock, as on events. It may open the objects again by name. A child of `_Fork` or of a raw
 * `clone`, for which the C library runs no fork handlers, is mistaken for its parent: it must not call the library
 * before an exec.
 *
 * A program that locks its memory adds MCL_ONFAULT to the flags of `mlockall`. Without that the kernel commits
 * all that an object can grow to, which fills the file system.
 *
 * # Sanitizers
 *
 * Programs may be compiled with AddressSanitizer, UndefinedBehaviorSanitizer and ThreadSanitizer; the library
 * is not. For ThreadSanitizer, calls through the same handle count as ordered (`shoal_tsan.h`), so that what a
 * lock guards is no race. What happens inside a call is not checked, nor is the comparison of `shoal_list_sort`.
 *
 * # Errors of all functions
 *
 * Comments list only what is particular to a function. In addition, a function may return:
 *
 * - SHOAL_ERR_INVALID: a handle or an argument;
 * - SHOAL_ERR_TIMEOUT, SHOAL_ERR_INTERRUPTED: if it has a timeout;
 * - SHOAL_ERR_CLOSED: if it would have to wait, and the waits through the handle were ended;
 * - SHOAL_ERR_CORRUPT: bytes in shared memory break an invariant: a program has overwritten them;
 * - SHOAL_ERR_POISONED: the object could not be repaired after a process died in a call on it; from then on
 *   every call returns this;
 * - SHOAL_ERR_INTERNAL: a bug in the library.
 *
 * # Processes that die
 *
 * - A process may be killed at any instruction. What it was putting is there completely or not at all; a
 *   message that it had just got is lost with it. The next process that uses the object repairs it.
 * - A process that is stopped (SIGSTOP, a debugger) inside a call blocks the others. So does a thread that
 *   ends inside a call (longjmp out of a signal handler) for as long as its process lives.
 * - An object that is not persistent and has no relay is removed with its last handle. If its last process is
 *   killed, or ends by `_exit` without `shoal_leave()`, it stays until `shoal_gc()`, until a process opens
 *   its name, or until a process creates its first object or finds no memory.
 *
 * # Where objects are
 *
 * - Objects are files in `/dev/shm`, or in the directory that the environment variable SHOAL_DIR names: an
 *   absolute path, best on a tmpfs, the same for all processes that share objects. It is read once, at the
 *   first call that needs it. On another file system the first creation tests for what objects need, and
 *   returns SHOAL_ERR_UNSUPPORTED with the name of what is missing. Where that is a disk, a full disk is
 *   SHOAL_ERR_NO_SPACE as well, and ends a process by SIGBUS only if the file system writes changed data to a
 *   new place (btrfs, ZFS), or if another program reads the files of open objects.
 * - When its file system is full, a function that needs memory first removes what killed processes left. If
 *   that is not enough it returns SHOAL_ERR_NO_SPACE and changes nothing. Containers often have 64 MiB of
 *   `/dev/shm`.
 * - Where a control group of processes reaches its memory limit (`memory.max`), the kernel kills one of
 *   them, as by `kill -9`. If the kernel is configured not to do that, the call returns SHOAL_ERR_NO_SPACE.
 * - Only processes of one user and one pid namespace share objects, whatever C library they use. Among them
 *   there is no protection: nothing stops a process from deleting your data. An object that no process has
 *   open is free: its name can be used again, and what is persistent is opened by the next pid namespace.
 * - Handles keep no file descriptor, except of a queue or pipe that was asked for one; a process keeps one for
 *   all of them. A program may close all descriptors that it finds, as daemons do: its objects continue to work,
 *   and a file that gets the same number later is not touched.
 * - Linux only.
 */

#ifndef SHOAL_H
#define SHOAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** The first number of the version of this header. */
#define SHOAL_VERSION_MAJOR 0
/** The second number. */
#define SHOAL_VERSION_MINOR 1
/** The third number. */
#define SHOAL_VERSION_PATCH 0
/** The version of this header as text; `shoal_version()` is that of the library. */
#define SHOAL_VERSION "0.1.0"

#if defined(__GNUC__)
#define SHOAL_API __attribute__((visibility("default")))
#define SHOAL_NODISCARD __attribute__((warn_unused_result))
#else
#define SHOAL_API
#define SHOAL_NODISCARD
#endif

/** In `shoal_spawn_options.stdio`: descriptor n of this process, which stays yours. */
#define SHOAL_STDIO_FD(n) ((n) ^ SHOAL_STDIO_IS_FD)

#ifdef __cplusplus
extern "C" {
#endif

/* ---------------------------------------------------------------------------------------------
   General

   Errors, versions, names, and cleaning up after processes.

   Killed: Every object is as before the call or as after it. A later call removes what `shoal_gc` had not
   removed yet.
   --------------------------------------------------------------------------------------------- */

/** Grows by one with every release that programs compiled against an older header do not work with. */
#define SHOAL_ABI_VERSION 0

/** No limit, wherever a timeout or a duration is taken. */
#define SHOAL_FOREVER (-1)

/** A timeout of 0: the call does not wait. */
#define SHOAL_NOWAIT 0

/** In `flags`: create the object if there is none of that name. */
#define SHOAL_CREATE 1

/** In `flags`: create the object, and fail with SHOAL_ERR_EXISTS if there is one already. */
#define SHOAL_EXCLUSIVE 2

/** In `flags`: a created object stays until it is unlinked, also when no process has it open. */
#define SHOAL_PERSISTENT 4

/** How a call ended, for C, C++ and Python: each `Error` has one of these codes. Zero is success. */
typedef enum shoal_status {
    /** Success. */
    SHOAL_OK = 0,
    /** An argument is outside what the function accepts. */
    SHOAL_ERR_INVALID = 1,
    /** No object, key, program or device has this name. */
    SHOAL_ERR_NOT_FOUND = 2,
    /** An object of this name exists already. */
    SHOAL_ERR_EXISTS = 3,
    /** Access was refused, or the object is another user's. */
    SHOAL_ERR_PERMISSION = 4,
    /** Shared memory is full. */
    SHOAL_ERR_NO_SPACE = 5,
    /** The data can never fit, or a number is above its limit. */
    SHOAL_ERR_TOO_LARGE = 6,
    /** The caller's buffer is too small; nothing was taken. */
    SHOAL_ERR_BUFFER_TOO_SMALL = 7,
    /** The time is over, or was 0 and the call would have to wait. */
    SHOAL_ERR_TIMEOUT = 8,
    /** The end of an iterator. */
    SHOAL_ERR_END = 9,
    /** Closed, and nothing is left to take; or the waits through this handle were ended. */
    SHOAL_ERR_CLOSED = 10,
    /** A signal handler ran while the call waited. */
    SHOAL_ERR_INTERRUPTED = 11,
    /** The object is of another kind. */
    SHOAL_ERR_WRONG_KIND = 12,
    /** The object was made by an incompatible version or platform. */
    SHOAL_ERR_VERSION_MISMATCH = 13,
    /** Bytes in shared memory break an invariant. */
    SHOAL_ERR_CORRUPT = 14,
    /** The object could not be repaired and refuses use, or a barrier is broken. */
    SHOAL_ERR_POISONED = 15,
    /** The lease's time is over: the message is delivered again. */
    SHOAL_ERR_EXPIRED = 16,
    /** All places of a fixed number are taken. */
    SHOAL_ERR_EXHAUSTED = 17,
    /** The platform lacks what the function needs. */
    SHOAL_ERR_UNSUPPORTED = 18,
    /** Another error of the operating system. */
    SHOAL_ERR_OS = 19,
    /** A failure inside the library. */
    SHOAL_ERR_INTERNAL = 20,
} shoal_status;

/** The kinds of shared objects. */
typedef enum shoal_kind {
    /** Any kind. */
    SHOAL_KIND_ANY = 0,
    /** A `shoal_queue`. */
    SHOAL_KIND_QUEUE = 1,
    /** A `shoal_map`. */
    SHOAL_KIND_MAP = 2,
    /** A `shoal_list`. */
    SHOAL_KIND_LIST = 3,
    /** A `shoal_pipe`. */
    SHOAL_KIND_PIPE = 4,
    /** A `shoal_array`. */
    SHOAL_KIND_ARRAY = 5,
    /** A `shoal_lock`. */
    SHOAL_KIND_LOCK = 8,
    /** A `shoal_semaphore`. */
    SHOAL_KIND_SEMAPHORE = 9,
    /** A `shoal_event`. */
    SHOAL_KIND_EVENT = 10,
    /** A `shoal_condition`. */
    SHOAL_KIND_CONDITION = 11,
    /** A `shoal_barrier`. */
    SHOAL_KIND_BARRIER = 12,
    /** A `shoal_rwlock`. */
    SHOAL_KIND_RWLOCK = 13,
} shoal_kind;

/** Bytes that belong to the caller. */
typedef struct shoal_slice {
    /** The first byte; may be NULL if `len` is 0. */
    const void *data;
    /** How many there are. */
    size_t len;
} shoal_slice;

/** How to open a lock, read-write lock, semaphore, event, condition or barrier. */
typedef struct shoal_sync_options {
    /** `sizeof(shoal_sync_options)`. */
    size_t size;
    /**
     * SHOAL_CREATE, SHOAL_EXCLUSIVE, SHOAL_PERSISTENT; SHOAL_RECURSIVE of a lock, SHOAL_BOUNDED of a
     * semaphore.
     */
    uint64_t flags;
    /** The permits of a new semaphore, or the parties of a new barrier; 0 for all others. */
    uint64_t count;
} shoal_sync_options;

/**
 * A sentence about the last call of this thread that failed; "" if none has. A call that succeeds
 * does not change it: ask only after a failure.
 *
 * Ownership: a buffer of the calling thread, valid as long as the thread lives. The next call of the
 * thread that fails overwrites it. A sentence has at most 1023 bytes; a longer one is cut off.
 */
SHOAL_API const char *shoal_last_error(void);

/**
 * The name of a status: 8 gives "SHOAL_ERR_TIMEOUT"; "unknown status" for a number that is none. The
 * string is constant.
 */
SHOAL_API const char *shoal_status_name(uint32_t status);

/**
 * The version of the library at run time, such as "0.1.0"; SHOAL_VERSION is that of the header. The
 * string is constant.
 */
SHOAL_API const char *shoal_version(void);

/**
 * The SHOAL_ABI_VERSION of the library at run time. A program that loads the library itself (dlopen,
 * ctypes) compares it with that of its header.
 */
SHOAL_API uint32_t shoal_abi_version(void);

/**
 * Removes what killed processes left: objects that are not persistent and that no process has open,
 * and unfinished files. It never touches an object in use, a persistent one or another user's. The
 * library does the same when a process creates its first object, for up to 5 ms, or 50 ms if there is
 * much to remove; and, without such a limit, when it finds no memory.
 *
 * `*removed`: how many objects were removed.
 *
 * Errors: SHOAL_ERR_UNSUPPORTED (there is no directory for objects); SHOAL_ERR_PERMISSION (it cannot
 * be read).
 */
SHOAL_API shoal_status shoal_gc(size_t *removed);

/**
 * Leaves all objects of this process at once, as its normal exit does: for a program that is about to end by
 * `_exit`, which runs no exit handlers. Names of objects that no other process has are removed. After that
 * the calling thread may only free handles. Other threads may be in calls: what they hold stays held until
 * the process has ended, and is then treated as that of a dead process.
 *
 * It waits for processes that are opening or leaving the same objects, a second at most. A forked child and its
 * parent leave separately.
 *
 * ```c
 * if (fork() == 0) {
 *     int code = work();
 *     shoal_leave();
 *     _exit(code);
 * }
 * ```
 */
SHOAL_API shoal_status shoal_leave(void);

/**
 * The name of the object behind a handle of any kind, to open it by in another process. NULL if the
 * handle is invalid, or that of a `shoal_process`, `shoal_supervisor`, `shoal_lease` or
 * `shoal_map_iter`, which have no name.
 *
 * Ownership: the string is the handle's.
 */
SHOAL_API const char *shoal_name(const void *handle);

/**
 * Removes the name of an object. Processes that have the object open go on using it; its name is free
 * for another one.
 *
 * `kind`: the kind that it must be of; SHOAL_KIND_ANY for any.
 *
 * Errors: SHOAL_ERR_NOT_FOUND; SHOAL_ERR_WRONG_KIND; SHOAL_ERR_PERMISSION; SHOAL_ERR_TIMEOUT if another process
 * has been opening or leaving the object for five seconds, which means that it is stopped.
 */
SHOAL_API shoal_status shoal_unlink(const char *name, shoal_kind kind);

/**
 * Ends the waits through a handle of any kind: threads of this process that wait in a call through it
 * return SHOAL_ERR_CLOSED, and from now on so does each call through it that would have to wait. Calls
 * that need not wait go on working. Other handles on the object, in this process too, are not
 * affected.
 *
 * A thread that waits at a barrier breaks it, as on a timeout; one that waits for a condition has the lock
 * again when it returns, unless the waits through the lock were ended. The descriptor of a queue or a pipe
 * becomes readable. A thread that waits for a process, a supervisor or a lease, or for a condition with this
 * lock, returns within a tenth of a second, others at once. Waits in a forked child or in the parent do not
 * end.
 *
 * ```c
 * static void *consumer(void *q)
 * {
 *     while (shoal_queue_get(q, SHOAL_FOREVER, buf, sizeof buf, &len) == SHOAL_OK)
 *         work_on(buf, len);
 *     return NULL;
 * }
 * ...
 * shoal_end_waits(q);
 * pthread_join(thread, NULL);
 * shoal_queue_free(q);
 * ```
 */
SHOAL_API shoal_status shoal_end_waits(void *handle);

/* ---------------------------------------------------------------------------------------------
   Queue

   Messages of any length, which any number of processes put and get. Each message is got once, in the
   order in which they were put.

   A program in Rust can be a queue's relay (`relayed` in its statistics): messages that are put go to the
   relay, and are in the queue once it has delivered them. SHOAL_ERR_TIMEOUT then means that the relay is
   behind or does not run. A queue with a relay is persistent.

   Killed: What the process was putting is there completely or not at all; of several messages, the first
   ones. A message that it was getting, or had just got, may be lost with it. What it had reserved is
   discarded. What it had leased and not acked is delivered again, and so may be a message that it was acking.

   ```c
   shoal_queue_options options = {.size = sizeof options, .flags = SHOAL_CREATE};
   shoal_queue *jobs;
   char buf[4096];
   size_t len;
   shoal_status status = shoal_queue_open("jobs", &options, &jobs, NULL);
   if (status == SHOAL_OK)
       status = shoal_queue_put(jobs, "hello", 5, SHOAL_FOREVER);
   while (status == SHOAL_OK) {
       status = shoal_queue_get(jobs, 1000000000, buf, sizeof buf, &len);
       if (status == SHOAL_OK)
           work_on(buf, len);
   }
   if (status != SHOAL_ERR_TIMEOUT)
       fprintf(stderr, "%s\n", shoal_last_error());
   shoal_queue_free(jobs);
   ```
   --------------------------------------------------------------------------------------------- */

/** A queue of messages. */
typedef struct shoal_queue shoal_queue;

/** How to open a queue. All but `size` and `flags` apply to a new one. */
typedef struct shoal_queue_options {
    /** `sizeof(shoal_queue_options)`. */
    size_t size;
    /** SHOAL_CREATE, SHOAL_EXCLUSIVE, SHOAL_PERSISTENT. */
    uint64_t flags;
    /** Bytes of the ring at first, rounded up to a power of two; 0 for 64 KiB. */
    uint64_t capacity;
    /**
     * Bytes to which the ring may grow, rounded up to a power of two; 0 for 16 GiB, or less where
     * address space or files are limited. Address space only: memory is used as messages need it.
     */
    uint64_t max_capacity;
    /**
     * The most messages that were put and not taken; 0 for as many as fit. Leased messages are not counted, nor
     * those that were given back: with them it may hold more.
     */
    uint64_t max_items;
    /**
     * How often a message is leased before it becomes a dead letter, at most 255; 0 for any number of
     * times. The name of a queue with dead letters has at most 195 bytes.
     */
    uint64_t max_attempts;
} shoal_queue_options;

/** Statistics of a queue. */
typedef struct shoal_queue_stats {
    /** `sizeof(shoal_queue_stats)`. */
    size_t size;
    /** Messages that wait to be got. */
    uint64_t len;
    /** Bytes of these messages, without those that were given back. */
    uint64_t bytes;
    /** Bytes of the ring now. */
    uint64_t capacity;
    /** Bytes to which the ring may grow. */
    uint64_t max_capacity;
    /** The most messages that were put and not taken; 0 for as many as fit. */
    uint64_t max_items;
    /** Bytes of the longest message that can ever be put. */
    uint64_t max_message;
    /** How often a message is leased before it becomes a dead letter; 0 for any number of times. */
    uint64_t max_attempts;
    /** Messages that are leased. Those of a dead process count for a tenth of a second at most. */
    uint64_t leased;
    /** Messages that were given back and wait to be delivered again; `len` includes them. */
    uint64_t waiting;
    /**
     * Messages that were put and are not finished: neither got nor acked, nor moved to the dead letters.
     * `shoal_queue_join` with SHOAL_NOWAIT says exactly whether there are any.
     */
    uint64_t unfinished;
    /** Messages that were ever put. */
    uint64_t put;
    /** Their bytes. */
    uint64_t put_bytes;
    /** Messages that were ever taken: got, or leased for the first time. */
    uint64_t taken;
    /** Their bytes. */
    uint64_t taken_bytes;
    /** Whether the queue was closed. */
    bool closed;
    /** Whether the queue has a relay: what is put goes there, and comes back when the relay delivers it. */
    bool relayed;
} shoal_queue_stats;

/**
 * A message in place: reserved for writing by `shoal_queue_reserve` and `shoal_pipe_reserve`, or leased
 * for reading by `shoal_queue_lease` and `shoal_pipe_lease`.
 *
 * It is yours until a call ends it (commit or discard; ack or nack), which sets `data` to NULL and `len`
 * to 0, or until the handle is freed. Any thread may end it. When a process dies, what it had reserved is
 * discarded, and what it had leased goes to another consumer. A forked child cannot use its parent's
 * messages. Only the handle that got a message ends it.
 *
 * A copy of this struct is worth nothing once the message is ended: calls with it fail. But from the 255th
 * delivery of a message on, a copy of its last lease ends its present one, if the same handle has that.
 */
typedef struct shoal_message {
    /** Where it is. */
    void *data;
    /** Its bytes. */
    size_t len;
    /** How often it was leased, this time included; 255 stands for more. 0 if it is reserved. */
    uint32_t attempts;
    /** For the library only. */
    uint32_t block;
    /** For the library only. */
    uint64_t number;
    /** For the library only. */
    uint64_t owner;
} shoal_message;

/** Opens or creates a queue; see "Opening". */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_queue_open(const char *name, const shoal_queue_options *options,
                              shoal_queue **out, bool *created);

/** Frees the handle; see "Freeing". */
SHOAL_API void shoal_queue_free(shoal_queue *q);

/**
 * Fills in statistics; see "Statistics". While messages are leased it may wait for another process's call
 * on the queue.
 */
SHOAL_API SHOAL_NODISCARD shoal_status shoal_queue_stat(shoal_queue *q, shoal_queue_stats *out);

/**
 * Puts one message at the end of the queue, and waits for room if there is none: also while the queue may grow,
 * but shared memory is full.
 *
 * `data`, `len`: the message, of any length, 0 too. It takes 16 to 31 bytes more in the ring.
 *
 * Errors: SHOAL_ERR_CLOSED (the queue is closed); SHOAL_ERR_TOO_LARGE (it could never fit; at once);
 * SHOAL_ERR_NO_SPACE (shared memory is full, and the call does not wait or the message does not fit into the
 * memory that the queue has). After an error nothing was put.
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_queue_put(shoal_queue *q, const void *data, size_t len, int64_t timeout_ns);

/**
 * Puts messages in order, as many as there is room for in time. Much faster than one by one. It is not
 * atomic: messages of other processes may come between them.
 *
 * `items`, `n`: the messages. `*done`: how many were put, always the first ones. It is less than `n`
 * if the time was over, or an error occurred, after the first: put the rest to get the error.
 *
 * Errors: as `shoal_queue_put`, and only if not one message was put.
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_queue_put_many(shoal_queue *q, const shoal_slice *items, size_t n,
                                  int64_t timeout_ns, size_t *done);

/**
 * Takes the first message, and waits for one if there is none. Each message goes to one caller.
 *
 * Errors: SHOAL_ERR_CLOSED (the queue is closed and nothing is left); SHOAL_ERR_BUFFER_TOO_SMALL (the
 * message stays).
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_queue_get(shoal_queue *q, int64_t timeout_ns, void *buf, size_t capacity,
                             size_t *len);

/**
 * Copies a message without taking it.
 *
 * `index`: 0 is the next message to be taken. Messages that were given back come first; those that are
 * leased, or wait for a delay, are not seen. Delays consumers by some nanoseconds for each message before
 * `index`.
 *
 * Errors: SHOAL_ERR_NOT_FOUND (no message has this index); SHOAL_ERR_BUFFER_TOO_SMALL.
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_queue_peek(shoal_queue *q, uint64_t index, void *buf, size_t capacity,
                              size_t *len);

/**
 * Waits for a first message, then takes it and those that are there already.
 *
 * `buf`, `capacity`: where the messages go, back to back. `lens`, `max`: room for their lengths.
 * `*n`: how many there were, at most `max`, and no more than fit.
 *
 * Errors: as `shoal_queue_get`. SHOAL_ERR_BUFFER_TOO_SMALL if not even the first message fits:
 * `lens[0]` is the room that it needs.
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_queue_get_many(shoal_queue *q, int64_t timeout_ns, void *buf, size_t capacity,
                                  size_t *lens, size_t max, size_t *n);

/**
 * How many messages wait in the queue. Exact whenever no process puts or gets. Cheaper than
 * `shoal_queue_stat`: it never waits.
 */
SHOAL_API SHOAL_NODISCARD shoal_status shoal_queue_len(shoal_queue *q, uint64_t *out);

/**
 * Closes the queue for all processes: from now on every put fails with SHOAL_ERR_CLOSED, and every get
 * once nothing is left. Messages that other processes work on, and those that are to be delivered again after
 * a delay, are waited for, unless that delay is SHOAL_FOREVER. Calls that wait return. Closing twice is no
 * error.
 */
SHOAL_API shoal_status shoal_queue_close(shoal_queue *q);

/** Waits until every message that was ever put is finished: got, acked, or moved to the dead letters. */
SHOAL_API SHOAL_NODISCARD shoal_status shoal_queue_join(shoal_queue *q, int64_t timeout_ns);

/**
 * Opens the queue of the dead letters: messages that were leased `max_attempts` times and not acked. It is a
 * queue like any other; its name is that of this queue followed by `.dead`. It exists as long as this queue
 * does, and longer if a process has it open. If it refuses a message (it was closed, or has a smaller bound),
 * the message stays in this queue and is tried again ten times a second. The call that tries it, which takes
 * from this queue or joins it, returns SHOAL_ERR_INVALID.
 *
 * Errors: SHOAL_ERR_NOT_FOUND (there is no `max_attempts`); as "Opening".
 */
SHOAL_API SHOAL_NODISCARD shoal_status shoal_queue_dead_letters(shoal_queue *q, shoal_queue **out);

/**
 * A descriptor for event loops (poll, epoll): it is readable while there is something to get, and once
 * the queue is closed or poisoned.
 *
 * It is readable when the call that put a message or closed the queue has returned, and unreadable when the call
 * has returned that took the last message, in whatever process. Another process may be faster: get with
 * SHOAL_NOWAIT. With EPOLLET, get until SHOAL_ERR_TIMEOUT. If the queue's name was removed before the first call
 * of this function, or no file can be made in the directory of objects, a thread makes it readable and
 * unreadable, some 30 us later; on kernels before 5.16, up to 20 ms later. It is then readable, too, in a closed
 * queue while a process has messages leased.
 *
 * The first call of a process starts a thread, which stays. A forked child calls this function again, and gets
 * its own descriptor; that of its parent stays correct while the parent lives.
 * Ownership: the descriptor is the handle's. Do not close, read or write it. It takes two descriptors of
 * the process, and a FIFO beside the queue's file.
 *
 * Errors: SHOAL_ERR_OS (no descriptor or thread is available).
 *
 * ```c
 * struct pollfd polled[2] = {{.fd = client, .events = POLLIN}, {.events = POLLIN}};
 * if (shoal_queue_fd(jobs, &polled[1].fd) != SHOAL_OK)
 *     fprintf(stderr, "%s\n", shoal_last_error());
 * while (poll(polled, 2, -1) > 0) {
 *     while (shoal_queue_get(jobs, SHOAL_NOWAIT, buf, sizeof buf, &len) == SHOAL_OK)
 *         work_on(buf, len);
 *     if (polled[0].revents != 0)
 *         talk_to(client);
 * }
 * ```
 */
SHOAL_API SHOAL_NODISCARD shoal_status shoal_queue_fd(shoal_queue *q, int *out);

/**
 * Reserves room for a message, to be written where it will be read: this saves one copy of a large message.
 * Several processes may write reserved messages at the same time.
 *
 * `len`: the most bytes that the message may have; `data` holds what earlier messages left there. The
 * message gets its place in the queue when it is committed. A reservation counts against `max_items`.
 *
 * Errors: as `shoal_queue_put`.
 *
 * ```c
 * shoal_message frame;
 * if (shoal_queue_reserve(q, frame_size, SHOAL_FOREVER, &frame) == SHOAL_OK) {
 *     size_t used = grab_frame(frame.data, frame.len);
 *     if (shoal_queue_commit(q, &frame, used) != SHOAL_OK)
 *         fprintf(stderr, "%s\n", shoal_last_error());
 * }
 * ```
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_queue_reserve(shoal_queue *q, size_t len, int64_t timeout_ns,
                                 shoal_message *out);

/**
 * Puts the first `used` bytes of a reserved message at the end of the queue. The rest is freed.
 *
 * Errors: SHOAL_ERR_TOO_LARGE (more than was reserved; it stays reserved).
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_queue_commit(shoal_queue *q, shoal_message *message, size_t used);

/** Discards a reserved message. No other process sees that it was there. */
SHOAL_API SHOAL_NODISCARD shoal_status shoal_queue_discard(shoal_queue *q, shoal_message *message);

/**
 * Takes the first message to work on it. If this process dies, another consumer gets the message:
 * within a tenth of a second, and mostly at once.
 *
 * `visible_ns`: for how long it is yours. If it is neither acked nor extended by then, another consumer
 * gets it although this process lives. SHOAL_FOREVER: as long as this process lives.
 * A message that was reserved is read where it was written; one that was put is copied once.
 *
 * Errors: SHOAL_ERR_CLOSED (the queue is closed and nothing is left); SHOAL_ERR_EXHAUSTED or
 * SHOAL_ERR_NO_SPACE (there is no room for more leases; the message stays).
 *
 * ```c
 * shoal_message job;
 * while (shoal_queue_lease(q, SHOAL_FOREVER, SHOAL_FOREVER, &job) == SHOAL_OK)
 *     if (work(job.data, job.len))
 *         (void)shoal_queue_ack(q, &job);
 *     else
 *         (void)shoal_queue_nack(q, &job, 1000000000);
 * ```
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_queue_lease(shoal_queue *q, int64_t visible_ns, int64_t timeout_ns,
                               shoal_message *out);

/**
 * Removes a leased message: the work is done.
 *
 * Errors: SHOAL_ERR_EXPIRED (the lease's time has expired, and another consumer gets the message or has it;
 * the lease has ended nevertheless). As long as no process has checked the queue's leases since then, the
 * call succeeds.
 */
SHOAL_API SHOAL_NODISCARD shoal_status shoal_queue_ack(shoal_queue *q, shoal_message *message);

/**
 * Returns a leased message, to be delivered again after `delay_ns`, before all that was put after it.
 * SHOAL_FOREVER: it is never delivered again, but still counts as unfinished; a closed queue does not wait
 * for it. A message that was delivered `max_attempts` times goes to the dead letters at once, whatever the
 * delay is.
 *
 * Errors: as `shoal_queue_ack`.
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_queue_nack(shoal_queue *q, shoal_message *message, int64_t delay_ns);

/**
 * Makes a lease end `visible_ns` from now instead.
 *
 * Errors: SHOAL_ERR_EXPIRED (its time was over, as for `shoal_queue_ack`; the lease is still to be ended).
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_queue_extend(shoal_queue *q, shoal_message *message, int64_t visible_ns);

/* ---------------------------------------------------------------------------------------------
   Pipe

   A connection of two ends, for messages. The connection is over when one end is gone: the other end
   receives what was sent, and then SHOAL_ERR_CLOSED. Several processes may hold the same end, as forked
   children do; it is gone when all of them have freed it or are dead.

   Killed: What the process was sending is there completely or not at all. A message that it was receiving,
   or had just received, may be lost with it. What it had reserved is discarded; what it had leased goes to
   another process that holds this end. If there is none, the end is gone.

   ```c
   shoal_pipe_options options = {.size = sizeof options, .flags = SHOAL_CREATE};
   shoal_pipe *control;
   if (shoal_pipe_open("control", SHOAL_FIRST_END, &options, &control, NULL) == SHOAL_OK &&
       shoal_pipe_recv(control, SHOAL_FOREVER, buf, sizeof buf, &len) == SHOAL_ERR_CLOSED)
       fputs("the other end is gone\n", stderr);
   ```
   --------------------------------------------------------------------------------------------- */

/** The end that receives, if the pipe has one direction. */
#define SHOAL_FIRST_END 0

/** The end that sends, if the pipe has one direction. */
#define SHOAL_SECOND_END 1

/** In `shoal_pipe_options.flags`: a created pipe has one direction, from the second end to the first. */
#define SHOAL_SIMPLEX 32

/** One end of a pipe. */
typedef struct shoal_pipe shoal_pipe;

/** How to open a pipe. All but `size` and `flags` apply to each direction of a new one. */
typedef struct shoal_pipe_options {
    /** `sizeof(shoal_pipe_options)`. */
    size_t size;
    /** SHOAL_CREATE, SHOAL_EXCLUSIVE, SHOAL_PERSISTENT, SHOAL_SIMPLEX. */
    uint64_t flags;
    /** As in `shoal_queue_options`; 0 for 8 KiB. */
    uint64_t capacity;
    /** As in `shoal_queue_options`. */
    uint64_t max_capacity;
    /** As in `shoal_queue_options`. */
    uint64_t max_items;
} shoal_pipe_options;

/** Statistics of an end of a pipe. */
typedef struct shoal_pipe_stats {
    /** `sizeof(shoal_pipe_stats)`. */
    size_t size;
    /** Messages that wait to be received here. */
    uint64_t len;
    /** Bytes of these messages. */
    uint64_t bytes;
    /** Whether this end receives. */
    bool receives;
    /** Whether this end sends. */
    bool sends;
} shoal_pipe_stats;

/**
 * Opens or creates one end of a pipe; see "Opening". Either side may create it, and may send before the
 * other end is opened.
 *
 * `end`: SHOAL_FIRST_END or SHOAL_SECOND_END.
 *
 * Errors: SHOAL_ERR_EXHAUSTED (512 handles hold that end).
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_pipe_open(const char *name, uint32_t end, const shoal_pipe_options *options,
                             shoal_pipe **out, bool *created);

/**
 * Creates a pipe under a new name and opens both ends: for a parent and the child that it will fork. Each of
 * them frees the end of the other.
 *
 * `options`: NULL for both directions and the default sizes.
 * Ownership: both are yours until `shoal_pipe_free`.
 *
 * Errors: as "Opening".
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_pipe_pair(const shoal_pipe_options *options, shoal_pipe **first,
                             shoal_pipe **second);

/**
 * Frees the handle; see "Freeing". When all processes that held this end have freed it, the connection is
 * over.
 */
SHOAL_API void shoal_pipe_free(shoal_pipe *p);

/** Fills in statistics; see "Statistics". */
SHOAL_API SHOAL_NODISCARD shoal_status shoal_pipe_stat(shoal_pipe *p, shoal_pipe_stats *out);

/**
 * Sends one message to the other end, and waits for room if there is none.
 *
 * Errors: SHOAL_ERR_CLOSED (the other end is gone); SHOAL_ERR_UNSUPPORTED (this end only receives); as
 * `shoal_queue_put`. After an error nothing was sent.
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_pipe_send(shoal_pipe *p, const void *data, size_t len, int64_t timeout_ns);

/**
 * Receives one message, and waits for one if there is none. Each message goes to one caller.
 *
 * Errors: SHOAL_ERR_CLOSED (the other end is gone, and nothing is left of what it sent);
 * SHOAL_ERR_UNSUPPORTED (this end only sends); SHOAL_ERR_BUFFER_TOO_SMALL (the message stays).
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_pipe_recv(shoal_pipe *p, int64_t timeout_ns, void *buf, size_t capacity,
                             size_t *len);

/**
 * Reserves room for a message to the other end; as `shoal_queue_reserve`.
 *
 * Errors: as `shoal_pipe_send`.
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_pipe_reserve(shoal_pipe *p, size_t len, int64_t timeout_ns, shoal_message *out);

/**
 * Sends the first `used` bytes of a reserved message. The rest is freed.
 *
 * Errors: as `shoal_queue_commit`.
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_pipe_commit(shoal_pipe *p, shoal_message *message, size_t used);

/** Discards a reserved message. No other process sees that it was there. */
SHOAL_API SHOAL_NODISCARD shoal_status shoal_pipe_discard(shoal_pipe *p, shoal_message *message);

/**
 * Receives one message to read it where it is: one that was reserved is not copied at all, one that was
 * sent is copied once. If this process dies before it acks, another one that holds this end receives it.
 *
 * Errors: as `shoal_pipe_recv`, but for the buffer; SHOAL_ERR_EXHAUSTED or SHOAL_ERR_NO_SPACE (there is
 * no room for more leases; the message stays).
 *
 * ```c
 * shoal_message frame;
 * while (shoal_pipe_lease(p, SHOAL_FOREVER, &frame) == SHOAL_OK) {
 *     show(frame.data, frame.len);
 *     if (shoal_pipe_ack(p, &frame) != SHOAL_OK)
 *         fprintf(stderr, "%s\n", shoal_last_error());
 * }
 * ```
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_pipe_lease(shoal_pipe *p, int64_t timeout_ns, shoal_message *out);

/**
 * Removes a leased message: it was read.
 *
 * Errors: as `shoal_queue_ack`.
 */
SHOAL_API SHOAL_NODISCARD shoal_status shoal_pipe_ack(shoal_pipe *p, shoal_message *message);

/**
 * Returns a leased message, to be received again after `delay_ns`; as `shoal_queue_nack`.
 *
 * Errors: as `shoal_queue_ack`.
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_pipe_nack(shoal_pipe *p, shoal_message *message, int64_t delay_ns);

/**
 * Waits for something to receive, or the end of the connection.
 *
 * `*ready`: whether one of them came in time. A timeout is no error.
 *
 * Errors: SHOAL_ERR_UNSUPPORTED (this end only sends).
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_pipe_poll(shoal_pipe *p, int64_t timeout_ns, bool *ready);

/**
 * A descriptor for event loops: it is readable while there is something to receive, and once the connection
 * is over. Otherwise as `shoal_queue_fd`.
 *
 * Errors: SHOAL_ERR_UNSUPPORTED (this end only sends); SHOAL_ERR_OS.
 */
SHOAL_API SHOAL_NODISCARD shoal_status shoal_pipe_fd(shoal_pipe *p, int *out);

/* ---------------------------------------------------------------------------------------------
   Map

   Keys and values, which any number of processes read and write. Every call is atomic for its
   key. A key has at most 64 KiB, a value half of the map's `max_capacity` and less than 4 GiB; either may
   have length 0.

   A program in Rust can be a map's relay (`relayed` in its statistics): changes go to the relay, and are
   visible once it has delivered them. Changes that depend on the old value wait for its answer. Any change
   may then fail with SHOAL_ERR_TIMEOUT, or with SHOAL_ERR_UNSUPPORTED if the relay refuses it; keys cannot
   be locked. A map with a relay is persistent.

   Killed: A change of a key is done completely or not at all; of several keys, any number are changed. A key
   that the process had locked is free, and `*owner_died` reports this to the next process that locks it. Its
   views end.

   ```c
   shoal_map_options options = {.size = sizeof options, .flags = SHOAL_CREATE};
   shoal_map *totals;
   if (shoal_map_open("totals", &options, &totals, NULL) == SHOAL_OK) {
       int64_t hits = 0;
       if (shoal_map_add(totals, "hits", 4, 1, &hits) == SHOAL_OK)
           printf("%lld hits\n", (long long)hits);
       shoal_map_free(totals);
   }
   ```
   --------------------------------------------------------------------------------------------- */

/**
 * In `shoal_map_options.flags`: a created map is walked in the order in which its keys were inserted.
 * Each entry takes 8 bytes more, and a walk begins by copying all keys.
 */
#define SHOAL_ORDERED 64

/**
 * In `shoal_map_options.flags`: a created map has 4 parts with a lock each instead of 64. Empty it takes 12 KiB
 * of memory instead of 48, and at most 4 processes change it at the same time. For programs with many maps of
 * a few keys each.
 */
#define SHOAL_COMPACT 128

/** A map from bytes to bytes. */
typedef struct shoal_map shoal_map;

/** A walk through a map. */
typedef struct shoal_map_iter shoal_map_iter;

/** How to open a map. All but `size` and `flags` apply to a new one. */
typedef struct shoal_map_options {
    /** `sizeof(shoal_map_options)`. */
    size_t size;
    /** SHOAL_CREATE, SHOAL_EXCLUSIVE, SHOAL_PERSISTENT, SHOAL_ORDERED, SHOAL_COMPACT. */
    uint64_t flags;
    /** Bytes of data for which memory is reserved from the start; 0 for none. */
    uint64_t capacity;
    /**
     * Bytes of data to which it may grow, from 1 MiB to 512 GiB; 0 for 64 GiB, or less where address
     * space or files are limited. Address space only: memory is used as entries need it.
     */
    uint64_t max_capacity;
} shoal_map_options;

/** Statistics of a map. */
typedef struct shoal_map_stats {
    /** `sizeof(shoal_map_stats)`. */
    size_t size;
    /** How many keys it has. Exact if no process writes meanwhile. */
    uint64_t len;
    /** How many keys have a time to live, including expired ones that are not yet removed. */
    uint64_t expiring;
    /** Bytes of memory that entries and tables take. */
    uint64_t used;
    /** A number that grows with every change of the map, for `shoal_map_wait_change`. */
    uint64_t changes;
    /** Bytes of data to which it may grow. */
    uint64_t max_capacity;
    /** Bytes of the longest value that can ever be set. */
    uint64_t max_value;
    /** Whether it was created with SHOAL_ORDERED. */
    bool ordered;
    /** Whether the map has a relay: changes go there, and come back when the relay delivers them. */
    bool relayed;
    /** Whether it was created with SHOAL_COMPACT. */
    bool compact;
} shoal_map_stats;

/**
 * A value in a map that is read in place.
 *
 * It does not change until the view is ended or the handle is freed, even if the key is changed or removed.
 * Any thread may read and end it. A forked child must not use its parent's.
 */
typedef struct shoal_view {
    /** The value; NULL once the view is ended. */
    const void *data;
    /** Its bytes. */
    size_t len;
    /** Its version. */
    uint64_t version;
    /** For the library only. */
    uint64_t place;
    /** For the library only. */
    uint64_t hold;
    /** For the library only. */
    uint64_t owner;
} shoal_view;

/** Opens or creates a map; see "Opening". */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_map_open(const char *name, const shoal_map_options *options, shoal_map **out,
                            bool *created);

/** Frees the handle; see "Freeing". Its iterators stay usable, and keep the map open. */
SHOAL_API void shoal_map_free(shoal_map *m);

/** Fills in statistics; see "Statistics". */
SHOAL_API SHOAL_NODISCARD shoal_status shoal_map_stat(shoal_map *m, shoal_map_stats *out);

/**
 * Gives a key a value, whether or not it had one.
 *
 * Errors: SHOAL_ERR_TOO_LARGE (key or value could never fit); SHOAL_ERR_NO_SPACE (memory or the map is
 * full; the old value stays).
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_map_set(shoal_map *m, const void *key, size_t key_len, const void *value,
                           size_t value_len);

/**
 * Copies the value of a key.
 *
 * `*version`: no two values of a key have the same version, and later ones have higher; never 0.
 *
 * Errors: SHOAL_ERR_NOT_FOUND (no such key); SHOAL_ERR_BUFFER_TOO_SMALL.
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_map_get(shoal_map *m, const void *key, size_t key_len, void *buf,
                           size_t capacity, size_t *len, uint64_t *version);

/**
 * Gives a key a value if it has none. Of several callers exactly one inserts.
 *
 * `*inserted`: whether this call did; if not, the value stays as it was.
 *
 * Errors: as `shoal_map_set`.
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_map_insert(shoal_map *m, const void *key, size_t key_len, const void *value,
                              size_t value_len, bool *inserted);

/**
 * Removes a key. Of several callers exactly one removes it.
 *
 * Errors: SHOAL_ERR_NOT_FOUND (no such key).
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_map_remove(shoal_map *m, const void *key, size_t key_len);

/**
 * Removes a key and copies the value that it had. Of several callers exactly one gets it.
 *
 * Errors: SHOAL_ERR_NOT_FOUND (no such key); SHOAL_ERR_BUFFER_TOO_SMALL (the key stays).
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_map_take(shoal_map *m, const void *key, size_t key_len, void *buf,
                            size_t capacity, size_t *len);

/** Whether the map has a key. */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_map_contains(shoal_map *m, const void *key, size_t key_len, bool *out);

/**
 * Gives a key a new value if its value is the expected one.
 *
 * `expected`: NULL (with length 0) expects that the key is not there; an empty value is any other
 * pointer with length 0.
 * `desired`: NULL (with length 0) removes the key.
 * `*swapped`: whether the value was the expected one.
 *
 * Errors: as `shoal_map_set`.
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_map_compare_swap(shoal_map *m, const void *key, size_t key_len,
                                    const void *expected, size_t expected_len, const void *desired,
                                    size_t desired_len, bool *swapped);

/**
 * How many keys the map has. Exact if no process writes meanwhile. Keys that have expired do not count; a part
 * of the map with keys that expire is walked to count them.
 */
SHOAL_API SHOAL_NODISCARD shoal_status shoal_map_len(shoal_map *m, uint64_t *out);

/** Removes every key. A key that another process sets meanwhile may stay. */
SHOAL_API shoal_status shoal_map_clear(shoal_map *m);

/**
 * Begins a walk through all entries of a map, in no particular order unless it is SHOAL_ORDERED, while other
 * processes may write. A key that is there from the first step to the last is found exactly once, with a
 * value that it had in between; one that is inserted or removed meanwhile is found once or not at all.
 *
 * No lock is held between two steps. An iterator serves one thread at a time.
 * Ownership: `*out` is yours until `shoal_map_iter_free`. It keeps the map open, also if `m` is freed
 * first.
 *
 * ```c
 * shoal_map_iter *it;
 * const void *key, *value;
 * size_t key_len, value_len;
 * if (shoal_map_iter_new(m, &it) == SHOAL_OK) {
 *     while (shoal_map_iter_next(it, &key, &key_len, &value, &value_len) == SHOAL_OK)
 *         printf("%.*s\n", (int)key_len, (const char *)key);
 *     shoal_map_iter_free(it);
 * }
 * ```
 */
SHOAL_API SHOAL_NODISCARD shoal_status shoal_map_iter_new(shoal_map *m, shoal_map_iter **out);

/**
 * Moves to the next entry.
 *
 * `*key`, `*key_len`, `*value`, `*value_len`: the entry.
 * Ownership: `*key` and `*value` are the iterator's, and valid until its next step or its end.
 *
 * Errors: SHOAL_ERR_END (there are no more).
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_map_iter_next(shoal_map_iter *it, const void **key, size_t *key_len,
                                 const void **value, size_t *value_len);

/** Ends a walk, at any step. NULL is allowed. */
SHOAL_API void shoal_map_iter_free(shoal_map_iter *it);

/** The version of a key's value, as `shoal_map_get` reports it; 0 if there is no such key. */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_map_version(shoal_map *m, const void *key, size_t key_len, uint64_t *out);

/**
 * Gives a key a new value if its value still has a version.
 *
 * `version`: 0 expects that the key is not there.
 * `desired`: NULL (with length 0) removes the key.
 * `*swapped`: whether the version was the expected one.
 *
 * Errors: as `shoal_map_set`.
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_map_compare_swap_version(shoal_map *m, const void *key, size_t key_len,
                                            uint64_t version, const void *desired,
                                            size_t desired_len, bool *swapped);

/**
 * Adds to a counter: a value of 8 bytes, an `int64_t` with its least significant byte first. A key that
 * is not there counts as 0. The sum wraps around. No addition is lost.
 *
 * `*sum`: the new value.
 *
 * Errors: SHOAL_ERR_INVALID (the value does not have 8 bytes); as `shoal_map_set`.
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_map_add(shoal_map *m, const void *key, size_t key_len, int64_t delta,
                           int64_t *sum);

/**
 * Adds to a number, as `shoal_map_add`: a `double` of 8 bytes, least significant byte first.
 *
 * Errors: as `shoal_map_add`.
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_map_add_f64(shoal_map *m, const void *key, size_t key_len, double delta,
                               double *sum);

/**
 * Gives many keys their values, with each part of the map locked once. Of equal keys the last one
 * counts. It is not atomic: after an error or a kill some are set.
 *
 * `keys`, `values`: `n` of each.
 *
 * Errors: as `shoal_map_set`. What is too large is refused before anything is set.
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_map_set_many(shoal_map *m, const shoal_slice *keys, const shoal_slice *values,
                                size_t n);

/**
 * Copies the values of many keys, with each part of the map locked once.
 *
 * `keys`, `values`: `n` of each. `buf`, `capacity`: where the values go, in any order. `*len`: how many
 * bytes of it are used. `values[i]` is set to where in `buf` the value of `keys[i]` is, with `data` NULL if
 * there is no such key.
 *
 * Errors: SHOAL_ERR_BUFFER_TOO_SMALL (`values` are untouched).
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_map_get_many(shoal_map *m, const shoal_slice *keys, size_t n, void *buf,
                                size_t capacity, size_t *len, shoal_slice *values);

/**
 * Gives a key a value for a time; after that it is as if it had been removed. `shoal_map_set` makes the key
 * stay without limit again.
 *
 * `life_ns`: for how long; SHOAL_FOREVER without limit. The time in which the machine is suspended does not
 * count.
 *
 * Errors: as `shoal_map_set`.
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_map_set_for(shoal_map *m, const void *key, size_t key_len, const void *value,
                               size_t value_len, int64_t life_ns);

/**
 * Makes a key expire some time from now.
 *
 * `life_ns`: after how long; SHOAL_FOREVER for never. The time in which the machine is suspended does not
 * count.
 *
 * Errors: SHOAL_ERR_NOT_FOUND (no such key); as `shoal_map_set`.
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_map_expire(shoal_map *m, const void *key, size_t key_len, int64_t life_ns);

/**
 * How long it is until a key expires.
 *
 * `*out`: nanoseconds; SHOAL_FOREVER if it does not expire.
 *
 * Errors: SHOAL_ERR_NOT_FOUND (no such key).
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_map_time_left(shoal_map *m, const void *key, size_t key_len, int64_t *out);

/**
 * Removes every key that has expired. Changes of other keys remove them gradually, too.
 *
 * `*removed`: how many there were.
 */
SHOAL_API shoal_status shoal_map_purge(shoal_map *m, uint64_t *removed);

/**
 * Locks a key, which need not be there, for work in several steps. It only prevents others from locking the
 * same key. There is no order of arrival: the first thread that tries gets the lock. A waiter that was passed
 * over is served next, so none starves.
 *
 * Each part of the map has room for twelve locks and views; while that is full, the call waits as for the
 * lock. Locking several keys is safe from deadlock if all processes do it in the same order and hold few at a
 * time.
 *
 * `*owner_died`: see "Locks". Any thread may unlock it. A forked child does not have the lock.
 *
 * Errors: SHOAL_ERR_INVALID (this thread has locked it already); SHOAL_ERR_EXHAUSTED (this thread itself has
 * all twelve locks of that part of the map); SHOAL_ERR_TOO_LARGE.
 *
 * ```c
 * bool owner_died;
 * if (shoal_map_lock_key(m, "ledger", 6, SHOAL_FOREVER, &owner_died) == SHOAL_OK) {
 *     if (owner_died)
 *         check_the_ledger();
 *     work_on_the_ledger();
 *     if (shoal_map_unlock_key(m, "ledger", 6) != SHOAL_OK)
 *         fprintf(stderr, "%s\n", shoal_last_error());
 * }
 * ```
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_map_lock_key(shoal_map *m, const void *key, size_t key_len, int64_t timeout_ns,
                                bool *owner_died);

/**
 * Unlocks a key that this process has locked through this handle.
 *
 * Errors: SHOAL_ERR_INVALID (it is not locked, or by another process).
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_map_unlock_key(shoal_map *m, const void *key, size_t key_len);

/**
 * Waits until a map's counter `changes` (see `shoal_map_stats`) differs from `seen`.
 *
 * `*now`: the counter. It does not say what was changed.
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_map_wait_change(shoal_map *m, uint64_t seen, int64_t timeout_ns, uint64_t *now);

/**
 * Waits until the version of a key's value differs from `seen`: until the value is set or removed, or
 * expires. Changes that follow each other quickly may be seen as one.
 *
 * `seen`: 0 for a key that is not there. `*now`: the version.
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_map_wait_key(shoal_map *m, const void *key, size_t key_len, uint64_t seen,
                                int64_t timeout_ns, uint64_t *now);

/**
 * The value of a key, read in place without a copy. Each part of the map has room for twelve views and
 * locks.
 *
 * Errors: SHOAL_ERR_NOT_FOUND (no such key); SHOAL_ERR_EXHAUSTED (there is no room for the
 * view).
 *
 * ```c
 * shoal_view view;
 * if (shoal_map_view(m, "weights", 7, &view) == SHOAL_OK) {
 *     printf("%g\n", add_up(view.data, view.len));
 *     if (shoal_map_view_end(m, &view) != SHOAL_OK)
 *         fprintf(stderr, "%s\n", shoal_last_error());
 * }
 * ```
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_map_view(shoal_map *m, const void *key, size_t key_len, shoal_view *out);

/**
 * Ends a view.
 *
 * Errors: SHOAL_ERR_INVALID (it was ended before, or is another handle's or process's).
 */
SHOAL_API SHOAL_NODISCARD shoal_status shoal_map_view_end(shoal_map *m, shoal_view *view);

/* ---------------------------------------------------------------------------------------------
   List

   A sequence of byte strings that any number of processes read and write. Every call is atomic. An index
   below 0 counts from the end: -1 is the last element. An index that no element has is
   SHOAL_ERR_NOT_FOUND; a bound of a range beyond either end is that end.

   Killed: A change is done completely or not at all, of several elements too. An element that the process
   was popping may be lost with it.

   ```c
   shoal_list_options options = {.size = sizeof options, .flags = SHOAL_CREATE};
   shoal_list *names;
   char last[64];
   size_t len;
   if (shoal_list_open("names", &options, &names, NULL) == SHOAL_OK &&
       shoal_list_append(names, "Ada", 3) == SHOAL_OK &&
       shoal_list_get(names, -1, last, sizeof last, &len) == SHOAL_OK)
       printf("%.*s\n", (int)len, last);
   ```
   --------------------------------------------------------------------------------------------- */

/** A list of byte strings. */
typedef struct shoal_list shoal_list;

/** How to open a list. All but `size` and `flags` apply to a new one. */
typedef struct shoal_list_options {
    /** `sizeof(shoal_list_options)`. */
    size_t size;
    /** SHOAL_CREATE, SHOAL_EXCLUSIVE, SHOAL_PERSISTENT. */
    uint64_t flags;
    /** Bytes of data for which there is room from the start; 0 for the default. */
    uint64_t capacity;
    /**
     * Bytes of data to which it may grow; 0 for 64 GiB, or less where address space or files are
     * limited. Address space only: memory is used as elements need it.
     */
    uint64_t max_capacity;
} shoal_list_options;

/** Statistics of a list. */
typedef struct shoal_list_stats {
    /** `sizeof(shoal_list_stats)`. */
    size_t size;
    /** How many elements it has. */
    uint64_t len;
    /** Bytes of memory that elements and the table take. */
    uint64_t used;
    /** A number that differs after every change of the list. */
    uint64_t version;
    /** Bytes of data to which it may grow. */
    uint64_t max_capacity;
    /** Bytes of the longest element that can ever be added. */
    uint64_t max_element;
} shoal_list_stats;

/** Opens or creates a list; see "Opening". */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_list_open(const char *name, const shoal_list_options *options, shoal_list **out,
                             bool *created);

/** Frees the handle; see "Freeing". */
SHOAL_API void shoal_list_free(shoal_list *l);

/** Fills in statistics; see "Statistics". */
SHOAL_API SHOAL_NODISCARD shoal_status shoal_list_stat(shoal_list *l, shoal_list_stats *out);

/**
 * Adds an element at the end.
 *
 * Errors: SHOAL_ERR_TOO_LARGE (it could never fit); SHOAL_ERR_NO_SPACE (memory or the list is full; the
 * list is as it was).
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_list_append(shoal_list *l, const void *data, size_t len);

/**
 * Adds an element before another one, or at either end if `index` is beyond it.
 *
 * Errors: as `shoal_list_append`.
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_list_insert(shoal_list *l, int64_t index, const void *data, size_t len);

/**
 * Copies an element.
 *
 * Errors: SHOAL_ERR_NOT_FOUND (no such index); SHOAL_ERR_BUFFER_TOO_SMALL.
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_list_get(shoal_list *l, int64_t index, void *buf, size_t capacity, size_t *len);

/**
 * Removes an element and copies it. No element goes to two callers.
 *
 * Errors: SHOAL_ERR_NOT_FOUND (no such index); SHOAL_ERR_BUFFER_TOO_SMALL (the element stays).
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_list_pop(shoal_list *l, int64_t index, void *buf, size_t capacity, size_t *len);

/**
 * Replaces an element.
 *
 * Errors: SHOAL_ERR_NOT_FOUND (no such index); as `shoal_list_append`.
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_list_set(shoal_list *l, int64_t index, const void *data, size_t len);

/**
 * Replaces an element if it is the expected one.
 *
 * `*swapped`: whether it was; false too if there is no such element.
 *
 * Errors: as `shoal_list_append`.
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_list_compare_swap(shoal_list *l, int64_t index, const void *expected,
                                     size_t expected_len, const void *desired, size_t desired_len,
                                     bool *swapped);

/**
 * Exchanges two elements.
 *
 * Errors: SHOAL_ERR_NOT_FOUND (no such index).
 */
SHOAL_API shoal_status shoal_list_swap(shoal_list *l, int64_t a, int64_t b);

/**
 * Replaces the elements from `start` up to, but not including, `stop` by others, all at once.
 *
 * `start`, `stop`: 0 and INT64_MAX are the whole list, twice INT64_MAX is its end.
 * `items`, `n`: the new elements; none to remove the old ones.
 *
 * Errors: as `shoal_list_append`.
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_list_splice(shoal_list *l, int64_t start, int64_t stop, const shoal_slice *items,
                               size_t n);

/**
 * Copies several elements, as they are at one moment.
 *
 * `start`: the index of the first; not below 0. `buf`, `capacity`: where they go, one after the other.
 * `lens`, `max`: room for their lengths. `*n`: how many were copied: as many as `max` and `capacity` allow,
 * and 0 at the end of the list. If `*n` is less than `max`, `lens[*n]` is SIZE_MAX if the list ends there,
 * and else the length of the next element, which did not fit.
 * `*version`: a number that differs after every change of the list.
 *
 * Errors: SHOAL_ERR_BUFFER_TOO_SMALL (even the first does not fit; `lens[0]` is the room needed).
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_list_get_many(shoal_list *l, uint64_t start, void *buf, size_t capacity,
                                 size_t *lens, size_t max, size_t *n, uint64_t *version);

/**
 * Sorts the list, all at once; equal elements keep their order.
 *
 * `compare`, `arg`: returns below 0, 0 or above 0 if its first element comes before the second, is equal,
 * or comes after it; `arg` is passed on. NULL sorts by the bytes. It is called with the list locked: it
 * must return, and a call with this handle in it is SHOAL_ERR_INVALID. If it contradicts itself, the elements
 * are in some order.
 *
 * Errors: SHOAL_ERR_NO_SPACE (the list is as it was).
 */
SHOAL_API
shoal_status shoal_list_sort(shoal_list *l, int (*compare)(const void *a, size_t a_len,
                             const void *b, size_t b_len, void *arg), void *arg);

/**
 * Reverses the list, all at once.
 *
 * Errors: SHOAL_ERR_NO_SPACE (the list is as it was).
 */
SHOAL_API shoal_status shoal_list_reverse(shoal_list *l);

/** How many elements the list has. */
SHOAL_API SHOAL_NODISCARD shoal_status shoal_list_len(shoal_list *l, uint64_t *out);

/** Removes every element, all at once. */
SHOAL_API shoal_status shoal_list_clear(shoal_list *l);

/* ---------------------------------------------------------------------------------------------
   Array

   Items of one size in plain shared memory, and a lock for them.

   Killed: Items that the process was writing may be half written. If it had the lock, the lock is free, and
   `*owner_died` reports this to the next process that takes it.

   ```c
   shoal_array_options options = {.size = sizeof options, .flags = SHOAL_CREATE,
                                  .item_size = sizeof(double), .count = 100, .format = "d"};
   shoal_array *cells;
   void *data;
   size_t bytes;
   if (shoal_array_open("cells", &options, &cells, NULL) == SHOAL_OK &&
       shoal_array_data(cells, &data, &bytes) == SHOAL_OK &&
       shoal_array_lock(cells, SHOAL_FOREVER, NULL) == SHOAL_OK) {
       ((double *)data)[7] += 0.5;
       shoal_array_unlock(cells);
   }
   ```
   --------------------------------------------------------------------------------------------- */

/** An array of items. */
typedef struct shoal_array shoal_array;

/** How to open an array. An array that exists must agree with each field that is not 0 or NULL. */
typedef struct shoal_array_options {
    /** `sizeof(shoal_array_options)`. */
    size_t size;
    /** SHOAL_CREATE, SHOAL_EXCLUSIVE, SHOAL_PERSISTENT. */
    uint64_t flags;
    /** Bytes of an item, at least 1 of a new array. */
    uint64_t item_size;
    /** How many items there are. */
    uint64_t count;
    /** A description of an item in up to 16 bytes, such as a type code; NULL for none. */
    const char *format;
} shoal_array_options;

/** Statistics of an array. */
typedef struct shoal_array_stats {
    /** `sizeof(shoal_array_stats)`. */
    size_t size;
    /** Bytes of an item. */
    uint64_t item_size;
    /** How many items there are. */
    uint64_t count;
    /** The creator's description of an item; ends with NUL. */
    char format[17];
    /** How often the calling thread has taken the lock by this handle. */
    uint32_t lock_depth;
} shoal_array_stats;

/**
 * Opens or creates an array; see "Opening".
 *
 * Errors: SHOAL_ERR_INVALID (the array exists, with other items).
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_array_open(const char *name, const shoal_array_options *options,
                              shoal_array **out, bool *created);

/** Frees the handle; see "Freeing". Its data must not be used after that. */
SHOAL_API void shoal_array_free(shoal_array *a);

/** Fills in statistics; see "Statistics". */
SHOAL_API SHOAL_NODISCARD shoal_status shoal_array_stat(shoal_array *a, shoal_array_stats *out);

/**
 * Where the items are: plain memory, zeros at first, aligned to 128 bytes.
 *
 * `*data`, `*bytes`: all of them. Processes that write without the lock may write at the same time. A
 * forked child may use the memory.
 * Ownership: the memory is the handle's.
 */
SHOAL_API SHOAL_NODISCARD shoal_status shoal_array_data(shoal_array *a, void **data, size_t *bytes);

/**
 * Takes the lock of an array. A thread that has it may take it again.
 *
 * `*owner_died`: see "Locks".
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_array_lock(shoal_array *a, int64_t timeout_ns, bool *owner_died);

/**
 * Unlocks an array by one level.
 *
 * Errors: SHOAL_ERR_INVALID (this thread does not have it).
 */
SHOAL_API shoal_status shoal_array_unlock(shoal_array *a);

/* ---------------------------------------------------------------------------------------------
   Lock

   A lock between processes and threads. Its owner is a handle in a process, and of a recursive lock also
   the calling thread. There is no order of arrival: the first process that tries gets the lock. A waiter that
   was passed over is served next, so none starves.

   Killed: If the process had the lock, the lock is free, and `*owner_died` reports this to the next process
   that takes it.

   ```c
   shoal_sync_options options = {.size = sizeof options, .flags = SHOAL_CREATE};
   shoal_lock *lock;
   bool owner_died;
   if (shoal_lock_open("ledger", &options, &lock, NULL) == SHOAL_OK &&
       shoal_lock_lock(lock, SHOAL_FOREVER, &owner_died) == SHOAL_OK) {
       if (owner_died)
           check_the_ledger();
       work_on_the_ledger();
       shoal_lock_unlock(lock);
   }
   ```
   --------------------------------------------------------------------------------------------- */

/** In `shoal_sync_options.flags`: a created lock is recursive. */
#define SHOAL_RECURSIVE 8

/** A lock. */
typedef struct shoal_lock shoal_lock;

/** Statistics of a lock. */
typedef struct shoal_lock_stats {
    /** `sizeof(shoal_lock_stats)`. */
    size_t size;
    /** How often the calling thread has taken it by this handle. */
    uint32_t depth;
    /** Whether it is taken. The lock of a dead owner counts as taken until the next owner takes it. */
    bool held;
    /** Whether it is recursive. */
    bool recursive;
} shoal_lock_stats;

/** Opens or creates a lock; see "Opening". */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_lock_open(const char *name, const shoal_sync_options *options, shoal_lock **out,
                             bool *created);

/** Frees the handle; see "Freeing". A lock that it has is treated as that of a dead owner. */
SHOAL_API void shoal_lock_free(shoal_lock *l);

/** Fills in statistics; see "Statistics". */
SHOAL_API SHOAL_NODISCARD shoal_status shoal_lock_stat(shoal_lock *l, shoal_lock_stats *out);

/**
 * Takes the lock.
 *
 * `*owner_died`: see "Locks".
 *
 * Errors: SHOAL_ERR_TOO_LARGE (a recursive lock, 2^32 times).
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_lock_lock(shoal_lock *l, int64_t timeout_ns, bool *owner_died);

/**
 * Unlocks it: a plain lock from any thread of the process that took it, a recursive lock by one level.
 *
 * Errors: SHOAL_ERR_INVALID (it is not taken; another handle or process has it; it is recursive and not the
 * calling thread's).
 */
SHOAL_API shoal_status shoal_lock_unlock(shoal_lock *l);

/* ---------------------------------------------------------------------------------------------
   Read-write lock

   A lock that many hold for reading, or one for writing. While a writer waits, new readers wait as well.

   Killed: What the process held is free. If it held the lock for writing, `*owner_died` reports this to the
   next process that takes it.

   ```c
   shoal_sync_options options = {.size = sizeof options, .flags = SHOAL_CREATE};
   shoal_rwlock *table;
   if (shoal_rwlock_open("table", &options, &table, NULL) == SHOAL_OK &&
       shoal_rwlock_lock_read(table, SHOAL_FOREVER, NULL) == SHOAL_OK) {
       look_up();
       shoal_rwlock_unlock_read(table);
   }
   ```
   --------------------------------------------------------------------------------------------- */

/** A read-write lock. */
typedef struct shoal_rwlock shoal_rwlock;

/** Statistics of a read-write lock. What dead processes held does not count. */
typedef struct shoal_rwlock_stats {
    /** `sizeof(shoal_rwlock_stats)`. */
    size_t size;
    /** How often it is held for reading. */
    uint64_t readers;
    /** Whether it is held for writing. */
    bool writer;
} shoal_rwlock_stats;

/** Opens or creates a read-write lock; see "Opening". */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_rwlock_open(const char *name, const shoal_sync_options *options,
                               shoal_rwlock **out, bool *created);

/** Frees the handle; see "Freeing". A lock that the handle holds is treated as that of a dead owner. */
SHOAL_API void shoal_rwlock_free(shoal_rwlock *l);

/** Fills in statistics; see "Statistics". Asks the kernel about each holder. */
SHOAL_API SHOAL_NODISCARD shoal_status shoal_rwlock_stat(shoal_rwlock *l, shoal_rwlock_stats *out);

/**
 * Takes the lock for reading. The handle holds it, not the thread.
 *
 * `*owner_died`: see "Locks". A writer died with the lock, and no other has written since.
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_rwlock_lock_read(shoal_rwlock *l, int64_t timeout_ns, bool *owner_died);

/**
 * Takes the lock for writing. The handle holds it, not the thread.
 *
 * `*owner_died`: as for `shoal_rwlock_lock_read`.
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_rwlock_lock_write(shoal_rwlock *l, int64_t timeout_ns, bool *owner_died);

/**
 * Unlocks once what was locked for reading.
 *
 * Errors: SHOAL_ERR_INVALID (this handle has none).
 */
SHOAL_API shoal_status shoal_rwlock_unlock_read(shoal_rwlock *l);

/**
 * Unlocks what was locked for writing. This declares the data consistent: no death of an earlier writer is
 * reported to the next readers and writers.
 *
 * Errors: SHOAL_ERR_INVALID (this handle does not have it).
 */
SHOAL_API shoal_status shoal_rwlock_unlock_write(shoal_rwlock *l);

/* ---------------------------------------------------------------------------------------------
   Semaphore

   Permits that processes acquire and release. The permits of a dead process are released. There is no order of
   arrival: the first process that tries gets a permit. A waiter that was passed over is served next, so none
   starves.

   Killed: Permits that the process had acquired are released, except those that it keeps by
   `shoal_semaphore_keep`.

   ```c
   shoal_sync_options options = {.size = sizeof options, .flags = SHOAL_CREATE, .count = 4};
   shoal_semaphore *slots;
   if (shoal_semaphore_open("slots", &options, &slots, NULL) == SHOAL_OK &&
       shoal_semaphore_acquire(slots, SHOAL_FOREVER) == SHOAL_OK) {
       work();
       shoal_semaphore_release(slots, 1);
   }
   ```
   --------------------------------------------------------------------------------------------- */

/** In `shoal_sync_options.flags`: a created semaphore never has more permits than `count`. */
#define SHOAL_BOUNDED 16

/** A semaphore. */
typedef struct shoal_semaphore shoal_semaphore;

/** Statistics of a semaphore. */
typedef struct shoal_semaphore_stats {
    /** `sizeof(shoal_semaphore_stats)`. */
    size_t size;
    /** Permits that can be acquired now, including those of dead processes. */
    uint64_t value;
    /**
     * Permits that this process has acquired through this handle and not released. A forked child
     * begins with none.
     */
    uint64_t held;
} shoal_semaphore_stats;

/**
 * Opens or creates a semaphore; see "Opening".
 *
 * Errors: SHOAL_ERR_TOO_LARGE (`count`).
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_semaphore_open(const char *name, const shoal_sync_options *options,
                                  shoal_semaphore **out, bool *created);

/** Frees the handle; see "Freeing". Permits that it has acquired are released. */
SHOAL_API void shoal_semaphore_free(shoal_semaphore *s);

/** Fills in statistics; see "Statistics". Asks the kernel about each holder. */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_semaphore_stat(shoal_semaphore *s, shoal_semaphore_stats *out);

/** Acquires a permit, and waits for one if there is none. */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_semaphore_acquire(shoal_semaphore *s, int64_t timeout_ns);

/**
 * Releases permits: this process's own first, then those of others; if no process has any, new ones.
 *
 * Errors: SHOAL_ERR_INVALID (it is bounded, and all permits are released); SHOAL_ERR_TOO_LARGE (more than
 * 2^31 - 1).
 */
SHOAL_API shoal_status shoal_semaphore_release(shoal_semaphore *s, uint32_t count);

/* ---------------------------------------------------------------------------------------------
   Event

   A flag that is set or not, and that processes wait for. A new event is not set.

   Killed: The event is set or clear, as before the call or as after it. If it is set, all that wait for it
   return, within a tenth of a second if the process was killed before it woke them.

   ```c
   shoal_sync_options options = {.size = sizeof options, .flags = SHOAL_CREATE};
   shoal_event *ready;
   if (shoal_event_open("ready", &options, &ready, NULL) == SHOAL_OK &&
       shoal_event_wait(ready, 1000000000) == SHOAL_ERR_TIMEOUT)
       fputs("not ready within a second\n", stderr);
   ```
   --------------------------------------------------------------------------------------------- */

/** An event. */
typedef struct shoal_event shoal_event;

/** Opens or creates an event; see "Opening". */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_event_open(const char *name, const shoal_sync_options *options,
                              shoal_event **out, bool *created);

/** Frees the handle; see "Freeing". */
SHOAL_API void shoal_event_free(shoal_event *e);

/** Sets the event, and wakes all that wait for it. */
SHOAL_API shoal_status shoal_event_set(shoal_event *e);

/** Clears the event: it is no longer set. */
SHOAL_API shoal_status shoal_event_clear(shoal_event *e);

/** Whether the event is set. */
SHOAL_API SHOAL_NODISCARD shoal_status shoal_event_is_set(shoal_event *e, bool *out);

/** Waits until the event is set, or was since the call began. */
SHOAL_API SHOAL_NODISCARD shoal_status shoal_event_wait(shoal_event *e, int64_t timeout_ns);

/* ---------------------------------------------------------------------------------------------
   Condition

   Waiting for a change of something that a `shoal_lock` guards. All threads that wait for a condition use
   the same lock.

   Killed: A process that is killed while it waits does not count any more, and a notification that it had
   received goes to another one that was waiting then. A process that is killed while it notifies may have
   woken only some of the waiters that it was to wake. If it had the lock, `*owner_died` reports this to the
   next process that takes the lock.

   ```c
   bool died = false;
   if (shoal_lock_lock(lock, SHOAL_FOREVER, NULL) == SHOAL_OK) {
       while (!*ready && !died)
           if (shoal_condition_wait(changed, lock, SHOAL_FOREVER, &died) != SHOAL_OK)
               break;
       shoal_lock_unlock(lock);
   }
   ```
   --------------------------------------------------------------------------------------------- */

/** As `count` of `shoal_condition_notify`: all that wait. */
#define SHOAL_ALL 4294967295

/** A condition. */
typedef struct shoal_condition shoal_condition;

/** Statistics of a condition. */
typedef struct shoal_condition_stats {
    /** `sizeof(shoal_condition_stats)`. */
    size_t size;
    /** How many wait and have not been notified. Dead processes do not count. */
    uint64_t waiting;
} shoal_condition_stats;

/** Opens or creates a condition; see "Opening". */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_condition_open(const char *name, const shoal_sync_options *options,
                                  shoal_condition **out, bool *created);

/** Frees the handle; see "Freeing". */
SHOAL_API void shoal_condition_free(shoal_condition *c);

/** Fills in statistics; see "Statistics". Asks the kernel about each waiting process. */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_condition_stat(shoal_condition *c, shoal_condition_stats *out);

/**
 * Unlocks `lock`, which the caller has, waits until notified, and takes it again: a recursive lock as often
 * as before. The timeout limits the wait for a notification; the wait for the lock afterwards has no limit.
 *
 * The lock is held again whatever the status, except: SHOAL_ERR_INVALID and SHOAL_ERR_EXHAUSTED change
 * nothing; after SHOAL_ERR_CLOSED it is not held if the waits through the lock's handle were ended.
 * `*owner_died`: see "Locks"; also set after a timeout.
 *
 * Errors: SHOAL_ERR_INVALID (the lock is not held); SHOAL_ERR_EXHAUSTED (1024 wait already).
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_condition_wait(shoal_condition *c, shoal_lock *lock, int64_t timeout_ns,
                                  bool *owner_died);

/**
 * Wakes at most `count` of those that wait, the longest waiting first; SHOAL_ALL wakes all. Dead
 * processes are skipped. Call it with the lock held: otherwise a process may check before the change, and
 * wait after the notification.
 */
SHOAL_API shoal_status shoal_condition_notify(shoal_condition *c, uint32_t count);

/* ---------------------------------------------------------------------------------------------
   Barrier

   A point at which a fixed number of processes or threads wait for each other. It breaks when one of them
   stops waiting or dies: then all that wait and all that arrive get SHOAL_ERR_POISONED, until it is reset.

   Killed: A process that is killed after it has arrived, and before all have, breaks the barrier for the
   others.

   ```c
   shoal_sync_options options = {.size = sizeof options, .flags = SHOAL_CREATE, .count = 3};
   shoal_barrier *start;
   if (shoal_barrier_open("start", &options, &start, NULL) == SHOAL_OK &&
       shoal_barrier_wait(start, SHOAL_FOREVER, NULL) == SHOAL_OK)
       puts("all three are here");
   ```
   --------------------------------------------------------------------------------------------- */

/** A barrier. */
typedef struct shoal_barrier shoal_barrier;

/** Statistics of a barrier. */
typedef struct shoal_barrier_stats {
    /** `sizeof(shoal_barrier_stats)`. */
    size_t size;
    /** How many wait for each other. */
    uint64_t parties;
    /** How many wait. Dead processes do not count. */
    uint64_t waiting;
    /** Whether it is broken. */
    bool broken;
} shoal_barrier_stats;

/**
 * Opens or creates a barrier; see "Opening". `count` of the options is the number of parties of a new
 * one, from 1 to 512.
 *
 * Errors: SHOAL_ERR_TOO_LARGE (`count`).
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_barrier_open(const char *name, const shoal_sync_options *options,
                                shoal_barrier **out, bool *created);

/** Frees the handle; see "Freeing". */
SHOAL_API void shoal_barrier_free(shoal_barrier *b);

/** Fills in statistics; see "Statistics". Asks the kernel about each waiting process. */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_barrier_stat(shoal_barrier *b, shoal_barrier_stats *out);

/**
 * Waits until all parties have arrived. A caller that times out before that breaks the barrier.
 *
 * `*index`: how many arrived before the caller.
 *
 * Errors: SHOAL_ERR_POISONED (the barrier is broken); SHOAL_ERR_INTERRUPTED (the caller does not count as
 * arrived); SHOAL_ERR_TIMEOUT (the same: the waiters of the previous round had not left in time).
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_barrier_wait(shoal_barrier *b, int64_t timeout_ns, uint32_t *index);

/** Breaks the barrier: waits at it, and later arrivals, fail. */
SHOAL_API shoal_status shoal_barrier_abort(shoal_barrier *b);

/** Makes a broken barrier usable again. Threads that wait at it get SHOAL_ERR_POISONED. */
SHOAL_API shoal_status shoal_barrier_reset(shoal_barrier *b);

/* ---------------------------------------------------------------------------------------------
   Waiting

   Waiting for the first of several queues, pipes, processes and descriptors.

   Killed: Nothing: waiting changes no object.

   ```c
   shoal_waitable things[] = {{.queue = answers}, {.process = worker}, {.fd = client}};
   size_t ready;
   if (shoal_wait_any(things, 3, SHOAL_FOREVER, &ready) == SHOAL_OK && ready == 1)
       fputs("the worker has ended\n", stderr);
   ```
   --------------------------------------------------------------------------------------------- */

/** Something to wait for: one of the pointers, or `fd` where all of them are NULL. */
typedef struct shoal_waitable {
    /** Ready while there is something to get, and once it is closed or poisoned. */
    shoal_queue *queue;
    /** Ready while there is something to receive, and once the connection is over. */
    shoal_pipe *pipe;
    /** Ready once it has ended. It is not joined by that. */
    struct shoal_process *process;
    /** Ready while it is readable, or at its end. */
    int fd;
} shoal_waitable;

/**
 * Waits until one of several things is ready, and reports which: the first in the array if several are ready.
 *
 * If an early one is always ready, later ones are never returned: for fairness, change the order from call
 * to call. A queue that was ready may be empty by the time you get, if others get from it too: get with
 * SHOAL_NOWAIT. A process may have put something just before it ended: check its queue once more.
 *
 * `things`, `n`: at least one. `*out`: the index of the one that is ready.
 * It takes the descriptors of `shoal_queue_fd` for each queue and pipe, unless something is ready at once.
 *
 * Errors: SHOAL_ERR_INVALID (none to wait for; a thing that is two, or a descriptor that is not open);
 * SHOAL_ERR_UNSUPPORTED (an end of a pipe that only sends); SHOAL_ERR_TOO_LARGE (more descriptors than
 * `ulimit -n` allows now); SHOAL_ERR_OS.
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_wait_any(const shoal_waitable *things, size_t n, int64_t timeout_ns,
                            size_t *out);

/* ---------------------------------------------------------------------------------------------
   Device

   Which devices, such as GPUs, this process and its children see. The runtime of each family of devices
   reads that from environment variables. No other thread may change the environment while one of these
   functions runs.

   Killed: Nothing: the environment is that of the process.

   ```c
   char buf[64];
   size_t len;
   shoal_status status = shoal_device_resolve("cuda", "2,3", "1", buf, sizeof buf, &len);
   assert(status == SHOAL_OK && strcmp(buf, "3") == 0);
   ```
   --------------------------------------------------------------------------------------------- */

/**
 * What the variable of a device family must be for a child that is to see some devices.
 *
 * `family`: "cuda", "rocm", ...; `shoal_device_family` lists them.
 * `inherited`: the value that the variable has now; NULL reads the environment of this process, with all
 * that counts for the family.
 * `logical`: the devices that the child is to see, counted in what `inherited` shows: "0,2", or unique
 * ids; "" hides all.
 * `buf`, `capacity`, `*len`: a text that ends with NUL, and its length without the NUL.
 *
 * Errors: SHOAL_ERR_NOT_FOUND (family); SHOAL_ERR_INVALID (`logical` is malformed, names what `inherited`
 * does not show, names a device twice or mixes kinds; `inherited` is malformed); SHOAL_ERR_UNSUPPORTED
 * (no value hides all of them); SHOAL_ERR_BUFFER_TOO_SMALL (`*len` counts the NUL).
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_device_resolve(const char *family, const char *inherited, const char *logical,
                                  char *buf, size_t capacity, size_t *len);

/**
 * All that must change in the environment of this process, or of a child of it, for it to see some
 * devices. Changes nothing by itself.
 *
 * `family`, `logical`: as for `shoal_device_resolve`; what is inherited is the environment.
 * `buf`, `capacity`: where the changes go, one after the other, each ended by a NUL: "NAME=value" sets a
 * variable, "NAME" removes it. One more NUL ends the last. `*len`: the length of it all without that NUL.
 *
 * Errors: as `shoal_device_resolve`.
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_device_environment(const char *family, const char *logical, char *buf,
                                      size_t capacity, size_t *len);

/**
 * The devices of a family that the environment of this process shows: "0,1", unique ids, "all" if nothing
 * restricts them, "none" if all are hidden.
 *
 * `buf`, `capacity`, `*len`: as for `shoal_device_resolve`.
 *
 * Errors: SHOAL_ERR_NOT_FOUND (family); SHOAL_ERR_INVALID (the variable is malformed);
 * SHOAL_ERR_BUFFER_TOO_SMALL (`*len` counts the NUL).
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_device_visible(const char *family, char *buf, size_t capacity, size_t *len);

/**
 * The devices of this machine, whether or not the environment shows them: one line for each. Its fields are
 * separated by tabs; what is not known is "-", and more may follow in later versions:
 *
 * 1. the unique id or bus address;
 * 2. the family;
 * 3. the place in the order of the family's runtime, from 0 on;
 * 4. the name;
 * 5. the memory, and 6. the part of it that no process uses, in bytes;
 * 7. the percentage of the last second, or of a shorter time, in which it was busy.
 *
 * `family`: NULL is all. `buf`, `capacity`, `*len`: as for `shoal_device_resolve`.
 * It waits for a vendor's library, for at most 10 seconds or the time in SHOAL_NVML_TIMEOUT, in seconds.
 *
 * Errors: SHOAL_ERR_NOT_FOUND (family); SHOAL_ERR_INVALID (SHOAL_FAKE_DEVICES is malformed);
 * SHOAL_ERR_BUFFER_TOO_SMALL (`*len` counts the NUL).
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_device_discover(const char *family, char *buf, size_t capacity, size_t *len);

/**
 * Makes this process itself see only some devices, by changing its environment. No other thread may use
 * the environment (getenv and setenv included) meanwhile: call it at the start of main.
 *
 * `mask`: counted in what it sees now, so that a second call narrows further; "" hides all.
 * `*too_late`: whether the family's runtime was loaded already; it reads the variable once, when it starts.
 *
 * Errors: as `shoal_device_resolve`; nothing is changed then.
 */
SHOAL_API
shoal_status shoal_device_set_visible(const char *family, const char *mask, bool *too_late);

/** The name of a device family, to list them all: 0, 1, ... until it is NULL. The string is constant. */
SHOAL_API const char *shoal_device_family(size_t index);

/**
 * The environment variable that a family's runtime reads: "CUDA_VISIBLE_DEVICES" for "cuda". NULL if there
 * is no such family. The string is constant.
 */
SHOAL_API const char *shoal_device_variable(const char *family);

/* ---------------------------------------------------------------------------------------------
   Lease

   Devices that no other program has at the same time, as long as all of them ask for leases. A lease ends
   with the last process that has it: this process, which gives it up by `shoal_lease_free` or by its end, or
   a child to which it was given. So a worker whose parent died keeps its devices, and the devices are free as
   soon as the last holder ends, whatever the cause.

   Killed: What the process had leased is free as soon as no child has it either. Its place in the queue of
   requests is given up.

   ```c
   shoal_lease_options options = {.size = sizeof options, .count = 2, .min_free = 10ull << 30};
   shoal_lease *lease;
   if (shoal_lease_acquire(&options, SHOAL_FOREVER, &lease) == SHOAL_OK) {
       const char *argv[] = {"python3", "train.py", NULL};
       shoal_spawn_options child = {.size = sizeof child, .argv = argv, .lease = lease};
       shoal_process *p;
       if (shoal_process_spawn(&child, &p) == SHOAL_OK)
           shoal_process_free(p);
       shoal_lease_free(lease);
   }
   ```

   Requests that could get the same devices are served in the order in which they came; those of processes
   that ended are skipped. A request gets all of its devices at once. Under a lease, which the variable
   SHOAL_LEASE names, a process leases parts of that lease.

   The leases of a machine are files in `/dev/shm/shoal-leases`, or in the directory that SHOAL_LEASE_DIR
   names, which must be the same for all programs that are to respect each other. It is created with mode
   1777 so that all users can take part. A program that requests no lease is noticed only by the memory and the
   time of a device that it uses (`min_free`, `min_idle`).
   --------------------------------------------------------------------------------------------- */

/** In `shoal_spawn_options.lease_mode`: a worker sees its own devices and no others. */
#define SHOAL_LEASE_EXCLUSIVE 0

/** In `lease_mode`: a worker sees all devices of the lease, its own ones first. */
#define SHOAL_LEASE_ROTATE 1

/**
 * In `lease_mode`: the mask stays as it is, and only the variable SHOAL_DEVICE_INDEX tells a worker the
 * numbers of its devices.
 */
#define SHOAL_LEASE_INDEX_ONLY 2

/** A request for devices, and the lease once it has them. */
typedef struct shoal_lease shoal_lease;

/** The devices that a request is for. Fields that are zero have the defaults; only `size` must be set. */
typedef struct shoal_lease_options {
    /** `sizeof(shoal_lease_options)`. */
    size_t size;
    /** How many devices; 0 is one. */
    size_t count;
    /** Their family, such as "cuda"; NULL is the only one that this machine has devices of. */
    const char *family;
    /**
     * The devices to be preferred, the first ones most: numbers that count in what this process sees, or
     * unique ids, separated by commas. NULL has no preference.
     */
    const char *order;
    /** What others read as the command that has the lease; NULL is that of this process. */
    const char *command;
    /** How many bytes of a device's memory must be free now, whichever processes use the rest. */
    uint64_t min_free;
    /** To lease parts of devices: how many bytes of the memory of each. */
    uint64_t share_memory;
    /** To lease parts of devices: how many slots of each, */
    uint32_t share_slots;
    /** and how many slots a device is divided into for this purpose: 1 of 4 is a quarter. */
    uint32_t share_of;
    /** The percentage of the time for which a device must be idle. */
    uint32_t min_idle;
    /** 0. */
    uint32_t reserved;
} shoal_lease_options;

/**
 * Leases devices, all of them at once, and waits for them. With SHOAL_NOWAIT it gets devices only if no other
 * request waits for them.
 *
 * `options`: NULL asks for one device.
 * Ownership: `*out` is yours until `shoal_lease_free`.
 *
 * Errors: SHOAL_ERR_TIMEOUT; SHOAL_ERR_INVALID (an option, or more than the devices have);
 * SHOAL_ERR_TOO_LARGE (more devices than this process sees); SHOAL_ERR_NOT_FOUND (family; a device of
 * `order`; no device at all); SHOAL_ERR_PERMISSION, SHOAL_ERR_UNSUPPORTED and SHOAL_ERR_NO_SPACE (the
 * directory of leases); SHOAL_ERR_OS.
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_lease_acquire(const shoal_lease_options *options, int64_t timeout_ns,
                                 shoal_lease **out);

/**
 * Takes a place in the queue, and does not wait for devices: `shoal_lease_wait` does. It may be called several
 * times, and the place is kept in between. Another thread ends its wait by `shoal_end_waits`.
 *
 * `options`: NULL asks for one device.
 * Ownership: `*out` is yours until `shoal_lease_free`, which gives up the place.
 *
 * Errors: as `shoal_lease_acquire`, except SHOAL_ERR_TIMEOUT.
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_lease_request(const shoal_lease_options *options, shoal_lease **out);

/**
 * Waits until the request has its devices. Returns at once if it has them.
 *
 * Errors: SHOAL_ERR_TIMEOUT; SHOAL_ERR_CLOSED (`shoal_end_waits`); SHOAL_ERR_INVALID (a forked child, which
 * does not have its parent's place); SHOAL_ERR_TOO_LARGE and SHOAL_ERR_NOT_FOUND (devices that are gone
 * meanwhile).
 */
SHOAL_API SHOAL_NODISCARD shoal_status shoal_lease_wait(shoal_lease *lease, int64_t timeout_ns);

/**
 * The devices of a lease as `device_mask` of a child takes them: "1,3".
 *
 * `buf`, `capacity`, `*len`: a text that ends with NUL, and its length without the NUL.
 *
 * Errors: SHOAL_ERR_INVALID (the request still waits); SHOAL_ERR_BUFFER_TOO_SMALL (`*len` counts the NUL).
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_lease_mask(shoal_lease *lease, char *buf, size_t capacity, size_t *len);

/**
 * The name of a lease among the others, as the variable SHOAL_LEASE has it.
 *
 * `buf`, `capacity`, `*len`: as for `shoal_lease_mask`.
 *
 * Errors: as `shoal_lease_mask`.
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_lease_id(shoal_lease *lease, char *buf, size_t capacity, size_t *len);

/**
 * The devices of a lease, as `shoal_device_discover` describes them, one line for each. Behind that follow
 * the number of the device in this process, and the part of it that the lease has: 1 is the whole.
 *
 * `buf`, `capacity`, `*len`: as for `shoal_lease_mask`.
 *
 * Errors: as `shoal_lease_mask`.
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_lease_devices(shoal_lease *lease, char *buf, size_t capacity, size_t *len);

/**
 * What changes in the environment of a child that is to run under a lease, for programs that start their
 * children themselves. The child must also get the descriptor of `shoal_lease_fd`.
 *
 * `mode`: SHOAL_LEASE_EXCLUSIVE, ... `worker`, `workers`: which of how many children that share the devices;
 * 0 and 1 for a single one.
 * `buf`, `capacity`, `*len`: as for `shoal_device_environment`.
 *
 * Errors: SHOAL_ERR_INVALID (no such worker or mode; the request still waits; the environment of this
 * process has changed and does not show the devices); SHOAL_ERR_UNSUPPORTED; SHOAL_ERR_BUFFER_TOO_SMALL.
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_lease_environment(shoal_lease *lease, uint32_t mode, size_t worker,
                                     size_t workers, char *buf, size_t capacity, size_t *len);

/**
 * The descriptor of a lease: a process that has a copy of it has the lease. It is close-on-exec.
 *
 * Ownership: the descriptor is the handle's. Do not close it; a copy (`dup`, `SCM_RIGHTS`) is yours.
 *
 * Errors: SHOAL_ERR_INVALID (the request still waits; or this is a forked child that was not given the
 * lease).
 */
SHOAL_API SHOAL_NODISCARD shoal_status shoal_lease_fd(shoal_lease *lease, int *out);

/**
 * Keeps a lease, or not, when this process executes another program in its place.
 *
 * Errors: as `shoal_lease_fd`.
 */
SHOAL_API shoal_status shoal_lease_keep_on_exec(shoal_lease *lease, bool keep);

/**
 * Every lease of this machine, and every request that waits for one, in the order in which they came: one
 * line for each. Its fields are separated by tabs; what is not known is "-", and more may follow in later
 * versions:
 *
 * 1. the id, which begins with those of the leases that it is a part of;
 * 2. "held" or "waiting";
 * 3. the number of the user;
 * 4. the process that made the request, as its owner states: by now perhaps only its children have the lease;
 * 5. since when, in seconds since 1970;
 * 6. the devices: unique ids, each with '=' and the part that is leased, separated by commas. Of a request
 *    that waits, those that it could get, with 0;
 * 7. the command, as its owner states.
 *
 * `buf`, `capacity`, `*len`: as for `shoal_lease_mask`.
 *
 * Errors: SHOAL_ERR_PERMISSION and SHOAL_ERR_INVALID (the directory of leases);
 * SHOAL_ERR_BUFFER_TOO_SMALL.
 */
SHOAL_API SHOAL_NODISCARD shoal_status shoal_lease_holders(char *buf, size_t capacity, size_t *len);

/**
 * Frees the handle; see "Freeing". The process gives up its part of the lease, or its place in the queue.
 * Children that have the lease keep it.
 */
SHOAL_API void shoal_lease_free(shoal_lease *lease);

/* ---------------------------------------------------------------------------------------------
   Process

   Programs that are started, and copies of this process.

   Killed: A program that was being started runs or does not. Children go on, except with
   SHOAL_SPAWN_DIE_WITH_PARENT; the system collects their exits.

   ```c
   const char *argv[] = {"python3", "work.py", NULL};
   shoal_spawn_options options = {.size = sizeof options, .argv = argv,
                                  .device_family = "cuda", .device_mask = "0"};
   shoal_process *child;
   shoal_exit end;
   if (shoal_process_spawn(&options, &child) == SHOAL_OK) {
       if (shoal_process_join(child, SHOAL_FOREVER, &end) == SHOAL_OK && end.code == 0)
           puts("done");
       shoal_process_free(child);
   }
   ```
   --------------------------------------------------------------------------------------------- */

/** In `shoal_exit.kind`: the process ended by itself; `code` is its exit code, 0 to 255. */
#define SHOAL_EXIT_EXITED 0

/** In `shoal_exit.kind`: a signal killed it; `code` is the signal. */
#define SHOAL_EXIT_SIGNALED 1

/**
 * In `shoal_exit.kind`: it is gone, but its exit was collected by something else, such as a `wait` of
 * this program for any child, or the kernel where SIGCHLD is ignored; `code` is -1. Since Linux 6.15 the
 * exit is known all the same, except of a forked child that ends at once.
 */
#define SHOAL_EXIT_UNKNOWN 2

/**
 * In `shoal_spawn_options.flags`: the child leads a process group of its own: `shoal_process_signal` with
 * `group` reaches all of it, and the terminal's Ctrl-C does not.
 */
#define SHOAL_SPAWN_NEW_GROUP 1

/** In `flags`: the child leads a session of its own, without a terminal, and a group. */
#define SHOAL_SPAWN_NEW_SESSION 2

/**
 * In `flags`: the kernel kills the child when this process ends, however it ends, and when it executes another
 * program. Children of the child are not covered, nor is a program that changes its user.
 */
#define SHOAL_SPAWN_DIE_WITH_PARENT 4

/** In `flags`: ignored signals stay ignored and blocked signals stay blocked, instead of being reset. */
#define SHOAL_SPAWN_KEEP_SIGNALS 8

/**
 * In `stdio`: the same as this process's, also where that is marked close-on-exec; as
 * SHOAL_STDIO_NULL where this process has closed it. For descriptor n write SHOAL_STDIO_FD(n).
 */
#define SHOAL_STDIO_INHERIT 0

/** In `stdio`: the null device. */
#define SHOAL_STDIO_NULL (-1)

/** In `stdio`: a pipe, whose other end `shoal_process_stdio` gives. */
#define SHOAL_STDIO_PIPE (-2)

/**
 * SHOAL_STDIO_FD(n) is n with this bit reversed, so that the -1 of an `open` that failed is none of the above, and
 * is refused.
 */
#define SHOAL_STDIO_IS_FD 1073741824

/** A child process. */
typedef struct shoal_process shoal_process;

/** A descriptor for a child. */
typedef struct shoal_fd_map {
    /** The descriptor in this process; it stays yours. */
    int32_t from;
    /** Its number in the child, 3 to 1023. */
    int32_t to;
} shoal_fd_map;

/**
 * A child to be started. Fields that are zero have the defaults; only `size`, and `file` or `argv`, must be
 * set.
 */
typedef struct shoal_spawn_options {
    /** `sizeof(shoal_spawn_options)`. */
    size_t size;
    /** The program; a name without '/' is searched in the PATH that the child will have. NULL is `argv[0]`. */
    const char *file;
    /** The program's argv: its name first, NULL last. NULL means only `file`. */
    const char *const *argv;
    /** Its whole environment, as "NAME=value", NULL last. NULL is that of this process. */
    const char *const *envp;
    /** Variables set on top, as "NAME=value", NULL last; or NULL. */
    const char *const *env_set;
    /** Names of variables removed then, NULL last; or NULL. */
    const char *const *env_unset;
    /** The directory it starts in; NULL is that of this process. */
    const char *cwd;
    /**
     * Its standard input, output and error: SHOAL_STDIO_INHERIT (0), SHOAL_STDIO_NULL,
     * SHOAL_STDIO_PIPE or SHOAL_STDIO_FD(n).
     */
    int32_t stdio[3];
    /** How many `fds` there are. */
    uint32_t n_fds;
    /**
     * Descriptors to give the child in addition to 0, 1 and 2. All others are closed in the child, except
     * those of its `lease`, which have numbers from 700 on, or lower ones where few descriptors are allowed.
     */
    const shoal_fd_map *fds;
    /** SHOAL_SPAWN_NEW_GROUP, ... */
    uint64_t flags;
    /**
     * The family of devices that `device_mask` is about, such as "cuda"; NULL leaves the
     * child with the devices of this process.
     */
    const char *device_family;
    /**
     * The devices of that family the child sees, counted in what this process sees: "0,2";
     * "" hides all.
     */
    const char *device_mask;
    /** A lease of devices that the child has too, and whose devices it sees; or NULL. */
    shoal_lease *lease;
    /** What it sees of them: SHOAL_LEASE_EXCLUSIVE (0), ... */
    uint32_t lease_mode;
    /** Which of the children that share the lease it is, from 0 on, */
    uint32_t worker;
    /** of how many; 0 is one. */
    uint32_t workers;
    /** 0. */
    uint32_t reserved;
} shoal_spawn_options;

/** The end of a process. */
typedef struct shoal_exit {
    /** SHOAL_EXIT_EXITED, SHOAL_EXIT_SIGNALED or SHOAL_EXIT_UNKNOWN. */
    uint32_t kind;
    /** The exit code, the number of the signal, or -1. */
    int32_t code;
} shoal_exit;

/**
 * Starts a program, and returns once it runs: one that cannot be executed is an error here. `/bin/sh` runs
 * a script without a `#!` line. The child always has descriptors 0, 1 and 2.
 *
 * It waits for the exec only, and runs no signal handler meanwhile. If the child has pipes, a fork in
 * another thread waits for the exec too. With SHOAL_SPAWN_DIE_WITH_PARENT the first call starts a thread
 * that stays.
 * Ownership: `*out` is yours until `shoal_process_free`.
 *
 * Errors: SHOAL_ERR_NOT_FOUND (program, directory or device family); SHOAL_ERR_PERMISSION;
 * SHOAL_ERR_INVALID (an option, mask, name or descriptor; the file is no program); SHOAL_ERR_UNSUPPORTED
 * (a family whose devices cannot all be hidden); SHOAL_ERR_OS.
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_process_spawn(const shoal_spawn_options *options, shoal_process **out);

/**
 * Copies this process; the copy runs `entry(arg)` and exits with the low 8 bits of what it returns.
 *
 * Buffered output is flushed before the fork. The child leaves without running this process's exit
 * handlers. `entry` must not throw, nor jump out with longjmp. Only the calling thread exists in the
 * child: if there are others, `entry` must not use what they may have locked, except this library and
 * malloc.
 *
 * `options`: NULL, or a struct in which only the devices, the lease and of the flags
 * SHOAL_SPAWN_NEW_GROUP and SHOAL_SPAWN_DIE_WITH_PARENT (here tied to the calling thread) may be set.
 * Ownership: `arg` is passed on untouched. `*out` is yours until `shoal_process_free`; in the child it
 * stays NULL.
 *
 * Errors: SHOAL_ERR_INVALID (NULL `entry`, an option or mask); SHOAL_ERR_NOT_FOUND (device family);
 * SHOAL_ERR_UNSUPPORTED; SHOAL_ERR_OS.
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_process_fork(int (*entry)(void *arg), void *arg,
                                const shoal_spawn_options *options, shoal_process **out);

/**
 * Waits until a process has ended, and reports how. Later calls return the same at once.
 *
 * `*end`: how it ended. In a forked copy of this process it is SHOAL_EXIT_UNKNOWN.
 * A child that fills a pipe which no process reads never ends.
 *
 * Errors: SHOAL_ERR_OS.
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_process_join(shoal_process *p, int64_t timeout_ns, shoal_exit *end);

/** The number of the process. After a join it may belong to another process. */
SHOAL_API SHOAL_NODISCARD shoal_status shoal_process_pid(shoal_process *p, int32_t *out);

/**
 * The descriptor of the process, for event loops: it is readable once the process has ended.
 *
 * Ownership: the descriptor is the handle's. Do not close it, and do not wait through it.
 *
 * Errors: SHOAL_ERR_NOT_FOUND (the process was gone before it could be opened).
 */
SHOAL_API SHOAL_NODISCARD shoal_status shoal_process_fd(shoal_process *p, int *out);

/**
 * Sends a signal to the process, or with `group` also to its descendants that stayed in its group. If the
 * process has ended, nothing is sent, which is no error. The signal never reaches another process that was
 * given the same number.
 *
 * Errors: SHOAL_ERR_INVALID (no such signal; with `group`: it was not started with
 * SHOAL_SPAWN_NEW_GROUP or SHOAL_SPAWN_NEW_SESSION, was joined, or this is a forked copy of its parent);
 * SHOAL_ERR_PERMISSION; SHOAL_ERR_OS.
 */
SHOAL_API shoal_status shoal_process_signal(shoal_process *p, int signal, bool group);

/**
 * Gives the caller this process's end of a pipe that was requested with SHOAL_STDIO_PIPE.
 *
 * `which`: 0 gives the end to write the child's input to, 1 and 2 those to read its output and its errors
 * from.
 * Ownership: `*fd` is yours to close. Pipes that are never taken are closed with the handle.
 *
 * Errors: SHOAL_ERR_NOT_FOUND (it is no pipe, or was given already).
 */
SHOAL_API SHOAL_NODISCARD shoal_status shoal_process_stdio(shoal_process *p, int which, int *fd);

/**
 * Frees the handle, with its descriptor and its pipes; see "Freeing". A process that still runs continues,
 * and its exit is collected later.
 */
SHOAL_API void shoal_process_free(shoal_process *p);

/* ---------------------------------------------------------------------------------------------
   Supervisor

   Workers that are supervised: started together, restarted when they fail, and ended together, also when
   this process is killed.

   Killed: The guardian kills the workers and every process that they have started.

   ```c
   const char *argv[] = {"python3", "work.py", NULL};
   shoal_spawn_options program = {.size = sizeof program, .argv = argv,
                                  .device_family = "cuda", .device_mask = "0-3"};
   shoal_supervisor_options options = {.size = sizeof options, .program = &program,
                                       .workers = 4, .restart = SHOAL_RESTART_ON_FAILURE};
   shoal_supervisor *s;
   shoal_outcome outcome;
   if (shoal_supervisor_start(&options, &s) == SHOAL_OK) {
       if (shoal_supervisor_wait(s, SHOAL_FOREVER, &outcome) == SHOAL_OK
           && outcome.kind == SHOAL_OUTCOME_SUCCEEDED)
           puts("done");
       shoal_supervisor_free(s);
   }
   ```

   The workers are children of another process, the guardian, which shares this process's memory and shows
   its command line. A `wait` of this process for any child sees none of them. When this process ends, however
   it ends, the guardian kills them and all that they have started. In a forked child every function on the
   handle fails with SHOAL_ERR_INVALID.
   --------------------------------------------------------------------------------------------- */

/** In `shoal_supervisor_options.restart`: no worker is started again. */
#define SHOAL_RESTART_NEVER 0

/** In `restart`: workers that failed (an exit code other than 0, or a signal) are started again. */
#define SHOAL_RESTART_ON_FAILURE 1

/** In `restart`: all workers are started again, also after exit code 0. */
#define SHOAL_RESTART_ALWAYS 2

/** In `shoal_supervisor_options.flags`: when a worker has failed for good, the others are not stopped. */
#define SHOAL_SUPERVISOR_KEEP_GOING 1

/**
 * In `flags`: what workers write is passed on as it is. Else each line has the worker's number before it
 * (`[3] loaded`), and lines of different workers never mix.
 */
#define SHOAL_SUPERVISOR_PLAIN 2

/** In place of a worker's number: every worker. */
#define SHOAL_EVERY_WORKER (-1)

/** In `shoal_outcome.kind`: each worker ended with exit code 0. */
#define SHOAL_OUTCOME_SUCCEEDED 0

/** In `shoal_outcome.kind`: at least one worker failed for good. */
#define SHOAL_OUTCOME_FAILED 1

/** In `shoal_outcome.kind`: the workers were stopped, and none had failed before. */
#define SHOAL_OUTCOME_STOPPED 2

/** In `shoal_worker_status.state`: it is not started yet. */
#define SHOAL_WORKER_WAITING 0

/** In `state`: it runs. */
#define SHOAL_WORKER_RUNNING 1

/** In `state`: it has ended, and is restarted after a delay. */
#define SHOAL_WORKER_RESTARTING 2

/** In `state`: it has ended for good, with success or because the workers were stopped. */
#define SHOAL_WORKER_ENDED 3

/** In `state`: it has failed for good. */
#define SHOAL_WORKER_FAILED 4

/** In `shoal_worker_event.kind`: a worker runs. */
#define SHOAL_WORKER_EVENT_STARTED 0

/** In `shoal_worker_event.kind`: a worker has ended. */
#define SHOAL_WORKER_EVENT_EXITED 1

/** In `shoal_worker_event.kind`: a worker will be started again. */
#define SHOAL_WORKER_EVENT_RESTARTING 2

/** In `shoal_worker_event.kind`: a worker could not be started again. */
#define SHOAL_WORKER_EVENT_START_FAILED 3

/** In `shoal_worker_event.kind`: a worker is in a crash loop, and is not started any more. */
#define SHOAL_WORKER_EVENT_GAVE_UP 4

/** In `shoal_worker_event.kind`: all workers are asked to end. */
#define SHOAL_WORKER_EVENT_STOPPING 5

/** In `shoal_worker_event.kind`: their time to end is over, and they are killed. */
#define SHOAL_WORKER_EVENT_KILLING 6

/** In `shoal_worker_event.kind`: the guardian was killed, and the workers with it. */
#define SHOAL_WORKER_EVENT_GUARDIAN_LOST 7

/** Workers that run under supervision. */
typedef struct shoal_supervisor shoal_supervisor;

/**
 * Workers to be started. Fields that are zero have the defaults; only `size`, `program` and `workers` must
 * be set.
 */
typedef struct shoal_supervisor_options {
    /** `sizeof(shoal_supervisor_options)`. */
    size_t size;
    /**
     * What each worker runs. Its devices, or those of its lease, are spread over the workers; its `worker`
     * and `workers` are not used. Pipes (SHOAL_STDIO_PIPE) are refused. A standard input that is inherited
     * is the null device. Descriptors are duplicated: you may close yours after the call.
     */
    const shoal_spawn_options *program;
    /** How many, 1 to 4096. */
    size_t workers;
    /** SHOAL_RESTART_NEVER, SHOAL_RESTART_ON_FAILURE or SHOAL_RESTART_ALWAYS. */
    uint32_t restart;
    /**
     * How many times in a row a worker is started again without a run of `healthy_ns` in between. After one
     * more short run it is in a crash loop and is given up. 0 is 10, UINT32_MAX is without limit.
     */
    uint32_t max_restarts;
    /** How long to wait before the first restart; it doubles with each further one. 0 is 100 ms. */
    int64_t backoff_ns;
    /** The longest such wait. 0 is 10 s. */
    int64_t max_backoff_ns;
    /** A run of this length begins the count of restarts again. 0 is 10 s. */
    int64_t healthy_ns;
    /**
     * How long workers have to end after SIGTERM before they are killed, when another one has failed or
     * the handle is freed. 0 is 10 s; SHOAL_FOREVER never kills.
     */
    int64_t grace_ns;
    /** SHOAL_SUPERVISOR_KEEP_GOING, SHOAL_SUPERVISOR_PLAIN. */
    uint64_t flags;
} shoal_supervisor_options;

/** How all workers together have ended. */
typedef struct shoal_outcome {
    /** SHOAL_OUTCOME_SUCCEEDED, SHOAL_OUTCOME_FAILED or SHOAL_OUTCOME_STOPPED. */
    uint32_t kind;
    /**
     * How the last run of the first worker that failed has ended: as `kind` of a `shoal_exit`. Else
     * SHOAL_EXIT_EXITED,
     */
    uint32_t exit_kind;
    /** and as its `code`. Else 0. */
    int32_t exit_code;
    /** 0. */
    uint32_t reserved;
    /** The first worker that failed, or -1. */
    int64_t worker;
} shoal_outcome;

/** One worker at one moment. */
typedef struct shoal_worker_status {
    /** `sizeof(shoal_worker_status)`. */
    size_t size;
    /** SHOAL_WORKER_WAITING, ... */
    uint32_t state;
    /**
     * Its process while it runs, else 0. It may have ended meanwhile: signal it by
     * `shoal_supervisor_signal`.
     */
    int32_t pid;
    /** How often it was started again. */
    uint32_t restarts;
    /** How its last run ended, as `kind` of a `shoal_exit`: SHOAL_EXIT_UNKNOWN if none has, */
    uint32_t exit_kind;
    /** and as its `code`. */
    int32_t exit_code;
    /** 0. */
    uint32_t reserved;
} shoal_worker_status;

/** Something that has happened to a worker. */
typedef struct shoal_worker_event {
    /** `sizeof(shoal_worker_event)`. */
    size_t size;
    /** The worker, or SHOAL_EVERY_WORKER. */
    int64_t worker;
    /** SHOAL_WORKER_EVENT_STARTED, ... A newer library may have more. */
    uint32_t kind;
    /** Its process, where there is one, else 0. */
    int32_t pid;
    /** How it ended, where it did, as `kind` of a `shoal_exit`; else SHOAL_EXIT_UNKNOWN, */
    uint32_t exit_kind;
    /** and as its `code`. */
    int32_t exit_code;
    /** A sentence about it that ends with NUL. */
    char text[256];
} shoal_worker_event;

/**
 * Starts workers, one after the other, and returns once all of their programs run.
 *
 * Each worker has the environment variables SHOAL_WORKER (its number, from 0), SHOAL_WORKERS (how many there
 * are) and SHOAL_WORKER_RESTARTS. Workers that are restarted have the environment, directory and descriptors
 * of this call. The call starts threads of this library, which end with the workers, and the guardian.
 * Ownership: `*out` is yours until `shoal_supervisor_free`.
 *
 * Errors: as `shoal_process_spawn`, if a worker cannot be started: the others are killed then;
 * SHOAL_ERR_TOO_LARGE (more than 4096 workers); SHOAL_ERR_UNSUPPORTED (a sandbox or an emulator does not
 * let a child share this process's memory).
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_supervisor_start(const shoal_supervisor_options *options,
                                    shoal_supervisor **out);

/**
 * Waits until all workers have ended for good. Later calls return the same at once.
 *
 * By then everything that the workers wrote has been passed on, and no process that they started is left.
 * `*end`: how they ended.
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_supervisor_wait(shoal_supervisor *s, int64_t timeout_ns, shoal_outcome *end);

/**
 * Ends all workers: sends them SIGTERM, kills those that still run after `grace_ns`, and waits until they
 * and every process that they started are gone. No worker is restarted.
 *
 * `grace_ns`: 0 kills them at once, SHOAL_FOREVER never. A second call, also from another thread, can only
 * make the time shorter.
 *
 * Errors: SHOAL_ERR_INTERRUPTED, SHOAL_ERR_CLOSED: the workers are still stopped, but the call does not wait
 * for that.
 */
SHOAL_API shoal_status shoal_supervisor_stop(shoal_supervisor *s, int64_t grace_ns);

/**
 * As `shoal_supervisor_stop`, with another first signal than SIGTERM, and without waiting.
 *
 * Errors: SHOAL_ERR_INVALID (no such signal).
 */
SHOAL_API
shoal_status shoal_supervisor_begin_stop(shoal_supervisor *s, int signal, int64_t grace_ns);

/**
 * Sends a signal to the process group of a worker, or with SHOAL_EVERY_WORKER to those of all workers. A
 * worker that does not run gets no signal, which is no error. Does not wait.
 *
 * Errors: SHOAL_ERR_INVALID (no such worker or signal).
 */
SHOAL_API shoal_status shoal_supervisor_signal(shoal_supervisor *s, int64_t worker, int signal);

/**
 * What one worker is doing. Does not wait.
 *
 * Errors: SHOAL_ERR_INVALID (no such worker).
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_supervisor_worker(shoal_supervisor *s, int64_t worker, shoal_worker_status *out);

/**
 * Takes the next event, and waits for it if there is none. At least the latest 1024 are kept.
 *
 * Errors: SHOAL_ERR_END (all workers have ended for good, and every event was taken).
 */
SHOAL_API SHOAL_NODISCARD
shoal_status shoal_supervisor_event(shoal_supervisor *s, int64_t timeout_ns,
                                    shoal_worker_event *out);

/**
 * Stops the workers with `grace_ns` of the options, waits for that, and frees the handle; see "Freeing". In a
 * forked child only the child's copy is freed.
 */
SHOAL_API void shoal_supervisor_free(shoal_supervisor *s);

#ifdef __cplusplus
}
#endif

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SHOAL_WITH_TSAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__) || defined(SHOAL_WITH_TSAN)
#include "shoal_tsan.h"
#endif

#endif /* SHOAL_H */
