//! Queues, end to end: two machines and a server.

use std::time::{Duration, Instant};

use shoal_bridge::counters::Report;

use crate::agent::{Agent, checksum};
use crate::direct::{becomes_empty, is_pulled_from, last, messages, on, publish};
use crate::machine::{Machine, WATCHDOG};
use crate::server::{Server, Setup};

/// The lease's number, its attempts and the message in an answer to `lease`.
pub fn leased(answer: &str) -> (u64, u64, String) {
    let mut words = answer.splitn(3, ' ');
    let number = |word: Option<&str>| word.and_then(|word| word.parse().ok());
    match (number(words.next()), number(words.next()), words.next()) {
        (Some(lease), Some(attempts), Some(message)) => (lease, attempts, message.to_owned()),
        _ => panic!("no lease: {answer}"),
    }
}

/// Everything that the agent has worked on, sorted: `answer`, its answer to a first `work`, and those to further
/// ones until `wanted` messages are reached. On a busy machine the next message may take longer than the agent
/// waits for it.
pub fn worked(agent: &mut Agent, mut answer: String, wanted: usize) -> Vec<String> {
    let begun = Instant::now();
    let mut done = Vec::new();
    loop {
        let some = answer.split(',').filter(|it| !it.is_empty());
        done.extend(some.map(str::to_owned));
        if done.len() >= wanted || begun.elapsed() > 2 * WATCHDOG {
            break;
        }
        answer = agent.ask("work jobs 5000");
    }
    done.sort();
    done
}

#[test]
fn a_message_put_on_one_machine_is_processed_on_another() {
    let (_server, [here, there], [mut producer, mut worker]) = Machine::pair(&["--queue", "jobs"]);
    assert_eq!(producer.ask("put jobs hello 1000"), "ok");
    let (lease, attempts, message) = leased(&worker.ask("lease jobs 30000"));
    assert_eq!((attempts, &*message), (1, "hello"));
    assert_eq!(worker.ask(&format!("ack {lease}")), "ok");
    there.wait_for("the ack", |report| report.queues[0].acked == 1);
    let report = here.wait_for("the publish", |report| report.queues[0].published == 1);
    assert_eq!(report.queues[0].repeated, 0);
    assert_eq!(
        worker.ask("lease jobs 300").split(' ').nth(1),
        Some("ErrTimeout:")
    );
}

#[test]
fn a_returned_message_is_delivered_again_with_its_number_of_attempts() {
    let (_server, [here, _there], [mut near, mut far]) = Machine::pair(&["--queue", "jobs"]);
    near.ask("put jobs again 1000");
    let (lease, ..) = leased(&near.ask("lease jobs 30000"));
    assert_eq!(near.ask(&format!("nack {lease} 400")), "ok");
    let (lease, attempts, message) = leased(&far.ask("lease jobs 30000"));
    assert_eq!((attempts, &*message), (2, "again"));
    assert_eq!(far.ask(&format!("ack {lease}")), "ok");
    let report = here.wait_for("the nack", |report| report.queues[0].nacked == 1);
    assert_eq!(report.queues[0].acked, 0);
}

#[test]
fn a_worker_that_is_killed_leaves_its_message_to_other_machines() {
    let (_server, [_here, _there], [mut near, mut far]) = Machine::pair(&["--queue", "jobs"]);
    near.ask("put jobs orphan 1000");
    leased(&near.ask("lease jobs 30000"));
    far.tell("lease jobs 30000");
    near.kill();
    let (_, attempts, message) = leased(&far.hear());
    assert_eq!((attempts, &*message), (2, "orphan"));
}

#[test]
fn a_message_that_was_delivered_too_often_is_a_dead_letter_on_the_server() {
    let server = Server::start();
    let queue = ["--queue", "jobs:max-attempts=2"];
    let (here, there) = (Machine::up(&server, &queue), Machine::up(&server, &queue));
    let (mut near, mut far) = (here.agent(), there.agent());
    near.ask("put jobs poison 1000");
    for attempt in 1..=2 {
        let (lease, attempts, _) = leased(&near.ask("lease jobs 30000"));
        assert_eq!(attempts, attempt);
        near.ask(&format!("nack {lease} 0"));
    }
    let (lease, _, message) = leased(&far.ask("lease jobs.dead 30000"));
    assert_eq!(message, "poison");
    let headers = last(&server, "shoal_q_jobs_2Edead", "shoal.q.jobs_2Edead");
    let header = |name: &str| headers.get(name).map(|value| value.as_str().to_owned());
    assert_eq!(header("Shoal-Queue").as_deref(), Some("jobs"));
    assert_eq!(header("Shoal-Attempts").as_deref(), Some("2"));
    far.ask(&format!("ack {lease}"));
    here.wait_for("the dead letter", |report| {
        report.queues.iter().any(|queue| queue.dead_letters == 1)
    });
    // The original is terminated, after it was counted.
    becomes_empty(&server, "shoal_q_jobs");
}

