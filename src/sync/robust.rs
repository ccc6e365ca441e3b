//! A mutex that outlives its owner: a [`LockCell`] whose next owner, the *recoverer*, repairs what it
//! guards.
//!
//! ```text
//! state          lock() yields   what the caller does
//! free           Held            works, drops the guard
//! owner died     Recovered       repairs, guard.mark_consistent(), works, drops the guard
//! held           waits           until the owner unlocks or dies
//! poisoned       Poisoned        nothing: a guard was dropped without the repair
//! ```
//!
//! The kernel says whether an owner is dead; no timer decides it. The caller that gets
//! [`Acquired::Recovered`] repairs what the owner left half done.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};
use crate::sys::clock::Deadline;

use super::handoff::Try;
use super::lock::{LockCell, NOBODY, Peers, no_slot};
use super::policy::{Ask, WaitPolicy};
use super::waits::Waits;

/// This process's handle on a [`LockCell`].
pub(crate) struct RobustMutex {
    cell: &'static LockCell,
    /// The caller's owner word, from `peers`: read here without a virtual call.
    me: &'static AtomicU64,
    peers: &'static dyn Peers,
    policy: WaitPolicy,
}

/// How a lock was obtained.
pub(crate) enum Acquired<'a> {
    /// No owner died: what the lock guards is consistent.
    Held(Guard<'a>),
    /// The previous owner died holding it: repair, then [`Guard::mark_consistent`].
    Recovered(Guard<'a>),
}

/// Holds the lock until dropped.
pub(crate) struct Guard<'a> {
    mutex: &'a RobustMutex,
    me: u64,
    // The lock records its thread, to detect that it locks again.
    _not_send: PhantomData<*mut ()>,
}

impl RobustMutex {
    /// # Safety
    /// `cell` lies in a mapped segment and `peers` are its participants; both stay for as long as
    /// the handle lives.
    pub(crate) unsafe fn attach(cell: &LockCell, peers: &dyn Peers) -> Self {
        // SAFETY: the caller's contract.
        let (cell, peers) = unsafe {
            (
                &*std::ptr::from_ref(cell),
                std::mem::transmute::<&dyn Peers, &'static dyn Peers>(peers),
            )
        };
        Self {
            cell,
            me: peers.me(),
            peers,
            policy: WaitPolicy::default(),
        }
    }

    /// Waits for the lock until `deadline`, but at least for [`Self::GRACE_NS`].
    ///
    /// # Errors
    /// `Timeout`; `Poisoned` when an earlier repair was abandoned; `Invalid` if this thread has the
    /// lock; `Exhausted` in a child without a slot.
    #[inline]
    pub(crate) fn lock(&self, deadline: Deadline) -> Result<Acquired<'_>> {
        let me = self.me();
        match self.cell.take(me, false) {
            Ok(true) => Ok(Acquired::Held(self.guard(me))),
            _ => self.lock_slow(me, deadline),
        }
    }

    /// The lock, unless another process has it.
    #[inline]
    pub(crate) fn try_lock(&self) -> Option<Guard<'_>> {
        let me = self.me();
        matches!(self.cell.take(me, false), Ok(true)).then(|| self.guard(me))
    }

    /// The lock, unless it stays taken for as long as the policy spins.
    pub(crate) fn spin(&self) -> Option<Guard<'_>> {
        match self.policy.spin(|| self.cell.is_free()) {
            true => self.try_lock(),
            false => None,
        }
    }

    /// A call that must not wait still waits this long for the lock: owners hold it for well under a
    /// microsecond, unless they are stopped.
    const GRACE_NS: u64 = 1_000_000_000;

    #[cold]
    fn lock_slow(&self, me: u64, deadline: Deadline) -> Result<Acquired<'_>> {
        if me == NOBODY {
            return Err(no_slot());
        }
        if self.cell.is_mine(me) {
            return Err(self.nested());
        }
        let grace = Deadline::Never.slice(Self::GRACE_NS);
        let deadline = match deadline {
            Deadline::Never => deadline,
            Deadline::At(at) => Deadline::At(at.max(grace)),
            Deadline::Now => Deadline::At(grace),
        };
        let is_free = || self.cell.is_free() || self.cell.is_poisoned();
        let attempt = |how: Try| match self.cell.take(me, how.woken) {
            Ok(true) => Ok(Some(Acquired::Held(self.guard(me)))),
            _ if self.cell.is_poisoned() => Err(Error::Poisoned {
                what: "a process could not repair it".into(),
            }),
            _ if how.ask == Ask::Kernel && self.cell.recover(self.peers, me)? => {
                Ok(Some(Acquired::Recovered(self.guard(me))))
            }
            _ => Ok(None),
        };
        loop {
            let handoff = self.cell.handoff();
            match handoff.wait(&self.policy, deadline, is_free, attempt) {
                // Owners hold the lock only for a moment, so a signal handler does not end the wait.
                Err(Error::Interrupted) => {}
                other => return other,
            }
        }
    }

    /// The error if this thread has the lock already: a function that it gave to another call makes this one, or a signal
    /// handler does.
    fn nested(&self) -> Error {
        let why =
            "it is made inside another call of this thread on the same object; end that call first";
        Error::invalid(format!("call on {:?}", self.peers.object()), why)
    }

    /// Ends the waits for the lock through this handle.
    pub(crate) fn end_waits(&self) {
        self.policy.waits.end(self.cell.handoff().events());
    }

    /// The threads that wait for it.
    pub(crate) fn waits(&self) -> &Waits {
        &self.policy.waits
    }

    /// Whether this process can have the lock: false in a child without a slot.
    pub(crate) fn has_slot(&self) -> bool {
        self.me() != NOBODY
    }

    #[inline(always)]
    fn me(&self) -> u64 {
        self.me.load(Ordering::Relaxed)
    }

    #[inline(always)]
    fn guard(&self, me: u64) -> Guard<'_> {
        Guard {
            mutex: self,
            me,
            _not_send: PhantomData,
        }
    }
}

