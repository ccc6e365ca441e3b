//! A directory of leases and a machine of fake devices, for one test; and children that take part.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use shoal::device::Machine;
use shoal::device::lease::{Holder, HolderState, Lease, Request, holders};
use shoal::{ForkOptions, Process, Timeout, fork};

use crate::common;

/// Removed when dropped.
pub(crate) struct Place(pub(crate) PathBuf, #[allow(dead_code)] Turn);

/// Other tests run meanwhile, or none.
#[allow(dead_code)]
enum Turn {
    BesideOthers(RwLockReadGuard<'static, ()>),
    Alone(RwLockWriteGuard<'static, ()>),
}

impl Place {
    pub(crate) fn new() -> Self {
        Self::of(Turn::BesideOthers(common::beside_others()))
    }

    /// For a test whose children change their environment, which another thread may be reading as they are
    /// forked: then they would wait for that thread, which they do not have. Also for one whose leases have
    /// to be free at once: a child that another test has just forked has a copy for a moment.
    pub(crate) fn alone() -> Self {
        Self::of(Turn::Alone(common::alone()))
    }

    fn of(turn: Turn) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("shoal-leases-test-{}-{number}", std::process::id());
        Self(PathBuf::from("/dev/shm").join(name), turn)
    }

    /// A machine with these devices and its own directory of leases.
    pub(crate) fn machine(&self, fake: &str) -> Machine {
        let mut machine = Machine::from_environment();
        machine.fake = Some(fake.to_owned());
        machine.leases = self.0.clone();
        machine
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Does not wait.
pub(crate) const NOW: Timeout = Timeout::Val(Duration::ZERO);

/// Longer than any test takes: a watchdog.
pub(crate) const LONG: Timeout = Timeout::Val(Duration::from_secs(60));

/// Waits until it holds.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(60), "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The numbers of a lease's devices.
pub(crate) fn numbers(lease: &Lease) -> Vec<u32> {
    lease.devices().iter().map(|it| it.logical).collect()
}

pub(crate) fn held(machine: &Machine) -> Vec<Holder> {
    let mut all = holders(machine).unwrap();
    all.retain(|it| it.state == HolderState::Held);
    all
}

pub(crate) fn waiting(machine: &Machine) -> Vec<Holder> {
    let mut all = holders(machine).unwrap();
    all.retain(|it| it.state == HolderState::Waiting);
    all
}

/// Both ends of a pipe, which a forked child has too.
pub(crate) fn pipe() -> (File, File) {
    let mut ends = [0; 2];
    // SAFETY: room for two descriptors, which are new.
    unsafe {
        assert_eq!(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC), 0);
        let [reader, writer] = ends.map(|it| OwnedFd::from_raw_fd(it));
        (reader.into(), writer.into())
    }
}

/// A child that runs `act` and then sleeps until it is killed.
pub(crate) struct Child {
    pub(crate) process: Process,
    said: File,
}

impl Child {
    /// `act` returns the line that the child reports.
    pub(crate) fn new(options: &ForkOptions, act: impl FnOnce() -> u8) -> Self {
        let (reader, mut writer) = pipe();
        // SAFETY: the child uses the library, the allocator and its own descriptors.
        let process = unsafe {
            fork(options, || {
                writer.write_all(&[act()]).unwrap();
                libc::sleep(600);
                0
            })
        };
        let process = process.unwrap();
        Self {
            process,
            said: reader,
        }
    }

    /// A child that leases devices with this request, and reports how many.
    pub(crate) fn leasing(request: &Request) -> Self {
        Self::new(&ForkOptions::default(), || {
            let lease = request.acquire(LONG).unwrap();
            let count = lease.devices().len() as u8;
            std::mem::forget(lease);
            count
        })
    }

    /// Waits for its next line.
    pub(crate) fn said(&mut self) -> u8 {
        let mut byte = [0];
        self.said.read_exact(&mut byte).unwrap();
        byte[0]
    }

    pub(crate) fn kill(&self) {
        self.process.signal(libc::SIGKILL).unwrap();
        self.process.join(LONG).unwrap();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.signal(libc::SIGKILL);
        let _ = self.process.join(LONG);
    }
}
