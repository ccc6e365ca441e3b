//! `cargo xtask cpython-tests`: the standard library's own tests as judge of
//! `shoal.multiprocessing`.

use crate::python::Environment;
use crate::step::{cargo, program, run, run_for_long, target};

pub(crate) fn run_tests(args: &[&str]) -> Result<(), String> {
    run(&mut cargo("build --quiet --release --lib"))?;
    let environment = Environment::prepare("python3")?;
    environment.install()?;
    let mut judge = program(environment.python(), "tests/cpython/judge.py --folder");
    run_for_long(judge.arg(target().join("cpython")).args(args))
}
