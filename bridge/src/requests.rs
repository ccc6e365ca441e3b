//! Takes the messages that programs put from shared memory, and passes them to the publisher.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use shoal::{QueueRelay, RelayRequest};
use tokio::sync::mpsc;

use crate::publish::Outgoing;
use crate::queue::SLICE;
use crate::threads::Threads;

/// How many bytes of messages, or of changes of a map, may be copied and not yet stored by the server. The others stay
/// in shared memory.
pub(crate) const MOST_COPIED: usize = 64 << 20;

/// Passes messages to the publisher, as long as at most [`MOST_COPIED`] bytes are copied.
pub(crate) fn read_requests(
    relay: &QueueRelay,
    name: &str,
    to: &mpsc::Sender<Outgoing<RelayRequest>>,
    threads: &Threads,
) {
    let copied = Arc::new(AtomicUsize::new(0));
    while !threads.is_ending() {
        if copied.load(Ordering::Relaxed) > MOST_COPIED {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        }
        match relay.next_request(SLICE) {
            Ok(request) => {
                let outgoing = Outgoing {
                    id: request.id().to_string(),
                    bytes: Bytes::from_owner(Copied::new(&request, &copied)),
                    dead_letter_reason: None,
                    before: 0,
                    kept: request,
                };
                if to.blocking_send(outgoing).is_err() {
                    return;
                }
            }
            Err(shoal::Error::Timeout | shoal::Error::Interrupted) => {}
            Err(why) => {
                tracing::warn!(queue = name, %why, "a request cannot be read");
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

/// The copied bytes of a request.
struct Copied {
    bytes: Vec<u8>,
    _room: Room,
}

impl Copied {
    fn new(bytes: &[u8], count: &Arc<AtomicUsize>) -> Self {
        Self {
            _room: Room::new(bytes.len(), count),
            bytes: bytes.to_vec(),
        }
    }
}

impl AsRef<[u8]> for Copied {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Some bytes, counted as long as this lives.
pub(crate) struct Room {
    bytes: usize,
    count: Arc<AtomicUsize>,
}

impl Room {
    pub(crate) fn new(bytes: usize, count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(bytes, Ordering::Relaxed);
        Self {
            bytes,
            count: count.clone(),
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.count.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
