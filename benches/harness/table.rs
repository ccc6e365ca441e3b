//! The results, as people read them.

use std::fmt;

use super::busy::Session;
use super::channel::{LEAST_MESSAGES, RINGS};
use super::figures::{short, size};
use super::layout::{Left, Right, aligned, table};
use super::load::Transport;
use super::options::FAIR_WINDOW;
use super::report::{
    Baseline, Gap, Goal, MapRate, Memory, Outcome, Report, RoundTrip, Skipped, Throughput,
};
use super::spread::Spread;
use super::stores::Store;
use super::{table_ratios, table_waits};

/// Which cores a pair of processes ran on.
fn cores(pinned: bool) -> String {
    if pinned { "own" } else { "any" }.to_owned()
}

/// Median, least and most, which take three columns.
fn spread(it: &Spread) -> [String; 3] {
    let (least, most) = (short(it.least), short(it.most));
    [short(it.median), format!("({least}"), format!(".. {most})")]
}

/// How many times as fast as the peer of this row Shoal was, if the row has a peer and both made progress.
fn times(times: Option<f64>) -> String {
    let times = times.filter(|times| times.is_finite());
    times.map_or(String::new(), |times| format!("{}x", short(times)))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        head(self, f)?;
        if let Some(baseline) = &self.baseline {
            f.write_str(&of_baseline(baseline))?;
        }
        f.write_str(&round_trips(self))?;
        f.write_str(&throughput(self))?;
        f.write_str(&table_ratios::ratios(self))?;
        f.write_str(&maps(self))?;
        if let Some(it) = &self.memory {
            f.write_str(&memory(it))?;
        }
        if let Some(idle) = &self.idle {
            let (queues, readers, cpu) = (idle.queues, idle.readers, idle.cpu_ms_per_second);
            let cpu = short(cpu);
            writeln!(
                f,
                "\nIdle: {queues} queues, {readers} readers asleep: {cpu} ms of a core a second"
            )?;
        }
        if !self.steps.is_empty() {
            let rows = self.steps.iter();
            let rows = rows.map(|it| {
                let counts = [it.instructions, it.elsewhere].map(|count| count.to_string());
                let [own, elsewhere] = counts;
                vec![it.what.to_string(), own, elsewhere]
            });
            writeln!(f, "\nInstructions of calls with 64 B, in one process")?;
            let columns = [("", Left), ("ours", Right), ("C library's", Right)];
            f.write_str(&table(&columns, rows))?;
        }
        f.write_str(&table_waits::waits(self))?;
        f.write_str(&gaps(&self.skipped))?;
        f.write_str(&goals(&self.goals))
    }
}

fn head(report: &Report, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (count, windows, seconds) = (report.cores, report.repeated, report.window_seconds);
    writeln!(
        f,
        "{count} cores; medians (least .. most) of {windows} windows of {seconds} s"
    )?;
    if report.busy > 0 {
        let whose = match report.busy_session {
            Session::Own => "each in a session of its own",
            Session::Same => "in the session of the benchmark",
        };
        let busy = report.busy;
        writeln!(f, "Programs that computed meanwhile: {busy}, {whose}.")?;
    }
    match report.pinned_to {
        Some([one, other]) => writeln!(
            f,
            "Pairs of processes are pinned to cores {one} and {other}; larger topologies run on any \
             core."
        )?,
        None => writeln!(
            f,
            "There is one core: nothing is pinned, the pairs share it."
        )?,
    }
    if report.window_seconds < FAIR_WINDOW {
        writeln!(
            f,
            "A quick run: windows this short show nothing about fairness."
        )?;
    }
    Ok(())
}

fn of_baseline(it: &Baseline) -> String {
    let one = |what: String, value: f64, unit: &str| {
        let empty = String::new();
        vec![what, short(value), empty.clone(), empty, unit.to_owned()]
    };
    let timed = it.timed().map(|(what, times)| {
        let [median, least, most] = spread(times);
        vec![what.to_owned(), median, least, most, "ns".to_owned()]
    });
    let copied = it.memcpy.iter().map(|it| {
        let what = format!("memcpy of {} on one core", size(it.size));
        one(what, it.gigabytes, "GB/s")
    });
    let clock = one(
        "reading the clock, left out above".to_owned(),
        it.clock_ns,
        "ns",
    );
    let rows = timed.into_iter().chain(copied).chain([clock]);
    let sides = [Left, Right, Right, Right, Left];
    format!(
        "\nThe machine's baseline: nothing that shares memory is faster\n{}",
        aligned(&sides, rows)
    )
}

