//! No page is touched before it is committed: every operation of every object runs with 0, 1, 2 … free pages
//! until it succeeds.
//!
//! A page that is touched before it is committed takes a free page of `/dev/shm`, and the kernel sends SIGBUS if
//! there is none. So one of these runs finds it, wherever in the operation it is. In a build with crash points the
//! number of pages of the file is checked as well: it may change only where memory is committed or freed.

use std::cell::Cell;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::time::Duration;

use crate::common::shm::{Filler, with_small_shm};
use crate::common::{NOWAIT, millis, own_process, tiny};
use shoal::{
    Array, Barrier, Condition, End, Error, Event, List, Lock, Map, Options, Pipe, Queue, RwLock,
    Semaphore, Waitable,
};

const SIZE: u64 = 6 << 20;
const PAGE: u64 = 4096;

type Done = Result<(), Error>;

/// Prepares an operation, calls its argument, and then runs the operation.
type Run = dyn Fn(&dyn Fn()) -> Done;

struct Case {
    what: &'static str,
    run: Box<Run>,
}

fn case<S>(
    what: &'static str,
    prepare: impl Fn() -> S + 'static,
    act: impl Fn(&S) -> Done + 'static,
) -> Case {
    let run = Box::new(move |prepared: &dyn Fn()| {
        let object = prepare();
        prepared();
        act(&object)
    });
    Case { what, run }
}

fn large(byte: u8) -> Vec<u8> {
    vec![byte; 20_000]
}

fn growing() -> Options {
    tiny().max_capacity(1 << 20)
}

fn queue() -> Queue {
    Queue::with_options(None, &growing()).unwrap()
}

/// With a few messages in it.
fn filled() -> Queue {
    let queue = queue();
    (0..9).for_each(|it| queue.put(&[it; 100], NOWAIT).unwrap());
    queue
}

/// The message store was used, and then given back with the ring that had grown.
fn rested() -> Queue {
    let queue = filled();
    for _ in 0..3 {
        queue.put(&large(1), NOWAIT).unwrap();
        let mut room = queue.reserve(70_000, NOWAIT).unwrap();
        room.fill(7);
        room.commit().unwrap();
    }
    while let Ok(lease) = queue.lease(NOWAIT) {
        lease.ack().unwrap();
    }
    quiet(&queue);
    queue
}

/// Waits until a queue has given back what it does not need.
fn quiet(queue: &Queue) {
    while queue.capacity() > 4096 {
        assert_eq!(queue.get_vec(millis(150)), Err(Error::Timeout));
    }
}

