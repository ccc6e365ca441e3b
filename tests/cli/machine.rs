//! `shoal doctor | top | completions | man | devices list`: what they print for programs.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;
use shoal::device::Machine;
use shoal::device::lease::Request;
use shoal::{Event, Lock, Options, Queue, Semaphore, Timeout};

use crate::objects::Directory;
use crate::{command, finish, shoal, unique};

#[test]
fn every_check_of_doctor_has_a_level_and_each_warning_has_advice() {
    let findings = shoal(&["doctor", "--json"]).json();
    let findings = findings.as_array().unwrap();
    let checks: Vec<&str> = findings
        .iter()
        .map(|it| it["check"].as_str().unwrap())
        .collect();
    for check in ["kernel", "space", "objects", "in use", "cores", "devices"] {
        assert!(checks.contains(&check), "{check} is not in {checks:?}");
    }
    for it in findings {
        let level = it["level"].as_str().unwrap();
        assert!(["ok", "note", "warn", "bad"].contains(&level), "{it}");
        let is_silent = it["advice"].as_str().is_none_or(str::is_empty);
        assert!(level != "bad" || !is_silent, "{it}");
    }
}

/// What `doctor` says about the directory, with which it finds fault.
fn fault_of_directory(doctor: &mut Command) -> Value {
    let done = finish(doctor);
    assert_eq!((done.code, done.err.as_str()), (Some(1), ""));
    let findings: Value = serde_json::from_str(&done.out).unwrap();
    let mut findings = findings.as_array().unwrap().iter();
    let it = findings.find(|it| it["check"] == "directory").unwrap();
    assert_eq!(it["level"], "bad");
    it.clone()
}

#[test]
fn doctor_reports_that_nothing_works_without_a_directory() {
    let directory = Directory::new();
    let missing = format!("{}/missing", directory.0);
    let it = fault_of_directory(command(&["doctor", "--json"]).env("SHOAL_DIR", &missing));
    assert!(it["found"].as_str().unwrap().contains(&missing), "{it}");
    assert!(it["advice"].as_str().unwrap().contains("SHOAL_DIR"), "{it}");
}

#[test]
fn doctor_reports_a_relative_directory() {
    let mut doctor = command(&["doctor", "--json"]);
    doctor.current_dir("/dev").env("SHOAL_DIR", "shm");
    let it = fault_of_directory(&mut doctor);
    let found = it["found"].as_str().unwrap();
    assert!(found.contains("not an absolute path"), "{it}");
}

#[test]
fn doctor_checks_the_directory_that_is_used() {
    let directory = Directory::new();
    let odd = std::path::Path::new(&directory.0).join(OsStr::from_bytes(b"odd\xff"));
    fs::create_dir(&odd).unwrap();
    for (named, shown) in [
        (OsStr::new(""), "/dev/shm"),
        (odd.as_os_str(), "odd\u{fffd}"),
    ] {
        let mut doctor = command(&["doctor", "--json"]);
        let findings = finish(doctor.env("SHOAL_DIR", named)).json();
        let mut findings = findings.as_array().unwrap().iter();
        let space = findings.find(|it| it["check"] == "space").unwrap();
        assert!(space["found"].as_str().unwrap().contains(shown), "{space}");
    }
    // `Directory` expects names that are text.
    fs::remove_dir(odd).unwrap();
}

#[test]
fn doctor_reports_that_no_device_can_be_leased() {
    let directory = Directory::new();
    let file = format!("{}/file", directory.0);
    fs::write(&file, "").unwrap();
    let check = |place: &str| {
        let mut doctor = command(&["doctor", "--json"]);
        doctor.env("SHOAL_FAKE_DEVICES", "cuda:1");
        let findings = finish(doctor.env("SHOAL_LEASE_DIR", place)).json();
        let findings = findings.as_array().unwrap().iter();
        let of_leases = findings.filter(|it| it["check"] == "leases").cloned();
        of_leases.collect::<Vec<Value>>()
    };
    for place in ["relative", &format!("{}/no/parent", directory.0), &file] {
        let found = check(place);
        assert_eq!(found.len(), 1, "{place}: {found:?}");
        assert_eq!(found[0]["level"], "warn");
        let advice = found[0]["advice"].as_str().unwrap();
        assert!(advice.contains("SHOAL_LEASE_DIR"), "{advice}");
    }
    assert_eq!(check(&format!("{}/leases", directory.0)), [Value::Null; 0]);
    fs::remove_file(file).unwrap();
}

