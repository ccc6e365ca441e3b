//! Handles: what a `shoal_queue *` points to, and how a wrong one is told.
//!
//! ```text
//! offset  size  field   written by      invariant
//!      0     8  magic   new, free       H1: the kind's magic while the handle lives, else FREED
//!      8     …  inner   new, free       H2: initialised exactly while H1 names a kind
//! ```
//!
//! The place of a freed handle is kept and used again for a later one, never given back to
//! the allocator: so a stale pointer still points to a magic number, and reading it is
//! defined. It is used again only once [`KEPT`] later handles have been freed.

use std::collections::VecDeque;
use std::ffi::{CString, c_char, c_void};
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::args::{self, Out, checked};
use super::options;
use super::status::{c_string, guard, guard_shielded};
use crate::array::Array;
use crate::error::{Error, Result, Status};
use crate::list::List;
use crate::map::Map;
use crate::pipe::Pipe;
use crate::primitives::{Barrier, Condition, Event, Lock, RwLock, Semaphore};
use crate::queue::Queue;
use crate::sync::EndWaits;
use crate::sys::clock::now_ns;

const FREED: u64 = u64::from_ne_bytes(*b"shl.free");

/// How many freed places are kept from being used again.
const KEPT: usize = 64;

/// How long a handle that is freed waits for threads to leave it.
const LEAVING_NS: u64 = 1_000_000_000;

/// A C type: an empty tag for the header, and what its handles really are.
pub(super) trait Opaque: Sized + 'static {
    /// What is inside.
    type Inner: EndWaits + 'static;
    /// The magic of its handles.
    const MAGIC: u64;
    /// Its name in error messages.
    const WHAT: &'static str;
    /// The name of the shared object, if it is one.
    const NAME: fn(&Self::Inner) -> Option<&CString>;

    /// The places of freed handles.
    fn freed() -> &'static Freed;
}

/// Places to use again, oldest first.
pub(super) struct Freed(Mutex<VecDeque<Place>>);

/// The address of a [`Body`] that holds nothing.
struct Place(NonNull<u8>);

// SAFETY: a place belongs to whoever took it from the list; it has no ties to a thread.
unsafe impl Send for Place {}

impl Freed {
    pub(super) const fn new() -> Self {
        Self(Mutex::new(VecDeque::new()))
    }
}

#[repr(C)]
struct Body<T> {
    magic: AtomicU64,
    inner: MaybeUninit<T>,
}

const _: () = assert!(std::mem::offset_of!(Body<u64>, magic) == 0);

/// A `shoal_kind`, which a C program may have set to any number.
pub type RawKind = u32;

/// What the handle of a shared object needs of the object.
pub(super) trait Object: EndWaits {
    fn name(&self) -> &str;

    /// Whether this handle created it.
    fn is_new(&self) -> bool;
}

macro_rules! objects {
    ($($object:ty),*) => {$(
        impl Object for $object {
            fn name(&self) -> &str {
                <$object>::name(self)
            }

            fn is_new(&self) -> bool {
                <$object>::is_new(self)
            }
        }
    )*};
}

objects!(
    Queue, Pipe, Map, List, Array, Lock, RwLock, Semaphore, Event, Condition, Barrier
);

impl<T: Object> Object for Arc<T> {
    fn name(&self) -> &str {
        T::name(self)
    }

    fn is_new(&self) -> bool {
        T::is_new(self)
    }
}

/// A shared object with its name as C wants it.
pub(super) struct Named<T> {
    object: T,
    name: CString,
}

impl<T: Object> Named<T> {
    pub(super) fn new(object: T) -> Self {
        let name = c_string(object.name().to_owned());
        Self { object, name }
    }
}

impl<T> Named<T> {
    pub(super) fn name(&self) -> &CString {
        &self.name
    }
}

impl<T: EndWaits> EndWaits for Named<T> {
    fn end_waits(&self) {
        self.object.end_waits();
    }

    fn is_waited_in(&self) -> bool {
        self.object.is_waited_in()
    }
}

