//! How many times as fast as each of its peers Shoal was, in the same run.

use std::fmt;

use super::channel::Transport;
use super::map::{Operation, Store};
use super::report::{Gap, Ratio, Report};
use super::table::{short, size};

impl Report {
    /// Compares what was measured: with each peer, and with the floor.
    pub(super) fn compare(&mut self) {
        let mut ratios = Vec::new();
        let own = |transport: Transport| transport == Transport::Shoal;
        for own in self.round_trips.iter().filter(|it| own(it.transport)) {
            let mut ratio = |with: String, median, p99| {
                ratios.push(Ratio {
                    what: "round trip",
                    size: own.size,
                    topology: "1x1".to_owned(),
                    batch: 1,
                    with,
                    shoal_is_faster_by: median,
                    at_99th_percentile: p99,
                });
            };
            for peer in &self.round_trips {
                if peer.size == own.size && peer.transport != own.transport {
                    ratio(
                        peer.transport.to_string(),
                        // Less time is better, so ours is what it is divided by.
                        peer.median_ns.beside(&own.median_ns),
                        Some(peer.p99_ns.beside(&own.p99_ns)),
                    );
                }
            }
            ratio("cache line".to_owned(), 1.0 / own.cache_lines.median, None);
        }
        for own in self.throughput.iter().filter(|it| own(it.transport)) {
            let mut ratio = |with: String, factor| {
                ratios.push(Ratio {
                    what: "throughput",
                    size: own.size,
                    topology: own.topology.clone(),
                    batch: own.batch,
                    with,
                    shoal_is_faster_by: factor,
                    at_99th_percentile: None,
                });
            };
            for peer in &self.throughput {
                let same = (peer.size, &peer.topology) == (own.size, &own.topology);
                if same && peer.transport != own.transport && peer.million.median > 0.0 {
                    let factor = own.million.beside(&peer.million);
                    ratio(peer.transport.to_string(), factor);
                }
            }
            if let Some(memcpy) = self.memcpy(own.size) {
                ratio("memcpy".to_owned(), own.gigabytes / memcpy);
            }
        }
        self.ratios = ratios;
    }

    /// A row for each of our own figures, a column for each peer.
    pub(super) fn ratios(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let trips = self.round_trips.iter().map(|it| it.transport);
        let rates = self.throughput.iter().map(|it| it.transport);
        let mut peers = Vec::new();
        for peer in trips.chain(rates) {
            if peer != Transport::Shoal && !peers.contains(&peer) {
                peers.push(peer);
            }
        }
        if peers.is_empty() || self.ratios.is_empty() {
            return Ok(());
        }
        writeln!(f, "\nHow many times as fast as each of them Shoal was")?;
        write!(f, "  {:18}  {:5}  {:8}  {:5}", "", "procs", "size", "batch")?;
        for peer in &peers {
            write!(f, "  {peer:>11}")?;
        }
        writeln!(f)?;
        // The ratios of one figure stand together.
        for row in self
            .ratios
            .chunk_by(|one, other| one.figure() == other.figure())
        {
            let (what, size_of, topology, batch) = row[0].figure();
            let mut line = |what: &str, value: fn(&Ratio) -> Option<f64>| {
                let bytes = size(size_of);
                write!(f, "  {what:18}  {topology:5}  {bytes:8}  {batch:5}")?;
                for peer in &peers {
                    let with = row.iter().find(|ratio| ratio.with == peer.to_string());
                    let times = with.and_then(value).map(short);
                    let none = || self.gap(&row[0], *peer).to_owned();
                    write!(f, "  {:>11}", times.unwrap_or_else(none))?;
                }
                writeln!(f)
            };
            if what == "throughput" {
                line(what, |ratio| Some(ratio.shoal_is_faster_by))?;
            } else {
                line("round trip, median", |ratio| Some(ratio.shoal_is_faster_by))?;
                line("round trip, p99", |ratio| ratio.at_99th_percentile)?;
            }
        }
        Ok(())
    }
}

impl Report {
    /// How many times as fast as another store Shoal's map was.
    pub(super) fn map_ratio(
        &self,
        store: Store,
        operation: Operation,
        keys: u64,
        processes: usize,
    ) -> Option<f64> {
        let rate = |store| {
            let mut all = self.map.iter();
            let same = (store, operation, keys, processes);
            let it = all.find(|it| (it.store, it.operation, it.keys, it.processes) == same);
            Some(&it?.million)
        };
        Some(rate(Store::Shoal)?.beside(rate(store)?))
    }

    /// What stands where there is no ratio.
    fn gap(&self, of: &Ratio, peer: Transport) -> &'static str {
        let mut gaps = self.skipped.iter();
        let gap = gaps.find(|it| {
            (it.what, it.transport, it.size) == (of.what, peer, Some(of.size))
                && it.topology == of.topology
        });
        match gap.map(|it| it.outcome) {
            Some(Gap::Stuck) => "stuck",
            Some(Gap::Failed) => "failed",
            _ => "-",
        }
    }
}

impl Ratio {
    /// What of Shoal's it is about.
    fn figure(&self) -> (&'static str, usize, &str, usize) {
        (self.what, self.size, &self.topology, self.batch)
    }
}
