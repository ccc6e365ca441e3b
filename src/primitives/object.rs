//! What these objects have in common: how they are opened, and how their state is locked.

use std::fs::File;

use crate::error::Result;
use crate::layout::{Offset, Shared, SharedRef};
use crate::segment::{Kind, ObjectContents, Options, Section, Segment, Snapshot, Spec};
use crate::sync::{Acquired, Guard, RobustMutex};
use crate::sys::clock::Deadline;

/// Opens or creates a segment that holds one `T`, which `init` initialises from zeros.
pub(super) fn open<T: Shared>(
    name: Option<&str>,
    options: &Options,
    (kind, layout): (Kind, u64),
    init: impl Fn(&T) -> Result<()>,
) -> Result<(Segment, SharedRef<T>)> {
    let bytes = (size_of::<T>() as u64).next_multiple_of(4096);
    let spec = Spec {
        kind,
        layout,
        size: Segment::DATA + bytes,
        commit: bytes,
        section: Section::ALL,
    };
    let data = Offset::new(Segment::DATA);
    let segment = Segment::open_or_create(name, options, &spec, |segment| {
        init(segment.region().resolve(data)?)
    })?;
    let state = segment.region().keep(data)?;
    Ok((segment, state))
}

/// Inspects the state of the object in `file`.
pub(super) fn inspect<T: Shared>(
    file: &File,
    show: impl FnOnce(&T, &mut ObjectContents),
) -> Result<ObjectContents> {
    let copy = Snapshot::read(file, Segment::DATA, size_of::<T>())?;
    let mut found = ObjectContents::default();
    show(copy.get(0)?, &mut found);
    Ok(found)
}

/// Locks an object's state until `deadline`, or for a second if its owner was stopped, and rebuilds what is
/// derived if the lock's last owner died.
#[inline]
pub(super) fn enter(
    mutex: &RobustMutex,
    deadline: Deadline,
    rebuild: impl FnOnce(),
) -> Result<Guard<'_>> {
    match mutex.lock(deadline)? {
        Acquired::Held(guard) => Ok(guard),
        Acquired::Recovered(guard) => {
            rebuild();
            guard.mark_consistent();
            Ok(guard)
        }
    }
}
