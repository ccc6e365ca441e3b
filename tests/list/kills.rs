//! A process that uses a list in every way is repeatedly killed at random, while another one reads it. Each time
//! the list is compared with a model in which the operation during which it died happened wholly or not at all.

use std::time::{Duration, Instant};

use crate::common::company::{LEAST_DONE, LEAST_KILLS, Words};
use crate::common::progress::{Progress, Replica};
use crate::common::{Random, alone, fork, soak_length};
use shoal::List;

type Model = Vec<Vec<u8>>;

/// About this many elements at most.
const MANY: usize = 300;

/// One operation. Places are taken modulo the length, which both sides know.
#[derive(Clone, Debug)]
enum Operation {
    Append(Vec<u8>),
    Extend(Model),
    Insert(usize, Vec<u8>),
    Set(usize, Vec<u8>),
    Pop,
    PopAt(usize),
    Remove(usize, usize),
    Splice(usize, usize, Model),
    Swap(usize, usize),
    Sort,
    Reverse,
    Clear,
}

/// What is done as step `number`.
fn step(number: u64) -> Operation {
    let mut random = Random((number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    random.next();
    let (a, b) = (random.below(1 << 20) as usize, random.below(12) as usize);
    let mut element = || {
        let len = match random.below(40) {
            0 => 50_000 + random.below(50_000),
            1..4 => random.below(10_000),
            _ => random.below(200),
        };
        vec![random.next() as u8; len as usize]
    };
    let (one, three) = (element(), vec![element(), element(), element()]);
    match random.below(40) {
        0..6 => Operation::Append(one),
        6..10 => Operation::Extend(three),
        10..15 => Operation::Insert(a, one),
        15..20 => Operation::Set(a, one),
        20..22 => Operation::Pop,
        22..25 => Operation::PopAt(a),
        25..27 => Operation::Remove(a, b),
        27..31 => Operation::Splice(a, b, three),
        31..36 => Operation::Swap(a, b * 7),
        36 => Operation::Sort,
        37..39 => Operation::Reverse,
        _ => Operation::Clear,
    }
}

fn apply(list: &List, number: u64) {
    let len = list.len().unwrap();
    let at = |place: usize| place % (len + 1);
    let to = |place: usize, many: usize| at(place)..(at(place) + many).min(len);
    match step(number) {
        Operation::Append(_) | Operation::Extend(_) | Operation::Insert(..) if len > MANY => {
            list.remove(0..len / 2).unwrap();
        }
        Operation::Append(element) => list.append(&element).unwrap(),
        Operation::Extend(elements) => list.extend(&elements).unwrap(),
        Operation::Insert(place, element) => list.insert(at(place), &element).unwrap(),
        Operation::Set(place, element) => {
            assert_eq!(list.set(at(place), &element).unwrap(), at(place) < len);
        }
        Operation::Pop => assert_eq!(list.pop().unwrap().is_some(), len > 0),
        Operation::PopAt(place) => drop(list.pop_at(at(place)).unwrap()),
        Operation::Remove(place, many) => list.remove(to(place, many)).unwrap(),
        Operation::Splice(place, many, elements) => {
            list.splice(to(place, many), &elements).unwrap();
        }
        Operation::Swap(one, other) => drop(list.swap(at(one), at(other)).unwrap()),
        Operation::Sort => list.sort_by(<[u8]>::cmp).unwrap(),
        Operation::Reverse => list.reverse().unwrap(),
        Operation::Clear => list.clear().unwrap(),
    }
}

fn imagine(model: &mut Model, number: u64) {
    let len = model.len();
    let at = |place: usize| place % (len + 1);
    let to = |place: usize, many: usize| at(place)..(at(place) + many).min(len);
    match step(number) {
        Operation::Append(_) | Operation::Extend(_) | Operation::Insert(..) if len > MANY => {
            model.drain(0..len / 2);
        }
        Operation::Append(element) => model.push(element),
        Operation::Extend(elements) => model.extend(elements),
        Operation::Insert(place, element) => model.insert(at(place), element),
        Operation::Set(place, element) if at(place) < len => model[at(place)] = element,
        Operation::Pop => drop(model.pop()),
        Operation::PopAt(place) if at(place) < len => drop(model.remove(at(place))),
        Operation::Remove(place, many) => drop(model.drain(to(place, many))),
        Operation::Splice(place, many, elements) => {
            model.splice(to(place, many), elements);
        }
        Operation::Swap(one, other) if at(one) < len && at(other) < len => {
            model.swap(at(one), at(other));
        }
        Operation::Sort => model.sort(),
        Operation::Reverse => model.reverse(),
        Operation::Clear => model.clear(),
        _ => {}
    }
}

fn kill_for(length: Duration) -> (u64, u64) {
    let list = List::anonymous().unwrap();
    let words = Words::new(2);
    let (mut random, mut replica) = (Random(0x5eed), Replica::<Model>::default());
    let progress = Progress::of(&words, 0);
    // In half of the cases this process is the first to take the lock of the dead one.
    let reader = fork(|| {
        loop {
            list.verify().unwrap();
            drop(list.get_vec(7).unwrap());
        }
    });
    let (began, mut kills) = (Instant::now(), 0);
    while began.elapsed() < length || kills <= LEAST_KILLS || progress.done() <= LEAST_DONE {
        let worker = fork(|| progress.work(|number| apply(&list, number)));
        std::thread::sleep(Duration::from_micros(500 + random.below(8_000)));
        worker.kill();
        kills += 1;
        let found = list.range_vec(0..usize::MAX).unwrap();
        if let Some((number, _)) = replica.follow(&progress, &found, imagine) {
            let wholly = found == replica.model;
            assert!(
                wholly,
                "{:?} as step {number} was done by half",
                step(number)
            );
        }
    }
    reader.kill();
    list.verify().unwrap();
    list.clear().unwrap();
    list.verify().unwrap();
    (kills, progress.done())
}

#[test]
fn a_change_of_a_list_by_a_killed_process_happened_wholly_or_not_at_all() {
    let _alone = alone();
    let (kills, steps) = kill_for(Duration::from_secs(2));
    assert!(
        kills > LEAST_KILLS && steps > LEAST_DONE,
        "{kills} kills, {steps} steps"
    );
}

/// `SHOAL_SOAK_SECONDS=3600 cargo test --release --test list kills::soak -- --ignored --nocapture`
#[test]
#[ignore = "a soak: runs for SHOAL_SOAK_SECONDS, a minute by default"]
fn soak() {
    let (kills, steps) = kill_for(soak_length());
    println!("{kills} kills, {steps} operations");
}
