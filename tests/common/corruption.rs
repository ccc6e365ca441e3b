//! Words that no process of ours would write, forged in the file of an object.
//!
//! Random bits are refused by the first check they meet. So most corruptions here *match*: a word is
//! replaced by one that means something elsewhere in the same object, an offset is moved by one
//! step, every copy of a number is changed at once, two entries of a list name each other.
//!
//! A corruption is written as one word of text, such as `nudge:h3:1`, so that a case that failed can be
//! kept and run again (`tests/hostile/corpus.txt`).
//!
//! # What is left out
//! The word of a lock that names a living process is believed: the others wait for that process
//! (`src/sync/lock.rs`). Such a word is never written.

use std::fmt;
use std::fs::File;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::str::FromStr;

use super::Random;

/// Where an object's participants begin in its file, and its own data.
pub(crate) const PARTICIPANTS: u64 = 4096;
pub(crate) const DATA: u64 = 36_864;

/// The participants' slots that corruptions reach, in words. A test has fewer handles open than that.
const SLOT_WORDS: u64 = 8 * 4;
/// What bits 48 to 62 of the word of a lock are while a process has it.
const MARK: u64 = 0x5ba1;

/// What is where in the data of a kind of object. Offsets count from [`DATA`].
#[derive(Default)]
pub(crate) struct Anatomy {
    /// The end of the words of the header: half of the corruptions change these.
    pub(crate) head: u64,
    /// The offsets of its locks.
    pub(crate) locks: Vec<Range<u64>>,
    /// Related numbers, with the step by which each of them changes.
    pub(crate) groups: Vec<Vec<(u64, u64)>>,
    /// Where its block maps begin (see `src/heap/block.rs`), and the blocks of those whose extents
    /// are in lists themselves.
    pub(crate) block_maps: Vec<(u64, Option<u64>)>,
}

impl Anatomy {
    /// The same object further back in the data.
    pub(crate) fn moved(mut self, by: u64) -> Self {
        self.head += by;
        for lock in &mut self.locks {
            *lock = lock.start + by..lock.end + by;
        }
        for (at, _) in self.groups.iter_mut().flatten() {
            *at += by;
        }
        for (at, heap) in &mut self.block_maps {
            *at += by;
            *heap = heap.map(|at| at + by);
        }
        self
    }

    /// Both objects, which lie in one segment.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.head = self.head.max(other.head);
        self.locks.extend(other.locks);
        self.groups.extend(other.groups);
        self.block_maps.extend(other.block_maps);
        self
    }

    fn is_lock(&self, offset: u64) -> bool {
        let mut locks = self.locks.iter();
        offset >= DATA && locks.any(|lock| lock.contains(&(offset - DATA)))
    }
}

/// One of the object's words. The number is taken modulo how many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// One of the header.
    Head(u16),
    /// One of those that are not zero.
    Live(u16),
    /// One of all words with memory.
    Any(u16),
    /// One of the participants' table.
    Slot(u16),
}

/// A part of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Whole,
    Low,
    High,
}

/// A change of some words that no process of ours would make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Corruption {
    /// The word is set to this.
    Put(Place, u64),
    /// One bit of it is flipped.
    Flip(Place, u8),
    /// This is added to it.
    Nudge(Place, i64),
    /// This is added to it and to all words that were equal to it.
    Twins(Place, i64),
    /// It, or half of it, becomes what stands in another place, where it is a number of about the
    /// same size: the n-th of those.
    Match(Place, Part, u16),
    /// This many words are overwritten with as many others.
    Copy(Place, Place, u8),
    /// Two words are swapped.
    Swap(Place, Place),
    /// The numbers of one of the object's groups change together, by this many of their steps.
    Together(u8, i64),
    /// Two extents of memory name each other as the next one, and the one before.
    Circle(u16, u16),
}

/// An object's file, and where its words are.
pub(crate) struct Body {
    file: File,
    anatomy: Anatomy,
    /// Where the words are that hold memory, from [`DATA`] on, and what they are.
    words: Vec<(u64, u64)>,
    /// How many of them belong to the head.
    head: usize,
    /// Those of them that are not zero.
    live: Vec<usize>,
}

