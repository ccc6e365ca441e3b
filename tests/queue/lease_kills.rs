//! Workers and producers that are killed at random, and an account of every message.
//!
//! Producers put, or write in place. Workers lease, and then ack, give back, or let the lease
//! expire; some take messages with `get`. They report on each message through a second queue: before the ack, that
//! it was processed and in which attempt; after the ack, that it was acked. Some messages are never acked and must
//! become dead letters.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::common::{Child, FOREVER, NOWAIT, Random, alone, fork};
use shoal::{Error, Options, Queue, Timeout};

const WORKED: u8 = 1;
const ACKED: u8 = 2;
const TAKEN: u8 = 3;

const ATTEMPTS: u8 = 6;

/// One of this many messages is never acked.
const POISON: u32 = 50;

/// Message `index` of producer `who`, of a size and a content that follow from them.
fn message(who: u32, index: u32) -> Vec<u8> {
    // Some are large enough that their extents in the message store are reused in turn.
    let large = if index % 16 == 3 { 30_000 } else { 0 };
    let body = large + (index.wrapping_mul(2_654_435_761) >> 20) as usize % 500;
    let head = [who.to_le_bytes(), index.to_le_bytes()].concat();
    let bytes = (0..body).map(|at| (at as u32 ^ index ^ who) as u8);
    head.into_iter().chain(bytes).collect()
}

type Id = (u32, u32);

fn id_of(data: &[u8]) -> Id {
    let word = |at: usize| u32::from_le_bytes(data[at..at + 4].try_into().unwrap());
    let id = (word(0), word(4));
    assert_eq!(data, message(id.0, id.1), "a message that nobody sent");
    id
}

struct Stage {
    queue: Queue,
    reports: Queue,
}

impl Stage {
    fn new() -> Self {
        let options = Options::create().capacity(4096).max_capacity(1 << 21);
        Self {
            queue: Queue::with_options(None, &options.max_attempts(ATTEMPTS)).unwrap(),
            reports: Queue::anonymous().unwrap(),
        }
    }

    fn producer(&self, who: u32) -> Child {
        fork(|| {
            for index in 0.. {
                let data = message(who, index);
                let put = match index % 3 {
                    0 => self.queue.put(&data, FOREVER),
                    1 => self
                        .queue
                        .reserve(data.len(), FOREVER)
                        .and_then(|mut room| {
                            room.copy_from_slice(&data);
                            room.commit()
                        }),
                    _ => self.queue.put_many(&[&data], FOREVER).map(drop),
                };
                match put {
                    Ok(()) => {}
                    Err(Error::Closed) => return,
                    Err(err) => panic!("{err}"),
                }
            }
        })
    }

    fn report(&self, what: u8, attempts: u32, (who, index): Id) {
        let head = [what, attempts as u8];
        let id = [who.to_le_bytes(), index.to_le_bytes()].concat();
        self.reports
            .put(&[&head[..], &id].concat(), FOREVER)
            .unwrap();
    }

    fn worker(&self, seed: u64) -> Child {
        fork(move || {
            let mut random = Random(seed);
            let visible = Duration::from_millis(2);
            loop {
                let lease = match random.below(3) {
                    0 => self.queue.lease_for(visible, FOREVER),
                    _ => self.queue.lease(FOREVER),
                };
                let lease = match lease {
                    Ok(lease) => lease,
                    Err(Error::Closed) => return,
                    Err(err) => panic!("{err}"),
                };
                let id = id_of(&lease);
                self.report(WORKED, lease.attempts(), id);
                let ended = match random.below(20) {
                    _ if id.1.is_multiple_of(POISON) => lease.nack(Duration::ZERO),
                    0 => lease.nack(Duration::ZERO),
                    1 => lease.nack(Duration::from_micros(random.below(3000))),
                    2 => {
                        std::thread::sleep(2 * visible);
                        lease.ack().inspect(|()| self.report(ACKED, 0, id))
                    }
                    _ => lease.ack().inspect(|()| self.report(ACKED, 0, id)),
                };
                assert!(matches!(ended, Ok(()) | Err(Error::Expired)), "{ended:?}");
            }
        })
    }

    /// Takes messages with `get`; the kill of such a process may lose one message.
    fn taker(&self) -> Child {
        fork(|| {
            loop {
                match self.queue.get_vec(FOREVER) {
                    Ok(data) => self.report(TAKEN, 0, id_of(&data)),
                    Err(Error::Closed) => return,
                    Err(err) => panic!("{err}"),
                }
                std::thread::sleep(Duration::from_micros(50));
            }
        })
    }
}

/// What was told of each message.
#[derive(Default)]
struct Account {
    /// The attempts in which it was processed.
    worked: BTreeMap<Id, BTreeSet<u8>>,
    acked: BTreeSet<Id>,
    taken: BTreeSet<Id>,
    dead_letters: BTreeMap<Id, u32>,
}

