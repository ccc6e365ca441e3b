//! The command line as a script uses it: its output and its exit codes.
#![cfg(feature = "cli")]

#[path = "../common/mod.rs"]
mod common;

mod bench;
mod contents;
mod devices;
mod machine;
mod objects;
mod pickles;
mod run;
mod run_workers;
mod signals;
mod terminal;

use std::fs::File;
use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// The result of a run of `shoal`.
struct Done {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Done {
    /// Asserts that it succeeded. Returns its output.
    #[track_caller]
    fn ok(self) -> String {
        assert_eq!(
            (self.code, self.err.as_str()),
            (Some(0), ""),
            "{}",
            self.out
        );
        self.out
    }

    /// Asserts that it failed with this code and an error that contains `why`, and printed nothing else.
    #[track_caller]
    fn failed(self, code: i32, why: &str) {
        assert_eq!(
            (self.code, self.out.as_str()),
            (Some(code), ""),
            "{}",
            self.err
        );
        assert!(self.err.contains(why), "{:?} is not in {:?}", why, self.err);
    }

    #[track_caller]
    fn json(self) -> serde_json::Value {
        serde_json::from_str(&self.ok()).unwrap()
    }
}

/// `shoal` with these arguments, in an environment without masks.
fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shoal"));
    command.args(args).stdin(Stdio::null());
    for family in shoal::device::families() {
        command.env_remove(family.variable());
    }
    command
}

fn shoal(args: &[&str]) -> Done {
    finish(&mut command(args))
}

fn finish(command: &mut Command) -> Done {
    common::watchdog();
    let done = command.output().unwrap();
    Done {
        code: done.status.code(),
        out: String::from_utf8(done.stdout).unwrap(),
        err: String::from_utf8(done.stderr).unwrap(),
    }
}

/// A name that no other test uses.
fn unique(stem: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("cli-{stem}-{}-{count}", std::process::id())
}

#[test]
fn help_and_version_succeed_and_no_arguments_is_wrong_usage() {
    assert!(shoal(&["--help"]).ok().contains("Exit codes: 0 done"));
    let version = format!("shoal {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(shoal(&["--version"]).ok(), version);
    shoal(&[]).failed(2, "Usage: shoal <COMMAND>");
    shoal(&["frobnicate"]).failed(2, "frobnicate");
    shoal(&["ls", "--frobnicate"]).failed(2, "frobnicate");
}

#[test]
fn a_reader_that_closes_the_pipe_is_no_failure() {
    let mut ls = command(&["devices", "families", "--json"]);
    ls.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = ls.spawn().unwrap();
    drop(child.stdout.take());
    let mut err = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut err)
        .unwrap();
    assert!(child.wait().unwrap().success(), "{err}");
    assert_eq!(err, "");
}

#[test]
fn output_that_cannot_be_written_is_a_failure() {
    let full = File::options().write(true).open("/dev/full");
    let full = full.unwrap();
    for args in [
        &["devices", "families"][..],
        &["help"],
        &["ls", "--help"],
        &["--version"],
    ] {
        let mut prints = command(args);
        prints.stdout(full.try_clone().unwrap());
        finish(&mut prints).failed(1, "cannot write");
    }
}

#[test]
fn an_error_that_cannot_be_written_keeps_its_exit_code() {
    let missing = unique("no-such-object");
    for (args, code) in [
        (&["rm", &missing][..], 3),
        (&["stat", &missing], 3),
        (&["queue", "get", &missing], 3),
        (&["ls", "--frobnicate"], 2),
        (&["run", "--", "/no/such/program"], 127),
        (&["run", "-n", "1", "--", "/no/such/program"], 127),
    ] {
        let (reader, without_reader) = std::io::pipe().unwrap();
        drop(reader);
        let full = File::options().write(true).open("/dev/full").unwrap();
        for error in [Stdio::from(full), Stdio::from(without_reader)] {
            let status = command(args).stdout(Stdio::null()).stderr(error).status();
            assert_eq!(status.unwrap().code(), Some(code), "{args:?}");
        }
    }
}

#[test]
fn rm_removes_the_other_names_if_its_errors_cannot_be_written() {
    let name = unique("removed");
    shoal(&["queue", "put", &name, "x", "--create"]).ok();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let (first, second) = (unique("missing"), unique("missing"));
    let mut rm = command(&["rm", &first, &second, &name]);
    assert_eq!(rm.stderr(full).status().unwrap().code(), Some(3));
    shoal(&["stat", &name]).failed(3, &name);
}
