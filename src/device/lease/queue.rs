//! A place in the queue, and waiting in it.
//!
//! A request that cannot be served records its ticket and the devices that it could get (`claim.rs`). It then
//! watches one file: that of the last request before it that could get one of the same devices. Only the
//! first of a queue watches the directory, for a lease that ends. So the end of a lease wakes at most two
//! processes, however many wait. The kernel reports a closed file just before it drops its locks, and reports
//! nothing if the user has as many watches as the limit allows. So sleeps have slices, which are short after an
//! event.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError, TryLockError};
use std::time::Duration;

use super::choose::{Offer, choose};
use super::claim::{self, Claim, ClaimName, ClaimPath, region};
use super::directory::{self, Guard};
use super::grant::Lease;
use super::held::{self, OwnClaim};
use super::request::Request;
use super::survey::{Survey, regions};
use crate::device::Family;
use crate::device::discover::Seen;
use crate::error::{Error, Result};
use crate::sys::clock::{Deadline, IntoTimeout, Timeout, now_ns};
use crate::sys::inotify::Closes;
use crate::sys::poll::{Signal, readable};

/// The shortest and the longest sleep between two attempts.
const SOON: Duration = Duration::from_millis(1);
const LATER: Duration = Duration::from_millis(100);
/// How old readings of memory and load may be.
const FRESH: Duration = Duration::from_millis(500);

impl Request {
    /// Gets the devices, all at once, waiting until `timeout`.
    ///
    /// Requests for the same devices are served in the order of arrival. One that does not wait (a timeout of
    /// 0) gets devices only if no other request waits for them.
    ///
    /// # Errors
    ///
    /// - [`Error::Timeout`]: the devices were not available in time.
    /// - [`Error::Invalid`]: an argument is wrong; `min_free` or the share is more than a device has, or its
    ///   size is unknown; the mask of this process cannot be read.
    /// - [`Error::TooMany`]: this process does not see that many devices.
    /// - [`Error::NoDevice`]: this process sees no device of the family.
    /// - [`Error::NotFound`]: no such family, or a device of `order` is not there.
    /// - [`Error::Permission`], [`Error::Unsupported`], [`Error::NoSpace`]: the directory of leases
    ///   cannot be used; the text says why.
    /// - [`Error::Interrupted`]: a signal handler ran. The place in the queue is lost; a [`Ticket`]
    ///   keeps it.
    pub fn acquire(&self, timeout: impl IntoTimeout) -> Result<Lease> {
        let timeout = timeout.into_timeout();
        if matches!(timeout, Timeout::Val(Duration::ZERO)) {
            return Ticket::at_once(self);
        }
        self.queue()?.wait(timeout)
    }

    /// Takes a place in the queue. [`Ticket::wait`] returns the lease.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire), except for those of waiting.
    pub fn queue(&self) -> Result<Ticket> {
        Ticket::new(self)
    }
}

/// A request that has a place in the queue.
///
/// The place is kept between calls of [`wait`](Self::wait), so a program can wait in slices. Dropping the
/// ticket gives up the place. A forked child does not have it.
///
/// ```
/// use shoal::Timeout;
/// use shoal::device::{Machine, lease::Request};
///
/// # let place = std::env::temp_dir().join(format!("doc-ticket-{}", std::process::id()));
/// let mut machine = Machine::from_environment();
/// # machine.leases = place.clone();
/// machine.fake = Some("cuda:1".to_owned());
/// let first = Request::new(1).machine(machine.clone()).acquire(Timeout::Infinite)?;
/// let second = Request::new(1).machine(machine).queue()?;
/// assert_eq!(second.wait(Timeout::Val(std::time::Duration::ZERO)).unwrap_err(), shoal::Error::Timeout);
/// first.release();
/// let second = second.wait(Timeout::Infinite)?;
/// # drop(second);
/// # std::fs::remove_dir_all(&place).unwrap();
/// # Ok::<(), shoal::Error>(())
/// ```
pub struct Ticket {
    request: Request,
    family: &'static Family,
    inherited: ClaimPath,
    state: Mutex<State>,
    /// The process that has the place: another thread of it may have `state` at a fork.
    creator: u32,
    cancelled: AtomicBool,
    /// Wakes the thread that waits, to be cancelled.
    wake: OnceLock<Signal>,
}

struct State {
    seen: Vec<Seen>,
    /// When that was, by `now_ns`.
    seen_at: u64,
    /// The claim, once it waits.
    waiting: Option<Waiting>,
    /// Devices that were free at once.
    granted: Option<Lease>,
    /// The devices were handed out.
    done: bool,
}

struct Waiting {
    own: OwnClaim,
    /// The devices that it could get.
    regions: Vec<u64>,
    domain: ClaimPath,
    /// The request that is watched.
    behind: Option<ClaimName>,
}

/// The result of an attempt.
enum Outcome {
    Granted(Lease),
    Wait,
}

impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ticket")
            .field("count", &self.request.count)
            .field("family", &self.family.name())
            .finish_non_exhaustive()
    }
}

