//! Guards of a critical section: Shoal's objects, and others to compare them with.
//!
//! The others are in an anonymous file:
//! ```text
//! offset  size  field   meaning
//!      0     4  next    the ticket that the next process takes
//!    128   128  served  at ticket % 64: the ticket whose turn it is; its holder sleeps on this word
//!   8320    40  mutex   of the C library
//! ```

use std::any::Any;
use std::cell::UnsafeCell;
use std::mem::offset_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU32, Ordering};

use serde::{Deserialize, Serialize};
use shoal::{Lock, Map, Options, RwLock, Semaphore, Timeout};

use super::failure::Failure;
use super::mapping::{self, Mapping};
use super::stage::{futex_wait, futex_wake};

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum GuardKind {
    Lock,
    /// A semaphore of one permit.
    Semaphore,
    /// A readers-writer lock, taken for writing.
    RwLock,
    /// The lock of a map's key.
    Key,
    /// Tickets, first come, first served.
    Tickets,
    Robust,
    /// A plain mutex, shared by processes and not robust.
    Plain,
}

impl std::fmt::Display for GuardKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Lock => "shoal lock",
            Self::Semaphore => "shoal semaphore",
            Self::RwLock => "shoal rwlock",
            Self::Key => "shoal map key",
            Self::Tickets => "tickets",
            Self::Robust => "robust mutex",
            Self::Plain => "plain mutex",
        })
    }
}

/// How a worker finds the guard.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Entry {
    kind: GuardKind,
    name: String,
    pub(super) fd: Option<RawFd>,
}

/// A guard that workers can open as long as the parent keeps the returned values.
pub(super) fn make(kind: GuardKind) -> Result<(Entry, Box<dyn Any>), Failure> {
    let (name, kept): (String, Box<dyn Any>) = match kind {
        GuardKind::Lock => {
            let lock = Lock::anonymous()?;
            (lock.name().to_owned(), Box::new(lock))
        }
        GuardKind::Semaphore => {
            let semaphore = Semaphore::with_options(None, 1, &Options::create())?;
            (semaphore.name().to_owned(), Box::new(semaphore))
        }
        GuardKind::RwLock => {
            let lock = RwLock::anonymous()?;
            (lock.name().to_owned(), Box::new(lock))
        }
        GuardKind::Key => {
            let map = Map::anonymous()?;
            (map.name().to_owned(), Box::new(map))
        }
        GuardKind::Tickets | GuardKind::Robust | GuardKind::Plain => {
            let memory = mapping::make(size_of::<Memory>() as u64)?;
            let others = Others(Mapping::of(&memory)?);
            others.memory().init(kind == GuardKind::Robust)?;
            let (name, fd) = (String::new(), Some(memory.as_raw_fd()));
            return Ok((Entry { kind, name, fd }, Box::new(memory)));
        }
    };
    let fd = None;
    Ok((Entry { kind, name, fd }, kept))
}

/// The guard as a worker uses it.
pub(super) trait Guard {
    /// Waits until no process is inside, enters, and calls `inside`.
    fn hold(&self, inside: &mut dyn FnMut()) -> Result<(), Failure>;
}

impl Entry {
    pub(super) fn open(&self) -> Result<Box<dyn Guard>, Failure> {
        let others = || -> Result<_, Failure> {
            let fd = self.fd.ok_or("it has no descriptor")?;
            // SAFETY: the descriptor is inherited for this worker alone, and opened once.
            Ok(Others(Mapping::of(&unsafe { OwnedFd::from_raw_fd(fd) })?))
        };
        Ok(match self.kind {
            GuardKind::Lock => Box::new(Lock::open(&self.name)?),
            GuardKind::Semaphore => Box::new(Semaphore::open(&self.name)?),
            GuardKind::RwLock => Box::new(RwLock::open(&self.name)?),
            GuardKind::Key => Box::new(Map::open(&self.name)?),
            GuardKind::Tickets => Box::new(Tickets(others()?)),
            GuardKind::Robust | GuardKind::Plain => Box::new(Mutex(others()?)),
        })
    }
}

