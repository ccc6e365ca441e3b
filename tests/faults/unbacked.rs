//! Words that say how much memory there is, forged where none is left. Every call answers with an error or
//! does its work; none touches what has no memory.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use crate::common::corruption::DATA;
use crate::common::shm::{Filler, with_small_shm};
use crate::common::{NOWAIT, alone, fork};
use shoal::{Error, List, Map, Options, Pipe, Queue};

/// Overwrites bytes of an object's file.
fn forge(name: &str, at: u64, bytes: &[u8]) {
    let path = format!("/dev/shm/shoal.{name}");
    let file = File::options().write(true).open(path).unwrap();
    file.write_all_at(bytes, at).unwrap();
}

#[test]
fn a_forged_capacity_leads_to_no_memory_that_is_not_there() {
    let _alone = alone();
    with_small_shm(8 << 20, || {
        let filler = Filler::new();
        for (capacity, left) in [(1u64 << 34, 4 << 20), (1 << 20, 0)] {
            let queue = Queue::anonymous().unwrap();
            let other = Queue::open(queue.name()).unwrap();
            (0..9).for_each(|_| queue.put(&[1; 6000], NOWAIT).unwrap());
            filler.leave(left);
            forge(queue.name(), DATA, &capacity.to_ne_bytes());
            for _ in 0..200 {
                let refused = queue.put(&[2; 6000], NOWAIT).unwrap_err();
                assert!(matches!(refused, Error::NoSpace { .. }), "{refused}");
                let refused = other.get_vec(NOWAIT).unwrap_err();
                assert!(matches!(refused, Error::NoSpace { .. }), "{refused}");
                assert!(queue.reserve(1000, NOWAIT).is_err());
                assert!(other.lease(NOWAIT).is_err());
            }
            // With what was committed until there was no more.
            drop((queue, other));
            filler.leave(6 << 20);
        }
    });
}

#[test]
fn a_ring_that_others_grew_and_shrank_is_used_as_it_is() {
    let _alone = alone();
    let queue = Queue::with_options(None, &Options::create().capacity(4096)).unwrap();
    let other = Queue::open(queue.name()).unwrap();
    for _ in 0..3 {
        (0..100).for_each(|_| queue.put(&[1; 1000], NOWAIT).unwrap());
        (0..100).for_each(|_| assert_eq!(other.get_vec(NOWAIT).unwrap(), [1; 1000]));
        // Waits, and so gives the memory back.
        assert_eq!(
            other.get_vec(Duration::from_millis(100)),
            Err(Error::Timeout)
        );
        assert_eq!(queue.capacity(), 4096);
    }
}

#[test]
fn a_forged_number_of_participants_leads_to_no_memory_that_is_not_there() {
    const OPEN: u64 = 128;
    let _alone = alone();
    with_small_shm(4 << 20, || {
        let filler = Filler::new();
        let uses: [fn(Queue, Pipe, Pipe); 5] = [
            |queue, _, _| drop(queue),
            |queue, _, _| {
                let refused = Queue::open(queue.name()).map(drop);
                assert!(matches!(refused, Ok(()) | Err(Error::NoSpace { .. })));
            },
            |queue, _, _| fork(|| drop(queue.put(b"x", NOWAIT))).ends_well(),
            |_, one, other| {
                drop(other);
                assert!(one.recv_vec(Duration::from_millis(50)).is_err());
            },
            |_, _, _| fork(|| std::process::exit(0)).ends_well(),
        ];
        for act in uses {
            let queue = Queue::anonymous().unwrap();
            let (one, other) = Pipe::pair().unwrap();
            let names = [queue.name().to_owned(), one.name().to_owned()];
            filler.leave(0);
            for name in &names {
                forge(name, OPEN, &1024u32.to_ne_bytes());
            }
            act(queue, one, other);
            // The last handle could not tell whether there are others.
            for name in names {
                let _ = std::fs::remove_file(format!("/dev/shm/shoal.{name}"));
            }
            filler.leave(2 << 20);
        }
    });
}

/// An object in a child: its name, and calls through its handle.
type Made = (String, Box<dyn Fn()>);

/// For each of these words of the object's data, forges it in a full directory and makes the calls. They may
/// fail, but nothing ends the process.
fn no_word_ends_a_process(words: &[u64], make: fn() -> Made) {
    let _alone = alone();
    with_small_shm(8 << 20, || {
        let filler = Filler::new();
        for &word in words {
            for forged in [200, 1024, 100_000, 1 << 30, i32::MAX as u32, u32::MAX] {
                eprintln!("{forged} at {word}");
                filler.leave(4 << 20);
                fork(|| {
                    let (name, calls) = make();
                    filler.leave(0);
                    forge(&name, DATA + word, &forged.to_ne_bytes());
                    calls();
                })
                .ends_well();
                for file in std::fs::read_dir("/dev/shm").unwrap() {
                    let file = file.unwrap();
                    if file.file_name() != "filler" {
                        std::fs::remove_file(file.path()).unwrap();
                    }
                }
            }
        }
    });
}

