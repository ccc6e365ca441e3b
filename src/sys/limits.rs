//! What the system lets this process have: the size of its files and its address space.

/// What one object's defaults take of a limit at most. A pipe's two queues with their shelves are
/// more than four times as large as the bound of one ring.
const PART_OF_FILE: u64 = 8;
/// Likewise, of what address space is left: the program has other uses for it, and more objects.
const PART_OF_SPACE: u64 = 16;

/// The largest file that this process may make, if that is limited. Beyond it the kernel does not
/// only refuse: it sends SIGXFSZ, which ends the process.
pub(crate) fn file_size() -> Option<u64> {
    limit(libc::RLIMIT_FSIZE)
}

/// How much address space this process may have altogether, if that is limited.
pub(crate) fn address_space() -> Option<u64> {
    limit(libc::RLIMIT_AS)
}

/// `bytes`, or less where files or the address space are limited: what an object may grow to
/// unless its creator says it.
pub(crate) fn within(bytes: u64) -> u64 {
    let file = file_size().map_or(bytes, |limit| limit / PART_OF_FILE);
    let space = address_space().map_or(bytes, |limit| {
        limit.saturating_sub(mapped()) / PART_OF_SPACE
    });
    bytes.min(file).min(space)
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

/// Bytes of address space in use; 0 where /proc does not tell.
fn mapped() -> u64 {
    // SAFETY: it only asks.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as u64;
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm
        .split(' ')
        .next()
        .and_then(|it| it.parse::<u64>().ok());
    pages.unwrap_or(0).saturating_mul(page)
}
