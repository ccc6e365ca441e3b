/*
 * SPDX-License-Identifier: MIT OR Apache-2.0
 * Generated from src/ffi by `cargo xtask header`; edit there.
 */

/**
 * Shoal: queues, pipes, maps, lists, child processes and device masks for the processes of one
 * machine.
 *
 * ```c
 * shoal_queue_options options = {.size = sizeof options, .flags = SHOAL_CREATE};
 * shoal_queue *queue;
 * shoal_status status = shoal_queue_open("jobs", &options, &queue);
 * if (status == SHOAL_OK)
 *     status = shoal_queue_put(queue, "hello", 5, SHOAL_FOREVER);
 * if (status != SHOAL_OK)
 *     fprintf(stderr, "%s\n", shoal_last_error());
 * shoal_queue_free(queue);
 * ```
 *
 * # Conventions
 *
 * - Functions are called `shoal_<type>_<verb>`. Inputs come first, outputs last.
 * - A function that can fail returns a `shoal_status`; 0 is success. `shoal_last_error()`
 *   then has a sentence about it for the calling thread. There are no partial successes
 *   but where a count says so.
 * - Handles (`shoal_queue *`, `shoal_map *`, `shoal_process *`, ...) are opaque. You own what
 *   `_open`, `_new`, `_spawn` and `_fork` give you, until you pass it to the `_free` of its
 *   type. Freeing NULL does nothing.
 * - Strings are UTF-8 and end with NUL. Data is a pointer and a length; the pointer may be
 *   NULL if the length is 0. What you pass in stays yours and is not used after the call.
 * - After a failure a handle output is NULL and a count is 0; other outputs are untouched.
 *   Only SHOAL_ERR_BUFFER_TOO_SMALL writes the size needed to `*len`.
 * - Options structs begin with `size`; set it to `sizeof` the struct and zero the rest for the
 *   defaults. A program compiled against an older header goes on working.
 * - A timeout is a number of nanoseconds: SHOAL_FOREVER (or any negative) waits without end,
 *   SHOAL_NOWAIT does not wait. Time is monotonic; setting the clock changes nothing. A signal
 *   handler that runs while a call waits ends it with SHOAL_ERR_INTERRUPTED; call again to
 *   go on. One that runs in a moment when the call looks around instead of sleeping does not:
 *   who must notice a signal in any case waits with a timeout. A wait through a handle that is
 *   given up ends with SHOAL_ERR_CLOSED: see `shoal_end_waits`.
 * - NULL, misaligned, freed and mistaken handles are SHOAL_ERR_INVALID, as far as that can
 *   be told. A pointer to memory that is not mapped cannot be told from a good one, and the
 *   place of a freed handle is used again after a while.
 *
 * # Threads
 *
 * Every function may be called from any thread at any time, on the same handle too, with two
 * exceptions: while `_free` runs, and afterwards, nobody may use that handle; and a
 * `shoal_map_iter` serves one thread at a time. No function is async-signal-safe. No signal
 * handler is installed and no process-wide setting is touched, but for
 * `shoal_device_set_visible`.
 *
 * Before a handle is freed that other threads use, `shoal_end_waits` has those come back that wait
 * through it, with SHOAL_ERR_CLOSED; then join them. `_free` does that too, for threads that sleep in
 * a call by then: it returns when they have left. If one does not within a second, because it
 * waits for something else there, the object stays open until the process ends.
 *
 * `pthread_cancel` does not reach into a call. A thread that is cancelled in one ends at the next
 * cancellation point of its program; a wait goes on until it is over or is ended. The type must not
 * be PTHREAD_CANCEL_ASYNCHRONOUS during a call.
 *
 * What is locked, acquired or leased belongs to a handle in a process and not to a thread. A thread
 * that ends with a lock leaves it taken, for as long as its process has the handle: another thread
 * of it can unlock a plain lock and a key, release a permit or a read-write lock, and end a lease.
 * A recursive lock and that of an array only their own thread can unlock; a thread that begins
 * after its end may be taken for it.
 *
 * A thread needs a stack of 64 KiB for any function, beside what the program's own thread-local
 * variables and the callbacks it passes in take. (PTHREAD_STACK_MIN is too small. An optimised
 * build uses about 20 KiB, most of it to open an object.)
 *
 * # fork and exec
 *
 * Queue, map and list handles work in a forked child: it becomes a participant of its own, and
 * frees its copies or just exits. Its copies of process handles cannot tell how those
 * processes ended. In a child of a process with other threads the usual rule holds for your
 * own code: what they had locked stays locked. Handles do not survive exec; open by name.
 *
 * # Caveats
 *
 * - A process may be killed at any instruction. What it had put is there whole or not at all;
 *   a message it had just taken is lost with it. The next process to come along repairs the
 *   object. If it cannot, every call answers SHOAL_ERR_POISONED from then on.
 * - A process that is stopped (SIGSTOP, a debugger) inside a call holds the others up. So does a
 *   thread that ends inside a call (longjmp out of a signal handler) for as long as its process
 *   lives.
 * - Objects live in `/dev/shm`, or in the directory that the environment variable SHOAL_DIR names:
 *   an absolute path, best on a tmpfs, the same for all processes that share objects. It is read
 *   once, at the first call that needs it. On another file system the first creation tries out
 *   what objects need, and answers SHOAL_ERR_UNSUPPORTED with the name of what is missing.
 * - When the directory's file system is full, what needs memory answers SHOAL_ERR_NO_SPACE and
 *   changes nothing, after it has collected what killed processes left. Containers often have
 *   64 MiB of `/dev/shm`.
 * - An object that is not persistent goes with its last handle. If its last process is
 *   killed, or ends by `_exit` without `shoal_leave()`, it stays until `shoal_gc()`, until somebody
 *   opens it again, or until a process creates its first object or finds no memory.
 * - Only processes of one user and one pid namespace share objects, whatever C library they use.
 *   An object that nobody has open stops nobody: of whatever pid namespace or version it is, its
 *   name is free, and what is persistent is opened by the next pid namespace.
 *   Among them there is no protection: garbage written into an object is answered with
 *   SHOAL_ERR_CORRUPT, but nothing stops a process from deleting your data.
 * - Handles keep no file descriptor, but for a queue or pipe that was asked for one; a process keeps
 *   one altogether. A program may close all that it finds, as daemons do: its objects go on working,
 *   and no file that gets the number is touched.
 * - Where a control group of processes reaches its memory limit (`memory.max`), the kernel kills one of
 *   them, as by `kill -9`; where it is told not to, the call is answered with SHOAL_ERR_NO_SPACE. What
 *   others have is untouched.
 * - Linux only.
 */

#ifndef SHOAL_H
#define SHOAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define SHOAL_API __attribute__((visibility("default")))
#define SHOAL_NODISCARD __attribute__((warn_unused_result))
#else
#define SHOAL_API
#define SHOAL_NODISCARD
#endif

/** In `shoal_spawn_options.stdio`: descriptor n of this process, which stays yours. */
#define SHOAL_STDIO_FD(n) ((n) + 1)

/** Grows by one with every release whose header older programs do not work with. */
#define SHOAL_ABI_VERSION 0

/** A timeout that never passes. */
#define SHOAL_FOREVER (-1)

/** A timeout that does not wait. */
#define SHOAL_NOWAIT 0

/** Create the object if there is none of that name. */
#define SHOAL_CREATE 1

/** Fail with SHOAL_ERR_EXISTS if there is one. Implies SHOAL_CREATE. */
#define SHOAL_EXCLUSIVE 2

/** The object stays until it is unlinked, whoever has it open. */
#define SHOAL_PERSISTENT 4

/**
 * With SHOAL_CREATE, of a map: it is walked in the order in which its keys were inserted. Each
 * entry takes 8 bytes more, and a walk begins by copying all keys.
 */
#define SHOAL_ORDERED 64

/** With SHOAL_CREATE, of a lock: its owner may take it again. */
#define SHOAL_RECURSIVE 8

/** With SHOAL_CREATE, of a semaphore: never more permits than at first. */
#define SHOAL_BOUNDED 16

/** With SHOAL_CREATE, of a pipe: one way only, from the second end to the first. */
#define SHOAL_SIMPLEX 32

/** The end that receives, if the pipe has only one way. */
#define SHOAL_FIRST_END 0

/** The end that sends, if the pipe has only one way. */
#define SHOAL_SECOND_END 1

/**
 * The child leads a process group of its own: `shoal_process_signal_group` reaches all of
 * it, and the terminal's Ctrl-C does not.
 */
#define SHOAL_SPAWN_NEW_GROUP 1

/** The child leads a session of its own, without a terminal, and a group. */
#define SHOAL_SPAWN_NEW_SESSION 2

/** The kernel kills the child when this process ends, however it ends. */
#define SHOAL_SPAWN_DIE_WITH_PARENT 4

/** Ignored signals stay ignored and blocked ones blocked, instead of starting afresh. */
#define SHOAL_SPAWN_KEEP_SIGNALS 8

/**
 * In `stdio`: the same as this process's, also where that is marked close-on-exec; as
 * SHOAL_STDIO_NULL where this process has closed it. For descriptor n write
 * SHOAL_STDIO_FD(n), with an n of 0 or more.
 */
#define SHOAL_STDIO_INHERIT 0

/** In `stdio`: reads find the end, writes vanish. */
#define SHOAL_STDIO_NULL (-1)

/** In `stdio`: a pipe, whose other end `shoal_process_stdio` gives. */
#define SHOAL_STDIO_PIPE (-2)

/** In `shoal_exit.kind`: the process ended by itself; `code` is its exit code, 0 to 255. */
#define SHOAL_EXIT_EXITED 0

/** In `shoal_exit.kind`: a signal killed it; `code` is the signal. */
#define SHOAL_EXIT_SIGNALED 1

/**
 * In `shoal_exit.kind`: it is gone, but something else collected its exit: a `wait` of this
 * program for any child, or the kernel where SIGCHLD is ignored; `code` is -1. Since Linux
 * 6.15 the exit is known all the same, but for a forked child that ends at once.
 */
#define SHOAL_EXIT_UNKNOWN 2

/** The code an `Error` has in C, C++ and Python. Zero is success; codes are append-only. */
typedef enum {
    /** Success. */
    SHOAL_OK = 0,
    /** An argument is outside what the call accepts. */
    SHOAL_ERR_INVALID = 1,
    /** No object, key, program or device of this name. */
    SHOAL_ERR_NOT_FOUND = 2,
    /** An object of this name exists already. */
    SHOAL_ERR_EXISTS = 3,
    /** Access refused, or another user's object. */
    SHOAL_ERR_PERMISSION = 4,
    /** Shared memory is full. */
    SHOAL_ERR_NO_SPACE = 5,
    /** The data can never fit, or a number is above its limit. */
    SHOAL_ERR_TOO_LARGE = 6,
    /** The caller's buffer is too small; nothing was taken. */
    SHOAL_ERR_BUFFER_TOO_SMALL = 7,
    /** The deadline passed. */
    SHOAL_ERR_TIMEOUT = 8,
    /** No room now (`SHOAL_NOWAIT`). */
    SHOAL_ERR_FULL = 9,
    /** Nothing to take now (`SHOAL_NOWAIT`). */
    SHOAL_ERR_EMPTY = 10,
    /** Closed and drained; or this process gave up the handle. */
    SHOAL_ERR_CLOSED = 11,
    /** A signal handler ran while waiting. */
    SHOAL_ERR_INTERRUPTED = 12,
    /** The object is of another kind. */
    SHOAL_ERR_WRONG_KIND = 13,
    /** Made by an incompatible version or platform. */
    SHOAL_ERR_VERSION_MISMATCH = 14,
    /** Shared bytes break an invariant. */
    SHOAL_ERR_CORRUPT = 15,
    /** The object could not be repaired and refuses use. */
    SHOAL_ERR_POISONED = 16,
    /** The owner died holding it. */
    SHOAL_ERR_OWNER_DIED = 17,
    /** All places are taken. */
    SHOAL_ERR_EXHAUSTED = 18,
    /** The platform lacks what the call needs. */
    SHOAL_ERR_UNSUPPORTED = 19,
    /** Another error of the operating system. */
    SHOAL_ERR_OS = 20,
    /** A failure inside the library. */
    SHOAL_ERR_INTERNAL = 21,
    /** The lease's deadline passed: the message is delivered again. */
    SHOAL_ERR_EXPIRED = 22,
} shoal_status;

/** Items of one size that any number of processes read and write where they are, and a lock. */
typedef struct shoal_array shoal_array;

/** A meeting point for a fixed number of processes or threads. */
typedef struct shoal_barrier shoal_barrier;

/** Waiting for a change of something that a `shoal_lock` guards. */
typedef struct shoal_condition shoal_condition;

/** Something that has happened or not, which processes wait for. */
typedef struct shoal_event shoal_event;

/**
 * A named sequence of byte strings that any number of processes read and write. Every call
 * is atomic.
 *
 * An index below 0 counts from the end: -1 is the last element. An index that no element has
 * is SHOAL_ERR_NOT_FOUND; a bound of a range beyond either end is that end.
 */
typedef struct shoal_list shoal_list;

/** A lock between processes and threads; recursive if it was made with SHOAL_RECURSIVE. */
typedef struct shoal_lock shoal_lock;

/**
 * A named map from bytes to bytes that any number of processes read and write. Every call
 * is atomic for its key.
 */
typedef struct shoal_map shoal_map;

/** A walk through a map. */
typedef struct shoal_map_iter shoal_map_iter;

/** One end of a conversation of two sides, which is over when the other end is gone. */
typedef struct shoal_pipe shoal_pipe;

/** A child process. */
typedef struct shoal_process shoal_process;

/** A named queue of messages that any number of processes put into and take from. */
typedef struct shoal_queue shoal_queue;

/** A lock that many hold for reading, or one for writing. */
typedef struct shoal_rwlock shoal_rwlock;

/** A number of permits that processes take and release; those of the dead return. */
typedef struct shoal_semaphore shoal_semaphore;

/** How to open a queue. All zero but `size` opens what exists. */
typedef struct {
    /** `sizeof(shoal_queue_options)`. */
    size_t size;
    /** SHOAL_CREATE, SHOAL_EXCLUSIVE, SHOAL_PERSISTENT. */
    uint64_t flags;
    /** Bytes a new queue's ring starts with; 0 for 64 KiB. Rounded up to a power of two. */
    uint64_t capacity;
    /**
     * Bytes it may grow to; 0 for 16 GiB, and less where the process has little address space, its
     * files are limited (`ulimit -v` and `-f`) or it has thousands of objects. Rounded up to a power of
     * two. Address space only: memory is used as messages need it, and up to 8 MiB while they stream,
     * for speed.
     */
    uint64_t max_capacity;
    /** The most messages it holds at a time; 0 for as many as fit. */
    uint64_t max_items;
    /**
     * How often a message is delivered before it is moved to the dead letters (see
     * `shoal_queue_dead_letters`), at most 255; 0 for any number of times. The name of such a queue
     * has at most 195 bytes.
     */
    uint64_t max_attempts;
} shoal_queue_options;

/** Bytes that belong to the caller. */
typedef struct {
    /** The first byte; may be NULL if `len` is 0. */
    const void *data;
    /** How many there are. */
    size_t len;
} shoal_slice;

/**
 * A span in a queue that is yours for a while. Filled in by `shoal_queue_reserve` and
 * `shoal_pipe_reserve`, to be written, and by `shoal_queue_lease` and `shoal_pipe_lease`, to be
 * read.
 *
 * `data`, `len`: the span. NULL and 0 once it was given back.
 * `attempts`: of a lease, how often the message was delivered, this time included; 255 for
 * more. 0 for a reservation.
 * `block`, `number`, `owner`: the library's.
 */
typedef struct {
    void *data;
    size_t len;
    uint32_t attempts;
    uint32_t block;
    uint64_t number;
    uint64_t owner;
} shoal_loan;

/** How to open a map. All zero but `size` opens what exists. */
typedef struct {
    /** `sizeof(shoal_map_options)`. */
    size_t size;
    /** SHOAL_CREATE, SHOAL_EXCLUSIVE, SHOAL_PERSISTENT, SHOAL_ORDERED. */
    uint64_t flags;
    /** Bytes of data a new map has room for from the start; 0 for the default. */
    uint64_t capacity;
    /**
     * Bytes of data it may grow to, from 1 MiB to 512 GiB; 0 for 64 GiB, and less where the process has
     * little address space, its files are limited (`ulimit -v` and `-f`) or it has thousands of
     * objects. Address space only: memory is used as entries need it.
     */
    uint64_t max_capacity;
} shoal_map_options;

/**
 * A value in a map that you read where it lies.
 *
 * `data`, `len`: the value. NULL and 0 once it was released. `version`: its version.
 * `place`, `hold`, `owner`: the library's.
 */
typedef struct {
    const void *data;
    size_t len;
    uint64_t version;
    uint64_t place;
    uint64_t hold;
    uint64_t owner;
} shoal_view;

/**
 * How to find out, without a call, whether the value of a key may have changed.
 *
 * `word`: a number in shared memory; NULL if the value is not to be kept. `seen`: what it was
 * before the value was read. As long as it is the same (an atomic load, or a plain one of 8 bytes on
 * x86-64 and 64-bit Arm), so is the value.
 */
