//! Promises about children: how they start, what they get, how they end, and what is refused.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::time::Duration;

use shoal::{Error, Exit, ExitKind, ForkOptions, Process, Spawn, Stdio, Timeout, fork};

/// One test at a time, so that each can assert that it leaves no child behind.
struct Alone(#[allow(dead_code)] MutexGuard<'static, ()>);

fn alone() -> Alone {
    static ONE: Mutex<()> = Mutex::new(());
    static WATCHDOG: Once = Once::new();
    WATCHDOG.call_once(|| {
        std::thread::spawn(|| {
            std::thread::sleep(Duration::from_secs(300));
            eprintln!("a test hangs");
            std::process::abort();
        });
    });
    Alone(ONE.lock().unwrap_or_else(PoisonError::into_inner))
}

impl Drop for Alone {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert!(!has_children(), "a child was left behind");
        }
    }
}

/// Whether this process has any child, running or not.
fn has_children() -> bool {
    // SAFETY: siginfo_t is plain data, and `info` is room for one.
    let found = unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        libc::waitid(
            libc::P_ALL,
            0,
            &mut info,
            libc::WEXITED | libc::WNOHANG | libc::WNOWAIT,
        )
    };
    found == 0
}

fn sh(script: &str) -> Spawn {
    let mut spawn = Spawn::new("sh");
    spawn.args(["-c", script]);
    spawn
}

fn join(child: &Process) -> Exit {
    child.join(Timeout::Infinite).unwrap()
}

fn exited(code: i32) -> Exit {
    Exit {
        kind: ExitKind::Exited,
        code,
    }
}

fn signaled(code: i32) -> Exit {
    Exit {
        kind: ExitKind::Signaled,
        code,
    }
}

/// What a child writes to its standard output; it must succeed.
fn output(spawn: &mut Spawn) -> String {
    let child = spawn.stdout(Stdio::Pipe).spawn().unwrap();
    let mut text = String::new();
    File::from(child.take_stdout().unwrap())
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(join(&child), exited(0), "{text}");
    text
}

fn forked(options: &ForkOptions, entry: impl FnOnce() -> i32) -> Process {
    // SAFETY: the entries here use malloc, this library and system calls; the other threads
    // of the test harness hold no lock of theirs.
    unsafe { fork(options, entry).unwrap() }
}

fn pipe() -> (File, File) {
    let mut ends = [0; 2];
    // SAFETY: room for two descriptors, which nobody else owns.
    unsafe {
        assert_eq!(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC), 0);
        (File::from_raw_fd(ends[0]), File::from_raw_fd(ends[1]))
    }
}

