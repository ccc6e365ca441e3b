//! The reports of bridges: in a shared map, which `shoal-bridge status` reads, and as Prometheus text.

use std::fmt::Write;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use shoal::{Map, Options};

use crate::counters::Report;
use crate::error::{Error, Result};

/// The map with the reports of the bridges of this machine, each under its pid.
pub const STATUS_MAP: &str = "shoal-bridge";

/// When a report expires. A bridge writes one each second.
const LIFE: Duration = Duration::from_secs(10);

/// The map of reports, to which a bridge writes its own until it closes it.
pub(crate) struct Board(Mutex<Option<Map>>);

impl Board {
    pub(crate) fn open() -> Result<Self> {
        let map = Map::with_options(Some(STATUS_MAP), &Options::create());
        let map = map.map_err(|why| match why {
            // The directory of all objects does not exist.
            shoal::Error::Unsupported { what } => Error::invalid("SHOAL_DIR", what),
            why => Error::object(STATUS_MAP, why),
        })?;
        Ok(Self(Mutex::new(Some(map))))
    }

    pub(crate) fn write(&self, report: &Report) -> Result<()> {
        let text = serde_json::to_vec(report).unwrap_or_default();
        let key = report.pid.to_string();
        let board = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(map) = &*board else { return Ok(()) };
        let written = map.set_for(key.as_bytes(), &text, LIFE);
        written.map_err(|why| Error::object(STATUS_MAP, why))
    }

    /// Removes the report of this bridge, which ends and writes no further one.
    pub(crate) fn close(&self) -> Result<()> {
        let mut board = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(map) = board.take() else {
            return Ok(());
        };
        let removed = map.remove(std::process::id().to_string().as_bytes());
        removed.map_err(|why| Error::object(STATUS_MAP, why))?;
        Ok(())
    }
}

/// The reports of the bridges of this machine, the active ones first. Empty if there is no bridge.
///
/// # Errors
/// `Object` if shared memory cannot be read.
pub fn reports() -> Result<Vec<Report>> {
    let map = match Map::open(STATUS_MAP) {
        Ok(map) => map,
        Err(shoal::Error::NotFound { .. }) => return Ok(Vec::new()),
        Err(why) => return Err(Error::object(STATUS_MAP, why)),
    };
    let mut reports = Vec::new();
    for entry in map.iter() {
        let (_, text) = entry.map_err(|why| Error::object(STATUS_MAP, why))?;
        // A bridge of another version may have written the entry.
        if let Ok(report) = serde_json::from_slice::<Report>(&text) {
            reports.push(report);
        }
    }
    reports.sort_by(|a, b| (&a.role, a.pid).cmp(&(&b.role, b.pid)));
    Ok(reports)
}

/// The reports as text for people.
pub fn table(reports: &[Report]) -> String {
    let mut text = String::new();
    for report in reports {
        let link = if report.connected {
            "connected"
        } else {
            "not connected"
        };
        let _ = writeln!(
            text,
            "bridge {} on {}, {}: {} to {}, {} connects, {} losses",
            report.pid,
            report.machine,
            report.role,
            link,
            report.servers.join(", "),
            report.connects,
            report.losses
        );
        if report.metrics != 0 {
            let port = report.metrics;
            let _ = writeln!(text, "  metrics: http://127.0.0.1:{port}/metrics");
        }
        if !report.last_error.is_empty() {
            let _ = writeln!(text, "  last error: {}", report.last_error);
        }
        for queue in &report.queues {
            let _ = writeln!(text, "  queue {}", queue.name);
            lines(&mut text, queue.numbers());
        }
        for map in &report.maps {
            let _ = writeln!(text, "  map {}", map.name);
            lines(&mut text, map.numbers());
        }
    }
    text
}

fn lines(text: &mut String, numbers: Vec<(&'static str, &'static str, &'static str, u64)>) {
    for (name, _, what, number) in numbers {
        let _ = writeln!(text, "    {name:<16} {number:>12}  {what}");
    }
}

/// A report as Prometheus text.
pub(crate) fn prometheus(report: &Report) -> String {
    let mut text = String::new();
    let mut metric = |name: &str, kind: &str, what: &str, samples: &[(String, u64)]| {
        let total = if kind == "counter" { "_total" } else { "" };
        let _ = writeln!(text, "# HELP shoal_bridge_{name}{total} {what}");
        let _ = writeln!(text, "# TYPE shoal_bridge_{name}{total} {kind}");
        for (labels, number) in samples {
            let _ = writeln!(text, "shoal_bridge_{name}{total}{labels} {number}");
        }
    };
    let one = |number: u64| [(String::new(), number)];
    metric(
        "connected",
        "gauge",
        "1 while the bridge is connected to a server.",
        &one(report.connected.into()),
    );
    metric(
        "active",
        "gauge",
        "1 if this bridge relays the objects of its machine.",
        &one((report.role == "active").into()),
    );
    metric(
        "connects",
        "counter",
        "How often the bridge connected.",
        &one(report.connects),
    );
    metric(
        "losses",
        "counter",
        "How often it lost the connection.",
        &one(report.losses),
    );
    let queues: Vec<_> = report
        .queues
        .iter()
        .map(|of| (&of.name, of.numbers()))
        .collect();
    let maps: Vec<_> = report
        .maps
        .iter()
        .map(|of| (&of.name, of.numbers()))
        .collect();
    for (word, objects) in [("queue", queues), ("map", maps)] {
        let Some((_, first)) = objects.first() else {
            continue;
        };
        for (at, (field, kind, what, _)) in first.iter().enumerate() {
            let sample = |(name, numbers): &(&String, Vec<(_, _, _, u64)>)| {
                (format!("{{{word}=\"{name}\"}}"), numbers[at].3)
            };
            let samples: Vec<_> = objects.iter().map(sample).collect();
            metric(&format!("{word}_{field}"), kind, what, &samples);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::QueueReport;

    #[test]
    fn metrics_name_each_queue_once_per_number() {
        let mut report = Report {
            connected: true,
            ..Report::default()
        };
        for (name, acked) in [("jobs", 7), ("mail", 8)] {
            let queue = QueueReport {
                name: name.to_owned(),
                acked,
                ..QueueReport::default()
            };
            report.queues.push(queue);
        }
        let text = prometheus(&report);
        assert!(text.contains("shoal_bridge_connected 1\n"), "{text}");
        assert!(
            text.contains("shoal_bridge_queue_acked_total{queue=\"jobs\"} 7\n"),
            "{text}"
        );
        assert!(
            text.contains("shoal_bridge_queue_acked_total{queue=\"mail\"} 8\n"),
            "{text}"
        );
        let help = text
            .lines()
            .filter(|line| line.starts_with("# HELP shoal_bridge_queue_acked"));
        assert_eq!(help.count(), 1);
        assert!(!text.contains("map_"), "{text}");
    }
}
