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
    /// A look instead of a measurement
    #[arg(long)]
    quick: bool,
    /// How long each window is
    #[arg(long, default_value_t = 0.3)]
    seconds: f64,
    /// How many windows the median is of
    #[arg(long, default_value_t = 3)]
    repeat: usize,
    /// Sizes of messages in bytes, multiples of 8
    #[arg(long, value_delimiter = ',', default_values_t = harness::SIZES)]
    sizes: Vec<usize>,
    /// Producers x consumers
    #[arg(long, value_delimiter = ',', default_values = harness::TOPOLOGIES)]
    topologies: Vec<harness::Topology>,
    /// Only this part
    #[arg(long, value_enum, default_value = "all")]
    only: harness::Part,
    #[command(flatten)]
    format: Format,
}

impl Bench {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let wrong = |why: &str| Err(Failure::Usage(why.to_owned()));
        if self
            .sizes
            .iter()
            .any(|&size| size == 0 || size % 8 != 0 || size > 64 << 20)
        {
            return wrong("--sizes takes multiples of 8 up to 64 MiB");
        }
        if !(0.001..=60.0).contains(&self.seconds) || !(1..=100).contains(&self.repeat) {
            return wrong("--seconds takes 0.001 to 60, --repeat 1 to 100");
        }
        let (seconds, repeat) = if self.quick {
            (0.03, 1)
        } else {
            (self.seconds, self.repeat)
        };
        let options = harness::Options {
            window: Duration::from_secs_f64(seconds),
            repeat,
            sizes: self.sizes,
            topologies: self.topologies,
            peers: self.peers,
            part: self.only,
        };
        let report = harness::run(&options, &|what| eprintln!("measuring {what} …"))
            .map_err(|why| Failure::Other(why.to_string()))?;
        self.format.print(&report, |out| write!(out, "{report}"))
    }
}
