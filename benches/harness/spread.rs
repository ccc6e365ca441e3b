//! Several measurements of the same thing.

use serde::{Deserialize, Deserializer, Serialize};

/// Seven digits: more than are significant, and half the length that reports would have
/// otherwise.
fn rounded(value: f64) -> f64 {
    format!("{value:.6e}").parse().unwrap_or(value)
}

/// A number. JSON has neither infinity nor NaN: `null` stands for them.
pub(super) fn number<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or(f64::NAN))
}

fn numbers<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<f64>, D::Error> {
    let numbers = Vec::<Option<f64>>::deserialize(from)?;
    Ok(numbers
        .into_iter()
        .map(|it| it.unwrap_or(f64::NAN))
        .collect())
}

/// Median, least and most of several measurements.
#[derive(Serialize, Deserialize, Clone, Default)]
pub(crate) struct Spread {
    #[serde(deserialize_with = "number")]
    pub(crate) median: f64,
    #[serde(deserialize_with = "number")]
    pub(crate) least: f64,
    #[serde(deserialize_with = "number")]
    pub(crate) most: f64,
    /// All of them, in the order they were measured.
    #[serde(rename = "samples", deserialize_with = "numbers")]
    pub(crate) windows: Vec<f64>,
}

impl Spread {
    pub(super) fn of(windows: Vec<f64>) -> Self {
        let windows: Vec<f64> = windows.into_iter().map(rounded).collect();
        let mut values = windows.clone();
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(0.0);
        Self {
            median: at(values.len() / 2),
            least: at(0),
            most: at(values.len().saturating_sub(1)),
            windows,
        }
    }

    /// How many times as much as `other` this was in each round.
    pub(super) fn over(&self, other: &Self) -> Self {
        let rounds = self.windows.iter().zip(&other.windows);
        Self::of(rounds.map(|(this, other)| this / other).collect())
    }

    /// The quotient in each round, if both were measured in the same rounds.
    pub(super) fn rounds_over(&self, other: &Self) -> Option<Self> {
        (self.windows.len() == other.windows.len()).then(|| self.over(other))
    }

    /// The samples multiplied by a factor.
    pub(super) fn times(&self, factor: f64) -> Self {
        Self::of(self.windows.iter().map(|it| it * factor).collect())
    }

    /// The reciprocal of each sample.
    pub(super) fn inverse(&self) -> Self {
        Self::of(self.windows.iter().map(|it| 1.0 / it).collect())
    }

    /// How many times as much as `other` this was: the median of the ratios of the rounds, if both were measured
    /// in the same rounds.
    ///
    /// A virtual machine's cores are close to each other in one second and far apart in the next. Both windows of
    /// a round mostly see the same distance, whereas the two medians may come from a near window and a far one. Of
    /// two ratios in the middle the result is the smaller one, because all callers divide so that more is better
    /// for Shoal.
    pub(super) fn beside(&self, other: &Self) -> f64 {
        let of_medians = self.median / other.median;
        if self.windows.len() != other.windows.len() {
            return of_medians;
        }
        let rounds = self.windows.iter().zip(&other.windows);
        let mut ratios: Vec<f64> = rounds.map(|(this, other)| this / other).collect();
        ratios.sort_by(f64::total_cmp);
        let middle = ratios.len().saturating_sub(1) / 2;
        ratios.get(middle).copied().unwrap_or(of_medians)
    }
}

#[cfg(test)]
mod tests {
    // `cargo bench` compiles this module without its tests, so each test imports what it uses.

    #[test]
    fn windows_are_compared_within_their_round() {
        use super::Spread;
        // Twice as much, near and far; then the cores moved between the two windows. The quotient
        // of the medians is 4.
        let (this, other) = (vec![8.0, 2.0, 8.0], vec![4.0, 1.0, 2.0]);
        assert_eq!(Spread::of(this).beside(&Spread::of(other)), 2.0);
    }

    #[test]
    fn of_two_rounds_the_smaller_ratio_counts() {
        use super::Spread;
        let (this, other) = (Spread::of(vec![2.0, 9.0]), Spread::of(vec![1.0, 3.0]));
        assert_eq!(this.beside(&other), 2.0);
    }

    #[test]
    fn without_the_same_rounds_medians_are_compared() {
        use super::Spread;
        let (this, other) = (Spread::of(vec![9.0, 6.0, 3.0]), Spread::of(vec![2.0]));
        assert_eq!(this.beside(&other), 3.0);
    }
}
