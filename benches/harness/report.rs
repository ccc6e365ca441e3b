//! What was measured: JSON for programs, tables for people.

use std::fmt;

use serde::Serialize;

use super::channel::Transport;
use super::{Options, stage};

#[derive(Serialize, Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

#[derive(Serialize)]
pub(crate) struct Report {
    pub(crate) cores: usize,
    pub(crate) window_seconds: f64,
    pub(crate) repeated: usize,
    pub(crate) floor: Option<Floor>,
    pub(crate) round_trips: Vec<RoundTrip>,
    pub(crate) throughput: Vec<Throughput>,
    /// 64 KiB of which nobody touches more than the ends.
    pub(crate) copied: Option<Throughput>,
    pub(crate) map: Vec<MapRate>,
    pub(crate) memory: Memory,
    pub(crate) goals: Vec<Goal>,
    pub(crate) skipped: Vec<String>,
}

#[derive(Serialize)]
pub(crate) struct Floor {
    /// What timing one trip adds to it.
    pub(crate) clock_ns: f64,
    pub(crate) cache_line_median_ns: f64,
    pub(crate) cache_line_p99_ns: f64,
    pub(crate) futex_median_ns: f64,
    pub(crate) copying: Vec<Copying>,
}

#[derive(Serialize)]
pub(crate) struct Copying {
    pub(crate) size: usize,
    pub(crate) gigabytes: f64,
}

#[derive(Serialize)]
pub(crate) struct RoundTrip {
    pub(crate) transport: Transport,
    pub(crate) size: usize,
    pub(crate) median_ns: f64,
    pub(crate) p99_ns: f64,
}

#[derive(Serialize)]
pub(crate) struct Throughput {
    pub(crate) transport: Transport,
    pub(crate) size: usize,
    pub(crate) topology: String,
    pub(crate) batch: usize,
    /// Million messages a second.
    pub(crate) million: Spread,
    pub(crate) gigabytes: f64,
    pub(crate) luckiest_to_least_lucky: f64,
    pub(crate) starved: bool,
}

#[derive(Serialize)]
pub(crate) struct MapRate {
    pub(crate) operation: &'static str,
    pub(crate) keys: u64,
    pub(crate) processes: usize,
    /// Million operations a second, all processes together.
    pub(crate) million: Spread,
}

#[derive(Serialize, Default)]
pub(crate) struct Memory {
    pub(crate) empty_queue: u64,
    pub(crate) empty_map: u64,
    pub(crate) map_bytes_per_stored_byte: Vec<(u64, f64)>,
}

#[derive(Serialize)]
pub(crate) struct Goal {
    pub(crate) what: String,
    pub(crate) goal: f64,
    pub(crate) measured: f64,
    pub(crate) unit: &'static str,
    pub(crate) reached: bool,
}

impl Report {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            cores: stage::cores(),
            window_seconds: options.window.as_secs_f64(),
            repeated: options.repeat,
            floor: None,
            round_trips: Vec::new(),
            throughput: Vec::new(),
            copied: None,
            map: Vec::new(),
            memory: Memory::default(),
            goals: Vec::new(),
            skipped: Vec::new(),
        }
    }

    /// How many times as fast as `transport` our queue was at the same thing.
    fn times(&self, other: &Throughput) -> Option<f64> {
        let mut all = self.throughput.iter();
        let ours = all.find(|it| {
            it.transport == Transport::Shoal
                && (it.size, &it.topology, it.batch) == (other.size, &other.topology, other.batch)
        })?;
        Some(ours.million.median / other.million.median)
    }
}

