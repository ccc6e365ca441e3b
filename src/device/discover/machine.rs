//! The devices of a machine, and where to find them.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Duration;

use crate::device::family::Family;
use crate::error::{Error, Result};
use crate::sys::process;

/// A device of this machine.
///
/// ```
/// use shoal::device::Machine;
///
/// let mut machine = Machine::from_environment();
/// machine.fake = Some("cuda:2:24G".to_owned());
/// let found = machine.discover(Some("cuda"))?.devices;
/// assert_eq!(found.len(), 2);
/// assert_eq!(found[1].index, 1);
/// assert_eq!(found[1].memory_total, Some(24 << 30));
/// # Ok::<(), shoal::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Found {
    /// The family whose variable masks it.
    pub family: &'static Family,
    /// Its unique id (`GPU-…`, `MIG-…`), or else its bus address (`0000:3b:00.0`). Never an index.
    pub id: String,
    /// Its place in the order of the family's runtime, counted from 0 on this machine, whatever the
    /// mask of this process is.
    pub index: u32,
    /// The vendor's name for it; empty if unknown.
    pub name: String,
    /// Its memory in bytes.
    pub memory_total: Option<u64>,
    /// The memory that no process uses now, in bytes.
    pub memory_free: Option<u64>,
    /// The percentage of the last second, or of a shorter time, in which it was busy.
    pub utilisation: Option<u8>,
}

impl Found {
    /// Whether an id, or a beginning of one, means this device.
    pub(crate) fn is_named(&self, id: &str) -> bool {
        let beginning = self.id.get(..id.len());
        !id.is_empty() && beginning.is_some_and(|it| it.eq_ignore_ascii_case(id))
    }

    /// Whether programs seem to use it: more than a tenth of its memory, or of the time.
    pub(crate) fn is_busy(&self) -> bool {
        let by_memory = match (self.memory_total, self.memory_free) {
            (Some(total), Some(free)) => total.saturating_sub(free) > total / 10,
            _ => false,
        };
        by_memory || self.utilisation.is_some_and(|it| it > 10)
    }
}

/// The devices of a machine, and problems that occurred.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Discovery {
    /// Every device, by family and then by index.
    pub devices: Vec<Found>,
    /// Sources that failed, such as a vendor's library that hangs: sentences for messages.
    pub notes: Vec<String>,
}

/// Where to look for devices and for the leases on them. Each place can be changed, for tests and for
/// containers in which the host's files are mounted elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Machine {
    /// `/sys`, or the value of `SHOAL_SYSFS_ROOT`.
    pub sysfs: PathBuf,
    /// `/proc`, or the value of `SHOAL_PROCFS_ROOT`.
    pub procfs: PathBuf,
    /// `/dev`, or the value of `SHOAL_DEV_ROOT`.
    pub dev: PathBuf,
    /// `libnvidia-ml.so.1`, or the value of `SHOAL_NVML_LIBRARY`; empty for none.
    pub nvml: PathBuf,
    /// How long to wait for that library: 10 seconds, or the value of `SHOAL_NVML_TIMEOUT` in seconds. A
    /// driver that is not kept loaded needs some seconds to start.
    pub nvml_timeout: Duration,
    /// Devices to be found instead of the machine's, from `SHOAL_FAKE_DEVICES`: a list of
    /// `family:count[:memory[:free[:load]]]`, such as `cuda:4:24G:20G:15,rocm:2`, or `@` and the path of
    /// a file. Each line of the file is a device: its family, id, memory, free memory, load and name,
    /// separated by spaces, `-` for what is not known.
    pub fake: Option<String>,
    /// The directory of leases: `/dev/shm/shoal-leases`, or the value of `SHOAL_LEASE_DIR`.
    pub leases: PathBuf,
    /// A variable whose value is malformed: [`discover`](Self::discover) returns it.
    pub(super) malformed: Option<Error>,
}

impl Default for Machine {
    fn default() -> Self {
        Self::from_environment()
    }
}

