//! How waiting behaves on a busy machine: beside programs that compute, so that a process that waits
//! and the process it waits for have to share the cores with others.

use std::time::Duration;

use super::busy::{self, Session};
use super::channel::{self, Channel};
use super::failure::Failure;
use super::guards::GuardKind;
use super::load::Transport;
use super::options::{Options, Waits};
use super::pace::Pace;
use super::paced;
use super::rounds::in_turns;
use super::stage::Stage;
use super::stores::Operation;
use super::waited::{At, Waited, Window};
use super::{cores, handover, latency, map};

const SIZE: usize = 64;
const KEYS: u64 = 1_000;

pub(super) const TRIP: &str = "round trip, 64 B";
pub(super) const TICKETS: &str = "tickets";

/// How long a process computes with the lock.
pub(super) const INSIDE: [Duration; 4] = [
    Duration::ZERO,
    Duration::from_micros(10),
    Duration::from_micros(100),
    Duration::from_millis(1),
];
/// The time inside for which other objects than locks are measured too.
const USUAL: Duration = INSIDE[2];

/// Messages a second.
pub(super) const QUIET: [u32; 3] = [100, 1_000, 10_000];

/// In percent of what the same channel carried just before at full speed.
const LOADS: [u32; 3] = [10, 50, 90];
/// A sender that polls the clock may not reach a higher rate than this, per second.
const MAX_RATE: f64 = 4e6;

/// The rows of one run.
struct Plan<'a> {
    options: &'a Options,
    progress: &'a dyn Fn(&str),
    rows: Vec<Waited>,
    busy: u8,
}

pub(super) fn measure(options: &Options, progress: &dyn Fn(&str)) -> Result<Vec<Waited>, Failure> {
    let mut plan = Plan {
        options,
        progress,
        rows: Vec::new(),
        busy: 0,
    };
    let stage = Stage::new()?;
    for &busy in &options.busy {
        let session = options.busy_session.unwrap_or(Session::Same);
        let _others = busy::start(&stage, busy, session)?;
        plan.busy = busy;
        plan.all()?;
    }
    Ok(plan.rows)
}

