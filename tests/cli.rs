//! The command line: what it prints, what it changes, how it ends.
#![cfg(feature = "cli")]

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use assert_cmd::Command;
use serde_json::Value;
use shoal::{ForkOptions, Map, Options, Queue, Timeout, fork};

/// A command that runs this long hangs.
const WATCHDOG: Duration = Duration::from_secs(120);

fn shoal(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shoal"));
    command.args(args).timeout(WATCHDOG);
    command.env_remove("CUDA_VISIBLE_DEVICES");
    command
}

/// What it printed; it must have succeeded.
fn printed(args: &[&str]) -> String {
    text(shoal(args).assert().success().get_output())
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn complaint(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn json(args: &[&str]) -> Value {
    serde_json::from_str(&printed(args)).unwrap()
}

/// A name that no other test uses.
fn unique(stem: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("cli-{stem}-{}-{count}", std::process::id())
}

fn exists(name: &str) -> bool {
    shoal::stat(name).is_ok()
}

/// The line of `ls` about this object.
fn line<'a>(listing: &'a str, name: &str) -> Vec<&'a str> {
    let about = |line: &&str| line.split_whitespace().next() == Some(name);
    let found = listing.lines().find(about);
    found.unwrap_or_else(|| panic!("{name} is not in\n{listing}"));
    found.unwrap().split_whitespace().collect()
}

#[test]
fn ls_lists_queues_and_maps_with_their_state() {
    let queue = Queue::create(&unique("ls-queue")).unwrap();
    let name = unique("ls-map");
    let map = Map::with_options(Some(&name), &Options::create().persistent()).unwrap();
    let listing = printed(&["ls"]);
    assert_eq!(line(&listing, "NAME")[1..4], ["KIND", "STATE", "ATTACHED"]);
    assert_eq!(line(&listing, queue.name())[1..4], ["queue", "live", "1"]);
    assert_eq!(line(&listing, map.name())[1..4], ["map", "persistent", "1"]);

    let listing = json(&["ls", "--json"]);
    let find = |name: &str| {
        let all = listing.as_array().unwrap();
        all.iter().find(|it| it["name"] == name).unwrap().clone()
    };
    for (name, kind, state) in [
        (queue.name(), "queue", "live"),
        (map.name(), "map", "persistent"),
    ] {
        let object = find(name);
        assert_eq!(object["kind"], kind);
        assert_eq!(object["state"], state);
        assert_eq!(object["participants"][0]["pid"], std::process::id());
        assert!(object["committed_bytes"].as_u64() > Some(0));
        assert!(object["problem"].is_null());
    }
    drop(map);
    Map::unlink(&name).unwrap();
}

#[test]
fn stat_tells_what_is_in_an_object_and_changes_nothing() {
    let queue = Queue::create(&unique("stat-queue")).unwrap();
    queue.put(b"one", Timeout::Infinite).unwrap();
    queue.put(b"two", Timeout::Infinite).unwrap();
    let stat = json(&["stat", queue.name(), "--json"]);
    assert_eq!(stat["name"], queue.name());
    assert_eq!(stat["len"], 2);
    assert_eq!(stat["bytes"], queue.bytes());
    assert_eq!(stat["capacity_bytes"], queue.capacity());
    assert_eq!(stat["closed"], false);
    let participants = stat["participants"].as_array().unwrap();
    assert_eq!(participants.len(), 1, "{stat}");
    assert_eq!(participants[0]["pid"], std::process::id());

    queue.close().unwrap();
    let people = printed(&["stat", queue.name()]);
    assert!(people.contains("length    2\n"), "{people}");
    assert!(people.contains("closed    yes\n"), "{people}");
    assert!(people.contains("attached  1\n"), "{people}");
    assert_eq!(queue.len(), 2);

    let map = Map::create(&unique("stat-map")).unwrap();
    map.set(b"key", b"value").unwrap();
    let stat = json(&["stat", map.name(), "--json"]);
    assert_eq!((&stat["kind"], &stat["len"]), (&"map".into(), &1.into()));
    assert!(stat.get("closed").is_none());
    assert!(printed(&["stat", map.name()]).contains("length    1\n"));
}

