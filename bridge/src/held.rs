//! The server's messages that this machine has: in the local queue, or settled and not yet confirmed.
//!
//! The server delivers a message again if it gets no report about it in time. So a message may arrive that a
//! worker here is processing, or that was acked here and whose ack is still in transit. This table distinguishes
//! these from a message that was returned and is delivered again.
//!
//! The server applies an ack to the message that has the number now. That is another message if the stream was deleted
//! and created again, or if the server has lost the last numbers and uses them again. Either can be noticed: the stream
//! has another date, or the connection was lost. From then on is another *era*, in which each message that is here
//! from before is looked up in the stream before anything is said about it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_nats::Subject;

use crate::delivery::Delivery;

/// How many acked messages are remembered after the server confirmed the ack, because a delivery may have been
/// in transit at that time.
const REMEMBERED: usize = 65_536;

/// Two numbers without a pattern, for the hashes of the table.
const SEED: u64 = 0xF39C_C060_5CED_C835;
const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;

/// The state of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// A worker here processes it, or will.
    Working,
    /// It is finished, and the server has not confirmed that yet.
    Finishing,
    /// It was returned, and the server has not confirmed that yet.
    Returning,
}

/// What to do with a message that has arrived.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It is new here and goes to the local queue.
    New,
    /// It is here already. An acknowledgement was sent or will be.
    Known,
    /// It was acked and confirmed, so the ack is sent again.
    Done,
}

#[derive(Debug)]
struct Held {
    reply: Subject,
    times: u64,
    phase: Phase,
    /// The last era in which the stream had it; 0 if that is not known.
    era: u64,
    /// Whether the stream does not have it any more.
    is_gone: bool,
}

impl Held {
    fn new(delivery: &Delivery, phase: Phase, era: u64) -> Self {
        Self {
            reply: delivery.reply.clone(),
            times: delivery.times,
            phase,
            era,
            is_gone: false,
        }
    }
}

/// A fast hash of two numbers. Only the server chooses them, so it needs no protection from chosen keys.
#[derive(Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn write_u64(&mut self, number: u64) {
        let mixed = u128::from(self.0 ^ number ^ SEED) * u128::from(FACTOR);
        self.0 = (mixed >> 64) as u64 ^ mixed as u64;
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(byte.into()));
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The table of one queue.
#[derive(Default)]
pub(crate) struct HeldTable(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    held: HashMap<(u64, u64), Held, BuildHasherDefault<Mix>>,
    done: HashSet<(u64, u64), BuildHasherDefault<Mix>>,
    order: VecDeque<(u64, u64)>,
}

impl HeldTable {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the arrival of a message in this era. If it is `New`, it is `Working` from now on.
    pub(crate) fn arrive(&self, delivery: &Delivery, era: u64) -> Arrival {
        let mut inner = self.lock();
        if inner.done.contains(&delivery.key()) {
            return Arrival::Done;
        }
        if let Some(held) = inner.held.get_mut(&delivery.key()) {
            let is_later = delivery.times > held.times;
            match held.phase {
                Phase::Returning if is_later => {}
                Phase::Working if is_later => {
                    *held = Held::new(delivery, Phase::Working, era);
                    return Arrival::Known;
                }
                _ => return Arrival::Known,
            }
        }
        let held = Held::new(delivery, Phase::Working, era);
        inner.held.insert(delivery.key(), held);
        Arrival::New
    }

    /// Notes a message that an earlier bridge of this machine has left here.
    pub(crate) fn found(&self, delivery: &Delivery, phase: Phase) {
        let held = Held::new(delivery, phase, 0);
        self.lock().held.entry(delivery.key()).or_insert(held);
    }

