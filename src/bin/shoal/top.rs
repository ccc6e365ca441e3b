//! `shoal top`: the objects, live.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use serde::Serialize;
use shoal::Observer;
use shoal::device::lease::HolderState;

use crate::interrupt;
use crate::inventory::Holders;
use crate::number::any_count;
use crate::object::{Object, Traffic};
use crate::objects::objects;
use crate::output::{Failure, Format, Paint, bytes, duration, has_colours, plain, width};
use crate::probe::raise_descriptors;
use crate::screen::{Key, Screen, fit, window};
use crate::table::{self, Column, Row, number, text};

#[derive(clap::Args)]
pub(crate) struct Top {
    /// Only objects whose name begins with this
    prefix: Option<String>,
    /// Time between two updates
    #[arg(long, short, default_value = "0.5", value_parser = duration)]
    interval: Duration,
    /// Number of updates after which it ends
    #[arg(long, short = 'n', value_parser = any_count)]
    count: Option<u64>,
    /// The order of the objects
    #[arg(long, value_enum, default_value = "rate")]
    sort: Sort,
    #[command(flatten)]
    format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Sort {
    /// Most messages per second first
    Rate,
    /// Longest first
    Len,
    /// Most memory first
    Memory,
    /// By name
    Name,
}

impl Sort {
    fn name(self) -> &'static str {
        match self {
            Sort::Rate => "rate",
            Sort::Len => "len",
            Sort::Memory => "memory",
            Sort::Name => "name",
        }
    }

    fn next(self) -> Self {
        match self {
            Sort::Rate => Sort::Len,
            Sort::Len => Sort::Memory,
            Sort::Memory => Sort::Name,
            Sort::Name => Sort::Rate,
        }
    }
}

/// An object and its rates.
#[derive(Serialize)]
struct Watched {
    #[serde(flatten)]
    object: Object,
    #[serde(flatten)]
    rates: Option<Rates>,
}

#[derive(Clone, Copy, Serialize)]
struct Rates {
    put_per_second: f64,
    taken_per_second: f64,
    put_bytes_per_second: f64,
}

#[derive(Serialize)]
struct Sample {
    /// The time since the previous sample.
    seconds: f64,
    /// The share of a core that this program takes.
    own_cpu: Option<f64>,
    objects: Vec<Watched>,
    /// Devices that are leased, and requests that wait for some.
    leased_devices: usize,
    waiting_requests: usize,
}

/// Takes samples, and compares each with the previous one.
struct Watch {
    observer: Observer,
    holders: Holders,
    prefix: Option<String>,
    at: Instant,
    cpu_ns: Option<u64>,
    /// Messages put, messages taken and bytes put at the previous sample, by the names of the objects.
    passed: HashMap<String, [u64; 3]>,
}

impl Watch {
    fn new(prefix: Option<String>) -> Result<Self, Failure> {
        // The other half of the descriptors is left for everything else.
        let files = raise_descriptors() / 2;
        let mut watch = Self {
            observer: Observer::new(usize::try_from(files).unwrap_or(usize::MAX)),
            holders: Holders::default(),
            prefix,
            at: Instant::now(),
            cpu_ns: cpu_ns(),
            passed: HashMap::new(),
        };
        watch.sample()?;
        Ok(watch)
    }

