//! Events as descriptors: a thread that sleeps on many [`EventCell`]s and makes a descriptor
//! readable for each whose time has come.
//!
//! A waker in another process can reach a futex in shared memory, but no descriptor of this
//! process. So a thread of this process sleeps in its place and passes the word on. It is
//! started with the first watch, and one more for every [`ROOM`] of them; it never ends.
//!
//! ```text
//! state     descriptor    who moves it on               to
//! armed     not readable  the thread, finding something  readable
//! readable  readable      a caller, finding nothing      armed
//! ```
//!
//! The thread sleeps on armed watches only: a program that does not take what is there costs
//! nothing. State and descriptor change together, under the watch's lock, and the thread also
//! looks under it: so once a caller has armed the watch, the descriptor is readable only if
//! there was something after that. No arrival is lost: who arms a watch rings the thread's
//! bell after that, and the thread then looks before it sleeps. And whatever comes while the
//! watch is armed makes the descriptor readable anew, for those who wait for edges.
//!
//! **Going away.** The thread touches what it watches only under the lock of its group, and a
//! watch leaves that list under the lock. The thread sleeps without the lock, on words that
//! may then be unmapped: the kernel checks them, and forgets the address once it sleeps. Who
//! leaves rings the bell while its word is still mapped, and the thread looks at the bell
//! first: so it never sleeps on whatever else is mapped there next.
//!
//! # Limits
//! In a forked child the thread does not exist. A watch belongs to the process that made it;
//! the child drops its copies, and makes others if it wants them.
//! A waker that was killed between its change and its wake costs a slice, as everywhere.

use std::os::fd::{AsFd, BorrowedFd};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::Result;
use crate::sys::clock::{self, Deadline};
use crate::sys::futex::{self, OneOf, Waited};
use crate::sys::poll::Signal;
use crate::sys::thread;

use super::EventCell;
use super::patience::{FIRST_NAP_NS, LAST_NAP_NS};

/// How many watches one thread serves: as many as the kernel takes, but for the bell.
const ROOM: usize = futex::MOST - 1;

/// The longest slice where the kernel cannot sleep on several words: the thread then finds
/// out at the end of a slice.
const LAST_BLIND_SLICE_NS: u64 = 10_000_000;

/// What a look at the watched thing found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing to do.
    Nothing,
    /// Something to do.
    Something,
    /// What may come with time alone, as when the holder of a lease has died; that is not for
    /// the thread to find out. It makes the descriptor readable after a while, for somebody
    /// to look.
    Later,
}

/// A descriptor that is readable while there is something to do.
pub(crate) struct Watch {
    state: Mutex<State>,
    signal: Signal,
    event: &'static EventCell,
    find: Box<dyn Fn() -> Found + Send + Sync>,
    group: &'static Group,
    /// The process that made it.
    process: u32,
}

struct State {
    readable: bool,
    /// When it was armed.
    armed_ns: u64,
    /// The event's futex word on which the thread has slept since then, if it has.
    slept_on: Option<u32>,
}

impl State {
    fn armed() -> Self {
        Self {
            readable: false,
            armed_ns: clock::now_ns(),
            slept_on: None,
        }
    }
}

impl Watch {
    /// A descriptor that is readable while `find()` finds something, of whose coming `event`
    /// tells. Both are used until the watch is dropped, and not a moment longer.
    ///
    /// # Errors
    /// `Os`: no descriptor or thread is to be had.
    pub(crate) fn new(
        event: &'static EventCell,
        find: impl Fn() -> Found + Send + Sync + 'static,
    ) -> Result<Box<Self>> {
        let groups = Groups::current()?;
        let readable = find() == Found::Something;
        let signal = Signal::new(readable)?;
        // While this is locked no group can become fuller.
        let mut list = lock(&groups.list);
        let room = list
            .iter()
            .find(|group| lock(&group.watches).0.len() < ROOM);
        let group = match room {
            Some(group) => group,
            None => {
                list.push(Group::start()?);
                list[list.len() - 1]
            }
        };
        let watch = Box::new(Self {
            state: Mutex::new(State {
                readable,
                ..State::armed()
            }),
            signal,
            event,
            find: Box::new(find),
            group,
            process: groups.process,
        });
        lock(&group.watches).0.push(&*watch);
        group.ring();
        Ok(watch)
    }

    /// Whether this process made it, and not the one that it was forked from.
    pub(crate) fn is_ours(&self) -> bool {
        self.process == std::process::id()
    }

    /// The caller has looked, and there was nothing: the descriptor becomes unreadable, until
    /// there is something again.
    pub(crate) fn found_nothing(&self) {
        let mut state = lock(&self.state);
        if !state.readable {
            return;
        }
        self.signal.clear();
        *state = State::armed();
        drop(state);
        self.group.ring();
    }

