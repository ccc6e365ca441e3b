//! The participants of an object: a table of members of liveness groups.
//!
//! ```text
//! offset  size  field    written by      invariant
//!      0     8  open     joiners         slots below this have memory (checked: the word is shared memory);
//!                                        those beyond it are free
//!      8   120  unused
//!    128  1024 x 24 slots, of which
//!      0     8  holder   slot's holder   a member of a liveness group; 0 while it is free
//!      8     8  since    slot's holder   when it registered, on the clock since the machine started
//!     16     4  generation  slot's holder   how often the slot was taken
//!     20     4  pid      slot's holder   0 while not known; bit 31: the process is about to end
//! ```
//! A slot is taken by one compare-and-swap of `holder` from 0, and given back by storing 0. The other fields
//! are for diagnosis, and for when the kernel cannot be asked.
//!
//! The first slots lie on the object's first page. Pages for more are committed when they are needed, and
//! then `open` is raised; it doubles once living processes hold all slots below it.
//!
//! # Whether a process is attached
//! A fork takes a slot for the child without any lock. So a scan may read the child's slot while it is still
//! free, and then find that the parent has died. But the child's slot was taken, and its `generation` raised,
//! before its parent died. So the scan is repeated: no process is attached if two scans in a row find no living
//! holder and equal sums of the generations. Then no slot was taken between its reading in the first scan and
//! that in the second, and the processes that could have taken one after that were dead before the second scan
//! began.
//!
//! # Crash arguments
//! *Killed after the swap:* the slot's holder is dead. `generation` may still be that of the previous holder,
//! which is dead too, and `since` and `pid` may be those of either. *Killed before raising `open`:* a page is
//! committed that is not used yet. *Killed after it marked that it is about to end:* like any kill; but a
//! process that left after the mark and before the kill has removed the object's name. *Any process may swap a
//! dead holder for 0:* a dead member stays dead.

use std::collections::HashSet;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::error::{Error, Result};
use crate::layout::{Offset, Owner, Region, Shared};
use crate::sync::crash::{committing, crash_point};
use crate::sync::memory;
use crate::sys::{clock, mapping, ofd, process};

use super::liveness::{self, MemberId, Registered};
use super::stamp;

/// How many handles may be attached at a time.
const COUNT: u64 = 1024;
/// Slots that are open at first.
const FIRST: u32 = 16;
const PAGE: u64 = 4096;
/// How often to begin again if other processes take slots meanwhile.
const TRIES: u32 = 1000;

/// A subset of the slots.
#[derive(Clone, Copy)]
pub(crate) struct Section {
    first: usize,
    step: usize,
}

impl Section {
    /// Every slot.
    pub(crate) const ALL: Self = Self { first: 0, step: 1 };
    /// The slots of each side of an object that has two.
    pub(crate) const SIDES: [Self; 2] = [Self { first: 0, step: 2 }, Self { first: 1, step: 2 }];

    fn len(self) -> u64 {
        COUNT / self.step as u64
    }
}

#[repr(C)]
struct Slot {
    holder: AtomicU64,
    since: AtomicU64,
    generation: AtomicU32,
    pid: AtomicU32,
}

const _: () = assert!(size_of::<Slot>() == 24);

/// The whole table.
#[repr(C)]
pub(crate) struct Table {
    open: AtomicU32,
    unused: [AtomicU32; 31],
    slots: [Slot; COUNT as usize],
}

const _: () = assert!(std::mem::offset_of!(Table, slots) == SLOTS as usize);
const _: () = assert!(stamp::PARTICIPANTS + slots_end(FIRST) <= PAGE);
const _: () = assert!(stamp::PARTICIPANTS + size_of::<Table>() as u64 <= stamp::DATA);

// SAFETY: atomics only.
unsafe impl Shared for Table {}

const SLOTS: u64 = 128;

/// In `pid`: the process is about to end. Until it has ended, it is alive and owns what it holds; but it no
/// longer keeps the object's name.
const LEAVING: u32 = 1 << 31;

