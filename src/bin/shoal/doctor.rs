//! `shoal doctor`: checks whether this machine has what Shoal needs.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use shoal::device::{Family, Machine, Mask, lease};

use crate::inventory::{Inventory, Listed};
use crate::output::{Failure, Format, Paint, bytes, has_colours, plain, width};
use crate::probe;
use crate::run::variable;

#[derive(clap::Args)]
pub(crate) struct Doctor {
    #[command(flatten)]
    format: Format,
}

/// The severity of a finding.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    /// As it should be.
    Ok,
    /// For information.
    Note,
    /// Shoal works, with a limitation.
    Warn,
    /// Shoal does not work.
    Bad,
}

#[derive(Serialize)]
struct Finding {
    /// What was checked: a stable name, for programs.
    check: &'static str,
    level: Level,
    /// What was found.
    found: String,
    /// What to do about it, if anything.
    advice: Option<String>,
}

fn finding(check: &'static str, level: Level, found: impl Into<String>) -> Finding {
    Finding {
        check,
        level,
        found: found.into(),
        advice: None,
    }
}

impl Finding {
    fn advice(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }
}

impl Doctor {
    pub(crate) fn run(self) -> Result<(), Failure> {
        // The first creation in a process removes what killed processes left, which is to be reported here.
        shoal::collect_nothing();
        let checks: [fn() -> Vec<Finding>; 7] =
            [kernel, directory, works, objects, limits, container, cost];
        let mut findings = Vec::new();
        for check in checks {
            crate::interrupt::check()?;
            findings.extend(check());
        }
        findings.extend(devices());
        self.format.print(&findings, |out| {
            let colours = has_colours();
            for it in &findings {
                let (mark, paint) = match it.level {
                    Level::Ok => ("ok", Paint::Good),
                    Level::Note => ("note", Paint::Plain),
                    Level::Warn => ("warn", Paint::Warn),
                    Level::Bad => ("bad", Paint::Bad),
                };
                let mark = paint.on(&format!("{mark:4}"), colours);
                wrapped(
                    out,
                    &format!("{mark}  "),
                    &format!("{}: {}", it.check, plain(&it.found)),
                )?;
                if let Some(advice) = &it.advice {
                    wrapped(out, "      ", advice)?;
                }
            }
            Ok(())
        })?;
        match findings.iter().any(|it| it.level == Level::Bad) {
            true => Err(Failure::Reported),
            false => Ok(()),
        }
    }
}

