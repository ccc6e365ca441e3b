//! Shoal: queues, pipes, maps, lists, arrays, locks and child processes for the programs of one machine,
//! which survive each other's death.
//!
//! # Contents
//!
//! @contents
//!
//! What only language bindings need is in `shoal_bindings.h`.
//!
//! # Conventions
//!
//! - Functions are named `shoal_<object>_<verb>`.
//! - Parameters come in this order: the handle; inputs; the timeout; outputs. A buffer to be filled is three
//!   outputs: `buf`, `capacity` (the bytes there) and `*len` (the bytes used).
//! - Most functions return a `shoal_status`; 0 is success. `shoal_last_error()` then has a sentence about it
//!   for the calling thread. There are no partial successes, except where a count says so.
//! - A timeout is a number of nanoseconds. SHOAL_FOREVER (or any negative number) waits without limit,
//!   SHOAL_NOWAIT (0) does not wait. When the time is over the status is SHOAL_ERR_TIMEOUT, with SHOAL_NOWAIT
//!   too; only `shoal_pipe_poll` answers by its result. Durations are nanoseconds as well, and SHOAL_FOREVER
//!   is without limit. Setting the system's clock has no effect on them, and the time in which the machine is
//!   suspended does not count.
//! - Handles (`shoal_queue *`, ...) are opaque. A handle that is NULL, misaligned, freed or of another type is
//!   SHOAL_ERR_INVALID. The library cannot detect a pointer to memory that is not mapped, nor a freed handle
//!   whose memory is in use for a later one.
//! - Strings are UTF-8 and end with NUL. Data is a pointer and a length; the pointer may be NULL if the length
//!   is 0. What you pass in stays yours, and is not used after the call.
//! - After a failure a handle output is NULL, counts and lengths are 0, and other outputs are unchanged. Only
//!   SHOAL_ERR_BUFFER_TOO_SMALL writes the size needed to `*len`; nothing is taken then.
//! - An output may be NULL if it is not the main result: each `bool *` that is not named `out`, and those named
//!   `version`, `index`, `sum`, `removed` and `end`. The others may not.
//! - A compiler warns if a status is dropped, except of functions that are called for their effect alone.
//! - Options and statistics are structs that begin with `size`: set it to `sizeof` the struct, and options
//!   otherwise to zero for the defaults. A program compiled against an older header continues to work.
//!
//! # Opening
//!
//! `shoal_<object>_open` opens what exists, or with SHOAL_CREATE creates it if there is none of that name.
//!
//! - `name`: 1 to 200 letters, digits, '.', '_', '-'. NULL always creates an object under a new name, which
//!   `shoal_name` returns.
//! - `options`: NULL opens what exists. Sizes and lifetime apply if this call creates the object; one that
//!   exists keeps its own.
//! - `*out`: the handle. It is yours until `shoal_<object>_free`. `*created`: whether this call created it.
//!
//! It waits only for processes that are opening or leaving the same object, for some seconds at most. Several
//! threads and processes may call it at the same time: one of them creates the object.
//!
//! Errors: SHOAL_ERR_INVALID (name, options); SHOAL_ERR_NOT_FOUND; SHOAL_ERR_EXISTS (SHOAL_EXCLUSIVE);
//! SHOAL_ERR_WRONG_KIND; SHOAL_ERR_PERMISSION; SHOAL_ERR_NO_SPACE; SHOAL_ERR_TOO_LARGE (a size);
//! SHOAL_ERR_VERSION_MISMATCH; SHOAL_ERR_EXHAUSTED (more than a thousand handles on it);
//! SHOAL_ERR_UNSUPPORTED (no directory for objects); SHOAL_ERR_OS (such as no file descriptor left);
//! SHOAL_ERR_TIMEOUT (a process that opens or leaves the object is stopped; the message says which).
//!
//! # Freeing
//!
//! `shoal_<object>_free` frees a handle; NULL is allowed. The last handle of all processes removes an object
//! that is not persistent, with what is in it. Once the function is called, no other thread may begin to use
//! the handle. Threads that wait in a call through it return SHOAL_ERR_CLOSED first (better: end the waits by
//! `shoal_end_waits`, and join the threads). If one does not return within a second, the object stays open
//! until the process ends. In a forked child the child's copy is freed. To free a handle twice has no effect,
//! as long as its memory is not in use for a later one.
//!
//! # Statistics
//!
//! `shoal_<object>_stat` fills in a struct, of which you set `size`. The numbers are those of one moment if no
//! process changes the object meanwhile.
//!
//! # Locks
//!
//! A function that takes a lock says by `*owner_died` whether its last owner died, or freed its handle, while
//! it had the lock: what the lock guards may be half changed then. It is reported once: to unlock declares
//! the data consistent. The caller holds the lock as usual.
//!
//! What is locked, acquired or leased belongs to a handle in a process, not to a thread. A thread that ends
//! with a lock leaves it taken for as long as its process has the handle: another thread can unlock a plain
//! lock and a key, release a permit or a read-write lock, and end a lease. A recursive lock, and that of an
//! array, can only be unlocked by its own thread; a thread that begins after that thread's end may be mistaken
//! for it. A forked child holds nothing that its parent has locked.
//!
//! # Blocking, threads, fork
//!
//! A function with a timeout waits for what its comment says, at most until the time is over. If a process is
//! stopped inside a call on the object, the function may wait a second for it, even if the timeout is shorter.
//! Every other function waits at most for other processes' calls on the same object that are in progress; its
//! comment says if it may wait for anything else.
//!
//! Every function may be called from any thread at any time, on the same handle too, except for what is said
//! of freeing and of `shoal_map_iter`. No function is async-signal-safe. No signal handler is installed, and no
//! setting of the process is touched, except by `shoal_device_set_visible`.
//!
//! A signal handler that runs while a call sleeps ends it with SHOAL_ERR_INTERRUPTED: call again to go on. One
//! that runs before the call sleeps, or between two sleeps, does not: a program that must notice a signal waits
//! with a timeout. `pthread_cancel` does not end a call: the thread ends at its next cancellation point
//! outside the library. Its type must not be PTHREAD_CANCEL_ASYNCHRONOUS during a call.
//!
//! A thread needs a stack of 64 KiB for any function, in addition to thread-local variables and callbacks.
//! (PTHREAD_STACK_MIN is too small.)
//!
//! Handles work in a forked child, which becomes a participant of its own. Its copies of process handles cannot
//! tell how those processes ended. Of a process with other threads the usual rule holds for your own code: what
//! they had locked stays locked in the child. Handles do not survive exec: open by name. Before a
//! fork, each handle takes one more of the 1024 slots of its object for the child, and the library opens a
//! descriptor; one is kept in reserve for a fork at which none is free, or at which the directory of the objects
//! and /proc cannot be reached (`chroot`). A child for which there is none has no part in the objects: what its
//! parent has stays untouched, and its calls through inherited handles fail with SHOAL_ERR_EXHAUSTED, except for
//! those that take no lock, as on events. It may open the objects again by name. A child of `_Fork` or of a raw
//! `clone`, for which the C library runs no fork handlers, is mistaken for its parent: it must not call the library
//! before an exec.
//!
//! A program that locks its memory adds MCL_ONFAULT to the flags of `mlockall`. Without that the kernel commits
//! all that an object can grow to, which fills the file system.
//!
//! # Sanitizers
//!
//! Programs may be compiled with AddressSanitizer, UndefinedBehaviorSanitizer and ThreadSanitizer; the library
//! is not. For ThreadSanitizer, calls through the same handle count as ordered (`shoal_tsan.h`), so that what a
//! lock guards is no race. What happens inside a call is not checked, nor is the comparison of `shoal_list_sort`.
//!
//! # Errors of all functions
//!
//! Comments list only what is particular to a function. In addition, a function may return:
//!
//! - SHOAL_ERR_INVALID: a handle or an argument;
//! - SHOAL_ERR_TIMEOUT, SHOAL_ERR_INTERRUPTED: if it has a timeout;
//! - SHOAL_ERR_CLOSED: if it would have to wait, and the waits through the handle were ended;
//! - SHOAL_ERR_CORRUPT: bytes in shared memory break an invariant: a program has overwritten them;
//! - SHOAL_ERR_POISONED: the object could not be repaired after a process died in a call on it; from then on
//!   every call returns this;
//! - SHOAL_ERR_INTERNAL: a bug in the library.
//!
//! # Processes that die
//!
//! - A process may be killed at any instruction. What it was putting is there completely or not at all; a
//!   message that it had just got is lost with it. The next process that uses the object repairs it.
//! - A process that is stopped (SIGSTOP, a debugger) inside a call blocks the others. So does a thread that
//!   ends inside a call (longjmp out of a signal handler) for as long as its process lives.
//! - An object that is not persistent and has no relay is removed with its last handle. If its last process is
//!   killed, or ends by `_exit` without `shoal_leave()`, it stays until `shoal_gc()`, until a process opens
//!   its name, or until a process creates its first object or finds no memory.
//!
//! # Where objects are
//!
//! - Objects are files in `/dev/shm`, or in the directory that the environment variable SHOAL_DIR names: an
//!   absolute path, best on a tmpfs, the same for all processes that share objects. It is read once, at the
//!   first call that needs it. On another file system the first creation tests for what objects need, and
//!   returns SHOAL_ERR_UNSUPPORTED with the name of what is missing. Where that is a disk, a full disk is
//!   SHOAL_ERR_NO_SPACE as well, and ends a process by SIGBUS only if the file system writes changed data to a
//!   new place (btrfs, ZFS), or if another program reads the files of open objects.
//! - When its file system is full, a function that needs memory first removes what killed processes left. If
//!   that is not enough it returns SHOAL_ERR_NO_SPACE and changes nothing. Containers often have 64 MiB of
//!   `/dev/shm`.
//! - Where a control group of processes reaches its memory limit (`memory.max`), the kernel kills one of
//!   them, as by `kill -9`. If the kernel is configured not to do that, the call returns SHOAL_ERR_NO_SPACE.
//! - Only processes of one user and one pid namespace share objects, whatever C library they use. Among them
//!   there is no protection: nothing stops a process from deleting your data. An object that no process has
//!   open is free: its name can be used again, and what is persistent is opened by the next pid namespace.
//! - Handles keep no file descriptor, except of a queue or pipe that was asked for one; a process keeps one for
//!   all of them. A program may close all descriptors that it finds, as daemons do: its objects continue to work,
//!   and a file that gets the same number later is not touched.
//! - Linux only.

// Exported by symbol, not by path; each function's safety is its documented contract.
#![allow(unreachable_pub, clippy::missing_safety_doc)]

mod args;
mod array;
mod barrier;
mod bindings;
mod condition;
mod device;
mod event;
mod general;
mod handle;
mod keys;
mod lease;
mod list;
mod lock;
mod map;
mod message;
mod options;
mod pipe;
mod process;
mod queue;
mod rwlock;
mod semaphore;
mod spawn;
mod status;
mod supervisor;
mod view;
mod wait;
