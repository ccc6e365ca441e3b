//! What happens to a lease when a process that holds it is killed, executes a program, forks, loses its parent or is
//! stopped; and when the mask or the machine changes.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;

use shoal::device::EnvEdit;
use shoal::device::lease::{HolderState, Mode, Request, holders};
use shoal::{Error, ForkOptions, LeasePart, Spawn, Timeout};

use crate::place::{Child, LONG, NOW, Place, held, numbers, until, waiting};

#[test]
fn a_killed_holder_frees_its_devices() {
    let place = Place::new();
    let machine = place.machine("cuda:2");
    let both = Request::new(2).machine(machine.clone());
    let mut child = Child::leasing(&both);
    assert_eq!(child.said(), 2);
    assert_eq!(both.acquire(NOW).unwrap_err(), Error::Timeout);
    let waiter = both.queue().unwrap();
    child.kill();
    // It is woken by the death.
    drop(waiter.wait(LONG).unwrap());
    // The dead claim's file was removed on the way.
    until("no file is left", || {
        drop(both.acquire(LONG).unwrap());
        std::fs::read_dir(&place.0).unwrap().count() == 0
    });
}

#[test]
fn a_forked_child_that_was_not_given_the_lease_does_not_have_it() {
    let place = Place::new();
    let machine = place.machine("cuda:1");
    let request = Request::new(1).machine(machine.clone());
    let lease = request.acquire(LONG).unwrap();
    let mut child = Child::new(&ForkOptions::default(), || {
        u8::from(lease.is_held()) + u8::from(lease.fd().is_ok())
    });
    assert_eq!(child.said(), 0);
    lease.release();
    // The child lives.
    let again = request.acquire(LONG).unwrap();
    assert_eq!(numbers(&again), [0]);
}

#[test]
fn a_forked_child_that_was_given_the_lease_keeps_it_and_passes_it_on_no_further() {
    let place = Place::alone();
    let machine = place.machine("cuda:1");
    let request = Request::new(1).machine(machine.clone());
    let lease = request.acquire(LONG).unwrap();
    let options = ForkOptions {
        leases: vec![LeasePart {
            lease: lease.clone(),
            mode: Mode::Exclusive,
            worker: 0,
            workers: 1,
        }],
        ..Default::default()
    };
    let mut child = Child::new(&options, || {
        let masked = std::env::var("CUDA_VISIBLE_DEVICES").as_deref() == Ok("0");
        let mut grandchild = Child::new(&ForkOptions::default(), || u8::from(lease.is_held()));
        let inherited = grandchild.said();
        u8::from(lease.is_held()) + 2 * u8::from(masked) + 4 * inherited
    });
    assert_eq!(child.said(), 3);
    drop(options);
    lease.release();
    assert!(!lease.is_held());
    // A release unlocks nothing of the child's lease.
    assert_eq!(request.acquire(NOW).unwrap_err(), Error::Timeout);
    let waiter = request.queue().unwrap();
    child.kill();
    waiter.wait(LONG).unwrap();
}

#[test]
fn a_holder_that_executes_a_program_keeps_the_lease_only_on_request() {
    for keep in [false, true] {
        let place = Place::new();
        let machine = place.machine("cuda:1");
        let request = Request::new(1).machine(machine.clone());
        let (reader, mut writer) = crate::place::pipe();
        // SAFETY: the child uses the library, the allocator and `exec`.
        let child = unsafe {
            shoal::fork(&ForkOptions::default(), || {
                let lease = request.acquire(LONG).unwrap();
                lease.keep_on_exec(keep).unwrap();
                writer.write_all(b".").unwrap();
                let argv = [c"sleep".as_ptr(), c"600".as_ptr(), std::ptr::null()];
                libc::execvp(argv[0], argv.as_ptr());
                1
            })
        };
        let child = child.unwrap();
        drop(writer);
        // The end of the pipe: the program runs, since its ends are close-on-exec.
        let all = std::io::read_to_string(reader).unwrap();
        assert_eq!(all, ".");
        match keep {
            true => assert_eq!(request.acquire(NOW).unwrap_err(), Error::Timeout),
            false => drop(request.acquire(LONG).unwrap()),
        }
        child.signal(libc::SIGKILL).unwrap();
        child.join(LONG).unwrap();
        request.acquire(LONG).unwrap();
    }
}

