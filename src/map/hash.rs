//! How a key's hash is divided.
//!
//! ```text
//! bits 58..64  shard   which of the 64 shards
//! bits 30..58  tag     kept in the table; says where a slot belongs and rules out nearly
//!                      all other keys without touching their entries
//! ```
//! The hash is rapidhash v3, whose output is frozen, with a random seed per map: without the seed, colliding
//! keys cannot be constructed.

use rapidhash::v3::{RapidSecrets, rapidhash_v3_seeded};

/// Shards of a map.
pub(super) const SHARDS: usize = 64;
/// Bits of a tag.
pub(super) const TAG_BITS: u32 = 28;

/// The hash function of one map.
pub(super) struct Hasher(RapidSecrets);

/// Where a key belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hash {
    pub(super) shard: u8,
    pub(super) tag: u32,
}

impl Hasher {
    pub(super) fn new(seed: u64) -> Self {
        Self(RapidSecrets::seed(seed))
    }

    #[inline]
    pub(super) fn hash(&self, key: &[u8]) -> Hash {
        let hash = rapidhash_v3_seeded(key, &self.0);
        Hash {
            shard: (hash >> 58) as u8,
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
        let hash = Hasher::new(0x5110a1).hash(b"the key");
        assert_eq!(hash, Hasher::new(0x5110a1).hash(b"the key"));
        assert_ne!(hash, Hasher::new(0x5110a2).hash(b"the key"));
        assert_eq!((hash.shard, hash.tag), (13, 30_988_361));
    }
}