impl Body {
    /// The object behind the file of this path.
    pub(crate) fn open(path: &str, anatomy: Anatomy) -> Self {
        let file = File::options().read(true).write(true).open(path).unwrap();
        let mut body = Self {
            file,
            anatomy,
            words: Vec::new(),
            head: 0,
            live: Vec::new(),
        };
        body.look();
        body
    }

    /// Reads all words. The holes between stay holes.
    pub(crate) fn look(&mut self) {
        self.words.clear();
        // The first page is there, even if nothing was ever written to it.
        let first = self.anatomy.head.min(4096);
        self.read_words(DATA, DATA + first);
        let mut at = (DATA + first) as i64;
        loop {
            // SAFETY: seeks in our own descriptor.
            let (from, to) = unsafe {
                let from = libc::lseek(self.file.as_raw_fd(), at, libc::SEEK_DATA);
                let to = libc::lseek(self.file.as_raw_fd(), from.max(0), libc::SEEK_HOLE);
                (from, to)
            };
            if from < 0 {
                break;
            }
            self.read_words(from as u64, to as u64);
            at = to;
        }
        let end = DATA + self.anatomy.head;
        self.head = self.words.partition_point(|(offset, _)| *offset < end);
        let live = self.words.iter().enumerate();
        let live = live.filter_map(|(index, (_, word))| (*word != 0).then_some(index));
        self.live = live.collect();
    }

    fn read_words(&mut self, from: u64, to: u64) {
        let mut bytes = vec![0; (to - from) as usize];
        self.file.read_exact_at(&mut bytes, from).unwrap();
        let words = bytes.chunks_exact(8).zip((from..).step_by(8));
        self.words.extend(words.map(|(word, offset)| {
            let word = u64::from_le_bytes(word.try_into().unwrap());
            (offset, word)
        }));
    }

