//! Running programs: each has a time limit, and is killed with its descendants if it hangs.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use crate::files::root;

/// A program that runs for longer than this is considered to hang.
pub(crate) const WATCHDOG: Duration = Duration::from_secs(10 * 60);

/// How long to wait for the last output of a program that has ended: for lines that must come, and for others.
const GRACE: Duration = Duration::from_secs(30);
const SHORT_GRACE: Duration = Duration::from_millis(200);

/// `cargo` with these arguments, in the project's top folder.
pub(crate) fn cargo(args: &str) -> Command {
    let mut cargo = program(env!("CARGO"), args);
    // A relative folder is relative to the one in which the task was started.
    if let Some(folder) = std::env::var_os("CARGO_TARGET_DIR")
        && let Ok(folder) = std::path::absolute(folder)
    {
        cargo.env("CARGO_TARGET_DIR", folder);
    }
    cargo
}

/// A program with these arguments, split at spaces, in the project's top folder.
pub(crate) fn program(program: impl AsRef<Path>, args: &str) -> Command {
    let mut command = Command::new(program.as_ref());
    command.args(args.split_whitespace()).current_dir(root());
    command
}

/// Runs the command to its end and fails if it does.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    Watched::start(command)?.succeed_within(WATCHDOG)
}

/// The same for a command without a time limit.
pub(crate) fn run_for_long(command: &mut Command) -> Result<(), String> {
    Watched::start(command)?.succeed_within(6 * WATCHDOG)
}

/// Runs the command to its end and returns what it printed, so that commands that run at the same time do not
/// mix their lines.
pub(crate) fn run_quietly(
    command: &mut Command,
    watchdog: Duration,
) -> (String, Result<(), String>) {
    let mut run = || -> Result<_, String> {
        let mut output = scratch_file().map_err(|err| format!("a file for output: {err}"))?;
        let to = || output.try_clone().map_err(|err| err.to_string());
        command.stdout(to()?).stderr(to()?);
        let result = Watched::start(command)?.succeed_within(watchdog);
        let mut printed = Vec::new();
        let read = output
            .rewind()
            .and_then(|()| output.read_to_end(&mut printed));
        read.map_err(|err| err.to_string())?;
        Ok((String::from_utf8_lossy(&printed).into_owned(), result))
    };
    run().unwrap_or_else(|why| (String::new(), Err(why)))
}

/// An anonymous file. A pipe would stay open as long as any process that the command leaves behind.
fn scratch_file() -> std::io::Result<File> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("shoal-task-{}-{number}", std::process::id()));
    let file = File::options()
        .read(true)
        .append(true)
        .create_new(true)
        .open(&path)?;
    std::fs::remove_file(path)?;
    Ok(file)
}

/// How many commands run at the same time: more than a small machine has cores, because tests mostly wait.
const AT_ONCE: usize = 3;

/// Runs the commands in this order, [`AT_ONCE`] at a time, and prints the output of each when it has ended. All of
/// them run, and every failure is reported.
pub(crate) fn run_side_by_side(commands: Vec<Command>) -> Result<(), String> {
    let (waiting, failures) = (Mutex::new(commands.into_iter()), Mutex::new(Vec::new()));
    let next = || locked(&waiting).next();
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(mut command) = next() {
                    let started = Instant::now();
                    let (printed, ended) = run_quietly(&mut command, WATCHDOG);
                    let mut failures = locked(&failures);
                    let took = started.elapsed().as_secs_f64();
                    println!("-- {took:.1} s: {}\n{printed}", shown(&command));
                    if let Err(why) = ended {
                        failures.push(format!("{why}\n{}", end_of(&printed)));
                    }
                }
            });
        }
    });
    match locked(&failures).join("\n") {
        none if none.is_empty() => Ok(()),
        failures => Err(failures),
    }
}

/// The last lines, which most likely explain a failure.
pub(crate) fn end_of(printed: &str) -> String {
    const LINES: usize = 20;
    let lines: Vec<&str> = printed.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs the command, which must succeed and print each of these lines, up to spaces.
pub(crate) fn run_expecting(command: &mut Command, expected: &[&str]) -> Result<(), String> {
    let mut child = Watched::start(command.stdout(Stdio::piped()))?;
    let output = child.child.stdout.take().ok_or("no output")?;
    // A separate thread reads the output, so that the watchdog acts even if nothing is printed.
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            println!("{line}");
            let words: Vec<&str> = line.split_whitespace().collect();
            if sender.send(words.join(" ")).is_err() {
                break;
            }
        }
    });
    child.succeed_within(WATCHDOG)?;
    let mut missing = expected.to_vec();
    // The last lines may not have been read yet. A grandchild that stays keeps the pipe open, so the wait is
    // limited.
    let grace = |missing: &[&str]| match missing.is_empty() {
        true => SHORT_GRACE,
        false => GRACE,
    };
    while let Ok(line) = lines.recv_timeout(grace(&missing)) {
        missing.retain(|it| *it != line);
    }
    match missing.first() {
        None => Ok(()),
        Some(line) => Err(format!("{} did not print {line:?}", shown(command))),
    }
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

/// A program that is killed with all its descendants if it hangs.
struct Watched {
    child: Child,
    shown: String,
}

