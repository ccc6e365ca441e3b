//! The directory of leases: missing, read-only, with files of other users, owned by another user.

use std::fs::{self, Permissions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use shoal::device::lease::{Request, holders};
use shoal::{Error, ForkOptions};

use crate::common::{Bell, fork};
use crate::place::{Child, LONG, NOW, Place, until};

fn is_root() -> bool {
    // SAFETY: it only asks.
    unsafe { libc::geteuid() == 0 }
}

/// Becomes another user, in a child. It is a thread's only process.
pub(crate) fn become_user(uid: u32) {
    // SAFETY: integers, in a process with one thread.
    unsafe {
        assert_eq!(libc::setgroups(0, std::ptr::null()), 0);
        assert_eq!(libc::setgid(uid), 0);
        assert_eq!(libc::setuid(uid), 0);
    }
}

/// Runs `act` in a child that is another user; 0 is success.
fn as_user(uid: u32, act: impl FnOnce() -> i32) -> i32 {
    // SAFETY: the child uses the library and the allocator.
    let child = unsafe {
        shoal::fork(&ForkOptions::default(), || {
            become_user(uid);
            act()
        })
    };
    child.unwrap().join(LONG).unwrap().code
}

#[test]
fn it_is_created_writable_for_all_users() {
    let place = Place::new();
    assert!(holders(&place.machine("cuda:1")).unwrap().is_empty());
    assert!(!place.0.exists(), "to look creates nothing");
    // SAFETY: an integer. The other tests create files with modes that they set.
    let old = unsafe { libc::umask(0o077) };
    let lease = Request::new(1)
        .machine(place.machine("cuda:1"))
        .acquire(NOW);
    // SAFETY: as above.
    unsafe { libc::umask(old) };
    let _lease = lease.unwrap();
    assert_eq!(fs::metadata(&place.0).unwrap().mode() & 0o7777, 0o1777);
    let file = fs::read_dir(&place.0).unwrap().next().unwrap().unwrap();
    assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o644);
}

#[test]
fn a_request_that_must_not_wait_ends_though_a_process_is_stopped_with_the_directory() {
    let place = Place::new();
    let request = || Request::new(1).machine(place.machine("cuda:1"));
    drop(request().acquire(NOW).unwrap());
    let stopped = fs::File::open(&place.0).unwrap();
    // SAFETY: an open descriptor and an integer.
    let locked = unsafe { libc::flock(stopped.as_raw_fd(), libc::LOCK_EX) };
    assert_eq!(locked, 0);
    assert_eq!(request().acquire(NOW).map(drop), Err(Error::Timeout));
    drop(stopped);
    request().acquire(NOW).unwrap();
}

/// To write beyond such a limit ends a process. What people may read of a lease is shorter then.
#[test]
fn a_file_size_limit_refuses_no_lease() {
    let place = Place::alone();
    for allowed in [0, 1, 64, 200] {
        let (ready, go) = (Bell::new(), Bell::new());
        let worker = fork(|| {
            let limit = libc::rlimit {
                rlim_cur: allowed,
                rlim_max: allowed,
            };
            // SAFETY: limits this process, a child of the test.
            assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &limit) }, 0);
            let machine = place.machine("cuda:2");
            let lease = Request::new(1).machine(machine).acquire(NOW).unwrap();
            ready.ring();
            go.hear();
            drop(lease);
        });
        ready.hear();
        let seen = holders(&place.machine("cuda:2")).unwrap();
        assert_eq!(seen.len(), 1, "{seen:?}");
        go.ring();
        worker.ends_well();
    }
}

#[test]
fn an_impossible_directory_is_an_error_that_names_it() {
    let place = Place::new();
    let refused = |path: &Path| {
        let mut machine = place.machine("cuda:1");
        machine.leases = path.to_owned();
        let err = Request::new(1).machine(machine).acquire(NOW).unwrap_err();
        assert!(err.to_string().contains("SHOAL_LEASE_DIR"), "{err}");
        err
    };
    assert!(matches!(
        refused(Path::new("leases")),
        Error::Invalid { .. }
    ));
    let deep = place.0.join("a/b");
    let err = refused(&deep);
    assert!(matches!(err, Error::Unsupported { .. }), "{err}");
    fs::write(&place.0, "").unwrap();
    assert!(matches!(refused(&place.0), Error::Invalid { .. }));
    fs::remove_file(&place.0).unwrap();
    symlink("missing", &place.0).unwrap();
    let err = refused(&place.0);
    assert!(err.to_string().contains("link"), "{err}");
    fs::remove_file(&place.0).unwrap();
    fs::create_dir(&place.0).unwrap();
    fs::set_permissions(&place.0, Permissions::from_mode(0o777)).unwrap();
    let err = refused(&place.0);
    assert!(err.to_string().contains("sticky"), "{err}");
}

#[test]
fn an_unwritable_directory_of_another_user_is_an_error_that_names_the_user() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    fs::create_dir(&place.0).unwrap();
    fs::set_permissions(&place.0, Permissions::from_mode(0o755)).unwrap();
    let request = Request::new(1).machine(place.machine("cuda:1"));
    let code = as_user(4242, || match request.acquire(NOW) {
        Err(Error::Permission { why, .. }) if why.contains("user 0 and has mode 755") => 0,
        _ => 1,
    });
    assert_eq!(code, 0);
    // Reading is allowed.
    let machine = place.machine("cuda:1");
    assert_eq!(as_user(4242, || i32::from(holders(&machine).is_err())), 0);
    fs::set_permissions(&place.0, Permissions::from_mode(0o700)).unwrap();
    let code = as_user(4242, || match holders(&machine) {
        Err(Error::Permission { .. }) => 0,
        _ => 1,
    });
    assert_eq!(code, 0);
}