/// Where in the table the first `count` slots end.
const fn slots_end(count: u32) -> u64 {
    SLOTS + count as u64 * size_of::<Slot>() as u64
}

impl Slot {
    /// Records which process has the slot. Only stores, since it may run in a freshly forked child.
    fn record_holder(&self, pid: u32) {
        self.since.store(clock::since_boot_ns(), Ordering::Relaxed);
        self.pid.store(pid, Ordering::Relaxed);
    }

    fn registered(&self) -> Registered {
        Registered {
            pid: self.pid.load(Ordering::Relaxed) & !LEAVING,
            since: self.since.load(Ordering::Relaxed),
        }
    }

    /// Whether a living process holds it. A dead holder's slot is free from then on.
    fn is_held(&self) -> Result<bool> {
        let word = self.holder.load(Ordering::SeqCst);
        let Some(holder) = MemberId::from_word(word) else {
            return Ok(false);
        };
        if liveness::is_alive(holder, || Some(self.registered()))? {
            return Ok(true);
        }
        let _ = self
            .holder
            .compare_exchange(word, 0, Ordering::SeqCst, Ordering::Relaxed);
        Ok(false)
    }

    /// Takes it if it is free.
    fn take(&self, id: MemberId, pid: u32) -> bool {
        // SYNC: pairs with the loads of processes that check whether any other is attached: by the attach lock,
        // or by the total order.
        let taken = self
            .holder
            .compare_exchange(0, id.word(), Ordering::SeqCst, Ordering::Relaxed);
        if taken.is_err() {
            return false;
        }
        crash_point!();
        // Before the generation: a process that has seen the new generation does not read an earlier holder's
        // mark that it is about to end.
        self.record_holder(pid);
        crash_point!();
        // What an earlier holder left must not look like this holder's.
        self.generation.fetch_add(1, Ordering::SeqCst);
        true
    }
}

impl Table {
    /// The table of a segment.
    pub(super) fn of(region: &Region) -> Result<&Self> {
        region.resolve(Offset::new(stamp::PARTICIPANTS))
    }

    /// Opens the first slots, or all if all have `memory`. Only before the segment is published.
    pub(super) fn init(&self, memory: bool) {
        let open = if memory { COUNT as u32 } else { FIRST };
        self.open.store(open, Ordering::Relaxed);
    }

    /// The slots of `section` that may be held, with their numbers.
    fn open_slots(&self, section: Section) -> Result<impl Iterator<Item = (u16, &Slot)>> {
        let open = self.open.load(Ordering::SeqCst).min(COUNT as u32);
        self.ensure(open)?;
        let slots = self.slots[..open as usize].iter().enumerate();
        Ok(slots
            .skip(section.first)
            .step_by(section.step)
            .map(|(index, slot)| (index as u16, slot)))
    }

    /// A slot that may be held.
    fn slot(&self, slot: u16) -> Result<Option<&Slot>> {
        let open = self.open.load(Ordering::SeqCst).min(COUNT as u32);
        if u32::from(slot) >= open {
            return Ok(None);
        }
        self.ensure(u32::from(slot) + 1)?;
        Ok(self.slots.get(usize::from(slot)))
    }

    /// A slot that this process has taken, and which so has memory.
    fn own(&self, slot: u16) -> Option<&Slot> {
        self.slots.get(usize::from(slot))
    }

    /// Makes sure that the first `count` slots have memory.
    fn ensure(&self, count: u32) -> Result<()> {
        let end = (stamp::PARTICIPANTS + slots_end(count)).next_multiple_of(PAGE);
        if end <= PAGE {
            return Ok(());
        }
        // SAFETY: the first page behind that on which the table begins; the mapping is longer.
        let second = unsafe {
            NonNull::from(self)
                .cast::<u8>()
                .add((PAGE - stamp::PARTICIPANTS) as usize)
        };
        memory::ensure(second, (end - PAGE) as usize)
    }

