//! `shoal bridge …`: the program `shoal-bridge`, where it is installed.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use crate::exec;
use crate::output::say;

/// The program, looked for beside this one and then in PATH.
const PROGRAM: &str = "shoal-bridge";
/// A shell's exit code for a program that it cannot find.
const NOT_FOUND: u8 = 127;

#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Bridge {
    /// What the program is to do: `run`, `status`, `--help`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

impl Bridge {
    /// Replaces this process by the program.
    pub(crate) fn run(self) -> ExitCode {
        let own = std::env::current_exe().ok();
        let beside = own.map(|own| own.with_file_name(PROGRAM));
        let program = beside.filter(|beside| beside.exists());
        let program = program.unwrap_or_else(|| PathBuf::from(PROGRAM));
        let (_, err) = exec::replace(Command::new(program).args(self.args));
        say(format_args!(
            "{PROGRAM}: {err}; it is a package of its own: `cargo install --path bridge` in Shoal's sources"
        ));
        ExitCode::from(NOT_FOUND)
    }
}
