//! The `shoal` command line: shows shared objects and their contents, also live, removes those that killed
//! processes left, runs programs on some of the devices, and runs benchmarks.

// A message that cannot be written must not change the exit code: these macros panic.
#![deny(clippy::print_stderr, clippy::print_stdout)]

mod bench;
mod bridge;
mod devices;
mod doctor;
mod exec;
mod failure;
mod generate;
mod input;
mod interrupt;
mod inventory;
mod list;
mod map;
mod number;
mod object;
mod objects;
mod output;
mod pickle;
mod probe;
mod python;
mod queue;
mod run;
mod screen;
mod streams;
mod table;
mod top;
mod value;

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::exec::REFUSED;
use crate::output::{Failure, say};

/// Shared queues and maps that survive kill -9.
///
/// Objects are in /dev/shm, or in the directory that the environment variable SHOAL_DIR names.
///
/// Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no such object, key or element, 4 the time is up,
/// 5 the queue is closed (a command that takes messages: and empty). A signal ends a command as it ends other
/// programs. `run` has the exit code of the program, or ends by the same signal; with several workers it has
/// that of the first one that failed. It is 127 if the program was not found, 126 if it cannot be run, 125 if `shoal` itself failed or
/// was used wrongly.
#[derive(Parser)]
#[command(name = "shoal", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the shared objects of this machine
    Ls(objects::Ls),
    /// Show one object and the processes that are attached to it
    Stat(objects::Stat),
    /// Show the objects live: messages per second, processes that wait, owners of locks
    Top(top::Top),
    /// Put, take and print messages
    Queue(queue::QueueCommand),
    /// Read, change and watch the keys of a map
    Map(map::MapCommand),
    /// Read and change the elements of a list
    List(list::ListCommand),
    /// Remove objects by name; processes that have them open keep them
    Rm(objects::Rm),
    /// Remove objects that killed processes left; objects in use are kept
    Gc(objects::Gc),
    /// Run a program with some of the devices, leased on request, or several supervised workers
    Run(run::Run),
    /// Show devices, who leases them, and masks
    Devices(devices::Devices),
    /// Check whether this machine has what Shoal needs, and say what to do if not
    ///
    /// Exit code 1 if something keeps Shoal from working.
    Doctor(doctor::Doctor),
    /// Measure queues and maps on this machine
    Bench(Box<bench::Bench>),
    /// Print the script by which a shell completes this command
    ///
    /// For example: source <(shoal completions bash)
    Completions(generate::Completions),
    /// Write the man pages of all commands into a folder
    Man(generate::Man),
    /// Connect queues and maps of several machines, by the program shoal-bridge
    Bridge(bridge::Bridge),
}

/// All commands, as the types say. In addition every option takes a negative number as its value, so that the
/// error names the limits of the value instead of an unknown option.
fn definitions() -> clap::Command {
    fn with_numbers(command: clap::Command) -> clap::Command {
        let command = command.mut_args(|arg| {
            let has_value = !arg.is_positional() && arg.get_action().takes_values();
            match has_value {
                true => arg.allow_negative_numbers(true),
                false => arg,
            }
        });
        command.mut_subcommands(with_numbers)
    }
    with_numbers(Cli::command())
}

/// The arguments, or the exit code once help was printed or an error.
fn parse() -> Result<Cli, ExitCode> {
    let matches = definitions().try_get_matches();
    matches
        .and_then(|matches| Cli::from_arg_matches(&matches))
        .map_err(|err| {
            let stream = match err.use_stderr() {
                true => Ok(()),
                false => streams::check(1),
            };
            let printed = stream.and_then(|()| err.print());
            let printed = printed.and_then(|()| std::io::stdout().flush());
            // After `run`, other codes are the program's.
            let is_run = std::env::args_os().nth(1).is_some_and(|it| it == "run");
            match (err.exit_code(), printed) {
                (0, Err(why)) if why.kind() != ErrorKind::BrokenPipe => {
                    say(Failure::Output(why));
                    ExitCode::FAILURE
                }
                (0, _) => ExitCode::SUCCESS,
                _ if is_run => ExitCode::from(REFUSED),
                _ => ExitCode::from(2),
            }
        })
}

fn main() -> ExitCode {
    // First: the benchmark starts this program as its workers.
    bench::worker();
    let command = match parse() {
        Ok(cli) => cli.command,
        Err(code) => return code,
    };
    // `run` passes the signal actions on to the program, and the workers of the benchmark end when it is killed.
    match command {
        Command::Run(_) | Command::Bench(_) => interrupt::end_at_once(),
        _ => interrupt::install(),
    }
    let done = match command {
        Command::Ls(ls) => ls.run(),
        Command::Stat(stat) => stat.run(),
        Command::Top(top) => top.run(),
        Command::Queue(queue) => queue.run(),
        Command::Map(map) => map.run(),
        Command::List(list) => list.run(),
        Command::Rm(rm) => rm.run(),
        Command::Gc(gc) => gc.run(),
        Command::Run(run) => return run.run(),
        Command::Devices(devices) => devices.run(),
        Command::Doctor(doctor) => doctor.run(),
        Command::Bench(bench) => bench.run(),
        Command::Completions(completions) => completions.run(definitions()),
        Command::Man(man) => man.run(definitions()),
        Command::Bridge(bridge) => return bridge.run(),
    };
    match done {
        Ok(()) | Err(Failure::NoReader) => ExitCode::SUCCESS,
        Err(Failure::Signal(signal)) => interrupt::end_by(signal),
        Err(Failure::Reported) => ExitCode::FAILURE,
        Err(failure) => {
            say(&failure);
            failure.code()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definitions_of_all_commands_are_consistent() {
        definitions().debug_assert();
    }
}
