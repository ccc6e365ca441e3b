//! What was measured, as people read it.

use std::fmt;

use super::channel::{RINGS, Transport};
use super::crew::Session;
use super::goals::FAIR_WINDOW;
use super::map::Store;
use super::report::{Floor, Gap, Memory, Outcome, Report, Skipped, Spread, Throughput};

/// A number of bytes.
pub(super) fn size(bytes: usize) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 if bytes.is_multiple_of(1024) => format!("{} KiB", bytes >> 10),
        1_048_576.. if bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
        _ => format!("{bytes} B"),
    }
}

fn pinned(pinned: bool) -> &'static str {
    if pinned { "own" } else { "any" }
}

/// A number with three digits that count.
pub(super) fn short(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        1.0.. => format!("{value:.2}"),
        0.0 => "0".to_owned(),
        _ => format!("{value:.4}"),
    }
}

fn spread(it: &Spread) -> String {
    let (median, least, most) = (short(it.median), short(it.least), short(it.most));
    format!("{median:>8} ({least:>7} .. {most:>7})")
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (cores, windows, seconds) = (self.cores, self.repeated, self.window_seconds);
        writeln!(
            f,
            "{cores} cores; medians (least .. most) of {windows} windows of {seconds} s"
        )?;
        if self.busy > 0 {
            let whose = match self.busy_session {
                Session::Own => "each in a session of its own",
                Session::Same => "in the session of the benchmark",
            };
            writeln!(
                f,
                "Programs that computed meanwhile: {}, {whose}.",
                self.busy
            )?;
        }
        match self.pinned_to {
            Some([one, other]) => writeln!(
                f,
                "Pairs of processes are pinned to cores {one} and {other}; larger topologies \
                 run on any core."
            )?,
            None => writeln!(
                f,
                "There is one core: nothing is pinned, the pairs share it."
            )?,
        }
        if self.window_seconds < FAIR_WINDOW {
            writeln!(
                f,
                "A quick look: windows this short say nothing about fairness."
            )?;
        }
        if let Some(floor) = &self.floor {
            floor.write(f)?;
        }
        self.trips(f)?;
        self.rates(f)?;
        self.ratios(f)?;
        self.maps(f)?;
        if let Some(memory) = &self.memory {
            memory.write(f)?;
        }
        if let Some(idle) = &self.idle {
            let (queues, readers, cpu) = (idle.queues, idle.readers, idle.cpu_ms_per_second);
            writeln!(
                f,
                "\nIdle: {queues} queues, {readers} readers asleep: {} ms of a core a second",
                short(cpu)
            )?;
        }
        if !self.steps.is_empty() {
            writeln!(f, "\nInstructions of calls with 64 B, in one process")?;
        }
        for it in &self.steps {
            writeln!(f, "  {:40}  {:>6}", it.what, short(it.instructions))?;
        }
        self.waiting(f)?;
        self.gaps(f)?;
        self.judged(f)
    }
}

impl Floor {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\nThe machine's floor: nothing that shares memory is faster"
        )?;
        for (what, times) in [
            (
                "a cache line there and back, median",
                &self.cache_line_median_ns,
            ),
            ("the same, 99th percentile", &self.cache_line_p99_ns),
            (
                "the same, mean of many in one go",
                &self.cache_line_batch_mean_ns,
            ),
            ("a futex wake there and back, median", &self.futex_median_ns),
            ("the same, 99th percentile", &self.futex_p99_ns),
        ] {
            writeln!(f, "  {what:36} {} ns", spread(times))?;
        }
        for it in &self.memcpy {
            let what = format!("memcpy of {} on one core", size(it.size));
            writeln!(f, "  {what:36} {:>8} GB/s", short(it.gigabytes))?;
        }
        let what = "reading the clock, left out above";
        writeln!(f, "  {what:36} {:>8} ns", short(self.clock_ns))
    }
}

impl Memory {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nMemory, committed")?;
        writeln!(f, "  an empty queue  {:>7} B", self.empty_queue)?;
        writeln!(f, "  an empty map    {:>7} B", self.empty_map)?;
        for it in &self.map {
            let (entries, bytes) = (it.entries, it.committed_per_stored_byte);
            let (get, read) = (short(it.get_ns.median), short(it.read_ns.median));
            writeln!(
                f,
                "  {entries:>8} entries of 16+64 B: {bytes:.2} B more for each byte; a get {get} ns, a read in as much memory {read} ns"
            )?;
        }
        Ok(())
    }
}

impl Report {
    /// What there is no figure of; a line for all sizes it is the same of.
    fn gaps(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.skipped.is_empty() {
            writeln!(f, "\nNot measured")?;
        }
        for (index, it) in self.skipped.iter().enumerate() {
            let same = |other: &&Skipped| {
                (other.what, other.transport, other.outcome) == (it.what, it.transport, it.outcome)
                    && (&other.topology, &other.why) == (&it.topology, &it.why)
            };
            if self.skipped[..index].iter().any(|earlier| same(&earlier)) {
                continue;
            }
            let sizes = self.skipped.iter().filter(same).filter_map(|it| it.size);
            let sizes = sizes.map(size).collect::<Vec<_>>().join(", ");
            let (what, topology, transport) = (it.what, &it.topology, it.transport);
            let outcome = match it.outcome {
                Gap::Skipped => "skipped",
                Gap::Stuck => "STUCK",
                Gap::Failed => "FAILED",
            };
            writeln!(
                f,
                "  {what:10}  {topology:5}  {transport:11}  {sizes:8}  {outcome}: {}",
                it.why
            )?;
        }
        Ok(())
    }

