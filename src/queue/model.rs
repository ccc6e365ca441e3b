//! The ring compared with a reference model.
//!
//! The reference knows the rules of `ring` (records of multiples of 16, padding before the end, a batch
//! published in parts) and keeps everything else in a `VecDeque`. After every step the ring must hold the
//! same bytes and the same counts, and answer as the reference expects.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::collections::VecDeque;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use proptest::prelude::*;

use crate::error::{Error, Result};
use crate::heap::{Arena, Backing};
use crate::layout::{Owner, Region};

use super::commit::Delivery;
use super::cursors::{Consumer, Producer};
use super::header::{MIN_CAPACITY, RING};
use super::mark::{Mark, MessageState};
use super::record::{self, HEADER};
use super::ring::Ring;

/// A ring on the heap.
struct Heap {
    at: NonNull<u8>,
    layout: Layout,
    ring: Ring,
}

impl Heap {
    fn new(capacity: u64, max: u64) -> Self {
        let layout = Layout::from_size_align((RING + Ring::size(max)) as usize, 4096).unwrap();
        // SAFETY: the layout is not empty.
        let at = NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap();
        // SAFETY: freed only when the heap is dropped, and the ring with it.
        let region = unsafe { Region::new(at, layout.size()) };
        Ring::init(&region, 0, capacity, max, 0, 0).unwrap();
        let ring = Ring::attach(&region, 0).unwrap();
        Self { at, layout, ring }
    }

    fn with_arena<T>(&self, work: impl FnOnce(&Arena<'_>) -> Result<T>) -> Result<T> {
        work(&self.ring.store.arena(&self.ring.header.store, &Committed))
    }
}

/// The memory of a heap, all of which is committed.
struct Committed;

impl Backing for Committed {
    fn commit(&self, _offset: u64, _len: u64, _new: u64) -> Result<()> {
        Ok(())
    }

    fn decommit(&self, _offset: u64, _len: u64) -> Result<()> {
        Ok(())
    }

    fn available(&self) -> u64 {
        0
    }
}

impl Drop for Heap {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout.
        unsafe { dealloc(self.at.as_ptr(), self.layout) };
    }
}

/// A record in the ring.
#[derive(Clone)]
enum Record {
    Message(Vec<u8>),
    Padding(u64),
    /// A message that lies in the message store.
    Stored(Vec<u8>),
}

impl Record {
    fn size(&self) -> u64 {
        match self {
            Record::Message(data) => record::size(data.len() as u64).unwrap(),
            Record::Padding(size) => *size,
            Record::Stored(_) => HEADER,
        }
    }
}

/// The reference.
struct Model {
    records: VecDeque<Record>,
    capacity: u64,
    initial: u64,
    tail: u64,
    serial: u64,
    /// Reservations: block, number, length.
    reserved: Vec<(u32, u64, u64)>,
}

impl Model {
    fn new(capacity: u64) -> Self {
        Self {
            records: VecDeque::new(),
            capacity,
            initial: capacity,
            tail: 0,
            serial: 0,
            reserved: Vec::new(),
        }
    }

    fn used(&self) -> u64 {
        self.records.iter().map(Record::size).sum()
    }

    fn messages(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.records.iter().filter_map(|it| match it {
            Record::Message(data) | Record::Stored(data) => Some(data),
            Record::Padding(_) => None,
        })
    }

    fn add(&mut self, record: Record) {
        self.tail += record.size();
        self.records.push_back(record);
    }

    /// A message with unique contents.
    fn message(&mut self, len: usize) -> Vec<u8> {
        self.serial += 1;
        let seed = self.serial.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (0..len)
            .map(|at| (seed >> (at % 8 * 8)) as u8 ^ (at / 8) as u8)
            .collect()
    }

    /// Adds what a push adds: padding, and the message if it fits. Returns whether it does.
    fn push(&mut self, data: &[u8]) -> bool {
        let fits = self.place(data.len());
        if fits {
            self.add(Record::Message(data.to_vec()));
        }
        fits
    }

    /// Adds the padding that a record needs, if it can be put. Returns whether the record fits now.
    fn place(&mut self, len: usize) -> bool {
        let need = record::size(len as u64).unwrap();
        let to_end = self.capacity - self.tail % self.capacity;
        if need <= to_end {
            return self.free() >= need;
        }
        let fits_behind = self.free() >= to_end + need;
        // Padding alone moves on the cursor of an empty ring, for a record that needs its room as well.
        if fits_behind || self.used() == 0 && self.free() >= need {
            self.add(Record::Padding(to_end));
        }
        fits_behind
    }

