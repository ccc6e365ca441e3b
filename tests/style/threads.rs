//! Which public types a thread may pass on to another one, and which it may share with others.
//!
//! A private field may change the auto traits of a type unnoticed, so each type is listed here.

use std::collections::BTreeSet;
use std::fs;
use std::marker::PhantomData;
use std::panic::{RefUnwindSafe, UnwindSafe};

use shoal::device::lease::{self, Holder, HolderState, Mode, Request, Share, Ticket};
use shoal::device::{
    Device, DeviceKind, Discovery, EnvEdit, Family, Found, Machine, Mask, Reading, Seen,
};
use shoal::process::{
    self, EventKind, Exit, ExitKind, ForkOptions, LeasePart, Outcome, Output, OutputFailure,
    Process, Restart, Spawn, Stdio, Supervisor, WorkerState, WorkerStatus, Workers,
};
use shoal::*;

use crate::root;

struct Probe<T>(PhantomData<T>);

/// What holds for types without the trait: an inherent constant takes precedence.
trait Without {
    const SEND: bool = false;
    const SYNC: bool = false;
}

impl<T> Without for Probe<T> {}

impl<T: Send> Probe<T> {
    const SEND: bool = true;
}

impl<T: Sync> Probe<T> {
    const SYNC: bool = true;
}

/// Each type with its name, and whether it is `Send` and `Sync`.
macro_rules! types {
    ($($type:ty),* $(,)?) => {
        vec![$((stringify!($type), Probe::<$type>::SEND, Probe::<$type>::SYNC)),*]
    };
}

type Row = (&'static str, bool, bool);

/// They own nothing of their thread, and change only by atomics, under locks, or by `&mut`.
fn of_any_thread() -> Vec<Row> {
    types![
        // Handles of objects.
        Array,
        Barrier,
        Condition,
        Event,
        List,
        Lock,
        Map,
        MapRelay,
        Pipe,
        Queue,
        QueueRelay,
        RwLock,
        Semaphore,
        // Messages and values in place: one owner, who writes by `&mut`. Any thread may end them.
        Lease<'static>,
        lease::Lease,
        MapRequest,
        RelayRequest,
        Reservation<'static>,
        Settlement,
        View<'static>,
        // The owner of a key's lock is the process, and any thread may end it.
        KeyGuard<'static>,
        // Positions, which move by `&mut`.
        Follower<'static>,
        Iter<'static>,
        ListIter<'static>,
        Observer,
        Watched<'static>,
        // Processes and devices.
        Discovery,
        ForkOptions,
        LeasePart,
        Machine,
        Process,
        Request,
        Spawn,
        Supervisor,
        Ticket,
        Workers,
        // Plain data.
        Acquisition,
        Arrival,
        Delivered,
        Device,
        DeviceKind,
        End,
        EnvEdit,
        Error,
        EventKind,
        Exit,
        ExitKind,
        Family,
        Followed,
        Found,
        Holder,
        HolderState,
        Kind,
        MapChange,
        Mask,
        Mode,
        ObjectContents,
        ObjectHolder,
        ObjectInfo,
        Observation,
        Options,
        Outcome,
        Output,
        OutputFailure,
        Participant,
        QueueTotals,
        Reading,
        RelayInfo,
        RelayOptions,
        RelayRoom,
        RequestId,
        Restart,
        Seen,
        SettlementKind,
        Share,
        Status,
        Stdio,
        SwapTo,
        Timeout,
        Waitable<'static>,
        Wake,
        Withdrawn,
        WorkerState,
        WorkerStatus,
        process::Event,
    ]
}

/// Only the thread that took a recursive lock can release it. What such a guard shows never changes.
fn shared_and_not_sent() -> Vec<Row> {
    types![LockGuard<'static>]
}

/// The lock belongs to the thread, and methods with `&self` read and write what it guards.
fn of_their_thread() -> Vec<Row> {
    types![ArrayGuard<'static>, Locked<'static>]
}

#[test]
fn each_public_type_is_passed_to_threads_as_its_locks_allow() {
    for (types, send, sync) in [
        (of_any_thread(), true, true),
        (shared_and_not_sent(), false, true),
        (of_their_thread(), false, false),
    ] {
        for (name, is_send, is_sync) in types {
            assert_eq!((is_send, is_sync), (send, sync), "{name}: (Send, Sync)");
        }
    }
}

#[test]
fn calls_on_every_object_can_stand_in_catch_unwind() {
    fn check<T: UnwindSafe + RefUnwindSafe>() {}
    check::<Array>();
    check::<Barrier>();
    check::<Condition>();
    check::<Event>();
    check::<List>();
    check::<Lock>();
    check::<Map>();
    check::<MapRelay>();
    check::<Pipe>();
    check::<Process>();
    check::<Queue>();
    check::<QueueRelay>();
    check::<RwLock>();
    check::<Semaphore>();
    check::<Supervisor>();
    check::<lease::Lease>();
}

/// The types that a module's file makes public by `pub use`, by their public names.
fn exported(file: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(root().join("src").join(file)).unwrap();
    let uses = text.split("\npub use ").skip(1);
    let items = uses.flat_map(|rest| {
        let (path, _) = rest.split_once(';').unwrap();
        let names = path.split_once('{').map_or(path, |(_, names)| names);
        names.split([',', '}'])
    });
    let names = items.filter_map(|item| {
        let name = item
            .rsplit([':', ' '])
            .find(|word| !word.is_empty())?
            .trim();
        let is_type = name.starts_with(char::is_uppercase) && name.contains(char::is_lowercase);
        (is_type && !["IntoTimeout", "Result"].contains(&name)).then(|| name.to_owned())
    });
    names.collect()
}

#[test]
fn every_public_type_is_listed() {
    let listed = [of_any_thread(), shared_and_not_sent(), of_their_thread()].concat();
    let listed: BTreeSet<&str> = listed
        .iter()
        .map(|(name, ..)| {
            let name = name.split(['<', ' ']).next().unwrap();
            name.rsplit(':').next().unwrap()
        })
        .collect();
    let mut public = 0;
    for file in [
        "lib.rs",
        "device/mod.rs",
        "device/lease/mod.rs",
        "process/mod.rs",
    ] {
        for name in exported(file) {
            assert!(
                listed.contains(&*name),
                "{name} of {file} is not in the lists"
            );
            public += 1;
        }
    }
    assert!(public > 80, "{public}");
}
