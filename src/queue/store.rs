//! The message store: messages that lie outside the ring, each in a separate extent.
//!
//! A reservation is written there, a leased message is read there, and a message that was given back waits
//! there. So no record in the ring is ever kept by a process: consumers wait for no writer, the ring can grow
//! at any time, and a worker may keep one message for an hour while millions pass.
//!
//! ```text
//! offset  size  field     meaning
//!      0     8  word      state:8  attempts:8  owner: slot:16  generation:32
//!      8     8  number    WRITING: of the reservation; else of the message, counted from 1
//!     16     8  len       bytes of payload
//!     24     8  due       LEASED: until when, 0 for ever; WAITING: not before, all ones: at no time
//!     32     4  next      derived: the next one that is due, or that is cached
//!     36     4  token     bytes of the token behind the payload; 0 unless a relay delivered the message
//!     40    24  unused
//!     64   len  payload
//!        token  what the relay calls the message
//! ```
//!
//! | state   | meaning                         | lock      | becomes                            |
//! |---------|---------------------------------|-----------|------------------------------------|
//! | WRITING | reserved by its owner           | producers | SENT; free: discarded, owner dead  |
//! | SENT    | a record in the ring names it   | consumers | LEASED; free: taken                |
//! | LEASED  | its owner works on it           | consumers | free: acked; WAITING: given back, owner dead; EXPIRED |
//! | WAITING | to be delivered again           | consumers | LEASED; free: taken                |
//! | EXPIRED | its owner was too slow: a copy  | consumers | free: its owner ended it or is dead |
//! |         | is WAITING. Without an owner: a |           | LEASED, WAITING: the copy is       |
//! |         | copy that is being made         |           | complete                           |
//! | CACHED  | no message; see below           | store     | any; free                          |
//!
//! The lock named is the one under which the state changes; each change is one
//! store of the word, and freeing is one store in the block map. The lock in [`MessageStoreState`]
//! guards allocating and freeing only, and is the innermost.
//!
//! **Cached places.** A place that was just read is in the caches of the core that read it, and a write to it
//! fetches each line from there. So large places are used in rotation: a freed place stays cached until
//! [`CACHED_BLOCKS`] blocks are, or nothing else is free. Messages written and read in place on two cores of
//! a Zen 4 with a private cache of 1 MiB each: of 64 KiB, 27 GB/s with 1 MiB cached, 36 to 39 with 2, and 37
//! to 44 with 3 to 8; of 1 MiB, 22 with 1, and 54 with 4 or 8. On a Zen 3: 12 without any, and 28 to 40 with
//! 1 MiB.
//!
//! # What a kill leaves
//! The extents define which messages there are; lists and counts are derived. The next owner of a dead
//! process's lock walks all extents (see `repair`) and finds half-done steps by comparing each message's
//! number with how many were ever put and taken. The next owner of the store's own lock frees all cached
//! places.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::error::{Error, Result};
use crate::heap::{Arena, ArenaState, BLOCK, Backing, Heap, Purpose, Word};
use crate::layout::{Owner, Region, Shared, SharedRef};
use crate::sync::LockCell;
use crate::sync::crash::crash_point;

use super::mark::{Mark, MessageState, NO_OWNER};

/// The head of an extent, before the payload.
#[repr(C, align(64))]
pub(super) struct MessageHead {
    word: AtomicU64,
    number: AtomicU64,
    len: AtomicU64,
    due: AtomicU64,
    pub(super) next: AtomicU32,
    token: AtomicU32,
}

// SAFETY: `repr(C)`, atomics only.
unsafe impl Shared for MessageHead {}

/// Bytes before the payload.
pub(super) const HEAD: u64 = size_of::<MessageHead>() as u64;

/// `due` of a message that is not delivered again at any time.
pub(super) const NEVER: u64 = u64::MAX;

