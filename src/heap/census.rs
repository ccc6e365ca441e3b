//! A census: the extents of one owner, and which of their slots are in use.
//!
//! | extent                       | after a repair                      |
//! |------------------------------|-------------------------------------|
//! | the current table            | kept                                |
//! | another table                | freed: not yet or no longer published |
//! | large, referred to           | kept                                |
//! | large, not referred to       | freed                               |
//! | slab, slots are referred to  | kept, and its other slots relinked  |
//! | slab, nothing refers to it   | freed                               |

use std::collections::BTreeMap;

use super::block::{BLOCK, Extent, Heap, Purpose};
use super::slab::Slabs;
use crate::error::{Error, Result};
use crate::sync::crash::crash_point;

/// The extents of an owner, and which of their slots are in use.
pub(crate) struct Census {
    extents: BTreeMap<u32, ExtentUse>,
}

struct ExtentUse {
    extent: Extent,
    /// For each slot of a slab, whether it is in use; one value for any other extent.
    in_use: Vec<bool>,
    /// Bytes of a slot; of the whole extent if it is not a slab.
    size: u64,
}

impl Census {
    /// A census of `extents`, which belong to the owner of `slabs`, with nothing in use yet.
    pub(crate) fn new(slabs: &Slabs<'_>, extents: Vec<Extent>) -> Result<Self> {
        let mut found = BTreeMap::new();
        for extent in extents {
            let (slots, size) = match extent.purpose {
                Purpose::Slab(_) => slabs.shape(extent.head)?,
                _ => (1, extent.blocks as u64 * BLOCK),
            };
            let in_use = vec![false; slots as usize];
            let what = ExtentUse {
                extent,
                in_use,
                size,
            };
            found.insert(extent.head, what);
        }
        Ok(Self { extents: found })
    }

    /// Marks the extent of `blocks` blocks at `head` as the table in use.
    pub(crate) fn mark_table(&mut self, head: u32, blocks: u32) -> Result<()> {
        match self.extents.get_mut(&head) {
            Some(found)
                if found.extent.purpose == Purpose::Table && found.extent.blocks == blocks =>
            {
                found.in_use[0] = true;
                Ok(())
            }
            _ => Err(Error::corrupt("a table is not its owner's")),
        }
    }

    /// Marks the slot or extent at `offset`, which holds `bytes` bytes, as in use.
    pub(crate) fn mark(&mut self, heap: &Heap, offset: u64, bytes: u64) -> Result<()> {
        let head = heap.extent_at(offset)?.head;
        let Some(found) = self.extents.get_mut(&head) else {
            return Err(Error::corrupt("an entry lies in another's memory"));
        };
        let at = offset - heap.offset_of(head);
        let slot = (at / found.size) as usize;
        let whole = at.is_multiple_of(found.size) && bytes <= found.size;
        match found.in_use.get_mut(slot) {
            Some(used) if whole && !*used && found.extent.purpose != Purpose::Table => {
                *used = true;
                Ok(())
            }
            _ => Err(Error::corrupt("two entries overlap")),
        }
    }

    /// Rebuilds the slabs, and frees the extents that are not in use.
    pub(crate) fn restore(self, slabs: &Slabs<'_>) -> Result<()> {
        slabs.forget();
        crash_point!();
        for (head, found) in self.extents {
            if !found.in_use.contains(&true) {
                slabs.extents.free(head)?;
                continue;
            }
            match found.extent.purpose {
                Purpose::Slab(_) => slabs.restore(head, &found.in_use)?,
                Purpose::Large => slabs.restore_large(found.extent.blocks),
                Purpose::Table => {}
            }
            crash_point!();
        }
        Ok(())
    }

    /// Checks that the slabs agree with the census, and that no extent is lost.
    pub(crate) fn verify(&self, slabs: &Slabs<'_>) -> Result<()> {
        let (mut bytes, mut partial, mut empty) = (0, 0, 0);
        for (head, found) in &self.extents {
            let used = found.in_use.iter().filter(|used| **used).count();
            match found.extent.purpose {
                Purpose::Slab(_) => {
                    slabs.verify(*head, &found.in_use)?;
                    bytes += used as u64 * found.size;
                    partial += (used < found.in_use.len()) as usize;
                    empty += (used == 0) as usize;
                }
                _ if used == 0 => return Err(Error::corrupt("an extent is lost")),
                Purpose::Large => bytes += found.size,
                Purpose::Table => {}
            }
        }
        if empty > 1 {
            return Err(Error::corrupt("more than one empty slab is kept"));
        }
        slabs.verify_lists(partial, bytes)
    }
}
