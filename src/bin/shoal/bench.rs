//! `shoal bench`: the harness of `benches/`, from the command line.

#[path = "../../../benches/harness/mod.rs"]
mod harness;

use std::time::Duration;

use crate::output::{Failure, Format};

#[derive(clap::Args)]
pub(crate) struct Bench {
    /// Measure pipes, Unix sockets and POSIX message queues too
    #[arg(long)]
    peers: bool,
    /// A look instead of a measurement: one short window each, a few seconds in all
    #[arg(long)]
    quick: bool,
    /// How long each window is [default: 0.4]
    #[arg(long)]
    seconds: Option<f64>,
    /// How many windows the median is of [default: 3]
    #[arg(long)]
    repeat: Option<usize>,
    /// Sizes of messages in bytes, multiples of 8
    #[arg(long, value_delimiter = ',', default_values_t = harness::SIZES)]
    sizes: Vec<usize>,
    /// Producers x consumers
    #[arg(long, value_delimiter = ',', default_values = harness::TOPOLOGIES)]
    topologies: Vec<harness::Topology>,
    /// Only this part
    #[arg(long, value_enum)]
    only: Option<harness::Only>,
    #[command(flatten)]
    format: Format,
}

/// The largest message: every worker has a batch of them in memory.
const LARGEST: usize = 8 << 20;

/// If this process is one that the benchmark started: does its part and ends.
pub(crate) fn worker() {
    harness::worker();
}

impl Bench {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let wrong = |why: &str| Err(Failure::Other(why.to_owned()));
        let fits = |size: &usize| (8..=LARGEST).contains(size) && size.is_multiple_of(8);
        if !self.sizes.iter().all(fits) {
            return wrong("--sizes takes multiples of 8 up to 8 MiB");
        }
        // With all peers these make just under three minutes.
        let (seconds, repeat) = if self.quick { (0.03, 1) } else { (0.4, 3) };
        let (seconds, repeat) = (
            self.seconds.unwrap_or(seconds),
            self.repeat.unwrap_or(repeat),
        );
        if !(0.001..=60.0).contains(&seconds) || !(1..=100).contains(&repeat) {
            return wrong("--seconds takes 0.001 to 60, --repeat 1 to 100");
        }
        let options = harness::Options {
            window: Duration::from_secs_f64(seconds),
            repeat,
            sizes: self.sizes,
            topologies: self.topologies,
            peers: self.peers,
            only: self.only,
        };
        let report = harness::run(&options, &|what| eprintln!("measuring {what} …"))
            .map_err(|why| Failure::Other(why.to_string()))?;
        self.format.print(&report, |out| write!(out, "{report}"))
    }
}
