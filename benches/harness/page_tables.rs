//! The tables and bars of the page.

use super::figures::{short, size};
use super::html::{Part, bars, details, escape, factor, is_loss, spread, table, times};
use super::load::Transport;
use super::page_charts::colour;
use super::report::{Gap, MapRate, Outcome, Ratio, Report, Throughput};
use super::spread::Spread;
use super::stores::Store;
use super::waited::Waited;

pub(super) fn all(report: &Report) -> Vec<Part> {
    let part = |anchor, title, body| Part {
        anchor,
        title,
        body,
    };
    vec![
        part("trips", "Round trips", trips(report)),
        part("maps", "Maps", maps(report)),
        part("cpu", "Processor time for a message", cpu(report)),
        part("waits", "Waiting, idle and busy machine", waits(report)),
        part("memory", "Memory", memory(report)),
        part("steps", "Instructions of a call", steps(report)),
        part("baseline", "The machine's own baselines", baseline(report)),
        part("goals", "Goals", goals(report)),
        part("gaps", "Not measured", gaps(report)),
    ]
}

/// A ratio, and its value in each round.
type Factor = (f64, Option<Spread>);

/// The first part: a row for each of our figures, a column for each peer.
pub(super) fn ratios(report: &Report) -> Part {
    let mut peers: Vec<&str> = Vec::new();
    let is_peer =
        |with: &str| !["cache line", "memcpy", "bare memory", "shoal place"].contains(&with);
    for it in report.ratios.iter().filter(|it| is_peer(&it.with)) {
        if !peers.contains(&it.with.as_str()) {
            peers.push(&it.with);
        }
    }
    let mut body = String::new();
    if !peers.is_empty() {
        let (mut rows, mut losses) = (Vec::new(), 0);
        let of = |it: &Ratio| (it.what.clone(), it.size, it.topology.clone(), it.batch);
        for row in report.ratios.chunk_by(|one, other| of(one) == of(other)) {
            let mut line = |what: String, value: &dyn Fn(&Ratio) -> Option<Factor>| {
                let mut cells = vec![escape(&what), escape(&row[0].topology), size(row[0].size)];
                cells.push(row[0].batch.to_string());
                for peer in &peers {
                    let ratio = row.iter().find(|it| it.with == *peer).and_then(value);
                    losses +=
                        usize::from(ratio.as_ref().is_some_and(|(median, _)| is_loss(*median)));
                    cells.push(ratio.map_or("-".to_owned(), |(median, rounds)| {
                        times(median, rounds.as_ref())
                    }));
                }
                rows.push(cells);
            };
            let median = |it: &Ratio| Some((it.shoal_is_faster_by, it.rounds.clone()));
            if row.iter().any(|it| it.at_99th_percentile.is_some()) {
                line(format!("{}, median", row[0].what), &median);
                line(format!("{}, p99", row[0].what), &|it| {
                    Some((it.at_99th_percentile?, None))
                });
            } else {
                line(row[0].what.to_string(), &median);
            }
        }
        let mut titles = vec!["what", "procs", "size", "batch"];
        let names: Vec<String> = peers.iter().map(|peer| format!("#{peer}")).collect();
        titles.extend(names.iter().map(String::as_str));
        let all = rows.len();
        body = format!(
            "<p>How many times as fast as each of them Shoal was, window by window in the same run: the median of \
             the windows' ratios, and their least and most. <span class=\"loss\">Red</span> is where Shoal was \
             slower: {losses} figures in {all} rows. Peers always send single messages.</p>\n{}",
            table(&titles, rows)
        );
    }
    Part {
        anchor: "ratios",
        title: "Beside other queues",
        body,
    }
}

fn trips(report: &Report) -> String {
    let mut html = String::new();
    let mut sizes: Vec<usize> = report.round_trips.iter().map(|it| it.size).collect();
    sizes.dedup();
    for bytes in sizes {
        let mut rows: Vec<(String, f64, String, usize)> = Vec::new();
        if let Some(it) = &report.baseline {
            for (what, median, p99) in [
                (
                    "a cache line",
                    &it.cache_line_median_ns,
                    &it.cache_line_p99_ns,
                ),
                ("a futex wake", &it.futex_median_ns, &it.futex_p99_ns),
            ] {
                let text = format!("{}, p99 {}", spread(median), short(p99.median));
                rows.push((
                    what.to_owned(),
                    median.median,
                    text,
                    colour(Transport::Bare),
                ));
            }
        }
        for it in report.round_trips.iter().filter(|it| it.size == bytes) {
            let text = format!("{}, p99 {}", spread(&it.median_ns), short(it.p99_ns.median));
            rows.push((
                it.transport.to_string(),
                it.median_ns.median,
                text,
                colour(it.transport),
            ));
        }
        html += &format!("<figure><h3>{} there and back, ns</h3>\n", size(bytes));
        html += &bars(&rows);
        html += "</figure>\n";
    }
    if html.is_empty() {
        return html;
    }
    format!(
        "<p>One message to another process and back, both written and read whole; each process has a core of its \
         own. Bars are medians. Grey is the machine: memory between two cores, and the kernel's wake-up.</p>\n\
         <div class=\"charts\">\n{html}</div>\n"
    )
}

