//! A `/dev/shm` of one's own, so small that it is soon full.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::AsRawFd;

use super::fork;

/// Runs `work` in a child that has a `/dev/shm` of its own of `size` bytes, with nothing in
/// it. Returns false where the system does not let us.
pub(crate) fn with_small_shm(size: u64, work: impl FnOnce()) -> bool {
    const REFUSED: i32 = 77;
    // SAFETY: reads this process's ids.
    let (user, group) = unsafe { (libc::geteuid(), libc::getegid()) };
    let mut child = fork(|| {
        let spaces = libc::CLONE_NEWNS | if user == 0 { 0 } else { libc::CLONE_NEWUSER };
        // SAFETY: plain system calls of the child's only thread.
        let refused = |rc: i32| (rc != 0).then(|| unsafe { libc::_exit(REFUSED) });
        // SAFETY: as above.
        refused(unsafe { libc::unshare(spaces) });
        if user != 0 {
            let write = |file: &str, text: String| {
                refused(i32::from(std::fs::write(file, text).is_err()));
            };
            write("/proc/self/setgroups", "deny".to_owned());
            write("/proc/self/uid_map", format!("{user} {user} 1"));
            write("/proc/self/gid_map", format!("{group} {group} 1"));
        }
        let options = CString::new(format!("size={size}")).unwrap();
        // SAFETY: strings that end in NUL. First nothing that is mounted here is to be seen
        // outside; then the mount itself.
        unsafe {
            let none = std::ptr::null::<libc::c_void>();
            let private = libc::MS_REC | libc::MS_PRIVATE;
            refused(libc::mount(
                none.cast(),
                c"/".as_ptr(),
                none.cast(),
                private,
                none,
            ));
            refused(libc::mount(
                c"shm".as_ptr(),
                c"/dev/shm".as_ptr(),
                c"tmpfs".as_ptr(),
                0,
                options.as_ptr().cast(),
            ));
        }
        assert_eq!(std::fs::read_dir("/dev/shm").unwrap().count(), 0);
        work();
        assert_eq!(std::fs::read_dir("/dev/shm").unwrap().count(), 0);
    });
    let status = child.wait();
    if libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == REFUSED {
        eprintln!("skipped: no mount namespaces here");
        return false;
    }
    assert_eq!(status, 0, "no signal, SIGBUS least of all");
    true
}

/// Bytes that are free in `/dev/shm`.
pub(crate) fn free() -> u64 {
    // SAFETY: an all-zero statvfs is valid and is overwritten; the path ends in NUL.
    unsafe {
        let mut stat: libc::statvfs = std::mem::zeroed();
        assert_eq!(libc::statvfs(c"/dev/shm".as_ptr(), &mut stat), 0);
        stat.f_bavail * stat.f_frsize
    }
}

/// A file that takes what others are not to have.
pub(crate) struct Filler(File);

impl Filler {
    const PATH: &str = "/dev/shm/filler";

    pub(crate) fn new() -> Self {
        Self(File::create_new(Self::PATH).unwrap())
    }

    /// Grows or shrinks until exactly `bytes` are free, which are whole pages.
    pub(crate) fn leave(&self, bytes: u64) {
        let len = self.0.metadata().unwrap().len() + free() - bytes;
        self.0.set_len(len).unwrap();
        if len > 0 {
            // SAFETY: an open file, which gets the memory that its length says.
            let rc = unsafe { libc::posix_fallocate(self.0.as_raw_fd(), 0, len as i64) };
            assert_eq!(rc, 0);
        }
        assert_eq!(free(), bytes);
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        std::fs::remove_file(Self::PATH).unwrap();
    }
}
