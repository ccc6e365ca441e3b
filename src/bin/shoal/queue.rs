//! `shoal queue put | get | peek | tail | stat | close`

use std::time::Duration;

use clap::Subcommand;
use serde::Serialize;
use shoal::{Error, Queue};

use crate::input::{Input, Sink, Source};
use crate::interrupt;
use crate::number::any_count;
use crate::object::Object;
use crate::objects::{open, open_or_create, show};
use crate::output::{Failure, Format, Progress, bytes, duration, say};
use crate::value::{Json, PartOf};

#[derive(clap::Args)]
pub(crate) struct QueueCommand {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Put messages; without any, the standard input as one message
    ///
    /// It waits while the queue is full.
    Put(Put),
    /// Take messages and print them
    ///
    /// It waits while the queue is empty. A message is removed once it is printed: if the command is ended
    /// before that or its output cannot be written, the message is delivered again.
    ///
    /// Exit codes: 4 if the time is up, 5 if the queue is closed and empty.
    Get(Get),
    /// Print the next messages without taking them
    Peek(Peek),
    /// Print messages as they are put, without taking them
    ///
    /// Consumers do not wait for it, so it may miss messages that are taken at once; it says how many. It
    /// ends when the queue is closed and empty. If the queue is not persistent, it also ends when no other
    /// process has the queue open.
    Tail(Tail),
    /// Show a queue: its messages, its traffic, and the processes that wait
    Stat {
        /// The queue
        name: String,
        #[command(flatten)]
        format: Format,
    },
    /// Close a queue: nothing can be put any more, but its messages can still be taken
    Close {
        /// The queue
        name: String,
    },
}

#[derive(clap::Args)]
struct Put {
    /// The queue
    name: String,
    /// The messages
    messages: Vec<String>,
    #[command(flatten)]
    source: Source,
    /// Each line of the standard input is a message
    #[arg(long, short, conflicts_with_all = ["messages", "file"])]
    lines: bool,
    /// Each part of the standard input that ends with a NUL is a message
    #[arg(long, short = '0', conflicts_with_all = ["messages", "file", "lines"])]
    null: bool,
    /// Create the queue if it is missing; it stays until `shoal rm` removes it
    #[arg(long)]
    create: bool,
    /// How long to wait for room [default: forever]
    #[arg(long, value_parser = duration)]
    timeout: Option<Duration>,
    #[command(flatten)]
    format: Format,
}

#[derive(clap::Args)]
struct Get {
    /// The queue
    name: String,
    /// How many messages
    #[arg(long, short = 'n', default_value_t = 1, value_parser = any_count)]
    count: u64,
    /// All messages in the queue, without waiting
    #[arg(long, conflicts_with_all = ["count", "timeout"])]
    all: bool,
    /// Every message, until the queue is closed and empty
    #[arg(long, conflicts_with_all = ["count", "all"])]
    follow: bool,
    /// How long to wait for each message; 0 does not wait [default: forever]
    #[arg(long, value_parser = duration)]
    timeout: Option<Duration>,
    #[command(flatten)]
    sink: Sink,
}

#[derive(clap::Args)]
struct Peek {
    /// The queue
    name: String,
    /// How many messages at most
    #[arg(long, short = 'n', default_value_t = 10, value_parser = any_count)]
    count: u64,
    /// Number of messages to skip first
    #[arg(long, default_value_t = 0, value_parser = any_count)]
    skip: u64,
    #[command(flatten)]
    sink: Sink,
}

#[derive(clap::Args)]
struct Tail {
    /// The queue
    name: String,
    /// Begin with the messages that are in the queue
    #[arg(long)]
    all: bool,
    /// Number of messages after which it ends
    #[arg(long, short = 'n', value_parser = any_count)]
    count: Option<u64>,
    #[command(flatten)]
    sink: Sink,
}

