//! What a shared list promises while no process dies.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};

use crate::common::shm::{Filler, with_small_shm};
use crate::common::{Name, Random, alone, beside_others, fork};
use shoal::{Error, List, Map, Options};

fn all(list: &List) -> Vec<Vec<u8>> {
    list.range_vec(0..usize::MAX).unwrap()
}

/// Bytes of memory the list's file has.
fn memory(list: &List) -> u64 {
    let path = format!("/dev/shm/shoal.{}", list.name());
    std::fs::metadata(path).unwrap().blocks() * 512
}

fn item(random: &mut Random) -> Vec<u8> {
    let len = match random.below(10) {
        0 => 0,
        1..5 => random.below(9),
        5..9 => random.below(300),
        _ => random.below(100_000),
    };
    vec![random.next() as u8; len as usize]
}

#[test]
fn a_call_inside_a_call_of_the_same_thread_is_refused_and_changes_nothing() {
    let _beside = beside_others();
    let list = List::anonymous().unwrap();
    list.extend(&[b"2", b"1"]).unwrap();
    let refused = |result: Result<(), Error>| {
        let said = result.unwrap_err().to_string();
        let wanted = format!("invalid call on {:?}: ", list.name());
        assert!(said.starts_with(&wanted), "{said}");
    };
    list.with(|_| {
        refused(list.append(b"3"));
        refused(list.len().map(drop));
        Ok(())
    })
    .unwrap();
    list.sort_by(|a, b| {
        refused(list.clear());
        a.cmp(b)
    })
    .unwrap();
    assert_eq!(all(&list), [b"1", b"2"]);
}

#[test]
fn a_list_behaves_like_a_vector() {
    let _alone = alone();
    for seed in 1..=12 {
        let (mut random, mut model) = (Random(seed), Vec::<Vec<u8>>::new());
        let list = List::anonymous().unwrap();
        // Some lists grow, some shrink, some are used at one end.
        let (growth, place) = (1 + seed % 4, seed % 3);
        for step in 0..1200 {
            let len = model.len();
            let at = match place {
                0 => random.below(len as u64 + 1) as usize,
                1 => len.min(random.below(3) as usize),
                _ => len - len.min(random.below(3) as usize),
            };
            let to = (at + random.below(5) as usize).min(len);
            match random.below(10 + growth) {
                0 => assert_eq!(list.pop().unwrap(), model.pop()),
                1 => {
                    let expected = (at < len).then(|| model.remove(at));
                    assert_eq!(list.pop_at(at).unwrap(), expected);
                }
                2 => {
                    let items: Vec<_> = (0..random.below(6)).map(|_| item(&mut random)).collect();
                    list.splice(at..to, &items).unwrap();
                    model.splice(at..to, items);
                }
                3 if at < len => {
                    let bytes = item(&mut random);
                    assert!(list.set(at, &bytes).unwrap());
                    model[at] = bytes;
                }
                4 if at < len => {
                    let other = random.below(len as u64) as usize;
                    assert!(list.swap(at, other).unwrap());
                    model.swap(at, other);
                }
                5 if random.below(20) == 0 => {
                    list.sort_by(|a, b| a.cmp(b)).unwrap();
                    model.sort();
                }
                6 if random.below(20) == 0 => {
                    list.reverse().unwrap();
                    model.reverse();
                }
                7 if random.below(150) == 0 => {
                    list.clear().unwrap();
                    model.clear();
                }
                8 => {
                    list.remove(at..to).unwrap();
                    model.drain(at..to);
                }
                9 => {
                    let items: Vec<_> = (0..random.below(50)).map(|_| item(&mut random)).collect();
                    list.extend(&items[..items.len() / 8]).unwrap();
                    model.extend_from_slice(&items[..items.len() / 8]);
                }
                pick => {
                    let bytes = item(&mut random);
                    if pick % 2 == 0 {
                        list.insert(at, &bytes).unwrap();
                        model.insert(at, bytes);
                    } else {
                        list.append(&bytes).unwrap();
                        model.push(bytes);
                    }
                }
            }
            assert_eq!(list.len().unwrap(), model.len());
            if step % 97 == 0 {
                assert_eq!(all(&list), model, "seed {seed}, step {step}");
                list.verify().unwrap();
            }
        }
        assert_eq!(all(&list), model);
        let walked: Vec<_> = list.iter().map(Result::unwrap).collect();
        assert_eq!(walked, model);
        list.verify().unwrap();
        list.clear().unwrap();
        list.verify().unwrap();
        assert!(memory(&list) < 200_000, "{}", memory(&list));
    }
}

