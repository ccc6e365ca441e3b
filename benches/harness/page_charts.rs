//! The charts of the page: throughput, latency at fixed rates, and the cost of calls as objects grow.

use super::charts::{Across, Chart, Line, Point, tick};
use super::failure::Failure;
use super::figures::{short, size};
use super::growth::Growth;
use super::html::{Part, details, escape, figure, spread, table, times};
use super::load::Transport;
use super::report::{Curve, Point as Rate, Report, Throughput};
use super::spread::Spread;

pub(super) fn all(report: &Report) -> Result<Vec<Part>, Failure> {
    Ok(vec![throughput(report)?, latency(report)?, growth(report)?])
}

/// The colour of a transport, the same in all charts. No peer is red: red shows that Shoal lost.
pub(super) fn colour(transport: Transport) -> usize {
    match transport {
        Transport::Shoal => 0,
        Transport::InPlace | Transport::Duplex | Transport::Event => 10,
        Transport::Pipe => 2,
        Transport::Unix => 3,
        Transport::Mq => 4,
        Transport::Iceoryx2 => 5,
        Transport::Boost => 6,
        Transport::Zeromq => 7,
        Transport::Nng | Transport::Futex => 8,
        Transport::Bare => BASELINE,
    }
}

const BASELINE: usize = 9;
/// Batches have another colour than single messages of the same transport.
const BATCHES: usize = 1;

fn point(x: f64, y: &Spread) -> Point {
    Point {
        x,
        y: y.median,
        least: y.least,
        most: y.most,
    }
}

/// Several charts beside each other.
fn grid(charts: &[String]) -> String {
    match charts.is_empty() {
        true => String::new(),
        false => format!("<div class=\"charts\">\n{}</div>\n", charts.concat()),
    }
}

/// A chart of lines with names.
fn drawn(title: &str, chart: Chart, names: Vec<String>) -> Result<String, Failure> {
    let colours = chart.lines.iter().map(|line| line.colour);
    let legend: Vec<_> = names.into_iter().zip(colours).collect();
    // The text that a screen reader reads for the image; the figures themselves are in a table.
    let (up, across) = (&chart.y_title, &chart.x_title);
    let label = escape(&format!("{title}; vertical: {up}; horizontal: {across}"));
    let labelled = format!("role=\"img\" aria-label=\"{label}\" ");
    let svg = chart
        .svg()?
        .map(|svg| svg.replacen("role=\"img\" ", &labelled, 1));
    Ok(svg.map_or(String::new(), |svg| figure(title, &svg, &legend)))
}

fn throughput(report: &Report) -> Result<Part, Failure> {
    let mut topologies: Vec<&str> = Vec::new();
    for it in &report.throughput {
        if !topologies.contains(&it.topology.as_str()) {
            topologies.push(&it.topology);
        }
    }
    let mut charts = Vec::new();
    for topology in topologies {
        let (chart, names) = of_topology(report, topology, |_| true);
        let (producers, consumers) = topology.split_once('x').unwrap_or((topology, ""));
        charts.push(drawn(&format!("{producers} to {consumers}"), chart, names)?);
    }
    let mut body = grid(&charts);
    if !body.is_empty() {
        body = "<p>Messages a second by size, for each number of producers and consumers. Every byte of \
                every message is written and read. Grey is the machine: <i>memcpy</i> is one core that copies \
                each message once, <i>bare memory</i> is a ring without locks or sleep. Bars show the least and the \
                most of the windows.</p>\n"
            .to_owned()
            + &body
            + &numbers(report);
    }
    Ok(Part {
        anchor: "throughput",
        title: "Throughput by message size",
        body,
    })
}

