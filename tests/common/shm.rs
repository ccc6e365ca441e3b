//! A private, small `/dev/shm`, and other mounts.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;

use super::fork;

/// Runs `work` in a child that has an empty `/dev/shm` of its own with `size` bytes. Returns false if the system
/// does not permit that.
pub(crate) fn with_small_shm(size: u64, work: impl FnOnce()) -> bool {
    with_mount("/dev/shm", "tmpfs", 0, &format!("size={size}"), || {
        assert_eq!(std::fs::read_dir("/dev/shm").unwrap().count(), 0);
        work();
        assert_eq!(std::fs::read_dir("/dev/shm").unwrap().count(), 0);
    })
}

/// Runs `work` in a child that sees a new file system of this kind at `place`. Returns false, with a message, if
/// the system does not permit that.
pub(crate) fn with_mount(
    place: &str,
    kind: &str,
    flags: libc::c_ulong,
    options: &str,
    work: impl FnOnce(),
) -> bool {
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
        let [place, kind, options] = [place, kind, options].map(|it| CString::new(it).unwrap());
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
                kind.as_ptr(),
                place.as_ptr(),
                kind.as_ptr(),
                flags,
                options.as_ptr().cast(),
            ));
        }
        work();
    });
    let status = child.wait();
    if libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == REFUSED {
        eprintln!("skipped: no {kind} can be mounted at {place} here");
        return false;
    }
    assert_eq!(status, 0, "no signal, SIGBUS least of all");
    true
}

/// Runs `work` in a child whose objects are in a new directory on `/dev/shm`, which has to be empty
/// in the end. The child is one that has used no object yet, if this process has not either.
pub(crate) fn in_directory(what: &str, work: impl FnOnce(&Path)) {
    let directory = format!("/dev/shm/test-{what}-{}", std::process::id());
    std::fs::create_dir(&directory).unwrap();
    let mut child = fork(|| {
        // SAFETY: the child's only thread.
        unsafe { std::env::set_var("SHOAL_DIR", &directory) };
        work(Path::new(&directory));
    });
    let status = child.wait();
    let left: Vec<_> = std::fs::read_dir(&directory).unwrap().flatten().collect();
    std::fs::remove_dir_all(&directory).unwrap();
    assert_eq!(status, 0);
    assert!(left.is_empty(), "{left:?} stayed behind");
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

/// A file that occupies memory, so that a test can determine how much is free.
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

/// Lets this process have descriptors below this number.
pub(crate) fn allow_descriptors(most: u64) {
    // SAFETY: a valid place for a limit, and a valid limit.
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit), 0);
        limit.rlim_cur = most;
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &limit), 0);
    }
}

/// How many it has.
pub(crate) fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}
