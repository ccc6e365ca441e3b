//! Descriptors that follow events: a thread sleeps on many [`EventCell`]s, and makes a descriptor for each
//! readable or unreadable.
//!
//! A waker in another process can reach a futex in shared memory, but no descriptor of this process. So a
//! thread of this process sleeps on the futex and updates the descriptor. The first watch starts one, and
//! every [`MOST_WATCHES`] watches another; the threads never end.
//!
//! ```text
//! there is     descriptor    the thread sleeps on
//! nothing      not readable  `arrived`
//! something    readable      `cleared`
//! ```
//!
//! The thread checks whenever one of these events wakes it, and at the end of each slice: at least ten times
//! a second. Each check sets the descriptor from the object's state at that moment, not from what the thread
//! remembers. So a check also corrects what killed processes have left. For a program that does not take what
//! is there, the thread makes a few checks a second, and no wakes.
//!
//! **Dropping a watch.** The thread uses a watch only under the lock of its group, and a watch leaves the
//! group's list under that lock. The thread sleeps without the lock, on words that may be unmapped meanwhile:
//! the kernel checks them, and does not use the address once the thread sleeps. A watch that is dropped
//! changes the group's wake word while its own word is still mapped, and the thread reads the wake word
//! first: so it never sleeps on other memory that is mapped there later.
//!
//! # Limits
//! In a forked child the thread does not exist. A watch belongs to the process that made it; the child drops
//! its copies, and makes others if it needs them. A waker that was killed between its change and its wake
//! costs a slice, as in all waits. A check may wait for an object's internal lock, for a second if its owner
//! is stopped; the other descriptors of the thread are delayed by that.

use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::Result;
use crate::sys::clock::Deadline;
use crate::sys::futex::{self, OneOf, Waited};
use crate::sys::thread;

use super::EventCell;
use super::policy::{FIRST_NAP_NS, LAST_NAP_NS};

/// How many watches one thread serves: as many as the kernel takes, less one for the wake word.
const MOST_WATCHES: usize = futex::MOST - 1;

/// The length of the slices after the first one where the kernel cannot sleep on several words: the thread then
/// notices a change only at the end of a slice. The first slice after a change is [`FIRST_NAP_NS`].
const LAST_BLIND_SLICE_NS: u64 = 10_000_000;

/// How often a check is repeated because other processes have changed the object meanwhile.
const TRIES: u32 = 8;

/// An object whose descriptor is updated by the thread.
pub(crate) trait Watched: Send + Sync {
    /// Makes the descriptor readable if there is something, and unreadable if not. Returns whether there is.
    fn update(&self) -> bool;

    /// The event that something has come. A thread that is woken by it and leaves something there wakes
    /// another.
    fn arrived(&self) -> &EventCell;

    /// The event that the descriptor was made unreadable, on which all processes wake.
    fn cleared(&self) -> &EventCell;
}

/// Something that a thread watches until this is dropped.
pub(crate) struct Watch {
    state: Mutex<WatchState>,
    watched: Arc<dyn Watched>,
    group: &'static Group,
    /// The process that made it.
    process: u32,
}

#[derive(Default)]
struct WatchState {
    /// What the last check found.
    there: bool,
    /// The futex word of `arrived` on which the thread has slept since then, if it has.
    slept_on: Option<u32>,
}

impl Watch {
    /// The thread uses `watched` until the watch is dropped, and not after that.
    ///
    /// # Errors
    /// `Os`: no thread can be started.
    pub(crate) fn new(watched: Arc<dyn Watched>) -> Result<Box<Self>> {
        let groups = Groups::current()?;
        // While this is locked, no other thread adds to a group.
        let mut list = lock(&groups.list);
        let with_space = list
            .iter()
            .find(|group| lock(&group.watches).0.len() < MOST_WATCHES);
        let group = match with_space {
            Some(group) => group,
            None => {
                list.push(Group::start()?);
                list[list.len() - 1]
            }
        };
        let watch = Box::new(Self {
            state: Mutex::default(),
            watched,
            group,
            process: groups.process,
        });
        lock(&group.watches).0.push(&*watch);
        group.wake();
        Ok(watch)
    }

    /// Whether this process made it, and not the one that it was forked from.
    fn is_ours(&self) -> bool {
        self.process == std::process::id()
    }

    /// Called by the thread, under the group's lock. Returns whether something has changed, and adds the word
    /// to sleep on.
    fn check(&self, slice_over: bool, words: &mut Vec<OneOf>) -> bool {
        let mut state = lock(&self.state);
        let arrived = self.watched.arrived();
        let woken = self.was_woken(&state);
        if woken || (slice_over && state.slept_on.is_some()) {
            arrived.awake();
        }
        let before = state.there;
        for _ in 0..TRIES {
            // Read before the check: a change after the check changes the word.
            let event = match state.there {
                true => self.watched.cleared(),
                false => arrived,
            };
            let seq = event.announce();
            state.slept_on = (!state.there).then_some(seq);
            let there = self.watched.update();
            if there == state.there {
                words.push(OneOf::new(event.word(), seq));
                break;
            }
            state.there = there;
        }
        let (there, changed) = (state.there, state.there != before);
        drop(state);
        if woken && there {
            // This program may not take what is there, so another process that sleeps is woken.
            arrived.notify_one();
        }
        woken || changed
    }

