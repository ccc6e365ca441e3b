//! Which cores the machine has, and on which two to measure.

/// The cores this process may run on.
pub(super) fn allowed() -> Vec<usize> {
    // SAFETY: an all-zero set is empty; the call fills it.
    let set = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::sched_getaffinity(0, size_of_val(&set), &mut set);
        set
    };
    (0..libc::CPU_SETSIZE as usize)
        // SAFETY: `core` is below the number of cores that a set has room for.
        .filter(|&core| unsafe { libc::CPU_ISSET(core, &set) })
        .collect()
}

/// Two hardware threads, if possible of different cores: those of one core share its first caches.
pub(super) fn pair() -> Option<[usize; 2]> {
    let cores = allowed();
    let (&first, rest) = cores.split_first()?;
    let siblings = siblings(first);
    let apart = rest.iter().find(|core| !siblings.contains(core));
    Some([first, *apart.or(rest.first())?])
}

/// The hardware threads of the core that `core` is one of.
fn siblings(core: usize) -> Vec<usize> {
    let path = format!("/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let number = |text: &str| text.trim().parse::<usize>().ok();
    text.split(',')
        .filter_map(|part| match part.split_once('-') {
            Some((from, to)) => Some(number(from)?..=number(to)?),
            None => number(part).map(|one| one..=one),
        })
        .flatten()
        .collect()
}

/// Keeps this process on `core`.
pub(super) fn pin(core: usize) -> std::io::Result<()> {
    // SAFETY: an all-zero set is empty; the calls only read and write it, and `CPU_SET`
    // ignores what is out of range.
    let rc = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core.min(libc::CPU_SETSIZE as usize - 1), &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &set)
    };
    if rc < 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(())
}