    /// This process, which holds `slot`, as the owner of what it locks.
    pub(super) fn owner(&self, slot: u16) -> Owner {
        let generation = self
            .own(slot)
            .map_or(0, |it| it.generation.load(Ordering::SeqCst));
        Owner { slot, generation }
    }

    /// Whether `owner` is still attached; asks the kernel.
    pub(super) fn is_attached(&self, owner: Owner) -> Result<bool> {
        let Some(slot) = self.slot(owner.slot)? else {
            return Ok(false);
        };
        // The generation is read last: the next holder of the slot may not have incremented it yet, and then
        // the next check finds that the owner is gone.
        Ok(slot.is_held()? && slot.generation.load(Ordering::SeqCst) == owner.generation)
    }

    /// Records that this process has the slot. May run in a freshly forked child.
    pub(super) fn record_holder(&self, slot: u16) {
        if let Some(it) = self.own(slot) {
            it.record_holder(process::pid());
        }
    }

    /// Takes a free slot of `section` for member `id`; `pid` is 0 while not known.
    pub(super) fn join(
        &self,
        region: &Region,
        section: Section,
        id: MemberId,
        pid: u32,
    ) -> Result<u16> {
        for _ in 0..TRIES {
            let open = self.open.load(Ordering::SeqCst);
            let take = |&(_, slot): &(u16, &Slot)| slot.take(id, pid);
            if let Some((index, _)) = self.open_slots(section)?.find(take) {
                return Ok(index);
            }
            // Frees the slots of dead processes before opening more.
            let mut freed = false;
            for (_, slot) in self.open_slots(section)? {
                freed |= !slot.is_held()?;
            }
            if !freed {
                self.open_more(region, open, section)?;
            }
        }
        Err(Error::corrupt("no slot that is free could be taken"))
    }

    /// Raises `open` beyond `seen`.
    fn open_more(&self, region: &Region, seen: u32, section: Section) -> Result<()> {
        if u64::from(seen) >= COUNT {
            return Err(Error::Exhausted {
                what: "handles on one object",
                limit: section.len(),
            });
        }
        let more = seen.max(FIRST).saturating_mul(2).min(COUNT as u32);
        let end = (stamp::PARTICIPANTS + slots_end(more)).next_multiple_of(PAGE);
        if end > PAGE {
            let at = region.span(PAGE, (end - PAGE) as usize)?;
            committing(|| mapping::commit(at, (end - PAGE) as usize))?;
        }
        crash_point!();
        self.open.fetch_max(more, Ordering::SeqCst);
        Ok(())
    }

    /// Gives a slot back.
    pub(super) fn leave(&self, slot: u16) {
        if let Some(it) = self.own(slot) {
            it.holder.store(0, Ordering::SeqCst);
        }
    }

    /// Marks that the holder of the slot is about to end.
    pub(super) fn mark_leaving(&self, slot: u16) {
        if let Some(it) = self.own(slot) {
            it.pid.fetch_or(LEAVING, Ordering::SeqCst);
        }
    }

    /// Whether any handle is attached whose process is not about to end. For a caller that has marked its slot,
    /// or has given it back: another process may have that slot by now.
    pub(super) fn has_any_that_stays(&self) -> Result<bool> {
        self.has_any(Section::ALL, |_, slot| {
            slot.pid.load(Ordering::SeqCst) & LEAVING == 0
        })
    }

    /// Whether any handle but that with the slot `but` is attached in `section`.
    pub(super) fn has_others(&self, section: Section, but: u16) -> Result<bool> {
        self.has_any(section, |index, _| index != but)
    }

    /// Whether a living process holds a slot of `section` that `counts`.
    fn has_any(&self, section: Section, counts: impl Fn(u16, &Slot) -> bool) -> Result<bool> {
        let mut before = None;
        for _ in 0..TRIES {
            let mut joined = 0u32;
            for (index, slot) in self.open_slots(section)? {
                // Read first: the load below then sees a process that took the slot before this read.
                joined = joined.wrapping_add(slot.generation.load(Ordering::SeqCst));
                if counts(index, slot) && slot.is_held()? {
                    return Ok(true);
                }
            }
            if before.replace(joined) == Some(joined) {
                return Ok(false);
            }
        }
        // Slots were taken during each scan, so there are processes.
        Ok(true)
    }
}

