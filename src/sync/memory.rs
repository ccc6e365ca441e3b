//! Memory that must be committed according to words in shared memory.

use std::ptr::NonNull;

use super::crash::committing;
use crate::error::Result;
use crate::sys::mapping;

/// Makes sure that the `len` bytes at `at`, whole pages of a shared mapping, have memory. If the words of the
/// object are valid, they have it, and nothing changes. But the words are shared memory, and an access to a page
/// without memory raises SIGBUS when `/dev/shm` is full.
///
/// # Errors
/// `NoSpace` if they had no memory and it cannot be committed. A part may then be committed.
pub(crate) fn ensure(at: NonNull<u8>, len: usize) -> Result<()> {
    // Before Linux 5.14, what cannot be committed through the mapping has its memory from the start, or was
    // committed through the file.
    if len == 0 || cfg!(miri) || mapping::are_resident(at, len) || !mapping::commits() {
        return Ok(());
    }
    // Never there, never written to, or swapped out.
    committing(|| mapping::commit(at, len))
}
