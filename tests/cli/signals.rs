//! Signals end the commands, each of them as it ends other programs.

use std::ffi::CString;
use std::fs::File;
use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use shoal::{Map, Queue, Timeout};

use crate::{command, common, unique};

fn send(pid: u32, signal: i32) {
    // SAFETY: integers; a child of this test, or of its child, that was not waited for.
    assert_eq!(unsafe { libc::kill(pid as i32, signal) }, 0);
}

/// The first line that a command prints, after which it runs on.
fn first_line(child: &mut Child) -> String {
    let mut line = String::new();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut line).unwrap();
    // It may print more.
    child.stdout = Some(out.into_inner());
    line
}

/// A pipe that takes no further byte.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, writer) = std::io::pipe().unwrap();
    let set = |flags: i32| {
        // SAFETY: integers, and an open descriptor.
        let done = unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETFL, flags) };
        assert_eq!(done, 0);
    };
    set(libc::O_NONBLOCK);
    let mut fill = &writer;
    while fill.write(&[b'x'; 4096]).is_ok() {}
    set(0);
    (reader, writer)
}

/// `unshare`, for a program that is then process 1 of a pid namespace, if that is allowed here.
pub(crate) fn contained() -> Option<Command> {
    // SAFETY: reads this process's user.
    let user: &[&str] = match unsafe { libc::geteuid() } {
        0 => &[],
        _ => &["--user", "--map-root-user"],
    };
    let make = || {
        let mut unshare = Command::new("unshare");
        unshare.args(user).args(["--pid", "--fork", "--mount-proc"]);
        unshare.stdin(Stdio::null());
        unshare
    };
    let tried = make().arg("true").stderr(Stdio::null()).status();
    if tried.is_ok_and(|it| it.success()) {
        return Some(make());
    }
    eprintln!("skipped: no pid namespaces here");
    None
}

/// How signals end the first process of a container: `top`, or `run` with workers.
fn end_of_first(args: &[&str], signals: &[i32]) -> Option<ExitStatus> {
    common::watchdog();
    let mut unshare = contained()?;
    unshare.arg(env!("CARGO_BIN_EXE_shoal")).args(args);
    let mut child = unshare.stdout(Stdio::piped()).spawn().unwrap();
    first_line(&mut child);
    let pid = child.id();
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let first = children.unwrap().trim().parse().unwrap();
    for &signal in signals {
        send(first, signal);
    }
    Some(child.wait().unwrap())
}

#[test]
fn a_signal_ends_the_first_process_of_a_container_with_the_shells_code() {
    let top = ["top", "--json", "--interval", "0.01"];
    let run = [
        "run",
        "-q",
        "-n",
        "2",
        "--",
        "sh",
        "-c",
        "echo ready; exec sleep 600",
    ];
    for args in [&top[..], &run] {
        for signal in [libc::SIGTERM, libc::SIGINT] {
            let Some(status) = end_of_first(args, &[signal]) else {
                return;
            };
            assert_eq!(status.code(), Some(128 + signal), "{args:?}: {status}");
        }
    }
    // The second one ends it at once.
    let status = end_of_first(&top, &[libc::SIGTERM, libc::SIGINT]).unwrap();
    assert!(matches!(status.code(), Some(143 | 130)), "{status}");
}

