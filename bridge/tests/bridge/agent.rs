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
    let mut queues: HashMap<String, &'static Queue> = HashMap::new();
    let mut maps: HashMap<String, &'static Map> = HashMap::new();
    let mut leases: HashMap<u64, Lease<'static>> = HashMap::new();
    let mut next = 0;
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| words[at].parse::<u64>().unwrap();
        let within = |at: usize| Timeout::Val(Duration::from_millis(number(at)));
        let mut queue = |at: usize| {
            let name = words[at];
            *queues
                .entry(name.to_owned())
                .or_insert_with(|| Box::leak(Box::new(Queue::create(name).unwrap())))
        };
        let mut map = |at: usize| {
            let name = words[at];
            *maps
                .entry(name.to_owned())
                .or_insert_with(|| Box::leak(Box::new(Map::create(name).unwrap())))
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let answer = match words[0] {
            // Creates a queue with room for this many messages, before another command of this agent uses it.
            "bounded" => {
                let options = Options::create().max_items(number(2));
                let made = Queue::with_options(Some(words[1]), &options).unwrap();
                queues.insert(words[1].to_owned(), Box::leak(Box::new(made)));
                "ok".to_owned()
            }
            // Creates a map of at most this many bytes, before another command of this agent uses it.
            "bounded-map" => {
                let options = Options::create().max_capacity(number(2));
                let made = Map::with_options(Some(words[1]), &options).unwrap();
                maps.insert(words[1].to_owned(), Box::leak(Box::new(made)));
                "ok".to_owned()
            }
            "put" => said(queue(1).put(words[2].as_bytes(), within(3)), |()| {
                "ok".to_owned()
            }),
            // Puts this many messages, each with its number.
            "puts" => {
                let put =
                    |i: u64| queue(1).put(format!("{}{i}", words[3]).as_bytes(), Timeout::Infinite);
                said((0..number(2)).try_for_each(put), |()| "ok".to_owned())
            }
            // Puts a message of this many bytes.
            "large" => {
                let bytes: Vec<u8> = (0..number(2)).map(|i| (i % 251) as u8).collect();
                said(queue(1).put(&bytes, within(3)), |()| "ok".to_owned())
            }
            "lease" => said(queue(1).lease(within(2)), |lease| {
                next += 1;
                let shown = if lease.len() > 200 {
                    checksum(&lease)
                } else {
                    text(&lease)
                };
                let answer = format!("{next} {} {shown}", lease.attempts());
                leases.insert(next, lease);
                answer
            }),
            "ack" => said(leases.remove(&number(1)).unwrap().ack(), |()| {
                "ok".to_owned()
            }),
            "nack" => {
                let delay = Duration::from_millis(number(2));
                said(leases.remove(&number(1)).unwrap().nack(delay), |()| {
                    "ok".to_owned()
                })
            }
            "len" => queue(1).len().to_string(),
            // Leases and acks messages until none arrives within this time. Answers with their texts.
            "work" => {
                let mut done = Vec::new();
                while let Ok(lease) = queue(1).lease(within(2)) {
                    done.push(text(&lease));
                    lease.ack().unwrap();
                }
                done.join(",")
            }
            "set" => said(map(1).set(words[2].as_bytes(), words[3].as_bytes()), |()| {
                "ok".to_owned()
            }),
            "set-for" => {
                let life = Duration::from_millis(number(4));
                let set = map(1).set_for(words[2].as_bytes(), words[3].as_bytes(), life);
                said(set, |()| "ok".to_owned())
            }
            "remove" => said(map(1).remove(words[2].as_bytes()), |was| was.to_string()),
            "get" => said(
                map(1).get_versioned(words[2].as_bytes()),
                |value| match value {
                    Some((value, version)) => format!("{version} {}", text(&value)),
                    None => "none".to_owned(),
                },
            ),
            // Waits until the key's version differs from this one.
            "wait" => said(
                map(1).wait_key(words[2].as_bytes(), number(3), within(4)),
                |version| version.to_string(),
            ),
            "swap" => {
                let swapped = map(1).compare_swap_version(
                    words[2].as_bytes(),
                    number(3),
                    Some(words[4].as_bytes()),
                );
                said(swapped, |swapped| swapped.to_string())
            }
            // Adds 1 this many times, by swaps. Answers with how many swaps succeeded and how many had an unknown
            // outcome.
            "add" => {
                let (mut added, mut unknown) = (0, 0);
                while added + unknown < number(3) {
                    let Some((value, version)) = map(1).get_versioned(words[2].as_bytes()).unwrap()
                    else {
                        continue;
                    };
                    let more = text(&value).parse::<u64>().unwrap() + 1;
                    match map(1).compare_swap_version(
                        words[2].as_bytes(),
                        version,
                        Some(more.to_string().as_bytes()),
                    ) {
                        Ok(true) => added += 1,
                        Ok(false) => {}
                        Err(shoal::Error::RelayBehind { .. }) => unknown += 1,
                        Err(why) => panic!("{why}"),
                    }
                }
                format!("{added} {unknown}")
            }
            "large-value" => {
                let bytes = vec![b'x'; number(3) as usize];
                said(map(1).set(words[2].as_bytes(), &bytes), |()| {
                    "ok".to_owned()
                })
            }
            "close" => said(queue(1).close(), |()| "ok".to_owned()),
            "unlink" => said(shoal::unlink(words[1]), |()| "ok".to_owned()),
            "count" => said(map(1).len(), |len| len.to_string()),
            other => panic!("an agent has no command {other:?}"),
        };
        println!("> {answer}");
        std::io::stdout().flush().unwrap();
    }
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
