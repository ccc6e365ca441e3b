//! Swaps whose answer was lost: they count once, or the program gets the error that the outcome is unknown.

use std::time::{Duration, Instant};

use crate::direct::{messages, publish};
use crate::machine::{Machine, WATCHDOG};
use crate::maps::{reads, version};
use crate::proxy::Proxy;
use crate::server::Server;

/// Makes a swap whose answer is lost, and changes the key `others` times before the server is started again.
/// Returns the program's answer, and the key's value in the end.
fn after_a_lost_answer(others: usize) -> (String, String) {
    let mut server = Server::start();
    let proxy = Proxy::start(server.port());
    let mut machine = Machine::at(&proxy.url(), &["--map", "config"]);
    machine.start();
    machine.wait_for("the bridge", |report| {
        report.connected && report.role == "active"
    });
    let mut agent = machine.agent();
    assert_eq!(agent.ask("set config key old"), "ok");
    let read = reads(&mut agent, "key", |answer| answer.ends_with(" old"));
    // The watch may report the set before the server's answer arrives, and a swap waits for that answer.
    machine.wait_for("the set", |report| report.maps[0].sent == 1);
    proxy.drop_answers(true);
    agent.tell(&format!("swap config key {} ours", version(&read)));
    let begun = Instant::now();
    while messages(&server, "KV_shoal_m_config") < 2 {
        assert!(begun.elapsed() < WATCHDOG, "the swap does not arrive");
        std::thread::sleep(Duration::from_millis(10));
    }
    for other in 0..others {
        publish(
            &server,
            "$KV.shoal_m_config.key",
            &[],
            format!("other{other}"),
        );
    }
    // The server loses everything that is not on disk.
    server.kill();
    proxy.drop_answers(false);
    server.resume();
    let told = agent.hear();
    (told, agent.ask("get config key"))
}

#[test]
fn a_swap_whose_answer_was_lost_is_found_behind_later_changes() {
    for others in [0, 1, 6] {
        let (told, _) = after_a_lost_answer(others);
        assert_eq!(told, "true", "{others} later changes");
    }
}

#[test]
fn a_swap_with_an_unknown_outcome_is_not_reported_as_a_conflict() {
    let (told, read) = after_a_lost_answer(40);
    assert!(told.contains("does not know what became"), "{told}");
    assert!(read.ends_with(" other39"), "{read}");
}
