//! The `shoal` command line: shows shared objects, removes those that dead processes left, runs
//! programs on some of the devices, and measures.

mod bench;
mod devices;
mod objects;
mod output;
mod run;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Shared queues and maps that survive kill -9.
///
/// Objects are in /dev/shm, or in the directory that the environment variable SHOAL_DIR names.
///
/// Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no such object. `run` ends as the program
/// does, also by a signal; 127 if the program was not found, 126 if it could not be run, 125 if
/// the mask is refused.
#[derive(Parser)]
#[command(name = "shoal", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the shared objects of this machine
    Ls(output::Format),
    /// Show one object and the processes that are attached to it
    Stat(objects::Stat),
    /// Remove objects by name; processes that have them open keep them
    Rm(objects::Rm),
    /// Remove objects that killed processes left; objects in use are kept
    Gc(objects::Gc),
    /// Run a program that sees only some of the devices
    Run(run::Run),
    /// Show device masks
    Devices(devices::Devices),
    /// Measure queues and maps on this machine
    Bench(Box<bench::Bench>),
}

fn main() -> ExitCode {
    // First: the benchmark starts this program as its workers.
    bench::worker();
    let done = match Cli::parse().command {
        Command::Ls(format) => objects::ls(format),
        Command::Stat(stat) => stat.run(),
        Command::Rm(rm) => rm.run(),
        Command::Gc(gc) => gc.run(),
        Command::Run(run) => return run.run(),
        Command::Devices(devices) => devices.run(),
        Command::Bench(bench) => bench.run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("shoal: {failure}");
            failure.code()
        }
    }
}
