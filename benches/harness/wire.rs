//! One end of a channel, as a worker uses it: our queue, and the transports of the kernel.
//!
//! All messages of a measurement have one size, so streams need no lengths in them.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;

use shoal::{Error, Pipe, Queue, Timeout};

use super::failure::Failure;

/// Puts messages, or takes them.
pub(super) trait Wire {
    /// Puts one message.
    fn put(&mut self, message: &[u8]) -> Result<(), Failure>;

    /// Fills `buf` with the next message; false at the end of the channel.
    fn get(&mut self, buf: &mut [u8]) -> Result<bool, Failure>;

    /// Puts one message of `size` bytes, which `write` writes where it will be read.
    fn put_in_place(&mut self, _: usize, _: &mut dyn FnMut(&mut [u8])) -> Result<(), Failure> {
        Err("messages cannot be written in place".into())
    }

    /// Lets `read` read the next message in place; false at the end.
    fn get_in_place(&mut self, _: &mut dyn FnMut(&[u8])) -> Result<bool, Failure> {
        Err("messages cannot be read in place".into())
    }

    /// Puts several messages.
    fn put_many(&mut self, messages: &[&[u8]]) -> Result<(), Failure> {
        messages.iter().try_for_each(|message| self.put(message))
    }

    /// Takes up to as many messages as there are `lens`, back to back; none at the end.
    fn get_many(&mut self, buf: &mut [u8], lens: &mut [usize]) -> Result<usize, Failure> {
        let message = buf.len() / lens.len();
        Ok(usize::from(self.get(&mut buf[..message])?))
    }
}

impl Wire for Queue {
    fn put(&mut self, message: &[u8]) -> Result<(), Failure> {
        Ok(Queue::put(self, message, Timeout::Infinite)?)
    }

    fn get(&mut self, buf: &mut [u8]) -> Result<bool, Failure> {
        match Queue::get(self, buf, Timeout::Infinite) {
            Ok(len) if len == buf.len() => Ok(true),
            Ok(len) => Err(format!("a message of {len} B arrived").into()),
            Err(Error::Closed) => Ok(false),
            Err(err) => Err(err.into()),
        }
    }

    fn put_in_place(
        &mut self,
        size: usize,
        write: &mut dyn FnMut(&mut [u8]),
    ) -> Result<(), Failure> {
        let mut room = self.reserve(size, Timeout::Infinite)?;
        write(&mut room);
        Ok(room.commit()?)
    }

    fn get_in_place(&mut self, read: &mut dyn FnMut(&[u8])) -> Result<bool, Failure> {
        match self.lease(Timeout::Infinite) {
            Ok(lease) => {
                read(&lease);
                lease.ack()?;
                Ok(true)
            }
            Err(Error::Closed) => Ok(false),
            Err(err) => Err(err.into()),
        }
    }

    fn put_many(&mut self, messages: &[&[u8]]) -> Result<(), Failure> {
        let mut done = 0;
        while done < messages.len() {
            done += Queue::put_many(self, &messages[done..], Timeout::Infinite)?;
        }
        Ok(())
    }

    fn get_many(&mut self, buf: &mut [u8], lens: &mut [usize]) -> Result<usize, Failure> {
        let message = buf.len() / lens.len();
        match self.get_many_into(buf, lens, Timeout::Infinite) {
            Ok(taken) if lens[..taken].iter().all(|&len| len == message) => Ok(taken),
            Ok(_) => Err("a message of another length arrived".into()),
            Err(Error::Closed) => Ok(0),
            Err(err) => Err(err.into()),
        }
    }
}

impl Wire for Rc<Pipe> {
    fn put(&mut self, message: &[u8]) -> Result<(), Failure> {
        Ok(self.send(message, Timeout::Infinite)?)
    }

    fn get(&mut self, buf: &mut [u8]) -> Result<bool, Failure> {
        match self.recv(buf, Timeout::Infinite) {
            Ok(len) if len == buf.len() => Ok(true),
            Ok(len) => Err(format!("a message of {len} B arrived").into()),
            Err(Error::Closed) => Ok(false),
            Err(err) => Err(err.into()),
        }
    }
}

/// A pipe or a socket; `whole` if messages arrive in one piece.
pub(super) struct Stream {
    pub(super) file: File,
    pub(super) whole: bool,
}

impl Wire for Stream {
    fn put(&mut self, message: &[u8]) -> Result<(), Failure> {
        Ok(self.file.write_all(message)?)
    }

    fn get(&mut self, buf: &mut [u8]) -> Result<bool, Failure> {
        if self.whole {
            return match self.file.read(buf)? {
                0 => Ok(false),
                len if len == buf.len() => Ok(true),
                len => Err(format!("a message of {len} B arrived").into()),
            };
        }
        match self.file.read_exact(buf) {
            Err(err) if err.kind() == ErrorKind::UnexpectedEof => Ok(false),
            other => Ok(other.map(|()| true)?),
        }
    }
}

/// A POSIX message queue.
pub(super) struct Mq(pub(super) OwnedFd);

impl Wire for Mq {
    fn put(&mut self, message: &[u8]) -> Result<(), Failure> {
        mq_put(self.0.as_raw_fd(), message)
    }

    fn get(&mut self, buf: &mut [u8]) -> Result<bool, Failure> {
        let (at, room) = (buf.as_mut_ptr().cast(), buf.len());
        // SAFETY: the buffer is writable and the queue is open.
        let len = unsafe { libc::mq_receive(self.0.as_raw_fd(), at, room, std::ptr::null_mut()) };
        match len {
            ..0 => Err(std::io::Error::last_os_error().into()),
            // An empty message marks the end.
            0 => Ok(false),
            len if len as usize == room => Ok(true),
            len => Err(format!("a message of {len} B arrived").into()),
        }
    }
}

/// Puts one message into a POSIX message queue.
pub(super) fn mq_put(queue: RawFd, message: &[u8]) -> Result<(), Failure> {
    // SAFETY: the message is readable and the queue is open.
    if unsafe { libc::mq_send(queue, message.as_ptr().cast(), message.len(), 0) } < 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    Ok(())
}
