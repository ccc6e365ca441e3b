//! Memory that one process writes and another reads, with as little code as possible: the
//! baseline for messages that are written and read in place.
//!
//! A ring of slots for messages of one size and a counter for each end. The reader polls without a pause, or
//! sleeps without polling. A sleeping reader is woken after each message, one message at a time.
//!
//! ```text
//! offset  size  field
//!      0     8  written   messages that are complete
//!    128     8  read      messages whose slots may be written again
//!    256     4  ended     1: the writer puts no more messages
//!    384     4  signal    1: there is a message for the reader, which sleeps on this word
//!   4096        slots
//! ```

use std::hint::spin_loop;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use shoal::{Event, Timeout};

use super::failure::Failure;
use super::mapping::{self, Mapping};
use super::stage::{futex_wait, futex_wake};
use super::wire::Wire;

#[repr(C, align(128))]
struct Line<T>(T);

#[repr(C)]
struct Head {
    written: Line<AtomicU64>,
    read: Line<AtomicU64>,
    ended: Line<AtomicU32>,
    signal: Line<AtomicU32>,
}

/// How the reader waits for a message.
#[derive(Clone, Serialize, Deserialize)]
pub(super) enum ReaderWait {
    /// It polls without a pause.
    Poll,
    Futex,
    /// Shoal's event of this name.
    Event(String),
}

const SLOTS_AT: usize = 4096;

/// The mapping of one end, or of the process that creates the memory.
pub(super) struct Bare {
    memory: Mapping,
    size: usize,
    wait: ReaderWait,
    event: Option<Event>,
}

impl Bare {
    /// The descriptor of memory for `bytes` of messages.
    pub(super) fn make(bytes: u64) -> Result<OwnedFd, Failure> {
        mapping::make(SLOTS_AT as u64 + bytes)
    }

    /// The memory behind `fd`, in slots of `size` bytes.
    pub(super) fn open(fd: &impl AsRawFd, size: usize, wait: &ReaderWait) -> Result<Self, Failure> {
        let event = match wait {
            ReaderWait::Event(name) => Some(Event::open(name)?),
            ReaderWait::Poll | ReaderWait::Futex => None,
        };
        Ok(Self {
            memory: Mapping::of(fd)?,
            size,
            wait: wait.clone(),
            event,
        })
    }

    fn head(&self) -> &Head {
        // SAFETY: the memory is mapped as long as `self` lives, and the fields are atomics.
        unsafe { self.memory.at.cast().as_ref() }
    }

    /// The slot of message `number`.
    fn slot(&self, number: u64) -> NonNull<[u8]> {
        let slots = ((self.memory.len - SLOTS_AT) / self.size) as u64;
        let index = (number % slots) as usize;
        // SAFETY: `index` is below the number of slots that the mapping holds.
        let slot = unsafe { self.memory.at.add(SLOTS_AT + index * self.size) };
        NonNull::slice_from_raw_parts(slot, self.size)
    }

    /// Marks the end: there will be no more messages.
    pub(super) fn end(&self) {
        self.head().ended.0.store(1, Ordering::Release);
        self.wake_reader();
    }

    fn wake_reader(&self) {
        if let Some(event) = &self.event {
            event.set();
        } else if matches!(self.wait, ReaderWait::Futex) {
            let signal = &self.head().signal.0;
            signal.store(1, Ordering::SeqCst);
            futex_wake(signal, 1);
        }
    }

    /// Sleeps until the writer wakes it, if the writer does so.
    fn wait_for_writer(&self) -> Result<(), Failure> {
        if let Some(event) = &self.event {
            event.wait(Timeout::Infinite)?;
            event.clear();
        } else if matches!(self.wait, ReaderWait::Futex) {
            let signal = &self.head().signal.0;
            while signal.swap(0, Ordering::SeqCst) == 0 {
                futex_wait(signal, 0);
            }
        }
        Ok(())
    }
}

impl Wire for Bare {
    fn put(&mut self, message: &[u8]) -> Result<(), Failure> {
        self.put_in_place(message.len(), &mut |slot| slot.copy_from_slice(message))
    }

    fn get(&mut self, buf: &mut [u8]) -> Result<bool, Failure> {
        self.get_in_place(&mut |slot| buf.copy_from_slice(slot))
    }

    fn put_in_place(&mut self, _: usize, write: &mut dyn FnMut(&mut [u8])) -> Result<(), Failure> {
        let head = self.head();
        let slots = ((self.memory.len - SLOTS_AT) / self.size) as u64;
        let number = head.written.0.load(Ordering::Relaxed);
        while number - head.read.0.load(Ordering::Acquire) == slots {
            spin_loop();
        }
        // SAFETY: this is the only writer, and `read` shows that the reader has left this slot.
        write(unsafe { self.slot(number).as_mut() });
        head.written.0.store(number + 1, Ordering::Release);
        self.wake_reader();
        Ok(())
    }

    fn get_in_place(&mut self, read: &mut dyn FnMut(&[u8])) -> Result<bool, Failure> {
        let head = self.head();
        let number = head.read.0.load(Ordering::Relaxed);
        self.wait_for_writer()?;
        while head.written.0.load(Ordering::Acquire) == number {
            let ended = head.ended.0.load(Ordering::Acquire) == 1;
            if ended && head.written.0.load(Ordering::Acquire) == number {
                return Ok(false);
            }
            spin_loop();
        }
        // SAFETY: `written` shows that the message is complete, and the writer does not touch the slot before
        // `read` passes it.
        read(unsafe { self.slot(number).as_ref() });
        head.read.0.store(number + 1, Ordering::Release);
        Ok(true)
    }
}
