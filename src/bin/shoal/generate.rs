//! `shoal completions SHELL` and `shoal man FOLDER`, from the definitions of the command line.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Command;
use clap_complete::Shell;

use crate::output::{Failure, Stdout, done};

/// `shoal completions SHELL`
#[derive(clap::Args)]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(self, mut command: Command) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, "shoal", &mut script);
        done(Stdout::new().write_all(&script)).map(drop)
    }
}

/// `shoal man FOLDER`
#[derive(clap::Args)]
pub(crate) struct Man {
    /// Where the pages are written; it is created if it is missing
    folder: PathBuf,
}

impl Man {
    pub(crate) fn run(self, command: Command) -> Result<(), Failure> {
        let failed = |err: io::Error| {
            let folder = self.folder.display();
            Failure::Other(format!("cannot write man pages to {folder}: {err}"))
        };
        std::fs::create_dir_all(&self.folder).map_err(failed)?;
        pages(command, "shoal", &self.folder).map_err(failed)
    }
}

/// The page of `command`, which is called as `name` says, and those of its subcommands.
fn pages(mut command: Command, name: &str, folder: &Path) -> io::Result<()> {
    command.build();
    for sub in command.get_subcommands() {
        if sub.get_name() != "help" && !sub.is_hide_set() {
            let name = format!("{name}-{}", sub.get_name());
            pages(sub.clone().disable_help_subcommand(true), &name, folder)?;
        }
    }
    // A page is named like the command with hyphens, and shows how it is called.
    let page = command
        .display_name(name.to_owned())
        .version(env!("CARGO_PKG_VERSION"));
    let mut out = Vec::new();
    clap_mangen::Man::new(page)
        .title(name.to_owned())
        .source(concat!("Shoal ", env!("CARGO_PKG_VERSION")))
        .render(&mut out)?;
    std::fs::write(folder.join(format!("{name}.1")), out)
}
