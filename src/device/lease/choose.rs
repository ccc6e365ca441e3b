//! The choice of devices for a request: pure functions of the current leases.

use super::claim::ClaimPath;

/// A lease's share of one device.
pub(super) struct Held<'a> {
    pub(super) path: &'a ClaimPath,
    pub(super) units: u64,
}

/// The units of a device that are taken within one lease, whose path has `depth` ids and is a prefix of all
/// these paths.
///
/// A nested lease is not counted in addition to the lease that contains it. If the containing lease has
/// ended, with its last holder, its nested leases that are still held count.
pub(super) fn used(held: &[Held<'_>], depth: usize) -> u64 {
    let mut total = 0;
    let mut seen: Vec<&str> = Vec::new();
    for one in held {
        let Some(id) = one.path.ids().get(depth) else {
            continue;
        };
        if seen.contains(&id.as_str()) {
            continue;
        }
        seen.push(id);
        let ids = |it: &Held<'_>| it.path.ids().get(depth) == Some(id);
        let itself = held
            .iter()
            .find(|it| ids(it) && it.path.ids().len() == depth + 1);
        total += match itself {
            Some(lease) => lease.units,
            None => {
                let below = held.iter().filter(|it| ids(it));
                let below: Vec<_> = below
                    .map(|it| Held {
                        path: it.path,
                        units: it.units,
                    })
                    .collect();
                used(&below, depth + 1)
            }
        };
    }
    total
}

/// A device that a request could get.
#[derive(Debug, Clone, Copy)]
pub(super) struct Offer {
    /// Its place in the request's order.
    pub(super) index: usize,
    /// The units that are not taken.
    pub(super) free: u64,
    /// The units that the request wants of it.
    pub(super) wanted: u64,
    /// Whether programs without a lease leave enough of it.
    pub(super) fit: bool,
}

/// The first `count` available devices; `None` if there are fewer.
pub(super) fn choose(offers: &[Offer], count: usize) -> Option<Vec<Offer>> {
    let free = offers.iter().filter(|it| it.fit && it.wanted <= it.free);
    let chosen: Vec<Offer> = free.take(count).copied().collect();
    (chosen.len() == count).then_some(chosen)
}
