//! AMD's devices from the topology of the kernel's compute driver (KFD), and from DRM.
//!
//! ```text
//! /sys/class/kfd/kfd/topology/nodes/<n>/properties     simd_count (0 for a processor), unique_id, domain,
//!                                                      location_id, drm_render_minor
//! /sys/class/kfd/kfd/topology/nodes/<n>/mem_banks/*/properties
//! /sys/class/drm/renderD<minor>/device/                mem_info_vram_total, mem_info_vram_used,
//!                                                      gpu_busy_percent, product_name
//! ```
//!
//! The order of the nodes is that of ROCr. The files ignore masks, and so do these functions. A container
//! that has the device files of only some devices sees only these.

use super::files;
use super::machine::{Found, Machine};
use crate::device::family::Family;

/// Kinds of memory banks that are the device's own memory, whether or not the processor can access it.
const DEVICE_MEMORY: [&str; 2] = ["1", "2"];

pub(super) fn find(machine: &Machine, family: &'static Family) -> Vec<Found> {
    let nodes = machine.sysfs.join("class/kfd/kfd/topology/nodes");
    let renders = files::numbered(machine.dev.join("dri"), "renderD");
    let mut found = Vec::new();
    for (_, node) in files::numbered(&nodes, "") {
        let node = nodes.join(node);
        let Some(facts) = files::text(node.join("properties")) else {
            continue;
        };
        let fact = |key| files::value(&facts, key, ' ').and_then(|it| it.parse::<u64>().ok());
        if fact("simd_count").unwrap_or(0) == 0 {
            continue;
        }
        let minor = fact("drm_render_minor").unwrap_or(0);
        let is_there = |(it, _): &(u32, String)| u64::from(*it) == minor;
        if !renders.is_empty() && !renders.iter().any(is_there) {
            continue;
        }
        let place = fact("location_id").unwrap_or(0);
        let (bus, slot, function) = (place >> 8 & 0xff, place >> 3 & 0x1f, place & 7);
        let domain = fact("domain").unwrap_or(0);
        let address = format!("{domain:04x}:{bus:02x}:{slot:02x}.{function}");
        let unique = fact("unique_id").filter(|&it| it != 0);
        let drm = machine
            .sysfs
            .join(format!("class/drm/renderD{minor}/device"));
        let total = files::number(drm.join("mem_info_vram_total")).or_else(|| banks(&node));
        let used = files::number(drm.join("mem_info_vram_used"));
        let name = files::text(drm.join("product_name")).filter(|it| !it.is_empty());
        let name = name.or_else(|| files::text(node.join("name")).filter(|it| !it.is_empty()));
        found.push(Found {
            family,
            id: unique.map_or(address, |it| format!("GPU-{it:016x}")),
            index: found.len() as u32,
            name: name.unwrap_or_else(|| "AMD".to_owned()),
            memory_total: total,
            memory_free: total
                .zip(used)
                .map(|(total, used)| total.saturating_sub(used)),
            utilisation: files::number(drm.join("gpu_busy_percent"))
                .and_then(|it| u8::try_from(it).ok())
                .filter(|it| *it <= 100),
        });
    }
    found
}

/// The memory of the device itself.
fn banks(node: &std::path::Path) -> Option<u64> {
    let banks = node.join("mem_banks");
    let mut total: Option<u64> = None;
    for (_, bank) in files::numbered(&banks, "") {
        let facts = files::text(banks.join(bank).join("properties")).unwrap_or_default();
        let kind = files::value(&facts, "heap_type", ' ').unwrap_or_default();
        if DEVICE_MEMORY.contains(&kind)
            && let Some(size) = files::value(&facts, "size_in_bytes", ' ')
            && let Ok(size) = size.parse::<u64>()
        {
            total = Some(total.unwrap_or(0).saturating_add(size));
        }
    }
    total
}