/// The chart of the chosen figures of one topology, and the names of its
/// lines.
pub(super) fn of_topology(
    report: &Report,
    topology: &str,
    is_chosen: impl Fn(&Throughput) -> bool,
) -> (Chart, Vec<String>) {
    let all = report.throughput.iter();
    let chosen = all.filter(|it| it.topology == topology && is_chosen(it));
    let mut lines: Vec<(String, Line)> = Vec::new();
    for it in chosen.clone() {
        let batches = it.batch > 1;
        let name = match batches {
            true => format!("{}, by {}", it.transport, it.batch),
            false => it.transport.to_string(),
        };
        let at = point(it.size as f64, &it.million.times(1e6));
        if let Some((_, line)) = lines.iter_mut().find(|(other, _)| *other == name) {
            line.points.push(at);
            continue;
        }
        let is_baseline = it.transport == Transport::Bare;
        let colour = match it.transport {
            Transport::Shoal if batches => BATCHES,
            other => colour(other),
        };
        let points = vec![at];
        lines.push((
            name,
            Line {
                colour,
                points,
                is_baseline,
            },
        ));
    }
    let sizes: Vec<usize> = {
        let mut sizes: Vec<_> = chosen.map(|it| it.size).collect();
        sizes.sort_unstable();
        sizes.dedup();
        sizes
    };
    let copied = sizes.iter().filter_map(|&size| {
        let rate = report.memcpy(size)? * 1e9 / size as f64;
        Some(point(size as f64, &Spread::of(vec![rate])))
    });
    // Copies of small messages stay in the first cache, so they are not comparable.
    let copied: Vec<_> = copied.filter(|it| it.x >= 1024.0).collect();
    if !copied.is_empty() {
        let line = Line {
            colour: BASELINE,
            points: copied,
            is_baseline: true,
        };
        lines.push(("memcpy".to_owned(), line));
    }
    let (names, lines) = lines.into_iter().unzip();
    let chart = Chart {
        across: Across::Bytes,
        x_title: "message".to_owned(),
        y_title: "messages a second".to_owned(),
        lines,
    };
    (chart, names)
}

fn numbers(report: &Report) -> String {
    let row = |it: &Throughput| {
        vec![
            escape(&it.topology),
            size(it.size),
            it.transport.to_string(),
            it.batch.to_string(),
            spread(&it.million),
            short(it.gigabytes),
            spread(&it.cpu_ns),
            it.most_to_least.map_or("starved".to_owned(), short),
        ]
    };
    let titles = [
        "procs",
        "size",
        "transport",
        "batch",
        "#M/s",
        "#GB/s",
        "#cpu ns a message",
        "#most to least",
    ];
    details(
        "All figures",
        &table(&titles, report.throughput.iter().map(row)),
    )
}