impl Machine {
    /// The real machine, unless the environment says otherwise. A program that runs with another user's
    /// rights (set-user-ID) does not read the environment. If a variable is malformed,
    /// [`discover`](Self::discover) returns an error that names it.
    pub fn from_environment() -> Self {
        let trusted = !process::has_others_rights();
        let named =
            |variable| std::env::var_os(variable).filter(|value| trusted && !value.is_empty());
        let path =
            |variable, default: &str| named(variable).map_or(PathBuf::from(default), PathBuf::from);
        let nvml = std::env::var_os("SHOAL_NVML_LIBRARY").filter(|_| trusted);
        let timeout = named("SHOAL_NVML_TIMEOUT").map(|it| seconds("SHOAL_NVML_TIMEOUT", &it));
        let (timeout, malformed) = match timeout.transpose() {
            Ok(timeout) => (timeout, None),
            Err(err) => (None, Some(err)),
        };
        Self {
            sysfs: path("SHOAL_SYSFS_ROOT", "/sys"),
            procfs: path("SHOAL_PROCFS_ROOT", "/proc"),
            dev: path("SHOAL_DEV_ROOT", "/dev"),
            nvml: nvml.map_or(PathBuf::from("libnvidia-ml.so.1"), PathBuf::from),
            nvml_timeout: timeout.unwrap_or(Duration::from_secs(10)),
            fake: named("SHOAL_FAKE_DEVICES").map(|it| it.to_string_lossy().into_owned()),
            leases: path("SHOAL_LEASE_DIR", "/dev/shm/shoal-leases"),
            malformed,
        }
    }
}

/// The value of a variable that is a number of seconds.
fn seconds(variable: &str, value: &OsStr) -> Result<Duration> {
    let number = value.to_str().and_then(|it| it.parse().ok());
    let time = number.and_then(|it| Duration::try_from_secs_f64(it).ok());
    time.ok_or_else(|| {
        let why = "it is no number of seconds, such as 10 or 0.5";
        Error::invalid(format!("{variable} ({value:?})"), why)
    })
}

/// Parses a number of bytes as people write it: `512M`, `10G`, `1.5T`, `1024`. `K`, `M`, `G` and `T` are
/// powers of 1024, with or without an `iB` or `B` behind them.
///
/// # Errors
///
/// [`Error::Invalid`] says what was expected.
///
/// ```
/// use shoal::device::parse_bytes;
///
/// assert_eq!(parse_bytes("10G")?, 10 << 30);
/// assert_eq!(parse_bytes("1.5GiB")?, 3 << 29);
/// assert!(parse_bytes("ten").is_err());
/// # Ok::<(), shoal::Error>(())
/// ```
pub fn parse_bytes(text: &str) -> Result<u64> {
    let invalid = |why: String| Error::invalid(format!("size {text:?}"), why);
    let refuse = || invalid("it is no number of bytes, such as 512M, 10G or 1.5T".to_owned());
    let too_large = || invalid(format!("it is above the limit of {} bytes", u64::MAX));
    let upper = text.trim().to_ascii_uppercase();
    let bare = upper.strip_suffix("IB").or(upper.strip_suffix('B'));
    let bare = bare.unwrap_or(&upper);
    let (digits, shift) = match bare.chars().last() {
        Some('K') => (&bare[..bare.len() - 1], 10),
        Some('M') => (&bare[..bare.len() - 1], 20),
        Some('G') => (&bare[..bare.len() - 1], 30),
        Some('T') => (&bare[..bare.len() - 1], 40),
        _ => (bare, 0),
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, "0"));
    let is_number = |it: &str| !it.is_empty() && it.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(part) || part.len() > 9 || (shift == 0 && digits != whole) {
        return Err(refuse());
    }
    let whole: u64 = whole.parse().map_err(|_| too_large())?;
    let whole = whole.checked_mul(1 << shift).ok_or_else(too_large)?;
    let scale = 10u128.pow(part.len() as u32);
    let part: u128 = part.parse().map_err(|_| refuse())?;
    whole
        .checked_add(((part << shift) / scale) as u64)
        .ok_or_else(too_large)
}
