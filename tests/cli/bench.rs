//! `shoal bench`: that it runs and reports, not what it measures.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::{Done, shoal};

/// A folder of this test, which is removed when the value is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let name = format!("shoal-bench-test-{test}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn bench(args: &[&str]) -> Done {
    shoal(&[&["bench"], args].concat())
}

/// What is printed on the standard output as JSON; progress goes to the standard error.
fn json(args: &[&str]) -> Value {
    let done = bench(&[args, &["--json"]].concat());
    assert_eq!(done.code, Some(0), "{}", done.err);
    serde_json::from_str(&done.out).unwrap()
}

fn count(report: &Value, what: &str) -> usize {
    report[what].as_array().unwrap().len()
}

/// The smallest part of the benchmark: one topology, one size, short windows.
const SMALL: [&str; 10] = [
    "--only",
    "queue",
    "--sizes",
    "64",
    "--topologies",
    "1x1",
    "--seconds",
    "0.01",
    "--repeat",
    "3",
];

fn change(file: &str, how: impl FnOnce(&mut Value)) {
    let mut report = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    how(&mut report);
    fs::write(file, report.to_string()).unwrap();
}

#[test]
fn a_quick_run_measures_and_compares_with_the_goals() {
    let queue = json(&[
        "--quick",
        "--only",
        "queue",
        "--sizes",
        "64",
        "--topologies",
        "1x1",
    ]);
    assert!(
        count(&queue, "throughput") > 0 && count(&queue, "goals") > 0,
        "{queue}"
    );
    assert_eq!(count(&queue, "map"), 0);

    let map = json(&["--quick", "--only", "map"]);
    assert!(count(&map, "map") > 0 && count(&map, "goals") > 0, "{map}");
    assert_eq!(count(&map, "throughput"), 0);

    let waits = json(&["--quick", "--busy", "1"]);
    let rows = waits["waits"].as_array().unwrap();
    assert!(rows.iter().all(|row| row["busy"] == 1), "{waits}");
    assert!(
        count(&waits, "waits") > 0 && count(&waits, "goals") > 0,
        "{waits}"
    );
    assert_eq!(count(&waits, "throughput"), 0);
}

#[test]
fn latency_is_measured_at_nine_rates_of_each_transports_own_capacity() {
    // Long enough for messages to be carried on a busy machine too.
    let args = [
        "--quick",
        "--only",
        "curves",
        "--busy",
        "0",
        "--transports",
        "shoal,pipe",
        "--seconds",
        "0.3",
    ];
    let report = json(&args);
    let curves = report["curves"].as_array().unwrap();
    let names: Vec<_> = curves.iter().map(|it| &it["transport"]).collect();
    assert_eq!(names, ["shoal", "pipe"]);
    for curve in curves {
        let capacity = curve["capacity"]["median"].as_f64().unwrap();
        let points = curve["points"].as_array().unwrap();
        assert_eq!(points.len(), 9);
        for (point, tenths) in points.iter().zip(1..) {
            let offered = point["offered"]["median"].as_f64().unwrap();
            let share = offered / capacity * 10.0;
            assert!((share - f64::from(tenths)).abs() < 0.001, "{share}");
            let late = |name: &str| point["late"][name]["median"].as_f64().unwrap();
            let rising = [
                "median_us",
                "p90_us",
                "p99_us",
                "p999_us",
                "p9999_us",
                "longest_us",
            ];
            assert!(rising.map(late).is_sorted(), "{point}");
        }
    }
}

#[test]
fn the_cost_of_calls_is_measured_as_objects_grow() {
    let report = json(&["--quick", "--only", "growth"]);
    let growth = report["growth"].as_array().unwrap();
    assert_eq!(growth.len(), 6, "{report}");
    for it in growth {
        let rows = it["rows"].as_array().unwrap();
        let counts: Vec<u64> = rows
            .iter()
            .map(|row| row["count"].as_u64().unwrap())
            .collect();
        assert!(counts.len() >= 4 && counts.is_sorted(), "{it}");
        let costs = |row: &Value| row["ns"]["median"].as_f64().unwrap() > 0.0;
        assert!(rows.iter().all(costs), "{it}");
    }
}

#[test]
fn a_report_is_the_same_from_its_json_and_from_its_page() {
    let folder = Folder::new("same");
    let (saved, page) = (folder.file("a.json"), folder.file("a.html"));
    let measured = json(&[&SMALL[..], &["--save", &saved, "--html", &page]].concat());
    assert_eq!(json(&["--from", &saved]), measured);
    assert_eq!(json(&["--from", &page]), measured);
    let samples = |report: &Value| report["throughput"][0]["million"]["samples"].clone();
    assert_eq!(samples(&measured).as_array().unwrap().len(), 3);

    // Also as text for people.
    let text = bench(&["--from", &page]).ok();
    assert!(text.contains("Throughput"), "{text}");
}

