//! The budget of instructions: the most that hot paths may execute, in a file of the repository.
//!
//! Counts of the same source, compiler and processor architecture are the same on every machine
//! ([`trace`](super::trace)). Another compiler generates other code from the same source, so more is
//! accepted when the file was written with another one.

use std::fmt::Write;

use super::report::Steps;

/// By how many percent a count may exceed the file's.
const MORE: u64 = 5;
/// The same if another compiler built the program.
const MORE_BY_ANOTHER: u64 = 15;

const COMPILER: &str = "compiler";
const ARCHITECTURE: &str = "architecture";
const HEAD: &str = "\
# The instructions that one call of a hot path executes in Shoal's own text, uncontended, with 64 bytes.
# `cargo xtask budget` fails if one of them grew by more than 5 %. If it did for a good reason, or shrank:
#     cargo xtask budget --update
# and give the reason in the commit message.
";

/// The text of a budget of these counts.
pub(crate) fn text(steps: &[Steps], compiler: &str) -> String {
    let mut text = HEAD.to_owned();
    let _ = writeln!(text, "{COMPILER} = {compiler}");
    let _ = writeln!(text, "{ARCHITECTURE} = {}", std::env::consts::ARCH);
    for it in steps {
        let _ = writeln!(text, "{} = {}", it.what, it.instructions);
    }
    text
}

/// Compares the counts with a budget. Returns what to print, or why they are refused.
pub(crate) fn check(budget: &str, steps: &[Steps], compiler: &str) -> Result<String, String> {
    let lines = budget.lines().enumerate();
    let lines = lines.filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    let pairs = lines.map(|(number, line)| {
        let pair = line.split_once('=').ok_or(number + 1)?;
        Ok((pair.0.trim(), pair.1.trim()))
    });
    let pairs: Vec<(&str, &str)> = pairs
        .collect::<Result<_, usize>>()
        .map_err(|number| format!("line {number} of the budget is not like `map get = 166`"))?;
    let find = |name: &str| {
        let found = pairs.iter().find(|(key, _)| *key == name);
        found.map(|(_, value)| *value).ok_or_else(|| {
            format!("the budget has no line for `{name}`: run `cargo xtask budget --update`")
        })
    };
    if find(ARCHITECTURE)? != std::env::consts::ARCH {
        let here = std::env::consts::ARCH;
        return Ok(format!(
            "There is no budget for {here}: nothing is compared.\n"
        ));
    }
    let same = find(COMPILER)? == compiler;
    let more = if same { MORE } else { MORE_BY_ANOTHER };
    let (mut table, mut over) = (String::new(), Vec::new());
    for it in steps {
        let allowed = find(&it.what)?;
        let allowed: u64 = allowed.parse().ok().filter(|it| *it > 0).ok_or_else(|| {
            format!(
                "the budget of `{}` is not a number of instructions: {allowed}",
                it.what
            )
        })?;
        let change = it.instructions as f64 / allowed as f64 * 100.0 - 100.0;
        let row = format!(
            "{:28} {:>6} of {allowed:>6}  {change:+.1} %",
            it.what, it.instructions
        );
        let _ = writeln!(table, "{row}");
        if it.instructions * 100 > allowed * (100 + more) {
            over.push(row);
        }
    }
    let known = |name: &str| name == COMPILER || name == ARCHITECTURE;
    if let Some((name, _)) = pairs
        .iter()
        .find(|(name, _)| !known(name) && !steps.iter().any(|it| it.what == *name))
    {
        return Err(format!(
            "the budget has a line for `{name}`, which is not counted"
        ));
    }
    if !same {
        let _ = writeln!(
            table,
            "The budget was written with another compiler ({}): up to {more} % more is accepted.",
            find(COMPILER)?
        );
    }
    if over.is_empty() {
        return Ok(table);
    }
    Err(format!(
        "{table}More than {more} % over the budget of instructions:\n  {}\n\
         If the increase is intended, run `cargo xtask budget --update` and give the reason in the commit message.",
        over.join("\n  ")
    ))
}

#[cfg(test)]
mod tests {
    // `cargo bench` compiles this module without its tests, so each test imports what it uses.

    #[test]
    fn more_than_five_percent_over_the_budget_is_refused() {
        use super::{Steps, check, text};
        let steps = |instructions| {
            [Steps {
                what: "map get".into(),
                instructions,
                elsewhere: 9,
            }]
        };
        let budget = text(&steps(200), "rustc 1");
        assert!(check(&budget, &steps(210), "rustc 1").is_ok());
        let why = check(&budget, &steps(211), "rustc 1").unwrap_err();
        assert!(why.contains("map get") && why.contains("+5.5 %"), "{why}");
        assert!(why.contains("cargo xtask budget --update"), "{why}");
        // Another compiler's code may differ more, within a limit.
        assert!(check(&budget, &steps(211), "rustc 2").is_ok());
        assert!(check(&budget, &steps(231), "rustc 2").is_err());
    }

    #[test]
    fn a_budget_has_a_line_for_each_counted_call_and_no_other() {
        use super::{Steps, check, text};
        let steps = |what: &'static str| {
            [Steps {
                what: what.into(),
                instructions: 60,
                elsewhere: 0,
            }]
        };
        let budget = text(&steps("lock"), "rustc 1");
        let judge = |budget: &str| check(budget, &steps("lock"), "rustc 1");
        assert!(judge(&budget).is_ok());
        assert!(judge(&budget.replace("lock = 60", "")).is_err());
        assert!(judge(&budget.replace("lock = 60", "lock = 60\nunlock = 34")).is_err());
        assert!(judge(&budget.replace("= 60", "= many")).is_err());
        assert!(judge(&budget.replace("lock = 60", "lock 60")).is_err());
        let other = budget.replace(std::env::consts::ARCH, "pdp11");
        assert!(judge(&other).unwrap().contains("no budget"));
    }
}
