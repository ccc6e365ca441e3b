//! Shoal: queues, pipes, maps, lists, child processes and device masks for the processes of one
//! machine.
//!
//! ```c
//! shoal_queue_options options = {.size = sizeof options, .flags = SHOAL_CREATE};
//! shoal_queue *queue;
//! shoal_status status = shoal_queue_open("jobs", &options, &queue);
//! if (status == SHOAL_OK)
//!     status = shoal_queue_put(queue, "hello", 5, SHOAL_FOREVER);
//! if (status != SHOAL_OK)
//!     fprintf(stderr, "%s\n", shoal_last_error());
//! shoal_queue_free(queue);
//! ```
//!
//! # Conventions
//!
//! - Functions are called `shoal_<type>_<verb>`. Inputs come first, outputs last.
//! - A function that can fail returns a `shoal_status`; 0 is success. `shoal_last_error()`
//!   then has a sentence about it for the calling thread. There are no partial successes
//!   but where a count says so.
//! - Handles (`shoal_queue *`, `shoal_map *`, `shoal_process *`, ...) are opaque. You own what
//!   `_open`, `_new`, `_spawn` and `_fork` give you, until you pass it to the `_free` of its
//!   type. Freeing NULL does nothing.
//! - Strings are UTF-8 and end with NUL. Data is a pointer and a length; the pointer may be
//!   NULL if the length is 0. What you pass in stays yours and is not used after the call.
//! - After a failure a handle output is NULL and a count is 0; other outputs are untouched.
//!   Only SHOAL_ERR_BUFFER_TOO_SMALL writes the size needed to `*len`.
//! - Options structs begin with `size`; set it to `sizeof` the struct and zero the rest for the
//!   defaults. A program compiled against an older header goes on working.
//! - A timeout is a number of nanoseconds: SHOAL_FOREVER (or any negative) waits without end,
//!   SHOAL_NOWAIT does not wait. Time is monotonic; setting the clock changes nothing. A signal
//!   handler that runs while a call waits ends it with SHOAL_ERR_INTERRUPTED; call again to
//!   go on. One that runs in a moment when the call looks around instead of sleeping does not:
//!   who must notice a signal in any case waits with a timeout. A wait through a handle that is
//!   given up ends with SHOAL_ERR_CLOSED: see `shoal_end_waits`.
//! - NULL, misaligned, freed and mistaken handles are SHOAL_ERR_INVALID, as far as that can
//!   be told. A pointer to memory that is not mapped cannot be told from a good one, and the
//!   place of a freed handle is used again after a while.
//!
//! # Threads
//!
//! Every function may be called from any thread at any time, on the same handle too, with two
//! exceptions: while `_free` runs, and afterwards, nobody may use that handle; and a
//! `shoal_map_iter` serves one thread at a time. No function is async-signal-safe. No signal
//! handler is installed and no process-wide setting is touched, but for
//! `shoal_device_set_visible`.
//!
//! Before a handle is freed that other threads use, `shoal_end_waits` has those come back that wait
//! through it, with SHOAL_ERR_CLOSED; then join them. `_free` does that too, for threads that sleep in
//! a call by then: it returns when they have left. If one does not within a second, because it
//! waits for something else there, the object stays open until the process ends.
//!
//! `pthread_cancel` does not reach into a call. A thread that is cancelled in one ends at the next
//! cancellation point of its program; a wait goes on until it is over or is ended. The type must not
//! be PTHREAD_CANCEL_ASYNCHRONOUS during a call.
//!
//! What is locked, acquired or leased belongs to a handle in a process and not to a thread. A thread
//! that ends with a lock leaves it taken, for as long as its process has the handle: another thread
//! of it can unlock a plain lock and a key, release a permit or a read-write lock, and end a lease.
//! A recursive lock and that of an array only their own thread can unlock; a thread that begins
//! after its end may be taken for it.
//!
//! A thread needs a stack of 64 KiB for any function, beside what the program's own thread-local
//! variables and the callbacks it passes in take. (PTHREAD_STACK_MIN is too small. An optimised
//! build uses about 20 KiB, most of it to open an object.)
//!
//! # fork and exec
//!
//! Queue, map and list handles work in a forked child: it becomes a participant of its own, and
//! frees its copies or just exits. Its copies of process handles cannot tell how those
//! processes ended. In a child of a process with other threads the usual rule holds for your
//! own code: what they had locked stays locked. Handles do not survive exec; open by name.
//!
//! # Caveats
//!
//! - A process may be killed at any instruction. What it had put is there whole or not at all;
//!   a message it had just taken is lost with it. The next process to come along repairs the
//!   object. If it cannot, every call answers SHOAL_ERR_POISONED from then on.
//! - A process that is stopped (SIGSTOP, a debugger) inside a call holds the others up. So does a
//!   thread that ends inside a call (longjmp out of a signal handler) for as long as its process
//!   lives.
//! - Objects live in `/dev/shm`, or in the directory that the environment variable SHOAL_DIR names:
//!   an absolute path, best on a tmpfs, the same for all processes that share objects. It is read
//!   once, at the first call that needs it. On another file system the first creation tries out
//!   what objects need, and answers SHOAL_ERR_UNSUPPORTED with the name of what is missing.
//! - When the directory's file system is full, what needs memory answers SHOAL_ERR_NO_SPACE and
//!   changes nothing, after it has collected what killed processes left. Containers often have
//!   64 MiB of `/dev/shm`.
//! - An object that is not persistent goes with its last handle. If its last process is
//!   killed, or ends by `_exit` without `shoal_leave()`, it stays until `shoal_gc()`, until somebody
//!   opens it again, or until a process creates its first object or finds no memory.
//! - Only processes of one user and one pid namespace share objects, whatever C library they use.
//!   An object that nobody has open stops nobody: of whatever pid namespace or version it is, its
//!   name is free, and what is persistent is opened by the next pid namespace.
//!   Among them there is no protection: garbage written into an object is answered with
//!   SHOAL_ERR_CORRUPT, but nothing stops a process from deleting your data.
//! - Handles keep no file descriptor, but for a queue or pipe that was asked for one; a process keeps
//!   one altogether. A program may close all that it finds, as daemons do: its objects go on working,
//!   and no file that gets the number is touched.
//! - Where a control group of processes reaches its memory limit (`memory.max`), the kernel kills one of
//!   them, as by `kill -9`; where it is told not to, the call is answered with SHOAL_ERR_NO_SPACE. What
//!   others have is untouched.
//! - Linux only.

// Exported by symbol, not by path; each function's safety is its documented contract.
#![allow(unreachable_pub, clippy::missing_safety_doc)]

mod args;
mod array;
mod barrier;
mod condition;
mod device;
mod event;
mod handle;
mod keys;
mod lease;
mod list;
mod lock;
mod map;
mod options;
mod pipe;
mod process;
mod queue;
mod reserve;
mod rwlock;
mod semaphore;
mod spawn;
mod status;
mod wait;
mod waits;
mod watched;