typedef struct {
    const uint64_t *word;
    uint64_t seen;
} shoal_watched;

/** How to open a list. All zero but `size` opens what exists. */
typedef struct {
    /** `sizeof(shoal_list_options)`. */
    size_t size;
    /** SHOAL_CREATE, SHOAL_EXCLUSIVE, SHOAL_PERSISTENT. */
    uint64_t flags;
    /** Bytes of data a new list has room for from the start; 0 for the default. */
    uint64_t capacity;
    /**
     * Bytes of data it may grow to; 0 for 64 GiB, and less where the process has little address space,
     * its files are limited (`ulimit -v` and `-f`) or it has thousands of objects. Address space only:
     * memory is used as elements need it.
     */
    uint64_t max_capacity;
} shoal_list_options;

/** How to open an end of a pipe. All zero but `size` opens what exists. */
typedef struct {
    /** `sizeof(shoal_pipe_options)`. */
    size_t size;
    /** SHOAL_CREATE, SHOAL_EXCLUSIVE, SHOAL_PERSISTENT, SHOAL_SIMPLEX. */
    uint64_t flags;
    /** As in `shoal_queue_options`, for each way; 0 for 8 KiB. */
    uint64_t capacity;
    /** As in `shoal_queue_options`, for each way. */
    uint64_t max_capacity;
    /** The most messages that are on each way at a time; 0 for as many as fit. */
    uint64_t max_items;
} shoal_pipe_options;

/** A descriptor for a child. */
typedef struct {
    /** The descriptor in this process; it stays yours. */
    int32_t from;
    /** Its number in the child, 3 to 1023. */
    int32_t to;
} shoal_fd_map;

/**
 * A child to be started. All zero but `size` and `file`, or `argv`, is a child like any
 * other.
 */
typedef struct {
    /** `sizeof(shoal_spawn_options)`. */
    size_t size;
    /**
     * The program; without a '/' it is looked for in the PATH the child will have. NULL is
     * `argv[0]`.
     */
    const char *file;
    /** What the program gets as its argv, its name first, NULL last. NULL is just `file`. */
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
    /** Descriptors to give it beside 0, 1 and 2. All others are closed in it. */
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
} shoal_spawn_options;

/** The end of a process. */
typedef struct {
    /** SHOAL_EXIT_EXITED, SHOAL_EXIT_SIGNALED or SHOAL_EXIT_UNKNOWN. */
    uint32_t kind;
    /** The exit code, the number of the signal, or -1. */
    int32_t code;
} shoal_exit;

/** Something to wait for: a queue or a process. The other one is NULL. */
typedef struct {
    /** Ready while there is something to take, and once it is closed or poisoned. */
    shoal_queue *queue;
    /** Ready once it has ended. It is not joined by that. */
    shoal_process *process;
} shoal_waitable;

/**
 * How to open a lock, semaphore, event, condition, barrier or read-write lock. All zero but
 * `size` opens what exists.
 */
typedef struct {
    /** `sizeof(shoal_sync_options)`. */
    size_t size;
    /** SHOAL_CREATE, SHOAL_EXCLUSIVE, SHOAL_PERSISTENT, SHOAL_RECURSIVE, SHOAL_BOUNDED. */
    uint64_t flags;
    /** Of a new semaphore, its permits; of a new barrier, its parties; else 0. */
    uint64_t count;
} shoal_sync_options;

/** How to open an array. All zero but `size` opens what exists. */
typedef struct {
    /** `sizeof(shoal_array_options)`. */
    size_t size;
    /** SHOAL_CREATE, SHOAL_EXCLUSIVE, SHOAL_PERSISTENT. */
    uint64_t flags;
    /** Bytes of an item, at least 1 of a new array. */
    uint64_t item_size;
    /** How many items there are. */
    uint64_t count;
    /** What an item is, in up to 16 bytes, such as a type code; NULL for nothing said. */
    const char *format;
} shoal_array_options;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * A sentence about the calling thread's last call that failed; "" if none has.
 *
 * Calls that succeed leave it alone, so ask only after a failure.
 * Blocking, threads, fork: never blocks; each thread has its own, and a forked child starts
 * with that of the thread that forked.
 * Ownership: the string is the library's. It stays valid until the calling thread's next
 * failing call, or its end.
 */
SHOAL_API const char *shoal_last_error(void);

/**
 * The name of a status: 8 gives "SHOAL_ERR_TIMEOUT". "unknown status" for any other number.
 *
 * Blocking, threads, fork: never blocks, safe everywhere.
 * Ownership: the string is constant.
 */
SHOAL_API const char *shoal_status_name(uint32_t status);

/**
 * The version of the library at run time, as in "0.1.0".
 *
 * Blocking, threads, fork: never blocks, safe everywhere.
 * Ownership: the string is constant.
 */
SHOAL_API const char *shoal_version(void);

/**
 * The SHOAL_ABI_VERSION of the library at run time. A program that loads the library by
 * itself (dlopen, ctypes) compares it with that of the header it was written for.
 *
 * Blocking, threads, fork: never blocks, safe everywhere.
 */
SHOAL_API uint32_t shoal_abi_version(void);

/**
 * Removes what killed processes left: objects that are not persistent and that nobody has
 * open, and unfinished files.
 *
 * Never touches an object in use, a persistent one, or another user's. The first creation of an
 * object in a process does the same for up to 5 ms, or 50 ms if there is much to remove, and so
 * does what finds no memory.
 *
 * `removed`: how many were removed; NULL if you do not care.
 * Blocking, threads, fork: does not wait; safe to call from several processes at once.
 *
 * Errors: SHOAL_ERR_INVALID (misaligned `removed`); SHOAL_ERR_UNSUPPORTED (there is no `/dev/shm`, or
 * what SHOAL_DIR names); SHOAL_ERR_PERMISSION (it cannot be read).
 */
SHOAL_API
shoal_status shoal_gc(size_t *removed);

/**
 * Gives up all objects of this process at once, as its normal exit does: for a program that is
 * about to end by `_exit`, which runs no exit handlers. Objects that are not persistent and that
 * nobody else has are removed, as with their last handle; without this they stay until they are
 * collected, see `shoal_gc`.
 *
 * What this process holds is treated as a dead process's from then on. So nothing may be called
 * through its handles any more, but for freeing them; threads that sleep in a call go on sleeping,
 * until the process ends.
 *
 * Blocking, threads, fork: waits for other processes that are opening or leaving the same objects
 * at the moment. The parent of a forked child, and the child of a parent, keep theirs.
 *
 * Errors: none but SHOAL_ERR_INTERNAL.
 *
 * ```c
 * if (fork() == 0) {
 *     int code = work();
 *     shoal_leave();
 *     _exit(code);
 * }
 * ```
 */
SHOAL_API
shoal_status shoal_leave(void);

/**
 * `shoal_leave` and `_exit(code)` in one, for a process with threads that may be in a call: from
 * one to the other there is no time for them to go on with what they no longer have. It waits a
 * millisecond first, so that calls that need not sleep are over. It does not return.
 *
 * Blocking, threads, fork: as `shoal_leave`.
 *
 * Errors: none.
 */
SHOAL_API
void shoal_leave_and_exit(int code);

/**
 * Opens or creates a queue.
 *
 * `name`: 1 to 200 letters, digits, '.', '_', '-'; NULL always creates a queue under a name
 * of its own, which `shoal_queue_name` tells.
 * `options`: NULL opens what exists. Sizes and lifetime count for the process that creates
 * the queue; the others get what is there.
 * Blocking, threads, fork: does not wait; safe from several threads and processes at once,
 * of which one creates it.
 * Ownership: `*out` is yours until `shoal_queue_free`; NULL after a failure.
 *
 * Errors: SHOAL_ERR_INVALID (name, options, NULL `out`); SHOAL_ERR_NOT_FOUND;
 * SHOAL_ERR_EXISTS (with SHOAL_EXCLUSIVE); SHOAL_ERR_WRONG_KIND; SHOAL_ERR_PERMISSION;
 * SHOAL_ERR_NO_SPACE; SHOAL_ERR_TOO_LARGE (capacity); SHOAL_ERR_VERSION_MISMATCH;
 * SHOAL_ERR_CORRUPT; SHOAL_ERR_EXHAUSTED (more than a thousand handles on it);
 * SHOAL_ERR_UNSUPPORTED (no directory for objects, see SHOAL_DIR); SHOAL_ERR_OS (such as no file
 * descriptor left).
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_queue_open(const char *name,
                              const shoal_queue_options *options,
                              shoal_queue **out);

/**
 * Lets go of a queue. The last handle of all processes removes a queue that is not
 * persistent, with what is in it.
 *
 * Blocking, threads, fork: ends the waits through it, see `shoal_end_waits`. No other
 * thread may be using the handle. In a forked child it frees the child's copy only.
 * Ownership: `q` is gone; NULL is allowed. A handle that was freed already is noticed and
 * left alone only as long as its place has not been used again.
 */
SHOAL_API void shoal_queue_free(shoal_queue *q);

/**
 * The name of the queue, to open it by in another process. NULL if `q` is invalid.
 *
 * Blocking, threads, fork: never blocks; safe everywhere.
 * Ownership: the string is the handle's and goes with it.
 */
SHOAL_API const char *shoal_queue_name(shoal_queue *q);

/**
 * Puts one message at the end of the queue, waiting for room if there is none.
 *
 * `data`, `len`: the message, of any length, 0 too. It takes 16 to 31 bytes more in the ring.
 * `timeout_ns`: how long to wait for room, in nanoseconds; SHOAL_FOREVER, SHOAL_NOWAIT.
 * Blocking, threads, fork: waits until there is room or the time is over. Safe everywhere.
 * Ownership: `data` is copied.
 *
 * Errors: SHOAL_ERR_FULL (SHOAL_NOWAIT) or SHOAL_ERR_TIMEOUT; SHOAL_ERR_CLOSED;
 * SHOAL_ERR_TOO_LARGE (it could never fit; at once); SHOAL_ERR_NO_SPACE (`/dev/shm` is full);
 * SHOAL_ERR_INTERRUPTED; SHOAL_ERR_INVALID; SHOAL_ERR_POISONED; SHOAL_ERR_CORRUPT. After an
 * error nothing was put.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_queue_put(shoal_queue *q,
                             const void *data,
                             size_t len,
                             int64_t timeout_ns);

/**
 * Puts several messages in order, as many as there is room for in time. One lock and one
 * wake-up serve all that fit together: much faster than one by one.
 *
 * The messages are not one unit: others' may come between them.
 *
 * `items`, `n`: the messages. `*done`: how many were put, always the first ones. It is less
 * than `n` if the time was over, or something failed, after the first: call again with the
 * rest to learn what.
 * `timeout_ns`: how long to wait for room in all; SHOAL_FOREVER, SHOAL_NOWAIT.
 * Blocking, threads, fork: as `shoal_queue_put`.
 * Ownership: `items` and what they point to are copied.
 *
 * Errors: as `shoal_queue_put`, and only if not one message was put.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_queue_put_many(shoal_queue *q,
                                  const shoal_slice *items,
                                  size_t n,
                                  size_t *done,
                                  int64_t timeout_ns);

/**
 * Takes the first message, waiting for one if there is none.
 *
 * `buf`, `capacity`: where to, and the room there. `*len`: the message's length.
 * `timeout_ns`: how long to wait for a message; SHOAL_FOREVER, SHOAL_NOWAIT.
 * Blocking, threads, fork: waits until there is a message or the time is over. Safe
 * everywhere; each message goes to exactly one caller.
 * Ownership: the message is copied to `buf`.
 *
 * Errors: SHOAL_ERR_EMPTY (SHOAL_NOWAIT) or SHOAL_ERR_TIMEOUT; SHOAL_ERR_BUFFER_TOO_SMALL
 * (`*len` is the room needed, and the message stays); SHOAL_ERR_CLOSED (and nothing is left);
 * SHOAL_ERR_INTERRUPTED; SHOAL_ERR_INVALID; SHOAL_ERR_POISONED; SHOAL_ERR_CORRUPT.
 *
 * ```c
 * char buf[4096];
 * size_t len;
 * shoal_status status;
 * while ((status = shoal_queue_get(q, buf, sizeof buf, &len, SHOAL_FOREVER)) == SHOAL_OK)
 *     work_on(buf, len);
 * if (status != SHOAL_ERR_CLOSED)
 *     fprintf(stderr, "%s\n", shoal_last_error());
 * ```
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_queue_get(shoal_queue *q,
                             void *buf,
                             size_t capacity,
                             size_t *len,
                             int64_t timeout_ns);

/**
 * Waits for a first message, then takes it and those that are there already.
 *
 * `buf`, `capacity`: where the messages go, back to back. `lens`: room for `max` lengths.
 * `*n`: how many there were, at most `max`, and no more than fit.
 * `timeout_ns`: how long to wait for the first; SHOAL_FOREVER, SHOAL_NOWAIT.
 * Blocking, threads, fork: as `shoal_queue_get`.
 * Ownership: the messages are copied to `buf`.
 *
 * Errors: as `shoal_queue_get`. SHOAL_ERR_BUFFER_TOO_SMALL if not even the first message
 * fits: `lens[0]` is the room it needs, `*n` is 0, and nothing is taken.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_queue_get_many(shoal_queue *q,
                                  void *buf,
                                  size_t capacity,
                                  size_t *lens,
                                  size_t max,
                                  size_t *n,
                                  int64_t timeout_ns);

/**
 * How many messages are in the queue. Exact whenever nobody is putting or taking.
 *
 * Blocking, threads, fork: never blocks; safe everywhere.
 *
 * Errors: SHOAL_ERR_INVALID.
 */
SHOAL_API SHOAL_NODISCARD shoal_status shoal_queue_len(shoal_queue *q, uint64_t *out);

/**
 * The bytes of all messages in the queue, without their headers.
 *
 * Blocking, threads, fork: never blocks; safe everywhere.
 *
 * Errors: SHOAL_ERR_INVALID.
 */
SHOAL_API SHOAL_NODISCARD shoal_status shoal_queue_bytes(shoal_queue *q, uint64_t *out);

/**
 * The bytes of the ring as it is now.
 *
 * Blocking, threads, fork: never blocks; safe everywhere.
 *
 * Errors: SHOAL_ERR_INVALID.
 */
SHOAL_API SHOAL_NODISCARD shoal_status shoal_queue_capacity(shoal_queue *q, uint64_t *out);

/**
 * The bytes the ring may grow to.
 *
 * Blocking, threads, fork: never blocks; safe everywhere.
 *
 * Errors: SHOAL_ERR_INVALID.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_queue_max_capacity(shoal_queue *q,
                                      uint64_t *out);

/**
 * The most messages the queue holds at a time; 0 for as many as fit.
 *
 * Blocking, threads, fork: never blocks; safe everywhere.
 *
 * Errors: SHOAL_ERR_INVALID.
 */
SHOAL_API SHOAL_NODISCARD shoal_status shoal_queue_max_items(shoal_queue *q, uint64_t *out);

/**
 * The length of the longest message that can ever be put, in bytes.
 *
 * Blocking, threads, fork: never blocks; safe everywhere.
 *
 * Errors: SHOAL_ERR_INVALID.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_queue_max_message(shoal_queue *q,
                                     uint64_t *out);

/**
 * Whether somebody has closed the queue.
 *
 * Blocking, threads, fork: never blocks; safe everywhere.
 *
 * Errors: SHOAL_ERR_INVALID.
 */
SHOAL_API SHOAL_NODISCARD shoal_status shoal_queue_is_closed(shoal_queue *q, bool *out);

/**
 * Closes the queue for all processes: from now on every put fails with SHOAL_ERR_CLOSED, and
 * every get too, once the queue is drained. Those who wait are woken. Closing twice is fine.
 *
 * Blocking, threads, fork: waits only for a put that is under way. Safe everywhere.
 *
 * Errors: SHOAL_ERR_INVALID; SHOAL_ERR_POISONED; SHOAL_ERR_CORRUPT.
 */
SHOAL_API
shoal_status shoal_queue_close(shoal_queue *q);

/**
 * Removes the name of a queue. Who has it open goes on using it; who opens or creates the
 * name from now on gets another one.
 *
 * Blocking, threads, fork: does not wait; safe everywhere.
 *
 * Errors: SHOAL_ERR_INVALID (name); SHOAL_ERR_NOT_FOUND; SHOAL_ERR_WRONG_KIND;
 * SHOAL_ERR_PERMISSION.
 */
SHOAL_API shoal_status shoal_queue_unlink(const char *name);

