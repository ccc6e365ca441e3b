//! The other requests, read under the directory's lock, while no other process decides requests.

use super::choose::{Held, used};
use super::claim::{Claim, ClaimName, ClaimPath, WHOLE, region};
use super::directory::Guard;
use crate::error::Result;

/// All other requests that are alive.
pub(super) struct Survey {
    leases: Vec<Claim>,
    waiting: Vec<Claim>,
}

impl Survey {
    /// Reads all claims except `own`, and removes the files of dead ones.
    pub(super) fn new(guard: &Guard, own: Option<&ClaimName>) -> Result<Self> {
        let mut survey = Self {
            leases: Vec::new(),
            waiting: Vec::new(),
        };
        for claim in Claim::all(guard.dir(), true)? {
            if Some(&claim.name) == own {
                continue;
            }
            if claim.is_waiting()? {
                survey.waiting.push(claim);
            } else {
                survey.leases.push(claim);
            }
        }
        Ok(survey)
    }

    /// The ticket of a new request.
    pub(super) fn next_ticket(&self) -> u64 {
        let all = self.leases.iter().chain(&self.waiting);
        let last = all.map(|it| it.name.ticket).max();
        last.map_or(1, |it| it.saturating_add(1))
    }

    /// The lease from which the devices of these regions are taken: the innermost one among `inherited` and
    /// the leases that contain it that is still held and has one of them. The top level if there is none.
    pub(super) fn domain(&self, inherited: &ClaimPath, regions: &[u64]) -> Result<ClaimPath> {
        for depth in (1..=inherited.ids().len()).rev() {
            let path = inherited.prefix(depth);
            if let Some(lease) = self.leases.iter().find(|it| it.name.path == path) {
                for &region in regions {
                    if lease.units(region)? > 0 {
                        return Ok(path);
                    }
                }
            }
        }
        Ok(ClaimPath::top())
    }

    /// The units of a device in a domain, and how many of them are taken.
    pub(super) fn units(&self, domain: &ClaimPath, region: u64) -> Result<(u64, u64)> {
        let depth = domain.ids().len();
        let (mut there, mut held) = (if depth == 0 { WHOLE } else { 0 }, Vec::new());
        for lease in &self.leases {
            let path = &lease.name.path;
            if !path.ids().starts_with(domain.ids()) {
                continue;
            }
            let units = lease.units(region)?;
            if path == domain {
                there = units;
            } else if units > 0 {
                held.push(Held { path, units });
            }
        }
        Ok((there, used(&held, depth)))
    }

    /// The last of the requests that came before `own` and wait in the same domain for one of the same
    /// devices.
    pub(super) fn before(
        &self,
        own: Option<&ClaimName>,
        domain: &ClaimPath,
        regions: &[u64],
    ) -> Result<Option<&ClaimName>> {
        for other in self.waiting.iter().rev() {
            if own.is_some_and(|own| other.name > *own) || other.name.path.above() != domain.ids() {
                continue;
            }
            for &region in regions {
                if other.units(region)? > 0 {
                    return Ok(Some(&other.name));
                }
            }
        }
        Ok(None)
    }
}

/// The regions of devices by their ids.
pub(super) fn regions<'a>(ids: impl IntoIterator<Item = &'a str>) -> Vec<u64> {
    ids.into_iter().map(region).collect()
}
