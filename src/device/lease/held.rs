//! The claims that this process has, and what a fork does to them.
//!
//! A forked child has copies of all descriptors. If it kept those of leases it would keep the devices, for
//! as long as it lives, without knowing of it. So the child closes them, except those of leases that the
//! thread that forks has said to [pass on](OwnClaim::pass_to_forks).

use std::fs::File;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::claim::{self, Claim, ClaimName, ClaimPath};
use super::directory::{self, Guard};
use crate::error::Result;
use crate::sys::fd::Kept;
use crate::sys::fork::{at_fork, hold_off};
use crate::sys::once::Once;
use crate::sys::spawn::Blocked;
use crate::sys::thread;

/// The descriptor of a claim.
struct Held {
    /// None once it is released. Locked only while no thread forks, as [`ALL`].
    fd: Mutex<Option<Kept>>,
    /// Not in a forked child that it was not passed to.
    ours: AtomicBool,
    /// The thread whose forks pass it on, by [`thread::token`]; 0 for none.
    passed_by: AtomicU64,
}

/// The claims of this process. Touched only while no thread forks, or by the only thread of a new child: so
/// the lock is always free in the child.
static ALL: Mutex<Vec<Arc<Held>>> = Mutex::new(Vec::new());

impl Held {
    /// From now on a fork closes the child's copy. No thread forks while the guard is there.
    fn new(file: File, _guard: &Guard<'_>) -> Result<Arc<Self>> {
        static ONCE: Once = Once::new();
        at_fork(&ONCE, nothing, nothing, close_in_child)?;
        let held = Arc::new(Self {
            fd: Mutex::new(Some(Kept::new(file.into()))),
            ours: AtomicBool::new(true),
            passed_by: AtomicU64::new(0),
        });
        lock(&ALL).push(Arc::clone(&held));
        Ok(held)
    }

    /// Closes this process's descriptor, and says whether it did. Nothing is unlocked: other processes may
    /// have the claim too.
    fn close(&self) -> bool {
        let was_ours = self.ours.swap(false, Ordering::Relaxed);
        let _signals = Blocked::new();
        let forks = hold_off();
        lock(&ALL).retain(|it| !std::ptr::eq(&raw const **it, self));
        let fd = lock(&self.fd).take();
        drop(forks);
        was_ours && fd.is_some()
    }
}

/// A claim of this process. It ends when this is dropped, unless another process has it too.
pub(super) struct OwnClaim {
    pub(super) name: ClaimName,
    held: Arc<Held>,
    dir: PathBuf,
}

impl OwnClaim {
    /// A new one, below the lease `above`.
    pub(super) fn create(guard: &Guard<'_>, ticket: u64, above: &ClaimPath) -> Result<Self> {
        let (name, file) = claim::create(guard.dir(), ticket, above)?;
        let held = Held::new(file, guard).inspect_err(|_| guard.dir().remove(&name.file()))?;
        let dir = guard.dir().path().to_owned();
        Ok(Self { name, held, dir })
    }

    /// Whether this process has the claim: it was not released, and this is no forked child that it was
    /// not passed to.
    pub(super) fn is_ours(&self) -> bool {
        self.held.ours.load(Ordering::Relaxed)
    }

    /// Runs `act` on the descriptor, which stays open meanwhile; `None` if there is none. Forks wait.
    pub(super) fn with<T>(&self, act: impl FnOnce(BorrowedFd<'_>) -> T) -> Option<T> {
        if !self.is_ours() {
            return None;
        }
        let _signals = Blocked::new();
        let _forks = hold_off().ok()?;
        lock(&self.held.fd).as_ref()?.get().map(act)
    }

    /// The forks of this thread pass it on from now on, or those of no thread do.
    pub(super) fn set_passed_on(&self, on: bool) {
        let thread = if on { thread::token() } else { 0 };
        self.held.passed_by.store(thread, Ordering::Relaxed);
    }

    /// The forks of this thread pass it on while `act` runs.
    pub(super) fn pass_to_forks<T>(&self, act: impl FnOnce() -> T) -> T {
        struct Restored<'a>(&'a AtomicU64, u64);
        impl Drop for Restored<'_> {
            fn drop(&mut self) {
                self.0.store(self.1, Ordering::Relaxed);
            }
        }
        let before = self.held.passed_by.swap(thread::token(), Ordering::Relaxed);
        let _restored = Restored(&self.held.passed_by, before);
        act()
    }

    /// Gives up this process's part of it. The file is removed with the last part; if that is another
    /// process's, by the next process that decides.
    pub(super) fn release(&self) {
        if !self.held.close() {
            return;
        }
        // Once it is not locked it never will be again, so it may be removed without the directory's lock.
        if let Ok(Some(dir)) = directory::open(&self.dir, false)
            && let Ok(None) = Claim::open(&dir, &self.name)
        {
            dir.remove(&self.name.file());
        }
    }
}

impl Drop for OwnClaim {
    fn drop(&mut self) {
        self.release();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

unsafe extern "C" fn nothing() {}

/// In a new child: system calls only, nothing is allocated or freed.
unsafe extern "C" fn close_in_child() {
    let Ok(all) = ALL.try_lock() else { return };
    let this = thread::token();
    for held in all.iter() {
        if held.passed_by.load(Ordering::Relaxed) != this
            && held.ours.swap(false, Ordering::Relaxed)
            && let Ok(mut fd) = held.fd.try_lock()
        {
            drop(fd.take());
        }
    }
}