/**
 * Reserves room for a message, to be written in place: large messages are copied once less.
 * Several processes may write theirs at the same time.
 *
 * `len`: the most bytes the message may have. `*out`: the span to write to.
 * `timeout_ns`: how long to wait for room; SHOAL_FOREVER, SHOAL_NOWAIT.
 * `data` holds at first what earlier messages left there. The message gets its place in the
 * queue when it is committed; nobody waits for it before. Where messages are bounded by
 * number, a reservation counts as one. That of a dead process is discarded.
 * Blocking, threads, fork: as `shoal_queue_put`; any thread may commit. In a forked child
 * the parent's loans cannot be used.
 * Ownership: `*out` is yours until `shoal_queue_commit` or `shoal_queue_discard`, and until
 * the handle is freed.
 *
 * Errors: as `shoal_queue_put`.
 *
 * ```c
 * shoal_loan loan;
 * if (shoal_queue_reserve(q, frame_size, &loan, SHOAL_FOREVER) == SHOAL_OK) {
 *     size_t used = grab_frame(loan.data, loan.len);
 *     if (shoal_queue_commit(q, &loan, used) != SHOAL_OK)
 *         fprintf(stderr, "%s\n", shoal_last_error());
 * }
 * ```
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_queue_reserve(shoal_queue *q,
                                 size_t len,
                                 shoal_loan *out,
                                 int64_t timeout_ns);

/**
 * Makes the first `used` bytes of a loan a message, there for everybody when this returns.
 *
 * `used`: at most what was reserved. The rest is given back.
 * Blocking, threads, fork: waits for the lock only. Not in a forked child of the process that
 * reserved.
 * Ownership: the loan is spent, unless this fails: then it is still yours.
 *
 * Errors: SHOAL_ERR_TOO_LARGE (more than reserved); SHOAL_ERR_INVALID (spent, another's, NULL);
 * SHOAL_ERR_POISONED; SHOAL_ERR_CORRUPT.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_queue_commit(shoal_queue *q,
                                shoal_loan *loan,
                                size_t used);

/**
 * Gives a loan back. Nobody sees that it was there.
 *
 * Blocking, threads, fork: does not wait. Not in a forked child of the process that reserved.
 * Ownership: the loan is spent.
 *
 * Errors: SHOAL_ERR_INVALID (spent, another's, NULL); SHOAL_ERR_CORRUPT.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_queue_discard(shoal_queue *q,
                                 shoal_loan *loan);

/**
 * Takes the first message to work on it. Once this process is dead, by whatever cause, another
 * consumer gets the message: within a tenth of a second and mostly much sooner, as soon as
 * somebody takes or waits.
 *
 * `visible_ns`: for how long it is yours. If it is neither acked nor extended by then, another
 * consumer gets it although you live. SHOAL_FOREVER: until you die.
 * `*out`: the message, to be read where it is. `attempts` says how often it was delivered.
 * `timeout_ns`: how long to wait for a message; SHOAL_FOREVER, SHOAL_NOWAIT.
 * What was reserved is read where it was written; what was put is copied once, out of the
 * ring, so that no lease holds up the others.
 * Blocking, threads, fork: as `shoal_queue_get`; any thread may ack. In a forked child the
 * parent's loans cannot be used.
 * Ownership: `*out` is yours until `shoal_queue_ack` or `shoal_queue_nack`, and until the
 * handle is freed, which gives it back.
 *
 * Errors: as `shoal_queue_get`, but for the buffer; SHOAL_ERR_EXHAUSTED or SHOAL_ERR_NO_SPACE:
 * there is no room for more leases, and the message stays.
 *
 * ```c
 * shoal_loan job;
 * while (shoal_queue_lease(q, SHOAL_FOREVER, &job, SHOAL_FOREVER) == SHOAL_OK)
 *     if (work(job.data, job.len))
 *         (void)shoal_queue_ack(q, &job);
 *     else
 *         (void)shoal_queue_nack(q, &job, 1000000000);
 * ```
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_queue_lease(shoal_queue *q,
                               int64_t visible_ns,
                               shoal_loan *out,
                               int64_t timeout_ns);

/**
 * The work is done: the message is gone.
 *
 * Blocking, threads, fork: waits for the lock only. Not in a forked child of the process that
 * leased.
 * Ownership: the loan is spent.
 *
 * Errors: SHOAL_ERR_EXPIRED (its time was over: another consumer gets it, or has it; the loan
 * is spent); SHOAL_ERR_INVALID (spent, another's, NULL); SHOAL_ERR_POISONED; SHOAL_ERR_CORRUPT.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_queue_ack(shoal_queue *q,
                             shoal_loan *loan);

/**
 * Gives the message back, to be delivered again after `delay_ns`, before all that was put
 * after it.
 *
 * Blocking, threads, fork: as `shoal_queue_ack`.
 * Ownership: the loan is spent.
 *
 * Errors: as `shoal_queue_ack`; SHOAL_ERR_INVALID for a negative delay.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_queue_nack(shoal_queue *q,
                              shoal_loan *loan,
                              int64_t delay_ns);

/**
 * Moves the end of a lease to `visible_ns` from now, or sets one.
 *
 * Blocking, threads, fork: as `shoal_queue_ack`.
 * Ownership: the loan stays yours, whatever this returns.
 *
 * Errors: as `shoal_queue_ack`; SHOAL_ERR_INVALID for a negative time.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_queue_extend(shoal_queue *q,
                                shoal_loan *loan,
                                int64_t visible_ns);

/**
 * How many messages are leased. What a dead process had leased counts for a tenth of a second at
 * most, and is then to be delivered again.
 *
 * Blocking, threads, fork: does not wait for messages; safe everywhere.
 *
 * Errors: SHOAL_ERR_INVALID.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_queue_leased(shoal_queue *q,
                                uint64_t *out);

/**
 * How many messages were put and are not finished: neither taken by a get nor acked. Exact.
 *
 * Blocking, threads, fork: waits for the lock only; safe everywhere.
 *
 * Errors: SHOAL_ERR_INVALID; SHOAL_ERR_POISONED; SHOAL_ERR_CORRUPT.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_queue_unfinished(shoal_queue *q,
                                    uint64_t *out);

/**
 * Waits until every message that was ever put is finished.
 *
 * `timeout_ns`: how long to wait; SHOAL_FOREVER, SHOAL_NOWAIT.
 * Blocking, threads, fork: waits. Safe everywhere.
 *
 * Errors: SHOAL_ERR_TIMEOUT (SHOAL_NOWAIT too); SHOAL_ERR_INTERRUPTED; SHOAL_ERR_INVALID;
 * SHOAL_ERR_POISONED; SHOAL_ERR_CORRUPT.
 */
SHOAL_API SHOAL_NODISCARD shoal_status shoal_queue_join(shoal_queue *q, int64_t timeout_ns);

/**
 * How often a message is delivered before it is a dead letter; 0 for any number of times.
 *
 * Blocking, threads, fork: never blocks; safe everywhere.
 *
 * Errors: SHOAL_ERR_INVALID.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_queue_max_attempts(shoal_queue *q,
                                      uint64_t *out);

/**
 * Opens the queue of the dead letters: the messages that were delivered `max_attempts` times
 * and not acked. It is a queue like any other, called as this one with `.dead` behind it. It
 * lives as long as this one does, and longer if it is open itself.
 *
 * Blocking, threads, fork: as `shoal_queue_open`.
 * Ownership: `*out` is yours until `shoal_queue_free`; NULL after a failure.
 *
 * Errors: SHOAL_ERR_NOT_FOUND (there is no bound on deliveries); as `shoal_queue_open`.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_queue_dead_letters(shoal_queue *q,
                                      shoal_queue **out);

/**
 * Opens or creates a map.
 *
 * `name`: 1 to 200 letters, digits, '.', '_', '-'; NULL always creates a map under a name of
 * its own, which `shoal_map_name` tells.
 * `options`: NULL opens what exists. Sizes and lifetime count for the process that creates
 * the map; the others get what is there.
 * Blocking, threads, fork: does not wait; safe from several threads and processes at once,
 * of which one creates it.
 * Ownership: `*out` is yours until `shoal_map_free`; NULL after a failure.
 *
 * Errors: SHOAL_ERR_INVALID (name, options, NULL `out`); SHOAL_ERR_NOT_FOUND;
 * SHOAL_ERR_EXISTS (with SHOAL_EXCLUSIVE); SHOAL_ERR_WRONG_KIND; SHOAL_ERR_PERMISSION;
 * SHOAL_ERR_NO_SPACE; SHOAL_ERR_TOO_LARGE (capacity); SHOAL_ERR_VERSION_MISMATCH;
 * SHOAL_ERR_CORRUPT; SHOAL_ERR_EXHAUSTED (more than a thousand handles on it);
 * SHOAL_ERR_UNSUPPORTED (no directory for objects, see SHOAL_DIR); SHOAL_ERR_OS (such as no file
 * descriptor left).
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_map_open(const char *name,
                            const shoal_map_options *options,
                            shoal_map **out);

/**
 * Lets go of a map. The last handle of all processes removes a map that is not persistent,
 * with what is in it. Iterators of it stay usable, and keep it, until they are freed.
 *
 * Blocking, threads, fork: ends the waits through it, see `shoal_end_waits`. No other
 * thread may be using the handle. In a forked child it frees the child's copy only.
 * Ownership: `m` is gone; NULL is allowed. A handle that was freed already is noticed and
 * left alone only as long as its place has not been used again.
 */
SHOAL_API void shoal_map_free(shoal_map *m);

/**
 * The name of the map, to open it by in another process. NULL if `m` is invalid.
 *
 * Blocking, threads, fork: never blocks; safe everywhere.
 * Ownership: the string is the handle's and goes with it.
 */
SHOAL_API const char *shoal_map_name(shoal_map *m);

/**
 * Gives a key a value, whether or not it had one.
 *
 * `key`, `value`: bytes of any content; either may have length 0. A key has at most 64 KiB, a
 * value half of the map's `max_capacity` and less than 4 GiB.
 * Blocking, threads, fork: waits only for calls on the same part of the map that are under
 * way. Safe everywhere.
 * Ownership: key and value are copied.
 *
 * Errors: SHOAL_ERR_TOO_LARGE (key or value could never fit); SHOAL_ERR_NO_SPACE (`/dev/shm`
 * or the map is full; the old value stays); SHOAL_ERR_INVALID; SHOAL_ERR_POISONED;
 * SHOAL_ERR_CORRUPT.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_map_set(shoal_map *m,
                           const void *key,
                           size_t key_len,
                           const void *value,
                           size_t value_len);

/**
 * Copies the value of a key.
 *
 * `buf`, `capacity`: where to, and the room there. `*len`: the value's length.
 * Blocking, threads, fork: as `shoal_map_set`.
 * Ownership: the value is copied to `buf`.
 *
 * Errors: SHOAL_ERR_NOT_FOUND (no such key); SHOAL_ERR_BUFFER_TOO_SMALL (`*len` is the room
 * needed); SHOAL_ERR_INVALID; SHOAL_ERR_POISONED; SHOAL_ERR_CORRUPT.
 *
 * ```c
 * int64_t counter;
 * size_t len;
 * if (shoal_map_get(m, "hits", 4, &counter, sizeof counter, &len) == SHOAL_OK && len == 8)
 *     printf("%lld hits\n", (long long)counter);
 * ```
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_map_get(shoal_map *m,
                           const void *key,
                           size_t key_len,
                           void *buf,
                           size_t capacity,
                           size_t *len);

/**
 * Gives a key a value if it has none.
 *
 * `*inserted`: whether it did; false if the key was there, and its value stays.
 * Blocking, threads, fork: as `shoal_map_set`. Of several callers exactly one inserts.
 * Ownership: key and value are copied.
 *
 * Errors: as `shoal_map_set`.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_map_insert(shoal_map *m,
                              const void *key,
                              size_t key_len,
                              const void *value,
                              size_t value_len,
                              bool *inserted);

/**
 * Removes a key.
 *
 * Blocking, threads, fork: as `shoal_map_set`. Of several callers exactly one removes it.
 *
 * Errors: SHOAL_ERR_NOT_FOUND (no such key); SHOAL_ERR_INVALID; SHOAL_ERR_POISONED;
 * SHOAL_ERR_CORRUPT.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_map_remove(shoal_map *m,
                              const void *key,
                              size_t key_len);

/**
 * Removes a key and copies the value it had.
 *
 * `buf`, `capacity`: where to, and the room there. `*len`: the value's length.
 * Blocking, threads, fork: as `shoal_map_set`. Of several callers exactly one gets the value.
 * Ownership: the value is copied to `buf`.
 *
 * Errors: SHOAL_ERR_NOT_FOUND (no such key); SHOAL_ERR_BUFFER_TOO_SMALL (`*len` is the room
 * needed, and the key stays); SHOAL_ERR_INVALID; SHOAL_ERR_POISONED; SHOAL_ERR_CORRUPT.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_map_take(shoal_map *m,
                            const void *key,
                            size_t key_len,
                            void *buf,
                            size_t capacity,
                            size_t *len);

/**
 * Whether the map has a key.
 *
 * Blocking, threads, fork: as `shoal_map_set`.
 *
 * Errors: SHOAL_ERR_INVALID; SHOAL_ERR_POISONED; SHOAL_ERR_CORRUPT.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_map_contains(shoal_map *m,
                                const void *key,
                                size_t key_len,
                                bool *out);

/**
 * Adds to a counter. A counter is a value of 8 bytes, an `int64_t` with its least
 * significant byte first; a key that is not there counts as 0. The sum wraps around.
 *
 * `*out`: the new value; NULL if you do not care.
 * Blocking, threads, fork: as `shoal_map_set`. No addition is ever lost.
 *
 * Errors: SHOAL_ERR_INVALID (also: the value is not 8 bytes long); SHOAL_ERR_TOO_LARGE (key);
 * SHOAL_ERR_NO_SPACE; SHOAL_ERR_POISONED; SHOAL_ERR_CORRUPT.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_map_add(shoal_map *m,
                           const void *key,
                           size_t key_len,
                           int64_t delta,
                           int64_t *out);

/**
 * Gives a key a new value if its value is the expected one.
 *
 * `expected`: NULL (with length 0) expects that the key is not there; an empty value is any
 * other pointer with length 0.
 * `desired`: NULL (with length 0) removes the key.
 * `*swapped`: whether it did.
 * Blocking, threads, fork: as `shoal_map_set`.
 * Ownership: all bytes are copied.
 *
 * Errors: as `shoal_map_set`.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_map_compare_swap(shoal_map *m,
                                    const void *key,
                                    size_t key_len,
                                    const void *expected,
                                    size_t expected_len,
                                    const void *desired,
                                    size_t desired_len,
                                    bool *swapped);

/**
 * How many keys the map has. Exact if nobody writes meanwhile.
 *
 * Blocking, threads, fork: as `shoal_map_set`.
 *
 * Errors: SHOAL_ERR_INVALID; SHOAL_ERR_POISONED; SHOAL_ERR_CORRUPT.
 */
SHOAL_API SHOAL_NODISCARD shoal_status shoal_map_len(shoal_map *m, uint64_t *out);

/**
 * Whether the map was made with SHOAL_ORDERED.
 *
 * Blocking, threads, fork: never blocks; safe everywhere.
 *
 * Errors: SHOAL_ERR_INVALID.
 */
SHOAL_API SHOAL_NODISCARD shoal_status shoal_map_is_ordered(shoal_map *m, bool *out);

/**
 * Removes every key. A key that another process sets meanwhile may stay.
 *
 * Blocking, threads, fork: as `shoal_map_set`.
 *
 * Errors: SHOAL_ERR_INVALID; SHOAL_ERR_POISONED; SHOAL_ERR_CORRUPT.
 */
SHOAL_API shoal_status shoal_map_clear(shoal_map *m);

/**
 * Removes the name of a map. Who has it open goes on using it; who opens or creates the name
 * from now on gets another one.
 *
 * Blocking, threads, fork: does not wait; safe everywhere.
 *
 * Errors: SHOAL_ERR_INVALID (name); SHOAL_ERR_NOT_FOUND; SHOAL_ERR_WRONG_KIND;
 * SHOAL_ERR_PERMISSION.
 */
SHOAL_API
shoal_status shoal_map_unlink(const char *name);

/**
 * Begins a walk through all entries of a map, in no order, while others may write.
 *
 * A key that is there from the first step to the last is met exactly once, with a value it
 * had in between; one that comes or goes meanwhile is met once or not at all.
 *
 * Blocking, threads, fork: does not wait; no lock is held between two steps.
 * Ownership: `*out` is yours until `shoal_map_iter_free`; NULL after a failure. It keeps the
 * map open, even if `m` is freed first.
 *
 * Errors: SHOAL_ERR_INVALID.
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
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_map_iter_new(shoal_map *m,
                                shoal_map_iter **out);

/**
 * Moves to the next entry.
 *
 * `*key`, `*key_len`, `*value`, `*value_len`: the entry.
 * Blocking, threads, fork: as `shoal_map_set`; one thread at a time.
 * Ownership: `*key` and `*value` are the iterator's, and valid until its next step or its end.
 *
 * Errors: SHOAL_ERR_EMPTY (that was all); SHOAL_ERR_INVALID; SHOAL_ERR_POISONED;
 * SHOAL_ERR_CORRUPT.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_map_iter_next(shoal_map_iter *it,
                                 const void **key,
                                 size_t *key_len,
                                 const void **value,
                                 size_t *value_len);

/**
 * Ends a walk, at any step.
 *
 * Blocking, threads, fork: does not wait. No other thread may be using the iterator.
 * Ownership: `it` is gone, with the last entry it gave; NULL is allowed.
 */
SHOAL_API void shoal_map_iter_free(shoal_map_iter *it);

