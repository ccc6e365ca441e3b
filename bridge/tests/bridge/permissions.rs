//! Users with few permissions.

use crate::machine::Machine;
use crate::server::{Server, Setup};

const ARGS: [&str; 4] = ["--queue", "jobs:max-attempts=1", "--map", "config"];

/// The publishes that docs/bridge.md lists, for these objects.
const NEEDED: [&str; 13] = [
    "$JS.API.STREAM.INFO.>",
    "$JS.API.STREAM.CREATE.>",
    "$JS.API.STREAM.MSG.GET.>",
    "$JS.API.STREAM.PURGE.>",
    "$JS.API.DIRECT.GET.>",
    "$JS.API.CONSUMER.INFO.>",
    "$JS.API.CONSUMER.CREATE.>",
    "$JS.API.CONSUMER.MSG.NEXT.>",
    "$JS.ACK.>",
    "$JS.FC.>",
    "shoal.q.>",
    "$KV.shoal_m_config.>",
    "$O.shoal_large.>",
];

/// A server whose user may publish to all that a bridge needs but `denied`, and may subscribe to `inbox`.
fn server(denied: &str, inbox: &str) -> Server {
    let allowed: Vec<_> = NEEDED.iter().filter(|it| **it != denied).collect();
    let user = format!(
        "user: u, password: p, permissions: {{ publish: {allowed:?}, subscribe: {inbox:?} }}"
    );
    Server::with(&Setup {
        extra: format!("authorization {{ users: [ {{ {user} }} ] }}"),
        ..Setup::default()
    })
}

fn machine(server: &Server) -> Machine {
    let mut machine = Machine::new(server, &ARGS);
    let env = [("NATS_USER", "u"), ("NATS_PASSWORD", "p")];
    machine.env = env
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    machine
}

#[test]
fn the_documented_permissions_are_enough() {
    let server = server("", "_INBOX.>");
    let mut machine = machine(&server);
    machine.start();
    machine.wait_for("the bridge", |report| report.connected);
    let mut agent = machine.agent();
    assert_eq!(agent.ask("large jobs 2000000 10000"), "ok");
    let got = agent.ask("lease jobs 30000");
    assert!(got.starts_with("1 1 2000000-"), "{got}");
    assert_eq!(agent.ask("ack 1"), "ok");
    // It becomes a dead letter.
    assert_eq!(agent.ask("put jobs a 10000"), "ok");
    assert_eq!(agent.ask("lease jobs 30000"), "2 1 a");
    assert_eq!(agent.ask("nack 2 0"), "ok");
    assert_eq!(agent.ask("swap config a 0 x"), "true");
    assert_eq!(agent.ask("swap config a 0 x"), "false");
    assert_eq!(agent.ask("remove config a"), "true");
    machine.wait_for("the work", |report| {
        let (queue, map) = (&report.queues[0], &report.maps[0]);
        queue.acked == 1 && queue.dead_letters == 1 && map.sent == 2
    });
    assert_eq!(machine.terminate(), Some(0));
    let said = machine.log();
    assert!(!said.contains("Violation"), "{said}");
}

#[test]
fn a_permission_that_is_missing_ends_the_bridge_and_is_named() {
    for (denied, inbox, named) in [
        ("$JS.API.STREAM.INFO.>", "_INBOX.>", "$JS.API.STREAM.INFO."),
        ("$JS.API.CONSUMER.CREATE.>", "_INBOX.>", "$JS.API.CONSUMER."),
        ("", "_OTHER.>", "_INBOX."),
    ] {
        let (code, said) = machine(&server(denied, inbox)).run_to_end();
        assert_eq!(code, Some(3), "{said}");
        let last = said.lines().last().unwrap();
        assert!(last.contains("Violation") && last.contains(named), "{said}");
    }
}

#[test]
fn publishes_that_the_server_does_not_answer_are_in_the_status_with_the_cause() {
    let server = server("shoal.q.>", "_INBOX.>");
    let mut machine = machine(&server);
    machine.start();
    machine.wait_for("the bridge", |report| report.connected);
    assert_eq!(machine.agent().ask("put jobs a 10000"), "ok");
    machine.wait_for("the error", |report| {
        let last = &report.last_error;
        last.contains("does not answer")
            && last.contains("Violation")
            && last.contains("shoal.q.jobs")
    });
}
