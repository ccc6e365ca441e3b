//! The directory of leases, and its lock, under which requests are decided.
//!
//! The directory itself is locked (`flock`), so there is no lock file that a user could create or remove. The
//! lock is held for some tens of microseconds. Meanwhile no other thread of this process forks: a child would
//! inherit the description, and with it the lock.

use std::path::Path;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::sys::clock::Deadline;
use crate::sys::fork::{ForksHeldOff, hold_off};
use crate::sys::public_dir::PublicDir;
use crate::sys::spawn::Blocked;

/// The variable that names another directory.
pub(super) const VARIABLE: &str = "SHOAL_LEASE_DIR";

/// The shortest and the longest pause between two attempts to take the lock.
const SOON: Duration = Duration::from_micros(20);
const LATER: Duration = Duration::from_millis(2);
/// How long a call waits that must not wait for devices: the lock is held for some tens of microseconds, unless
/// its owner was stopped.
const GRACE_NS: u64 = 1_000_000_000;

/// Opens the directory; creates it if `create` says so.
pub(super) fn open(path: &Path, create: bool) -> Result<Option<PublicDir>> {
    PublicDir::open(path, VARIABLE, create)
}

/// The directory's lock. While it is held, no other process decides requests, and no thread of this process
/// forks.
pub(super) struct Guard {
    dir: PublicDir,
    _forks: ForksHeldOff,
    _signals: Blocked,
}

impl Guard {
    pub(super) fn dir(&self) -> &PublicDir {
        &self.dir
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.dir.unlock();
    }
}

/// Creates the directory if it is missing, and takes its lock. Calls `is_over` between two attempts.
pub(super) fn lock(path: &Path, deadline: Deadline, is_over: impl Fn() -> bool) -> Result<Guard> {
    let deadline = match deadline {
        Deadline::Now => Deadline::At(Deadline::Never.slice(GRACE_NS)),
        deadline => deadline,
    };
    let mut pause = SOON;
    loop {
        if let Some(guard) = try_lock(path)? {
            return Ok(guard);
        }
        if is_over() {
            return Err(Error::Detached);
        }
        if deadline.passed() {
            return Err(Error::Timeout);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LATER);
    }
}

/// Opens the directory each time, so that no child has a copy of the locked description.
fn try_lock(path: &Path) -> Result<Option<Guard>> {
    let signals = Blocked::new();
    let forks = hold_off()?;
    let Some(dir) = open(path, true)? else {
        return Ok(None);
    };
    if !dir.try_lock()? {
        return Ok(None);
    }
    let guard = Guard {
        dir,
        _forks: forks,
        _signals: signals,
    };
    // It may have been removed meanwhile, and replaced by another directory.
    Ok(guard.dir.is_current().then_some(guard))
}
