//! Values with a lifetime, and removed keys: what the server still has of them shows nowhere.

use std::time::{Duration, Instant};

use async_nats::jetstream::stream;

use crate::agent::Agent;
use crate::direct::{make, messages};
use crate::machine::{Machine, WATCHDOG};
use crate::maps::reads;
use crate::server::Server;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const BUCKET: &str = "KV_shoal_m_config";

/// A server with a bucket whose values live for a day at least.
fn with_a_slow_bucket() -> Server {
    let server = Server::start();
    let config = stream::Config {
        name: BUCKET.to_owned(),
        subjects: vec!["$KV.shoal_m_config.>".to_owned()],
        discard: stream::DiscardPolicy::New,
        max_messages_per_subject: 8,
        allow_rollup: true,
        allow_direct: true,
        allow_message_ttl: true,
        subject_delete_marker_ttl: Some(DAY),
        ..Default::default()
    };
    make(&server, config);
    server
}

fn expires(agent: &mut Agent, key: &str) {
    let set = format!("set-for config {key} x 1500");
    assert_eq!(agent.ask(&set), "ok");
    reads(agent, key, |answer| answer.ends_with(" x"));
    reads(agent, key, |answer| answer == "none");
}

#[test]
fn a_key_that_has_expired_here_can_be_created_again() {
    for server in [Server::start(), with_a_slow_bucket()] {
        let here = Machine::up(&server, &["--map", "config"]);
        let mut agent = here.agent();
        expires(&mut agent, "lock");
        assert_eq!(agent.ask("swap config lock 0 mine"), "true");
        reads(&mut agent, "lock", |answer| answer.ends_with(" mine"));
        expires(&mut agent, "gone");
        assert_eq!(agent.ask("remove config gone"), "false");
    }
}

#[test]
fn a_bridge_that_starts_after_a_key_has_expired_does_not_show_it() {
    for server in [Server::start(), with_a_slow_bucket()] {
        let mut here = Machine::up(&server, &["--map", "config"]);
        let mut agent = here.agent();
        expires(&mut agent, "short");
        agent.ask("set-for config long y 3600000");
        reads(&mut agent, "long", |answer| answer.ends_with(" y"));
        here.kill();
        here.start();
        let there = Machine::up(&server, &["--map", "config"]);
        agent.ask("set config last 1");
        for mut program in [agent, there.agent()] {
            reads(&mut program, "last", |answer| answer.ends_with(" 1"));
            assert_eq!(program.ask("get config short"), "none");
            assert!(program.ask("get config long").ends_with(" y"));
        }
    }
}

#[test]
fn an_older_value_of_a_key_does_not_return_when_the_last_one_has_expired() {
    let server = Server::start();
    let here = Machine::up(&server, &["--map", "config"]);
    let mut agent = here.agent();
    for key in ["short", "stays"] {
        agent.ask(&format!("set config {key} old"));
        reads(&mut agent, key, |answer| answer.ends_with(" old"));
    }
    expires(&mut agent, "short");
    let begun = Instant::now();
    while messages(&server, BUCKET) > 1 {
        assert!(begun.elapsed() < WATCHDOG, "the server keeps an old value");
        std::thread::sleep(Duration::from_millis(50));
    }
    let there = Machine::up(&server, &["--map", "config"]);
    let mut far = there.agent();
    reads(&mut far, "stays", |answer| answer.ends_with(" old"));
    assert_eq!(far.ask("get config short"), "none");
}

#[test]
fn the_server_keeps_no_older_value_of_a_removed_key() {
    let server = Server::start();
    let here = Machine::up(&server, &["--map", "config"]);
    let mut agent = here.agent();
    agent.ask("set config goes old");
    reads(&mut agent, "goes", |answer| answer.ends_with(" old"));
    assert_eq!(agent.ask("remove config goes"), "true");
    // The entry that says that it was removed. The server drops it after a day, and would have the old value then.
    assert_eq!(messages(&server, BUCKET), 1);
}