#[test]
fn doctor_warns_of_a_limit_that_is_too_low() {
    let script = r#"ulimit -v 4000000; exec "$0" doctor --json"#;
    let mut shell = Command::new("sh");
    shell.args(["-c", script, env!("CARGO_BIN_EXE_shoal")]);
    let findings = finish(&mut shell).json();
    let mut findings = findings.as_array().unwrap().iter();
    let it = findings.find(|it| it["check"] == "address space").unwrap();
    assert_eq!(it["level"], "warn");
}

#[test]
fn doctor_prints_the_masks_and_accepts_correct_ones() {
    let masks = |name: &str, value: &str| {
        let mut doctor = command(&["doctor", "--json"]);
        doctor.env(name, value).env("SHOAL_FAKE_DEVICES", "");
        let findings: Value = serde_json::from_str(&finish(&mut doctor).out).unwrap();
        let findings = findings.as_array().unwrap().iter();
        let masks = findings.filter(|it| it["check"] == "mask").cloned();
        masks.collect::<Vec<Value>>()
    };
    for (name, value) in [
        ("CUDA_VISIBLE_DEVICES", "1"),
        ("CUDA_VISIBLE_DEVICES", "GPU-1a2b"),
        ("CUDA_VISIBLE_DEVICES", "MIG-1a2b"),
        ("CUDA_VISIBLE_DEVICES", "-1"),
        ("HIP_VISIBLE_DEVICES", "1"),
        ("ROCR_VISIBLE_DEVICES", "0"),
    ] {
        let found = masks(name, value);
        assert_eq!(found.len(), 1, "{name}={value}: {found:?}");
        assert_eq!(found[0]["level"], "note", "{found:?}");
        let text = found[0]["found"].as_str().unwrap();
        assert!(text.starts_with(&format!("{name}={value} ")), "{text}");
    }
    let wrong = &masks("HABANA_VISIBLE_MODULES", "zero")[0];
    assert_eq!(wrong["level"], "warn");
    let advice = wrong["advice"].as_str().unwrap();
    assert!(advice.contains("HABANA_VISIBLE_MODULES=zero"), "{advice}");
}

