//! An installation of Shoal in a separate folder, and the helpers of its tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::{cargo, program, run as run_command, run_expecting};
use crate::files::target;
use crate::install::{self, Options};
use crate::manual::EXAMPLES;

/// What the programs of tests/install print.
const EXCHANGED: &str = "resize 17.png, 2000";

/// What examples/c/manual_*.c print last.
const MANUAL: &str = "all of it works";

/// An installation in a separate folder.
pub(crate) struct Installed {
    pub(crate) prefix: PathBuf,
    /// Where the programs are built.
    pub(crate) scratch: PathBuf,
}

impl Installed {
    /// Installs what cargo has built for release.
    pub(crate) fn fresh() -> Result<Self, String> {
        let scratch = target().join("consumers");
        let prefix = scratch.join("prefix");
        let _ = fs::remove_dir_all(&prefix);
        let options = Options {
            prefix: prefix.clone(),
            ..Options::default()
        };
        run_command(&mut cargo(
            "build --quiet --release --features cli --lib --bins",
        ))?;
        install::install(&options)?;
        Ok(Self { prefix, scratch })
    }

    /// The folder of its libraries.
    pub(crate) fn lib(&self) -> PathBuf {
        self.prefix.join("lib")
    }
}

/// Prints the name of the next test.
pub(crate) fn say(what: &str) {
    println!("-- {what}");
}

/// Whether a program is on PATH.
pub(crate) fn on_path(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
}

/// Whether a program that tests need is on PATH. If not, one line says so.
pub(crate) fn is_there(name: &str) -> bool {
    let found = on_path(name);
    if !found {
        println!("-- {name} is not installed: its tests are skipped");
    }
    found
}

/// All files in a folder and its subfolders.
pub(crate) fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    let all = paths.flat_map(|path| match path.is_dir() && !path.is_symlink() {
        true => files_below(&path),
        false => vec![path],
    });
    all.collect()
}

/// The file of this name in a folder and its subfolders.
pub(crate) fn file_below(folder: &Path, name: &str) -> Result<PathBuf, String> {
    let mut files = files_below(folder).into_iter();
    let found = files.find(|path| path.file_name().is_some_and(|it| it == name));
    found.ok_or_else(|| format!("there is no {name} in {}", folder.display()))
}

/// Runs programs of a folder, which have to print the expected line.
pub(crate) fn run_all(folder: &Path, names: &[&str]) -> Result<(), String> {
    let mut paths = names.iter().map(|name| folder.join(name));
    paths.try_for_each(|path| run_program(&mut Command::new(path), ""))
}

/// Runs a program that was built, which has to print the expected line.
pub(crate) fn run_program(run: &mut Command, source: &str) -> Result<(), String> {
    let expected = match EXAMPLES.contains(&source) {
        true => MANUAL,
        false => EXCHANGED,
    };
    // A separate directory of leases: the default one is shared by all programs of this machine and stays.
    run.env("SHOAL_LEASE_DIR", target().join("consumers/leases"));
    run_expecting(run.env_remove("CUDA_VISIBLE_DEVICES"), &[expected])
}

/// A build tool of the environment, with that environment's folder first in PATH, so that the tools find each other.
pub(crate) fn tool(folder: &Path, name: &str, args: &str) -> Command {
    let mut command = program(folder.join(name), args);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(folder.to_path_buf()).chain(std::env::split_paths(&path));
    if let Ok(path) = std::env::join_paths(folders) {
        command.env("PATH", path);
    }
    command
}
