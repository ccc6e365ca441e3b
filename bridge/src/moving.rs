//! Moves messages that no worker here takes to other machines.
//!
//! A copy of the message is published, and the original is acked when the copy is stored. A nak would count as a
//! delivery, although no worker has had the message.
//!
//! A stream that is full of such originals accepts no copy. Then the message is put back into the local queue, where
//! a worker may take it, and a copy is tried again later. If that goes on, the originals are returned by naks, so
//! that other machines get them; each of these counts as a delivery. Without a connection nothing is moved, because
//! no machine would get it.
//!
//! # What a kill of the bridge leaves
//! The server has the original until the copy is stored, and delivers it again if the bridge was killed in between.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::acknowledgement::Acknowledgement;
use crate::arrivals::Arrived;
use crate::link::Links;
use crate::publish::Outgoing;
use crate::queue::{BridgedQueue, lock};
use crate::token::Token;

/// How many copies may wait to be published.
pub(crate) const COPIES: usize = 256;
/// After a copy was refused, the time until another one is tried.
const PAUSE: Duration = Duration::from_secs(5);
/// For how long copies are refused, or cannot be tried, before originals are returned by naks.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often the deletion of a copy's bytes is tried.
const DELETIONS: u32 = 8;

/// A message whose copy is being published.
pub(crate) struct Moved {
    token: Token,
    payload: Bytes,
    attempts: u64,
}

/// How a message that no worker takes is to be moved.
#[derive(Debug, PartialEq, Eq)]
enum Way {
    /// Not now.
    Stays,
    Copy,
    Nak,
}

/// What is known about the stream.
#[derive(Debug, Default)]
pub(crate) struct Moving {
    /// Since when copies are refused or cannot be tried.
    refused_since: Option<Instant>,
    /// When the last copy was refused.
    refused_at: Option<Instant>,
}

impl Moving {
    /// How messages are moved now. `is_full`: the stream refuses what programs here put.
    fn way(&mut self, now: Instant, is_connected: bool, is_full: bool) -> Way {
        if !is_connected {
            return Way::Stays;
        }
        let is_pausing = self.refused_at.is_some_and(|at| now < at + PAUSE);
        if !is_full && self.refused_at.is_none() {
            self.refused_since = None;
            return Way::Copy;
        }
        let since = *self.refused_since.get_or_insert(now);
        match now >= since + PATIENCE {
            true => Way::Nak,
            false if is_full || is_pausing => Way::Stays,
            false => Way::Copy,
        }
    }

    fn refused(&mut self, now: Instant) {
        self.refused_since.get_or_insert(now);
        self.refused_at = Some(now);
    }

    /// The stream has stored a copy, or workers here take messages.
    pub(crate) fn is_over(&mut self) {
        *self = Self::default();
    }
}

impl BridgedQueue {
    /// Withdraws messages that no worker here takes, and moves them.
    pub(crate) fn move_unleased(&self, copies: &mpsc::Sender<Outgoing<Moved>>) {
        let is_connected = self.bridge_counters.link.is_up.load(Ordering::Relaxed);
        let is_full = self.counters.full.get() > 0;
        let way = lock(&self.moving).way(Instant::now(), is_connected, is_full);
        if way == Way::Stays {
            return;
        }
        while let Ok(room) = copies.try_reserve() {
            let Ok(Some(withdrawn)) = self.relay.withdraw() else {
                return;
            };
            let Some(token) = Token::read(&withdrawn.token) else {
                continue;
            };
            tracing::info!(
                queue = self.carried.name,
                "a message is moved to other machines: no worker takes it here"
            );
            if way == Way::Nak {
                self.acknowledge(Acknowledgement::nak(token, Duration::ZERO, None));
                continue;
            }
            let (payload, attempts) = (Bytes::from(withdrawn.payload), withdrawn.attempts.into());
            room.send(Outgoing {
                id: format!("{}-{}", token.delivery.sequence, token.delivery.stored),
                bytes: payload.clone(),
                dead_letter_reason: None,
                before: attempts,
                kept: Moved {
                    token,
                    payload,
                    attempts,
                },
            });
        }
    }

    /// The copy is stored, so the original can be acked.
    pub(crate) fn moved(&self, moved: Moved) {
        lock(&self.moving).is_over();
        self.acknowledge(Acknowledgement::ack(moved.token, None));
    }

    /// The copy is not accepted, so a worker here may take the message. If the copy's bytes may be in the object
    /// store, as `object`, they are deleted first: a later copy would use the same name.
    pub(crate) fn not_moved(
        self: &Arc<Self>,
        links: &Links,
        moved: Moved,
        object: Option<String>,
        why: &str,
    ) {
        lock(&self.moving).refused(Instant::now());
        self.bridge_counters.record_error(&format!(
            "{}: {why}; a message stays on this machine",
            self.names.subject
        ));
        let (this, mut links) = (self.clone(), links.clone());
        self.pending.fetch_add(1, Ordering::Relaxed);
        let put_back = move || {
            let Moved {
                mut token,
                payload,
                attempts,
            } = moved;
            token.earlier = attempts.saturating_sub(token.delivery.times.saturating_sub(1));
            let _ = this.arrivals.send(Arrived::again(token, payload));
        };
        let Some(object) = object else {
            return put_back();
        };
        let this = self.clone();
        tokio::spawn(async move {
            for _ in 0..DELETIONS {
                let (link, _) = links.up().await;
                match this.large.delete(&link.jetstream, &object).await {
                    Ok(()) => break,
                    Err(why) => this.bridge_counters.record_error(&why.to_string()),
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            put_back();
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_moved_by_copies_and_stay_while_the_server_is_away() {
        let (mut moving, now) = (Moving::default(), Instant::now());
        assert_eq!(moving.way(now, true, false), Way::Copy);
        for second in 0..1000 {
            let now = now + Duration::from_secs(second);
            assert_eq!(moving.way(now, false, false), Way::Stays);
        }
        assert_eq!(
            moving.way(now + Duration::from_secs(1000), true, false),
            Way::Copy
        );
    }

    #[test]
    fn a_refused_copy_is_tried_again_after_a_pause_and_naks_are_the_last_resort() {
        let (mut moving, begin) = (Moving::default(), Instant::now());
        moving.refused(begin);
        let at = |tenths: u32| begin + PAUSE / 10 * tenths;
        assert_eq!(moving.way(at(9), true, false), Way::Stays);
        assert_eq!(moving.way(at(10), true, false), Way::Copy);
        moving.refused(at(10));
        assert_eq!(moving.way(at(19), true, false), Way::Stays);
        assert_eq!(moving.way(begin + PATIENCE, true, false), Way::Nak);
        moving.is_over();
        assert_eq!(moving.way(begin + PATIENCE, true, false), Way::Copy);
    }

    #[test]
    fn no_copy_is_tried_while_the_stream_is_full() {
        let (mut moving, begin) = (Moving::default(), Instant::now());
        assert_eq!(moving.way(begin, true, true), Way::Stays);
        let last = begin + PATIENCE - Duration::from_millis(1);
        assert_eq!(moving.way(last, true, true), Way::Stays);
        assert_eq!(moving.way(begin + PATIENCE, true, true), Way::Nak);
        assert_eq!(moving.way(begin + PATIENCE, true, false), Way::Copy);
    }
}
