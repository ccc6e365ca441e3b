//! What the command line says, and its exit codes, also where nothing can be written.

use std::fs::File;
use std::process::{Command, Stdio};

use crate::machine::Machine;
use crate::server::Server;

/// A machine whose bridge ends before it connects.
fn machine(args: &[&str]) -> Machine {
    Machine::at("nats://127.0.0.1:9", args)
}

fn full() -> File {
    File::options().write(true).open("/dev/full").unwrap()
}

#[test]
fn a_name_that_no_object_can_have_is_wrong_usage() {
    let long = [
        "x".repeat(193),
        format!("{}:max-attempts=2", "x".repeat(188)),
    ];
    for name in ["a b", "a/b", &long[0], &long[1]] {
        for kind in ["--queue", "--map"] {
            let (code, said) = machine(&[kind, name]).run_to_end();
            assert_eq!(code, Some(2), "{kind} {name}: {said}");
        }
    }
}

#[test]
fn the_exit_code_does_not_depend_on_whether_the_error_can_be_written() {
    let mut bridge = machine(&["--queue", "a b"]).spawn_to(full());
    assert_eq!(bridge.wait().unwrap().code(), Some(2));
    let machine = machine(&[]);
    let mut status = Command::new(env!("CARGO_BIN_EXE_shoal-bridge"));
    status.arg("status").env("SHOAL_DIR", machine.folder());
    let status = status.stdout(Stdio::null()).stderr(full()).status();
    assert_eq!(status.unwrap().code(), Some(4));
}

#[test]
fn a_status_that_cannot_be_written_is_a_failure() {
    let server = Server::start();
    let machine = Machine::up(&server, &["--queue", "jobs"]);
    for args in [&["status"][..], &["status", "--json"]] {
        let mut status = Command::new(env!("CARGO_BIN_EXE_shoal-bridge"));
        status.args(args).env("SHOAL_DIR", machine.folder());
        let done = status.stdout(full()).output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(1), "{said}");
        assert!(said.contains("standard output"), "{said}");
    }
}
