//! The worker of a store, common to all stores.
//!
//! The harness starts its program with the arguments that `../boost_map.cpp` explains.

use std::sync::atomic::Ordering;

#[path = "../../harness/entries.rs"]
pub(crate) mod entries;
#[path = "../../harness/failure.rs"]
#[expect(dead_code, reason = "the rest of it is for the harness")]
mod failure;
#[path = "../../harness/stage.rs"]
#[expect(dead_code, reason = "the rest of it is for the harness")]
mod stage;

use entries::{KEY, VALUE};
pub(crate) use failure::Failure;
use stage::Stage;

/// A store of another project.
pub(crate) trait Store: Sized {
    /// Opens or creates it. No other program uses its name, and it must have room for `keys`.
    fn open(name: &str, keys: u64) -> Result<Self, Failure>;

    /// Puts this many keys into it, in the order of their indices.
    fn fill(&mut self, keys: u64) -> Result<(), Failure>;

    /// Puts one key. It is visible to other processes when the call returns.
    fn set(&mut self, key: &[u8; KEY], value: &[u8; VALUE]) -> Result<(), Failure>;

    /// Copies the value of a present key.
    fn get(&mut self, key: &[u8; KEY]) -> Result<[u8; VALUE], Failure>;
}

/// The main function of a store's worker.
pub(crate) fn main<S: Store>(program: &str) {
    if let Err(why) = work::<S>() {
        eprintln!("{program}: {why}");
        std::process::exit(1);
    }
}

fn work<S: Store>() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [role, stage, worker, workers, keys, name] = words.as_slice() else {
        return Err("this is a part of `cargo xtask bench`".into());
    };
    let (worker, keys): (usize, u64) = (worker.parse()?, keys.parse()?);
    let mut store = S::open(name, keys)?;
    if role == "fill" {
        return store.fill(keys);
    }
    let stage = Stage::inherited(stage.parse()?)?;
    let (order, tally) = (
        entries::shuffled(keys, worker, workers.parse()?),
        stage.tally(worker),
    );
    let writes = entries::Writes::of(role);
    stage.wait_for_start();
    for (done, key) in (0..).zip(order.iter().cycle()) {
        if writes.next(done) {
            store.set(key, &entries::value(key))?;
        } else if store.get(key)?[..KEY] != key[..] {
            return Err("a key has another value than it was given".into());
        }
        if done % 64 == 0 {
            tally.messages.store(done, Ordering::Release);
            if stage.is_stopped() {
                break;
            }
        }
    }
    Ok(())
}
