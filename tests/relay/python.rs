//! Programs in Python use a relayed queue and a relayed map by the calls that they know.

use std::process::{Child, Command, Stdio};

use crate::common::{FOREVER, beside_others, millis};
use crate::native;
use crate::{Server, attach, attach_map};
use shoal::{Error, Map, Options, Queue, SettlementKind};

const PROGRAM: &str = r#"
import sys, shoal
jobs, config = shoal.Queue(sys.argv[1]), shoal.Map(sys.argv[2])
jobs.put({"job": 17})
assert jobs.get(timeout=30) == {"job": 17}
with jobs.lease(timeout=30) as job:
    assert (job.get(), job.attempts) == ({"job": 17}, 3)

config["limit"] = 7
assert config.insert("limit", 8) is False, "the set is done first"
assert config["limit"] == 7
assert config.compare_swap("limit", 7, 9) is True
assert config["limit"] == 9
assert config.add("sum", 5) == 5
assert config.add("sum", 0.5) == 5.5
assert config.update_with("limit", lambda old: old + 1) == 10
assert config.pop("limit") == 10
assert "limit" not in config
try:
    config.lock_key("limit")
except shoal.UnsupportedError as refused:
    assert "relay" in str(refused)
else:
    raise AssertionError("a key was locked")
"#;

/// The program, or nothing where there is no Python.
fn start(queue: &Queue, map: &Map) -> Option<Child> {
    let started = Command::new("python3")
        .args(["-c", PROGRAM, queue.name(), map.name()])
        .env("SHOAL_LIBRARY", native::library())
        .env("PYTHONPATH", native::root().join("bindings/python/src"))
        .stderr(Stdio::inherit())
        .spawn();
    started
        .inspect_err(|err| eprintln!("skipped, there is no python3: {err}"))
        .ok()
}

#[test]
fn a_program_in_python_needs_no_new_call() {
    let _turn = beside_others();
    let options = Options::create().max_capacity(1 << 24);
    let queue = crate::new_queue(&options);
    let map = crate::new_map(&options);
    let (jobs, config) = (attach(&queue), attach_map(&map));
    let Some(mut program) = start(&queue, &map) else {
        return;
    };
    let request = loop {
        match jobs.next_request(millis(100)) {
            Err(Error::Timeout) => assert_eq!(program.try_wait().unwrap(), None),
            request => break request.unwrap(),
        }
    };
    jobs.deliver(&request, 0, b"got", FOREVER).unwrap();
    jobs.deliver(&request, 2, b"leased", FOREVER).unwrap();
    request.done().unwrap();
    let mut server = Server::default();
    while program.try_wait().unwrap().is_none() {
        server.serve_all(&config, millis(5));
    }
    assert!(program.wait().unwrap().success());
    for token in [&b"got"[..], b"leased"] {
        let settlement = jobs.next_settlement(millis(1000)).unwrap();
        assert_eq!(settlement.token(), token);
        assert_eq!(settlement.kind(), SettlementKind::Done);
        settlement.done().unwrap();
    }
}
