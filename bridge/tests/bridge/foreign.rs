//! What other programs and people do on the server: false sizes, and streams that are deleted.

use async_nats::jetstream::object_store;

use crate::direct::{self, becomes_empty, messages};
use crate::machine::Machine;
use crate::queues::leased;
use crate::server::Server;

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
