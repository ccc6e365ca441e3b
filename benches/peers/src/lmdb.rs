//! LMDB: a store of Shoal's benchmark.
//!
//! Nothing is synced to a disk: the file is in `/dev/shm`, and the environment says so. Each get has
//! its own read transaction and each set its own write transaction, as each call of the other stores is
//! separate.

use std::path::Path;

use heed::types::Bytes;
use heed::{Database, Env, EnvFlags, EnvOpenOptions};

mod store;

use store::entries::{self, KEY, VALUE};
use store::{Failure, Store};

struct Lmdb {
    env: Env,
    data: Database<Bytes, Bytes>,
}

fn main() {
    store::main::<Lmdb>("peer-lmdb");
}

impl Store for Lmdb {
    fn open(name: &str, keys: u64) -> Result<Self, Failure> {
        let folder = Path::new("/dev/shm").join(name);
        std::fs::create_dir_all(&folder)?;
        let mut options = EnvOpenOptions::new();
        options.map_size((16 << 20) + keys as usize * 1024);
        // SAFETY: only this benchmark uses the file, and nothing has to survive a crash.
        let env = unsafe {
            options.flags(EnvFlags::NO_SYNC | EnvFlags::NO_META_SYNC | EnvFlags::WRITE_MAP);
            options.open(folder)?
        };
        let mut making = env.write_txn()?;
        let data = env.create_database(&mut making, None)?;
        making.commit()?;
        Ok(Self { env, data })
    }

    fn fill(&mut self, keys: u64) -> Result<(), Failure> {
        let mut filling = self.env.write_txn()?;
        for index in 0..keys {
            let key = entries::key(index);
            self.data.put(&mut filling, &key, &entries::value(&key))?;
        }
        Ok(filling.commit()?)
    }

    fn set(&mut self, key: &[u8; KEY], value: &[u8; VALUE]) -> Result<(), Failure> {
        let mut writing = self.env.write_txn()?;
        self.data.put(&mut writing, key, value)?;
        Ok(writing.commit()?)
    }

    fn get(&mut self, key: &[u8; KEY]) -> Result<[u8; VALUE], Failure> {
        let reading = self.env.read_txn()?;
        let value = self.data.get(&reading, key)?.ok_or("a key is missing")?;
        Ok(value.try_into()?)
    }
}
