//! Simulated devices, for tests and experiments.

use super::machine::{Found, parse_bytes};
use crate::device::family::{Family, Ids};
use crate::device::mask::MAX_INDEX;
use crate::error::{Error, Result};

/// The devices that `SHOAL_FAKE_DEVICES` describes.
pub(super) fn read(text: &str) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    match text.strip_prefix('@') {
        None => {
            for entry in text.split(',').filter(|entry| !entry.is_empty()) {
                several(entry, &mut found)?;
            }
        }
        Some(path) => {
            let lines = std::fs::read_to_string(path)
                .map_err(|err| refuse(text, format!("the file cannot be read: {err}")))?;
            for line in lines.lines() {
                let line = line.trim();
                if !line.is_empty() && !line.starts_with('#') {
                    one(line, &mut found)?;
                }
            }
        }
    }
    found.sort_by_key(|it| (it.family.name(), it.index));
    Ok(found)
}

fn refuse(text: &str, why: impl Into<String>) -> Error {
    Error::invalid(format!("SHOAL_FAKE_DEVICES ({text:?})"), why.into())
}

/// `cuda:4:24G:20G:15`
fn several(entry: &str, found: &mut Vec<Found>) -> Result<()> {
    let parts: Vec<&str> = entry.split(':').collect();
    let (name, count) = match parts[..] {
        [name, count, ..] if parts.len() <= 5 => (name, count),
        _ => {
            return Err(refuse(
                entry,
                "it is not family:count[:memory[:free[:load]]]",
            ));
        }
    };
    let family = family(entry, name)?;
    let count: u32 = count
        .parse()
        .ok()
        .filter(|&count| count <= MAX_INDEX)
        .ok_or_else(|| {
            refuse(
                entry,
                format!("{count:?} is no number of devices up to {MAX_INDEX}"),
            )
        })?;
    let known = |at: usize| {
        parts
            .get(at)
            .copied()
            .filter(|it| !it.is_empty() && *it != "-")
    };
    let total = known(2).map(|it| size(entry, it)).transpose()?;
    let free = known(3).map(|it| size(entry, it)).transpose()?.or(total);
    let load = known(4).map(|it| percent(entry, it)).transpose()?;
    let first = next_index(found, family);
    found.extend((first..first + count).map(|index| Found {
        family,
        id: id(family, index),
        index,
        name: format!("fake {name} device"),
        memory_total: total,
        memory_free: free,
        utilisation: load.or(Some(0)),
    }));
    Ok(())
}

/// `cuda GPU-1a2b 24G 20G 15 A name`
fn one(line: &str, found: &mut Vec<Found>) -> Result<()> {
    let mut fields = line.split_ascii_whitespace();
    let (Some(name), Some(id)) = (fields.next(), fields.next()) else {
        return Err(refuse(line, "a line has at least a family and an id"));
    };
    let family = family(line, name)?;
    let mut known = || fields.next().filter(|it| *it != "-");
    let total = known().map(|it| size(line, it)).transpose()?;
    let free = known().map(|it| size(line, it)).transpose()?;
    let load = known().map(|it| percent(line, it)).transpose()?;
    let name = fields.collect::<Vec<_>>().join(" ");
    found.push(Found {
        family,
        id: id.to_owned(),
        index: next_index(found, family),
        name,
        memory_total: total,
        memory_free: free,
        utilisation: load,
    });
    Ok(())
}

fn family(text: &str, name: &str) -> Result<&'static Family> {
    crate::device::environment::family(name).map_err(|err| refuse(text, err.to_string()))
}

fn size(text: &str, bytes: &str) -> Result<u64> {
    parse_bytes(bytes).map_err(|err| refuse(text, err.to_string()))
}

fn percent(text: &str, load: &str) -> Result<u8> {
    let load = load.trim_end_matches('%');
    let percent = load.parse().ok().filter(|&load: &u8| load <= 100);
    percent.ok_or_else(|| refuse(text, format!("a load of {load:?} is not within 0 and 100")))
}

fn next_index(found: &[Found], family: &Family) -> u32 {
    found.iter().filter(|it| it.family == family).count() as u32
}

/// An id in the form of the family's real ids.
fn id(family: &Family, index: u32) -> String {
    match family.ids {
        Ids::Unique => format!("GPU-fa4e{index:012x}"),
        Ids::Uuid => format!("GPU-fa4e0000-0000-4000-8000-{index:012x}"),
        Ids::Bus => format!("fa4e:{index:02x}:00.0"),
    }
}
