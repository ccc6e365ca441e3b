//! Where values come from, and where they go.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Read, Write};
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;

use crate::interrupt;
use crate::output::{Failure, Stdout, done};
use crate::streams;
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

/// Standard input or a file, read by a thread of its own, so that a signal ends the wait for it.
pub(crate) struct Input {
    chunks: Receiver<io::Result<Vec<u8>>>,
    /// Bytes that were read and not yet requested.
    rest: Vec<u8>,
    ended: bool,
}

impl Input {
    pub(crate) fn new() -> Self {
        Self::of(|| streams::check(0).map(|()| io::stdin().lock()))
    }

    /// A FIFO is opened once another process writes to it.
    fn file(path: PathBuf) -> Self {
        Self::of(|| File::open(path))
    }

    fn of<R: Read>(open: impl FnOnce() -> io::Result<R> + Send + 'static) -> Self {
        let (send, chunks) = mpsc::sync_channel(16);
        thread::spawn(move || {
            let mut input = match open() {
                Ok(input) => input,
                Err(err) => return drop(send.send(Err(err))),
            };
            let mut buffer = vec![0; 64 << 10];
            loop {
                let chunk = match input.read(&mut buffer) {
                    Ok(0) => return,
                    Ok(len) => Ok(buffer[..len].to_vec()),
                    Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
                    Err(err) => Err(err),
                };
                let failed = chunk.is_err();
                if send.send(chunk).is_err() || failed {
                    return;
                }
            }
        });
        Self {
            chunks,
            rest: Vec::new(),
            ended: false,
        }
    }

    /// Reads more, or notes the end.
    fn fill(&mut self) -> Result<(), Failure> {
        loop {
            interrupt::check()?;
            match self.chunks.recv_timeout(interrupt::SLICE) {
                Ok(chunk) => {
                    self.rest.extend(chunk.map_err(Failure::Input)?);
                    return Ok(());
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    self.ended = true;
                    return Ok(());
                }
            }
        }
    }

    /// The whole input.
    fn all(mut self) -> Result<Vec<u8>, Failure> {
        while !self.ended {
            self.fill()?;
        }
        Ok(self.rest)
    }

    /// The next parts, each terminated by `end`: those that have been read, and at least one. The last part
    /// needs no terminator. Empty at the end of the input.
    pub(crate) fn parts(&mut self, end: u8) -> Result<Vec<Vec<u8>>, Failure> {
        // Each byte is examined once, however long a part is.
        let mut seen = 0;
        while !self.ended && !self.rest[seen..].contains(&end) {
            seen = self.rest.len();
            self.fill()?;
        }
        let whole = match self.rest.iter().rposition(|&it| it == end) {
            Some(last) => last + 1,
            None => self.rest.len(),
        };
        let rest = self.rest.split_off(whole);
        let mut parts: Vec<Vec<u8>> = self.rest.split(|&it| it == end).map(Into::into).collect();
        // The part after the last terminator is empty.
        if self.rest.last().is_none_or(|&it| it == end) {
            parts.pop();
        }
        self.rest = rest;
        Ok(parts)
    }
}
