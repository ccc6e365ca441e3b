//! Handles: what a `shoal_queue *` points to, and how an invalid one is detected.
//!
//! ```text
//! offset  size  field   written by      invariant
//!      0     8  magic   new, free       H1: the type's magic while the handle lives, else FREED
//!      8    16  any     new             H2: points to `inner` exactly while H1 names a type
//!     24     …  inner   new, free       H3: initialised exactly while H1 names a type
//! ```
//!
//! The memory of a freed handle is never returned to the allocator, but reused for a later handle of its
//! type: so a stale pointer still points to a magic number, and reading that is defined. It is reused only
//! once [`KEPT`] later handles have been freed.

use std::collections::VecDeque;
use std::ffi::{CStr, CString, c_char, c_void};
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::args::{self, Out, checked};
use super::options;
use super::status::{c_string, guard, guard_shielded};
use crate::error::{Error, Result, Status, with_article};
use crate::segment::Object;
use crate::sync::{EndWaits, Waits};
use crate::sys::clock::now_ns;

const FREED: u64 = u64::from_ne_bytes(*b"shl.free");

/// How many freed handles there must be before the memory of the oldest is reused.
const KEPT: usize = 64;

/// How long [`free`] waits at most for the threads that wait through the handle.
const LEAVING_NS: u64 = 1_000_000_000;

/// The types of handles: the magic that a handle begins with, and its name in error texts.
const TYPES: [(&[u8; 8], &str); 15] = [
    (b"shl.queu", "queue handle"),
    (b"shl.pipe", "pipe handle"),
    (b"shl.map.", "map handle"),
    (b"shl.iter", "map iterator handle"),
    (b"shl.list", "list handle"),
    (b"shl.arry", "array handle"),
    (b"shl.lock", "lock handle"),
    (b"shl.rwlk", "read-write lock handle"),
    (b"shl.sema", "semaphore handle"),
    (b"shl.evnt", "event handle"),
    (b"shl.cond", "condition handle"),
    (b"shl.barr", "barrier handle"),
    (b"shl.proc", "process handle"),
    (b"shl.leas", "lease handle"),
    (b"shl.supv", "supervisor handle"),
];

/// The name of the type that has this magic.
pub(super) const fn type_name(magic: u64) -> Option<&'static str> {
    let mut at = 0;
    while at < TYPES.len() {
        if u64::from_ne_bytes(*TYPES[at].0) == magic {
            return Some(TYPES[at].1);
        }
        at += 1;
    }
    None
}

/// A C type: an empty tag for the header, and the Rust type behind its handles.
pub(super) trait Opaque: Sized + 'static {
    /// The Rust type behind the handle.
    type Inner: Inner + 'static;
    /// The magic of its handles.
    const MAGIC: u64;
    /// Its name in error texts.
    const WHAT: &'static str;

    /// The memory of freed handles.
    fn freed() -> &'static Freed;
}

/// The Rust value behind a handle of any type.
pub(super) trait Inner: EndWaits {
    /// The name of the shared object, if it is one.
    fn name(&self) -> Option<&CStr> {
        None
    }
}

/// The memory of freed handles, oldest first.
pub(super) struct Freed(Mutex<VecDeque<Place>>);

/// The address of a [`Body`] that holds nothing.
struct Place(NonNull<u8>);

// SAFETY: a place has one owner, the list or the thread that took it from the list, and nothing in it is
// bound to a thread.
unsafe impl Send for Place {}

impl Freed {
    pub(super) const fn new() -> Self {
        Self(Mutex::new(VecDeque::new()))
    }
}

#[repr(C)]
struct Body<T> {
    magic: AtomicU64,
    any: Option<NonNull<dyn Inner>>,
    inner: MaybeUninit<T>,
}

const _: () = {
    assert!(std::mem::offset_of!(Body<u64>, magic) == 0);
    assert!(std::mem::offset_of!(Body<u64>, any) == 8);
    assert!(std::mem::offset_of!(Body<u64>, inner) == 24);
};

/// A `shoal_kind`, which a C program may have set to any number. It is declared here and not in `general.rs`,
/// from which the header is made: the header declares only the enum.
pub type RawKind = u32;

/// A shared object with its name as a C string.
pub(super) struct Named<T> {
    object: T,
    name: CString,
}

impl<T: Object> Named<T> {
    pub(super) fn new(object: T) -> Self {
        let name = c_string(object.segment().name().to_owned());
        Self { object, name }
    }
}

impl<T: EndWaits> EndWaits for Named<T> {
    fn end_waits(&self) {
        self.object.end_waits();
    }

    fn each_waits(&self, see: &mut dyn FnMut(&Waits)) {
        self.object.each_waits(see);
    }
}

impl<T: EndWaits> Inner for Named<T> {
    fn name(&self) -> Option<&CStr> {
        Some(&self.name)
    }
}