#[test]
fn a_signal_ends_a_wait_for_a_lease_and_a_benchmark_in_the_first_process_of_a_container() {
    let leases = std::env::temp_dir().join(unique("first-leases"));
    let with_lease = |mut command: Command| {
        command.env("SHOAL_FAKE_DEVICES", "cuda:1");
        command.env("SHOAL_LEASE_DIR", &leases);
        command
    };
    common::watchdog();
    let script = "echo ready; exec sleep 600";
    let mut holder = with_lease(command(&["run", "--lease", "1", "--", "sh", "-c", script]));
    let mut holder = holder.stdout(Stdio::piped()).spawn().unwrap();
    first_line(&mut holder);
    for args in [
        &["run", "--lease", "1", "--", "sleep", "600"][..],
        &["run", "-n", "2", "--lease", "1", "--", "sleep", "600"],
        &["bench"],
    ] {
        for signal in [libc::SIGTERM, libc::SIGINT] {
            let Some(mut unshare) = contained().map(&with_lease) else {
                return;
            };
            unshare.arg(env!("CARGO_BIN_EXE_shoal")).args(args);
            unshare.stdout(Stdio::null()).stderr(Stdio::null());
            let mut child = unshare.spawn().unwrap();
            let pid = child.id();
            // Until it handles the signal, the kernel drops it.
            let status = loop {
                if let Some(status) = child.try_wait().unwrap() {
                    break status;
                }
                let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
                let first = children.unwrap_or_default().trim().parse();
                if let Ok(first) = first {
                    // SAFETY: integers; the child of a child that was not waited for.
                    unsafe { libc::kill(first, signal) };
                }
                std::thread::sleep(Duration::from_millis(5));
            };
            assert_eq!(status.code(), Some(128 + signal), "{args:?}: {status}");
        }
    }
    holder.kill().unwrap();
    holder.wait().unwrap();
    std::fs::remove_dir_all(leases).unwrap();
}

#[test]
fn a_signal_that_the_caller_blocks_ends_workers_and_waits() {
    let queue = Queue::create(&unique("blocked")).unwrap();
    let run = [
        "run",
        "-n",
        "1",
        "--",
        "sh",
        "-c",
        "echo ready; exec sleep 600",
    ];
    for args in [&run[..], &["queue", "tail", queue.name(), "--all"]] {
        common::watchdog();
        if queue.is_empty() {
            queue.put(b"ready", Timeout::Infinite).unwrap();
        }
        let mut blocked = command(args);
        // SAFETY: two system calls, in the child.
        unsafe {
            blocked.pre_exec(|| {
                let mut set = std::mem::zeroed();
                libc::sigfillset(&mut set);
                libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
                Ok(())
            })
        };
        let mut child = blocked.stdout(Stdio::piped()).spawn().unwrap();
        first_line(&mut child);
        send(child.id(), libc::SIGTERM);
        let status = child.wait().unwrap();
        assert_eq!(status.signal(), Some(libc::SIGTERM), "{args:?}");
    }
}

#[test]
fn a_signal_ends_workers_although_not_all_have_been_started() {
    common::watchdog();
    // To start them all takes seconds.
    let script = "echo ready; exec sleep 600";
    let args = [
        "run",
        "-n",
        "4096",
        "--grace",
        "60s",
        "--no-labels",
        "--",
        "sh",
        "-c",
        script,
    ];
    let mut run = command(&args);
    let mut run = run
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    first_line(&mut run);
    send(run.id(), libc::SIGTERM);
    let done = run.wait_with_output().unwrap();
    assert_eq!(done.status.signal(), Some(libc::SIGTERM));
    let said = String::from_utf8(done.stderr).unwrap();
    let stopped = said.split("stopping ").nth(1).unwrap();
    let (count, _) = stopped.split_once(' ').unwrap();
    assert!(
        count.parse::<u32>().unwrap() < 4096,
        "all of them were started"
    );
}

#[test]
fn a_signal_ends_workers_although_nothing_reads_the_output() {
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
        common::watchdog();
        let (_unread, stderr) = full_pipe();
        let script = "echo ready; exec sleep 600";
        // It says that each worker was started.
        let args = ["run", "-n", "2", "--restart", "--", "sh", "-c", script];
        let mut run = command(&args);
        let mut run = run.stdout(Stdio::piped()).stderr(stderr).spawn().unwrap();
        first_line(&mut run);
        send(run.id(), signal);
        assert_eq!(run.wait().unwrap().signal(), Some(signal));
    }
}