fn list() -> Made {
    let list = List::anonymous().unwrap();
    for index in 0..60 {
        list.append(&[index; 100]).unwrap();
        list.append(b"abc").unwrap();
    }
    list.append(&[1; 50_000]).unwrap();
    let calls = |list: &List| {
        let _ = (0..130)
            .filter(|index| list.get_vec(*index).is_ok())
            .count();
        for _ in 0..20 {
            let _ = (list.append(&[1; 50]), list.pop());
        }
        let _ = (list.insert(3, &[1; 100]), list.remove(2..3));
        let _ = (list.set(1, &[2; 40_000]), list.swap(1, 2), list.reverse());
        let _ = (list.clear(), list.append(&[3; 60_000]));
    };
    (list.name().to_owned(), Box::new(move || calls(&list)))
}

fn map(options: &Options) -> Made {
    let map = Map::with_options(None, options).unwrap();
    for key in 0..60u32 {
        map.set(&key.to_le_bytes(), &[key as u8; 100]).unwrap();
    }
    map.set(b"big", &[1; 50_000]).unwrap();
    let calls = |map: &Map| {
        let mut buf = vec![0; 100_000];
        let _ = (0..60u32)
            .map(|key| map.get(&key.to_le_bytes(), &mut buf).is_ok())
            .count();
        let _ = (map.get_vec(b"big"), map.view(b"big").map(|it| it.is_some()));
        for key in 0..200u32 {
            let _ = map.set(&key.to_le_bytes(), &[2; 80]);
            let _ = map.remove(&(key + 30).to_le_bytes());
        }
        let _ = (map.set(b"big", &[2; 60_000]), map.iter().take(1000).count());
        let _ = (map.purge(), map.add(b"c", 1), map.clear());
        let _ = map.set(b"big", &[2; 60_000]);
    };
    (map.name().to_owned(), Box::new(move || calls(&map)))
}

fn queue() -> Made {
    let queue = Queue::anonymous().unwrap();
    (0..20).for_each(|index| queue.put(&[index; 300], NOWAIT).unwrap());
    std::mem::forget(queue.lease(NOWAIT).unwrap());
    queue.lease(NOWAIT).unwrap().nack(Duration::ZERO).unwrap();
    queue.reserve(30_000, NOWAIT).unwrap().commit().unwrap();
    let large = queue.reserve(30_000, NOWAIT).unwrap();
    large.discard();
    let calls = |queue: &Queue| {
        let _ = (queue.put(&[1; 10], NOWAIT), queue.get_vec(NOWAIT));
        if let Ok(lease) = queue.lease(NOWAIT) {
            let _ = lease.ack();
        }
        if let Ok(lease) = queue.lease(NOWAIT) {
            let _ = lease.nack(Duration::ZERO);
        }
        for bytes in [100, 30_000] {
            if let Ok(room) = queue.reserve(bytes, NOWAIT) {
                let _ = room.commit();
            }
        }
        let _ = (0..30).filter(|_| queue.get_vec(NOWAIT).is_ok()).count();
        // Waits, and gives memory back.
        let _ = queue.get_vec(Duration::from_millis(30));
        let _ = queue.put(&[1; 100_000], NOWAIT);
    };
    (queue.name().to_owned(), Box::new(move || calls(&queue)))
}

#[test]
fn no_word_of_a_list_leads_to_memory_that_is_not_there() {
    // The frontier, lists of free extents, the table, lists of slabs.
    let arena = [128, 164, 168, 172, 176, 180, 196, 200, 228, 232, 236];
    let list_words = [768, 840, 844, 848, 860, 872];
    no_word_ends_a_process(&[&arena[..], &list_words].concat(), list);
}

#[test]
fn no_word_of_a_map_leads_to_memory_that_is_not_there() {
    let arena = [128, 164, 168, 172, 176, 180, 184, 192, 232];
    no_word_ends_a_process(&arena, || map(&Options::create()));
    // The first shards: the table, what is cached, lists of slabs.
    let shards = [4160, 4164, 4216, 4220, 4232, 4264, 4268, 4800, 4804];
    let all = [&arena[..], &shards].concat();
    no_word_ends_a_process(&all, || map(&Options::create().compact()));
}

#[test]
fn no_word_of_a_queues_store_leads_to_memory_that_is_not_there() {
    // The first message due, cached places, the frontier, lists of free extents.
    let words = [540, 1216, 1220, 1280, 1316, 1320, 1324];
    no_word_ends_a_process(&words, queue);
}
