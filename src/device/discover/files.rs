//! Reading small files of the kernel, and names of PCI devices.

use std::fs;
use std::path::Path;

/// The most bytes that are read from a file.
const LONGEST: u64 = 64 << 10;
/// The most entries of a directory that are read.
const MOST: usize = 1 << 14;

/// The trimmed text of a file; `None` if it cannot be read.
pub(super) fn text(path: impl AsRef<Path>) -> Option<String> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let file = fs::File::open(path).ok()?;
    file.take(LONGEST).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).trim().to_owned())
}

/// A number, decimal or with `0x`.
pub(super) fn number(path: impl AsRef<Path>) -> Option<u64> {
    let text = text(path)?;
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

/// The names in a directory, in no order; none if it cannot be read.
pub(super) fn names(path: impl AsRef<Path>) -> Vec<String> {
    let entries = fs::read_dir(path).into_iter().flatten().take(MOST);
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect()
}

/// The names that are `prefix` and a number, with that number, in its order.
pub(super) fn numbered(path: impl AsRef<Path>, prefix: &str) -> Vec<(u32, String)> {
    let number = |name: String| Some((name.strip_prefix(prefix)?.parse().ok()?, name));
    let mut found: Vec<_> = names(path).into_iter().filter_map(number).collect();
    found.sort_unstable();
    found
}

/// The value of a line `KEY=value`, or `key value`, of a text.
pub(super) fn value<'a>(text: &'a str, key: &str, separator: char) -> Option<&'a str> {
    let pairs = text.lines().filter_map(|line| line.split_once(separator));
    let mut values = pairs.filter(|(it, _)| it.trim() == key);
    values.next().map(|(_, value)| value.trim())
}

/// A name that is a PCI address, `0000:3b:00.0`, in lower case.
pub(super) fn address(name: &str) -> Option<String> {
    let name = name.to_ascii_lowercase();
    let (domain, rest) = name.split_once(':')?;
    let (bus, rest) = rest.split_once(':')?;
    let (device, function) = rest.split_once('.')?;
    let is_hex = |it: &str, len: std::ops::RangeInclusive<usize>| {
        len.contains(&it.len()) && it.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let valid = is_hex(domain, 4..=8)
        && is_hex(bus, 2..=2)
        && is_hex(device, 2..=2)
        && is_hex(function, 1..=1);
    // The driver writes domains with 8 digits in some places and with 4 in others.
    let domain = u32::from_str_radix(domain, 16).ok().filter(|_| valid)?;
    Some(format!("{domain:04x}:{bus}:{device}.{function}"))
}
