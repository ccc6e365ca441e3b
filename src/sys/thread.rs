//! Threads of the library's own, in a process that is somebody else's.

use crate::error::{Error, Result};

use super::spawn::Blocked;

/// Starts a thread in which none of the host's signal handlers ever run.
///
/// It ends with the process, and does not exist in a forked child.
pub(crate) fn start(name: &str, body: impl FnOnce() + Send + 'static) -> Result<()> {
    // A thread inherits the mask of its creator.
    let signals = Blocked::new();
    let thread = std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(body);
    drop(signals);
    thread.map(drop).map_err(|err| Error::Os {
        call: "pthread_create",
        errno: err.raw_os_error().unwrap_or(libc::EAGAIN),
    })
}

/// The kernel's number of the calling thread.
pub(crate) fn id() -> u32 {
    // SAFETY: it only asks.
    unsafe { libc::gettid() as u32 }
}

/// A number that no other living thread of the process has, never 0. A forked child's only thread
/// keeps it.
///
/// The address of what the C library keeps for the thread, from the register that holds it: a
/// thread-local variable would be a call, in a shared library. Miri, which knows no assembly, has one.
#[inline(always)]
pub(crate) fn token() -> u64 {
    let token: u64;
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: it only reads. The ABI has the first word of a thread's block be its own address.
    unsafe {
        std::arch::asm!("mov {}, fs:0", out(reg) token, options(nostack, preserves_flags, pure, readonly));
    }
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    // SAFETY: it only reads a register.
    unsafe {
        std::arch::asm!("mrs {}, tpidr_el0", out(reg) token, options(nostack, preserves_flags, pure, nomem));
    }
    #[cfg(miri)]
    {
        thread_local!(static HERE: u8 = const { 0 });
        token = HERE.with(|here| std::ptr::from_ref(here) as u64);
    }
    token
}