#[test]
fn a_read_only_file_system_is_an_error() {
    let mut machine = Place::new().machine("cuda:1");
    // Read-only for root as well.
    machine.leases = "/proc/shoal-leases".into();
    let err = Request::new(1).machine(machine).acquire(NOW).unwrap_err();
    let known = matches!(err, Error::Permission { .. } | Error::Unsupported { .. });
    assert!(known, "{err}");
}

#[test]
fn files_of_other_programs_are_no_leases_and_are_left_unchanged() {
    let place = Place::new();
    let machine = place.machine("cuda:1");
    drop(
        Request::new(1)
            .machine(machine.clone())
            .acquire(LONG)
            .unwrap(),
    );
    let valid = "claim-0000000000000007-0123456789ab";
    let names = [
        "claim-",
        "claim-7-0123456789ab",
        "claim-0000000000000007-",
        "claim-0000000000000007-0123456789AB",
        "claim-0000000000000007-0123456789ab.",
        "claim-+000000000000007-0123456789ab",
        "claim-ffffffffffffffff-0123456789ab.0123",
        "notes.txt",
        "-rf",
    ];
    for name in names {
        fs::write(place.0.join(name), "devices all\n").unwrap();
    }
    let of = |n: u8| {
        place
            .0
            .join(format!("claim-0000000000000008-0123456789{n:02x}"))
    };
    fs::create_dir(of(1)).unwrap();
    symlink("/dev/zero", of(2)).unwrap();
    symlink("/nowhere", of(3)).unwrap();
    let fifo = std::ffi::CString::new(of(4).to_str().unwrap()).unwrap();
    // SAFETY: a path that ends in NUL.
    unsafe { assert_eq!(libc::mkfifo(fifo.as_ptr(), 0o666), 0) };
    // A claim without locks is a dead one.
    fs::write(place.0.join(valid), vec![b'x'; 1 << 20]).unwrap();
    // A child that another test forks has the lease's descriptor for a moment.
    until("no holders", || holders(&machine).unwrap().is_empty());
    let lease = Request::new(1)
        .machine(machine.clone())
        .acquire(LONG)
        .unwrap();
    assert_eq!(holders(&machine).unwrap().len(), 1);
    drop(lease);
    assert!(!place.0.join(valid).exists());
    for name in names {
        assert!(place.0.join(name).exists(), "{name}");
    }
    assert!(of(1).exists() && of(2).is_symlink() && of(3).is_symlink());
}

#[test]
fn a_reader_cannot_make_a_dead_claim_look_alive() {
    let place = Place::new();
    let machine = place.machine("cuda:1");
    let request = Request::new(1).machine(machine.clone());
    let mut child = Child::leasing(&request);
    child.said();
    let entry = fs::read_dir(&place.0).unwrap().next().unwrap().unwrap();
    // Everything that another user can do with a file of mode 644.
    let file = fs::File::open(entry.path()).unwrap();
    child.kill();
    // SAFETY: a descriptor that is open, and a request that is valid: a shared lock on all bytes.
    unsafe {
        let mut lock: libc::flock = std::mem::zeroed();
        lock.l_type = libc::F_RDLCK as i16;
        let locked = libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &lock);
        assert_eq!(locked, 0);
        assert_eq!(libc::flock(file.as_raw_fd(), libc::LOCK_EX), 0);
    }
    assert!(holders(&machine).unwrap().is_empty());
    assert!(request.acquire(LONG).is_ok());
}

#[test]
fn a_directory_that_is_removed_while_processes_wait_is_created_again() {
    let place = Place::new();
    let machine = place.machine("cuda:1");
    let request = Request::new(1).machine(machine.clone());
    let lease = request.acquire(LONG).unwrap();
    fs::remove_dir_all(&place.0).unwrap();
    // A removed file is forgotten, as the documentation says.
    let other = request.acquire(LONG).unwrap();
    drop((lease, other));
    request.acquire(LONG).unwrap();
}

#[test]
fn users_see_and_respect_each_other() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let machine = place.machine("cuda:2");
    let one = Request::new(1).machine(machine.clone());
    let mut child = Child::new(&ForkOptions::default(), || {
        become_user(4242);
        std::mem::forget(one.clone().command("train").acquire(LONG).unwrap());
        1
    });
    child.said();
    // The other user's directory, and its file, which root's processes did not create.
    assert_eq!(fs::metadata(&place.0).unwrap().uid(), 4242);
    let code = as_user(4343, || {
        let lease = one.acquire(LONG).unwrap();
        let holders = holders(&machine).unwrap();
        let uids: Vec<u32> = holders.iter().map(|it| it.uid).collect();
        let denied = one.acquire(NOW).is_err_and(|err| err == Error::Timeout);
        drop(lease);
        i32::from(!(uids == [4242, 4343] && denied && holders[0].command == "train"))
    });
    assert_eq!(code, 0);
    child.kill();
    // Another user's dead claim cannot be removed, and is none.
    let code = as_user(4343, || {
        let both = Request::new(2).machine(machine.clone()).acquire(NOW);
        i32::from(both.is_err())
    });
    assert_eq!(code, 0);
}
