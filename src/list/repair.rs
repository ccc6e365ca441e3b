//! Repair of a list after the death of its lock's owner, and the check of all its invariants.
//!
//! Both walk the table, which alone defines what the list holds, and compare it with the extents in the
//! arena: see [`Census`]. If a process is killed while it repairs, the next owner of the lock starts over.
//! Contents that no killed process could have left are an error, and the list is poisoned.

use super::element::{self, Element};
use super::store::{OWNER, Store};
use crate::error::{Error, Result};
use crate::heap::{Census, Extent};
use crate::sync::crash::crash_point;

impl Store<'_> {
    /// Completes what was committed, rebuilds all that is derived, and frees all memory that nothing refers
    /// to.
    ///
    /// # Errors
    /// `Corrupt` if the table is not one that a killed process could have left.
    pub(super) fn repair(&self) -> Result<()> {
        let shape = self.whole_shape()?;
        self.complete_swap(&shape)?;
        let census = self.census(self.extents.owned_by(OWNER)?)?;
        crash_point!();
        census.restore(&self.slabs())?;
        // The dead owner may have stored a word but not the new version.
        self.publish(shape);
        Ok(())
    }

    /// Checks every invariant. `extents` are those that the arena says are in use.
    pub(super) fn verify(&self, extents: Vec<Extent>) -> Result<()> {
        if self.is_swap_pending() {
            return Err(Error::corrupt("a swap was not completed"));
        }
        self.census(extents)?.verify(&self.slabs())
    }

    /// Walks the table and marks what each element occupies.
    fn census(&self, extents: Vec<Extent>) -> Result<Census> {
        let shape = self.whole_shape()?;
        let mut census = Census::new(&self.slabs(), extents)?;
        if shape.blocks != 0 {
            census.mark_table(shape.head, shape.blocks)?;
        }
        for word in self.range(&shape, 0, shape.len)? {
            let element = Element::read(self.heap, word)?;
            if let Some(offset) = element::place_of(word) {
                let size = element::place_size(element.bytes().len());
                let size = size.ok_or_else(|| Error::corrupt("a short element has a place"))?;
                census.mark(self.heap, offset, size)?;
            }
        }
        Ok(census)
    }
}
