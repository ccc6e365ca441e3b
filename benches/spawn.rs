//! What it costs to start a program from a process of 1 GiB, beside a bare `posix_spawn`. Goal: a `Spawn`
//! costs at most 1.15 times as much.
//!
//! `cargo bench --bench spawn`. Each round starts and reaps `true` in turn by `posix_spawn`, by `Spawn`, and as
//! the worker of a supervisor. The fastest 10 % are compared: the other times measure what else the machine does.

use std::ffi::CString;
use std::time::{Duration, Instant};

use shoal::process::Output;
use shoal::{Restart, Spawn, Timeout, Workers};

const ROUNDS: usize = 400;
const PARENT_BYTES: usize = 1 << 30;

/// The time that one start and the end of its program take.
fn timed(start: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    start();
    begun.elapsed()
}

fn posix_spawn(program: &CString) {
    let argv = [program.as_ptr().cast_mut(), std::ptr::null_mut()];
    let (mut pid, mut status) = (0, 0);
    // SAFETY: the path is valid, the arguments end with NULL, the environment is that of this process, and `pid`
    // and `status` are valid for writing.
    unsafe {
        let none = std::ptr::null();
        let done = libc::posix_spawn(
            &mut pid,
            program.as_ptr(),
            none,
            none.cast(),
            argv.as_ptr(),
            environ,
        );
        assert_eq!(done, 0);
        assert_eq!(libc::waitpid(pid, &mut status, 0), pid);
    }
    assert_eq!(status, 0);
}

unsafe extern "C" {
    static environ: *const *mut libc::c_char;
}

/// The slowest of the fastest 10 %.
fn fast(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 10]
}

fn main() {
    // Every page is written, so that all of it is resident.
    let memory = vec![1u8; PARENT_BYTES];
    let path = CString::new("/bin/true").expect("no NUL");
    let spawn = Spawn::new("/bin/true");
    let mut times = [const { Vec::new() }; 2];
    for _ in 0..ROUNDS {
        times[0].push(timed(|| posix_spawn(&path)));
        times[1].push(timed(|| {
            let child = spawn.spawn().expect("spawn");
            assert!(child.join(Timeout::Infinite).expect("join").success());
        }));
    }
    // One worker that is restarted immediately, so that the threads and the guardian are created once.
    let mut worker = Workers::new(&spawn, 1);
    worker
        .output(Output::Plain)
        .restart(Restart::Always)
        .backoff(Duration::ZERO, Duration::ZERO)
        .max_restarts(ROUNDS as u32);
    let begun = Instant::now();
    let supervisor = worker.start().expect("start");
    let first = begun.elapsed();
    supervisor.wait(Timeout::Infinite).expect("wait");
    let each = (begun.elapsed() - first) / ROUNDS as u32;
    std::hint::black_box(&memory);

    let [bare, ours] = times.map(fast);
    let ratio = |time: Duration| time.as_secs_f64() / bare.as_secs_f64();
    println!("start and end of a program, from a process of 1 GiB");
    println!("posix_spawn           {bare:>10.1?}");
    println!("Spawn                 {ours:>10.1?}  {:.2} x", ratio(ours));
    println!("a worker, restarted   {each:>10.1?}  {:.2} x", ratio(each));
    println!("a supervisor's start  {first:>10.1?}");
}
