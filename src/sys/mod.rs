//! All calls of the kernel and the C library. No other module calls `libc`, and this one does not depend on the
//! modules of objects.

pub(crate) mod cancel;
pub(crate) mod clock;
pub(crate) mod directory;
pub(crate) mod dl;
pub(crate) mod exit;
pub(crate) mod fd;
pub(crate) mod fifo;
pub(crate) mod flock;
pub(crate) mod fork;
pub(crate) mod futex;
pub(crate) mod guardian;
pub(crate) mod holder;
pub(crate) mod inotify;
pub(crate) mod limits;
pub(crate) mod mapping;
pub(crate) mod ofd;
pub(crate) mod once;
pub(crate) mod pidfd;
pub(crate) mod poll;
pub(crate) mod probe;
pub(crate) mod process;
pub(crate) mod public_dir;
pub(crate) mod shm;
pub(crate) mod spawn;
pub(crate) mod thread;

/// The calling thread's `errno`.
pub(crate) fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}
