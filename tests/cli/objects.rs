//! `ls`, `stat`, `rm` and `gc`.

use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use shoal::{ForkOptions, Map, Options, Process, Queue, Timeout, fork};

use crate::{shoal, unique};

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

/// A queue whose only process was killed. One at a time, as `gc` collects those of others.
struct Stale(String, #[allow(dead_code)] MutexGuard<'static, ()>);

impl Stale {
    fn new() -> Self {
        static ONE: Mutex<()> = Mutex::new(());
        let guard = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let name = unique("stale");
        let child = holder(&name);
        child.kill().unwrap();
        child.join(Timeout::Infinite).unwrap();
        Self(name, guard)
    }

    fn exists(&self) -> bool {
        fs::exists(format!("/dev/shm/shoal.{}", self.0)).unwrap()
    }
}

impl Drop for Stale {
    fn drop(&mut self) {
        let _ = shoal::unlink(&self.0);
    }
}

/// A process that has the queue `name` open until it is killed.
fn holder(name: &str) -> Process {
    // SAFETY: the entry uses this library and sleeps.
    let child = unsafe {
        fork(&ForkOptions::default(), || {
            let _held = Queue::create(name);
            loop {
                std::thread::park();
            }
        })
    };
    let child = child.unwrap();
    let attached = || shoal::stat(name).is_ok_and(|it| !it.participants.is_empty());
    while !attached() {
        std::thread::yield_now();
    }
    child
}

#[test]
fn ls_tells_kind_state_memory_and_who_is_attached() {
    let (queue, map) = (unique("queue"), unique("map"));
    let queue = Queue::create(&queue).unwrap();
    let map = Map::with_options(Some(&map), &Options::create().persistent()).unwrap();
    let child = holder(queue.name());

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
    assert!(pids.contains(&(child.pid() as u64)), "{it}");
    let committed = it["committed_bytes"].as_u64().unwrap();
    assert!(
        committed > 0 && committed < it["max_bytes"].as_u64().unwrap(),
        "{it}"
    );
    let shown = line(queue.name());
    assert!(shown.contains(" queue  live ") && shown.contains(&format!("{} ", child.pid())));

    child.kill().unwrap();
    child.join(Timeout::Infinite).unwrap();
    assert_eq!(
        listed(queue.name()).unwrap()["participants"]
            .as_array()
            .unwrap()
            .len(),
        1
    );

    let name = map.name().to_owned();
    drop(map);
    assert!(line(&name).contains(" map    persistent "));
    assert!(line(&name).ends_with(" -"), "nobody is attached");
    Map::unlink(&name).unwrap();
    assert!(listed(&name).is_none());
}

#[test]
fn stat_tells_what_a_queue_and_a_map_hold_and_changes_nothing() {
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
fn stat_of_what_the_dead_left_does_not_remove_it() {
    let stale = Stale::new();
    let it = shoal(&["stat", &stale.0, "--json"]).json();
    assert_eq!(
        (&it["state"], &it["kind"]),
        (&"stale".into(), &"queue".into())
    );
    assert!(it.get("len").is_none());
    assert!(stale.exists());
}

#[test]
fn what_is_no_object_is_shown_with_the_reason_and_left_alone() {
    // A name that would clear the terminal, if it were printed as it is.
    let name = format!("{}\u{1b}[2J", unique("garbage"));
    let file = format!("/dev/shm/shoal.{name}");
    fs::write(&file, [0x5a; 100]).unwrap();
    let (text, it) = (shoal(&["ls"]).ok(), listed(&name));
    let removed = shoal(&["gc", "--dry-run", "--json"]).json();
    fs::remove_file(&file).unwrap();

    assert!(!text.contains('\u{1b}'));
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
fn a_name_that_is_missing_is_3_and_one_that_cannot_be_is_2() {
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
fn rm_removes_names_and_leaves_the_object_to_those_who_have_it() {
    let (one, two) = (unique("rm"), unique("rm"));
    let queue = Queue::create(&one).unwrap();
    let other = Queue::create(&two).unwrap();
    // One that is missing among them does not keep the rest.
    shoal(&["rm", &one, &unique("missing"), &two]).failed(3, "missing");
    assert!(listed(&one).is_none() && listed(&two).is_none());
    for queue in [queue, other] {
        queue.put(b"still here", Timeout::Infinite).unwrap();
        assert_eq!(queue.get_vec(Timeout::Infinite).unwrap(), b"still here");
    }
}

#[test]
fn gc_removes_what_the_dead_left_and_nothing_that_is_in_use_or_persistent() {
    let stale = Stale::new();
    let used = Queue::create(&unique("used")).unwrap();
    let kept = Map::with_options(Some(&unique("kept")), &Options::create().persistent()).unwrap();
    let kept = kept.name().to_owned();

    let would = shoal(&["gc", "--dry-run", "--json"]).json();
    assert!(
        would.as_array().unwrap().contains(&stale.0.as_str().into()),
        "{would}"
    );
    assert!(stale.exists());

    let removed = shoal(&["gc"]).ok();
    assert!(removed.lines().any(|name| name == stale.0), "{removed}");
    assert!(
        !removed.contains(used.name()) && !removed.contains(&kept),
        "{removed}"
    );
    assert!(!stale.exists());
    assert!(listed(used.name()).is_some() && listed(&kept).is_some());
    Map::unlink(&kept).unwrap();
}