#[test]
fn a_page_is_self_contained() {
    let folder = Folder::new("page");
    let (saved, page) = (folder.file("a.json"), folder.file("a.html"));
    let done = bench(&[&SMALL[..], &["--save", &saved]].concat());
    assert_eq!(done.code, Some(0), "{}", done.err);
    // The text of a report is shown, and is not interpreted as a part of the page.
    let hostile = "</script><script>alert(1)</script>";
    change(&saved, |it| {
        it["machine"]["command"] = hostile.into();
        // On a busy machine no message may have been carried in so short a time, and no chart be drawn.
        for row in it["throughput"].as_array_mut().unwrap() {
            for figure in ["median", "least", "most"] {
                row["million"][figure] = 1.into();
            }
            row["million"]["samples"] = [1, 1, 1].to_vec().into();
        }
        let last = it["throughput"].as_array_mut().unwrap().last_mut();
        last.unwrap()["topology"] = hostile.into();
    });
    let image = folder.file("a.svg");
    bench(&["--from", &saved, "--html", &page, "--svg", &image]).ok();
    let svg = fs::read_to_string(&image).unwrap();
    assert!(svg.starts_with("<svg ") && svg.contains("<circle") && svg.contains(">shoal</text>"));
    let html = fs::read_to_string(&page).unwrap();
    assert_eq!(
        html.matches("<script").count(),
        1,
        "only the one that holds the report"
    );
    assert!(html.contains("<svg") && html.contains("prefers-color-scheme: dark"));
    // A description for screen readers.
    assert!(
        html.contains("aria-label=\"1 to 1; vertical: messages a second; horizontal: message\"")
    );
    for elsewhere in ["src=", "@import", "url(", "<link", "http://", "https://"] {
        // The namespace of SVG looks like an address, but is not fetched.
        let both = (html.clone() + &svg).replace("http://www.w3.org/2000/svg", "");
        assert!(!both.contains(elsewhere), "{elsewhere}");
    }
    assert_eq!(json(&["--from", &page])["machine"]["command"], hostile);
}

#[test]
fn the_report_of_the_docs_and_its_picture_are_what_this_program_makes_of_its_data() {
    let folder = Folder::new("docs");
    let (page, image) = (folder.file("a.html"), folder.file("a.svg"));
    let docs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let report = docs.join("report.html");
    let report = report.to_str().unwrap();
    bench(&["--from", report, "--html", &page, "--svg", &image]).ok();
    let is_as_made = |kept: &str, made: &str| {
        let (made, kept) = (fs::read(made), fs::read(docs.join(kept)));
        made.unwrap() == kept.unwrap()
    };
    assert!(
        is_as_made("report.html", &page) && is_as_made("throughput.svg", &image),
        "run `shoal bench --from docs/report.html --html docs/report.html --svg docs/throughput.svg`"
    );
}

#[test]
fn an_option_of_a_measurement_is_refused_where_nothing_is_measured() {
    let any = ["--from", "a.json"];
    let two = ["--compare", "a.json", "b.json"];
    let budget = ["--budget", "a.txt", "--compiler", "x"];
    for option in [
        &["--quick"][..],
        &["--peers"],
        &["--pinned"],
        &["--only", "queue"],
        &["--sizes", "64"],
        &["--ring", "4096"],
        &["--seconds", "1"],
        &["--repeat", "2"],
        &["--busy", "1"],
        &["--busy-session", "own"],
        &["--waits", "latency"],
        &["--transports", "shoal"],
        &["--topologies", "1x1"],
    ] {
        for what in [&any[..], &two, &budget] {
            bench(&[what, option].concat()).failed(2, "cannot be used with");
        }
    }
    bench(&[&any[..], &two].concat()).failed(2, "cannot be used with");
    bench(&[&budget[..], &["--save", "a.json"]].concat()).failed(2, "cannot be used with");
}