impl Guard for Lock {
    fn hold(&self, inside: &mut dyn FnMut()) -> Result<(), Failure> {
        let _ = self.acquire(Timeout::Infinite)?;
        inside();
        Ok(self.release()?)
    }
}

impl Guard for Semaphore {
    fn hold(&self, inside: &mut dyn FnMut()) -> Result<(), Failure> {
        self.acquire(Timeout::Infinite)?;
        inside();
        Ok(self.release(1)?)
    }
}

impl Guard for RwLock {
    fn hold(&self, inside: &mut dyn FnMut()) -> Result<(), Failure> {
        let _ = self.write(Timeout::Infinite)?;
        inside();
        Ok(self.release_write()?)
    }
}

impl Guard for Map {
    fn hold(&self, inside: &mut dyn FnMut()) -> Result<(), Failure> {
        let guard = self.lock_key(b"the only key", Timeout::Infinite)?;
        inside();
        drop(guard);
        Ok(())
    }
}

#[repr(C, align(128))]
struct Line<T>(T);

/// More than there are processes, so that at most one sleeps on each word.
const TURNS: usize = 64;

#[repr(C)]
struct Memory {
    next: Line<AtomicU32>,
    served: [Line<AtomicU32>; TURNS],
    mutex: Line<UnsafeCell<libc::pthread_mutex_t>>,
}

const _: () = assert!(offset_of!(Memory, served) == 128);
const _: () = assert!(offset_of!(Memory, mutex) == 8320);

impl Memory {
    fn init(&self, robust: bool) -> Result<(), Failure> {
        // SAFETY: the attributes and the mutex are valid for writing, and nothing uses the mutex yet.
        let code = unsafe {
            let mut how = std::mem::zeroed();
            libc::pthread_mutexattr_init(&mut how);
            libc::pthread_mutexattr_setpshared(&mut how, libc::PTHREAD_PROCESS_SHARED);
            if robust {
                libc::pthread_mutexattr_setrobust(&mut how, libc::PTHREAD_MUTEX_ROBUST);
            }
            libc::pthread_mutex_init(self.mutex.0.get(), &how)
        };
        done(code)
    }

    fn served(&self, ticket: u32) -> &AtomicU32 {
        &self.served[ticket as usize % TURNS].0
    }
}

fn done(code: i32) -> Result<(), Failure> {
    match code {
        0 => Ok(()),
        code => Err(std::io::Error::from_raw_os_error(code).into()),
    }
}

/// A mapping of the memory.
struct Others(Mapping);

impl Others {
    fn memory(&self) -> &Memory {
        // SAFETY: the mapping lives as long as `self` and is large enough. The fields are atomics, and a mutex
        // that only the C library touches.
        unsafe { self.0.at.cast().as_ref() }
    }
}

struct Tickets(Others);

impl Guard for Tickets {
    fn hold(&self, inside: &mut dyn FnMut()) -> Result<(), Failure> {
        let memory = self.0.memory();
        let ticket = memory.next.0.fetch_add(1, Ordering::SeqCst);
        let served = memory.served(ticket);
        loop {
            let now = served.load(Ordering::SeqCst);
            if now == ticket {
                break;
            }
            futex_wait(served, now);
        }
        inside();
        let next = ticket.wrapping_add(1);
        memory.served(next).store(next, Ordering::SeqCst);
        // A process that takes that ticket after this sees that it is served, and does not sleep.
        if memory.next.0.load(Ordering::SeqCst) != next {
            futex_wake(memory.served(next), 1);
        }
        Ok(())
    }
}

struct Mutex(Others);

impl Guard for Mutex {
    fn hold(&self, inside: &mut dyn FnMut()) -> Result<(), Failure> {
        let mutex = self.0.memory().mutex.0.get();
        // SAFETY: the mutex is initialised.
        done(unsafe { libc::pthread_mutex_lock(mutex) })?;
        inside();
        // SAFETY: this thread has locked the mutex.
        done(unsafe { libc::pthread_mutex_unlock(mutex) })
    }
}
