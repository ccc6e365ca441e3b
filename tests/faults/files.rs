//! What is answered to wrong names and to forged files.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use crate::common::corruption::DATA;
use crate::common::{FOREVER, NOWAIT, Name, Random, alone, fork, millis, tiny};
use shoal::{Error, Map, Queue};

fn file_of(name: &Name) -> File {
    let options = File::options().read(true).write(true).clone();
    options.open(name.path()).unwrap()
}

/// A queue that no process has open, and its file.
fn abandoned(what: &str) -> (Name, File) {
    let name = Name::new(what);
    let queue = Queue::with_options(Some(&name), &tiny().persistent()).unwrap();
    queue.put(b"inside", NOWAIT).unwrap();
    let file = file_of(&name);
    (name, file)
}

fn is_corrupt<T>(result: Result<T, Error>) -> bool {
    matches!(result, Err(Error::Corrupt { .. }))
}

#[test]
fn wrong_names_are_refused_with_the_reason() {
    let _alone = alone();
    let long = "x".repeat(201);
    for bad in ["", "/a", "a/b", "../x", "a b", "a\0", "\u{e9}", "~", &long] {
        let refused = |result: Result<(), Error>| match result {
            Err(err @ Error::Invalid { .. }) => assert!(err.to_string().contains("name")),
            other => panic!("{bad:?}: {other:?}"),
        };
        refused(Queue::open(bad).map(drop));
        refused(Queue::create(bad).map(drop));
        refused(Queue::unlink(bad));
        refused(Map::open(bad).map(drop));
        refused(Map::create(bad).map(drop));
        refused(Map::unlink(bad));
        refused(shoal::stat(bad).map(drop));
        refused(shoal::unlink(bad));
    }
    let longest = format!("{:x<200}", &*Name::new("longest"));
    drop(Queue::create(&longest).unwrap());
    assert!(matches!(Queue::open(&longest), Err(Error::NotFound { .. })));
}

#[test]
fn an_object_of_another_kind_is_refused_naming_both() {
    let _alone = alone();
    let (queue, map) = (Name::new("a-queue"), Name::new("a-map"));
    let queue_handle = Queue::with_options(Some(&queue), &tiny()).unwrap();
    let map_handle = Map::create(&map).unwrap();
    let expect = |err: Error, name: &Name, expected, found| {
        assert_eq!(
            err.to_string(),
            format!("{:?} is a {found}, not a {expected}", &**name)
        );
        assert!(matches!(err, Error::WrongKind { .. }));
    };
    expect(Queue::open(&map).unwrap_err(), &map, "queue", "map");
    expect(Queue::create(&map).unwrap_err(), &map, "queue", "map");
    expect(Queue::unlink(&map).unwrap_err(), &map, "queue", "map");
    expect(Map::open(&queue).unwrap_err(), &queue, "map", "queue");
    expect(Map::create(&queue).unwrap_err(), &queue, "map", "queue");
    expect(Map::unlink(&queue).unwrap_err(), &queue, "map", "queue");
    queue_handle.put(b"fine", NOWAIT).unwrap();
    map_handle.set(b"fine", b"too").unwrap();
}

#[test]
fn an_object_that_a_killed_process_left_is_replaced_by_any_kind() {
    let _alone = alone();
    let name = Name::new("no-kind");
    fork(|| std::mem::forget(Map::create(&name).unwrap())).ends_well();
    let queue = Queue::with_options(Some(&name), &tiny()).unwrap();
    assert!(queue.is_empty());
}

#[test]
fn every_field_of_the_stamp_that_differs_is_named_with_both_values() {
    let _alone = alone();
    let (name, file) = abandoned("stamp");
    let flip = |offset: u64, mask: u8| {
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset).unwrap();
        file.write_all_at(&[byte[0] ^ mask], offset).unwrap();
    };
    for (offset, what) in [
        (8, "layout version"),
        (12, "byte order"),
        (16, "word size"),
        (32, "object layout"),
    ] {
        flip(offset, 0x40);
        let err = Queue::open(&name).unwrap_err();
        let Error::VersionMismatch { theirs, ours, .. } = &err else {
            panic!("{what}: {err:?}")
        };
        assert_ne!(theirs, ours);
        let sentence = err.to_string();
        assert!(
            [what, theirs, ours].iter().all(|it| sentence.contains(*it)),
            "{sentence}"
        );
        assert_eq!(Queue::create(&name).unwrap_err(), err);
        if what != "object layout" {
            assert_eq!(shoal::stat(&name).unwrap().problem, Some(err));
        }
        flip(offset, 0x40);
    }
    // Magic, an unknown kind, a size that is not the file's.
    for offset in (0..8).chain(20..24).chain(40..48) {
        flip(offset, 0x40);
        assert!(is_corrupt(Queue::open(&name)), "byte {offset}");
        assert!(is_corrupt(Queue::create(&name)), "byte {offset}");
        assert!(shoal::stat(&name).unwrap().problem.is_some());
        flip(offset, 0x40);
    }
    flip(20, 1 ^ 2);
    assert!(matches!(Queue::open(&name), Err(Error::WrongKind { .. })));
    flip(20, 1 ^ 2);
    // The creator's pid is information for people, and the instance distinguishes files.
    for offset in (60..64).chain(72..80) {
        flip(offset, 0xff);
    }
    shoal::gc(false).unwrap();
    let queue = Queue::open(&name).unwrap();
    assert_eq!(queue.get_vec(NOWAIT).unwrap(), b"inside");
    drop(queue);
    // Not persistent, and without participants: gone.
    flip(56, 1);
    assert!(matches!(Queue::open(&name), Err(Error::NotFound { .. })));
    assert!(!name.has_file());
}