    /// Writes the bytes of the head as they are now, but for its locks, when called.
    pub(crate) fn healer(&self) -> impl Fn() + '_ {
        let healthy: Vec<_> = self.words[..self.head].to_vec();
        move || {
            for (offset, word) in &healthy {
                if !self.anatomy.is_lock(*offset) {
                    self.file
                        .write_all_at(&word.to_le_bytes(), *offset)
                        .unwrap();
                }
            }
        }
    }

    /// Whether the corruption would write into a lock.
    pub(crate) fn hits_a_lock(&self, corruption: &Corruption) -> bool {
        use Corruption::*;
        let hit = |place: &Place| self.anatomy.is_lock(self.offset(*place));
        match corruption {
            Put(to, _) | Flip(to, _) | Nudge(to, _) | Twins(to, _) | Match(to, ..) => hit(to),
            Copy(_, to, len) => {
                let first = self.offset(*to);
                (0..u64::from(*len)).any(|i| self.anatomy.is_lock(first + i * 8))
            }
            Swap(a, b) => hit(a) || hit(b),
            Together(..) | Circle(..) => false,
        }
    }

    pub(crate) fn apply(&self, corruption: &Corruption) {
        match *corruption {
            Corruption::Put(to, word) => self.write(self.offset(to), word),
            Corruption::Flip(to, bit) => self.change(to, |word| word ^ 1 << (bit % 64)),
            Corruption::Nudge(to, by) => self.change(to, |word| word.wrapping_add_signed(by)),
            Corruption::Twins(to, by) => {
                let word = self.read(self.offset(to));
                // Zeros do not count as copies of each other.
                for &(offset, twin) in &self.words {
                    if twin == word && word != 0 {
                        self.write(offset, word.wrapping_add_signed(by));
                    }
                }
            }
            Corruption::Match(to, part, nth) => self.change(to, |word| self.alike(word, part, nth)),
            Corruption::Copy(from, to, len) => {
                let (from, to) = (self.offset(from), self.offset(to));
                let last = self.words.last().map_or(0, |(offset, _)| *offset);
                for at in (0..u64::from(len)).map(|i| i * 8) {
                    if from.max(to) + at <= last {
                        self.write(to + at, self.read(from + at));
                    }
                }
            }
            Corruption::Swap(a, b) => {
                let (a, b) = (self.offset(a), self.offset(b));
                let (old, new) = (self.read(a), self.read(b));
                self.write(a, new);
                self.write(b, old);
            }
            Corruption::Together(group, steps) => {
                let groups = &self.anatomy.groups;
                let Some(group) = usize::from(group).checked_rem(groups.len()) else {
                    return;
                };
                for &(at, step) in &groups[group] {
                    let by = (step as i64).wrapping_mul(steps);
                    let word = self.read(DATA + at);
                    self.write(DATA + at, word.wrapping_add_signed(by));
                }
            }
            Corruption::Circle(a, b) => self.circle(a.into(), b.into()),
        }
    }

    /// The n-th number of the object that is about as large as this one, and another one.
    fn alike(&self, word: u64, part: Part, nth: u16) -> u64 {
        let of = |word: u64| match part {
            Part::Whole => word,
            Part::Low => word & 0xffff_ffff,
            Part::High => word >> 32,
        };
        let own = of(word);
        let fits = |other: &u64| {
            let by = own.leading_zeros().abs_diff(other.leading_zeros());
            *other != 0 && *other != own && by <= 2
        };
        let words = self.live.iter().map(|index| self.words[*index].1);
        let found: Vec<u64> = words.map(of).filter(fits).take(4096).collect();
        let Some(at) = usize::from(nth).checked_rem(found.len()) else {
            return word;
        };
        match part {
            Part::Whole => found[at],
            Part::Low => word & !0xffff_ffff | found[at],
            Part::High => word & 0xffff_ffff | found[at] << 32,
        }
    }

    /// Makes a cycle of two extents, or of one. Their kind determines the lists in which they are.
    fn circle(&self, a: usize, b: usize) {
        for &(map, heap) in &self.anatomy.block_maps {
            let entry = |block: u64| DATA + map + block * 24;
            let kind = |block: &u64| self.read(entry(*block)) & 0xff;
            // Free, or in use: the first block of an extent.
            let heads = (1..1024).filter(|block| matches!(kind(block), 1 | 2));
            let heads: Vec<u64> = heads.collect();
            let Some(a) = a.checked_rem(heads.len()) else {
                continue;
            };
            let (a, b) = (heads[a], heads[b % heads.len()]);
            for (one, other) in [(a, b), (b, a)] {
                self.write(entry(one) + 8, other | other << 32);
                if let Some(heap) = heap {
                    self.write(DATA + heap + one * 1024 + 32, other);
                }
            }
        }
    }

    fn offset(&self, place: Place) -> u64 {
        let word = |index: usize| self.words[index].0;
        match place {
            Place::Head(n) => word(usize::from(n) % self.head.max(1)),
            Place::Live(n) => match usize::from(n).checked_rem(self.live.len()) {
                Some(at) => word(self.live[at]),
                None => word(0),
            },
            Place::Any(n) => word(usize::from(n) % self.words.len()),
            Place::Slot(n) => PARTICIPANTS + u64::from(n) % SLOT_WORDS * 8,
        }
    }

    fn change(&self, to: Place, new: impl FnOnce(u64) -> u64) {
        let offset = self.offset(to);
        self.write(offset, new(self.read(offset)));
    }

    fn read(&self, offset: u64) -> u64 {
        let mut word = [0; 8];
        let _ = self.file.read_at(&mut word, offset);
        u64::from_le_bytes(word)
    }

    fn write(&self, offset: u64, word: u64) {
        let slot = word >> 32 & 0xffff;
        if word >> 48 & 0x7fff == MARK && slot < SLOT_WORDS / 4 {
            return;
        }
        self.file.write_all_at(&word.to_le_bytes(), offset).unwrap();
    }
}

/// A place, anywhere.
pub(crate) fn some_place(random: &mut Random) -> Place {
    let n = random.next() as u16;
    match random.below(20) {
        0 => Place::Slot(n),
        1..=8 => Place::Head(n),
        9..=14 => Place::Live(n),
        _ => Place::Any(n),
    }
}

/// A step by which an offset, a count or a half of a word may be wrong.
fn some_step(random: &mut Random) -> i64 {
    let step = [1, 1, 2, 8, 16, 64, 1024, 4096][random.below(8) as usize] << random.below(3);
    let half = [0, 0, 0, 16, 32, 48][random.below(6) as usize];
    let sign = [1, -1][random.below(2) as usize];
    (sign * step) << half
}