fn queues() -> Vec<Case> {
    vec![
        case("queue: create", || (), |_| Queue::anonymous().map(drop)),
        case("queue: open", queue, |q| Queue::open(q.name()).map(drop)),
        case("queue: put", queue, |q| q.put(b"x", NOWAIT)),
        case("queue: put, and grow", filled, |q| {
            (0..99).try_for_each(|_| q.put(&[1; 200], NOWAIT))
        }),
        case("queue: put a large one", filled, |q| {
            q.put(&large(1), NOWAIT)
        }),
        case("queue: put many", queue, |q| {
            let put = q.put_many(&[[1; 300]; 100], NOWAIT)?;
            (put..100).try_for_each(|_| q.put(&[1; 300], NOWAIT))
        }),
        case("queue: get", filled, |q| {
            q.get(&mut [0; 100], NOWAIT).map(drop)
        }),
        case("queue: get many", filled, |q| {
            q.get_many(&mut Vec::new(), &mut Vec::new(), 5, NOWAIT)?;
            q.get_many_into(&mut [0; 500], &mut [0; 5], NOWAIT)
                .map(drop)
        }),
        case("queue: lease, ack", filled, |q| q.lease(NOWAIT)?.ack()),
        case("queue: lease, nack, lease", filled, |q| {
            q.lease(NOWAIT)?.nack(Duration::ZERO)?;
            let lease = q.lease(NOWAIT)?;
            lease.extend(Duration::from_secs(9))?;
            lease.nack(Duration::from_secs(9))
        }),
        case("queue: a lease expires", filled, |q| {
            let slow = q.lease_for(Duration::from_nanos(1), NOWAIT)?;
            q.lease(NOWAIT)?.ack()?;
            let acked = slow.ack();
            assert!(matches!(acked, Ok(()) | Err(Error::Expired)), "{acked:?}");
            Ok(())
        }),
        case("queue: many leases", filled, |q| {
            let leases = (0..9)
                .map(|_| q.lease(NOWAIT))
                .collect::<Result<Vec<_>, _>>()?;
            leases.into_iter().try_for_each(|it| it.ack())
        }),
        case("queue: reserve, commit", queue, |q| {
            let mut room = q.reserve(100, NOWAIT)?;
            room.fill(1);
            room.commit()
        }),
        case("queue: reserve a large one", queue, |q| {
            let mut room = q.reserve(100 << 10, NOWAIT)?;
            room.fill(1);
            room.commit_first(70_000)?;
            q.get_vec(NOWAIT)?;
            q.reserve(100 << 10, NOWAIT).map(|room| room.discard())
        }),
        case("queue: many reservations", queue, |q| {
            // More blocks than one page of the block map is for.
            let rooms = (0..200).map(|_| q.reserve(100, NOWAIT));
            let mut rooms = rooms.collect::<Result<Vec<_>, _>>()?;
            rooms.iter_mut().for_each(|it| it.fill(1));
            Ok(())
        }),
        case("queue: all again after rest", rested, |q| {
            q.put(&large(1), NOWAIT)?;
            q.reserve(70_000, NOWAIT)?.commit()?;
            q.lease(NOWAIT)?.ack()?;
            q.lease(NOWAIT)?.ack()?;
            quiet(q);
            q.put(b"x", NOWAIT)?;
            q.lease(NOWAIT)?.ack()
        }),
        case(
            "queue: dead letters",
            || {
                let options = growing().max_attempts(1);
                let queue = Queue::with_options(None, &options).unwrap();
                queue.put(&[1; 5000], NOWAIT).unwrap();
                queue
            },
            |q| {
                q.lease(NOWAIT)?.nack(Duration::ZERO)?;
                // If it does not fit, it stays and is tried again.
                match q.get_vec(millis(1)) {
                    Err(Error::Timeout) if q.unfinished()? == 0 => Ok(()),
                    Err(Error::Timeout) => Err(Error::NoSpace {
                        needed: 0,
                        available: 0,
                        in_object: None,
                    }),
                    other => other.map(drop),
                }
            },
        ),
        case("queue: look and close", filled, |q| {
            let _ = (
                q.len(),
                q.bytes(),
                q.leased(),
                q.unfinished()?,
                q.is_closed(),
            );
            let (fd, joined) = (q.fd()?, q.join(NOWAIT));
            let _ = (fd, shoal::wait_any(&[Waitable::Queue(q)], NOWAIT), joined);
            q.close()
        }),
    ]
}

fn map() -> Map {
    let map = Map::anonymous().unwrap();
    map.set(b"key", b"value").unwrap();
    map.set_for(b"expiring", b"value", Duration::from_secs(100))
        .unwrap();
    map
}

fn many() -> Map {
    let map = map();
    (0..500u32).for_each(|it| map.set(&it.to_le_bytes(), &[1; 50]).unwrap());
    map.set(b"large", &large(1)).unwrap();
    map
}

fn ordered() -> Map {
    Map::with_options(None, &Options::create().ordered()).unwrap()
}

/// A value that is written and read outside the shard's lock.
fn larger() -> Vec<u8> {
    vec![1; 300 << 10]
}

