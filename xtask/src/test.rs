//! `cargo xtask test`: every check and every test.

use std::process::Command;

use crate::bench;
use crate::bridge;
use crate::command::{cargo, program, run as run_command, run_side_by_side};
use crate::consumers;
use crate::dist;
use crate::files::{self, root};
use crate::generated;
use crate::leftovers::Leftovers;
use crate::man;
use crate::python::{self, Environment};
use crate::step::Steps;
use crate::symbols;

/// The tests of calls that the compiled module of the Python package replaces. They run without that module as
/// well.
const COMPILED: [&str; 12] = [
    "arguments",
    "array",
    "backends",
    "cache",
    "fast",
    "lease",
    "list",
    "map",
    "pipe",
    "queue",
    "reducers",
    "sync",
];

/// The test programs in `tests/` that also run optimised.
const OPTIMISED: [&str; 3] = ["hostile", "locks", "queue"];

/// The manifest of the Python package's compiled module, which is a separate workspace.
const MODULE: &str = "--manifest-path bindings/python/fast/Cargo.toml";

/// The steps and interpreters that were selected.
#[derive(Default)]
pub(crate) struct Choice<'a> {
    /// The steps whose names contain this.
    pub(crate) only: &'a str,
    /// Whether to run the Python tests with every interpreter that is found, not only with `python3`.
    pub(crate) all_pythons: bool,
}

pub(crate) fn run(choice: &Choice<'_>) -> Result<(), String> {
    restore_signals();
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
    steps.step("header", || {
        generated::run(true)?;
        symbols::compat()?;
        man::check()
    });
    steps.step("rust documentation", || {
        let flags = "--quiet --no-deps --document-private-items";
        let mut doc = cargo(&format!("doc --workspace --all-features {flags}"));
        run_command(doc.env("RUSTDOCFLAGS", "-D warnings"))
    });
    steps.step("the tasks' own tests", || {
        step("test --quiet --package xtask")
    });
    // This build has the crash points, so that most of the code is compiled once. The optimised programs have
    // none.
    steps.step("rust, C, C++ and bridge tests, crash points", all_rust);
    // Without debug assertions, the remaining checks must refuse hostile segments, and races have other timing.
    // The other test programs would do the same work again.
    steps.step("rust tests, optimised", optimised);
    let mut interpreters = vec!["python3".to_owned()];
    if choice.all_pythons {
        interpreters.extend(python::others());
    }
    for interpreter in interpreters {
        steps.step(&format!("python tests ({interpreter})"), || {
            of_python(&interpreter)
        });
    }
    steps.step("instructions of hot paths", || bench::budget(false));
    // Each of these steps uses one core.
    steps.side_by_side(&[
        ("ecosystem", ecosystem),
        ("the wheel, away from the checkout", wheel),
        ("the installation, and programs that use it", consumers::run),
    ]);
    steps.step("nothing stays behind", || leftovers.none_after());
    steps.finish()
}

fn all_rust() -> Result<(), String> {
    let server = Environment::prepare("python3")?.install_server()?;
    let mut bridge = bridge::cargo("test");
    // The tests of the bridge mostly wait for servers and for each other.
    bridge
        .env("NATS_SERVER", server)
        .env("RUST_TEST_THREADS", "4");
    let parts = ["--lib", "--bins", "--doc"].map(str::to_owned);
    let programs = programs()?.into_iter().map(|it| format!("--test {it}"));
    side_by_side(
        "test --features cli,crash-points",
        programs.chain(parts),
        Some(bridge),
    )
}

fn optimised() -> Result<(), String> {
    let programs = OPTIMISED.map(|name| format!("--test {name}"));
    side_by_side("test --release --features cli", programs.into_iter(), None)
}

fn of_python(interpreter: &str) -> Result<(), String> {
    step("build --release --features cli")?;
    let environment = Environment::prepare(interpreter)?;
    environment.install()?;
    environment.install_tools()?;
    run_command(&mut program(
        environment.python(),
        "-m pytest tests/python -q -n 4 --dist worksteal",
    ))?;
    let mut pure = program(environment.python(), "-m pytest -q -n 4 --dist worksteal");
    pure.args(COMPILED.map(|file| format!("tests/python/test_{file}.py")));
    run_command(pure.env("SHOAL_PURE", "1"))
}

/// Runs programs that use libraries which start processes.
fn ecosystem() -> Result<(), String> {
    step("build --release --features cli")?;
    let environment = Environment::ecosystem()?;
    environment.install()?;
    run_command(&mut program(
        environment.python(),
        "-m pytest tests/ecosystem -q",
    ))
}

fn wheel() -> Result<(), String> {
    dist::try_out(&dist::build()?, "python3")?;
    let sources = dist::build_sources()?;
    dist::is_whole(&sources)?;
    dist::needs_rust(&sources)?;
    dist::needs_its_library(&sources)
}

/// Restores the default actions of signals. A shell starts background jobs with SIGINT ignored, and `nohup` ignores
/// SIGHUP; children inherit that, and tests of these signals would wait forever.
fn restore_signals() {
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM] {
        // SAFETY: SIG_DFL is a valid action, and no other thread changes it.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// The test programs in `tests/`.
fn programs() -> Result<Vec<String>, String> {
    let programs = files::entries(root().join("tests"))?.into_iter();
    let names = programs
        .filter(|it| it.join("main.rs").exists())
        .filter_map(|it| it.file_name()?.to_str().map(str::to_owned));
    Ok(names.collect())
}

/// Builds each of `parts` with `args`, and the program of `first`, one after the other. Then runs them side by side.
fn side_by_side(
    args: &str,
    parts: impl Iterator<Item = String>,
    first: Option<Command>,
) -> Result<(), String> {
    let parts: Vec<String> = parts.collect();
    let built: Vec<&str> = parts
        .iter()
        .map(String::as_str)
        .filter(|it| *it != "--doc")
        .collect();
    step(&format!("{args} --no-run {}", built.join(" ")))?;
    if let Some(first) = &first {
        let mut build = cargo("");
        run_command(build.args(first.get_args()).arg("--no-run"))?;
    }
    let run = |part: &String| cargo(&format!("{args} --quiet {part}"));
    run_side_by_side(first.into_iter().chain(parts.iter().map(run)).collect())
}

fn step(args: &str) -> Result<(), String> {
    run_command(&mut cargo(args))
}
