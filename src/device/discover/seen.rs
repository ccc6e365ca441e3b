//! The devices that a process sees: those of the machine, after its mask.

use super::machine::{Found, Machine};
use crate::device::family::Family;
use crate::device::mask::{Device, Mask};
use crate::error::{Error, Result};

/// A device that a process sees, and its number there.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Seen {
    /// The device.
    pub found: Found,
    /// Its number in the process, by which masks that the process requests name it.
    pub logical: u32,
}

/// The devices of a family that this process sees, in its order.
///
/// In CUDA's mask, an entry that names no device of the machine, such as an id of a removed device, ends the
/// list, and a device that is named twice empties it, as in [`Mask::ordinals`]. In the masks of other
/// families, such entries are skipped, and the others keep their numbers.
///
/// # Errors
///
/// As [`Machine::discover`] and [`visible`](crate::device::visible). [`Error::Unsupported`]: the mask has
/// tiles.
pub fn seen(machine: &Machine, family: &str) -> Result<Vec<Seen>> {
    let mask = crate::device::environment::visible(family)?;
    let devices = machine.discover(Some(family))?.devices;
    let family = crate::device::environment::family(family)?;
    read(family, devices, &mask, family.ends_at_unknown)
}

/// The devices among these that `mask` shows; they need not be all of the machine.
pub(crate) fn through(family: &Family, devices: Vec<Found>, mask: &Mask) -> Result<Vec<Seen>> {
    read(family, devices, mask, false)
}

/// `ends_at_unknown`: see the column of the family.
fn read(
    family: &Family,
    devices: Vec<Found>,
    mask: &Mask,
    ends_at_unknown: bool,
) -> Result<Vec<Seen>> {
    let Mask::List(list) = mask else {
        let all = devices.into_iter().map(|found| Seen {
            logical: found.index,
            found,
        });
        return Ok(all.collect());
    };
    let mut seen: Vec<Seen> = Vec::new();
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
        // An ambiguous prefix of an id names no device.
        let found = hits.next().filter(|_| hits.next().is_none());
        let is_there = |it: &Found| seen.iter().any(|seen| seen.found.id == it.id);
        match found {
            None if ends_at_unknown => break,
            Some(found) if is_there(found) && ends_at_unknown => return Ok(Vec::new()),
            Some(found) if !is_there(found) => seen.push(Seen {
                found: found.clone(),
                logical,
            }),
            _ => {}
        }
    }
    Ok(seen)
}
