//! Running a program as one step of a task, with a watchdog.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

/// A step that takes this long hangs.
const WATCHDOG: Duration = Duration::from_secs(15 * 60);

/// The project's top folder.
pub(crate) fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).to_path_buf()
}

/// Where cargo puts what it builds.
pub(crate) fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => root().join(folder),
        None => root().join("target"),
    }
}

/// `cargo` with these arguments, in the project's top folder.
pub(crate) fn cargo(args: &str) -> Command {
    program(env!("CARGO"), args)
}

/// A program with these arguments, split at spaces, in the project's top folder.
pub(crate) fn program(program: impl AsRef<Path>, args: &str) -> Command {
    let mut command = Command::new(program.as_ref());
    command.args(args.split_whitespace()).current_dir(root());
    command
}

/// Runs the command to its end and fails if it does.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    let status = watched(command)?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{status}: {}", shown(command)))
    }
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Waits for the command; one that hangs is killed with all it started.
fn watched(command: &mut Command) -> Result<ExitStatus, String> {
    // A group of its own, so that the watchdog reaches whatever it started.
    let mut child = command
        .process_group(0)
        .spawn()
        .map_err(|err| format!("{}: {err}", shown(command)))?;
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().map_err(|err| err.to_string())? {
            return Ok(status);
        }
        if started.elapsed() > WATCHDOG {
            let group = format!("-{}", child.id());
            let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
            let _ = child.wait();
            return Err(format!(
                "hung for {WATCHDOG:?} and was killed: {}",
                shown(command)
            ));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What a task does, step by step, and how long each step took.
pub(crate) struct Steps {
    only: String,
    done: Vec<(&'static str, Duration, Result<(), String>)>,
}

impl Steps {
    /// Runs only the steps whose names contain `only`.
    pub(crate) fn new(only: &str) -> Self {
        Self {
            only: only.to_owned(),
            done: Vec::new(),
        }
    }

    /// Runs one step. A failure is remembered and the next steps run all the same.
    pub(crate) fn step(&mut self, name: &'static str, work: impl FnOnce() -> Result<(), String>) {
        if !name.contains(&self.only) {
            return;
        }
        println!("\n==== {name}");
        let started = Instant::now();
        let result = work();
        if let Err(why) = &result {
            eprintln!("{why}");
        }
        self.done.push((name, started.elapsed(), result));
    }

    /// Prints the table of steps and counts the failures.
    pub(crate) fn finish(self) -> Result<(), String> {
        println!("\n==== summary");
        for (name, took, result) in &self.done {
            let word = if result.is_ok() { "ok    " } else { "FAILED" };
            println!("{word} {:>7.1} s  {name}", took.as_secs_f64());
        }
        let failed = self
            .done
            .iter()
            .filter(|(_, _, result)| result.is_err())
            .count();
        println!("{} passed, {failed} failed", self.done.len() - failed);
        match (failed, self.done.len()) {
            (0, 1..) => Ok(()),
            (0, 0) => Err(format!("no step's name contains {:?}", self.only)),
            _ => Err(format!("{failed} steps failed")),
        }
    }
}