#[test]
fn an_object_that_does_not_exist_is_exit_code_3_and_named() {
    let missing = unique("missing");
    for command in ["stat", "rm"] {
        let ended = shoal(&[command, &missing]).assert().code(3);
        assert_eq!(text(ended.get_output()), "");
        assert!(complaint(ended.get_output()).contains(&missing));
    }
}

#[test]
fn a_name_that_cannot_be_one_is_a_failure() {
    for command in ["stat", "rm"] {
        let ended = shoal(&[command, "../passwd"]).assert().code(1);
        assert!(complaint(ended.get_output()).starts_with("shoal: invalid"));
    }
}

#[test]
fn rm_removes_all_it_can() {
    let names = [unique("rm"), unique("rm-missing"), unique("rm")];
    let first = Queue::create(&names[0]).unwrap();
    let last = Map::create(&names[2]).unwrap();
    let ended = shoal(&["rm", &names[0], &names[1], &names[2]]).assert();
    let complaint = complaint(ended.code(3).get_output());
    assert!(complaint.contains(&names[1]), "{complaint}");
    assert_eq!(complaint.lines().count(), 1, "{complaint}");
    assert!(!exists(&names[0]) && !exists(&names[2]));
    // Whoever has them open keeps them.
    first.put(b"still", Timeout::Infinite).unwrap();
    last.set(b"still", b"here").unwrap();
}

/// Leaves an object behind, as a process does that is killed.
fn leave_behind(name: &str) {
    let entry = || {
        let queue = Queue::create(name).unwrap();
        queue.put(b"left", Timeout::Infinite).unwrap();
        // SAFETY: it ends this process and nothing else.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        0
    };
    // SAFETY: the entry uses nothing but this library and `malloc`.
    let child = unsafe { fork(&ForkOptions::default(), entry) }.unwrap();
    assert_eq!(child.join(Timeout::Infinite).unwrap().code, libc::SIGKILL);
}

#[test]
fn gc_removes_what_the_killed_left_and_nothing_in_use() {
    let live = Queue::create(&unique("gc-live")).unwrap();
    let kept = unique("gc-kept");
    drop(Map::with_options(Some(&kept), &Options::create().persistent()).unwrap());
    let stale = unique("gc-stale");
    leave_behind(&stale);
    assert_eq!(
        line(&printed(&["ls"]), &stale)[1..4],
        ["queue", "stale", "0"]
    );
    // Looking at it does not remove it, and neither does asking what would go.
    assert_eq!(json(&["stat", &stale, "--json"])["state"], "stale");
    let has = |listed: &str, name: &str| listed.lines().any(|line| line == name);
    let would = printed(&["gc", "--dry-run"]);
    assert!(has(&would, &stale) && exists(&stale), "{would}");
    for name in [live.name(), &kept] {
        assert!(!has(&would, name), "{would}");
    }

    let removed = json(&["gc", "--json"]);
    let removed = removed.as_array().unwrap();
    assert!(removed.contains(&stale.as_str().into()), "{removed:?}");
    assert!(!exists(&stale));
    assert!(exists(live.name()) && exists(&kept));
    assert!(!has(&printed(&["gc"]), &stale));
    Map::unlink(&kept).unwrap();
}

/// What `shoal run` lets a program see.
fn seen(inherited: Option<&str>, args: &[&str]) -> String {
    let mut command = shoal(&["run"]);
    if let Some(mask) = inherited {
        command.env("CUDA_VISIBLE_DEVICES", mask);
    }
    command.args(args).args(["--", "sh", "-c"]);
    command.arg("echo ${CUDA_VISIBLE_DEVICES-unset}");
    text(command.assert().success().get_output())
}

#[test]
fn run_counts_devices_in_those_it_was_given() {
    assert_eq!(seen(None, &["--devices", "2,0"]), "2,0\n");
    assert_eq!(seen(Some("4,5,6"), &["--devices", "2,0"]), "6,4\n");
    assert_eq!(seen(Some("4,5,6"), &["--devices=1-2"]), "5,6\n");
    assert_eq!(seen(Some("4,5,6"), &[]), "4,5,6\n");
    assert_eq!(seen(None, &[]), "unset\n");
    let none = seen(Some("4,5,6"), &["--devices", "none"]);
    assert!(
        !none.contains(['4', '5', '6']) && none != "unset\n",
        "{none}"
    );
}