/// A corruption of any kind.
pub(crate) fn some_corruption(random: &mut Random) -> Corruption {
    let at = some_place(random);
    match random.below(16) {
        0 => Corruption::Put(at, random.next()),
        1 => Corruption::Put(
            at,
            [0, u64::MAX, random.below(300)][random.below(3) as usize],
        ),
        2 => Corruption::Flip(at, random.below(64) as u8),
        3..=5 => Corruption::Nudge(at, some_step(random)),
        6..=7 => Corruption::Twins(at, some_step(random)),
        8..=10 => {
            let part = [Part::Whole, Part::Low, Part::High][random.below(3) as usize];
            Corruption::Match(at, part, random.next() as u16)
        }
        11..=12 => {
            let len = [1, 1, 2, 3, 8, 64][random.below(6) as usize];
            Corruption::Copy(at, some_place(random), len)
        }
        13 => Corruption::Swap(at, some_place(random)),
        14 => Corruption::Together(random.next() as u8, some_step(random)),
        _ => Corruption::Circle(random.below(200) as u16, random.below(200) as u16),
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Head(n) => write!(f, "h{n}"),
            Place::Live(n) => write!(f, "l{n}"),
            Place::Any(n) => write!(f, "a{n}"),
            Place::Slot(n) => write!(f, "s{n}"),
        }
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (zone, n) = text.split_at_checked(1).ok_or("no place")?;
        let n = number(n)?;
        match zone {
            "h" => Ok(Place::Head(n)),
            "l" => Ok(Place::Live(n)),
            "a" => Ok(Place::Any(n)),
            "s" => Ok(Place::Slot(n)),
            _ => Err(format!("{text:?} is no place")),
        }
    }
}

impl fmt::Display for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Corruption::Put(at, word) => write!(f, "put:{at}:{word}"),
            Corruption::Flip(at, bit) => write!(f, "flip:{at}:{bit}"),
            Corruption::Nudge(at, by) => write!(f, "nudge:{at}:{by}"),
            Corruption::Twins(at, by) => write!(f, "twins:{at}:{by}"),
            Corruption::Match(at, Part::Whole, nth) => write!(f, "match:{at}:{nth}"),
            Corruption::Match(at, Part::Low, nth) => write!(f, "match-low:{at}:{nth}"),
            Corruption::Match(at, Part::High, nth) => write!(f, "match-high:{at}:{nth}"),
            Corruption::Copy(from, to, len) => write!(f, "copy:{from}:{to}:{len}"),
            Corruption::Swap(a, b) => write!(f, "swap:{a}:{b}"),
            Corruption::Together(group, steps) => write!(f, "together:{group}:{steps}"),
            Corruption::Circle(a, b) => write!(f, "circle:{a}:{b}"),
        }
    }
}

impl FromStr for Corruption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split(':').collect();
        Ok(match parts[..] {
            ["put", at, word] => Corruption::Put(at.parse()?, number(word)?),
            ["flip", at, bit] => Corruption::Flip(at.parse()?, number(bit)?),
            ["nudge", at, by] => Corruption::Nudge(at.parse()?, number(by)?),
            ["twins", at, by] => Corruption::Twins(at.parse()?, number(by)?),
            ["match", at, nth] => Corruption::Match(at.parse()?, Part::Whole, number(nth)?),
            ["match-low", at, nth] => Corruption::Match(at.parse()?, Part::Low, number(nth)?),
            ["match-high", at, nth] => Corruption::Match(at.parse()?, Part::High, number(nth)?),
            ["copy", from, to, len] => Corruption::Copy(from.parse()?, to.parse()?, number(len)?),
            ["swap", a, b] => Corruption::Swap(a.parse()?, b.parse()?),
            ["together", group, steps] => Corruption::Together(number(group)?, number(steps)?),
            ["circle", a, b] => Corruption::Circle(number(a)?, number(b)?),
            _ => return Err(format!("{text:?} is no corruption")),
        })
    }
}

/// A number as it is written in a corruption.
pub(crate) fn number<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text:?} is no number"))
}
