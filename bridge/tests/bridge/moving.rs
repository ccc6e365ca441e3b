//! Messages that no worker takes for a while, and that cannot be moved to other machines.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::direct;
use crate::machine::Machine;
use crate::queues::{leased, worked};
use crate::server::Server;

/// Longer than a message waits for a worker before it is moved.
const PAUSE: Duration = Duration::from_secs(3);

#[test]
fn a_pause_of_the_workers_of_a_full_stream_loses_no_message() {
    let server = Server::start();
    let here = Machine::up(&server, &["--queue", "jobs:max-messages=20"]);
    let (mut producer, mut worker) = (here.agent(), here.agent());
    producer.tell("puts jobs 200 m");
    let mut done = Vec::new();
    for _ in 0..100 {
        let (lease, _, message) = leased(&worker.ask("lease jobs 30000"));
        worker.ask(&format!("ack {lease}"));
        done.push(message);
    }
    here.wait_for("the full stream", |report| report.queues[0].full == 1);
    std::thread::sleep(PAUSE);
    let answer = worker.ask("work jobs 3000");
    done.extend(worked(&mut worker, answer, 100));
    let done: BTreeSet<String> = done.into_iter().collect();
    assert_eq!(done, (0..200).map(|i| format!("m{i}")).collect());
}

#[test]
fn a_message_whose_copy_the_full_stream_refuses_is_there_for_a_worker_again() {
    let server = Server::start();
    let here = Machine::up(&server, &["--queue", "jobs:max-messages=20"]);
    let mut worker = here.agent();
    let publish = || direct::publish(&server, "shoal.q.jobs", &[], "m");
    (0..20).for_each(|_| publish());
    for _ in 0..10 {
        let (lease, ..) = leased(&worker.ask("lease jobs 30000"));
        worker.ask(&format!("ack {lease}"));
    }
    // No program here puts, so the bridge learns from the copies that the stream is full.
    here.wait_for("the acks", |report| report.queues[0].acked == 10);
    (0..10).for_each(|_| publish());
    here.wait_for("the refusal", |report| {
        report.last_error.contains("stays on this machine")
    });
    for _ in 0..20 {
        let (lease, attempts, message) = leased(&worker.ask("lease jobs 30000"));
        assert_eq!((attempts, &*message), (1, "m"));
        worker.ask(&format!("ack {lease}"));
    }
    direct::becomes_empty(&server, "shoal_q_jobs");
}

#[test]
fn a_program_that_calls_less_often_than_messages_are_moved_gets_its_message() {
    let server = Server::start();
    let here = Machine::up(&server, &["--queue", "jobs"]);
    let mut program = here.agent();
    direct::publish(&server, "shoal.q.jobs", &[], "m");
    for _ in 0..6 {
        let answer = program.ask("lease jobs 0");
        if !answer.contains("error") {
            assert_eq!(leased(&answer).2, "m");
            return;
        }
        std::thread::sleep(PAUSE);
    }
    panic!("it never gets the message");
}

#[test]
fn messages_that_are_here_stay_while_the_server_is_away() {
    let mut server = Server::start();
    let here = Machine::up(&server, &["--queue", "jobs"]);
    let mut worker = here.agent();
    worker.ask("puts jobs 300 m");
    for _ in 0..100 {
        let (lease, ..) = leased(&worker.ask("lease jobs 30000"));
        worker.ask(&format!("ack {lease}"));
    }
    server.kill();
    here.wait_for("the loss", |report| !report.connected);
    let left: usize = worker.ask("len jobs").parse().unwrap();
    assert!(left > 0);
    std::thread::sleep(PAUSE);
    for _ in 0..left {
        leased(&worker.ask("lease jobs 1000"));
    }
}
