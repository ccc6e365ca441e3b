//! `shoal run` with several workers, restarts and leases.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::FromRawFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};

use crate::{command, common, finish, shoal, unique};

/// `shoal run` with its output in a pipe. The descriptors are those of a session of its own.
struct Running {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
}

impl Running {
    fn new(args: &[&str]) -> Self {
        Self::of(&mut command(&[&["run", "-q"], args].concat()))
    }

    fn of(command: &mut Command) -> Self {
        common::watchdog();
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Self { child, out }
    }

    /// The next lines, sorted.
    fn lines(&mut self, count: usize) -> Vec<String> {
        let mut lines: Vec<String> = self
            .out
            .by_ref()
            .lines()
            .take(count)
            .map(Result::unwrap)
            .collect();
        assert_eq!(lines.len(), count, "{lines:?}");
        lines.sort_unstable();
        lines
    }

    fn signal(&self, signal: i32) {
        // SAFETY: integers; our own child, not yet waited for.
        assert_eq!(unsafe { libc::kill(self.child.id() as i32, signal) }, 0);
    }

    /// The output until the last worker has ended, and the exit status of `shoal`.
    fn end(mut self) -> (String, ExitStatus) {
        let mut rest = String::new();
        self.out.read_to_string(&mut rest).unwrap();
        (rest, self.child.wait().unwrap())
    }
}

/// A script that prints each of these signals when it gets it, and ends at the last one. It prints `ready` once its
/// handlers are installed.
fn says(signals: &[&str]) -> String {
    let (last, others) = signals.split_last().unwrap();
    let trap = |signal: &&str| format!("trap 'echo {signal}' {signal};");
    let others: String = others.iter().map(trap).collect();
    format!(
        "{others} trap 'echo {last}; exit 0' {last}; echo ready; while :; do sleep 0.01; done 2>/dev/null"
    )
}

#[test]
fn workers_have_their_number_their_devices_and_no_input() {
    let show = "echo $SHOAL_WORKER/$SHOAL_WORKERS $CUDA_VISIBLE_DEVICES; cat";
    let mut run = command(&["run", "-n", "3", "--devices", "1-4", "--", "sh", "-c", show]);
    run.env("CUDA_VISIBLE_DEVICES", "9,8,7,6,5");
    let text = finish(&mut run).ok();
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["[0] 0/3 8", "[1] 1/3 7", "[2] 2/3 6,5"]);
    let plain = shoal(&["run", "-n", "1", "--no-labels", "--", "printf", "as it is"]);
    assert_eq!(plain.ok(), "as it is");
}

#[test]
fn the_exit_code_is_that_of_the_first_worker_that_failed() {
    let run = |script: &str, more: &[&str]| {
        let args = [&["run", "-q", "-n", "2"], more, &["--", "sh", "-c", script]].concat();
        let done = shoal(&args);
        assert_eq!(done.err, "");
        done.code
    };
    assert_eq!(run("exit 0", &[]), Some(0));
    assert_eq!(
        run("test $SHOAL_WORKER = 0 || exit 42", &["--keep-going"]),
        Some(42)
    );
    assert_eq!(
        run("test $SHOAL_WORKER = 0 || exit 42; exec sleep 600", &[]),
        Some(42)
    );
    assert_eq!(
        run("test $SHOAL_WORKER = 1 || kill -9 $$", &["--keep-going"]),
        Some(137)
    );
}

#[test]
fn missing_programs_and_invalid_options_are_refused() {
    let run = |args: &[&str]| shoal(&[&["run"], args].concat());
    run(&["-n", "2", "--", "/no/such/program"]).failed(127, "/no/such/program");
    run(&["-n", "2", "--", "/etc/passwd"]).failed(126, "/etc/passwd");
    run(&["-n", "0", "--", "true"]).failed(125, "from 1 to 4096");
    run(&["-n", "100000", "--", "true"]).failed(125, "4096");
    run(&["-n", "2", "--devices", "0,0", "--", "true"]).failed(125, "0,0");
    run(&["-n", "-1", "--", "true"]).failed(125, "-1");
    run(&["--restart=sometimes", "--", "true"]).failed(125, "always");
    run(&["-n", "2", "--grace", "soon", "--", "true"]).failed(125, "ms, s, m, h or d");
    run(&["-n", "2", "--grace", ".s", "--", "true"]).failed(125, "ms, s, m, h or d");
    run(&["--min-free", "1G", "--", "true"]).failed(125, "--lease");
    run(&["--lease", "1", "--devices", "0", "--", "true"]).failed(125, "--devices");
}