#[test]
fn a_large_message_goes_through_the_object_store_and_leaves_nothing_there() {
    let (server, [_here, there], [mut near, mut far]) = Machine::pair(&["--queue", "jobs"]);
    const SIZE: usize = 3_000_000;
    assert_eq!(near.ask(&format!("large jobs {SIZE} 5000")), "ok");
    let (lease, _, message) = leased(&far.ask("lease jobs 30000"));
    let bytes: Vec<u8> = (0..SIZE).map(|i| (i % 251) as u8).collect();
    assert_eq!(message, checksum(&bytes));
    far.ask(&format!("ack {lease}"));
    there.wait_for("the ack", |report| report.queues[0].acked == 1);
    becomes_empty(&server, "OBJ_shoal_large");
}

#[test]
fn messages_of_one_machine_arrive_in_order_although_some_are_large() {
    let (_server, [here, _there], [mut near, mut far]) = Machine::pair(&["--queue", "jobs"]);
    let sizes = [300, 3_000_000, 400, 1_500_000, 500, 600, 2_000_000, 700];
    for size in sizes {
        assert_eq!(near.ask(&format!("large jobs {size} 5000")), "ok");
    }
    here.wait_for("the last one", |report| report.queues[0].published == 8);
    for size in sizes {
        let (lease, _, message) = leased(&far.ask("lease jobs 30000"));
        let bytes: Vec<u8> = (0..size).map(|i: u32| (i % 251) as u8).collect();
        assert_eq!(message, checksum(&bytes));
        far.ask(&format!("ack {lease}"));
    }
}

#[test]
fn a_queue_that_a_program_has_closed_leaves_its_messages_to_other_machines() {
    let (server, [here, _there], [mut near, mut far]) = Machine::pair(&["--queue", "jobs"]);
    near.tell("lease jobs 60000");
    let begun = Instant::now();
    while !is_pulled_from(&server, "shoal_q_jobs") {
        assert!(begun.elapsed() < WATCHDOG, "no message is requested");
        std::thread::sleep(Duration::from_millis(20));
    }
    // The message that the server sends for this request finds the queue closed.
    assert_eq!(here.agent().ask("close jobs"), "ok");
    assert!(near.hear().contains("ErrClosed"));
    publish(&server, "shoal.q.jobs", &[], "other");
    let (lease, _, message) = leased(&far.ask("lease jobs 30000"));
    assert_eq!(message, "other");
    far.ask(&format!("ack {lease}"));
}

#[test]
fn a_large_message_goes_through_a_server_with_a_low_limit() {
    let server = Server::with(&Setup {
        extra: "max_payload: 64KB".to_owned(),
        ..Setup::default()
    });
    let machine = Machine::up(&server, &["--queue", "jobs"]);
    let mut agent = machine.agent();
    const SIZE: usize = 300_000;
    assert_eq!(agent.ask(&format!("large jobs {SIZE} 5000")), "ok");
    let (_, _, message) = leased(&agent.ask("lease jobs 30000"));
    let bytes: Vec<u8> = (0..SIZE).map(|i| (i % 251) as u8).collect();
    assert_eq!(message, checksum(&bytes));
}

#[test]
fn a_large_message_whose_object_is_lost_becomes_a_dead_letter() {
    let server = Server::start();
    let machine = Machine::up(&server, &["--queue", "jobs", "--queue", "jobs.dead"]);
    let mut agent = machine.agent();
    assert_eq!(agent.ask("large jobs 3000000 5000"), "ok");
    let begun = Instant::now();
    while messages(&server, "shoal_q_jobs") == 0 {
        assert!(begun.elapsed() < WATCHDOG, "it is not published");
        std::thread::sleep(Duration::from_millis(20));
    }
    crate::direct::on(&server, |jetstream| async move {
        let stream = jetstream.get_stream("OBJ_shoal_large").await.unwrap();
        let chunks = stream.purge().filter("$O.shoal_large.C.>");
        chunks.await.unwrap();
    });
    agent.tell("lease jobs.dead 60000");
    let mut worker = machine.agent();
    assert!(worker.ask("lease jobs 55000").contains("ErrTimeout"));
    assert_eq!(agent.hear(), "1 1", "it is empty");
}

