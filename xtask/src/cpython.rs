//! `cargo xtask cpython-tests`: the standard library's own tests as judge of
//! `shoal.multiprocessing`, those of `multiprocessing` and those of executors.

use crate::python::Environment;
use crate::step::{cargo, program, run, run_for_long, target};

/// Runs the judge with `interpreter`, whose standard library the tests are.
pub(crate) fn run_tests(interpreter: &str, args: &[&str]) -> Result<(), String> {
    run(&mut cargo("build --quiet --release --lib"))?;
    let environment = Environment::prepare(interpreter)?;
    environment.install()?;
    let mut judge = program(environment.python(), "tests/cpython/judge.py --folder");
    run_for_long(
        judge
            .arg(target().join("cpython").join(interpreter))
            .args(args),
    )
}
