//! A directory of leases and a machine of fake devices, for one test.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use shoal::Timeout;
use shoal::device::Machine;

/// Removed when dropped.
pub(crate) struct Place(pub(crate) PathBuf);

impl Place {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("shoal-leases-test-{}-{number}", std::process::id());
        Self(PathBuf::from("/dev/shm").join(name))
    }

    /// A machine with these devices, whose leases are here.
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
