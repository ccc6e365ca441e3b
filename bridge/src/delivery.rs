//! What the server says about a message that it delivers: all of it is in the subject of the ack.

use async_nats::Subject;

/// A message of the server, by its delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Delivery {
    /// Where its ack goes. It is good on every connection.
    pub(crate) reply: Subject,
    /// Its number in the stream.
    pub(crate) sequence: u64,
    /// How often it was delivered, this time included.
    pub(crate) times: u64,
}

impl Delivery {
    /// Reads the subject of an ack; `None` if it is none.
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
        Some(Self { reply: reply.into(), times: number(at)?, sequence: number(at + 1)? })
    }

    /// What tells this message from one of the same number in a stream that was made anew: when it was
    /// stored.
    pub(crate) fn stamp(&self) -> &str {
        let words: Vec<&str> = self.reply.split('.').collect();
        let at = if words.len() == 9 { 7 } else { 9 };
        words.get(at).copied().unwrap_or_default()
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
        }
    }

    #[test]
    fn other_subjects_are_refused() {
        for reply in ["", "_INBOX.a.b", "$JS.ACK.q.shoal", "$JS.ACK.q.shoal.x.1.1.1.1", "$JS.ACK.a.b.c.d.e.f.g.h"] {
            assert_eq!(Delivery::read(reply), None, "{reply}");
        }
    }
}