#[test]
fn messages_of_other_programs_are_delivered_unchanged_and_unknown_formats_are_dead_letters() {
    let server = Server::start();
    let machine = Machine::up(&server, &["--queue", "jobs", "--queue", "jobs.dead"]);
    let mut worker = machine.agent();
    publish(&server, "shoal.q.jobs", &[], "plain");
    let (lease, _, message) = leased(&worker.ask("lease jobs 30000"));
    assert_eq!(message, "plain");
    worker.ask(&format!("ack {lease}"));
    publish(&server, "shoal.q.jobs", &[("Shoal-Format", "9")], "riddle");
    worker.tell("lease jobs 60000");
    let begun = Instant::now();
    while messages(&server, "shoal_q_jobs_2Edead") == 0 {
        assert!(begun.elapsed() < WATCHDOG, "no dead letter");
        std::thread::sleep(Duration::from_millis(50));
    }
    let headers = last(&server, "shoal_q_jobs_2Edead", "shoal.q.jobs_2Edead");
    let reason = headers
        .get("Shoal-Reason")
        .map(|value| value.as_str())
        .unwrap_or_default();
    assert!(reason.contains("format \"9\""), "{reason}");
    machine.wait_for("the count", |report| {
        report
            .queues
            .iter()
            .any(|queue| queue.name == "jobs" && queue.undecodable >= 1 && queue.dead_letters == 1)
    });
}

#[test]
fn a_long_job_is_not_redelivered_if_another_bridge_has_set_the_ack_wait() {
    let server = Server::start();
    let first = Machine::up(&server, &["--queue", "jobs:ack-wait=1s"]);
    let second = Machine::up(&server, &["--queue", "jobs"]);
    let (mut other, mut worker) = (first.agent(), second.agent());
    worker.tell("lease jobs 60000");
    publish(&server, "shoal.q.jobs", &[], "long");
    let (lease, ..) = leased(&worker.hear());
    assert!(other.ask("lease jobs 4000").contains("ErrTimeout"));
    worker.ask(&format!("ack {lease}"));
    becomes_empty(&server, "shoal_q_jobs");
}

#[test]
fn progress_is_reported_as_often_as_an_ack_wait_requires_that_was_changed_meanwhile() {
    use async_nats::jetstream::consumer::PullConsumer;
    use futures_util::StreamExt;
    let server = Server::start();
    let machine = Machine::up(&server, &["--queue", "jobs:ack-wait=1h"]);
    let mut worker = machine.agent();
    assert_eq!(worker.ask("put jobs long 1000"), "ok");
    leased(&worker.ask("lease jobs 30000"));
    on(&server, |jetstream| async move {
        let mut acks = jetstream.client().subscribe("$JS.ACK.>").await.unwrap();
        let stream = jetstream.get_stream("shoal_q_jobs").await.unwrap();
        let consumer: PullConsumer = stream.get_consumer("shoal").await.unwrap();
        let mut config = consumer.cached_info().config.clone();
        config.ack_wait = Duration::from_secs(60);
        stream.update_consumer(config).await.unwrap();
        // With the first value, the next report would come after 20 minutes.
        let report = tokio::time::timeout(WATCHDOG, acks.next()).await;
        assert_eq!(report.unwrap().unwrap().payload, "+WPI");
    });
}

#[test]
fn a_full_local_queue_is_reported_as_such_and_gets_all_messages() {
    let server = Server::start();
    let mut machine = Machine::new(&server, &["--queue", "jobs"]);
    let mut worker = machine.agent();
    assert_eq!(worker.ask("bounded jobs 1"), "ok");
    machine.start();
    machine.wait_for("the bridge", |report| report.connected);
    assert_eq!(worker.ask("puts jobs 300 m"), "ok");
    let answer = worker.ask("work jobs 5000");
    let done = worked(&mut worker, answer, 300);
    assert_eq!(done.len(), 300);
    let report = machine.wait_for("the report", |report| !report.last_error.is_empty());
    let expected = "jobs: the local queue is full; messages wait for its workers";
    assert_eq!(report.last_error, expected);
}

#[test]
fn a_message_that_is_a_dead_letter_when_it_arrives_uses_no_credit() {
    let server = Server::start();
    let machine = Machine::up(&server, &["--queue", "jobs:in-flight=2,max-attempts=1"]);
    let mut worker = machine.agent();
    for round in 1..=3 {
        publish(&server, "shoal.q.jobs", &[("Shoal-Before", "1")], "spent");
        publish(&server, "shoal.q.jobs", &[], "fresh");
        let (lease, _, message) = leased(&worker.ask("lease jobs 30000"));
        assert_eq!(message, "fresh");
        worker.ask(&format!("ack {lease}"));
        machine.wait_for("the dead letter", |report| {
            report.queues[0].dead_letters == round && report.queues[0].in_flight == 0
        });
    }
}

