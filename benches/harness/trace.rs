//! Counting the instructions of calls singly: a figure that does not depend on the load of the machine.
//!
//! A child makes calls between two [`mark`]s, and the parent stops it after every instruction
//! (`ptrace`). It counts instructions of the program's own text and of libraries separately: a
//! C library chooses its `memcpy` by the processor, and the own text is the same on all of them.
//!
//! Single steps take microseconds, so the time that the child sees would depend on them. The parent
//! answers its reads of the monotonic clock, as a function of the kernel's vDSO, with the time at
//! which counting began plus a nanosecond for each instruction. Nothing then depends on real time.

use std::hint::black_box;
use std::io;
use std::ops::Range;

use libc::{c_int, c_void};

use super::failure::Failure;
use super::pace::now;
use super::registers::{self, Registers, check};

/// Instructions of one call.
#[derive(Clone, Copy, Default)]
pub(super) struct Count {
    /// In the text of this program, the library included.
    pub(super) own: u64,
    /// In the C library and in the kernel's vDSO.
    pub(super) elsewhere: u64,
}

/// Where a counted call begins, and where it ends.
#[inline(never)]
pub(super) fn mark() {
    black_box(0x5eed_u64);
}

/// The exit code of a child that may not be traced.
const UNTRACED: c_int = 3;

/// The instructions of each pair of [`mark`]s that `work` executes in a child, after `prepare`; none where
/// a process may not trace another.
pub(super) fn count<Prepared>(
    prepare: impl FnOnce() -> Result<Prepared, Failure>,
    work: impl FnOnce(&Prepared) -> Result<(), Failure>,
) -> Result<Option<Vec<Count>>, Failure> {
    // SAFETY: the child never returns. A test has other threads; of their state the child uses only the allocator,
    // which the C library makes consistent in every child.
    let child = unsafe { libc::fork() };
    match child {
        ..0 => Err(io::Error::last_os_error().into()),
        0 => {
            let code = traced(prepare, work).unwrap_or(1);
            // SAFETY: the call ends the child, without the exit handlers that the parent has registered.
            unsafe { libc::_exit(code) }
        }
        _ => Tracer::new(child)?.run(),
    }
}

/// The child's part: it requests to be traced, prepares everything, and stops for the parent.
fn traced<Prepared>(
    prepare: impl FnOnce() -> Result<Prepared, Failure>,
    work: impl FnOnce(&Prepared) -> Result<(), Failure>,
) -> Result<c_int, Failure> {
    // SAFETY: the calls only request to be traced, and to end with the parent.
    if unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0)
    } != 0
    {
        return Ok(UNTRACED);
    }
    let prepared = prepare()?;
    let stop = || {
        // SAFETY: the signal stops this process, and the parent waits for that.
        unsafe { libc::raise(libc::SIGSTOP) }
    };
    stop();
    // The first pair tells the parent where the vDSO reads the clock.
    mark();
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is valid for writing, and every kernel has this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, black_box(&mut time)) };
    mark();
    work(black_box(&prepared))?;
    stop();
    Ok(0)
}

/// The parent's view of a child.
struct Tracer {
    child: libc::pid_t,
    own: Vec<Range<u64>>,
    vdso: Range<u64>,
    /// The address of the vDSO's function that reads a clock, once it was seen.
    clock: Option<u64>,
    /// When counting began, by the monotonic clock.
    began: u64,
    steps: u64,
}

impl Tracer {
    fn new(child: libc::pid_t) -> Result<Self, Failure> {
        // The child is this program forked: it has the same mappings in the same places.
        let maps = std::fs::read_to_string("/proc/self/maps")?;
        let program = std::fs::read_link("/proc/self/exe")?;
        let program = program.to_string_lossy();
        let range = |line: &str| {
            let (from, to) = line.split(' ').next()?.split_once('-')?;
            let address = |text| u64::from_str_radix(text, 16).ok();
            Some(address(from)?..address(to)?)
        };
        let lines = maps.lines();
        let text = lines.clone().filter(|line| line.contains(" r-xp "));
        let own = text.filter(|line| line.ends_with(&*program));
        let mut vdso = lines.filter(|line| line.ends_with("[vdso]"));
        Ok(Self {
            child,
            own: own.filter_map(range).collect(),
            vdso: vdso.next().and_then(range).unwrap_or(0..0),
            clock: None,
            began: 0,
            steps: 0,
        })
    }

