//! The machine and the program of a report.

use std::fs;

use serde::{Deserialize, Serialize};

use super::failure::Failure;

/// What a reader needs to judge figures, and to repeat them.
#[derive(Serialize, Deserialize, Default, Clone)]
pub(crate) struct Machine {
    /// When measuring began, in UTC.
    pub(crate) when: String,
    /// The command line.
    pub(crate) command: String,
    /// Shoal's version.
    pub(crate) shoal: String,
    pub(crate) processor: String,
    pub(crate) architecture: String,
    pub(crate) kernel: String,
    pub(crate) memory_bytes: u64,
    /// Whether the processor reports a hypervisor.
    pub(crate) is_virtual: bool,
    /// The load average of the minute before: processes of other programs that ran or were ready to run.
    pub(crate) load_before: f64,
    /// The load average of the last minute, with the processes of the benchmark.
    pub(crate) load_after: f64,
}

impl Machine {
    /// This machine, now.
    pub(super) fn here() -> Self {
        let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let of = |text: &str, name: &str| {
            let mut lines = text.lines().filter_map(|line| line.split_once(':'));
            let found = lines.find(|(key, _)| key.trim() == name);
            found.map_or(String::new(), |(_, value)| value.trim().to_owned())
        };
        let memory = of(
            &fs::read_to_string("/proc/meminfo").unwrap_or_default(),
            "MemTotal",
        );
        let memory = memory.split(' ').next().and_then(|kib| kib.parse().ok());
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let flags = of(&processors, "flags");
        let mut processor = of(&processors, "model name");
        // On 64-bit Arm the kernel gives only numbers.
        if processor.is_empty() {
            let numbers = ["CPU implementer", "CPU part"].map(|name| of(&processors, name));
            processor = format!("implementer {}, part {}", numbers[0], numbers[1]);
        }
        Self {
            when: utc_now().unwrap_or_default(),
            command: command(),
            shoal: env!("CARGO_PKG_VERSION").to_owned(),
            processor,
            architecture: std::env::consts::ARCH.to_owned(),
            kernel: kernel.trim().to_owned(),
            memory_bytes: memory.map_or(0, |kib: u64| kib << 10),
            is_virtual: flags.split(' ').any(|flag| flag == "hypervisor"),
            load_before: load(),
            load_after: 0.0,
        }
    }

    pub(super) fn finish(&mut self) {
        self.load_after = load();
    }
}

/// The arguments, without the program's name: the name depends on where it was built.
fn command() -> String {
    let words = std::env::args_os().skip(1);
    let words = words.map(|word| word.to_string_lossy().into_owned());
    let words: Vec<_> = words.collect();
    match words.first().map(String::as_str) {
        Some("bench") => format!("shoal {}", words.join(" ")),
        _ => format!("cargo bench -- {}", words.join(" ")),
    }
}

fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let first = text.split(' ').next();
    first.and_then(|load| load.parse().ok()).unwrap_or(0.0)
}

fn utc_now() -> Result<String, Failure> {
    // SAFETY: an all-zero time is valid, and both values are valid for writing.
    let parts = unsafe {
        let mut parts: libc::tm = std::mem::zeroed();
        let now = libc::time(std::ptr::null_mut());
        if libc::gmtime_r(&now, &mut parts).is_null() {
            return Err("the clock's time has no date".into());
        }
        parts
    };
    Ok(format!(
        "{:04}-{:02}-{:02} {:02}:{:02} UTC",
        parts.tm_year + 1900,
        parts.tm_mon + 1,
        parts.tm_mday,
        parts.tm_hour,
        parts.tm_min
    ))
}
