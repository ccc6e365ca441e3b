//! Loads: the transport, the size of messages, and the numbers of producers and consumers.

use serde::{Deserialize, Serialize};

use super::payload::Touch;
use super::stage;

/// A transport.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Transport {
    Shoal,
    /// Shoal, with messages that are written and read in place
    InPlace,
    /// Bare memory: the baseline of the former
    Bare,
    /// Our pipe of two directions. This one and the next two only where waiting is measured
    #[value(skip)]
    Duplex,
    /// Bare memory, and a word that the reader sleeps on
    #[value(skip)]
    Futex,
    /// The same, with our event instead of the word
    #[value(skip)]
    Event,
    Pipe,
    Unix,
    Mq,
    Iceoryx2,
    Boost,
    Zeromq,
    Nng,
}

impl Transport {
    /// The transports of the kernel.
    pub(super) const PEERS: [Self; 3] = [Self::Pipe, Self::Unix, Self::Mq];

    /// Whether messages are written and read in place, which pays off for large ones.
    pub(super) fn is_in_place(self) -> bool {
        matches!(self, Self::InPlace | Self::Bare)
    }
}

impl std::fmt::Display for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Transport::Shoal => "shoal",
            Transport::InPlace => "shoal place",
            Transport::Bare => "bare memory",
            Transport::Duplex => "shoal pipe",
            Transport::Futex => "futex words",
            Transport::Event => "shoal event",
            Transport::Pipe => "pipe",
            Transport::Unix => "unix socket",
            Transport::Mq => "posix mq",
            Transport::Iceoryx2 => "iceoryx2",
            Transport::Boost => "boost mq",
            Transport::Zeromq => "zeromq",
            Transport::Nng => "nng",
        })
    }
}

/// How many processes put and how many take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Topology {
    pub(super) producers: usize,
    pub(super) consumers: usize,
}

impl Topology {
    pub(super) const PAIR: Self = Self::of(1, 1);

    pub(super) const fn of(producers: usize, consumers: usize) -> Self {
        Self {
            producers,
            consumers,
        }
    }
}

impl std::fmt::Display for Topology {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&format!("{}x{}", self.producers, self.consumers))
    }
}

/// How many processes either side may have: each needs a slot on the stage.
const SIDE: usize = stage::WORKERS / 2;

impl std::str::FromStr for Topology {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let side = |text: &str| text.parse().ok().filter(|count| (1..=SIDE).contains(count));
        text.split_once('x')
            .and_then(|(producers, consumers)| {
                Some(Self {
                    producers: side(producers)?,
                    consumers: side(consumers)?,
                })
            })
            .ok_or_else(|| format!("{text:?} is not like 4x4, with 1 to {SIDE} on each side"))
    }
}

/// The size from which writing and reading messages in place pays off.
pub(super) const LARGE: usize = 64 << 10;

/// How many messages a batch has.
pub(super) const BATCH: usize = 32;

/// A load: a transport, a size, a topology and a batch.
#[derive(Clone, Copy)]
pub(super) struct Load {
    pub(super) transport: Transport,
    pub(super) size: usize,
    pub(super) topology: Topology,
    pub(super) batch: usize,
    pub(super) touch: Touch,
}