#[test]
fn a_failed_worker_is_restarted_and_a_crash_loop_is_reported() {
    let run = |restart: &str, script: &str| {
        shoal(&[
            "run",
            restart,
            "--max-restarts",
            "2",
            "--",
            "sh",
            "-c",
            script,
        ])
    };
    let done = run("--restart", "echo $SHOAL_WORKER_RESTARTS; exit 3");
    assert_eq!(
        (done.code, done.out.as_str()),
        (Some(3), "[0] 0\n[0] 1\n[0] 2\n")
    );
    for said in ["exited with code 3", "started again in 100ms", "crash loop"] {
        assert!(done.err.contains(said), "{}", done.err);
    }
    assert_eq!(
        run("--restart", "test $SHOAL_WORKER_RESTARTS = 1").code,
        Some(0)
    );
    let none = [
        "run",
        "--restart",
        "--max-restarts",
        "0",
        "--",
        "sh",
        "-c",
        "exit 4",
    ];
    let done = shoal(&none);
    assert_eq!(done.code, Some(4));
    assert!(!done.err.contains("1 times"), "{}", done.err);
    let said = "worker 0 is not started again: the limit is 0 restarts\n";
    assert!(done.err.ends_with(said), "{}", done.err);
    let done = run("--restart=always", "exit 0");
    assert!(done.err.contains("crash loop"), "{}", done.err);
    // A failure, although each of its runs was a success.
    assert_eq!(done.code, Some(1));
}

#[test]
fn output_that_cannot_be_written_is_reported_and_is_a_failure() {
    let full = || File::options().write(true).open("/dev/full").unwrap();
    let run = |script: &str| {
        let mut run = command(&["run", "-q", "-n", "1", "--", "sh", "-c", script]);
        let done = run.stdout(full()).output().unwrap();
        (done.status.code(), String::from_utf8(done.stderr).unwrap())
    };
    let said = "shoal: the output of worker 0 cannot be written: No space left on device";
    let (code, err) = run("echo once");
    assert_eq!(code, Some(1), "{err}");
    assert!(err.starts_with(said), "{err}");
    // A worker that continues to write is killed, as it would be without a supervisor.
    let (code, err) = run("exec yes");
    assert_eq!(code, Some(128 + libc::SIGPIPE), "{err}");
    assert!(err.starts_with(said), "{err}");
}

#[test]
fn signals_are_passed_on_and_end_the_workers() {
    for (name, signal) in [
        ("INT", libc::SIGINT),
        ("TERM", libc::SIGTERM),
        ("HUP", libc::SIGHUP),
        ("QUIT", libc::SIGQUIT),
    ] {
        let mut run = Running::new(&["-n", "2", "--", "sh", "-c", &says(&[name])]);
        assert_eq!(run.lines(2), ["[0] ready", "[1] ready"]);
        run.signal(signal);
        assert_eq!(run.lines(2), [format!("[0] {name}"), format!("[1] {name}")]);
        let (rest, status) = run.end();
        assert_eq!((rest.as_str(), status.signal()), ("", Some(signal)));
    }
    let script = says(&["USR1", "USR2", "WINCH", "TERM"]);
    let mut run = Running::new(&["-n", "2", "--restart", "--", "sh", "-c", &script]);
    run.lines(2);
    for (name, signal) in [
        ("USR1", libc::SIGUSR1),
        ("USR2", libc::SIGUSR2),
        ("WINCH", libc::SIGWINCH),
    ] {
        run.signal(signal);
        assert_eq!(run.lines(2), [format!("[0] {name}"), format!("[1] {name}")]);
    }
    run.signal(libc::SIGTERM);
    run.lines(2);
    assert_eq!(run.end().1.signal(), Some(libc::SIGTERM));
}

