//! Slabs: small items of one owner, such as the entries of a shard, in slots of equal size.
//!
//! A slab is an extent that is divided into slots of one size class. Its description lies in the
//! block map, so an operation touches only the slot that it uses. Slabs with free slots form a list
//! for each class; a freed slot's first word links it into its slab's free chain.
//!
//! All of this is derived: the owner's references define which slots are in use, and [`Slabs::restore`]
//! rebuilds the rest from them after a death.
//!
//! # Limits
//! Entries never move, so a slab lives as long as one entry in it does.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::block::{BLOCK, BlockEntry, Extent, Heap, Purpose, Word};
use super::class::{self, CLASSES};
use crate::error::{Error, Result};
use crate::layout::Shared;
use crate::sync::crash::crash_point;

/// A new slab has about a sixteenth of the bytes that the owner uses, between these bounds, so that small
/// objects stay small and large ones seldom need the arena.
const MIN_BYTES: u64 = BLOCK;
const MAX_BYTES: u64 = 64 * BLOCK;
/// If that gives fewer slots than this, it has an eighth, to waste less behind its last slot.
const MANY: u64 = 8;
/// The largest slab that is kept when it becomes empty. One is kept for each owner, so that a key that is
/// inserted and removed repeatedly does not cost a system call each time.
const KEPT_BLOCKS: u32 = 4;

/// Where slabs, tables and large entries get their blocks.
pub(crate) trait Extents {
    /// `blocks` committed blocks, whose contents are arbitrary.
    fn allocate(&self, blocks: u32, owner: u8, purpose: Purpose) -> Result<u32>;
    /// Frees the extent that begins at `head`.
    fn free(&self, head: u32) -> Result<()>;
    /// All extents of `owner`.
    fn owned_by(&self, owner: u8) -> Result<Vec<Extent>>;
}

/// An owner's slab lists in shared memory. All of it is derived.
///
/// ```text
/// offset  size  field    what
///      0     8  bytes    bytes of slots and large extents in use
///      8     4  kept     an empty slab that was kept, 0 if none
///     12     4  unused
///     16   288  partial  for each class a slab with free slots, 0 if none
/// ```
#[repr(C)]
pub(crate) struct SlabState {
    pub(crate) bytes: AtomicU64,
    kept: AtomicU32,
    _unused: AtomicU32,
    partial: [AtomicU32; CLASSES],
}

// SAFETY: `repr(C)`, atomics only.
unsafe impl Shared for SlabState {}

/// The slabs of one owner, as the holder of its lock uses them.
pub(crate) struct Slabs<'a> {
    pub(crate) state: &'a SlabState,
    pub(crate) heap: &'a Heap,
    pub(crate) extents: &'a dyn Extents,
    pub(crate) owner: u8,
}

/// One slab, its entry in the block map read and checked.
struct Slab<'a> {
    entry: &'a BlockEntry,
    head: u32,
    blocks: u32,
    class: u8,
    size: u64,
    slots: u64,
}

impl<'a> Slabs<'a> {
    /// A slot or an extent for `bytes` bytes, which may be any number above 0.
    #[inline]
    pub(crate) fn allocate(&self, bytes: u64) -> Result<u64> {
        if bytes > class::LARGEST {
            return self.allocate_large(bytes);
        }
        let class = class::of(bytes);
        let mut head = self.partial(class).load(Ordering::Relaxed);
        if head == 0 {
            head = self.grow(class)?;
        }
        let slab = self.slab(head)?;
        if slab.class != class {
            return Err(Error::corrupt("a slab is in the list of another class"));
        }
        let live = slab.entry.live.load(Ordering::Relaxed) as u64;
        let free = slab.entry.free.load(Ordering::Relaxed) as u64;
        let slot = if free != 0 {
            slab.check(free - 1)?;
            let next = self.link_word(&slab, free - 1)?.load(Ordering::Relaxed);
            slab.entry.free.store(next as u16, Ordering::Relaxed);
            free - 1
        } else {
            let fresh = slab.entry.fresh.load(Ordering::Relaxed) as u64;
            slab.check(fresh)?;
            slab.entry.fresh.store(fresh as u16 + 1, Ordering::Relaxed);
            fresh
        };
        crash_point!();
        slab.check(live)?;
        slab.entry.live.store(live as u16 + 1, Ordering::Relaxed);
        if live + 1 == slab.slots {
            self.unlink(&slab)?;
        }
        self.add_bytes(slab.size as i64);
        Ok(self.heap.offset_of(head) + slot * slab.size)
    }

    /// Frees the slot or extent at `offset`.
    pub(crate) fn free(&self, offset: u64) -> Result<()> {
        let extent = self.heap.extent_at(offset)?;
        if extent.owner != self.owner {
            return Err(Error::corrupt("an entry lies in another shard's memory"));
        }
        let at = offset - self.heap.offset_of(extent.head);
        match extent.purpose {
            Purpose::Large if at == 0 => {
                self.extents.free(extent.head)?;
                self.add_bytes(-((extent.blocks as u64 * BLOCK) as i64));
                Ok(())
            }
            Purpose::Slab(_) => {
                let slab = self.slab(extent.head)?;
                if !at.is_multiple_of(slab.size) {
                    return Err(Error::corrupt("an entry does not begin at a slot"));
                }
                self.free_slot(&slab, at / slab.size)
            }
            _ => Err(Error::corrupt("an entry lies where none can be")),
        }
    }

