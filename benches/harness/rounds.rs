//! Measuring several things in turn.

use super::failure::Failure;
use super::report::Skipped;

/// Measures all of `what` in each of `repeat` rounds, so that a machine that is slow for
/// a while is slow for all of them. Returns the windows of each in the order of the rounds, so that
/// those of one round can be compared, or why there are none.
pub(super) fn in_turns<What, Window>(
    what: &[What],
    repeat: usize,
    window: impl Fn(&What) -> Result<Result<Window, Skipped>, Failure>,
) -> Result<Vec<Result<Vec<Window>, Skipped>>, Failure> {
    let mut all: Vec<_> = what.iter().map(|_| Ok(Vec::new())).collect();
    for _ in 0..repeat {
        for (what, so_far) in what.iter().zip(&mut all) {
            if let Ok(windows) = so_far {
                match window(what)? {
                    Ok(window) => windows.push(window),
                    Err(why) => *so_far = Err(why),
                }
            }
        }
    }
    Ok(all)
}
