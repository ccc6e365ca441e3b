//! `cargo xtask test`: every check and every test.

use std::fs;

use crate::abi;
use crate::bench;
use crate::dist;
use crate::leftovers::Leftovers;
use crate::python::{self, Environment};
use crate::step::{Steps, cargo, program, root, run as run_command};

/// The tests of what the compiled module of the Python package does.
const HOT: [&str; 5] = ["fast", "map", "queue", "reducers", "sync"];

/// The manifest of that module, which is a workspace of its own.
const MODULE: &str = "--manifest-path bindings/python/fast/Cargo.toml";

/// Which of them.
#[derive(Default)]
pub(crate) struct Choice<'a> {
    /// The steps whose names contain this.
    pub(crate) only: &'a str,
    /// The Python tests with every interpreter that is found, not only with `python3`.
    pub(crate) all_pythons: bool,
}

pub(crate) fn run(choice: &Choice<'_>) -> Result<(), String> {
    let leftovers = Leftovers::before();
    let mut steps = Steps::new(choice.only);
    steps.step("format", || {
        step("fmt --all --check")?;
        step(&format!("fmt {MODULE} --check"))
    });
    steps.step("lint", || {
        step("clippy --workspace --all-targets --all-features -- -D warnings")?;
        let flags = "--target-dir target/python -- -D warnings";
        let mut lint = cargo(&format!("clippy {MODULE} {flags}"));
        run_command(lint.env("PYO3_NO_PYTHON", "1"))
    });
    steps.step("header", || abi::everything(true));
    steps.step("rust documentation", || {
        let mut doc =
            cargo("doc --quiet --workspace --no-deps --document-private-items --all-features");
        run_command(doc.env("RUSTDOCFLAGS", "-D warnings"))
    });
    steps.step("the tasks' own tests", || {
        step("test --quiet --package xtask")
    });
    steps.step("rust, C and C++ tests", || {
        step("test --features cli --no-fail-fast")
    });
    // Without debug assertions: what a hostile segment holds is refused by what is left.
    steps.step("rust, C and C++ tests, optimised", || {
        let programs = programs(|name, _| !["cli", "docs", "style"].contains(&name))?;
        step(&format!(
            "test --release --features cli --no-fail-fast --lib {programs}"
        ))
    });
    steps.step("crash points", || {
        step("test --features crash-points --no-fail-fast --lib")?;
        // Those in modules called `crash…`: the only ones that need the feature (`tests/style`).
        let programs = programs(|_, text| text.contains("crash-points"))?;
        step(&format!(
            "test --features crash-points --no-fail-fast {programs} crash"
        ))
    });
    let mut interpreters = vec!["python3".to_owned()];
    if choice.all_pythons {
        interpreters.extend(python::others());
    }
    for interpreter in interpreters {
        steps.step(&format!("python tests ({interpreter})"), || {
            step("build --release --features cli")?;
            let environment = Environment::prepare(&interpreter)?;
            environment.install()?;
            environment.install_tools()?;
            run_command(&mut program(
                environment.python(),
                "-m pytest tests/python -q",
            ))?;
            // What the compiled module does, by that as well.
            let mut compiled = program(environment.python(), "-m pytest -q");
            compiled.args(HOT.map(|file| format!("tests/python/test_{file}.py")));
            run_command(compiled.env("SHOAL_COMPILED", "1"))
        });
    }
    steps.step("instructions of hot paths", || bench::budget(false));
    steps.step("ecosystem", || {
        step("build --release --features cli")?;
        let environment = Environment::ecosystem()?;
        environment.install()?;
        run_command(&mut program(
            environment.python(),
            "-m pytest tests/ecosystem -q",
        ))
    });
    steps.step("the wheel, away from the checkout", || {
        dist::try_out(&dist::build()?, "python3")
    });
    steps.step("nothing stays behind", || leftovers.none_after());
    steps.finish()
}

/// The programs of tests, as arguments of cargo: those for which `wanted` holds of the name and the source
/// text.
fn programs(wanted: impl Fn(&str, &str) -> bool) -> Result<String, String> {
    let tests = root().join("tests");
    let folders = fs::read_dir(&tests).map_err(|why| format!("{}: {why}", tests.display()))?;
    let mut names = Vec::new();
    for folder in folders.flatten() {
        let name = folder.file_name().to_string_lossy().into_owned();
        if !folder.path().join("main.rs").is_file() {
            continue;
        }
        let files = fs::read_dir(folder.path()).map_err(|why| format!("{name}: {why}"))?;
        let text: String = files
            .flatten()
            .filter_map(|file| fs::read_to_string(file.path()).ok())
            .collect();
        if wanted(&name, &text) {
            names.push(format!("--test {name}"));
        }
    }
    names.sort();
    Ok(names.join(" "))
}

fn step(args: &str) -> Result<(), String> {
    run_command(&mut cargo(args))
}