/// Declares the Rust type behind a handle; `named $object` for the handle of a shared object.
macro_rules! opaque {
    ($tag:ty, named $object:ty, $magic:literal) => {
        $crate::ffi::handle::opaque!($tag, $crate::ffi::handle::Named<$object>, $magic);
    };
    ($tag:ty, $inner:ty, $magic:literal) => {
        impl $crate::ffi::handle::Opaque for $tag {
            type Inner = $inner;
            const MAGIC: u64 = u64::from_ne_bytes(*$magic);
            const WHAT: &'static str = $crate::ffi::handle::type_name(Self::MAGIC).unwrap();

            fn freed() -> &'static $crate::ffi::handle::Freed {
                static FREED: $crate::ffi::handle::Freed = $crate::ffi::handle::Freed::new();
                &FREED
            }
        }
    };
}
pub(super) use opaque;

/// A new handle, to be freed by [`free`].
pub(super) fn new<H: Opaque>(inner: H::Inner) -> *mut H {
    // try_lock: in a forked child, a thread of the parent may have held the mutex at the fork.
    let reused = H::freed().0.try_lock().ok().and_then(|mut places| {
        let enough = places.len() > KEPT;
        if enough { places.pop_front() } else { None }
    });
    let body: NonNull<Body<H::Inner>> = match reused {
        Some(Place(place)) => place.cast(),
        None => NonNull::from(Box::leak(Box::new(Body {
            magic: AtomicU64::new(FREED),
            any: None,
            inner: MaybeUninit::uninit(),
        }))),
    };
    inner.count_waits();
    // SAFETY: memory of this type that holds nothing and that no other thread has (H3). It stays where it is,
    // and so does what `any` points to (H2).
    unsafe {
        let body = body.as_ptr();
        (*body).inner.write(inner);
        let inner: *mut H::Inner = (&raw mut (*body).inner).cast();
        (*body).any = Some(NonNull::new_unchecked(inner));
    }
    // SAFETY: as above; SYNC: publish(handle)
    unsafe { body.as_ref() }
        .magic
        .store(H::MAGIC, Ordering::Release);
    body.as_ptr().cast()
}

/// Checks a pointer that C calls a handle.
#[inline]
fn body<H: Opaque>(handle: *const H) -> Result<NonNull<Body<H::Inner>>> {
    // Handles of other kinds need not be aligned as those of this kind are.
    let magic = handle.cast::<AtomicU64>();
    checked(H::WHAT, magic)?;
    // SAFETY: aligned and not NULL; that it is mapped is the caller's contract. SYNC: find(handle), by H1.
    let magic = unsafe { (*magic).load(Ordering::Acquire) };
    if magic != H::MAGIC {
        return Err(Error::invalid(H::WHAT, why_not(magic)));
    }
    // SAFETY: not NULL; and aligned, since only `new` makes such a magic.
    Ok(unsafe { NonNull::new_unchecked(handle.cast_mut().cast()) })
}

#[cold]
fn why_not(magic: u64) -> String {
    match type_name(magic) {
        Some(what) => format!("it is {}", with_article(what)),
        None if magic == FREED => "it was freed".to_owned(),
        None => "it is no handle of this library".to_owned(),
    }
}

/// The Rust value behind a handle of any type.
///
/// # Safety
/// As [`get`].
unsafe fn any<'a>(handle: *const c_void) -> Result<&'a dyn Inner> {
    let magic = handle.cast::<AtomicU64>();
    checked("handle", magic)?;
    // SAFETY: aligned and not NULL; that it is mapped is the caller's contract. SYNC: find(handle), by H1.
    let magic = unsafe { (*magic).load(Ordering::Acquire) };
    // SAFETY: with such a magic it is a `Body`, whose first fields have the same offsets for every type.
    let inner = type_name(magic).and_then(|_| unsafe { (*handle.cast::<Body<()>>()).any });
    // SAFETY: H2, H3, and the caller's contract.
    let inner = inner.map(|inner| unsafe { inner.as_ref() });
    inner.ok_or_else(|| Error::invalid("handle", why_not(magic)))
}

/// Ends the waits through a handle of any type.
///
/// # Safety
/// As [`get`].
pub(super) unsafe fn end_waits(handle: *const c_void) -> Result<()> {
    // SAFETY: the same contract.
    unsafe { any(handle) }.map(EndWaits::end_waits)
}

/// The name of the object behind a handle of any type, which is valid as long as the handle.
///
/// # Safety
/// As [`get`].
pub(super) unsafe fn name(handle: *const c_void) -> Result<*const c_char> {
    // SAFETY: the same contract.
    let name = unsafe { any(handle) }?.name();
    name.map(CStr::as_ptr)
        .ok_or_else(|| Error::invalid("handle", "it has no name"))
}

