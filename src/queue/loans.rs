//! Looking after the shelf: whose owner died, what is due again, what was given up, and what a
//! kill left half done.
//!
//! Nobody is appointed to do this. While anything is leased, the header says when it is time to
//! look ([`LAST_CHECK_NS`] later at most), and whoever takes a message or waits for one after
//! that does it first. One look costs a walk over the shelf and a system call for each process
//! that holds something. Who fell asleep before the lease was made finds out at the end of its
//! slice, a tenth of a second later at most.
//!
//! # What a kill leaves
//! All this is done under the consumers' lock. What a message is, its mark says, which one store
//! changes; the list of what is due, the counts and the time of the next look are derived, and
//! the heir of the lock makes them anew (`repair_taken`): it looks at once.

use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::Timeout;
use crate::copy::copy;
use crate::error::{Error, Result};
use crate::heap::Arena;
use crate::layout::Owner;
use crate::sync::{Acquired, Guard, crash::crash_point};
use crate::sys::clock::{Deadline, now_ns};

use super::ends::Consumer;
use super::header::change;
use super::lease::Held;
use super::ops::Queue;
use super::reservation::Place;
use super::shelf::{Found, Mark, NOBODY, State};

/// Whether those who hold leases live is looked at after this long, then after twice as long
/// each time, as long as they do. So the messages of one that is killed soon are there again
/// soon, and one that works for an hour costs those who wait next to nothing.
const FIRST_CHECK_NS: u64 = 10_000_000;
const LAST_CHECK_NS: u64 = 80_000_000;
/// A look may take this part of the time until the next.
const SHARE: u64 = 50;
/// What the dead-letter queue had no room for waits this long.
const RETRY: Duration = Duration::from_millis(100);

/// `due`: look at once.
const AT_ONCE: u64 = 1;

/// Which owners live, each asked about once.
struct Roll<'a> {
    queue: &'a Queue,
    known: BTreeMap<(u16, u32), bool>,
}

impl Roll<'_> {
    fn lives(&mut self, owner: Owner) -> Result<bool> {
        let key = (owner.slot, owner.generation);
        if let Some(lives) = self.known.get(&key) {
            return Ok(*lives);
        }
        let lives = self.queue.segment.is_attached(owner)?;
        self.known.insert(key, lives);
        Ok(lives)
    }
}

