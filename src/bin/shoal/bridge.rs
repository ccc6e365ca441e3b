//! `shoal bridge …`: the program `shoal-bridge`, where it is installed.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use shoal::Spawn;

use crate::exec::{self, NOT_FOUND};
use crate::output::say;

/// The program, looked for beside this one and then in PATH.
const PROGRAM: &str = "shoal-bridge";

#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Bridge {
    /// The arguments of the program: `run`, `status`, `--help`
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
        let err = exec::replace(Spawn::new(&program).args(self.args));
        let code = exec::code_of(&err);
        match code {
            NOT_FOUND => say(format_args!(
                "{err}; it is a package of its own: `cargo install --path bridge` in Shoal's sources"
            )),
            _ => say(err),
        }
        ExitCode::from(code)
    }
}
