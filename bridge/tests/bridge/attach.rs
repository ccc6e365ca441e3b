//! When a bridge becomes the relay of objects, and when they are local ones again.

use crate::direct::{becomes_empty, make};
use crate::machine::Machine;
use crate::queues::leased;
use crate::server::Server;
use crate::settings::of_queue;

const BOTH: [&str; 4] = ["--queue", "jobs", "--map", "config"];

/// The machine's programs exchange messages and values without a bridge.
fn are_local(machine: &Machine) {
    let mut agent = machine.agent();
    assert_eq!(agent.ask("put jobs here 1000"), "ok");
    let (lease, _, message) = leased(&agent.ask("lease jobs 1000"));
    assert_eq!(message, "here");
    assert_eq!(agent.ask(&format!("ack {lease}")), "ok");
    assert_eq!(agent.ask("set config key value"), "ok");
    assert!(agent.ask("get config key").ends_with(" value"));
}

#[test]
fn a_bridge_that_the_server_refuses_at_its_start_leaves_its_objects_local() {
    let server = Server::start();
    let foreign = async_nats::jetstream::stream::Config {
        max_messages_per_subject: 5,
        ..of_queue()
    };
    make(&server, foreign);
    let machine = Machine::new(&server, &BOTH);
    let (code, said) = machine.run_to_end();
    assert_eq!(code, Some(3), "{said}");
    assert!(!said.contains("the connection is lost"), "{said}");
    are_local(&machine);
}

#[test]
fn a_bridge_that_the_server_refuses_leaves_none_of_the_objects_that_it_created() {
    let server = Server::start();
    let foreign = async_nats::jetstream::stream::Config {
        max_messages_per_subject: 5,
        ..of_queue()
    };
    make(&server, foreign);
    let args = ["--queue", "jobs:max-attempts=2", "--map", "config"];
    let machine = Machine::new(&server, &args);
    let objects = || {
        let left = std::fs::read_dir(machine.folder()).unwrap();
        let left = left.map(|it| it.unwrap().file_name().into_string().unwrap());
        let left: Vec<String> = left.filter(|name| name.starts_with("shoal.")).collect();
        left
    };
    let (code, said) = machine.run_to_end();
    assert_eq!(code, Some(3), "{said}");
    assert_eq!(objects(), [""; 0]);
    // The value of a program stays. The bridge has opened the queue before it refuses the map.
    let mut agent = machine.agent();
    assert_eq!(agent.ask("set config key value"), "ok");
    let (code, said) = machine.run_to_end();
    assert_eq!(code, Some(2), "{said}");
    assert_eq!(objects(), ["shoal.config"], "{said}");
    assert!(agent.ask("get config key").ends_with(" value"));
}

#[test]
fn what_found_no_room_in_a_queue_that_is_not_bridged_any_more_goes_into_it_when_it_is_detached() {
    let mut server = Server::start();
    let foreign = async_nats::jetstream::stream::Config {
        max_messages_per_subject: 5,
        ..of_queue()
    };
    make(&server, foreign);
    server.kill();
    let mut machine = Machine::new(&server, &["--queue", "jobs"]);
    let mut agent = machine.agent();
    assert_eq!(agent.ask("bounded jobs 2"), "ok");
    machine.start();
    machine.wait_for("the bridge", |report| report.role == "active");
    assert_eq!(agent.ask("puts jobs 5 m"), "ok");
    server.resume();
    assert_eq!(machine.ends(), Some(3), "{}", machine.log());
    assert_eq!(agent.ask("len jobs"), "2");
    agent.tell("work jobs 3000");
    let (code, said) = machine.execute(&["detach", "jobs"]);
    assert_eq!((code, &*said), (Some(0), ""));
    assert_eq!(agent.hear(), "m0,m1,m2,m3,m4");
    let (code, said) = machine.execute(&["detach", "jobs"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("is a local object already"), "{said}");
}

#[test]
fn a_map_with_keys_is_refused_before_any_object_is_bridged() {
    let server = Server::start();
    let machine = Machine::new(&server, &BOTH);
    // The map goes with the last program that has it.
    let mut holder = machine.agent();
    holder.ask("set config old 1");
    let (code, said) = machine.run_to_end();
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("it has 1 keys"), "{said}");
    are_local(&machine);
}

#[test]
fn a_bridge_that_cannot_start_leaves_objects_bridged_that_were_so_before() {
    let server = Server::start();
    let mut machine = Machine::up(&server, &BOTH);
    assert_eq!(machine.terminate(), Some(0));
    let mut other = machine.spawn_with(&["--queue", "jobs:max-messages=7", "--map", "config"]);
    assert_eq!(other.wait().unwrap().code(), Some(3));
    let mut agent = machine.agent();
    assert_eq!(agent.ask("put jobs m 1000"), "ok");
    assert!(agent.ask("lease jobs 300").contains("ErrTimeout"));
    machine.start();
    assert_eq!(leased(&agent.ask("lease jobs 30000")).2, "m");
}

#[test]
fn what_was_not_sent_is_in_the_object_after_it_was_detached() {
    let mut server = Server::start();
    let mut machine = Machine::up(&server, &BOTH);
    let (code, said) = machine.execute(&["detach", "jobs"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("a bridge carries it"), "{said}");
    server.kill();
    let mut agent = machine.agent();
    assert_eq!(agent.ask("put jobs waits 1000"), "ok");
    assert_eq!(agent.ask("set config waits 1"), "ok");
    assert_eq!(machine.terminate(), Some(0));
    // An object that cannot be detached keeps no other one from it.
    let (code, said) = machine.execute(&["detach", "none", "jobs", "nor", "config"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("none: ") && said.contains("nor: "), "{said}");
    assert_eq!(said.lines().count(), 2, "{said}");
    let (lease, _, message) = leased(&agent.ask("lease jobs 1000"));
    assert_eq!(message, "waits");
    agent.ask(&format!("ack {lease}"));
    assert!(agent.ask("get config waits").ends_with(" 1"));
    are_local(&machine);
    let (code, said) = machine.execute(&["detach", "jobs"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("is a local object already"), "{said}");
    let (code, said) = machine.execute(&["detach", "none"]);
    assert_eq!(code, Some(1), "{said}");
}

#[test]
fn a_bridge_that_waits_for_one_object_holds_no_other_and_says_so() {
    let server = Server::start();
    let mut machine = Machine::up(&server, &["--queue", "a", "--queue", "c"]);
    let first = machine.reports()[0].pid;
    let mut second = machine.spawn_with(&["--queue", "b", "--queue", "c"]);
    let waits = format!("waits for c, which the bridge with process number {first} relays");
    machine.wait_for("the second bridge", |report| {
        report.role == "waiting" && report.last_error == waits
    });
    assert!(machine.log().contains(&waits));
    let mut agent = machine.agent();
    assert_eq!(agent.ask("put b m 1000"), "ok");
    let (lease, _, message) = leased(&agent.ask("lease b 1000"));
    assert_eq!(message, "m");
    agent.ask(&format!("ack {lease}"));
    machine.kill();
    let pid = second.id();
    machine.wait_for("the take-over", |report| {
        report.pid == pid && report.connected
    });
    for queue in ["b", "c"] {
        assert_eq!(agent.ask(&format!("put {queue} m 1000")), "ok");
        let (lease, ..) = leased(&agent.ask(&format!("lease {queue} 30000")));
        agent.ask(&format!("ack {lease}"));
        becomes_empty(&server, &format!("shoal_q_{queue}"));
    }
    second.kill().unwrap();
    second.wait().unwrap();
}