#[test]
fn a_dead_letter_whose_reason_quotes_a_long_header_delays_no_other() {
    let server = Server::start();
    let machine = Machine::up(&server, &["--queue", "jobs", "--queue", "jobs.dead"]);
    let mut worker = machine.agent();
    // The server accepts 64 KiB of headers. With its quotation marks escaped, this header is longer.
    let format: &'static str = "\"".repeat(40_000).leak();
    for text in ["long", "short"] {
        let format = if text == "long" { format } else { "9" };
        publish(&server, "shoal.q.jobs", &[("Shoal-Format", format)], text);
    }
    worker.tell("lease jobs 60000");
    let mut dead = machine.agent();
    let mut found: Vec<String> = (0..2)
        .map(|_| leased(&dead.ask("lease jobs.dead 60000")).2)
        .collect();
    found.sort();
    assert_eq!(found, ["long", "short"]);
}

#[test]
fn a_dead_letter_does_not_change_the_counters_of_puts() {
    let server = Server::start();
    let machine = Machine::up(&server, &["--queue", "jobs:max-messages=5,max-attempts=1"]);
    let mut agent = machine.agent();
    // Six messages that no worker takes. The last one finds no room.
    assert_eq!(agent.ask("puts jobs 6 m"), "ok");
    let is_full = |report: &Report| {
        let queue = &report.queues[0];
        (queue.full, queue.publishing, queue.waiting, queue.published) == (1, 1, 1, 5)
    };
    machine.wait_for("the full stream", is_full);
    let (lease, ..) = leased(&agent.ask("lease jobs 30000"));
    agent.ask(&format!("nack {lease} 0"));
    let report = machine.wait_for("the dead letter", |report| {
        report.queues[0].dead_letters == 1 && report.queues[0].waiting == 0
    });
    assert_eq!(report.queues[0].published, 6);
}

#[test]
fn a_message_that_no_worker_takes_returns_to_the_server_and_uses_no_credit() {
    let server = Server::start();
    let machine = Machine::up(&server, &["--queue", "jobs:in-flight=1"]);
    for _ in 0..2 {
        let mut gone = machine.agent();
        gone.tell("lease jobs 60000");
        let begun = Instant::now();
        while !is_pulled_from(&server, "shoal_q_jobs") {
            assert!(begun.elapsed() < WATCHDOG, "no message is requested");
            std::thread::sleep(Duration::from_millis(20));
        }
        gone.kill();
        publish(&server, "shoal.q.jobs", &[], "left");
        machine.wait_for("the message", |report| {
            report.queues[0].server_pending == 1 && report.queues[0].in_flight == 0
        });
        let mut worker = machine.agent();
        let (lease, attempts, message) = leased(&worker.ask("lease jobs 30000"));
        assert_eq!((attempts, &*message), (1, "left"));
        worker.ask(&format!("ack {lease}"));
        machine.wait_for("the ack", |report| report.queues[0].in_flight == 0);
    }
}

/// Puts 30 messages into a stream with a limit. At first the stream accepts a number of them in the range `takes`.
fn a_full_stream(limit: &str, takes: std::ops::RangeInclusive<u64>) {
    let server = Server::start();
    let here = Machine::up(&server, &["--queue", &format!("jobs:{limit}")]);
    let mut producer = here.agent();
    assert_eq!(producer.ask("puts jobs 30 m"), "ok");
    here.wait_for("the full stream", |report| {
        report.queues[0].full == 1 && takes.contains(&report.queues[0].published)
    });
    let there = Machine::up(&server, &["--queue", "jobs"]);
    let mut worker = there.agent();
    let answer = worker.ask("work jobs 5000");
    let done = worked(&mut worker, answer, 30);
    let mut all: Vec<String> = (0..30).map(|i| format!("m{i}")).collect();
    all.sort();
    assert_eq!(done, all);
    here.wait_for("the end", |report| {
        report.queues[0].full == 0 && report.queues[0].publishing == 0
    });
}

#[test]
fn messages_beyond_the_streams_count_limit_wait_here_and_none_is_lost() {
    a_full_stream("max-messages=10", 10..=10);
}

#[test]
fn messages_beyond_the_streams_size_limit_wait_here_and_none_is_lost() {
    a_full_stream("max-bytes=2KiB", 5..=29);
}
