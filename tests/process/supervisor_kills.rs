//! Whatever is killed, and whenever: no worker stays, nor anything that a worker has started.
//!
//! Each worker, and all that it starts, has an end of a pipe. Its other end finds the end of the file when
//! the last of them is gone.

use shoal::process::{Output, WorkerState};
use shoal::{Error, EventKind, Outcome, Restart, Workers};

use super::*;

/// A worker that has started children in its group, in a session of their own, and without a parent.
const FAMILY: &str = "sleep 600 & setsid sleep 600 & (setsid sleep 600 &); echo >&7; sleep 600";

/// Adopts what loses its parent, as init does elsewhere, and so sees what a supervisor leaves.
struct Reaper;

impl Reaper {
    fn new() -> Self {
        // SAFETY: integers only.
        assert_eq!(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) }, 0);
        Self
    }

    /// The names of the processes that were adopted, once all of them have ended.
    fn adopted(&self) -> Vec<String> {
        let mut names = Vec::new();
        loop {
            // SAFETY: siginfo_t is plain data, and `info` is room for one.
            let pid = unsafe {
                let mut info: libc::siginfo_t = std::mem::zeroed();
                let options = libc::WEXITED | libc::WNOWAIT | libc::__WALL;
                match libc::waitid(libc::P_ALL, 0, &mut info, options) {
                    0 => info.si_pid(),
                    _ => return names,
                }
            };
            names.push(std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap());
            // SAFETY: an adopted child that has ended; a null pointer is not written to.
            unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::__WALL) };
        }
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        // SAFETY: integers only.
        unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 0) };
    }
}

/// Runs a supervisor in a process of its own, which is this program's to kill. Every worker has `writer`
/// as its descriptor 7.
fn host(script: &'static str, count: usize, writer: &File) -> Process {
    forked(&ForkOptions::default(), || {
        let mut spawn = sh(script);
        spawn.fd(writer.as_raw_fd(), 7);
        let mut workers = Workers::new(&spawn, count);
        workers
            .restart(Restart::Always)
            .max_restarts(u32::MAX)
            .backoff(Duration::from_millis(1), Duration::from_millis(1));
        let _supervisor = workers.start().unwrap();
        loop {
            std::thread::park();
        }
    })
}

fn ends_with_host(mut reader: File, reaper: &Reaper) {
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).unwrap();
    for name in reaper.adopted() {
        assert_eq!(name, "shoal-guardian\n", "a worker was left");
    }
}

#[test]
fn a_killed_supervisor_leaves_no_worker_and_no_descendant() {
    let _alone = alone();
    let reaper = Reaper::new();
    for signal in [libc::SIGKILL, libc::SIGTERM, libc::SIGABRT] {
        let (mut reader, writer) = pipe();
        let host = host(FAMILY, 3, &writer);
        std::mem::drop(writer);
        reader.read_exact(&mut [0; 3]).unwrap();
        host.signal(signal).unwrap();
        assert_eq!(join(&host), signaled(signal));
        ends_with_host(reader, &reaper);
    }
}

#[test]
fn a_supervisor_that_is_killed_at_any_time_leaves_nothing() {
    let _alone = alone();
    let reaper = Reaper::new();
    let mut random = common::Random(0x9e37_79b9);
    // While the guardian is made, workers are started, restarted, and end.
    for round in 0..100 {
        let (reader, writer) = pipe();
        let script = if round % 2 == 0 {
            FAMILY
        } else {
            "setsid sleep 600 & exit 1"
        };
        let host = host(script, 2, &writer);
        std::mem::drop(writer);
        std::thread::sleep(Duration::from_micros(random.below(12_000)));
        host.kill().unwrap();
        assert_eq!(join(&host), signaled(libc::SIGKILL));
        ends_with_host(reader, &reaper);
    }
}

#[test]
fn a_stopped_worker_ends_with_a_killed_supervisor() {
    let _alone = alone();
    let reaper = Reaper::new();
    let (mut reader, writer) = pipe();
    let host = host("echo >&7; kill -STOP $$", 2, &writer);
    std::mem::drop(writer);
    reader.read_exact(&mut [0; 2]).unwrap();
    host.kill().unwrap();
    join(&host);
    ends_with_host(reader, &reaper);
}

