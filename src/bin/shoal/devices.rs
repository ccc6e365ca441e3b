//! `shoal devices list | top | export | show | families`

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use clap::Subcommand;
use serde::Serialize;
use shoal::device::{self, EnvEdit, Mask};

use crate::inventory::{COLUMNS, Inventory};
use crate::number::any_count;
use crate::output::{Failure, Format, Paint, duration, has_colours, plain, width};
use crate::run::variable;
use crate::screen::{Key, Screen, fit, window};
use crate::{interrupt, table};

#[derive(clap::Args)]
pub(crate) struct Devices {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the devices of this machine: memory, load, who leases them and since when
    List {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        format: Format,
    },
    /// Show the devices live
    Top {
        #[command(flatten)]
        which: Which,
        /// Time between two updates
        #[arg(long, short, default_value = "1", value_parser = duration)]
        interval: Duration,
        /// Number of updates after which it ends
        #[arg(long, short = 'n', value_parser = any_count)]
        count: Option<u64>,
        #[command(flatten)]
        format: Format,
    },
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

/// Which devices.
#[derive(clap::Args)]
struct Which {
    /// Only devices of this family
    #[arg(long)]
    family: Option<String>,
}

impl Devices {
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self.command {
            Command::List { which, format } => list(which.family.as_deref(), format),
            Command::Top {
                which,
                interval,
                count,
                format,
            } => top(which.family.as_deref(), interval, count, format),
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

/// An unknown family is wrong usage: the exit code of NotFound means a missing object.
fn usage(err: shoal::Error) -> Failure {
    match err {
        shoal::Error::NotFound { .. } => Failure::Usage(err.to_string()),
        err => Failure::Shoal(err),
    }
}

fn list(family: Option<&str>, format: Format) -> Result<(), Failure> {
    let found = Inventory::new(family).map_err(usage)?;
    format.print(&found, |out| write_all(&found, out, width(), has_colours()))
}

fn write_all(
    found: &Inventory,
    out: &mut dyn Write,
    width: Option<usize>,
    colours: bool,
) -> io::Result<()> {
    if found.devices.is_empty() {
        writeln!(out, "no device was found")?;
    } else {
        for line in table::lines(&COLUMNS, &found.rows(), width, colours) {
            writeln!(out, "{line}")?;
        }
    }
    found
        .rest()
        .iter()
        .try_for_each(|line| writeln!(out, "{line}"))
}

fn top(
    family: Option<&str>,
    interval: Duration,
    count: Option<u64>,
    format: Format,
) -> Result<(), Failure> {
    let interval = interval.max(Duration::from_millis(100));
    let mut left = count.unwrap_or(u64::MAX);
    if format.json || !io::stdout().is_terminal() {
        while left > 0 {
            let found = Inventory::new(family).map_err(usage)?;
            left -= 1;
            let goes_on = format.line(&found, |out| {
                write_all(&found, out, None, false)?;
                writeln!(out)
            })?;
            if !goes_on {
                break;
            }
            if left > 0 {
                interrupt::sleep(interval)?;
            }
        }
        return Ok(());
    }
    let mut found = Inventory::new(family).map_err(usage)?;
    let mut screen = Screen::new()?;
    let (mut first, mut scroll, colours) = (0, 0, has_colours());
    let mut next = Instant::now() + interval;
    while left > 0 {
        let (columns, height) = screen.size();
        let rest = found.rest();
        let room = height.saturating_sub(3 + rest.len()).max(1);
        let range = window(&mut first, scroll, room, found.devices.len());
        let mut lines = vec![fit(&found.summary(), columns)];
        lines.extend(table::lines(
            &COLUMNS,
            &found.rows()[range],
            Some(columns),
            colours,
        ));
        lines.extend(rest.iter().map(|line| fit(line, columns)));
        lines.resize(height.saturating_sub(1), String::new());
        lines.push(Paint::Dim.on(&fit("q quit", columns), colours));
        screen.draw(lines)?;
        scroll = 0;
        match screen.key(next.saturating_duration_since(Instant::now()))? {
            Some(Key::Quit) => return Ok(()),
            Some(Key::Scroll(by)) => scroll = by,
            Some(_) => {}
            None => {
                left -= 1;
                if left > 0 {
                    found = Inventory::new(family).map_err(usage)?;
                    next = Instant::now() + interval;
                }
            }
        }
    }
    Ok(())
}

#[derive(Serialize)]
struct Edit {
    variable: String,
    /// Without a value the variable is to be removed.
    value: Option<String>,
}

fn export(mask: &str, family: &str, format: Format) -> Result<(), Failure> {
    let edits: Vec<Edit> = device::environment(family, mask, variable)
        .map_err(usage)?
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
    #[serde(skip)]
    is_masked: bool,
    problem: Option<String>,
}

fn known() -> Vec<Family> {
    let of = |family: &'static device::Family| {
        let mask = device::visible(family.name());
        let is_masked = mask != Ok(Mask::All);
        let (visible, problem) = match mask {
            Ok(mask) => (mask.to_string(), None),
            Err(err) => ("?".to_owned(), Some(err.to_string())),
        };
        Family {
            family: family.name(),
            variable: family.variable(),
            visible,
            is_masked,
            problem,
        }
    };
    device::families().map(of).collect()
}

/// Shows only the families whose variable restricts them: all devices of the others are visible.
fn show(format: Format) -> Result<(), Failure> {
    let masked: Vec<Family> = known().into_iter().filter(|it| it.is_masked).collect();
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