fn maps(report: &Report) -> String {
    if report.map.is_empty() {
        return String::new();
    }
    let stores = [Store::Shoal, Store::Boost, Store::Lmdb, Store::Redis];
    let stores = stores
        .into_iter()
        .filter(|store| report.map.iter().any(|it| it.store == *store));
    let stores: Vec<Store> = stores.collect();
    let mixes = |name: &str| match name {
        "mix" => "90 % get, 10 % set".to_owned(),
        "half" => "50 % get, 50 % set".to_owned(),
        name => name.to_owned(),
    };
    let own = report.map.iter().filter(|it| it.store == Store::Shoal);
    let row = |own: &MapRate| {
        let mut cells = vec![
            mixes(own.operation.name()),
            own.keys.to_string(),
            own.processes.to_string(),
        ];
        for &store in &stores {
            let mut all = report.map.iter();
            let same = (store, own.operation, own.keys, own.processes);
            let found = all.find(|it| (it.store, it.operation, it.keys, it.processes) == same);
            cells.push(found.map_or("-".to_owned(), |it| spread(&it.million)));
            if store != Store::Shoal {
                let ratio = found.map(|it| {
                    (
                        own.million.beside(&it.million),
                        own.million.rounds_over(&it.million),
                    )
                });
                cells.push(ratio.map_or(String::new(), |(median, rounds)| {
                    times(median, rounds.as_ref())
                }));
            }
        }
        cells.push(spread(&own.cpu_ns));
        cells
    };
    let mut titles = vec![
        "what".to_owned(),
        "#keys".to_owned(),
        "#processes".to_owned(),
    ];
    for store in &stores {
        titles.push(format!("#{store}, M/s"));
        if *store != Store::Shoal {
            titles.push("#Shoal is".to_owned());
        }
    }
    titles.push("#cpu ns, Shoal".to_owned());
    let titles: Vec<&str> = titles.iter().map(String::as_str).collect();
    let mut html = "<p>Keys of 16 bytes and values of 64, requested in random order; all processes use the same \
                    keys.</p>\n"
        .to_owned();
    html += &table(&titles, own.map(row));
    for (store, why) in &report.no_stores {
        html += &format!(
            "<p class=\"soft\">{store} was not measured: {}</p>\n",
            escape(why)
        );
    }
    html
}

fn cpu(report: &Report) -> String {
    let mut html = String::new();
    for (topology, bytes) in [("1x1", 64), ("4x4", 64), ("1x1", 64 << 10)] {
        let here = |it: &&Throughput| it.topology == topology && it.size == bytes;
        let rows = report.throughput.iter().filter(here).map(|it| {
            let name = match it.batch {
                1 => it.transport.to_string(),
                batch => format!("{}, by {batch}", it.transport),
            };
            (
                name,
                it.cpu_ns.median,
                spread(&it.cpu_ns),
                colour(it.transport),
            )
        });
        let rows: Vec<_> = rows.collect();
        if !rows.is_empty() {
            html += &format!(
                "<figure><h3>{}, {topology}, ns</h3>\n{}</figure>\n",
                size(bytes),
                bars(&rows)
            );
        }
    }
    if html.is_empty() {
        return html;
    }
    format!(
        "<p>What all processes together used of the cores for each message, at full speed: user and kernel time. \
         What polls uses its cores whether or not there is anything to carry; at fixed rates, this is in the \
         figures of latency.</p>\n<div class=\"charts\">\n{html}</div>\n"
    )
}

fn waits(report: &Report) -> String {
    if report.waits.is_empty() {
        return String::new();
    }
    let row = |it: &Waited| {
        let mut row = vec![
            it.busy.to_string(),
            escape(&it.what) + if it.pinned { ", pinned" } else { "" },
            escape(&it.who),
            spread(&it.rate),
        ];
        let times_of = |at: usize| {
            it.times
                .as_ref()
                .map_or(String::new(), |it| spread(it.all()[at].1))
        };
        row.extend([0, 2, 3, 5].map(times_of));
        row.push(spread(&it.cpu_us));
        let beside = it.beside.as_ref();
        // For times and processor time less is better.
        // Red is where Shoal lost, not where one peer is behind another.
        let is_own = it.who.starts_with("shoal");
        let times = |median: f64, rounds: &Spread| match is_own {
            true => times(median, Some(rounds)),
            false => format!("{}x", factor(median)),
        };
        let more = |it: &Spread| times(it.median, it);
        let less = |it: &Spread| times(1.0 / it.median, &it.inverse());
        let compared = beside.and_then(|it| it.times.as_ref());
        row.push(beside.map_or(String::new(), |it| escape(&it.with)));
        row.push(beside.map_or(String::new(), |it| more(&it.rate)));
        row.push(compared.map_or(String::new(), |it| less(&it.median)));
        row.push(compared.map_or(String::new(), |it| less(&it.p99)));
        row.push(beside.map_or(String::new(), |it| less(&it.cpu)));
        row
    };
    let titles = [
        "#busy",
        "what",
        "by",
        "#a second",
        "#p50 us",
        "#p99",
        "#p99.9",
        "#longest",
        "#cpu us",
        "beside",
        "#rate",
        "#p50",
        "#p99",
        "#cpu",
    ];
    "<p>The same calls beside this many programs that compute. A ratio says how many times as good as its peer a \
     row is, round by round: above 1 is better for all of them.</p>\n"
        .to_owned()
        + &table(&titles, report.waits.iter().map(row))
}