fn memory(it: &Memory) -> String {
    let objects = [
        vec!["an empty queue".to_owned(), format!("{} B", it.empty_queue)],
        vec!["an empty map".to_owned(), format!("{} B", it.empty_map)],
    ];
    let stored = it.map.iter().map(|it| {
        vec![
            it.entries.to_string(),
            format!("{:.2}", it.committed_per_stored_byte),
            short(it.get_ns.median),
            short(it.read_ns.median),
        ]
    });
    let columns = [
        ("entries of 16+64 B", Right),
        ("B more for each byte", Right),
        ("a get, ns", Right),
        ("a read in as much memory, ns", Right),
    ];
    let objects = aligned(&[Left, Right], objects);
    format!("\nMemory, committed\n{objects}{}", table(&columns, stored))
}

/// The missing figures, with one line for all sizes of the same reason.
fn gaps(skipped: &[Skipped]) -> String {
    let mut rows = Vec::new();
    for (index, it) in skipped.iter().enumerate() {
        let same = |other: &&Skipped| {
            (&other.what, other.transport, other.outcome) == (&it.what, it.transport, it.outcome)
                && (&other.topology, &other.why) == (&it.topology, &it.why)
        };
        if skipped[..index].iter().any(|earlier| same(&earlier)) {
            continue;
        }
        let sizes = skipped.iter().filter(same).filter_map(|it| it.size);
        let outcome = match it.outcome {
            Gap::Skipped => "skipped",
            Gap::Stuck => "STUCK",
            Gap::Failed => "FAILED",
        };
        rows.push(vec![
            it.what.to_string(),
            it.topology.clone(),
            it.transport.to_string(),
            sizes.map(size).collect::<Vec<_>>().join(", "),
            format!("{outcome}: {}", it.why),
        ]);
    }
    if rows.is_empty() {
        return String::new();
    }
    format!("\nNot measured\n{}", aligned(&[Left; 5], rows))
}

fn round_trips(report: &Report) -> String {
    let all = &report.round_trips;
    if all.is_empty() {
        return String::new();
    }
    let row = |it: &RoundTrip| {
        let mut own = all
            .iter()
            .filter(|own| own.transport == Transport::Shoal && it.transport != Transport::Shoal);
        let own = own.find(|own| own.size == it.size);
        let mut row = vec![size(it.size), it.transport.to_string()];
        for it in [&it.median_ns, &it.p99_ns, &it.cache_lines] {
            row.extend(spread(it));
        }
        row.push(times(own.map(|own| it.median_ns.beside(&own.median_ns))));
        row
    };
    let columns = [
        ("size", Left),
        ("transport", Left),
        ("median", Right),
        ("", Right),
        ("", Right),
        ("p99", Right),
        ("", Right),
        ("", Right),
        ("in cache lines", Right),
        ("", Right),
        ("", Right),
        ("shoal is", Right),
    ];
    format!(
        "\nThere and back, ns, the clock included; each end on its own core\n{}",
        table(&columns, all.iter().map(row))
    )
}

const THROUGHPUT: [(&str, comfy_table::CellAlignment); 13] = [
    ("procs", Left),
    ("cores", Left),
    ("size", Left),
    ("transport", Left),
    ("batch", Left),
    ("million a second", Right),
    ("", Right),
    ("", Right),
    ("GB/s", Right),
    ("of memcpy", Right),
    ("line ns", Right),
    ("fairness", Right),
    ("shoal is", Right),
];

