//! `shoal bench`: that it runs and reports, not what it measures.

use crate::shoal;

#[test]
fn a_quick_look_reports_rates_for_programs() {
    let only = [
        "--only",
        "queue",
        "--sizes",
        "64",
        "--topologies",
        "1x1",
        "--json",
    ];
    let done = shoal(&[&["bench", "--quick"], &only[..]].concat());
    assert_eq!(done.code, Some(0), "{}", done.err);
    let report: serde_json::Value = serde_json::from_str(&done.out).unwrap();
    assert!(
        report.as_object().is_some_and(|it| !it.is_empty()),
        "{report}"
    );
}

#[test]
fn what_cannot_be_measured_is_wrong_usage() {
    for args in [
        ["--sizes", "7"],
        ["--sizes", "0"],
        ["--sizes", "1000000000000"],
        ["--seconds", "0"],
        ["--seconds", "NaN"],
        ["--repeat", "0"],
        ["--topologies", "0x1"],
        ["--topologies", "two"],
        ["--only", "nothing"],
    ] {
        shoal(&[&["bench"], &args[..]].concat()).failed(2, args[1]);
    }
}
