//! The first page: what the segment is, and which processes may open it.
//!
//! ```text
//! offset  size  field           invariant
//!      0     8  magic           "SHOAL\r\n\x1a"
//!      8     4  version         the layout of the stamp, the participants and the locks
//!     12     4  endian          0x01020304 as the creator's machine writes it
//!     16     4  word            bytes of a pointer
//!     20     4  kind            queue, map, …
//!     24     4  fifos           bit n: queue number n of the object may have a FIFO
//!     28     4  companion       which companion of another object this is, 0: none
//!     32     8  layout          hash of the object's own layout
//!     40     8  size            bytes of the file, for ever
//!     48     8  pid_namespace   the pid namespace of the participants
//!     56     4  persistent      0 or 1: whether it was created to outlive its processes
//!     60     4  creator         pid, for diagnosis
//!     64     8  family          id of the companions that it has, or is one of; 0: none
//! ```
//! All of it is constant once the segment is published, but for three words. A process that opens a
//! persistent segment without participants stores its own `pid_namespace`. Before a FIFO is made, its bit in
//! `fifos` is set, and never cleared (see `fifo.rs`). `family` is set before an object gets companions, and 0
//! when they are removed; in between the object outlives its processes (see `companion.rs`).
//!
//! Every version has `magic`, `version`, `pid_namespace` and `persistent` at these places. Up to
//! version 3 the participants have locks on some bytes of the file, and from then on they are in the
//! table: so a dead segment of any version is recognised and collected.

use std::sync::atomic::AtomicU64;

use crate::error::{Error, Result};
use crate::layout::Shared;
use crate::sys;

use super::liveness;
use super::options::Kind;

/// Where the participants begin.
pub(crate) const PARTICIPANTS: u64 = 128;
/// Where the object's own data begins.
pub(crate) const DATA: u64 = 36_864;

#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    magic: [u8; 8],
    version: u32,
    endian: u32,
    word: u32,
    kind: u32,
    fifos: u32,
    companion: u32,
    layout: u64,
    size: u64,
    pid_namespace: u64,
    persistent: u32,
    creator: u32,
    family: u64,
}

const _: () = assert!(size_of::<Stamp>() as u64 <= PARTICIPANTS && DATA.is_multiple_of(4096));
const _: () = assert!(size_of::<Stamp>() == 72 && align_of::<Stamp>() <= align_of::<AtomicU64>());

// SAFETY: plain integers, valid for any bits. The words that change after publication are accessed through
// atomics; a `Stamp` is only read as a copy.
unsafe impl Shared for Stamp {}

const MAGIC: [u8; 8] = *b"SHOAL\r\n\x1a";
const VERSION: u32 = 5;
const ENDIAN: u32 = 0x0102_0304;

/// Where `pid_namespace` is.
pub(crate) const NAMESPACE: u64 = std::mem::offset_of!(Stamp, pid_namespace) as u64;

/// Where `fifos` is.
pub(crate) const FIFOS: u64 = std::mem::offset_of!(Stamp, fifos) as u64;

/// Where `companion` and `family` are.
pub(crate) const COMPANION: u64 = std::mem::offset_of!(Stamp, companion) as u64;
pub(crate) const FAMILY: u64 = std::mem::offset_of!(Stamp, family) as u64;

const _: () = assert!(NAMESPACE == 48 && FIFOS == 24 && COMPANION == 28 && FAMILY == 64);
const _: () = assert!(std::mem::offset_of!(Stamp, persistent) == 56);

/// Compares the pid namespace of a segment's participants with that of this process.
pub(crate) fn check_namespace(name: &str, theirs: u64) -> Result<()> {
    let ours = liveness::pid_namespace();
    if theirs == ours {
        return Ok(());
    }
    let shown = |namespace| match namespace {
        0 => "unknown (/proc is not mounted)".to_owned(),
        namespace => namespace.to_string(),
    };
    Err(Error::VersionMismatch {
        name: name.to_owned(),
        what: "pid namespace",
        theirs: shown(theirs),
        ours: shown(ours),
    })
}