impl QueueCommand {
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self.verb {
            Verb::Put(put) => put.run(),
            Verb::Get(get) => get.run(),
            Verb::Peek(peek) => peek.run(),
            Verb::Tail(tail) => tail.run(),
            Verb::Stat { name, format } => stat(&name, format),
            Verb::Close { name } => Ok(open(&name, Queue::open)?.close()?),
        }
    }
}

/// The messages that were put.
#[derive(Default, Serialize)]
struct Sent {
    put: u64,
    put_bytes: u64,
}

impl Put {
    fn run(self) -> Result<(), Failure> {
        let queue = open_or_create(&self.name, self.create, Queue::with_options)?;
        let (mut sent, mut progress) = (Sent::default(), Progress::new());
        let done = self.put(&queue, &mut sent, &mut progress);
        drop(progress);
        if let (Err(_), 1..) = (&done, sent.put) {
            say(format_args!("{} messages were put", sent.put));
        }
        done.map_err(|failure| failure.on(&self.name))?;
        match self.format.json {
            true => self.format.line(&sent, |_| Ok(())).map(drop),
            false => Ok(()),
        }
    }

    fn put(&self, queue: &Queue, sent: &mut Sent, progress: &mut Progress) -> Result<(), Failure> {
        let mut put = |message: &[u8]| {
            interrupt::wait(self.timeout, |slice| queue.put(message, slice))?;
            sent.put += 1;
            sent.put_bytes += message.len() as u64;
            progress.tick(|| format!("{} messages, {}", sent.put, bytes(sent.put_bytes)));
            Ok::<_, Failure>(())
        };
        let encoding = self.source.encoding;
        if self.lines || self.null {
            let end = if self.lines { b'\n' } else { b'\0' };
            let mut input = Input::new();
            loop {
                let parts = input.parts(end)?;
                if parts.is_empty() {
                    return Ok(());
                }
                for part in parts {
                    put(&encoding.read(&part, PartOf::Message)?)?;
                }
            }
        }
        if self.messages.is_empty() {
            return put(&self.source.read(None, PartOf::Message)?);
        }
        // All of them are read before the first is put, so that an invalid one prevents all puts.
        let read = |text: &String| self.source.read(Some(text), PartOf::Message);
        let messages = self.messages.iter().map(read);
        let messages: Vec<Vec<u8>> = messages.collect::<Result<_, _>>()?;
        messages.iter().try_for_each(|it| put(it))
    }
}

/// A message that was taken.
#[derive(Serialize)]
struct Taken<'a> {
    attempts: u32,
    value: Json<'a>,
}

impl Get {
    fn run(self) -> Result<(), Failure> {
        let queue = open(&self.name, Queue::open)?;
        let limit = if self.all {
            Some(Duration::ZERO)
        } else {
            self.timeout
        };
        let mut left = if self.all || self.follow {
            u64::MAX
        } else {
            self.count
        };
        while left > 0 {
            let lease = match interrupt::wait_to_print(limit, |slice| queue.lease(slice)) {
                Err(Failure::Shoal(Error::Timeout | Error::Closed)) if self.all => return Ok(()),
                Err(Failure::Shoal(Error::Closed)) if self.follow => return Ok(()),
                lease => lease.map_err(|failure| failure.on(&self.name))?,
            };
            let shown = Taken {
                attempts: lease.attempts(),
                value: Json(&lease, PartOf::Message),
            };
            // A message that is not printed goes back to the queue when the lease is dropped.
            if !self.sink.print(&lease, PartOf::Message, &shown)? {
                return Ok(());
            }
            lease.ack()?;
            left -= 1;
        }
        Ok(())
    }
}

/// A message that was peeked at or followed.
#[derive(Serialize)]
struct Seen<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    number: Option<u64>,
    value: Json<'a>,
}

