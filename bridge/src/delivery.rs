//! The metadata of a delivery, which the server puts into the subject of the ack.

use async_nats::Subject;

/// A message of the server, by its delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Delivery {
    /// The subject of its ack. It is valid on every connection.
    pub(crate) reply: Subject,
    /// Its number in the stream.
    pub(crate) sequence: u64,
    /// When the stream stored it, in nanoseconds of the server's clock. A sequence number can be used twice: by
    /// a stream that was created again, or by a server that was killed and lost the last numbers.
    pub(crate) stored: u64,
    /// How often it was delivered, including this time.
    pub(crate) times: u64,
}

impl Delivery {
    /// Reads the subject of an ack. `None` if it is another subject.
    ///
    /// `$JS.ACK.<stream>.<consumer>.<times>.<sequence>.<of consumer>.<time>.<pending>`, or with the domain
    /// and the account in front of the stream.
    pub(crate) fn read(reply: &str) -> Option<Self> {
        let words: Vec<&str> = reply.strip_prefix("$JS.ACK.")?.split('.').collect();
        let at = match words.len() {
            7 => 2,
            9.. => 4,
            _ => return None,
        };
        let number = |at: usize| words.get(at)?.parse::<u64>().ok();
        Some(Self {
            reply: reply.into(),
            times: number(at)?,
            sequence: number(at + 1)?,
            stored: number(at + 3)?,
        })
    }

    /// The stream that it is in.
    pub(crate) fn stream(&self) -> &str {
        let at = if self.reply.split('.').count() == 9 {
            2
        } else {
            4
        };
        self.reply.split('.').nth(at).unwrap_or_default()
    }

    /// Identifies the message in its queue.
    pub(crate) fn key(&self) -> (u64, u64) {
        (self.sequence, self.stored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_the_subject_are_read() {
        for reply in [
            "$JS.ACK.q.shoal.2.17.30.1795975360428138210.0",
            "$JS.ACK._.abcdef.q.shoal.2.17.30.1795975360428138210.0",
            "$JS.ACK.hub.abcdef.q.shoal.2.17.30.1795975360428138210.0.random",
        ] {
            let delivery = Delivery::read(reply).unwrap();
            assert_eq!((delivery.times, delivery.sequence), (2, 17), "{reply}");
            assert_eq!(delivery.key(), (17, 1795975360428138210));
            assert_eq!(delivery.stream(), "q");
        }
    }

    #[test]
    fn other_subjects_are_refused() {
        for reply in [
            "",
            "_INBOX.a.b",
            "$JS.ACK.q.shoal",
            "$JS.ACK.q.shoal.x.1.1.1.1",
            "$JS.ACK.a.b.c.d.e.f.g.h",
        ] {
            assert_eq!(Delivery::read(reply), None, "{reply}");
        }
    }
}
