//! Which devices this machine has, without a vendor's SDK.
//!
//! ```text
//! SHOAL_FAKE_DEVICES          fake.rs     instead of everything else, for tests
//! libnvidia-ml.so.1           nvml.rs     names, memory, load; in a thread, with a deadline
//! /proc/driver/nvidia         nvidia.rs   where that library is missing, broken or hangs
//! /sys/class/kfd, drm         amd.rs      AMD
//! /sys/class/drm, bus/pci     pci.rs      Intel, and the other families by the vendor's number
//! ```
//!
//! A device is identified by an id that does not change when other devices are added: a unique id if the
//! vendor has one, otherwise its bus address. Its index is only its place in the order of the vendor's
//! runtime.

mod amd;
mod fake;
mod files;
mod machine;
mod nvidia;
mod nvml;
mod pci;
mod seen;

use super::family::{FAMILIES, Family, Finder};
use crate::error::Result;
pub use machine::{Discovery, Found, Machine, parse_bytes};
pub(crate) use seen::through;
pub use seen::{Seen, seen};

impl Machine {
    /// The devices of one family, or of all. Ignores masks.
    ///
    /// Waits at most some seconds for a vendor's library.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`](crate::Error::NotFound): no such family.
    /// [`Error::Invalid`](crate::Error::Invalid): the fake devices, or a variable that says where to look, are
    /// malformed. A source that fails is not an error but a [note](Discovery::notes).
    pub fn discover(&self, family: Option<&str>) -> Result<Discovery> {
        if let Some(err) = &self.malformed {
            return Err(err.clone());
        }
        let wanted = family.map(super::environment::family).transpose()?;
        let mut found = Discovery::default();
        let each = FAMILIES.iter().filter(|it| match wanted {
            Some(wanted) => *it == hardware(wanted),
            None => *it == hardware(it),
        });
        let fake = self.fake.as_deref().map(fake::read).transpose()?;
        for family in each {
            match &fake {
                Some(fake) => {
                    let own = fake.iter().filter(|it| hardware(it.family) == family);
                    found.devices.extend(own.cloned());
                }
                None => self.find(family, &mut found),
            }
        }
        // The same devices, under the name that was asked for.
        for device in &mut found.devices {
            device.family = wanted.unwrap_or(device.family);
        }
        Ok(found)
    }

    fn find(&self, family: &'static Family, found: &mut Discovery) {
        let devices = match family.finder {
            Finder::Nvidia => self.nvidia(family, &mut found.notes),
            Finder::Amd => amd::find(self, family),
            Finder::Intel => pci::intel(self, family),
            Finder::Bus(chips) => pci::find(self, family, chips),
            Finder::Cores(chips) => pci::cores(self, family, chips),
        };
        found.devices.extend(devices);
    }

    fn nvidia(&self, family: &'static Family, notes: &mut Vec<String>) -> Vec<Found> {
        // Without the driver's files, its library cannot find any device.
        let is_there = self.procfs.join("driver/nvidia").exists()
            || self.dev.join("nvidiactl").exists()
            || self.dev.join("dxg").exists();
        if !is_there || self.nvml.as_os_str().is_empty() {
            return nvidia::find(self, family);
        }
        match nvml::find(&self.nvml, self.nvml_timeout, family) {
            Ok(devices) => devices,
            Err(why) => {
                notes.push(format!(
                    "memory and load of NVIDIA devices are not known: {why}"
                ));
                nvidia::find(self, family)
            }
        }
    }
}

/// The family of the hardware, for a family that is another name for it.
fn hardware(family: &'static Family) -> &'static Family {
    let mut all = FAMILIES.iter();
    all.find(|it| it.name() == family.hardware)
        .unwrap_or(family)
}

/// The devices of this machine: [`Machine::discover`] with [`Machine::from_environment`].
///
/// # Errors
///
/// As [`Machine::discover`].
pub fn discover(family: Option<&str>) -> Result<Discovery> {
    Machine::from_environment().discover(family)
}