fn maps() -> Vec<Case> {
    vec![
        case("map: create", || (), |()| Map::anonymous().map(drop)),
        case("map: open", map, |m| Map::open(m.name()).map(drop)),
        case(
            "map: the first set",
            || Map::anonymous().unwrap(),
            |m| m.set(b"a", b"b"),
        ),
        case("map: set", map, |m| m.set(b"other", &[1; 2000])),
        case("map: set many", map, |m| {
            (0..400u32).try_for_each(|it| m.set(&it.to_le_bytes(), &[2; 60]))?;
            let items: Vec<_> = (0..400u32).map(|it| (it.to_le_bytes(), [1; 9])).collect();
            m.set_many(&items)
        }),
        case("map: set a large one", map, |m| {
            m.set(b"larger", &larger())?;
            m.set(b"larger", &larger())
        }),
        case("map: set an ordered one", ordered, |m| {
            m.set(b"b", b"1")?;
            m.set(b"a", &larger())?;
            m.iter().try_for_each(|it| it.map(drop))
        }),
        case("map: get", many, |m| {
            assert_eq!(m.get(b"key", &mut [0; 9])?, Some(5));
            let _ = (m.get_vec(b"large")?, m.get_versioned(b"none")?);
            let _ = (
                m.contains(b"key")?,
                m.version_of(b"key")?,
                m.len()?,
                m.version(),
            );
            m.get_watched(b"key", &mut [0; 9])?;
            m.get_many(&[b"key", b"non"]).map(drop)
        }),
        case("map: swap, insert, add", map, |m| {
            m.insert(b"new", b"1")?;
            m.compare_swap(b"key", Some(b"value"), Some(&[1; 99]))?;
            m.compare_swap_version(b"key", m.version_of(b"key")?, Some(b"2"))?;
            m.add(b"count", 1)?;
            m.add_f64(b"float", 1.0).map(drop)
        }),
        case("map: update", map, |m| {
            m.update(b"key", |_| Some(vec![1; 2000])).map(drop)
        }),
        case("map: expire", map, |m| {
            m.set_for(b"key", b"value", Duration::from_nanos(1))?;
            m.expire(b"expiring", Some(Duration::from_nanos(1)))?;
            m.expire(b"expiring", None)?;
            m.time_left(b"expiring")?;
            m.purge().map(drop)
        }),
        case("map: lock a key", map, |m| {
            m.lock_key(b"key", NOWAIT).map(drop)
        }),
        case("map: view", many, |m| {
            let view = m.view(b"large")?;
            m.set(b"large", &large(2))?;
            assert_eq!(view.unwrap()[0], 1);
            Ok(())
        }),
        case("map: iterate", many, |m| {
            m.iter().try_for_each(|it| it.map(drop))
        }),
        case("map: remove", many, |m| {
            m.remove(b"large")?;
            m.take(b"key")?;
            (0..500u32).try_for_each(|it| m.remove(&it.to_le_bytes()).map(drop))
        }),
        case("map: clear, set", many, |m| {
            m.clear()?;
            m.get_vec(b"key")?;
            m.set(b"key", b"value")
        }),
    ]
}

fn list() -> List {
    let list = List::anonymous().unwrap();
    list.extend(&[&b"b"[..], &[1; 100], b"a"]).unwrap();
    list
}

fn long() -> List {
    let list = list();
    list.extend(&vec![[1; 30]; 500]).unwrap();
    list.append(&large(1)).unwrap();
    list
}

fn lists() -> Vec<Case> {
    vec![
        case("list: create", || (), |()| List::anonymous().map(drop)),
        case("list: open", list, |l| List::open(l.name()).map(drop)),
        case(
            "list: the first append",
            || List::anonymous().unwrap(),
            |l| l.append(b"x"),
        ),
        case("list: append", list, |l| l.append(&[1; 2000])),
        case("list: append a large one", list, |l| l.append(&large(1))),
        case("list: extend", list, |l| l.extend(&vec![[1; 40]; 400])),
        case("list: insert", list, |l| {
            (0..300).try_for_each(|it| l.insert(it / 2, &[1; 20]))
        }),
        case("list: set", list, |l| l.set(0, &[1; 3000]).map(drop)),
        case("list: swap", list, |l| {
            l.compare_swap(0, b"b", &[1; 50])?;
            l.swap(0, 2).map(drop)
        }),
        case("list: sort, reverse", long, |l| {
            l.sort_by(|a, b| a.cmp(b))?;
            l.reverse()
        }),
        case("list: rearrange", list, |l| {
            l.with(|locked| locked.rearrange(&[2, 0]))
        }),
        case("list: splice", long, |l| {
            l.splice(3..90, &vec![[1; 60]; 120])
        }),
        case("list: get", long, |l| {
            let _ = (l.get(1, &mut [0; 100])?, l.get_vec(503)?, l.len()?);
            let _ = l.range_vec(2..400)?;
            l.iter().try_for_each(|it| it.map(drop))
        }),
        case("list: pop, remove", long, |l| {
            let _ = (l.pop()?, l.pop_at(0)?, l.pop_into(0, &mut [0; 200])?);
            l.remove(10..490)?;
            l.remove(0..9)
        }),
        case("list: clear, append", long, |l| {
            l.clear()?;
            l.append(&[1; 100])
        }),
    ]
}