#[test]
fn workers_that_do_not_end_in_time_are_killed() {
    let script = "trap '' TERM INT; echo ready; while :; do sleep 600; done";
    let mut run = Running::new(&["-n", "2", "--grace", "50ms", "--", "sh", "-c", script]);
    run.lines(2);
    run.signal(libc::SIGTERM);
    assert_eq!(run.end().1.signal(), Some(libc::SIGTERM));
    // A second Ctrl-C does not wait for the time to pass.
    let script = says(&["INT", "TERM"]);
    let mut run = Running::new(&["-n", "2", "--grace", "1d", "--", "sh", "-c", &script]);
    run.lines(2);
    run.signal(libc::SIGINT);
    // Two signals that arrive at once are one: the first has been passed on.
    assert_eq!(run.lines(2), ["[0] INT", "[1] INT"]);
    run.signal(libc::SIGINT);
    assert_eq!(run.end().1.signal(), Some(libc::SIGINT));
}

#[test]
fn a_killed_shoal_leaves_no_worker_and_no_descendant_of_one() {
    let script = "setsid sleep 600 & (setsid sleep 600 &) ; echo ready; sleep 600";
    let mut run = Running::new(&["-n", "3", "--no-labels", "--", "sh", "-c", script]);
    run.lines(3);
    run.signal(libc::SIGKILL);
    // The file ends when the last process with the pipe has ended.
    assert_eq!(run.end().1.signal(), Some(libc::SIGKILL));
}

/// Runs `shoal` as the foreground process of a terminal. Returns its id and the terminal. For a test that runs alone,
/// because the forked child is a participant of every object of this process until it executes its program.
fn on_terminal(args: &[&str]) -> (libc::pid_t, File) {
    common::watchdog();
    let path = std::ffi::CString::new(env!("CARGO_BIN_EXE_shoal")).unwrap();
    let args: Vec<_> = std::iter::once(&"shoal")
        .chain(args)
        .map(|it| std::ffi::CString::new(*it).unwrap())
        .collect();
    let mut argv: Vec<_> = args.iter().map(|it| it.as_ptr()).collect();
    argv.push(std::ptr::null());
    let mut terminal = -1;
    let null = std::ptr::null_mut();
    // SAFETY: a place for a descriptor, and null pointers that are not used.
    let pid = unsafe { libc::forkpty(&mut terminal, null, null.cast(), null.cast()) };
    assert!(pid >= 0, "forkpty");
    if pid == 0 {
        // SAFETY: a path and arguments that end with NULL; the child makes nothing but system calls.
        unsafe {
            libc::execv(path.as_ptr(), argv.as_ptr());
            libc::_exit(125)
        }
    }
    // SAFETY: made just above.
    (pid, unsafe { File::from_raw_fd(terminal) })
}

/// Reads from a terminal until the text was read `count` times, or to the end.
fn read_until(terminal: &mut File, text: &str, count: usize) -> String {
    let (mut seen, mut piece) = (String::new(), [0; 1024]);
    while seen.matches(text).count() < count {
        // The end of a terminal whose programs have ended is an error.
        match terminal.read(&mut piece) {
            Ok(len @ 1..) => seen.push_str(std::str::from_utf8(&piece[..len]).unwrap()),
            _ => break,
        }
    }
    seen
}

#[test]
fn ctrl_c_in_a_terminal_reaches_every_process_once() {
    let _alone = common::alone();
    // The child of each worker is in the worker's group. The worker's shell waits for it before it prints.
    let inner = says(&["INT"])
        .replace("echo INT", "echo inner")
        .replace('\'', "\"");
    let script = format!("trap 'echo outer' INT; sh -c '{inner}'; exit 0");
    let (pid, mut terminal) = on_terminal(&["run", "-q", "-n", "2", "--", "sh", "-c", &script]);
    read_until(&mut terminal, "ready", 2);
    terminal.write_all(b"\x03").unwrap();
    let rest = read_until(&mut terminal, "never", 1);
    assert_eq!(
        (rest.matches("inner").count(), rest.matches("outer").count()),
        (2, 2),
        "{rest}"
    );
    let mut status = 0;
    // SAFETY: our own child, and a place for its status.
    assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
    assert!(
        libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGINT,
        "{status:#x}"
    );
}

/// Whether a process is stopped, as by Ctrl-Z.
fn is_stopped(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(") ").unwrap().1.starts_with('T')
}

