//! A program of one machine. It executes commands, one per line, on the objects of its `SHOAL_DIR`.
//!
//! It is this test program, started again. Answers begin with `>`, because the test harness prints as well.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use shoal::{Lease, Map, Options, Queue, Timeout};

use crate::machine::WATCHDOG;

/// The environment variable that makes this process an agent.
const ROLE: &str = "SHOAL_BRIDGE_TEST_AGENT";

/// The agent's own side: a test that does nothing unless it was started as an agent.
#[test]
fn agent() {
    if std::env::var_os(ROLE).is_some() {
        serve();
    }
}

fn serve() {
    let mut session = Session::default();
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        let words = Words(line.split(' ').collect());
        let answer = session
            .of_queue(&words)
            .or_else(|| session.of_lease(&words))
            .or_else(|| session.of_map(&words));
        let answer = answer.unwrap_or_else(|| panic!("an agent has no command {line:?}"));
        println!("> {answer}");
        std::io::stdout().flush().unwrap();
    }
}

/// A command and its arguments.
struct Words<'a>(Vec<&'a str>);

impl Words<'_> {
    fn text(&self, at: usize) -> &str {
        self.0[at]
    }

    fn bytes(&self, at: usize) -> &[u8] {
        self.0[at].as_bytes()
    }

    fn number(&self, at: usize) -> u64 {
        self.0[at].parse().unwrap()
    }

    fn duration(&self, at: usize) -> Duration {
        Duration::from_millis(self.number(at))
    }

    fn within(&self, at: usize) -> Timeout {
        Timeout::Val(self.duration(at))
    }
}

/// The objects that an agent uses, by their names, and its leases, by their numbers.
#[derive(Default)]
struct Session {
    queues: HashMap<String, &'static Queue>,
    maps: HashMap<String, &'static Map>,
    leases: HashMap<u64, Lease<'static>>,
    next: u64,
}

