//! A request's file, and the meaning of its locked bytes.
//!
//! ```text
//! claim-<ticket>-<path>       ticket: 16 hexadecimal digits, the order of arrival
//!                             path: the ids of the leases above it and its own, 12 digits each, with dots
//! byte 0                      locked while the request exists: it waits, or it is a lease
//! byte 1                      locked from the beginning until it is a lease
//! DEVICE + n * REGION         n: 41 bits of the hash of a device's id
//!   1 byte locked             of a request that waits: it could get this device
//!   u bytes locked            of a lease: it has u of the 2^20 units of this device
//! ```
//! Only locks for writing count. Only processes of the file's owner can have them: its mode is 644.
//!
//! A file is created, and locked, under the lock of the directory. So a file whose byte 0 is not locked, seen
//! under that lock, is not a request and will never be one again: any process may remove it.
//!
//! If the hashes of two devices of one machine collided (a chance of one in 10^12), they would count as one:
//! they could not be leased at the same time.
//!
//! # Crash arguments
//! *Killed before byte 0 is locked:* the file is removed by the next process that decides. *Killed at any
//! later time:* the kernel drops all locks of the description with its last copy, at once, and never a part
//! of them. *A lease is granted to a request that waits* under the directory's lock: its devices are locked
//! and the others unlocked, and then byte 1 is unlocked. If it is killed in between, all its locks are
//! dropped.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::device;
use crate::error::{Error, Result};
use crate::sys::fd::with_file;
use crate::sys::public_dir::{PublicDir, open_file};
use crate::sys::{limits, ofd, process};

/// The variable that names the lease which a process runs under, by its path.
pub(super) const INHERITED: &str = "SHOAL_LEASE";

/// The units of a whole device.
pub(super) const WHOLE: u64 = 1 << 20;

const PREFIX: &str = "claim-";
const ALIVE: u64 = 0;
const WAITING: u64 = ALIVE + 1;
const DEVICE: u64 = 1 << 62;
const REGION: u64 = 2 * WHOLE;
/// Hexadecimal digits of an id.
const ID_DIGITS: usize = 12;
/// How many leases can be nested.
const DEEPEST: usize = 12;
/// The most bytes that are read of a file's text: the ids of more than a thousand devices.
const TEXT: usize = 64 << 10;

const _: () = assert!((u64::MAX >> 23) * REGION < DEVICE);

/// The ids of the leases above a claim, and its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ClaimPath(Vec<String>);

impl ClaimPath {
    /// The path that means no lease.
    pub(super) fn top() -> Self {
        Self(Vec::new())
    }

    /// The lease under which this process runs. The variable may be empty: the program that started this
    /// process did so to hide its lease.
    pub(super) fn inherited() -> Result<Self> {
        let Some(text) = device::process_variable(INHERITED).filter(|it| !it.is_empty()) else {
            return Ok(Self::top());
        };
        Self::parse(&text).ok_or_else(|| {
            let why = "it is no id of a lease: unset it, or pass on the environment of the lease";
            Error::invalid(format!("{INHERITED} ({text:?})"), why)
        })
    }

    /// `None` if it is malformed.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let is_id = |it: &str| {
            it.len() == ID_DIGITS
                && it
                    .bytes()
                    .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        };
        let ids: Vec<String> = text.split('.').map(str::to_owned).collect();
        (ids.len() <= DEEPEST && ids.iter().all(|it| is_id(it))).then_some(Self(ids))
    }

    pub(super) fn ids(&self) -> &[String] {
        &self.0
    }

    /// The lease that this one is a part of.
    pub(super) fn above(&self) -> &[String] {
        &self.0[..self.0.len().saturating_sub(1)]
    }

    /// The first `depth` ids.
    pub(super) fn prefix(&self, depth: usize) -> Self {
        Self(self.0[..depth.min(self.0.len())].to_vec())
    }

    /// A new claim below this one.
    fn child(&self) -> Result<Self> {
        if self.0.len() >= DEEPEST {
            return Err(Error::TooMany {
                what: "leases within each other",
                count: self.0.len() as u64 + 1,
                limit: DEEPEST as u64,
            });
        }
        let [random] = process::random();
        let mut ids = self.0.clone();
        ids.push(format!("{:012x}", random >> 16));
        Ok(Self(ids))
    }
}

impl std::fmt::Display for ClaimPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.join("."))
    }
}

/// Where a device's bytes begin. The hash is FNV-1a with a final mix; all versions of the library and all programs
/// that use the directory must use the same.
pub(super) fn region(id: &str) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for byte in id.bytes() {
        hash = (hash ^ u64::from(byte.to_ascii_lowercase())).wrapping_mul(0x0100_0000_01b3);
    }
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    DEVICE + (hash >> 23) * REGION
}

/// The identity of a claim, and its place in the order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ClaimName {
    pub(super) ticket: u64,
    pub(super) path: ClaimPath,
}