#[test]
fn every_worker_is_stopped_when_ctrl_z_has_stopped_shoal() {
    let _alone = common::alone();
    let args = [
        "-n",
        "8",
        "--no-labels",
        "--",
        "sh",
        "-c",
        "echo $$; exec sleep 600",
    ];
    let mut run = Running::new(&args);
    let pids = run.lines(8);
    for _ in 0..20 {
        run.signal(libc::SIGTSTP);
        let (pid, mut status) = (run.child.id() as i32, 0);
        // SAFETY: our own child, which is not reaped by this unless it has ended.
        let stopped = unsafe { libc::waitpid(pid, &mut status, libc::WUNTRACED) };
        assert!(stopped == pid && libc::WIFSTOPPED(status), "{status:#x}");
        // The signal was sent before, but may be delivered a moment later.
        while !pids.iter().all(|pid| is_stopped(pid)) {
            std::thread::yield_now();
        }
        run.signal(libc::SIGCONT);
        while pids.iter().any(|pid| is_stopped(pid)) {
            std::thread::yield_now();
        }
    }
    run.signal(libc::SIGTERM);
    run.end();
}

#[test]
fn ctrl_z_stops_the_workers_too_and_they_continue_together() {
    let _alone = common::alone();
    let (pid, mut terminal) = on_terminal(&[
        "run",
        "-q",
        "-n",
        "2",
        "--",
        "sh",
        "-c",
        &says(&["USR1", "TERM"]),
    ]);
    read_until(&mut terminal, "ready", 2);
    terminal.write_all(b"\x1a").unwrap();
    let mut status = 0;
    // SAFETY: our own child, and a place for its status.
    let stopped = unsafe { libc::waitpid(pid, &mut status, libc::WUNTRACED) };
    assert!(stopped == pid && libc::WIFSTOPPED(status), "{status:#x}");
    for signal in [libc::SIGCONT, libc::SIGUSR1] {
        // SAFETY: integers; our own child.
        unsafe { libc::kill(pid, signal) };
    }
    assert_eq!(
        read_until(&mut terminal, "USR1", 2).matches("USR1").count(),
        2
    );
    // SAFETY: as above.
    unsafe {
        libc::kill(pid, libc::SIGTERM);
        read_until(&mut terminal, "never", 1);
        assert_eq!(libc::waitpid(pid, &mut status, 0), pid);
    }
    assert!(
        libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGTERM,
        "{status:#x}"
    );
}

/// A machine of four devices, whose leases are in a directory of the test's own.
struct Machine(std::path::PathBuf);

impl Machine {
    fn new() -> Self {
        Self(std::env::temp_dir().join(unique("run-leases")))
    }