    fn free_slot(&self, slab: &Slab<'_>, slot: u64) -> Result<()> {
        slab.check(slot)?;
        let free = slab.entry.free.load(Ordering::Relaxed);
        self.link_word(slab, slot)?
            .store(free as u64, Ordering::Relaxed);
        crash_point!();
        slab.entry.free.store(slot as u16 + 1, Ordering::Relaxed);
        crash_point!();
        let live = slab.entry.live.load(Ordering::Relaxed) as u64;
        if live == 0 || live > slab.slots {
            return Err(Error::corrupt("a slab's count of slots is wrong"));
        }
        slab.entry.live.store(live as u16 - 1, Ordering::Relaxed);
        self.add_bytes(-(slab.size as i64));
        if live == slab.slots {
            self.link(slab)?;
        }
        if live == 1 {
            return self.retire(slab);
        }
        Ok(())
    }

    /// Frees an empty slab, or keeps it and frees the one that was kept before.
    fn retire(&self, slab: &Slab<'_>) -> Result<()> {
        if slab.blocks > KEPT_BLOCKS {
            return self.release(slab);
        }
        self.keep(slab.head)
    }

    /// Keeps the empty slab at `head`, or none if that is 0.
    pub(crate) fn keep(&self, head: u32) -> Result<()> {
        let before = self.state.kept.swap(head, Ordering::Relaxed);
        crash_point!();
        if before == 0 || before == head {
            return Ok(());
        }
        // Since it was kept, it may have been used again or freed.
        match self.slab(before) {
            Ok(kept) if kept.entry.live.load(Ordering::Relaxed) == 0 => self.release(&kept),
            _ => Ok(()),
        }
    }

    fn release(&self, slab: &Slab<'_>) -> Result<()> {
        self.unlink(slab)?;
        crash_point!();
        self.extents.free(slab.head)
    }

    #[cold]
    fn allocate_large(&self, bytes: u64) -> Result<u64> {
        let blocks = u32::try_from(bytes.div_ceil(BLOCK)).map_err(|_| Error::TooLarge {
            what: "entry",
            size: bytes,
            limit: u32::MAX as u64 * BLOCK,
        })?;
        let head = self.extents.allocate(blocks, self.owner, Purpose::Large)?;
        crash_point!();
        self.add_bytes((blocks as u64 * BLOCK) as i64);
        Ok(self.heap.offset_of(head))
    }

    /// A new slab for `class`, at the head of its list.
    #[cold]
    fn grow(&self, class: u8) -> Result<u32> {
        let size = class::size(class);
        let held = self.state.bytes.load(Ordering::Relaxed);
        let within = |share: u64| share.clamp(MIN_BYTES, MAX_BYTES) / size;
        let slots = within(held / 8).min(MANY).max(within(held / 16)).max(1);
        let blocks = (slots * size).div_ceil(BLOCK) as u32;
        let head = self
            .extents
            .allocate(blocks, self.owner, Purpose::Slab(class))?;
        crash_point!();
        let slab = self.slab(head)?;
        slab.reset();
        crash_point!();
        self.link(&slab)?;
        Ok(head)
    }

