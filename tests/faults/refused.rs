//! Requests for which there is no memory: what they leave to others.

use std::time::Duration;

use crate::common::alone;
use crate::common::shm::{Filler, free, with_small_shm};
use shoal::{Array, Error, List, Map, Options, Queue};

const ZERO: Duration = Duration::ZERO;

/// Checks that a request for `bytes` is refused, and that as much memory is free as before.
fn leaves_all(what: &str, bytes: usize, request: impl FnOnce(usize) -> shoal::Result<()>) {
    let before = free();
    let refused = request(bytes).map_err(|err| match err {
        Error::NoSpace { .. } => (),
        err => panic!("{what} of {bytes} bytes: {err}"),
    });
    assert_eq!(refused, Err(()), "{what} of {bytes} bytes");
    assert_eq!(free(), before, "{what} of {bytes} bytes");
}

fn requests_leave_all(sizes: &[usize]) {
    let queue = Queue::anonymous().unwrap();
    let (map, list) = (Map::anonymous().unwrap(), List::anonymous().unwrap());
    queue.put(b"message", ZERO).unwrap();
    map.set(b"key", b"value").unwrap();
    list.append(b"element").unwrap();
    let filler = Filler::new();
    for &bytes in sizes {
        filler.leave((bytes as u64 / 2).next_multiple_of(4096).min(8 << 20));
        leaves_all("reserve", bytes, |bytes| {
            queue.reserve(bytes, ZERO).map(drop)
        });
        // Only these need the bytes themselves, too.
        let data = vec![0; bytes.min(64 << 20)];
        leaves_all("put", data.len(), |_| queue.put(&data, ZERO));
        leaves_all("set", data.len(), |_| map.set(b"key", &data));
        leaves_all("append", data.len(), |_| list.append(&data).map(drop));
        leaves_all("an array", bytes, |bytes| {
            let options = Options::create();
            Array::with_options(None, 1, bytes as u64, "b", &options).map(drop)
        });
        filler.leave(8 << 20);
        // All of them still work.
        queue.reserve(100, ZERO).unwrap().discard();
        map.set(b"key", b"other").unwrap();
        list.append(b"another").unwrap();
        queue.put(b"small", ZERO).unwrap();
    }
    filler.leave(8 << 20);
    let large = vec![1; 4 << 20];
    queue.put(&large, ZERO).unwrap();
    while queue.len() > 1 {
        queue.get_vec(ZERO).unwrap();
    }
    filler.leave(2 << 20);
    leaves_all("lease", 0, |_| queue.lease(ZERO).map(drop));
    assert_eq!(queue.get_vec(ZERO), Ok(large));
}

#[test]
fn a_request_that_can_never_fit_leaves_all_memory() {
    let _alone = alone();
    with_small_shm(32 << 20, || {
        requests_leave_all(&[40 << 20, 1 << 30, 8 << 30]);
    });
}

#[test]
fn a_request_that_fails_half_way_leaves_the_memory_it_found() {
    let _alone = alone();
    with_small_shm(32 << 20, || {
        requests_leave_all(&[100_000, 300_000, 900_000])
    });
}