/// Writes `text` after `start`, which is six columns wide, in lines that fit the terminal.
fn wrapped(out: &mut dyn std::io::Write, start: &str, text: &str) -> std::io::Result<()> {
    let width = width().unwrap_or(usize::MAX).saturating_sub(6).max(14);
    let (mut line, mut start) = (String::new(), start);
    for word in text.split(' ') {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
            writeln!(out, "{start}{line}")?;
            (line, start) = (String::new(), "      ");
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    writeln!(out, "{start}{line}")
}

fn read(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

/// The kernel features that Shoal uses, and the version that introduced each.
const FEATURES: [(u32, u32, &str, bool); 5] = [
    (
        3,
        15,
        "locks that the kernel drops with a process (OFD locks)",
        true,
    ),
    (5, 3, "descriptors of processes (pidfd)", true),
    (
        5,
        9,
        "closing many descriptors at once (close_range)",
        false,
    ),
    (
        5,
        14,
        "committing memory through a mapping (MADV_POPULATE_WRITE); fallocate is used",
        false,
    ),
    (
        5,
        16,
        "one thread that sleeps on many queues (futex_waitv); a thread for each is used",
        false,
    ),
];

fn kernel() -> Vec<Finding> {
    let release = read("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
        let advice = "mount /proc: Shoal reads there which processes are alive";
        return vec![finding("kernel", Level::Warn, "its version is not known").advice(advice)];
    };
    let lacking = FEATURES.iter().filter(|it| (major, minor) < (it.0, it.1));
    let mut findings: Vec<Finding> = lacking
        .map(|&(a, b, what, needed)| {
            let level = if needed { Level::Bad } else { Level::Note };
            finding("kernel", level, format!("Linux {release} lacks {what}"))
                .advice(format!("Linux {a}.{b} and later have it"))
        })
        .collect();
    if findings.is_empty() {
        let found = format!("Linux {release} has all that Shoal uses");
        findings.push(finding("kernel", Level::Ok, found));
    }
    findings
}

/// The directory of the objects: that of SHOAL_DIR, unless it is empty.
fn objects_directory() -> PathBuf {
    let named = std::env::var_os("SHOAL_DIR").filter(|it| !it.is_empty());
    named.map_or("/dev/shm".into(), PathBuf::from)
}

/// Below this size, /dev/shm suffices only for trying out the library.
const SMALL: u64 = 256 << 20;

fn directory() -> Vec<Finding> {
    let path = objects_directory();
    let place = path.display();
    if path.is_relative() {
        let found = format!("SHOAL_DIR={place} is not an absolute path");
        let advice = "name the directory by its absolute path, the same for all processes";
        return vec![finding("directory", Level::Bad, found).advice(advice)];
    }
    let space = match probe::space(&path) {
        Ok(space) => space,
        Err(err) => {
            let advice = format!(
                "mount a tmpfs there (mount -t tmpfs -o mode=1777 tmpfs {place}), or name another \
                 directory in SHOAL_DIR, the same for all processes"
            );
            let found = format!("{place} cannot be used: {err}");
            return vec![finding("directory", Level::Bad, found).advice(advice)];
        }
    };
    let mut findings = Vec::new();
    let size = format!(
        "{place}: {} of {} are free, {} files",
        bytes(space.free),
        bytes(space.size),
        space.files,
    );
    let grow = format!(
        "mount -o remount,size=8g {place}, as root; in a container start it with --shm-size=8g"
    );
    findings.push(if space.free < 16 << 20 {
        finding("space", Level::Warn, size).advice(format!(
            "remove what killed processes left with `shoal gc`, or enlarge it: {grow}"
        ))
    } else if space.size < SMALL {
        finding("space", Level::Warn, size).advice(format!(
            "a full directory makes puts fail with NoSpace; enlarge it: {grow}"
        ))
    } else {
        finding("space", Level::Ok, size)
    });
    if space.files_free < 1000 && space.files > 0 {
        let found = format!("{} files can be created in {place}", space.files_free);
        let advice = format!("each object is a file: mount -o remount,nr_inodes=1m {place}");
        findings.push(finding("files", Level::Warn, found).advice(advice));
    }
    if !space.is_tmpfs {
        let found =
            format!("{place} is not a tmpfs: the contents of objects are written to a disk");
        let advice = "name a directory on a tmpfs in SHOAL_DIR";
        findings.push(finding("file system", Level::Warn, found).advice(advice));
    }
    if !space.is_sticky && space.is_shared {
        let found = format!("every user may remove the files of others in {place}");
        findings.push(finding("mode", Level::Warn, found).advice(format!("chmod 1777 {place}")));
    }
    let logind = read("/etc/systemd/logind.conf").unwrap_or_default();
    let keeps = logind.lines().any(|line| line.trim() == "RemoveIPC=no");
    if Path::new("/run/systemd/sessions").exists() && !keeps && space.uid >= 1000 {
        let leases = Machine::from_environment().leases;
        let owner = fs::metadata(&leases).ok().map(|it| it.uid());
        if let Some(what) = probe::removed_by_logind(&path, &leases, owner, space.uid) {
            let found = format!("logind removes the {what} of a user whose last session ends");
            let advice = "set RemoveIPC=no in /etc/systemd/logind.conf if they must stay longer; leases also \
                          stay in a directory that root has created";
            findings.push(finding("logind", Level::Note, found).advice(advice));
        }
    }
    findings
}

/// Checks that an object can be made and used.
fn works() -> Vec<Finding> {
    let used = || {
        let queue = shoal::Queue::anonymous()?;
        queue.put(b"doctor", shoal::Timeout::Infinite)?;
        let got = queue.get_vec(shoal::Timeout::Val(std::time::Duration::from_secs(1)))?;
        queue.fd().map(|_| got)
    };
    vec![match used() {
        Ok(got) if got == b"doctor" => {
            finding("objects", Level::Ok, "a queue was made, used and removed")
        }
        Ok(_) => finding(
            "objects",
            Level::Bad,
            "a queue returned another message than was put",
        ),
        Err(err) => finding(
            "objects",
            Level::Bad,
            format!("a queue cannot be used: {err}"),
        ),
    }]
}

fn objects() -> Vec<Finding> {
    let Ok(objects) = shoal::list() else {
        return Vec::new();
    };
    let sum = |of: &dyn Fn(&shoal::ObjectInfo) -> bool| {
        let some = objects.iter().filter(|it| of(it));
        some.fold((0, 0), |(count, sum), it| (count + 1, sum + it.committed))
    };
    let (all, memory) = sum(&|_| true);
    let (stale, freed) = sum(&|it| it.stale);
    let (unreadable, _) = sum(&|it| it.problem.is_some());
    let mut findings = vec![finding(
        "in use",
        Level::Ok,
        format!("{all} objects, {}", bytes(memory)),
    )];
    if stale > 0 {
        let found = format!(
            "{stale} objects, {}, were left by killed processes",
            bytes(freed)
        );
        findings.push(finding("stale", Level::Note, found).advice("`shoal gc` removes them"));
    }
    if unreadable > 0 {
        let found = format!("{unreadable} files cannot be opened as objects");
        let advice = "`shoal ls` says why: another version, another user, or no object at all";
        findings.push(finding("unreadable", Level::Note, found).advice(advice));
    }
    findings
}

/// An object reserves its largest size of address space.
const ROOM: u64 = 1 << 40;

fn limits() -> Vec<Finding> {
    let limits = probe::limits();
    let mut findings = Vec::new();
    if let Some(most) = limits.address_space.filter(|&it| it < ROOM) {
        let found = format!("a process has {} of address space", bytes(most));
        let advice =
            "objects get a lower maximum size: use ulimit -v unlimited, or set max_capacity";
        findings.push(finding("address space", Level::Warn, found).advice(advice));
    }
    if let Some(most) = limits.file_size.filter(|&it| it < ROOM) {
        let found = format!("a file may have {}", bytes(most));
        let advice = "objects get a lower maximum size: use ulimit -f unlimited";
        findings.push(finding("file size", Level::Warn, found).advice(advice));
    }
    if let Some(most) = limits.descriptors.filter(|&it| it < 256) {
        let found = format!("a process has {most} descriptors");
        let advice = "objects need none, but processes and event loops do: ulimit -n 1024";
        findings.push(finding("descriptors", Level::Warn, found).advice(advice));
    }
    let maps = read("/proc/sys/vm/max_map_count").and_then(|it| it.parse::<u64>().ok());
    if let Some(most) = maps.filter(|&it| it < 65_530) {
        let found = format!("a process may have {most} mappings");
        let advice = "each open object needs one or two: sysctl vm.max_map_count=65530";
        findings.push(finding("mappings", Level::Warn, found).advice(advice));
    }
    if findings.is_empty() {
        let found = "address space, file size, descriptors and mappings suffice";
        findings.push(finding("limits", Level::Ok, found));
    }
    findings
}

/// Files that exist in a container, and what made it.
const MARKS: [(&str, &str); 2] = [("/.dockerenv", "Docker"), ("/run/.containerenv", "Podman")];

fn container() -> Vec<Finding> {
    let marked = MARKS.iter().find(|(path, _)| Path::new(path).exists());
    let named = || std::env::var("container").ok().filter(|it| !it.is_empty());
    let kubernetes =
        || std::env::var_os("KUBERNETES_SERVICE_HOST").map(|_| "Kubernetes".to_owned());
    let mut findings = Vec::new();
    if let Some(kind) = marked
        .map(|it| it.1.to_owned())
        .or_else(kubernetes)
        .or_else(named)
    {
        let found = format!("this is a container ({kind}) with a /dev/shm of its own, as a rule");
        let advice = "processes share objects if they share /dev/shm and the pid namespace: start the \
                      containers with --ipc=host --pid=host, or in one pod; --shm-size sets the size";
        findings.push(finding("container", Level::Note, found).advice(advice));
    }
    let memory = read("/sys/fs/cgroup/memory.max").and_then(|it| it.parse::<u64>().ok());
    if let Some(most) = memory {
        let found = format!("this control group may use {} of memory", bytes(most));
        let advice =
            "the memory of objects counts, for the group of the process that first wrote to it";
        findings.push(finding("memory", Level::Note, found).advice(advice));
    }
    findings
}

/// Measures what waiting costs on this machine, which determines the latency of messages.
fn cost() -> Vec<Finding> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut findings = vec![finding(
        "cores",
        Level::Ok,
        format!("{cores} for this process"),
    )];
    if cores == 1 {
        findings[0].level = Level::Note;
        findings[0].advice = Some(
            "with one core every message to another process costs a context switch: put and get several \
             at a time"
                .to_owned(),
        );
    } else if let Some(ns) = probe::cache_line_ns() {
        let found = format!("{ns} ns from core to core");
        findings.push(match ns {
            0..400 => finding("cache line", Level::Ok, found),
            _ => finding("cache line", Level::Note, found).advice(
                "the cores are far apart or busy: bind processes that exchange many messages to cores of \
                 one socket (taskset, numactl)",
            ),
        });
    }
    if let Some(ns) = probe::wake_ns() {
        let found = format!(
            "{:.1} us to wake a sleeping thread (futex)",
            ns as f64 / 1e3
        );
        findings.push(match ns {
            0..30_000 => finding("wake-up", Level::Ok, found),
            _ => finding("wake-up", Level::Note, found).advice(
                "a virtual or busy machine: put messages in batches, which cost one wake-up each",
            ),
        });
    }
    findings
}

fn devices() -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut present = Vec::new();
    match Inventory::new(None) {
        Ok(found) => {
            present = found.devices.iter().map(Listed::family).collect();
            let level = if found.devices.is_empty() {
                Level::Note
            } else {
                Level::Ok
            };
            findings.push(finding("devices", level, found.summary()));
            for note in found.notes_of_devices() {
                findings.push(
                    finding("devices", Level::Warn, note).advice(
                        "devices can be leased without that, but not by their memory or load",
                    ),
                );
            }
        }
        Err(err) => findings.push(finding("devices", Level::Warn, err.to_string())),
    }
    if let Err(why) = leases() {
        let found = format!("no device can be leased: {why}");
        let advice = "name a directory that all users can write to in SHOAL_LEASE_DIR, the same for all \
                      processes";
        findings.push(finding("leases", Level::Warn, found).advice(advice));
    }
    for family in shoal::device::families() {
        let set = variables(family);
        if set.is_empty() || !(present.contains(&family.name()) || is_meant(family)) {
            continue;
        }
        match shoal::device::visible(family.name()) {
            Ok(mask) if mask != Mask::All => findings.push(finding(
                "mask",
                Level::Note,
                format!("{} restricts {} to {mask}", set.join(", "), family.name()),
            )),
            Ok(_) => {}
            Err(err) => findings.push(
                finding("mask", Level::Warn, err.to_string())
                    .advice(format!("correct {}, or unset it", set.join(", "))),
            ),
        }
    }
    findings
}

/// Checks that a lease can be made: its directory is usable, or can be created.
fn leases() -> Result<(), String> {
    let machine = Machine::from_environment();
    lease::holders_among(&machine, &[]).map_err(|err| err.to_string())?;
    let place = &machine.leases;
    let above = place.parent().unwrap_or(place);
    let usable = match place.exists() {
        true => probe::writable(place),
        false => probe::writable(above),
    };
    usable.map_err(|err| format!("{} cannot be used: {err}", place.display()))
}

/// The variables that are set of those that a family's runtime reads, with their values.
fn variables(family: &Family) -> Vec<String> {
    let set = |name: &str| Some(format!("{name}={}", plain(&variable(name)?)));
    family.variables().filter_map(set).collect()
}

/// Whether the family's own variable is set and no earlier family has the same one. If several vendors read the
/// same variable, it restricts only the one whose devices are present.
fn is_meant(family: &Family) -> bool {
    let own = family.variable();
    let first = shoal::device::families().find(|it| it.variable() == own);
    variable(own).is_some() && first.is_some_and(|it| it.name() == family.name())
}