    /// This delivery of the message was settled here; it is in this phase from now on. Returns the last era in which
    /// the stream had it; 0 if that is not known, or if it is gone.
    pub(crate) fn settle(&self, delivery: &Delivery, phase: Phase) -> u64 {
        let mut inner = self.lock();
        let held = inner.held.entry(delivery.key());
        let held = held.or_insert_with(|| Held::new(delivery, phase, 0));
        held.phase = phase;
        // A later delivery may have arrived while a worker processed this one. The confirmation will be for this
        // one.
        held.times = delivery.times;
        if held.is_gone { 0 } else { held.era }
    }

    /// The messages of which it is not known whether the stream has them in this era.
    pub(crate) fn unchecked(&self, era: u64) -> Vec<Delivery> {
        let inner = self.lock();
        let held = inner.held.iter();
        let unchecked = held.filter(|(_, held)| held.era != era && !held.is_gone);
        let delivery = |(&(sequence, stored), held): (&_, &Held)| Delivery {
            reply: held.reply.clone(),
            sequence,
            stored,
            times: held.times,
        };
        unchecked.map(delivery).collect()
    }

    /// Notes whether the stream has the message in this era.
    pub(crate) fn checked(&self, delivery: &Delivery, era: u64, is_gone: bool) {
        if let Some(held) = self.lock().held.get_mut(&delivery.key()) {
            (held.era, held.is_gone) = (era, is_gone);
        }
    }

    /// Whether the stream does not have the message any more.
    pub(crate) fn is_gone(&self, delivery: &Delivery) -> bool {
        let inner = self.lock();
        inner
            .held
            .get(&delivery.key())
            .is_some_and(|held| held.is_gone)
    }

    /// Notes that the server has confirmed the acknowledgement of this delivery.
    pub(crate) fn confirmed(&self, delivery: &Delivery, phase: Phase) {
        let mut inner = self.lock();
        // A returned message may have been delivered here again already.
        let is_over = inner.held.get(&delivery.key()).is_some_and(|held| {
            held.phase == phase && (phase == Phase::Finishing || held.times <= delivery.times)
        });
        if is_over {
            inner.held.remove(&delivery.key());
        }
        if phase == Phase::Finishing && inner.done.insert(delivery.key()) {
            inner.order.push_back(delivery.key());
            if inner.order.len() > REMEMBERED
                && let Some(oldest) = inner.order.pop_front()
            {
                inner.done.remove(&oldest);
            }
        }
    }

    /// Removes a message that could not be put into the local queue.
    pub(crate) fn forget(&self, delivery: &Delivery) {
        self.lock().held.remove(&delivery.key());
    }

    /// How many messages are here.
    pub(crate) fn len(&self) -> usize {
        self.lock().held.len()
    }

