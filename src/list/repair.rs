//! Repair of a list after a process died in it, and the check of all its invariants.
//!
//! Both walk the table, which alone says what the list holds, and compare it with the extents
//! that the arena says there are: see [`Census`]. A repair that is itself killed is started
//! over by the next owner of the lock. What it cannot make sense of is an error, and the list
//! is poisoned.

use super::element::{self, Element};
use super::store::Store;
use crate::error::{Error, Result};
use crate::heap::{Census, Extent};
use crate::sync::crash::crash_point;

impl Store<'_> {
    /// Finishes what was committed, restores all that is derived and frees all that is not
    /// referred to.
    ///
    /// # Errors
    /// `Corrupt` if the table is not one that a killed process could have left.
    pub(super) fn repair(&self) -> Result<()> {
        let view = self.whole_view()?;
        self.carry_out(&view)?;
        let census = self.census(self.extents.owned_by(super::store::OWNER)?)?;
        crash_point!();
        census.restore(&self.slabs())?;
        // A word may have been stored whose version was not.
        self.publish(view);
        Ok(())
    }

    /// Checks every invariant. `extents` are those that the arena says are in use.
    pub(super) fn verify(&self, extents: Vec<Extent>) -> Result<()> {
        if self.has_note() {
            return Err(Error::corrupt("a swap was not carried out"));
        }
        self.census(extents)?.verify(&self.slabs())
    }

    /// Walks the table and marks what each element occupies.
    fn census(&self, extents: Vec<Extent>) -> Result<Census> {
        let view = self.whole_view()?;
        let mut census = Census::new(&self.slabs(), extents)?;
        if view.blocks != 0 {
            census.mark_table(view.head, view.blocks)?;
        }
        for word in self.range(&view, 0, view.len)? {
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
