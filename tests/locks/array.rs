//! Arrays: shared items, and the lock that guards them.

use crate::common::{Bell, FOREVER, NOWAIT, Name, Random, alone, fork};
use shoal::{Array, Error, Options};

fn array(item: u64, count: u64) -> Array {
    Array::with_options(None, item, count, "d", &Options::create()).unwrap()
}

#[test]
fn what_one_process_writes_another_one_reads() {
    let _alone = alone();
    let array = array(8, 1000);
    assert_eq!(
        (array.item_size(), array.count(), array.len()),
        (8, 1000, 8000)
    );
    assert!(array.as_ptr().addr().is_multiple_of(128));
    let guard = array.lock(NOWAIT).unwrap();
    let mut all = vec![1; 8000];
    guard.read(0, &mut all).unwrap();
    assert_eq!(all, vec![0; 8000]);
    drop(guard);
    let child = fork(|| {
        let guard = array.lock(FOREVER).unwrap();
        guard.write(7992, &[7; 8]).unwrap();
    });
    child.ends_well();
    let guard = array.lock(NOWAIT).unwrap();
    let mut last = [0; 8];
    guard.read(7992, &mut last).unwrap();
    assert_eq!(last, [7; 8]);
    for (offset, len) in [(7993, 8), (8001, 0), (usize::MAX, 8)] {
        let err = guard.write(offset, &vec![1; len]).unwrap_err();
        assert!(matches!(err, Error::Invalid { .. }), "{err}");
        assert!(guard.read(offset, &mut vec![1; len]).is_err());
    }
    guard.write(8000, &[]).unwrap();
}

#[test]
fn additions_under_the_lock_are_all_counted() {
    let _alone = alone();
    let array = array(8, 1);
    let add = || {
        for _ in 0..500 {
            let guard = array.lock(FOREVER).unwrap();
            let _again = array.lock(NOWAIT).unwrap();
            let mut item = [0; 8];
            guard.read(0, &mut item).unwrap();
            let sum = u64::from_ne_bytes(item) + 1;
            guard.write(0, &sum.to_ne_bytes()).unwrap();
        }
    };
    let workers: Vec<_> = (0..3).map(|_| fork(add)).collect();
    workers
        .into_iter()
        .for_each(crate::common::Child::ends_well);
    let mut item = [0; 8];
    array.lock(NOWAIT).unwrap().read(0, &mut item).unwrap();
    assert_eq!(u64::from_ne_bytes(item), 1500);
}

#[test]
fn the_lock_of_a_killed_process_goes_to_the_next_with_owner_died() {
    let _alone = alone();
    let (array, locked) = (array(1, 1), Bell::new());
    let holder = fork(|| {
        let _guard = array.lock(NOWAIT).unwrap();
        locked.ring();
        loop {
            std::thread::park();
        }
    });
    locked.hear();
    assert_eq!(array.lock(NOWAIT).map(drop), Err(Error::Timeout));
    let mut waiter = fork(|| assert!(array.lock(FOREVER).unwrap().owner_died()));
    waiter.wait_asleep();
    holder.kill();
    waiter.ends_well();
    assert!(!array.lock(NOWAIT).unwrap().owner_died());
    // A forked child does not have its parent's.
    let guard = array.lock(NOWAIT).unwrap();
    fork(|| assert!(array.release().is_err())).ends_well();
    drop(guard);
    assert!(array.release().is_err());
}

#[test]
fn a_guard_whose_lock_was_released_beside_it_neither_reads_nor_writes() {
    let _alone = alone();
    let array = array(1, 8);
    let guard = array.lock(NOWAIT).unwrap();
    let again = array.lock(NOWAIT).unwrap();
    array.release().unwrap();
    guard.write(0, &[1]).unwrap();
    array.release().unwrap();
    let other = Array::open(array.name()).unwrap();
    let theirs = other.lock(NOWAIT).unwrap();
    for guard in [guard, again] {
        let refused = guard.write(0, &[2]).unwrap_err();
        assert!(matches!(refused, Error::Invalid { .. }), "{refused}");
        assert!(guard.read(0, &mut [0]).is_err());
    }
    let mut item = [0];
    theirs.read(0, &mut item).unwrap();
    assert_eq!(item, [1]);
    drop(theirs);
    // A forked child does not have the lock of its parent's guard.
    let guard = array.lock(NOWAIT).unwrap();
    fork(|| assert!(guard.write(0, &[3]).is_err())).ends_well();
    guard.write(0, &[4]).unwrap();
}