impl Watched {
    /// The program stays in the terminal's foreground, so that Ctrl-C reaches it.
    fn start(command: &mut Command) -> Result<Self, String> {
        let shown = shown(command);
        match command.spawn() {
            Ok(child) => Ok(Self { child, shown }),
            Err(err) => Err(format!("{shown}: {err}")),
        }
    }

    fn succeed_within(&mut self, watchdog: Duration) -> Result<(), String> {
        let started = Instant::now();
        loop {
            match self.child.try_wait().map_err(|err| err.to_string())? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(format!("{status}: {}", self.shown)),
                None if started.elapsed() > watchdog => break,
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        }
        let pids = family(self.child.id());
        let waits: Vec<String> = pids.iter().map(|pid| waits_of(*pid)).collect();
        let mut kill = Command::new("kill");
        kill.args(["-KILL", "--"]);
        let _ = kill.args(pids.iter().map(u32::to_string)).status();
        let _ = self.child.kill();
        let _ = self.child.wait();
        Err(format!(
            "hung for {watchdog:?} and was killed: {}\n{}",
            self.shown,
            waits.concat()
        ))
    }
}

/// The process and all its descendants, also those in other process groups and sessions.
fn family(ancestor: u32) -> BTreeSet<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let parents: Vec<(u32, u32)> = pids.filter_map(|pid| Some((pid, parent(pid)?))).collect();
    let mut found = BTreeSet::from([ancestor]);
    loop {
        let known = found.len();
        let started = parents.iter().filter(|(_, parent)| found.contains(parent));
        let started: Vec<u32> = started.map(|(pid, _)| *pid).collect();
        found.extend(started);
        if found.len() == known {
            return found;
        }
    }
}

/// The command of a process, and where each of its threads waits. A test's thread has the test's name.
fn waits_of(pid: u32) -> String {
    let read = |file: PathBuf| std::fs::read_to_string(file).unwrap_or_default();
    let process = PathBuf::from(format!("/proc/{pid}"));
    let command = read(process.join("cmdline")).replace('\0', " ");
    let threads = std::fs::read_dir(process.join("task"));
    let threads = threads.into_iter().flatten().flatten().map(|thread| {
        let at = |file| read(thread.path().join(file));
        format!("    {}: {}\n", at("comm").trim(), at("wchan").trim())
    });
    format!("{pid} {command}\n{}", threads.collect::<String>())
}

fn parent(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // pid (command) state parent …, and the command may contain any character.
    let (_, behind) = stat.rsplit_once(") ")?;
    behind.split(' ').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_hangs_is_killed_with_its_descendants() {
        // The grandchild is killed although it has a session of its own.
        let script = "setsid sleep 1000 & echo $!; wait";
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).stdout(Stdio::piped());
        let mut hanging = Watched::start(&mut shell).unwrap();
        let mut printed = String::new();
        let mut output = BufReader::new(hanging.child.stdout.take().unwrap());
        output.read_line(&mut printed).unwrap();
        let grandchild: u32 = printed.trim().parse().unwrap();
        assert!(family(hanging.child.id()).contains(&grandchild));
        // It is still a shell until it has executed the program.
        let comm = format!("/proc/{grandchild}/comm");
        while std::fs::read_to_string(&comm).unwrap() != "sleep\n" {
            std::thread::sleep(Duration::from_millis(1));
        }

        let why = hanging.succeed_within(Duration::from_millis(50));
        let why = why.unwrap_err();
        assert!(why.starts_with("hung for 50ms and was killed: sh -c"));
        assert!(why.contains("\n    sleep: "), "{why}");
        // The pipe closes when the last process that holds it ends.
        assert_eq!(output.read_line(&mut printed).unwrap(), 0);
    }

    #[test]
    fn an_expected_line_that_is_not_printed_is_a_failure() {
        let result = |expected: &[&str]| run_expecting(&mut program("echo", "one  two"), expected);
        assert_eq!(result(&["one two"]), Ok(()));
        assert!(
            result(&["one"])
                .unwrap_err()
                .contains("did not print \"one\"")
        );
        assert!(run_expecting(&mut program("false", ""), &[]).is_err());
    }

    #[test]
    fn concurrent_commands_all_run_and_each_failure_is_reported() {
        let folder = std::env::temp_dir().join(format!("shoal-two-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let shell = |script: &str| {
            let mut shell = Command::new("sh");
            shell.args(["-c", script]).current_dir(&folder);
            shell
        };
        // Each waits for the other.
        let first = shell("touch a; until test -e b; do sleep 0.01; done; echo late; exit 1");
        let second = shell("until test -e a; do sleep 0.01; done; touch b");
        let third = shell("touch c; echo why; exit 2");
        let failures = run_side_by_side(vec![first, second, third]).unwrap_err();
        assert!(failures.contains("exit status: 1: sh -c touch a"));
        assert!(failures.contains("exit status: 2: sh -c touch c"));
        assert!(failures.contains("\nlate") && failures.contains("\nwhy"));
        assert!(folder.join("c").exists());
        std::fs::remove_dir_all(&folder).unwrap();
        let both = "echo out; echo err >&2; sleep 1000 & echo $! > /dev/null";
        let mut both = shell(&format!("cd /; {both}; kill $!"));
        let printed = run_quietly(both.current_dir("/"), WATCHDOG);
        assert_eq!(printed, ("out\nerr\n".to_owned(), Ok(())));
    }
}
