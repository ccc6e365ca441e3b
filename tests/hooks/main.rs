//! What needs a hook in every fork, or at exit, is refused without it. The C library's two
//! functions that register hooks are replaced here, so that they fail as they do without
//! memory.

#[path = "../common/mod.rs"]
mod common;

use std::ffi::c_void;
use std::sync::atomic::{AtomicU32, Ordering};

use common::{Bell, Name, alone, fork};
use shoal::{Error, Options, Queue, Spawn, Stdio, Timeout};

/// How many of the next registrations fail.
static FORKS_FAIL: AtomicU32 = AtomicU32::new(0);
static EXITS_FAIL: AtomicU32 = AtomicU32::new(0);

type Handler = Option<unsafe extern "C" fn()>;

unsafe extern "C" {
    fn __register_atfork(before: Handler, parent: Handler, child: Handler, dso: *mut c_void)
    -> i32;
    fn __cxa_atexit(
        handler: unsafe extern "C" fn(*mut c_void),
        arg: *mut c_void,
        dso: *mut c_void,
    ) -> i32;
}

fn fails(count: &AtomicU32) -> bool {
    let less = |left: u32| left.checked_sub(1);
    count
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
        .is_ok()
}

/// In place of the C library's.
#[unsafe(no_mangle)]
extern "C" fn pthread_atfork(before: Handler, parent: Handler, child: Handler) -> i32 {
    if fails(&FORKS_FAIL) {
        return libc::ENOMEM;
    }
    // SAFETY: as the C library calls it; this program is never unloaded.
    unsafe { __register_atfork(before, parent, child, std::ptr::null_mut()) }
}

/// In place of the C library's.
#[unsafe(no_mangle)]
extern "C" fn atexit(handler: extern "C" fn()) -> i32 {
    if fails(&EXITS_FAIL) {
        return -1;
    }
    // SAFETY: a handler that takes no argument ignores the one it is given.
    unsafe {
        let handler: unsafe extern "C" fn(*mut c_void) = std::mem::transmute(handler);
        __cxa_atexit(handler, std::ptr::null_mut(), std::ptr::null_mut())
    }
}

fn refused<T: std::fmt::Debug>(result: Result<T, Error>, by: &str) {
    match result {
        Err(Error::Os { call, errno }) => assert_eq!((call, errno), (by, libc::ENOMEM)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn without_its_hooks_nothing_is_opened_and_the_next_call_tries_again() {
    let _alone = alone();
    let name = Name::new("hooks");
    let open = || Queue::with_options(Some(&name), &Options::create());

    FORKS_FAIL.store(2, Ordering::Relaxed);
    for _ in 0..2 {
        refused(open().map(drop), "pthread_atfork");
        assert!(!name.has_file());
    }
    EXITS_FAIL.store(2, Ordering::Relaxed);
    for _ in 0..2 {
        refused(open().map(drop), "atexit");
        assert!(!name.has_file());
    }
    let queue = open().unwrap();

    // The hooks are registered exactly once: a forked child is a separate participant.
    let (ready, go) = (Bell::new(), Bell::new());
    let child = fork(|| {
        ready.ring();
        go.hear();
    });
    ready.hear();
    assert_eq!(shoal::stat(&name).unwrap().participants.len(), 2);
    go.ring();
    child.ends_well();
    drop(queue);

    // A child with pipes needs one as well.
    let mut spawn = Spawn::new("echo");
    spawn.stdout(Stdio::Pipe);
    FORKS_FAIL.store(2, Ordering::Relaxed);
    for _ in 0..2 {
        refused(spawn.spawn().map(drop), "pthread_atfork");
    }
    assert!(
        spawn
            .spawn()
            .unwrap()
            .join(Timeout::Infinite)
            .unwrap()
            .success()
    );
}
