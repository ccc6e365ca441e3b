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
fn wrong_usage_changes_no_object_of_the_machine() {
    let folder = machine(&[]);
    let file = |name: &str, text: &str| {
        let path = folder.folder().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let block = "-----BEGIN CERTIFICATE-----\n*\n-----END CERTIFICATE-----\n";
    let (empty, garbled) = (file("empty", ""), file("garbled", block));
    let seed = file("seed", "SUGARBLED");
    let refused = |args: &[&str], env: &[(&str, &str)], word: &str| {
        let mut machine = machine(&[&["--queue", "jobs", "--map", "done"], args].concat());
        let env = env.iter();
        machine.env = env
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect();
        let (code, said) = machine.run_to_end();
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(word), "{word:?} is not in {said:?}");
        let left = std::fs::read_dir(machine.folder()).unwrap();
        let left: Vec<_> = left.map(|it| it.unwrap().file_name()).collect();
        assert!(left.is_empty(), "{said}: {left:?}");
    };
    for url in [
        "bad://x",
        "nats://",
        "ws://127.0.0.1",
        "nats://a:4222,",
        "nats://a:port",
    ] {
        refused(&[], &[("NATS_URL", url)], "address of the server");
    }
    for file in ["/nosuch", &empty] {
        refused(&[], &[("NATS_CREDS", file)], file);
        refused(&[], &[("NATS_CA", file)], file);
    }
    refused(&[], &[("NATS_NKEY", &seed)], "seed of a user");
    refused(&[], &[("NATS_CA", &garbled)], "malformed");
    let key = [("NATS_CERT", &*garbled), ("NATS_KEY", &*empty)];
    refused(&[], &key, "malformed");
    refused(&[], &key[..1], "needed together");
    refused(&[], &[("RUST_LOG", "=,=")], "RUST_LOG");
    refused(&["--prefix", "a b"], &[], "prefix");
    for number in ["0", "6", "-1", "99999999999999999999"] {
        refused(&["--replicas", number], &[], "expected 1 to 5");
    }
    refused(&["--metrics", "-1"], &[], "--metrics <PORT>");
    refused(&["--queue", "done"], &[], "named twice");
    refused(&["--queue", "jobs:nosuch=1"], &[], "no such setting");
}

#[test]
fn an_object_of_the_other_kind_is_wrong_usage_and_no_object_is_created() {
    let machine = machine(&["--queue", "jobs", "--map", "done"]);
    let mut agent = machine.agent();
    assert_eq!(agent.ask("put done a-queue 0"), "ok");
    let (code, said) = machine.run_to_end();
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("it is a queue, not a map"), "{said}");
    let left = std::fs::read_dir(machine.folder()).unwrap();
    let is_of_jobs = |name: &str| name.contains("jobs");
    assert!(
        !left
            .into_iter()
            .any(|it| is_of_jobs(&it.unwrap().file_name().to_string_lossy()))
    );
}

#[test]
fn a_local_queue_with_other_attempts_is_refused_with_both_numbers() {
    let machine = machine(&["--queue", "jobs:max-attempts=3"]);
    let mut agent = machine.agent();
    assert_eq!(agent.ask("put jobs m 0"), "ok");
    let (code, said) = machine.run_to_end();
    assert_eq!(code, Some(3), "{said}");
    let why = "has max_attempts none, this bridge needs 3";
    assert!(said.contains(why), "{said}");
}