    #[inline]
    fn slab(&self, head: u32) -> Result<Slab<'a>> {
        let entry = self.heap.block(head)?;
        match entry.word() {
            Word::Used {
                blocks,
                owner,
                purpose: Purpose::Slab(class),
            } if owner == self.owner
                && (class as usize) < CLASSES
                && blocks as u64 <= MAX_BYTES / BLOCK =>
            {
                let size = class::size(class);
                let slots = blocks as u64 * BLOCK / size;
                Ok(Slab {
                    entry,
                    head,
                    blocks,
                    class,
                    size,
                    slots,
                })
            }
            _ => Err(Error::corrupt("a slab's block map entry is wrong")),
        }
    }

    /// The first word of a slot, which links it while it is free.
    #[inline]
    fn link_word(&self, slab: &Slab<'_>, slot: u64) -> Result<&'a AtomicU64> {
        self.heap
            .resolve(self.heap.offset_of(slab.head) + slot * slab.size)
    }

    fn partial(&self, class: u8) -> &AtomicU32 {
        &self.state.partial[class as usize]
    }

    fn add_bytes(&self, bytes: i64) {
        let held = self.state.bytes.load(Ordering::Relaxed);
        let sum = held.saturating_add_signed(bytes);
        self.state.bytes.store(sum, Ordering::Relaxed);
    }

    fn link(&self, slab: &Slab<'_>) -> Result<()> {
        let list = self.partial(slab.class);
        let next = list.load(Ordering::Relaxed);
        slab.entry.next.store(next, Ordering::Relaxed);
        slab.entry.prev.store(0, Ordering::Relaxed);
        if next != 0 {
            self.slab(next)?
                .entry
                .prev
                .store(slab.head, Ordering::Relaxed);
        }
        crash_point!();
        list.store(slab.head, Ordering::Relaxed);
        Ok(())
    }

    fn unlink(&self, slab: &Slab<'_>) -> Result<()> {
        let next = slab.entry.next.load(Ordering::Relaxed);
        let prev = slab.entry.prev.load(Ordering::Relaxed);
        if next != 0 {
            self.slab(next)?.entry.prev.store(prev, Ordering::Relaxed);
        }
        crash_point!();
        if prev != 0 {
            self.slab(prev)?.entry.next.store(next, Ordering::Relaxed);
        } else {
            self.partial(slab.class).store(next, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Clears all lists; [`Self::restore`] then adds each slab that is in use.
    pub(crate) fn forget(&self) {
        for list in &self.state.partial {
            list.store(0, Ordering::Relaxed);
        }
        self.state.kept.store(0, Ordering::Relaxed);
        self.state.bytes.store(0, Ordering::Relaxed);
    }

    /// Rebuilds one slab. `in_use` has one value for each slot.
    pub(crate) fn restore(&self, head: u32, in_use: &[bool]) -> Result<()> {
        let slab = self.slab(head)?;
        slab.reset();
        let mut live = 0;
        for slot in (0..slab.slots).rev() {
            crash_point!();
            if in_use.get(slot as usize) == Some(&true) {
                live += 1;
                continue;
            }
            let free = slab.entry.free.load(Ordering::Relaxed);
            self.link_word(&slab, slot)?
                .store(free as u64, Ordering::Relaxed);
            slab.entry.free.store(slot as u16 + 1, Ordering::Relaxed);
        }
        slab.entry.live.store(live, Ordering::Relaxed);
        slab.entry.fresh.store(slab.slots as u16, Ordering::Relaxed);
        self.add_bytes((live as u64 * slab.size) as i64);
        if (live as u64) < slab.slots {
            self.link(&slab)?;
        }
        Ok(())
    }

    /// Counts a large extent that is in use.
    pub(crate) fn restore_large(&self, blocks: u32) {
        self.add_bytes((blocks as u64 * BLOCK) as i64);
    }

    /// Slots of the slab at `head`, and the bytes of each.
    pub(crate) fn shape(&self, head: u32) -> Result<(u64, u64)> {
        let slab = self.slab(head)?;
        Ok((slab.slots, slab.size))
    }

    /// Checks that the slab's free slots are exactly those that `in_use` leaves out.
    pub(crate) fn verify(&self, head: u32, in_use: &[bool]) -> Result<()> {
        let slab = self.slab(head)?;
        let live = in_use.iter().filter(|used| **used).count() as u64;
        let fresh = slab.entry.fresh.load(Ordering::Relaxed) as u64;
        let mut free = slab.entry.free.load(Ordering::Relaxed) as u64;
        let mut left = slab.slots - live;
        let mut seen = vec![false; slab.slots as usize];
        while free != 0 {
            slab.check(free - 1)?;
            let slot = free as usize - 1;
            if in_use[slot] || seen[slot] || slot as u64 >= fresh || left == 0 {
                return Err(Error::corrupt("a slab's free chain is wrong"));
            }
            seen[slot] = true;
            left -= 1;
            free = self.link_word(&slab, free - 1)?.load(Ordering::Relaxed) & 0xffff;
        }
        let unused = slab.slots.checked_sub(fresh);
        if unused != Some(left) || slab.entry.live.load(Ordering::Relaxed) as u64 != live {
            return Err(Error::corrupt("a slab has lost slots"));
        }
        Ok(())
    }

    /// Checks the lists. `partial` is the number of slabs with free slots, `bytes` the bytes in use.
    pub(crate) fn verify_lists(&self, partial: usize, bytes: u64) -> Result<()> {
        let mut found = 0;
        for class in 0..CLASSES as u8 {
            let mut at = self.partial(class).load(Ordering::Relaxed);
            let mut prev = 0;
            while at != 0 {
                let slab = self.slab(at)?;
                let full = slab.entry.live.load(Ordering::Relaxed) as u64 == slab.slots;
                let back = slab.entry.prev.load(Ordering::Relaxed);
                found += 1;
                if full || back != prev || slab.class != class || found > partial {
                    return Err(Error::corrupt("a list of slabs is broken"));
                }
                (prev, at) = (at, slab.entry.next.load(Ordering::Relaxed));
            }
        }
        if found != partial || self.state.bytes.load(Ordering::Relaxed) != bytes {
            return Err(Error::corrupt("a shard has lost a slab"));
        }
        Ok(())
    }
}

impl Slab<'_> {
    #[inline]
    fn check(&self, slot: u64) -> Result<()> {
        if slot >= self.slots {
            return Err(Error::corrupt("a slot lies outside its slab"));
        }
        Ok(())
    }

    fn reset(&self) {
        self.entry.live.store(0, Ordering::Relaxed);
        self.entry.free.store(0, Ordering::Relaxed);
        self.entry.fresh.store(0, Ordering::Relaxed);
    }
}
