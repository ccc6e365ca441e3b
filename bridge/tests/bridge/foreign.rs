//! What other programs and people do on the server: false sizes, and streams that are deleted.

use async_nats::jetstream::object_store;

use crate::direct::{self, becomes_empty, messages};
use crate::machine::Machine;
use crate::proxy::Proxy;
use crate::queues::leased;
use crate::server::{Server, Setup};

#[test]
fn a_message_with_a_false_size_is_a_dead_letter_and_ends_no_bridge() {
    let server = Server::start();
    let here = Machine::up(&server, &["--queue", "jobs"]);
    let pid = here.reports()[0].pid;
    let mut worker = here.agent();
    // The first is beyond the largest allocation, the second beyond every machine's memory.
    for size in ["9223372036854775808", "4611686018427387904"] {
        direct::on(&server, |jetstream| async move {
            let config = object_store::Config {
                bucket: "shoal_large".to_owned(),
                ..Default::default()
            };
            jetstream.create_object_store(config).await.unwrap();
            let note = format!(
                r#"{{"name":"x","bucket":"shoal_large","nuid":"n","size":{size},"chunks":1,"mtime":null}}"#
            );
            let published = jetstream.publish("$O.shoal_large.M.eA==", note.into());
            published.await.unwrap().await.unwrap();
        });
        let headers = [("Shoal-Large", "x"), ("Shoal-Size", size)];
        direct::publish(&server, "shoal.q.jobs", &headers, "");
    }
    worker.tell("lease jobs 60000");
    here.wait_for("the dead letters", |report| {
        report.queues[0].dead_letters == 2
    });
    direct::publish(&server, "shoal.q.jobs", &[], "m");
    let (lease, _, message) = leased(&worker.hear());
    assert_eq!(message, "m");
    worker.ask(&format!("ack {lease}"));
    becomes_empty(&server, "shoal_q_jobs");
    assert_eq!(here.reports()[0].pid, pid);
}

#[test]
fn a_dead_letter_stream_that_was_deleted_is_made_again_for_the_next_dead_letter() {
    const DEAD: &str = "shoal_q_jobs_2Edead";
    let server = Server::start();
    let here = Machine::up(&server, &["--queue", "jobs"]);
    let mut worker = here.agent();
    direct::on(&server, |jetstream| async move {
        jetstream.delete_stream(DEAD).await.unwrap();
    });
    // No machine accepts this format.
    direct::publish(&server, "shoal.q.jobs", &[("Shoal-Format", "2")], "m");
    worker.tell("lease jobs 60000");
    here.wait_for("the dead letter", |report| {
        report.queues[0].dead_letters == 1
    });
    assert_eq!(messages(&server, DEAD), 1);
}

/// One program of the machine has a message of a stream that is gone, and another one has a message that got the same
/// number. The first one acks its message.
fn only_the_old_message_is_acked(lose: impl FnOnce(&mut Server)) {
    let mut server = Server::start();
    let here = Machine::up(&server, &["--queue", "jobs"]);
    let (mut old, mut new) = (here.agent(), here.agent());
    assert_eq!(old.ask("put jobs old 1000"), "ok");
    let (lease, _, message) = leased(&old.ask("lease jobs 30000"));
    assert_eq!(message, "old");
    lose(&mut server);
    assert_eq!(old.ask("put jobs new 1000"), "ok");
    let (other, _, message) = leased(&new.ask("lease jobs 60000"));
    assert_eq!(message, "new");
    assert_eq!(old.ask(&format!("ack {lease}")), "ok");
    here.wait_for("the ack", |report| report.queues[0].acked == 1);
    assert_eq!(messages(&server, "shoal_q_jobs"), 1);
    assert_eq!(new.ask(&format!("nack {other} 0")), "ok");
    let (other, _, message) = leased(&new.ask("lease jobs 30000"));
    assert_eq!(message, "new");
    new.ask(&format!("ack {other}"));
    becomes_empty(&server, "shoal_q_jobs");
}

#[test]
fn an_ack_of_a_message_of_a_deleted_stream_removes_no_other_message() {
    only_the_old_message_is_acked(|server| {
        direct::on(server, |jetstream| async move {
            jetstream.delete_stream("shoal_q_jobs").await.unwrap();
        });
    });
}

#[test]
fn an_ack_of_a_message_that_a_server_without_its_files_has_lost_removes_no_other_message() {
    only_the_old_message_is_acked(|server| {
        server.kill();
        server.wipe();
        server.resume();
    });
}

#[test]
fn unanswered_messages_that_are_longer_than_the_server_accepts_now_are_stored_as_objects() {
    let mut server = Server::with(&Setup {
        extra: "max_payload: 1MB".to_owned(),
        ..Setup::default()
    });
    let proxy = Proxy::start(server.port());
    let mut machine = Machine::at(&proxy.url(), &["--queue", "jobs"]);
    machine.start();
    machine.wait_for("the bridge", |report| report.connected);
    let mut agent = machine.agent();
    proxy.stall(true);
    for _ in 0..3 {
        assert_eq!(agent.ask("large jobs 300000 1000"), "ok");
    }
    assert_eq!(agent.ask("put jobs small 1000"), "ok");
    machine.wait_for("the publishes", |report| report.queues[0].publishing == 4);
    server.kill();
    server.configure("max_payload: 1MB", "max_payload: 64KB");
    server.resume();
    proxy.stall(false);
    let mut got: Vec<String> = (0..4)
        .map(|_| {
            let (lease, _, message) = leased(&agent.ask("lease jobs 60000"));
            assert_eq!(agent.ask(&format!("ack {lease}")), "ok");
            message.split('-').next().unwrap().to_owned()
        })
        .collect();
    got.sort();
    assert_eq!(got, ["300000", "300000", "300000", "small"]);
    becomes_empty(&server, "shoal_q_jobs");
    becomes_empty(&server, "OBJ_shoal_large");
}