#[test]
fn an_orphan_keeps_its_lease_and_so_does_its_own_child() {
    let place = Place::new();
    let machine = place.machine("cuda:2");
    let request = Request::new(2).machine(machine.clone());
    let mut parent = Child::new(&ForkOptions::default(), || {
        let lease = request.acquire(LONG).unwrap();
        // A shell, which passes its descriptors on to what it starts, and ends.
        let shell = Spawn::new("sh")
            .args(["-c", "sleep 600 & echo $! > \"$0\""])
            .arg(place.0.with_extension("pid"))
            .lease(&lease, Mode::Exclusive, 0, 1)
            .spawn()
            .unwrap();
        shell.join(LONG).unwrap();
        std::mem::forget(lease);
        1
    });
    assert_eq!(parent.said(), 1);
    parent.kill();
    let pid = std::fs::read_to_string(place.0.with_extension("pid")).unwrap();
    assert_eq!(request.acquire(NOW).unwrap_err(), Error::Timeout);
    let of = held(&machine);
    assert_eq!((of.len(), of[0].devices.len()), (1, 2));
    let waiter = request.queue().unwrap();
    // SAFETY: integers; the process is a descendant of this test's.
    unsafe { libc::kill(pid.trim().parse().unwrap(), libc::SIGKILL) };
    waiter.wait(LONG).unwrap();
    std::fs::remove_file(place.0.with_extension("pid")).unwrap();
}

fn is_stopped(child: &Child) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.process.pid())).unwrap();
    stat.contains(") T ")
}

#[test]
fn a_stopped_holder_keeps_its_lease_and_a_stopped_waiter_its_position() {
    let place = Place::new();
    let machine = place.machine("cuda:1");
    let request = Request::new(1).machine(machine.clone());
    let mut holder = Child::leasing(&request);
    holder.said();
    holder.process.signal(libc::SIGSTOP).unwrap();
    assert_eq!(request.acquire(NOW).unwrap_err(), Error::Timeout);
    let mut first = Child::leasing(&request);
    until("the first waits", || waiting(&machine).len() == 1);
    // Not while it has the lock of the directory, in which others would wait for it.
    until("it is stopped in its sleep", || {
        first.process.signal(libc::SIGSTOP).unwrap();
        until("it is stopped", || is_stopped(&first));
        let directory = File::open(&place.0).unwrap();
        // SAFETY: a descriptor that is open.
        let free = unsafe {
            let free = libc::flock(directory.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) == 0;
            libc::flock(directory.as_raw_fd(), libc::LOCK_UN);
            free
        };
        if !free {
            first.process.signal(libc::SIGCONT).unwrap();
        }
        free
    });
    let second = request.queue().unwrap();
    holder.kill();
    let soon = Timeout::Val(std::time::Duration::from_millis(50));
    assert_eq!(second.wait(soon).unwrap_err(), Error::Timeout);
    first.process.signal(libc::SIGCONT).unwrap();
    assert_eq!(first.said(), 1);
    first.kill();
    second.wait(LONG).unwrap();
}

#[test]
fn dead_waiters_are_skipped() {
    let place = Place::new();
    let machine = place.machine("cuda:1");
    let request = Request::new(1).machine(machine.clone());
    let lease = request.acquire(LONG).unwrap();
    let mut children = Vec::new();
    for number in 1..=3 {
        children.push(Child::leasing(&request));
        until("it waits", || waiting(&machine).len() == number);
    }
    let own = request.queue().unwrap();
    children[0].kill();
    children[2].kill();
    drop(lease);
    assert_eq!(children[1].said(), 1);
    assert_eq!(own.wait(NOW).unwrap_err(), Error::Timeout);
    children[1].kill();
    own.wait(LONG).unwrap();
}

