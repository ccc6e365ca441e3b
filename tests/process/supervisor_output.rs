//! What workers write arrives line by line, each line whole and with the worker's index.

use shoal::process::Output;
use shoal::{Outcome, Restart, Supervisor, Workers};

use super::*;

/// Starts workers whose output and errors go into one pipe; the end to read from.
fn labelled(script: &str, count: usize, set: impl FnOnce(&mut Workers)) -> (Supervisor, File) {
    let (reader, writer) = pipe();
    let mut spawn = sh(script);
    spawn
        .stdout(Stdio::Fd(writer.as_raw_fd()))
        .stderr(Stdio::Fd(writer.as_raw_fd()));
    let mut workers = Workers::new(&spawn, count);
    set(&mut workers);
    (workers.start().unwrap(), reader)
}

/// All that workers write until they have ended.
fn written(script: &str, count: usize) -> Vec<u8> {
    let (supervisor, mut reader) = labelled(script, count, |_| {});
    let read = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).unwrap();
        bytes
    });
    supervisor.wait(Timeout::Infinite).unwrap();
    std::mem::drop(supervisor);
    read.join().unwrap()
}

#[test]
fn lines_are_labelled_and_bytes_are_not_changed() {
    let _alone = alone();
    let bytes = written(r"printf 'a\n\000\377\r\nend'; printf 'err\n' >&2", 1);
    let mut lines: Vec<&[u8]> = bytes.split_inclusive(|&byte| byte == b'\n').collect();
    lines.sort_unstable();
    let expected: [&[u8]; 4] = [b"[0] \0\xff\r\n", b"[0] a\n", b"[0] end\n", b"[0] err\n"];
    assert_eq!(lines, expected);
}

#[test]
fn lines_of_workers_that_flood_never_mix() {
    let _alone = alone();
    let script = "i=0; while [ $i -lt 400 ]; do \
                  printf \"$SHOAL_WORKER:\"; printf \"%0200d\\n\" $i; i=$((i+1)); done";
    let text = String::from_utf8(written(script, 8)).unwrap();
    let mut next = [0; 8];
    for line in text.lines() {
        let (label, rest) = line.split_once("] ").unwrap();
        let worker: usize = label.strip_prefix('[').unwrap().parse().unwrap();
        let (own, number) = rest.split_once(':').unwrap();
        assert_eq!(own, worker.to_string());
        assert_eq!(
            (number.len(), number.parse()),
            (200, Ok(next[worker])),
            "{line}"
        );
        next[worker] += 1;
    }
    assert_eq!(next, [400; 8]);
}

#[test]
fn a_line_without_an_end_takes_bounded_memory() {
    let _alone = alone();
    let bytes = written("head -c 1000000 /dev/zero", 2);
    assert_eq!(bytes.iter().filter(|&&byte| byte == 0).count(), 2_000_000);
    for line in bytes.split(|&byte| byte == b'\n') {
        assert!(line.len() <= (64 << 10) + 4);
        assert!(line.is_empty() || line.starts_with(b"[0] ") || line.starts_with(b"[1] "));
    }
}

#[test]
fn a_worker_may_close_its_output() {
    let _alone = alone();
    let bytes = written("echo before; exec >&- 2>&-; sleep 0.1; exit 0", 2);
    let mut lines: Vec<&[u8]> = bytes.split_inclusive(|&byte| byte == b'\n').collect();
    lines.sort_unstable();
    let expected: [&[u8]; 2] = [b"[0] before\n", b"[1] before\n"];
    assert_eq!(lines, expected);
}

#[test]
fn a_process_that_keeps_the_output_pipe_open_delays_nothing() {
    let _alone = alone();
    let script = "echo begin; setsid sleep 600 & exit 0";
    assert_eq!(written(script, 1), b"[0] begin\n");
    // Also across restarts, which need no further descriptors.
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let (supervisor, mut reader) = labelled("setsid sleep 600 & exit 1", 1, |workers| {
        let brief = Duration::from_millis(1);
        workers
            .restart(Restart::OnFailure)
            .max_restarts(30)
            .backoff(brief, brief);
    });
    let before = descriptors();
    let outcome = supervisor.wait(Timeout::Infinite).unwrap();
    assert_eq!(
        outcome,
        Outcome::Failed {
            worker: 0,
            exit: exited(1)
        }
    );
    assert!(descriptors() <= before + 2);
    std::mem::drop(supervisor);
    assert_eq!(reader.read_to_end(&mut Vec::new()).unwrap(), 0);
}

#[test]
fn workers_can_be_stopped_although_no_reader_takes_their_output() {
    let _alone = alone();
    let (supervisor, reader) = labelled("yes", 2, |_| {});
    // Until the pipes are full.
    std::thread::sleep(Duration::from_millis(50));
    supervisor
        .stop(Timeout::Val(Duration::from_millis(10)))
        .unwrap();
    std::mem::drop(reader);
}

#[test]
fn output_that_was_late_is_not_written_to_a_file_that_is_opened_later() {
    let _alone = alone();
    let (supervisor, reader) = labelled("yes", 2, |_| {});
    std::thread::sleep(Duration::from_millis(50));
    supervisor
        .stop(Timeout::Val(Duration::from_millis(10)))
        .unwrap();
    std::mem::drop(supervisor);
    // They get the numbers that were free.
    let later: Vec<_> = (0..64).map(|_| pipe()).collect();
    std::thread::sleep(Duration::from_millis(300));
    for (mut read_end, write_end) in later {
        std::mem::drop(write_end);
        assert_eq!(read_end.read_to_end(&mut Vec::new()).unwrap(), 0);
    }
    std::mem::drop(reader);
}

#[test]
fn a_worker_without_a_reader_ends_as_it_does_without_a_supervisor() {
    let _alone = alone();
    let (supervisor, mut reader) = labelled("exec yes", 1, |_| {});
    reader.read_exact(&mut [0; 100]).unwrap();
    std::mem::drop(reader);
    let outcome = supervisor.wait(Timeout::Infinite).unwrap();
    assert_eq!(
        outcome,
        Outcome::Failed {
            worker: 0,
            exit: signaled(libc::SIGPIPE)
        }
    );
}

#[test]
fn plain_output_is_passed_on_unchanged() {
    let _alone = alone();
    let (supervisor, mut reader) = labelled("printf 'no end'", 1, |workers| {
        workers.output(Output::Plain);
    });
    supervisor.wait(Timeout::Infinite).unwrap();
    std::mem::drop(supervisor);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "no end");
}

#[test]
fn a_program_that_closes_all_its_descriptors_keeps_its_workers() {
    let _alone = alone();
    let dir = Scratch::new();
    let closed = dir.0.join("closed");
    // None is started while they are being closed: it could get a descriptor that another thread closes next.
    let wait = format!("until test -e '{}'; do sleep 0.01; done", closed.display());
    let host = forked(&ForkOptions::default(), || {
        let brief = Duration::from_millis(100);
        let script = format!("{wait}; test $SHOAL_WORKER_RESTARTS = 2");
        let mut workers = Workers::new(&sh(&script), 2);
        workers.restart(Restart::OnFailure).backoff(brief, brief);
        let supervisor = workers.start().unwrap();
        // SAFETY: integers; nothing else in this process uses them.
        unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
        std::fs::write(&closed, "").unwrap();
        i32::from(supervisor.wait(Timeout::Infinite) != Ok(Outcome::Succeeded))
    });
    assert_eq!(join(&host), exited(0));
}
