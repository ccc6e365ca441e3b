//! Limits of this process: descriptors, file size, address space, and locked memory.

use std::io::Read;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of address space that this library's mappings take in this process.
pub(super) static LIBRARY_MAPPED: AtomicU64 = AtomicU64::new(0);

/// The default size of one object is at most this fraction (1 / `PART_OF_FILE`) of a limit. A pipe's two queues
/// with their message stores are more than four times as large as the bound of one ring.
const PART_OF_FILE: u64 = 8;
/// Likewise, of the address space that is left if that is limited: the program needs it for other purposes too,
/// and for more objects.
const PART_OF_SPACE: u64 = 16;

/// The largest file that this process may make, if that is limited. Beyond it, the kernel also sends SIGXFSZ,
/// which ends the process.
pub(crate) fn file_size() -> Option<u64> {
    limit(libc::RLIMIT_FSIZE)
}

/// How much address space this process may have altogether, if that is limited.
pub(crate) fn address_space() -> Option<u64> {
    limit(libc::RLIMIT_AS)
}

/// How much memory this process may lock, if that is limited.
pub(crate) fn locked_memory() -> Option<u64> {
    limit(libc::RLIMIT_MEMLOCK)
}

/// How many descriptors this process may have: their numbers are below that.
pub(crate) fn descriptors() -> u64 {
    limit(libc::RLIMIT_NOFILE).unwrap_or(u64::MAX)
}

/// The default maximum size of an object: one part in `part` of the addresses that are left for objects, so
/// that several times `part` objects fit; or less if files or the address space are limited. Memory usually
/// runs out first.
pub(crate) fn growth(part: u64) -> u64 {
    let addresses = ADDRESSES.saturating_sub(LIBRARY_MAPPED.load(Ordering::Relaxed)) / part;
    // Rounded, so that it is the same for most objects.
    let addresses = addresses.next_power_of_two();
    let file = file_size().map_or(u64::MAX, |limit| limit / PART_OF_FILE);
    let space = address_space().map_or(u64::MAX, |limit| {
        limit.saturating_sub(mapped()) / PART_OF_SPACE
    });
    addresses.min(file).min(space)
}

fn limit(resource: libc::__rlimit_resource_t) -> Option<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: a valid place for a limit.
    let rc = unsafe { libc::getrlimit(resource, &mut limit) };
    (rc == 0 && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

/// The address space of a process without other limits: 47 bits on x86-64, and 48 on most 64-bit Arm.
pub(crate) const ADDRESSES: u64 = if cfg!(target_arch = "aarch64") {
    1 << 48
} else {
    1 << 47
};

/// How many mappings this process has, and how many it may have; `None` if /proc does not tell.
pub(crate) fn mappings() -> Option<(u64, u64)> {
    let limit = std::fs::read_to_string("/proc/sys/vm/max_map_count").ok()?;
    let mut maps = std::fs::File::open("/proc/self/maps").ok()?;
    // In pieces: a process that can map nothing more may have no memory for the whole file.
    let (mut piece, mut count) = ([0; 4096], 0);
    loop {
        match maps.read(&mut piece).ok()? {
            0 => return Some((count, limit.trim().parse().ok()?)),
            len => count += piece[..len].iter().filter(|&&byte| byte == b'\n').count() as u64,
        }
    }
}

/// Bytes of address space in use; 0 if /proc does not tell.
pub(crate) fn mapped() -> u64 {
    // SAFETY: sysconf has no conditions.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as u64;
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm
        .split(' ')
        .next()
        .and_then(|it| it.parse::<u64>().ok());
    pages.unwrap_or(0).saturating_mul(page)
}
