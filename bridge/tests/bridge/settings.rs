//! Settings of streams and consumers that other programs made.

use async_nats::jetstream::{consumer, stream};

use crate::direct::{make, on};
use crate::machine::Machine;
use crate::server::{Server, Setup};

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
fn a_setting_that_is_changed_while_a_bridge_runs_ends_it_and_is_named() {
    use std::time::Duration;
    for (args, name) in [
        (["--queue", "jobs"], "shoal_q_jobs"),
        (["--map", "config"], "KV_shoal_m_config"),
    ] {
        let mut server = Server::start();
        let mut machine = Machine::up(&server, &args);
        on(&server, |jetstream| async move {
            let mut stream = jetstream.get_stream(name).await.unwrap();
            let mut config = stream.info().await.unwrap().config.clone();
            config.max_age = Duration::from_secs(3600);
            jetstream.update_stream(config).await.unwrap();
        });
        server.kill();
        server.resume();
        assert_eq!(machine.ends(), Some(3));
        let said = machine.log();
        assert!(
            said.contains("max_age 3600s, this bridge needs 0ns"),
            "{said}"
        );
        // The loss of the killed server.
        assert_eq!(said.matches("the connection is lost").count(), 1, "{said}");
    }
}

/// The bucket of a map, as a bridge makes it.
fn of_map() -> stream::Config {
    stream::Config {
        name: "KV_shoal_m_config".to_owned(),
        subjects: vec!["$KV.shoal_m_config.>".to_owned()],
        discard: stream::DiscardPolicy::New,
        max_messages_per_subject: 8,
        allow_rollup: true,
        allow_message_ttl: true,
        ..Default::default()
    }
}

fn bucket_is_refused(config: stream::Config, why: &str) {
    let server = Server::start();
    make(&server, config);
    let (code, said) = Machine::new(&server, &["--map", "config"]).run_to_end();
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains(why), "{said}");
}

#[test]
fn a_bucket_that_would_drop_values_or_refuse_further_ones_is_refused() {
    let config = stream::Config {
        max_messages: 100,
        ..of_map()
    };
    bucket_is_refused(config, "has max_msgs 100");
    let config = stream::Config {
        discard_new_per_subject: true,
        ..of_map()
    };
    bucket_is_refused(config, "has discard_new_per_subject true");
}

#[test]
fn a_bucket_that_allows_no_watch_is_refused() {
    let config = stream::Config {
        consumer_limits: Some(stream::ConsumerLimits {
            inactive_threshold: std::time::Duration::from_secs(5),
            max_ack_pending: 0,
        }),
        ..of_map()
    };
    bucket_is_refused(config, "has consumer_limits.inactive_threshold 5s");
}

#[test]
fn a_stream_or_bucket_that_a_restart_of_the_server_empties_is_refused() {
    let why = "has storage Memory, this bridge needs File";
    let config = stream::Config {
        storage: stream::StorageType::Memory,
        ..of_map()
    };
    bucket_is_refused(config, why);
    let server = Server::start();
    let config = stream::Config {
        storage: stream::StorageType::Memory,
        ..of_queue()
    };
    make(&server, config);
    is_refused(&server, why);
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

/// The largest size of a stream.
fn max_bytes(server: &Server, stream: &'static str) -> i64 {
    on(server, |jetstream| async move {
        let stream = jetstream.get_stream(stream).await.unwrap();
        stream.cached_info().config.max_bytes
    })
}

#[test]
fn an_account_that_requires_a_limit_of_each_stream_gets_one_for_all() {
    let account = "accounts { A { users: [ { user: u, password: p } ], \
                   jetstream { max_file: 1GiB, max_mem: 1MiB, max_bytes_required: true } } }\nno_auth_user: u";
    let server = Server::with(&Setup {
        extra: account.to_owned(),
        ..Setup::default()
    });
    let args = [
        "--queue",
        "jobs:max-bytes=1MiB",
        "--queue",
        "mail:max-bytes=2MiB",
        "--queue",
        "mail.dead:max-bytes=3MiB",
        "--large-max-bytes",
        "64MiB",
    ];
    let machine = Machine::up(&server, &args);
    assert_eq!(max_bytes(&server, "shoal_q_jobs_2Edead"), 1 << 20);
    assert_eq!(max_bytes(&server, "shoal_q_mail_2Edead"), 3 << 20);
    let mut agent = machine.agent();
    assert_eq!(agent.ask("large mail 2000000 10000"), "ok");
    let got = agent.ask("lease mail 60000");
    assert!(got.starts_with("1 1 2000000-"), "{got}");
    assert_eq!(max_bytes(&server, "OBJ_shoal_large"), 64 << 20);
    drop(machine);
    // A person may have chosen other limits for the dead letters of a queue.
    drop(Machine::up(&server, &["--queue", "mail:max-bytes=2MiB"]));
}
