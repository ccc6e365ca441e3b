//! Leases in one process: what is granted and refused, and the errors.

use shoal::Error;
use shoal::device::lease::{HolderState, Request, Share, holders, holders_among};

use crate::place::{LONG, NOW, Place, numbers, until};

#[test]
fn a_device_is_leased_once() {
    let place = Place::new();
    let machine = place.machine("cuda:2");
    let first = Request::new(1)
        .machine(machine.clone())
        .acquire(LONG)
        .unwrap();
    let second = Request::new(1)
        .machine(machine.clone())
        .acquire(LONG)
        .unwrap();
    assert_eq!((numbers(&first), numbers(&second)), (vec![0], vec![1]));
    let third = Request::new(1).machine(machine.clone()).acquire(NOW);
    assert_eq!(third.unwrap_err(), Error::Timeout);
    first.release();
    let third = Request::new(1).machine(machine).acquire(LONG).unwrap();
    assert_eq!(numbers(&third), [0]);
}

#[test]
fn a_lease_has_a_descriptor_that_programs_do_not_choose() {
    let place = Place::new();
    let request = Request::new(1).machine(place.machine("cuda:1"));
    let lease = request.acquire(LONG).unwrap();
    // A program that is executed with it may use smaller ones without asking which are free.
    assert!(lease.fd().unwrap() >= 256, "{:?}", lease.fd());
}

#[test]
fn a_release_leaves_no_file() {
    let place = Place::new();
    let machine = place.machine("cuda:2");
    let lease = Request::new(2).machine(machine).acquire(LONG).unwrap();
    assert_eq!(std::fs::read_dir(&place.0).unwrap().count(), 1);
    drop(lease);
    // A child that another thread of this program has just forked may have a copy for a moment.
    let empty = || std::fs::read_dir(&place.0).unwrap().count() == 0;
    until("the next request removes what is left", || {
        drop(
            Request::new(1)
                .machine(place.machine("cuda:2"))
                .acquire(LONG),
        );
        empty()
    });
}

#[test]
fn a_holder_of_many_devices_is_listed_with_all_of_them_and_its_command() {
    let place = Place::new();
    let machine = place.machine("cuda:200");
    let request = Request::new(200).machine(machine.clone()).command("train");
    let _lease = request.acquire(LONG).unwrap();
    // Without the devices of this machine.
    let holders = holders_among(&machine, &[]).unwrap();
    assert_eq!((holders.len(), holders[0].devices.len()), (1, 200));
    assert_eq!(holders[0].command, "train");
}

#[test]
fn a_request_gets_all_of_its_devices_or_none() {
    let place = Place::new();
    let machine = place.machine("cuda:3");
    let one = Request::new(1)
        .machine(machine.clone())
        .acquire(LONG)
        .unwrap();
    let three = Request::new(3).machine(machine.clone());
    assert_eq!(three.acquire(NOW).unwrap_err(), Error::Timeout);
    // It has kept none of the devices that it could not get completely.
    let two = Request::new(2).machine(machine).acquire(LONG).unwrap();
    drop((one, two));
    assert_eq!(numbers(&three.acquire(LONG).unwrap()), [0, 1, 2]);
}

#[test]
fn a_request_that_waits_is_served_before_those_that_come_later() {
    let place = Place::new();
    let machine = place.machine("cuda:2");
    let one = Request::new(1)
        .machine(machine.clone())
        .acquire(LONG)
        .unwrap();
    let both = Request::new(2).machine(machine.clone()).queue().unwrap();
    assert_eq!(both.wait(NOW).unwrap_err(), Error::Timeout);
    let later = Request::new(1).machine(machine.clone());
    assert_eq!(later.acquire(NOW).unwrap_err(), Error::Timeout);
    let waiting = holders(&machine).unwrap();
    assert_eq!(waiting[0].state, HolderState::Held);
    assert_eq!(waiting[1].state, HolderState::Waiting);
    drop(one);
    let both = both.wait(LONG).unwrap();
    assert_eq!(numbers(&both), [0, 1]);
    drop(both);
    assert!(later.acquire(LONG).is_ok());
}

#[test]
fn slots_and_memory_of_one_device_are_shared() {
    let place = Place::new();
    let machine = place.machine("cuda:1:24G");
    let quarter = Request::new(1).share(Share::Slots { slots: 1, of: 4 });
    let quarter = quarter.machine(machine.clone());
    let gigabytes = |n: u64| {
        let memory = Request::new(1).share(Share::Memory(n << 30));
        memory.machine(machine.clone())
    };
    let first = quarter.acquire(LONG).unwrap();
    assert_eq!(first.shares(), [0.25]);
    let second = gigabytes(12).acquire(LONG).unwrap();
    assert_eq!(gigabytes(7).acquire(NOW).unwrap_err(), Error::Timeout);
    let third = gigabytes(6).acquire(LONG).unwrap();
    assert_eq!(quarter.acquire(NOW).unwrap_err(), Error::Timeout);
    let whole = Request::new(1).machine(machine.clone());
    assert_eq!(whole.acquire(NOW).unwrap_err(), Error::Timeout);
    drop((first, second, third));
    whole.acquire(LONG).unwrap();
}