    fn run(mut self) -> Result<Option<Vec<Count>>, Failure> {
        match self.all() {
            Ok(counts) => Ok(counts),
            Err(why) => {
                // SAFETY: it is a child of this process that was not waited for, or that is gone already.
                unsafe {
                    libc::kill(self.child, libc::SIGKILL);
                    libc::waitpid(self.child, std::ptr::null_mut(), 0);
                }
                Err(why)
            }
        }
    }

    fn all(&mut self) -> Result<Option<Vec<Count>>, Failure> {
        // Up to the first stop the child runs without being stepped.
        let status = self.wait()?;
        if libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == UNTRACED {
            return Ok(None);
        }
        self.began = now();
        let boundary = mark as *const () as u64;
        let (mut counts, mut current, mut before) = (Vec::new(), None, 0);
        let mut status = status;
        loop {
            if !libc::WIFSTOPPED(status) {
                return Err("a child whose instructions were counted has ended".into());
            }
            if self.steps > 0 && libc::WSTOPSIG(status) == libc::SIGSTOP {
                // SAFETY: the child is stopped, and runs to its end.
                unsafe {
                    libc::ptrace(libc::PTRACE_DETACH, self.child, 0, 0);
                    libc::waitpid(self.child, std::ptr::null_mut(), 0);
                }
                // The first pair is left out: it only showed where the clock is read.
                return Ok(Some(counts.split_off(1)));
            }
            let mut at = registers::read(self.child)?;
            let place = registers::instruction(&at);
            if place == boundary {
                current = match current {
                    None => Some(Count::default()),
                    Some(count) => {
                        counts.push(count);
                        None
                    }
                };
            }
            if self.vdso.contains(&place) && !self.vdso.contains(&before) {
                // Only the first pair reads the clock, to show where.
                let first = counts.is_empty() && current.is_some();
                self.clock = self.clock.or(first.then_some(place));
                if self.clock == Some(place) && self.answer(&mut at)? {
                    before = registers::instruction(&at);
                    continue;
                }
            }
            if let Some(count) = &mut current {
                match self.own.iter().any(|own| own.contains(&place)) {
                    true => count.own += 1,
                    false => count.elsewhere += 1,
                }
            }
            before = place;
            self.steps += 1;
            // SAFETY: the child is stopped, and continues for one instruction.
            check(unsafe { libc::ptrace(libc::PTRACE_SINGLESTEP, self.child, 0, 0) })?;
            status = self.wait()?;
        }
    }

    fn wait(&self) -> Result<c_int, Failure> {
        let mut status = 0;
        // SAFETY: it is a child of this process that has not ended, as far as is known.
        if unsafe { libc::waitpid(self.child, &mut status, 0) } != self.child {
            return Err(io::Error::last_os_error().into());
        }
        Ok(status)
    }

    /// Returns from the vDSO's function with the time that the child sees. Returns false for other clocks.
    fn answer(&self, at: &mut Registers) -> Result<bool, Failure> {
        let (clock, place) = registers::arguments(at);
        if clock as c_int != libc::CLOCK_MONOTONIC {
            return Ok(false);
        }
        let now = self.began + self.steps;
        for (offset, word) in [(0, now / 1_000_000_000), (8, now % 1_000_000_000)] {
            let to = (place + offset) as *mut c_void;
            // SAFETY: writes into the child's memory. The call fails if nothing is mapped there.
            check(unsafe { libc::ptrace(libc::PTRACE_POKEDATA, self.child, to, word) })?;
        }
        registers::leave(self.child, at)?;
        registers::write(self.child, at)?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    // `cargo bench` compiles this module without its tests, so each test imports what it uses.

    #[test]
    fn three_more_instructions_are_counted_as_three() {
        use std::arch::asm;

        use super::{count, mark};

        let empty = || {
            mark();
            mark();
        };
        let three = || {
            mark();
            // SAFETY: the instructions do nothing.
            unsafe { asm!("nop", "nop", "nop") };
            mark();
        };
        let work = |(): &()| {
            empty();
            three();
            empty();
            Ok(())
        };
        // A process that may not trace another cannot count.
        let Some(counts) = count(|| Ok(()), work).unwrap() else {
            return;
        };
        let own: Vec<u64> = counts.iter().map(|it| it.own).collect();
        let [before, more, after] = own[..] else {
            panic!("{own:?}");
        };
        assert_eq!((after, more), (before, before + 3));
        assert!(counts.iter().all(|it| it.elsewhere == 0));
    }
}
