//! The role of an object's relay, which one process has at a time.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::error::{Error, Result};
use crate::layout::Owner;
use crate::segment::{Companion, Object, Options};
use crate::sync::crash::crash_point;
use crate::sync::{Acquisition, EndWaits, WaitPolicy, Waits};
use crate::sys::clock::Deadline;
use crate::sys::process;

use super::cached::Cached;
use super::options::{RelayInfo, RelayOptions};
use super::state::RelayState;

/// How long to wait for the role before checking whether the waits were ended.
const SLICE_NS: u64 = 100_000_000;

/// An object that can have a relay.
pub(crate) trait Relayed: Object {
    /// The relay's part of the header.
    fn relay_state(&self) -> &RelayState;

    /// The threads that wait through its handle.
    fn own_waits(&self) -> &Waits;

    /// Whether a living process has the role.
    fn has_running_relay(&self) -> Result<bool> {
        let role = &self.relay_state().role;
        role.owner_lives(self.segment().peers())
    }

    /// Whether the object has a relay, which may not run.
    fn is_relayed(&self) -> bool;

    /// The id of its companions; 0 for none.
    fn family(&self) -> Result<u64> {
        Ok(self.segment().family()?.load(Ordering::Acquire))
    }

    /// Whether this companion belongs to another relay than the one that the object has now. That relay was
    /// removed, and its companions were closed, even if the object is relayed again.
    fn is_outdated(&self, companion: &impl Object) -> bool {
        let family = companion.segment().family();
        family.map(|it| it.load(Ordering::Acquire)) != self.family()
    }

    /// The companion `which`, for a process other than the relay: from `cached`, or from `open`, which gets
    /// its family and its name. If the `waits` through the object's handle are ended, those through the
    /// companion are too. `None` if `is_relayed` says that the object has no relay any more, or if it has got
    /// another one meanwhile.
    fn companion<'a, C: EndWaits>(
        &self,
        which: Companion,
        cached: &'a Cached<C>,
        waits: &Waits,
        is_relayed: impl Fn() -> bool,
        open: impl FnOnce(u64, &str) -> Result<C>,
    ) -> Result<Option<&'a C>> {
        if !is_relayed() {
            return Ok(None);
        }
        let family = self.family()?;
        if family == 0 {
            // The mark is cleared before the family, and set after it.
            return match is_relayed() && self.family()? == 0 {
                true => Err(Error::corrupt("an object with a relay has no companions")),
                false => Ok(None),
            };
        }
        let name = which.name(self.segment().name());
        let is_over = || Ok::<_, Error>(!is_relayed() || self.family()? != family);
        match cached.get(family, || open(family, &name)) {
            // It was removed together with its relay. There may be another relay by now, with companions that
            // have the same names: the caller begins again.
            Err(Error::NotFound { .. } | Error::Exists { .. }) if is_over()? => Ok(None),
            // The object's name was removed, and its companions with it. Another object may have these names
            // now.
            Err(Error::NotFound { .. } | Error::Exists { .. }) => Err(Error::NotFound {
                what: "companion of this relay",
                name,
            }),
            found => found.map(|companion| {
                // After the companion is in `cached`, not in `open`: if the waits are ended meanwhile, either
                // this sees it, or the thread that ends them finds the companion in `cached`.
                waits.share_with(companion);
                Some(companion)
            }),
        }
    }
}

impl RelayInfo {
    pub(crate) fn of(object: &impl Relayed, requests: u64, settlements: u64) -> Result<Self> {
        Ok(Self {
            is_running: object.has_running_relay()?,
            requests,
            settlements,
        })
    }
}

/// The role, held until dropped.
pub(crate) struct Role<T: Relayed> {
    object: Arc<T>,
    owner: Owner,
    took_over: bool,
}

impl<T: Relayed> Role<T> {
    /// Waits until `deadline` for the role of the relay of `object`. `noun` is the kind of object, for
    /// messages.
    ///
    /// # Errors
    /// `Timeout`, `Interrupted`; `Detached` if the waits through its handle are ended; `Invalid` for an object
    /// that cannot have a relay.
    pub(crate) fn take(object: Arc<T>, noun: &'static str, deadline: Deadline) -> Result<Self> {
        let segment = object.segment();
        if segment.is_companion() {
            let why = format!("{:?} is the companion of another object", segment.name());
            return Err(Error::invalid(noun, why));
        }
        super::check_name(segment.name())?;
        let policy = WaitPolicy::default();
        let role = &object.relay_state().role;
        let taken = loop {
            let slice = match deadline {
                Deadline::Now => deadline,
                _ => Deadline::At(deadline.slice(SLICE_NS)),
            };
            match role.acquire(segment.peers(), &policy, slice) {
                Err(Error::Timeout) if !deadline.passed() => object.own_waits().check()?,
                taken => break taken?,
            }
        };
        let owner = segment.owner();
        Ok(Self {
            object,
            owner,
            took_over: taken == Acquisition::OwnerDied,
        })
    }