/// An entry of a table that was read from a file.
pub(super) struct Entry {
    pub(super) slot: u16,
    pub(super) id: MemberId,
    pub(super) registered: Registered,
    /// How often the slot was taken.
    pub(super) generation: u32,
}

/// The entries of the table in `file`, dead ones too, in the order of their slots.
pub(super) fn entries(file: &File) -> Result<Vec<Entry>> {
    Ok(read_table(file)?.0)
}

/// The entries, and the sum of the generations of all slots.
fn read_table(file: &File) -> Result<(Vec<Entry>, u32)> {
    let failed = |_| Error::last_os("pread");
    let mut bytes = vec![0; (PAGE - stamp::PARTICIPANTS) as usize];
    let read = |bytes: &mut [u8], at| {
        let (mut have, len) = (0, bytes.len());
        // A shorter file has no more of them.
        while have < len {
            match file
                .read_at(&mut bytes[have..], at + have as u64)
                .map_err(failed)?
            {
                0 => break,
                more => have += more,
            }
        }
        Ok(())
    };
    read(&mut bytes, stamp::PARTICIPANTS)?;
    let open = (half_word(&bytes, 0)).min(COUNT as u32);
    let (first, whole) = (bytes.len(), slots_end(open) as usize);
    if whole > first {
        bytes.resize(whole, 0);
        read(&mut bytes[first..], PAGE)?;
    }
    let mut joined = 0u32;
    let entry = |slot: u32| {
        let at = slots_end(slot) as usize;
        joined = joined.wrapping_add(half_word(&bytes, at + 16));
        Some(Entry {
            slot: slot as u16,
            id: MemberId::from_word(word(&bytes, at))?,
            registered: Registered {
                since: word(&bytes, at + 8),
                pid: half_word(&bytes, at + 20) & !LEAVING,
            },
            generation: half_word(&bytes, at + 16),
        })
    };
    let entries = (0..open).filter_map(entry).collect();
    Ok((entries, joined))
}

fn word(bytes: &[u8], at: usize) -> u64 {
    let word = bytes.get(at..at + 8).and_then(|it| it.try_into().ok());
    u64::from_ne_bytes(word.unwrap_or_default())
}

fn half_word(bytes: &[u8], at: usize) -> u32 {
    let half = bytes.get(at..at + 4).and_then(|it| it.try_into().ok());
    u32::from_ne_bytes(half.unwrap_or_default())
}

/// The entries of living processes. `same_namespace`: they are of this process's pid namespace.
pub(super) fn held(file: &File, same_namespace: bool) -> Result<Vec<Entry>> {
    held_by(file, |id, registered| {
        liveness::is_alive(id, || same_namespace.then_some(registered))
    })
}

/// The entries for which `is_alive` is true.
///
/// A read of the file may have a slot's new generation and not yet its new holder; the next read has both. So
/// the holders of one read count together with the generations of the read before.
pub(super) fn held_by(
    file: &File,
    mut is_alive: impl FnMut(MemberId, Registered) -> Result<bool>,
) -> Result<Vec<Entry>> {
    // A dead member stays dead.
    let mut dead = HashSet::new();
    let mut before = [None; 2];
    for _ in 0..TRIES {
        let (mut held, joined) = read_table(file)?;
        let mut failed = Ok(());
        held.retain(|entry| {
            let lives = !dead.contains(&entry.id.word())
                && is_alive(entry.id, entry.registered).unwrap_or_else(|err| {
                    failed = Err(err);
                    true
                });
            if !lives {
                dead.insert(entry.id.word());
            }
            lives
        });
        failed?;
        if !held.is_empty() || before[0].is_some() && before[0] == before[1] {
            return Ok(held);
        }
        before = [before[1], Some(joined)];
    }
    Err(Error::corrupt(
        "slots are taken all the time, but no living process has one",
    ))
}

