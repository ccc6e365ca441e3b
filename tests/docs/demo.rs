//! The example in which processes of several languages share a queue and a map: all that it
//! prints. (Python takes part in the tests of the Python package.)

use std::path::Path;
use std::process::Command;

use crate::native::{Language, Program, examples, succeed, watched};

const COUNT: &str = "500";

fn together(peers: &[(&str, &Path)]) -> Command {
    let mut together = Command::new(examples().join("together"));
    together.args(["--count", COUNT]);
    for (name, program) in peers {
        together.arg(format!("{name}={}", program.display()));
    }
    together
}

/// Runs the example and checks every line it printed. `languages` are those of the peers.
fn check(peers: &[(&str, &Path)], languages: &[&str]) {
    let printed = succeed(&mut together(peers));
    let (shared, ring) = printed
        .strip_prefix("all share one queue:\n")
        .and_then(|rest| rest.split_once("each has a queue to the next:\n"))
        .unwrap_or_else(|| panic!("{printed}"));
    let ring = ring
        .strip_suffix("the queues are empty, and nothing was lost\n")
        .unwrap_or_else(|| panic!("{printed}"));
    for part in [shared, ring] {
        // The peers print when they have finished, in any order; then the counts follow, in the order of the peers.
        let (mut done, counted) = part
            .lines()
            .partition::<Vec<_>, _>(|line| line.contains(" put "));
        let mut expected: Vec<_> = peers
            .iter()
            .zip(languages)
            .map(|((name, _), language)| {
                format!("{name} ({language}) put {COUNT} messages and took {COUNT}")
            })
            .collect();
        done.sort();
        expected.sort();
        assert_eq!(done, expected);
        let expected = peers
            .iter()
            .map(|(name, _)| format!("{COUNT} messages from {name} were consumed"));
        assert_eq!(counted, expected.collect::<Vec<_>>());
    }
}

#[test]
fn three_rust_processes_lose_nothing() {
    let rust = examples().join("peer");
    let peers = [("ada", &*rust), ("bea", &*rust), ("cleo", &*rust)];
    check(&peers, &["Rust"; 3]);
}

#[test]
fn c_cpp_and_rust_read_each_other() {
    let c = Program::build(Language::C99, "examples/c/peer.c");
    let cpp = Program::build(Language::Cpp17, "examples/cpp/peer.cpp");
    let rust = examples().join("peer");
    let peers = [("c", c.path()), ("cpp", cpp.path()), ("rust", &*rust)];
    check(&peers, &["C", "C++", "Rust"]);
}

#[test]
fn a_failed_peer_fails_the_whole_demo() {
    let (success, _, err) = watched(&mut together(&[("no", Path::new("/bin/false"))]));
    assert!(
        !success && err.starts_with("together: no ended with"),
        "{err}"
    );
    let (success, _, err) = watched(&mut together(&[("no", Path::new("/no/such"))]));
    assert!(!success && err.contains("/no/such"), "{err}");
    let (success, _, err) = watched(Command::new(examples().join("together")).arg("nobody"));
    assert!(!success && err.contains("NAME=PROGRAM"), "{err}");
}
