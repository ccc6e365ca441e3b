//! An installation of Shoal in a separate folder, and the helpers of its tests.

use std::fs;
use std::path::{Path, PathBuf};

use crate::install::{self, Options};
use crate::step::{cargo, run as run_command, target};

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
