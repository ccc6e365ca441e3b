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

#[test]
fn the_port_of_metrics_that_the_kernel_has_chosen_is_logged_and_in_the_status() {
    let server = Server::start();
    let machine = Machine::up(&server, &["--queue", "jobs", "--metrics", "0"]);
    let port = machine.reports()[0].metrics;
    assert!(machine.log().contains(&format!("port={port}")));
    let stream = std::net::TcpStream::connect(("127.0.0.1", port));
    assert!(stream.is_ok(), "{stream:?}");
}

#[test]
fn silent_clients_do_not_delay_the_metrics_of_others() {
    use std::io::{Read, Write};
    let server = Server::start();
    let machine = Machine::up(&server, &["--queue", "jobs", "--metrics", "0"]);
    let port = machine.reports()[0].metrics;
    let connect = || std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut silent: Vec<_> = (0..5).map(|_| connect()).collect();
    let mut client = connect();
    client.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    // They are still connected: the bridge closes a silent connection after a while.
    for client in &mut silent {
        client.set_nonblocking(true).unwrap();
        let read = client.read(&mut [0]);
        let why = read.err().map(|why| why.kind());
        assert_eq!(why, Some(std::io::ErrorKind::WouldBlock));
    }
}

#[test]
fn an_empty_log_level_is_the_default_and_an_invalid_one_is_refused() {
    let server = Server::start();
    let mut machine = Machine::new(&server, &["--queue", "jobs"]);
    machine.env = vec![("RUST_LOG".to_owned(), String::new())];
    machine.start();
    machine.wait_for("the bridge", |report| report.connected);
    assert_eq!(machine.terminate(), Some(0));
    let said = machine.log();
    assert!(said.contains("connected"), "{said}");
    assert!(!said.contains("the connection is lost"), "{said}");
    machine.env = vec![("RUST_LOG".to_owned(), "jobs=x=y".to_owned())];
    let (code, said) = machine.run_to_end();
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("RUST_LOG"), "{said}");
}

#[test]
fn an_address_with_an_empty_entry_is_wrong_usage() {
    let server = Server::start();
    let machine = Machine::at(&format!("{},", server.url()), &["--queue", "jobs"]);
    let (code, said) = machine.run_to_end();
    assert_eq!(code, Some(2), "{said}");
}
