//! Workers are started, restarted, signalled and stopped as their description says.

use std::time::Instant;

use shoal::process::{Output, WorkerState};
use shoal::{EventKind, Outcome, Restart, Supervisor, Workers};

use super::*;

/// Workers that run a shell script, with their streams as they are.
fn workers(script: &str, count: usize) -> Workers {
    let mut workers = Workers::new(&sh(script), count);
    workers.output(Output::Plain);
    workers
}

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn wait(supervisor: &Supervisor) -> Outcome {
    supervisor.wait(Timeout::Infinite).unwrap()
}

/// Events until one of this kind, which is returned as well.
fn events_until(supervisor: &Supervisor, kind: EventKind) -> Vec<shoal::process::Event> {
    let mut seen = Vec::new();
    loop {
        let event = supervisor.next_event(Timeout::Infinite).unwrap();
        let event = event.unwrap_or_else(|| panic!("no {kind:?} in {seen:?}"));
        seen.push(event);
        if seen.last().unwrap().kind == kind {
            return seen;
        }
    }
}

fn count_of(supervisor: &Supervisor, kind: EventKind) -> usize {
    let mut count = 0;
    while let Some(event) = supervisor.next_event(Timeout::Infinite).unwrap() {
        count += usize::from(event.kind == kind);
    }
    count
}

#[test]
fn a_supervisor_is_send_and_sync() {
    fn check<T: Send + Sync>() {}
    check::<Supervisor>();
    check::<Workers>();
}