impl Ticket {
    /// Takes the devices if they are free, or else a place in the queue.
    pub(super) fn new(request: &Request) -> Result<Self> {
        let ticket = Self::unplaced(request)?;
        let mut state = ticket.lock();
        if let Outcome::Granted(lease) = ticket.attempt(&mut state, Deadline::Never, true)? {
            state.granted = Some(lease);
        }
        drop(state);
        Ok(ticket)
    }

    /// One attempt, without a place in the queue.
    pub(super) fn at_once(request: &Request) -> Result<Lease> {
        let ticket = Self::unplaced(request)?;
        let mut state = ticket.lock();
        match ticket.attempt(&mut state, Deadline::Now, false)? {
            Outcome::Granted(lease) => Ok(lease),
            Outcome::Wait => Err(Error::Timeout),
        }
    }

    fn unplaced(request: &Request) -> Result<Self> {
        request.check()?;
        held::prepare()?;
        let family = request.which_family()?;
        let ticket = Self {
            request: request.clone(),
            family,
            inherited: ClaimPath::inherited()?,
            state: Mutex::new(State {
                seen: Vec::new(),
                seen_at: 0,
                waiting: None,
                granted: None,
                done: false,
            }),
            creator: std::process::id(),
            cancelled: AtomicBool::new(false),
            wake: OnceLock::new(),
        };
        ticket.refresh(&mut ticket.lock())?;
        Ok(ticket)
    }

    /// Waits for the devices until `timeout`. After an error, the place in the queue is kept.
    ///
    /// # Errors
    ///
    /// - [`Error::Timeout`]: the devices were not available in time.
    /// - [`Error::Detached`]: [`cancel`](Self::cancel) was called.
    /// - [`Error::Interrupted`]: a signal handler ran.
    /// - [`Error::Invalid`]: the lease was handed out before, or this is a forked child.
    /// - [`Error::TooMany`], [`Error::NoDevice`], [`Error::NotFound`]: requested devices have disappeared
    ///   meanwhile.
    pub fn wait(&self, timeout: impl IntoTimeout) -> Result<Lease> {
        self.wait_then(timeout.into_timeout(), |lease| lease)
    }

    /// Whether this is the process that has the place.
    pub(crate) fn is_ours(&self) -> bool {
        self.creator == std::process::id()
    }

    /// The same. Calls `hand_out` before another thread can see that the lease was handed out.
    pub(crate) fn wait_then<T>(
        &self,
        timeout: Timeout,
        hand_out: impl FnOnce(Lease) -> T,
    ) -> Result<T> {
        if !self.is_ours() {
            let why = "a forked child does not have its parent's place in the queue";
            return Err(Error::invalid("ticket of a lease", why));
        }
        let deadline = Deadline::after(timeout);
        let mut state = loop {
            // Another waiting thread may hold the lock for long.
            match self.state.try_lock() {
                Ok(state) => break state,
                Err(TryLockError::Poisoned(state)) => break state.into_inner(),
                Err(TryLockError::WouldBlock) => {}
            }
            if self.cancelled.load(Ordering::Relaxed) {
                return Err(Error::Detached);
            }
            if deadline.passed() {
                return Err(Error::Timeout);
            }
            std::thread::sleep(SOON);
        };
        if let Some(lease) = state.granted.take() {
            state.done = true;
            return Ok(hand_out(lease));
        }
        if state.done {
            let why = "its lease was handed out already";
            return Err(Error::invalid("ticket of a lease", why));
        }
        let mut slice = SOON;
        loop {
            if self.cancelled.load(Ordering::Relaxed) {
                return Err(Error::Detached);
            }
            if let Outcome::Granted(lease) = self.attempt(&mut state, deadline, true)? {
                state.done = true;
                return Ok(hand_out(lease));
            }
            if deadline.passed() {
                return Err(Error::Timeout);
            }
            self.sleep(&mut state, deadline, &mut slice)?;
        }
    }

