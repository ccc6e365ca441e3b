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

/// How many bytes of messages may be copied and not yet stored by the server. The other messages stay in shared
/// memory.
const MOST_COPIED: usize = 64 << 20;

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

/// The copied bytes of a request, counted as long as they are kept.
struct Copied {
    bytes: Vec<u8>,
    count: Arc<AtomicUsize>,
}

impl Copied {
    fn new(bytes: &[u8], count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(bytes.len(), Ordering::Relaxed);
        Self {
            bytes: bytes.to_vec(),
            count: count.clone(),
        }
    }
}

impl AsRef<[u8]> for Copied {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        self.count.fetch_sub(self.bytes.len(), Ordering::Relaxed);
    }
}
