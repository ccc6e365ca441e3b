//! NVIDIA's devices from its kernel driver's files in `/proc`: used if the library is not available.
//!
//! ```text
//! /proc/driver/nvidia/gpus/0000:3b:00.0/information
//!     Model:           NVIDIA H100 80GB HBM3
//!     GPU UUID:        GPU-9221d5d1-b60b-a624-bf14-0a1819cfda3b
//!     Device Minor:    5
//!     GPU Excluded:    No
//! ```
//!
//! The order is that of the bus, as with `CUDA_DEVICE_ORDER=PCI_BUS_ID` and in `nvidia-smi`. A container has
//! only the device files of its own devices: others are left out.

use super::files;
use super::machine::{Found, Machine};
use crate::device::family::Family;

/// NVIDIA's number as a PCI vendor.
const VENDOR: u64 = 0x10de;
/// Of a PCI class: a display controller, and of that one for VGA and one for 3D.
const CLASSES: [u64; 2] = [0x0300, 0x0302];

/// Reads the devices from the driver's files.
pub(super) fn find(machine: &Machine, family: &'static Family) -> Vec<Found> {
    let gpus = machine.procfs.join("driver/nvidia/gpus");
    let mut addresses: Vec<(String, String)> = files::names(&gpus)
        .into_iter()
        .filter_map(|name| Some((files::address(&name)?, name)))
        .collect();
    addresses.sort_unstable();
    let nodes: Vec<u32> = files::numbered(&machine.dev, "nvidia")
        .into_iter()
        .map(|(minor, _)| minor)
        .collect();
    let mut found = Vec::new();
    for (address, name) in addresses {
        let facts = files::text(gpus.join(name).join("information")).unwrap_or_default();
        let fact = |key| files::value(&facts, key, ':');
        let excluded = fact("GPU Excluded").or(fact("Blacklisted")) == Some("Yes");
        let minor = fact("Device Minor").and_then(|it| it.parse().ok());
        let hidden = minor.is_some_and(|it| !nodes.is_empty() && !nodes.contains(&it));
        if excluded || hidden {
            continue;
        }
        // Until the device was used the driver writes question marks.
        let uuid = fact("GPU UUID").filter(|it| it.starts_with("GPU-") && !it.contains('?'));
        found.push(device(
            family,
            uuid.unwrap_or(&address),
            fact("Model"),
            found.len(),
        ));
    }
    if found.is_empty() && !nodes.is_empty() {
        found = on_bus(machine, family);
    }
    found
}

/// The devices on the PCI bus, if the driver shows only device files.
fn on_bus(machine: &Machine, family: &'static Family) -> Vec<Found> {
    let bus = machine.sysfs.join("bus/pci/devices");
    let mut addresses: Vec<String> = files::names(&bus)
        .into_iter()
        .filter(|name| {
            let fact = |what| files::number(bus.join(name).join(what));
            fact("vendor") == Some(VENDOR)
                && fact("class").is_some_and(|class| CLASSES.contains(&(class >> 8)))
        })
        .filter_map(|name| files::address(&name))
        .collect();
    addresses.sort_unstable();
    let each = addresses.iter().enumerate();
    each.map(|(index, address)| device(family, address, None, index))
        .collect()
}

fn device(family: &'static Family, id: &str, name: Option<&str>, index: usize) -> Found {
    Found {
        family,
        id: id.to_owned(),
        index: index as u32,
        name: name.unwrap_or("NVIDIA").to_owned(),
        memory_total: None,
        memory_free: None,
        utilisation: None,
    }
}
