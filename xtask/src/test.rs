//! `cargo xtask test`: every check and every test.

use std::collections::BTreeSet;

use crate::step::{Steps, cargo, program};
use crate::{header, python};

/// Runs the steps whose names contain `only`.
pub(crate) fn run(only: &str) -> Result<(), String> {
    let before = objects();
    let mut steps = Steps::new(only);
    steps.step("format", || step("fmt --all --check"));
    steps.step("lint", || {
        step("clippy --workspace --all-targets --all-features -- -D warnings")
    });
    steps.step("header", || header::header(true));
    steps.step("rust documentation", || {
        let mut doc = cargo("doc --quiet --workspace --no-deps --document-private-items");
        crate::step::run(doc.env("RUSTDOCFLAGS", "-D warnings"))
    });
    // The library the C and C++ programs link against, and the command line.
    steps.step("build", || step("build --features cli"));
    steps.step("rust, C and C++ tests", || {
        step("test --features cli --no-fail-fast")
    });
    steps.step("crash points", || {
        step(
            "test --features crash-points --no-fail-fast --lib --test queue_crash --test queue_crash_waits --test map_crash",
        )
    });
    steps.step("python tests", || {
        let python = python::install_with_tools()?;
        crate::step::run(&mut program(python, "-m pytest tests/python -q"))
    });
    steps.step("nothing stays behind", || {
        let left: Vec<_> = objects().difference(&before).cloned().collect();
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("/dev/shm still holds {left:?}"))
        }
    });
    steps.finish()
}

fn step(args: &str) -> Result<(), String> {
    crate::step::run(&mut cargo(args))
}

/// The files of all shared objects on this machine.
fn objects() -> BTreeSet<String> {
    let entries = std::fs::read_dir("/dev/shm")
        .into_iter()
        .flatten()
        .flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.starts_with("shoal")).collect()
}
