//! The common part of handles on shared objects of every kind.

use std::sync::Arc;

use super::open::Segment;
use crate::sync::EndWaits;

/// A handle on a shared object.
pub(crate) trait Object: EndWaits {
    /// Its segment.
    fn segment(&self) -> &Segment;
}

impl<T: Object> Object for Arc<T> {
    fn segment(&self) -> &Segment {
        T::segment(self)
    }
}

/// Gives a type of handles the methods that all of them have: `shared_object!(Event, "event", |it|
/// &it.segment)`, where the closure returns its segment. More documentation of `end_waits` may follow. The
/// type implements [`EndWaits`], and has the name of its [`Kind`](super::Kind).
macro_rules! shared_object {
    ($type:ident, $noun:literal, $segment:expr $(, $(#[$end_waits:meta])+)?) => {
        impl $type {
            #[doc = concat!("The name by which another process opens this ", $noun, ".")]
            pub fn name(&self) -> &str {
                $crate::segment::Object::segment(self).name()
            }

            #[doc = concat!("Whether this handle's open created the ", $noun, ".")]
            pub fn created(&self) -> bool {
                $crate::segment::Object::segment(self).created()
            }

            /// Ends the waits through this handle: a thread of this process that waits in a call through it
            /// returns with `Detached`, and so does each later call that would have to wait. Calls that need
            /// not wait still work. Other handles, even in this process, and other processes are not
            /// affected. A forked child has this handle as it was at the fork.
            ///
            /// Never waits. Calling it again has no effect.
            $($(#[$end_waits])+)?
            pub fn end_waits(&self) {
                $crate::sync::EndWaits::end_waits(self);
            }

            #[doc = concat!("Removes the name of the ", $noun, " `name`, which is then free for another")]
            /// object. Processes that have it open keep using it.
            ///
            /// # Errors
            #[doc = concat!("`NotFound`; `WrongKind` if it is no ", $noun, "; `Permission`; `Invalid` name.")]
            pub fn unlink(name: &str) -> $crate::error::Result<()> {
                $crate::segment::unlink_kind(name, $crate::segment::Kind::$type)
            }
        }

        impl $crate::segment::Object for $type {
            fn segment(&self) -> &$crate::segment::Segment {
                let segment: fn(&Self) -> &$crate::segment::Segment = $segment;
                segment(self)
            }
        }
    };
}

/// `Debug` for a type of handles that shows its name.
macro_rules! debug_by_name {
    ($type:ident) => {
        impl std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($type))
                    .field("name", &self.name())
                    .finish()
            }
        }
    };
}

/// The ways to open an object that needs only [`Options`](super::Options), by the type's own
/// `with_options(name, options)`.
macro_rules! plain_open {
    ($type:ident, $noun:literal) => {
        impl $type {
            #[doc = concat!("Opens the ", $noun, " `name`.")]
            ///
            /// # Errors
            /// `NotFound`; `WrongKind`, `VersionMismatch`, `Permission`, `Corrupt` for a file that is
            #[doc = concat!("no ", $noun, " of this library; `Invalid` name.")]
            pub fn open(name: &str) -> $crate::error::Result<Self> {
                Self::with_options(Some(name), &$crate::segment::Options::open())
            }

            #[doc = concat!("Opens the ", $noun, " `name`, or creates it with the defaults.")]
            ///
            /// # Errors
            /// As for [`open`](Self::open), and `NoSpace`.
            pub fn create(name: &str) -> $crate::error::Result<Self> {
                Self::with_options(Some(name), &$crate::segment::Options::create())
            }

            #[doc = concat!("Creates a new ", $noun, " under a name that no other object has;")]
            /// [`name`](Self::name) tells which.
            ///
            /// # Errors
            /// `NoSpace`.
            pub fn anonymous() -> $crate::error::Result<Self> {
                Self::with_options(None, &$crate::segment::Options::create())
            }
        }
    };
}

pub(crate) use {debug_by_name, plain_open, shared_object};
