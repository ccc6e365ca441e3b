//! Loading of optional libraries (`dlopen`).

use std::ffi::{CStr, CString, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A loaded library. It is never unloaded: it may have started threads.
#[derive(Clone, Copy)]
pub(crate) struct Library(*mut c_void);

// SAFETY: the handle is an address that the loader's functions take from any thread.
unsafe impl Send for Library {}

impl Library {
    /// The program with all libraries that it was started with.
    pub(crate) fn program() -> Self {
        Self(libc::RTLD_DEFAULT)
    }

    /// Loads it, which runs its constructors. The error is the loader's message.
    ///
    /// # Safety
    /// The file is a library whose constructors may run in this process.
    pub(crate) unsafe fn open(path: &Path) -> Result<Self, String> {
        let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| "its path has a NUL")?;
        // SAFETY: a path that ends in NUL, and the caller's contract.
        let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        if handle.is_null() {
            return Err(last_error());
        }
        Ok(Self(handle))
    }

    /// The function of this name.
    ///
    /// # Safety
    /// `F` is a function pointer of the type that the function has.
    pub(crate) unsafe fn function<F: Copy>(self, name: &CStr) -> Option<F> {
        const { assert!(size_of::<F>() == size_of::<*mut c_void>()) };
        // SAFETY: a handle of `dlopen` or the program, and a name that ends in NUL.
        let found = unsafe { libc::dlsym(self.0, name.as_ptr()) };
        // SAFETY: not null, and the caller's contract.
        (!found.is_null()).then(|| unsafe { std::mem::transmute_copy(&found) })
    }
}

fn last_error() -> String {
    // SAFETY: it returns null, or a string that is valid until this thread's next call of the loader.
    let text = unsafe { libc::dlerror() };
    if text.is_null() {
        return "the loader gives no reason".to_owned();
    }
    // SAFETY: as above.
    unsafe { CStr::from_ptr(text) }
        .to_string_lossy()
        .into_owned()
}