#[test]
fn run_in_run_composes() {
    let shoal_path = env!("CARGO_BIN_EXE_shoal");
    let mut outer = shoal(&["run", "--devices", "1,3,5", "--", shoal_path]);
    outer.args([
        "run",
        "--devices",
        "2,1",
        "--",
        "printenv",
        "CUDA_VISIBLE_DEVICES",
    ]);
    outer.env("CUDA_VISIBLE_DEVICES", "0,1,2,3,4,7");
    outer.assert().success().stdout("7,3\n");
}

#[test]
fn run_ends_as_the_program_does() {
    shoal(&["run", "true"]).assert().code(0).stdout("");
    shoal(&["run", "--", "sh", "-c", "exit 42"])
        .assert()
        .code(42);
    for signal in [libc::SIGTERM, libc::SIGKILL, libc::SIGPIPE] {
        let script = format!("kill -{signal} $$");
        let ended = shoal(&["run", "--devices", "0", "sh", "-c", &script]).assert();
        assert_eq!(ended.get_output().status.signal(), Some(signal));
    }
}

#[test]
fn run_hands_on_the_input_and_every_argument() {
    let mut cat = shoal(&["run", "--", "cat"]);
    cat.write_stdin("as it is")
        .assert()
        .success()
        .stdout("as it is");
    // What comes after the program is the program's, whatever it looks like.
    let mut echo = shoal(&["run", "printf", "[%s]", "--devices", "0", "--json"]);
    echo.assert().success().stdout("[--devices][0][--json]");
}