/// A handle on a shared object, for C: NULL in `out` if there is none.
///
/// # Safety
/// `name` as [`args::text_or_null`] wants it, `out` and `created` as [`Out`].
pub(super) unsafe fn open<T: Object, H: Opaque<Inner = Named<T>>>(
    name: *const c_char,
    out: *mut *mut H,
    created: *mut bool,
    open: impl FnOnce(Option<&str>) -> Result<T>,
) -> Status {
    guard_shielded(|| {
        // SAFETY: the caller's contract.
        let out = unsafe { Out::preset("out", out, std::ptr::null_mut()) }?;
        // SAFETY: the caller's contract.
        let created = unsafe { Out::optional("created", created) }?;
        // SAFETY: the caller's contract.
        let object = open(unsafe { args::text_or_null("name", name) }?)?;
        created.set(object.segment().created());
        out.set(new(Named::new(object)));
        Ok(())
    })
}

/// Runs `call` on the object behind a handle.
///
/// # Safety
/// As [`get`].
#[inline]
pub(super) unsafe fn with<T: Object + 'static, H: Opaque<Inner = Named<T>>>(
    handle: *const H,
    call: impl FnOnce(&T) -> Result<()>,
) -> Status {
    // SAFETY: the same contract.
    guard(|| unsafe { object(handle) }.and_then(call))
}

/// Writes statistics of the object behind a handle.
///
/// # Safety
/// As [`get`] and [`options::write`].
pub(super) unsafe fn stat<T: Object + 'static, H: Opaque<Inner = Named<T>>, S: options::Sized>(
    handle: *const H,
    out: *mut S,
    make: impl FnOnce(&T) -> Result<S>,
) -> Status {
    // SAFETY: the same contract.
    guard(|| unsafe {
        let object = object(handle)?;
        options::write(out, || make(object))
    })
}

/// The shared object behind a handle.
///
/// # Safety
/// As [`get`].
#[inline]
pub(super) unsafe fn object<'a, T: Object + 'static, H: Opaque<Inner = Named<T>>>(
    handle: *const H,
) -> Result<&'a T> {
    // SAFETY: the same contract.
    unsafe { get(handle) }.map(|named| &named.object)
}

/// The Rust value behind a handle.
///
/// # Safety
/// `handle` is NULL, or points to mapped memory, and is not freed while the result is used.
#[inline]
pub(super) unsafe fn get<'a, H: Opaque>(handle: *const H) -> Result<&'a H::Inner> {
    // SAFETY: H3 for a magic that was checked, and the caller's contract.
    body(handle).map(|body| unsafe { (*body.as_ptr()).inner.assume_init_ref() })
}

/// [`get`] for handles that serve one thread at a time.
///
/// # Safety
/// As [`get`], and no other thread uses the handle meanwhile.
pub(super) unsafe fn get_mut<'a, H: Opaque>(handle: *mut H) -> Result<&'a mut H::Inner> {
    // SAFETY: H3 for a magic that was checked, and the caller's contract.
    body(handle).map(|body| unsafe { (*body.as_ptr()).inner.assume_init_mut() })
}

/// Ends the waits through the handle, and waits until the threads in them have left. Returns false if a
/// thread does not leave because something else blocks it: then the handle must not be dropped.
fn wait_until_left(inner: &impl EndWaits) -> bool {
    inner.end_waits();
    let until_ns = now_ns() + LEAVING_NS;
    while inner.is_waited_in() {
        if now_ns() >= until_ns {
            return false;
        }
        std::thread::sleep(Duration::from_micros(100));
        // A thread may have been between its last check and its sleep.
        inner.end_waits();
    }
    true
}

/// Drops the value behind a handle, once the threads that wait through it have left. NULL is allowed.
///
/// # Safety
/// `handle` is NULL, or points to mapped memory, and no thread uses it from now on, except those that
/// sleep in a call.
pub(super) unsafe fn free<H: Opaque>(handle: *mut H) {
    // SAFETY: the same contract.
    guard_shielded(|| unsafe { empty(handle) });
}

/// # Safety
/// As [`free`].
unsafe fn empty<H: Opaque>(handle: *mut H) -> Result<()> {
    if handle.is_null() {
        return Ok(());
    }
    let body = body(handle)?;
    // SAFETY: the place of a handle is never unmapped.
    let magic = unsafe { &(*body.as_ptr()).magic };
    let exchanged = magic.compare_exchange(H::MAGIC, FREED, Ordering::AcqRel, Ordering::Acquire);
    exchanged.map_err(|magic| Error::invalid(H::WHAT, why_not(magic)))?;
    // SAFETY: H3, and only one caller wins the exchange above.
    if !wait_until_left(unsafe { (*body.as_ptr()).inner.assume_init_ref() }) {
        return Ok(());
    }
    // SAFETY: as above.
    unsafe { (*body.as_ptr()).inner.assume_init_drop() };
    if let Ok(mut places) = H::freed().0.try_lock() {
        places.push_back(Place(body.cast()));
    }
    Ok(())
}