/**
 * Copies the value of a key, and tells its version.
 *
 * `buf`, `capacity`: where to, and the room there. `*len`: the value's length. `*version`: no two
 * values of a key have the same, and later ones have higher; never 0.
 * Blocking, threads, fork: as `shoal_map_get`.
 * Ownership: the value is copied to `buf`.
 *
 * Errors: as `shoal_map_get`.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_map_get_versioned(shoal_map *m,
                                     const void *key,
                                     size_t key_len,
                                     void *buf,
                                     size_t capacity,
                                     size_t *len,
                                     uint64_t *version);

/**
 * The version of a key's value; 0 if there is no such key.
 *
 * Blocking, threads, fork: as `shoal_map_get`.
 *
 * Errors: SHOAL_ERR_INVALID; SHOAL_ERR_POISONED; SHOAL_ERR_CORRUPT.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_map_version_of(shoal_map *m,
                                  const void *key,
                                  size_t key_len,
                                  uint64_t *out);

/**
 * Gives a key a new value if its value still has a version.
 *
 * `version`: 0 expects that the key is not there.
 * `desired`: NULL (with length 0) removes the key.
 * `*swapped`: whether it did.
 * Blocking, threads, fork: as `shoal_map_set`.
 * Ownership: all bytes are copied.
 *
 * Errors: as `shoal_map_set`.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_map_compare_swap_version(shoal_map *m,
                                            const void *key,
                                            size_t key_len,
                                            uint64_t version,
                                            const void *desired,
                                            size_t desired_len,
                                            bool *swapped);

/**
 * Adds to a number: as `shoal_map_add`, of a `double` of 8 bytes, least significant byte first.
 *
 * `*out`: the new value; NULL if you do not care.
 * Blocking, threads, fork: as `shoal_map_set`. No addition is ever lost.
 *
 * Errors: as `shoal_map_add`.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_map_add_f64(shoal_map *m,
                               const void *key,
                               size_t key_len,
                               double delta,
                               double *out);

/**
 * Gives many keys their values, with each part of the map locked once. Of equal keys the last
 * one counts.
 *
 * `keys`, `values`: `n` of each. Each key is set or is not, as by `shoal_map_set`; all of them
 * are no unit: after an error or a kill some are set.
 * Blocking, threads, fork: as `shoal_map_set`.
 * Ownership: keys and values are copied.
 *
 * Errors: as `shoal_map_set`; what is too large is said before anything is set.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_map_set_many(shoal_map *m,
                                const shoal_slice *keys,
                                const shoal_slice *values,
                                size_t n);

/**
 * Copies the values of many keys, with each part of the map locked once.
 *
 * `keys`, `values`: `n` of each. `values[i]` is set to where in `buf` the value of `keys[i]` is,
 * with `data` NULL if there is no such key.
 * `buf`, `capacity`: where to, in no order, and the room there. `*len`: how much of it is used.
 * Blocking, threads, fork: as `shoal_map_get`.
 * Ownership: the values are copied to `buf`.
 *
 * Errors: SHOAL_ERR_BUFFER_TOO_SMALL (`*len` is the room needed now, `values` are untouched);
 * SHOAL_ERR_INVALID; SHOAL_ERR_POISONED; SHOAL_ERR_CORRUPT.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_map_get_many(shoal_map *m,
                                const shoal_slice *keys,
                                size_t n,
                                void *buf,
                                size_t capacity,
                                shoal_slice *values,
                                size_t *len);

/**
 * Gives a key a value for a time; then it is as if it had been removed. `shoal_map_set` makes it
 * stay for good again.
 *
 * `life_ns`: for how long; SHOAL_FOREVER for good.
 * Blocking, threads, fork: as `shoal_map_set`.
 * Ownership: key and value are copied.
 *
 * Errors: as `shoal_map_set`.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_map_set_for(shoal_map *m,
                               const void *key,
                               size_t key_len,
                               const void *value,
                               size_t value_len,
                               int64_t life_ns);

/**
 * Lets a key live for a time from now on.
 *
 * `life_ns`: for how long; SHOAL_FOREVER for good.
 * Blocking, threads, fork: as `shoal_map_set`.
 *
 * Errors: SHOAL_ERR_NOT_FOUND (no such key); and as `shoal_map_set`.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_map_expire(shoal_map *m,
                              const void *key,
                              size_t key_len,
                              int64_t life_ns);

/**
 * For how long a key will still be there.
 *
 * `*out`: nanoseconds; SHOAL_FOREVER for good.
 * Blocking, threads, fork: as `shoal_map_get`.
 *
 * Errors: SHOAL_ERR_NOT_FOUND (no such key); SHOAL_ERR_INVALID; SHOAL_ERR_POISONED;
 * SHOAL_ERR_CORRUPT.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_map_time_left(shoal_map *m,
                                 const void *key,
                                 size_t key_len,
                                 int64_t *out);

/**
 * Removes every key whose time is over. Changes nearby do that in time as well.
 *
 * `*out`: how many there were; NULL if you do not care.
 * Blocking, threads, fork: as `shoal_map_set`.
 *
 * Errors: SHOAL_ERR_INVALID; SHOAL_ERR_POISONED; SHOAL_ERR_CORRUPT.
 */
SHOAL_API SHOAL_NODISCARD shoal_status shoal_map_purge(shoal_map *m, uint64_t *out);

/**
 * Locks a key, which need not be there, for work in several steps.
 *
 * It keeps others from locking the same key, and from nothing else: the map does not ask for
 * it. Locking several keys is safe from deadlock if all do it in the same order.
 * `timeout_ns`: how long to wait for who has it; SHOAL_FOREVER, SHOAL_NOWAIT.
 * Blocking, threads, fork: waits until the key is unlocked or its holder is dead. Any thread
 * may unlock it. A forked child does not have it.
 *
 * SHOAL_ERR_OWNER_DIED means that *you have the lock*, and that the process that had it before
 * died with it: what it was doing may be half done.
 *
 * Errors: SHOAL_ERR_TIMEOUT; SHOAL_ERR_INTERRUPTED; SHOAL_ERR_INVALID (also: this thread has
 * locked it already); SHOAL_ERR_TOO_LARGE; SHOAL_ERR_POISONED; SHOAL_ERR_CORRUPT.
 *
 * ```c
 * shoal_status status = shoal_map_lock_key(m, "ledger", 6, SHOAL_FOREVER);
 * if (status == SHOAL_ERR_OWNER_DIED)
 *     check_the_ledger();
 * if (status == SHOAL_OK || status == SHOAL_ERR_OWNER_DIED) {
 *     work_on_the_ledger();
 *     status = shoal_map_unlock_key(m, "ledger", 6);
 * }
 * ```
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_map_lock_key(shoal_map *m,
                                const void *key,
                                size_t key_len,
                                int64_t timeout_ns);

/**
 * Unlocks a key that this process locked, through this handle.
 *
 * Blocking, threads, fork: does not wait.
 *
 * Errors: SHOAL_ERR_INVALID (also: it is not locked, or by another process);
 * SHOAL_ERR_POISONED; SHOAL_ERR_CORRUPT.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_map_unlock_key(shoal_map *m,
                                  const void *key,
                                  size_t key_len);

/**
 * A number that grows with every change of the map, to wait for the next one.
 *
 * Blocking, threads, fork: never blocks; safe everywhere.
 *
 * Errors: SHOAL_ERR_INVALID.
 */
SHOAL_API SHOAL_NODISCARD shoal_status shoal_map_version(shoal_map *m, uint64_t *out);

/**
 * Waits until a map's version is not `seen`.
 *
 * `*now`: what it is. What was changed, it does not tell.
 * `timeout_ns`: how long to wait; SHOAL_FOREVER, SHOAL_NOWAIT.
 * Blocking, threads, fork: waits for a change by whatever process, or until the time is over.
 *
 * Errors: SHOAL_ERR_TIMEOUT; SHOAL_ERR_INTERRUPTED; SHOAL_ERR_INVALID; SHOAL_ERR_POISONED.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_map_wait_change(shoal_map *m,
                                   uint64_t seen,
                                   uint64_t *now,
                                   int64_t timeout_ns);

/**
 * Waits until the version of a key's value is not `seen`: until it is set, removed, or its time
 * is over.
 *
 * `seen`: 0 for a key that is not there. `*now`: what it is.
 * `timeout_ns`: how long to wait; SHOAL_FOREVER, SHOAL_NOWAIT.
 * Changes that follow each other quickly may be seen as one.
 * Blocking, threads, fork: as `shoal_map_wait_change`.
 *
 * Errors: as `shoal_map_wait_change`.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_map_wait_key(shoal_map *m,
                                const void *key,
                                size_t key_len,
                                uint64_t seen,
                                uint64_t *now,
                                int64_t timeout_ns);

/**
 * The value of a key where it lies, without a copy.
 *
 * It stays as it is until it is released, whatever others do with the key. There is room for
 * a dozen views and locks in each sixty-fourth of the map.
 * Blocking, threads, fork: as `shoal_map_get`; any thread may read and release it. In a forked
 * child the parent's views must not be used.
 * Ownership: `*out` is yours until `shoal_map_release`, and until the handle is freed. If this
 * process dies, the memory is the map's again.
 *
 * Errors: SHOAL_ERR_NOT_FOUND (no such key); SHOAL_ERR_EXHAUSTED (too many views);
 * SHOAL_ERR_INVALID; SHOAL_ERR_POISONED; SHOAL_ERR_CORRUPT.
 *
 * ```c
 * shoal_view view;
 * if (shoal_map_view(m, "weights", 7, &view) == SHOAL_OK) {
 *     double sum = add_up(view.data, view.len);
 *     if (shoal_map_release(m, &view) != SHOAL_OK)
 *         fprintf(stderr, "%s\n", shoal_last_error());
 * }
 * ```
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_map_view(shoal_map *m,
                            const void *key,
                            size_t key_len,
                            shoal_view *out);

/**
 * Lets go of a view.
 *
 * Blocking, threads, fork: as `shoal_map_set`. Not in a forked child of the process that has it.
 * Ownership: the view is spent, unless this fails.
 *
 * Errors: SHOAL_ERR_INVALID (spent, another process's, NULL); SHOAL_ERR_POISONED;
 * SHOAL_ERR_CORRUPT.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_map_release(shoal_map *m,
                               shoal_view *view);

/**
 * Copies the value of a key as `shoal_map_get` does, and tells how to know for how long the copy is
 * good: for keys that are read much more often than anything near them changes.
 *
 * `buf`, `capacity`, `*len`: as for `shoal_map_get`.
 * `*watched`: its word changes with every change of the key, and with those of others in the same
 * sixty-fourth of the map. NULL if any key there expires: what is over changes no word.
 * Blocking, threads, fork: as `shoal_map_set`; any thread may look at the word, and a forked
 * child, too.
 * Ownership: the value is copied to `buf`. The word is the map's, and may be looked at until the
 * handle is freed.
 *
 * Errors: as `shoal_map_get`.
 *
 * ```c
 * static shoal_watched watched;
 * static int64_t limit;
 * if (watched.word == NULL || *(volatile const uint64_t *)watched.word != watched.seen)
 *     if (shoal_map_get_watched(m, "limit", 5, &limit, sizeof limit, &len, &watched) != SHOAL_OK)
 *         limit = 0;
 * ```
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_map_get_watched(shoal_map *m,
                                   const void *key,
                                   size_t key_len,
                                   void *buf,
                                   size_t capacity,
                                   size_t *len,
                                   shoal_watched *watched);

/**
 * Opens or creates a list.
 *
 * `name`: 1 to 200 letters, digits, '.', '_', '-'; NULL always creates a list under a name
 * of its own, which `shoal_list_name` tells.
 * `options`: NULL opens what exists. Sizes and lifetime count for the process that creates
 * the list; the others get what is there.
 * Blocking, threads, fork: does not wait; safe from several threads and processes at once,
 * of which one creates it.
 * Ownership: `*out` is yours until `shoal_list_free`; NULL after a failure.
 *
 * Errors: SHOAL_ERR_INVALID (name, options, NULL `out`); SHOAL_ERR_NOT_FOUND;
 * SHOAL_ERR_EXISTS (with SHOAL_EXCLUSIVE); SHOAL_ERR_WRONG_KIND; SHOAL_ERR_PERMISSION;
 * SHOAL_ERR_NO_SPACE; SHOAL_ERR_TOO_LARGE (capacity); SHOAL_ERR_VERSION_MISMATCH;
 * SHOAL_ERR_CORRUPT; SHOAL_ERR_EXHAUSTED (more than a thousand handles on it);
 * SHOAL_ERR_UNSUPPORTED (no directory for objects, see SHOAL_DIR); SHOAL_ERR_OS (such as no file
 * descriptor left).
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_list_open(const char *name,
                             const shoal_list_options *options,
                             shoal_list **out);

/**
 * Lets go of a list. The last handle of all processes removes a list that is not
 * persistent, with what is in it.
 *
 * Blocking, threads, fork: ends the waits through it, see `shoal_end_waits`. No other
 * thread may be using the handle. In a forked child it frees the child's copy only.
 * Ownership: `l` is gone; NULL is allowed. A handle that was freed already is noticed and
 * left alone only as long as its place has not been used again.
 */
SHOAL_API void shoal_list_free(shoal_list *l);

/**
 * The name of the list, to open it by in another process. NULL if `l` is invalid.
 *
 * Blocking, threads, fork: never blocks; safe everywhere.
 * Ownership: the string is the handle's and goes with it.
 */
SHOAL_API const char *shoal_list_name(shoal_list *l);

/**
 * Removes the name of a list. Who has it open goes on using it; who opens or creates the
 * name from now on gets another one.
 *
 * Blocking, threads, fork: does not wait; safe everywhere.
 *
 * Errors: SHOAL_ERR_INVALID (name); SHOAL_ERR_NOT_FOUND; SHOAL_ERR_WRONG_KIND;
 * SHOAL_ERR_PERMISSION.
 */
SHOAL_API shoal_status shoal_list_unlink(const char *name);

/**
 * Adds an element at the end.
 *
 * `data`, `len`: bytes of any content and number.
 * Blocking, threads, fork: waits only for calls on the list that are under way. Safe
 * everywhere.
 * Ownership: the element is copied.
 *
 * Errors: SHOAL_ERR_TOO_LARGE (it could never fit); SHOAL_ERR_NO_SPACE (`/dev/shm` or the
 * list is full; the list is as it was); SHOAL_ERR_INVALID; SHOAL_ERR_POISONED;
 * SHOAL_ERR_CORRUPT.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_list_append(shoal_list *l,
                               const void *data,
                               size_t len);

/**
 * Adds an element before another one, or at either end if `index` is beyond it.
 *
 * Blocking, threads, fork: as `shoal_list_append`.
 * Ownership: the element is copied.
 *
 * Errors: as `shoal_list_append`.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_list_insert(shoal_list *l,
                               int64_t index,
                               const void *data,
                               size_t len);

/**
 * Copies an element.
 *
 * `buf`, `capacity`: where to, and the room there. `*len`: the element's length.
 * Blocking, threads, fork: as `shoal_list_append`.
 * Ownership: the element is copied to `buf`.
 *
 * Errors: SHOAL_ERR_NOT_FOUND (no such index); SHOAL_ERR_BUFFER_TOO_SMALL (`*len` is the
 * room needed); SHOAL_ERR_INVALID; SHOAL_ERR_POISONED; SHOAL_ERR_CORRUPT.
 *
 * ```c
 * char last[64];
 * size_t len;
 * if (shoal_list_get(l, -1, last, sizeof last, &len) == SHOAL_OK)
 *     printf("%.*s\n", (int)len, last);
 * ```
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_list_get(shoal_list *l,
                            int64_t index,
                            void *buf,
                            size_t capacity,
                            size_t *len);

/**
 * Removes an element and copies it.
 *
 * `index`: -1 for the last.
 * `buf`, `capacity`: where to, and the room there. `*len`: the element's length.
 * Blocking, threads, fork: as `shoal_list_append`. Of several callers each gets another one.
 * Ownership: the element is copied to `buf`.
 *
 * Errors: SHOAL_ERR_NOT_FOUND (no such index); SHOAL_ERR_BUFFER_TOO_SMALL (`*len` is the
 * room needed, and the element stays); SHOAL_ERR_INVALID; SHOAL_ERR_POISONED;
 * SHOAL_ERR_CORRUPT.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_list_pop(shoal_list *l,
                            int64_t index,
                            void *buf,
                            size_t capacity,
                            size_t *len);

/**
 * Replaces an element.
 *
 * Blocking, threads, fork: as `shoal_list_append`.
 * Ownership: the element is copied.
 *
 * Errors: SHOAL_ERR_NOT_FOUND (no such index); and as `shoal_list_append`.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_list_set(shoal_list *l,
                            int64_t index,
                            const void *data,
                            size_t len);

/**
 * Replaces an element if it is the expected one.
 *
 * `*swapped`: whether it did; false too if there is no such element.
 * Blocking, threads, fork: as `shoal_list_append`.
 * Ownership: all bytes are copied.
 *
 * Errors: as `shoal_list_append`.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_list_compare_swap(shoal_list *l,
                                     int64_t index,
                                     const void *expected,
                                     size_t expected_len,
                                     const void *desired,
                                     size_t desired_len,
                                     bool *swapped);

/**
 * Exchanges two elements.
 *
 * Blocking, threads, fork: as `shoal_list_append`.
 *
 * Errors: SHOAL_ERR_NOT_FOUND (no such index); SHOAL_ERR_INVALID; SHOAL_ERR_POISONED;
 * SHOAL_ERR_CORRUPT.
 */
