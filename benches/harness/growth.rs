//! The cost of a call as the number of messages, leases, keys, elements or awaited queues grows.
//!
//! One process, so that only the work grows. Every row is the mean of many calls.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use shoal::{List, Map, Options as Create, Queue, Timeout, Waitable, wait_any};

use super::entries::{KEY, VALUE, key, random, value};
use super::failure::Failure;
use super::options::{FAIR_WINDOW, Options};
use super::spread::Spread;

/// The cost of a call beside this many other items of a kind.
#[derive(Serialize, Deserialize)]
pub(crate) struct Growth {
    /// The call.
    pub(crate) what: String,
    /// The items whose number grows.
    pub(crate) beside: String,
    pub(crate) rows: Vec<Grown>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Grown {
    pub(crate) count: u64,
    pub(crate) ns: Spread,
}

const SIZE: usize = 64;
const MESSAGE: [u8; SIZE] = [7; SIZE];
/// Large enough for everything that is put into one object.
const ROOM: u64 = 1 << 30;

/// Calls between two reads of the clock.
const CALLS: u32 = 100;

const COUNTS: [u64; 6] = [10, 100, 1_000, 10_000, 100_000, 1_000_000];
/// Fewer, because leases and reservations keep slots, of which a queue has a limited number.
const LEASES: [u64; 5] = [1, 10, 100, 1_000, 10_000];
/// Fewer, because a process maps each queue.
const QUEUES: [u64; 4] = [1, 10, 100, 1_000];

pub(super) fn measure(options: &Options) -> Result<Vec<Growth>, Failure> {
    // A quick run has no time to fill objects with more.
    let quick = options.window.as_secs_f64() < FAIR_WINDOW;
    let counts = if quick { &COUNTS[..4] } else { &COUNTS[..] };
    let fill = Fill { options };
    Ok(vec![
        fill.queue(counts)?,
        fill.leases()?,
        fill.gets(counts)?,
        fill.inserts(counts)?,
        fill.list(counts)?,
        fill.waits()?,
    ])
}

struct Fill<'a> {
    options: &'a Options,
}

impl Fill<'_> {
    /// The cost of a call, measured several times.
    fn row(
        &self,
        count: u64,
        mut call: impl FnMut() -> Result<(), Failure>,
    ) -> Result<Grown, Failure> {
        let windows = (0..self.options.repeat).map(|_| mean(self.options.window / 8, &mut call));
        Ok(Grown {
            count,
            ns: Spread::of(windows.collect::<Result<_, _>>()?),
        })
    }

    fn queue(&self, counts: &[u64]) -> Result<Growth, Failure> {
        let queue = Queue::with_options(None, &Create::create().max_capacity(ROOM))?;
        let (mut rows, mut there, mut buf) = (Vec::new(), 0, [0; SIZE]);
        for &count in counts {
            for _ in there..count {
                queue.put(&MESSAGE, Timeout::Infinite)?;
            }
            there = count;
            rows.push(self.row(count, || {
                queue.put(&MESSAGE, Timeout::Infinite)?;
                queue.get(&mut buf, Timeout::Infinite)?;
                Ok(())
            })?);
        }
        Ok(growth("queue put and get", "messages waiting", rows))
    }

    fn leases(&self) -> Result<Growth, Failure> {
        let queue = Queue::with_options(None, &Create::create().max_capacity(ROOM))?;
        let (mut rows, mut held) = (Vec::new(), Vec::new());
        for count in LEASES {
            while (held.len() as u64) < count {
                queue.put(&MESSAGE, Timeout::Infinite)?;
                held.push(queue.lease(Timeout::Infinite)?);
            }
            rows.push(self.row(count, || {
                queue.put(&MESSAGE, Timeout::Infinite)?;
                Ok(queue.lease(Timeout::Infinite)?.ack()?)
            })?);
        }
        Ok(growth("queue put, lease and ack", "messages leased", rows))
    }

    fn gets(&self, counts: &[u64]) -> Result<Growth, Failure> {
        let map = Map::anonymous()?;
        let (mut rows, mut there, mut found) = (Vec::new(), 0, [0; VALUE]);
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        for &count in counts {
            for index in there..count {
                map.set(&key(index), &value(&key(index)))?;
            }
            there = count;
            rows.push(self.row(count, || {
                let key = key(random(&mut state) % count);
                match map.get(&key, &mut found)? == Some(VALUE) && found[..KEY] == key[..] {
                    true => Ok(()),
                    false => Err("a key has another value than it was given".into()),
                }
            })?);
        }
        Ok(growth("map get of any key", "keys", rows))
    }

    fn inserts(&self, counts: &[u64]) -> Result<Growth, Failure> {
        let map = Map::anonymous()?;
        let (mut rows, mut there) = (Vec::new(), 0);
        for &count in counts {
            for index in there..count {
                map.set(&key(index), &value(&key(index)))?;
            }
            there = count;
            let mut next = count;
            rows.push(self.row(count, || {
                // New keys, so that no slot of the table is used twice in a row.
                let key = key(next);
                next += 1;
                map.set(&key, &value(&key))?;
                match map.remove(&key)? {
                    true => Ok(()),
                    false => Err("a key that was set is not there".into()),
                }
            })?);
        }
        Ok(growth("map set and remove of a new key", "keys", rows))
    }

    fn list(&self, counts: &[u64]) -> Result<Growth, Failure> {
        let list = List::anonymous()?;
        let (mut rows, mut there, mut buf) = (Vec::new(), 0, [0; SIZE]);
        for &count in counts {
            for _ in there..count {
                list.append(&MESSAGE)?;
            }
            there = count;
            rows.push(self.row(count, || {
                list.append(&MESSAGE)?;
                match list.pop_into(count as usize, &mut buf)? {
                    Some(SIZE) => Ok(()),
                    other => Err(format!("the last element has {other:?} bytes").into()),
                }
            })?);
        }
        Ok(growth("list append and pop", "elements", rows))
    }

    fn waits(&self) -> Result<Growth, Failure> {
        let (mut rows, mut queues) = (Vec::new(), Vec::new());
        for count in QUEUES {
            while (queues.len() as u64) < count {
                queues.push(Queue::anonymous()?);
            }
            let things: Vec<_> = queues.iter().map(Waitable::Queue).collect();
            let last = things.len() - 1;
            queues[last].put(&MESSAGE, Timeout::Infinite)?;
            let row = self.row(count, || match wait_any(&things, Timeout::Infinite)? {
                ready if ready == last => Ok(()),
                other => Err(format!("queue {other} is not the one with a message").into()),
            })?;
            queues[last].get(&mut [0; SIZE], Timeout::Infinite)?;
            rows.push(row);
        }
        Ok(growth("wait_any, the last one ready", "queues", rows))
    }
}

fn growth(what: &str, beside: &str, rows: Vec<Grown>) -> Growth {
    Growth {
        what: what.to_owned(),
        beside: beside.to_owned(),
        rows,
    }
}

/// Nanoseconds of a call.
fn mean(length: Duration, call: &mut impl FnMut() -> Result<(), Failure>) -> Result<f64, Failure> {
    let (start, mut calls) = (Instant::now(), 0u32);
    loop {
        for _ in 0..CALLS {
            call()?;
        }
        calls += CALLS;
        let took = start.elapsed();
        if took >= length {
            return Ok(took.as_nanos() as f64 / f64::from(calls));
        }
    }
}
