//! A connection on which data waits longer than an answer may take.

use crate::machine::Machine;
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