SHOAL_API SHOAL_NODISCARD shoal_status shoal_list_swap(shoal_list *l, int64_t a, int64_t b);

/**
 * Replaces the elements from `start` up to, but not including, `stop` by others: all at
 * once, of which nobody sees a part.
 *
 * `start`, `stop`: 0 and INT64_MAX are all of the list, twice INT64_MAX its end.
 * `items`, `n`: the new elements; none to remove the old ones.
 * Blocking, threads, fork: as `shoal_list_append`.
 * Ownership: the elements are copied.
 *
 * Errors: as `shoal_list_append`.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_list_splice(shoal_list *l,
                               int64_t start,
                               int64_t stop,
                               const shoal_slice *items,
                               size_t n);

/**
 * Replaces elements as `shoal_list_splice` does, if nobody has changed the list since
 * `shoal_list_get_many` told its version.
 *
 * `*done`: whether it did.
 * Blocking, threads, fork: as `shoal_list_append`.
 * Ownership: the elements are copied.
 *
 * Errors: as `shoal_list_append`.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_list_splice_if(shoal_list *l,
                                  uint64_t version,
                                  int64_t start,
                                  int64_t stop,
                                  const shoal_slice *items,
                                  size_t n,
                                  bool *done);

/**
 * Brings the elements into another order and removes those that the order leaves out, all
 * at once, if nobody has changed the list since `shoal_list_get_many` told its version.
 *
 * `order`, `n`: indices, none of them twice and none below 0.
 * `*done`: whether it did.
 * Blocking, threads, fork: as `shoal_list_append`. No element is copied.
 *
 * Errors: SHOAL_ERR_INVALID (also: `order` names an element twice, or one that is not
 * there); SHOAL_ERR_NO_SPACE (the list is as it was); SHOAL_ERR_POISONED; SHOAL_ERR_CORRUPT.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_list_rearrange_if(shoal_list *l,
                                     uint64_t version,
                                     const uint64_t *order,
                                     size_t n,
                                     bool *done);

/**
 * Copies several elements, as they are at one moment.
 *
 * `start`: the index of the first; not below 0.
 * `buf`, `capacity`: where to, one after the other, and the room there.
 * `lens`, `n`: where their lengths go, and the most elements wanted.
 * `*count`: how many there are in `buf`: as many as `n` and `capacity` allow, and 0 at the
 * end of the list. If that is less than `n`, `lens[*count]` is SIZE_MAX where the list ends
 * there, and else the length of the next one, which did not fit.
 * `*version`: differs whenever the list was changed meanwhile. What several calls copied
 * belongs together if they all told the same. NULL if you do not care.
 * Blocking, threads, fork: as `shoal_list_append`.
 * Ownership: the elements are copied to `buf`.
 *
 * Errors: SHOAL_ERR_BUFFER_TOO_SMALL (even the first does not fit; `lens[0]` is the room
 * needed); SHOAL_ERR_INVALID; SHOAL_ERR_POISONED; SHOAL_ERR_CORRUPT.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_list_get_many(shoal_list *l,
                                 uint64_t start,
                                 void *buf,
                                 size_t capacity,
                                 size_t *lens,
                                 size_t n,
                                 size_t *count,
                                 uint64_t *version);

/**
 * Sorts the list, all at once; equal elements keep their order.
 *
 * `compare`, `arg`: a function that says below 0, 0 or above 0 as its first element comes
 * before the second, does not matter, or comes after it, and what it is passed along with
 * them. They are valid during the call only. NULL sorts by the bytes.
 * It is called with the list locked: it must return, and not use the list.
 * Blocking, threads, fork: as `shoal_list_append`.
 *
 * Errors: SHOAL_ERR_NO_SPACE (the list is as it was); SHOAL_ERR_INTERNAL (`compare`
 * contradicts itself; the list is as it was); SHOAL_ERR_INVALID; SHOAL_ERR_POISONED;
 * SHOAL_ERR_CORRUPT.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_list_sort(shoal_list *l,
                             int (*compare)(const void *a,
                                            size_t a_len,
                                            const void *b,
                                            size_t b_len,
                                            void *arg),
                             void *arg);

/**
 * Reverses the list, all at once.
 *
 * Blocking, threads, fork: as `shoal_list_append`.
 *
 * Errors: SHOAL_ERR_NO_SPACE (the list is as it was); SHOAL_ERR_INVALID;
 * SHOAL_ERR_POISONED; SHOAL_ERR_CORRUPT.
 */
SHOAL_API SHOAL_NODISCARD shoal_status shoal_list_reverse(shoal_list *l);

/**
 * How many elements the list has.
 *
 * Blocking, threads, fork: as `shoal_list_append`.
 *
 * Errors: SHOAL_ERR_INVALID; SHOAL_ERR_POISONED; SHOAL_ERR_CORRUPT.
 */
SHOAL_API SHOAL_NODISCARD shoal_status shoal_list_len(shoal_list *l, uint64_t *out);

/**
 * Removes every element, at once.
 *
 * Blocking, threads, fork: as `shoal_list_append`.
 *
 * Errors: SHOAL_ERR_INVALID; SHOAL_ERR_POISONED; SHOAL_ERR_CORRUPT.
 */
SHOAL_API shoal_status shoal_list_clear(shoal_list *l);

/**
 * Opens or creates one end of a pipe. Both sides may create: whoever comes first does, and an
 * end that nobody has opened yet is waited for.
 *
 * `name`: 1 to 200 letters, digits, '.', '_', '-'; NULL always creates one under a name of its
 * own, which `shoal_pipe_name` tells.
 * `end`: SHOAL_FIRST_END or SHOAL_SECOND_END. `options`: NULL opens what exists.
 * Blocking, threads, fork: does not wait; safe from several threads and processes at once,
 * of which one creates it. A forked child holds the ends that its parent has.
 * Ownership: `*out` is yours until `shoal_pipe_free`; NULL after a failure.
 *
 * Errors: as `shoal_queue_open`; SHOAL_ERR_INVALID (an end that is neither);
 * SHOAL_ERR_EXHAUSTED (512 handles hold that end).
 *
 * ```c
 * shoal_pipe_options o = {.size = sizeof o, .flags = SHOAL_CREATE};
 * shoal_pipe *p;
 * if (shoal_pipe_open("control", SHOAL_FIRST_END, &o, &p) == SHOAL_OK &&
 *     shoal_pipe_recv(p, buf, sizeof buf, &len, SHOAL_FOREVER) == SHOAL_ERR_CLOSED)
 *     fputs("the other side is gone\n", stderr);
 * ```
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_pipe_open(const char *name,
                             uint32_t end,
                             const shoal_pipe_options *options,
                             shoal_pipe **out);

/**
 * Creates a pipe under a name of its own and opens both ends: for a parent and the child that
 * it will fork, of which each frees the end of the other.
 *
 * `options`: NULL for two ways and the default sizes.
 * Blocking, threads, fork: does not wait.
 * Ownership: both are yours until `shoal_pipe_free`; NULL after a failure.
 *
 * Errors: as `shoal_pipe_open`.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_pipe_pair(const shoal_pipe_options *options,
                             shoal_pipe **first,
                             shoal_pipe **second);

/**
 * Lets go of an end. When all who held it have, the conversation is over: the other side
 * receives what was sent, and then SHOAL_ERR_CLOSED.
 *
 * Blocking, threads, fork: ends the waits through it, see `shoal_end_waits`. No other
 * thread may be using the handle.
 * Ownership: `p` is gone; NULL is allowed.
 */
SHOAL_API void shoal_pipe_free(shoal_pipe *p);

/**
 * The name to open it by in another process. NULL if `p` is invalid.
 *
 * Blocking, threads, fork: never blocks; safe everywhere.
 * Ownership: the string is the handle's and goes with it.
 */
SHOAL_API const char *shoal_pipe_name(shoal_pipe *p);

/**
 * Removes the name. Who has it open goes on using it.
 *
 * Blocking, threads, fork: does not wait; safe everywhere.
 *
 * Errors: SHOAL_ERR_INVALID (name); SHOAL_ERR_NOT_FOUND; SHOAL_ERR_WRONG_KIND;
 * SHOAL_ERR_PERMISSION.
 */
SHOAL_API shoal_status shoal_pipe_unlink(const char *name);

/**
 * What can be done at this end: both, if the pipe has two ways.
 *
 * Blocking, threads, fork: never blocks; safe everywhere.
 *
 * Errors: SHOAL_ERR_INVALID.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_pipe_ways(shoal_pipe *p,
                             bool *receives,
                             bool *sends);

/**
 * Sends one message to the other end, waiting for room. That need not have been opened yet.
 *
 * `data`, `len`: the message; NULL only with 0.
 * `timeout_ns`: how long to wait for room; SHOAL_FOREVER, SHOAL_NOWAIT.
 * Blocking, threads, fork: waits until there is room, the other end is gone or the time is
 * over. Safe everywhere.
 * Ownership: the message is copied.
 *
 * Errors: SHOAL_ERR_CLOSED (the other end is gone); SHOAL_ERR_UNSUPPORTED (the end that only
 * receives); the others as `shoal_queue_put`. After an error nothing was sent.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_pipe_send(shoal_pipe *p,
                             const void *data,
                             size_t len,
                             int64_t timeout_ns);

/**
 * Reserves room for a message to the other end, to be written in place: large messages are copied
 * once less.
 *
 * `len`: the most bytes the message may have. `*out`: the span to write to.
 * `timeout_ns`: how long to wait for room; SHOAL_FOREVER, SHOAL_NOWAIT.
 * Blocking, threads, fork: as `shoal_pipe_send`; any thread may commit. In a forked child the
 * parent's loans cannot be used.
 * Ownership: `*out` is yours until `shoal_pipe_commit` or `shoal_pipe_discard`, and until the
 * handle is freed. That of a dead process is discarded.
 *
 * Errors: as `shoal_pipe_send`.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_pipe_reserve(shoal_pipe *p,
                                size_t len,
                                shoal_loan *out,
                                int64_t timeout_ns);

/**
 * Sends the first `used` bytes of a loan.
 *
 * `used`: at most what was reserved. The rest is given back.
 * Blocking, threads, fork: waits for the lock only. Not in a forked child of the process that
 * reserved.
 * Ownership: the loan is spent, unless this fails: then it is still yours.
 *
 * Errors: as `shoal_queue_commit`.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_pipe_commit(shoal_pipe *p,
                               shoal_loan *loan,
                               size_t used);

/**
 * Gives a loan back. Nobody sees that it was there.
 *
 * Blocking, threads, fork: does not wait. Not in a forked child of the process that reserved.
 * Ownership: the loan is spent.
 *
 * Errors: as `shoal_queue_discard`.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_pipe_discard(shoal_pipe *p,
                                shoal_loan *loan);

/**
 * Receives one message, waiting for it.
 *
 * `buf`, `capacity`: where to, and the room there. `*len`: the message's length.
 * `timeout_ns`: how long to wait; SHOAL_FOREVER, SHOAL_NOWAIT.
 * Blocking, threads, fork: waits until there is a message, the other end is gone or the time
 * is over. Safe everywhere; each message goes to exactly one caller.
 * Ownership: the message is copied to `buf`.
 *
 * Errors: SHOAL_ERR_CLOSED (the other end is gone, and nothing is left of what it sent);
 * SHOAL_ERR_UNSUPPORTED (the end that only sends); the others as `shoal_queue_get`.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_pipe_recv(shoal_pipe *p,
                             void *buf,
                             size_t capacity,
                             size_t *len,
                             int64_t timeout_ns);

/**
 * Receives one message to read it where it is: what was reserved is not copied at all, and what
 * was sent once.
 *
 * `*out`: the message. `timeout_ns`: how long to wait; SHOAL_FOREVER, SHOAL_NOWAIT.
 * Blocking, threads, fork: as `shoal_pipe_recv`; any thread may ack. In a forked child the parent's
 * loans cannot be used.
 * Ownership: `*out` is yours until `shoal_pipe_ack` or `shoal_pipe_nack`, and until the handle is
 * freed. If this process dies before, another that holds this end receives it, if there is one.
 *
 * Errors: as `shoal_pipe_recv`, but for the buffer; SHOAL_ERR_EXHAUSTED or SHOAL_ERR_NO_SPACE:
 * there is no room for more leases, and the message stays.
 *
 * ```c
 * shoal_loan frame;
 * while (shoal_pipe_lease(p, &frame, SHOAL_FOREVER) == SHOAL_OK) {
 *     show(frame.data, frame.len);
 *     if (shoal_pipe_ack(p, &frame) != SHOAL_OK)
 *         fprintf(stderr, "%s\n", shoal_last_error());
 * }
 * ```
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_pipe_lease(shoal_pipe *p,
                              shoal_loan *out,
                              int64_t timeout_ns);

/**
 * The message was read: it is gone.
 *
 * Blocking, threads, fork: waits for the lock only. Not in a forked child of the process that
 * leased.
 * Ownership: the loan is spent.
 *
 * Errors: as `shoal_queue_ack`.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_pipe_ack(shoal_pipe *p,
                            shoal_loan *loan);

/**
 * Gives the message back, to be received again after `delay_ns`, before all that was sent after
 * it.
 *
 * Blocking, threads, fork: as `shoal_pipe_ack`.
 * Ownership: the loan is spent.
 *
 * Errors: as `shoal_queue_nack`.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_pipe_nack(shoal_pipe *p,
                             shoal_loan *loan,
                             int64_t delay_ns);

/**
 * Waits for something to receive, or the end of the conversation.
 *
 * `*out`: whether it has come in time. `timeout_ns`: how long to wait; SHOAL_FOREVER,
 * SHOAL_NOWAIT.
 * Blocking, threads, fork: as `shoal_pipe_recv`.
 *
 * Errors: SHOAL_ERR_UNSUPPORTED (the end that only sends); SHOAL_ERR_INTERRUPTED;
 * SHOAL_ERR_INVALID.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_pipe_poll(shoal_pipe *p,
                             int64_t timeout_ns,
                             bool *out);

/**
 * This end's descriptor, for an event loop: it polls readable while there is something to
 * receive, and once the conversation is over. For all the rest, as `shoal_queue_fd`.
 *
 * Blocking, threads, fork: as `shoal_queue_fd`.
 * Ownership: the descriptor is the handle's and closes with it.
 *
 * Errors: SHOAL_ERR_UNSUPPORTED (the end that only sends); SHOAL_ERR_OS; SHOAL_ERR_INVALID.
 */
SHOAL_API SHOAL_NODISCARD shoal_status shoal_pipe_fd(shoal_pipe *p, int *out);

/**
 * A descriptor that holds this end until it and all its copies are closed, in whatever process
 * they are: for passing an end to one that has not opened it yet. Good for nothing else.
 *
 * Blocking, threads, fork: does not wait. Closed on exec, unless you change that; in a forked
 * child it holds the end as well.
 * Ownership: `*out` is yours until `shoal_pipe_release`. Closed otherwise, the last to go may
 * leave the pipe's file to `shoal_gc`.
 *
 * Errors: SHOAL_ERR_EXHAUSTED (512 handles hold this end); SHOAL_ERR_OS; SHOAL_ERR_INVALID.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_pipe_hold(shoal_pipe *p,
                             int *out);

/**
 * Closes what `shoal_pipe_hold` gave, or a copy of it, and removes the pipe with it if nobody
 * holds either end any more.
 *
 * `name`: the pipe's.
 * Blocking, threads, fork: does not wait; safe everywhere.
 * Ownership: `fd` is closed, whatever is returned.
 *
 * Errors: SHOAL_ERR_INVALID (name, or a negative descriptor).
 */
SHOAL_API
shoal_status shoal_pipe_release(const char *name,
                                int fd);

