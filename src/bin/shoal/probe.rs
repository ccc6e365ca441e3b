//! The checks and measurements of `doctor`.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, geteuid, getrlimit, setrlimit};

/// A directory, and the file system that it is on.
pub(crate) struct Space {
    pub(crate) size: u64,
    pub(crate) free: u64,
    pub(crate) files: u64,
    pub(crate) files_free: u64,
    pub(crate) is_tmpfs: bool,
    /// Whether all users may create files there.
    pub(crate) is_shared: bool,
    /// Whether users may remove only their own files there.
    pub(crate) is_sticky: bool,
    pub(crate) uid: u32,
}

/// The magic of a tmpfs.
const TMPFS: u64 = 0x0102_1994;

/// Whether files can be created in a directory.
pub(crate) fn writable(place: &Path) -> io::Result<()> {
    if !std::fs::metadata(place)?.is_dir() {
        return Err(io::Error::from(io::ErrorKind::NotADirectory));
    }
    let use_it = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    Ok(rustix::fs::access(place, use_it)?)
}

pub(crate) fn space(place: &Path) -> io::Result<Space> {
    let facts = std::fs::metadata(place)?;
    writable(place)?;
    let system = rustix::fs::statvfs(place)?;
    let kind = rustix::fs::statfs(place)?.f_type;
    Ok(Space {
        size: system.f_blocks.saturating_mul(system.f_frsize),
        free: system.f_bavail.saturating_mul(system.f_frsize),
        files: system.f_files.saturating_sub(system.f_ffree),
        files_free: system.f_favail,
        is_tmpfs: kind as u64 == TMPFS,
        is_shared: facts.mode() & 0o002 != 0,
        is_sticky: facts.mode() & 0o1000 != 0,
        uid: geteuid().as_raw(),
    })
}

/// The limits of this process; `None` for no limit.
pub(crate) struct Limits {
    pub(crate) address_space: Option<u64>,
    pub(crate) file_size: Option<u64>,
    pub(crate) descriptors: Option<u64>,
}

pub(crate) fn limits() -> Limits {
    Limits {
        address_space: getrlimit(Resource::As).current,
        file_size: getrlimit(Resource::Fsize).current,
        descriptors: getrlimit(Resource::Nofile).current,
    }
}

/// Raises the number of files that this process may open, as far as allowed but not beyond some thousands. Returns
/// that number.
pub(crate) fn raise_descriptors() -> u64 {
    const ENOUGH: u64 = 16_384;
    let mut limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(ENOUGH).min(ENOUGH);
    if limit.current.is_some_and(|it| it < most) {
        let before = limit.current;
        limit.current = Some(most);
        if setrlimit(Resource::Nofile, limit).is_err() {
            return before.unwrap_or(0);
        }
    }
    limit.current.unwrap_or(ENOUGH)
}

/// The duration of each measurement. On a busy machine it may take a time slice until a thread runs.
const LIMIT: Duration = Duration::from_millis(150);

/// Nanoseconds that a cache line takes from one core to another: half of the shortest round trips.
pub(crate) fn cache_line_ns() -> Option<u64> {
    const ROUNDS: u64 = 200;
    let (turn, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let answer = || {
        let mut next = 1;
        while !over.load(Ordering::Relaxed) {
            if turn.load(Ordering::Acquire) == next {
                turn.store(next + 1, Ordering::Release);
                next += 2;
            }
            std::hint::spin_loop();
        }
    };
    thread::scope(|scope| {
        scope.spawn(answer);
        let (end, mut best, mut turns) = (Instant::now() + LIMIT, None, 0);
        'tries: loop {
            let start = Instant::now();
            for _ in 0..ROUNDS {
                turn.store(turns + 1, Ordering::Release);
                while turn.load(Ordering::Acquire) != turns + 2 {
                    if Instant::now() >= end {
                        break 'tries;
                    }
                }
                turns += 2;
            }
            let took = start.elapsed().as_nanos() as u64 / ROUNDS / 2;
            best = Some(best.map_or(took, |best: u64| best.min(took)));
        }
        over.store(true, Ordering::Relaxed);
        best
    })
}

/// Nanoseconds from waking a thread that sleeps until it runs: the median.
pub(crate) fn wake_ns() -> Option<u64> {
    let (asked, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let start = Instant::now();
    let now = || start.elapsed().as_nanos() as u64;
    let mut taken = thread::scope(|scope| {
        let sleeper = scope.spawn(|| {
            let mut taken = Vec::new();
            while !over.load(Ordering::Acquire) {
                thread::park();
                let asked = asked.swap(0, Ordering::AcqRel);
                if asked != 0 {
                    taken.push(now().saturating_sub(asked));
                }
            }
            taken
        });
        while start.elapsed() < LIMIT {
            // Long enough to fall asleep.
            thread::sleep(Duration::from_micros(500));
            asked.store(now(), Ordering::Release);
            sleeper.thread().unpark();
        }
        over.store(true, Ordering::Release);
        sleeper.thread().unpark();
        sleeper.join().unwrap_or_default()
    });
    taken.sort_unstable();
    taken.get(taken.len() / 2).copied()
}

/// What logind removes when the last session of `user` ends: this user's files in /dev/shm, and in the
/// directories there that this user owns. `owner` is that of the directory of leases, if it exists.
pub(crate) fn removed_by_logind(
    objects: &Path,
    leases: &Path,
    owner: Option<u32>,
    user: u32,
) -> Option<&'static str> {
    let cleaned = "/dev/shm";
    let leases = leases.starts_with(cleaned) && owner.is_none_or(|owner| owner == user);
    match (objects.starts_with(cleaned), leases) {
        (true, true) => Some("objects and leases"),
        (true, false) => Some("objects"),
        (false, true) => Some("leases"),
        (false, false) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logind_removes_leases_only_from_a_directory_of_the_user() {
        let removed = |objects: &str, leases: &str, owner| {
            removed_by_logind(Path::new(objects), Path::new(leases), owner, 1000)
        };
        let (shm, leases) = ("/dev/shm", "/dev/shm/shoal-leases");
        // Nobody has created it yet: this user will.
        assert_eq!(removed(shm, leases, None), Some("objects and leases"));
        assert_eq!(removed(shm, leases, Some(1000)), Some("objects and leases"));
        assert_eq!(removed(shm, leases, Some(0)), Some("objects"));
        assert_eq!(removed(shm, "/var/leases", None), Some("objects"));
        assert_eq!(removed("/tmp/objects", leases, None), Some("leases"));
        assert_eq!(removed("/tmp/objects", leases, Some(0)), None);
    }
}