#[test]
fn each_worker_has_its_number_and_its_devices() {
    let _alone = alone();
    let (mut reader, writer) = pipe();
    let mut spawn = sh("echo $SHOAL_WORKER/$SHOAL_WORKERS/$SHOAL_WORKER_RESTARTS \
                        $CUDA_VISIBLE_DEVICES $(readlink /proc/self/fd/0) >&7");
    spawn
        .env("CUDA_VISIBLE_DEVICES", "4,5,6,7")
        .fd(writer.as_raw_fd(), 7);
    let supervisor = Workers::new(&spawn, 3)
        .devices("cuda", "0-3")
        .start()
        .unwrap();
    // The supervisor has its own.
    std::mem::drop(writer);
    assert_eq!(wait(&supervisor), Outcome::Succeeded);
    std::mem::drop(supervisor);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    let expected = [
        "0/3/0 4 /dev/null",
        "1/3/0 5 /dev/null",
        "2/3/0 6,7 /dev/null",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn workers_can_run_different_programs() {
    let _alone = alone();
    let mut workers = Workers::of(vec![sh("exit 0"), sh("exit 3")]);
    let supervisor = workers.keep_going().start().unwrap();
    let failed = Outcome::Failed {
        worker: 1,
        exit: exited(3),
    };
    assert_eq!(wait(&supervisor), failed);
    // Any number of times.
    assert_eq!(wait(&supervisor), failed);
    let all = supervisor.workers().unwrap();
    assert_eq!(
        (all[0].state, all[0].exit),
        (WorkerState::Ended, Some(exited(0)))
    );
    assert_eq!(
        (all[1].state, all[1].exit),
        (WorkerState::Failed, Some(exited(3)))
    );
}

#[test]
fn the_first_failure_stops_the_others_unless_they_are_to_continue() {
    let _alone = alone();
    let script =
        "test $SHOAL_WORKER = 1 && exit 7; trap 'exit 0' TERM; while :; do sleep 0.01; done";
    let supervisor = workers(script, 3).start().unwrap();
    assert_eq!(
        wait(&supervisor),
        Outcome::Failed {
            worker: 1,
            exit: exited(7)
        }
    );

    let script = "test $SHOAL_WORKER = 1 && exit 7; sleep 0.2; exit 0";
    let supervisor = workers(script, 3).keep_going().start().unwrap();
    assert_eq!(
        wait(&supervisor),
        Outcome::Failed {
            worker: 1,
            exit: exited(7)
        }
    );
    let all = supervisor.workers().unwrap();
    assert_eq!(all[2].exit, Some(exited(0)), "it was not stopped");
}

#[test]
fn a_failed_worker_is_restarted_until_it_succeeds() {
    let _alone = alone();
    let supervisor = workers("test $SHOAL_WORKER_RESTARTS = 3", 2)
        .restart(Restart::OnFailure)
        .backoff(millis(1), millis(5))
        .start()
        .unwrap();
    assert_eq!(wait(&supervisor), Outcome::Succeeded);
    for worker in supervisor.workers().unwrap() {
        assert_eq!((worker.state, worker.restarts), (WorkerState::Ended, 3));
    }
    assert_eq!(count_of(&supervisor, EventKind::Started), 8);
}

#[test]
fn a_crash_loop_ends_and_is_reported() {
    let _alone = alone();
    for (script, exit) in [
        ("kill -SEGV $$", signaled(libc::SIGSEGV)),
        ("exit 4", exited(4)),
    ] {
        let supervisor = workers(script, 1)
            .restart(Restart::Always)
            .max_restarts(5)
            .backoff(millis(1), millis(2))
            .start()
            .unwrap();
        assert_eq!(wait(&supervisor), Outcome::Failed { worker: 0, exit });
        let events = events_until(&supervisor, EventKind::GaveUp);
        let runs = events
            .iter()
            .filter(|it| it.kind == EventKind::Started)
            .count();
        assert_eq!(runs, 6);
        let text = events.last().unwrap().to_string();
        assert!(
            text.contains("crash loop") && text.contains("restarted 5 times"),
            "{text}"
        );
    }
}

#[test]
fn a_worker_that_is_always_restarted_runs_until_it_is_stopped() {
    let _alone = alone();
    let supervisor = workers("exit 0", 2)
        .restart(Restart::Always)
        .max_restarts(u32::MAX)
        .backoff(millis(1), millis(1))
        .start()
        .unwrap();
    while supervisor
        .workers()
        .unwrap()
        .iter()
        .any(|it| it.restarts < 20)
    {
        std::thread::sleep(millis(5));
    }
    supervisor.stop(Timeout::Infinite).unwrap();
    assert_eq!(wait(&supervisor), Outcome::Stopped);
}

#[test]
fn a_program_that_cannot_run_is_an_error_of_the_start_that_names_it() {
    let _alone = alone();
    let refused = |spawn: &Spawn| {
        let mut workers = Workers::new(spawn, 3);
        workers.restart(Restart::Always);
        workers.start().unwrap_err()
    };
    let err = refused(&Spawn::new("no-such-program"));
    assert!(matches!(err, Error::NotFound { .. }), "{err}");
    assert!(err.to_string().contains("no-such-program"), "{err}");
    let err = refused(&Spawn::new("/etc/passwd"));
    assert!(
        matches!(err, Error::Permission { .. }) && err.to_string().contains("passwd"),
        "{err}"
    );

    // The last program is missing: those before it have ended when the error is returned.
    let (mut reader, writer) = pipe();
    let mut long = Spawn::new("sleep");
    long.arg("600").fd(writer.as_raw_fd(), 5);
    let err = Workers::of(vec![long.clone(), long, Spawn::new("/no/such")]).start();
    assert!(matches!(err, Err(Error::NotFound { .. })));
    std::mem::drop(writer);
    assert_eq!(reader.read(&mut [0]).unwrap(), 0);
}

#[test]
fn invalid_options_of_workers_are_refused_with_the_reason() {
    let _alone = alone();
    let start = |workers: &mut Workers| workers.start().unwrap_err();
    let none = start(&mut workers("true", 0));
    assert!(matches!(none, Error::Invalid { .. }) && none.to_string().contains("at least one"));
    for count in [4097, usize::MAX] {
        let many = start(&mut workers("true", count));
        let said = format!("number of workers of {count} is above the limit of 4096");
        assert_eq!(many.to_string(), said);
    }
    let mask = start(workers("true", 2).devices("cuda", "0,0"));
    assert!(matches!(mask, Error::Invalid { .. }), "{mask}");
    let family = start(workers("true", 2).devices("abacus", "0"));
    assert!(family.to_string().contains("abacus"), "{family}");
    let piped = start(&mut Workers::new(sh("true").stdout(Stdio::Pipe), 1));
    assert!(piped.to_string().contains("pipe"), "{piped}");
    let closed = start(&mut Workers::new(sh("true").fd(999, 5), 1));
    assert!(closed.to_string().contains("999"), "{closed}");

    let supervisor = workers("sleep 600", 2).start().unwrap();
    for signal in [0, -1, 65, i32::MAX] {
        let err = supervisor.signal(signal).unwrap_err();
        assert!(err.to_string().contains(&signal.to_string()), "{err}");
        assert!(supervisor.begin_stop(signal, Timeout::Infinite).is_err());
    }
    let err = supervisor.signal_worker(2, libc::SIGTERM).unwrap_err();
    assert!(err.to_string().contains("no worker 2"), "{err}");
}

#[test]
fn signals_reach_a_workers_whole_group_or_one_worker() {
    let _alone = alone();
    // The child of the shell is in its group: each of the two says what it got.
    let says = |name: &str, then: &str| {
        format!(
            "trap 'echo {name} >&7; {then}exit 0' USR1; echo ready >&7; while :; do sleep 0.01; done"
        )
    };
    let inner = says("inner", "").replace('\'', "\"");
    let script = format!("sh -c '{inner}' 2>&- & {}", says("outer", "wait; "));
    let (reader, writer) = pipe();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(reader));
    let mut next = |count: usize| {
        let mut seen: Vec<_> = lines.by_ref().take(count).map(|it| it.unwrap()).collect();
        seen.sort_unstable();
        seen
    };
    let mut spawn = sh(&script);
    spawn.stderr(Stdio::Null);
    let supervisor = Workers::new(spawn.fd(writer.as_raw_fd(), 7), 2)
        .start()
        .unwrap();
    assert_eq!(next(4), ["ready"; 4]);
    supervisor.signal_worker(1, libc::SIGUSR1).unwrap();
    assert_eq!(next(2), ["inner", "outer"]);
    while supervisor.workers().unwrap()[1].state != WorkerState::Ended {
        std::thread::sleep(millis(1));
    }
    assert_eq!(supervisor.workers().unwrap()[0].state, WorkerState::Running);
    supervisor.signal(libc::SIGUSR1).unwrap();
    assert_eq!(next(2), ["inner", "outer"]);
    assert_eq!(wait(&supervisor), Outcome::Succeeded);
    // No process is left to be signalled, which is no error.
    supervisor.signal(libc::SIGKILL).unwrap();
}

#[test]
fn a_worker_that_ignores_the_request_to_end_is_killed() {
    let _alone = alone();
    let (mut reader, writer) = pipe();
    let mut spawn = sh("trap '' TERM; echo >&7; while :; do sleep 600; done");
    let supervisor = Workers::new(spawn.fd(writer.as_raw_fd(), 7), 1)
        .start()
        .unwrap();
    reader.read_exact(&mut [0]).unwrap();
    supervisor.stop(Timeout::Val(millis(100))).unwrap();
    let exit = supervisor.workers().unwrap()[0].exit;
    assert_eq!(exit, Some(signaled(libc::SIGKILL)));
    let events = events_until(&supervisor, EventKind::Killing);
    assert!(events.iter().any(|it| it.kind == EventKind::Stopping));
}

#[test]
fn a_worker_that_is_stopped_by_a_signal_is_ended_too() {
    let _alone = alone();
    for grace in [Timeout::Infinite, Timeout::Val(Duration::ZERO)] {
        let supervisor = workers("exec sleep 600", 2).start().unwrap();
        supervisor.signal(libc::SIGSTOP).unwrap();
        for worker in supervisor.workers().unwrap() {
            while !std::fs::read_to_string(format!("/proc/{}/stat", worker.pid))
                .unwrap()
                .contains(") T ")
            {
                std::thread::sleep(millis(1));
            }
        }
        supervisor.stop(grace).unwrap();
    }
}

#[test]
fn a_second_stop_can_only_bring_the_end_forward() {
    let _alone = alone();
    let (mut reader, writer) = pipe();
    let mut spawn = sh("trap '' TERM; echo >&7; sleep 600");
    let supervisor = Workers::new(spawn.fd(writer.as_raw_fd(), 7), 2)
        .start()
        .unwrap();
    // Before its trap is set, a worker ends by the signal.
    reader.read_exact(&mut [0; 2]).unwrap();
    supervisor
        .begin_stop(libc::SIGTERM, Timeout::Infinite)
        .unwrap();
    let brief = Timeout::Val(millis(50));
    assert_eq!(supervisor.wait(brief), Err(Error::Timeout));
    supervisor
        .begin_stop(libc::SIGTERM, Timeout::Val(Duration::ZERO))
        .unwrap();
    supervisor
        .begin_stop(libc::SIGTERM, Timeout::Infinite)
        .unwrap();
    assert_eq!(wait(&supervisor), Outcome::Stopped);
}

#[test]
fn no_descendant_of_a_worker_is_left_at_the_end() {
    let _alone = alone();
    // In its group, in its own session, and without its parent.
    let script = "sleep 600 & setsid sleep 600 & (setsid sleep 600 &); echo >&7; ";
    for (rest, ends) in [("sleep 600", false), ("exit 0", true)] {
        let (mut reader, writer) = pipe();
        let mut spawn = sh(&format!("{script}{rest}"));
        let supervisor = Workers::new(spawn.fd(writer.as_raw_fd(), 7), 2)
            .start()
            .unwrap();
        std::mem::drop(writer);
        reader.read_exact(&mut [0; 2]).unwrap();
        if ends {
            assert_eq!(wait(&supervisor), Outcome::Succeeded);
        } else {
            supervisor.stop(Timeout::Val(millis(500))).unwrap();
        }
        assert_eq!(reader.read(&mut [0]).unwrap(), 0);
    }
}

#[test]
fn dropping_the_supervisor_ends_the_workers() {
    let _alone = alone();
    let (mut reader, writer) = pipe();
    let mut spawn = sh("trap 'sleep 0.1; echo ended >&7; exit' TERM; echo >&7; \
                        while :; do sleep 0.01; done");
    let supervisor = Workers::new(spawn.fd(writer.as_raw_fd(), 7), 1)
        .start()
        .unwrap();
    std::mem::drop(writer);
    reader.read_exact(&mut [0]).unwrap();
    std::mem::drop(supervisor);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "ended\n", "it had time to end by itself");
}

