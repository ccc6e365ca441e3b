//! A process that is stopped at any step while it removes a name, and continues after other processes have used
//! that name, removes no later object.

use std::sync::Arc;

use crate::common::shm::in_directory;
use crate::common::{Child, FOREVER, NOWAIT, fork, own_process, tiny};
use shoal::{Error, Options, Queue, QueueRelay, RelayOptions, crash};

fn ephemeral(name: &str) -> Queue {
    Queue::with_options(Some(name), &tiny()).unwrap()
}

fn persistent(name: &str) -> Queue {
    Queue::with_options(Some(name), &tiny().persistent()).unwrap()
}

/// Removes the object of a name, and is stopped at a step.
type Removal = fn(&str, u64);

/// Drops the last handle of an ephemeral object.
fn leave(name: &str, step: u64) {
    let queue = ephemeral(name);
    let _fifo = queue.fd().unwrap();
    crash::arm_to_stop(step);
    drop(queue);
}

fn unlink(name: &str, step: u64) {
    let queue = persistent(name);
    let _fifo = queue.fd().unwrap();
    drop(queue);
    crash::arm_to_stop(step);
    Queue::unlink(name).unwrap();
}

fn unlink_unused(name: &str, step: u64) {
    let queue = persistent(name);
    crash::arm_to_stop(step);
    assert_eq!(queue.unlink_if_unused(), Ok(true));
}

fn unlink_with_companions(name: &str, step: u64) {
    let queue = Arc::new(persistent(name));
    let relay = QueueRelay::attach(Arc::clone(&queue), &RelayOptions::new(), FOREVER).unwrap();
    drop((relay, queue));
    crash::arm_to_stop(step);
    Queue::unlink(name).unwrap();
}

/// What a killed process leaves.
fn dead(name: &str) {
    fork(|| {
        let queue = ephemeral(name);
        let _fifo = queue.fd().unwrap();
        std::mem::forget(queue);
    })
    .ends_well();
}

fn open_dead(name: &str, step: u64) {
    dead(name);
    crash::arm_to_stop(step);
    assert!(matches!(Queue::open(name), Err(Error::NotFound { .. })));
}

fn collect_dead(name: &str, step: u64) {
    dead(name);
    crash::arm_to_stop(step);
    assert!(shoal::gc(false).unwrap().contains(&name.to_owned()));
}

/// Whether it has stopped; otherwise it has ended well.
fn stops(child: &Child) -> bool {
    let flags = libc::WSTOPPED | libc::WEXITED | libc::WNOWAIT;
    // SAFETY: an all-zero siginfo is valid; our own child, which is not reaped by this.
    let (rc, info) = unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        (
            libc::waitid(libc::P_PID, child.pid(), &mut info, flags),
            info,
        )
    };
    assert_eq!(rc, 0);
    info.si_code == libc::CLD_STOPPED
}

/// Removes the name, makes a later object of that name, and lets the stopped process continue.
fn name_is_used_while(name: &str, remover: Child) {
    match Queue::unlink(name) {
        Ok(()) | Err(Error::NotFound { .. } | Error::Busy { .. }) => {}
        Err(err) => panic!("{err}"),
    }
    let made = Queue::with_options(Some(name), &Options::create());
    if let Ok(later) = &made {
        later.put(b"later", NOWAIT).unwrap();
    }
    remover.signal(libc::SIGCONT);
    remover.ends_well();
    match made {
        Ok(later) => {
            fork(|| {
                assert_eq!(
                    Queue::open(name).unwrap().get_vec(NOWAIT).unwrap(),
                    b"later"
                )
            })
            .ends_well();
            assert!(later.is_empty());
        }
        Err(err) => assert!(matches!(err, Error::Busy { .. }), "{err}"),
    }
    let _ = Queue::unlink(name);
}

#[test]
fn a_process_that_is_stopped_while_it_removes_a_name_removes_no_later_object() {
    let removals: [(&str, Removal, u64); 6] = [
        ("left", leave, 3),
        ("unlinked", unlink, 1),
        ("unused", unlink_unused, 1),
        ("relayed", unlink_with_companions, 5),
        ("opened", open_dead, 1),
        ("collected", collect_dead, 1),
    ];
    own_process(|| {
        in_directory("stopped", |_| {
            // Side by side, since many of them wait for seconds.
            let mut cases = Vec::new();
            for (what, remove, least) in removals {
                for step in 1.. {
                    let name = format!("{what}-{step}");
                    let remover = fork(|| remove(&name, step));
                    if !stops(&remover) {
                        remover.ends_well();
                        assert!(step > least, "{what}: only {step} steps");
                        break;
                    }
                    cases.push((remover, name));
                }
            }
            std::thread::scope(|scope| {
                for (remover, name) in cases {
                    scope.spawn(move || name_is_used_while(&name, remover));
                }
            });
        });
    });
}
