//! What is asked for.

use std::str::FromStr;
use std::sync::OnceLock;

use super::claim::WHOLE;
use crate::device::discover::{self, Found, Machine, Seen, parse_bytes};
use crate::device::{self, Family};
use crate::error::{Error, Result};
use crate::sys::process;

/// How much of each device is leased.
///
/// ```
/// use shoal::device::lease::Share;
///
/// assert_eq!("1/4".parse::<Share>()?, Share::Slots { slots: 1, of: 4 });
/// assert_eq!("8G".parse::<Share>()?, Share::Memory(8 << 30));
/// assert_eq!("all".parse::<Share>()?, Share::Whole);
/// # Ok::<(), shoal::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Share {
    /// The whole device: no other lease has any part of it.
    #[default]
    Whole,
    /// Some of the slots into which the device is divided for this purpose: 1 of 4 is a quarter. Of a device
    /// of which this process itself has a share, the same part of that share.
    Slots {
        /// How many.
        slots: u32,
        /// Of how many; 65 536 at most.
        of: u32,
    },
    /// This many bytes of its memory. The size of the device's memory must be known.
    Memory(u64),
}

/// The largest number of slots of a device.
const MAX_SLOTS: u32 = 1 << 16;

impl FromStr for Share {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == "all" || text == "whole" {
            return Ok(Share::Whole);
        }
        let Some((slots, of)) = text.split_once('/') else {
            return parse_bytes(text).map(Share::Memory).map_err(|_| {
                let why =
                    "it is neither memory (8G; below 16777216T), nor slots (1/4), nor \"all\"";
                Error::invalid(format!("share {text:?}"), why)
            });
        };
        let number = |it: &str| it.parse().ok();
        match (number(slots), number(of)) {
            (Some(slots), Some(of)) => Ok(Share::Slots { slots, of }),
            _ => Err(Error::invalid(
                format!("share {text:?}"),
                format!("it is not so many slots of so many, such as 1/4, of {MAX_SLOTS} at most"),
            )),
        }
    }
}

/// A request for devices. Nothing happens before [`acquire`](Self::acquire) or [`queue`](Self::queue).
#[derive(Debug, Clone)]
pub struct Request {
    pub(super) count: usize,
    pub(super) family: Option<String>,
    pub(super) share: Share,
    pub(super) min_free: Option<u64>,
    pub(super) max_utilisation: Option<u8>,
    pub(super) order: Vec<String>,
    pub(super) command: Option<String>,
    pub(super) machine: Machine,
}

impl Request {
    /// Asks for `count` devices, each of them whole.
    pub fn new(count: usize) -> Self {
        Self {
            count,
            family: None,
            share: Share::Whole,
            min_free: None,
            max_utilisation: None,
            order: Vec::new(),
            command: None,
            machine: Machine::from_environment(),
        }
    }

    /// Sets the family. The default is the only family of which this process sees devices.
    #[must_use]
    pub fn family(mut self, name: impl Into<String>) -> Self {
        self.family = Some(name.into());
        self
    }

    /// Sets how much of each device is leased. The default is the whole.
    #[must_use]
    pub fn share(mut self, share: Share) -> Self {
        self.share = share;
        self
    }

    /// Requires devices with at least this much unused memory now, in bytes. If programs without a lease use
    /// it, the request waits for them too.
    #[must_use]
    pub fn min_free(mut self, bytes: u64) -> Self {
        self.min_free = Some(bytes);
        self
    }

    /// Requires devices that are busy for at most this percentage of the time.
    #[must_use]
    pub fn max_utilisation(mut self, percent: u8) -> Self {
        self.max_utilisation = Some(percent);
        self
    }

    /// Prefers these devices, in this order: numbers within what this process sees, or ids or prefixes of
    /// ids. Devices that are not named come last.
    #[must_use]
    pub fn order<S: Into<String>>(mut self, devices: impl IntoIterator<Item = S>) -> Self {
        self.order = devices.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the command that other users see for this holder; by default that of this process.
    #[must_use]
    pub fn command(mut self, command: impl Into<String>) -> Self {
        self.command = Some(command.into());
        self
    }

    /// Sets where to look for devices and leases.
    #[must_use]
    pub fn machine(mut self, machine: Machine) -> Self {
        self.machine = machine;
        self
    }

    /// An error for a request that no machine could satisfy.
    pub(super) fn check(&self) -> Result<()> {
        if self.count == 0 {
            return Err(Error::invalid(
                "number of devices",
                "it is 0: ask for one at least",
            ));
        }
        if let Share::Slots { slots, of } = self.share {
            let refuse = |why: String| Error::invalid(format!("share {slots}/{of}"), why);
            if !(1..=MAX_SLOTS).contains(&of) {
                return Err(refuse(format!(
                    "a device is divided into 1 to {MAX_SLOTS} slots"
                )));
            }
            if !(1..=of).contains(&slots) {
                return Err(refuse(format!("it is not 1 to {of} of the {of} slots")));
            }
        }
        if self.share == Share::Memory(0) {
            return Err(Error::invalid("share", "it is 0 bytes"));
        }
        if self.max_utilisation.is_some_and(|it| it > 100) {
            let why = "it is more than 100 percent";
            return Err(Error::invalid("max_utilisation", why));
        }
        Ok(())
    }

    /// The family that is meant.
    pub(super) fn which_family(&self) -> Result<&'static Family> {
        if let Some(name) = &self.family {
            return device::family(name);
        }
        let seen = self.families()?;
        match seen[..] {
            [family] => Ok(family),
            [] => Err(Error::NoDevice {
                family: "any family".to_owned(),
                why: "this machine has none".to_owned(),
            }),
            _ => {
                let why = format!("this machine has devices of {}: name one", names(&seen));
                Err(Error::invalid("family", why))
            }
        }
    }

