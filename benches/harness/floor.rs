//! What the machine itself can do, in the same run: nothing that shares memory is faster.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::Failure;
use super::report::{Copying, Floor};
use super::stage::{self, SAMPLES, Stand};
use super::traffic::percentiles;

pub(super) fn measure(sizes: &[usize], window: Duration) -> Result<Floor, Failure> {
    let clock_ns = clock();
    let (median, p99) = cache_line(window)?;
    Ok(Floor {
        clock_ns,
        cache_line_median_ns: (median - clock_ns).max(1.0),
        cache_line_p99_ns: (p99 - clock_ns).max(1.0),
        futex_median_ns: futex(window)?,
        copying: sizes
            .iter()
            .filter(|&&size| size >= 1024)
            .map(|&size| Copying {
                size,
                gigabytes: copying(size, window),
            })
            .collect(),
    })
}

/// What reading the clock twice costs: it is part of every timed trip.
fn clock() -> f64 {
    let (start, count) = (Instant::now(), 100_000);
    for _ in 0..count {
        std::hint::black_box(Instant::now());
    }
    start.elapsed().as_nanos() as f64 / f64::from(count)
}

/// A word that goes from one core to the other and back.
fn cache_line(window: Duration) -> Result<(f64, f64), Failure> {
    let stand = Stand::new()?;
    // There and back on lines of their own, as two queues have them.
    let [there, back] = &stand.line;
    let core = |core| (stage::cores() > 1).then_some(core);
    let echo = stage::worker(core(1), || {
        stand.wait_for_go();
        let mut seen = 0;
        while !stand.is_stopped() {
            let now = there.messages.load(Ordering::Acquire);
            if now != seen {
                back.messages.store(now, Ordering::Release);
                seen = now;
            }
            std::hint::spin_loop();
        }
        Ok(())
    })?;
    let caller = stage::worker(core(0), || {
        stand.wait_for_go();
        let mut taken = 0;
        while !stand.is_stopped() && taken < SAMPLES {
            let start = Instant::now();
            there.messages.store(taken as u64 + 1, Ordering::Release);
            while back.messages.load(Ordering::Acquire) != taken as u64 + 1 {
                if stand.is_stopped() {
                    break;
                }
                std::hint::spin_loop();
            }
            stand.samples[taken].store(start.elapsed().as_nanos() as u32, Ordering::Relaxed);
            taken += 1;
        }
        stand.taken.store(taken as u64, Ordering::Release);
        Ok(())
    })?;
    stand.go(2);
    std::thread::sleep(window * 2);
    stand.stop();
    stage::join(vec![echo, caller])?;
    let taken = stand.taken.load(Ordering::Acquire) as usize;
    Ok(percentiles(
        stand.samples[..taken]
            .iter()
            .map(|it| it.load(Ordering::Relaxed))
            .collect(),
    ))
}

/// Two processes that wake each other: half of nothing but system calls.
fn futex(window: Duration) -> Result<f64, Failure> {
    let stand = Stand::new()?;
    let core = |core| (stage::cores() > 1).then_some(core);
    // Each side waits for the other's turn to be over. The timeout only serves to stop.
    let play = |mine: u32, stand: &Stand| {
        let turn = &stand.samples[SAMPLES - 1];
        let mut taken = 0;
        while !stand.is_stopped() && taken < SAMPLES - 1 {
            let start = Instant::now();
            turn.store(1 - mine, Ordering::Release);
            futex_wake(turn);
            while turn.load(Ordering::Acquire) != mine && !stand.is_stopped() {
                futex_wait(turn, 1 - mine);
            }
            if mine == 0 {
                let nanoseconds = start.elapsed().as_nanos() as u32;
                stand.samples[taken].store(nanoseconds, Ordering::Relaxed);
            }
            taken += 1;
        }
        if mine == 0 {
            stand.taken.store(taken as u64, Ordering::Release);
        }
    };
    let mut players = Vec::new();
    for mine in [0, 1] {
        let work = || {
            stand.wait_for_go();
            play(mine, &stand);
            Ok(())
        };
        players.push(stage::worker(core(mine as usize), work)?);
    }
    stand.go(2);
    std::thread::sleep(window);
    stand.stop();
    stage::join(players)?;
    let taken = stand.taken.load(Ordering::Acquire) as usize;
    let samples = stand.samples[..taken]
        .iter()
        .map(|it| it.load(Ordering::Relaxed))
        .collect();
    Ok(percentiles(samples).0)
}

fn futex_wait(word: &AtomicU32, expected: u32) {
    let slice = libc::timespec {
        tv_sec: 0,
        tv_nsec: 10_000_000,
    };
    // SAFETY: a mapped word and a valid relative timeout.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT,
            expected,
            &slice,
        )
    };
}

fn futex_wake(word: &AtomicU32) {
    // SAFETY: a mapped word.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, 1) };
}

/// `memcpy` on one core between two page-aligned blocks that were touched before, in GB/s.
fn copying(size: usize, window: Duration) -> f64 {
    let aligned = |block: &[u8]| block.as_ptr().align_offset(4096);
    let (source, mut target) = (vec![1u8; size + 4096], vec![0u8; size + 4096]);
    let (from, to) = (aligned(&source), aligned(&target));
    let (from, to) = (&source[from..from + size], &mut target[to..to + size]);
    // The best of several rounds: whoever else runs on the machine must not count.
    let round = || {
        let (start, mut copied) = (Instant::now(), 0u64);
        while start.elapsed() < window / 10 {
            for _ in 0..16 {
                std::hint::black_box(&mut *to).copy_from_slice(std::hint::black_box(from));
                copied += size as u64;
            }
        }
        copied as f64 / start.elapsed().as_secs_f64() / 1e9
    };
    std::iter::repeat_with(round).take(5).fold(0.0, f64::max)
}