#[test]
fn two_reports_are_compared_by_their_samples() {
    let folder = Folder::new("compare");
    let (first, second) = (folder.file("first.json"), folder.file("second.json"));
    let done = bench(&[&SMALL[..], &["--save", &first]].concat());
    assert_eq!(done.code, Some(0), "{}", done.err);
    fs::copy(&first, &second).unwrap();
    let verdicts = |of: &Value| {
        let rows = of["rows"].as_array().unwrap().iter();
        let row = |it: &Value| {
            let text = |key: &str| it[key].as_str().unwrap().to_owned();
            (text("name"), text("verdict"), it["ratio"].as_f64().unwrap())
        };
        rows.map(row).collect::<Vec<_>>()
    };
    let same = verdicts(&json(&["--compare", &first, &second]));
    assert!(same.len() > 10);
    assert!(
        same.iter()
            .all(|(_, verdict, ratio)| verdict == "within_noise" && *ratio == 1.0),
        "{same:?}"
    );

    // In the second report, one figure is half as large in every window.
    let set = |file: &str, median: f64| {
        change(file, |it| {
            let samples = [0.9, 1.0, 1.1].map(|factor| factor * median);
            let rate = &mut it["throughput"][0]["million"];
            rate["samples"] = samples.to_vec().into();
            for (key, sample) in ["least", "median", "most"].into_iter().zip(samples) {
                rate[key] = sample.into();
            }
        });
    };
    set(&first, 10.0);
    set(&second, 5.0);
    let changed = verdicts(&json(&["--compare", &first, &second]));
    let worse: Vec<_> = changed.iter().filter(|it| it.1 == "worse").collect();
    assert!(
        matches!(worse[..], [(name, ..)] if name.starts_with("throughput, 64 B, 1x1, shoal")),
        "{changed:?}"
    );
    change(&second, |it| {
        it["busy"] = 2.into();
        it["machine"]["shoal"] = "9.9.9".into();
    });
    let text = bench(&["--compare", &first, &second]).ok();
    assert!(text.contains("Worse in the second, Shoal's"), "{text}");
    assert!(
        text.contains("computed meanwhile differ: 0 and 2"),
        "{text}"
    );
    assert!(text.contains("versions of Shoal differ"), "{text}");
    let back = verdicts(&json(&["--compare", &second, &first]));
    assert_eq!(back.iter().filter(|it| it.1 == "better").count(), 1);
}

#[test]
fn a_file_that_is_no_report_is_refused_by_name() {
    let folder = Folder::new("refused");
    let file = folder.file("a.json");
    bench(&["--from", &file]).failed(1, "a.json");
    for (text, why) in [
        ("", "not a report"),
        ("{}", "not a report"),
        ("[1]", "not a report"),
        (r#"{"format": 2}"#, "its format is 2"),
        (r#"{"format": 1, "cores": "many"}"#, "not a report"),
        (r#"{"format": 1}"#, "number of cores"),
    ] {
        fs::write(&file, text).unwrap();
        bench(&["--from", &file]).failed(1, why);
        bench(&["--compare", &file, &file]).failed(1, why);
    }
    // Numbers that no machine has are left out of charts.
    let growth = r#"{"what": "put", "beside": "messages", "rows": [
        {"count": 1, "ns": {"median": 1e308, "least": 1e-300, "most": 1e308, "samples": []}},
        {"count": 18446744073709551615, "ns": {"median": 1, "least": 1, "most": 1, "samples": []}}]}"#;
    fs::write(
        &file,
        format!(r#"{{"format": 1, "cores": 1, "growth": [{growth}]}}"#),
    )
    .unwrap();
    bench(&["--from", &file, "--html", &folder.file("a.html")]).ok();
    // A file that contains only its format and the number of cores is an empty report.
    fs::write(&file, r#"{"format": 1, "cores": 1}"#).unwrap();
    bench(&["--from", &file]).ok();
    bench(&["--from", &file, "--html", &folder.file("a.html")]).ok();
}

#[test]
fn an_unwritable_path_is_refused_before_anything_is_measured() {
    let nowhere = Path::new("/nowhere/at/all.html").to_str().unwrap();
    bench(&[&SMALL[..], &["--html", nowhere]].concat()).failed(2, nowhere);
    bench(&[&SMALL[..], &["--save", nowhere]].concat()).failed(2, nowhere);
}

#[test]
fn a_run_that_fails_leaves_no_empty_page() {
    let folder = Folder::new("empty");
    let (missing, page, old) = (
        folder.file("a.json"),
        folder.file("a.html"),
        folder.file("b.json"),
    );
    fs::write(&old, "kept").unwrap();
    bench(&["--from", &missing, "--html", &page, "--save", &old]).failed(1, "a.json");
    assert!(!Path::new(&page).exists());
    assert_eq!(fs::read_to_string(&old).unwrap(), "kept");
}

#[test]
fn other_parts_are_measured_beside_one_number_of_programs() {
    let args = ["bench", "--quick", "--only", "idle", "--busy", "1,2"];
    shoal(&args).failed(2, "several");
}

#[test]
fn an_unknown_measurement_is_wrong_usage() {
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
        bench(&args).failed(2, args[1]);
    }
    bench(&["--compare", "one.json"]).failed(2, "--compare");
    bench(&["--budget", "budget.txt"]).failed(2, "--compiler");
}
