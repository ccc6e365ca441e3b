//! Control groups.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A control group of our own; removed when dropped, once its processes have ended.
pub(crate) struct Group(PathBuf);

impl Group {
    /// A group in which `file`, of either version of `controller`, holds `value`. None where there is
    /// no such thing, or groups cannot be made.
    pub(crate) fn new(controller: &str, file: &str, value: &str) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("shoal-test-{}-{count}", std::process::id());
        let top = Path::new("/sys/fs/cgroup");
        for root in [top.to_owned(), top.join(controller)] {
            // Where the other version is in use, one of them is a plain directory.
            if !root.join("cgroup.procs").exists() {
                continue;
            }
            let group = Self(root.join(&name));
            if fs::create_dir(&group.0).is_ok()
                && group.0.join(file).exists()
                && fs::write(group.0.join(file), value).is_ok()
            {
                return Some(group);
            }
        }
        None
    }

    pub(crate) fn enter(&self) {
        let pid = std::process::id().to_string();
        fs::write(self.0.join("cgroup.procs"), pid).unwrap();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}
