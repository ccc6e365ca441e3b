//! How waiting behaves on a busy machine: beside programs that compute, so that those who wait and
//! those they wait for have to share the cores with others.

use super::channel::{self, Channel, Transport};
use super::crew::Crew;
use super::stage::Stage;
use super::trips;
use super::waited::{At, Waited, Window};
use super::{Failure, Options, Session, cores, in_turns};

/// Of waiting, one kind.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Waits {
    /// Messages and events there and back
    Trips,
}

/// Beside how many computing programs, unless something else is asked for.
pub(crate) const BUSY: [u8; 4] = [0, 1, 2, 4];

const SIZE: usize = 64;

pub(super) const TRIP: &str = "round trip, 64 B";

pub(super) fn measure(options: &Options, progress: &dyn Fn(&str)) -> Result<Vec<Waited>, Failure> {
    let mut rows = Vec::new();
    let stage = Stage::new()?;
    for &busy in &options.busy {
        let session = options.busy_session.unwrap_or(Session::Same);
        let _others = Crew::computing(&stage, busy, session)?;
        let wanted = |kind| options.waits.is_empty() || options.waits.contains(&kind);
        if wanted(Waits::Trips) {
            progress(&format!("round trips, {busy} busy"));
            round_trips(options, busy, false, &mut rows)?;
            // Where nothing disturbs them, they are held to the floor.
            if (busy == 0 || options.pinned) && cores::pair().is_some() {
                round_trips(options, busy, true, &mut rows)?;
            }
        }
    }
    Ok(rows)
}

fn round_trips(
    options: &Options,
    busy: u8,
    pinned: bool,
    rows: &mut Vec<Waited>,
) -> Result<(), Failure> {
    let mut ways = vec![
        Transport::Shoal,
        Transport::Duplex,
        Transport::Pipe,
        Transport::Unix,
        Transport::Futex,
        Transport::Event,
    ];
    // Its processes never sleep: it needs both cores.
    if pinned && busy == 0 {
        ways.push(Transport::Bare);
    }
    let pins = cores::pair().filter(|_| pinned);
    let window = |&transport: &Transport| -> Result<_, Failure> {
        let pair = Channel::pair(transport, SIZE, channel::ring(SIZE, options.ring))??;
        Ok(Ok(trips::once(pair, SIZE, options.window, pins)?.1))
    };
    let windows = in_turns(&ways, options, window)?;
    let at = At {
        busy,
        pinned,
        what: TRIP.to_owned(),
    };
    let rows_of = ways
        .iter()
        .zip(windows)
        .filter_map(|(&way, windows)| Some((by(way), windows.ok()?)));
    add(rows, &at, rows_of, |who| match who {
        "shoal event" => "futex words",
        _ => "unix socket",
    });
    Ok(())
}

/// Adds a row for each of these, compared with the one that is `beside` it.
fn add(
    rows: &mut Vec<Waited>,
    at: &At,
    windows: impl Iterator<Item = (String, Vec<Window>)>,
    beside: impl Fn(&str) -> &'static str,
) {
    let mut fresh: Vec<_> = windows
        .map(|(who, windows)| Waited::of(at, who, &windows))
        .collect();
    for index in 0..fresh.len() {
        let peer = beside(&fresh[index].who);
        let peer = fresh.iter().position(|it| it.who == peer);
        if let Some(peer) = peer.filter(|&peer| peer != index)
            && let Ok([own, peer]) = fresh.get_disjoint_mut([index, peer])
        {
            own.compare(peer);
        }
    }
    rows.append(&mut fresh);
}

/// What a way of transport is called among other objects of ours.
fn by(transport: Transport) -> String {
    match transport {
        Transport::Shoal => "shoal queue".to_owned(),
        other => other.to_string(),
    }
}
