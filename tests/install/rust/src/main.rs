//! A message goes through a queue, and data that a lock guards is changed by two threads.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use shoal::{Lock, Queue, Timeout};

fn main() -> Result<(), shoal::Error> {
    let queue = Queue::anonymous()?;
    queue.put(b"resize 17.png", Timeout::Infinite)?;
    let job = queue.get_vec(Duration::from_secs(10))?;

    let lock = Lock::anonymous()?;
    let guarded = AtomicU32::new(0);
    let add = || -> Result<(), shoal::Error> {
        for _ in 0..1000 {
            let _guard = lock.lock(Timeout::Infinite)?;
            // Two steps, which only the lock keeps together.
            let sum = guarded.load(Ordering::Relaxed);
            guarded.store(sum + 1, Ordering::Relaxed);
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(add);
        add()?;
        other.join().expect("the thread does not panic")
    })?;
    println!(
        "{}, {}",
        String::from_utf8_lossy(&job),
        guarded.into_inner()
    );
    Ok(())
}