#[test]
fn a_cancelled_wait_ends_and_its_ticket_leaves_the_queue() {
    let place = Place::new();
    let machine = place.machine("cuda:1");
    let request = Request::new(1).machine(machine.clone());
    let lease = request.acquire(LONG).unwrap();
    let ticket = request.queue().unwrap();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| ticket.wait(Timeout::Infinite).unwrap_err());
        until("it waits", || waiting(&machine).len() == 1);
        ticket.cancel();
        assert_eq!(waiter.join().unwrap(), Error::Detached);
    });
    drop(ticket);
    drop(lease);
    request.acquire(LONG).unwrap();
}

#[test]
fn requests_for_other_devices_do_not_wait_for_each_other() {
    let place = Place::new();
    let cuda = Request::new(1)
        .family("cuda")
        .machine(place.machine("cuda:1,rocm:1"));
    let rocm = Request::new(1)
        .family("rocm")
        .machine(place.machine("cuda:1,rocm:1"));
    let lease = cuda.acquire(LONG).unwrap();
    let waiter = cuda.queue().unwrap();
    drop(rocm.acquire(LONG).unwrap());
    drop(lease);
    waiter.wait(LONG).unwrap();
}

#[test]
fn a_device_that_has_disappeared_is_reported() {
    let place = Place::new();
    let two = place.machine("cuda:2");
    let request = Request::new(2).machine(two.clone());
    let lease = request.acquire(LONG).unwrap();
    let ids: Vec<_> = lease
        .devices()
        .iter()
        .map(|it| it.found.id.clone())
        .collect();
    // The holder names both, and the machine has one.
    let one = place.machine("cuda:1");
    let devices = &holders(&one).unwrap()[0].devices;
    let named: Vec<_> = devices.iter().map(|(id, _)| id.clone()).collect();
    assert_eq!(named, ids);
    let err = Request::new(2)
        .machine(one.clone())
        .acquire(Timeout::Infinite);
    assert!(matches!(err, Err(Error::TooMany { limit: 1, .. })));
    let err = Request::new(1).order([&*ids[1]]).machine(one).acquire(NOW);
    let err = err.unwrap_err();
    assert!(err.to_string().contains(&ids[1]), "{err}");
}

#[test]
fn a_lease_names_its_own_devices_under_another_mask_or_the_hidden_one() {
    let place = Place::alone();
    let machine = place.machine("cuda:4");
    let lease = Request::new(2).order(["1", "3"]).machine(machine.clone());
    let lease = lease.acquire(LONG).unwrap();
    let under = |mask: &str, expected: Result<[&str; 3], &str>| {
        let mut child = Child::new(&ForkOptions::default(), || {
            // SAFETY: the only thread of a forked child.
            unsafe { std::env::set_var("CUDA_VISIBLE_DEVICES", mask) };
            let set = |mode, name: &str| -> shoal::Result<String> {
                let edits = lease.environment(mode, 1, 2)?;
                let value = edits.into_iter().find_map(|edit| match edit {
                    EnvEdit::Set(its, value) if its == name => Some(value),
                    _ => None,
                });
                Ok(value.unwrap())
            };
            let told = set(Mode::Exclusive, "CUDA_VISIBLE_DEVICES").and_then(|exclusive| {
                let rotated = set(Mode::Rotate, "CUDA_VISIBLE_DEVICES")?;
                Ok([
                    exclusive,
                    rotated,
                    set(Mode::IndexOnly, "SHOAL_DEVICE_INDEX")?,
                ])
            });
            u8::from(match (&told, expected) {
                (Ok(told), Ok(expected)) => *told == expected,
                (Err(why), Err(hidden)) => {
                    let id = format!("{:?}", lease.mask());
                    id.contains("GPU-") && why.to_string().contains(hidden)
                }
                _ => false,
            })
        });
        assert_eq!(child.said(), 1, "under {mask:?}");
    };
    // Its numbers 1 and 3 at the time of the lease may now be devices of another program.
    under("3,2,1,0", Ok(["3", "3,1", "0"]));
    under("0,1,3", Ok(["3", "3,1", "2"]));
    let hidden = |number: usize| lease.devices()[number].found.id.clone();
    under("1,2", Err(&hidden(1)));
    under("0,2", Err(&hidden(0)));
    under("", Err(&hidden(0)));
}

