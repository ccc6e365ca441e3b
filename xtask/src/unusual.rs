//! Tests of `cargo xtask install` as a command, under unusual conditions. A part of `cargo xtask test`.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::installed::say;
use crate::step::{root, target};

pub(crate) fn run() -> Result<(), String> {
    let folder = target().join("consumers/unusual");
    let _ = fs::remove_dir_all(&folder);
    a_failure_installs_nothing(&folder)?;
    let _ = fs::remove_dir_all(&folder);
    Ok(())
}

/// Without a linker.
fn a_failure_installs_nothing(prefix: &Path) -> Result<(), String> {
    say("an installation without a linker");
    let mut install = Command::new(program()?);
    install.arg("install").arg("--prefix").arg(prefix);
    let output = output_of(
        install
            .env("CC", "no-such-compiler -pipe")
            .env_remove("DESTDIR"),
    )?;
    let why = String::from_utf8_lossy(&output.stderr);
    let names = why.contains("CC=\"no-such-compiler -pipe\"");
    match (output.status.success(), names, prefix.exists()) {
        (false, true, false) => Ok(()),
        (_, _, exists) => Err(format!(
            "without a linker, `install` says {why:?}, and its prefix exists: {exists}"
        )),
    }
}

/// This program.
fn program() -> Result<std::path::PathBuf, String> {
    std::env::current_exe().map_err(|err| format!("this task's program: {err}"))
}

/// Runs the command in the checkout.
fn output_of(command: &mut Command) -> Result<Output, String> {
    let output = command.current_dir(root()).output();
    output.map_err(|err| format!("{command:?}: {err}"))
}
