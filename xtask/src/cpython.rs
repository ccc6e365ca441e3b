//! `cargo xtask cpython-tests`: runs the standard library's own tests of `multiprocessing` and of executors on
//! `shoal.multiprocessing`.

use crate::python::{self, Environment};
use crate::step::{cargo, program, run, run_for_long, target};

/// Runs `tests/cpython/judge.py` with `interpreter`, whose standard library contains the tests.
pub(crate) fn run_tests(interpreter: &str, args: &[&str]) -> Result<(), String> {
    run(&mut cargo("build --quiet --release --lib"))?;
    let environment = Environment::prepare(interpreter)?;
    environment.install()?;
    let mut judge = program(environment.python(), "tests/cpython/judge.py --folder");
    run_for_long(
        judge
            .arg(
                target()
                    .join("cpython")
                    .join(python::folder_name(interpreter)),
            )
            .args(args),
    )
}
