//! The stores of keys and values that are compared, and the operations on them.

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Operation {
    Get,
    /// Whether or not the key is there.
    Set,
    /// A set by a process that knows that the key is there, with a value as long as the old one.
    Overwrite,
    /// Nine gets, one set
    Mix,
    /// A get and a set in turn
    Half,
}

impl Operation {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Set => "set",
            Self::Overwrite => "overwrite",
            Self::Mix => "mix",
            Self::Half => "half",
        }
    }
}

impl Store {
    /// Whether it has a separate operation for this. Shoal overwrites with `set`.
    pub(super) fn knows(self, operation: Operation) -> bool {
        operation != Operation::Overwrite || matches!(self, Self::Shoal | Self::Boost)
    }
}

/// A store of keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Store {
    Shoal,
    /// `unordered_map` in a managed segment, under a named mutex
    Boost,
    /// Without syncing, a transaction for each operation
    Lmdb,
    /// Without a disk, over a Unix socket
    Redis,
}

impl std::fmt::Display for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Shoal => "shoal",
            Self::Boost => "boost map",
            Self::Lmdb => "lmdb",
            Self::Redis => "redis",
        })
    }
}