#[test]
fn end_waits_ends_waits_and_the_workers_continue() {
    let _alone = alone();
    let supervisor = workers("sleep 600", 1).start().unwrap();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| supervisor.wait(Timeout::Infinite));
        supervisor.end_waits();
        assert_eq!(waiter.join().unwrap(), Err(Error::Detached));
    });
    assert_eq!(supervisor.workers().unwrap()[0].state, WorkerState::Running);
}

#[test]
fn a_forked_child_of_the_program_cannot_affect_the_workers() {
    let _alone = alone();
    let supervisor = workers("sleep 600", 1).start().unwrap();
    let copy = forked(&ForkOptions::default(), || {
        let invalid = |err| matches!(err, Err(Error::Invalid { .. }));
        let refused = invalid(supervisor.signal(libc::SIGKILL))
            && invalid(supervisor.stop(Timeout::Infinite))
            && supervisor.wait(Timeout::Infinite).is_err()
            && supervisor.workers().is_err();
        i32::from(!refused)
    });
    assert_eq!(join(&copy), exited(0));
    assert_eq!(supervisor.workers().unwrap()[0].state, WorkerState::Running);
}

#[test]
fn the_programs_own_wait_for_any_child_sees_no_worker() {
    let _alone = alone();
    let supervisor = workers("exit 0", 4)
        .restart(Restart::Always)
        .backoff(millis(1), millis(1))
        .max_restarts(u32::MAX)
        .start()
        .unwrap();
    for _ in 0..20 {
        // SAFETY: a null pointer is not written to.
        let waited = unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) };
        assert_eq!(
            (waited, std::io::Error::last_os_error().raw_os_error()),
            (-1, Some(libc::ECHILD))
        );
        std::thread::sleep(millis(2));
    }
    std::mem::drop(supervisor);
}

