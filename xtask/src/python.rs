//! The project's own Python environment, and the package installed in it.

use std::path::PathBuf;
use std::process::Command;

use crate::step::{self, program, root};

/// What the tests of the Python package need.
const TOOLS: &str = "pytest pytest-timeout mypy";

/// The interpreter of `.venv`, made if it is not there.
pub(crate) fn interpreter() -> Result<PathBuf, String> {
    let venv = root().join(".venv");
    let python = venv.join("bin/python");
    if !python.exists() {
        step::run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
    }
    Ok(python)
}

/// Installs the package from the checkout, built anew, into `.venv`.
pub(crate) fn install() -> Result<PathBuf, String> {
    let python = interpreter()?;
    let quiet = "-m pip install --quiet --disable-pip-version-check";
    step::run(&mut program(
        &python,
        &format!("{quiet} --force-reinstall ./bindings/python"),
    ))?;
    Ok(python)
}

/// [`install`], and the tools its tests need.
pub(crate) fn install_with_tools() -> Result<PathBuf, String> {
    let python = install()?;
    let quiet = "-m pip install --quiet --disable-pip-version-check";
    step::run(&mut program(&python, &format!("{quiet} {TOOLS}")))?;
    Ok(python)
}
