//! The functions of the library, found by their names.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::OnceLock;

/// `SHOAL_OK`.
pub(crate) const OK: c_int = 0;

/// `SHOAL_ERR_INVALID`.
pub(crate) const INVALID: c_int = 1;

/// `SHOAL_ERR_NOT_FOUND`.
pub(crate) const NOT_FOUND: c_int = 2;

/// `SHOAL_ERR_TIMEOUT`.
pub(crate) const TIMEOUT: c_int = 8;

/// `SHOAL_ERR_INTERRUPTED`.
pub(crate) const INTERRUPTED: c_int = 11;

/// The status of a call that was not made. The library never returns it.
pub(crate) const NOT_CALLED: c_int = c_int::MIN;

/// `SHOAL_FOREVER`.
pub(crate) const FOREVER: i64 = -1;

/// `SHOAL_NOWAIT`.
pub(crate) const NOWAIT: i64 = 0;

/// The longest wait of a call here, in nanoseconds. Then Python runs its signal handlers, as after its own first
/// slice (`_wait.SLICE_NS`).
pub(crate) const SLICE: i64 = 50_000_000;

/// `shoal_slice`: bytes that belong to the caller.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Slice {
    pub(crate) data: *const u8,
    pub(crate) len: usize,
}

/// `shoal_message`: a leased message in shared memory.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Message {
    /// Null once it is acked.
    pub(crate) data: *mut c_void,
    pub(crate) len: usize,
    pub(crate) attempts: u32,
    pub(crate) block: u32,
    pub(crate) number: u64,
    pub(crate) owner: u64,
}

macro_rules! functions {
    ($($(#[$doc:meta])* $name:ident($($kind:ty),*);)*) => {
        /// The functions, with their types in the headers.
        pub(crate) struct Native {
            $($(#[$doc])* pub(crate) $name: unsafe extern "C" fn($($kind),*) -> c_int,)*
        }

        impl Native {
            /// # Safety
            /// `library` is a handle of the library whose headers say the same as this list.
            unsafe fn find(library: *mut c_void) -> Result<Self, String> {
                Ok(Self {
                    // SAFETY: the function has this type by the caller's contract.
                    $($name: unsafe {
                        std::mem::transmute::<*mut c_void, unsafe extern "C" fn($($kind),*) -> c_int>(
                            symbol(library, concat!("shoal_", stringify!($name), "\0"))?,
                        )
                    },)*
                })
            }
        }
    };
}

functions! {
    queue_try_put(*mut c_void, *const u8, usize);
    queue_try_get(*mut c_void, *mut u8, usize, *mut usize);
    queue_put(*mut c_void, *const u8, usize, i64);
    queue_get(*mut c_void, i64, *mut u8, usize, *mut usize);
    queue_put_many(*mut c_void, *const Slice, usize, i64, *mut usize);
    queue_get_many(*mut c_void, i64, *mut u8, usize, *mut usize, usize, *mut usize);
    queue_lease(*mut c_void, i64, i64, *mut Message);
    queue_ack(*mut c_void, *mut Message);
    queue_len(*mut c_void, *mut u64);
    queue_fd(*mut c_void, *mut c_int);
    pipe_send(*mut c_void, *const u8, usize, i64);
    pipe_recv(*mut c_void, i64, *mut u8, usize, *mut usize);
    pipe_poll(*mut c_void, i64, *mut bool);
    pipe_fd(*mut c_void, *mut c_int);
    lock_try(*mut c_void, *mut bool);
    lock_unlock_any(*mut c_void);
    lock_depth(*mut c_void, *mut u32);
    semaphore_try_acquire(*mut c_void);
    semaphore_try_release(*mut c_void, u32);
    semaphore_try_value(*mut c_void, *mut u64);
    array_lock(*mut c_void, i64, *mut bool);
    array_unlock(*mut c_void);
    map_get(*mut c_void, *const u8, usize, *mut u8, usize, *mut usize, *mut u64);
    map_set(*mut c_void, *const u8, usize, *const u8, usize);
    map_remove(*mut c_void, *const u8, usize);
    map_contains(*mut c_void, *const u8, usize, *mut bool);
    map_add(*mut c_void, *const u8, usize, i64, *mut i64);
    list_get(*mut c_void, i64, *mut u8, usize, *mut usize);
    list_append(*mut c_void, *const u8, usize);
    list_pop(*mut c_void, i64, *mut u8, usize, *mut usize);
    event_set(*mut c_void);
    event_clear(*mut c_void);
    event_is_set(*mut c_void, *mut bool);
}

static NATIVE: OnceLock<Native> = OnceLock::new();
static PATH: OnceLock<Vec<u8>> = OnceLock::new();

/// The functions, once [`load`] has found them.
pub(crate) fn native() -> Option<&'static Native> {
    NATIVE.get()
}

/// Finds the functions in the library at `path`. A second call must name the same library.
pub(crate) fn load(path: &CStr) -> Result<(), String> {
    if PATH.get_or_init(|| path.to_bytes().to_vec()) != path.to_bytes() {
        return Err("the compiled part of shoal is in use with another native library".to_owned());
    }
    if NATIVE.get().is_some() {
        return Ok(());
    }
    // `RTLD_NOLOAD` finds only a library that is loaded already. It is never unloaded, nor is this module.
    let flags = libc::RTLD_NOW | libc::RTLD_NOLOAD;
    // SAFETY: `path` ends with NUL, and the initialisers of the library have run.
    let library = unsafe { libc::dlopen(path.as_ptr(), flags) };
    if library.is_null() {
        return Err(format!("the native library {path:?} is not loaded"));
    }
    // SAFETY: the package has checked that the version of the library is that of the headers.
    let found = unsafe { Native::find(library) }?;
    let _ = NATIVE.set(found);
    Ok(())
}

/// # Safety
/// `library` comes from `dlopen`.
unsafe fn symbol(library: *mut c_void, name: &'static str) -> Result<*mut c_void, String> {
    // SAFETY: the caller's contract; the name ends with NUL.
    let found = unsafe { libc::dlsym(library, name.as_ptr().cast::<c_char>()) };
    if found.is_null() {
        let name = name.trim_end_matches('\0');
        return Err(format!("the native library has no function {name}"));
    }
    Ok(found)
}