impl Account {
    fn collect(&mut self, stage: &Stage) {
        let (mut bytes, mut lens) = (Vec::new(), Vec::new());
        let _ = stage
            .reports
            .get_many(&mut bytes, &mut lens, 100_000, NOWAIT);
        for report in bytes.as_chunks::<10>().0 {
            let word = |at: usize| u32::from_le_bytes(report[at..at + 4].try_into().unwrap());
            let id = (word(2), word(6));
            let first = match report[0] {
                WORKED => self.worked.entry(id).or_default().insert(report[1]),
                ACKED => self.acked.insert(id),
                TAKEN => self.taken.insert(id),
                what => panic!("{what}"),
            };
            assert!(first, "{report:?} twice");
        }
        while let Ok(data) = stage.queue.dead_letters().unwrap().get_vec(NOWAIT) {
            *self.dead_letters.entry(id_of(&data)).or_default() += 1;
        }
    }

    /// Every known message.
    fn all(&self) -> BTreeSet<Id> {
        let ids = self.worked.keys().chain(&self.taken);
        ids.chain(self.dead_letters.keys()).copied().collect()
    }

    /// How many messages were processed more than once.
    fn again(&self) -> usize {
        self.worked.values().filter(|it| it.len() > 1).count()
    }

    /// Whether enough happened for the test, however little processor time it got.
    fn is_enough(&self) -> bool {
        self.all().len() > 300 && self.again() > 10 && !self.dead_letters.is_empty()
    }

    fn check(&self, kills: u32, takers_killed: u32) {
        for id in &self.acked {
            assert!(!self.taken.contains(id), "{id:?} acked and taken");
            assert!(
                !self.dead_letters.contains_key(id),
                "{id:?} acked and a dead letter"
            );
            assert_ne!(id.1 % POISON, 0);
        }
        let mut dead_letters_twice = 0;
        for (id, times) in &self.dead_letters {
            assert!(!self.taken.contains(id), "{id:?} a dead letter and taken");
            dead_letters_twice += times - 1;
        }
        assert!(
            dead_letters_twice <= kills,
            "{dead_letters_twice} dead letters twice"
        );
        let all = self.all();
        let (mut lost, mut expected) = (0, (0, 0));
        for &(who, index) in &all {
            if who != expected.0 {
                expected = (who, 0);
            }
            lost += index - expected.1;
            expected.1 = index + 1;
        }
        assert!(
            lost <= takers_killed,
            "{lost} lost, {takers_killed} takers killed"
        );
        let poison = all.iter().filter(|id| id.1.is_multiple_of(POISON));
        // A process that was killed while it had the message, or had just taken it, leaves no report.
        let not_a_dead_letter =
            poison.filter(|id| !self.dead_letters.contains_key(id) && !self.taken.contains(id));
        let not_a_dead_letter = not_a_dead_letter.count() as u32;
        assert!(
            not_a_dead_letter <= takers_killed,
            "{not_a_dead_letter} are no dead letters"
        );
        let again = self.again();
        println!(
            "{} messages: {} acked, {} taken, {} worked on more than once, {} dead letters ({dead_letters_twice} \
             twice), {lost} went with {takers_killed} takers; {kills} kills",
            all.len(),
            self.acked.len(),
            self.taken.len(),
            again,
            self.dead_letters.len(),
        );
        assert!(self.is_enough());
    }
}

fn kill_at_random(time: Duration) {
    let (stage, mut account, mut random) = (Stage::new(), Account::default(), Random(0x5eed_1ea5));
    let mut next = 0;
    let mut produce = || {
        next += 1;
        stage.producer(next - 1)
    };
    let mut producers = [(); 2].map(|()| produce());
    let mut workers = [(); 3].map(|()| stage.worker(random.next()));
    let mut taker = stage.taker();
    let (start, mut kills, mut takers_killed) = (Instant::now(), 0, 0);
    while start.elapsed() < time || !account.is_enough() {
        std::thread::sleep(Duration::from_micros(random.below(6000)));
        let place = random.below(6) as usize;
        let victim = match place {
            0..2 => std::mem::replace(&mut producers[place], produce()),
            2..5 => std::mem::replace(&mut workers[place - 2], stage.worker(random.next())),
            _ => {
                takers_killed += 1;
                std::mem::replace(&mut taker, stage.taker())
            }
        };
        victim.kill();
        kills += 1;
        account.collect(&stage);
    }
    stage.queue.close().unwrap();
    producers.into_iter().for_each(Child::ends_well);
    stage
        .queue
        .join(Timeout::Val(Duration::from_secs(100)))
        .unwrap();
    workers.into_iter().for_each(Child::ends_well);
    taker.ends_well();
    account.collect(&stage);
    assert!(stage.reports.is_empty());
    assert_eq!(stage.queue.unfinished(), Ok(0));
    assert_eq!((stage.queue.leased(), stage.queue.len()), (0, 0));
    account.check(kills, takers_killed);
}

#[test]
fn every_message_is_finished_or_a_dead_letter_whichever_process_is_killed() {
    let _alone = alone();
    kill_at_random(Duration::from_secs(3));
}

/// `SHOAL_SOAK_SECONDS=3600 cargo test --release --test queue lease_kills::soak -- --ignored`
#[test]
#[ignore = "a soak: runs for SHOAL_SOAK_SECONDS, a minute by default"]
fn soak() {
    kill_at_random(crate::common::soak_length());
}