    fn sample(&mut self) -> Result<Sample, Failure> {
        let (now, cpu_now) = (Instant::now(), cpu_ns());
        let seconds = (now - self.at).as_secs_f64();
        let own_cpu = cpu_now.zip(self.cpu_ns).map(|(now, before)| {
            let spent = now.saturating_sub(before) as f64 / 1e9;
            if seconds > 0.0 { spent / seconds } else { 0.0 }
        });
        let objects = objects(&mut self.observer, self.prefix.as_deref())?;
        let mut passed = HashMap::with_capacity(objects.len());
        let objects = objects.into_iter().map(|object| {
            let traffic = object.content.as_ref().and_then(|it| it.traffic.as_ref());
            let rates = traffic.and_then(|it: &Traffic| {
                let now = [it.put, it.taken, it.put_bytes];
                passed.insert(object.name.clone(), now);
                let before = self.passed.get(&object.name)?;
                // An object of the same name may be another one by now.
                let rate = |at: usize| now[at].saturating_sub(before[at]) as f64 / seconds;
                (seconds > 0.0).then(|| Rates {
                    put_per_second: rate(0),
                    taken_per_second: rate(1),
                    put_bytes_per_second: rate(2),
                })
            });
            Watched { object, rates }
        });
        let objects = objects.collect();
        let leases = self.holders.look().unwrap_or_default();
        let (held, waiting): (Vec<_>, Vec<_>) = leases
            .into_iter()
            .partition(|it| it.state == HolderState::Held);
        let devices = held.into_iter().flat_map(|it| it.devices);
        let devices: HashSet<String> = devices.map(|(id, _)| id).collect();
        (self.at, self.cpu_ns, self.passed) = (now, cpu_now, passed);
        Ok(Sample {
            seconds,
            own_cpu,
            objects,
            leased_devices: devices.len(),
            waiting_requests: waiting.len(),
        })
    }
}

/// The processor time of this thread, the only one that works.
fn cpu_ns() -> Option<u64> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    stat.split_ascii_whitespace().next()?.parse().ok()
}

impl Top {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let interval = self.interval.max(Duration::from_millis(50));
        let watch = Watch::new(self.prefix)?;
        if self.format.json || !std::io::stdout().is_terminal() {
            return print(watch, interval, self.count, self.sort, self.format);
        }
        show(watch, interval, self.count, self.sort)
    }
}

/// Prints one sample after the other, for a pipe.
fn print(
    mut watch: Watch,
    interval: Duration,
    count: Option<u64>,
    sort: Sort,
    format: Format,
) -> Result<(), Failure> {
    for _ in 0..count.unwrap_or(u64::MAX) {
        interrupt::sleep(interval)?;
        let mut sample = watch.sample()?;
        arrange(&mut sample.objects, sort, false);
        let goes_on = format.line(&sample, |out| {
            writeln!(out, "{}", summary(&sample))?;
            let rows: Vec<Row> = sample.objects.iter().map(row).collect();
            for line in table::lines(&COLUMNS, &rows, width(), false) {
                writeln!(out, "{line}")?;
            }
            writeln!(out)
        })?;
        if !goes_on {
            break;
        }
    }
    Ok(())
}

/// The live screen.
fn show(
    mut watch: Watch,
    interval: Duration,
    count: Option<u64>,
    mut sort: Sort,
) -> Result<(), Failure> {
    let mut screen = Screen::new()?;
    let (mut sample, mut top, mut reverse, mut paused) = (watch.sample()?, 0, false, false);
    let (mut next, mut left) = (Instant::now() + interval, count.unwrap_or(u64::MAX));
    let (mut scroll, colours) = (0, has_colours());
    while left > 0 {
        arrange(&mut sample.objects, sort, reverse);
        let (columns, height) = screen.size();
        let range = window(
            &mut top,
            scroll,
            height.saturating_sub(3).max(1),
            sample.objects.len(),
        );
        let rows: Vec<Row> = sample.objects[range].iter().map(row).collect();
        let mut lines = vec![fit(&summary(&sample), columns)];
        lines.extend(table::lines(&COLUMNS, &rows, Some(columns), colours));
        lines.resize(height.saturating_sub(1), String::new());
        let keys = format!(
            "q quit  s sort: {}{}  r reverse  space {}",
            sort.name(),
            if reverse { ", reversed" } else { "" },
            if paused { "goes on" } else { "pause" },
        );
        lines.push(Paint::Dim.on(&fit(&keys, columns), colours));
        screen.draw(lines)?;
        scroll = 0;
        let wait = next.saturating_duration_since(Instant::now());
        match screen.key(wait)? {
            Some(Key::Quit) => break,
            Some(Key::Char('s')) => sort = sort.next(),
            Some(Key::Char('r')) => reverse = !reverse,
            Some(Key::Char(' ')) => paused = !paused,
            Some(Key::Scroll(by)) => scroll = by,
            Some(_) => {}
            None => {
                if !paused {
                    sample = watch.sample()?;
                    left -= 1;
                }
                next = Instant::now() + interval;
            }
        }
    }
    Ok(())
}

