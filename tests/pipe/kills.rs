//! Processes that have one end of a pipe are killed at random, while the process at the other end lives. It receives
//! each message that they had sent and reported, complete, once and in order. They receive each of its messages at
//! most once. When none of them is left, its sends and receives fail.
//!
//! An end cannot be opened again once it is closed. So each round has its own pipe, and lasts until all processes at
//! one end are dead.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::company::{LEAST_DONE, LEAST_KILLS, Words};
use crate::common::{FOREVER, Random, alone, fork, soak_length};
use shoal::{Error, Options, Pipe};

/// The largest number of processes at the end that is killed.
const PEERS: usize = 2;
/// A process that only sends checks the other end after this many bytes. A message counts as `MESSAGE` bytes more
/// than it has.
const ASK_AFTER: usize = 64 << 10;
const MESSAGE: usize = 64;
/// All messages are shorter.
const LONGEST: usize = 128 << 10;

/// Words: how many messages each peer has sent and reported, how many empty ones they received, and a bit for each of
/// the first messages to them, which is set once it was received.
const SENT: usize = 0;
const EMPTY: usize = SENT + PEERS;
const RECEIVED: usize = EMPTY + 1;
const BITS: u64 = 1 << 16;
const WORDS: usize = RECEIVED + BITS as usize / 64;

/// Message `number` of `who`, of a size and a content that follow from them.
fn message(who: u64, number: u64) -> Vec<u8> {
    let hash = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    let len = 16
        + match number % 16 {
            // Its content does not name the sender: only one of two sends them.
            3 if who == 0 => return Vec::new(),
            7 => (64 << 10) + hash % 50_000,
            11 => hash % 8000,
            _ => hash % 300,
        };
    let id = [who, number].map(u64::to_le_bytes).concat();
    let mut bytes = id.repeat(len as usize / id.len() + 1);
    bytes.truncate(len as usize);
    bytes
}

/// The sender and the number of a message; `None` for an empty one.
fn id_of(data: &[u8]) -> Option<(u64, u64)> {
    let word = |at: usize| u64::from_le_bytes(data[at..at + 8].try_into().unwrap());
    let id = (!data.is_empty()).then(|| (word(0), word(8)))?;
    assert!(data == message(id.0, id.1), "{id:?} is torn");
    Some(id)
}

/// Sends a message, in any of the ways there are.
fn send(pipe: &Pipe, data: &[u8], random: &mut Random) -> Result<(), Error> {
    match random.below(4) {
        0 => {
            let mut room = pipe.reserve(data.len() + random.below(100) as usize, FOREVER)?;
            room[..data.len()].copy_from_slice(data);
            room.commit_first(data.len())
        }
        1 => {
            pipe.reserve(data.len(), FOREVER)?.discard();
            pipe.send(data, FOREVER)
        }
        _ => pipe.send(data, FOREVER),
    }
}

/// Receives a message, in any of the ways there are, so that it is removed.
fn receive(pipe: &Pipe, random: &mut Random) -> Result<Vec<u8>, Error> {
    loop {
        match random.below(8) {
            0 => assert!(pipe.poll(FOREVER)?),
            1..4 => match pipe.lease(FOREVER) {
                Ok(lease) if random.below(3) == 0 => lease.nack(Duration::ZERO)?,
                Ok(lease) => {
                    let data = lease.to_vec();
                    return lease.ack().map(|()| data);
                }
                // Those that wait outside the ring leave no room for a copy of this one.
                Err(Error::Exhausted { .. }) => {}
                Err(err) => return Err(err),
            },
            4..6 => {
                let mut buf = vec![0; [100, LONGEST][random.below(2) as usize]];
                match pipe.recv(&mut buf, FOREVER) {
                    Err(Error::BufferTooSmall { .. }) => continue,
                    len => buf.truncate(len?),
                }
                return Ok(buf);
            }
            _ => return pipe.recv_vec(FOREVER),
        }
    }
}

/// One round.
struct Round {
    words: Words,
    /// Whether messages are sent to the peers, and whether the peers send.
    ways: (bool, bool),
    is_over: AtomicBool,
}

impl Round {
    /// The work of one of the processes that will be killed.
    fn be_peer(&self, there: &Pipe, who: u64, mut random: Random) {
        let mut number = 0;
        loop {
            let sends = match self.ways {
                (true, true) => random.below(2) == 0,
                (_, sends) => sends,
            };
            if sends {
                send(there, &message(who, number), &mut random).unwrap();
                number += 1;
                self.words.set(SENT + who as usize, number);
                continue;
            }
            match id_of(&receive(there, &mut random).unwrap()) {
                Some((_, number)) if number < BITS => {
                    let (word, bit) = (RECEIVED + number as usize / 64, 1 << (number % 64));
                    let before = self.words[word].fetch_or(bit, SeqCst);
                    assert_eq!(before & bit, 0, "{number} twice");
                }
                Some(_) => {}
                None => _ = self.words.add(EMPTY, 1),
            }
        }
    }

    /// Sends to the peers until they have ended, and reports the number of messages.
    fn send_all(&self, here: &Pipe, mut random: Random) -> u64 {
        let mut unasked = 0;
        for number in 0.. {
            let (data, is_over) = (message(0, number), self.is_over.load(SeqCst));
            match send(here, &data, &mut random) {
                Ok(()) if is_over => unasked += MESSAGE + data.len(),
                Ok(()) => {}
                Err(Error::Closed) => return number,
                Err(err) => panic!("{err}"),
            }
            assert!(unasked <= ASK_AFTER, "{unasked} bytes to nobody");
        }
        unreachable!()
    }

