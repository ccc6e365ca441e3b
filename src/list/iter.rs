//! Iteration while others write.

use std::collections::VecDeque;

use super::List;
use crate::error::Result;

/// Elements and bytes copied under one lock; an element that is larger comes alone.
const STEP: usize = 256;
const STEP_BYTES: usize = 64 * 1024;

/// Iterator over the elements of a [`List`]; see [`List::iter`].
#[derive(Debug)]
pub struct Iter<'a> {
    list: &'a List,
    next: usize,
    ready: VecDeque<Vec<u8>>,
    over: bool,
}

impl<'a> Iter<'a> {
    pub(super) fn new(list: &'a List) -> Self {
        Self {
            list,
            next: 0,
            ready: VecDeque::new(),
            over: false,
        }
    }

    /// Copies the next few elements out of the list.
    fn fill(&mut self) -> Result<()> {
        let (ready, mut bytes) = (&mut self.ready, 0);
        self.list.with(|locked| {
            locked.visit(self.next, |element| {
                bytes += element.len();
                if ready.is_empty() || bytes <= STEP_BYTES {
                    ready.push_back(element.to_vec());
                }
                Ok(ready.len() < STEP && bytes < STEP_BYTES)
            })
        })?;
        self.next += self.ready.len();
        Ok(())
    }
}

impl Iterator for Iter<'_> {
    type Item = Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ready.is_empty() && !self.over {
            if let Err(err) = self.fill() {
                self.over = true;
                return Some(Err(err));
            }
            self.over = self.ready.is_empty();
        }
        self.ready.pop_front().map(Ok)
    }
}

impl std::iter::FusedIterator for Iter<'_> {}
