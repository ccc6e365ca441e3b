//! Many processes that race for devices and are killed at any moment: never two owners, never a lease that
//! stays, and the order is kept.
//!
//! Each process has a witness beside the leases: bytes of a file, which it locks while it has a device. The
//! witness is opened before the request, so that the kernel closes it first when the process is killed. If
//! the byte of a device that was just leased is locked, the device has two owners.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

use shoal::device::lease::{Lease, Mode, Request, Share, holders};
use shoal::device::{EnvEdit, Machine};
use shoal::{ForkOptions, Process, Timeout, fork};

use crate::common::{Random, soak_length};
use crate::directory::become_user;
use crate::place::{LONG, NOW, Place, numbers, until, waiting};

const DEVICES: u64 = 8;
/// A device has so many slots in the races of fractions.
const SLOTS: u32 = 4;
/// Processes at a time.
const AT_ONCE: usize = 24;
/// Where the witnesses of nested leases are.
const NESTED: u64 = 1000;

/// What a child ends with.
const FINE: i32 = 0;
const TWO_OWNERS: i32 = 99;

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Whole,
    Fractions,
    Nested,
}

/// Another race each time; it is printed, so that a failure can be repeated.
fn seeded() -> Random {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let seed = u64::from(now.subsec_nanos());
    println!("seed {seed}");
    Random(seed | 1)
}

struct Witness(File);

impl Witness {
    fn open(path: &Path) -> Self {
        let file = OpenOptions::new().read(true).write(true).open(path);
        Self(file.unwrap())
    }

    fn lock(&self, kind: i32, byte: u64) -> bool {
        // SAFETY: a request that is valid, and an open descriptor.
        unsafe {
            let mut lock: libc::flock = std::mem::zeroed();
            lock.l_type = kind as i16;
            lock.l_start = byte as i64;
            lock.l_len = 1;
            libc::fcntl(self.0.as_raw_fd(), libc::F_OFD_SETLK, &lock) == 0
        }
    }

    /// Takes one of the bytes; false if all have owners.
    fn enter(&self, mut bytes: std::ops::Range<u64>) -> Option<u64> {
        bytes.find(|&byte| self.lock(libc::F_WRLCK, byte))
    }

    fn leave(&self, byte: u64) {
        self.lock(libc::F_UNLCK, byte);
    }
}

/// Uses the devices of a lease for a moment. False if one of them has another owner.
fn use_devices(witness: &Witness, lease: &Lease, base: u64, slots: u64, us: u64) -> bool {
    let mut taken = Vec::new();
    for device in lease.devices() {
        let first = base + u64::from(device.found.index) * slots;
        match witness.enter(first..first + slots) {
            Some(byte) => taken.push(byte),
            None => return false,
        }
    }
    std::thread::sleep(Duration::from_micros(us));
    taken.into_iter().for_each(|byte| witness.leave(byte));
    true
}

/// Runs under a lease: its environment is this process's from now on.
fn run_under(lease: &Lease) {
    for edit in lease.environment(Mode::Exclusive, 0, 1).unwrap() {
        // SAFETY: the only thread of a forked child.
        unsafe {
            match edit {
                EnvEdit::Set(name, value) => std::env::set_var(name, value),
                EnvEdit::Unset(name) => std::env::remove_var(name),
            }
        }
    }
}

/// A worker of a pool, which shares the pool's devices with its siblings.
fn nested_worker(machine: &Machine, witness: &Path, us: u64) -> i32 {
    let witness = Witness::open(witness);
    let lease = Request::new(1)
        .machine(machine.clone())
        .acquire(LONG)
        .unwrap();
    match use_devices(&witness, &lease, NESTED, 1, us) {
        true => FINE,
        false => TWO_OWNERS,
    }
}

fn child(kind: Kind, machine: &Machine, witness_path: &Path, mut random: Random) -> i32 {
    let witness = Witness::open(witness_path);
    let us = random.below(1500);
    let count = 1 + random.below(3) as usize;
    let request = match kind {
        Kind::Whole => Request::new(count),
        Kind::Nested => Request::new(2),
        Kind::Fractions => Request::new(count).share(Share::Slots {
            slots: 1,
            of: SLOTS,
        }),
    };
    let lease = request.machine(machine.clone()).acquire(LONG).unwrap();
    let slots = if kind == Kind::Fractions {
        u64::from(SLOTS)
    } else {
        1
    };
    if kind != Kind::Nested {
        return match use_devices(&witness, &lease, 0, slots, us) {
            true => FINE,
            false => TWO_OWNERS,
        };
    }
    // The workers have copies of the witness, whose locks are this lease's.
    for device in lease.devices() {
        if witness
            .enter(u64::from(device.found.index)..u64::from(device.found.index) + 1)
            .is_none()
        {
            return TWO_OWNERS;
        }
    }
    run_under(&lease);
    let options = ForkOptions {
        leases: vec![(lease.clone(), Mode::IndexOnly, 0, 1)],
        ..Default::default()
    };
    let workers: Vec<Process> = (0..3)
        .map(|_| {
            let us = random.below(1000);
            // SAFETY: this process has one thread.
            unsafe { fork(&options, || nested_worker(machine, witness_path, us)) }.unwrap()
        })
        .collect();
    let ends = workers.iter().map(|it| it.join(LONG).unwrap().code);
    let code = ends.max().unwrap();
    for device in lease.devices() {
        witness.leave(u64::from(device.found.index));
    }
    code
}

