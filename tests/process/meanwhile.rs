//! Children that are started while another thread forks processes that stay.

use std::sync::mpsc::channel;

use super::*;

/// Processes forked by a thread of their own, which live until this is dropped.
struct Forker {
    done: std::sync::Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<Vec<libc::pid_t>>>,
}

/// More would only take memory.
const MOST: usize = 400;

impl Forker {
    fn new() -> Self {
        let done = std::sync::Arc::new(AtomicBool::new(false));
        let seen = done.clone();
        let thread = std::thread::spawn(move || {
            let mut forked = Vec::new();
            while !seen.load(Ordering::Relaxed) {
                if forked.len() == MOST {
                    std::thread::sleep(Duration::from_millis(1));
                    continue;
                }
                // SAFETY: the child makes nothing but system calls.
                match unsafe { libc::fork() } {
                    // SAFETY: it waits for its end: a kill, or the alarm.
                    0 => unsafe {
                        libc::alarm(250);
                        loop {
                            libc::pause();
                        }
                    },
                    pid => forked.push(pid),
                }
                std::thread::sleep(Duration::from_micros(500));
            }
            forked
        });
        Forker {
            done,
            thread: Some(thread),
        }
    }
}

impl Drop for Forker {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        for pid in self.thread.take().unwrap().join().unwrap() {
            // SAFETY: our children, not yet waited for.
            unsafe {
                libc::kill(pid, libc::SIGKILL);
                libc::waitpid(pid, std::ptr::null_mut(), 0);
            }
        }
    }
}

/// Does it in a thread of its own: a thing that waits for the forked processes never ends.
fn ends_while_they_live(act: impl FnOnce() + Send + 'static) {
    let _forker = Forker::new();
    let (tell, done) = channel();
    let thread = std::thread::spawn(move || {
        act();
        tell.send(()).unwrap();
    });
    let told = done.recv_timeout(Duration::from_secs(200));
    if thread.is_finished() || told.is_ok() {
        thread.join().unwrap();
    }
    told.expect("it waits for a process that another thread forked");
}

#[test]
fn a_process_that_another_thread_forks_delays_no_start() {
    let _alone = alone();
    ends_while_they_live(|| {
        for _ in 0..150 {
            both_ways(|way| {
                let mut spawn = Spawn::new("true");
                way(&mut spawn);
                assert_eq!(join(&spawn.spawn().unwrap()), exited(0));
                let mut missing = Spawn::new("/no/such/program");
                way(&mut missing);
                let err = missing.spawn().unwrap_err();
                assert!(matches!(err, Error::NotFound { .. }), "{err}");
            });
        }
    });
}

#[test]
fn a_process_that_another_thread_forks_keeps_no_end_of_a_childs_output_open() {
    let _alone = alone();
    ends_while_they_live(|| {
        for _ in 0..150 {
            both_ways(|way| {
                let mut spawn = Spawn::new("echo");
                way(spawn.arg("all of it").stderr(Stdio::Pipe));
                let child = spawn.stdout(Stdio::Pipe).spawn().unwrap();
                let mut text = String::new();
                let ends = [child.take_stdout(), child.take_stderr()];
                for end in ends.map(Option::unwrap) {
                    File::from(end).read_to_string(&mut text).unwrap();
                }
                assert_eq!(text, "all of it\n");
                assert_eq!(join(&child), exited(0));
            });
        }
    });
}

#[test]
fn threads_that_fork_and_start_children_do_not_wait_for_each_other() {
    let _alone = alone();
    let threads: Vec<_> = (0..4)
        .map(|n| {
            std::thread::spawn(move || {
                for _ in 0..60 {
                    if n % 2 == 0 {
                        assert_eq!(join(&forked(&ForkOptions::default(), || 3)), exited(3));
                    } else {
                        both_ways(|way| {
                            let mut spawn = Spawn::new("echo");
                            way(&mut spawn);
                            assert_eq!(output(&mut spawn), "\n");
                        });
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    // The child of a fork may start children, whose pipes end.
    let child = forked(&ForkOptions::default(), || {
        both_ways(|way| {
            let mut spawn = Spawn::new("echo");
            way(&mut spawn);
            assert_eq!(output(&mut spawn), "\n");
        });
        0
    });
    assert_eq!(join(&child), exited(0));
}
