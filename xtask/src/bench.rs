//! `cargo xtask bench`: the command line's benchmark, with peers, optimised.

use crate::step::{cargo, run};

pub(crate) fn run_bench(args: &[&str]) -> Result<(), String> {
    let mut bench = cargo("run --quiet --release --features cli --bin shoal -- bench --peers");
    run(bench.args(args))
}
