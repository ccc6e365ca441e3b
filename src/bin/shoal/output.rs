//! The output of commands, for people and for programs.

use std::fmt::Display;
use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::FileType;
use rustix::io::Errno;
use serde::Serialize;

pub(crate) use crate::failure::Failure;
use crate::interrupt;
use crate::streams;

/// How long a wait for a reader lasts before it checks for a signal.
const SLICE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

/// The output format.
#[derive(clap::Args, Clone, Copy)]
pub(crate) struct Format {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

impl Format {
    /// Prints `value` as JSON, or else what `people` writes.
    pub(crate) fn print(
        self,
        value: &(impl Serialize + ?Sized),
        people: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), Failure> {
        let mut out = BufWriter::new(Stdout::new());
        let written = match self.json {
            true => json(&mut out, value, true),
            false => people(&mut out),
        };
        done(written.and_then(|()| out.flush())).map(drop)
    }

    /// Prints `value` as a line of JSON, or else what `people` writes, and flushes. For commands that print
    /// one thing after another. Returns false once the reader has closed the pipe.
    pub(crate) fn line(
        self,
        value: &(impl Serialize + ?Sized),
        people: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<bool, Failure> {
        let mut out = BufWriter::new(Stdout::new());
        let written = match self.json {
            true => json(&mut out, value, false),
            false => people(&mut out),
        };
        done(written.and_then(|()| out.flush()))
    }
}

fn json(out: &mut dyn Write, value: &(impl Serialize + ?Sized), pretty: bool) -> io::Result<()> {
    match pretty {
        true => serde_json::to_writer_pretty(&mut *out, value)?,
        false => serde_json::to_writer(&mut *out, value)?,
    }
    writeln!(out)
}

/// The result of printing. It is false once the reader has closed the pipe, which is not an error: `head` in
/// `shoal ls | head -1` does so.
pub(crate) fn done(written: io::Result<()>) -> Result<bool, Failure> {
    match written {
        Err(err) if err.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(err) => {
            interrupt::check()?;
            Err(Failure::Output(err))
        }
        Ok(()) => Ok(true),
    }
}

/// Writes one line to the standard error, in one write, so that it is not mixed with the output of others.
pub(crate) fn say(text: impl Display) {
    tell(format_args!("shoal: {text}\n"));
}

/// Writes text to the standard error. If that fails, the command continues with the same exit code; `eprintln!`
/// would panic.
pub(crate) fn tell(text: impl Display) {
    let _ = io::stderr().write_all(text.to_string().as_bytes());
}

/// The standard output. A signal ends the wait for its reader; a plain write would restart the wait.
pub(crate) struct Stdout {
    out: StdoutLock<'static>,
    /// The most bytes of one write: unlimited for a file, else what a pipe accepts without blocking once it is
    /// writable.
    most: usize,
}

impl Stdout {
    pub(crate) fn new() -> Self {
        let out = io::stdout().lock();
        let facts = rustix::fs::fstat(&out);
        let is_file = |it: rustix::fs::Stat| FileType::from_raw_mode(it.st_mode).is_file();
        let most = match facts.is_ok_and(is_file) {
            true => usize::MAX,
            false => 4096,
        };
        Self { out, most }
    }