#[test]
fn elements_are_found_by_index_and_not_beyond_the_end() {
    let _alone = alone();
    let list = List::anonymous().unwrap();
    list.extend(&[&b""[..], b"1234567", b"12345678"]).unwrap();
    let mut buf = [0; 8];
    assert_eq!(list.get(0, &mut buf).unwrap(), Some(0));
    assert_eq!(list.get(1, &mut buf).unwrap(), Some(7));
    assert_eq!(list.get(2, &mut buf).unwrap(), Some(8));
    assert_eq!(&buf, b"12345678");
    assert_eq!(list.get(3, &mut buf).unwrap(), None);
    assert_eq!(list.get_vec(usize::MAX).unwrap(), None);
    let short = list.get(2, &mut buf[..3]).unwrap_err();
    let (needed, capacity) = (8, 3);
    assert_eq!(short, Error::BufferTooSmall { needed, capacity });
    assert_eq!(list.pop_into(2, &mut buf[..3]).unwrap_err(), short);
    assert_eq!(list.len().unwrap(), 3);
    assert!(!list.set(3, b"x").unwrap() && !list.swap(0, 3).unwrap());
    assert!(!list.compare_swap(1, b"other", b"new").unwrap());
    assert!(list.compare_swap(1, b"1234567", b"new").unwrap());
    assert!(!list.compare_swap(9, b"", b"new").unwrap());
    assert_eq!(list.pop_at(1).unwrap(), Some(b"new".to_vec()));
    assert_eq!(list.pop_at(2).unwrap(), None);
}

#[test]
fn a_large_element_is_returned_unchanged() {
    let _alone = alone();
    let list = List::anonymous().unwrap();
    let large: Vec<u8> = (0..40_000_000u32).map(|i| (i % 251) as u8).collect();
    list.append(b"before").unwrap();
    list.append(&large).unwrap();
    assert!(list.get_vec(1).unwrap().unwrap() == large);
    assert!(list.pop().unwrap().unwrap() == large);
    list.verify().unwrap();
    assert!(memory(&list) < 1 << 20);
}

#[test]
fn elements_that_come_and_go_take_no_more_memory() {
    let _alone = alone();
    let list = List::anonymous().unwrap();
    let (mut most, mut buf) = (0, [0; 64]);
    for round in 0..200_000u64 {
        list.append(&round.to_le_bytes()).unwrap();
        if round >= 100 {
            // As a queue: in at the end, out at the front.
            assert_eq!(list.pop_into(0, &mut buf).unwrap(), Some(8));
            assert_eq!(buf[..8], (round - 100).to_le_bytes());
        }
        if round == 10_000 {
            most = memory(&list);
        }
    }
    assert!(memory(&list) <= most);
    for _ in 0..200_000 {
        list.append(&[1; 40]).unwrap();
        assert_eq!(list.pop().unwrap().unwrap().len(), 40);
    }
    // A slab for elements of another size.
    assert!(memory(&list) <= most + 8192);
    list.verify().unwrap();
}

#[test]
fn a_full_list_does_not_change() {
    let _alone = alone();
    let options = Options::create().max_capacity(100_000);
    let list = List::with_options(None, &options).unwrap();
    while list.append(&[7; 900]).is_ok() {}
    let before = all(&list);
    assert!(before.len() > 60);
    let many = vec![[8; 900]; 30];
    for result in [
        list.append(&[9; 3000]),
        list.insert(3, &[9; 3000]),
        list.extend(&many),
        list.splice(1..2, &many),
        list.set(5, &[9; 20_000]).map(drop),
    ] {
        let err = result.unwrap_err();
        assert!(matches!(err, Error::NoSpace { .. }), "{err}");
        assert!(all(&list) == before);
        list.verify().unwrap();
    }
    let err = list.append(&[0; 60_000]).unwrap_err();
    assert!(matches!(err, Error::TooLarge { .. }), "{err}");
    list.remove(0..40).unwrap();
    list.extend(&many).unwrap();
    assert_eq!(list.len().unwrap(), before.len() - 10);
    list.verify().unwrap();
}

