//! The list as the owner of its lock uses it.

use std::cmp::Ordering;
use std::ops::Range;

use super::core::{Core, Owned};
use super::element::Element;
use super::shape::Shape;
use super::sort;
use super::store::Store;
use crate::copy::{Room, room};
use crate::error::{Error, Result};

/// A [`List`](crate::List) whose lock is held: other processes see several operations as one.
///
/// [`List::with`](crate::List::with) passes one to its function. If the process is killed, each single
/// operation has happened completely or not at all, and earlier ones remain done. While this value exists,
/// all other users of the list wait. A call on the [`List`](crate::List) itself from the same thread is an
/// error. In a child that is forked meanwhile, every call on this value is an error: the parent has the lock.
pub struct Locked<'a> {
    owned: Owned<'a>,
}

impl std::fmt::Debug for Locked<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Locked")
            .field("name", &self.owned.core.segment().name())
            .finish()
    }
}

impl<'a> Locked<'a> {
    #[inline]
    pub(super) fn new(core: &'a Core) -> Result<Self> {
        Ok(Self {
            owned: core.lock()?,
        })
    }

    /// # Errors
    /// `Invalid` in a child that was forked under the lock, which is its parent's.
    #[inline]
    fn store(&self) -> Result<Store<'_>> {
        match self.owned.is_ours() {
            true => Ok(self.owned.core.store()),
            false => Err(not_ours()),
        }
    }

    /// The shape, if the list has an element `index`.
    #[inline]
    fn at(&self, index: usize) -> Result<Option<Shape>> {
        let shape = self.store()?.shape()?;
        Ok(((index as u64) < shape.len).then_some(shape))
    }

    /// How many elements the list has.
    ///
    /// # Errors
    /// `Corrupt`.
    #[inline]
    pub fn len(&self) -> Result<usize> {
        Ok(self.store()?.shape()?.len as usize)
    }

    /// Whether it has none.
    ///
    /// # Errors
    /// `Corrupt`.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// A number that changes whenever the contents change, and sometimes without a change.
    pub fn version(&self) -> u64 {
        self.owned.core.store().version()
    }

    /// As [`List::get`](crate::List::get).
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn get(&self, index: usize, buf: &mut [u8]) -> Result<Option<usize>> {
        self.get_into(index, room(buf))
    }

    /// [`get`](Self::get) into memory that need not be initialised.
    #[inline]
    pub(crate) fn get_into(&self, index: usize, buf: &mut Room) -> Result<Option<usize>> {
        let Some(shape) = self.at(index)? else {
            return Ok(None);
        };
        let element = self.store()?.element(&shape, index as u64)?.copy_to(buf)?;
        Ok(Some(element))
    }

    /// As [`List::get_vec`](crate::List::get_vec).
    ///
    /// # Errors
    /// As there.
    pub fn get_vec(&self, index: usize) -> Result<Option<Vec<u8>>> {
        let Some(shape) = self.at(index)? else {
            return Ok(None);
        };
        let element = self.store()?.element(&shape, index as u64)?.to_vec();
        Ok(Some(element))
    }

    /// Whether the first elements are these.
    ///
    /// # Errors
    /// `Corrupt`.
    pub fn starts_with<T: AsRef<[u8]>>(&self, items: &[T]) -> Result<bool> {
        let store = self.store()?;
        let shape = store.whole_shape()?;
        if (items.len() as u64) > shape.len {
            return Ok(false);
        }
        for (index, item) in (0..).zip(items) {
            if store.element(&shape, index)?.bytes() != item.as_ref() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// As [`List::range_vec`](crate::List::range_vec).
    ///
    /// # Errors
    /// As there.
    pub fn range_vec(&self, range: Range<usize>) -> Result<Vec<Vec<u8>>> {
        let (from, to) = self.clamp(range)?;
        let shape = self.store()?.whole_shape()?;
        let elements = (from..to).map(|index| Ok(self.store()?.element(&shape, index)?.to_vec()));
        elements.collect()
    }

    /// As [`List::set`](crate::List::set).
    ///
    /// # Errors
    /// As there.
    pub fn set(&mut self, index: usize, bytes: &[u8]) -> Result<bool> {
        self.check(bytes)?;
        let found = self.at(index)?.is_some();
        if found {
            self.store()?.set(index as u64, bytes)?;
        }
        Ok(found)
    }

    /// As [`List::splice`](crate::List::splice).
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn splice<T: AsRef<[u8]>>(&mut self, range: Range<usize>, items: &[T]) -> Result<()> {
        for item in items {
            self.check(item.as_ref())?;
        }
        let (from, to) = self.clamp(range)?;
        self.store()?.splice(from, to, items)
    }

    /// As [`List::append`](crate::List::append).
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.splice(usize::MAX..usize::MAX, &[bytes])
    }

    /// As [`List::pop_at`](crate::List::pop_at).
    ///
    /// # Errors
    /// As there.
    pub fn pop_at(&mut self, index: usize) -> Result<Option<Vec<u8>>> {
        let popped = self.get_vec(index)?;
        if popped.is_some() {
            self.store()?
                .splice::<&[u8]>(index as u64, index as u64 + 1, &[])?;
        }
        Ok(popped)
    }

    /// As [`List::pop_into`](crate::List::pop_into).
    ///
    /// # Errors
    /// As there.
    pub fn pop_into(&mut self, index: usize, buf: &mut [u8]) -> Result<Option<usize>> {
        self.pop_to(index, room(buf))
    }

    /// [`pop_into`](Self::pop_into) memory that need not be initialised.
    pub(crate) fn pop_to(&mut self, index: usize, buf: &mut Room) -> Result<Option<usize>> {
        let popped = self.get_into(index, buf)?;
        if popped.is_some() {
            self.store()?
                .splice::<&[u8]>(index as u64, index as u64 + 1, &[])?;
        }
        Ok(popped)
    }

    /// As [`List::swap`](crate::List::swap).
    ///
    /// # Errors
    /// As there.
    pub fn swap(&mut self, a: usize, b: usize) -> Result<bool> {
        let found = self.at(a.max(b))?.is_some();
        if found && a != b {
            self.store()?.swap(a as u64, b as u64)?;
        }
        Ok(found)
    }

    /// As [`List::compare_swap`](crate::List::compare_swap).
    ///
    /// # Errors
    /// As there.
    pub fn compare_swap(&mut self, index: usize, expected: &[u8], new: &[u8]) -> Result<bool> {
        self.check(new)?;
        let Some(shape) = self.at(index)? else {
            return Ok(false);
        };
        if self.store()?.element(&shape, index as u64)?.bytes() != expected {
            return Ok(false);
        }
        self.store()?.set(index as u64, new)?;
        Ok(true)
    }

    /// Replaces the list by the elements whose indices `order` names, in that order, as one
    /// operation. Elements that it does not name are removed.
    ///
    /// # Errors
    /// `Invalid` if `order` names an element twice, or one that does not exist; `NoSpace`; `Corrupt`. After
    /// an error, the list is unchanged.
    pub fn rearrange(&mut self, order: &[u64]) -> Result<()> {
        self.store()?.rearrange(order)
    }

    /// As [`List::sort_by`](crate::List::sort_by).
    ///
    /// # Errors
    /// As there.
    pub fn sort_by(&mut self, mut compare: impl FnMut(&[u8], &[u8]) -> Ordering) -> Result<()> {
        let store = self.store()?;
        let shape = store.whole_shape()?;
        let mut elements = Vec::new();
        for index in 0..shape.len {
            elements.push((index, store.element(&shape, index)?));
        }
        let order = sort::sorted(elements, |(_, a), (_, b)| compare(a.bytes(), b.bytes()));
        let order: Vec<u64> = order.iter().map(|(index, _)| *index).collect();
        // Checked again: `compare` may have forked, and this may be the child.
        self.store()?.rearrange(&order)
    }

    /// As [`List::reverse`](crate::List::reverse).
    ///
    /// # Errors
    /// As there.
    pub fn reverse(&mut self) -> Result<()> {
        let len = self.store()?.whole_shape()?.len;
        let order: Vec<u64> = (0..len).rev().collect();
        self.store()?.rearrange(&order)
    }

    /// Removes every element, as one operation.
    ///
    /// # Errors
    /// `Corrupt`.
    pub fn clear(&mut self) -> Result<()> {
        self.store()?.clear()
    }

    /// Calls `visit` with the elements from `from` on, until it returns `false`.
    ///
    /// # Errors
    /// `Corrupt`, and those of `visit`.
    pub(crate) fn visit(
        &self,
        from: usize,
        mut visit: impl FnMut(&[u8]) -> Result<bool>,
    ) -> Result<()> {
        let store = self.store()?;
        let shape = store.whole_shape()?;
        for index in from as u64..shape.len {
            let element: Element<'_> = store.element(&shape, index)?;
            if !visit(element.bytes())? {
                break;
            }
        }
        Ok(())
    }

    /// The part of `range` that exists in the list.
    #[inline]
    fn clamp(&self, range: Range<usize>) -> Result<(u64, u64)> {
        let len = self.store()?.shape()?.len;
        let from = (range.start as u64).min(len);
        Ok((from, (range.end as u64).clamp(from, len)))
    }

    #[inline]
    fn check(&self, bytes: &[u8]) -> Result<()> {
        let limit = max_element(self.owned.core);
        if bytes.len() as u64 > limit {
            return Err(Error::TooLarge {
                what: "element",
                size: bytes.len() as u64,
                limit,
            });
        }
        Ok(())
    }
}

#[cold]
fn not_ours() -> Error {
    let why = "its lock belongs to the process that took it, and not to a fork of that";
    Error::invalid("list", why)
}

/// The largest element that a list may hold.
#[inline]
pub(super) fn max_element(core: &Core) -> u64 {
    core.heap().capacity() / 2
}
