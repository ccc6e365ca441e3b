//! The devices that a process sees: those of the machine, through its mask.

use super::machine::{Found, Machine};
use crate::device::family::Family;
use crate::device::mask::{Device, Mask};
use crate::error::{Error, Result};

/// A device that a process sees, and what it is called there.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Seen {
    /// The device.
    pub found: Found,
    /// Its number in the process: what a mask that the process asks for counts in.
    pub logical: u32,
}

/// The devices of a family that this process sees, in its order.
///
/// Entries of its mask that name no device of the machine, such as an id that is gone, are left out;
/// the others keep their numbers.
///
/// # Errors
///
/// As [`Machine::discover`] and [`visible`](crate::device::visible). [`Error::Unsupported`]: the mask has
/// tiles.
pub fn seen(machine: &Machine, family: &str) -> Result<Vec<Seen>> {
    let mask = crate::device::environment::visible(family)?;
    let devices = machine.discover(Some(family))?.devices;
    through(crate::device::environment::family(family)?, devices, &mask)
}

/// What `mask` shows of these devices.
pub(crate) fn through(family: &Family, devices: Vec<Found>, mask: &Mask) -> Result<Vec<Seen>> {
    let Mask::List(list) = mask else {
        let all = devices.into_iter().map(|found| Seen {
            logical: found.index,
            found,
        });
        return Ok(all.collect());
    };
    let mut seen = Vec::new();
    for (logical, device) in (0u32..).zip(list) {
        let matches = |it: &&Found| match device {
            Device::Index(index) => it.index == *index,
            Device::Gpu(id) | Device::Mig(id) => it.is_named(id),
            Device::Tile { .. } => false,
        };
        if matches!(device, Device::Tile { .. }) {
            return Err(Error::unsupported(format!(
                "finding the device of \"{device}\" in {}: tiles are not discovered",
                family.variable()
            )));
        }
        let mut hits = devices.iter().filter(matches);
        // An ambiguous beginning of an id names no device.
        if let (Some(found), None) = (hits.next(), hits.next()) {
            seen.push(Seen {
                found: found.clone(),
                logical,
            });
        }
    }
    Ok(seen)
}