#[test]
fn what_a_holder_writes_is_shown_without_control_characters_and_not_trusted() {
    let place = Place::new();
    let machine = place.machine("cuda:2");
    let request = Request::new(1).machine(machine.clone());
    let lease = request
        .clone()
        .command("evil\x1b[31m\ndevices GPU-0")
        .acquire(LONG)
        .unwrap();
    let holder = held(&machine).remove(0);
    assert_eq!(holder.command, "evil [31m devices GPU-0");
    assert_eq!(holder.pid, Some(std::process::id()));
    assert_eq!(holder.state, HolderState::Held);
    // Another content of the file does not change the lease.
    let file = std::fs::read_dir(&place.0)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    std::fs::write(
        &file,
        "devices GPU-ffff,GPU-\x07\npid x\ncommand \x1b]0;\n\0\u{9b}",
    )
    .unwrap();
    let holder = held(&machine).remove(0);
    assert_eq!(holder.devices, [(lease.devices()[0].found.id.clone(), 1.0)]);
    assert_eq!(holder.pid, None);
    assert!(!holder.command.contains(char::is_control));
    let other = request.acquire(LONG).unwrap();
    assert_eq!(numbers(&other), [1]);
}

#[test]
fn a_thread_that_forks_while_others_lease_leaves_no_lease_to_its_children() {
    let place = Place::new();
    let machine = place.machine("cuda:1");
    let request = Request::new(1).machine(machine.clone());
    std::thread::scope(|scope| {
        let lessee = scope.spawn(|| {
            for _ in 0..200 {
                drop(request.acquire(LONG).unwrap());
            }
        });
        let mut children = Vec::new();
        while !lessee.is_finished() && children.len() < 40 {
            children.push(Child::new(&ForkOptions::default(), || 1));
        }
        lessee.join().unwrap();
        // All of them live, and none has the lease.
        drop(request.acquire(LONG).unwrap());
    });
}

#[test]
fn a_forked_child_does_not_have_its_parents_position_while_a_thread_waits() {
    let place = Place::alone();
    let machine = place.machine("cuda:1");
    let request = Request::new(1).machine(machine.clone());
    let lease = request.acquire(LONG).unwrap();
    let ticket = request.queue().unwrap();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| ticket.wait(LONG).map(drop));
        // A child that is forked too early is refused as well.
        std::thread::sleep(std::time::Duration::from_millis(30));
        let mut child = Child::new(&ForkOptions::default(), || {
            u8::from(matches!(ticket.wait(LONG), Err(Error::Invalid { .. })))
        });
        assert_eq!(child.said(), 1);
        lease.release();
        waiter.join().unwrap().unwrap();
    });
}

#[test]
fn each_thread_passes_a_lease_on_by_itself() {
    let place = Place::alone();
    let machine = place.machine("cuda:1");
    let request = Request::new(1).machine(machine.clone());
    let lease = request.acquire(LONG).unwrap();
    let fork = || Child::new(&ForkOptions::default(), || u8::from(lease.is_held())).said();
    let both = std::sync::Barrier::new(2);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            both.wait();
            lease.pass_to_forks(|| {
                both.wait();
                let passed = fork();
                both.wait();
                passed
            })
        });
        lease.pass_to_forks(|| {
            both.wait();
            both.wait();
            assert_eq!(fork(), 1, "though the other thread passes it on");
            both.wait();
            assert_eq!(other.join().unwrap(), 1);
            assert_eq!(fork(), 1, "though the other thread has stopped that");
            assert_eq!(scope.spawn(fork).join().unwrap(), 0);
        });
    });
    assert_eq!(fork(), 0);
}
