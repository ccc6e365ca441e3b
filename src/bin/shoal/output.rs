//! What commands print, for people and for programs, and how they fail.

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use serde::Serialize;

/// How to print.
#[derive(clap::Args, Clone, Copy)]
pub(crate) struct Format {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Format {
    /// Prints `value` as JSON, or else what `people` writes.
    pub(crate) fn print(
        self,
        value: &impl Serialize,
        people: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        let written = if self.json {
            serde_json::to_writer_pretty(&mut out, value)
                .map_err(io::Error::from)
                .and_then(|()| writeln!(out))
        } else {
            people(&mut out)
        };
        match written.and_then(|()| out.flush()) {
            // The reader has closed the pipe: `shoal ls | head -1`.
            Err(err) if err.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other.map_err(Failure::Output),
        }
    }
}

/// Why a command failed.
pub(crate) enum Failure {
    Shoal(shoal::Error),
    Output(io::Error),
    /// Arguments that are refused.
    Usage(String),
    /// The benchmark itself.
    Bench(String),
}

impl Failure {
    pub(crate) fn code(&self) -> ExitCode {
        match self {
            Failure::Usage(_) | Failure::Shoal(shoal::Error::Invalid { .. }) => ExitCode::from(2),
            Failure::Shoal(shoal::Error::NotFound { .. }) => ExitCode::from(3),
            _ => ExitCode::FAILURE,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Shoal(err) => err.fmt(f),
            Failure::Output(err) => write!(f, "cannot write: {err}"),
            Failure::Usage(why) | Failure::Bench(why) => f.write_str(why),
        }
    }
}

impl From<shoal::Error> for Failure {
    fn from(err: shoal::Error) -> Self {
        Failure::Shoal(err)
    }
}

/// `text` as a terminal may show it: text from other processes may contain control characters,
/// invisible ones, or ones that reverse the direction of writing.
pub(crate) fn plain(text: &str) -> String {
    let shown = |c: char| match c.is_control() || is_format(c) {
        true => char::REPLACEMENT_CHARACTER,
        false => c,
    };
    text.chars().map(shown).collect()
}

/// Characters that are not shown but change how others are shown: Unicode's category Cf and the line
/// separators, as far as terminals know them.
fn is_format(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// A number of bytes as people read it.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut unit = UNITS.iter();
    let (mut value, mut name) = (count as f64, "B");
    while value >= 1024.0 {
        let Some(next) = unit.next() else { break };
        (value, name) = (value / 1024.0, next);
    }
    if name == "B" {
        format!("{count} B")
    } else {
        format!("{value:.1} {name}")
    }
}