impl Guard<'_> {
    /// Declares that what the lock guards is consistent again. A guard that is dropped without
    /// this after [`Acquired::Recovered`] poisons the mutex, and so the object, for all processes.
    pub(crate) fn mark_consistent(&self) {
        if self.is_ours() {
            self.mutex.cell.mark_consistent(self.me);
        }
    }

    /// Whether this process took the lock. A child that was forked meanwhile has a copy of the guard, and another
    /// owner word: the lock is its parent's.
    #[inline(always)]
    pub(crate) fn is_ours(&self) -> bool {
        self.mutex.me() == self.me
    }

    /// Ends the ownership as the owner's death would: the next owner repairs what the lock guards. Has no effect in
    /// a child that was forked while the lock was held.
    #[cold]
    pub(crate) fn abandon(self) {
        if self.is_ours() {
            self.mutex.cell.abandon(self.me);
        }
        // Not dropped: another thread of this process may own the lock by now, with the same owner word.
        std::mem::forget(self);
    }
}

impl Drop for Guard<'_> {
    #[inline]
    fn drop(&mut self) {
        // In a child that was forked meanwhile, `me` still names its parent, which works under the lock.
        if !(self.is_ours() && self.mutex.cell.free_own(self.me)) {
            self.poison_if_unrepaired();
        }
    }
}

