//! How a test runs: alone, beside others, or in a process of its own; and a watchdog for all of them.

use std::any::type_name;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread;
use std::time::Duration;

/// Held by the tests that are running.
static TURN: RwLock<()> = RwLock::new(());

/// For a test that forks: no other test runs meanwhile.
///
/// A forked child is a participant of every object that its parent has open, so it would keep the objects of
/// other tests alive.
pub(crate) fn alone() -> RwLockWriteGuard<'static, ()> {
    watchdog();
    TURN.write().unwrap_or_else(PoisonError::into_inner)
}

/// For a test that neither forks nor changes what belongs to the whole process: others of this kind
/// run meanwhile.
pub(crate) fn beside_others() -> RwLockReadGuard<'static, ()> {
    watchdog();
    TURN.read().unwrap_or_else(PoisonError::into_inner)
}

/// Set in a process that runs one test.
const OWN: &str = "SHOAL_TEST_OWN_PROCESS";

/// For a test that needs a process in which no object was used: this program is run again, for the
/// calling test only. `test` has to be a closure that is written in the test itself.
pub(crate) fn own_process<Test: FnOnce()>(test: Test) {
    if std::env::var_os(OWN).is_some() {
        watchdog();
        return test();
    }
    let _alone = alone();
    let name = type_name::<Test>().strip_suffix("::{{closure}}");
    let mut again = this_program(name.expect("a closure"));
    let done = again.env(OWN, "1").stderr(Stdio::inherit()).output();
    let done = done.unwrap();
    let printed = String::from_utf8_lossy(&done.stdout);
    let passed = done.status.success() && printed.contains("1 passed");
    assert!(passed, "{}:\n{printed}", done.status);
}

/// This program again, for the test whose function this is.
pub(crate) fn only<Test: Fn()>(_: Test) -> Command {
    this_program(type_name::<Test>())
}

/// This program again, for one test. The path of its function begins with this crate's name.
fn this_program(path: &str) -> Command {
    let (_, name) = path.split_once("::").expect("a path");
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args(["--exact", name, "--nocapture"]);
    again
}

/// The children that are running, for the watchdog.
static CHILDREN: Mutex<Vec<libc::pid_t>> = Mutex::new(Vec::new());

pub(crate) fn children() -> MutexGuard<'static, Vec<libc::pid_t>> {
    CHILDREN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A test takes seconds. After this time it is considered to hang, even on a busy machine. The time of a soak is
/// added.
pub(crate) fn hangs_seconds() -> u32 {
    240 + soak_seconds().unwrap_or(0)
}

/// How long a soak runs.
pub(crate) fn soak_seconds() -> Option<u32> {
    let seconds = std::env::var("SHOAL_SOAK_SECONDS").ok()?;
    Some(seconds.parse().expect("SHOAL_SOAK_SECONDS in seconds"))
}

/// Ends the test program and its children if no test has begun for [`hangs_seconds`].
pub(crate) fn watchdog() {
    static ONCE: Once = Once::new();
    static BEGUN: AtomicU32 = AtomicU32::new(0);
    BEGUN.fetch_add(1, Ordering::Relaxed);
    ONCE.call_once(|| {
        thread::spawn(|| {
            let mut begun = 0;
            while begun != BEGUN.load(Ordering::Relaxed) {
                begun = BEGUN.load(Ordering::Relaxed);
                thread::sleep(Duration::from_secs(hangs_seconds().into()));
            }
            eprintln!("the watchdog ends a test that hangs");
            for &pid in children().iter() {
                // SAFETY: our own child, not yet waited for.
                unsafe { libc::kill(pid, libc::SIGKILL) };
            }
            std::process::abort();
        });
    });
}
