//! The `shoal` command line: look at shared objects, collect what the dead left, run programs
//! on some of the devices, measure.

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
/// Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no such object. `run` becomes the program
/// and ends as it does, by a signal too; 127 if it was not found, 126 if it could not be run,
/// 125 if the mask is refused.
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
    /// Show one object and who is attached to it
    Stat(objects::Stat),
    /// Remove objects by name; whoever has them open keeps them
    Rm(objects::Rm),
    /// Remove what killed processes left, never what is in use
    Gc(objects::Gc),
    /// Run a program that sees only some of the devices
    Run(run::Run),
    /// Look at device masks
    Devices(devices::Devices),
    /// Measure queues and maps on this machine
    Bench(bench::Bench),
}

fn main() -> ExitCode {
    // Before anything else: the benchmark's processes are this program too.
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
