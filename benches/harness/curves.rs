//! How late messages are at fixed rates, from 10 to 90 % of what each transport can carry.
//!
//! The load is open: a message counts as sent when it was due, and the sender does not wait for the
//! receiver, so that a stall delays every message that was due meanwhile, as in a real program.
//! Percentages are of the transport's own capacity, measured just before by the same processes with
//! the same clock reads; the rates are in the report, so that transports can be compared at a rate.

use super::busy::{self, Session};
use super::channel;
use super::failure::Failure;
use super::load::Transport;
use super::options::Options;
use super::pace::Pace;
use super::paced;
use super::report::{Curve, Point, Skipped};
use super::rounds::in_turns;
use super::spread::Spread;
use super::stage::Stage;
use super::waited::{WaitTimes, Window};

const SIZE: usize = 64;
pub(super) const PERCENT: [u32; 9] = [10, 20, 30, 40, 50, 60, 70, 80, 90];

/// All rates of one transport, in one round.
struct Round {
    full: Window,
    at: Vec<(f64, Window)>,
}

/// Measures `transports` in turn, beside each number of busy programs.
pub(super) fn measure(
    options: &Options,
    transports: &[Transport],
    progress: &dyn Fn(&str),
) -> Result<(Vec<Curve>, Vec<Skipped>), Failure> {
    let (mut curves, mut skipped) = (Vec::new(), Vec::new());
    let stage = Stage::new()?;
    for &busy in &options.busy {
        progress(&format!("latency at fixed rates, {busy} busy"));
        let session = options.busy_session.unwrap_or(Session::Same);
        let _others = busy::start(&stage, busy, session)?;
        let round = |&transport: &Transport| round(transport, options);
        for (&transport, done) in
            transports
                .iter()
                .zip(in_turns(transports, options.repeat, round)?)
        {
            match done {
                Ok(rounds) => curves.push(curve(transport, busy, &rounds)),
                Err(why) => skipped.push(why),
            }
        }
    }
    Ok((curves, skipped))
}

fn round(transport: Transport, options: &Options) -> Result<Result<Round, Skipped>, Failure> {
    let ring = channel::ring(SIZE, options.ring);
    let window = |pace| paced::attempt(transport, SIZE, pace, ring, options.window);
    let full = match window(Pace::Full)? {
        Ok(full) => full,
        Err(why) => return Ok(Err(why)),
    };
    let mut at = Vec::new();
    for percent in PERCENT {
        let rate = (full.rate() * f64::from(percent) / 100.0).max(1.0);
        match window(Pace::Awake(rate))? {
            Ok(window) => at.push((rate, window)),
            Err(why) => return Ok(Err(why)),
        }
    }
    Ok(Ok(Round { full, at }))
}

fn curve(transport: Transport, busy: u8, rounds: &[Round]) -> Curve {
    let point = |(index, &percent): (usize, &u32)| {
        let windows: Vec<_> = rounds.iter().map(|round| round.at[index].1).collect();
        let spread = |value: fn(&Window) -> f64| Spread::of(windows.iter().map(value).collect());
        Some(Point {
            percent,
            offered: Spread::of(rounds.iter().map(|round| round.at[index].0).collect()),
            carried: spread(Window::rate),
            late: WaitTimes::of(&windows)?,
            cpu_us: spread(Window::cpu_us),
        })
    };
    Curve {
        transport,
        size: SIZE,
        busy,
        capacity: Spread::of(rounds.iter().map(|round| round.full.rate()).collect()),
        points: PERCENT.iter().enumerate().filter_map(point).collect(),
    }
}
