//! How large a queue may be, and the name of its dead-letter queue.

use crate::error::{Error, Result};
use crate::segment::{self, Options};
use crate::sys::limits;

use super::header;

/// Bytes of a queue's ring at first, unless the options give another capacity.
pub(super) const INITIAL: u64 = 64 << 10;
/// The default bound of a ring is this fraction (1 / `PART`) of the addresses that are left: 16 GiB of 2^47. A
/// pipe takes more than four times as much.
const PART: u64 = 1 << 13;
/// The address space of every supported machine has room for this.
const LARGEST_CAPACITY: u64 = 1 << 45;

/// The suffix of a dead-letter queue's name.
const DEAD: &str = ".dead";

/// The name of the dead-letter queue of `name`.
pub(super) fn dead_name(name: &str) -> String {
    format!("{name}{DEAD}")
}

/// Refuses a name that leaves no room for that of its dead letters.
pub(super) fn check_dead_name(name: &str) -> Result<()> {
    let longest = segment::LONGEST - DEAD.len();
    if name.len() <= longest {
        return Ok(());
    }
    let why = format!(
        "it has {} bytes; the limit with max_attempts is {longest}, since its dead letters are in a \
         queue of this name with {DEAD:?} behind it",
        name.len()
    );
    Err(Error::invalid("name", why))
}

/// A power of two.
fn default_max_capacity() -> u64 {
    1 << limits::growth(PART).max(header::MIN_CAPACITY).ilog2()
}

/// The first and the largest capacity of the ring, by the options. The default for the first is `initial`.
pub(crate) fn capacities(options: &Options, initial: u64) -> Result<(u64, u64)> {
    let round = |what: &'static str, bytes: u64| match bytes {
        0..=LARGEST_CAPACITY => Ok(bytes.max(header::MIN_CAPACITY).next_power_of_two()),
        _ => Err(Error::TooLarge {
            what,
            size: bytes,
            limit: LARGEST_CAPACITY,
        }),
    };
    let max = match (options.max_capacity, options.capacity) {
        (0, capacity) => round("capacity", capacity)?.max(default_max_capacity()),
        (max, _) => round("max_capacity", max)?,
    };
    let capacity = match options.capacity {
        0 => initial.min(max),
        capacity => round("capacity", capacity)?,
    };
    if capacity > max {
        let why = format!(
            "{} bytes is below the capacity of {capacity}",
            options.max_capacity
        );
        return Err(Error::invalid("max_capacity", why));
    }
    Ok((capacity, max))
}
