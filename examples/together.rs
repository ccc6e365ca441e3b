//! Four languages, one queue, one map: every process both produces and consumes.
//!
//! ```text
//! together [--count N] NAME=PROGRAM [NAME=PROGRAM …]
//! ```
//! Starts each program as `PROGRAM <queue-in> <queue-out> <map> NAME <count>`. Each of them
//! puts `count` messages `NAME:<i>` into the one queue, takes `count` messages from the
//! other, and for each adds one to the map's counter `from:<sender>`.
//!
//! First all of them share one queue, so that the fastest takes most messages. Then they
//! form a ring, each with a queue to the next: every language reads another's messages.
//! As many are taken as were put, so in the end the queues are empty and every counter stands
//! at `count`.

use std::process::ExitCode;
use std::time::Duration;

use shoal::{Map, Process, Queue, Spawn, Timeout};

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("together: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    let mut args = std::env::args().skip(1).peekable();
    let count: i64 = match args.next_if_eq("--count") {
        Some(_) => args.next().ok_or("--count takes a number")?.parse()?,
        None => 10_000,
    };
    let peers = args
        .map(|peer| match peer.split_once('=') {
            Some((name, program)) => Ok((name.to_owned(), program.to_owned())),
            None => Err(format!("{peer:?} is not NAME=PROGRAM").into()),
        })
        .collect::<Result<Vec<_>, Failure>>()?;

    println!("all share one queue:");
    let queue = Queue::anonymous()?;
    let shared = vec![&queue; peers.len()];
    exchange(&peers, &shared, count)?;

    println!("each has a queue to the next:");
    let queues = peers
        .iter()
        .map(|_| Queue::anonymous())
        .collect::<Result<Vec<_>, _>>()?;
    exchange(&peers, &queues.iter().collect::<Vec<_>>(), count)?;
    println!("the queues are empty, and nothing was lost");
    Ok(())
}

/// Lets no peer finish before the slow starters have begun: list those first.
fn wait_until_attached(process: &Process, map: &Map) -> Result<(), Failure> {
    let here = |map: &Map| -> Result<bool, Failure> {
        let attached = shoal::stat(map.name())?.participants;
        Ok(attached
            .iter()
            .any(|it| i64::from(it.pid) == i64::from(process.pid())))
    };
    while !here(map)? && process.join(Duration::ZERO).is_err() {
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Runs the peers concurrently: number `i` puts into `queues[i]` and takes from the queue before it.
fn exchange(peers: &[(String, String)], queues: &[&Queue], count: i64) -> Result<(), Failure> {
    let map = Map::anonymous()?;
    let mut running: Vec<Process> = Vec::new();
    for (index, (name, program)) in peers.iter().enumerate() {
        let (to, from) = (
            queues[index],
            queues[(index + peers.len() - 1) % peers.len()],
        );
        let mut words = program.split(' ');
        let mut spawn = Spawn::new(words.next().unwrap_or_default());
        spawn.args(words);
        spawn.args([from.name(), to.name(), map.name(), name, &count.to_string()]);
        running.push(spawn.spawn()?);
        wait_until_attached(&running[index], &map)?;
    }
    for (process, (name, _)) in running.iter().zip(peers) {
        let exit = process.join(Timeout::Infinite)?;
        if !exit.success() {
            return Err(format!("{name} ended with {exit:?}").into());
        }
    }
    for (name, _) in peers {
        let value = map
            .get_vec(format!("from:{name}").as_bytes())?
            .unwrap_or_default();
        let counted = i64::from_le_bytes(value.try_into().unwrap_or_default());
        println!("{counted} messages from {name} were consumed");
        if counted != count {
            return Err(format!("{name} sent {count}").into());
        }
    }
    match queues.iter().map(|queue| queue.len()).sum::<usize>() {
        0 => Ok(()),
        left => Err(format!("{left} messages are left").into()),
    }
}
