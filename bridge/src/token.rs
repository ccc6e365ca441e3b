//! The token of a message of the server in the local queue: the subject of its ack, and the name of the object
//! that contains its bytes if they are not in the message itself.

use crate::delivery::Delivery;

/// The token that a settlement returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) delivery: Delivery,
    pub(crate) object: Option<String>,
    /// How often it was delivered to a worker before it was published. Not stored in shared memory, where the
    /// message has its number of attempts.
    pub(crate) earlier: u64,
}

impl Token {
    /// How often it was delivered before this.
    pub(crate) fn before(&self) -> u64 {
        self.earlier
            .saturating_add(self.delivery.times.saturating_sub(1))
    }

    /// The bytes of the token in shared memory.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.delivery.reply.as_bytes().to_vec();
        if let Some(object) = &self.object {
            bytes.push(b'\n');
            bytes.extend_from_slice(object.as_bytes());
        }
        bytes
    }

    /// Reads a token from shared memory. `None` if no bridge can have written it.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (reply, object) = match text.split_once('\n') {
            Some((reply, object)) => (reply, Some(object.to_owned())),
            None => (text, None),
        };
        // It becomes a subject, so it must not contain a line end or a wildcard.
        let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'*' && byte != b'>';
        if !reply.bytes().all(is_plain) {
            return None;
        }
        Some(Self {
            delivery: Delivery::read(reply)?,
            object,
            earlier: 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPLY: &str = "$JS.ACK.q.shoal.2.17.30.1795975360428138210.0";

    #[test]
    fn a_token_is_read_as_it_was_written() {
        for object in [None, Some("a-b-7".to_owned())] {
            let token = Token {
                delivery: Delivery::read(REPLY).unwrap(),
                object,
                earlier: 0,
            };
            assert_eq!(Token::read(&token.to_bytes()), Some(token));
        }
    }

    #[test]
    fn bytes_that_no_bridge_wrote_are_refused() {
        for bytes in [
            &b""[..],
            b"\xff\xfe",
            b"$JS.ACK.q.*.2.17.30.1.0",
            b"$JS.ACK.q.shoal.2.17.30.1.0 PUB",
            b"$JS.ACK.q.shoal.2.17.30.1\r.0",
            b"\nobject",
        ] {
            assert_eq!(Token::read(bytes), None, "{bytes:?}");
        }
    }
}
