//! Two reports side by side: which figures differ by more than the noise of both.

use std::collections::HashMap;
use std::fmt;

use serde::Serialize;

use super::figures::{short, size};
use super::layout::{Left, Right, aligned, table};
use super::measures::{Better, Measure, is_own};
use super::report::Report;
use super::spread::Spread;

/// A smaller difference of medians is ignored, however steady both were: in every build a program's code is at
/// other addresses, which alone changes figures by this much.
const LEAST: f64 = 0.03;

/// Fewer samples than this say nothing about how much a figure varies.
const SAMPLES: usize = 3;

/// How the second report compares with the first.
#[derive(Serialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    Better,
    Worse,
    /// The samples of both overlap, or the medians are nearly the same.
    WithinNoise,
    /// One of them has too few samples to show how much it varies.
    TooFewSamples,
}

#[derive(Serialize)]
pub(super) struct Row {
    name: String,
    unit: &'static str,
    better: Better,
    first: Spread,
    second: Spread,
    /// The second's median divided by the first's.
    ratio: f64,
    verdict: Verdict,
    is_baseline: bool,
    /// It is a figure of Shoal's objects, and not of another project's.
    is_own: bool,
}

/// Two reports.
#[derive(Serialize)]
pub(crate) struct Comparison {
    /// What makes the two hard to compare.
    notes: Vec<String>,
    /// Figures that both have.
    rows: Vec<Row>,
    only_first: Vec<String>,
    only_second: Vec<String>,
}

impl Comparison {
    pub(crate) fn of(first: &Report, second: &Report) -> Self {
        let mut others: HashMap<_, _> = second
            .measures()
            .into_iter()
            .map(|it| (it.name.clone(), it))
            .collect();
        let (mut rows, mut only_first) = (Vec::new(), Vec::new());
        for measure in first.measures() {
            match others.remove(&measure.name) {
                Some(other) => rows.push(row(measure, other)),
                None => only_first.push(measure.name),
            }
        }
        let mut only_second: Vec<_> = others.into_keys().collect();
        only_second.sort();
        Self {
            notes: notes(first, second),
            rows,
            only_first,
            only_second,
        }
    }
}

fn row(first: Measure, second: Measure) -> Row {
    let (one, other) = (&first.spread, &second.spread);
    // Two zeros, as a peer that is stuck has, are equal.
    let ratio = match other.median == one.median {
        true => 1.0,
        false => other.median / one.median,
    };
    Row {
        is_baseline: first.is_baseline,
        is_own: is_own(&first),
        verdict: verdict(one, other, first.better, first.is_exact),
        name: first.name,
        unit: first.unit,
        better: first.better,
        first: first.spread,
        second: second.spread,
        ratio,
    }
}

/// A difference counts if no sample of one is among the other's and the medians differ by more than [`LEAST`]. Of
/// three samples each, one pair in ten does not overlap by chance alone, so a single difference says less than
/// several of a kind.
fn verdict(one: &Spread, other: &Spread, better: Better, is_exact: bool) -> Verdict {
    let ratio = other.median / one.median;
    let apart = other.least > one.most || other.most < one.least;
    if !is_exact && one.windows.len().min(other.windows.len()) < SAMPLES {
        return Verdict::TooFewSamples;
    }
    let counts = match is_exact {
        true => other.median != one.median,
        false => apart && (ratio - 1.0).abs() > LEAST,
    };
    match counts {
        false => Verdict::WithinNoise,
        true if (ratio > 1.0) == (better == Better::More) => Verdict::Better,
        true => Verdict::Worse,
    }
}

