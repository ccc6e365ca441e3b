//! The content of a message: words that differ from message to message, and their sum.
//!
//! Both functions are loops over words that the compiler turns into vector instructions, so
//! that making and checking messages costs little beside carrying them.

/// How much of each message is written and read.
#[derive(Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) enum Touch {
    /// Every byte.
    All,
    /// The first and the last word, so that only carrying the message counts.
    Ends,
}

/// Writes a message and returns the sum that its reader will compute.
#[inline]
pub(super) fn write(message: &mut [u8], seed: u64, touch: Touch) -> u64 {
    let (words, _) = message.as_chunks_mut::<8>();
    if touch == Touch::All {
        for (index, word) in words.iter_mut().enumerate() {
            *word = seed.wrapping_add(index as u64).to_ne_bytes();
        }
        let count = words.len() as u64;
        return seed
            .wrapping_mul(count)
            .wrapping_add(count * count.saturating_sub(1) / 2);
    }
    let mut sum = 0u64;
    for at in [0, words.len() - 1] {
        words[at] = seed.to_ne_bytes();
        sum = sum.wrapping_add(seed);
    }
    sum
}

/// Reads a message and returns its sum.
#[inline]
pub(super) fn read(message: &[u8], touch: Touch) -> u64 {
    let (words, _) = message.as_chunks::<8>();
    let add = |sum: u64, word: &[u8; 8]| sum.wrapping_add(u64::from_ne_bytes(*word));
    if touch == Touch::All {
        return words.iter().fold(0, add);
    }
    [0, words.len() - 1]
        .iter()
        .fold(0, |sum, &at| add(sum, &words[at]))
}
