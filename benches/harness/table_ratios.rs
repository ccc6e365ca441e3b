//! How many times as fast as each of its peers Shoal was, as people read it.

use super::figures::{short, size};
use super::layout::{Left, Right, table};
use super::load::Transport;
use super::report::{Gap, Ratio, Report};

/// A row for each of our own figures, a column for each peer.
pub(super) fn ratios(report: &Report) -> String {
    let trips = report.round_trips.iter().map(|it| it.transport);
    let rates = report.throughput.iter().map(|it| it.transport);
    let mut peers = Vec::new();
    for peer in trips.chain(rates) {
        if peer != Transport::Shoal && !peers.contains(&peer) {
            peers.push(peer);
        }
    }
    if peers.is_empty() || report.ratios.is_empty() {
        return String::new();
    }
    let names: Vec<_> = peers.iter().map(Transport::to_string).collect();
    let mut columns = vec![("", Left), ("procs", Left), ("size", Left), ("batch", Left)];
    columns.extend(names.iter().map(|name| (name.as_str(), Right)));
    let mut rows = Vec::new();
    // The ratios of one figure stand together.
    let same = |one: &Ratio, other: &Ratio| figure(one) == figure(other);
    for row in report.ratios.chunk_by(same) {
        let (what, size_of, topology, batch) = figure(&row[0]);
        let mut line = |what: &str, value: fn(&Ratio) -> Option<f64>| {
            let mut cells = vec![what.to_owned(), topology.to_owned(), size(size_of)];
            cells.push(batch.to_string());
            for (peer, name) in peers.iter().zip(&names) {
                let with = row.iter().find(|ratio| ratio.with == *name);
                let times = with.and_then(value).map(short);
                cells.push(times.unwrap_or_else(|| gap(report, &row[0], *peer).to_owned()));
            }
            rows.push(cells);
        };
        if what == "throughput" {
            line(what, |ratio| Some(ratio.shoal_is_faster_by));
        } else {
            line("round trip, median", |ratio| Some(ratio.shoal_is_faster_by));
            line("round trip, p99", |ratio| ratio.at_99th_percentile);
        }
    }
    let rows = table(&columns, rows);
    format!("\nHow many times as fast as each of them Shoal was\n{rows}")
}

/// The figure of Shoal that a ratio compares.
fn figure(it: &Ratio) -> (&str, usize, &str, usize) {
    (&it.what, it.size, &it.topology, it.batch)
}

/// The text in place of a missing ratio.
fn gap(report: &Report, of: &Ratio, peer: Transport) -> &'static str {
    let mut gaps = report.skipped.iter();
    let gap = gaps.find(|it| {
        (&it.what, it.transport, it.size) == (&of.what, peer, Some(of.size))
            && it.topology == of.topology
    });
    match gap.map(|it| it.outcome) {
        Some(Gap::Stuck) => "stuck",
        Some(Gap::Failed) => "failed",
        _ => "-",
    }
}