#[test]
fn an_order_names_each_element_once() {
    let _alone = alone();
    let list = List::anonymous().unwrap();
    list.extend(&[b"0", b"1", b"2", b"3"]).unwrap();
    for order in [&[0, 0][..], &[4], &[u64::MAX]] {
        let err = list.with(|locked| locked.rearrange(order)).unwrap_err();
        assert!(matches!(err, Error::Invalid { .. }));
        assert_eq!(list.len().unwrap(), 4);
    }
    list.with(|locked| locked.rearrange(&[3, 1])).unwrap();
    assert_eq!(all(&list), [b"3", b"1"]);
    list.with(|locked| locked.rearrange(&[])).unwrap();
    assert!(list.is_empty().unwrap());
    list.verify().unwrap();
}

#[test]
fn a_version_differs_after_every_change() {
    let _alone = alone();
    let list = List::anonymous().unwrap();
    let mut versions = BTreeSet::new();
    let mut note = || versions.insert(list.with(|locked| Ok(locked.version())).unwrap());
    assert!(note());
    list.extend(&[b"a", b"b"]).unwrap();
    assert!(note());
    list.set(0, b"c").unwrap();
    assert!(note());
    list.swap(0, 1).unwrap();
    assert!(note());
    list.pop().unwrap();
    assert!(note());
    list.get_vec(0).unwrap();
    assert!(!note());
}

#[test]
fn a_panic_under_the_lock_leaves_a_consistent_list() {
    let _alone = alone();
    let list = List::anonymous().unwrap();
    list.extend(&[b"b", b"a"]).unwrap();
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        list.sort_by(|_, _| panic!("no order"))
    }));
    assert!(result.is_err());
    assert_eq!(all(&list), [b"b", b"a"]);
    list.verify().unwrap();
}

#[test]
fn several_processes_append_and_pop_and_each_element_comes_once() {
    let _alone = alone();
    let (list, popped) = (List::anonymous().unwrap(), List::anonymous().unwrap());
    let children: Vec<_> = (0..4u64)
        .map(|child| {
            fork(|| {
                for i in 0..2000u64 {
                    list.append(&(child << 32 | i).to_le_bytes()).unwrap();
                    if i % 2 == 0 {
                        let taken = list.pop_at((i % 3) as usize).unwrap();
                        popped.extend(&Vec::from_iter(taken)).unwrap();
                    }
                }
            })
        })
        .collect();
    children.into_iter().for_each(|child| child.ends_well());
    let mut seen = all(&list);
    seen.extend(all(&popped));
    let count = seen.len();
    assert_eq!(seen.into_iter().collect::<BTreeSet<_>>().len(), count);
    assert_eq!(count, 8000);
    list.verify().unwrap();
}

#[test]
fn a_compound_operation_is_atomic_to_other_processes() {
    let _alone = alone();
    let list = List::anonymous().unwrap();
    list.append(&0u64.to_le_bytes()).unwrap();
    let children: Vec<_> = (0..3)
        .map(|_| {
            fork(|| {
                for _ in 0..1000 {
                    list.with(|locked| {
                        let old = locked.get_vec(0)?.unwrap();
                        let sum = u64::from_le_bytes(old.try_into().unwrap()) + 1;
                        locked.set(0, &sum.to_le_bytes()).map(drop)
                    })
                    .unwrap();
                }
            })
        })
        .collect();
    children.into_iter().for_each(|child| child.ends_well());
    assert_eq!(list.get_vec(0).unwrap().unwrap(), 3000u64.to_le_bytes());
}

#[test]
fn a_name_is_one_list_and_no_map() {
    let _alone = alone();
    let name = Name::new("list");
    let list = List::create(&name).unwrap();
    let err = Map::open(&name).unwrap_err();
    assert!(matches!(err, Error::WrongKind { .. }), "{err}");
    List::open(&name).unwrap().append(b"x").unwrap();
    assert_eq!(list.get_vec(0).unwrap().unwrap(), b"x");
    assert_eq!(shoal::stat(&name).unwrap().kind, Some(shoal::Kind::List));
    List::unlink(&name).unwrap();
    assert!(matches!(List::open(&name), Err(Error::NotFound { .. })));
}