/// The message store's part of the queue's header.
///
/// ```text
/// offset  size  field
///      0    64  lock
///     64     4  oldest
///     68     4  newest
///     72     8  blocks; then unused
///    128   544  arena
///    672     8  leased
///    680     8  waiting
///    688     8  check_ns
///    696     4  last
///    700     4  never
/// ```
#[repr(C)]
pub(crate) struct MessageStoreState {
    /// Guards the arena.
    pub(super) lock: LockCell,
    cached: CachedPlaces,
    pub(super) arena: ArenaState,
    /// Under the consumers' lock, derived: how many are LEASED, and how many WAITING.
    pub(super) leased: AtomicU64,
    pub(super) waiting: AtomicU64,
    /// How long after a check of the store the next one is due, while anything is leased.
    pub(super) check_ns: AtomicU64,
    /// Under the consumers' lock, derived: the last message of the list that the header's `first` begins, if
    /// that is not empty.
    pub(super) last: AtomicU32,
    /// Under the consumers' lock, derived: how many of the WAITING are not delivered again at any time. Only a
    /// repair makes it smaller.
    pub(super) never: AtomicU32,
}

/// Derived, under the store's lock: the list of CACHED places, the oldest first, and how many blocks
/// they have. Both sides write here for each large message, so it has a separate cache line.
#[repr(C, align(64))]
struct CachedPlaces {
    oldest: AtomicU32,
    newest: AtomicU32,
    blocks: AtomicU64,
}

const _: () = {
    use std::mem::offset_of;
    assert!(
        offset_of!(MessageHead, due) == 24
            && offset_of!(MessageHead, next) == 32
            && HEAD == 64
            && offset_of!(MessageHead, token) == 36
    );
    assert!(offset_of!(MessageStoreState, cached) == 64 && offset_of!(CachedPlaces, blocks) == 8);
    assert!(
        offset_of!(MessageStoreState, arena) == 128 && offset_of!(MessageStoreState, leased) == 672
    );
    assert!(
        offset_of!(MessageStoreState, check_ns) == 688
            && offset_of!(MessageStoreState, last) == 696
            && offset_of!(MessageStoreState, never) == 700
            && size_of::<MessageStoreState>() == 704
    );
};

// SAFETY: `repr(C)`, and every field is `Shared`.
unsafe impl Shared for MessageStoreState {}

/// A copy of a message's head.
#[derive(Debug, Clone, Copy)]
pub(super) struct StoredMessage {
    pub(super) block: u32,
    pub(super) mark: Mark,
    pub(super) number: u64,
    pub(super) due: u64,
}

/// Where the messages lie. Reading and marking need only the lock that the table above names.
#[derive(Clone, Copy)]
pub(crate) struct MessageStore {
    region: Region,
    heap: Heap,
    arena: SharedRef<ArenaState>,
}

/// This many blocks are cached before the oldest place is used again; at most twice as many are cached. More
/// than a core's private caches, which have up to 2 MiB. A small store caches fewer (see
/// [`MessageStore::cache_size`]).
const CACHED_BLOCKS: u64 = (4 << 20) / BLOCK;
/// How many blocks a place has that is cached. Smaller places fit in a core's caches anyway.
const LARGE: std::ops::RangeInclusive<u32> = 16..=(4 << 20) / BLOCK as u32;

/// Bytes for the heads of messages, in addition to the payload of a full ring.
const SLACK: u64 = 64 << 10;

/// Bytes that reservations leave free, for copies of messages that are leased out of the ring. Otherwise a
/// consumer that only leases could not take a small message while the store is full of large ones.
const COPIES: u64 = 128 << 10;

impl MessageStore {
    /// Blocks of the store of a ring that grows to `max` bytes.
    fn blocks(max: u64) -> u32 {
        let blocks = Heap::blocks_for(max.saturating_add(SLACK + COPIES));
        // A page has 4 blocks, and a heap has whole pages.
        u32::try_from(blocks).unwrap_or(!3)
    }

    /// Bytes of the segment behind the ring.
    pub(crate) fn size(max: u64) -> u64 {
        Heap::size(Self::blocks(max))
    }

    /// The message store that begins at `at`, a multiple of 4096, and whose arena is `arena`.
    pub(crate) fn new(
        region: Region,
        at: u64,
        max: u64,
        arena: SharedRef<ArenaState>,
    ) -> Result<Self> {
        let heap = Heap::new(region, at, Self::blocks(max))?;
        Ok(Self {
            region,
            heap,
            arena,
        })
    }