fn throughput(report: &Report) -> String {
    let all = &report.throughput;
    if all.is_empty() {
        return String::new();
    }
    let mut text =
        "\nThroughput, every byte written and read; line: a cache line there and back just \
                    before; fairness: most to least\n"
            .to_owned();
    text += &rings(report);
    if all.iter().any(|it| it.transport == Transport::Iceoryx2) {
        text += "iceoryx2 writes and reads its messages in place, and its consumers poll: it cannot \
                 wait.\n";
    }
    let rows = all.iter().map(|it| {
        let mut own = all.iter().filter(|own| {
            (own.transport, own.batch) == (Transport::Shoal, 1) && it.transport != Transport::Shoal
        });
        let own = own.find(|own| (own.size, &own.topology) == (it.size, &it.topology));
        let mut row = rate(report, it);
        row.push(times(own.map(|own| own.million.beside(&it.million))));
        row
    });
    text += &table(&THROUGHPUT, rows);
    if let Some(it) = &report.copied {
        text += "  and with only the ends of each message written and read:\n";
        text += &table(&THROUGHPUT[..12], [rate(report, it)]);
    }
    text
}

/// The size of our queue's ring.
fn rings(report: &Report) -> String {
    if let Some(ring) = report.ring {
        return format!(
            "Rings: {}, or {LEAST_MESSAGES} messages where that is more\n",
            size(ring as usize)
        );
    }
    let rings = RINGS.map(|(most, ring)| match most {
        usize::MAX => format!("{} above", size(ring as usize)),
        most => format!("{} for messages up to {}", size(ring as usize), size(most)),
    });
    format!(
        "Shoal's rings: {}, or {LEAST_MESSAGES} messages where that is more\n",
        rings.join(", ")
    )
}

fn rate(report: &Report, it: &Throughput) -> Vec<String> {
    let memcpy = report.memcpy(it.size);
    let share = memcpy.map(|memcpy| format!("{:.1} %", it.gigabytes / memcpy * 100.0));
    let line = it.cache_line_ns.as_ref().map(|line| short(line.median));
    let [median, least, most] = spread(&it.million);
    vec![
        it.topology.clone(),
        cores(it.pinned),
        size(it.size),
        it.transport.to_string(),
        it.batch.to_string(),
        median,
        least,
        most,
        short(it.gigabytes),
        share.unwrap_or_default(),
        line.unwrap_or_default(),
        it.most_to_least
            .map_or("STARVED".to_owned(), |ratio| times(Some(ratio))),
    ]
}

fn maps(report: &Report) -> String {
    if report.map.is_empty() {
        return String::new();
    }
    let row = |it: &MapRate| {
        let peer = it.store != Store::Shoal;
        let ratio = || report.map_ratio(it.store, it.operation, it.keys, it.processes);
        let [median, least, most] = spread(&it.million);
        vec![
            it.operation.name().to_owned(),
            it.keys.to_string(),
            it.processes.to_string(),
            cores(it.pinned),
            it.store.to_string(),
            median,
            least,
            most,
            times(peer.then(ratio).flatten()),
        ]
    };
    let columns = [
        ("what", Left),
        ("keys", Right),
        ("processes", Right),
        ("cores", Left),
        ("store", Left),
        ("million a second", Right),
        ("", Right),
        ("", Right),
        ("shoal is", Right),
    ];
    let rows = table(&columns, report.map.iter().map(row));
    let skipped = report.no_stores.iter();
    let skipped = skipped.map(|(store, why)| format!("  {store} is skipped: {why}\n"));
    let skipped = skipped.collect::<String>();
    format!("\nMap, keys of 16 B and values of 64 B in random order\n{rows}{skipped}")
}

fn goals(goals: &[Goal]) -> String {
    let row = |it: &Goal| {
        let outcome = match it.outcome {
            Outcome::Reached => "reached",
            Outcome::Missed => "MISSED",
            Outcome::NotMeasured => "not measured",
        };
        vec![
            outcome.to_owned(),
            it.what.clone(),
            it.measured.map(short).unwrap_or_default(),
            format!("{} {} {}", it.words, it.bound, it.unit),
        ]
    };
    let sides = [Left, Left, Right, Left];
    format!("\nGoals\n{}", aligned(&sides, goals.iter().map(row)))
}
