//! Children that die at a crash point.

use shoal::crash;

use super::{Child, fork};

/// Runs `work` in a child that dies at crash point `step`.
pub(crate) fn killed_at(step: u64, work: impl FnOnce()) -> Child {
    fork(|| {
        crash::arm(step);
        work();
        crash::disarm();
    })
}

/// Waits for its end. Returns whether it completed its work.
pub(crate) fn lived(child: &mut Child) -> bool {
    let status = child.wait();
    if libc::WIFSIGNALED(status) {
        assert_eq!(libc::WTERMSIG(status), libc::SIGKILL);
        return false;
    }
    assert_eq!(status, 0);
    true
}

/// Runs `work` in a child that dies at crash point `step`. Returns whether it completed its work.
pub(crate) fn lives(step: u64, work: impl FnOnce()) -> bool {
    lived(&mut killed_at(step, work))
}
