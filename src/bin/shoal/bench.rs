//! `shoal bench`: the harness of `benches/`, from the command line.

#[path = "../../../benches/harness/mod.rs"]
mod harness;

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::output::{Failure, Format, Stdout, done, tell};

/// The options that say what is measured, and how.
const MEASURING: [&str; 13] = [
    "peers",
    "transports",
    "quick",
    "seconds",
    "repeat",
    "sizes",
    "topologies",
    "ring",
    "busy",
    "busy_session",
    "pinned",
    "waits",
    "only",
];

#[derive(clap::Args)]
pub(crate) struct Bench {
    /// Measure pipes, Unix sockets and POSIX message queues too
    #[arg(long)]
    peers: bool,
    /// Which transports to measure; implies --peers
    #[arg(long, value_enum, value_delimiter = ',')]
    transports: Vec<harness::Transport>,
    /// Rough figures: one short window each, less than a minute in all
    #[arg(long)]
    quick: bool,
    /// Length of each window in seconds [default: 0.4; for waits 0.5]
    #[arg(long, value_parser = seconds)]
    seconds: Option<f64>,
    /// Number of windows of which the median is taken [default: 3; for waits 5]
    #[arg(long, value_parser = repeat)]
    repeat: Option<usize>,
    /// Message sizes in bytes, multiples of 8
    #[arg(long, value_delimiter = ',', default_values_t = harness::SIZES, value_parser = size)]
    sizes: Vec<usize>,
    /// Producers x consumers [default: 1x1,2x2,4x4,8x1,1x8; and, unless it is quick, 20x20 and
    /// 20x3 with 64 B]
    #[arg(long, value_delimiter = ',')]
    topologies: Option<Vec<harness::Topology>>,
    /// Bytes of every ring, 4 KiB to 1 GiB [default: depends on the message size]
    #[arg(long, value_parser = ring)]
    ring: Option<u64>,
    /// Number of busy programs that run meanwhile. For waits and curves, several numbers, each measured
    /// in turn [default: 0,1,2,4 for waits, 0,2 for curves and where everything is measured]; for another
    /// part, which `--only` names, one number [default: 0]
    #[arg(long, value_delimiter = ',')]
    busy: Vec<u8>,
    /// The session of the busy programs [default: same for waits, own for other parts]
    #[arg(long, value_enum)]
    busy_session: Option<harness::Session>,
    /// Measure round trips of waits with pinned processes too, also together with busy programs
    #[arg(long)]
    pinned: bool,
    /// Which kinds of waits to measure
    #[arg(long, value_enum, value_delimiter = ',')]
    waits: Vec<harness::Waits>,
    /// Only this part
    #[arg(long, value_enum)]
    only: Option<harness::Only>,
    /// Write the report as one page of HTML, which needs nothing else
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write the chart of throughput from one process to another as an SVG image
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Write the report as JSON, with all samples
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Measure nothing: read a report, from JSON or from a page
    #[arg(long, value_name = "FILE", conflicts_with_all = MEASURING)]
    from: Option<PathBuf>,
    /// Measure nothing: compare two reports, and say which differences are more than noise
    #[arg(
        long,
        num_args = 2,
        value_names = ["FIRST", "SECOND"],
        conflicts_with_all = ["from", "html", "svg", "save"],
        conflicts_with_all = MEASURING
    )]
    compare: Vec<PathBuf>,
    /// Fail if calls execute more instructions than this file allows
    #[arg(
        long,
        value_name = "FILE",
        requires = "compiler",
        conflicts_with_all = ["from", "compare", "html", "svg", "save"],
        conflicts_with_all = MEASURING
    )]
    budget: Option<PathBuf>,
    /// Write the counted instructions to that file
    #[arg(long, requires = "budget")]
    update_budget: bool,
    /// The compiler that built this program, as `rustc --version` says
    #[arg(long)]
    compiler: Option<String>,
    #[command(flatten)]
    format: Format,
}

/// The largest message. It is bounded, because every worker has a batch of them in memory.
const LARGEST: usize = 8 << 20;

/// If the benchmark started this process, does its part and exits.
pub(crate) fn worker() {
    harness::worker();
}

impl Bench {
    pub(crate) fn run(self) -> Result<(), Failure> {
        if let [first, second] = self.compare.as_slice() {
            let comparison = harness::Comparison::of(&read(first)?, &read(second)?);
            let print = |out: &mut dyn Write| write!(out, "{comparison}");
            return self.format.print(&comparison, print);
        }
        if let (Some(path), Some(compiler)) = (&self.budget, &self.compiler) {
            return budget(path, compiler, self.update_budget);
        }
        let (format, html, save) = (self.format, self.html.clone(), self.save.clone());
        let svg = self.svg.clone();
        // Before the measurement, which takes minutes.
        for path in html.iter().chain(&svg).chain(&save) {
            writable(path)?;
        }
        let report = match &self.from {
            Some(path) => read(path)?,
            None => self.measure()?,
        };
        let failed = |why: Box<dyn std::error::Error>| Failure::Other(why.to_string());
        if let Some(path) = html {
            write(&path, &harness::page(&report).map_err(failed)?)?;
        }
        if let Some(path) = svg {
            write(&path, &harness::picture(&report).map_err(failed)?)?;
        }
        if let Some(path) = save {
            write(&path, &harness::json(&report))?;
        }
        format.print(&report, |out| write!(out, "{report}"))
    }

