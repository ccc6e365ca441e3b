//! `shoal run --devices 0,1 -- cmd …`

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use shoal::device::{self, EnvEdit};

/// A shell's exit codes for a program that it cannot find, and for one that it cannot run.
const NOT_FOUND: u8 = 127;
const NOT_RUNNABLE: u8 = 126;
/// The exit code of `env`, `timeout` and similar programs when they fail themselves.
const REFUSED: u8 = 125;

#[derive(clap::Args)]
pub(crate) struct Run {
    /// The devices the program may see, counted in those this process sees: "0,2", "none"
    #[arg(long, value_name = "MASK", allow_hyphen_values = true)]
    devices: Option<String>,
    /// The family of devices
    #[arg(long, default_value = "cuda")]
    family: String,
    /// The program and its arguments
    #[arg(trailing_var_arg = true, required = true)]
    command: Vec<OsString>,
}

impl Run {
    /// Replaces this process by the program, which so gets all signals and sets the exit code.
    pub(crate) fn run(self) -> ExitCode {
        let edits = match &self.devices {
            None => Vec::new(),
            Some(mask) => match device::environment(&self.family, mask, variable) {
                Ok(edits) => edits,
                Err(err) => {
                    eprintln!("shoal: {err}");
                    return ExitCode::from(REFUSED);
                }
            },
        };
        let (program, args) = (&self.command[0], &self.command[1..]);
        let mut command = Command::new(program);
        command.args(args);
        for edit in edits {
            match edit {
                EnvEdit::Set(name, value) => command.env(name, value),
                EnvEdit::Unset(name) => command.env_remove(name),
            };
        }
        let err = command.exec();
        eprintln!("shoal: {}: {err}", program.display());
        ExitCode::from(match err.kind() {
            io::ErrorKind::NotFound => NOT_FOUND,
            _ => NOT_RUNNABLE,
        })
    }
}

/// A variable of this process, lossy if it is not text: reading the mask then fails.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}