impl Guard<'_> {
    #[cold]
    fn poison_if_unrepaired(&self) {
        if self.is_ours() && self.mutex.cell.is_unrepaired(self.me) {
            self.mutex.cell.poison();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::layout::Owner;
    use crate::sync::lock::pack;

    /// A participant that lives until `dead` is set.
    struct Peer {
        me: AtomicU64,
        dead: AtomicBool,
    }

    impl Peers for Peer {
        fn me(&self) -> &AtomicU64 {
            &self.me
        }

        fn object(&self) -> &str {
            "it"
        }

        fn lives(&self, owner: Owner) -> Result<bool> {
            Ok(owner.slot == 7 || owner.slot == 3 && !self.dead.load(Ordering::Relaxed))
        }
    }

    struct Fresh {
        mutex: RobustMutex,
        peer: Box<Peer>,
        _cell: Box<LockCell>,
    }

    impl Fresh {
        fn new() -> Self {
            let owner = Owner {
                slot: 3,
                generation: 1,
            };
            let peer = Box::new(Peer {
                me: AtomicU64::new(pack(owner)),
                dead: AtomicBool::new(false),
            });
            let cell = Box::<LockCell>::default();
            // SAFETY: both are boxed, and dropped after the handle.
            let mutex = unsafe { RobustMutex::attach(&cell, &*peer) };
            Self {
                mutex,
                peer,
                _cell: cell,
            }
        }

        /// The owner dies with the lock; from now on another participant asks for it.
        fn owner_dies(&self) {
            std::mem::forget(self.mutex.lock(Deadline::Never).unwrap());
            self.peer.dead.store(true, Ordering::Relaxed);
            let recoverer = Owner {
                slot: 7,
                generation: 1,
            };
            self.peer.me.store(pack(recoverer), Ordering::Relaxed);
        }
    }

    #[test]
    fn a_lock_whose_owner_died_is_recovered_once() {
        let it = Fresh::new();
        it.owner_dies();
        match it.mutex.lock(Deadline::Never).unwrap() {
            Acquired::Recovered(guard) => guard.mark_consistent(),
            Acquired::Held(_) => panic!("the owner is dead, and the lock did not say so"),
        }
        assert!(matches!(
            it.mutex.lock(Deadline::Never).unwrap(),
            Acquired::Held(_)
        ));
    }

    #[test]
    fn a_lock_that_was_not_repaired_is_poisoned_for_good() {
        let it = Fresh::new();
        it.owner_dies();
        drop(it.mutex.lock(Deadline::Never).unwrap());
        for _ in 0..2 {
            let again = it.mutex.lock(Deadline::Never);
            assert!(matches!(again, Err(Error::Poisoned { .. })));
        }
    }

    #[test]
    fn a_lock_that_was_abandoned_is_recovered_by_its_own_process_too() {
        let it = Fresh::new();
        match it.mutex.lock(Deadline::Never).unwrap() {
            Acquired::Held(guard) => guard.abandon(),
            Acquired::Recovered(_) => panic!("no owner died"),
        }
        match it.mutex.lock(Deadline::Never).unwrap() {
            Acquired::Recovered(guard) => guard.mark_consistent(),
            Acquired::Held(_) => panic!("the abandoned work was not reported"),
        }
        assert!(it.mutex.try_lock().is_some());
    }

    #[test]
    fn locking_twice_in_one_thread_is_an_error_not_a_hang() {
        let it = Fresh::new();
        let _held = it.mutex.lock(Deadline::Never).unwrap();
        assert!(matches!(
            it.mutex.lock(Deadline::Never),
            Err(Error::Invalid { .. })
        ));
    }

    /// What a child does that was forked now: it has another owner word. `work` gets a copy of the guard that its
    /// parent may have.
    fn in_child(it: &Fresh, work: impl FnOnce(Guard<'_>)) {
        let child = pack(Owner {
            slot: 8,
            generation: 1,
        });
        let parent = it.peer.me.swap(child, Ordering::Relaxed);
        work(it.mutex.guard(parent));
        it.peer.me.store(parent, Ordering::Relaxed);
    }

    #[test]
    fn a_guard_that_a_forked_child_drops_leaves_its_parent_the_lock() {
        let it = Fresh::new();
        let held = it.mutex.try_lock().unwrap();
        in_child(&it, |_dropped| {});
        in_child(&it, |copy| copy.abandon());
        in_child(&it, |_| assert!(it.mutex.try_lock().is_none()));
        // It also still says which thread has it.
        assert!(it.mutex.cell.is_mine(held.me));
        drop(held);
        assert!(it.mutex.try_lock().is_some());
    }

    #[test]
    fn a_guard_that_a_forked_child_drops_does_not_end_its_parents_repair() {
        let it = Fresh::new();
        it.owner_dies();
        let Acquired::Recovered(held) = it.mutex.lock(Deadline::Never).unwrap() else {
            panic!("the owner is dead, and the lock did not say so");
        };
        in_child(&it, |_dropped| {});
        in_child(&it, |copy| copy.mark_consistent());
        assert!(it.mutex.cell.is_unrepaired(held.me));
        held.mark_consistent();
        drop(held);
        assert!(it.mutex.try_lock().is_some());
    }
}