#[test]
fn top_prints_rates_holders_and_its_own_cost() {
    let queue = Queue::create(&unique("top")).unwrap();
    let lock = Lock::create(&unique("top")).unwrap();
    let permits = Semaphore::with_options(Some(&unique("top")), 3, &Options::create()).unwrap();
    let event = Event::create(&unique("top")).unwrap();
    let _ = lock.acquire(Timeout::Infinite).unwrap();
    permits.acquire(Timeout::Infinite).unwrap();
    permits.acquire(Timeout::Infinite).unwrap();
    event.set();
    let mut top = command(&["top", "cli-top", "--json", "-n", "40", "--interval", "0.05"]);
    let child = top.stdout(Stdio::piped()).spawn().unwrap();
    crate::common::watchdog();
    // True while `top` runs.
    let looking = AtomicBool::new(true);
    let done = std::thread::scope(|scope| {
        scope.spawn(|| {
            while looking.load(Ordering::Relaxed) {
                queue.put(b"1234", Timeout::Infinite).unwrap();
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
        });
        let done = child.wait_with_output().unwrap();
        looking.store(false, Ordering::Relaxed);
        done
    });
    let text = String::from_utf8(done.stdout).unwrap();
    let looks: Vec<Value> = text
        .lines()
        .map(|it| serde_json::from_str(it).unwrap())
        .collect();
    assert_eq!(looks.len(), 40);
    let find = |look: &Value, name: &str| -> Value {
        let mut all = look["objects"].as_array().unwrap().iter();
        all.find(|it| it["name"] == name).unwrap().clone()
    };
    let rates = looks
        .iter()
        .filter_map(|it| find(it, queue.name())["put_per_second"].as_f64());
    assert!(rates.sum::<f64>() > 0.0);
    let last = &looks[39];
    assert!(last["own_cpu"].as_f64().is_some() && last["seconds"].as_f64() > Some(0.0));
    let me = std::process::id();
    let held = &find(last, lock.name())["holders"][0];
    assert_eq!((&held["what"], &held["pid"]), (&"lock".into(), &me.into()));
    let it = find(last, permits.name());
    assert_eq!(
        (&it["len"], &it["holders"][0]["count"]),
        (&1.into(), &2.into())
    );
    assert_eq!(find(last, event.name())["set"], true);
    lock.release().unwrap();
}

#[test]
fn top_without_objects_prints_rates_of_zero() {
    let directory = Directory::new();
    let mut top = command(&["top", "-n", "1", "--interval", "0.05"]);
    let printed = finish(top.env("SHOAL_DIR", &directory.0)).ok();
    assert!(printed.contains("put 0/s, taken 0/s"), "{printed}");
}

#[test]
fn top_ends_when_its_output_is_closed() {
    let mut shell = Command::new("sh");
    let script = r#""$0" top --interval 0.05 | head -1"#;
    shell.args(["-c", script, env!("CARGO_BIN_EXE_shoal")]);
    assert!(finish(&mut shell).ok().contains("objects"));
}

#[test]
fn completions_and_man_pages_know_every_command() {
    let directory = Directory::new();
    let folder = format!("{}/man", directory.0);
    shoal(&["man", &folder]).ok();
    let page = |name: &str| fs::read_to_string(format!("{folder}/{name}.1")).unwrap();
    assert!(page("shoal").contains("SHOAL_DIR"));
    let put = page("shoal-queue-put");
    assert!(put.contains(".TH shoal-queue-put") && put.contains("shoal queue put"));
    shoal(&["man", "/dev/null/x"]).failed(1, "/dev/null/x");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = shoal(&["completions", shell]).ok();
        for verb in ["queue", "peek", "doctor", "completions", "families"] {
            assert!(script.contains(verb), "{verb} is not completed by {shell}");
        }
    }
    shoal(&["completions", "tcsh"]).failed(2, "tcsh");
    let bash = shoal(&["completions", "bash"]).ok();
    let mut shell = Command::new("bash");
    let check = format!("{bash}\ncomplete -p shoal");
    assert!(finish(shell.args(["-c", &check])).ok().contains("shoal"));
}

/// A request for two of these pretended devices.
fn request_of_two(devices: &str, leases: &str) -> Request {
    let mut machine = Machine::from_environment();
    machine.fake = Some(devices.to_owned());
    machine.leases = leases.into();
    Request::new(2).machine(machine)
}

