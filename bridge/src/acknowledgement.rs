//! Acknowledgements of messages for the server, before they are sent and until they are confirmed.

use std::time::Duration;

use bytes::Bytes;
use shoal::Settlement;

use crate::exchange::Request;
use crate::held::Phase;
use crate::token::Token;

/// The text of an ack.
pub(crate) const ACK: &[u8] = b"+ACK";

/// A message that is to become a dead letter.
pub(crate) struct DeadLetter {
    pub(crate) token: Token,
    pub(crate) payload: Bytes,
    pub(crate) attempts: u64,
    pub(crate) reason: String,
    /// The settlement by a worker, if there is one.
    pub(crate) settlement: Option<Settlement>,
}

/// An acknowledgement of a message for the server: ack, nak or term.
pub(crate) struct Acknowledgement {
    pub(crate) token: Token,
    pub(crate) phase: Phase,
    /// The last era in which the stream had the message; 0 if that is not known.
    pub(crate) era: u64,
    text: Bytes,
    settlement: Option<Settlement>,
}

impl Acknowledgement {
    /// The message is finished.
    pub(crate) fn ack(token: Token, settlement: Option<Settlement>) -> Self {
        Self {
            token,
            phase: Phase::Finishing,
            era: 0,
            text: Bytes::from_static(ACK),
            settlement,
        }
    }

    /// The message is to be delivered again, here or elsewhere.
    pub(crate) fn nak(token: Token, delay: Duration, settlement: Option<Settlement>) -> Self {
        let text = if delay.is_zero() {
            Bytes::from_static(b"-NAK")
        } else {
            format!(
                "-NAK {{\"delay\": {}}}",
                delay.as_nanos().min(i64::MAX as u128)
            )
            .into()
        };
        Self {
            token,
            phase: Phase::Returning,
            era: 0,
            text,
            settlement,
        }
    }

    /// The message has become a dead letter.
    pub(crate) fn term(letter: DeadLetter) -> Self {
        let DeadLetter {
            token, settlement, ..
        } = letter;
        Self {
            token,
            phase: Phase::Finishing,
            era: 0,
            text: Bytes::from_static(b"+TERM"),
            settlement,
        }
    }

    /// The request that tells it to the server, and what is kept until the answer.
    pub(crate) fn request(self) -> (Request, Unconfirmed) {
        let request = Request {
            subject: self.token.delivery.reply.clone(),
            headers: None,
            payload: self.text.clone(),
        };
        let unconfirmed = Unconfirmed {
            is_ack: self.text == ACK && self.settlement.is_some(),
            token: self.token,
            phase: self.phase,
            settlement: self.settlement,
        };
        (request, unconfirmed)
    }
}

/// The state of an acknowledgement until its answer.
pub(crate) struct Unconfirmed {
    pub(crate) token: Token,
    pub(crate) phase: Phase,
    /// Whether a worker here has acked the message. Otherwise it was withdrawn, returned or had been acked before.
    pub(crate) is_ack: bool,
    pub(crate) settlement: Option<Settlement>,
}
