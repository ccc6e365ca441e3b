//! Queues, end to end: two machines and a server.

use crate::machine::Machine;
use crate::server::Server;

/// A lease's number, its attempts, and the message.
pub fn leased(answer: &str) -> (u64, u64, String) {
    let mut words = answer.splitn(3, ' ');
    let number = |word: Option<&str>| word.and_then(|word| word.parse().ok());
    match (number(words.next()), number(words.next()), words.next()) {
        (Some(lease), Some(attempts), Some(message)) => (lease, attempts, message.to_owned()),
        _ => panic!("no lease: {answer}"),
    }
}

#[test]
fn what_is_put_on_one_machine_is_worked_on_at_another() {
    let server = Server::start();
    let here = Machine::up(&server, &["--queue", "jobs"]);
    let there = Machine::up(&server, &["--queue", "jobs"]);
    let (mut producer, mut worker) = (here.agent(), there.agent());
    assert_eq!(producer.ask("put jobs hello 1000"), "ok");
    let (lease, attempts, message) = leased(&worker.ask("lease jobs 30000"));
    assert_eq!((attempts, &*message), (1, "hello"));
    assert_eq!(worker.ask(&format!("ack {lease}")), "ok");
    there.wait_for("the ack", |report| report.queues[0].acked == 1);
    let report = here.wait_for("the publish", |report| report.queues[0].published == 1);
    assert_eq!(report.queues[0].repeated, 0);
    assert_eq!(worker.ask("lease jobs 300").split(' ').nth(1), Some("ErrTimeout:"));
}