    /// Ends the wait of another thread, and all later ones. The place in the queue is given up when the
    /// ticket is dropped.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
        if let Some(wake) = self.wake.get() {
            wake.set();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the devices again if the request depends on their state and the last reading is old.
    fn refresh(&self, state: &mut State) -> Result<()> {
        let by_time = self.request.depends_on_time();
        let age = now_ns().saturating_sub(state.seen_at);
        if state.seen_at != 0 && (!by_time || age < FRESH.as_nanos() as u64) {
            return Ok(());
        }
        state.seen = self.request.candidates(self.family)?;
        state.seen_at = now_ns();
        Ok(())
    }

    /// Tries to get the devices. With `queue`, takes a place in the queue if it has none and has to wait.
    fn attempt(&self, state: &mut State, deadline: Deadline, queue: bool) -> Result<Outcome> {
        self.refresh(state)?;
        if state.waiting.as_ref().is_some_and(|it| !it.own.is_ours()) {
            let why = "a forked child does not have its parent's place in the queue";
            return Err(Error::invalid("ticket of a lease", why));
        }
        let cancelled = || self.cancelled.load(Ordering::Relaxed);
        let guard = directory::lock(&self.request.machine.leases, deadline, cancelled)?;
        self.decide(state, &guard, queue)
    }

    fn decide(&self, state: &mut State, guard: &Guard, queue: bool) -> Result<Outcome> {
        let own = state.waiting.as_ref().map(|it| &it.own.name);
        let survey = Survey::new(guard, own)?;
        let all = regions(state.seen.iter().map(|it| it.found.id.as_str()));
        let (domain, waited) = match &state.waiting {
            Some(waiting) => (waiting.domain.clone(), waiting.regions.clone()),
            None => (survey.domain(&self.inherited, &all)?, Vec::new()),
        };
        let offers = offers(&self.request, &state.seen, &survey, &domain)?;
        let possible: Vec<u64> = offers.iter().map(|it| all[it.index]).collect();
        let mine = if own.is_some() { &waited } else { &possible };
        let behind = survey.before(own, &domain, mine)?.cloned();
        let chosen = match behind {
            Some(_) => None,
            None => choose(&offers, self.request.count),
        };
        let Some(chosen) = chosen else {
            if let Some(waiting) = &mut state.waiting {
                waiting.behind = behind;
            } else if queue {
                let own = OwnClaim::create(guard, survey.next_ticket(), &domain)?;
                let text = self.request.text(self.family, &[]);
                own.with(|fd| {
                    claim::describe(fd, &text, true);
                    claim::wait_for(fd, &possible)
                })
                .unwrap_or_else(|| Err(lost()))?;
                state.waiting = Some(Waiting {
                    own,
                    regions: possible,
                    domain,
                    behind,
                });
            }
            return Ok(Outcome::Wait);
        };
        let granted: Vec<(u64, u64)> = chosen.iter().map(|it| (all[it.index], it.wanted)).collect();
        let devices = chosen.iter().map(|it| state.seen[it.index].clone());
        let devices: Vec<Seen> = devices.collect();
        let own = match state.waiting.take() {
            Some(waiting) => waiting.own,
            None => OwnClaim::create(guard, survey.next_ticket(), &domain)?,
        };
        let text = self.request.text(self.family, &devices);
        // Described after the grant: writing the file wakes the process that watches it.
        own.with(|fd| {
            claim::grant(fd, &granted, &waited)?;
            claim::describe(fd, &text, waited.is_empty());
            Ok(())
        })
        .unwrap_or_else(|| Err(lost()))?;
        let units = chosen.iter().map(|it| it.wanted).collect();
        Ok(Outcome::Granted(Lease::new(
            self.family,
            own,
            devices,
            units,
        )))
    }

    /// Sleeps until something may have changed.
    fn sleep(&self, state: &mut State, deadline: Deadline, slice: &mut Duration) -> Result<()> {
        let Some(waiting) = &state.waiting else {
            return Ok(());
        };
        if self.wake.get().is_none() {
            let _ = self.wake.set(Signal::new()?);
        }
        let leases = &self.request.machine.leases;
        let watched = match &waiting.behind {
            Some(name) => leases.join(name.file()),
            None => leases.clone(),
        };
        let closes = Closes::of(&watched);
        let by_time = self.request.depends_on_time();
        loop {
            // After the watch has begun, so that no change is missed.
            if let Some(name) = &waiting.behind {
                let before = Claim::open(&watched, name)?;
                if !before.map_or(Ok(false), |it| it.is_waiting())? {
                    *slice = SOON;
                    return Ok(());
                }
            }
            let cancelled = self.cancelled.load(Ordering::Relaxed);
            if cancelled || deadline.passed() {
                return Ok(());
            }
            let until = Deadline::At(deadline.slice(slice.as_nanos() as u64));
            let mut fds = Vec::with_capacity(2);
            fds.extend(closes.as_ref().map(Closes::as_fd));
            fds.extend(self.wake.get().map(Signal::number));
            let event = readable(&fds, until)?;
            if let Some(closes) = &closes {
                closes.clear();
            }
            *slice = if event { SOON } else { (*slice * 2).min(LATER) };
            if waiting.behind.is_none()
                || by_time && state.seen_at + FRESH.as_nanos() as u64 <= now_ns()
            {
                return Ok(());
            }
        }
    }
}

/// The devices that a request could get, in its order, and what is available of them.
fn offers(
    request: &Request,
    seen: &[Seen],
    survey: &Survey,
    domain: &ClaimPath,
) -> Result<Vec<Offer>> {
    let mut offers = Vec::new();
    for (index, it) in seen.iter().enumerate() {
        let (there, taken) = survey.units(domain, region(&it.found.id))?;
        if let Some(wanted) = request.units(&it.found, there) {
            offers.push(Offer {
                index,
                free: there.saturating_sub(taken),
                wanted,
                fit: request.fits(&it.found),
            });
        }
    }
    if offers.len() < request.count {
        return Err(request.impossible(seen, offers.len()));
    }
    Ok(offers)
}

fn lost() -> Error {
    Error::invalid(
        "lease",
        "the program has closed its descriptor, which it must not",
    )
}
