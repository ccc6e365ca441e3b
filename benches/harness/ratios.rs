//! How many times as fast as each of its peers Shoal was, in the same run.

use super::load::Transport;
use super::report::{Ratio, Report};
use super::stores::{Operation, Store};

impl Report {
    /// Compares the figures with each peer, and with the baseline.
    pub(super) fn compare(&mut self) {
        let mut ratios = Vec::new();
        let own = |transport: Transport| transport == Transport::Shoal;
        for own in self.round_trips.iter().filter(|it| own(it.transport)) {
            let mut ratio = |with: String, median, rounds, p99| {
                ratios.push(Ratio {
                    what: "round trip".into(),
                    size: own.size,
                    topology: "1x1".to_owned(),
                    batch: 1,
                    with,
                    shoal_is_faster_by: median,
                    rounds,
                    at_99th_percentile: p99,
                });
            };
            for peer in &self.round_trips {
                if peer.size == own.size && peer.transport != own.transport {
                    ratio(
                        peer.transport.to_string(),
                        // Less time is better, so our time is the divisor.
                        peer.median_ns.beside(&own.median_ns),
                        peer.median_ns.rounds_over(&own.median_ns),
                        Some(peer.p99_ns.beside(&own.p99_ns)),
                    );
                }
            }
            ratio(
                "cache line".to_owned(),
                1.0 / own.cache_lines.median,
                None,
                None,
            );
        }
        for own in self.throughput.iter().filter(|it| own(it.transport)) {
            let mut ratio = |with: String, factor, rounds| {
                ratios.push(Ratio {
                    what: "throughput".into(),
                    size: own.size,
                    topology: own.topology.clone(),
                    batch: own.batch,
                    with,
                    shoal_is_faster_by: factor,
                    rounds,
                    at_99th_percentile: None,
                });
            };
            for peer in &self.throughput {
                let same = (peer.size, &peer.topology) == (own.size, &own.topology);
                if same && peer.transport != own.transport && peer.million.median > 0.0 {
                    let factor = own.million.beside(&peer.million);
                    let rounds = own.million.rounds_over(&peer.million);
                    ratio(peer.transport.to_string(), factor, rounds);
                }
            }
            if let Some(memcpy) = self.memcpy(own.size) {
                ratio("memcpy".to_owned(), own.gigabytes / memcpy, None);
            }
        }
        self.ratios = ratios;
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
}
