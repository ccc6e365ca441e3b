//! Tests of relays.

#[path = "../common/mod.rs"]
mod common;
#[path = "../native/mod.rs"]
mod native;

#[cfg(feature = "crash-points")]
mod crash;
#[cfg(feature = "crash-points")]
mod crash_attach;
mod demand;
mod hostile;
mod kills;
mod map;
mod python;
mod queue;
mod removal;
mod stays;
mod takeover;

use std::cell::RefCell;
use std::sync::Arc;

use shoal::{
    Map, MapChange, MapRelay, MapRequest, Options, Queue, QueueRelay, RelayOptions, SwapTo, Timeout,
};

use common::FOREVER;

/// The names of objects that a test has created. With a relay they are persistent, so they are removed when the
/// thread of the test ends.
struct Mine(Vec<String>);

thread_local! {
    static MINE: RefCell<Mine> = const { RefCell::new(Mine(Vec::new())) };
}

impl Mine {
    fn remove(&mut self) {
        for name in self.0.drain(..) {
            let _ = shoal::unlink(&name);
        }
    }
}

impl Drop for Mine {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Lets the object be removed when this thread ends.
fn is_mine(name: &str) {
    MINE.with_borrow_mut(|mine| mine.0.push(name.to_owned()));
}

fn new_queue(options: &Options) -> Arc<Queue> {
    let queue = Queue::with_options(None, options).unwrap();
    is_mine(queue.name());
    if let Some(dead) = queue.dead_letters() {
        is_mine(dead.name());
    }
    Arc::new(queue)
}

fn new_map(options: &Options) -> Arc<Map> {
    let map = Map::with_options(None, options).unwrap();
    is_mine(map.name());
    Arc::new(map)
}

/// A queue, and its relay.
fn relayed() -> (Arc<Queue>, QueueRelay) {
    let queue = new_queue(&Options::create());
    let relay = attach(&queue);
    (queue, relay)
}

fn attach(queue: &Arc<Queue>) -> QueueRelay {
    QueueRelay::attach(Arc::clone(queue), &RelayOptions::new(), FOREVER).unwrap()
}

fn relayed_map() -> (Arc<Map>, MapRelay) {
    let map = new_map(&Options::create());
    let relay = attach_map(&map);
    (map, relay)
}

fn attach_map(map: &Arc<Map>) -> MapRelay {
    MapRelay::attach(Arc::clone(map), &RelayOptions::new(), FOREVER).unwrap()
}

/// What a server would be: it keeps the latest revision of each key, and is always there.
#[derive(Default)]
struct Server {
    revision: u64,
    keys: std::collections::BTreeMap<Vec<u8>, (u64, Vec<u8>)>,
    /// The outcome of each request.
    done: std::collections::BTreeMap<shoal::RequestId, u64>,
}

impl Server {
    /// Executes a request, delivers the new value of the key, and answers.
    fn serve(&mut self, relay: &MapRelay, request: MapRequest) {
        let key = request.key().to_vec();
        let now = self.keys.get(&key).map_or(0, |(revision, _)| *revision);
        let repeated = self.done.contains_key(&request.id());
        let (allowed, new) = match request.change() {
            MapChange::Set { value, .. } => (true, Some(Some(value.to_vec()))),
            MapChange::Remove => (true, Some(None)),
            MapChange::Swap { version, new } => (
                version == now,
                match new {
                    SwapTo::Value { value, .. } => Some(Some(value.to_vec())),
                    SwapTo::Nothing => Some(None),
                    _ => None,
                },
            ),
            other => panic!("{other:?}"),
        };
        if allowed && !repeated {
            self.done.insert(request.id(), now);
            if let Some(new) = new {
                self.revision += 1;
                match new {
                    Some(value) => self.keys.insert(key.clone(), (self.revision, value)),
                    None => self.keys.remove(&key),
                };
            }
        }
        self.deliver(relay, &key);
        match allowed || repeated {
            true => request.done().unwrap(),
            false => request.conflict().unwrap(),
        }
    }

    fn deliver(&self, relay: &MapRelay, key: &[u8]) {
        match self.keys.get(key) {
            Some((revision, value)) => relay.deliver(key, value, *revision, None).unwrap(),
            None => relay.remove(key, self.revision.max(1)).unwrap(),
        };
    }

    /// Serves requests until none comes for the time.
    fn serve_all(&mut self, relay: &MapRelay, quiet: Timeout) {
        let quiet = match quiet {
            Timeout::Val(quiet) => quiet,
            Timeout::Infinite => panic!("for ever"),
        };
        while let Ok(request) = relay.next_request(Timeout::Val(quiet)) {
            self.serve(relay, request);
        }
    }
}
