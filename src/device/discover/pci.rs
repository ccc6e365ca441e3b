//! Intel's devices, and those of the other families by their vendor's number on the PCI bus.
//!
//! ```text
//! /sys/class/drm/card<n>/device/uevent          DRIVER=xe  PCI_SLOT_NAME=0000:03:00.0
//! /sys/class/drm/card<n>/device/tile<t>/physical_vram_size_bytes
//! /sys/bus/pci/devices/<address>/               vendor, device, class
//! /sys/devices/virtual/neuron_device/neuron<n>/neuron_core<m>
//! ```
//!
//! They are numbered in the order of the bus. If a vendor's runtime counts in another order, a number means
//! another address there; but no two leases ever get the same number.

use super::files;
use super::machine::{Found, Machine};
use crate::device::family::Family;

/// How to recognise a family's devices on the bus.
struct Chips {
    family: &'static str,
    vendor: u64,
    /// Its device ids; empty for all accelerators and display controllers of the vendor.
    devices: &'static [u64],
}

/// Base classes of PCI: display controllers and processing accelerators.
const BASES: [u64; 2] = [0x03, 0x12];

/// Vendors by the public list of PCI ids. Google and Amazon have network and disk controllers as well, so
/// that their accelerators are listed.
const CHIPS: [Chips; 10] = [
    all("ascend", 0x19e5),
    Chips {
        family: "neuron",
        vendor: 0x1d0f,
        devices: &[0x7064, 0x7164, 0x7264, 0x7364],
    },
    Chips {
        family: "tpu",
        vendor: 0x1ae0,
        devices: &[0x0027, 0x0056, 0x005e, 0x0062, 0x0063, 0x006f],
    },
    all("habana", 0x1da3),
    all("mlu", 0xcabc),
    all("musa", 0x1ed5),
    all("supa", 0x1ee0),
    all("tenstorrent", 0x1e52),
    all("furiosa", 0x1ed2),
    all("metax", 0x9999),
];

const fn all(family: &'static str, vendor: u64) -> Chips {
    Chips {
        family,
        vendor,
        devices: &[],
    }
}

/// The devices of a family that is known by its vendor's number; none for other families.
pub(super) fn find(machine: &Machine, family: &'static Family) -> Vec<Found> {
    let Some(chips) = CHIPS.iter().find(|it| it.family == family.name()) else {
        return Vec::new();
    };
    let bus = machine.sysfs.join("bus/pci/devices");
    let mut chips: Vec<(String, u64)> = files::names(&bus)
        .into_iter()
        .filter_map(|name| {
            let fact = |what| files::number(bus.join(&name).join(what));
            let (vendor, device, class) = (fact("vendor")?, fact("device")?, fact("class")?);
            let meant = match chips.devices {
                [] => BASES.contains(&(class >> 16)),
                listed => listed.contains(&device),
            };
            (meant && vendor == chips.vendor).then_some((files::address(&name)?, device))
        })
        .collect();
    chips.sort_unstable();
    let found = chips.iter().map(|(address, device)| {
        let name = format!("{} {device:04x}", family.name());
        (address.clone(), name)
    });
    let found: Vec<_> = found.collect();
    if family.name() == "neuron" {
        return numbered(family, cores(machine, &found));
    }
    numbered(family, found)
}

/// The runtime of this family counts cores and not devices.
fn cores(machine: &Machine, chips: &[(String, String)]) -> Vec<(String, String)> {
    let root = machine.sysfs.join("devices/virtual/neuron_device");
    let devices = files::numbered(&root, "neuron");
    let mut found = Vec::new();
    for ((_, device), (address, name)) in devices.iter().zip(chips) {
        for (core, _) in files::numbered(root.join(device), "neuron_core") {
            found.push((
                format!("{address}/core{core}"),
                format!("{name} core {core}"),
            ));
        }
    }
    found
}

/// Intel's devices, which have a driver of DRM.
pub(super) fn intel(machine: &Machine, family: &'static Family) -> Vec<Found> {
    let drm = machine.sysfs.join("class/drm");
    let mut found = Vec::new();
    for (_, card) in files::numbered(&drm, "card") {
        let device = drm.join(card).join("device");
        let facts = files::text(device.join("uevent")).unwrap_or_default();
        let driver = files::value(&facts, "DRIVER", '=').unwrap_or_default();
        let address = files::value(&facts, "PCI_SLOT_NAME", '=').and_then(files::address);
        if let (Some(address), "i915" | "xe") = (address, driver) {
            let name = files::value(&facts, "PCI_ID", '=').unwrap_or("?");
            let tiles = files::numbered(&device, "tile").into_iter();
            let memory = tiles.filter_map(|(_, tile)| {
                files::number(device.join(tile).join("physical_vram_size_bytes"))
            });
            let total = memory.fold(0u64, u64::saturating_add);
            found.push((address, format!("Intel {name} ({driver})"), total));
        }
    }
    found.sort_unstable();
    let names = found
        .iter()
        .map(|(address, name, _)| (address.clone(), name.clone()));
    let mut devices = numbered(family, names.collect());
    for (device, (_, _, total)) in devices.iter_mut().zip(found) {
        device.memory_total = Some(total).filter(|&it| it > 0);
    }
    devices
}

fn numbered(family: &'static Family, found: Vec<(String, String)>) -> Vec<Found> {
    let each = found.into_iter().zip(0u32..);
    each.map(|((id, name), index)| Found {
        family,
        id,
        index,
        name,
        memory_total: None,
        memory_free: None,
        utilisation: None,
    })
    .collect()
}
