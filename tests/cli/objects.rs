//! `ls`, `stat`, `rm` and `gc`.

use std::fs;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use shoal::{Map, Options, Queue, Timeout};

use crate::common::{beside_others, only};
use crate::signals::contained;
use crate::{Done, command, finish, shoal, unique};

/// The object called `name` in what `ls --json` printed.
fn listed(name: &str) -> Option<Value> {
    let all = shoal(&["ls", "--json"]).json();
    let mut all = all.as_array().unwrap().iter();
    all.find(|it| it["name"] == name).cloned()
}

/// The line of `ls` about `name`.
fn line(name: &str) -> String {
    let text = shoal(&["ls"]).ok();
    let line = text.lines().find(|line| line.starts_with(name));
    line.unwrap_or_else(|| panic!("{name} is not in\n{text}"))
        .to_owned()
}

/// Tells the test below which queue to hold, and which persistent one to leave behind.
const HOLD: &str = "SHOAL_TEST_HOLD";
const KEEP: &str = "SHOAL_TEST_KEEP";

/// A process that has a queue open until it is killed. Not a fork of this one, which would be a participant of all
/// objects that other tests have open at the time.
struct Holder(Child);

impl Holder {
    fn of(name: &str) -> Self {
        Self::with(name, &[])
    }

    fn with(name: &str, environment: &[(&str, &str)]) -> Self {
        let mut hold = only(a_child_holds_a_queue_until_it_is_killed);
        hold.envs(environment.iter().copied());
        let it = Self(hold.env(HOLD, name).stdout(Stdio::null()).spawn().unwrap());
        let attached = || {
            let mut stat = command(&["stat", name, "--json"]);
            let done = finish(stat.envs(environment.iter().copied()));
            done.code == Some(0) && {
                let participants = &done.json()["participants"];
                let mut pids = participants.as_array().unwrap().iter().map(|it| &it["pid"]);
                pids.any(|pid| *pid == it.0.id())
            }
        };
        while !attached() {
            std::thread::sleep(Duration::from_millis(1));
        }
        it
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Not a test of its own.
#[test]
fn a_child_holds_a_queue_until_it_is_killed() {
    let Ok(name) = std::env::var(HOLD) else {
        return;
    };
    if let Ok(name) = std::env::var(KEEP) {
        let persistent = Options::create().persistent();
        drop(Map::with_options(Some(&name), &persistent).unwrap());
    }
    let _held = Queue::create(&name).unwrap();
    // A watchdog: no queue is held forever.
    std::thread::sleep(Duration::from_secs(180));
}

/// A directory of objects that no other program uses: elsewhere, the first creation by any process removes what
/// killed processes left.
pub(crate) struct Directory(pub(crate) String);

impl Directory {
    pub(crate) fn new() -> Self {
        let path = format!("/dev/shm/{}", unique("directory"));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn hold(&self, name: &str, keep: &[&str]) -> Holder {
        let mut environment = vec![("SHOAL_DIR", &*self.0)];
        environment.extend(keep.iter().map(|&name| (KEEP, name)));
        Holder::with(name, &environment)
    }

    /// A queue whose only process was killed.
    pub(crate) fn leave(&self, name: &str) {
        drop(self.hold(name, &[]));
    }

    pub(crate) fn shoal(&self, args: &[&str]) -> Done {
        finish(command(args).env("SHOAL_DIR", &self.0))
    }

    fn has(&self, name: &str) -> bool {
        fs::exists(format!("{}/shoal.{name}", self.0)).unwrap()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn ls_prints_kind_state_memory_and_participants() {
    let _beside = beside_others();
    let (queue, map) = (unique("queue"), unique("map"));
    let queue = Queue::create(&queue).unwrap();
    let map = Map::with_options(Some(&map), &Options::create().persistent()).unwrap();
    let child = Holder::of(queue.name());

    let it = listed(queue.name()).unwrap();
    assert_eq!(
        (&it["kind"], &it["state"]),
        (&"queue".into(), &"live".into())
    );
    let pids: Vec<u64> = it["participants"]
        .as_array()
        .unwrap()
        .iter()
        .map(|who| who["pid"].as_u64().unwrap())
        .collect();
    assert!(pids.contains(&u64::from(std::process::id())), "{it}");
    assert!(pids.contains(&u64::from(child.0.id())), "{it}");
    let committed = it["committed_bytes"].as_u64().unwrap();
    assert!(
        committed > 0 && committed < it["max_bytes"].as_u64().unwrap(),
        "{it}"
    );
    let shown = line(queue.name());
    let words: Vec<&str> = shown.split_whitespace().collect();
    assert_eq!(words[1..4], ["queue", "live", "0"], "{shown}");
    assert!(shown.contains(&format!("{} ", child.0.id())), "{shown}");

    drop(child);
    assert_eq!(
        listed(queue.name()).unwrap()["participants"]
            .as_array()
            .unwrap()
            .len(),
        1
    );

    let name = map.name().to_owned();
    drop(map);
    let shown = line(&name);
    let words: Vec<&str> = shown.split_whitespace().collect();
    assert_eq!(words[1..4], ["map", "persistent", "0"], "{shown}");
    assert!(shown.ends_with(" -"), "nobody is attached");
    Map::unlink(&name).unwrap();
    assert!(listed(&name).is_none());
}

#[test]
fn stat_prints_the_contents_of_queues_and_maps_and_changes_nothing() {
    let _beside = beside_others();
    let queue = Queue::create(&unique("stat")).unwrap();
    queue.put(b"twelve bytes", Timeout::Infinite).unwrap();
    let it = shoal(&["stat", queue.name(), "--json"]).json();
    assert_eq!(
        (&it["len"], &it["bytes"], &it["closed"]),
        (&1.into(), &12.into(), &false.into())
    );
    assert_eq!(it["capacity_bytes"].as_u64(), Some(queue.capacity()));
    assert_eq!(
        it["participants"].as_array().unwrap().len(),
        1,
        "not the one who looks"
    );
    queue.close().unwrap();
    let text = shoal(&["stat", queue.name()]).ok();
    assert!(
        text.contains("\nlength    1\n") && text.contains("\nclosed    yes\n"),
        "{text}"
    );
    assert!(
        text.contains(&format!("pid {:7}", std::process::id())),
        "{text}"
    );
    assert_eq!(queue.len(), 1);

    let map = Map::create(&unique("stat")).unwrap();
    map.set(b"key", b"value").unwrap();
    assert_eq!(shoal(&["stat", map.name(), "--json"]).json()["len"], 1);
}

#[test]
fn no_command_that_only_reports_removes_what_killed_processes_left() {
    let directory = Directory::new();
    directory.leave("stale");
    let it = directory.shoal(&["stat", "stale", "--json"]).json();
    assert_eq!(
        (&it["state"], &it["kind"]),
        (&"stale".into(), &"queue".into())
    );
    assert_eq!(it["len"], 0);
    for verb in ["get", "peek", "tail", "close"] {
        directory
            .shoal(&["queue", verb, "stale"])
            .failed(3, "`shoal gc` removes it");
    }
    for verb in [
        &["ls"][..],
        &["top", "-n", "1"],
        &["queue", "stat", "stale"],
    ] {
        directory.shoal(verb).ok();
    }
    // It creates a queue of its own.
    let findings = directory.shoal(&["doctor", "--json"]).json();
    let findings = findings.as_array().unwrap();
    let level = |check: &str| &findings.iter().find(|it| it["check"] == check).unwrap()["level"];
    assert_eq!(
        (level("objects"), level("stale")),
        (&"ok".into(), &"note".into())
    );
    assert!(directory.has("stale"));
}

#[test]
fn all_commands_use_the_directory_that_shoal_dir_names() {
    let directory = Directory::new();
    let name = unique("elsewhere");
    let _held = directory.hold(&name, &[]);
    assert!(directory.has(&name));
    assert!(directory.shoal(&["ls"]).ok().contains(&name));
    assert!(listed(&name).is_none());
    shoal(&["stat", &name]).failed(3, &name);
    directory.shoal(&["rm", &name]).ok();
    assert!(!directory.has(&name));

    for command in [&["ls"][..], &["gc"], &["stat", "x"], &["rm", "x"]] {
        let missing = format!("{}/missing", directory.0);
        let done = finish(crate::command(command).env("SHOAL_DIR", &missing));
        done.failed(1, &missing);
        finish(crate::command(command).env("SHOAL_DIR", "missing")).failed(2, "SHOAL_DIR");
    }
}

#[test]
fn a_file_that_is_no_object_is_shown_with_the_reason_and_left_unchanged() {
    let name = unique("garbage");
    let file = format!("/dev/shm/shoal.{name}");
    fs::write(&file, [0x5a; 100]).unwrap();
    let it = listed(&name);
    let removed = shoal(&["gc", "--dry-run", "--json"]).json();
    fs::remove_file(&file).unwrap();

    let it = it.unwrap();
    assert_eq!(
        (&it["state"], &it["kind"]),
        (&"unreadable".into(), &Value::Null)
    );
    assert!(
        it["problem"].as_str().is_some_and(|why| !why.is_empty()),
        "{it}"
    );
    assert!(!removed.as_array().unwrap().contains(&name.into()));
}

#[test]
fn a_missing_name_is_3_and_an_invalid_name_is_2() {
    let missing = unique("missing");
    let why = format!("no shared object is named {missing:?}");
    for verb in ["stat", "rm"] {
        shoal(&[verb, &missing]).failed(3, &why);
        shoal(&[verb, "../etc/passwd"]).failed(2, "invalid name");
        shoal(&[verb, ""]).failed(2, "it is empty");
        shoal(&[verb, &"x".repeat(300)]).failed(2, "the limit is 200");
        shoal(&[verb]).failed(2, "Usage:");
    }
}

#[test]
fn rm_removes_names_and_participants_keep_the_object() {
    let (one, two) = (unique("rm"), unique("rm"));
    let queue = Queue::create(&one).unwrap();
    let other = Queue::create(&two).unwrap();
    // A missing name among them does not keep the others from being removed.
    shoal(&["rm", &one, &unique("missing"), &two]).failed(3, "missing");
    assert!(listed(&one).is_none() && listed(&two).is_none());
    for queue in [queue, other] {
        queue.put(b"still here", Timeout::Infinite).unwrap();
        assert_eq!(queue.get_vec(Timeout::Infinite).unwrap(), b"still here");
    }
}

#[test]
fn gc_removes_objects_of_dead_processes_and_none_in_use_or_persistent() {
    let directory = Directory::new();
    let _used = directory.hold("used", &["kept"]);
    directory.leave("stale");

    let would = directory.shoal(&["gc", "--dry-run", "--json"]).json();
    assert_eq!(would, serde_json::json!(["stale"]));
    assert!(directory.has("stale"));

    assert_eq!(directory.shoal(&["gc"]).ok(), "stale\n");
    assert!(!directory.has("stale"));
    assert!(directory.has("used") && directory.has("kept"));
}

/// The first bytes of an object's file, which is sparse and as large as it may become.
fn beginning(path: &str, len: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let file = fs::File::open(path).unwrap();
    file.take(len).read_to_end(&mut bytes).unwrap();
    bytes
}

/// Everything that may lie in the directory without being a usable object.
fn fill_with_garbage(directory: &Directory) {
    let path = |name: &str| format!("{}/shoal.{name}", directory.0);
    directory.leave("good");
    let good = beginning(&path("good"), 1 << 16);
    for (name, at, byte) in [
        // The stamp's magic, the version, the kind, the object's layout.
        ("magic", 0, 0xff),
        ("version", 8, 0xff),
        ("kind", 20, 0x77),
        ("layout", 32, 0xff),
    ] {
        let mut bytes = good.clone();
        bytes[at] = byte;
        fs::write(path(name), bytes).unwrap();
    }
    // An object's stamp and size, followed by invalid bytes.
    let whole = fs::metadata(path("good")).unwrap().len();
    let mut body = good.clone();
    body[128..].fill(0xa5);
    fs::write(path("body"), body).unwrap();
    let file = fs::File::options().write(true).open(path("body")).unwrap();
    file.set_len(whole).unwrap();
    fs::write(path("short"), &good[..60]).unwrap();
    fs::write(path("truncated"), &good[..40_000]).unwrap();
    fs::write(path("empty"), b"").unwrap();
    fs::create_dir(path("folder")).unwrap();
    std::os::unix::fs::symlink(path("good"), path("link")).unwrap();
    let made = std::process::Command::new("mkfifo")
        .arg(path("pipe"))
        .status();
    assert!(made.unwrap().success());
}

#[test]
fn no_command_fails_because_of_other_files_among_the_objects() {
    let directory = Directory::new();
    fill_with_garbage(&directory);
    let names = [
        "magic",
        "version",
        "kind",
        "layout",
        "body",
        "short",
        "truncated",
        "empty",
        "folder",
        "link",
        "pipe",
    ];
    let listed = directory.shoal(&["ls", "--json"]).json();
    let listed = listed.as_array().unwrap();
    for name in names.iter().chain(&["good"]) {
        let it = listed.iter().find(|it| it["name"] == *name);
        let it = it.unwrap_or_else(|| panic!("{name} is not listed"));
        let shown = directory.shoal(&["stat", name, "--json"]).json();
        assert_eq!(it["state"], shown["state"], "{name}");
    }
    directory.shoal(&["ls"]).ok();
    directory
        .shoal(&["top", "-n", "1", "--interval", "0.05"])
        .ok();
    directory.shoal(&["doctor", "--json"]).json();
    for name in names {
        for verb in ["peek", "get", "stat"] {
            let done = directory.shoal(&["queue", verb, name, "--json"]);
            assert!(
                done.code.is_some(),
                "{verb} {name} was killed: {}",
                done.err
            );
            assert!(
                !done.err.contains("panicked"),
                "{verb} {name}: {}",
                done.err
            );
        }
    }
    directory.shoal(&["gc"]).ok();
    assert!(!directory.has("good"));
    // A file that is no object is left unchanged; objects of other versions are recognised.
    for name in ["magic", "short", "empty", "folder"] {
        assert!(directory.has(name), "{name} was removed");
    }
}

#[test]
fn commands_race_with_objects_that_come_and_go() {
    let directory = Directory::new();
    let _held = directory.hold("kept", &[]);
    let racing = std::sync::atomic::AtomicBool::new(true);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while racing.load(std::sync::atomic::Ordering::Relaxed) {
                directory.leave("raced");
            }
        });
        for _ in 0..10 {
            directory.shoal(&["gc"]).ok();
            directory.shoal(&["ls"]).ok();
            directory
                .shoal(&["top", "-n", "1", "--interval", "0.05"])
                .ok();
        }
        racing.store(false, std::sync::atomic::Ordering::Relaxed);
    });
    assert!(directory.has("kept"));
}

#[test]
fn observing_an_object_leaves_no_trace_in_it() {
    let directory = Directory::new();
    let held = directory.hold("watched", &[]);
    let bytes = || beginning(&format!("{}/shoal.watched", directory.0), 40_960);
    let before = bytes();
    for command in [
        &["ls"][..],
        &["stat", "watched"],
        &["queue", "stat", "watched"],
        &["top", "-n", "1", "--interval", "0.05"],
        &["doctor"],
    ] {
        directory.shoal(command).ok();
    }
    assert!(
        bytes() == before,
        "a command that looks has written to the object"
    );
    drop(held);
}

#[test]
fn a_directory_in_the_place_of_an_object_is_named_and_is_to_be_removed_by_hand() {
    let name = unique("folder");
    let path = format!("/dev/shm/shoal.{name}");
    std::fs::create_dir(&path).unwrap();
    let why = format!("{path:?} is a directory, and no object: remove it by hand");
    assert!(shoal(&["stat", &name]).ok().contains(&why));
    shoal(&["rm", &name]).failed(1, &why);
    shoal(&["queue", "put", &name, "x", "--create"]).failed(1, &why);
    assert!(shoal(&["ls", &name]).ok().contains("is a directory"));
    std::fs::remove_dir(&path).unwrap();
}

#[test]
fn a_file_of_another_kind_in_the_place_of_an_object_is_removed_by_rm() {
    let (link, fifo) = (unique("link"), unique("fifo"));
    let path = |name: &str| format!("/dev/shm/shoal.{name}");
    std::os::unix::fs::symlink("nowhere", path(&link)).unwrap();
    let made = Command::new("mkfifo").arg(path(&fifo)).status();
    assert!(made.unwrap().success());
    for (name, what) in [(&link, "a symbolic link"), (&fifo, "not a regular file")] {
        let why = format!("is {what}, and no object: `shoal rm` removes it");
        assert!(shoal(&["stat", name]).ok().contains(&why));
        shoal(&["queue", "put", name, "x", "--create"]).failed(1, &why);
        shoal(&["rm", name]).ok();
        shoal(&["stat", name]).failed(3, name);
    }
}

#[test]
fn an_object_that_cannot_be_shared_says_why_and_what_to_do() {
    let directory = Directory::new();
    let _held = directory.hold("held", &[]);
    fs::write(format!("{}/shoal.short", directory.0), "short").unwrap();
    directory
        .shoal(&["queue", "peek", "short"])
        .failed(1, "`shoal rm` removes it");
    if let Some(mut unshare) = contained() {
        unshare.arg(env!("CARGO_BIN_EXE_shoal"));
        unshare.args(["queue", "peek", "held"]);
        let done = finish(unshare.env("SHOAL_DIR", &directory.0));
        assert_eq!(done.code, Some(1));
        for said in ["pid namespace", "--pid=container:", "shareProcessNamespace"] {
            assert!(done.err.contains(said), "{}", done.err);
        }
    }
    // SAFETY: reads this process's user.
    if unsafe { libc::geteuid() } == 0 {
        let mut peek = command(&["queue", "peek", "held"]);
        let done = finish(peek.uid(65_534).gid(65_534).env("SHOAL_DIR", &directory.0));
        done.failed(
            1,
            "\"held\": it belongs to user 0, and this process runs as 65534",
        );
    }
}

#[test]
fn files_whose_names_no_object_has_are_not_listed() {
    let directory = Directory::new();
    directory.leave("good");
    for name in ["", "new\nline", "\u{1b}[31m", &"n".repeat(220)] {
        fs::write(format!("{}/shoal.{name}", directory.0), "none").unwrap();
    }
    let listed = directory.shoal(&["ls", "--json"]).json();
    let names: Vec<&Value> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["name"])
        .collect();
    assert_eq!(names, ["good"]);
}