    /// Bytes that are not set aside for reservations.
    fn free(&self) -> u64 {
        let aside = self.reserved.len() as u64 * HEADER;
        (self.capacity - self.used()).saturating_sub(aside)
    }

    fn skip_padding(&mut self) {
        while let Some(Record::Padding(_)) = self.records.front() {
            self.records.pop_front();
        }
    }
}

fn copy_of(heap: &Heap, end: &mut Consumer<'_>) -> Option<Vec<u8>> {
    let message = end.peek().unwrap()?;
    let mut data = vec![0; message.len()];
    // SAFETY: as long as the message; nothing is published meanwhile.
    unsafe { message.copy_to(NonNull::from(&mut data[..]).cast()) };
    match message.block() {
        None => {
            end.advance(message);
            end.publish_part();
        }
        Some(block) => {
            end.advance_now(message).unwrap();
            heap.with_arena(|arena| arena.free(block)).unwrap();
        }
    }
    Some(data)
}

#[derive(Debug, Clone)]
enum Step {
    /// Puts messages of these lengths with one lock, as far as they fit.
    Put(Vec<usize>),
    /// The same, but the process is killed before it publishes.
    PutKilled(Vec<usize>),
    /// Takes up to this many messages with one lock.
    Take(usize),
    TakeKilled(usize),
    /// Reserves room for this many bytes.
    Reserve(usize),
    /// Commits one of the reservations, with this many sixteenths of its bytes.
    Commit(usize, u64),
    Discard(usize),
    Grow(u32),
    Shrink,
}

fn check(heap: &Heap, model: &Model) {
    let ring = &heap.ring;
    ring.check().unwrap();
    assert_eq!(ring.capacity(), Ok(model.capacity));
    assert_eq!(ring.header.used(), model.used());
    let bytes = model.messages().map(|it| it.len() as u64).sum();
    assert_eq!(
        ring.header.counts(),
        (model.messages().count() as u64, bytes)
    );
    assert_eq!(ring.is_occupied(), model.used() != 0);
}

fn put(heap: &Heap, model: &mut Model, lens: &[usize], killed: bool) {
    // SAFETY: the only thread.
    let mut end = unsafe { Producer::new(&heap.ring) }.unwrap();
    let before = heap.ring.header.counts().0;
    let (old_records, old_tail) = (model.records.clone(), model.tail);
    for &len in lens {
        let data = model.message(len);
        let expected = model.push(&data);
        assert_eq!(end.push(&data), Ok(expected));
        if !expected {
            break;
        }
        end.publish_part();
    }
    if killed {
        // Padding and complete parts of the batch are published already: some first part of it all.
        let (there, used) = (
            heap.ring.header.counts().0 - before,
            heap.ring.header.used(),
        );
        let all = std::mem::replace(&mut model.records, old_records);
        let old = model.records.len();
        model.tail = old_tail;
        for record in all.into_iter().skip(old) {
            if model.used() == used {
                break;
            }
            model.add(record);
        }
        assert!(there <= lens.len() as u64);
    } else {
        end.publish();
    }
}

fn take(heap: &Heap, model: &mut Model, count: usize, killed: bool) {
    // SAFETY: the only thread.
    let mut end = unsafe { Consumer::new(&heap.ring) }.unwrap();
    let mut rest: VecDeque<Vec<u8>> = model.messages().cloned().collect();
    let old_used = heap.ring.header.used();
    let mut taken = 0;
    while taken < count {
        let data = copy_of(heap, &mut end);
        assert_eq!(data, rest.pop_front());
        if data.is_none() {
            break;
        }
        taken += 1;
    }
    if !killed {
        end.publish();
    }
    let freed = old_used - heap.ring.header.used();
    let mut left = freed;
    while left > 0 {
        left -= model.records.pop_front().unwrap().size();
    }
    if !killed {
        assert!(model.messages().eq(&rest));
        if taken < count {
            model.skip_padding();
            assert_eq!(model.used(), 0);
        }
    }
}

const OWNER: Owner = Owner {
    slot: 7,
    generation: 3,
};

fn reserve(heap: &Heap, model: &mut Model, len: usize) {
    // SAFETY: the only thread.
    let mut end = unsafe { Producer::new(&heap.ring) }.unwrap();
    let may = model.free() >= HEADER;
    assert_eq!(end.may_reserve(), Ok(may));
    let number = end.next_serial();
    let mark = Mark::new(MessageState::Writing, 0, OWNER);
    let store = &heap.ring.store;
    let placed = heap.with_arena(|arena| {
        store.allocate(&heap.ring.header.store, arena, len as u64, number, mark)
    });
    let Some(block) = placed.unwrap() else {
        return;
    };
    if !may {
        heap.with_arena(|arena| arena.free(block)).unwrap();
        return;
    }
    end.count_writing(1);
    model.reserved.push((block, number, len as u64));
}

