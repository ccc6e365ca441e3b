//! Settings of streams and consumers that other programs made.

use async_nats::jetstream::{consumer, stream};

use crate::direct::{make, on};
use crate::machine::Machine;
use crate::server::Server;

fn is_refused(server: &Server, why: &str) {
    let (code, said) = Machine::new(server, &["--queue", "jobs"]).run_to_end();
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains(why), "{said}");
}

/// The stream of a queue, as a bridge makes it.
pub fn of_queue() -> stream::Config {
    stream::Config {
        name: "shoal_q_jobs".to_owned(),
        subjects: vec!["shoal.q.jobs".to_owned()],
        retention: stream::RetentionPolicy::WorkQueue,
        discard: stream::DiscardPolicy::New,
        ..Default::default()
    }
}

#[test]
fn a_stream_that_would_drop_messages_of_a_queue_is_refused() {
    let server = Server::start();
    let config = stream::Config {
        max_messages_per_subject: 5,
        ..of_queue()
    };
    make(&server, config);
    let why = "has max_msgs_per_subject 5, this bridge needs 0";
    is_refused(&server, why);
}

#[test]
fn a_consumer_that_delivers_no_payloads_or_ignores_ack_wait_is_refused() {
    let config = consumer::pull::Config {
        durable_name: Some("shoal".to_owned()),
        max_ack_pending: -1,
        ..Default::default()
    };
    let second = std::time::Duration::from_secs(1);
    for (config, why) in [
        (
            consumer::pull::Config {
                headers_only: true,
                ..config.clone()
            },
            "has headers_only true",
        ),
        (
            consumer::pull::Config {
                backoff: vec![second],
                ..config
            },
            "has backoff [1s]",
        ),
    ] {
        let server = Server::start();
        make(&server, of_queue());
        on(&server, |jetstream| async move {
            let stream = jetstream.get_stream("shoal_q_jobs").await.unwrap();
            stream.create_consumer(config).await.unwrap();
        });
        is_refused(&server, why);
    }
}

#[test]
fn the_advice_for_a_setting_of_a_consumer_names_the_command_that_changes_it() {
    let server = Server::start();
    drop(Machine::up(&server, &["--queue", "jobs"]));
    let machine = Machine::new(&server, &["--queue", "jobs:ack-wait=7s"]);
    let (code, said) = machine.run_to_end();
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("`nats consumer edit`"), "{said}");
}
