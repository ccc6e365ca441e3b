//! Many processes race for devices and are killed at any moment. A device never has two owners, no lease remains, and
//! requests are served in order.
//!
//! Each process stores in shared memory which devices it uses: its pid is in the device's word from after the lease
//! until before the release. If the word of a device that was just leased has another pid, either that process was
//! killed, and its pid stays there, or the device has two owners, and that process removes its pid itself. The kernel
//! drops the locks of a killed process a moment before it is seen to be dead.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use shoal::device::lease::{Lease, Mode, Request, Share, holders};
use shoal::device::{EnvEdit, Machine};
use shoal::{ForkOptions, LeasePart, Process, Timeout, fork};

use crate::common::{Random, soak_length};
use crate::directory::become_user;
use crate::place::{LONG, NOW, Place, numbers, until, waiting};

const DEVICES: u64 = 8;
/// A device has so many slots in the races of fractions.
const SLOTS: u32 = 4;
/// Processes at a time.
const AT_ONCE: usize = 24;
/// Where the witnesses of nested leases are.
const NESTED: usize = 64;

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

/// For each slot of each device the pid of the process that uses it, or 0, and how often that has changed.
#[derive(Clone, Copy)]
struct Witness(&'static [AtomicU64]);

fn pid_of(word: u64) -> u32 {
    (word >> 32) as u32
}

fn is_dead(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    // The state follows the name, which is in parentheses.
    stat.map_or(true, |stat| {
        stat.rsplit(") ")
            .next()
            .is_some_and(|it| it.starts_with(['Z', 'X']))
    })
}

impl Witness {
    /// Memory that children have too.
    fn new() -> Self {
        let words = NESTED + DEVICES as usize;
        let bytes = words * size_of::<AtomicU64>();
        let (read_write, shared) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS,
        );
        // SAFETY: a new mapping of zeros, which is never unmapped.
        unsafe {
            let at = libc::mmap(std::ptr::null_mut(), bytes, read_write, shared, -1, 0);
            assert_ne!(at, libc::MAP_FAILED);
            Self(std::slice::from_raw_parts(at.cast(), words))
        }
    }

    fn change(&self, at: usize, from: u64, pid: u32) -> bool {
        let to = u64::from(pid) << 32 | u64::from((from as u32).wrapping_add(1));
        self.0[at]
            .compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }

    /// Enters one of these slots; `None` if processes that live use all of them.
    fn enter(&self, slots: std::ops::Range<usize>) -> Option<usize> {
        let own = std::process::id();
        let (all, mut before) = (slots.clone(), Vec::new());
        for at in slots {
            let word = self.0[at].load(Ordering::SeqCst);
            if pid_of(word) == 0 && self.change(at, word, own) {
                return Some(at);
            }
            before.push((at, word));
        }
        // The outcome of each of the requests before this one.
        let mut certain = true;
        for (at, word) in before {
            loop {
                let now = self.0[at].load(Ordering::SeqCst);
                if now == word {
                    if is_dead(pid_of(word)) && self.change(at, word, own) {
                        return Some(at);
                    }
                } else if now as u32 != (word as u32).wrapping_add(1) || pid_of(now) != 0 {
                    // It was killed and its slot reused, or this cannot be determined any more.
                    certain = false;
                    break;
                } else {
                    // It has left by itself, after this process had its lease.
                    break;
                }
                std::thread::sleep(Duration::from_micros(100));
            }
        }
        match certain {
            true => None,
            false => self.enter(all),
        }
    }

    fn leave(&self, at: usize) {
        let word = self.0[at].load(Ordering::SeqCst);
        assert!(self.change(at, word, 0));
    }
}

/// Uses the devices of a lease for a moment. False if one of them has another owner.
fn use_devices(witness: Witness, lease: &Lease, base: usize, slots: usize, us: u64) -> bool {
    let mut taken = Vec::new();
    for device in lease.devices() {
        let first = base + device.found.index as usize * slots;
        match witness.enter(first..first + slots) {
            Some(at) => taken.push(at),
            None => return false,
        }
    }
    std::thread::sleep(Duration::from_micros(us));
    taken.into_iter().for_each(|at| witness.leave(at));
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
fn nested_worker(machine: &Machine, witness: Witness, us: u64) -> i32 {
    let lease = Request::new(1)
        .machine(machine.clone())
        .acquire(LONG)
        .unwrap();
    match use_devices(witness, &lease, NESTED, 1, us) {
        true => FINE,
        false => TWO_OWNERS,
    }
}

fn child(kind: Kind, machine: &Machine, witness: Witness, mut random: Random) -> i32 {
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
        SLOTS as usize
    } else {
        1
    };
    if kind != Kind::Nested {
        return match use_devices(witness, &lease, 0, slots, us) {
            true => FINE,
            false => TWO_OWNERS,
        };
    }
    let mut taken = Vec::new();
    for device in lease.devices() {
        let at = device.found.index as usize;
        match witness.enter(at..at + 1) {
            Some(at) => taken.push(at),
            None => return TWO_OWNERS,
        }
    }
    run_under(&lease);
    let options = ForkOptions {
        leases: vec![LeasePart {
            lease: lease.clone(),
            mode: Mode::IndexOnly,
            worker: 0,
            workers: 1,
        }],
        ..Default::default()
    };
    let workers: Vec<Process> = (0..3)
        .map(|_| {
            let us = random.below(1000);
            // SAFETY: this process has one thread.
            unsafe { fork(&options, || nested_worker(machine, witness, us)) }.unwrap()
        })
        .collect();
    let ends = workers.iter().map(|it| it.join(LONG).unwrap().code);
    let code = ends.max().unwrap();
    taken.into_iter().for_each(|at| witness.leave(at));
    code
}

/// So many processes, some of which are killed while they wait, hold or end.
fn race(kind: Kind, starts: usize, users: bool) {
    let place = match kind {
        Kind::Nested => Place::alone(),
        Kind::Whole | Kind::Fractions => Place::new(),
    };
    let machine = place.machine(&format!("cuda:{DEVICES}:24G"));
    let witness = Witness::new();
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
                child(kind, &machine, witness, Random(seed | 1))
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
fn nested_pools_share_the_devices_of_their_pool() {
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
fn the_order_is_kept_although_some_are_killed() {
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
