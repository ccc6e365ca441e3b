//! LMDB: a store of Shoal's benchmark.
//!
//! The harness starts it with the words that `../boost_map.cpp` explains. Nothing is synced to a
//! disk: the file is in `/dev/shm`, and the environment says so. Each get has a read transaction
//! and each set a write transaction of its own, as each call of the other stores is by itself.

use std::path::Path;
use std::sync::atomic::Ordering;

use heed::types::Bytes;
use heed::{Database, Env, EnvFlags, EnvOpenOptions};

#[path = "../../harness/entries.rs"]
mod entries;
#[path = "../../harness/stage.rs"]
#[expect(dead_code, reason = "the rest of it is for the harness")]
mod stage;

use stage::Stage;

/// What `stage` fails with.
type Failure = Box<dyn std::error::Error>;

fn main() {
    if let Err(why) = work() {
        eprintln!("peer-lmdb: {why}");
        std::process::exit(1);
    }
}

fn work() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [role, stage, worker, workers, keys, name] = words.as_slice() else {
        return Err("this is a part of `cargo xtask bench`".into());
    };
    let (worker, keys): (usize, u64) = (worker.parse()?, keys.parse()?);
    let env = open(&Path::new("/dev/shm").join(name), keys)?;
    let mut making = env.write_txn()?;
    let data: Database<Bytes, Bytes> = env.create_database(&mut making, None)?;
    if role == "fill" {
        for index in 0..keys {
            let key = entries::key(index);
            data.put(&mut making, &key, &entries::value(&key))?;
        }
        return Ok(making.commit()?);
    }
    making.commit()?;
    let stage = Stage::inherited(stage.parse()?)?;
    let (order, tally) = (
        entries::shuffled(keys, worker, workers.parse()?),
        stage.tally(worker),
    );
    stage.wait_for_start();
    for (done, key) in (0..).zip(order.iter().cycle()) {
        if entries::writes(role, done) {
            let mut writing = env.write_txn()?;
            data.put(&mut writing, key, &entries::value(key))?;
            writing.commit()?;
        } else {
            let reading = env.read_txn()?;
            let mut found = [0; entries::VALUE];
            let value = data.get(&reading, key)?.ok_or("a key is missing")?;
            found.copy_from_slice(value);
            if found[..entries::KEY] != key[..] {
                return Err("a key has another value than it was given".into());
            }
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

fn open(folder: &Path, keys: u64) -> Result<Env, Failure> {
    std::fs::create_dir_all(folder)?;
    let mut options = EnvOpenOptions::new();
    options.map_size((16 << 20) + keys as usize * 1024);
    // SAFETY: the file is this benchmark's alone, and nothing is to survive a crash.
    let env = unsafe {
        options.flags(EnvFlags::NO_SYNC | EnvFlags::NO_META_SYNC | EnvFlags::WRITE_MAP);
        options.open(folder)?
    };
    Ok(env)
}
