//! A named, stamped, sparse piece of shared memory and the processes attached to it.
//!
//! Each public object is one segment, and each segment is one file `/dev/shm/shoal.<name>`, or one in the
//! directory that `SHOAL_DIR` names:
//!
//! ```text
//!      0  stamp          what it is, and who may open it      stamp.rs
//!    128  participants   1024 slots of attached handles        participants.rs
//!  36864  data           the object's own                      queue/, map/, …
//! ```
//!
//! Beside it may lie FIFOs, one for each of its queues (`fifo.rs`), and companions, which are objects of
//! their own (`companion.rs`).
//!
//! **Complete from the start.** A segment is filled under a private name and then renamed, so a visible name
//! is always initialised. **Sparse.** It has its full size from the start and never moves; pages are
//! committed as the object grows, so a full `/dev/shm` is an error and never a SIGBUS. **The kernel says which
//! processes are alive.** A slot names a process that holds a lock, which the kernel drops when the process ends
//! (`liveness.rs`); no timer ever decides which process is dead.
//!
//! # Limits
//! Only processes of the same user, the same pid namespace and an equal layout may be attached at a time. A
//! segment without participants is never refused for that reason: before the rest of its stamp is checked, it
//! is removed or, if it is persistent, gets another pid namespace. A hostile process of the same user can
//! truncate the file under a mapping, and the next access is then a SIGBUS: nothing in user space can prevent
//! that.

mod attach_lock;
mod attachment;
mod collect;
mod companion;
mod contents;
mod fifo;
mod file;
mod list;
mod liveness;
mod name;
mod object;
mod open;
mod options;
mod participants;
mod stamp;

pub(crate) use attachment::leave_all;
#[doc(hidden)]
pub use collect::collect_nothing;
pub(crate) use collect::sweep;
pub use collect::{gc, gc_each};
pub(crate) use companion::Companion;
pub(crate) use contents::{Inspector, Snapshot};
pub use contents::{ObjectContents, ObjectHolder, QueueTotals};
pub use list::{ObjectInfo, Participant, list, stat, unlink};
pub(crate) use list::{ObjectStat, StatCache, published, unlink_kind};
pub(crate) use name::LONGEST;
pub(crate) use object::{Object, debug_by_name, plain_open, shared_object};
pub(crate) use open::{Segment, Spec};
pub use options::{Kind, Options};
pub(crate) use participants::Section;
pub(crate) use stamp::Stamp;