impl Queue {
    fn roll(&self) -> Roll<'_> {
        let known = BTreeMap::new();
        Roll { queue: self, known }
    }

    /// Allocates or frees on the shelf.
    pub(super) fn with_arena<T>(&self, work: impl FnOnce(&Arena<'_>) -> Result<T>) -> Result<T> {
        let arena = self
            .ring
            .shelf
            .arena(&self.ring.header.shelf, &*self.segment);
        let _guard = match self.shelf.lock(Deadline::Never)? {
            Acquired::Held(guard) => guard,
            Acquired::Recovered(guard) => {
                let state = &self.ring.header.shelf;
                let rebuilt = self.ring.shelf.rebuild(state, &arena);
                let rebuilt = rebuilt.inspect_err(|_| self.poison());
                guard.mark_consistent();
                rebuilt?;
                guard
            }
        };
        work(&arena)
    }

    /// Frees what lies at `block`: the commit point of taking it, or of discarding it.
    pub(super) fn free(&self, block: u32) -> Result<()> {
        let (shelf, state) = (&self.ring.shelf, &self.ring.header.shelf);
        self.with_arena(|arena| shelf.free(state, arena, block))
    }

    /// A place on the shelf, `None` if that is full.
    pub(super) fn allocate(&self, len: usize, number: u64, mark: Mark) -> Result<Option<u32>> {
        let (shelf, state) = (&self.ring.shelf, &self.ring.header.shelf);
        self.with_arena(|arena| shelf.allocate(state, arena, len as u64, number, mark))
    }

    fn everything(&self) -> Result<Vec<Found>> {
        self.with_arena(|arena| self.ring.shelf.all(arena))
    }

    /// When to look after the shelf; 0 for never.
    #[inline]
    pub(super) fn due(&self) -> u64 {
        self.ring.header.due.load(Ordering::Relaxed)
    }

    /// Whether it is time to look after the shelf.
    #[inline]
    pub(super) fn is_due(&self) -> bool {
        let due = self.due();
        due != 0 && is_past(due)
    }

    /// At most `slice_ns`, and not beyond the time to look after the shelf.
    pub(super) fn until_due(&self, slice_ns: u64) -> u64 {
        match self.due() {
            0 => slice_ns,
            due => slice_ns.min(due.saturating_sub(now_ns())),
        }
    }

    /// Sees to it that somebody looks at the time `at`, or soon. Under the consumers' lock.
    pub(super) fn look_by(&self, at: u64) {
        let due = &self.ring.header.due;
        let before = due.load(Ordering::Relaxed);
        if before == 0 || at < before {
            due.store(at.max(AT_ONCE), Ordering::Relaxed);
        }
    }

    /// Sees to it that somebody notices when the caller dies. Under the consumers' lock.
    pub(super) fn be_watched(&self) {
        let policy = &self.ring.header.shelf.policy;
        // It is watched as closely as it can be.
        if self.due() == 0 || policy.load(Ordering::Relaxed) != FIRST_CHECK_NS {
            policy.store(FIRST_CHECK_NS, Ordering::Relaxed);
            self.look_by(now_ns().saturating_add(FIRST_CHECK_NS));
        }
    }

    /// Delivers again what is to be delivered again, and moves what was given up to the
    /// dead-letter queue. Lets go of the lock.
    #[cold]
    pub(super) fn look_after(&self, consumers: Guard<'_>) -> Result<()> {
        let given_up = self.tend()?;
        drop(consumers);
        // All of them, since they are this process's until it lets go.
        let buried = given_up.iter().map(|held| self.bury(held));
        buried.fold(Ok(()), Result::and)
    }

    /// Under the consumers' lock: makes the list of what is due, and returns what was delivered
    /// too often, leased to this process.
    fn tend(&self) -> Result<Vec<Held>> {
        let (start, me) = (now_ns(), self.segment.owner());
        let shelf = &self.ring.shelf;
        let header = self.ring.header;
        // What follows is derived: should this be its last, the heir looks at once.
        header.first.store(0, Ordering::Relaxed);
        crash_point!();
        let (mut ready, mut given_up, mut next) = (Vec::new(), Vec::new(), u64::MAX);
        let policy = &self.ring.header.shelf.policy;
        let (mut roll, check_ns) = (self.roll(), policy.load(Ordering::Relaxed));
        let soon = start.saturating_add(check_ns.clamp(FIRST_CHECK_NS, LAST_CHECK_NS));
        for found in self.everything()? {
            let Found {
                block,
                mark,
                due,
                number,
            } = found;
            let head = shelf.head(block)?;
            match mark.state {
                State::Leased if !roll.lives(mark.owner)? => {
                    head.set_due(0);
                    self.wait_again(block, mark.attempts)?;
                    ready.push((number, block));
                }
                State::Leased => {
                    next = next.min(soon);
                    if due > start {
                        next = next.min(due);
                    } else if due != 0
                        && let Some(copy) = self.expire(&found)?
                    {
                        ready.push((number, copy));
                    }
                }
                State::Waiting if due <= start => ready.push((number, block)),
                State::Waiting => next = next.min(due),
                State::Expired if !roll.lives(mark.owner)? => self.free(block)?,
                State::Expired => next = next.min(soon),
                State::Sent | State::Writing | State::Resting => {}
            }
        }
        for at in (0..ready.len()).rev() {
            let attempts = shelf.found(ready[at].1)?.mark.attempts;
            if self.is_given_up(attempts) {
                let (_, block) = ready.swap_remove(at);
                given_up.push(self.hold(block, attempts, me, 0)?);
                self.count_waiting(-1);
                next = next.min(soon);
            }
        }
        // The last first: each names the one after it.
        ready.sort_unstable_by(|a, b| b.cmp(a));
        let mut after = 0;
        for (_, block) in ready {
            shelf.head(block)?.next.store(after, Ordering::Relaxed);
            after = block;
        }
        let longer = check_ns.saturating_mul(2);
        policy.store(
            longer.clamp(FIRST_CHECK_NS, LAST_CHECK_NS),
            Ordering::Relaxed,
        );
        let spent = now_ns().saturating_sub(start);
        let due = match next {
            u64::MAX => 0,
            next => next.max(start.saturating_add(spent.saturating_mul(SHARE))),
        };
        header.due.store(due, Ordering::Relaxed);
        header.first.store(after, Ordering::Relaxed);
        crash_point!();
        Ok(given_up)
    }

    /// Under the consumers' lock: the message at `block` waits to be delivered again.
    pub(super) fn wait_again(&self, block: u32, attempts: u8) -> Result<()> {
        let head = self.ring.shelf.head(block)?;
        head.set(Mark::new(State::Waiting, attempts, NOBODY));
        self.count_waiting(1);
        self.count_leased(-1);
        Ok(())
    }

    /// Under the consumers' lock: puts the message at `block` among those that are due.
    pub(super) fn line_up(&self, block: u32, number: u64) -> Result<()> {
        let shelf = &self.ring.shelf;
        let mut link = &self.ring.header.first;
        // Whatever the count says, there are no more than lie on the shelf.
        let waiting = self.ring.header.shelf.waiting.load(Ordering::Relaxed);
        for _ in 0..=waiting.min(shelf.most()) {
            let next = link.load(Ordering::Relaxed);
            if next == 0 || shelf.head(next)?.number() > number {
                shelf.head(block)?.next.store(next, Ordering::Relaxed);
                crash_point!();
                link.store(block, Ordering::Relaxed);
                crash_point!();
                return Ok(());
            }
            link = &shelf.head(next)?.next;
        }
        Err(Error::corrupt("messages that are due stand in a circle"))
    }

    /// Under the consumers' lock: leases the message at `block` to `owner`.
    pub(super) fn hold(&self, block: u32, attempts: u8, owner: Owner, until: u64) -> Result<Held> {
        let shelf = &self.ring.shelf;
        let (head, (span, len)) = (shelf.head(block)?, shelf.payload(block)?);
        self.count_leased(1);
        self.mine.add(owner, 1);
        head.set(Mark::new(State::Leased, attempts, owner));
        head.set_due(until);
        let number = head.number();
        let place = Place {
            block,
            number,
            owner,
            span,
            len,
        };
        Ok(Held { place, attempts })
    }

    /// Under the consumers' lock: the holder of `found` was too slow. What it reads stays
    /// where it is until it lets go; a copy waits for another. Returns the copy's place, if
    /// there was room for one.
    fn expire(&self, found: &Found) -> Result<Option<u32>> {
        let shelf = &self.ring.shelf;
        let (from, len) = shelf.payload(found.block)?;
        let attempts = found.mark.attempts;
        let copy = match self.place_copy(from, len, found.number) {
            Ok(Some(copy)) => copy,
            // Its holder has it until there is room.
            Ok(None) | Err(Error::NoSpace { .. }) => return Ok(None),
            Err(err) => return Err(err),
        };
        let waiting = Mark::new(State::Waiting, attempts, NOBODY);
        shelf.head(copy)?.set(waiting);
        // Killed before the next store, the message is leased and waits; the heir knows it
        // by its number.
        let expired = Mark::new(State::Expired, attempts, found.mark.owner);
        shelf.head(found.block)?.set(expired);
        self.count_waiting(1);
        self.count_leased(-1);
        Ok(Some(copy))
    }

    /// A copy of a message on the shelf, `None` without room. Until the caller marks it, it is
    /// nothing that anybody waits for, and free.
    pub(super) fn place_copy(
        &self,
        from: NonNull<u8>,
        len: usize,
        number: u64,
    ) -> Result<Option<u32>> {
        let shelf = &self.ring.shelf;
        let mark = Mark::new(State::Expired, 0, NOBODY);
        let Some(block) = self.allocate(len, number, mark)? else {
            return Ok(None);
        };
        let to = shelf.span(block, len as u64)?;
        if from.addr().get().abs_diff(to.addr().get()) < len {
            return Err(Error::corrupt("messages on the shelf overlap"));
        }
        // SAFETY: both have `len` bytes, which do not overlap; only who holds the lock knows
        // of the new one.
        unsafe { copy(from, to, len) };
        crash_point!();
        Ok(Some(block))
    }

    /// Moves a message that was delivered too often to the dead-letter queue. Killed between
    /// the two steps it is moved again: twice is better than never.
    fn bury(&self, held: &Held) -> Result<()> {
        let put = self.dead_letters().map(|it| {
            // SAFETY: leased to this process.
            let payload = unsafe { held.bytes() };
            it.put(payload, Timeout::Val(Duration::ZERO))
        });
        match put {
            Some(Ok(())) => self.let_go(held, Self::finish),
            _ => self.nack(held, RETRY),
        }
    }

    /// Frees what processes reserved that are dead. True if that was anything.
    pub(super) fn discard_dead(&self, deadline: Deadline) -> Result<bool> {
        if self.ring.set_aside() == 0 {
            return Ok(false);
        }
        let _guard = self.lock(&self.producers, deadline)?;
        let (mut roll, mut freed) = (self.roll(), false);
        for found in self.everything()? {
            if found.mark.state == State::Writing && !roll.lives(found.mark.owner)? {
                self.free(found.block)?;
                self.ring.count_writing(-1);
                freed = true;
            }
        }
        Ok(freed)
    }

    /// The heir of the producers' lock: a commit was cut short, or a count.
    pub(super) fn repair_written(&self) -> Result<()> {
        let (put, _) = self.ring.header.put();
        let mut writing = 0;
        for found in self.everything()? {
            match found.mark.state {
                State::Sent if found.number > put => self.free(found.block)?,
                State::Writing => writing += 1,
                _ => {}
            }
        }
        let counted = &self.ring.header.producer.writing;
        counted.store(writing, Ordering::Relaxed);
        Ok(())
    }

    /// The heir of the consumers' lock: a message was on its way from one place to another.
    pub(super) fn repair_taken(&self) -> Result<()> {
        let header = self.ring.header;
        header.first.store(0, Ordering::Relaxed);
        header.due.store(AT_ONCE, Ordering::Relaxed);
        let (taken, _) = header.taken();
        // SAFETY: the consumers' lock is held.
        let next = unsafe { Consumer::new(&self.ring) }?.peek()?;
        let next = next.and_then(|it| it.block());
        let (mut leased, mut waiting) = (Vec::<Found>::new(), Vec::new());
        for found in self.everything()? {
            match found.mark.state {
                // Acquisition, but not freed.
                State::Sent if found.number <= taken => self.free(found.block)?,
                // Leased, but not taken.
                State::Leased if found.number > taken => self.unlease(&found, next)?,
                State::Leased => leased.push(found),
                State::Waiting => waiting.push(found.number),
                _ => {}
            }
        }
        waiting.sort_unstable();
        let all = leased.len();
        leased.retain(|it| waiting.binary_search(&it.number).is_ok());
        for found in &leased {
            // Expired, and copied already.
            let expired = Mark::new(State::Expired, found.mark.attempts, found.mark.owner);
            self.ring.shelf.head(found.block)?.set(expired);
        }
        let counts = &header.shelf;
        let still = all - leased.len();
        counts.leased.store(still as u64, Ordering::Relaxed);
        crash_point!();
        counts
            .waiting
            .store(waiting.len() as u64, Ordering::Relaxed);
        crash_point!();
        Ok(())
    }

    /// The ring still has it: as a record that names it, or whole.
    fn unlease(&self, found: &Found, next: Option<u32>) -> Result<()> {
        if next != Some(found.block) {
            return self.free(found.block);
        }
        let sent = Mark::new(State::Sent, 0, NOBODY);
        self.ring.shelf.head(found.block)?.set(sent);
        Ok(())
    }

    pub(super) fn count_leased(&self, by: i64) {
        change(&self.ring.header.shelf.leased, by);
    }

    fn count_waiting(&self, by: i64) {
        change(&self.ring.header.shelf.waiting, by);
    }

    /// Gives back the memory of what is not in use, if that is anything, and nobody keeps the
    /// shelf's lock. Under the locks of both ends.
    pub(super) fn trim(&self) -> Result<()> {
        let (shelf, state) = (&self.ring.shelf, &self.ring.header.shelf);
        let Some(_guard) = self.shelf.try_lock() else {
            return Ok(());
        };
        let arena = shelf.arena(state, &*self.segment);
        shelf.end_rest(state, &arena, 0)?;
        arena.trim()
    }
}

#[cold]
fn is_past(due: u64) -> bool {
    due <= AT_ONCE || due <= now_ns()
}