/// Declares what is behind a handle; `named $object` for that of a shared object.
macro_rules! opaque {
    ($tag:ty, named $object:ty, $magic:literal, $what:literal) => {
        $crate::ffi::handle::opaque!(
            $tag,
            $crate::ffi::handle::Named<$object>,
            $magic,
            $what,
            |it| Some(it.name())
        );
    };
    ($tag:ty, $inner:ty, $magic:literal, $what:literal) => {
        $crate::ffi::handle::opaque!($tag, $inner, $magic, $what, |_| None);
    };
    ($tag:ty, $inner:ty, $magic:literal, $what:literal, $name:expr) => {
        impl $crate::ffi::handle::Opaque for $tag {
            type Inner = $inner;
            const MAGIC: u64 = u64::from_ne_bytes(*$magic);
            const WHAT: &'static str = $what;
            const NAME: fn(&Self::Inner) -> Option<&std::ffi::CString> = $name;

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
    // try_lock: in a forked child a thread that is not there may hold the mutex for ever.
    let reused = H::freed().0.try_lock().ok().and_then(|mut places| {
        let enough = places.len() > KEPT;
        if enough { places.pop_front() } else { None }
    });
    let body: NonNull<Body<H::Inner>> = match reused {
        Some(Place(place)) => place.cast(),
        None => NonNull::from(Box::leak(Box::new(Body {
            magic: AtomicU64::new(FREED),
            inner: MaybeUninit::uninit(),
        }))),
    };
    // SAFETY: a place of this type that holds nothing and that nobody else has (H2).
    unsafe { (*body.as_ptr()).inner.write(inner) };
    // SAFETY: as above; SYNC: born(handle)
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
    // SAFETY: aligned and not NULL; that it is mapped is the caller's contract. SYNC: H1.
    let magic = unsafe { (*magic).load(Ordering::Acquire) };
    if magic != H::MAGIC {
        return Err(Error::invalid(H::WHAT, why_not(magic)));
    }
    // SAFETY: not NULL; and aligned, since only `new` makes such a magic.
    Ok(unsafe { NonNull::new_unchecked(handle.cast_mut().cast()) })
}

/// A kind of handles.
struct Known {
    magic: u64,
    what: &'static str,
    end_waits: unsafe fn(*const c_void) -> Result<()>,
    name: unsafe fn(*const c_void) -> Result<Option<*const c_char>>,
}

impl Known {
    const fn new<H: Opaque>() -> Self {
        Self {
            magic: H::MAGIC,
            what: H::WHAT,
            // SAFETY: the caller's contract, which is that of `get`.
            end_waits: |handle| unsafe { get(handle.cast::<H>()) }.map(EndWaits::end_waits),
            name: |handle| {
                // SAFETY: the same.
                let inner = unsafe { get(handle.cast::<H>()) }?;
                Ok(H::NAME(inner).map(|name| name.as_ptr()))
            },
        }
    }
}

static KNOWN: [Known; 13] = [
    Known::new::<super::queue::QueueHandle>(),
    Known::new::<super::map::MapHandle>(),
    Known::new::<super::map::MapIterHandle>(),
    Known::new::<super::process::ProcessHandle>(),
    Known::new::<super::lock::LockHandle>(),
    Known::new::<super::semaphore::SemaphoreHandle>(),
    Known::new::<super::event::EventHandle>(),
    Known::new::<super::condition::ConditionHandle>(),
    Known::new::<super::barrier::BarrierHandle>(),
    Known::new::<super::rwlock::RwLockHandle>(),
    Known::new::<super::pipe::PipeHandle>(),
    Known::new::<super::array::ArrayHandle>(),
    Known::new::<super::list::ListHandle>(),
];

fn known(magic: u64) -> Option<&'static Known> {
    KNOWN.iter().find(|known| known.magic == magic)
}

#[cold]
fn why_not(magic: u64) -> String {
    match known(magic) {
        Some(Known { what, .. }) => format!("it is a {what}"),
        None if magic == FREED => "it was freed".to_owned(),
        None => "it is no handle of this library".to_owned(),
    }
}

/// What there is to know about a handle of whatever kind.
///
/// # Safety
/// As [`get`].
unsafe fn known_handle(handle: *const c_void) -> Result<&'static Known> {
    let magic = handle.cast::<AtomicU64>();
    checked("handle", magic)?;
    // SAFETY: aligned and not NULL; that it is mapped is the caller's contract. SYNC: H1.
    let magic = unsafe { (*magic).load(Ordering::Acquire) };
    known(magic).ok_or_else(|| Error::invalid("handle", why_not(magic)))
}

/// Ends the waits through a handle of whatever kind.
///
/// # Safety
/// As [`get`].
pub(super) unsafe fn end_waits(handle: *const c_void) -> Result<()> {
    // SAFETY: the same contract.
    unsafe { (known_handle(handle)?.end_waits)(handle) }
}

/// The name of the object behind a handle of whatever kind, which is valid as long as the handle.
///
/// # Safety
/// As [`get`].
pub(super) unsafe fn name(handle: *const c_void) -> Result<*const c_char> {
    // SAFETY: the same contract.
    let name = unsafe { (known_handle(handle)?.name)(handle) }?;
    name.ok_or_else(|| Error::invalid("handle", "it has no name"))
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
        created.set(object.is_new());
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

/// What is inside a handle.
///
/// # Safety
/// `handle` is NULL, or points to mapped memory, and is not freed while the result is used.
#[inline]
pub(super) unsafe fn get<'a, H: Opaque>(handle: *const H) -> Result<&'a H::Inner> {
    // SAFETY: H2 for a magic that was checked, and the caller's contract.
    body(handle).map(|body| unsafe { (*body.as_ptr()).inner.assume_init_ref() })
}

/// [`get`] for handles that serve one thread at a time.
///
/// # Safety
/// As [`get`], and no other thread uses the handle meanwhile.
pub(super) unsafe fn get_mut<'a, H: Opaque>(handle: *mut H) -> Result<&'a mut H::Inner> {
    // SAFETY: H2 for a magic that was checked, and the caller's contract.
    body(handle).map(|body| unsafe { (*body.as_ptr()).inner.assume_init_mut() })
}

/// Ends the waits through it and has the threads leave that wait. False if one of them does not,
/// which is still held up by something else: then the handle is not to be dropped.
fn is_left(inner: &impl EndWaits) -> bool {
    inner.end_waits();
    let until_ns = now_ns() + LEAVING_NS;
    while inner.is_waited_in() {
        if now_ns() >= until_ns {
            return false;
        }
        std::thread::sleep(Duration::from_micros(100));
        // One may have been between its last look and its sleep.
        inner.end_waits();
    }
    true
}

/// Drops what is inside a handle, once the threads that wait through it have left. NULL is fine.
///
/// # Safety
/// `handle` is NULL, or points to mapped memory, and nobody uses it from now on, but for threads
/// that sleep in a call.
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
    // SAFETY: H2, and only one caller wins the exchange above.
    if !is_left(unsafe { (*body.as_ptr()).inner.assume_init_ref() }) {
        return Ok(());
    }
    // SAFETY: as above.
    unsafe { (*body.as_ptr()).inner.assume_init_drop() };
    if let Ok(mut places) = H::freed().0.try_lock() {
        places.push_back(Place(body.cast()));
    }
    Ok(())
}
