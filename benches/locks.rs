//! A lock beside a bare robust pthread mutex, and an event beside a bare futex, in turns.
//!
//! `cargo bench --bench locks` takes a few seconds. Goals: a lock and an unlock cost at most 1.5
//! times the mutex's, a round trip of wake-ups at most 1.2 times the futex's.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use shoal::{Event, Lock, Options, Timeout};

const LOCKS: u32 = 1_000_000;
const TRIPS: u32 = 3_000;
const ROUNDS: usize = 7;

fn nanoseconds(count: u32, work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_nanos() as f64 / f64::from(count)
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}

struct Mutex(UnsafeCell<libc::pthread_mutex_t>);

impl Mutex {
    fn new() -> Box<Self> {
        let mutex = Box::new(Self(UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER)));
        // SAFETY: the attributes and the mutex are valid for writing, and nothing uses the mutex yet.
        unsafe {
            let mut how = std::mem::zeroed();
            libc::pthread_mutexattr_init(&mut how);
            libc::pthread_mutexattr_setpshared(&mut how, libc::PTHREAD_PROCESS_SHARED);
            libc::pthread_mutexattr_setrobust(&mut how, libc::PTHREAD_MUTEX_ROBUST);
            assert_eq!(libc::pthread_mutex_init(mutex.0.get(), &how), 0);
        }
        mutex
    }

    fn lock_and_unlock(&self) {
        // SAFETY: the mutex is initialised, and unlocked by the thread that locked it.
        unsafe {
            assert_eq!(libc::pthread_mutex_lock(self.0.get()), 0);
            assert_eq!(libc::pthread_mutex_unlock(self.0.get()), 0);
        }
    }
}

/// Two threads that wake each other in turns: `wake(0)` wakes the one that is in `wait(0)`.
fn trips(wake: impl Fn(usize) + Sync, wait: impl Fn(usize) + Sync) -> f64 {
    nanoseconds(TRIPS, || {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..TRIPS {
                    wait(0);
                    wake(1);
                }
            });
            for _ in 0..TRIPS {
                wake(0);
                wait(1);
            }
        });
    })
}

fn futex_trips() -> f64 {
    let words = [const { AtomicU32::new(0) }; 2];
    let call = |word: &AtomicU32, operation: i32, value: i32| {
        let no_time = std::ptr::null::<libc::timespec>();
        // SAFETY: the word outlives the call.
        unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), operation, value, no_time) };
    };
    trips(
        |at| {
            words[at].store(1, Ordering::SeqCst);
            call(&words[at], libc::FUTEX_WAKE, i32::MAX);
        },
        |at| {
            while words[at].swap(0, Ordering::SeqCst) == 0 {
                call(&words[at], libc::FUTEX_WAIT, 0);
            }
        },
    )
}

fn event_trips() -> f64 {
    let events = [(); 2].map(|()| Event::anonymous().unwrap());
    trips(
        |at| events[at].set(),
        |at| {
            events[at].wait(Timeout::Infinite).unwrap();
            events[at].clear();
        },
    )
}

fn main() {
    let (mutex, lock) = (Mutex::new(), Lock::anonymous().unwrap());
    let recursive = Lock::recursive(None, &Options::create()).unwrap();
    let hold = |lock: &Lock| {
        nanoseconds(LOCKS, || {
            for _ in 0..LOCKS {
                let _ = lock.acquire(Timeout::Infinite).unwrap();
                lock.release().unwrap();
            }
        })
    };
    let mut times: [Vec<f64>; 5] = Default::default();
    for _ in 0..ROUNDS {
        times[0].push(nanoseconds(LOCKS, || {
            (0..LOCKS).for_each(|_| mutex.lock_and_unlock());
        }));
        times[1].push(hold(&lock));
        times[2].push(hold(&recursive));
        times[3].push(futex_trips());
        times[4].push(event_trips());
    }
    let [mutex, lock, recursive, futex, event] = times.map(median);
    println!("robust pthread mutex  {mutex:9.1} ns");
    println!(
        "lock                  {lock:9.1} ns  {:.2} times",
        lock / mutex
    );
    println!(
        "recursive lock        {recursive:9.1} ns  {:.2} times",
        recursive / mutex
    );
    println!("futex round trip      {futex:9.1} ns");
    println!(
        "event round trip      {event:9.1} ns  {:.2} times",
        event / futex
    );
}