#[test]
fn a_program_that_cannot_run_ends_run_as_it_ends_a_shell() {
    let missing = unique("no-such-program");
    let ended = shoal(&["run", &missing]).assert().code(127);
    assert!(complaint(ended.get_output()).contains(&missing));

    let path = format!("{}/{}", env!("CARGO_TARGET_TMPDIR"), unique("plain"));
    std::fs::write(&path, "#!/bin/sh\necho ran\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let ended = shoal(&["run", &path]).assert().code(126);
    assert!(complaint(ended.get_output()).contains(&path));
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_mask_that_does_not_fit_runs_nothing() {
    for mask in ["3", "0,0", "-1", "x"] {
        let mut command = shoal(&["run", "--devices", mask, "--", "echo", "ran"]);
        command.env("CUDA_VISIBLE_DEVICES", "4,5,6");
        let ended = command.assert().code(1).stdout("");
        let complaint = complaint(ended.get_output());
        assert!(complaint.contains(mask), "{mask}: {complaint}");
    }
    // A family is no object, so this is not "no such object".
    for args in [
        &["run", "--devices", "0", "--family", "abacus", "echo"][..],
        &["devices", "export", "0", "--family", "abacus"],
    ] {
        let ended = shoal(args).assert().code(1).stdout("");
        assert!(complaint(ended.get_output()).contains("\"abacus\""));
    }
}

#[test]
fn a_shell_understands_what_devices_export_prints() {
    let eval = |mask: &str, then: &str| {
        let script = format!(r#"eval "$("$0" devices export {mask})" && {then}"#);
        let mut sh = Command::new("sh");
        sh.args(["-c", &script, env!("CARGO_BIN_EXE_shoal")]);
        sh.env("CUDA_VISIBLE_DEVICES", "4,5,6").timeout(WATCHDOG);
        text(sh.assert().success().get_output())
    };
    assert_eq!(eval("2,0", "echo $CUDA_VISIBLE_DEVICES"), "6,4\n");
    // By a child, so that it is exported and not only set.
    assert_eq!(eval("1", "printenv CUDA_VISIBLE_DEVICES"), "5\n");
    let none = eval("none", "printenv CUDA_VISIBLE_DEVICES");
    assert!(!none.contains(['4', '5', '6']), "{none}");
    // The mask it made can be read again, and hides everything.
    let mut show = shoal(&["devices", "show", "--json"]);
    show.env("CUDA_VISIBLE_DEVICES", none.trim_end());
    let shown: Value = serde_json::from_str(&text(show.assert().success().get_output())).unwrap();
    assert_eq!(shown[0]["visible"], "none");

    let edits = json(&["devices", "export", "1,2", "--json"]);
    let edit = serde_json::json!({"variable": "CUDA_VISIBLE_DEVICES", "value": "1,2"});
    assert!(edits.as_array().unwrap().contains(&edit), "{edits}");
    shoal(&["devices", "export", "0,0"])
        .assert()
        .code(1)
        .stdout("");
}

#[test]
fn devices_show_and_families_can_be_read_by_programs() {
    let families = json(&["devices", "families", "--json"]);
    let families = families.as_array().unwrap();
    let cuda = families.iter().find(|it| it["family"] == "cuda").unwrap();
    assert_eq!(cuda["variable"], "CUDA_VISIBLE_DEVICES");
    let people = printed(&["devices", "families"]);
    assert_eq!(people.lines().count(), families.len());
    assert!(people.contains("CUDA_VISIBLE_DEVICES"));

    let mut show = shoal(&["devices", "show", "--json"]);
    let ended = show.env("CUDA_VISIBLE_DEVICES", "1,3").assert().success();
    let shown: Value = serde_json::from_str(&text(ended.get_output())).unwrap();
    let cuda = shown.as_array().unwrap().iter();
    let cuda = cuda.clone().find(|it| it["family"] == "cuda").unwrap();
    assert_eq!(cuda["visible"], "1,3");
}

#[test]
fn usage_errors_are_exit_code_2() {
    let wrong: [&[&str]; 12] = [
        &[],
        &["swim"],
        &["ls", "extra"],
        &["stat"],
        &["rm"],
        &["run"],
        &["run", "--devices"],
        &["devices"],
        &["devices", "export"],
        &["gc", "--force"],
        &["bench", "--topologies", "0x1"],
        &["bench", "--only", "nothing"],
    ];
    for args in wrong {
        let ended = shoal(args).assert().code(2).stdout("");
        assert!(!complaint(ended.get_output()).is_empty(), "{args:?}");
    }
    for args in [
        ["bench", "--sizes", "7"],
        ["bench", "--sizes", "0"],
        ["bench", "--seconds", "0"],
        ["bench", "--seconds", "NaN"],
        ["bench", "--repeat", "0"],
    ] {
        let ended = shoal(&args).assert().code(2).stdout("");
        let complaint = complaint(ended.get_output());
        assert!(complaint.contains(args[1]), "{args:?}: {complaint}");
    }
}

#[test]
fn help_and_version_are_no_errors() {
    assert_eq!(
        printed(&["--version"]),
        format!("shoal {}\n", env!("CARGO_PKG_VERSION"))
    );
    for args in [&["--help"][..], &["run", "--help"], &["devices", "--help"]] {
        assert!(printed(args).contains("Usage:"), "{args:?}");
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    for args in [&["ls"][..], &["ls", "--json"], &["devices", "families"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_shoal"));
        let ended = command.args(args).stdout(writer).output().unwrap();
        assert_eq!(ended.status.code(), Some(0), "{args:?}");
        assert_eq!(complaint(&ended), "", "{args:?}");
    }
}

#[test]
fn output_that_cannot_be_written_is_an_error() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_shoal"));
    let mut child = command
        .args(["devices", "families"])
        .stdout(full)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut complaint = String::new();
    let mut stderr = child.stderr.take().unwrap();
    stderr.read_to_string(&mut complaint).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(complaint.starts_with("shoal: cannot write"), "{complaint}");
}

#[test]
fn bench_measures_and_judges() {
    let report = json(&["bench", "--quick", "--only", "map", "--json"]);
    let list = |what: &str| report[what].as_array().unwrap().len();
    assert!(list("goals") > 0 && list("map") > 0);
    assert_eq!(list("throughput"), 0);
    for goal in report["goals"].as_array().unwrap() {
        assert!(goal["what"].is_string(), "{goal}");
    }
}
