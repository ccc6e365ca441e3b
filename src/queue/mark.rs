//! The word of a message in the store: its state, how often it was delivered, and its owner. The table in
//! `store` explains the states.

use crate::layout::Owner;

/// No state is zero: fresh pages must not look like messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum MessageState {
    Writing = b'W',
    Sent = b'S',
    Leased = b'L',
    Waiting = b'A',
    Expired = b'X',
    Cached = b'Z',
}

/// The decoded word of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) state: MessageState,
    /// How often it was delivered; 255 for more.
    pub(super) attempts: u8,
    pub(super) owner: Owner,
}

impl Mark {
    pub(super) fn new(state: MessageState, attempts: u8, owner: Owner) -> Self {
        Self {
            state,
            attempts,
            owner,
        }
    }

    pub(super) fn encode(self) -> u64 {
        self.state as u64
            | u64::from(self.attempts) << 8
            | u64::from(self.owner.slot) << 16
            | u64::from(self.owner.generation) << 32
    }

    pub(super) fn decode(word: u64) -> Option<Self> {
        let state = match word as u8 {
            b'W' => MessageState::Writing,
            b'S' => MessageState::Sent,
            b'L' => MessageState::Leased,
            b'A' => MessageState::Waiting,
            b'X' => MessageState::Expired,
            b'Z' => MessageState::Cached,
            _ => return None,
        };
        Some(Self {
            state,
            attempts: (word >> 8) as u8,
            owner: Owner {
                slot: (word >> 16) as u16,
                generation: (word >> 32) as u32,
            },
        })
    }
}

/// Stands for no owner: the generations of owners begin with 1.
pub(super) const NO_OWNER: Owner = Owner {
    slot: 0,
    generation: 0,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_decodes_to_what_was_encoded() {
        use MessageState::{Cached, Expired, Leased, Sent, Waiting, Writing};
        let owner = Owner {
            slot: 1023,
            generation: 0xfedc_ba98,
        };
        for state in [Writing, Sent, Leased, Waiting, Expired, Cached] {
            let mark = Mark::new(state, 200, owner);
            assert_eq!(Mark::decode(mark.encode()), Some(mark));
        }
        assert_eq!(Mark::decode(0), None);
    }
}