    /// Whether a wake may have reached the thread through this watch.
    fn was_woken(&self, state: &WatchState) -> bool {
        let word = self.watched.arrived().word().load(Ordering::SeqCst);
        state.slept_on.is_some_and(|slept_on| slept_on != word)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // In a forked child the thread does not exist, and another thread may have held the lock at the fork.
        if !self.is_ours() {
            return;
        }
        let mut watches = lock(&self.group.watches);
        watches.0.retain(|&watch| !ptr::eq(watch, self));
        drop(watches);
        // The thread may be asleep on the word, or about to be, and must not stay asleep: it would consume
        // wakes of others. If it has consumed one, that is passed on here.
        self.group.wake();
        if self.was_woken(&lock(&self.state)) {
            self.watched.arrived().awake();
            self.watched.arrived().notify_one();
        }
    }
}

/// Ends all watches of this process, so that its threads use no object any more. Called at the end of the
/// process.
pub(crate) fn stop_watching() {
    // SYNC: find(groups)
    let groups = GROUPS.load(Ordering::Acquire);
    // SAFETY: never freed once published.
    if let Some(groups) = unsafe { groups.as_ref() }
        && groups.process == std::process::id()
    {
        let list = lock(&groups.list);
        list.iter().for_each(|group| lock(&group.watches).0.clear());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while holding one of these.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Watches(Vec<*const Watch>);

// SAFETY: each pointer is to a boxed watch that removes itself, under the lock of the list, before it is
// freed.
unsafe impl Send for Watches {}

/// The watches of one thread. Never freed.
struct Group {
    watches: Mutex<Watches>,
    /// The wake word: a futex word that changes whenever the thread has to check again.
    wake_word: AtomicU32,
}

impl Group {
    fn start() -> Result<&'static Self> {
        let group: &'static Self = Box::leak(Box::new(Self {
            watches: Mutex::new(Watches(Vec::new())),
            wake_word: AtomicU32::new(0),
        }));
        thread::start("shoal-watch", move || group.serve(false))?;
        Ok(group)
    }

    fn wake(&self) {
        // SYNC: wake(wake_word), after the change that the thread has to see.
        self.wake_word.fetch_add(1, Ordering::Release);
        futex::wake(&self.wake_word, 1);
    }

    /// `blind`: the kernel cannot sleep on several words.
    fn serve(&self, mut blind: bool) {
        let mut words = Vec::with_capacity(futex::MOST);
        let (mut slice, mut waited) = (FIRST_NAP_NS, Waited::Woken);
        loop {
            words.clear();
            // SYNC: read(wake_word), before the check. If it changes from now on, the thread does not
            // sleep.
            let wake_word = self.wake_word.load(Ordering::Acquire);
            words.push(OneOf::new(&self.wake_word, wake_word));
            let slice_over = waited == Waited::TimedOut;
            let changed = self.check(slice_over, &mut words);
            let last = if blind {
                LAST_BLIND_SLICE_NS
            } else {
                LAST_NAP_NS
            };
            slice = match slice_over && !changed {
                true => (slice * 2).min(last),
                false => FIRST_NAP_NS,
            };
            let nothing_watched = lock(&self.watches).0.is_empty();
            let until = if nothing_watched {
                u64::MAX
            } else {
                Deadline::Never.slice(slice)
            };
            waited = if blind || nothing_watched {
                futex::wait(&self.wake_word, wake_word, until)
            } else {
                futex::wait_any(&words, until).unwrap_or_else(|| {
                    blind = true;
                    Waited::Woken
                })
            };
        }
    }

    fn check(&self, slice_over: bool, words: &mut Vec<OneOf>) -> bool {
        let mut changed = false;
        for &watch in &lock(&self.watches).0 {
            // SAFETY: a watch removes itself from the list, under its lock, before it is freed.
            changed |= unsafe { &*watch }.check(slice_over, words);
        }
        changed
    }
}

/// The groups of one process. Never freed: a forked child leaves those of its parent alone,
/// whose locks other threads may have held at the fork.
struct Groups {
    process: u32,
    list: Mutex<Vec<&'static Group>>,
}

static GROUPS: AtomicPtr<Groups> = AtomicPtr::new(ptr::null_mut());

impl Groups {
    fn current() -> Result<&'static Self> {
        let process = std::process::id();
        // SYNC: find(groups), pairs with publish(groups)
        let seen = GROUPS.load(Ordering::Acquire);
        // SAFETY: never freed once published.
        if let Some(groups) = unsafe { seen.as_ref() }
            && groups.process == process
        {
            return Ok(groups);
        }
        let list = Mutex::new(Vec::new());
        let fresh = Box::into_raw(Box::new(Self { process, list }));
        // SYNC: publish(groups)
        match GROUPS.compare_exchange(seen, fresh, Ordering::AcqRel, Ordering::Acquire) {
            // SAFETY: published just now, never freed.
            Ok(_) => Ok(unsafe { &*fresh }),
            Err(winner) => {
                // SAFETY: ours was not published; the winner was, and is never freed.
                unsafe {
                    drop(Box::from_raw(fresh));
                    Ok(&*winner)
                }
            }
        }
    }
}