#[test]
fn a_file_with_other_content_is_corrupt_and_left_unchanged() {
    let _alone = alone();
    let (name, original) = abandoned("content");
    let length = original.metadata().unwrap().len();
    let mut whole = vec![0; length as usize];
    original.read_exact_at(&mut whole, 0).unwrap();
    shoal::unlink(&name).unwrap();
    let mut random = Random(3);
    let mut contents: Vec<Vec<u8>> = [0, 1, 79, 80, 4096, DATA - 1, DATA, length - 1]
        .iter()
        .map(|&len| whole[..len as usize].to_vec())
        .collect();
    contents.push([&whole[..], &[0]].concat());
    contents.push(vec![0; length as usize]);
    contents.push(vec![0xff; length as usize]);
    contents.push(whole.iter().map(|_| random.next() as u8).collect());
    for content in &contents {
        fs::write(name.path(), content).unwrap();
        assert!(is_corrupt(Queue::open(&name)), "{} bytes", content.len());
        assert!(is_corrupt(Queue::create(&name)));
        assert!(is_corrupt(Map::open(&name)));
        let exclusive = Queue::with_options(Some(&name), &tiny().exclusive());
        assert!(matches!(exclusive, Err(Error::Exists { .. })));
        let info = shoal::stat(&name).unwrap();
        assert!(matches!(info.problem, Some(Error::Corrupt { .. })));
        assert!(!info.stale);
        assert!(shoal::list().unwrap().contains(&info));
        shoal::gc(false).unwrap();
        assert_eq!(&fs::read(name.path()).unwrap(), content);
        shoal::unlink(&name).unwrap();
    }
}

#[test]
fn an_entry_that_is_no_file_is_no_object_and_stops_no_call() {
    let _alone = alone();
    let name = Name::new("no-file");
    let path = std::ffi::CString::new(name.path()).unwrap();
    let make_fifo = || {
        // SAFETY: a path that ends in NUL.
        assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
    };
    let make_link = || std::os::unix::fs::symlink("/etc/passwd", name.path()).unwrap();
    let makers: [&dyn Fn(); 3] = [
        &|| fs::create_dir(name.path()).unwrap(),
        &make_fifo,
        &make_link,
    ];
    for make in makers {
        make();
        assert!(is_corrupt(Queue::open(&name)));
        assert!(is_corrupt(Queue::create(&name)));
        shoal::gc(false).unwrap();
        assert!(shoal::list().unwrap().iter().any(|it| it.name == *name));
        let _ = fs::remove_file(name.path());
        let _ = fs::remove_dir(name.path());
    }
    // The same under the name of an unfinished object.
    let unfinished = format!("/dev/shm/shoal~{}-fifo", std::process::id());
    let path = std::ffi::CString::new(unfinished.clone()).unwrap();
    // SAFETY: a path that ends in NUL.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
    shoal::gc(false).unwrap();
    fs::remove_file(unfinished).unwrap();
}

#[test]
fn an_unknown_flag_is_no_reason_to_spin() {
    let _alone = alone();
    let name = Name::new("flags");
    let queue = Queue::with_options(Some(&name), &tiny()).unwrap();
    file_of(&name).write_all_at(&[0x80], DATA + 24).unwrap();
    assert_eq!(queue.get_vec(millis(5)), Err(Error::Timeout));
    while queue.put(&[0; 500], NOWAIT).is_ok() {}
    assert_eq!(queue.put(&[0; 500], millis(5)), Err(Error::Timeout));
    assert_eq!(queue.get_vec(FOREVER).unwrap(), [0; 500]);
}
