//! A connection on which data waits longer than an answer may take.

use crate::direct::messages;
use crate::machine::{Machine, own_memory};
use crate::proxy::Proxy;
use crate::server::Server;

/// A machine that is connected through a proxy.
fn behind(proxy: &Proxy, args: &[&str]) -> Machine {
    let mut machine = Machine::at(&proxy.url(), args);
    machine.start();
    machine.wait_for("the bridge", |report| {
        report.connected && report.role == "active"
    });
    machine
}

#[test]
fn a_bucket_that_takes_long_to_transfer_is_watched_once() {
    const KEYS: usize = 12;
    let server = Server::start();
    let near = Machine::up(&server, &["--map", "config"]);
    let mut agent = near.agent();
    for key in 0..KEYS {
        agent.ask(&format!("large-value config k{key} 1000000"));
    }
    near.wait_for("the values", |report| report.maps[0].sent == KEYS as u64);
    let proxy = Proxy::start(server.port());
    proxy.limit(1_200_000);
    let far = behind(&proxy, &["--map", "config"]);
    let report = far.wait_for("the comparison", |report| report.maps[0].resyncs > 0);
    assert_eq!(report.maps[0].watches, 1, "{}", far.log());
    assert_eq!(far.agent().ask("count config"), KEYS.to_string());
}

#[test]
fn messages_that_wait_on_a_slow_connection_are_sent_once() {
    const NUMBER: u64 = 560;
    let server = Server::start();
    let proxy = Proxy::start(server.port());
    let machine = behind(&proxy, &["--queue", "jobs"]);
    proxy.limit(400_000);
    let mut agent = machine.agent();
    for _ in 0..NUMBER {
        assert_eq!(agent.ask("large jobs 20000 20000"), "ok");
    }
    let report = machine.wait_for("the messages", |report| {
        report.queues[0].published == NUMBER
    });
    assert_eq!(report.queues[0].repeated, 0, "{}", machine.log());
    assert_eq!(report.connects, 1, "{}", machine.log());
    assert!(proxy.sent() < NUMBER * 30_000, "{}", proxy.sent());
    assert_eq!(messages(&server, "shoal_q_jobs"), NUMBER);
}

#[test]
fn values_that_wait_on_a_slow_connection_are_sent_once() {
    const KEYS: u64 = 12;
    let server = Server::start();
    let proxy = Proxy::start(server.port());
    let machine = behind(&proxy, &["--map", "config"]);
    proxy.limit(1_000_000);
    let mut agent = machine.agent();
    for key in 0..KEYS {
        assert_eq!(
            agent.ask(&format!("large-value config k{key} 1000000")),
            "ok"
        );
    }
    let report = machine.wait_for("the values", |report| report.maps[0].sent == KEYS);
    assert_eq!(report.connects, 1, "{}", machine.log());
    assert!(proxy.sent() < KEYS * 1_500_000, "{}", proxy.sent());
}

#[test]
fn values_that_wait_for_the_server_stay_in_shared_memory_and_are_not_all_copied() {
    const KEYS: u64 = 200;
    let mut server = Server::start();
    let machine = Machine::up(&server, &["--map", "config"]);
    let mut agent = machine.agent();
    server.kill();
    for key in 0..KEYS {
        assert_eq!(
            agent.ask(&format!("large-value config k{key} 1000000")),
            "ok"
        );
    }
    let report = machine.wait_for("what waits", |report| report.maps[0].waiting == KEYS);
    let kib = own_memory(&report);
    assert!(kib < 130 << 10, "{kib} KiB");
    server.resume();
    machine.wait_for("the values", |report| report.maps[0].sent == KEYS);
}