fn commit(heap: &Heap, model: &mut Model, which: usize, sixteenths: u64) {
    let Some(index) = which.checked_rem(model.reserved.len()) else {
        return;
    };
    let (block, number, len) = model.reserved.remove(index);
    let data = model.message((len * sixteenths / 16) as usize);
    let span = heap.ring.store.span(block, len).unwrap();
    // SAFETY: the only thread; the reservation has at least this many bytes.
    unsafe {
        span.copy_from_nonoverlapping(NonNull::from(&data[..]).cast(), data.len());
        let mut end = Producer::new(&heap.ring).unwrap();
        let more = end.commit((block, number, OWNER), len as usize + 1, Delivery::NONE);
        assert!(matches!(more, Err(Error::TooLarge { .. })));
        end.commit((block, number, OWNER), data.len(), Delivery::NONE)
            .unwrap();
        let again = end.commit((block, number, OWNER), data.len(), Delivery::NONE);
        assert!(matches!(again, Err(Error::Invalid { .. })));
    }
    assert_eq!(
        heap.ring.store.found(block).unwrap().number,
        heap.ring.header.put().0
    );
    model.add(Record::Stored(data));
}

fn discard(heap: &Heap, model: &mut Model, which: usize) {
    let Some(index) = which.checked_rem(model.reserved.len()) else {
        return;
    };
    let (block, number, _) = model.reserved.remove(index);
    assert!(heap.ring.store.is_reserved(block, number, OWNER));
    heap.with_arena(|arena| arena.free(block)).unwrap();
    assert!(!heap.ring.store.is_reserved(block, number, OWNER));
    // SAFETY: the only thread.
    let end = unsafe { Producer::new(&heap.ring) }.unwrap();
    end.count_writing(-1);
}

fn run(capacity: u64, max: u64, steps: &[Step]) {
    let heap = Heap::new(capacity, max);
    let mut model = Model::new(capacity);
    for step in steps {
        match step {
            Step::Put(lens) => put(&heap, &mut model, lens, false),
            Step::PutKilled(lens) => put(&heap, &mut model, lens, true),
            Step::Take(count) => take(&heap, &mut model, *count, false),
            Step::TakeKilled(count) => take(&heap, &mut model, *count, true),
            Step::Reserve(len) => reserve(&heap, &mut model, *len),
            Step::Commit(which, part) => commit(&heap, &mut model, *which, *part),
            Step::Discard(which) => discard(&heap, &mut model, *which),
            Step::Grow(times) => {
                let wanted = model.capacity << times;
                // SAFETY: the only thread; all pages are there.
                let grown = unsafe { heap.ring.grow(wanted) };
                if wanted <= max {
                    assert_eq!(grown, Ok(()));
                    model.capacity = wanted;
                } else {
                    assert!(matches!(grown, Err(Error::Corrupt { .. })));
                    model.capacity = max;
                }
            }
            Step::Shrink => {
                // SAFETY: the only thread.
                let shrunk = unsafe { heap.ring.shrink() };
                let aside = model.reserved.len() as u64 * HEADER;
                let roomy = model.used() == 0 && aside <= model.initial / 2;
                let may = roomy && model.capacity > model.initial;
                assert_eq!(shrunk, Ok(may.then_some(model.capacity)));
                if may {
                    model.capacity = model.initial;
                }
            }
        }
        check(&heap, &model);
    }
    while !model.reserved.is_empty() {
        discard(&heap, &mut model, 0);
    }
    take(&heap, &mut model, usize::MAX, false);
    check(&heap, &model);
    assert_eq!(heap.ring.header.used(), 0);
}

