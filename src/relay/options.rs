//! A relay's options and state, and the ids of requests.

use std::fmt;
use std::time::Duration;

/// How an object is relayed: the bounds of what waits for the relay.
///
/// The first relay creates the companions with these bounds. A relay that takes over, or attaches later, uses
/// the companions as they are, and sets only [`max_payload`](Self::max_payload), [`wait`](Self::wait) and
/// [`sets_wait`](Self::sets_wait).
///
/// ```
/// use std::time::Duration;
/// use shoal::RelayOptions;
///
/// let options = RelayOptions::new().max_requests(10_000).max_payload(1 << 20);
/// assert_eq!(options.wait, Duration::from_secs(30));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RelayOptions {
    /// The most requests that wait for the relay at a time; 0 for as many as fit.
    pub max_requests: u64,
    /// Bytes of requests that wait for the relay at a time; 0 for the default of a queue.
    pub max_bytes: u64,
    /// The longest message or value, in bytes, that the relay accepts; 0 for any. The call with a longer one
    /// fails with `TooLarge`.
    pub max_payload: u64,
    /// How long the calls of a map wait for room among the requests, and for the relay's answer: they have no
    /// timeout parameter. 30 seconds by default.
    pub wait: Duration,
    /// For a map: whether each [`set`](crate::Map::set) waits for the relay's answer. Otherwise it returns
    /// once it is a request, and even its process reads the old value until the relay delivers the new one.
    pub sets_wait: bool,
    /// For a map that was not relayed before: whether its keys are removed. Otherwise a map with keys is
    /// refused, since their versions are not the relay's.
    pub discard: bool,
}

impl Default for RelayOptions {
    fn default() -> Self {
        Self {
            max_requests: 0,
            max_bytes: 0,
            max_payload: 0,
            wait: Duration::from_secs(30),
            sets_wait: false,
            discard: false,
        }
    }
}

impl RelayOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the most requests that wait for the relay.
    pub fn max_requests(mut self, requests: u64) -> Self {
        self.max_requests = requests;
        self
    }

    /// Sets the bytes of requests that wait for the relay.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Sets the longest message or value that the relay accepts.
    pub fn max_payload(mut self, bytes: u64) -> Self {
        self.max_payload = bytes;
        self
    }

    /// Sets how long the calls of a map wait.
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// Makes each set of a map wait for the relay's answer.
    pub fn sets_wait(mut self) -> Self {
        self.sets_wait = true;
        self
    }

    /// Removes a map's keys when it becomes relayed.
    pub fn discard(mut self) -> Self {
        self.discard = true;
        self
    }
}

/// The state of an object's relay; see [`Queue::relay`](crate::Queue::relay).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RelayInfo {
    /// Whether a process has the role of the relay and lives.
    pub is_running: bool,
    /// Requests that the relay has not finished.
    pub requests: u64,
    /// Settlements that the relay has not finished; 0 for a map.
    pub settlements: u64,
}

/// The id of a request: the same each time that a relay takes it, and different from that of any other
/// request of any object.
///
/// If a relay handles a request again, because it or an earlier one was killed meanwhile, the other side can
/// recognise the repetition by the id.
///
/// ```
/// use shoal::RequestId;
///
/// let id = RequestId { companion: 0xab, number: 7 };
/// assert_eq!(id.to_string(), "00000000000000ab-7");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId {
    /// A random number, which the companion got when it was created.
    pub companion: u64,
    /// The request's number in it, counted from 1.
    pub number: u64,
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.companion, self.number)
    }
}