    /// Makes the descriptor readable, whether or not there is something.
    pub(crate) fn signal(&self) {
        let mut state = lock(&self.state);
        if !state.readable {
            self.signal.set();
            state.readable = true;
        }
    }

    /// By the thread, under the group's lock. Says whether it has made the descriptor readable;
    /// if not, adds the word to sleep on.
    fn look(&self, slice_over: bool, words: &mut Vec<OneOf>) -> bool {
        let mut state = lock(&self.state);
        if state.readable {
            return false;
        }
        let woken = self.was_woken(&state);
        if woken || (slice_over && state.slept_on.is_some()) {
            self.event.awake();
        }
        let seq = self.event.announce();
        let something = match (self.find)() {
            Found::Something => true,
            Found::Nothing => false,
            Found::Later => clock::now_ns().saturating_sub(state.armed_ns) >= LAST_NAP_NS,
        };
        if !something {
            state.slept_on = Some(seq);
            words.push(OneOf::new(self.event.word(), seq));
            return false;
        }
        self.signal.set();
        state.readable = true;
        drop(state);
        if woken {
            // Nobody knows when this program will take what is there, or if it ever will.
            // Another one that sleeps may want to.
            self.event.notify_one();
        }
        true
    }

    /// Whether a wake may have reached the thread through this watch.
    fn was_woken(&self, state: &State) -> bool {
        let word = self.event.word().load(Ordering::SeqCst);
        state.slept_on.is_some_and(|slept_on| slept_on != word)
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.signal.as_fd()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // In a forked child nobody looks, and another thread may have held the lock.
        if !self.is_ours() {
            return;
        }
        let mut watches = lock(&self.group.watches);
        watches.0.retain(|&watch| !ptr::eq(watch, self));
        drop(watches);
        // The thread may be asleep on the word, or about to be, and must not stay so: it would
        // take wakes that are for others. If it has taken one, here it goes on.
        self.group.ring();
        let state = lock(&self.state);
        if !state.readable && self.was_woken(&state) {
            self.event.awake();
            self.event.notify_one();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while holding one of these.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Watches(Vec<*const Watch>);

// SAFETY: each pointer is to a boxed watch that removes itself, under the lock of the list,
// before it goes.
unsafe impl Send for Watches {}

/// The watches of one thread. Never freed.
struct Group {
    watches: Mutex<Watches>,
    /// A futex word that changes whenever the thread has to look again.
    bell: AtomicU32,
}

impl Group {
    fn start() -> Result<&'static Self> {
        let group: &'static Self = Box::leak(Box::new(Self {
            watches: Mutex::new(Watches(Vec::new())),
            bell: AtomicU32::new(0),
        }));
        thread::start("shoal-watch", move || group.serve(false))?;
        Ok(group)
    }

    fn ring(&self) {
        // SYNC: ring(bell), after what there is to see.
        self.bell.fetch_add(1, Ordering::Release);
        futex::wake(&self.bell, 1);
    }

    /// `blind`: the kernel cannot sleep on several words.
    fn serve(&self, mut blind: bool) {
        let mut words = Vec::with_capacity(futex::MOST);
        let (mut slice, mut waited) = (FIRST_NAP_NS, Waited::Woken);
        loop {
            words.clear();
            // SYNC: hear(bell): read before looking. If it rings from now on, the thread does
            // not sleep.
            let bell = self.bell.load(Ordering::Acquire);
            words.push(OneOf::new(&self.bell, bell));
            let slice_over = waited == Waited::TimedOut;
            let signalled = self.look(slice_over, &mut words);
            let last = if blind {
                LAST_BLIND_SLICE_NS
            } else {
                LAST_NAP_NS
            };
            slice = match slice_over && !signalled {
                true => (slice * 2).min(last),
                false => FIRST_NAP_NS,
            };
            let nothing_armed = words.len() == 1;
            let until = if nothing_armed {
                u64::MAX
            } else {
                Deadline::Never.slice(slice)
            };
            waited = if blind || nothing_armed {
                futex::wait(&self.bell, bell, until)
            } else {
                futex::wait_any(&words, until).unwrap_or_else(|| {
                    blind = true;
                    Waited::Woken
                })
            };
        }
    }

    fn look(&self, slice_over: bool, words: &mut Vec<OneOf>) -> bool {
        let mut signalled = false;
        for &watch in &lock(&self.watches).0 {
            // SAFETY: a watch removes itself from the list, under its lock, before it goes.
            signalled |= unsafe { &*watch }.look(slice_over, words);
        }
        signalled
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
