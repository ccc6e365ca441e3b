//! Instructions of single calls, uncontended, in one process; and their budget.

use std::hint::black_box;

use shoal::{Lock, Map, Queue, Timeout};

use super::entries::{VALUE, key, value};
use super::failure::Failure;
use super::load::BATCH;
use super::report::Steps;
use super::trace::{self, Count, mark};

/// The objects on which calls are made.
struct Objects {
    queue: Queue,
    map: Map,
    lock: Lock,
}

/// One call of each kind that is counted, between two marks each. `index` tells them apart.
type Calls = fn(&Objects, index: u64) -> shoal::Result<()>;

const KEYS: u64 = 1000;
const SIZE: usize = 64;
const MESSAGE: [u8; SIZE] = [7; SIZE];

/// How often each is counted. The figure is the median, which leaves out occasional work, such as the
/// check for dead processes.
const COUNTED: u64 = 7;
/// How often each is called before that, so that work of a first call is over.
const BEFORE: u64 = 1000;

/// A call and its arguments.
const ALL: [(&[&str], Calls); 6] = [
    (&["queue put", "queue get"], |it, _| {
        let mut buf = [0; SIZE];
        counted(|| it.queue.put(&MESSAGE, Timeout::Infinite))?;
        counted(|| it.queue.get(&mut buf, Timeout::Infinite))?;
        Ok(())
    }),
    (
        &["queue put_many of 32", "queue get_many_into of 32"],
        |it, _| {
            let (mut buf, mut lens) = ([0; SIZE * BATCH], [0; BATCH]);
            counted(|| it.queue.put_many(&[&MESSAGE[..]; BATCH], Timeout::Infinite))?;
            counted(|| {
                it.queue
                    .get_many_into(&mut buf, &mut lens, Timeout::Infinite)
            })?;
            Ok(())
        },
    ),
    (
        &[
            "queue reserve",
            "reservation commit",
            "queue lease",
            "lease ack",
        ],
        |it, _| {
            let mut room = counted(|| it.queue.reserve(SIZE, Timeout::Infinite))?;
            room.copy_from_slice(&MESSAGE);
            counted(|| room.commit())?;
            let lease = counted(|| it.queue.lease(Timeout::Infinite))?;
            counted(|| lease.ack())
        },
    ),
    (&["map get"], |it, index| {
        let (key, mut found) = (key(index % KEYS), [0; VALUE]);
        counted(|| it.map.get(&key, &mut found))?;
        Ok(())
    }),
    (&["map set"], |it, index| {
        let key = key(index % KEYS);
        let value = value(&key);
        counted(|| it.map.set(&key, &value))
    }),
    (&["lock", "unlock"], |it, _| {
        let guard = counted(|| it.lock.lock(Timeout::Infinite))?;
        counted(|| drop(guard));
        Ok(())
    }),
];

#[inline(always)]
fn counted<Done>(call: impl FnOnce() -> Done) -> Done {
    mark();
    let done = black_box(call());
    mark();
    done
}

/// Counts all calls; none where a process may not trace another.
pub(crate) fn measure() -> Result<Vec<Steps>, Failure> {
    let mut all = Vec::new();
    for (names, calls) in ALL {
        let work = |objects: &Objects| {
            for index in 0..COUNTED {
                calls(objects, index)?;
            }
            Ok(())
        };
        let Some(counts) = trace::count(|| prepare(calls), work)? else {
            return Ok(Vec::new());
        };
        if counts.len() != names.len() * COUNTED as usize {
            return Err(format!("{} calls were counted of {names:?}", counts.len()).into());
        }
        for (index, &what) in names.iter().enumerate() {
            let of_one = counts.iter().skip(index).step_by(names.len());
            let median = |value: fn(&Count) -> u64| {
                let mut values: Vec<_> = of_one.clone().map(value).collect();
                values.sort_unstable();
                values[values.len() / 2]
            };
            all.push(Steps {
                what: what.into(),
                instructions: median(|it| it.own),
                elsewhere: median(|it| it.elsewhere),
            });
        }
    }
    Ok(all)
}

fn prepare(calls: Calls) -> Result<Objects, Failure> {
    let objects = Objects {
        queue: Queue::anonymous()?,
        map: Map::anonymous()?,
        lock: Lock::anonymous()?,
    };
    for index in 0..KEYS {
        objects.map.set(&key(index), &value(&key(index)))?;
    }
    for index in 0..BEFORE {
        calls(&objects, index)?;
    }
    Ok(objects)
}