    /// Receives what the peers send until they have ended. Returns how many messages each had sent.
    fn receive_all(&self, here: &Pipe, mut random: Random) -> [u64; PEERS] {
        let mut next = [0; PEERS];
        loop {
            let data = match receive(here, &mut random) {
                Ok(data) => data,
                Err(Error::Closed) => return next,
                Err(err) => panic!("{err}"),
            };
            let (who, number) = id_of(&data).unwrap_or((0, next[0]));
            let expected = &mut next[who as usize];
            assert_eq!(number, *expected, "of peer {who}");
            assert_eq!(data.is_empty(), message(who, number).is_empty());
            *expected += 1;
        }
    }

    /// Checks the reports of the peers about `sent` messages, and returns their number.
    fn check_received(&self, sent: u64, peers: u64) -> u64 {
        let is_empty = |number: &u64| message(0, *number).is_empty();
        let empty = self.words.get(EMPTY);
        assert!(empty <= (0..sent).filter(is_empty).count() as u64);
        let is_there = |number: &u64| {
            self.words.get(RECEIVED + *number as usize / 64) & 1 << (number % 64) != 0
        };
        let last = (0..BITS).rev().find(is_there);
        let end = last.map_or(0, |last| last + 1);
        assert!(end <= sent, "{end} of {sent} were received");
        let gaps = (0..end).filter(|it| !is_there(it) && !is_empty(it)).count() as u64;
        // Each killed process may have received one message that it had not reported.
        assert!(gaps <= peers, "{gaps} are missing below {end}");
        end - gaps
    }
}

/// Runs a round, until all processes at the other end are dead. Returns their number, the number of messages from
/// them, and the number of messages to them.
fn run_round(random: &mut Random) -> [u64; 3] {
    let options = Options::create().capacity(4096).max_capacity(1 << 21);
    let (mut here, mut there) = Pipe::pair_with_options(true, &options).unwrap();
    if random.below(2) == 0 {
        std::mem::swap(&mut here, &mut there);
    }
    let round = Round {
        words: Words::new(WORDS),
        ways: [(true, false), (false, true), (true, true)][random.below(3) as usize],
        is_over: AtomicBool::new(false),
    };
    let mut seed = || Random(random.next() | 1);
    let seeds = [seed(), seed(), seed(), seed()];
    let [first, second, sending, receiving] = seeds;
    let mut peers = vec![fork(|| round.be_peer(&there, 0, first))];
    if random.below(2) == 0 {
        peers.push(fork(|| round.be_peer(&there, 1, second)));
    }
    // From now on only the peers have it.
    drop(there);
    let count = peers.len();
    let (sent, received) = thread::scope(|scope| {
        let (sends, receives) = round.ways;
        let sender = sends.then(|| scope.spawn(|| round.send_all(&here, sending)));
        let receiver = receives.then(|| scope.spawn(|| round.receive_all(&here, receiving)));
        for peer in peers {
            thread::sleep(Duration::from_micros(500 + random.below(8_000)));
            peer.kill();
        }
        round.is_over.store(true, SeqCst);
        let sent = sender.map_or(0, |it| it.join().unwrap());
        (sent, receiver.map_or([0; PEERS], |it| it.join().unwrap()))
    });
    for (who, received) in received.into_iter().enumerate() {
        let certain = round.words.get(SENT + who);
        // One more, if it was killed before its report.
        let may_be = certain..=certain + 1;
        assert!(may_be.contains(&received), "{received} of {certain}");
    }
    assert_eq!(here.recv_vec(FOREVER), Err(Error::Closed));
    assert_eq!(here.send(b"?", FOREVER), Err(Error::Closed));
    let to_peers = round.check_received(sent, count as u64);
    [count as u64, received.iter().sum(), to_peers]
}

fn kill_for(length: Duration) -> [u64; 3] {
    let (mut random, began, mut sum) = (Random(0x5eed), Instant::now(), [0; 3]);
    let least = [LEAST_KILLS, LEAST_DONE, LEAST_DONE];
    while began.elapsed() < length || sum.iter().zip(&least).any(|(it, least)| it <= least) {
        let counts = run_round(&mut random);
        sum = [0, 1, 2].map(|at| sum[at] + counts[at]);
    }
    sum
}

#[test]
fn the_live_end_gets_all_messages_and_notices_the_death_of_the_other() {
    let _alone = alone();
    let [kills, from, to] = kill_for(Duration::from_secs(2));
    assert!(
        kills > LEAST_KILLS && from > LEAST_DONE && to > LEAST_DONE,
        "{kills} kills, {from} messages from the dead, {to} to them"
    );
}

/// `SHOAL_SOAK_SECONDS=3600 cargo test --release --test pipe kills::soak -- --ignored --nocapture`
#[test]
#[ignore = "a soak: runs for SHOAL_SOAK_SECONDS, a minute by default"]
fn soak() {
    let [kills, from, to] = kill_for(soak_length());
    println!("{kills} kills, {from} messages from the dead, {to} to them");
}
