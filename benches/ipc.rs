//! `cargo bench --features cli`: what `shoal bench --peers` measures, under Cargo's own name.
//!
//! `cargo bench --features cli -- --quick` takes the options of `shoal bench`.

#[path = "../src/bin/shoal/bench.rs"]
mod bench;
#[path = "../src/bin/shoal/output.rs"]
#[expect(dead_code, reason = "the rest of it is for other commands")]
mod output;

use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    bench: bench::Bench,
    /// What Cargo tells every benchmark
    #[arg(long = "bench", hide = true)]
    _bench: bool,
}

fn main() -> ExitCode {
    bench::worker();
    match Cli::parse().bench.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("ipc: {failure}");
            failure.code()
        }
    }
}
