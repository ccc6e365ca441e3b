//! Four languages, one queue, one map: every process both produces and consumes.
//!
//! ```text
//! together [--count N] NAME=PROGRAM [NAME=PROGRAM …]
//! ```
//! Starts each program as `PROGRAM <queue> <queue> <map> NAME <count>`. Each of them puts
//! `count` messages `NAME:<i>` into the queue, takes `count` messages from it, and for each
//! adds one to the map's counter `from:<whoever sent it>`. As many are taken as were put, so
//! in the end the queue is empty and every counter stands at `count`.

use std::process::ExitCode;

use shoal::{Map, Process, Queue, Spawn, Timeout};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("together: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1).peekable();
    let count: i64 = match args.next_if_eq("--count") {
        Some(_) => args.next().ok_or("--count takes a number")?.parse()?,
        None => 10_000,
    };

    let queue = Queue::anonymous()?;
    let map = Map::anonymous()?;

    let mut peers: Vec<(String, Process)> = Vec::new();
    for peer in args {
        let (name, program) = peer.split_once('=').ok_or("a peer is NAME=PROGRAM")?;
        let mut words = program.split(' ');
        let mut spawn = Spawn::new(words.next().unwrap_or_default());
        spawn.args(words);
        spawn.args([
            queue.name(),
            queue.name(),
            map.name(),
            name,
            &count.to_string(),
        ]);
        peers.push((name.to_owned(), spawn.spawn()?));
    }

    for (name, process) in &peers {
        let exit = process.join(Timeout::Infinite)?;
        if !exit.success() {
            return Err(format!("{name} ended with {exit:?}").into());
        }
    }
    for (name, _) in &peers {
        let value = map
            .get_vec(format!("from:{name}").as_bytes())?
            .unwrap_or_default();
        let counted = i64::from_le_bytes(value.try_into().unwrap_or_default());
        println!("{counted} messages from {name} were consumed");
        if counted != count {
            return Err(format!("{name} sent {count}").into());
        }
    }
    match queue.len() {
        0 => println!("the queue is empty, and nothing was lost"),
        left => return Err(format!("{left} messages are left").into()),
    }
    Ok(())
}
