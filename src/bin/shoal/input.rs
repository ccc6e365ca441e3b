//! Where values come from, and where they go.

use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::PathBuf;

use crate::interrupt::Input;
use crate::output::{Failure, Stdout, done};
use crate::value::{Encoding, PartOf, for_terminal, one_line};

/// Where a command reads its value.
#[derive(clap::Args)]
pub(crate) struct Source {
    /// Read the value from a file; "-" is the standard input
    #[arg(long, short, value_name = "FILE")]
    file: Option<PathBuf>,
    /// How the value is written
    #[arg(
        long = "as",
        id = "as",
        value_enum,
        value_name = "ENCODING",
        default_value = "text"
    )]
    pub(crate) encoding: Encoding,
}

impl Source {
    /// The bytes of `argument`, or of the file, or of the standard input.
    pub(crate) fn read(&self, argument: Option<&str>, part_of: PartOf) -> Result<Vec<u8>, Failure> {
        let text = match (argument, &self.file) {
            (Some(_), Some(_)) => {
                let why = "a value and a file to read it from are given: give one of them";
                return Err(Failure::Usage(why.to_owned()));
            }
            (Some(text), None) => text.as_bytes().to_vec(),
            (None, Some(file)) if file.as_os_str() != "-" => {
                Input::file(file.clone()).all().map_err(|err| match err {
                    Failure::Input(err) => {
                        Failure::Other(format!("cannot read {}: {err}", file.display()))
                    }
                    err => err,
                })?
            }
            (None, _) => Input::new().all()?,
        };
        self.encoding.read(&text, part_of)
    }
}

/// How values are printed.
#[derive(clap::Args, Clone, Copy)]
pub(crate) struct Sink {
    /// Print a line of JSON for each
    #[arg(long)]
    pub(crate) json: bool,
    /// Print exactly the bytes, without a newline after them
    #[arg(long, conflicts_with = "json")]
    raw: bool,
    /// Print one readable line, as on a terminal
    #[arg(long, conflicts_with_all = ["json", "raw", "null"])]
    show: bool,
    /// Print a NUL after the bytes instead of a newline
    #[arg(long, short = '0', conflicts_with_all = ["json", "raw"])]
    null: bool,
}

impl Sink {
    /// Prints `value`, and flushes. On a terminal the value is escaped so that it cannot disturb the
    /// terminal; elsewhere its bytes are written unchanged. Returns false once the reader has closed the pipe.
    pub(crate) fn print(
        self,
        value: &[u8],
        part_of: PartOf,
        json: &impl serde::Serialize,
    ) -> Result<bool, Failure> {
        let mut out = BufWriter::new(Stdout::new());
        let is_terminal = io::stdout().is_terminal();
        let is_exact = self.raw || self.null || !(is_terminal || self.show);
        let written = match (self.json, is_exact) {
            (true, _) => serde_json::to_writer(&mut out, json).map_err(io::Error::from),
            (_, true) => out.write_all(value),
            _ if self.show => out.write_all(one_line(value, part_of).as_bytes()),
            _ => out.write_all(for_terminal(value, part_of).as_bytes()),
        };
        let end: &[u8] = match (self.raw, self.null) {
            (true, _) => b"",
            (_, true) => b"\0",
            _ => b"\n",
        };
        let written = written.and_then(|()| out.write_all(end));
        done(written.and_then(|()| out.flush()))
    }
}