/// Calls `copy` with a buffer, which is enlarged to the size that `copy` needs.
fn copied<T>(
    buffer: &mut Vec<u8>,
    mut copy: impl FnMut(&mut [u8]) -> shoal::Result<T>,
) -> Result<T, Failure> {
    loop {
        match copy(buffer) {
            Err(Error::BufferTooSmall { needed, .. }) => buffer.resize(needed, 0),
            Err(Error::Interrupted) => interrupt::check()?,
            done => return Ok(done?),
        }
    }
}

impl Peek {
    fn run(self) -> Result<(), Failure> {
        let queue = open(&self.name, Queue::open)?;
        let mut buffer = Vec::new();
        for index in self.skip..self.skip.saturating_add(self.count) {
            interrupt::check()?;
            let Some(len) = copied(&mut buffer, |buffer| queue.peek(index, buffer))? else {
                break;
            };
            let value = &buffer[..len];
            let shown = Seen {
                index: Some(index),
                number: None,
                value: Json(value, PartOf::Message),
            };
            if !self.sink.print(value, PartOf::Message, &shown)? {
                break;
            }
        }
        Ok(())
    }
}

/// How often `tail` checks for a message.
const TAIL: Duration = Duration::from_millis(20);
/// Number of checks without a message after which `tail` checks whether another process has the queue open.
const ALONE_CHECK: u32 = 50;

impl Tail {
    fn run(self) -> Result<(), Failure> {
        let queue = open(&self.name, Queue::open)?;
        let mut follower = queue.follow(self.all)?;
        let (mut buffer, mut next, mut idle) = (Vec::new(), follower.next_number(), 0);
        let mut left = self.count.unwrap_or(u64::MAX);
        while left > 0 {
            interrupt::check_reader()?;
            // Checked before the read, so that a message that was put before the close is seen.
            let closed = queue.is_closed();
            let seen = copied(&mut buffer, |buffer| follower.next(buffer))?;
            let missed = seen
                .map_or(follower.next_number(), |it| it.number)
                .saturating_sub(next);
            if missed > 0 {
                say(format_args!(
                    "{missed} messages were taken before they could be seen"
                ));
            }
            next = follower.next_number();
            let Some(seen) = seen else {
                idle += 1;
                let alone = || !may_change(&self.name);
                if closed || (idle % ALONE_CHECK == 0 && alone()) {
                    return Ok(());
                }
                interrupt::sleep(TAIL)?;
                continue;
            };
            let value = &buffer[..seen.len];
            let shown = Seen {
                index: None,
                number: Some(seen.number),
                value: Json(value, PartOf::Message),
            };
            if !self.sink.print(value, PartOf::Message, &shown)? {
                return Ok(());
            }
            left -= 1;
        }
        Ok(())
    }
}

/// Whether the object may still change: another process has it open, or it is persistent.
pub(crate) fn may_change(name: &str) -> bool {
    let me = std::process::id();
    shoal::stat(name).is_ok_and(|it| it.persistent || it.participants.iter().any(|it| it.pid != me))
}

/// A queue, and its queue of dead letters.
#[derive(Serialize)]
struct Described {
    #[serde(flatten)]
    object: Object,
    #[serde(skip_serializing_if = "Option::is_none")]
    dead_letters: Option<u64>,
}

fn stat(name: &str, format: Format) -> Result<(), Failure> {
    let seen = shoal::observe(name)?;
    if let Some(kind) = seen.info.kind
        && kind != shoal::Kind::Queue
    {
        let why = format!("{name:?} is of the kind {kind}: `shoal stat` shows it");
        return Err(Failure::Other(why));
    }
    let dead = shoal::observe(&format!("{name}.dead"));
    let dead = dead.ok().and_then(|it| it.contents?.len);
    let described = Described {
        object: Object::new(seen),
        dead_letters: dead,
    };
    format.print(&described, |out| {
        show(&described.object, out)?;
        match described.dead_letters {
            Some(dead) => writeln!(out, "{:9} {dead} in {name}.dead", "dead"),
            None => Ok(()),
        }
    })
}
