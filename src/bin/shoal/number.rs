//! Whole numbers on the command line. An error names the limits.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// Reads a number within these limits.
pub(crate) fn number<T>(
    limits: RangeInclusive<T>,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static
where
    T: FromStr + PartialOrd + Display + Clone + Send + Sync + 'static,
{
    move |text| {
        let given = text.parse().ok().filter(|it| limits.contains(it));
        given.ok_or_else(|| {
            let (least, most) = (limits.start(), limits.end());
            format!("expected a whole number from {least} to {most}")
        })
    }
}

/// Reads a number that has no other limit than its type.
pub(crate) fn any_count(text: &str) -> Result<u64, String> {
    number(0..=u64::MAX)(text)
}

/// Reads the index of an element: negative ones count from the end.
pub(crate) fn any_index(text: &str) -> Result<i64, String> {
    number(i64::MIN..=i64::MAX)(text)
}
