//! Which process has which devices, for display.

use std::time::SystemTime;

use super::claim::{Claim, WHOLE, region};
use super::directory;
use crate::device::discover::{Found, Machine};
use crate::error::Result;

/// Whether a request has its devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HolderState {
    /// It has them.
    Held,
    /// It waits for them.
    Waiting,
}

/// A request that has devices or waits for them.
///
/// Its existence, its owner, its order and its devices are verified. Its pid and command are what its owner
/// states, and are not verified; control characters in them are replaced.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Holder {
    /// Its id, which begins with those of the leases that contain it.
    pub id: String,
    /// Whether it has its devices.
    pub state: HolderState,
    /// Its place in the order of all requests.
    pub ticket: u64,
    /// The ids of its devices, with its share of each: 1.0 for a whole device. For a waiting request, the
    /// devices that it could get, with 0.0.
    pub devices: Vec<(String, f64)>,
    /// How many devices it asks for, as its owner states.
    pub count: Option<usize>,
    /// The user whose process asked.
    pub uid: u32,
    /// The process that asked, in its own pid namespace. Other processes may have the lease by now.
    pub pid: Option<u32>,
    /// The program of that process.
    pub command: String,
    /// When it got its devices, or began to wait.
    pub since: Option<SystemTime>,
}

/// Every request on a machine, leases and waiting ones, in the order of arrival.
///
/// Does not wait. A request that is decided meanwhile may be shown as before or after.
///
/// # Errors
///
/// [`Error::Permission`](crate::Error::Permission) and [`Error::Invalid`](crate::Error::Invalid): the directory
/// of leases cannot be read. If there is none, no device is leased.
///
/// ```
/// use shoal::device::{Machine, lease};
///
/// for holder in lease::holders(&Machine::from_environment())? {
///     println!("{} has {:?}: {}", holder.uid, holder.devices, holder.command);
/// }
/// # Ok::<(), shoal::Error>(())
/// ```
pub fn holders(machine: &Machine) -> Result<Vec<Holder>> {
    if directory::open(&machine.leases, false)?.is_none() {
        return Ok(Vec::new());
    }
    holders_among(machine, &machine.discover(None).unwrap_or_default().devices)
}

/// As [`holders`], for a caller that knows the devices of the machine: no vendor's library is asked.
///
/// A device that is not among them is reported only if its holder's text names it.
///
/// # Errors
///
/// As [`holders`].
pub fn holders_among(machine: &Machine, found: &[Found]) -> Result<Vec<Holder>> {
    let Some(dir) = directory::open(&machine.leases, false)? else {
        return Ok(Vec::new());
    };
    let mut holders = Vec::new();
    for claim in Claim::all(&dir, false)? {
        let Ok(facts) = claim.facts() else { continue };
        let text = claim.text();
        let line = |name: &str| {
            let mut lines = text.lines().filter_map(|it| it.split_once(' '));
            lines.find(|(key, _)| *key == name).map(|(_, value)| value)
        };
        // The owner's text is checked against the locks.
        let said = line("devices").unwrap_or_default();
        let mut ids: Vec<&str> = said.split(',').filter(|it| !it.is_empty()).collect();
        for one in found {
            if !ids.iter().any(|it| it.eq_ignore_ascii_case(&one.id)) {
                ids.push(&one.id);
            }
        }
        let waiting = claim.is_waiting()?;
        let mut devices = Vec::new();
        for id in ids {
            let units = claim.units(region(id))?;
            if units > 0 {
                let share = if waiting {
                    0.0
                } else {
                    units as f64 / WHOLE as f64
                };
                devices.push((id.replace(char::is_control, " "), share));
            }
        }
        use std::os::unix::fs::MetadataExt;
        holders.push(Holder {
            id: claim.name.path.to_string(),
            state: if waiting {
                HolderState::Waiting
            } else {
                HolderState::Held
            },
            ticket: claim.name.ticket,
            devices,
            count: line("count").and_then(|it| it.parse().ok()),
            uid: facts.uid(),
            pid: line("pid").and_then(|it| it.parse().ok()),
            command: line("command")
                .unwrap_or_default()
                .replace(char::is_control, " "),
            since: facts.modified().ok(),
        });
    }
    Ok(holders)
}