#[test]
fn a_program_that_ignores_sigchld_still_learns_of_exits() {
    let _alone = alone();
    let host = forked(&ForkOptions::default(), || {
        // SAFETY: integers only.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
        let supervisor = workers("exit 9", 1).start().unwrap();
        assert_eq!(
            wait(&supervisor),
            Outcome::Failed {
                worker: 0,
                exit: exited(9)
            }
        );
        0
    });
    assert_eq!(join(&host), exited(0));
}

#[test]
fn restarts_do_not_depend_on_what_the_program_changes_meanwhile() {
    let _alone = alone();
    let dir = Scratch::new();
    let host = forked(&ForkOptions::default(), || {
        let (mut reader, writer) = pipe();
        let mut spawn = sh("echo $PWD $KEPT >&7; read line <&6; exit 1");
        let (hold, go) = pipe();
        spawn.fd(writer.as_raw_fd(), 7).fd(hold.as_raw_fd(), 6);
        // SAFETY: the only thread of this process.
        unsafe { std::env::set_var("KEPT", "first") };
        std::env::set_current_dir(&dir.0).unwrap();
        let mut workers = Workers::new(&spawn, 1);
        workers
            .restart(Restart::OnFailure)
            .max_restarts(1)
            .backoff(millis(1), millis(1));
        let supervisor = workers.start().unwrap();
        std::env::set_current_dir("/").unwrap();
        std::mem::drop((writer, hold));
        (&go).write_all(b"\n").unwrap();
        (&go).write_all(b"\n").unwrap();
        wait(&supervisor);
        std::mem::drop(supervisor);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        let line = format!("{} first\n", dir.0.display());
        assert_eq!(text, line.repeat(2));
        0
    });
    assert_eq!(join(&host), exited(0));
}

