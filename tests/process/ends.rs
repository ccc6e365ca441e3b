//! Joins, signals, and the ends of children.

use super::*;

#[test]
fn a_process_is_send_and_sync() {
    fn check<T: Send + Sync>() {}
    check::<Process>();
    check::<Spawn>();
}

#[test]
fn the_exit_tells_the_kind_and_the_code() {
    let _alone = alone();
    both_ways(|way| {
        for code in [0, 1, 77, 255] {
            let mut spawn = sh(&format!("exit {code}"));
            way(&mut spawn);
            let child = spawn.spawn().unwrap();
            assert_eq!(join(&child), exited(code));
            // Any number of times.
            assert_eq!(join(&child), exited(code));
            assert_eq!(child.try_join(), Ok(Some(exited(code))));
            assert_eq!(child.join(Timeout::Val(Duration::ZERO)), Ok(exited(code)));
        }
        let mut spawn = sh("kill -USR1 $$");
        way(&mut spawn);
        let exit = join(&spawn.spawn().unwrap());
        assert_eq!(exit, signaled(libc::SIGUSR1));
        assert!(!exit.success());
    });
}

#[test]
fn a_join_with_a_deadline_leaves_the_child_running() {
    let _alone = alone();
    let child = Spawn::new("sleep").arg("600").spawn().unwrap();
    assert_eq!(child.try_join(), Ok(None));
    assert_eq!(
        child.join(Timeout::Val(Duration::ZERO)),
        Err(Error::Timeout)
    );
    let brief = Timeout::Val(Duration::from_millis(20));
    assert_eq!(child.join(brief), Err(Error::Timeout));
    child.kill().unwrap();
    let long = Timeout::Val(Duration::MAX);
    assert_eq!(child.join(long), Ok(signaled(libc::SIGKILL)));
}

#[test]
fn several_threads_join_one_child() {
    let _alone = alone();
    let child = Spawn::new("sleep").arg("600").spawn().unwrap();
    std::thread::scope(|scope| {
        let waiters: Vec<_> = (0..4).map(|_| scope.spawn(|| join(&child))).collect();
        child.terminate().unwrap();
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), signaled(libc::SIGTERM));
        }
    });
}

#[test]
fn a_signal_handler_interrupts_a_join() {
    let _alone = alone();
    extern "C" fn handler(_: i32) {}
    // SAFETY: the handler does nothing; the action is initialised.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        libc::sigaction(libc::SIGUSR2, &action, std::ptr::null_mut());
    }
    let child = Spawn::new("sleep").arg("600").spawn().unwrap();
    // SAFETY: no conditions.
    let waiter = unsafe { libc::pthread_self() };
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Repeatedly, as the first may come before the wait.
            while !done.load(Ordering::Relaxed) {
                // SAFETY: the waiter outlives this scope.
                unsafe { libc::pthread_kill(waiter, libc::SIGUSR2) };
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        assert_eq!(child.join(Timeout::Infinite), Err(Error::Interrupted));
        done.store(true, Ordering::Relaxed);
    });
    child.kill().unwrap();
    while child.join(Timeout::Infinite) == Err(Error::Interrupted) {}
}

#[test]
fn signals_reach_the_child_and_no_process_after_it() {
    let _alone = alone();
    let child = sh("trap 'exit 9' TERM; echo ready; while :; do sleep 0.01; done")
        .stdout(Stdio::Pipe)
        .spawn()
        .unwrap();
    let mut ready = [0; 6];
    File::from(child.take_stdout().unwrap())
        .read_exact(&mut ready)
        .unwrap();
    child.terminate().unwrap();
    assert_eq!(join(&child), exited(9));
    // It has ended, which is no error.
    child.terminate().unwrap();
    child.kill().unwrap();
    child.signal(libc::SIGUSR1).unwrap();
    assert_eq!(join(&child), exited(9));

    let child = Spawn::new("sleep").arg("600").spawn().unwrap();
    child.signal(0).unwrap();
    assert!(matches!(child.signal(9999), Err(Error::Invalid { .. })));
    assert!(matches!(child.signal(-1), Err(Error::Invalid { .. })));
    child.kill().unwrap();
    assert_eq!(join(&child), signaled(libc::SIGKILL));
}

#[test]
fn the_descriptor_of_a_child_can_be_polled() {
    let _alone = alone();
    let child = sh("exit 4").spawn().unwrap();
    let mut poll = libc::pollfd {
        fd: child.pidfd().unwrap().as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    wait_readable(&mut poll);
    assert_eq!(child.try_join(), Ok(Some(exited(4))));
}

#[test]
fn a_group_is_signalled_as_one() {
    let _alone = alone();
    both_ways(|way| {
        for session in [false, true] {
            // The grandchild holds the pipe open for as long as it lives.
            let mut spawn = sh("sleep 600 & echo $!; wait");
            if session {
                spawn.new_session();
            } else {
                spawn.new_group();
            }
            way(spawn.stdout(Stdio::Pipe));
            let child = spawn.spawn().unwrap();
            let mut stdout = File::from(child.take_stdout().unwrap());
            let mut first = [0];
            stdout.read_exact(&mut first).unwrap();
            // SAFETY: integers only.
            let (group, sid) = unsafe { (libc::getpgid(child.pid()), libc::getsid(child.pid())) };
            assert_eq!(group, child.pid());
            assert_eq!(sid == child.pid(), session);

            child.signal_group(libc::SIGKILL).unwrap();
            assert_eq!(join(&child), signaled(libc::SIGKILL));
            let mut rest = String::new();
            stdout.read_to_string(&mut rest).unwrap();
            let late = child.signal_group(libc::SIGKILL).unwrap_err();
            assert!(late.to_string().contains("joined"), "{late}");
        }
    });
    let child = sh("true").spawn().unwrap();
    assert!(matches!(child.signal_group(9), Err(Error::Invalid { .. })));
    join(&child);
}

#[test]
fn a_dropped_child_runs_on_and_leaves_no_zombie() {
    let _alone = alone();
    let exists = |pid: i32| std::path::Path::new(&format!("/proc/{pid}")).exists();
    let (mut reader, writer) = pipe();
    let ended = sh("exit 0").spawn().unwrap();
    let running = sh("read line")
        .stdin(Stdio::Fd(reader.as_raw_fd()))
        .fd(writer.as_raw_fd(), 9)
        .spawn()
        .unwrap();
    let pids = [ended.pid(), running.pid()];
    std::mem::drop((ended, running));
    assert!(exists(pids[1]), "dropping does not kill");
    // It ends on request.
    (&writer).write_all(b"\n").unwrap();
    while pids.iter().any(|&pid| exists(pid)) {
        join(&Spawn::new("true").spawn().unwrap());
    }
    std::mem::drop(writer);
    assert_eq!(reader.read(&mut [0; 8]).unwrap(), 0);
}

/// Whether the kernel keeps the exit of a process for those that have its descriptor: since
/// Linux 6.15.
fn exits_are_kept() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut next = || numbers.next().unwrap().parse::<u32>().unwrap();
    (next(), next()) >= (6, 15)
}

