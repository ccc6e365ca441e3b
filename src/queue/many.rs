//! Taking many messages in one call, under one lock.

use crate::copy::{Room, room};
use crate::error::Result;
use crate::sys::clock::{Deadline, IntoTimeout, Timeout};

use super::core::Queue;

impl Queue {
    /// Waits for a first message until `timeout`, then takes it and up to `max - 1` more that are there,
    /// without further waiting. Their bytes are appended to `buf` back to back, their lengths to `lens`.
    /// Returns how many were taken.
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    pub fn get_many(
        &self,
        buf: &mut Vec<u8>,
        lens: &mut Vec<usize>,
        max: usize,
        timeout: impl IntoTimeout,
    ) -> Result<usize> {
        if max == 0 {
            return Ok(0);
        }
        self.take(Deadline::after(timeout), false, |side, end| {
            let (mut taken, mut bytes) = (0, 0);
            while taken < max {
                let len = match side.append_next(end, buf) {
                    Ok(Some(len)) => len,
                    Ok(None) => break,
                    // What was taken must be returned: a message of the store is freed already. The next call
                    // meets the error again.
                    Err(_) if taken > 0 => break,
                    Err(err) => return Err(err),
                };
                if end.publish_part() {
                    self.notify_producers();
                }
                lens.push(len);
                (taken, bytes) = (taken + 1, bytes + len as u64);
            }
            Ok((taken > 0).then_some((taken, (taken as u64, bytes))))
        })
    }

    /// [`get_many`](Self::get_many) into fixed buffers: at most `lens.len()` messages, as far as they fit in
    /// `buf`, back to back.
    ///
    /// # Errors
    /// As for [`get`](Self::get); `BufferTooSmall` if the first message does not fit.
    pub fn get_many_into(
        &self,
        buf: &mut [u8],
        lens: &mut [usize],
        timeout: impl IntoTimeout,
    ) -> Result<usize> {
        self.get_many_lens(buf, lens, timeout.into_timeout())
    }

    /// Not generic, so that the loop is compiled with what it calls.
    fn get_many_lens(&self, buf: &mut [u8], lens: &mut [usize], timeout: Timeout) -> Result<usize> {
        let most = lens.len();
        let set = |index: usize, len| lens[index] = len;
        self.get_many_set(room(buf), most, set, timeout)
    }

    /// The same into memory that need not be initialised, for at most `most` messages. Calls `set` with the
    /// index and the length of each.
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
        self.take(Deadline::after(timeout), false, |side, end| {
            let (mut taken, mut filled) = (0, 0);
            while taken < most {
                let len = match side.copy_next(end, &mut buf[filled..]) {
                    Ok(Some(len)) => len,
                    Ok(None) => break,
                    // What was taken must be returned: a message of the store is freed already. The next call
                    // meets the error again.
                    Err(_) if taken > 0 => break,
                    Err(err) => return Err(err),
                };
                if end.publish_part() {
                    self.notify_producers();
                }
                set(taken, len);
                (taken, filled) = (taken + 1, filled + len);
            }
            Ok((taken > 0).then_some((taken, (taken as u64, filled as u64))))
        })
    }
}
