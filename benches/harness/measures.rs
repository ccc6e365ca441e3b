//! Every figure of a report by its name, so that two reports can be compared.

use serde::Serialize;

use super::figures::size;
use super::load::Transport;
use super::report::Report;
use super::spread::Spread;

/// Which direction of a figure is better.
#[derive(Serialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "lowercase")]
pub(super) enum Better {
    More,
    Less,
}

/// One figure.
pub(super) struct Measure {
    /// Its name, the same in every report.
    pub(super) name: String,
    pub(super) unit: &'static str,
    pub(super) better: Better,
    /// It is counted, not timed, and has no noise.
    pub(super) is_exact: bool,
    /// It is a figure of the machine and not of a library.
    pub(super) is_baseline: bool,
    pub(super) spread: Spread,
}

use Better::{Less, More};

#[derive(Default)]
struct All(Vec<Measure>);

impl All {
    fn add(&mut self, name: String, unit: &'static str, better: Better, spread: &Spread) {
        self.0.push(Measure {
            name,
            unit,
            better,
            is_exact: false,
            is_baseline: false,
            spread: spread.clone(),
        });
    }
}

impl Report {
    /// All figures of the report that have samples.
    pub(super) fn measures(&self) -> Vec<Measure> {
        let mut all = All::default();
        self.baselines(&mut all);
        self.of_queues(&mut all);
        self.of_maps(&mut all);
        self.of_curves(&mut all);
        self.of_waits(&mut all);
        for it in &self.ratios {
            let name = format!(
                "{}, {}, {}, by {}: times as fast as {}",
                it.what,
                size(it.size),
                it.topology,
                it.batch,
                it.with
            );
            if let Some(rounds) = &it.rounds {
                all.add(name, "x", More, rounds);
            }
        }
        for it in &self.growth {
            for row in &it.rows {
                let name = format!("{}, {} {}", it.what, row.count, it.beside);
                all.add(name, "ns", Less, &row.ns);
            }
        }
        for it in &self.steps {
            let count = Spread::of(vec![it.instructions as f64]);
            all.add(format!("instructions, {}", it.what), "", Less, &count);
            if let Some(last) = all.0.last_mut() {
                last.is_exact = true;
            }
        }
        // A peer that carried nothing has no figure to compare with.
        all.0.retain(|it| it.spread.median.is_finite());
        all.0
    }

    fn baselines(&self, all: &mut All) {
        let Some(it) = &self.baseline else { return };
        for (name, spread) in [
            (
                "cache line there and back, median",
                &it.cache_line_median_ns,
            ),
            ("cache line there and back, p99", &it.cache_line_p99_ns),
            ("futex wake there and back, median", &it.futex_median_ns),
            ("futex wake there and back, p99", &it.futex_p99_ns),
        ] {
            all.add(format!("baseline: {name}"), "ns", Less, spread);
        }
        for it in &mut all.0 {
            it.is_baseline = true;
        }
    }

    fn of_queues(&self, all: &mut All) {
        for it in &self.round_trips {
            let name =
                |what: &str| format!("round trip {what}, {}, {}", size(it.size), it.transport);
            all.add(name("median"), "ns", Less, &it.median_ns);
            all.add(name("p99"), "ns", Less, &it.p99_ns);
        }
        let copied = self.copied.iter().map(|it| (", only its ends read", it));
        for (how, it) in self.throughput.iter().map(|it| ("", it)).chain(copied) {
            let what = format!(
                "{}, {}, {}, by {}{how}",
                size(it.size),
                it.topology,
                it.transport,
                it.batch
            );
            all.add(format!("throughput, {what}"), "M/s", More, &it.million);
            all.add(format!("cpu per message, {what}"), "ns", Less, &it.cpu_ns);
        }
    }

    fn of_maps(&self, all: &mut All) {
        for it in &self.map {
            let what = format!(
                "{}, {} keys, {} processes, {}",
                it.operation.name(),
                it.keys,
                it.processes,
                it.store
            );
            all.add(format!("map {what}"), "M/s", More, &it.million);
            all.add(format!("cpu per map {what}"), "ns", Less, &it.cpu_ns);
        }
        for it in self.memory.iter().flat_map(|it| &it.map) {
            let name = |what: &str| format!("memory: {what}, {} entries", it.entries);
            all.add(name("a get"), "ns", Less, &it.get_ns);
            all.add(name("a read"), "ns", Less, &it.read_ns);
            if let Some(last) = all.0.last_mut() {
                last.is_baseline = true;
            }
        }
    }

    fn of_curves(&self, all: &mut All) {
        for curve in &self.curves {
            let name = |what: &str| {
                format!(
                    "{what}, {}, {} busy, {}",
                    size(curve.size),
                    curve.busy,
                    curve.transport
                )
            };
            all.add(name("capacity"), "/s", More, &curve.capacity);
            for point in &curve.points {
                let percent = point.percent;
                for (quantile, spread) in point.late.all() {
                    let what = format!("lateness at {percent} %, {quantile}");
                    all.add(name(&what), "us", Less, spread);
                }
                let what = format!("cpu per message at {percent} %");
                all.add(name(&what), "us", Less, &point.cpu_us);
            }
        }
    }

    fn of_waits(&self, all: &mut All) {
        for it in &self.waits {
            let cores = if it.pinned { ", pinned" } else { "" };
            let name =
                |what: &str| format!("{}, {what}, {} busy{cores}, {}", it.what, it.busy, it.who);
            all.add(name("rate"), "/s", More, &it.rate);
            for (quantile, spread) in it.times.iter().flat_map(|it| it.all()) {
                all.add(name(quantile), "us", Less, spread);
            }
            all.add(name("cpu"), "us", Less, &it.cpu_us);
        }
    }
}

/// Whether a figure is one of Shoal's: its name ends with the name of a Shoal object, or names no
/// transport at all.
pub(super) fn is_own(measure: &Measure) -> bool {
    let name = &measure.name;
    !measure.is_baseline
        && ![
            Transport::Bare,
            Transport::Futex,
            Transport::Pipe,
            Transport::Unix,
            Transport::Mq,
            Transport::Iceoryx2,
            Transport::Boost,
            Transport::Zeromq,
            Transport::Nng,
        ]
        .iter()
        .any(|it| name.contains(&format!(", {it}")))
        && !["boost map", "lmdb", "redis", "mutex", "tickets"]
            .iter()
            .any(|it| name.ends_with(it))
}