/**
 * Starts a program.
 *
 * Returns once the program runs, so one that cannot be executed is an error here. Whatever
 * is wrong with the options, device masks included, is an error before a process exists.
 * The child always has descriptors 0, 1 and 2.
 *
 * Blocking, threads, fork: waits for the exec only, and runs no signal handler meanwhile;
 * safe everywhere. If the child has pipes, a fork in another thread waits for the exec too.
 * With SHOAL_SPAWN_DIE_WITH_PARENT the first call starts a thread that stays.
 * Ownership: `options` and what it points to are copied. `*out` is yours until
 * `shoal_process_free`; NULL after a failure.
 *
 * Errors: SHOAL_ERR_NOT_FOUND (program, directory or device family); SHOAL_ERR_PERMISSION;
 * SHOAL_ERR_INVALID (an option, mask, name or descriptor; or the file is no program);
 * SHOAL_ERR_UNSUPPORTED (a family whose devices cannot all be hidden); SHOAL_ERR_OS.
 *
 * ```c
 * const char *argv[] = {"python3", "work.py", NULL};
 * shoal_spawn_options options = {0};
 * options.size = sizeof options;
 * options.argv = argv;
 * options.device_family = "cuda";
 * options.device_mask = "0";
 * shoal_process *child;
 * shoal_status status = shoal_process_spawn(&options, &child);
 * ```
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_process_spawn(const shoal_spawn_options *options,
                                 shoal_process **out);

/**
 * Copies this process; the copy runs `entry(arg)` and exits with the low 8 bits of what it
 * returns.
 *
 * Buffered output is flushed before the fork. The child leaves without running this
 * process's exit handlers. `entry` must not throw, and must not jump out with longjmp.
 *
 * `options`: NULL, or a struct in which only `device_family`, `device_mask` and of the flags
 * SHOAL_SPAWN_NEW_GROUP and SHOAL_SPAWN_DIE_WITH_PARENT (which here is tied to the calling
 * thread) may be set.
 * Blocking, threads, fork: does not wait. Only the calling thread exists in the child: if
 * there are others, `entry` must not use what they may have locked, but for this library
 * and malloc.
 * Ownership: `arg` is passed on untouched. `*out` is yours until `shoal_process_free`; NULL
 * after a failure. In the child it stays NULL.
 *
 * Errors: SHOAL_ERR_INVALID (NULL `entry`, an option or mask); SHOAL_ERR_NOT_FOUND (device
 * family); SHOAL_ERR_UNSUPPORTED; SHOAL_ERR_OS.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_process_fork(int (*entry)(void *arg),
                                void *arg,
                                const shoal_spawn_options *options,
                                shoal_process **out);

/**
 * Waits until a process has ended, and tells how. Later calls tell the same at once.
 *
 * `*out`: how it ended; NULL if you do not care.
 * `timeout_ns`: how long to wait; SHOAL_FOREVER, SHOAL_NOWAIT.
 * Blocking, threads, fork: waits until it has ended or the time is over; several threads may.
 * In a forked copy of this process the exit is SHOAL_EXIT_UNKNOWN. A child that fills a pipe
 * nobody reads never ends.
 *
 * Errors: SHOAL_ERR_TIMEOUT (it still runs, with SHOAL_NOWAIT too); SHOAL_ERR_INTERRUPTED;
 * SHOAL_ERR_INVALID; SHOAL_ERR_OS.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_process_join(shoal_process *p,
                                int64_t timeout_ns,
                                shoal_exit *out);

/**
 * The process's number. After a join it may belong to another process.
 *
 * Blocking, threads, fork: never blocks; safe everywhere.
 *
 * Errors: SHOAL_ERR_INVALID.
 */
SHOAL_API SHOAL_NODISCARD shoal_status shoal_process_pid(shoal_process *p, int32_t *out);

/**
 * The process's descriptor, for an event loop: it polls readable once the process has ended.
 *
 * Blocking, threads, fork: never blocks; safe everywhere.
 * Ownership: the descriptor is the handle's. Do not close it, and do not wait through it.
 *
 * Errors: SHOAL_ERR_NOT_FOUND (the process was gone before it could be opened);
 * SHOAL_ERR_INVALID.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_process_pidfd(shoal_process *p,
                                 int *out);

/**
 * Sends a signal to the process. If it has ended, nothing is sent, and that is no error.
 *
 * Blocking, threads, fork: never blocks; safe everywhere. Never reaches another process that
 * was given the same number.
 *
 * Errors: SHOAL_ERR_INVALID (also: no such signal); SHOAL_ERR_PERMISSION; SHOAL_ERR_OS.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_process_signal(shoal_process *p,
                                  int signal);

/**
 * Sends a signal to the process and to its descendants that stayed in its group.
 *
 * Blocking, threads, fork: never blocks; safe from any thread, not from a forked copy.
 *
 * Errors: SHOAL_ERR_INVALID (it was not started with SHOAL_SPAWN_NEW_GROUP or
 * SHOAL_SPAWN_NEW_SESSION, or was joined; no such signal); SHOAL_ERR_PERMISSION; SHOAL_ERR_OS.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_process_signal_group(shoal_process *p,
                                        int signal);

/**
 * Asks the process to end, with SIGTERM. As `shoal_process_signal`.
 *
 * Errors: SHOAL_ERR_INVALID; SHOAL_ERR_PERMISSION; SHOAL_ERR_OS.
 */
SHOAL_API shoal_status shoal_process_terminate(shoal_process *p);

/**
 * Ends the process at once, with SIGKILL. As `shoal_process_signal`.
 *
 * Errors: SHOAL_ERR_INVALID; SHOAL_ERR_PERMISSION; SHOAL_ERR_OS.
 */
SHOAL_API shoal_status shoal_process_kill(shoal_process *p);

/**
 * Hands over this process's end of a pipe that was asked for with SHOAL_STDIO_PIPE.
 *
 * `which`: 0 gives the end to write the child's input to, 1 and 2 those to read its output
 * and its errors from.
 * Blocking, threads, fork: never blocks; safe everywhere.
 * Ownership: `*fd` is yours to close. Pipes that are never asked for close with the handle.
 *
 * Errors: SHOAL_ERR_NOT_FOUND (it is no pipe, or was handed over already);
 * SHOAL_ERR_INVALID.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_process_stdio(shoal_process *p,
                                 int which,
                                 int *fd);

/**
 * Lets go of a process. If it still runs it goes on, and its exit is collected later.
 *
 * Blocking, threads, fork: ends the waits through it, see `shoal_end_waits`. No other
 * thread may be using the handle.
 * Ownership: `p` is gone, with its descriptor and its pipes; NULL is allowed.
 */
SHOAL_API void shoal_process_free(shoal_process *p);

/**
 * The queue's descriptor, for an event loop: it polls readable while there is something to
 * take, and once the queue is closed or poisoned. For poll, epoll and what is built on them.
 *
 * It is readable some 30 us after a message was put, and no more once the call has returned that
 * took the last one, in whatever process: so a reader that polls it again under a lock which all
 * readers take, and then takes a message, does not wait. Without such a lock others may be faster:
 * take with SHOAL_NOWAIT. With edges (EPOLLET), take until SHOAL_ERR_EMPTY, as ever.
 *
 * Where the queue's name was removed before the first call, or the directory of objects cannot be
 * written to, it is readable in vain for some 30 us after another process took the last message;
 * and in a closed queue while a process works on messages that it has leased.
 *
 * Blocking, threads, fork: never blocks; safe everywhere. The first call of a process
 * starts a thread that stays. A forked child asks again, and gets its own; the descriptor of its
 * parent stays right while that lives.
 * Ownership: the descriptor is the handle's and closes with it. Do not close it, read from it
 * or write to it. It takes two descriptors of the process, and a FIFO beside the queue's file, which
 * goes with that.
 *
 * Errors: SHOAL_ERR_OS (no descriptor or thread is to be had); SHOAL_ERR_INVALID.
 *
 * ```c
 * struct pollfd polled[2] = {{.fd = client, .events = POLLIN}, {.events = POLLIN}};
 * if (shoal_queue_fd(jobs, &polled[1].fd) != SHOAL_OK)
 *     fprintf(stderr, "%s\n", shoal_last_error());
 * while (poll(polled, 2, -1) > 0) {
 *     while (shoal_queue_get(jobs, buf, sizeof buf, &len, SHOAL_NOWAIT) == SHOAL_OK)
 *         work_on(buf, len);
 *     if (polled[0].revents != 0)
 *         talk_to(client);
 * }
 * ```
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_queue_fd(shoal_queue *q,
                            int *out);

/**
 * Waits until one of several queues and processes is ready, and says which: the first by its
 * place among them.
 *
 * Where one that stands early is always ready, the others' turn never comes: to be fair,
 * change the order from call to call. A queue that was ready may be empty by the time you
 * take from it, if others take from it too: take with SHOAL_NOWAIT. A process that has ended
 * may have put something just before: look into its queue once more.
 *
 * `things`, `n`: what to wait for, at least one. `*out`: the index of the one that is ready.
 * `timeout_ns`: how long to wait; SHOAL_FOREVER, SHOAL_NOWAIT.
 * Blocking, threads, fork: waits until one is ready or the time is over; any number of
 * threads may wait for the same things. Works in a forked child. Uses two descriptors more
 * for each queue, those of `shoal_queue_fd`, unless something is ready at once.
 * Ownership: `things` is not used after the call, and no handle in it may be freed before.
 *
 * Errors: SHOAL_ERR_TIMEOUT (none was ready in time, with SHOAL_NOWAIT too);
 * SHOAL_ERR_INTERRUPTED; SHOAL_ERR_INVALID (none to wait for; a thing that is NULL, or both a
 * queue and a process; a handle that is none); SHOAL_ERR_OS.
 *
 * ```c
 * shoal_waitable things[] = {{.queue = answers}, {.process = worker}};
 * size_t ready;
 * if (shoal_wait_any(things, 2, SHOAL_FOREVER, &ready) == SHOAL_OK && ready == 1)
 *     fputs("the worker has ended\n", stderr);
 * ```
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_wait_any(const shoal_waitable *things,
                            size_t n,
                            int64_t timeout_ns,
                            size_t *out);

/**
 * Ends the waits through a handle: threads of this process that wait in a call through it come
 * back with SHOAL_ERR_CLOSED, and so does from now on each call that would have to wait. For
 * ending a thread that waits, and before a handle is freed that other threads use: end the waits,
 * join the threads, free it.
 *
 * Calls that need not wait go on working until the handle is freed. Other handles on the object,
 * in this process too, and other processes do not notice. A thread that waits at a barrier breaks
 * it, as when its time is up; one that waits for a condition has the lock again when it comes back.
 * The descriptor of a queue or a pipe becomes readable.
 *
 * `handle`: a queue, pipe, map, list, array, lock, semaphore, event, condition, barrier, read-write
 * lock or process.
 * Blocking, threads, fork: never waits; safe everywhere. A thread that waits for a process comes
 * back a tenth of a second later at most, others at once. Threads of a forked child, or of its
 * parent, do not notice. Ending waits twice is no error.
 *
 * Errors: SHOAL_ERR_INVALID.
 *
 * ```c
 * static void *consumer(void *q)
 * {
 *     while (shoal_queue_get(q, buf, sizeof buf, &len, SHOAL_FOREVER) == SHOAL_OK)
 *         work_on(buf, len);
 *     return NULL;
 * }
 * ...
 * shoal_end_waits(q);
 * pthread_join(thread, NULL);
 * shoal_queue_free(q);
 * ```
 */
SHOAL_API
shoal_status shoal_end_waits(void *handle);

/**
 * What the variable of a device family must be for a child that is to see some devices.
 *
 * `family`: "cuda", "rocm", ...; `shoal_device_family_name` lists them.
 * `inherited`: the value the variable has now; NULL reads the environment of this process,
 * with all that counts for the family.
 * `logical`: the devices the child is to see, counted in what `inherited` shows: "0,2", or
 * unique ids; "" hides all.
 * `buf`, `capacity`: where the text and its NUL go. `*len`: its length without the NUL.
 * Blocking, threads, fork: never blocks. No other thread may change the environment while
 * it is read.
 *
 * Errors: SHOAL_ERR_NOT_FOUND (family); SHOAL_ERR_INVALID (`logical` is malformed, names what
 * `inherited` does not show, names a device twice or mixes kinds; or `inherited` makes no
 * sense); SHOAL_ERR_UNSUPPORTED (no value hides all of them); SHOAL_ERR_BUFFER_TOO_SMALL
 * (`*len` is the capacity needed, with the NUL).
 *
 * ```c
 * char buf[64];
 * size_t len;
 * shoal_status status = shoal_device_resolve("cuda", "2,3", "1", buf, sizeof buf, &len);
 * assert(status == SHOAL_OK && strcmp(buf, "3") == 0);
 * ```
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_device_resolve(const char *family,
                                  const char *inherited,
                                  const char *logical,
                                  char *buf,
                                  size_t capacity,
                                  size_t *len);

/**
 * All that must change in the environment of this process, or of a child of it, for it to see
 * some devices.
 *
 * `family`, `logical`: as for `shoal_device_resolve`; what is inherited is the environment.
 * `buf`, `capacity`: where the changes go, one after the other, each ended by a NUL:
 * "NAME=value" sets a variable, "NAME" removes it. One more NUL ends the last. `*len`: the
 * length of it all without that last NUL.
 * Blocking, threads, fork: as `shoal_device_resolve`. Changes nothing by itself.
 *
 * Errors: as `shoal_device_resolve`.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_device_environment(const char *family,
                                      const char *logical,
                                      char *buf,
                                      size_t capacity,
                                      size_t *len);

/**
 * The environment variable that a family's runtime reads: "CUDA_VISIBLE_DEVICES" for "cuda".
 *
 * `buf`, `capacity`: where the text and its NUL go. `*len`: its length without the NUL.
 * Blocking, threads, fork: never blocks; safe everywhere.
 *
 * Errors: SHOAL_ERR_NOT_FOUND (family); SHOAL_ERR_BUFFER_TOO_SMALL (`*len` is the capacity
 * needed, with the NUL); SHOAL_ERR_INVALID.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_device_variable(const char *family,
                                   char *buf,
                                   size_t capacity,
                                   size_t *len);

/**
 * The name of a device family, to list them all: 0, 1, ... until SHOAL_ERR_NOT_FOUND.
 *
 * `buf`, `capacity`: where the text and its NUL go. `*len`: its length without the NUL.
 * Blocking, threads, fork: never blocks; safe everywhere.
 *
 * Errors: SHOAL_ERR_NOT_FOUND (there are no more); SHOAL_ERR_BUFFER_TOO_SMALL (`*len` is the
 * capacity needed, with the NUL); SHOAL_ERR_INVALID.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_device_family_name(size_t index,
                                      char *buf,
                                      size_t capacity,
                                      size_t *len);

/**
 * The devices of a family that the environment of this process shows: "0,1", unique ids,
 * "all" if nothing restricts them, "none" if all are hidden.
 *
 * `buf`, `capacity`: where the text and its NUL go. `*len`: its length without the NUL.
 * Blocking, threads, fork: as `shoal_device_resolve`.
 *
 * Errors: SHOAL_ERR_NOT_FOUND (family); SHOAL_ERR_INVALID (the variable makes no sense);
 * SHOAL_ERR_BUFFER_TOO_SMALL (`*len` is the capacity needed, with the NUL).
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_device_visible(const char *family,
                                  char *buf,
                                  size_t capacity,
                                  size_t *len);

/**
 * Makes this process itself see only some devices, by changing its environment.
 *
 * `mask`: counted in what it sees now, so two calls narrow twice; "" hides all.
 * `*too_late`: whether the family's runtime was loaded already; it reads the variable only
 * once, when it starts. NULL if you do not care.
 * Blocking, threads, fork: never blocks. No other thread may use the environment (getenv and
 * setenv included) meanwhile: call it first thing in main.
 *
 * Errors: as `shoal_device_resolve`; nothing is changed then.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_device_set_visible(const char *family,
                                      const char *mask,
                                      bool *too_late);

/**
 * Opens or creates a lock.
 *
 * `name`: 1 to 200 letters, digits, '.', '_', '-'; NULL always creates a lock under a name
 * of its own, which `shoal_lock_name` tells.
 * `options`: NULL opens what exists. SHOAL_RECURSIVE makes a lock that its owner may take again; what exists stays what it is.
 * Blocking, threads, fork: does not wait; safe from several threads and processes at once,
 * of which one creates it.
 * Ownership: `*out` is yours until `shoal_lock_free`; NULL after a failure.
 *
 * Errors: SHOAL_ERR_INVALID (name, options, NULL `out`); SHOAL_ERR_NOT_FOUND;
 * SHOAL_ERR_EXISTS (with SHOAL_EXCLUSIVE); SHOAL_ERR_WRONG_KIND; SHOAL_ERR_PERMISSION;
 * SHOAL_ERR_NO_SPACE; SHOAL_ERR_TOO_LARGE (count); SHOAL_ERR_VERSION_MISMATCH;
 * SHOAL_ERR_CORRUPT; SHOAL_ERR_EXHAUSTED (more than a thousand handles on it);
 * SHOAL_ERR_UNSUPPORTED (no directory for objects, see SHOAL_DIR); SHOAL_ERR_OS (such as no file
 * descriptor left).
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_lock_open(const char *name,
                             const shoal_sync_options *options,
                             shoal_lock **out);

/**
 * Lets go of a lock. The last handle of all processes removes it, unless it is persistent.
 * What this handle held is held by the dead from then on.
 *
 * Blocking, threads, fork: ends the waits through it, see `shoal_end_waits`. No other
 * thread may be using the handle. In a forked child it frees the child's copy only.
 * Ownership: `l` is gone; NULL is allowed.
 */
SHOAL_API void shoal_lock_free(shoal_lock *l);

/**
 * The name to open it by in another process. NULL if `l` is invalid.
 *
 * Blocking, threads, fork: never blocks; safe everywhere.
 * Ownership: the string is the handle's and goes with it.
 */
SHOAL_API const char *shoal_lock_name(shoal_lock *l);

/**
 * Removes the name of a lock. Who has it open goes on using it; who opens or creates the
 * name from now on gets another one.
 *
 * Blocking, threads, fork: does not wait; safe everywhere.
 *
 * Errors: SHOAL_ERR_INVALID (name); SHOAL_ERR_NOT_FOUND; SHOAL_ERR_WRONG_KIND;
 * SHOAL_ERR_PERMISSION.
 */
