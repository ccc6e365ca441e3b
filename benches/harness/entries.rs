//! Keys of 16 bytes and values of 64, the same in every store's workers.

pub(crate) const KEY: usize = 16;
pub(crate) const VALUE: usize = 64;

pub(crate) fn key(index: u64) -> [u8; KEY] {
    // Spread over all bits, as real keys are, and never the same for two indices.
    let mixed = index.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut key = [0; KEY];
    key[..8].copy_from_slice(&mixed.to_ne_bytes());
    key[8..].copy_from_slice(&index.to_ne_bytes());
    key
}

/// The value of a key, which begins with the key.
pub(crate) fn value(key: &[u8; KEY]) -> [u8; VALUE] {
    let mut value = [7; VALUE];
    value[..KEY].copy_from_slice(key);
    value
}

/// The next pseudo-random number of a sequence.
pub(crate) fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// The keys of a store with `count` of them, in an order that no cache can guess. Each worker
/// begins somewhere else.
pub(crate) fn shuffled(count: u64, worker: usize, workers: usize) -> Vec<[u8; KEY]> {
    let mut keys: Vec<_> = (0..count).map(key).collect();
    let mut state = 0x2545_f491_4f6c_dd1du64;
    for at in (1..keys.len()).rev() {
        keys.swap(at, (random(&mut state) % (at as u64 + 1)) as usize);
    }
    keys.rotate_left(count as usize / workers * worker);
    keys
}

/// Which operations write. It is parsed beforehand, because it is read for each operation.
#[derive(Clone, Copy)]
pub(crate) enum Writes {
    None,
    All,
    /// In a mixture of gets and sets.
    EveryTenth,
    EverySecond,
}

impl Writes {
    pub(crate) fn of(operation: &str) -> Self {
        match operation {
            "get" => Self::None,
            "mix" => Self::EveryTenth,
            "half" => Self::EverySecond,
            _ => Self::All,
        }
    }

    /// Whether the operation after `done` others is one of them.
    #[inline]
    pub(crate) fn next(self, done: u64) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::EveryTenth => done.is_multiple_of(10),
            Self::EverySecond => done.is_multiple_of(2),
        }
    }
}