    fn run(&self, args: &[&str]) -> Command {
        let mut run = command(&[&["run", "-q"], args].concat());
        run.env("SHOAL_FAKE_DEVICES", "cuda:4")
            .env("SHOAL_LEASE_DIR", &self.0);
        run
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_lease_is_held_by_the_program_and_no_other_run_has_its_devices() {
    let machine = Machine::new();
    let script = "echo $CUDA_VISIBLE_DEVICES; read line";
    // In place of this program, and under a supervisor whose workers have it: both keep it.
    for supervised in [false, true] {
        let many: &[&str] = if supervised {
            &["-n", "3", "--no-labels"]
        } else {
            &[]
        };
        let script = if supervised {
            "echo $CUDA_VISIBLE_DEVICES; exec sleep 600"
        } else {
            script
        };
        let lease = ["--lease", "3", "--order", "3,1"];
        let args = [many, &lease, &["--", "sh", "-c", script]].concat();
        let mut holder = Running::of(machine.run(&args).stdin(Stdio::piped()));
        let lines = holder.lines(if supervised { 3 } else { 1 });
        let held = lines.join(",");
        assert_eq!(held.split(',').count(), 3, "{held}");
        let mut sorted: Vec<_> = held.split(',').collect();
        sorted.sort_unstable();
        assert_eq!(sorted, ["0", "1", "3"]);

        let show = ["--", "sh", "-c", "echo $CUDA_VISIBLE_DEVICES"];
        let one = machine.run(&[&["--lease", "1", "--wait", "0"], &show[..]].concat());
        assert_eq!(finish(&mut { one }).ok(), "2\n");
        let two = machine.run(&[&["--lease", "2", "--wait", "20ms"], &show[..]].concat());
        finish(&mut { two }).failed(125, "2 devices were not free in time");

        // A request waits until the holder has ended.
        let all = [&["--lease", "4"], &show[..]].concat();
        let mut waiting = Running::of(&mut machine.run(&all));
        holder.signal(if supervised {
            libc::SIGKILL
        } else {
            libc::SIGTERM
        });
        holder.end();
        assert_eq!(waiting.lines(1), ["0,1,2,3"]);
        assert!(waiting.end().1.success());
    }
}

#[test]
fn a_program_that_uses_small_descriptors_keeps_its_lease() {
    let machine = Machine::new();
    let script =
        "for fd in 3 4 5 6 7 8 9; do eval \"exec $fd>/dev/null\"; done; echo ready; read line";
    for how in [
        &["--lease", "1"][..],
        &["--lease", "1", "-n", "1", "--no-labels"],
    ] {
        let script = if how.len() > 2 {
            script.replace("read line", "exec sleep 600")
        } else {
            script.to_owned()
        };
        let args = [how, &["--", "sh", "-c", &script]].concat();
        let mut holder = Running::of(machine.run(&args).stdin(Stdio::piped()));
        assert_eq!(holder.lines(1), ["ready"]);
        let all = machine.run(&["--lease", "4", "--wait", "0", "--", "true"]);
        finish(&mut { all }).failed(125, "4 devices were not free");
        holder.signal(libc::SIGTERM);
        holder.end();
    }
}

#[test]
fn the_descriptor_of_a_lease_has_a_number_from_700_on_in_every_program() {
    let machine = Machine::new();
    let list = ["--", "sh", "-c", "ls -l /proc/self/fd"];
    for how in [
        &["--lease", "1"][..],
        &["--lease", "1", "-n", "1", "--no-labels"],
    ] {
        let run = machine.run(&[how, &list].concat());
        let mut shell = Command::new("sh");
        let limited = "ulimit -n 4096 2>/dev/null || exit 77; exec \"$0\" \"$@\"";
        shell.args(["-c", limited, env!("CARGO_BIN_EXE_shoal")]);
        shell.args(run.get_args());
        for (name, value) in run.get_envs() {
            shell.envs(value.map(|value| (name, value)));
        }
        let done = finish(&mut shell);
        if done.code == Some(77) {
            eprintln!("skipped: fewer descriptors are allowed");
            return;
        }
        let text = done.ok();
        let line = text.lines().find(|line| line.contains("/claim-")).unwrap();
        let (before, _) = line.split_once(" -> ").unwrap();
        let number: u32 = before.rsplit(' ').next().unwrap().parse().unwrap();
        assert!(number >= 700, "{how:?}: {line}");
    }
}

#[test]
fn a_mask_of_numbers_in_an_unknown_order_is_refused() {
    let machine = Machine::new();
    let run = |mask: &str, order: &str| {
        let show = [
            "--lease",
            "1",
            "--",
            "sh",
            "-c",
            "echo $CUDA_VISIBLE_DEVICES",
        ];
        let mut run = machine.run(&show);
        run.env("CUDA_VISIBLE_DEVICES", mask)
            .env("CUDA_DEVICE_ORDER", order);
        finish(&mut run)
    };
    run("2,3", "FASTEST_FIRST").failed(125, "set it to PCI_BUS_ID");
    assert_eq!(run("2,3", "PCI_BUS_ID").ok(), "2\n");
    let id = "GPU-fa4e0000-0000-4000-8000-000000000002";
    assert_eq!(run(id, "FASTEST_FIRST").ok(), format!("{id}\n"));
}

#[test]
fn an_orphan_keeps_the_lease_of_its_run() {
    let machine = Machine::new();
    let script = "(exec setsid sleep 600 >&- 2>&-) & echo $!; exit 0";
    let mut run = Running::of(&mut machine.run(&["--lease", "4", "--", "sh", "-c", script]));
    let orphan: i32 = run.lines(1)[0].parse().unwrap();
    assert!(run.end().1.success());
    let probe = || {
        let code = finish(&mut machine.run(&["--lease", "1", "--wait", "0", "--", "true"])).code;
        code == Some(0)
    };
    assert!(
        !probe(),
        "the orphan computes on a device that another run got"
    );
    // SAFETY: integers; the process that this test has started.
    unsafe { libc::kill(orphan, libc::SIGKILL) };
    while !probe() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}
