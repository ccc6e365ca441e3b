//! `cargo xtask dist`: builds the wheel and the source package, and checks that each is complete.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::command::{cargo, program, run as run_command};
use crate::demo::{EXAMPLES, TEXTS, run_example};
use crate::files::{self, at, root, target};
use crate::installed::file_below;
use crate::link::stays_loaded;
use crate::python::{self, Environment};
use crate::step::Steps;

/// The licences, whose texts are in the top folder. A package for Python has only files of its own folder, so they
/// are there too.
const LICENCES: [&str; 2] = ["LICENSE-APACHE", "LICENSE-MIT"];

pub(crate) fn run() -> Result<(), String> {
    let wheel = build()?;
    let sources = build_sources()?;
    println!("{}\n{}", wheel.display(), sources.display());
    let mut steps = Steps::new("");
    steps.step("the source package says what it needs", || {
        is_whole(&sources)?;
        needs_rust(&sources)?;
        needs_its_library(&sources)
    });
    steps.step("a wheel from the source package", || {
        try_out(&wheel_from(&sources)?, "python3")
    });
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
    wheel_in(&folder)
}

fn wheel_in(folder: &Path) -> Result<PathBuf, String> {
    let mut paths = files::entries(folder)?.into_iter();
    let wheel = paths.find(|path| path.extension().is_some_and(|it| it == "whl"));
    wheel.ok_or_else(|| format!("there is no wheel in {}", folder.display()))
}

/// Builds `target/dist/shoal-VERSION.tar.gz`, with the sources of the library inside.
pub(crate) fn build_sources() -> Result<PathBuf, String> {
    let environment = Environment::prepare("python3")?;
    environment.install()?;
    let folder = target().join("dist");
    let mut build = program(environment.python(), "-m hatchling build -t sdist -d");
    run_command(
        build
            .arg(&folder)
            .current_dir(root().join("bindings/python")),
    )?;
    let version = crate::header::package_version()?;
    Ok(folder.join(format!("shoal-{version}.tar.gz")))
}

/// Checks that the source package has every file that its Rust sources name: modules by path, and included texts.
/// Only `cargo xtask dist` builds the package, which takes minutes.
pub(crate) fn is_whole(sources: &Path) -> Result<(), String> {
    let mut list = program("tar", "-tzf");
    let output = list.arg(sources).output();
    let output = output.map_err(at("tar"))?;
    let names = String::from_utf8_lossy(&output.stdout).into_owned();
    let in_rust = |name: &str| Some(PathBuf::from(name.split_once("/rust/")?.1));
    let files: BTreeSet<PathBuf> = names.lines().filter_map(in_rust).collect();
    let mut missing = Vec::new();
    for file in files
        .iter()
        .filter(|it| it.extension().is_some_and(|it| it == "rs"))
    {
        let text = files::read(root().join(file))?;
        let named = ["#[path = \"", "include_str!(\""].map(|it| text.split(it).skip(1));
        for name in named.into_iter().flatten() {
            let name = name.split('"').next().unwrap_or_default();
            if !files.contains(&resolved(file, name)) {
                missing.push(format!("{name} of {}", file.display()));
            }
        }
    }
    match (files.is_empty(), missing.is_empty()) {
        (false, true) => Ok(()),
        _ => Err(format!("{} lacks {missing:?}", sources.display())),
    }
}

/// The path of `name`, which is relative to the folder of the file `from`.
fn resolved(from: &Path, name: &str) -> PathBuf {
    let mut path = from.parent().unwrap_or(from).to_path_buf();
    for part in Path::new(name) {
        match part.to_str() {
            Some("..") => {
                path.pop();
            }
            _ => path.push(part),
        }
    }
    path
}

/// Installs the source package without Rust. The installation has to fail with one line that says that cargo is
/// missing.
pub(crate) fn needs_rust(sources: &Path) -> Result<(), String> {
    is_refused(sources, None, "cargo is not on PATH")
}

/// Installs the source package with another file as its library. The installation has to fail with one line.
pub(crate) fn needs_its_library(sources: &Path) -> Result<(), String> {
    is_refused(sources, Some("/etc/passwd"), "which is not a libshoal.so")
}

