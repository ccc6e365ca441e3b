//! Memory that words in shared memory promise.

use std::ptr::NonNull;

use super::crash::committing;
use crate::error::Result;
use crate::sys::mapping;

/// Makes sure that the `len` bytes at `at` have memory, whole pages of a shared mapping. An object whose words
/// are valid has it there, and then nothing changes; but the words are shared memory, and a touch of what they
/// lead to raises SIGBUS where there is none.
///
/// # Errors
/// `NoSpace` if there was none, and is none to commit. A part may then be committed.
pub(crate) fn ensure(at: NonNull<u8>, len: usize) -> Result<()> {
    // Before Linux 5.14, what cannot be committed through the mapping has its memory from the start, or was
    // committed through the file.
    if len == 0 || cfg!(miri) || mapping::are_resident(at, len) || !mapping::commits() {
        return Ok(());
    }
    // Never there, never written to, or swapped out.
    committing(|| mapping::commit(at, len))
}
