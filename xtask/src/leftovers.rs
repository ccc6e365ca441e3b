//! Checks that a task leaves nothing in shared memory.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::Duration;

use crate::command::{self, program};
use crate::files::target;

/// The shared objects that existed when the task began.
pub(crate) struct Leftovers(BTreeSet<String>);

impl Leftovers {
    pub(crate) fn before() -> Self {
        Self(objects())
    }

    /// Fails if there are objects that did not exist before and that no process uses.
    ///
    /// Tests kill processes, so the liveness files of killed processes are collected first, as the next program
    /// that creates an object would do.
    pub(crate) fn none_after(&self) -> Result<(), String> {
        let shoal = target().join("release/shoal");
        let mut left = Vec::new();
        // A process that was just killed may take a moment to end; until then its files are not collected.
        for _ in 0..150 {
            if shoal.exists() {
                command::run(program(&shoal, "gc").stdout(Stdio::null()))?;
            }
            left = objects().difference(&self.0).cloned().collect();
            // Other programs may use the library on this machine.
            left.retain(|file| !in_use(file));
            if left.is_empty() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        Err(format!("/dev/shm still holds {left:?}"))
    }
}

/// The files of all shared objects on this machine.
fn objects() -> BTreeSet<String> {
    let files = std::fs::read_dir("/dev/shm")
        .into_iter()
        .flatten()
        .flatten();
    let names = files.filter_map(|file| file.file_name().into_string().ok());
    names
        .filter(|name| {
            ["shoal.", "shoal~", "shoal+", "shoal="]
                .iter()
                .any(|it| name.starts_with(it))
        })
        .collect()
}

/// Whether some process has the file mapped.
fn in_use(file: &str) -> bool {
    let path = format!("/dev/shm/{file}");
    let mut processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.any(|process| {
        let maps = std::fs::read_to_string(process.path().join("maps"));
        maps.is_ok_and(|maps| maps.lines().any(|line| line.ends_with(&path)))
    })
}