#[test]
fn a_signal_that_the_caller_ignores_stays_ignored() {
    let queue = Queue::create(&unique("nohup")).unwrap();
    let map = Map::create(&unique("nohup")).unwrap();
    let get = ["queue", "get", queue.name()];
    let watch = ["map", "watch", map.name(), "key", "-n", "1"];
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGTERM] {
        for is_queue in [true, false] {
            let (name, args) = match is_queue {
                true => (queue.name(), &get[..]),
                false => (map.name(), &watch[..]),
            };
            let mut wait = command(args);
            // SAFETY: one system call, in the child.
            unsafe {
                wait.pre_exec(move || {
                    libc::signal(signal, libc::SIG_IGN);
                    Ok(())
                })
            };
            let alone = common::alone();
            let child = wait.stdout(Stdio::piped()).spawn().unwrap();
            drop(alone);
            let pid = child.id();
            let is_attached = || {
                let info = shoal::stat(name).unwrap();
                info.participants.iter().any(|it| it.pid == pid)
            };
            while !is_attached() {
                std::thread::yield_now();
            }
            send(pid, signal);
            // A signal that it does not ignore would end it in this time.
            std::thread::sleep(Duration::from_millis(150));
            match is_queue {
                true => queue.put(b"message", Timeout::Infinite).unwrap(),
                false => map.set(b"key", b"value").unwrap(),
            }
            let status = child.wait_with_output().unwrap().status;
            assert!(status.success(), "{args:?}, signal {signal}: {status}");
            map.remove(b"key").unwrap();
        }
    }
}

#[test]
fn one_signal_ends_a_command_whose_output_is_not_read() {
    let queue = Queue::create(&unique("unread")).unwrap();
    let map = Map::create(&unique("unread")).unwrap();
    let large = vec![b'x'; 1 << 20];
    map.set(b"key", &large).unwrap();
    let commands: [&[&str]; 4] = [
        &["queue", "peek", queue.name()],
        &["map", "get", map.name(), "key"],
        &["map", "get", map.name(), "key", "--json"],
        &["queue", "get", queue.name()],
    ];
    for args in commands {
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
            common::watchdog();
            if queue.is_empty() {
                queue.put(&large, Timeout::Infinite).unwrap();
            }
            let mut child = command(args).stdout(Stdio::piped()).spawn().unwrap();
            let mut out = child.stdout.take().unwrap();
            out.read_exact(&mut [0]).unwrap();
            send(child.id(), signal);
            let status = child.wait().unwrap();
            assert_eq!(status.signal(), Some(signal), "{args:?}: {status}");
        }
    }
}

#[test]
fn one_signal_ends_a_command_that_waits_for_its_file() {
    let queue = Queue::create(&unique("fifo")).unwrap();
    let map = Map::create(&unique("fifo")).unwrap();
    let fifo = std::env::temp_dir().join(unique("fifo"));
    let path = CString::new(fifo.as_os_str().as_bytes()).unwrap();
    // SAFETY: a path that ends in NUL, and a mode.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
    let file = fifo.to_str().unwrap();
    let put = ["queue", "put", queue.name(), "--file", file];
    let set = ["map", "set", map.name(), "key", "--file", file];
    for args in [&put[..], &set] {
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
            common::watchdog();
            let mut child = command(args).spawn().unwrap();
            // Returns once the command has opened it, which then waits for what is written.
            let writer = File::options().write(true).open(&fifo).unwrap();
            send(child.id(), signal);
            let status = child.wait().unwrap();
            assert_eq!(status.signal(), Some(signal), "{args:?}: {status}");
            drop(writer);
        }
    }
    std::fs::remove_file(fifo).unwrap();
}

#[test]
fn a_command_that_waits_ends_when_nobody_reads_its_output_any_more() {
    let queue = Queue::create(&unique("unread")).unwrap();
    let map = Map::create(&unique("unread")).unwrap();
    for args in [
        &["queue", "get", queue.name()][..],
        &["queue", "get", queue.name(), "--follow"],
        &["queue", "tail", queue.name()],
        &["map", "watch", map.name()],
        &["map", "watch", map.name(), "key"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        let child = command(args).stdout(writer).spawn();
        drop(reader);
        // Nothing comes that it could try to write.
        let status = child.unwrap().wait().unwrap();
        assert_eq!(status.code(), Some(0), "{args:?}");
    }
}