    pub(crate) fn object(&self) -> &Arc<T> {
        &self.object
    }

    /// Whether the process that had the role before died with it.
    pub(crate) fn took_over(&self) -> bool {
        self.took_over
    }

    /// An error in a child of the process that took the role.
    pub(crate) fn check(&self) -> Result<()> {
        if self.object.segment().owner() == self.owner {
            return Ok(());
        }
        let why = "the role belongs to the process that attached, and not to a fork of that";
        Err(Error::invalid("relay", why))
    }

    /// Whether the object has companions and is not relayed: a relay before this one was killed while it attached,
    /// or was not completely removed.
    pub(crate) fn is_unfinished(&self) -> Result<bool> {
        Ok(!self.object.is_relayed() && self.object.family()? != 0)
    }

    /// The id of the object's companions. Chooses one if there are no companions yet.
    pub(crate) fn make_family(&self) -> Result<u64> {
        match self.object.family()? {
            0 => self.new_family(),
            family => Ok(family),
        }
    }

    /// Chooses the id of companions that are to be created.
    fn new_family(&self) -> Result<u64> {
        let [random] = process::random();
        let family = random.max(1);
        let word = self.object.segment().family()?;
        word.store(family, Ordering::Release);
        crash_point!();
        Ok(family)
    }

    /// Calls `open`, which opens or creates `companions`. If one companion of a relayed object has lost its name,
    /// all are replaced. If `open` fails and the object had no companions before, removes those that `open` has
    /// created: otherwise the object would stay because of them, without a relay.
    ///
    /// The object is not relayed in that case, so there is no request in them. A kill before the family is
    /// forgotten leaves the same as a kill while attaching.
    pub(crate) fn open_companions<C>(
        &self,
        companions: &[Companion],
        is_relayed: bool,
        open: impl FnOnce() -> Result<C>,
    ) -> Result<C> {
        if is_relayed {
            self.replace_lost(companions)?;
        }
        let is_first = self.object.family()? == 0;
        let opened = open();
        if opened.is_err() && is_first && self.object.segment().remove_companions().is_ok() {
            crash_point!();
            self.forget_family()?;
        }
        opened
    }

    /// Prepares new companions for a relayed object if one of these has lost its name. What is left in the others
    /// is lost with it.
    ///
    /// A program keeps its handle on a companion until the object has another family. With the same family it would
    /// go on to use the lost one, which no relay reads.
    ///
    /// Killed before the new family: companions are missing, and the next relay does the same. Killed after it: no
    /// companion of the new family exists, and the next relay does the same.
    fn replace_lost(&self, companions: &[Companion]) -> Result<()> {
        if self.object.segment().remove_if_lost(companions)? {
            crash_point!();
            self.new_family()?;
        }
        Ok(())
    }

    /// Notes that the companions are removed.
    pub(crate) fn forget_family(&self) -> Result<()> {
        self.object.segment().family()?.store(0, Ordering::Release);
        crash_point!();
        Ok(())
    }

    /// Stores the options that each relay sets.
    pub(crate) fn set_options(&self, options: &RelayOptions) {
        let state = self.object.relay_state();
        let wait = u64::try_from(options.wait.as_nanos()).unwrap_or(u64::MAX);
        state.wait_ns.store(wait, Ordering::Relaxed);
        state
            .max_payload
            .store(options.max_payload, Ordering::Relaxed);
        state
            .sets_wait
            .store(options.sets_wait.into(), Ordering::Relaxed);
    }

    /// The companion `which`, from `open`, which gets its name, its family and its options. One that a
    /// removed object left behind, according to `is_abandoned`, is replaced.
    pub(crate) fn open_companion<C>(
        &self,
        which: Companion,
        options: &Options,
        open: impl Fn(&str, u64, &Options) -> Result<C>,
        is_abandoned: impl FnOnce(&str) -> Result<bool>,
    ) -> Result<C> {
        let name = which.name(self.object.segment().name());
        let family = self.make_family()?;
        let options = Options {
            create: true,
            persistent: true,
            ..options.clone()
        };
        let opened = match open(&name, family, &options) {
            Err(Error::Exists { .. }) if is_abandoned(&name)? => {
                crate::segment::unlink(&name)?;
                open(&name, family, &options)
            }
            opened => opened,
        };
        crash_point!();
        opened
    }
}

impl<T: Relayed> Drop for Role<T> {
    fn drop(&mut self) {
        // In a forked child, the role is the parent's.
        if self.check().is_ok() {
            let role = &self.object.relay_state().role;
            let _ = role.release(self.object.segment().me());
        }
    }
}