/// What is seen of an exit that this process does not collect.
fn collected_by_others(exit: Exit) -> Exit {
    if exits_are_kept() {
        return exit;
    }
    Exit {
        kind: ExitKind::Unknown,
        code: -1,
    }
}

#[test]
fn an_exit_that_other_code_reaped_is_read_from_the_kernel() {
    let _alone = alone();
    let child = sh("exit 5").spawn().unwrap();
    let mut status = 0;
    // SAFETY: room for one status.
    let reaped = unsafe { libc::waitpid(child.pid(), &mut status, 0) };
    assert_eq!(reaped, child.pid());
    assert_eq!(join(&child), collected_by_others(exited(5)));
    child.kill().unwrap();
    assert_eq!(join(&child), collected_by_others(exited(5)));

    // A host that ignores SIGCHLD: the kernel reaps.
    let host = forked(&ForkOptions::default(), || {
        // SAFETY: integers only.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
        let killed = signaled(libc::SIGKILL);
        both_ways(|way| {
            for (script, exit) in [
                ("exit 5", exited(5)),
                ("sleep 0.05; exit 6", exited(6)),
                ("kill -9 $$", killed),
            ] {
                let mut spawn = sh(script);
                way(&mut spawn);
                let child = spawn.spawn().unwrap();
                assert_eq!(join(&child), collected_by_others(exit));
                assert_eq!(child.try_join(), Ok(Some(collected_by_others(exit))));
            }
            let err = Spawn::new("/no/such/program").spawn().unwrap_err();
            assert!(matches!(err, Error::NotFound { .. }));
        });
        let (mut hold, go) = pipe();
        let child = forked(&ForkOptions::default(), || {
            hold.read_exact(&mut [0]).unwrap();
            7
        });
        (&go).write_all(&[0]).unwrap();
        assert_eq!(join(&child), collected_by_others(exited(7)));
        0
    });
    assert_eq!(join(&host), exited(0));
}

fn wait_readable(poll: &mut libc::pollfd) {
    // SAFETY: one pollfd, whose descriptor its owner keeps open.
    while unsafe { libc::poll(poll, 1, -1) } != 1 {}
}

/// Whether a process that is no child of ours has ended, or ends while we watch.
fn ends(pid: i32) -> bool {
    // SAFETY: integers; a new descriptor or -1.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) } as RawFd;
    if fd < 0 {
        return true;
    }
    // SAFETY: made just above.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut poll = libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    wait_readable(&mut poll);
    true
}

#[test]
fn children_die_with_a_killed_parent() {
    let _alone = alone();
    let by_spawn = |mut tell: File| {
        let mut spawn = Spawn::new("sleep");
        let child = spawn.arg("600").die_with_parent().spawn().unwrap();
        tell.write_all(&child.pid().to_ne_bytes()).unwrap();
        std::thread::sleep(Duration::from_secs(600));
        0
    };
    let by_fork = |mut tell: File| {
        let options = ForkOptions {
            die_with_parent: true,
            ..Default::default()
        };
        let child = forked(&options, || {
            std::thread::sleep(Duration::from_secs(600));
            0
        });
        tell.write_all(&child.pid().to_ne_bytes()).unwrap();
        std::thread::sleep(Duration::from_secs(600));
        0
    };
    let ways: [&dyn Fn(File) -> i32; 2] = [&by_spawn, &by_fork];
    for way in ways {
        let (mut reader, writer) = pipe();
        let parent = forked(&ForkOptions::default(), || way(writer.try_clone().unwrap()));
        let mut pid = [0; 4];
        reader.read_exact(&mut pid).unwrap();
        parent.kill().unwrap();
        assert_eq!(join(&parent), signaled(libc::SIGKILL));
        assert!(ends(i32::from_ne_bytes(pid)));
    }
}

#[test]
fn a_child_outlives_the_thread_that_started_it() {
    let _alone = alone();
    let spawn = || Spawn::new("sleep").arg("600").die_with_parent().spawn();
    let child = std::thread::spawn(spawn).join().unwrap().unwrap();
    // The kernel has had time to reap it.
    let brief = Timeout::Val(Duration::from_millis(50));
    assert_eq!(child.join(brief), Err(Error::Timeout));
    child.kill().unwrap();
    assert_eq!(join(&child), signaled(libc::SIGKILL));
}