    /// The arena, for the owner of the store's lock.
    pub(super) fn arena<'a>(
        &'a self,
        state: &'a MessageStoreState,
        backing: &'a dyn Backing,
    ) -> Arena<'a> {
        Arena {
            state: &state.arena,
            heap: &self.heap,
            backing,
            keeps: true,
        }
    }

    /// About how many bytes are left for reservations.
    pub(super) fn free_bytes(&self) -> u64 {
        let used = self
            .arena
            .used
            .load(Ordering::Relaxed)
            .saturating_mul(BLOCK);
        let all = u64::from(self.heap.blocks()).saturating_mul(BLOCK);
        all.saturating_sub(COPIES).saturating_sub(used)
    }

    /// The most messages that can lie here: each has at least one block.
    pub(super) fn most(&self) -> u64 {
        self.heap.blocks().into()
    }

    /// The head of the extent that begins at `block`.
    #[inline]
    pub(super) fn head(&self, block: u32) -> Result<&MessageHead> {
        let at = self.heap.at(block)?;
        // SAFETY: a block is longer than a head, which is `Shared`, and as aligned.
        Ok(unsafe { at.cast().as_ref() })
    }

    /// The payload of the message at `block`: where, and how many bytes.
    #[inline]
    pub(super) fn payload(&self, block: u32) -> Result<(NonNull<u8>, usize)> {
        let len = self.head(block)?.len.load(Ordering::Acquire);
        let at = self.span(block, len)?;
        Ok((at, len as usize))
    }

    /// The payload of the message at `block` and the relay's token behind it; without a token if no relay
    /// delivered the message.
    pub(super) fn payload_and_token(&self, block: u32) -> Result<[(NonNull<u8>, usize); 2]> {
        let head = self.head(block)?;
        let (len, token) = (head.len(), head.token());
        let at = self.span(block, len.saturating_add(token.into()))?;
        // SAFETY: the span has these bytes.
        let behind = unsafe { at.add(len as usize) };
        Ok([(at, len as usize), (behind, token as usize)])
    }

    /// `len` bytes of payload at `block`, if they lie in the extent in use there.
    #[inline]
    pub(super) fn span(&self, block: u32, len: u64) -> Result<NonNull<u8>> {
        let Word::Used { blocks, .. } = self.heap.block(block)?.word() else {
            return Err(Error::corrupt(
                "a message is not in the queue's message store",
            ));
        };
        let (start, held) = (self.heap.offset_of(block), u64::from(blocks) * BLOCK);
        if len > held - HEAD {
            return Err(Error::corrupt("a message is longer than its place"));
        }
        self.region.span(start + HEAD, len as usize)
    }

    /// A place for `len` bytes in `arena`, `None` if the store is full.
    pub(super) fn allocate(
        &self,
        state: &MessageStoreState,
        arena: &Arena<'_>,
        len: u64,
        number: u64,
        mark: Mark,
    ) -> Result<Option<u32>> {
        let bytes = len.saturating_add(HEAD);
        let Ok(blocks) = u32::try_from(bytes.div_ceil(BLOCK)) else {
            return Ok(None);
        };
        let prepare = |block| {
            let head = self.head(block)?;
            head.number.store(number, Ordering::Relaxed);
            head.len.store(len, Ordering::Relaxed);
            head.due.store(0, Ordering::Relaxed);
            head.next.store(0, Ordering::Relaxed);
            head.token.store(0, Ordering::Relaxed);
            // In a cached place this store publishes them; in a new one, the block map's store that follows.
            head.set(mark);
            Ok(())
        };
        let cached = |least| match self.reuse_cached(state, blocks, least)? {
            Some(block) => prepare(block).map(|()| Some(block)),
            None => Ok(None),
        };
        if let Some(block) = cached(self.cache_size())? {
            return Ok(Some(block));
        }
        let aside = if mark.state == MessageState::Writing {
            COPIES / BLOCK
        } else {
            0
        };
        // Whether the message and the room for copies fit after `freed` of the blocks in use are free.
        let has_room = |freed: u64| {
            let (used, all) = arena.usage();
            used.saturating_sub(freed)
                .saturating_add(u64::from(blocks) + aside)
                <= all
        };
        let place = || match has_room(0) {
            true => arena.allocate_with(blocks, 0, Purpose::Large, prepare),
            false => Ok(None),
        };
        match place() {
            Ok(None) | Err(Error::NoSpace { .. }) => {}
            placed => return placed,
        }
        if has_room(state.cached.blocks.load(Ordering::Relaxed))
            && let Some(block) = cached(0)?
        {
            return Ok(Some(block));
        }
        self.free_cached(state, arena, 0)?;
        place()
    }

    /// Frees the place at `block`, or caches it if it is large.
    pub(super) fn free(
        &self,
        state: &MessageStoreState,
        arena: &Arena<'_>,
        block: u32,
    ) -> Result<()> {
        let Word::Used { blocks, .. } = self.heap.block(block)?.word() else {
            return Err(Error::corrupt(
                "a message is not in the queue's message store",
            ));
        };
        if !LARGE.contains(&blocks) {
            return arena.free(block);
        }
        let head = self.head(block)?;
        head.next.store(0, Ordering::Relaxed);
        head.set(Mark::new(MessageState::Cached, 0, NO_OWNER));
        let before = state.cached.newest.swap(block, Ordering::Relaxed);
        crash_point!();
        match before {
            0 => state.cached.oldest.store(block, Ordering::Relaxed),
            before => self.head(before)?.next.store(block, Ordering::Relaxed),
        }
        crash_point!();
        let cached = state.cached.blocks.load(Ordering::Relaxed);
        let cached = cached.saturating_add(blocks.into());
        state.cached.blocks.store(cached, Ordering::Relaxed);
        crash_point!();
        self.free_cached(state, arena, 2 * self.cache_size())
            .map(drop)
    }

    /// How many blocks to cache; in a small store nearly all of it.
    fn cache_size(&self) -> u64 {
        CACHED_BLOCKS.min(u64::from(self.heap.blocks()) / 8 * 7)
    }

    /// The oldest cached place, if `least` blocks are cached and it has `blocks` blocks.
    fn reuse_cached(
        &self,
        state: &MessageStoreState,
        blocks: u32,
        least: u64,
    ) -> Result<Option<u32>> {
        let cached = state.cached.blocks.load(Ordering::Relaxed);
        if !LARGE.contains(&blocks) || cached < least.max(blocks.into()) {
            return Ok(None);
        }
        let oldest = state.cached.oldest.load(Ordering::Relaxed);
        match self.heap.block(oldest)?.word() {
            Word::Used { blocks: has, .. } if has == blocks => self.pop_cached(state).map(Some),
            _ => Ok(None),
        }
    }

    /// Takes the oldest place from the list of cached ones.
    fn pop_cached(&self, state: &MessageStoreState) -> Result<u32> {
        let block = state.cached.oldest.load(Ordering::Relaxed);
        let (head, word) = (self.head(block)?, self.heap.block(block)?.word());
        let (Some(MessageState::Cached), Word::Used { blocks, .. }) =
            (head.mark().map(|it| it.state), word)
        else {
            return Err(Error::corrupt("a cached place of a message is in use"));
        };
        let next = head.next.load(Ordering::Relaxed);
        state.cached.oldest.store(next, Ordering::Relaxed);
        crash_point!();
        if next == 0 {
            state.cached.newest.store(0, Ordering::Relaxed);
            crash_point!();
        }
        let cached = state.cached.blocks.load(Ordering::Relaxed);
        let cached = cached.saturating_sub(blocks.into());
        state.cached.blocks.store(cached, Ordering::Relaxed);
        crash_point!();
        Ok(block)
    }

    /// Frees the oldest cached places until at most `most` blocks are cached. True if any was freed.
    pub(super) fn free_cached(
        &self,
        state: &MessageStoreState,
        arena: &Arena<'_>,
        most: u64,
    ) -> Result<bool> {
        let mut freed = false;
        while state.cached.blocks.load(Ordering::Relaxed) > most {
            arena.free(self.pop_cached(state)?)?;
            freed = true;
        }
        Ok(freed)
    }

    /// Rebuilds the arena after the death of an owner of the store's lock, and frees all cached places. If
    /// this process is killed here as well, the next owner begins again.
    pub(super) fn rebuild(&self, state: &MessageStoreState, arena: &Arena<'_>) -> Result<()> {
        arena.rebuild()?;
        state.cached.oldest.store(0, Ordering::Relaxed);
        state.cached.newest.store(0, Ordering::Relaxed);
        state.cached.blocks.store(0, Ordering::Relaxed);
        for found in self.all(arena)? {
            if found.mark.state == MessageState::Cached {
                arena.free(found.block)?;
            }
        }
        Ok(())
    }

    /// All extents in the store, for the owner of its lock.
    pub(super) fn all(&self, arena: &Arena<'_>) -> Result<Vec<StoredMessage>> {
        let mut found = Vec::new();
        arena.walk(|block, word| {
            if let Word::Used { .. } = word {
                found.push(self.found(block)?);
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// A copy of the head at `block`.
    pub(super) fn found(&self, block: u32) -> Result<StoredMessage> {
        let head = self.head(block)?;
        Ok(StoredMessage {
            block,
            mark: head
                .mark()
                .ok_or_else(|| Error::corrupt("an extent of the message store holds no message"))?,
            number: head.number.load(Ordering::Relaxed),
            due: head.due.load(Ordering::Relaxed),
        })
    }

    /// Whether `owner`'s reservation `number` is at `block`.
    pub(super) fn is_reserved(&self, block: u32, number: u64, owner: Owner) -> bool {
        self.is(block, number, Mark::new(MessageState::Writing, 0, owner))
    }

    /// Whether message `number` is at `block`, with this mark.
    pub(super) fn is(&self, block: u32, number: u64, mark: Mark) -> bool {
        // SYNC: observe(mark)
        let is_it = |head: &MessageHead| {
            head.number() == number && head.word.load(Ordering::Acquire) == mark.encode()
        };
        self.is_used(block) && self.head(block).is_ok_and(is_it)
    }

    /// Whether an extent in use begins at `block`.
    ///
    /// A caller may name a place that it gave back long ago, whose entry in the block map has no memory any
    /// more. Such an entry is not read: reading a hole commits a page of `/dev/shm`, or raises SIGBUS. Under
    /// the lock of either side the frontier only moves up: memory is given back under both (see
    /// `Queue::shrink`).
    fn is_used(&self, block: u32) -> bool {
        let entry = self.heap.block(block);
        let is_it = |word| matches!(word, Word::Used { .. });
        self.arena.covers(block) && entry.is_ok_and(|it| is_it(it.word()))
    }
}

impl MessageHead {
    pub(super) fn mark(&self) -> Option<Mark> {
        // SYNC: observe(mark)
        Mark::decode(self.word.load(Ordering::Acquire))
    }

    /// Changes the message's state, with one store.
    pub(super) fn set(&self, mark: Mark) {
        // SYNC: publish(mark): with what was written to the head before.
        self.word.store(mark.encode(), Ordering::Release);
        crash_point!();
    }

    pub(super) fn number(&self) -> u64 {
        self.number.load(Ordering::Relaxed)
    }

    pub(super) fn set_number(&self, number: u64) {
        self.number.store(number, Ordering::Relaxed);
        crash_point!();
    }

    pub(super) fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    pub(super) fn set_len(&self, len: u64) {
        self.len.store(len, Ordering::Relaxed);
        crash_point!();
    }

    /// Bytes of the relay's token; 0 for none.
    pub(super) fn token(&self) -> u32 {
        self.token.load(Ordering::Relaxed)
    }

    pub(super) fn set_token(&self, bytes: u32) {
        self.token.store(bytes, Ordering::Relaxed);
        crash_point!();
    }

    pub(super) fn set_due(&self, due: u64) {
        self.due.store(due, Ordering::Relaxed);
        crash_point!();
    }
}