fn size(bytes: usize) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (cores, window) = (self.cores, self.window_seconds);
        writeln!(
            f,
            "{cores} cores; {} windows of {window} s, medians",
            self.repeated
        )?;
        if let Some(floor) = &self.floor {
            writeln!(f, "\nThe machine's floor")?;
            let (median, p99) = (floor.cache_line_median_ns, floor.cache_line_p99_ns);
            writeln!(
                f,
                "  a cache line there and back  {median:6.0} ns   p99 {p99:.0} ns"
            )?;
            writeln!(
                f,
                "  a futex wake there and back  {:6.0} ns",
                floor.futex_median_ns
            )?;
            for it in &floor.copying {
                writeln!(
                    f,
                    "  memcpy of {:8}           {:6.1} GB/s",
                    size(it.size),
                    it.gigabytes
                )?;
            }
            writeln!(
                f,
                "  reading the clock            {:6.0} ns, left out above",
                floor.clock_ns
            )?;
        }
        self.trips(f)?;
        self.rates(f)?;
        self.maps(f)?;
        writeln!(f, "\nMemory")?;
        writeln!(f, "  an empty queue  {:6} B", self.memory.empty_queue)?;
        writeln!(f, "  an empty map    {:6} B", self.memory.empty_map)?;
        for (keys, bytes) in &self.memory.map_bytes_per_stored_byte {
            writeln!(
                f,
                "  a map of {keys:8} entries of 16+64 B: {bytes:.2} bytes a stored byte"
            )?;
        }
        if !self.skipped.is_empty() {
            writeln!(f, "\nSkipped")?;
            self.skipped
                .iter()
                .try_for_each(|why| writeln!(f, "  {why}"))?;
        }
        writeln!(f, "\nGoals")?;
        for goal in &self.goals {
            let word = if goal.reached { "reached" } else { "MISSED " };
            let Goal {
                what,
                goal,
                measured,
                unit,
                ..
            } = goal;
            writeln!(
                f,
                "  {word} {measured:9.2} {unit:3} (goal {goal:>6} {unit:3})  {what}"
            )?;
        }
        Ok(())
    }
}

impl Report {
    fn trips(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.round_trips.is_empty() {
            return Ok(());
        }
        writeln!(
            f,
            "\nThere and back, each end on its core (the clock included)"
        )?;
        for it in &self.round_trips {
            writeln!(
                f,
                "  {:8}  {:12} median {:8.0} ns   p99 {:8.0} ns",
                size(it.size),
                it.transport.to_string(),
                it.median_ns,
                it.p99_ns
            )?;
        }
        Ok(())
    }

    fn rates(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.throughput.is_empty() {
            return Ok(());
        }
        writeln!(f, "\nThroughput, every byte written and read")?;
        let head = "  procs  size      transport     batch      M/s (least .. most)       GB/s  ";
        writeln!(f, "{head}unfair  shoal is")?;
        for it in &self.throughput {
            let Spread {
                median,
                least,
                most,
            } = it.million;
            write!(
                f,
                "  {:5}  {:8}  {:12}  {:5}  {median:8.3} ({least:7.3} .. {most:7.3})  {:7.2}  {:5.1}x",
                it.topology,
                size(it.size),
                it.transport.to_string(),
                it.batch,
                it.gigabytes,
                it.luckiest_to_least_lucky,
            )?;
            match self.times(it) {
                Some(times) if it.transport != Transport::Shoal => writeln!(f, "  {times:6.1}x")?,
                _ if it.starved => writeln!(f, "  somebody starved")?,
                _ => writeln!(f)?,
            }
        }
        if let Some(it) = &self.copied {
            let rate = it.gigabytes;
            writeln!(
                f,
                "  1x1    64 KiB    shoal, only the ends touched: {rate:.2} GB/s"
            )?;
        }
        Ok(())
    }

    fn maps(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.map.is_empty() {
            return Ok(());
        }
        writeln!(f, "\nMap, keys of 16 B and values of 64 B, in random order")?;
        for it in &self.map {
            let Spread {
                median,
                least,
                most,
            } = it.million;
            let (operation, keys, processes) = (it.operation, it.keys, it.processes);
            writeln!(
                f,
                "  {operation}  {keys:8} keys  {processes} process{:2}  {median:7.2} M/s ({least:.2} .. {most:.2})",
                if processes == 1 { "" } else { "es" },
            )?;
        }
        Ok(())
    }
}