#[test]
fn without_a_free_descriptor_the_start_fails_and_leaves_nothing() {
    let _alone = alone();
    let host = forked(&ForkOptions::default(), || {
        let few = libc::rlimit {
            rlim_cur: 40,
            rlim_max: 40,
        };
        // SAFETY: an initialised limit.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &few) };
        let mut taken = Vec::new();
        let mut failures = 0;
        loop {
            // With fewer and fewer free descriptors, down to none.
            match Workers::new(&sh("sleep 600"), 3).start() {
                Ok(supervisor) => assert_eq!(supervisor.workers().unwrap().len(), 3),
                Err(Error::Os { errno, .. }) => {
                    assert_eq!(errno, libc::EMFILE);
                    failures += 1;
                }
                Err(err) => panic!("{err}"),
            }
            match File::open("/dev/null") {
                Ok(file) => taken.push(file),
                Err(_) => break,
            }
        }
        assert!(failures > 1);
        taken.clear();
        let supervisor = workers("exit 0", 3).start().unwrap();
        assert_eq!(wait(&supervisor), Outcome::Succeeded);
        0
    });
    assert_eq!(join(&host), exited(0));
}

/// Descriptors, threads, and memory of this process in KiB.
fn used() -> (usize, usize, usize) {
    let entries = |path: &str| std::fs::read_dir(path).unwrap().count();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    let kib = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    (entries("/proc/self/fd"), entries("/proc/self/task"), kib)
}

#[test]
fn a_thousand_workers_come_and_go_without_a_leak() {
    let _alone = alone();
    let run = || {
        let supervisor = Workers::new(&sh("exit 0"), 250).start().unwrap();
        assert_eq!(wait(&supervisor), Outcome::Succeeded);
    };
    run();
    let mut before = used();
    for _ in 0..4 {
        run();
    }
    let mut after = used();
    // The threads end, and close their descriptors, shortly after the outcome is available.
    let began = Instant::now();
    while after.1 > before.1 || after.0 > before.0 && began.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(millis(1));
        after = used();
    }
    assert!(after.0 <= before.0, "descriptors: {before:?}, {after:?}");
    before.2 += 8 << 10;
    assert!(after.2 <= before.2, "memory in KiB: {before:?}, {after:?}");
}