/// A fresh directory, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("shoal-test-{}-{n}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Scratch(path.canonicalize().unwrap())
    }

    fn file(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Both ways of starting a program promise the same.
fn both_ways(mut test: impl FnMut(&mut dyn FnMut(&mut Spawn))) {
    test(&mut |_| {});
    test(&mut |spawn| {
        spawn.die_with_parent();
    });
}

#[test]
fn a_process_is_send_and_sync() {
    fn check<T: Send + Sync>() {}
    check::<Process>();
    check::<Spawn>();
}

#[test]
fn the_exit_says_how_and_with_what() {
    let _alone = alone();
    both_ways(|way| {
        for code in [0, 1, 77, 255] {
            let mut spawn = sh(&format!("exit {code}"));
            way(&mut spawn);
            let child = spawn.spawn().unwrap();
            assert_eq!(join(&child), exited(code));
            // As often as one likes.
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
            // Again and again, for the first may come before the wait.
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
fn signals_reach_the_child_and_nobody_after_it() {
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
    // It is gone, and that is no error.
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
    // SAFETY: one pollfd, of a descriptor that `child` keeps open.
    while unsafe { libc::poll(&mut poll, 1, -1) } != 1 {}
    assert_eq!(child.try_join(), Ok(Some(exited(4))));
}

#[test]
fn what_cannot_be_executed_is_an_error_of_the_spawn() {
    let _alone = alone();
    let dir = Scratch::new();
    let plain = dir.file("plain", "exit 0\n", 0o644);
    let shebang = dir.file("shebang", "#!/nowhere/at/all\n", 0o755);
    let text = dir.file("text", "exit 0\n", 0o755);

    both_ways(|way| {
        let mut err = |spawn: &mut Spawn| {
            way(spawn);
            let err = spawn.spawn().unwrap_err();
            assert!(!has_children(), "{err}");
            err
        };
        for missing in ["no-such-program-anywhere", "/no/such/program", "./nowhere"] {
            let found = err(&mut Spawn::new(missing));
            let expected = Error::NotFound {
                what: "program",
                name: missing.to_owned(),
            };
            assert_eq!(found, expected);
        }
        let found = err(&mut Spawn::new(&plain));
        assert!(matches!(found, Error::Permission { .. }), "{found}");
        let found = err(Spawn::new("plain").env("PATH", &dir.0));
        assert!(matches!(found, Error::Permission { .. }), "{found}");
        let found = err(&mut Spawn::new(&dir.0));
        assert!(matches!(found, Error::Permission { .. }), "{found}");
        for (file, tells) in [(&shebang, "interpreter"), (&text, "format")] {
            let found = err(&mut Spawn::new(file));
            assert!(matches!(found, Error::Invalid { .. }), "{found}");
            assert!(found.to_string().contains(tells), "{found}");
        }
        let huge = "x".repeat(200_000);
        let found = err(Spawn::new("true").arg(&huge));
        assert!(found.to_string().contains("larger"), "{found}");
    });
}

#[test]
fn a_wrong_description_starts_nothing() {
    let _alone = alone();
    let dir = Scratch::new();
    let file = dir.file("file", "", 0o644);
    let closed: RawFd = 987;
    let wrong: &[(&str, &dyn Fn(&mut Spawn))] = &[
        ("NUL", &|s| drop(s.arg("a\0b"))),
        ("NUL", &|s| drop(s.env("A", "a\0b"))),
        ("no name", &|s| drop(s.env("", "x"))),
        ("no name", &|s| drop(s.env("A=B", "x"))),
        ("not a directory", &|s| drop(s.cwd(&file))),
        ("/no/such/place", &|s| drop(s.cwd("/no/such/place"))),
        ("987", &|s| drop(s.stdin(Stdio::Fd(closed)))),
        ("-5", &|s| drop(s.stdout(Stdio::Fd(-5)))),
        ("987", &|s| drop(s.fd(closed, 5))),
        ("within 3 and 1023", &|s| drop(s.fd(0, 2))),
        ("within 3 and 1023", &|s| drop(s.fd(0, 5000))),
        ("given twice", &|s| drop(s.fd(0, 5).fd(1, 5))),
        ("vulkan", &|s| drop(s.devices("vulkan", "0"))),
        ("\"x\"", &|s| drop(s.devices("cuda", "x"))),
        ("appears twice", &|s| drop(s.devices("cuda", "1,1"))),
        ("one kind", &|s| drop(s.devices("cuda", "0,GPU-1a"))),
        ("out of range", &|s| {
            s.env("CUDA_VISIBLE_DEVICES", "2,3").devices("cuda", "2");
        }),
        ("hides every device", &|s| {
            s.env("CUDA_VISIBLE_DEVICES", "").devices("cuda", "0");
        }),
        ("another mask", &|s| {
            drop(s.devices("cuda", "0").devices("cuda", "1"))
        }),
        ("another mask", &|s| {
            drop(s.devices("cuda", "0").devices("metax", "1"))
        }),
        ("documents no value", &|s| drop(s.devices("tpu", "none"))),
    ];
    both_ways(|way| {
        for (tells, edit) in wrong {
            let mut spawn = Spawn::new("true");
            edit(&mut spawn);
            way(&mut spawn);
            let err = spawn.spawn().unwrap_err();
            assert!(err.to_string().contains(tells), "{err} lacks {tells}");
            assert!(!has_children(), "{err}");
        }
    });
    assert!(matches!(Spawn::new("").spawn(), Err(Error::Invalid { .. })));
}

fn drop<T>(_: T) {}

#[test]
fn arguments_and_environment_arrive_as_given() {
    let _alone = alone();
    both_ways(|way| {
        let mut spawn = sh(r#"printf '%s|' "$0" "$@" "$KEPT" "${GONE-unset}""#);
        spawn.args(["zero", "", "a b", "*", "ü"]);
        spawn
            .env("KEPT", "two\nlines")
            .env("GONE", "x")
            .env_remove("GONE");
        way(&mut spawn);
        assert_eq!(output(&mut spawn), "zero||a b|*|ü|two\nlines|unset|");

        let mut spawn = Spawn::new("env");
        spawn.env("BEFORE", "1").env_clear().env("ONLY", "this");
        way(&mut spawn);
        assert_eq!(output(&mut spawn), "ONLY=this\n");
    });
}

#[test]
fn programs_are_found_as_the_child_would_find_them() {
    let _alone = alone();
    let dir = Scratch::new();
    dir.file("tool", "#!/bin/sh\necho found in $PWD\n", 0o755);
    let here = format!("found in {}\n", dir.0.display());
    both_ways(|way| {
        let mut found = |spawn: &mut Spawn| {
            way(spawn.cwd(&dir.0));
            output(spawn)
        };
        let path = format!("/nowhere:{}:/bin", dir.0.display());
        assert_eq!(found(Spawn::new("tool").env("PATH", path)), here);
        assert_eq!(found(Spawn::new("tool").env("PATH", ":/bin")), here);
        assert_eq!(found(&mut Spawn::new("./tool")), here);
        assert_eq!(
            found(Spawn::new("sh").env_clear().args(["-c", "echo ok"])),
            "ok\n"
        );
    });
}

#[test]
fn standard_streams_go_where_they_are_sent() {
    let _alone = alone();
    let dir = Scratch::new();
    both_ways(|way| {
        let mut spawn = sh("cat; echo to stderr >&2");
        way(spawn
            .stdin(Stdio::Pipe)
            .stdout(Stdio::Pipe)
            .stderr(Stdio::Pipe));
        let child = spawn.spawn().unwrap();
        let (stdin, stdout) = (child.take_stdin(), child.take_stdout());
        assert!(child.take_stdin().is_none(), "it can be taken once");
        let mut stdin = File::from(stdin.unwrap());
        stdin.write_all(b"through the pipe").unwrap();
        std::mem::drop(stdin);
        let mut text = String::new();
        File::from(stdout.unwrap())
            .read_to_string(&mut text)
            .unwrap();
        let stderr = child.take_stderr().unwrap();
        File::from(stderr).read_to_string(&mut text).unwrap();
        assert_eq!(text, "through the pipeto stderr\n");
        assert_eq!(join(&child), exited(0));

        let mut spawn = sh("cat; echo vanishes");
        way(spawn.stdin(Stdio::Null).stdout(Stdio::Null));
        let child = spawn.spawn().unwrap();
        assert!(child.take_stdout().is_none());
        assert_eq!(join(&child), exited(0));

        // One file for both, shared position and all.
        let path = dir.0.join("log");
        let log = File::create(&path).unwrap();
        let fd = Stdio::Fd(log.as_raw_fd());
        let mut spawn = sh("echo one; echo two >&2; echo three");
        way(spawn.stdout(fd).stderr(fd));
        assert_eq!(join(&spawn.spawn().unwrap()), exited(0));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\ntwo\nthree\n");
        assert!(log.metadata().is_ok(), "the caller's descriptor stays open");
    });
}

/// A descriptor at this very number that an exec would keep.
fn leaky(number: RawFd, of: RawFd) -> OwnedFd {
    // SAFETY: the number is free in this test, so nobody owns it.
    unsafe {
        assert_eq!(libc::fcntl(number, libc::F_GETFD), -1, "{number} is in use");
        assert_eq!(libc::dup2(of, number), number);
        OwnedFd::from_raw_fd(number)
    }
}

#[test]
fn no_other_descriptor_reaches_the_child() {
    let _alone = alone();
    let null = File::open("/dev/null").unwrap();
    let _leaks = [leaky(199, null.as_raw_fd()), leaky(701, null.as_raw_fd())];
    let list = "for f in /proc/$$/fd/*; do [ -e $f ] && echo ${f##*/}; done; true";
    both_ways(|way| {
        let mut spawn = sh(list);
        way(&mut spawn);
        assert_eq!(output(&mut spawn), "0\n1\n2\n");
        let mut spawn = sh(list);
        way(spawn
            .stdin(Stdio::Pipe)
            .stderr(Stdio::Null)
            .fd(null.as_raw_fd(), 7));
        assert_eq!(output(&mut spawn), "0\n1\n2\n7\n");
    });
}

#[test]
fn descriptors_can_change_places_on_the_way() {
    let _alone = alone();
    let ((left, mut to_left), (right, mut to_right)) = (pipe(), pipe());
    let (a, b) = (leaky(210, left.as_raw_fd()), leaky(211, right.as_raw_fd()));
    both_ways(|way| {
        to_left.write_all(b"left\n").unwrap();
        to_right.write_all(b"right\n").unwrap();
        // dash takes one digit only, hence the files.
        let mut spawn = sh("head -1 </proc/self/fd/210; head -1 </proc/self/fd/211");
        way(spawn.fd(a.as_raw_fd(), 211).fd(b.as_raw_fd(), 210));
        assert_eq!(output(&mut spawn), "right\nleft\n");
    });
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
fn a_child_starts_with_signals_as_a_login_would() {
    let _alone = alone();
    // In a child of its own, for what it does to its signals.
    let child = forked(&ForkOptions::default(), || {
        // SAFETY: integers and initialised sets.
        unsafe {
            libc::signal(libc::SIGHUP, libc::SIG_IGN);
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigaddset(&mut set, libc::SIGTERM);
            libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
        }
        let bits = |spawn: &mut Spawn| {
            let field = |text: &str, name: &str| {
                let line = text.lines().find_map(|l| l.strip_prefix(name)).unwrap();
                u64::from_str_radix(line.trim(), 16).unwrap()
            };
            let status = output(spawn);
            (field(&status, "SigBlk:"), field(&status, "SigIgn:"))
        };
        let (hup, term) = (1 << (libc::SIGHUP - 1), 1 << (libc::SIGTERM - 1));
        both_ways(|way| {
            let mut spawn = Spawn::new("cat");
            way(spawn.arg("/proc/self/status"));
            assert_eq!(bits(&mut spawn), (0, 0));
            let (blocked, ignored) = bits(spawn.keep_signals());
            assert_eq!(blocked, term);
            assert_eq!(ignored & hup, hup);
        });
        0
    });
    assert_eq!(join(&child), exited(0));
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
    // It ends when told to.
    (&writer).write_all(b"\n").unwrap();
    while pids.iter().any(|&pid| exists(pid)) {
        join(&Spawn::new("true").spawn().unwrap());
    }
    std::mem::drop(writer);
    assert_eq!(reader.read(&mut [0; 8]).unwrap(), 0);
}

#[test]
fn an_exit_collected_by_others_is_unknown() {
    let _alone = alone();
    let child = sh("exit 5").spawn().unwrap();
    let mut status = 0;
    // SAFETY: room for one status.
    assert_eq!(
        unsafe { libc::waitpid(child.pid(), &mut status, 0) },
        child.pid()
    );
    assert_eq!(join(&child).kind, ExitKind::Unknown);
    child.kill().unwrap();

    // A host that ignores SIGCHLD: the kernel collects.
    let host = forked(&ForkOptions::default(), || {
        // SAFETY: integers only.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
        both_ways(|way| {
            for script in ["exit 5", "sleep 0.05"] {
                let mut spawn = sh(script);
                way(&mut spawn);
                assert_eq!(join(&spawn.spawn().unwrap()).kind, ExitKind::Unknown);
            }
            let err = Spawn::new("/no/such/program").spawn().unwrap_err();
            assert!(matches!(err, Error::NotFound { .. }));
        });
        0
    });
    assert_eq!(join(&host), exited(0));
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
    // SAFETY: one pollfd.
    while unsafe { libc::poll(&mut poll, 1, -1) } != 1 {}
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
fn a_child_outlives_the_thread_that_asked_for_it() {
    let _alone = alone();
    let spawn = || Spawn::new("sleep").arg("600").die_with_parent().spawn();
    let child = std::thread::spawn(spawn).join().unwrap().unwrap();
    // The kernel has had its chance.
    let brief = Timeout::Val(Duration::from_millis(50));
    assert_eq!(child.join(brief), Err(Error::Timeout));
    child.kill().unwrap();
    assert_eq!(join(&child), signaled(libc::SIGKILL));
}

#[test]
fn masks_compose_over_generations() {
    let _alone = alone();
    let show = "echo $CUDA_VISIBLE_DEVICES $CUDA_DEVICE_ORDER";
    both_ways(|way| {
        let mut spawn = sh(show);
        way(spawn
            .env("CUDA_VISIBLE_DEVICES", "4,5,6")
            .devices("cuda", "2,0"));
        assert_eq!(output(&mut spawn), "6,4 PCI_BUS_ID\n");
        let mut spawn = sh(show);
        way(spawn
            .env_clear()
            .env("PATH", "/bin:/usr/bin")
            .devices("cuda", "none"));
        assert_eq!(output(&mut spawn), "-1 PCI_BUS_ID\n");
    });
    // Child, grandchild, great-grandchild, each with what the one before gives it.
    let options = |mask: &str| ForkOptions {
        devices: vec![("cuda".into(), mask.into())],
        ..Default::default()
    };
    let child = forked(&options("4-7"), || {
        let grandchild = forked(&options("1,2,3"), || {
            assert_eq!(shoal::device::visible("cuda").unwrap().to_string(), "5,6,7");
            assert_eq!(output(sh(show).devices("cuda", "2")), "7 PCI_BUS_ID\n");
            let err = sh(show).devices("cuda", "3").spawn().unwrap_err();
            assert!(err.to_string().contains("\"5,6,7\""), "{err}");
            0
        });
        join(&grandchild).code
    });
    assert_eq!(join(&child), exited(0));
    // The parent's own environment is as it was.
    assert_eq!(std::env::var_os("CUDA_VISIBLE_DEVICES"), None);
}

#[test]
fn a_script_masks_itself() {
    let _alone = alone();
    let child = forked(&ForkOptions::default(), || {
        // SAFETY: the only thread of this child.
        let loaded = unsafe { shoal::device::set_visible("cuda", "1-2").unwrap() };
        assert!(!loaded, "no test loads CUDA");
        assert_eq!(std::env::var("CUDA_VISIBLE_DEVICES").unwrap(), "1,2");
        assert_eq!(std::env::var("CUDA_DEVICE_ORDER").unwrap(), "PCI_BUS_ID");
        // SAFETY: as above.
        unsafe { shoal::device::set_visible("cuda", "2").unwrap_err() };
        assert_eq!(std::env::var("CUDA_VISIBLE_DEVICES").unwrap(), "1,2");
        0
    });
    assert_eq!(join(&child), exited(0));
}

#[test]
fn a_forked_child_exits_with_what_its_entry_returns() {
    let _alone = alone();
    for (code, seen) in [(0, 0), (9, 9), (259, 3), (-1, 255)] {
        assert_eq!(
            join(&forked(&ForkOptions::default(), || code)),
            exited(seen)
        );
    }
    let child = forked(&ForkOptions::default(), || {
        std::panic::set_hook(Box::new(|_| {}));
        panic!("on purpose")
    });
    assert_eq!(join(&child), exited(101));
}

#[test]
fn buffered_output_is_written_once() {
    let _alone = alone();
    let (mut reader, writer) = pipe();
    let child = forked(&ForkOptions::default(), || {
        // SAFETY: C strings; the grandchild copies what this one has not flushed.
        unsafe {
            libc::dup2(writer.as_raw_fd(), 1);
            libc::printf(c"before,".as_ptr());
            let grandchild = forked(&ForkOptions::default(), || {
                libc::printf(c"within,".as_ptr());
                0
            });
            join(&grandchild);
            libc::printf(c"after".as_ptr());
        }
        0
    });
    assert_eq!(join(&child), exited(0));
    std::mem::drop(writer);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "before,within,after");
}

#[test]
fn a_forked_child_leads_its_group_when_asked() {
    let _alone = alone();
    let options = ForkOptions {
        new_group: true,
        ..Default::default()
    };
    let child = forked(&options, || {
        std::thread::sleep(Duration::from_secs(600));
        0
    });
    // SAFETY: integers only.
    assert_eq!(unsafe { libc::getpgid(child.pid()) }, child.pid());
    child.signal_group(libc::SIGTERM).unwrap();
    assert_eq!(join(&child), signaled(libc::SIGTERM));
}

#[test]
fn a_wrong_mask_forks_nothing() {
    let _alone = alone();
    let options = ForkOptions {
        devices: vec![("cuda".into(), "0,0".into())],
        ..Default::default()
    };
    // SAFETY: the entry never runs.
    let err = unsafe { fork(&options, || 0).unwrap_err() };
    assert!(matches!(err, Error::Invalid { .. }));
    assert!(!has_children());
}

#[test]
fn a_forked_copy_waits_for_a_child_that_is_not_its_own() {
    let _alone = alone();
    let child = Spawn::new("sleep").arg("600").spawn().unwrap();
    let copy = forked(&ForkOptions::default(), || {
        assert_eq!(child.try_join(), Ok(None));
        assert!(child.signal_group(9).is_err());
        child.kill().unwrap();
        assert_eq!(join(&child).kind, ExitKind::Unknown);
        0
    });
    assert_eq!(join(&copy), exited(0));
    // The parent still learns the truth.
    assert_eq!(join(&child), signaled(libc::SIGKILL));
}