/// Calls `change` with ever more memory, from none at all, until it succeeds. Each time that it
/// does not, the list has to be what it was. Says how many pages were too few.
fn until_there_is_memory(list: &List, change: impl Fn() -> shoal::Result<()>) -> u64 {
    let filler = Filler::new();
    let before = all(list);
    for pages in 0..1000 {
        filler.leave(pages * 4096);
        match change() {
            Ok(()) => return pages,
            Err(Error::NoSpace { .. }) => {}
            Err(err) => panic!("{pages} pages: {err}"),
        }
        assert!(all(list) == before, "{pages} pages");
        list.verify().unwrap();
    }
    panic!("there never was enough");
}

#[test]
fn a_list_does_not_change_until_there_is_memory_for_another_element() {
    let _alone = alone();
    with_small_shm(8 << 20, || {
        for old in [3, 40, 300_000] {
            for new in [6000, 100_000, 1_000_000] {
                let list = List::anonymous().unwrap();
                list.extend(&[vec![1; old], vec![2; 9]]).unwrap();
                let (bytes, pages) = (vec![3; new], new as u64 / 4096);
                let refused = until_there_is_memory(&list, || list.set(0, &bytes).map(drop));
                assert!(refused >= pages - pages / 8, "{new} bytes in {refused}");
                assert_eq!(all(&list), [&bytes[..], &[2; 9]]);

                let refused = until_there_is_memory(&list, || list.append(&bytes));
                // The memory of the old one is available to this one.
                assert!(
                    refused >= pages.saturating_sub(80),
                    "{new} bytes in {refused}"
                );
                assert_eq!(all(&list), [&bytes[..], &[2; 9], &bytes]);
                list.verify().unwrap();
                assert!(list.set(0, &vec![4; old]).unwrap());
                assert_eq!(list.pop().unwrap(), Some(bytes));
                list.verify().unwrap();
            }
        }
    });
}

#[test]
fn an_append_for_which_the_table_cannot_grow_changes_nothing() {
    let _alone = alone();
    with_small_shm(1 << 20, || {
        // Elements that lie in the table: it is all that takes memory.
        let list = List::anonymous().unwrap();
        let filler = Filler::new();
        filler.leave(0);
        let mut count = 0u32;
        let err = loop {
            match list.append(&count.to_le_bytes()) {
                Ok(()) => count += 1,
                Err(err) => break err,
            }
        };
        assert!(matches!(err, Error::NoSpace { .. }), "{err}");
        drop(filler);
        let refused = until_there_is_memory(&list, || list.append(&count.to_le_bytes()));
        assert!(refused > 0);
        let expected: Vec<_> = (0..=count).map(|it| it.to_le_bytes().to_vec()).collect();
        assert_eq!(all(&list), expected);
        list.verify().unwrap();
    });
}

#[test]
fn the_largest_element_fits_and_one_byte_more_does_not() {
    let _alone = alone();
    for capacity in [64 << 10, 100_000, 8 << 20] {
        let options = Options::create().max_capacity(capacity);
        let list = List::with_options(None, &options).unwrap();
        let limit = list.max_element();
        let mut largest = vec![7; limit as usize];
        list.append(&largest).unwrap();
        assert!(list.get_vec(0).unwrap().unwrap() == largest);
        list.verify().unwrap();
        largest.push(7);
        for result in [
            list.append(&largest),
            list.insert(0, &largest),
            list.set(0, &largest).map(drop),
            list.splice(0..1, &[&b"small"[..], &largest]),
        ] {
            let (what, size) = ("element", limit + 1);
            assert_eq!(result, Err(Error::TooLarge { what, size, limit }));
        }
        largest.pop();
        assert!(list.pop().unwrap().unwrap() == largest);
        list.append(&largest).unwrap();
        list.verify().unwrap();
    }
}

/// The bytes of a list where its data begins, and where the word of an element is.
struct Forge(File);

