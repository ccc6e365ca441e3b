//! Redis: a store of Shoal's benchmark, over a Unix socket.
//!
//! The harness runs the server, which stores nothing on a disk. Each get and each set is a request
//! and its answer, as each call of the other stores is separate.

use std::time::Duration;

use redis::{Client, Commands, Connection, ConnectionAddr, IntoConnectionInfo};

mod store;

use store::entries::{self, KEY, VALUE};
use store::{Failure, Store};

/// Keys that are sent together while the store is filled.
const TOGETHER: u64 = 10_000;
/// How often a connection to the server is tried, 10 ms apart.
const TRIES: u32 = 500;

struct Redis(Connection);

fn main() {
    store::main::<Redis>("peer-redis");
}

impl Store for Redis {
    fn open(name: &str, _keys: u64) -> Result<Self, Failure> {
        let path = format!("/dev/shm/{name}/redis.sock");
        let client = Client::open(ConnectionAddr::Unix(path.into()).into_connection_info()?)?;
        for _ in 1..TRIES {
            if let Ok(connection) = client.get_connection() {
                return Ok(Self(connection));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(Self(client.get_connection()?))
    }

    fn fill(&mut self, keys: u64) -> Result<(), Failure> {
        for start in (0..keys).step_by(TOGETHER as usize) {
            let mut requests = redis::pipe();
            for index in start..keys.min(start + TOGETHER) {
                let key = entries::key(index);
                requests.set(&key, &entries::value(&key)).ignore();
            }
            requests.exec(&mut self.0)?;
        }
        Ok(())
    }

    fn set(&mut self, key: &[u8; KEY], value: &[u8; VALUE]) -> Result<(), Failure> {
        Ok(self.0.set(key, value)?)
    }

    fn get(&mut self, key: &[u8; KEY]) -> Result<[u8; VALUE], Failure> {
        let value: Vec<u8> = self.0.get(key)?;
        Ok(value.as_slice().try_into()?)
    }
}
