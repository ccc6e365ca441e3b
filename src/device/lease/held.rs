//! The claims that this process has, and how a fork affects them.
//!
//! A forked child has copies of all descriptors. If it kept those of leases, it would keep the devices leased
//! for its lifetime without knowing it. So the child closes them, except those of leases that the forking
//! thread [passes on](OwnClaim::pass_to_forks).

use std::fs::File;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::claim::{self, Claim, ClaimName, ClaimPath};
use super::directory::Guard;
use crate::error::Result;
use crate::sys::fd::{Kept, made_remote};
use crate::sys::fork::{at_fork, hold_off, is_held_off};
use crate::sys::once::Once;
use crate::sys::spawn::Blocked;
use crate::sys::thread;

/// The descriptor of a claim.
struct Held {
    /// `None` once it is released. Locked only while no thread forks, like [`ALL`].
    fd: Mutex<Option<Kept>>,
    /// Cleared in a forked child to which it was not passed.
    ours: AtomicBool,
    /// The threads whose forks pass it on, by [`thread::token`]. Locked likewise.
    passed_by: Mutex<Vec<u64>>,
}

/// The claims of this process. Accessed only while no thread forks, or by the only thread of a new child, so
/// the lock is always free in the child.
static ALL: Mutex<Vec<Arc<Held>>> = Mutex::new(Vec::new());

impl Held {
    /// From now on, a fork closes the child's copy. No thread forks while the guard exists.
    fn new(file: File, _guard: &Guard) -> Result<Arc<Self>> {
        let held = Arc::new(Self {
            // A program that this process executes may choose the same number.
            fd: Mutex::new(Some(Kept::new(made_remote(file.into())))),
            ours: AtomicBool::new(true),
            passed_by: Mutex::new(Vec::new()),
        });
        lock(&ALL).push(Arc::clone(&held));
        Ok(held)
    }

    /// Closes this process's descriptor, and returns whether it was open. Unlocks nothing: other processes
    /// may also have the claim.
    fn close(&self) -> bool {
        if !self.ours.load(Ordering::Relaxed) {
            return false;
        }
        let _signals = Blocked::new();
        let forks = hold_off();
        // Not earlier: a child that is forked in between must close its copy.
        let was_ours = self.ours.swap(false, Ordering::Relaxed);
        lock(&ALL).retain(|it| !std::ptr::eq(&raw const **it, self));
        let was_open = lock(&self.fd).take().is_some();
        // After the close: children that are forked from now on have no copy.
        drop(forks);
        was_ours && was_open
    }
}

/// Makes later forks close the descriptors of claims in the child. Call it before the first of them is made,
/// in a thread that does not hold off forks: a fork that has begun runs only the handlers that existed
/// before.
pub(super) fn prepare() -> Result<()> {
    static ONCE: Once = Once::new();
    drop(hold_off()?);
    at_fork(&ONCE, nothing, nothing, close_in_child)
}

/// A claim of this process. It ends when this is dropped, unless another process also has it.
pub(super) struct OwnClaim {
    pub(super) name: ClaimName,
    held: Arc<Held>,
    dir: PathBuf,
}

impl OwnClaim {
    /// A new one, below the lease `above`.
    pub(super) fn create(guard: &Guard, ticket: u64, above: &ClaimPath) -> Result<Self> {
        let (name, file) = claim::create(guard.dir(), ticket, above)?;
        let held = Held::new(file, guard).inspect_err(|_| guard.dir().remove(&name.file()))?;
        let dir = guard.dir().path().to_owned();
        Ok(Self { name, held, dir })
    }

    /// Whether this process has the claim: it was not released, and this is not a forked child to which it
    /// was not passed.
    pub(super) fn is_ours(&self) -> bool {
        self.held.ours.load(Ordering::Relaxed)
    }

    /// Runs `act` on the descriptor, which stays open meanwhile; `None` if there is none. Forks wait.
    pub(super) fn with<T>(&self, act: impl FnOnce(BorrowedFd<'_>) -> T) -> Option<T> {
        if !self.is_ours() {
            return None;
        }
        let _signals = (!is_held_off()).then(Blocked::new);
        let _forks = hold_off().ok()?;
        lock(&self.held.fd).as_ref()?.get().map(act)
    }

    /// Sets whether forks of this thread pass it on. Returns the previous setting.
    pub(super) fn set_passed_on(&self, on: bool) -> bool {
        let _signals = (!is_held_off()).then(Blocked::new);
        let _forks = hold_off();
        let mut threads = lock(&self.held.passed_by);
        let (this, before) = (thread::token(), threads.len());
        threads.retain(|&thread| thread != this);
        let was = threads.len() < before;
        if on {
            threads.push(this);
        }
        was
    }

    /// Runs `act`; meanwhile, forks of this thread pass it on.
    pub(super) fn pass_to_forks<T>(&self, act: impl FnOnce() -> T) -> T {
        struct Restored<'a>(&'a OwnClaim, bool);
        impl Drop for Restored<'_> {
            fn drop(&mut self) {
                self.0.set_passed_on(self.1);
            }
        }
        let _restored = Restored(self, self.set_passed_on(true));
        act()
    }

    /// Releases it in this process. The last holder's release removes the file; after another end, the next
    /// process that decides does.
    pub(super) fn release(&self) {
        if !self.held.close() {
            return;
        }
        // Once it is not locked it never will be again, so it may be removed without the directory's lock.
        let path = self.dir.join(self.name.file());
        if let Ok(None) = Claim::open(&path, &self.name) {
            let _ = std::fs::remove_file(path);
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
        let Ok(mut threads) = held.passed_by.try_lock() else {
            continue;
        };
        // The others are not in the child.
        threads.retain(|&thread| thread == this);
        if threads.is_empty() {
            held.ours.store(false, Ordering::Relaxed);
            if let Ok(mut fd) = held.fd.try_lock() {
                drop(fd.take());
            }
        }
    }
}