impl Plan<'_> {
    fn all(&mut self) -> Result<(), Failure> {
        if self.wants(Waits::Latency, "round trips") {
            self.latency(false)?;
            // Without other programs, they are compared with the baseline.
            if (self.busy == 0 || self.options.pinned) && cores::pair().is_some() {
                self.latency(true)?;
            }
        }
        if self.wants(Waits::Locks, "locks") {
            self.locks()?;
        }
        if self.wants(Waits::Handover, "locks handed over") {
            self.handover()?;
        }
        if self.wants(Waits::Maps, "map calls") {
            self.maps()?;
        }
        if self.wants(Waits::Quiet, "few messages") {
            self.quiet()?;
        }
        if self.wants(Waits::Load, "messages at a fixed rate") {
            self.load()?;
        }
        Ok(())
    }

    fn wants(&self, kind: Waits, what: &str) -> bool {
        let wanted = self.options.waits.is_empty() || self.options.waits.contains(&kind);
        if wanted {
            (self.progress)(&format!("{what}, {} busy", self.busy));
        }
        wanted
    }

    fn latency(&mut self, pinned: bool) -> Result<(), Failure> {
        let mut transports = vec![
            Transport::Shoal,
            Transport::Duplex,
            Transport::Pipe,
            Transport::Unix,
            Transport::Futex,
            Transport::Event,
        ];
        // Its processes never sleep: it needs both cores.
        if pinned && self.busy == 0 {
            transports.push(Transport::Bare);
        }
        let pins = cores::pair().filter(|_| pinned);
        let (ring, length) = (channel::ring(SIZE, self.options.ring), self.options.window);
        let rounds = rounds(&transports, self.options.repeat, |&transport| {
            let pair = Channel::pair(transport, SIZE, ring)??;
            Ok(latency::once(pair, SIZE, length, pins)?.1)
        })?;
        self.add(
            pinned,
            TRIP,
            transports.into_iter().map(by).zip(rounds),
            |who| match who {
                "shoal event" => "futex words",
                _ => "unix socket",
            },
        );
        Ok(())
    }

    fn locks(&mut self) -> Result<(), Failure> {
        let kinds = [GuardKind::Lock, GuardKind::Robust, GuardKind::Plain];
        let length = self.options.window;
        let rounds = rounds(&kinds, self.options.repeat, |&kind| {
            handover::window(kind, 4, Duration::ZERO, false, length)
        })?;
        let rows = kinds.into_iter().map(|kind| kind.to_string()).zip(rounds);
        self.add(false, "lock, 4 processes", rows, |_| "robust mutex");
        Ok(())
    }

    fn handover(&mut self) -> Result<(), Failure> {
        // The windows are longer and fewer, because the longest wait may be as long as a window.
        let (length, repeat) = (self.options.window * 4, self.options.repeat.div_ceil(5));
        for inside in INSIDE {
            let mut kinds = vec![GuardKind::Lock, GuardKind::Tickets, GuardKind::Robust];
            if inside == USUAL {
                kinds.extend([GuardKind::Semaphore, GuardKind::RwLock, GuardKind::Key]);
            }
            let rounds = rounds(&kinds, repeat, |&kind| {
                handover::window(kind, 8, inside, true, length)
            })?;
            let rows = kinds.into_iter().map(|kind| kind.to_string()).zip(rounds);
            self.add(false, &handed_over(inside), rows, |_| TICKETS);
        }
        Ok(())
    }

    fn maps(&mut self) -> Result<(), Failure> {
        let calls = [Operation::Get, Operation::Set];
        let length = self.options.window;
        let rounds = rounds(&calls, self.options.repeat, |&call| {
            map::timed(KEYS, call, 2, length)
        })?;
        for (call, windows) in calls.into_iter().zip(rounds) {
            let what = format!("map {}, {KEYS} keys, 2", call.name());
            self.add(false, &what, [("shoal map".to_owned(), windows)], |_| "");
        }
        Ok(())
    }

    fn quiet(&mut self) -> Result<(), Failure> {
        let transports = [Transport::Shoal, Transport::Duplex, Transport::Unix];
        let (ring, length) = (self.options.ring, self.options.window);
        for rate in QUIET {
            let rounds = rounds(&transports, self.options.repeat, |&transport| {
                paced::window(transport, SIZE, Pace::Asleep(rate.into()), ring, length)
            })?;
            let rows = transports.map(by).into_iter().zip(rounds);
            self.add(false, &quiet(rate), rows, |_| "unix socket");
        }
        Ok(())
    }

    fn load(&mut self) -> Result<(), Failure> {
        let transports = [Transport::Shoal, Transport::Unix];
        let (ring, length) = (self.options.ring, self.options.window);
        let window = |transport, pace| paced::window(transport, SIZE, pace, ring, length);
        let rounds = rounds(&transports, self.options.repeat, |&transport| {
            let full = window(transport, Pace::Full)?;
            let capacity = full.rate().min(MAX_RATE);
            let mut all = vec![full];
            for percent in LOADS {
                let rate = capacity * f64::from(percent) / 100.0;
                all.push(window(transport, Pace::Awake(rate.max(1.0)))?);
            }
            Ok(all)
        })?;
        let loads = LOADS.map(|percent| format!("64 B, at {percent} %"));
        let names = std::iter::once("64 B, at full speed".to_owned()).chain(loads);
        for (index, what) in names.enumerate() {
            let windows =
                |transport: &Vec<Vec<Window>>| transport.iter().map(|all| all[index]).collect();
            let rows = transports
                .map(by)
                .into_iter()
                .zip(rounds.iter().map(windows));
            self.add(false, &what, rows, |_| "unix socket");
        }
        Ok(())
    }

    /// Adds a row for each of these, compared with the one that is `beside` it.
    fn add(
        &mut self,
        pinned: bool,
        what: &str,
        windows: impl IntoIterator<Item = (String, Vec<Window>)>,
        beside: impl Fn(&str) -> &'static str,
    ) {
        let at = At {
            busy: self.busy,
            pinned,
            what,
        };
        let windows = windows.into_iter();
        let mut fresh: Vec<_> = windows.map(|(who, it)| Waited::of(&at, who, &it)).collect();
        for index in 0..fresh.len() {
            let peer = beside(&fresh[index].who);
            let peer = fresh.iter().position(|it| it.who == peer);
            if let Some(peer) = peer
                && let Ok([own, peer]) = fresh.get_disjoint_mut([index, peer])
            {
                own.compare(peer);
            }
        }
        self.rows.append(&mut fresh);
    }
}

/// The name of the row of eight processes, each of which computes this long inside.
pub(super) fn handed_over(inside: Duration) -> String {
    format!("hand-over by 8, {} us", inside.as_micros())
}

/// The name of the row of few messages.
pub(super) fn quiet(rate: u32) -> String {
    format!("{rate} messages a second")
}

/// The windows of each, measured in turn. None is of another project, so none is skipped.
fn rounds<What, Done>(
    what: &[What],
    repeat: usize,
    window: impl Fn(&What) -> Result<Done, Failure>,
) -> Result<Vec<Vec<Done>>, Failure> {
    let done = in_turns(what, repeat, |what| window(what).map(Ok))?;
    Ok(done.into_iter().flatten().collect())
}

/// The name of a transport among other objects of Shoal.
fn by(transport: Transport) -> String {
    match transport {
        Transport::Shoal => "shoal queue".to_owned(),
        other => other.to_string(),
    }
}