/// Whether any other process has locked a part of the file: it has the attach lock, or is a participant of an
/// object of an older version, which has no such table.
pub(super) fn is_locked(file: &File) -> Result<bool> {
    Ok(ofd::first_held(file.as_fd(), 0, 0)?.is_some())
}

/// Whether any process has the object open, or is about to.
pub(super) fn is_held(file: &File, same_namespace: bool) -> Result<bool> {
    Ok(is_locked(file)? || !held(file, same_namespace)?.is_empty())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::primitives::Event;
    use crate::segment::Object;
    use crate::sys::shm;

    /// An event with one participant, this process, in slot 0; its file, and its member.
    fn attached() -> (Event, File, MemberId) {
        let event = Event::anonymous().unwrap();
        let name = format!("shoal.{}", event.name());
        let file = shm::open_file(&name).unwrap();
        let id = entries(&file).unwrap()[0].id;
        (event, file, id)
    }

    /// A member of a group that does not exist.
    const DEAD: MemberId = MemberId::of_no_group();

    #[test]
    fn a_holder_that_forks_and_dies_during_a_scan_leaves_its_child_in_it() {
        let (event, _file, own) = attached();
        let region = event.segment().region();
        let table = Table::of(&region).unwrap();
        for (parent, child) in [(9, 3), (3, 9)] {
            table.slots[parent].take(own, 0);
            let forked = Cell::new(false);
            let has_any = table.has_any(Section::ALL, |index, slot| {
                if usize::from(index) == parent && !forked.replace(true) {
                    table.slots[child].take(own, 0);
                    slot.holder.store(DEAD.word(), Ordering::SeqCst);
                }
                index != 0
            });
            assert_eq!(has_any, Ok(true));
            table.leave(child as u16);
            assert_eq!(table.has_others(Section::ALL, 0), Ok(false));
        }
    }

    #[test]
    fn a_handle_that_is_handed_on_during_a_scan_is_found() {
        let (event, _file, own) = attached();
        let region = event.segment().region();
        let table = Table::of(&region).unwrap();
        table.slots[9].take(own, 0);
        let has_any = table.has_any(Section::ALL, |index, slot| {
            if index == 9 && slot.holder.load(Ordering::SeqCst) != 0 {
                table.slots[3].take(own, 0);
                table.leave(9);
            }
            index != 0
        });
        assert_eq!(has_any, Ok(true));
        table.leave(3);
    }

    #[test]
    fn a_taken_slot_does_not_look_as_if_its_holder_were_leaving() {
        let (event, _file, own) = attached();
        let region = event.segment().region();
        let table = Table::of(&region).unwrap();
        table.leave(0);
        for slot in [3, 0] {
            table.slots[slot].take(own, 7);
            table.mark_leaving(slot as u16);
            assert_eq!(table.has_any_that_stays(), Ok(false));
            table.leave(slot as u16);
            table.slots[slot].take(own, 0);
            assert_eq!(table.has_any_that_stays(), Ok(true));
            table.leave(slot as u16);
        }
    }

    #[test]
    fn a_holder_that_forks_and_dies_while_its_file_is_read_leaves_its_child_in_it() {
        let (event, file, own) = attached();
        let region = event.segment().region();
        let table = Table::of(&region).unwrap();
        table.slots[1].take(DEAD, 0);
        table.leave(0);
        let held = held_by(&file, |id, _| {
            if id == DEAD && table.slots[0].holder.load(Ordering::SeqCst) == 0 {
                table.slots[0].take(own, 0);
            }
            Ok(id == own)
        });
        assert_eq!(held.unwrap().len(), 1);
        assert!(held_by(&file, |_, _| Ok(false)).unwrap().is_empty());
    }
}