#[test]
fn a_hangup_stops_a_bridge_in_order() {
    let server = Server::start();
    let mut machine = Machine::up(&server, &["--queue", "jobs"]);
    assert_eq!(machine.end_by("HUP"), Some(0), "{}", machine.log());
    assert!(machine.reports().is_empty());
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

/// The answer to a request for the metrics.
fn metrics(port: u16, method: &str) -> String {
    use std::io::{Read, Write};
    let mut client = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(client, "{method} /metrics HTTP/1.1\r\n\r\n").unwrap();
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    text
}

/// Whether a silent client is still connected.
fn is_connected(mut client: &std::net::TcpStream) -> bool {
    use std::io::Read;
    client.set_nonblocking(true).unwrap();
    let read = client.read(&mut [0]);
    read.is_err_and(|why| why.kind() == std::io::ErrorKind::WouldBlock)
}

#[test]
fn silent_clients_do_not_delay_the_metrics_of_others() {
    let server = Server::start();
    let machine = Machine::up(&server, &["--queue", "jobs", "--metrics", "0"]);
    let port = machine.reports()[0].metrics;
    let connect = || std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    // The bridge closes the oldest ones for the others, and a silent connection after a while.
    let silent: Vec<_> = (0..200).map(|_| connect()).collect();
    let text = metrics(port, "GET");
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    assert!(!is_connected(&silent[0]));
    assert!(is_connected(&silent[150]));
}

#[test]
fn a_request_for_the_head_of_the_metrics_is_answered_without_them() {
    let server = Server::start();
    let machine = Machine::up(&server, &["--queue", "jobs", "--metrics", "0"]);
    let text = metrics(machine.reports()[0].metrics, "HEAD");
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    assert!(text.ends_with("\r\n\r\n"), "{text}");
    assert!(!text.contains("Content-Length: 0"), "{text}");
}

#[test]
fn a_directory_that_cannot_have_objects_is_wrong_usage_and_is_named() {
    for folder in ["relative", "/nosuch"] {
        let mut machine = machine(&["--queue", "jobs"]);
        machine.env = vec![("SHOAL_DIR".to_owned(), folder.to_owned())];
        let (code, said) = machine.run_to_end();
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains("invalid SHOAL_DIR"), "{said}");
        assert!(said.contains(folder) && !said.contains("jobs"), "{said}");
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

#[test]
fn a_detailed_log_contains_no_password_of_an_address() {
    let url = "nats://me:s3cret@127.0.0.1:9";
    for level in ["trace", "debug,async_nats=trace"] {
        let mut machine = Machine::at(url, &["--queue", "jobs"]);
        machine.env = vec![("RUST_LOG".to_owned(), level.to_owned())];
        machine.start();
        machine.wait_for("the bridge", |report| !report.last_error.is_empty());
        assert_eq!(machine.terminate(), Some(0));
        let said = machine.log();
        assert!(said.contains("127.0.0.1:9"), "{said}");
        assert!(!said.contains("s3cret"), "{said}");
    }
}

#[test]
fn help_that_cannot_be_written_is_a_failure() {
    for args in [&["--help"][..], &["run", "--help"], &["--version"]] {
        let mut help = Command::new(env!("CARGO_BIN_EXE_shoal-bridge"));
        let done = help.args(args).stdout(full()).output().unwrap();
        let said = String::from_utf8(done.stderr).unwrap();
        assert_eq!(done.status.code(), Some(1), "{said}");
        assert!(said.contains("cannot write"), "{said}");
    }
}

/// The port of a server that greets its clients with this text, and answers pings.
fn greeter(greeting: &'static str) -> u16 {
    use std::io::{BufRead, BufReader, Write};
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let _ = (&client).write_all(greeting.as_bytes());
                for line in BufReader::new(&client).lines().map_while(Result::ok) {
                    if line == "PING" {
                        let _ = (&client).write_all(b"PONG\r\n");
                    }
                }
            });
        }
    });
    port
}

#[test]
fn a_server_that_is_too_old_is_refused_by_its_version() {
    let greeting = r#"INFO {"server_id":"x","server_name":"x","version":"2.10.26","go":"x","host":"127.0.0.1","port":4222,"headers":true,"max_payload":1048576,"proto":1,"client_id":1}"#;
    let port = greeter(Box::leak(format!("{greeting}\r\n").into_boxed_str()));
    let machine = Machine::at(&format!("nats://127.0.0.1:{port}"), &["--queue", "jobs"]);
    let (code, said) = machine.run_to_end();
    assert_eq!(code, Some(3), "{said}");
    let why = "has version 2.10.26, this bridge needs 2.11 or later";
    assert!(said.contains(why), "{said}");
}
