//! How a key's hash is divided.
//!
//! ```text
//! bits 58..64  shard   which of the 64 shards; of a compact map's 4, the lowest two of these bits
//! bits 30..58  tag     kept in the table; says where a slot belongs and rules out nearly
//!                      all other keys without touching their entries
//! ```
//! The hash is rapidhash v3, whose output does not change from version to version. Each map has a random seed:
//! colliding keys cannot be constructed without it.

use rapidhash::v3::{RapidSecrets, rapidhash_v3_seeded};

/// Shards of a map.
pub(super) const SHARDS: usize = 64;
/// Shards of a compact map.
pub(super) const FEW_SHARDS: usize = 4;
/// Bits of a tag.
pub(super) const TAG_BITS: u32 = 28;

/// The hash function of one map.
pub(super) struct Hasher {
    secrets: RapidSecrets,
    last_shard: u8,
}

/// Where a key belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hash {
    pub(super) shard: u8,
    pub(super) tag: u32,
}

impl Hasher {
    /// For a map of that many shards: [`SHARDS`] or [`FEW_SHARDS`].
    pub(super) fn new(seed: u64, shards: usize) -> Self {
        Self {
            secrets: RapidSecrets::seed(seed),
            last_shard: (shards - 1) as u8,
        }
    }

    #[inline]
    pub(super) fn hash(&self, key: &[u8]) -> Hash {
        let hash = rapidhash_v3_seeded(key, &self.secrets);
        Hash {
            shard: (hash >> 58) as u8 & self.last_shard,
            tag: (hash >> (58 - TAG_BITS)) as u32 & ((1 << TAG_BITS) - 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_place_in_every_version() {
        // Maps outlive the process and the library version that made them.
        let hash = |seed, shards| Hasher::new(seed, shards).hash(b"the key");
        assert_eq!(hash(0x5110a1, SHARDS), hash(0x5110a1, SHARDS));
        assert_ne!(hash(0x5110a1, SHARDS), hash(0x5110a2, SHARDS));
        for (shards, shard) in [(SHARDS, 13), (FEW_SHARDS, 1)] {
            let hash = hash(0x5110a1, shards);
            assert_eq!((hash.shard, hash.tag), (shard, 30_988_361));
        }
    }
}