fn pipe() -> (Pipe, Pipe) {
    let (here, there) = Pipe::pair_with_options(true, &growing()).unwrap();
    here.send(&[1; 100], NOWAIT).unwrap();
    (here, there)
}

fn others() -> Vec<Case> {
    let condition = || (Lock::anonymous().unwrap(), Condition::anonymous().unwrap());
    let barrier = || Barrier::with_options(None, 1, &Options::create()).unwrap();
    let semaphore = || Semaphore::with_options(None, 2, &Options::create()).unwrap();
    let array = || Array::with_options(None, 8, 1000, "q", &Options::create()).unwrap();
    vec![
        case(
            "pipe: create",
            || (),
            |()| Pipe::pair_with_options(true, &growing()).map(drop),
        ),
        case("pipe: open", pipe, |(p, _)| {
            Pipe::open(p.name(), End::Second).map(drop)
        }),
        case("pipe: send, receive", pipe, |(here, there)| {
            there.recv(&mut [0; 100], NOWAIT)?;
            there.send(&large(1), NOWAIT)?;
            here.recv_vec(NOWAIT).map(drop)
        }),
        case("pipe: reserve, lease", pipe, |(here, there)| {
            there.lease(NOWAIT)?.ack()?;
            there.reserve(20_000, NOWAIT)?.commit()?;
            let _ = here.poll(NOWAIT)?;
            here.lease(NOWAIT)?.ack()
        }),
        case("pipe: hold", pipe, |(here, _)| {
            let _ = (here.hold()?, here.fd()?);
            Ok(())
        }),
        case("lock: create", || (), |()| Lock::anonymous().map(drop)),
        case(
            "lock",
            || Lock::recursive(None, &Options::create()).unwrap(),
            |l| {
                let (_outer, _inner) = (l.lock(NOWAIT)?, l.lock(NOWAIT)?);
                Lock::open(l.name()).map(drop)
            },
        ),
        case(
            "semaphore: create",
            || (),
            move |()| Semaphore::bounded(None, 2, &Options::create()).map(drop),
        ),
        case("semaphore", semaphore, |s| {
            s.acquire(NOWAIT)?;
            let _ = (s.release(3)?, s.available()?);
            Semaphore::open(s.name()).map(drop)
        }),
        case(
            "read-write lock: create",
            || (),
            |()| RwLock::anonymous().map(drop),
        ),
        case(
            "read-write lock",
            || RwLock::anonymous().unwrap(),
            |l| {
                let _ = l.read(NOWAIT)?;
                l.release_read()?;
                let _ = (l.write(NOWAIT)?, l.holders()?);
                l.release_write()?;
                RwLock::open(l.name()).map(drop)
            },
        ),
        case(
            "condition: create",
            || (),
            |()| Condition::anonymous().map(drop),
        ),
        case("condition", condition, |(lock, condition)| {
            let _guard = lock.lock(NOWAIT)?;
            let places: Result<Vec<_>, _> = (0..300).map(|_| condition.enlist()).collect();
            let _ = (condition.notify(9)?, condition.waiting()?);
            places?
                .into_iter()
                .try_for_each(|it| condition.leave(it).map(drop))?;
            condition.wait(lock, millis(1)).map(drop)
        }),
        case(
            "barrier: create",
            || (),
            |()| Barrier::with_options(None, 3, &Options::create()).map(drop),
        ),
        case("barrier", barrier, |b| {
            b.wait(NOWAIT)?;
            let _ = (b.abort()?, b.reset()?, b.waiting()?);
            Barrier::open(b.name()).map(drop)
        }),
        case("event: create", || (), |()| Event::anonymous().map(drop)),
        case(
            "event",
            || Event::anonymous().unwrap(),
            |e| {
                e.set();
                e.wait(NOWAIT)?;
                e.clear();
                Event::open(e.name()).map(drop)
            },
        ),
        case(
            "array: create",
            || (),
            |()| Array::with_options(None, 8, 1000, "q", &Options::create()).map(drop),
        ),
        case("array", array, |a| {
            let guard = a.lock(NOWAIT)?;
            guard.write(7900, &[1; 100])?;
            guard.read(0, &mut [0; 8000])
        }),
    ]
}

