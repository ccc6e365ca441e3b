//! `shoal devices export | show | families`

use clap::Subcommand;
use serde::Serialize;
use shoal::device::{self, EnvEdit};

use crate::output::{Failure, Format, plain};
use crate::run::variable;

#[derive(clap::Args)]
pub(crate) struct Devices {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print commands by which a shell sees only some of the devices
    ///
    /// For example: eval "$(shoal devices export 0,1)"
    Export {
        /// The devices to see, counted in those visible now: "0,2", "none"
        #[arg(allow_hyphen_values = true)]
        mask: String,
        /// The family of devices
        #[arg(long, default_value = "cuda")]
        family: String,
        #[command(flatten)]
        format: Format,
    },
    /// Show the masks this process runs under
    Show(Format),
    /// List the families of devices and their variables
    Families(Format),
}

impl Devices {
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self.command {
            Command::Export {
                mask,
                family,
                format,
            } => export(&mask, &family, format),
            Command::Show(format) => show(format),
            Command::Families(format) => families(format),
        }
    }
}

#[derive(Serialize)]
struct Edit {
    variable: String,
    /// Without a value the variable is to be removed.
    value: Option<String>,
}

fn export(mask: &str, family: &str, format: Format) -> Result<(), Failure> {
    let edits: Vec<Edit> = device::environment(family, mask, variable)
        // An unknown family is wrong usage: the exit code of NotFound means a missing object.
        .map_err(|err| match err {
            shoal::Error::NotFound { .. } => Failure::Usage(err.to_string()),
            err => Failure::Shoal(err),
        })?
        .into_iter()
        .map(|edit| match edit {
            EnvEdit::Set(variable, value) => Edit {
                variable,
                value: Some(value),
            },
            EnvEdit::Unset(variable) => Edit {
                variable,
                value: None,
            },
        })
        .collect();
    format.print(&edits, |out| {
        for Edit { variable, value } in &edits {
            match value {
                Some(value) => writeln!(out, "export {variable}={}", quoted(value))?,
                None => writeln!(out, "unset {variable}")?,
            }
        }
        Ok(())
    })
}

/// `value` as one word of any POSIX shell.
fn quoted(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.,:/".contains(c);
    if !value.is_empty() && value.chars().all(plain) {
        return value.to_owned();
    }
    format!("'{}'", value.replace('\'', r"'\''"))
}

#[derive(Serialize)]
struct Family {
    family: &'static str,
    variable: &'static str,
    visible: String,
    problem: Option<String>,
}

fn known() -> Vec<Family> {
    let of = |family: &'static device::Family| {
        let (visible, problem) = match device::visible(family.name()) {
            Ok(mask) => (mask.to_string(), None),
            Err(err) => ("?".to_owned(), Some(err.to_string())),
        };
        Family {
            family: family.name(),
            variable: family.variable(),
            visible,
            problem,
        }
    };
    device::families().map(of).collect()
}

/// Shows only the families whose variable restricts them: all devices of the others are visible.
fn show(format: Format) -> Result<(), Failure> {
    let masked: Vec<Family> = known()
        .into_iter()
        .filter(|it| it.visible != "all")
        .collect();
    format.print(&masked, |out| {
        if masked.is_empty() {
            return writeln!(out, "no device of any family is masked");
        }
        for it in &masked {
            let note = it.problem.as_deref().unwrap_or("");
            writeln!(out, "{:11} {}  {}", it.family, it.visible, plain(note))?;
        }
        Ok(())
    })
}

fn families(format: Format) -> Result<(), Failure> {
    let known = known();
    format.print(&known, |out| {
        known
            .iter()
            .try_for_each(|it| writeln!(out, "{:11} {}", it.family, it.variable))
    })
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn a_shell_reads_the_quoted_value_as_one_word() {
        for value in [
            "",
            "0,1",
            "level_zero:0",
            "a b",
            "it's",
            "$(rm)",
            "`x`\n;&|\\\"*?[",
            "~",
        ] {
            let script = format!("printf %s {}", quoted(value));
            let mut shell = std::process::Command::new("sh");
            let printed = shell.args(["-c", &script]).output().unwrap().stdout;
            assert_eq!(String::from_utf8(printed).unwrap(), value);
        }
    }
}
