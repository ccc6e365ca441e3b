//! `cargo xtask dist`: the wheel, and a proof that it is all that a machine needs.

use std::fs;
use std::path::{Path, PathBuf};

use crate::demo::{EXAMPLES, TEXTS, run_example};
use crate::python::{self, Environment};
use crate::step::{Steps, cargo, program, root, run as run_command, target};

pub(crate) fn run() -> Result<(), String> {
    let wheel = build()?;
    println!("{}", wheel.display());
    let mut steps = Steps::new("");
    let mut interpreters = vec!["python3".to_owned()];
    interpreters.extend(python::others());
    for interpreter in interpreters {
        steps.step(&format!("the wheel in an empty {interpreter}"), || {
            try_out(&wheel, &interpreter)
        });
    }
    steps.finish()
}

/// Builds `target/dist/shoal-VERSION-py3-none-PLATFORM.whl`, with the library and the
/// command line inside.
pub(crate) fn build() -> Result<PathBuf, String> {
    run_command(&mut cargo(
        "build --quiet --release --features cli --lib --bins",
    ))?;
    let environment = Environment::prepare("python3")?;
    let folder = target().join("dist");
    let _ = fs::remove_dir_all(&folder);
    environment.build_wheel(&folder)?;
    let entries = fs::read_dir(&folder).map_err(|err| format!("{}: {err}", folder.display()))?;
    let mut paths = entries.flatten().map(|entry| entry.path());
    let wheel = paths.find(|path| path.extension().is_some_and(|it| it == "whl"));
    wheel.ok_or_else(|| format!("there is no wheel in {}", folder.display()))
}

/// Installs the wheel into an environment that has nothing else, in a folder away from the
/// checkout, and runs the examples there.
pub(crate) fn try_out(wheel: &Path, interpreter: &str) -> Result<(), String> {
    let elsewhere = std::env::temp_dir().join(format!("shoal-wheel-{}", std::process::id()));
    let done = furnish(&elsewhere).and_then(|()| {
        let python = elsewhere.join("env/bin/python");
        let mut make = program(interpreter, "-m venv --clear");
        run_command(make.arg(elsewhere.join("env")))?;
        let mut install = program(&python, "-m pip install --quiet --no-index");
        run_command(install.arg("--disable-pip-version-check").arg(wheel))?;
        run_command(&mut program(&python, "-m shoal --version"))?;
        run_command(&mut program(elsewhere.join("env/bin/shoal"), "--version"))?;
        EXAMPLES.iter().try_for_each(|example| {
            println!("-- {}", example.what);
            run_example(example, &python, &elsewhere)
        })
    });
    let _ = fs::remove_dir_all(&elsewhere);
    done
}

/// Puts the examples, and what they read, into a folder.
fn furnish(folder: &Path) -> Result<(), String> {
    let examples = folder.join("examples/python");
    let copied = fs::create_dir_all(&examples).and_then(|()| {
        for text in TEXTS.split_whitespace() {
            fs::copy(root().join(text), folder.join(text))?;
        }
        for entry in fs::read_dir(root().join("examples/python"))?.flatten() {
            if entry.path().is_file() {
                fs::copy(entry.path(), examples.join(entry.file_name()))?;
            }
        }
        Ok(())
    });
    copied.map_err(|err| format!("{}: {err}", folder.display()))
}