    /// The families of which this machine has devices.
    fn families(&self) -> Result<Vec<&'static Family>> {
        let mut families = Vec::new();
        for found in self.machine.discover(None)?.devices {
            if !families.contains(&found.family) {
                families.push(found.family);
            }
        }
        Ok(families)
    }

    /// The devices that this process sees, the preferred ones first.
    pub(super) fn candidates(&self, family: &'static Family) -> Result<Vec<Seen>> {
        let mut seen = discover::seen(&self.machine, family.name())?;
        if seen.is_empty() {
            return Err(self.no_device(family)?);
        }
        let mut preferred = Vec::new();
        for entry in &self.order {
            let is_meant = |it: &Seen| match entry.parse::<u32>() {
                Ok(number) => it.logical == number,
                Err(_) => it.found.is_named(entry),
            };
            let Some(at) = seen.iter().position(is_meant) else {
                let again = preferred.iter().any(is_meant);
                return Err(if again {
                    Error::invalid("order of devices", format!("{entry:?} is there twice"))
                } else {
                    Error::NotFound {
                        what: "device that this process sees",
                        name: entry.clone(),
                    }
                });
            };
            preferred.push(seen.remove(at));
        }
        // Among the others, those that programs without a lease use come last.
        seen.sort_by_key(|it| it.found.is_busy());
        preferred.append(&mut seen);
        Ok(preferred)
    }

    /// Why this process sees no device of the family.
    fn no_device(&self, family: &'static Family) -> Result<Error> {
        let there = self.machine.discover(Some(family.name()))?.devices.len();
        let why = if there > 0 {
            let set = family.variables().filter_map(|variable| {
                device::process_variable(variable).map(|value| format!("{variable}={value:?}"))
            });
            let set: Vec<String> = set.collect();
            format!("{} hides all {there} of this machine", set.join(" with "))
        } else {
            match self.families()? {
                others if others.is_empty() => "this machine has none".to_owned(),
                others => format!("this machine has none, but devices of {}", names(&others)),
            }
        };
        Ok(Error::NoDevice {
            family: family.name().to_owned(),
            why,
        })
    }

    /// The units that are requested of a device of which this process has `there`; `None` if it can never
    /// have them.
    pub(super) fn units(&self, found: &Found, there: u64) -> Option<u64> {
        if self
            .min_free
            .is_some_and(|least| found.memory_total.is_none_or(|it| it < least))
        {
            return None;
        }
        let units = match self.share {
            Share::Whole => there,
            Share::Slots { slots, of } => there * u64::from(slots) / u64::from(of),
            Share::Memory(bytes) => {
                let total = u128::from(found.memory_total.filter(|&it| it >= bytes)?);
                (u128::from(bytes) * u128::from(WHOLE)).div_ceil(total) as u64
            }
        };
        (1..=there).contains(&units).then_some(units)
    }

    /// Whether programs without a lease leave enough of it now.
    pub(super) fn fits(&self, found: &Found) -> bool {
        let free = self
            .min_free
            .is_none_or(|least| found.memory_free.is_some_and(|it| it >= least));
        let limit = self.max_utilisation;
        free && limit.is_none_or(|most| found.utilisation.is_some_and(|it| it <= most))
    }

    /// Whether the request depends on the devices' memory or load, which change.
    pub(super) fn depends_on_time(&self) -> bool {
        self.min_free.is_some() || self.max_utilisation.is_some()
    }

    /// The error that says why this process can never get enough devices.
    pub(super) fn impossible(&self, seen: &[Seen], possible: usize) -> Error {
        if seen.len() < self.count {
            return Error::TooMany {
                what: "number of devices",
                count: self.count as u64,
                limit: seen.len() as u64,
            };
        }
        let most = seen.iter().filter_map(|it| it.found.memory_total).max();
        let demand = match (self.min_free, self.share) {
            (Some(bytes), _) => format!(" with {bytes} bytes of free memory"),
            (None, Share::Memory(bytes)) => format!(" with a share of {bytes} bytes"),
            _ => " with that share".to_owned(),
        };
        let memory = most.map_or("no device tells its memory".to_owned(), |it| {
            format!("the largest has {it} bytes of memory")
        });
        let why = format!(
            "only {possible} of the {} that this process sees can ever have that: {memory}; ask for \
             less",
            seen.len()
        );
        Error::invalid(format!("request for {} devices{demand}", self.count), why)
    }

    /// The description of the request and its devices, for people.
    pub(super) fn text(&self, family: &Family, devices: &[Seen]) -> String {
        let command = match &self.command {
            Some(command) => command.clone(),
            None => own_command().to_owned(),
        };
        let ids: Vec<&str> = devices.iter().map(|it| &*it.found.id).collect();
        format!(
            "pid {}\nfamily {}\ncount {}\ndevices {}\ncommand {}\n",
            process::pid(),
            family.name(),
            self.count,
            ids.join(","),
            command.replace(char::is_control, " ")
        )
    }
}

fn names(families: &[&'static Family]) -> String {
    let names: Vec<&str> = families.iter().map(|it| it.name()).collect();
    names.join(", ")
}

/// The command of this process. A forked child has the same one, and another program does not have this memory.
fn own_command() -> &'static str {
    static COMMAND: OnceLock<String> = OnceLock::new();
    COMMAND.get_or_init(|| process::command_line(process::pid()))
}