    fn trips(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.round_trips.is_empty() {
            return Ok(());
        }
        writeln!(
            f,
            "\nThere and back, ns, the clock included; each end on its own core"
        )?;
        writeln!(
            f,
            "  size      transport     median                        99th percentile               \
             in cache lines                shoal is"
        )?;
        for it in &self.round_trips {
            let (bytes, median, p99) = (size(it.size), spread(&it.median_ns), spread(&it.p99_ns));
            let lines = spread(&it.cache_lines);
            let transport = it.transport;
            write!(f, "  {bytes:8}  {transport:12}  {median}  {p99}  {lines}")?;
            let mut all = self.round_trips.iter();
            let own = all.find(|own| own.transport == Transport::Shoal && own.size == it.size);
            match own {
                Some(own) if it.transport != Transport::Shoal => {
                    let times = it.median_ns.beside(&own.median_ns);
                    writeln!(f, "  {:>7}x", short(times))?;
                }
                _ => writeln!(f)?,
            }
        }
        Ok(())
    }

    fn rates(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.throughput.is_empty() {
            return Ok(());
        }
        writeln!(
            f,
            "\nThroughput, every byte written and read; line: a cache \
             line there and back just before; lucky: luckiest to least lucky"
        )?;
        self.rings(f)?;
        if self.has(Transport::Iceoryx2) {
            writeln!(
                f,
                "iceoryx2 writes and reads its messages in place, and its consumers poll: it cannot wait."
            )?;
        }
        writeln!(
            f,
            "  procs  cores  size      transport     batch  million a second              \
             GB/s     of memcpy  line ns     lucky  shoal is"
        )?;
        for it in &self.throughput {
            self.rate(f, it)?;
            let mut all = self.throughput.iter();
            let own = all.find(|own| {
                (own.transport, own.batch) == (Transport::Shoal, 1)
                    && (own.size, &own.topology) == (it.size, &it.topology)
            });
            match own {
                Some(own) if it.transport != Transport::Shoal => {
                    let times = own.million.beside(&it.million);
                    writeln!(f, "  {:>7}x", short(times))?;
                }
                _ => writeln!(f)?,
            }
        }
        if let Some(it) = &self.copied {
            writeln!(
                f,
                "  and with only the ends of each message written and read:"
            )?;
            self.rate(f, it)?;
            writeln!(f)?;
        }
        Ok(())
    }

    fn has(&self, transport: Transport) -> bool {
        self.throughput.iter().any(|it| it.transport == transport)
    }

    /// What our queue was given to work with.
    fn rings(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(ring) = self.ring {
            return writeln!(f, "Rings: {}", size(ring as usize));
        }
        let rings = RINGS.map(|(most, ring)| match most {
            usize::MAX => format!("{} above", size(ring as usize)),
            most => format!("{} for messages up to {}", size(ring as usize), size(most)),
        });
        writeln!(f, "Shoal's rings: {}", rings.join(", "))
    }

    fn rate(&self, f: &mut fmt::Formatter<'_>, it: &Throughput) -> fmt::Result {
        let memcpy = self.memcpy(it.size);
        let share = memcpy.map(|memcpy| format!("{:.1} %", it.gigabytes / memcpy * 100.0));
        let lucky = it.luckiest_to_least_lucky;
        write!(
            f,
            "  {:5}  {:5}  {:8}  {:12}  {:5}  {}  {:>7}  {:>10}  {:>7}  {:>8}",
            it.topology,
            pinned(it.pinned),
            size(it.size),
            it.transport,
            it.batch,
            spread(&it.million),
            short(it.gigabytes),
            share.unwrap_or_default(),
            it.cache_line_ns
                .as_ref()
                .map(|line| short(line.median))
                .unwrap_or_default(),
            lucky.map_or("STARVED".to_owned(), |lucky| format!("{}x", short(lucky))),
        )
    }

    fn maps(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.map.is_empty() {
            return Ok(());
        }
        writeln!(f, "\nMap, keys of 16 B and values of 64 B in random order")?;
        writeln!(
            f,
            "  what            keys  processes  cores  store      million a second               shoal is"
        )?;
        for it in &self.map {
            let (what, keys, processes) = (it.operation.name(), it.keys, it.processes);
            let (cores, store, million) = (pinned(it.pinned), it.store, spread(&it.million));
            let times = match it.store {
                Store::Shoal => String::new(),
                _ => self
                    .map_ratio(it.store, it.operation, keys, processes)
                    .map_or(String::new(), |times| format!("{}x", short(times))),
            };
            writeln!(
                f,
                "  {what:9}  {keys:>9}  {processes:>9}  {cores:5}  {store:9}  {million}  {times:>8}"
            )?;
        }
        for (store, why) in &self.no_stores {
            writeln!(f, "  {store} is skipped: {why}")?;
        }
        Ok(())
    }

    fn judged(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nGoals")?;
        for it in &self.goals {
            let outcome = match it.outcome {
                Outcome::Reached => "reached",
                Outcome::Missed => "MISSED",
                Outcome::NotMeasured => "not measured",
            };
            let measured = it.measured.map(short).unwrap_or_default();
            let (what, words, bound, unit) = (&it.what, it.words, it.bound, it.unit);
            writeln!(
                f,
                "  {outcome:12}  {what:40} {measured:>8}, {words} {bound} {unit}"
            )?;
        }
        Ok(())
    }
}