fn notes(first: &Report, second: &Report) -> Vec<String> {
    let mut notes = Vec::new();
    let mut differs = |what: &str, one: String, other: String| {
        if one != other {
            notes.push(format!("{what}: {one} and {other}"));
        }
    };
    let (one, other) = (&first.machine, &second.machine);
    differs(
        "processors differ",
        one.processor.clone(),
        other.processor.clone(),
    );
    differs(
        "architectures differ",
        one.architecture.clone(),
        other.architecture.clone(),
    );
    differs("kernels differ", one.kernel.clone(), other.kernel.clone());
    differs(
        "versions of Shoal differ",
        one.shoal.clone(),
        other.shoal.clone(),
    );
    differs(
        "cores differ",
        first.cores.to_string(),
        second.cores.to_string(),
    );
    differs(
        "windows differ",
        format!("{} of {} s", first.repeated, first.window_seconds),
        format!("{} of {} s", second.repeated, second.window_seconds),
    );
    let ring = |report: &Report| {
        report
            .ring
            .map_or("by size".to_owned(), |it| size(it as usize))
    };
    differs("rings differ", ring(first), ring(second));
    // A figure that is measured beside several numbers of programs has the number in its name.
    differs(
        "programs that computed meanwhile differ",
        first.busy.to_string(),
        second.busy.to_string(),
    );
    for (which, report) in [("first", first), ("second", second)] {
        let machine = &report.machine;
        if machine.load_before > 0.5 {
            let load = short(machine.load_before);
            notes.push(format!(
                "other programs ran before the {which} was measured: load {load}"
            ));
        }
    }
    notes
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for note in &self.notes {
            writeln!(f, "Note: {note}")?;
        }
        let baselines = self.rows.iter().filter(|it| it.is_baseline);
        if baselines.clone().next().is_some() {
            writeln!(
                f,
                "\nThe machine itself: if it changed, all figures below changed with it"
            )?;
            f.write_str(&lines(baselines))?;
        }
        let count = |verdict| {
            let rows = self.rows.iter().filter(|it| !it.is_baseline);
            rows.filter(|it| it.verdict == verdict).count()
        };
        let own = |verdict, own| {
            let rows = self.rows.iter().filter(move |it| !it.is_baseline);
            rows.filter(move |it| it.verdict == verdict && it.is_own == own)
        };
        for (title, verdict) in [("Worse", Verdict::Worse), ("Better", Verdict::Better)] {
            for (whose, is_own) in [("Shoal's", true), ("others'", false)] {
                if own(verdict, is_own).next().is_some() {
                    writeln!(f, "\n{title} in the second, {whose}")?;
                    f.write_str(&lines(own(verdict, is_own)))?;
                }
            }
        }
        let rows = [
            ("worse", count(Verdict::Worse)),
            ("better", count(Verdict::Better)),
            ("within noise", count(Verdict::WithinNoise)),
            ("too few samples to say", count(Verdict::TooFewSamples)),
            ("only in the first", self.only_first.len()),
            ("only in the second", self.only_second.len()),
        ];
        let rows = rows.map(|(what, count)| vec![count.to_string(), what.to_owned()]);
        writeln!(f, "\nFigures")?;
        f.write_str(&aligned(&[Right, Left], rows))
    }
}

fn lines<'a>(rows: impl Iterator<Item = &'a Row>) -> String {
    let spread = |it: &Spread| {
        [
            short(it.median),
            format!("({} .. {})", short(it.least), short(it.most)),
        ]
    };
    let rows = rows.map(|it| {
        let mut cells = vec![it.name.clone(), it.unit.to_owned()];
        cells.extend(spread(&it.first));
        cells.extend(spread(&it.second));
        cells.push(format!("{}x", short(it.ratio)));
        cells.push(match it.verdict {
            Verdict::Better => "better".to_owned(),
            Verdict::Worse => "WORSE".to_owned(),
            Verdict::WithinNoise => "within noise".to_owned(),
            Verdict::TooFewSamples => "too few samples".to_owned(),
        });
        cells
    });
    let columns = [
        ("what", Left),
        ("unit", Left),
        ("first", Right),
        ("", Right),
        ("second", Right),
        ("", Right),
        ("second / first", Right),
        ("", Left),
    ];
    table(&columns, rows)
}

#[cfg(test)]
mod tests {
    // `cargo bench` compiles this module without its tests, so each test imports what it uses.

    #[test]
    fn samples_that_overlap_differ_by_noise_alone() {
        use super::{Better, Spread, Verdict, verdict};
        let one = Spread::of(vec![10.0, 11.0, 12.0]);
        let judge =
            |values: &[f64]| verdict(&one, &Spread::of(values.to_vec()), Better::More, false);
        assert_eq!(judge(&[12.0, 13.0, 14.0]), Verdict::WithinNoise);
        assert_eq!(judge(&[12.1, 13.0, 14.0]), Verdict::Better);
        assert_eq!(judge(&[7.0, 8.0, 9.9]), Verdict::Worse);
        assert_eq!(judge(&[20.0]), Verdict::TooFewSamples);
    }

    #[test]
    fn a_small_difference_of_steady_figures_counts_as_noise() {
        use super::{Better, Spread, Verdict, verdict};
        let steady = |value: f64| Spread::of(vec![value; 3]);
        let judge = |value| verdict(&steady(100.0), &steady(value), Better::Less, false);
        assert_eq!(judge(102.0), Verdict::WithinNoise);
        assert_eq!(judge(104.0), Verdict::Worse);
        assert_eq!(judge(96.0), Verdict::Better);
    }

    #[test]
    fn a_difference_of_one_instruction_counts() {
        use super::{Better, Spread, Verdict, verdict};
        let count = |value: f64| Spread::of(vec![value]);
        let judge = |value| verdict(&count(171.0), &count(value), Better::Less, true);
        assert_eq!(judge(171.0), Verdict::WithinNoise);
        assert_eq!(judge(172.0), Verdict::Worse);
    }
}