/// Installs the source package without Rust, with this file as its library. It has to fail with one line that
/// contains `why`.
fn is_refused(sources: &Path, library: Option<&str>, why: &str) -> Result<(), String> {
    let environment = Environment::prepare("python3")?;
    let install =
        "-m pip install --disable-pip-version-check --no-deps --no-build-isolation --target";
    let mut install = program(environment.python(), install);
    install.arg(target().join("dist/nowhere")).arg(sources);
    // PATH contains no cargo, and CARGO names the one that has started this task.
    install
        .env("PATH", "/nonexistent")
        .env_remove("CARGO")
        .env_remove("SHOAL_LIBRARY")
        .envs(library.map(|it| ("SHOAL_LIBRARY", it)));
    let output = install.output().map_err(at("pip"))?;
    let printed = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    let lines = printed.lines().filter(|line| line.contains(why)).count();
    match (
        output.status.success(),
        lines,
        printed.contains("Traceback"),
    ) {
        (false, 1, false) => Ok(()),
        _ => Err(format!(
            "`pip install` does not say {why:?} in one line:\n{printed}"
        )),
    }
}

/// Builds the wheel from the source package with pip, in a folder outside the checkout.
fn wheel_from(sources: &Path) -> Result<PathBuf, String> {
    let environment = Environment::prepare("python3")?;
    let folder = target().join("dist/from-sources");
    let wheel = "-m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir";
    let mut wheel = program(environment.python(), wheel);
    wheel
        .arg(&folder)
        .arg(sources)
        .current_dir(std::env::temp_dir());
    wheel
        .env_remove("SHOAL_LIBRARY")
        .env("CARGO_TARGET_DIR", target().join("sources"));
    run_command(&mut wheel)?;
    wheel_in(&folder)
}

/// Installs the wheel into an empty environment, in a folder outside the checkout, and runs the examples there.
pub(crate) fn try_out(wheel: &Path, interpreter: &str) -> Result<(), String> {
    let elsewhere = std::env::temp_dir().join(format!("shoal-wheel-{}", std::process::id()));
    let done = copy_examples(&elsewhere).and_then(|()| {
        let python = elsewhere.join("env/bin/python");
        let mut make = program(interpreter, "-m venv --clear");
        run_command(make.arg(elsewhere.join("env")))?;
        let mut install = program(&python, "-m pip install --quiet --no-index");
        run_command(install.arg("--disable-pip-version-check").arg(wheel))?;
        run_command(&mut program(&python, "-m shoal --version"))?;
        stays_loaded(&file_below(&elsewhere.join("env/lib"), "libshoal.so")?)?;
        has_licences(&elsewhere.join("env/lib"))?;
        run_command(&mut program(elsewhere.join("env/bin/shoal"), "--version"))?;
        EXAMPLES.iter().try_for_each(|example| {
            println!("-- {}", example.what);
            run_example(example, &python, &elsewhere)
        })
    });
    let _ = fs::remove_dir_all(&elsewhere);
    done
}

/// Checks that the package that is installed in a folder has the texts of its licences, and names them.
fn has_licences(folder: &Path) -> Result<(), String> {
    for name in LICENCES {
        let file = file_below(folder, name)?;
        let about = file.with_file_name("../METADATA");
        let metadata = files::read(&about)?;
        if !metadata.contains(&format!("\nLicense-File: {name}\n")) {
            return Err(format!("{} does not name {name}", about.display()));
        }
    }
    Ok(())
}

/// Copies the examples and their input files into a folder.
fn copy_examples(folder: &Path) -> Result<(), String> {
    let examples = folder.join("examples/python");
    files::create_dir(&examples)?;
    for text in TEXTS.split_whitespace() {
        files::copy_into(&root().join(text), folder)?;
    }
    for file in files::entries(root().join("examples/python"))? {
        if file.is_file() {
            files::copy_into(&file, &examples)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_package_for_python_has_the_same_licences() {
        for name in LICENCES {
            let read = |folder: &str| fs::read_to_string(root().join(folder).join(name)).unwrap();
            assert_eq!(read("bindings/python"), read(""), "{name}");
        }
    }

    #[test]
    fn a_path_is_relative_to_the_folder_of_the_file_that_names_it() {
        let from = Path::new("src/bin/shoal/bench.rs");
        let named = resolved(from, "../../../benches/harness/mod.rs");
        assert_eq!(named, Path::new("benches/harness/mod.rs"));
    }
}
