//! `shoal bench`: that it runs and reports, not what it measures.

use crate::shoal;

#[test]
fn a_quick_look_measures_and_judges() {
    let report = |args: &[&str]| {
        let done = shoal(&[&["bench", "--quick", "--json"], args].concat());
        assert_eq!(done.code, Some(0), "{}", done.err);
        serde_json::from_str::<serde_json::Value>(&done.out).unwrap()
    };
    let count = |report: &serde_json::Value, what: &str| report[what].as_array().unwrap().len();

    let queue = report(&["--only", "queue", "--sizes", "64", "--topologies", "1x1"]);
    assert!(
        count(&queue, "throughput") > 0 && count(&queue, "goals") > 0,
        "{queue}"
    );
    assert_eq!(count(&queue, "map"), 0);

    let map = report(&["--only", "map"]);
    assert!(count(&map, "map") > 0 && count(&map, "goals") > 0, "{map}");
    assert_eq!(count(&map, "throughput"), 0);
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
        ["--ring", "1"],
        ["--topologies", "0x1"],
        ["--topologies", "two"],
        ["--only", "nothing"],
    ] {
        shoal(&[&["bench"], &args[..]].concat()).failed(2, args[1]);
    }
}