    fn measure(self) -> Result<harness::Report, Failure> {
        let (only, busy) = self.part()?;
        // With all peers a run takes about fifteen minutes.
        let (seconds, repeat) = match only {
            _ if self.quick => (0.03, 1),
            Some(harness::Only::Waits) => (0.5, 5),
            _ => (0.4, 3),
        };
        let seconds = self.seconds.unwrap_or(seconds);
        let many = self.topologies.is_none() && !self.quick;
        let options = harness::Options {
            window: Duration::from_secs_f64(seconds),
            repeat: self.repeat.unwrap_or(repeat),
            sizes: self.sizes,
            topologies: self.topologies.unwrap_or(harness::TOPOLOGIES.to_vec()),
            oversubscribed: if many {
                harness::OVERSUBSCRIBED.to_vec()
            } else {
                Vec::new()
            },
            peers: self.peers || !self.transports.is_empty(),
            transports: self.transports,
            only,
            ring: self.ring,
            busy,
            busy_session: self.busy_session,
            pinned: self.pinned,
            waits: self.waits,
        };
        harness::run(&options, &|what| tell(format_args!("measuring {what} …\n")))
            .map_err(|why| Failure::Other(why.to_string()))
    }

    /// Which part to measure, and with how many busy programs.
    fn part(&self) -> Result<(Option<harness::Only>, Vec<u8>), Failure> {
        use harness::Only::{Curves, Waits};
        let asked = !self.busy.is_empty() || !self.waits.is_empty();
        let busy = |others: &[u8]| match self.busy.is_empty() {
            true => others.to_vec(),
            false => self.busy.clone(),
        };
        match self.only {
            None if !asked => Ok((None, harness::IDLE_AND_BUSY.to_vec())),
            None | Some(Waits) => Ok((Some(Waits), busy(&harness::BUSY))),
            Some(Curves) if self.waits.is_empty() => {
                Ok((Some(Curves), busy(&harness::IDLE_AND_BUSY)))
            }
            Some(_) if self.busy.len() > 1 || !self.waits.is_empty() => {
                let why = "only waits and curves take several numbers of busy programs, and only waits have \
                           kinds";
                Err(Failure::Usage(why.to_owned()))
            }
            other => Ok((other, self.busy.clone())),
        }
    }
}

/// A report from a file of JSON, or from a page that has it inside.
fn read(path: &Path) -> Result<harness::Report, Failure> {
    let failed = |why: String| Failure::Other(format!("{}: {why}", path.display()));
    let text = fs::read_to_string(path).map_err(|err| failed(err.to_string()))?;
    harness::parse(&text).map_err(|why| failed(why.to_string()))
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let failed = |err: io::Error| Failure::Other(format!("{}: {err}", path.display()));
    fs::write(path, text).map_err(failed)
}

/// Fails if a file cannot be written. Does not change an existing file, and leaves no new one.
fn writable(path: &Path) -> Result<(), Failure> {
    let failed = |err: io::Error| Failure::Usage(format!("{}: {err}", path.display()));
    let mut options = OpenOptions::new();
    options.append(true);
    match options.clone().create_new(true).open(path) {
        Ok(_) => fs::remove_file(path).map_err(failed),
        Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {
            options.create(true).open(path).map(drop).map_err(failed)
        }
        Err(err) => Err(failed(err)),
    }
}

/// Counts instructions and compares them with a budget, or writes it.
fn budget(path: &Path, compiler: &str, update: bool) -> Result<(), Failure> {
    let failed = |why: String| Failure::Other(format!("{}: {why}", path.display()));
    let counted = harness::instructions().map_err(|why| failed(why.to_string()))?;
    if counted.is_empty() {
        return print("Not counted: this process may not trace another one (ptrace).\n");
    }
    if update {
        return write(path, &harness::budget::text(&counted, compiler));
    }
    let text = fs::read_to_string(path).map_err(|err| failed(err.to_string()))?;
    print(&harness::budget::check(&text, &counted, compiler).map_err(failed)?)
}

fn print(text: &str) -> Result<(), Failure> {
    done(Stdout::new().write_all(text.as_bytes())).map(drop)
}

fn seconds(text: &str) -> Result<f64, String> {
    let given = text.parse().ok();
    given
        .filter(|seconds| (0.001..=60.0).contains(seconds))
        .ok_or_else(|| "expected 0.001 to 60".to_owned())
}

fn repeat(text: &str) -> Result<usize, String> {
    let given = text.parse().ok();
    given
        .filter(|repeat| (1..=100).contains(repeat))
        .ok_or_else(|| "expected 1 to 100".to_owned())
}

fn ring(text: &str) -> Result<u64, String> {
    let given = text.parse().ok();
    given
        .filter(|ring| (4 << 10..=1 << 30).contains(ring))
        .ok_or_else(|| "expected 4096 to 1073741824".to_owned())
}

fn size(text: &str) -> Result<usize, String> {
    let given: Option<usize> = text.parse().ok();
    given
        .filter(|&size| (8..=LARGEST).contains(&size) && size.is_multiple_of(8))
        .ok_or_else(|| "expected a multiple of 8, up to 8 MiB".to_owned())
}