#[test]
fn workers_end_when_the_program_executes_another_one() {
    let _alone = alone();
    let reaper = Reaper::new();
    let (mut reader, writer) = pipe();
    let (mut hold, go) = pipe();
    let program = forked(&ForkOptions::default(), || {
        use std::os::unix::process::CommandExt;
        let mut spawn = sh(FAMILY);
        spawn.fd(writer.as_raw_fd(), 7);
        let _supervisor = Workers::new(&spawn, 2).start().unwrap();
        hold.read_exact(&mut [0]).unwrap();
        let err = std::process::Command::new("sleep").arg("600").exec();
        panic!("{err}");
    });
    std::mem::drop(writer);
    reader.read_exact(&mut [0; 2]).unwrap();
    (&go).write_all(&[0]).unwrap();
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).unwrap();
    // The program continues with its own process.
    assert_eq!(program.try_join(), Ok(None));
    program.kill().unwrap();
    join(&program);
    assert!(
        reaper
            .adopted()
            .iter()
            .all(|name| name == "shoal-guardian\n")
    );
}

#[test]
fn a_dead_programs_locks_and_pipes_are_free_before_its_workers_have_ended() {
    let _alone = alone();
    let reaper = Reaper::new();
    let name = common::Name::new("supervisor-lock");
    let lock = shoal::Lock::create(&name).unwrap();
    let (mut reader, writer) = pipe();
    let (mut own_reader, own_writer) = pipe();
    let host = forked(&ForkOptions::default(), || {
        let lock = shoal::Lock::open(&name).unwrap();
        let mut spawn = sh(FAMILY);
        spawn.fd(writer.as_raw_fd(), 7);
        let _supervisor = Workers::new(&spawn, 1).start().unwrap();
        let _guard = lock.lock(Timeout::Infinite).unwrap();
        (&own_writer).write_all(&[0]).unwrap();
        loop {
            std::thread::park();
        }
    });
    std::mem::drop((writer, own_writer));
    own_reader.read_exact(&mut [0]).unwrap();
    reader.read_exact(&mut [0]).unwrap();
    host.kill().unwrap();
    let guard = lock.lock(Timeout::Infinite).unwrap();
    assert!(guard.owner_died());
    std::mem::drop(guard);
    assert_eq!(own_reader.read(&mut [0]).unwrap(), 0);
    join(&host);
    ends_with_host(reader, &reaper);
}

/// The guardian of this process.
fn guardian() -> i32 {
    let own = std::process::id().to_string();
    let is_guardian = |pid: &i32| {
        let read = |what: &str| std::fs::read_to_string(format!("/proc/{pid}/{what}"));
        read("comm").is_ok_and(|comm| comm == "shoal-guardian\n")
            && read("stat").is_ok_and(|stat| {
                let (_, rest) = stat.rsplit_once(')').unwrap();
                rest.split_whitespace().nth(1) == Some(&own)
            })
    };
    let numbers = std::fs::read_dir("/proc").unwrap();
    let mut numbers = numbers.filter_map(|it| it.ok()?.file_name().to_str()?.parse().ok());
    numbers.find(is_guardian).expect("a guardian")
}

fn signal_guardian(signal: i32) {
    // SAFETY: integers; this process's own guardian.
    assert_eq!(unsafe { libc::kill(guardian(), signal) }, 0);
}

fn kill_guardian() {
    signal_guardian(libc::SIGKILL);
}

#[test]
fn workers_end_with_a_killed_guardian_and_are_restarted_under_another() {
    let _alone = alone();
    let (mut reader, writer) = pipe();
    let mut spawn = sh(&format!(
        "test $SHOAL_WORKER_RESTARTS = 1 && exit 0; {FAMILY}"
    ));
    spawn.fd(writer.as_raw_fd(), 7);
    let mut workers = Workers::new(&spawn, 3);
    workers.output(Output::Plain).restart(Restart::OnFailure);
    let supervisor = workers.start().unwrap();
    std::mem::drop(writer);
    reader.read_exact(&mut [0; 3]).unwrap();
    kill_guardian();
    assert_eq!(supervisor.wait(Timeout::Infinite), Ok(Outcome::Succeeded));
    for worker in supervisor.workers().unwrap() {
        assert_eq!((worker.state, worker.restarts), (WorkerState::Ended, 1));
    }
    let mut said = false;
    while let Some(event) = supervisor.next_event(Timeout::Infinite).unwrap() {
        said |= event.kind == EventKind::GuardianLost;
    }
    assert!(said);
    std::mem::drop(supervisor);
    assert_eq!(
        reader.read(&mut [0]).unwrap(),
        0,
        "nothing is left of the first run"
    );
}

#[test]
fn a_guardian_that_is_killed_at_any_time_leaves_no_worker() {
    let _alone = alone();
    let reaper = Reaper::new();
    let mut random = common::Random(0x517c_c1b7);
    let (mut reader, writer) = pipe();
    for _ in 0..15 {
        let mut spawn = sh("setsid sleep 600 & exit 1");
        spawn.fd(writer.as_raw_fd(), 7);
        let mut workers = Workers::new(&spawn, 3);
        workers
            .output(Output::Plain)
            .restart(Restart::Always)
            .max_restarts(u32::MAX)
            .backoff(Duration::from_millis(1), Duration::from_millis(1));
        let supervisor = workers.start().unwrap();
        std::thread::sleep(Duration::from_micros(random.below(6_000)));
        kill_guardian();
        std::thread::sleep(Duration::from_micros(random.below(6_000)));
        supervisor.stop(Timeout::Val(Duration::ZERO)).unwrap();
    }
    std::mem::drop(writer);
    assert_eq!(reader.read(&mut [0]).unwrap(), 0);
    reaper.adopted();
}

