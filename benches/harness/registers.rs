//! A stopped process's registers, as far as tracing needs them.

use std::io;
use std::mem::{MaybeUninit, size_of};

use libc::{c_long, c_void, iovec, pid_t};

use super::failure::Failure;

pub(super) type Registers = libc::user_regs_struct;

/// The result of `ptrace`.
pub(super) fn check(code: c_long) -> Result<(), Failure> {
    match code {
        0.. => Ok(()),
        _ => Err(io::Error::last_os_error().into()),
    }
}

pub(super) fn read(child: pid_t) -> Result<Registers, Failure> {
    let mut it = MaybeUninit::<Registers>::uninit();
    let mut place = iovec {
        iov_base: it.as_mut_ptr().cast(),
        iov_len: size_of::<Registers>(),
    };
    let (request, kind) = (libc::PTRACE_GETREGSET, libc::NT_PRSTATUS as usize);
    // SAFETY: `it` has room for all registers.
    check(unsafe { libc::ptrace(request, child, kind as *mut c_void, &mut place) })?;
    // SAFETY: the kernel has filled it.
    Ok(unsafe { it.assume_init() })
}

pub(super) fn write(child: pid_t, at: &mut Registers) -> Result<(), Failure> {
    let mut place = iovec {
        iov_base: std::ptr::from_mut(at).cast(),
        iov_len: size_of::<Registers>(),
    };
    let (request, kind) = (libc::PTRACE_SETREGSET, libc::NT_PRSTATUS as usize);
    // SAFETY: `at` holds all registers, as they were read.
    check(unsafe { libc::ptrace(request, child, kind as *mut c_void, &mut place) })
}

/// The address of the next instruction.
pub(super) fn instruction(at: &Registers) -> u64 {
    #[cfg(target_arch = "x86_64")]
    return at.rip;
    #[cfg(target_arch = "aarch64")]
    return at.pc;
}

/// The first two arguments of a function that has just been called.
pub(super) fn arguments(at: &Registers) -> (u64, u64) {
    #[cfg(target_arch = "x86_64")]
    return (at.rdi, at.rsi);
    #[cfg(target_arch = "aarch64")]
    return (at.regs[0], at.regs[1]);
}

/// Changes the registers as if a function that has just been called had returned 0.
pub(super) fn leave(child: pid_t, at: &mut Registers) -> Result<(), Failure> {
    #[cfg(target_arch = "x86_64")]
    {
        let top = at.rsp as *mut c_void;
        // SAFETY: reads the child's memory. The call fails if nothing is mapped there.
        at.rip = unsafe { libc::ptrace(libc::PTRACE_PEEKDATA, child, top, 0) } as u64;
        at.rsp += 8;
        at.rax = 0;
    }
    #[cfg(target_arch = "aarch64")]
    {
        let _ = child;
        at.pc = at.regs[30];
        at.regs[0] = 0;
    }
    Ok(())
}