impl Session {
    /// The queue that the first argument names.
    fn queue(&mut self, words: &Words<'_>) -> &'static Queue {
        let name = words.text(1);
        self.queues
            .entry(name.to_owned())
            .or_insert_with(|| Box::leak(Box::new(Queue::create(name).unwrap())))
    }

    /// The map that the first argument names.
    fn map(&mut self, words: &Words<'_>) -> &'static Map {
        let name = words.text(1);
        self.maps
            .entry(name.to_owned())
            .or_insert_with(|| Box::leak(Box::new(Map::create(name).unwrap())))
    }

    fn of_queue(&mut self, words: &Words<'_>) -> Option<String> {
        Some(match words.text(0) {
            // Creates a queue with room for this many messages, before another command of this agent uses it.
            "bounded" => {
                let options = Options::create().max_items(words.number(2));
                let made = Queue::with_options(Some(words.text(1)), &options).unwrap();
                let made = Box::leak(Box::new(made));
                self.queues.insert(words.text(1).to_owned(), made);
                "ok".to_owned()
            }
            "put" => done(self.queue(words).put(words.bytes(2), words.within(3))),
            // Puts this many messages, each with its number.
            "puts" => {
                let (queue, text) = (self.queue(words), words.text(3));
                let put = |i: u64| queue.put(format!("{text}{i}").as_bytes(), Timeout::Infinite);
                done((0..words.number(2)).try_for_each(put))
            }
            // Puts a message of this many bytes.
            "large" => {
                let bytes: Vec<u8> = (0..words.number(2)).map(|i| (i % 251) as u8).collect();
                done(self.queue(words).put(&bytes, words.within(3)))
            }
            "len" => self.queue(words).len().to_string(),
            // Leases and acks messages until none arrives within this time. Answers with their texts.
            "work" => {
                let mut texts = Vec::new();
                while let Ok(lease) = self.queue(words).lease(words.within(2)) {
                    texts.push(text(&lease));
                    lease.ack().unwrap();
                }
                texts.join(",")
            }
            "close" => done(self.queue(words).close()),
            "unlink" => done(shoal::unlink(words.text(1))),
            _ => return None,
        })
    }

    fn of_lease(&mut self, words: &Words<'_>) -> Option<String> {
        Some(match words.text(0) {
            "lease" => said(self.queue(words).lease(words.within(2)), |lease| {
                self.next += 1;
                let shown = if lease.len() > 200 {
                    checksum(&lease)
                } else {
                    text(&lease)
                };
                let answer = format!("{} {} {shown}", self.next, lease.attempts());
                self.leases.insert(self.next, lease);
                answer
            }),
            "ack" => done(self.leases.remove(&words.number(1)).unwrap().ack()),
            "nack" => {
                let lease = self.leases.remove(&words.number(1)).unwrap();
                done(lease.nack(words.duration(2)))
            }
            _ => return None,
        })
    }

    fn of_map(&mut self, words: &Words<'_>) -> Option<String> {
        Some(match words.text(0) {
            // Creates a map of at most this many bytes, before another command of this agent uses it.
            "bounded-map" => {
                let options = Options::create().max_capacity(words.number(2));
                let made = Map::with_options(Some(words.text(1)), &options).unwrap();
                let made = Box::leak(Box::new(made));
                self.maps.insert(words.text(1).to_owned(), made);
                "ok".to_owned()
            }
            "set" => done(self.map(words).set(words.bytes(2), words.bytes(3))),
            "set-for" => {
                let (key, value) = (words.bytes(2), words.bytes(3));
                done(self.map(words).set_for(key, value, words.duration(4)))
            }
            "large-value" => {
                let bytes = vec![b'x'; words.number(3) as usize];
                done(self.map(words).set(words.bytes(2), &bytes))
            }
            "remove" => said(self.map(words).remove(words.bytes(2)), |was| {
                was.to_string()
            }),
            "get" => said(
                self.map(words).get_versioned(words.bytes(2)),
                |value| match value {
                    Some((value, version)) => format!("{version} {}", text(&value)),
                    None => "none".to_owned(),
                },
            ),
            // Waits until the key's version differs from this one.
            "wait" => {
                let (key, version) = (words.bytes(2), words.number(3));
                let waited = self.map(words).wait_key(key, version, words.within(4));
                said(waited, |version| version.to_string())
            }
            "swap" => {
                let (key, version) = (words.bytes(2), words.number(3));
                let map = self.map(words);
                let swapped = map.compare_swap_version(key, version, Some(words.bytes(4)));
                said(swapped, |swapped| swapped.to_string())
            }
            "add" => add(self.map(words), words.bytes(2), words.number(3)),
            "count" => said(self.map(words).len(), |len| len.to_string()),
            _ => return None,
        })
    }
}

/// Adds 1 this many times, by swaps. Answers with how many swaps succeeded and how many had an unknown outcome.
fn add(map: &Map, key: &[u8], times: u64) -> String {
    let (mut added, mut unknown) = (0, 0);
    while added + unknown < times {
        let Some((value, version)) = map.get_versioned(key).unwrap() else {
            continue;
        };
        let more = (text(&value).parse::<u64>().unwrap() + 1).to_string();
        match map.compare_swap_version(key, version, Some(more.as_bytes())) {
            Ok(true) => added += 1,
            Ok(false) => {}
            Err(shoal::Error::RelayBehind { .. }) => unknown += 1,
            Err(why) => panic!("{why}"),
        }
    }
    format!("{added} {unknown}")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn done(result: shoal::Result<()>) -> String {
    said(result, |()| "ok".to_owned())
}

fn said<T>(done: shoal::Result<T>, ok: impl FnOnce(T) -> String) -> String {
    match done {
        Ok(value) => ok(value),
        Err(why) => format!("error {:?}: {why}", why.status()),
    }
}

/// A short text that identifies a large message.
pub fn checksum(bytes: &[u8]) -> String {
    let sum = bytes.iter().fold(0u64, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(u64::from(*byte))
    });
    format!("{}-{sum:x}", bytes.len())
}

/// A test's handle of an agent.
pub struct Agent {
    child: Child,
    to: ChildStdin,
    /// Its answers. A thread reads them, so that a missing answer fails the test.
    answers: Receiver<String>,
    /// The last command.
    told: String,
}

impl Agent {
    /// Starts one with this `SHOAL_DIR`.
    pub fn start(folder: &std::path::Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["agent::agent", "--exact", "--nocapture", "--test-threads=1"])
            .env(ROLE, "1")
            .env("SHOAL_DIR", folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (to, from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (sender, answers) = channel();
        thread::spawn(move || {
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                // The harness has begun a line before the first answer.
                if let Some((_, answer)) = line.split_once("> ") {
                    let _ = sender.send(answer.trim_end().to_owned());
                }
            }
        });
        Self {
            child,
            to,
            answers,
            told: String::new(),
        }
    }

    /// Sends it a command.
    pub fn tell(&mut self, line: &str) {
        writeln!(self.to, "{line}").unwrap();
        self.to.flush().unwrap();
        line.clone_into(&mut self.told);
    }

    /// Its next answer.
    pub fn hear(&mut self) -> String {
        let answer = self.answers.recv_timeout(2 * WATCHDOG);
        answer.unwrap_or_else(|why| panic!("the agent does not answer {:?}: {why}", self.told))
    }

    /// Sends it a command and returns the answer.
    pub fn ask(&mut self, line: &str) -> String {
        self.tell(line);
        self.hear()
    }

    /// Kills it with SIGKILL.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.kill();
    }
}
