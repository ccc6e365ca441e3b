//! Prefetching cache lines.
//!
//! Fetching a line that another core has written takes as long as putting or taking a few messages. These
//! functions are hints: they never fault and have no visible effect, whatever the address. Under Miri, which
//! supports no assembly, they do nothing.

/// Prefetches the line at `at` for reading.
#[inline]
pub(crate) fn fetch_to_read(at: *const u8) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a prefetch is a hint: it changes no state of the program, and never faults.
    unsafe {
        std::arch::asm!("prefetcht0 [{}]", in(reg) at, options(nostack, preserves_flags, readonly));
    }
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    // SAFETY: a prefetch is a hint: it changes no state of the program, and never faults.
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{}]", in(reg) at, options(nostack, preserves_flags, readonly));
    }
    #[cfg(miri)]
    let _ = at;
}

/// Prefetches the line at `at` for writing: when it arrives, no other core has a copy.
///
/// By an assembly instruction: the compiler's intrinsic becomes the instruction for reading, unless the target is
/// known to have `prefetchw`. Processors without it do nothing.
#[inline]
pub(crate) fn fetch_to_write(at: *const u8) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a hint; every 64-bit x86 executes its encoding, some as no operation.
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) at, options(nostack, preserves_flags, readonly));
    }
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    // SAFETY: a prefetch is a hint: it changes no state of the program, and never faults.
    unsafe {
        std::arch::asm!("prfm pstl1keep, [{}]", in(reg) at, options(nostack, preserves_flags, readonly));
    }
    #[cfg(miri)]
    let _ = at;
}