fn memory(report: &Report) -> String {
    let mut rows = Vec::new();
    if let Some(it) = &report.memory {
        rows.push(vec![
            "an empty queue".to_owned(),
            size(it.empty_queue as usize),
        ]);
        rows.push(vec!["an empty map".to_owned(), size(it.empty_map as usize)]);
        for it in &it.map {
            rows.push(vec![
                format!(
                    "a map of {} entries of 80 B, for each byte stored",
                    it.entries
                ),
                format!("{:.2} B", it.committed_per_stored_byte),
            ]);
            rows.push(vec![
                format!(
                    "a get of any of {}, and a dependent read of as much memory",
                    it.entries
                ),
                format!("{} and {} ns", spread(&it.get_ns), spread(&it.read_ns)),
            ]);
        }
    }
    if let Some(it) = &report.idle {
        rows.push(vec![
            format!("{} idle queues, {} readers asleep", it.queues, it.readers),
            format!("{} ms of a core a second", short(it.cpu_ms_per_second)),
        ]);
    }
    match rows.is_empty() {
        true => String::new(),
        false => table(&["what", "#committed"], rows),
    }
}

fn steps(report: &Report) -> String {
    if report.steps.is_empty() {
        return String::new();
    }
    let row = |it: &super::report::Steps| {
        vec![
            escape(&it.what),
            it.instructions.to_string(),
            it.elsewhere.to_string(),
        ]
    };
    "<p>Counted one by one, uncontended, with 64 bytes: the same on every machine with this compiler. What the C \
     library executes depends on the processor.</p>\n"
        .to_owned()
        + &table(&["call", "#Shoal", "#C library"], report.steps.iter().map(row))
}

fn baseline(report: &Report) -> String {
    let Some(it) = &report.baseline else {
        return String::new();
    };
    let timed = it
        .timed()
        .map(|(what, it)| vec![what.to_owned(), format!("{} ns", spread(it))]);
    let copied = it.memcpy.iter().map(|it| {
        let what = format!("memcpy of {} on one core", size(it.size));
        vec![what, format!("{} GB/s", short(it.gigabytes))]
    });
    let clock = vec![
        "reading the clock, left out above".to_owned(),
        format!("{} ns", short(it.clock_ns)),
    ];
    table(
        &["nothing that shares memory is faster", "#"],
        timed.into_iter().chain(copied).chain([clock]),
    )
}

fn goals(report: &Report) -> String {
    let row = |it: &super::report::Goal| {
        let outcome = match it.outcome {
            Outcome::Reached => "<span class=\"gain\">reached</span>",
            Outcome::Missed => "<span class=\"loss\">missed</span>",
            Outcome::NotMeasured => "<span class=\"soft\">not measured</span>",
        };
        vec![
            outcome.to_owned(),
            escape(&it.what),
            it.measured.map(short).unwrap_or_default(),
            escape(&format!("{} {} {}", it.words, it.bound, it.unit)),
        ]
    };
    let (measured, others): (Vec<_>, Vec<_>) = report
        .goals
        .iter()
        .partition(|it| it.outcome != Outcome::NotMeasured);
    let titles = ["outcome", "what", "#measured", "goal"];
    let mut html = String::new();
    if !measured.is_empty() {
        html += &table(&titles, measured.into_iter().map(row));
    }
    if !html.is_empty() && !others.is_empty() {
        html += &details(
            "Not measured in this run",
            &table(&titles, others.into_iter().map(row)),
        );
    }
    html
}

fn gaps(report: &Report) -> String {
    if report.skipped.is_empty() {
        return String::new();
    }
    let row = |it: &super::report::Skipped| {
        let outcome = match it.outcome {
            Gap::Skipped => "skipped",
            Gap::Stuck => "<span class=\"note\">stuck</span>",
            Gap::Failed => "<span class=\"note\">failed</span>",
        };
        vec![
            escape(&it.what),
            escape(&it.topology),
            it.transport.to_string(),
            it.size.map(size).unwrap_or_default(),
            outcome.to_owned(),
            escape(&it.why),
        ]
    };
    let titles = ["what", "procs", "transport", "size", "", "why"];
    table(&titles, report.skipped.iter().map(row))
}
