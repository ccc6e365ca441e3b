//! Instructions of a call, counted one by one: the one figure that a noisy machine leaves alone.
//!
//! A child makes some calls, and the parent has it stop after every instruction of them. That
//! takes microseconds an instruction, so nothing may depend on the time: no leases, whose
//! holders are looked after every few milliseconds.

use std::hint::black_box;

use libc::c_int;
use shoal::{Map, Queue, Timeout};

use super::entries::{VALUE, key, value};
use super::failure::Failure;
use super::load::BATCH;
use super::report::Steps;

/// What calls are made on.
struct Objects {
    queue: Queue,
    map: Map,
}

/// Calls, of which this is the number `index`.
type Calls = fn(&Objects, index: u64) -> shoal::Result<()>;

const KEYS: u64 = 1000;
const MESSAGE: [u8; 64] = [7; 64];

/// How many of them to count, and what they are.
const ALL: [(&str, u64, Calls); 4] = [
    ("queue, put and get", 8, |it, _| {
        it.queue.put(&MESSAGE, Timeout::Infinite)?;
        it.queue.get(&mut [0; 64], Timeout::Infinite).map(drop)
    }),
    ("queue, put_many and get_many_into of 32", 2, |it, _| {
        it.queue
            .put_many(&[&MESSAGE[..]; BATCH], Timeout::Infinite)?;
        let (mut buf, mut lens) = ([0; 64 * BATCH], [0; BATCH]);
        it.queue
            .get_many_into(&mut buf, &mut lens, Timeout::Infinite)
            .map(drop)
    }),
    ("map, get", 20, |it, index| {
        let mut found = [0; VALUE];
        it.map.get(&key(index % KEYS), &mut found).map(drop)
    }),
    ("map, set", 20, |it, index| {
        let key = key(index % KEYS);
        it.map.set(&key, &value(&key))
    }),
];

/// Counts all; nothing where a process may not look at another.
pub(super) fn measure() -> Result<Vec<Steps>, Failure> {
    let mut all = Vec::new();
    for (what, number, calls) in ALL {
        // What is not the calls' is in both.
        let (Some(once), Some(twice)) = (count(calls, number)?, count(calls, 2 * number)?) else {
            return Ok(Vec::new());
        };
        let instructions = twice.saturating_sub(once) as f64 / number as f64;
        all.push(Steps { what, instructions });
    }
    Ok(all)
}

/// What the child ends with if it may not be looked at.
const ALONE: c_int = 3;

/// Instructions of so many calls, and of two signals.
fn count(calls: Calls, number: u64) -> Result<Option<u64>, Failure> {
    // SAFETY: this process has one thread; the child never returns.
    let child = unsafe { libc::fork() };
    if child < 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    if child == 0 {
        let code = act(calls, number).unwrap_or(1);
        // SAFETY: ends the child without what the parent has registered for its own end.
        unsafe { libc::_exit(code) }
    }
    let mut steps = None;
    loop {
        let mut status = 0;
        // SAFETY: a child of ours, which has not ended as far as is known.
        if unsafe { libc::waitpid(child, &mut status, 0) } != child {
            return Err(std::io::Error::last_os_error().into());
        }
        if libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == ALONE {
            return Ok(None);
        }
        if !libc::WIFSTOPPED(status) {
            return Err("a child whose instructions were counted has ended".into());
        }
        steps = match (libc::WSTOPSIG(status), steps) {
            (libc::SIGSTOP, None) => Some(0),
            (libc::SIGSTOP, Some(steps)) => {
                // SAFETY: it is stopped, and goes on to its end.
                unsafe {
                    libc::ptrace(libc::PTRACE_DETACH, child, 0, 0);
                    libc::waitpid(child, std::ptr::null_mut(), 0);
                }
                return Ok(Some(steps));
            }
            (_, steps) => steps.map(|steps| steps + 1),
        };
        // SAFETY: it is stopped, and goes on for one instruction.
        if unsafe { libc::ptrace(libc::PTRACE_SINGLESTEP, child, 0, 0) } != 0 {
            let why = std::io::Error::last_os_error();
            // SAFETY: a child of ours that was not waited for.
            unsafe {
                libc::kill(child, libc::SIGKILL);
                libc::waitpid(child, std::ptr::null_mut(), 0);
            }
            return Err(why.into());
        }
    }
}

/// The child's part: gets everything warm, and stops before and after the calls.
fn act(calls: Calls, number: u64) -> Result<c_int, Failure> {
    // SAFETY: asks to be looked at, and to go with the parent.
    if unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0)
    } != 0
    {
        return Ok(ALONE);
    }
    let (queue, map) = (Queue::anonymous()?, Map::anonymous()?);
    let objects = Objects { queue, map };
    for index in 0..KEYS {
        objects.map.set(&key(index), &value(&key(index)))?;
    }
    for index in 0..KEYS {
        calls(&objects, index)?;
    }
    let stop = || {
        // SAFETY: stops this process, which the parent waits for.
        unsafe { libc::raise(libc::SIGSTOP) }
    };
    stop();
    for index in 0..number {
        calls(black_box(&objects), index)?;
    }
    stop();
    Ok(0)
}