#[test]
fn an_array_is_opened_only_with_its_own_layout() {
    let _alone = alone();
    let name = Name::new("array");
    let make = |item, count, format: &str| {
        Array::with_options(Some(&name), item, count, format, &Options::create())
    };
    let made = make(4, 10, "a format of 16 b").unwrap();
    let same = Array::open(&name).unwrap();
    assert_eq!((same.item_size(), same.count()), (4, 10));
    assert_eq!(same.format(), "a format of 16 b");
    let err = make(8, 10, "").unwrap_err();
    assert!(err.to_string().contains("has 4, not 8"), "{err}");
    assert!(matches!(make(4, 11, ""), Err(Error::Invalid { .. })));
    assert!(matches!(make(4, 10, "i"), Err(Error::Invalid { .. })));
    make(4, 0, "").unwrap();
    let new = |item, count, format| {
        Array::with_options(None, item, count, format, &Options::create()).unwrap_err()
    };
    assert!(matches!(new(0, 1, ""), Error::Invalid { .. }));
    assert!(matches!(new(1 << 40, 1 << 40, ""), Error::TooMany { count, .. } if count == 1 << 40));
    assert!(matches!(
        new(1, 1, "seventeen letters"),
        Error::TooLarge { .. }
    ));
    assert!(array(8, 0).is_empty());
    drop((made, same));
}

#[test]
fn what_an_array_cannot_have_is_refused_before_anything_is_created() {
    let _alone = alone();
    let name = Name::new("refused");
    let new = |item, count, format| {
        let options = Options::create().persistent();
        Array::with_options(Some(&name), item, count, format, &options).unwrap_err()
    };
    let said = new(1, 1, "a\0b").to_string();
    assert_eq!(said, "invalid format: it contains a NUL byte");
    let too_large = |error: &Error| matches!(error, Error::TooLarge { what: "item", .. });
    assert!(too_large(&new(u64::MAX, 2, "")));
    assert!(too_large(&new(u64::MAX, 0, "")));
    assert!(matches!(Array::open(&name), Err(Error::NotFound { .. })));
}

#[test]
fn forged_sizes_are_refused() {
    let _alone = alone();
    const SIZES: u64 = 36_864 + 64;
    let mut random = Random(3);
    for _ in 0..200 {
        let array = array(8, 100);
        let file = std::fs::File::options()
            .write(true)
            .open(format!("/dev/shm/shoal.{}", array.name()))
            .unwrap();
        let at = SIZES + 8 * random.below(4);
        let word = random.next() >> random.below(64);
        std::os::unix::fs::FileExt::write_all_at(&file, &word.to_le_bytes(), at).unwrap();
        // An open handle continues with the values that it has read, and a process that opens it gets an error or reads
        // within the mapping.
        assert_eq!(
            (array.item_size(), array.count(), array.len()),
            (8, 100, 800)
        );
        array.lock(NOWAIT).unwrap().write(792, &[1; 8]).unwrap();
        if let Ok(other) = Array::open(array.name()) {
            let end = other.len();
            let guard = other.lock(NOWAIT).unwrap();
            assert!(guard.read(end, &mut [0]).is_err());
            guard
                .read(end.saturating_sub(1), &mut vec![0; end.min(1)])
                .unwrap();
        }
    }
}

#[test]
fn a_guard_that_a_forked_child_drops_does_not_release_what_the_child_has_locked() {
    let _alone = alone();
    let array = array(8, 1);
    let mut guard = Some(array.lock(NOWAIT).unwrap());
    let free = Bell::new();
    let child = fork(|| {
        free.hear();
        let _own = array.lock(NOWAIT).unwrap();
        drop(guard.take());
        assert_eq!(array.lock_depth(), 1);
    });
    drop(guard.take());
    free.ring();
    child.ends_well();
}
