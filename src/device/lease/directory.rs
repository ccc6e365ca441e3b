//! The directory of leases, and its lock, under which requests are decided.
//!
//! The lock is the directory's own (`flock`), so there is no file of it that a user could create first or
//! remove. It is held for some tens of microseconds. While it is held no other thread of this process
//! forks: a child would have a copy of the description, and with it the lock, for as long as it lives.

use std::path::Path;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::sys::clock::Deadline;
use crate::sys::fork::{ForksHeldOff, hold_off};
use crate::sys::public_dir::PublicDir;
use crate::sys::spawn::Blocked;

/// The variable that names another directory.
pub(super) const VARIABLE: &str = "SHOAL_LEASE_DIR";

/// The shortest and the longest time between two looks at a lock that another process has.
const SOON: Duration = Duration::from_micros(20);
const LATER: Duration = Duration::from_millis(2);

/// Opens the directory; creates it if `create` says so.
pub(super) fn open(path: &Path, create: bool) -> Result<Option<PublicDir>> {
    PublicDir::open(path, VARIABLE, create)
}

/// No other process decides, and no thread of this process forks.
pub(super) struct Guard<'a> {
    dir: &'a PublicDir,
    _forks: ForksHeldOff,
    _signals: Blocked,
}

impl Guard<'_> {
    pub(super) fn dir(&self) -> &PublicDir {
        self.dir
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.dir.unlock();
    }
}

/// Takes the lock. `is_over` is asked between two tries. `None` if the directory was removed: the caller
/// opens it again.
pub(super) fn lock<'a>(
    dir: &'a PublicDir,
    deadline: Deadline,
    is_over: impl Fn() -> bool,
) -> Result<Option<Guard<'a>>> {
    let mut pause = SOON;
    loop {
        let signals = Blocked::new();
        let forks = hold_off()?;
        if dir.try_lock()? {
            let guard = Guard {
                dir,
                _forks: forks,
                _signals: signals,
            };
            return Ok(dir.is_current().then_some(guard));
        }
        drop(forks);
        drop(signals);
        if is_over() {
            return Err(Error::Detached);
        }
        if deadline != Deadline::Now && deadline.passed() {
            return Err(Error::Timeout);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LATER);
    }
}
