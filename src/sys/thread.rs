//! The library's own threads in a host process.

use crate::error::{Error, Result};

use super::dl::Library;
use super::spawn::Blocked;

/// Starts a thread with all signals blocked, so that none of the host's handlers run in it.
///
/// It ends with the process, and does not exist in a forked child.
pub(crate) fn start(name: &str, body: impl FnOnce() + Send + 'static) -> Result<()> {
    // Here and not in the thread: the search waits for a library that is being loaded, perhaps by the caller.
    let checks = checks();
    // A thread inherits the mask of its creator.
    let signals = Blocked::new();
    let thread = std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            let _unchecked = Unchecked::new(checks);
            body();
        });
    drop(signals);
    thread.map(drop).map_err(|err| Error::Os {
        call: "pthread_create",
        errno: err.raw_os_error().unwrap_or(libc::EAGAIN),
    })
}

/// Functions of ThreadSanitizer, if the program has it, that switch its checks of the calling thread off and on
/// again. The sanitizer sees the thread's calls of the C library, but not that they are ordered. The wrappers of
/// shoal_tsan.h do the same for the host's threads.
type Checks = Option<(extern "C" fn(), extern "C" fn())>;

fn checks() -> Checks {
    let program = Library::program();
    // SAFETY: both functions of the sanitizer have this type.
    unsafe {
        let off = program.function(c"__tsan_ignore_thread_begin")?;
        Some((off, program.function(c"__tsan_ignore_thread_end")?))
    }
}

/// While it exists, the calling thread is not checked.
struct Unchecked(Checks);

impl Unchecked {
    fn new(checks: Checks) -> Self {
        if let Some((off, _)) = checks {
            off();
        }
        Self(checks)
    }
}

impl Drop for Unchecked {
    fn drop(&mut self) {
        // A thread that ends unchecked is an error for the sanitizer.
        if let Some((_, on)) = self.0 {
            on();
        }
    }
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