impl ClaimName {
    /// `None` if it is not a claim's file.
    fn parse(file: &str) -> Option<Self> {
        let (ticket, path) = file.strip_prefix(PREFIX)?.split_once('-')?;
        let is_hex = ticket.len() == 16 && ticket.bytes().all(|byte| byte.is_ascii_hexdigit());
        let ticket = u64::from_str_radix(ticket, 16).ok().filter(|_| is_hex)?;
        let path = ClaimPath::parse(path)?;
        Some(Self { ticket, path })
    }

    pub(super) fn file(&self) -> String {
        format!("{PREFIX}{:016x}-{}", self.ticket, self.path)
    }
}

/// A new claim of this process's own, locked under the directory's lock. It lives as long as the file's
/// description.
pub(super) fn create(dir: &PublicDir, ticket: u64, above: &ClaimPath) -> Result<(ClaimName, File)> {
    let path = above.child()?;
    let name = ClaimName { ticket, path };
    let file = dir.create(&name.file())?;
    // It counts as waiting at first, so that a process that reads it without the lock does not see a lease
    // without devices.
    match lock(file.as_fd(), ALIVE, 2) {
        Ok(()) => Ok((name, file)),
        Err(err) => {
            dir.remove(&name.file());
            Err(err)
        }
    }
}

fn lock(own: BorrowedFd<'_>, start: u64, len: u64) -> Result<()> {
    match ofd::try_lock_range(own, start, len)? {
        true => Ok(()),
        false => Err(Error::corrupt(
            "another process has locked a file of leases that is this process's own",
        )),
    }
}

/// Makes the claim wait for any of the devices of these regions.
pub(super) fn wait_for(own: BorrowedFd<'_>, regions: &[u64]) -> Result<()> {
    regions.iter().try_for_each(|&region| lock(own, region, 1))
}

/// Gives the claim these units of these devices; it no longer waits for the others.
pub(super) fn grant(own: BorrowedFd<'_>, granted: &[(u64, u64)], waited: &[u64]) -> Result<()> {
    for &(region, units) in granted {
        lock(own, region, units)?;
    }
    for &region in waited {
        if granted.iter().all(|(it, _)| *it != region) {
            ofd::unlock(own, region);
        }
    }
    ofd::unlock(own, WAITING);
    Ok(())
}

/// Writes a description for people. A failure is ignored.
pub(super) fn describe(own: BorrowedFd<'_>, text: &str, is_new: bool) {
    // A write beyond the limit of file sizes would raise a signal.
    let most = limits::file_size().map_or(usize::MAX, |limit| limit as usize);
    let text = &text.as_bytes()[..most.min(text.len())];
    with_file(own, |file| {
        let _ = file.write_all_at(text, 0);
        // The earlier text may be longer.
        if !is_new {
            let _ = file.set_len(text.len() as u64);
        }
    });
}

/// A request, as seen by other processes.
pub(super) struct Claim {
    pub(super) name: ClaimName,
    file: File,
}

impl Claim {
    /// The claims that are alive. With `collect`, which needs the directory's lock, removes the files of dead
    /// claims.
    pub(super) fn all(dir: &PublicDir, collect: bool) -> Result<Vec<Self>> {
        let mut all = Vec::new();
        for file_name in dir.names(PREFIX)? {
            let Some(name) = ClaimName::parse(&file_name) else {
                continue;
            };
            // An unreadable file is not a claim: claims are readable by all.
            let Some(file) = dir.open_file(&file_name) else {
                continue;
            };
            let claim = Self { name, file };
            if claim.is_alive()? {
                all.push(claim);
            } else if collect {
                dir.remove(&file_name);
            }
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    /// The one of this path, if it is alive.
    pub(super) fn open(path: &Path, name: &ClaimName) -> Result<Option<Self>> {
        let Some(file) = open_file(path) else {
            return Ok(None);
        };
        let name = name.clone();
        let claim = Self { name, file };
        Ok(claim.is_alive()?.then_some(claim))
    }

    /// How many bytes from `start` on are locked, up to `len`.
    fn locked(&self, start: u64, len: u64) -> Result<u64> {
        let found = ofd::written_range(self.file.as_fd(), start, len)?;
        Ok(found.map_or(0, |(from, count)| if from == start { count } else { 0 }))
    }

    pub(super) fn is_alive(&self) -> Result<bool> {
        Ok(self.locked(ALIVE, 1)? > 0)
    }

    pub(super) fn is_waiting(&self) -> Result<bool> {
        Ok(self.locked(WAITING, 1)? > 0)
    }

    /// Its units of a device; for a waiting claim, 1 if it could get the device.
    pub(super) fn units(&self, region: u64) -> Result<u64> {
        self.locked(region, WHOLE)
    }

    /// Facts of its file.
    pub(super) fn facts(&self) -> std::io::Result<std::fs::Metadata> {
        self.file.metadata()
    }

    /// Its owner's text, which is untrusted; at most [`TEXT`] bytes.
    pub(super) fn text(&self) -> String {
        let mut text = vec![0; TEXT];
        let read = self.file.read_at(&mut text, 0).unwrap_or(0);
        text.truncate(read);
        String::from_utf8_lossy(&text).into_owned()
    }
}
