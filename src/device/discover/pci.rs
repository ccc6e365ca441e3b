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
use crate::device::family::{Chips, Family};

/// Base classes of PCI: display controllers and processing accelerators.
const BASES: [u64; 2] = [0x03, 0x12];

/// The devices of a family with these chips.
pub(super) fn find(machine: &Machine, family: &'static Family, chips: Chips) -> Vec<Found> {
    numbered(family, on_bus(machine, family, chips))
}

/// The cores of the devices of a family with these chips.
pub(super) fn cores(machine: &Machine, family: &'static Family, chips: Chips) -> Vec<Found> {
    let root = machine.sysfs.join("devices/virtual/neuron_device");
    let devices = files::numbered(&root, "neuron");
    let mut found = Vec::new();
    for ((_, device), (address, name)) in devices.iter().zip(on_bus(machine, family, chips)) {
        for (core, _) in files::numbered(root.join(device), "neuron_core") {
            found.push((
                format!("{address}/core{core}"),
                format!("{name} core {core}"),
            ));
        }
    }
    numbered(family, found)
}

/// The addresses and names of devices.
fn on_bus(machine: &Machine, family: &Family, chips: Chips) -> Vec<(String, String)> {
    let bus = machine.sysfs.join("bus/pci/devices");
    let mut found: Vec<(String, u64)> = files::names(&bus)
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
    found.sort_unstable();
    let named = |(address, device)| (address, format!("{} {device:04x}", family.name()));
    found.into_iter().map(named).collect()
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
