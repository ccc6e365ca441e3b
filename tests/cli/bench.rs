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

    let waits = report(&["--busy", "1"]);
    let rows = waits["waits"].as_array().unwrap();
    assert!(rows.iter().all(|row| row["busy"] == 1), "{waits}");
    assert!(
        count(&waits, "waits") > 0 && count(&waits, "goals") > 0,
        "{waits}"
    );
    assert_eq!(count(&waits, "throughput"), 0);
}

#[test]
fn other_parts_are_measured_beside_one_number_of_programs() {
    let args = ["bench", "--quick", "--only", "idle", "--busy", "1,2"];
    shoal(&args).failed(2, "several");
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
        ["--busy", "-1"],
        ["--waits", "nothing"],
    ] {
        shoal(&[&["bench"], &args[..]].concat()).failed(2, args[1]);
    }
}