    /// The ack subjects of all messages that are still in progress and not known to be gone.
    pub(crate) fn in_progress(&self) -> Vec<Subject> {
        let inner = self.lock();
        let held = inner
            .held
            .values()
            .filter(|held| held.phase != Phase::Returning && !held.is_gone);
        held.map(|held| held.reply.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(sequence: u64, times: u64) -> Delivery {
        Delivery {
            reply: format!("r.{sequence}.{times}").into(),
            sequence,
            stored: 1,
            times,
        }
    }

    #[test]
    fn a_message_in_progress_is_not_given_to_a_second_worker() {
        let table = HeldTable::default();
        assert_eq!(table.arrive(&delivery(7, 1), 1), Arrival::New);
        assert_eq!(table.arrive(&delivery(7, 2), 1), Arrival::Known);
        assert_eq!(table.in_progress(), [Subject::from("r.7.2")]);
    }

    #[test]
    fn a_message_whose_ack_is_in_transit_is_not_processed_again() {
        let table = HeldTable::default();
        table.arrive(&delivery(7, 1), 1);
        table.settle(&delivery(7, 1), Phase::Finishing);
        assert_eq!(table.arrive(&delivery(7, 2), 1), Arrival::Known);
        table.confirmed(&delivery(7, 1), Phase::Finishing);
        assert_eq!(table.arrive(&delivery(7, 3), 1), Arrival::Done);
        assert_eq!(table.len(), 0);
    }

    #[test]
    fn a_returned_message_may_arrive_before_the_confirmation() {
        let table = HeldTable::default();
        table.arrive(&delivery(7, 1), 1);
        table.settle(&delivery(7, 1), Phase::Returning);
        assert_eq!(table.arrive(&delivery(7, 1), 1), Arrival::Known);
        assert_eq!(table.arrive(&delivery(7, 2), 1), Arrival::New);
        table.confirmed(&delivery(7, 1), Phase::Returning);
        assert_eq!(table.len(), 1, "it is in progress");
        table.settle(&delivery(7, 2), Phase::Finishing);
        table.confirmed(&delivery(7, 2), Phase::Finishing);
        assert_eq!(table.len(), 0);
    }

    #[test]
    fn an_ack_of_a_delivery_before_the_last_one_ends_the_message() {
        let table = HeldTable::default();
        table.arrive(&delivery(7, 1), 1);
        table.arrive(&delivery(7, 2), 1);
        table.settle(&delivery(7, 1), Phase::Finishing);
        table.confirmed(&delivery(7, 1), Phase::Finishing);
        assert_eq!(table.len(), 0);
    }

    #[test]
    fn a_message_that_was_delivered_twice_and_returned_once_is_removed() {
        let table = HeldTable::default();
        table.arrive(&delivery(7, 1), 1);
        assert_eq!(table.arrive(&delivery(7, 2), 1), Arrival::Known);
        table.settle(&delivery(7, 1), Phase::Returning);
        table.confirmed(&delivery(7, 1), Phase::Returning);
        assert_eq!(table.len(), 0);
        table.settle(&delivery(8, 1), Phase::Returning);
        assert_eq!(table.arrive(&delivery(8, 2), 1), Arrival::New);
    }

    #[test]
    fn a_sequence_number_that_is_used_twice_is_two_messages() {
        let table = HeldTable::default();
        table.arrive(&delivery(7, 1), 1);
        table.settle(&delivery(7, 1), Phase::Finishing);
        table.confirmed(&delivery(7, 1), Phase::Finishing);
        let other = Delivery {
            stored: 2,
            ..delivery(7, 1)
        };
        assert_eq!(table.arrive(&other, 1), Arrival::New);
    }

    #[test]
    fn a_message_is_checked_once_in_each_era_and_one_that_is_gone_is_not_in_progress() {
        let table = HeldTable::default();
        table.arrive(&delivery(7, 1), 1);
        table.found(&delivery(8, 1), Phase::Working);
        assert_eq!(table.unchecked(1), [delivery(8, 1)]);
        table.checked(&delivery(8, 1), 1, false);
        assert_eq!(table.unchecked(1), []);
        assert_eq!(table.settle(&delivery(8, 1), Phase::Finishing), 1);
        assert_eq!(table.unchecked(2).len(), 2);
        table.checked(&delivery(7, 1), 2, true);
        table.checked(&delivery(8, 1), 2, false);
        assert!(table.is_gone(&delivery(7, 1)) && !table.is_gone(&delivery(8, 1)));
        assert_eq!(table.in_progress(), [Subject::from("r.8.1")]);
        assert_eq!(table.settle(&delivery(7, 1), Phase::Finishing), 0);
        assert_eq!(table.unchecked(3), [delivery(8, 1)]);
    }

    #[test]
    fn no_more_than_a_bounded_number_is_remembered() {
        let table = HeldTable::default();
        for sequence in 0..REMEMBERED as u64 + 10 {
            table.arrive(&delivery(sequence, 1), 1);
            table.settle(&delivery(sequence, 1), Phase::Finishing);
            table.confirmed(&delivery(sequence, 1), Phase::Finishing);
        }
        let inner = table.lock();
        assert_eq!(
            (inner.done.len(), inner.order.len()),
            (REMEMBERED, REMEMBERED)
        );
    }
}