SHOAL_API shoal_status shoal_lock_unlink(const char *name);

/**
 * Takes a lock.
 *
 * SHOAL_ERR_OWNER_DIED: **you hold the lock**, as after SHOAL_OK, and must unlock it. Its last
 * owner died, or freed its handle, while it held it: what the lock guards may be half changed.
 * It is told once; unlocking says that all is well again.
 *
 * ```c
 * shoal_status got = shoal_lock_lock(l, SHOAL_FOREVER);
 * if (got == SHOAL_ERR_OWNER_DIED)
 *     mend();
 * if (got == SHOAL_OK || got == SHOAL_ERR_OWNER_DIED) {
 *     work();
 *     shoal_lock_unlock(l);
 * }
 * ```
 *
 * Blocking, threads, fork: waits while somebody who lives has the lock, at most `timeout_ns`.
 * Safe everywhere. The owner is this handle in this process, and of a recursive lock the
 * calling thread.
 *
 * Errors: SHOAL_ERR_OWNER_DIED (with the lock held); SHOAL_ERR_TIMEOUT;
 * SHOAL_ERR_INTERRUPTED; SHOAL_ERR_INVALID; SHOAL_ERR_TOO_LARGE (a recursive lock, 2^32 times).
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_lock_lock(shoal_lock *l,
                             int64_t timeout_ns);

/**
 * Takes a lock if it is free within a microsecond, or recursive and the calling thread's, without
 * a system call. The lock of a dead owner counts as taken: `shoal_lock_lock` finds that out, with SHOAL_NOWAIT too.
 *
 * Blocking, threads, fork: never waits, and never asks the kernel. As for `shoal_lock_lock`.
 *
 * Errors: SHOAL_ERR_TIMEOUT (it is taken); SHOAL_ERR_INVALID; SHOAL_ERR_TOO_LARGE.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_lock_try(shoal_lock *l);

/**
 * Gives a lock back: a plain one whoever took it, a recursive one by one level.
 *
 * Blocking, threads, fork: never waits; safe everywhere.
 *
 * Errors: SHOAL_ERR_INVALID (nobody holds it; it is recursive and not the calling thread's).
 */
SHOAL_API
shoal_status shoal_lock_unlock(shoal_lock *l);

/**
 * Whether anybody has the lock; a dead owner counts until the next one comes.
 *
 * Blocking, threads, fork: never waits; safe everywhere.
 *
 * Errors: SHOAL_ERR_INVALID.
 */
SHOAL_API SHOAL_NODISCARD shoal_status shoal_lock_is_held(shoal_lock *l, bool *out);

/**
 * How often the calling thread has taken the lock by this handle; 0 if it has not.
 *
 * Blocking, threads, fork: never waits; safe everywhere.
 *
 * Errors: SHOAL_ERR_INVALID; SHOAL_ERR_CORRUPT.
 */
SHOAL_API SHOAL_NODISCARD shoal_status shoal_lock_depth(shoal_lock *l, uint32_t *out);

/**
 * Whether the lock is recursive.
 *
 * Blocking, threads, fork: never waits; safe everywhere.
 *
 * Errors: SHOAL_ERR_INVALID.
 */
SHOAL_API SHOAL_NODISCARD shoal_status shoal_lock_is_recursive(shoal_lock *l, bool *out);

/**
 * Opens or creates a semaphore.
 *
 * `name`: 1 to 200 letters, digits, '.', '_', '-'; NULL always creates a semaphore under a name
 * of its own, which `shoal_semaphore_name` tells.
 * `options`: NULL opens what exists. `count` is the number of permits of a new one; with SHOAL_BOUNDED there are never more.
 * Blocking, threads, fork: does not wait; safe from several threads and processes at once,
 * of which one creates it.
 * Ownership: `*out` is yours until `shoal_semaphore_free`; NULL after a failure.
 *
 * Errors: SHOAL_ERR_INVALID (name, options, NULL `out`); SHOAL_ERR_NOT_FOUND;
 * SHOAL_ERR_EXISTS (with SHOAL_EXCLUSIVE); SHOAL_ERR_WRONG_KIND; SHOAL_ERR_PERMISSION;
 * SHOAL_ERR_NO_SPACE; SHOAL_ERR_TOO_LARGE (count); SHOAL_ERR_VERSION_MISMATCH;
 * SHOAL_ERR_CORRUPT; SHOAL_ERR_EXHAUSTED (more than a thousand handles on it);
 * SHOAL_ERR_UNSUPPORTED (no directory for objects, see SHOAL_DIR); SHOAL_ERR_OS (such as no file
 * descriptor left).
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_semaphore_open(const char *name,
                                  const shoal_sync_options *options,
                                  shoal_semaphore **out);

/**
 * Lets go of a semaphore. The last handle of all processes removes it, unless it is persistent.
 * What this handle held is held by the dead from then on.
 *
 * Blocking, threads, fork: ends the waits through it, see `shoal_end_waits`. No other
 * thread may be using the handle. In a forked child it frees the child's copy only.
 * Ownership: `s` is gone; NULL is allowed.
 */
SHOAL_API
void shoal_semaphore_free(shoal_semaphore *s);

/**
 * The name to open it by in another process. NULL if `s` is invalid.
 *
 * Blocking, threads, fork: never blocks; safe everywhere.
 * Ownership: the string is the handle's and goes with it.
 */
SHOAL_API const char *shoal_semaphore_name(shoal_semaphore *s);

/**
 * Removes the name of a semaphore. Who has it open goes on using it; who opens or creates the
 * name from now on gets another one.
 *
 * Blocking, threads, fork: does not wait; safe everywhere.
 *
 * Errors: SHOAL_ERR_INVALID (name); SHOAL_ERR_NOT_FOUND; SHOAL_ERR_WRONG_KIND;
 * SHOAL_ERR_PERMISSION.
 */
SHOAL_API
shoal_status shoal_semaphore_unlink(const char *name);

/**
 * Takes a permit. It returns by itself when this process ends, but for `shoal_semaphore_keep`.
 *
 * Blocking, threads, fork: waits while there is none, at most `timeout_ns`. Safe everywhere.
 *
 * Errors: SHOAL_ERR_TIMEOUT; SHOAL_ERR_INTERRUPTED; SHOAL_ERR_INVALID; SHOAL_ERR_POISONED;
 * SHOAL_ERR_CORRUPT.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_semaphore_acquire(shoal_semaphore *s,
                                     int64_t timeout_ns);

/**
 * Releases permits: this process's own first, then those of others; if nobody has any, new ones.
 *
 * Blocking, threads, fork: never waits; safe everywhere.
 *
 * Errors: SHOAL_ERR_INVALID (it is bounded and was released more often than acquired);
 * SHOAL_ERR_TOO_LARGE (more than 2^31 - 1); SHOAL_ERR_POISONED; SHOAL_ERR_CORRUPT.
 */
SHOAL_API
shoal_status shoal_semaphore_release(shoal_semaphore *s,
                                     uint32_t count);

/**
 * Leaves the permits that this process holds taken after its end, or that of the handle: they are
 * nobody's from now on, until somebody releases them. What it acquires later returns as ever.
 * To be called at the end of a process that ends well, where permits count items.
 *
 * Blocking, threads, fork: never waits; safe everywhere.
 *
 * Errors: SHOAL_ERR_INVALID; SHOAL_ERR_POISONED; SHOAL_ERR_CORRUPT.
 */
SHOAL_API
shoal_status shoal_semaphore_keep(shoal_semaphore *s);

/**
 * How many permits this process holds: acquired through this handle, and neither released nor
 * kept.
 *
 * Blocking, threads, fork: never waits; safe everywhere. A forked child begins with none.
 *
 * Errors: SHOAL_ERR_INVALID; SHOAL_ERR_POISONED; SHOAL_ERR_CORRUPT.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_semaphore_held(shoal_semaphore *s,
                                  uint32_t *out);

/**
 * How many permits can be had now, those of the dead among them: the kernel is asked about each
 * holder.
 *
 * Blocking, threads, fork: never waits; safe everywhere.
 *
 * Errors: SHOAL_ERR_INVALID; SHOAL_ERR_POISONED.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_semaphore_value(shoal_semaphore *s,
                                   uint64_t *out);

/**
 * Opens or creates an event.
 *
 * `name`: 1 to 200 letters, digits, '.', '_', '-'; NULL always creates an event under a name
 * of its own, which `shoal_event_name` tells.
 * `options`: NULL opens what exists. A new event is not set.
 * Blocking, threads, fork: does not wait; safe from several threads and processes at once,
 * of which one creates it.
 * Ownership: `*out` is yours until `shoal_event_free`; NULL after a failure.
 *
 * Errors: SHOAL_ERR_INVALID (name, options, NULL `out`); SHOAL_ERR_NOT_FOUND;
 * SHOAL_ERR_EXISTS (with SHOAL_EXCLUSIVE); SHOAL_ERR_WRONG_KIND; SHOAL_ERR_PERMISSION;
 * SHOAL_ERR_NO_SPACE; SHOAL_ERR_TOO_LARGE (count); SHOAL_ERR_VERSION_MISMATCH;
 * SHOAL_ERR_CORRUPT; SHOAL_ERR_EXHAUSTED (more than a thousand handles on it);
 * SHOAL_ERR_UNSUPPORTED (no directory for objects, see SHOAL_DIR); SHOAL_ERR_OS (such as no file
 * descriptor left).
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_event_open(const char *name,
                              const shoal_sync_options *options,
                              shoal_event **out);

/**
 * Lets go of an event. The last handle of all processes removes it, unless it is persistent.
 * What this handle held is held by the dead from then on.
 *
 * Blocking, threads, fork: ends the waits through it, see `shoal_end_waits`. No other
 * thread may be using the handle. In a forked child it frees the child's copy only.
 * Ownership: `e` is gone; NULL is allowed.
 */
SHOAL_API
void shoal_event_free(shoal_event *e);

/**
 * The name to open it by in another process. NULL if `e` is invalid.
 *
 * Blocking, threads, fork: never blocks; safe everywhere.
 * Ownership: the string is the handle's and goes with it.
 */
SHOAL_API const char *shoal_event_name(shoal_event *e);

/**
 * Removes the name of an event. Who has it open goes on using it; who opens or creates the
 * name from now on gets another one.
 *
 * Blocking, threads, fork: does not wait; safe everywhere.
 *
 * Errors: SHOAL_ERR_INVALID (name); SHOAL_ERR_NOT_FOUND; SHOAL_ERR_WRONG_KIND;
 * SHOAL_ERR_PERMISSION.
 */
SHOAL_API shoal_status shoal_event_unlink(const char *name);

/**
 * Sets the event and wakes all who wait for it.
 *
 * Blocking, threads, fork: never waits; safe everywhere.
 *
 * Errors: SHOAL_ERR_INVALID.
 */
SHOAL_API shoal_status shoal_event_set(shoal_event *e);

/**
 * The event is no longer set.
 *
 * Blocking, threads, fork: never waits; safe everywhere.
 *
 * Errors: SHOAL_ERR_INVALID.
 */
SHOAL_API shoal_status shoal_event_clear(shoal_event *e);

/**
 * Whether the event is set.
 *
 * Blocking, threads, fork: never waits; safe everywhere.
 *
 * Errors: SHOAL_ERR_INVALID.
 */
SHOAL_API SHOAL_NODISCARD shoal_status shoal_event_is_set(shoal_event *e, bool *out);

/**
 * Waits until the event is set, or was since the call began.
 *
 * Blocking, threads, fork: waits at most `timeout_ns`. Safe everywhere.
 *
 * Errors: SHOAL_ERR_TIMEOUT; SHOAL_ERR_INTERRUPTED; SHOAL_ERR_INVALID.
 */
SHOAL_API SHOAL_NODISCARD shoal_status shoal_event_wait(shoal_event *e, int64_t timeout_ns);

/**
 * Opens or creates a condition.
 *
 * `name`: 1 to 200 letters, digits, '.', '_', '-'; NULL always creates a condition under a name
 * of its own, which `shoal_condition_name` tells.
 * `options`: NULL opens what exists. The lock is named with each wait.
 * Blocking, threads, fork: does not wait; safe from several threads and processes at once,
 * of which one creates it.
 * Ownership: `*out` is yours until `shoal_condition_free`; NULL after a failure.
 *
 * Errors: SHOAL_ERR_INVALID (name, options, NULL `out`); SHOAL_ERR_NOT_FOUND;
 * SHOAL_ERR_EXISTS (with SHOAL_EXCLUSIVE); SHOAL_ERR_WRONG_KIND; SHOAL_ERR_PERMISSION;
 * SHOAL_ERR_NO_SPACE; SHOAL_ERR_TOO_LARGE (count); SHOAL_ERR_VERSION_MISMATCH;
 * SHOAL_ERR_CORRUPT; SHOAL_ERR_EXHAUSTED (more than a thousand handles on it);
 * SHOAL_ERR_UNSUPPORTED (no directory for objects, see SHOAL_DIR); SHOAL_ERR_OS (such as no file
 * descriptor left).
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_condition_open(const char *name,
                                  const shoal_sync_options *options,
                                  shoal_condition **out);

/**
 * Lets go of a condition. The last handle of all processes removes it, unless it is persistent.
 * What this handle held is held by the dead from then on.
 *
 * Blocking, threads, fork: ends the waits through it, see `shoal_end_waits`. No other
 * thread may be using the handle. In a forked child it frees the child's copy only.
 * Ownership: `c` is gone; NULL is allowed.
 */
SHOAL_API
void shoal_condition_free(shoal_condition *c);

/**
 * The name to open it by in another process. NULL if `c` is invalid.
 *
 * Blocking, threads, fork: never blocks; safe everywhere.
 * Ownership: the string is the handle's and goes with it.
 */
SHOAL_API const char *shoal_condition_name(shoal_condition *c);

/**
 * Removes the name of a condition. Who has it open goes on using it; who opens or creates the
 * name from now on gets another one.
 *
 * Blocking, threads, fork: does not wait; safe everywhere.
 *
 * Errors: SHOAL_ERR_INVALID (name); SHOAL_ERR_NOT_FOUND; SHOAL_ERR_WRONG_KIND;
 * SHOAL_ERR_PERMISSION.
 */
SHOAL_API
shoal_status shoal_condition_unlink(const char *name);

/**
 * Lets go of `l`, which the caller has, waits until notified, and takes it again: a recursive
 * one as often as before. **The lock is held again whatever the status**, but for
 * SHOAL_ERR_INVALID and SHOAL_ERR_EXHAUSTED, which change nothing, and for SHOAL_ERR_CLOSED if it
 * was the waits through the lock's handle that were ended. SHOAL_ERR_OWNER_DIED is about the lock,
 * as for `shoal_lock_lock`; look at what you wait for then.
 *
 * Blocking, threads, fork: waits at most `timeout_ns` to be notified, and then for the lock.
 * Safe everywhere; all waiters of a condition use the same lock.
 *
 * Errors: SHOAL_ERR_TIMEOUT; SHOAL_ERR_INTERRUPTED; SHOAL_ERR_OWNER_DIED; SHOAL_ERR_CLOSED (see
 * `shoal_end_waits`); SHOAL_ERR_INVALID (also: the lock is not held); SHOAL_ERR_EXHAUSTED (a thousand
 * wait already); SHOAL_ERR_POISONED; SHOAL_ERR_CORRUPT.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_condition_wait(shoal_condition *c,
                                  shoal_lock *l,
                                  int64_t timeout_ns);

/**
 * Wakes at most `count` of those who wait, the longest waiting first. The dead are passed over.
 * Call it with the lock held, or a change may slip between a waiter's look and its wait.
 *
 * Blocking, threads, fork: never waits; safe everywhere.
 *
 * Errors: SHOAL_ERR_INVALID; SHOAL_ERR_POISONED.
 */
SHOAL_API
shoal_status shoal_condition_notify(shoal_condition *c,
                                    uint32_t count);

/**
 * Wakes all who wait.
 *
 * Blocking, threads, fork: never waits; safe everywhere.
 *
 * Errors: SHOAL_ERR_INVALID; SHOAL_ERR_POISONED.
 */
SHOAL_API shoal_status shoal_condition_notify_all(shoal_condition *c);

