//! What a lease of devices costs: one process that leases and releases while others hold or wait.
//!
//! `cargo bench --bench leases` takes a few seconds. Goal: a lease and its release take at most 100 us if no other
//! process wants the devices.

use std::time::{Duration, Instant};

use shoal::Timeout;
use shoal::device::Machine;
use shoal::device::lease::{Lease, Request, Share, Ticket, holders};

const LEASES: u32 = 2_000;
const ROUNDS: usize = 7;
const NOW: Timeout = Timeout::Val(Duration::ZERO);

fn microseconds(work: impl Fn()) -> f64 {
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        (0..LEASES).for_each(|_| work());
        rounds.push(start.elapsed().as_nanos() as f64 / 1e3 / f64::from(LEASES));
    }
    rounds.sort_by(f64::total_cmp);
    rounds[ROUNDS / 2]
}

fn main() {
    let place = std::env::temp_dir().join(format!("shoal-bench-leases-{}", std::process::id()));
    let shm = std::path::Path::new("/dev/shm").join(place.file_name().unwrap());
    let mut machine = Machine::from_environment();
    machine.fake = Some("cuda:8:80G".to_owned());
    machine.leases = shm.clone();
    let of = |count| Request::new(count).machine(machine.clone());
    let lease = |request: &Request| drop(request.acquire(NOW).unwrap());
    let show = |what: &str, us: f64| println!("{what:44} {us:7.1} us");

    show(
        "1 of 8 devices, none leased",
        microseconds(|| lease(&of(1))),
    );
    show("8 of 8 devices", microseconds(|| lease(&of(8))));
    let eighth = of(1).share(Share::Slots { slots: 1, of: 8 });
    show("an eighth of one", microseconds(|| lease(&eighth)));
    let others: Vec<Lease> = (0..7).map(|_| of(1).acquire(NOW).unwrap()).collect();
    show(
        "1 of 8 devices, 7 leased by others",
        microseconds(|| lease(&of(1))),
    );
    show(
        "who has what",
        microseconds(|| drop(holders(&machine).unwrap())),
    );
    let last = of(1).acquire(NOW).unwrap();
    let waiting: Vec<Ticket> = (0..100).map(|_| of(1).queue().unwrap()).collect();
    let tried = microseconds(|| assert!(of(1).acquire(NOW).is_err()));
    show("a try behind 8 leases and 100 that wait", tried);
    drop((others, last, waiting));
    std::fs::remove_dir_all(shm).unwrap();
}