#[test]
fn a_guardian_that_is_killed_while_the_supervisor_stops_leaves_nothing_of_the_workers() {
    let _alone = alone();
    let reaper = Reaper::new();
    let (mut reader, writer) = pipe();
    // What the worker leaves has the writing end, and says when it runs.
    let mut spawn = sh("setsid sh -c 'echo >&7; exec sleep 600' & sleep 600");
    spawn.fd(writer.as_raw_fd(), 7);
    let mut workers = Workers::new(&spawn, 1);
    workers
        .output(Output::Plain)
        .restart(Restart::Always)
        .backoff(Duration::from_secs(600), Duration::from_secs(600));
    let supervisor = workers.start().unwrap();
    std::mem::drop(writer);
    reader.read_exact(&mut [0]).unwrap();
    supervisor.signal_worker(0, libc::SIGKILL).unwrap();
    loop {
        let worker = supervisor.workers().unwrap().remove(0);
        if worker.state == WorkerState::Restarting {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    // It does nothing any more, and the supervisor waits for its end.
    signal_guardian(libc::SIGSTOP);
    std::thread::scope(|scope| {
        let stopped = scope.spawn(|| supervisor.stop(Timeout::Val(Duration::ZERO)));
        std::thread::sleep(Duration::from_millis(20));
        kill_guardian();
        stopped.join().unwrap().unwrap();
    });
    assert_eq!(reader.read(&mut [0]).unwrap(), 0);
    reaper.adopted();
}

#[test]
fn a_supervisor_whose_guardian_is_stopped_stops_its_workers_and_ends() {
    let _alone = alone();
    let reaper = Reaper::new();
    let supervisor = Workers::new(&sh("sleep 600"), 2).start().unwrap();
    signal_guardian(libc::SIGSTOP);
    supervisor.stop(Timeout::Val(Duration::ZERO)).unwrap();
    std::mem::drop(supervisor);
    reaper.adopted();
}

/// Whether the next worker kills its guardian before it has asked for the guardian's death signal, and how often
/// that worker has counted since. It shares this process's memory.
static KILLS_GUARDIAN: AtomicBool = AtomicBool::new(false);
static COUNTED: AtomicU32 = AtomicU32::new(0);

/// In place of the C library's, which the library calls in a worker before its program runs.
#[unsafe(no_mangle)]
unsafe extern "C" fn prctl(option: i32, a: usize, b: usize, c: usize, d: usize) -> i32 {
    let asks = option == libc::PR_SET_PDEATHSIG && a == libc::SIGKILL as usize;
    // SAFETY: system calls on integers and on a place of this stack. The worker ends here, or goes on as usual.
    unsafe {
        if asks && KILLS_GUARDIAN.swap(false, Ordering::SeqCst) {
            let guardian = libc::syscall(libc::SYS_getppid);
            // Before the guardian ends: the host may kill this worker at once.
            COUNTED.fetch_add(1, Ordering::SeqCst);
            libc::syscall(libc::SYS_kill, guardian, libc::SIGKILL);
            let pause = libc::timespec {
                tv_sec: 0,
                tv_nsec: 1_000_000,
            };
            for _ in 0..3000 {
                COUNTED.fetch_add(1, Ordering::SeqCst);
                libc::syscall(libc::SYS_nanosleep, &pause, 0);
            }
        }
        libc::syscall(libc::SYS_prctl, option, a, b, c, d) as i32
    }
}

#[test]
fn a_worker_whose_guardian_is_killed_while_it_is_started_uses_no_memory_that_was_freed() {
    let _alone = alone();
    let reaper = Reaper::new();
    let host = forked(&ForkOptions::default(), || {
        KILLS_GUARDIAN.store(true, Ordering::SeqCst);
        let started = Workers::new(&sh("sleep 600"), 1).start();
        // It is no failure of the library.
        let refused = matches!(started, Err(Error::GuardianKilled));
        // From now on the memory on which the worker ran may be used for anything.
        let counted = COUNTED.load(Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(50));
        let rest = COUNTED.load(Ordering::SeqCst) - counted;
        i32::from(!refused || counted == 0 || rest != 0)
    });
    assert_eq!(join(&host), exited(0));
    reaper.adopted();
}
