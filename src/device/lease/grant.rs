//! A lease that was granted, and how it is given to children.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::str::FromStr;
use std::sync::Arc;

use super::claim::{INHERITED, WHOLE};
use super::held::OwnClaim;
use crate::device::discover::{Seen, through};
use crate::device::mask::{DeviceKind, Mask};
use crate::device::{self, EnvEdit, Family};
use crate::error::{Error, Result};
use crate::sys::fd::{duplicate, keep_on_exec};

/// The variable that tells a child which of the devices that it sees are its own.
const INDEX: &str = "SHOAL_DEVICE_INDEX";

/// Which devices the workers of a lease see.
///
/// In every mode, `SHOAL_DEVICE_INDEX` has the numbers of the worker's devices among those that it sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Its own devices and no others.
    #[default]
    Exclusive,
    /// All devices of the lease, its own ones first: for libraries that need to see their peers. If the
    /// family's runtime shows devices in ascending order only, they are in that order.
    Rotate,
    /// What this process sees: the mask is not changed, and only `SHOAL_DEVICE_INDEX` is set.
    IndexOnly,
}

impl FromStr for Mode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "exclusive" => Ok(Mode::Exclusive),
            "rotate" => Ok(Mode::Rotate),
            "index-only" => Ok(Mode::IndexOnly),
            _ => Err(Error::invalid(
                format!("mode of devices {text:?}"),
                "it is not exclusive, rotate or index-only",
            )),
        }
    }
}

/// A lease of devices, or of a share of them, that no other lease has.
///
/// It ends when the last process that has it ends or releases it: this one with the last clone of this value,
/// and each child that got it. A forked child has it only if it was [passed on](Self::pass_to_forks); a
/// program that this process executes itself only after [`keep_on_exec`](Self::keep_on_exec).
#[derive(Clone)]
pub struct Lease(Arc<Inner>);

struct Inner {
    family: &'static Family,
    own: OwnClaim,
    devices: Vec<Seen>,
    units: Vec<u64>,
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ids: Vec<&str> = self.devices().iter().map(|it| &*it.found.id).collect();
        f.debug_struct("Lease")
            .field("id", &self.id())
            .field("family", &self.0.family.name())
            .field("devices", &ids)
            .finish_non_exhaustive()
    }
}

impl Lease {
    pub(super) fn new(
        family: &'static Family,
        own: OwnClaim,
        devices: Vec<Seen>,
        units: Vec<u64>,
    ) -> Self {
        Self(Arc::new(Inner {
            family,
            own,
            devices,
            units,
        }))
    }

    /// Its devices, in the order of the request. Their memory and load are of that time.
    pub fn devices(&self) -> &[Seen] {
        &self.0.devices
    }

