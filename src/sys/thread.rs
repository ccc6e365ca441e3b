//! The library's own threads in a host process.

use crate::error::{Error, Result};

use super::spawn::Blocked;

/// Starts a thread with all signals blocked, so that none of the host's handlers run in it.
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

/// The kernel's id of the calling thread.
pub(crate) fn id() -> u32 {
    // SAFETY: gettid has no conditions.
    unsafe { libc::gettid() as u32 }
}

/// A number that no other living thread of the process has, never 0. The only thread of a forked child keeps
/// it.
///
/// The address of the C library's thread block, from the register that holds it: a thread-local variable
/// would cost a call in a shared library. Miri, which supports no assembly, uses one.
#[inline(always)]
pub(crate) fn token() -> u64 {
    let token: u64;
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: it only reads. By the ABI, the first word of a thread's block is its own address.
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