    fn wait_for_reader(&self) -> io::Result<()> {
        loop {
            if interrupt::signal().is_some() {
                return Err(io::Error::other("a signal came"));
            }
            let mut fds = [PollFd::new(&self.out, PollFlags::OUT)];
            match poll(&mut fds, Some(&SLICE)) {
                Ok(0) | Err(Errno::INTR) => {}
                // If something is wrong, the write returns the error.
                Ok(_) | Err(_) => return Ok(()),
            }
        }
    }
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        streams::check(1)?;
        if self.most != usize::MAX {
            self.wait_for_reader()?;
        }
        let len = bytes.len().min(self.most);
        // Leave nothing in the buffer of the standard library.
        let written = self.out.write(&bytes[..len])?;
        self.out.flush()?;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
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

/// A number of bytes for people.
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

/// A duration for people: its two largest units.
pub(crate) fn age(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86400, seconds / 3600 % 24),
    }
}

/// The longest duration on the command line. A longer one might overflow when it is added to the time of day.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 86400);

/// A duration on the command line: `2.5`, `500ms`, `10s`, `10m`, `1h`, `7d`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let expected =
        || "expected seconds, or a number with ms, s, m, h or d: 2.5, 500ms, 10m".to_owned();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86400.0,
        _ => return Err(expected()),
    };
    let number: f64 = digits.parse().map_err(|_| expected())?;
    let seconds = (number * unit).min(LONGEST.as_secs_f64());
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|_| number.is_finite())
        .ok_or_else(expected)
}

/// Whether colours may be printed: to a terminal that knows them, unless `NO_COLOR` is set.
pub(crate) fn has_colours() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|it| !it.is_empty());
    let dumb = std::env::var_os("TERM").is_none_or(|it| it == "dumb");
    io::stdout().is_terminal() && !set("NO_COLOR") && !dumb
}

/// How a piece of text is emphasised on a terminal.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Paint {
    Plain,
    Bold,
    Dim,
    Good,
    Warn,
    Bad,
}

impl Paint {
    /// `text` with this emphasis, if `colours` may be printed.
    pub(crate) fn on(self, text: &str, colours: bool) -> String {
        let code = match self {
            Paint::Bold => 1,
            Paint::Dim => 2,
            Paint::Bad => 31,
            Paint::Good => 32,
            Paint::Warn => 33,
            Paint::Plain => 0,
        };
        match colours && self != Paint::Plain {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }
}

/// The width of the terminal; `None`, without limit, if the output is not a terminal.
pub(crate) fn width() -> Option<usize> {
    if !io::stdout().is_terminal() {
        return None;
    }
    let (columns, _) = crossterm::terminal::size().unwrap_or((80, 24));
    Some(usize::from(columns).max(20))
}

/// Shows the progress of long work on a terminal; shows nothing elsewhere, and nothing for short work.
pub(crate) struct Progress {
    next: Instant,
    shown: bool,
    terminal: bool,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self {
            next: Instant::now() + Duration::from_secs(1),
            shown: false,
            terminal: io::stderr().is_terminal(),
        }
    }

    /// Shows the text of `what`, a few times a second.
    pub(crate) fn tick(&mut self, what: impl FnOnce() -> String) {
        if self.terminal && Instant::now() >= self.next {
            tell(format_args!("\r\x1b[K{}", what()));
            self.next = Instant::now() + Duration::from_millis(200);
            self.shown = true;
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            tell("\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    // By their paths: a benchmark without the test harness includes this file.
    #[test]
    fn durations_have_units_and_anything_else_is_refused() {
        let millis = |text| super::duration(text).map(|it| it.as_millis());
        assert_eq!(millis("2.5"), Ok(2500));
        assert_eq!(millis("500ms"), Ok(500));
        assert_eq!((millis("0"), millis("10m")), (Ok(0), Ok(600_000)));
        assert_eq!((millis("1e3ms"), millis("2d")), (Ok(1000), Ok(172_800_000)));
        assert_eq!(millis("1e30"), millis("36500d"));
        for wrong in [
            "", "ms", ".s", "-1", "1w", "1 s", "nan", "inf", "1e400", "ümlaut",
        ] {
            assert!(super::duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn ages_have_their_two_largest_units() {
        let shown = |seconds| super::age(std::time::Duration::from_secs(seconds));
        assert_eq!((shown(59), shown(61)), ("59s".into(), "1m01s".into()));
        assert_eq!(
            (shown(7260), shown(90_000)),
            ("2h01m".into(), "1d01h".into())
        );
    }
}
