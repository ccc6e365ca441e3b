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
    /// Which of these to measure
    #[arg(long, value_enum, value_delimiter = ',', requires = "peers")]
    transports: Vec<harness::Transport>,
    /// Rough figures: one short window each, a few seconds in all
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
    /// Number of busy programs that run meanwhile. For waits, several numbers, each measured in turn
    /// [default: 0,1,2,4]; for another part, which `--only` names, one number [default: 0]
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
    #[command(flatten)]
    format: Format,
}

/// The largest message: every worker has a batch of them in memory.
const LARGEST: usize = 8 << 20;

/// If the benchmark started this process, does its part and exits.
pub(crate) fn worker() {
    harness::worker();
}

impl Bench {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let (only, busy) = self.part()?;
        // With all peers a run takes about seven minutes, nearly two of them for maps.
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
            peers: self.peers,
            transports: self.transports,
            only,
            ring: self.ring,
            busy,
            busy_session: self.busy_session,
            pinned: self.pinned,
            waits: self.waits,
        };
        let report = harness::run(&options, &|what| eprintln!("measuring {what} …"))
            .map_err(|why| Failure::Bench(why.to_string()))?;
        self.format.print(&report, |out| write!(out, "{report}"))
    }

    /// What to measure, and together with how many busy programs.
    fn part(&self) -> Result<(Option<harness::Only>, Vec<u8>), Failure> {
        use harness::Only::Waits;
        let asked = !self.busy.is_empty() || !self.waits.is_empty();
        match self.only {
            None if !asked => Ok((None, Vec::new())),
            None | Some(Waits) if self.busy.is_empty() => Ok((Some(Waits), harness::BUSY.to_vec())),
            None | Some(Waits) => Ok((Some(Waits), self.busy.clone())),
            Some(_) if self.busy.len() > 1 || !self.waits.is_empty() => {
                let why =
                    "only waits take several numbers of busy programs, and only waits have kinds";
                Err(Failure::Usage(why.to_owned()))
            }
            other => Ok((other, self.busy.clone())),
        }
    }
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
