//! `cargo bench --features cli`: what `shoal bench` measures, under Cargo's own name.
//!
//! Takes the same options: `cargo bench --features cli --bench ipc -- --peers`. Run as a test,
//! by `cargo test --benches`, it runs `--quick`, which only shows that everything works.

#[path = "../src/bin/shoal/bench.rs"]
mod bench;
#[path = "../src/bin/shoal/failure.rs"]
#[expect(dead_code, reason = "a benchmark fails in fewer ways")]
mod failure;
#[path = "../src/bin/shoal/interrupt.rs"]
#[expect(dead_code, reason = "a benchmark has the signals as they are")]
mod interrupt;
#[path = "../src/bin/shoal/output.rs"]
#[expect(dead_code, reason = "the rest of it is for other commands")]
mod output;
#[path = "../src/bin/shoal/streams.rs"]
mod streams;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    bench: bench::Bench,
}

fn main() -> ExitCode {
    bench::worker();
    // Cargo passes `--bench` to a benchmark, and nothing to a test.
    let mut args: Vec<OsString> = std::env::args_os().collect();
    let all = args.len();
    args.retain(|arg| arg != "--bench");
    if args.len() == all && !args.iter().any(|arg| arg == "--quick") {
        args.push("--quick".into());
    }
    match Cli::parse_from(args).bench.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("ipc: {failure}");
            failure.code()
        }
    }
}