/// Sorts by `sort`, and by name where that is equal.
fn arrange(objects: &mut [Watched], sort: Sort, reverse: bool) {
    let rate = |it: &Watched| {
        let rates = it.rates.map(|it| it.put_per_second + it.taken_per_second);
        rates.unwrap_or(0.0) as u64
    };
    let len = |it: &Watched| {
        it.object
            .content
            .as_ref()
            .and_then(|it| it.len)
            .unwrap_or(0)
    };
    let by = |it: &Watched| match sort {
        Sort::Rate => rate(it),
        Sort::Len => len(it),
        Sort::Memory => it.object.committed_bytes,
        Sort::Name => 0,
    };
    objects.sort_by(|a, b| {
        let key = |it| Reverse(by(it));
        key(a)
            .cmp(&key(b))
            .then_with(|| a.object.name.cmp(&b.object.name))
    });
    if reverse {
        objects.reverse();
    }
}

const COLUMNS: [Column; 11] = [
    text("NAME", 0),
    text("KIND", 4),
    number("LEN", 1),
    number("PUT/s", 1),
    number("TAKEN/s", 2),
    number("BYTES/s", 6),
    number("LEASED", 5),
    number("MEMORY", 7),
    number("PROCS", 3),
    text("ASLEEP", 8),
    text("HELD BY", 9),
];

fn row(it: &Watched) -> Row {
    let content = it.object.content.as_ref();
    let traffic = content.and_then(|it| it.traffic.as_ref());
    let rate = |of: fn(&Rates) -> f64| it.rates.as_ref().map_or("-".to_owned(), |it| count(of(it)));
    let or_none = |text: String| {
        if text.is_empty() {
            "-".to_owned()
        } else {
            text
        }
    };
    let cells = vec![
        plain(&it.object.name),
        it.object.kind().to_owned(),
        it.object.depth(),
        rate(|it| it.put_per_second),
        rate(|it| it.taken_per_second),
        it.rates
            .map_or("-".to_owned(), |it| bytes(it.put_bytes_per_second as u64)),
        traffic.map_or("-".to_owned(), |it| it.leased.to_string()),
        bytes(it.object.committed_bytes),
        it.object.processes().len().to_string(),
        or_none(content.map_or_else(String::new, |it| it.asleep.join(","))),
        or_none(it.object.holders()),
    ];
    let paint = it.object.paint();
    Row { cells, paint }
}

/// A rate for people.
fn count(rate: f64) -> String {
    match rate {
        0.0..10_000.0 => format!("{rate:.0}"),
        10_000.0..10_000_000.0 => format!("{:.0}k", rate / 1e3),
        _ => format!("{:.0}M", rate / 1e6),
    }
}

/// The line above the table.
fn summary(sample: &Sample) -> String {
    let memory = sample
        .objects
        .iter()
        .map(|it| it.object.committed_bytes)
        .sum();
    let rates = || sample.objects.iter().filter_map(|it| it.rates);
    // Not by `sum`: an empty sum is -0.
    let put = rates().fold(0.0, |sum, it| sum + it.put_per_second);
    let taken = rates().fold(0.0, |sum, it| sum + it.taken_per_second);
    let processes = sample.objects.iter().flat_map(|it| &it.object.participants);
    let processes: HashSet<u32> = processes.map(|it| it.pid).collect();
    let own = sample
        .own_cpu
        .map_or(String::new(), |it| format!(", this {:.1} %", it * 100.0));
    let leases = match (sample.leased_devices, sample.waiting_requests) {
        (0, 0) => String::new(),
        (devices, 0) => format!(", {devices} devices leased"),
        (devices, waiting) => format!(", {devices} devices leased, {waiting} requests wait"),
    };
    format!(
        "{} objects, {} processes, {}, put {}/s, taken {}/s{leases}{own}",
        sample.objects.len(),
        processes.len(),
        bytes(memory),
        count(put),
        count(taken),
    )
}