    /// Their family.
    pub fn family(&self) -> &'static Family {
        self.0.family
    }

    /// The part of each device that the lease has: 1.0 for whole devices.
    pub fn shares(&self) -> Vec<f64> {
        let share = |&units: &u64| units as f64 / WHOLE as f64;
        self.0.units.iter().map(share).collect()
    }

    /// Its name in the directory of leases and in `SHOAL_LEASE`, which begins with the names of the leases
    /// that contain it.
    pub fn id(&self) -> String {
        self.0.own.name.path.to_string()
    }

    /// Whether this process has it: it was not released, and this is not a forked child without it.
    pub fn is_held(&self) -> bool {
        self.0.own.with(|_| ()).is_some()
    }

    /// Releases it in this process, for all clones of this value. Children that got the lease keep it. Does
    /// not wait.
    pub fn release(&self) {
        self.0.own.release();
    }

    /// The devices as [`Spawn::devices`](crate::Spawn::devices) takes them: numbers within what this process
    /// sees, or ids if numbers would be ambiguous.
    pub fn mask(&self) -> String {
        let lookup = device::process_variable;
        let certain = self.check_order(Mode::Exclusive, &lookup);
        match certain.and_then(|()| self.numbered(&lookup)) {
            Ok(mut devices) => {
                self.arrange(&mut devices);
                self.text(&devices, &lookup)
            }
            // The mask of this process has changed since the lease was granted, or its numbers mean other
            // devices.
            Err(_) => joined(self.0.devices.iter().map(|it| it.found.id.clone())),
        }
    }

    /// The changes to the environment of worker number `worker` of `workers` that make it run under the
    /// lease.
    ///
    /// With as many workers as devices each has one; fewer workers have several each, and more workers
    /// share them in turn.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`]: there is no such worker; or the mask of this process has changed and does not
    /// show all devices of the lease any more; or `CUDA_DEVICE_ORDER` asks for an order in which the numbers of
    /// that mask mean unknown devices. [`Error::Unsupported`] as [`device::environment()`].
    pub fn environment(&self, mode: Mode, worker: usize, workers: usize) -> Result<Vec<EnvEdit>> {
        self.environment_in(mode, worker, workers, device::process_variable)
    }

    /// The same for a child with the environment that `lookup` returns.
    pub(crate) fn environment_in(
        &self,
        mode: Mode,
        worker: usize,
        workers: usize,
        lookup: impl Fn(&str) -> Option<String>,
    ) -> Result<Vec<EnvEdit>> {
        if worker >= workers {
            let why = format!("there are {workers}, counted from 0");
            return Err(Error::invalid(format!("worker {worker}"), why));
        }
        self.check_order(mode, &lookup)?;
        let mut devices = self.numbered(&lookup)?;
        let range = part(devices.len(), worker, workers);
        let own = devices[range.clone()].to_vec();
        let (mut edits, index) = match mode {
            Mode::Exclusive => self.shown(own.clone(), &own, &lookup)?,
            Mode::Rotate => {
                devices.rotate_left(range.start);
                self.shown(devices, &own, &lookup)?
            }
            Mode::IndexOnly => (Vec::new(), joined(own.iter().map(|it| it.logical))),
        };
        edits.push(EnvEdit::Set(INDEX.to_owned(), index));
        edits.push(EnvEdit::Set(INHERITED.to_owned(), self.id()));
        Ok(edits)
    }

    /// Sorts devices, if the family allows only ascending order.
    fn arrange(&self, devices: &mut [Seen]) {
        if self.0.family.is_ascending() {
            devices.sort_by_key(|it| it.logical);
        }
    }

    /// The edits that make a program see these devices, and the numbers that its own ones then have.
    fn shown(
        &self,
        mut devices: Vec<Seen>,
        own: &[Seen],
        lookup: &impl Fn(&str) -> Option<String>,
    ) -> Result<(Vec<EnvEdit>, String)> {
        self.arrange(&mut devices);
        let is_own = |it: &Seen| own.iter().any(|own| own.logical == it.logical);
        let numbers = (0u32..).zip(&devices).filter(|(_, it)| is_own(it));
        let index = joined(numbers.map(|(number, _)| number));
        let mask = self.text(&devices, lookup);
        Ok((self.masked(&mask, lookup)?, index))
    }

    /// An error if numbers mean other devices in the program than here: those of its existing mask, or those
    /// that it would get.
    fn check_order(&self, mode: Mode, lookup: &impl Fn(&str) -> Option<String>) -> Result<()> {
        let Some((variable, usual, order)) = self.other_order(lookup) else {
            return Ok(());
        };
        let is_certain = match self.0.family.inherited(lookup)? {
            Mask::All => mode != Mode::IndexOnly,
            Mask::List(list) => list.iter().all(|it| it.kind() != DeviceKind::Index),
        };
        if is_certain {
            return Ok(());
        }
        Err(Error::invalid(
            format!("{variable}={order}"),
            format!(
                "which devices the numbers in {} mean then is not known: set it to {usual}, or name \
                 the devices there by their ids",
                self.0.family.variable()
            ),
        ))
    }

    /// The variable that sets the order in which the program counts its devices, its usual value and the present
    /// one, if that is another.
    fn other_order(
        &self,
        lookup: &impl Fn(&str) -> Option<String>,
    ) -> Option<(&'static str, &'static str, String)> {
        let mut with = self.0.family.with.iter();
        with.find_map(|&(variable, usual)| {
            let order = lookup(variable).filter(|it| it != usual)?;
            Some((variable, usual, order))
        })
    }

    fn masked(&self, mask: &str, lookup: &impl Fn(&str) -> Option<String>) -> Result<Vec<EnvEdit>> {
        device::environment(self.0.family.name(), mask, lookup)
    }

    /// The devices with their numbers in an environment, whose mask may differ from that at the time of the
    /// lease.
    fn numbered(&self, lookup: &impl Fn(&str) -> Option<String>) -> Result<Vec<Seen>> {
        let family = self.0.family;
        let found = self.0.devices.iter().map(|it| it.found.clone());
        let seen = through(family, found.collect(), &family.inherited(lookup)?)?;
        let numbered = |device: &Seen| {
            let id = &device.found.id;
            let now = seen.iter().find(|it| it.found.id == *id).cloned();
            now.ok_or_else(|| {
                let why = format!("{} does not show it any more", family.variable());
                Error::invalid(format!("device {id} of a lease"), why)
            })
        };
        self.0.devices.iter().map(numbered).collect()
    }

    /// Devices in the terms of an environment.
    fn text(&self, devices: &[Seen], lookup: &impl Fn(&str) -> Option<String>) -> String {
        // If nothing is hidden, numbers are those of the driver's order. Partitions have no number, and a
        // program may have chosen another order.
        let by_id = |it: &Seen| it.found.id.starts_with("MIG-");
        let other_order = self.other_order(lookup).is_some();
        let all = self.0.family.inherited(lookup) == Ok(Mask::All);
        let entry = |it: &Seen| {
            if all && (other_order || by_id(it)) {
                it.found.id.clone()
            } else {
                it.logical.to_string()
            }
        };
        joined(devices.iter().map(entry))
    }

    /// Runs `act`; children that this thread forks meanwhile also have the lease.
    pub fn pass_to_forks<T>(&self, act: impl FnOnce() -> T) -> T {
        self.0.own.pass_to_forks(act)
    }

    /// [`pass_to_forks`](Self::pass_to_forks) in two calls, for other languages.
    pub(crate) fn set_passed_to_forks(&self, on: bool) {
        self.0.own.set_passed_on(on);
    }

    /// Keeps the lease when this process executes another program in its place.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`]: it was released.
    pub fn keep_on_exec(&self, keep: bool) -> Result<()> {
        let done = self.0.own.with(|fd| keep_on_exec(fd, keep));
        done.unwrap_or_else(|| Err(self.not_held()))
    }

    /// The number of its descriptor, which the library owns. A process that has a copy of it has the lease.
    /// Children that [`Spawn::lease`](crate::Spawn::lease) starts get one.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`]: it was released, or this is a forked child without it.
    pub fn fd(&self) -> Result<RawFd> {
        let fd = self.0.own.with(|fd| fd.as_raw_fd());
        fd.ok_or_else(|| self.not_held())
    }

    /// A copy of the descriptor, numbered `above` or higher. A process that has it has the lease.
    pub(crate) fn copy(&self, above: RawFd) -> Result<OwnedFd> {
        let copy = self.0.own.with(|fd| duplicate(fd.as_raw_fd(), above));
        let copy = copy.unwrap_or(Ok(None))?;
        copy.ok_or_else(|| self.not_held())
    }

    fn not_held(&self) -> Error {
        let why = "it was released, or this is a forked child that was not given it";
        Error::invalid(format!("lease {}", self.id()), why)
    }
}

/// As a list in an environment.
fn joined<T: ToString>(entries: impl Iterator<Item = T>) -> String {
    entries
        .map(|it| it.to_string())
        .collect::<Vec<_>>()
        .join(",")
}

/// The devices of one of several workers, spread as evenly as possible.
fn part(devices: usize, worker: usize, workers: usize) -> std::ops::Range<usize> {
    if workers >= devices {
        let one = worker % devices;
        return one..one + 1;
    }
    worker * devices / workers..(worker + 1) * devices / workers
}