/// So many processes, some of which are killed while they wait, hold or end.
fn race(kind: Kind, starts: usize, users: bool) {
    let place = Place::new();
    let machine = place.machine(&format!("cuda:{DEVICES}:24G"));
    let witness = place.0.with_extension("witness");
    File::create(&witness).unwrap();
    let writable = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    std::fs::set_permissions(&witness, writable).unwrap();
    let mut random = seeded();
    let mut running: Vec<Process> = Vec::new();
    let mut killed = 0;
    for start in 0..starts {
        let seed = random.below(u64::MAX);
        // SAFETY: the child uses the library, the allocator and its environment, which no other thread of
        // this program changes.
        let process = unsafe {
            fork(&ForkOptions::default(), || {
                if users {
                    become_user(4242 + (start % 3) as u32);
                }
                child(kind, &machine, &witness, Random(seed | 1))
            })
        };
        running.push(process.unwrap());
        while running.len() >= AT_ONCE || (start + 1 == starts && !running.is_empty()) {
            let which = random.below(running.len() as u64) as usize;
            if random.below(4) == 0 {
                killed += 1;
                running[which].signal(libc::SIGKILL).unwrap();
            }
            if let Ok(end) = running[which].join(Timeout::Val(Duration::from_millis(1))) {
                assert!(end.code == FINE || end.code == libc::SIGKILL, "{end:?}");
                running.swap_remove(which);
            }
        }
    }
    assert!(killed > 0);
    // Workers of a pool that was killed end by themselves.
    until("all leases end", || holders(&machine).unwrap().is_empty());
    let all = Request::new(DEVICES as usize)
        .machine(machine)
        .acquire(LONG)
        .unwrap();
    assert_eq!(numbers(&all), (0..DEVICES as u32).collect::<Vec<_>>());
    let _ = std::fs::remove_file(witness);
}

fn is_root() -> bool {
    // SAFETY: it only asks.
    unsafe { libc::geteuid() == 0 }
}

#[test]
fn whole_devices_never_have_two_owners() {
    race(Kind::Whole, 120, is_root());
}

#[test]
fn slots_are_never_leased_twice() {
    race(Kind::Fractions, 120, is_root());
}

#[test]
fn nested_pools_share_what_their_pool_has() {
    race(Kind::Nested, 40, false);
}

#[test]
fn two_schedulers_that_race_for_the_last_device_get_it_once() {
    let place = Place::new();
    let machine = place.machine("cuda:1");
    let request = Request::new(1).machine(machine);
    let mut served = 0;
    for _ in 0..50 {
        let barrier = std::sync::Barrier::new(2);
        let got = std::thread::scope(|scope| {
            let each = [(); 2].map(|()| {
                scope.spawn(|| {
                    barrier.wait();
                    request.acquire(NOW).ok()
                })
            });
            each.map(|it| it.join().unwrap())
        });
        // None, if a child that another thread has just forked still had a copy of the last lease.
        let count = got.iter().flatten().count();
        assert!(count <= 1);
        served += count;
    }
    assert!(served > 0);
}

#[test]
fn the_order_is_kept_whoever_is_killed() {
    let place = Place::new();
    let machine = place.machine("cuda:1");
    let request = Request::new(1).machine(machine.clone());
    let first = request.acquire(LONG).unwrap();
    let log = place.0.with_extension("log");
    File::create(&log).unwrap();
    let mut random = seeded();
    let mut children = Vec::new();
    for number in 0..24u8 {
        // SAFETY: the child uses the library, the allocator and a file.
        let process = unsafe {
            fork(&ForkOptions::default(), || {
                let mut log = OpenOptions::new().append(true).open(&log).unwrap();
                let lease = request.acquire(LONG).unwrap();
                log.write_all(&[number]).unwrap();
                drop(lease);
                FINE
            })
        };
        children.push(process.unwrap());
        until("it waits", || {
            waiting(&machine).len() == usize::from(number) + 1
        });
    }
    let dead: Vec<usize> = (0..24).filter(|_| random.below(3) == 0).collect();
    for &number in &dead {
        children[number].signal(libc::SIGKILL).unwrap();
    }
    first.release();
    for child in &children {
        child.join(LONG).unwrap();
    }
    let served = std::fs::read(&log).unwrap();
    let expected: Vec<u8> = (0..24)
        .filter(|it| !dead.contains(&usize::from(*it)))
        .collect();
    let alive: Vec<u8> = served
        .iter()
        .copied()
        .filter(|it| expected.contains(it))
        .collect();
    assert_eq!(alive, expected);
    assert!(served.is_sorted(), "{served:?}");
    std::fs::remove_file(log).unwrap();
}

/// `SHOAL_SOAK_SECONDS=600 cargo test --release --test leases races::soak -- --ignored --nocapture`
#[test]
#[ignore = "a soak: 1000 starts of each kind, again for SHOAL_SOAK_SECONDS, a minute by default"]
fn soak() {
    let start = std::time::Instant::now();
    while start.elapsed() < soak_length() {
        for kind in [Kind::Whole, Kind::Fractions, Kind::Nested] {
            race(kind, 1000, is_root() && kind != Kind::Nested);
            println!("1000 starts after {:?}", start.elapsed());
        }
    }
}