/**
 * How many wait and have not been notified. The dead do not count: the kernel is asked about each.
 *
 * Blocking, threads, fork: never waits; safe everywhere.
 *
 * Errors: SHOAL_ERR_INVALID; SHOAL_ERR_POISONED.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_condition_waiting(shoal_condition *c,
                                     uint64_t *out);

/**
 * The first part of a wait, for those who wait piecewise, such as bindings that look after
 * signals: takes a place, with the lock held. Then unlock, `shoal_condition_sleep`, lock, and
 * `shoal_condition_leave`.
 *
 * Blocking, threads, fork: never waits; safe everywhere.
 *
 * Errors: SHOAL_ERR_INVALID; SHOAL_ERR_EXHAUSTED; SHOAL_ERR_POISONED; SHOAL_ERR_CORRUPT.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_condition_enlist(shoal_condition *c,
                                    uint32_t *place);

/**
 * Sleeps until the place was notified. May be called again after a timeout.
 *
 * Blocking, threads, fork: waits at most `timeout_ns`. Safe everywhere.
 *
 * Errors: SHOAL_ERR_TIMEOUT, SHOAL_ERR_INTERRUPTED and SHOAL_ERR_CLOSED (the place is still to be
 * left); SHOAL_ERR_INVALID (also: not this process's place); SHOAL_ERR_POISONED.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_condition_sleep(shoal_condition *c,
                                   uint32_t place,
                                   int64_t timeout_ns);

/**
 * Gives up the place, with the lock held again. `*notified`: whether it was notified.
 *
 * Blocking, threads, fork: never waits; safe everywhere.
 *
 * Errors: SHOAL_ERR_INVALID (also: not this process's place); SHOAL_ERR_POISONED.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_condition_leave(shoal_condition *c,
                                   uint32_t place,
                                   bool *notified);

/**
 * Opens or creates a barrier.
 *
 * `name`: 1 to 200 letters, digits, '.', '_', '-'; NULL always creates a barrier under a name
 * of its own, which `shoal_barrier_name` tells.
 * `options`: NULL opens what exists. `count` is the number of parties of a new one, from 1 to 512.
 * Blocking, threads, fork: does not wait; safe from several threads and processes at once,
 * of which one creates it.
 * Ownership: `*out` is yours until `shoal_barrier_free`; NULL after a failure.
 *
 * Errors: SHOAL_ERR_INVALID (name, options, NULL `out`); SHOAL_ERR_NOT_FOUND;
 * SHOAL_ERR_EXISTS (with SHOAL_EXCLUSIVE); SHOAL_ERR_WRONG_KIND; SHOAL_ERR_PERMISSION;
 * SHOAL_ERR_NO_SPACE; SHOAL_ERR_TOO_LARGE (count); SHOAL_ERR_VERSION_MISMATCH;
 * SHOAL_ERR_CORRUPT; SHOAL_ERR_EXHAUSTED (more than a thousand handles on it);
 * SHOAL_ERR_UNSUPPORTED (no directory for objects, see SHOAL_DIR); SHOAL_ERR_OS (such as no file
 * descriptor left).
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_barrier_open(const char *name,
                                const shoal_sync_options *options,
                                shoal_barrier **out);

/**
 * Lets go of a barrier. The last handle of all processes removes it, unless it is persistent.
 * What this handle held is held by the dead from then on.
 *
 * Blocking, threads, fork: ends the waits through it, see `shoal_end_waits`. No other
 * thread may be using the handle. In a forked child it frees the child's copy only.
 * Ownership: `b` is gone; NULL is allowed.
 */
SHOAL_API
void shoal_barrier_free(shoal_barrier *b);

/**
 * The name to open it by in another process. NULL if `b` is invalid.
 *
 * Blocking, threads, fork: never blocks; safe everywhere.
 * Ownership: the string is the handle's and goes with it.
 */
SHOAL_API const char *shoal_barrier_name(shoal_barrier *b);

/**
 * Removes the name of a barrier. Who has it open goes on using it; who opens or creates the
 * name from now on gets another one.
 *
 * Blocking, threads, fork: does not wait; safe everywhere.
 *
 * Errors: SHOAL_ERR_INVALID (name); SHOAL_ERR_NOT_FOUND; SHOAL_ERR_WRONG_KIND;
 * SHOAL_ERR_PERMISSION.
 */
SHOAL_API shoal_status shoal_barrier_unlink(const char *name);

/**
 * Waits until all parties are there. `*index`: how many came before the caller.
 *
 * Blocking, threads, fork: waits at most `timeout_ns`, and breaks the barrier then. Safe everywhere.
 *
 * Errors: SHOAL_ERR_POISONED (the barrier is broken: the time of one was up, or one died);
 * SHOAL_ERR_INTERRUPTED (the caller has not come); SHOAL_ERR_TIMEOUT (nor had it when those of the
 * round before had not yet left); SHOAL_ERR_INVALID; SHOAL_ERR_CORRUPT.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_barrier_wait(shoal_barrier *b,
                                int64_t timeout_ns,
                                uint32_t *index);

/**
 * The first part of a wait, for those who wait piecewise, or do something before all go on.
 * `*last`: all are there, and the caller is to call `shoal_barrier_release`; otherwise
 * `shoal_barrier_sleep`. `*place` is for those.
 *
 * Blocking, threads, fork: waits only while a full round has not ended, at most `timeout_ns`.
 *
 * Errors: SHOAL_ERR_POISONED (the barrier is broken); SHOAL_ERR_TIMEOUT;
 * SHOAL_ERR_INTERRUPTED; SHOAL_ERR_INVALID; SHOAL_ERR_CORRUPT.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_barrier_arrive(shoal_barrier *b,
                                  int64_t timeout_ns,
                                  uint32_t *place,
                                  uint32_t *index,
                                  bool *last);

/**
 * For the last to come: lets all go on.
 *
 * Blocking, threads, fork: never waits; safe everywhere.
 *
 * Errors: SHOAL_ERR_POISONED (the barrier was broken meanwhile); SHOAL_ERR_INVALID.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_barrier_release(shoal_barrier *b,
                                   uint32_t place);

/**
 * Sleeps until the barrier opens or breaks; the place is given up then.
 *
 * Blocking, threads, fork: waits at most `timeout_ns`, and may be called again after that.
 *
 * Errors: SHOAL_ERR_POISONED (the barrier is broken); SHOAL_ERR_TIMEOUT, SHOAL_ERR_INTERRUPTED and
 * SHOAL_ERR_CLOSED (the caller still has its place); SHOAL_ERR_INVALID.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_barrier_sleep(shoal_barrier *b,
                                 uint32_t place,
                                 int64_t timeout_ns);

/**
 * Gives up waiting, which breaks the barrier, unless all came meanwhile.
 *
 * Blocking, threads, fork: never waits; safe everywhere.
 *
 * Errors: SHOAL_ERR_POISONED (the barrier is broken); SHOAL_ERR_INVALID.
 */
SHOAL_API shoal_status shoal_barrier_give_up(shoal_barrier *b, uint32_t place);

/**
 * Breaks the barrier, for those who wait and those who come.
 *
 * Blocking, threads, fork: never waits; safe everywhere.
 *
 * Errors: SHOAL_ERR_INVALID; SHOAL_ERR_POISONED.
 */
SHOAL_API shoal_status shoal_barrier_abort(shoal_barrier *b);

/**
 * Makes a broken barrier whole. Those who wait are told that it is broken.
 *
 * Blocking, threads, fork: never waits; safe everywhere.
 *
 * Errors: SHOAL_ERR_INVALID; SHOAL_ERR_POISONED.
 */
SHOAL_API shoal_status shoal_barrier_reset(shoal_barrier *b);

/**
 * Whether the barrier is broken.
 *
 * Blocking, threads, fork: never waits; safe everywhere.
 *
 * Errors: SHOAL_ERR_INVALID.
 */
SHOAL_API SHOAL_NODISCARD shoal_status shoal_barrier_is_broken(shoal_barrier *b, bool *out);

/**
 * How many wait. The dead do not count: the kernel is asked about each.
 *
 * Blocking, threads, fork: never waits; safe everywhere.
 *
 * Errors: SHOAL_ERR_INVALID; SHOAL_ERR_POISONED.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_barrier_waiting(shoal_barrier *b,
                                   uint64_t *out);

/**
 * How many meet here.
 *
 * Blocking, threads, fork: never waits; safe everywhere.
 *
 * Errors: SHOAL_ERR_INVALID.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_barrier_parties(shoal_barrier *b,
                                   uint64_t *out);

/**
 * Opens or creates a read-write lock.
 *
 * `name`: 1 to 200 letters, digits, '.', '_', '-'; NULL always creates a read-write lock under a name
 * of its own, which `shoal_rwlock_name` tells.
 * `options`: NULL opens what exists. There are no others.
 * Blocking, threads, fork: does not wait; safe from several threads and processes at once,
 * of which one creates it.
 * Ownership: `*out` is yours until `shoal_rwlock_free`; NULL after a failure.
 *
 * Errors: SHOAL_ERR_INVALID (name, options, NULL `out`); SHOAL_ERR_NOT_FOUND;
 * SHOAL_ERR_EXISTS (with SHOAL_EXCLUSIVE); SHOAL_ERR_WRONG_KIND; SHOAL_ERR_PERMISSION;
 * SHOAL_ERR_NO_SPACE; SHOAL_ERR_TOO_LARGE (count); SHOAL_ERR_VERSION_MISMATCH;
 * SHOAL_ERR_CORRUPT; SHOAL_ERR_EXHAUSTED (more than a thousand handles on it);
 * SHOAL_ERR_UNSUPPORTED (no directory for objects, see SHOAL_DIR); SHOAL_ERR_OS (such as no file
 * descriptor left).
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_rwlock_open(const char *name,
                               const shoal_sync_options *options,
                               shoal_rwlock **out);

/**
 * Lets go of a read-write lock. The last handle of all processes removes it, unless it is persistent.
 * What this handle held is held by the dead from then on.
 *
 * Blocking, threads, fork: ends the waits through it, see `shoal_end_waits`. No other
 * thread may be using the handle. In a forked child it frees the child's copy only.
 * Ownership: `l` is gone; NULL is allowed.
 */
SHOAL_API
void shoal_rwlock_free(shoal_rwlock *l);

/**
 * The name to open it by in another process. NULL if `l` is invalid.
 *
 * Blocking, threads, fork: never blocks; safe everywhere.
 * Ownership: the string is the handle's and goes with it.
 */
SHOAL_API const char *shoal_rwlock_name(shoal_rwlock *l);

/**
 * Removes the name of a read-write lock. Who has it open goes on using it; who opens or creates the
 * name from now on gets another one.
 *
 * Blocking, threads, fork: does not wait; safe everywhere.
 *
 * Errors: SHOAL_ERR_INVALID (name); SHOAL_ERR_NOT_FOUND; SHOAL_ERR_WRONG_KIND;
 * SHOAL_ERR_PERMISSION.
 */
SHOAL_API
shoal_status shoal_rwlock_unlink(const char *name);

/**
 * Takes the lock for reading.
 *
 * SHOAL_ERR_OWNER_DIED: **you hold the lock**, as after SHOAL_OK. A writer died with it, and no
 * other has written since: what the lock guards may be half changed.
 *
 * Blocking, threads, fork: waits while somebody writes or waits to, at most
 * `timeout_ns`. Safe everywhere; it is the handle that holds, not the thread.
 *
 * Errors: SHOAL_ERR_OWNER_DIED (with the lock held); SHOAL_ERR_TIMEOUT;
 * SHOAL_ERR_INTERRUPTED; SHOAL_ERR_INVALID; SHOAL_ERR_POISONED; SHOAL_ERR_CORRUPT.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_rwlock_read(shoal_rwlock *l,
                               int64_t timeout_ns);

/**
 * Gives back one hold for reading.
 *
 * Blocking, threads, fork: never waits; safe everywhere.
 *
 * Errors: SHOAL_ERR_INVALID (this handle has none); SHOAL_ERR_POISONED; SHOAL_ERR_CORRUPT.
 */
SHOAL_API shoal_status shoal_rwlock_release_read(shoal_rwlock *l);

/**
 * Takes the lock for writing.
 *
 * SHOAL_ERR_OWNER_DIED: **you hold the lock**, as after SHOAL_OK. A writer died with it, and no
 * other has written since: what the lock guards may be half changed.
 *
 * Blocking, threads, fork: waits while anybody else reads or writes, at most
 * `timeout_ns`. Safe everywhere; it is the handle that holds, not the thread.
 *
 * Errors: SHOAL_ERR_OWNER_DIED (with the lock held); SHOAL_ERR_TIMEOUT;
 * SHOAL_ERR_INTERRUPTED; SHOAL_ERR_INVALID; SHOAL_ERR_POISONED; SHOAL_ERR_CORRUPT.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_rwlock_write(shoal_rwlock *l,
                                int64_t timeout_ns);

/**
 * Gives back the hold for writing.
 *
 * Blocking, threads, fork: never waits; safe everywhere.
 *
 * Errors: SHOAL_ERR_INVALID (this handle has none); SHOAL_ERR_POISONED; SHOAL_ERR_CORRUPT.
 */
SHOAL_API shoal_status shoal_rwlock_release_write(shoal_rwlock *l);

/**
 * How often the lock is held for reading, and whether it is for writing. The dead hold nothing: the
 * kernel is asked about each holder.
 *
 * Blocking, threads, fork: never waits; safe everywhere.
 *
 * Errors: SHOAL_ERR_INVALID; SHOAL_ERR_POISONED.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_rwlock_holders(shoal_rwlock *l,
                                  uint64_t *readers,
                                  bool *writer);

/**
 * Opens or creates an array.
 *
 * `name`: 1 to 200 letters, digits, '.', '_', '-'; NULL always creates one under a name of its
 * own, which `shoal_array_name` tells.
 * `options`: NULL opens what exists. Of an array that exists, what is not 0 or NULL there has to be
 * as it was made.
 * Blocking, threads, fork: does not wait; safe from several threads and processes at once,
 * of which one creates it.
 * Ownership: `*out` is yours until `shoal_array_free`; NULL after a failure.
 *
 * Errors: as `shoal_map_open`; SHOAL_ERR_INVALID (items of other sizes or another format).
 *
 * ```c
 * shoal_array_options o = {.size = sizeof o, .flags = SHOAL_CREATE};
 * o.item_size = sizeof(double);
 * o.count = 100;
 * o.format = "d";
 * shoal_array *a;
 * void *data;
 * size_t bytes;
 * if (shoal_array_open("samples", &o, &a) == SHOAL_OK &&
 *     shoal_array_data(a, &data, &bytes) == SHOAL_OK)
 *     ((double *)data)[7] = 1.5;
 * ```
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_array_open(const char *name,
                              const shoal_array_options *options,
                              shoal_array **out);

/**
 * Lets go of an array. The last handle of all processes removes it, unless it is persistent.
 *
 * Blocking, threads, fork: ends the waits through it, see `shoal_end_waits`. No other
 * thread may be using the handle, or the data.
 * Ownership: `a` is gone; NULL is allowed.
 */
SHOAL_API
void shoal_array_free(shoal_array *a);

/**
 * The name to open it by in another process. NULL if `a` is invalid.
 *
 * Blocking, threads, fork: never blocks; safe everywhere.
 * Ownership: the string is the handle's and goes with it.
 */
SHOAL_API const char *shoal_array_name(shoal_array *a);

/**
 * Removes the name. Who has it open goes on using it.
 *
 * Blocking, threads, fork: does not wait; safe everywhere.
 *
 * Errors: SHOAL_ERR_INVALID (name); SHOAL_ERR_NOT_FOUND; SHOAL_ERR_WRONG_KIND;
 * SHOAL_ERR_PERMISSION.
 */
SHOAL_API shoal_status shoal_array_unlink(const char *name);

/**
 * Where the items are: plain memory, zeros at first, aligned to 128 bytes.
 *
 * `*data`, `*bytes`: all of them.
 * Blocking, threads, fork: never blocks. What several processes write without the lock they
 * write at the same time. A forked child may use it as long as it has not freed the handle.
 * Ownership: the memory is the handle's.
 *
 * Errors: SHOAL_ERR_INVALID.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_array_data(shoal_array *a,
                              void **data,
                              size_t *bytes);

/**
 * What the items are.
 *
 * `*item_size`, `*count`: bytes of each, and how many there are.
 * Blocking, threads, fork: never blocks; safe everywhere.
 *
 * Errors: SHOAL_ERR_INVALID.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_array_items(shoal_array *a,
                               uint64_t *item_size,
                               uint64_t *count);

/**
 * What an item is, as whoever made the array said: up to 16 bytes of text.
 *
 * `buf`, `capacity`: where to, and the room there. `*len`: the text's length, without a NUL.
 * Blocking, threads, fork: never blocks; safe everywhere.
 * Ownership: the text is copied to `buf`.
 *
 * Errors: SHOAL_ERR_BUFFER_TOO_SMALL (`*len` is the room needed); SHOAL_ERR_INVALID.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_array_format(shoal_array *a,
                                char *buf,
                                size_t capacity,
                                size_t *len);

/**
 * Takes an array's lock, which its thread may take again.
 *
 * SHOAL_ERR_OWNER_DIED: **you hold the lock**, as after SHOAL_OK; see `shoal_lock_lock`.
 * `timeout_ns`: how long to wait for who has it; SHOAL_FOREVER, SHOAL_NOWAIT.
 * Blocking, threads, fork: waits until it is free or its holder is dead. A forked child does
 * not have its parent's lock.
 *
 * Errors: SHOAL_ERR_TIMEOUT; SHOAL_ERR_INTERRUPTED; SHOAL_ERR_INVALID.
 */
SHOAL_API
SHOAL_NODISCARD
shoal_status shoal_array_lock(shoal_array *a,
                              int64_t timeout_ns);

/**
 * Gives an array's lock back, by one level.
 *
 * Blocking, threads, fork: never waits; safe everywhere.
 *
 * Errors: SHOAL_ERR_INVALID (also: this thread does not have it).
 */
SHOAL_API SHOAL_NODISCARD shoal_status shoal_array_unlock(shoal_array *a);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* SHOAL_H */
