//! The library's own threads in a host process.

use crate::error::{Error, Result};

use super::dl::Library;
use super::spawn::Blocked;

/// Starts a thread with all signals blocked, so that none of the host's handlers run in it.
///
/// It ends with the process, and does not exist in a forked child.
pub(crate) fn start(name: &str, body: impl FnOnce() + Send + 'static) -> Result<()> {
    // A thread inherits the mask of its creator.
    let signals = Blocked::new();
    let thread = std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            let _unchecked = Unchecked::new();
            body();
        });
    drop(signals);
    thread.map(drop).map_err(|err| Error::Os {
        call: "pthread_create",
        errno: err.raw_os_error().unwrap_or(libc::EAGAIN),
    })
}

/// While it exists, ThreadSanitizer, if the program has it, does not check the calling thread. The sanitizer sees
/// the thread's calls of the C library, but not that they are ordered. The wrappers of shoal_tsan.h do the
/// same for the host's threads.
struct Unchecked(Option<extern "C" fn()>);

impl Unchecked {
    fn new() -> Self {
        let program = Library::program();
        // SAFETY: both functions of the sanitizer have this type.
        let (begin, end) = unsafe {
            (
                program.function::<extern "C" fn()>(c"__tsan_ignore_thread_begin"),
                program.function(c"__tsan_ignore_thread_end"),
            )
        };
        if let (Some(begin), Some(_)) = (begin, end) {
            begin();
        }
        Self(begin.and(end))
    }
}

impl Drop for Unchecked {
    fn drop(&mut self) {
        if let Some(end) = self.0 {
            end();
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