/// The operation that runs, for the handler below.
static WHAT: AtomicPtr<&'static str> = AtomicPtr::new(std::ptr::null_mut());
static PAGES: AtomicUsize = AtomicUsize::new(0);

/// Prints which operation it was.
extern "C" fn on_bus_error(_: i32) {
    // SAFETY: set to what lives until the process ends.
    let what = unsafe { WHAT.load(Ordering::SeqCst).as_ref() }.copied();
    let pages = PAGES.load(Ordering::SeqCst) as u8;
    let digits = [
        b'0' + pages / 100,
        b'0' + pages / 10 % 10,
        b'0' + pages % 10,
    ];
    for part in [
        what.unwrap_or("?").as_bytes(),
        b", free pages: ",
        &digits,
        b": SIGBUS\n",
    ] {
        // SAFETY: writes bytes of ours; fit for a signal handler.
        unsafe { libc::write(2, part.as_ptr().cast(), part.len()) };
    }
    // SAFETY: ends the process at once.
    unsafe { libc::_exit(1) };
}

/// Runs it with 0, 1, 2 … free pages, until it succeeds.
fn walk(case: &Case, filler: &Filler) {
    let what = Box::leak(Box::new(case.what));
    WHAT.store(what, Ordering::SeqCst);
    for pages in 0.. {
        PAGES.store(pages, Ordering::SeqCst);
        let prepared = Cell::new(false);
        let done = (case.run)(&|| {
            filler.leave(pages as u64 * PAGE);
            prepared.set(true);
        });
        assert!(prepared.get());
        filler.leave(SIZE);
        match done {
            Ok(()) => return,
            Err(Error::NoSpace { .. }) => assert!(pages < 250, "{}: never", case.what),
            Err(err) => panic!("{}, free pages: {pages}: {err}", case.what),
        }
    }
}

fn walk_all(cases: &[Case]) {
    with_small_shm(SIZE, || {
        // SAFETY: a handler that is fit for one.
        unsafe { libc::signal(libc::SIGBUS, on_bus_error as *const () as usize) };
        let filler = Filler::new();
        cases.iter().for_each(|it| walk(it, &filler));
    });
}

#[test]
fn a_queue_in_a_full_shm_returns_an_error_and_raises_no_signal() {
    own_process(|| walk_all(&queues()));
}

#[test]
fn a_map_in_a_full_shm_returns_an_error_and_raises_no_signal() {
    own_process(|| walk_all(&maps()));
}

#[test]
fn a_list_in_a_full_shm_returns_an_error_and_raises_no_signal() {
    own_process(|| walk_all(&lists()));
}

#[test]
fn pipes_locks_and_arrays_in_a_full_shm_return_errors_and_raise_no_signal() {
    own_process(|| walk_all(&others()));
}

#[cfg(feature = "crash-points")]
mod crash {
    use super::*;

    /// Files of objects.
    fn files() -> Vec<std::path::PathBuf> {
        let all = std::fs::read_dir("/dev/shm").unwrap();
        let all = all.map(|it| it.unwrap().path());
        all.filter(|it| it.to_string_lossy().contains("/shoal."))
            .collect()
    }

    #[test]
    fn every_page_is_allocated_by_a_commit() {
        own_process(|| {
            let cases = [queues(), maps(), lists(), others()];
            with_small_shm(SIZE, || {
                for case in cases.iter().flatten() {
                    eprintln!("{}", case.what);
                    let done = (case.run)(&|| shoal::crash::watch_memory(&files()));
                    shoal::crash::unwatch_memory();
                    done.unwrap();
                }
            });
        });
    }
}