fn length() -> impl Strategy<Value = usize> {
    prop_oneof![
        8 => 0..200usize,
        4 => 0..4200usize,
        1 => 30_000..70_000usize,
        1 => Just(MIN_CAPACITY as usize - 16),
        1 => Just(0usize),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let lengths = || prop::collection::vec(length(), 1..12);
    prop_oneof![
        8 => lengths().prop_map(Step::Put),
        2 => lengths().prop_map(Step::PutKilled),
        8 => (0..12usize).prop_map(Step::Take),
        2 => (0..12usize).prop_map(Step::TakeKilled),
        2 => length().prop_map(Step::Reserve),
        2 => (0..9usize, 0..=16u64).prop_map(|(which, part)| Step::Commit(which, part)),
        1 => (0..9usize).prop_map(Step::Discard),
        1 => (0..3u32).prop_map(Step::Grow),
        2 => Just(Step::Shrink),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 4 } else { 128 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_small_ring_does_what_a_list_does(steps in prop::collection::vec(step(), 1..60)) {
        run(4096, 4096, &steps);
    }

    #[test]
    fn a_growing_ring_does_what_a_list_does(steps in prop::collection::vec(step(), 1..60)) {
        run(4096, 1 << 18, &steps);
    }
}

#[test]
fn growth_keeps_every_message_wherever_the_cursors_stand() {
    let fills: [&[usize]; 4] = [&[], &[1000; 3], &[0; 250], &[100, 2000, 7, 1500]];
    for start in (0..2 * MIN_CAPACITY).step_by(16) {
        for fill in fills {
            let first = (start % MIN_CAPACITY) as usize;
            let mut steps = Vec::new();
            // To the start: one lap of full rings, then the rest.
            if start >= MIN_CAPACITY {
                steps.extend([Step::Put(vec![4080]), Step::Take(1)]);
            }
            if first > 0 {
                steps.extend([Step::Put(vec![first - 16]), Step::Take(1)]);
            }
            steps.push(Step::Put(fill.to_vec()));
            steps.push(Step::Grow(1 + (start / 16 % 3) as u32));
            steps.push(Step::Put(fill.to_vec()));
            steps.push(Step::Take(2));
            run(MIN_CAPACITY, MIN_CAPACITY * 8, &steps);
        }
    }
}

#[test]
fn a_ring_that_is_in_use_during_a_check_is_not_corrupt() {
    let checks = if cfg!(miri) { 20 } else { 3_000_000 };
    let heap = Heap::new(MIN_CAPACITY, MIN_CAPACITY);
    let (header, is_over) = (heap.ring.header, AtomicBool::new(false));
    let failed = thread::scope(|scope| {
        // Each step fills the ring and empties it.
        scope.spawn(|| {
            let mut at = 0;
            while !is_over.load(Ordering::Relaxed) {
                at += MIN_CAPACITY;
                header.tail.store(at, Ordering::Release);
                header.head.store(at, Ordering::Release);
            }
        });
        let failed = (0..checks).find_map(|_| heap.ring.check().err());
        is_over.store(true, Ordering::Relaxed);
        failed
    });
    assert_eq!(failed, None);
}

#[test]
fn cursors_and_headers_of_any_bits_are_answered() {
    let mut random = 0x1234_5678_9abc_def1u64;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    for _ in 0..1000 {
        let heap = Heap::new(4096, 1 << 14);
        let mut model = Model::new(4096);
        put(&heap, &mut model, &[next() as usize % 900; 4], false);
        for _ in 0..1 + next() % 4 {
            // Anywhere in the header but the locks, and in the first records.
            let word = loop {
                let at = [next() % 100, 512 + next() % 16][(next() % 2) as usize] * 8;
                if !(128..192).contains(&at) && !(384..448).contains(&at) {
                    break at;
                }
            };
            let bits = match next() % 5 {
                0 => next(),
                1 => u64::MAX - next() % 64,
                2 => next() % 9000,
                3 => 1 << (next() % 64),
                _ => 0,
            };
            // SAFETY: inside the heap's block, aligned, and no other thread uses it.
            unsafe { heap.at.add(word as usize).cast::<u64>().write(bits) };
        }
        let data = vec![7; next() as usize % 5000];
        for _ in 0..300 {
            // SAFETY: the only thread.
            unsafe {
                if let Ok(mut end) = Producer::new(&heap.ring)
                    && end.push(&data).is_ok()
                {
                    end.publish();
                }
                if let Ok(mut end) = Consumer::new(&heap.ring)
                    && let Ok(Some(message)) = end.peek()
                {
                    assert!(message.len() <= 1 << 14);
                    let mut copy = vec![0; message.len()];
                    message.copy_to(NonNull::from(&mut copy[..]).cast());
                    let _ = end.advance_now(message);
                }
                if let Ok(mut end) = Producer::new(&heap.ring)
                    && end.may_reserve().is_ok()
                {
                    let block = next() as u32 % 99;
                    let _ = end.commit((block, next(), OWNER), data.len() / 2, Delivery::NONE);
                }
                let _ = (heap.ring.is_occupied(), heap.ring.starts_done());
                let _ = heap.ring.grow(1 << (12 + next() % 3));
                let _ = heap.ring.shrink();
            }
            let _ = (
                heap.ring.header.counts(),
                heap.ring.header.used(),
                heap.ring.check(),
            );
        }
    }
}