/// The percentile that is drawn.
type Quantile = (&'static str, fn(&Rate) -> &Spread);

const QUANTILES: [Quantile; 5] = [
    ("p50", |it| &it.late.median_us),
    ("p90", |it| &it.late.p90_us),
    ("p99", |it| &it.late.p99_us),
    ("p99.9", |it| &it.late.p999_us),
    ("p99.99", |it| &it.late.p9999_us),
];

fn latency(report: &Report) -> Result<Part, Failure> {
    let mut busy: Vec<u8> = report.curves.iter().map(|it| it.busy).collect();
    busy.dedup();
    let mut body = String::new();
    for count in busy {
        let curves: Vec<_> = report.curves.iter().filter(|it| it.busy == count).collect();
        let beside = match count {
            0 => "nothing else running".to_owned(),
            count => format!("beside {count} programs that compute"),
        };
        let mut charts = Vec::new();
        for quantile in [QUANTILES[0], QUANTILES[2], QUANTILES[3], QUANTILES[4]] {
            charts.push(by_rate(&curves, quantile, &beside)?);
        }
        for curve in curves.iter().filter(|it| it.transport == Transport::Shoal) {
            charts.push(by_percent(curve, &beside)?);
        }
        body += &grid(&charts);
        body += &half(&curves, &beside);
        body += &details(&format!("All figures, {beside}"), &rates(&curves));
    }
    if !body.is_empty() {
        body = "<p>How long after it was due a message of 64 bytes was read, at fixed rates from 10 to 90 % of what \
                the same transport carried at full speed just before. The load is open: messages are due \
                whether or not the ones before them have arrived. A percentile of fewer messages than it needs \
                is the longest of them.</p>\n"
            .to_owned()
            + &body;
    }
    Ok(Part {
        anchor: "latency",
        title: "Latency at fixed rates",
        body,
    })
}

fn by_rate(curves: &[&Curve], (name, value): Quantile, beside: &str) -> Result<String, Failure> {
    let line = |curve: &&Curve| Line {
        colour: colour(curve.transport),
        points: curve
            .points
            .iter()
            .map(|it| point(it.offered.median, value(it)))
            .collect(),
        is_baseline: curve.transport == Transport::Bare,
    };
    let chart = Chart {
        across: Across::Powers,
        x_title: "messages a second".to_owned(),
        y_title: format!("{name}, us"),
        lines: curves.iter().map(line).collect(),
    };
    let names = curves.iter().map(|it| it.transport.to_string()).collect();
    drawn(&format!("{name}, {beside}"), chart, names)
}

fn by_percent(curve: &Curve, beside: &str) -> Result<String, Failure> {
    let line = |(colour, (_, value)): (usize, Quantile)| Line {
        colour,
        points: curve
            .points
            .iter()
            .map(|it| point(f64::from(it.percent), value(it)))
            .collect(),
        is_baseline: false,
    };
    let chart = Chart {
        across: Across::Percent,
        x_title: format!("of capacity, {}/s", tick(curve.capacity.median)),
        y_title: "us".to_owned(),
        lines: [0, 1, 3, 6, 5]
            .into_iter()
            .zip(QUANTILES)
            .map(line)
            .collect(),
    };
    let names = QUANTILES.map(|(name, _)| name.to_owned()).to_vec();
    drawn(&format!("Shoal, {beside}"), chart, names)
}

/// At half of each transport's capacity: how much later than Shoal's its messages are.
fn half(curves: &[&Curve], beside: &str) -> String {
    let at = |curve: &Curve| curve.points.iter().position(|it| it.percent == 50);
    let own = curves.iter().find(|it| it.transport == Transport::Shoal);
    let Some(own) = own.and_then(|it| it.points.get(at(it)?)) else {
        return String::new();
    };
    let rows = curves.iter().filter_map(|curve| {
        let it = curve.points.get(at(curve)?)?;
        let mut row = vec![curve.transport.to_string(), spread(&curve.capacity)];
        for (_, value) in [QUANTILES[0], QUANTILES[2], QUANTILES[3]] {
            row.push(spread(value(it)));
            // Nothing that shares memory is faster than bare memory, so it is not a peer.
            let is_peer = !matches!(curve.transport, Transport::Shoal | Transport::Bare);
            let ratio = is_peer.then(|| {
                let rounds = value(it).rounds_over(value(own));
                times(value(it).beside(value(own)), rounds.as_ref())
            });
            row.push(ratio.unwrap_or_default());
        }
        Some(row)
    });
    let titles = [
        "transport",
        "#capacity /s",
        "#p50 us",
        "#Shoal is",
        "#p99 us",
        "#Shoal is",
        "#p99.9 us",
        "#Shoal is",
    ];
    format!(
        "<p>Each at half of its own capacity, {beside}: how many times as early Shoal's messages were.</p>\n{}",
        table(&titles, rows)
    )
}

fn rates(curves: &[&Curve]) -> String {
    let rows = curves.iter().flat_map(|curve| {
        curve.points.iter().map(|it| {
            let mut row = vec![
                curve.transport.to_string(),
                format!("{} %", it.percent),
                spread(&it.offered),
                spread(&it.carried),
            ];
            row.extend(it.late.all().map(|(_, late)| spread(late)));
            row.push(spread(&it.cpu_us));
            row
        })
    });
    let titles = [
        "transport",
        "#of capacity",
        "#offered /s",
        "#carried /s",
        "#p50 us",
        "#p90",
        "#p99",
        "#p99.9",
        "#p99.99",
        "#longest",
        "#cpu us a message",
    ];
    table(&titles, rows)
}

fn growth(report: &Report) -> Result<Part, Failure> {
    let mut charts = Vec::new();
    for it in &report.growth {
        let chart = Chart {
            across: Across::Powers,
            x_title: it.beside.clone(),
            y_title: "ns a call".to_owned(),
            lines: vec![Line {
                colour: 0,
                points: points(it),
                is_baseline: false,
            }],
        };
        charts.push(drawn(&it.what, chart, Vec::new())?);
    }
    let mut body = grid(&charts);
    if !body.is_empty() {
        body = format!(
            "<p>The cost of a call in one process, as its objects grow. A level line means that the cost does not \
             depend on their size; a slow rise is memory that no cache holds.</p>\n{body}{}",
            details("All figures", &costs(report))
        );
    }
    Ok(Part {
        anchor: "growth",
        title: "Cost as the work grows",
        body,
    })
}

fn costs(report: &Report) -> String {
    let rows = report.growth.iter().flat_map(|it| {
        it.rows.iter().map(|row| {
            vec![
                escape(&it.what),
                row.count.to_string(),
                escape(&it.beside),
                spread(&row.ns),
            ]
        })
    });
    table(&["call", "#beside", "", "#ns"], rows)
}

fn points(growth: &Growth) -> Vec<Point> {
    let rows = growth.rows.iter();
    rows.map(|row| point(row.count as f64, &row.ns)).collect()
}
