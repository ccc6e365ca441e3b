//! Everything is killed at random, for as long as `SHOAL_BRIDGE_SOAK` says in seconds: a few in a test run,
//! minutes or hours by hand:
//!
//! ```text
//! SHOAL_BRIDGE_SOAK=600 cargo test -p shoal-bridge --target-dir target/bridge --test bridge soak -- --nocapture
//! ```

use std::collections::HashSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use shoal::{Map, Queue, Timeout};

use crate::direct::messages;
use crate::machine::{Machine, WATCHDOG};
use crate::maps::reads;
use crate::server::Server;

const ROLE: &str = "SHOAL_BRIDGE_TEST_SOAK";
/// How many times a message is delivered that the workers always return.
const ATTEMPTS: &str = "20";

/// The process of a worker. It leases a message, records it, and acks it. It returns messages that begin with
/// `poison`.
#[test]
fn worker() {
    let Some(log) = std::env::var_os(ROLE) else {
        return;
    };
    let queue = Queue::create("jobs").unwrap();
    let map = Map::create("config").unwrap();
    let mut log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .unwrap();
    let mut highest = 0;
    loop {
        // A process never reads an older version of a key after a later one.
        if let Some((_, version)) = map.get_versioned(b"count").unwrap() {
            assert!(version >= highest, "version {version} after {highest}");
            highest = version;
        }
        let Ok(lease) = queue.lease(Timeout::Val(Duration::from_millis(200))) else {
            continue;
        };
        let text = String::from_utf8_lossy(&lease).into_owned();
        if text.starts_with("poison") {
            lease.nack(Duration::from_millis(20)).unwrap();
            continue;
        }
        // Recorded before the ack: an acked message was processed.
        record(&mut log, &text);
        let _ = lease.ack();
    }
}

/// Appends a line by one write: several processes append to the file.
fn record(log: &mut std::fs::File, line: &str) {
    log.write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// The process of a counter. It adds 1 by swaps, and records each swap that succeeded.
#[test]
fn counter() {
    let Some(log) = std::env::var_os(format!("{ROLE}_COUNTER")) else {
        return;
    };
    let map = Map::create("config").unwrap();
    let mut log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .unwrap();
    loop {
        let Some((value, version)) = map.get_versioned(b"count").unwrap() else {
            continue;
        };
        let more: u64 = String::from_utf8_lossy(&value).parse::<u64>().unwrap() + 1;
        if let Ok(true) =
            map.compare_swap_version(b"count", version, Some(more.to_string().as_bytes()))
        {
            record(&mut log, &more.to_string());
        }
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// A process that is killed when this is dropped.
struct Running(Child);

impl Running {
    fn spawn(test: &str, role: &str, log: &Path, folder: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args([test, "--exact", "--nocapture", "--test-threads=1"])
            .env(role, log)
            .env("SHOAL_DIR", folder)
            .stdout(Stdio::null());
        Self(command.spawn().unwrap())
    }

    fn has_ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn lines(log: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn every_job_is_done_and_no_swap_is_lost_while_everything_is_killed_at_random() {
    let seconds = std::env::var("SHOAL_BRIDGE_SOAK")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(8);
    let seed = std::env::var("SHOAL_BRIDGE_SEED")
        .ok()
        .and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()) * 0x9e37_79b9 + 1);
    println!("SHOAL_BRIDGE_SEED={seed}");
    let mut random = Random(seed);
    let mut server = Server::start();
    let queue = format!("jobs:max-attempts={ATTEMPTS},ack-wait=2s");
    let args = ["--queue", &*queue, "--map", "config"];
    let mut machines = [Machine::up(&server, &args), Machine::up(&server, &args)];
    let log = |name: &str| PathBuf::from(machines[0].folder()).with_extension(name);
    let (done, swaps) = (log("done"), log("swaps"));
    let folders = [
        machines[0].folder().to_owned(),
        machines[1].folder().to_owned(),
    ];
    let mut agents = [machines[0].agent(), machines[1].agent()];
    agents[0].ask("set config count 0");
    let start = |which: usize| Running::spawn("soak::worker", ROLE, &done, &folders[which]);
    let count = |which: usize| {
        Running::spawn(
            "soak::counter",
            &format!("{ROLE}_COUNTER"),
            &swaps,
            &folders[which],
        )
    };
    let mut workers = [start(0), start(1)];
    let mut counters = [count(0), count(1)];
    let (mut put, mut poison) = (0, 0);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(seconds) {
        for agent in &mut agents {
            assert_eq!(agent.ask(&format!("puts jobs 40 {put}-")), "ok");
            put += 1;
        }
        assert_eq!(
            agents[0].ask(&format!("put jobs poison{poison} 20000")),
            "ok"
        );
        poison += 1;
        let which = random.below(2) as usize;
        match random.below(6) {
            0 | 1 => workers[which] = start(which),
            2 | 3 => {
                machines[which].kill();
                machines[which].start();
            }
            4 => counters[which] = count(which),
            _ => {
                server.kill();
                std::thread::sleep(Duration::from_millis(random.below(300)));
                server.resume();
            }
        }
        std::thread::sleep(Duration::from_millis(100 + random.below(300)));
    }
    drop(counters);
    let wanted: HashSet<String> = (0..put)
        .flat_map(|of| (0..40).map(move |i| format!("{of}-{i}")))
        .collect();
    let waiting = Instant::now();
    loop {
        let there: HashSet<String> = lines(&done).into_iter().collect();
        if wanted.is_subset(&there) {
            break;
        }
        let ended = workers.iter_mut().any(Running::has_ended);
        assert!(!ended, "a worker has failed");
        let missing: Vec<_> = wanted.difference(&there).take(50).collect();
        assert!(
            waiting.elapsed() < WATCHDOG,
            "{missing:?} are not done: {:#?}",
            machines.iter().map(Machine::reports).collect::<Vec<_>>()
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    // Every message that always fails is found among the dead letters.
    let mut found = HashSet::new();
    while found.len() < poison {
        assert!(
            waiting.elapsed() < WATCHDOG,
            "{} of {poison} dead letters",
            found.len()
        );
        found.extend(
            agents[1]
                .ask("work jobs.dead 1000")
                .split(',')
                .filter(|it| !it.is_empty())
                .map(str::to_owned),
        );
    }
    while messages(&server, "shoal_q_jobs") > 0 {
        assert!(waiting.elapsed() < WATCHDOG, "the stream is not empty");
        std::thread::sleep(Duration::from_millis(100));
    }
    // A recorded swap is in the count. A swap whose process was killed before it recorded it may be in the count
    // as well.
    let recorded = lines(&swaps);
    let distinct: HashSet<&String> = recorded.iter().collect();
    assert_eq!(
        distinct.len(),
        recorded.len(),
        "two swaps have set the same value"
    );
    let highest = recorded
        .iter()
        .filter_map(|line| line.parse::<u64>().ok())
        .max()
        .unwrap_or(0);
    assert!(
        highest >= recorded.len() as u64,
        "{highest}, {}",
        recorded.len()
    );
    // A machine may be a little behind.
    reads(&mut agents[0], "count", |read| {
        let now = read.rsplit(' ').next().and_then(|word| word.parse().ok());
        now.is_some_and(|now: u64| now >= highest)
    });
    println!(
        "{} jobs, {} done, {poison} dead letters, {} swaps",
        wanted.len(),
        lines(&done).len(),
        recorded.len()
    );
    let ended = workers.iter_mut().any(Running::has_ended);
    assert!(!ended, "a worker has failed");
    let _ = (std::fs::remove_file(&done), std::fs::remove_file(&swaps));
}