impl Stamp {
    /// The stamp of a new segment.
    pub(crate) fn new(kind: Kind, layout: u64, size: u64, persistent: bool) -> Self {
        Self {
            magic: MAGIC,
            version: VERSION,
            endian: ENDIAN,
            word: size_of::<usize>() as u32,
            kind: kind as u32,
            fifos: 0,
            companion: 0,
            layout,
            size,
            pid_namespace: liveness::pid_namespace(),
            persistent: u32::from(persistent),
            creator: sys::process::pid(),
            family: 0,
        }
    }

    /// Reads the stamp from a file's first bytes.
    pub(crate) fn from_bytes(bytes: &[u8; size_of::<Stamp>()]) -> Self {
        // SAFETY: as many bytes as a stamp has, and any bits are valid.
        unsafe { bytes.as_ptr().cast::<Stamp>().read_unaligned() }
    }

    /// Refuses a file that is no segment of any version.
    pub(crate) fn recognise(&self, name: &str) -> Result<()> {
        if self.magic != MAGIC {
            return Err(Error::corrupt(format!(
                "{name:?} does not begin with Shoal's magic"
            )));
        }
        Ok(())
    }

    /// Refuses a segment this library cannot share, naming both sides of the difference.
    pub(crate) fn check(&self, name: &str, file_size: u64) -> Result<()> {
        let same = |what, theirs: u64, ours: u64| match theirs == ours {
            true => Ok(()),
            false => Err(Error::VersionMismatch {
                name: name.to_owned(),
                what,
                theirs: theirs.to_string(),
                ours: ours.to_string(),
            }),
        };
        same("byte order", self.endian.into(), ENDIAN.into())?;
        same("layout version", self.version.into(), VERSION.into())?;
        same("word size", self.word.into(), size_of::<usize>() as u64)?;
        if self.size != file_size || self.size < DATA {
            let why = format!("{name:?} has {file_size} bytes and says {}", self.size);
            return Err(Error::corrupt(why));
        }
        self.kind().map(drop)
    }

    /// Refuses a segment whose participants are of another pid namespace.
    pub(crate) fn check_namespace(&self, name: &str) -> Result<()> {
        check_namespace(name, self.pid_namespace)
    }

    /// Whether its participants are of this process's pid namespace.
    pub(crate) fn has_our_namespace(&self) -> bool {
        self.is_of_namespace(liveness::pid_namespace())
    }

    /// Whether its participants are of that pid namespace.
    pub(crate) fn is_of_namespace(&self, namespace: u64) -> bool {
        self.pid_namespace == namespace
    }

    /// Refuses an object of another kind or of another version of that kind.
    pub(crate) fn check_kind(&self, name: &str, kind: Kind, layout: u64) -> Result<()> {
        let found = self.kind()?;
        if found != kind {
            let (expected, found) = (kind.as_str(), found.as_str());
            return Err(Error::WrongKind {
                name: name.to_owned(),
                expected,
                found,
            });
        }
        if self.layout != layout {
            return Err(Error::VersionMismatch {
                name: name.to_owned(),
                what: "object layout",
                theirs: format!("{:#x}", self.layout),
                ours: format!("{layout:#x}"),
            });
        }
        Ok(())
    }

    pub(crate) fn kind(&self) -> Result<Kind> {
        Kind::from_code(self.kind)
            .ok_or_else(|| Error::corrupt(format!("no kind of object has the code {}", self.kind)))
    }

    /// Whether it was created to outlive its processes.
    pub(crate) fn persistent(&self) -> bool {
        self.persistent != 0
    }

    /// Whether the object outlives its processes: it was created so, or it has companions.
    pub(crate) fn stays(&self) -> bool {
        // Another version may have something else there.
        self.persistent() || self.version == VERSION && self.companions() != 0
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The id of the companions that it has or is one of, and which of them it is.
    pub(crate) fn family(&self) -> (u64, u32) {
        (self.family, self.companion)
    }

    /// The id of the companions to remove with its name; 0 for none.
    pub(crate) fn companions(&self) -> u64 {
        match self.companion {
            0 => self.family,
            _ => 0,
        }
    }

    /// A bit for each of its queues that may have a FIFO.
    pub(crate) fn fifos(&self) -> u32 {
        self.fifos
    }
}
