//! Failures of the measurement itself.

use std::time::Duration;

pub(crate) type Failure = Box<dyn std::error::Error>;

/// Why something cannot be measured.
pub(super) type Why = String;

/// Workers of another project that make no progress for this long are stuck.
pub(super) const STUCK_AFTER: Duration = Duration::from_secs(5);

/// No worker made progress for as long as [`STUCK_AFTER`].
#[derive(Debug)]
pub(super) struct Stuck;

impl std::error::Error for Stuck {}

impl std::fmt::Display for Stuck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "no progress for {} s, so it was stopped",
            STUCK_AFTER.as_secs()
        )
    }
}