impl Forge {
    const DATA: u64 = 36_864;

    fn new(list: &List) -> Self {
        let path = format!("/dev/shm/shoal.{}", list.name());
        Self(File::options().read(true).write(true).open(path).unwrap())
    }

    fn word(&self, at: u64) -> u64 {
        let mut word = [0; 8];
        self.0.read_exact_at(&mut word, at).unwrap();
        u64::from_le_bytes(word)
    }

    /// The word of element `index` of a list without a gap.
    fn element(&self, index: u64) -> u64 {
        let turn = self.word(Self::DATA + 704);
        let head = self.word(Self::DATA + 704 + 64 + 32 * (turn & 1)) & 0xffff_ffff;
        let block_map = (self.word(Self::DATA) * 24).next_multiple_of(4096);
        Self::DATA + 4096 + block_map + head * 1024 + index * 8
    }

    fn set(&self, at: u64, word: u64) {
        self.0.write_all_at(&word.to_le_bytes(), at).unwrap();
    }
}

#[test]
fn overlapping_elements_are_detected_and_calls_return() {
    let _alone = alone();
    for len in [100, 200_000] {
        for by in [0, 16] {
            let list = List::anonymous().unwrap();
            // The bytes 16 after the position are a header of nine bytes.
            let mut bytes = vec![1; len];
            bytes[8..16].copy_from_slice(&9u64.to_le_bytes());
            list.extend(&[bytes.clone(), vec![2; len], vec![3; len]])
                .unwrap();
            let forge = Forge::new(&list);
            let place = forge.word(forge.element(0));
            forge.set(forge.element(1), place + by);
            let err = list.verify().unwrap_err();
            assert!(err.to_string().contains("two entries overlap"), "{err}");
            // Both can be read, and may be removed: one extent is then freed twice.
            assert_eq!(list.get_vec(0).unwrap().unwrap(), bytes);
            let expected = if by == 0 { len } else { 9 };
            assert_eq!(list.get_vec(1).unwrap().unwrap().len(), expected);
            let _ = (list.pop_at(0), list.pop_at(0));
            for round in 0..50 {
                let _ = list.append(&vec![round; len]);
                let _ = list.set(0, &[round; 90]);
                let _ = list.get_vec(round as usize / 2);
            }
            assert!(list.verify().is_err());
            let _ = list.clear();
            let _ = list.append(&[1; 9]);
        }
    }
}

#[test]
fn an_inconsistent_comparison_gives_some_order() {
    let _beside = beside_others();
    let list = List::anonymous().unwrap();
    let mut random = Random(3);
    for len in [2, 30, 500, 3000] {
        let all: Vec<_> = (0..len as u32).map(|it| it.to_le_bytes()).collect();
        list.splice(0..usize::MAX, &all).unwrap();
        for _ in 0..20 {
            let orders = [Ordering::Less, Ordering::Equal, Ordering::Greater];
            list.sort_by(|_, _| orders[random.below(3) as usize])
                .unwrap();
        }
        list.sort_by(|_, _| Ordering::Greater).unwrap();
        list.sort_by(|a, b| a.iter().rev().cmp(b.iter().rev()))
            .unwrap();
        assert!(
            list.iter()
                .map(Result::unwrap)
                .eq(all.iter().map(|it| it.to_vec()))
        );
        list.verify().unwrap();
    }
}

#[cfg(feature = "crash-points")]
mod crash {
    use super::*;
    use crate::common::crash::lives;

    #[test]
    fn a_list_whose_elements_overlap_cannot_be_repaired_and_is_poisoned() {
        let _alone = alone();
        let list = List::anonymous().unwrap();
        list.extend(&[[1; 100], [2; 100], [3; 100]]).unwrap();
        let forge = Forge::new(&list);
        forge.set(forge.element(2), forge.word(forge.element(0)));
        assert!(!lives(2, || list.append(&[4; 100]).unwrap()));
        let err = list.len().unwrap_err();
        assert!(err.to_string().contains("two entries overlap"), "{err}");
        for _ in 0..2 {
            let err = list.append(b"x").unwrap_err();
            assert!(matches!(err, Error::Poisoned { .. }), "{err}");
        }
    }
}
