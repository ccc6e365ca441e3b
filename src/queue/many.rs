//! Taking many messages in one call, under one lock.

use std::ptr::NonNull;

use crate::Timeout;
use crate::copy::{Room, room};
use crate::error::{Error, Result};
use crate::sys::clock::Deadline;

use super::ops::Queue;

impl Queue {
    /// Waits for a first message until `timeout`, then takes it and up to `max - 1` more that
    /// are there. Their bytes are appended to `buf` back to back, their lengths to `lens`.
    /// Returns how many there were.
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    pub fn get_many(
        &self,
        buf: &mut Vec<u8>,
        lens: &mut Vec<usize>,
        max: usize,
        timeout: Timeout,
    ) -> Result<usize> {
        if max == 0 {
            return Ok(0);
        }
        self.take(Deadline::after(timeout), false, |end| {
            let (mut taken, mut bytes) = (0, 0);
            while taken < max {
                let Some(len) = self.append(end, buf)? else {
                    break;
                };
                if end.publish_part() {
                    self.told_producers();
                }
                lens.push(len);
                (taken, bytes) = (taken + 1, bytes + len as u64);
            }
            Ok((taken > 0).then_some((taken, (taken as u64, bytes))))
        })
    }

    /// [`get_many`](Self::get_many) into fixed places: as many messages as there are `lens`
    /// and as fit in `buf`, back to back.
    ///
    /// # Errors
    /// As for [`get`](Self::get); `BufferTooSmall` if the first message does not fit.
    pub fn get_many_into(
        &self,
        buf: &mut [u8],
        lens: &mut [usize],
        timeout: Timeout,
    ) -> Result<usize> {
        let most = lens.len();
        let set = |index: usize, len| lens[index] = len;
        self.get_many_set(room(buf), most, set, timeout)
    }

    /// The same into memory that need not be initialised, for at most `most` messages. `set` is told
    /// the length of each.
    pub(crate) fn get_many_set(
        &self,
        buf: &mut Room,
        most: usize,
        mut set: impl FnMut(usize, usize),
        timeout: Timeout,
    ) -> Result<usize> {
        if most == 0 {
            return Ok(0);
        }
        self.take(Deadline::after(timeout), false, |end| {
            let (mut taken, mut filled) = (0, 0);
            while taken < most {
                let Some(message) = end.peek()? else { break };
                let (needed, capacity) = (message.len(), buf.len() - filled);
                let Some(to) = buf[filled..].get_mut(..needed) else {
                    if taken > 0 {
                        break;
                    }
                    return Err(Error::BufferTooSmall { needed, capacity });
                };
                // SAFETY: `to` has the message's length; nothing is published meanwhile.
                unsafe { message.copy_to(NonNull::from(to).cast()) };
                self.pass(end, message)?;
                if end.publish_part() {
                    self.told_producers();
                }
                set(taken, needed);
                (taken, filled) = (taken + 1, filled + needed);
            }
            Ok((taken > 0).then_some((taken, (taken as u64, filled as u64))))
        })
    }
}
