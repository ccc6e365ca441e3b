//! How each runtime reads its own variable.
//!
//! These readers determine what a process *does* see, so they follow the runtime exactly, including what it
//! tolerates: a mask that CUDA silently truncates is truncated here too, at the same place. If a runtime's
//! reading is not documented, an unusual value is an error.

use super::mask::{Device, Mask, index, range};

/// The documented reading of a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reading {
    /// The first entry fixes the kind; integers are read like `strtoul`; the first invalid entry ends the
    /// list; a device named twice empties it.
    Cuda,
    /// Indices (decimal, octal or hexadecimal) and ids mix; spaces are trimmed; an entry that
    /// is neither, or one seen before, ends the list; empty shows nothing.
    Rocr,
    /// Indices in canonical decimal; anything else ends the list; one seen before is skipped;
    /// empty is the same as unset.
    Hip,
    /// Digits and commas; the first other character ends the list.
    Ascend,
    /// Digits only; anything else ends the list; a device named twice empties it.
    Mlu,
    /// What else the runtime tolerates is unknown: plain lists are read, anything else is an error.
    /// Empty shows nothing, and so does "-1".
    Plain,
    /// As `Plain`, but empty is the same as unset.
    PlainOrUnset,
}

impl Reading {
    /// What a process sees whose variable has this value; the error names the problem.
    pub(super) fn read(self, value: &str) -> Result<Mask, String> {
        let list = match self {
            Reading::Cuda => cuda(value),
            Reading::Rocr => rocr(value),
            Reading::Hip if value.is_empty() => return Ok(Mask::All),
            Reading::Hip => hip(value),
            Reading::Ascend => ascend(value),
            Reading::Mlu => mlu(value),
            Reading::PlainOrUnset if value.is_empty() => return Ok(Mask::All),
            // No runtime has a device -1: programs hide all devices so.
            Reading::Plain if value.is_empty() || value == "-1" => Vec::new(),
            Reading::Plain | Reading::PlainOrUnset => plain(value)?,
        };
        Ok(Mask::List(list))
    }
}

impl Mask {
    /// What CUDA shows a process whose `CUDA_VISIBLE_DEVICES` is this; `None` is unset.
    ///
    /// - Unset shows all, empty shows none.
    /// - The first entry fixes the kind: `GPU-` ids, `MIG-` ids, or else integers.
    /// - Integers are read as `strtoul` reads them: spaces before, a sign, digits, and
    ///   whatever follows is ignored, so `1gpu` is 1.
    /// - The first entry that is none of its kind, `-1` included, ends the list.
    /// - An entry that appears twice empties it.
    ///
    /// ```
    /// use shoal::device::Mask;
    ///
    /// assert_eq!(Mask::from_cuda(None), Mask::All);
    /// assert_eq!(Mask::from_cuda(Some("")), Mask::NONE);
    /// assert_eq!(Mask::from_cuda(Some("0,2,-1,1")).to_string(), "0,2");
    /// assert_eq!(Mask::from_cuda(Some("1gpu2, 2ampere")).to_string(), "1,2");
    /// assert_eq!(Mask::from_cuda(Some("GPU-1a,3,GPU-2b")).to_string(), "GPU-1a");
    /// assert_eq!(Mask::from_cuda(Some("1,1")), Mask::NONE);
    /// ```
    pub fn from_cuda(value: Option<&str>) -> Mask {
        value.map_or(Mask::All, |value| Mask::List(cuda(value)))
    }
}

fn cuda(value: &str) -> Vec<Device> {
    let read: fn(&str) -> Option<Device> = if value.starts_with("GPU-") {
        |s| s.starts_with("GPU-").then(|| Device::Gpu(s.to_owned()))
    } else if value.starts_with("MIG-") {
        |s| s.starts_with("MIG-").then(|| Device::Mig(s.to_owned()))
    } else {
        |s| strtoul(s).map(Device::Index)
    };
    let mut list = Vec::new();
    for token in value.split(',') {
        match read(token) {
            None => break,
            Some(device) if list.contains(&device) => return Vec::new(),
            Some(device) => list.push(device),
        }
    }
    list
}

/// The integer a text begins with, if it is one and not negative.
fn strtoul(s: &str) -> Option<u32> {
    let s = s.trim_matches(|c: char| c.is_ascii_whitespace() || c == '\x0b');
    let (negative, s) = match s.as_bytes().first() {
        Some(b'-') => (true, &s[1..]),
        Some(b'+') => (false, &s[1..]),
        _ => (false, s),
    };
    let end = s.find(|c: char| !c.is_ascii_digit()).unwrap_or(s.len());
    // A number beyond 32 bits names no device, and so ends the list as an invalid one does.
    let n: u32 = s[..end].parse().ok()?;
    (!negative || n == 0).then_some(n)
}

fn rocr(value: &str) -> Vec<Device> {
    let mut list = Vec::new();
    for token in value.split(',') {
        let token = token.trim().to_ascii_uppercase();
        let device = if token.starts_with('G') {
            // Ids have at most 16 digits after the prefix, and one digit at least.
            let id = token.strip_prefix("GPU-").unwrap_or("");
            Some(Device::Gpu(token.clone())).filter(|_| (1..=16).contains(&id.len()))
        } else {
            strtol_any_base(&token).map(Device::Index)
        };
        match device {
            Some(device) if !list.contains(&device) => list.push(device),
            _ => break,
        }
    }
    list
}

/// A whole token as an integer the way C writes them: `0x10`, `010` and `16`.
fn strtol_any_base(token: &str) -> Option<u32> {
    let digits = token.strip_prefix('+').unwrap_or(token);
    if digits.starts_with('+') {
        return None;
    }
    if let Some(hex) = digits.strip_prefix("0X") {
        return Some(hex)
            .filter(|h| !h.starts_with('+'))
            .and_then(|h| u32::from_str_radix(h, 16).ok());
    }
    let radix = if digits.len() > 1 && digits.starts_with('0') {
        8
    } else {
        10
    };
    u32::from_str_radix(digits, radix).ok()
}

fn hip(value: &str) -> Vec<Device> {
    let mut list = Vec::new();
    for token in value.split(',') {
        // Only the canonical form counts: no sign, no leading zero, nothing after it.
        let Some(i) = token.parse::<u32>().ok().filter(|i| i.to_string() == token) else {
            break;
        };
        if !list.contains(&Device::Index(i)) {
            list.push(Device::Index(i));
        }
    }
    list
}

fn ascend(value: &str) -> Vec<Device> {
    let end = value
        .find(|c: char| !c.is_ascii_digit() && c != ',')
        .unwrap_or(value.len());
    value[..end]
        .split(',')
        .map_while(|token| token.parse().ok().map(Device::Index))
        .collect()
}

fn mlu(value: &str) -> Vec<Device> {
    let mut list = Vec::new();
    for token in value.split(',') {
        match index(token.trim(), token).map(Device::Index) {
            Err(_) => break,
            Ok(device) if list.contains(&device) => return Vec::new(),
            Ok(device) => list.push(device),
        }
    }
    list
}

fn plain(value: &str) -> Result<Vec<Device>, String> {
    let mut list = Vec::new();
    for token in value.split(',') {
        if let Some((device, tile)) = token.split_once('.') {
            list.push(Device::Tile {
                device: index(device, token)?,
                tile: index(tile, token)?,
            });
        } else if let Some((first, last)) = token.split_once('-') {
            list.extend(range(first, last, token)?.map(Device::Index));
        } else {
            list.push(Device::Index(index(token, token)?));
        }
    }
    Ok(list)
}