#[test]
fn devices_are_listed_with_their_holders() {
    let directory = Directory::new();
    let leases = format!("{}/leases", directory.0);
    let request = request_of_two("cuda:3:24G:20G:15", &leases);
    let lease = request.command("train").acquire(Timeout::Infinite).unwrap();
    let devices = |args: &[&str]| {
        let mut list = command(&[&["devices"], args].concat());
        list.env("SHOAL_FAKE_DEVICES", "cuda:3:24G:20G:15");
        finish(list.env("SHOAL_LEASE_DIR", &leases))
    };
    let listed = devices(&["list", "--json"]).json();
    let listed = listed["devices"].as_array().unwrap();
    assert_eq!(listed.len(), 3);
    let held: Vec<&Value> = listed
        .iter()
        .filter(|it| it["holders"][0].is_object())
        .collect();
    assert_eq!(held.len(), 2);
    for it in held {
        let holder = &it["holders"][0];
        assert_eq!(
            (&holder["share"], &holder["command"]),
            (&1.0.into(), &"train".into())
        );
        assert_eq!(holder["pid"], std::process::id());
        assert_eq!(it["memory_total_bytes"], 24u64 << 30);
        assert_eq!(it["utilisation_percent"], 15);
    }
    assert!(devices(&["list"]).ok().contains("train"));
    assert!(devices(&["top", "-n", "1"]).ok().contains("train"));
    let looked = {
        let mut top = command(&["top", "-n", "1", "--interval", "0.05", "--json"]);
        finish(
            top.env("SHOAL_LEASE_DIR", &leases)
                .env("SHOAL_DIR", &directory.0),
        )
        .json()
    };
    assert_eq!(looked["leased_devices"], 2);
    drop(lease);
    // A child that another test has just forked holds a copy of the lease until it executes its program.
    while devices(&["list"]).ok().contains("train") {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    devices(&["list", "--family", "gpu"]).failed(2, "gpu");
    assert!(
        devices(&["list", "--family", "rocm"])
            .ok()
            .contains("no device was found")
    );
}

#[test]
fn devices_are_leased_even_if_their_holder_wrote_nothing() {
    let directory = Directory::new();
    let leases = format!("{}/leases", directory.0);
    let request = request_of_two("cuda:3", &leases);
    let _lease = request.acquire(Timeout::Infinite).unwrap();
    // As after a write to a full file system.
    for claim in fs::read_dir(&leases).unwrap() {
        let claim = fs::File::options().write(true).open(claim.unwrap().path());
        claim.unwrap().set_len(0).unwrap();
    }
    let shown = |args: &[&str]| {
        let mut show = command(args);
        show.env("SHOAL_FAKE_DEVICES", "cuda:3")
            .env("SHOAL_LEASE_DIR", &leases)
            .env("SHOAL_DIR", &directory.0);
        finish(&mut show)
    };
    let top = shown(&["top", "-n", "1", "--interval", "0.05", "--json"]).json();
    assert_eq!(top["leased_devices"], 2);
    for args in [
        &["devices", "list", "--json"][..],
        &["devices", "top", "-n", "1", "--json"],
    ] {
        let listed = shown(args).json();
        let listed = listed["devices"].as_array().unwrap().iter();
        assert_eq!(listed.filter(|it| it["holders"][0].is_object()).count(), 2);
    }
    let doctor = shown(&["doctor"]).out;
    assert!(doctor.contains("2 of 3 devices are leased"), "{doctor}");
}

/// The commands that a page shows: `shoal` and the words after it.
fn commands_in(page: &str) -> Vec<Vec<String>> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join(page)).unwrap();
    let is_word = |word: &&str| !word.is_empty() && word.bytes().all(|it| it.is_ascii_lowercase());
    let mut found = Vec::new();
    for line in text.lines() {
        let line = line.trim_start_matches("$ ");
        for (at, _) in line.match_indices("shoal ") {
            let is_command = at == 0 || line[..at].ends_with(['(', '|', ' ', '`']);
            let words = line[at..].split(' ').skip(1).take_while(is_word).take(2);
            let words: Vec<String> = words.map(str::to_owned).collect();
            if is_command && !words.is_empty() && (at == 0 || line.contains("$(shoal")) {
                found.push(words);
            }
        }
    }
    found
}

#[test]
fn a_bridge_that_may_not_be_executed_is_126_and_no_advice_to_install_it() {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(unique("bridge"));
    fs::create_dir(&dir).unwrap();
    let own = dir.join("shoal");
    // A copy, because the program looks for the other one beside itself. Another process writes it: children
    // that other tests fork inherit a file that this process has open for writing, and it cannot be executed then.
    let mut copy = Command::new("cp");
    copy.arg(env!("CARGO_BIN_EXE_shoal")).arg(&own);
    assert!(copy.status().unwrap().success());
    let status = || {
        finish(
            Command::new(&own)
                .args(["bridge", "status"])
                .env("PATH", &dir),
        )
    };
    status().failed(127, "cargo install");
    let bridge = dir.join("shoal-bridge");
    fs::write(&bridge, "no program").unwrap();
    let done = status();
    assert!(!done.err.contains("cargo install"), "{}", done.err);
    done.failed(126, bridge.to_str().unwrap());
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn every_command_that_a_page_shows_exists() {
    let groups = ["queue", "map", "list", "devices"];
    for (page, least) in [("README.md", 6), ("docs/command-line.md", 20)] {
        let commands = commands_in(page);
        assert!(commands.len() >= least, "{page} shows {commands:?}");
        for words in commands {
            // Only some commands have commands of their own; the next word of the others is a name.
            let depth = if groups.contains(&words[0].as_str()) {
                2
            } else {
                1
            };
            let mut args: Vec<&str> = words.iter().take(depth).map(String::as_str).collect();
            args.push("--help");
            let done = shoal(&args);
            // A separate program, which may be missing: it is started, or the error gives advice.
            let is_passed_on = words[0] == "bridge" && done.err.contains("cargo install");
            assert!(
                done.code == Some(0) || is_passed_on,
                "{page}: {words:?}: {}",
                done.err
            );
        }
    }
}
