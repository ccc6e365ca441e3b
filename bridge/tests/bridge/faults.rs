//! Faults: refusals, killed processes, and a server that is not reachable.

use std::time::{Duration, Instant};

use async_nats::jetstream::stream;

use crate::direct::{becomes_empty, leader, make, replicates};
use crate::machine::{Machine, WATCHDOG, own_memory};
use crate::proxy::Proxy;
use crate::queues::{leased, worked};
use crate::server::{Port, Server, Setup};

#[test]
fn wrong_credentials_end_the_bridge_with_an_error() {
    let setup = Setup {
        extra: "authorization { user: shoal, password: right }".to_owned(),
        ..Setup::default()
    };
    let server = Server::with(&setup);
    let mut machine = Machine::new(&server, &["--queue", "jobs"]);
    let with = |password: &str| {
        vec![
            ("NATS_USER".to_owned(), "shoal".to_owned()),
            ("NATS_PASSWORD".to_owned(), password.to_owned()),
        ]
    };
    machine.env = with("wrong");
    let (code, said) = machine.run_to_end();
    assert_eq!(code, Some(3), "{said}");
    assert!(
        said.contains("the server refuses the credentials"),
        "{said}"
    );
    assert!(!said.contains("wrong"), "{said}");
    machine.env = with("right");
    machine.start();
    machine.wait_for("the bridge", |report| report.connected);
}

#[test]
fn a_bridge_is_connected_when_the_server_has_what_its_objects_need() {
    // The server does not answer what it does not permit.
    let setup = Setup {
        extra: "authorization { users: [
            { user: all, password: p }
            { user: few, password: p, permissions: { publish: { deny: [\"$JS.API.STREAM.CREATE.>\"] } } }
        ] }"
        .to_owned(),
        ..Setup::default()
    };
    let server = Server::with(&setup);
    let mut machine = Machine::new(&server, &["--queue", "jobs"]);
    let with = |user: &str| {
        vec![
            ("NATS_USER".to_owned(), user.to_owned()),
            ("NATS_PASSWORD".to_owned(), "p".to_owned()),
        ]
    };
    machine.env = with("few");
    machine.start();
    let report = machine.wait_for("the failure", |report| {
        report.last_error.contains("shoal_q_jobs")
    });
    assert!(!report.connected, "{report:#?}");
    machine.kill();
    machine.env = with("all");
    machine.start();
    machine.wait_for("the bridge", |report| report.connected);
}

#[test]
fn an_account_without_jetstream_ends_the_bridge_with_an_error_that_says_so() {
    let server = Server::with(&Setup {
        extra: "accounts { A { users: [ { user: u, password: p } ] } }\nno_auth_user: u".to_owned(),
        ..Setup::default()
    });
    let (code, said) = Machine::new(&server, &["--queue", "jobs"]).run_to_end();
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("JetStream not enabled for account"), "{said}");
}

#[test]
fn a_bridge_that_was_stopped_is_not_shown_any_more() {
    let server = Server::start();
    let mut machine = Machine::up(&server, &["--queue", "jobs", "--map", "config"]);
    let mut second = machine.spawn();
    machine.wait_for("the second bridge", |report| report.role == "waiting");
    assert_eq!(machine.terminate(), Some(0));
    let others = machine.reports();
    assert!(
        others.iter().all(|report| report.pid == second.id()),
        "{others:#?}"
    );
    second.kill().unwrap();
    second.wait().unwrap();
}

#[test]
fn a_stream_with_other_settings_is_refused_and_the_setting_is_named() {
    let server = Server::start();
    make(
        &server,
        stream::Config {
            name: "shoal_q_jobs".to_owned(),
            subjects: vec!["shoal.q.jobs".to_owned()],
            discard: stream::DiscardPolicy::New,
            ..Default::default()
        },
    );
    let machine = Machine::new(&server, &["--queue", "jobs"]);
    let (code, said) = machine.run_to_end();
    assert_eq!(code, Some(3), "{said}");
    assert!(
        said.contains("stream shoal_q_jobs has retention Limits, this bridge needs WorkQueue"),
        "{said}"
    );

    let mail = Machine::up(&server, &["--queue", "mail:max-messages=10"]);
    let other = Machine::new(&server, &["--queue", "mail:max-messages=11"]);
    let (code, said) = other.run_to_end();
    assert_eq!(code, Some(3), "{said}");
    assert!(
        said.contains("has max_msgs 10, this bridge needs 11"),
        "{said}"
    );
    drop(mail);
}

#[test]
fn another_consumer_of_the_stream_is_refused_and_named() {
    let server = Server::start();
    let first = Machine::up(&server, &["--queue", "jobs"]);
    drop(first);
    crate::direct::on(&server, |jetstream| async move {
        use async_nats::jetstream::consumer;
        let stream = jetstream.get_stream("shoal_q_jobs").await.unwrap();
        stream.delete_consumer("shoal").await.unwrap();
        let config = consumer::pull::Config {
            durable_name: Some("intruder".to_owned()),
            ..Default::default()
        };
        stream.create_consumer(config).await.unwrap();
    });
    let machine = Machine::new(&server, &["--queue", "jobs"]);
    let (code, said) = machine.run_to_end();
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("this one has intruder"), "{said}");
}

#[test]
fn the_second_bridge_of_a_machine_waits_and_takes_over() {
    let server = Server::start();
    let mut machine = Machine::up(&server, &["--queue", "jobs", "--map", "config"]);
    let mut second = machine.spawn();
    machine.wait_for("the second bridge", |report| report.role == "waiting");
    let mut agent = machine.agent();
    agent.ask("put jobs first 1000");
    let (lease, ..) = leased(&agent.ask("lease jobs 30000"));
    machine.kill();
    let pid = second.id();
    machine.wait_for("the take-over", |report| {
        report.role == "active" && report.pid == pid
    });
    // It finds the requests that the first bridge left here, and sends them to the server.
    agent.ask(&format!("ack {lease}"));
    machine.wait_for("the ack", |report| {
        report.pid == pid && report.queues[0].acked == 1
    });
    agent.ask("put jobs second 1000");
    let (lease, attempts, message) = leased(&agent.ask("lease jobs 30000"));
    assert_eq!((attempts, &*message), (1, "second"));
    agent.ask(&format!("ack {lease}"));
    second.kill().unwrap();
    second.wait().unwrap();
}

#[test]
fn work_continues_without_the_server_and_nothing_is_lost_or_done_twice() {
    let mut server = Server::start();
    let machine = Machine::up(&server, &["--queue", "jobs"]);
    let mut agent = machine.agent();
    agent.ask("puts jobs 20 before");
    let mut leases = Vec::new();
    for _ in 0..20 {
        leases.push(leased(&agent.ask("lease jobs 30000")).0);
    }
    server.kill();
    machine.wait_for("the loss", |report| !report.connected && report.losses == 1);
    for lease in &leases {
        assert_eq!(
            agent.ask(&format!("ack {lease}")),
            "ok",
            "workers do not wait for the server"
        );
    }
    assert_eq!(
        agent.ask("puts jobs 20 meanwhile"),
        "ok",
        "messages wait in shared memory"
    );
    machine.wait_for("what waits", |report| report.queues[0].waiting == 20);
    server.resume();
    machine.wait_for("the server", |report| {
        report.connected && report.connects == 2
    });
    let answer = agent.ask("work jobs 5000");
    let done = worked(&mut agent, answer, 20);
    let mut all: Vec<String> = (0..20).map(|i| format!("meanwhile{i}")).collect();
    all.sort();
    assert_eq!(done, all);
    machine.wait_for("the acks", |report| report.queues[0].acked == 40);
    becomes_empty(&server, "shoal_q_jobs");
}

#[test]
fn messages_that_wait_for_the_server_stay_in_shared_memory_and_are_not_all_copied() {
    let mut server = Server::start();
    let machine = Machine::up(&server, &["--queue", "jobs"]);
    let mut agent = machine.agent();
    server.kill();
    const NUMBER: u64 = 200;
    for _ in 0..NUMBER {
        assert_eq!(agent.ask("large jobs 1000000 5000"), "ok");
    }
    let report = machine.wait_for("what waits", |report| report.queues[0].waiting == NUMBER);
    let kib = own_memory(&report);
    assert!(kib < 130 << 10, "{kib} KiB");
    server.resume();
    for _ in 0..NUMBER {
        let (lease, ..) = leased(&agent.ask("lease jobs 30000"));
        agent.ask(&format!("ack {lease}"));
    }
}

#[test]
fn a_bridge_that_is_killed_while_it_publishes_repeats_and_every_message_counts_once() {
    let server = Server::start();
    let mut here = Machine::up(&server, &["--queue", "jobs"]);
    let there = Machine::up(&server, &["--queue", "jobs"]);
    let (mut producer, mut worker) = (here.agent(), there.agent());
    worker.tell("work jobs 8000");
    for round in 0..4 {
        producer.tell(&format!("puts jobs 500 r{round}-"));
        std::thread::sleep(Duration::from_millis(30));
        here.kill();
        here.start();
        assert_eq!(producer.hear(), "ok");
    }
    let answer = worker.hear();
    let done = worked(&mut worker, answer, 2000);
    let mut all: Vec<String> = (0..4)
        .flat_map(|round| (0..500).map(move |i| format!("r{round}-{i}")))
        .collect();
    all.sort();
    assert_eq!(
        done.len(),
        all.len(),
        "{:#?} {:#?}",
        here.reports(),
        there.reports()
    );
    assert_eq!(done, all);
}

#[test]
fn a_bridge_may_start_before_its_server() {
    let mut server = Server::start();
    server.kill();
    let mut machine = Machine::new(&server, &["--queue", "jobs"]);
    machine.start();
    machine.wait_for("the bridge", |report| {
        report.role == "active" && !report.connected
    });
    let mut agent = machine.agent();
    assert_eq!(agent.ask("put jobs early 1000"), "ok");
    server.resume();
    assert_eq!(leased(&agent.ask("lease jobs 30000")).2, "early");
}

#[test]
fn metrics_are_served_on_the_loopback_port_that_was_requested() {
    use std::io::{Read, Write};
    let server = Server::start();
    let held = Port::free();
    let port = held.number();
    let machine = Machine::up(
        &server,
        &["--queue", "jobs", "--metrics", &port.to_string()],
    );
    let ask = |path: &str| {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    };
    let text = ask("/metrics");
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    assert!(text.contains("shoal_bridge_connected 1\n"), "{text}");
    assert!(
        text.contains("shoal_bridge_queue_published_total{queue=\"jobs\"} 0\n"),
        "{text}"
    );
    assert!(ask("/metrics?format=text").starts_with("HTTP/1.1 200"));
    for other in ["/other", "/metrics/other", "/"] {
        assert!(ask(other).starts_with("HTTP/1.1 404"), "{other}");
    }
    drop(machine);
}

#[test]
fn an_object_that_loses_its_name_ends_the_bridge_and_the_next_one_carries_the_new_one() {
    let server = Server::start();
    let mut machine = Machine::up(&server, &["--queue", "jobs", "--map", "config"]);
    let mut agent = machine.agent();
    for name in ["jobs", "config"] {
        assert_eq!(agent.ask(&format!("unlink {name}")), "ok");
        assert_eq!(machine.ends(), Some(1));
        let said = machine.log();
        assert!(
            said.contains(&format!("{name}: its name was removed")),
            "{said}"
        );
        machine.start();
        machine.wait_for("the bridge", |report| report.connected);
    }
    assert_eq!(agent.ask("put jobs new 1000"), "ok");
    assert_eq!(leased(&agent.ask("lease jobs 30000")).2, "new");
    assert_eq!(agent.ask("set config key new"), "ok");
    crate::maps::reads(&mut agent, "key", |answer| answer.ends_with(" new"));
}

#[test]
fn a_companion_that_loses_its_name_ends_the_bridge_and_programs_continue_with_the_next_one() {
    let server = Server::start();
    let mut machine = Machine::up(&server, &["--queue", "jobs", "--map", "config"]);
    let mut agent = machine.agent();
    assert_eq!(agent.ask("put jobs before 1000"), "ok");
    let (lease, ..) = leased(&agent.ask("lease jobs 30000"));
    assert_eq!(agent.ask(&format!("ack {lease}")), "ok");
    becomes_empty(&server, "shoal_q_jobs");
    for companion in ["jobs.relay", "config.answers"] {
        assert_eq!(agent.ask(&format!("unlink {companion}")), "ok");
        assert_eq!(machine.ends(), Some(1));
        machine.start();
        machine.wait_for("the bridge", |report| report.connected);
    }
    assert_eq!(agent.ask("put jobs after 1000"), "ok");
    assert_eq!(leased(&agent.ask("lease jobs 30000")).2, "after");
    assert_eq!(agent.ask("remove config key"), "false");
}

#[test]
fn an_object_that_loses_its_name_before_the_server_is_reached_ends_the_bridge() {
    let mut server = Server::start();
    server.kill();
    let mut machine = Machine::new(&server, &["--queue", "jobs"]);
    machine.start();
    machine.wait_for("the bridge", |report| report.role == "active");
    assert_eq!(machine.agent().ask("unlink jobs"), "ok");
    assert_eq!(machine.ends(), Some(1));
    let said = machine.log();
    assert!(said.contains("jobs: its name was removed"), "{said}");
}

#[test]
fn a_bridge_whose_log_is_not_read_continues() {
    let server = Server::start();
    let machine = Machine::new(&server, &["--queue", "jobs"]);
    let mut bridge = machine.spawn_to(std::process::Stdio::piped());
    drop(bridge.stderr.take());
    machine.wait_for("the bridge", |report| report.connected);
    assert!(bridge.try_wait().unwrap().is_none());
    bridge.kill().unwrap();
    bridge.wait().unwrap();
}

#[test]
fn invalid_options_are_refused_before_anything_is_done() {
    let server = Server::start();
    for (args, word) in [
        (&["--queue", "jobs:speed=1"][..], "speed of jobs"),
        (
            &["--queue", "jobs", "--queue", "jobs"],
            "\"jobs\" is named twice",
        ),
        (&["--queue", "jobs", "--prefix", "a.b"], "\"a.b\""),
        (&["--queue", "jobs", "--replicas", "0"], "expected 1 to 5"),
        (&["--queue", "jobs:discard"], "discard of jobs"),
        (&["--map", "config:in-flight=4"], "in-flight of config"),
        (&["--map", "shoal-bridge"], "of the bridges themselves"),
        (&["--queue", &"_".repeat(81)], "too long for the server"),
        (&["--map", &"a".repeat(245)], "too long for the server"),
        (&[], "no queue and no map"),
        (
            &["--queue", "jobs", "--context", "/nowhere/context.json"],
            "/nowhere/context.json",
        ),
    ] {
        let machine = Machine::new(&server, args);
        let (code, said) = machine.run_to_end();
        assert_eq!(code, Some(2), "{args:?}: {said}");
        assert!(said.contains(word), "{args:?}: {said}");
    }
}

#[test]
fn a_partition_that_heals_loses_nothing_and_repeats_nothing() {
    let server = Server::start();
    let proxy = Proxy::start(server.port());
    let machine = {
        let mut machine = Machine::at(&proxy.url(), &["--queue", "jobs", "--map", "config"]);
        machine.start();
        machine.wait_for("the bridge", |report| {
            report.connected && report.role == "active"
        });
        machine
    };
    let mut agent = machine.agent();
    agent.ask("puts jobs 50 before");
    let leases: Vec<u64> = (0..50)
        .map(|_| leased(&agent.ask("lease jobs 30000")).0)
        .collect();
    // Nothing gets through, without an error, for longer than an answer may take.
    proxy.stall(true);
    for lease in &leases {
        agent.ask(&format!("ack {lease}"));
    }
    agent.ask("puts jobs 50 meanwhile");
    std::thread::sleep(Duration::from_secs(6));
    proxy.stall(false);
    let answer = agent.ask("work jobs 4000");
    let done = worked(&mut agent, answer, 50);
    let mut all: Vec<String> = (0..50).map(|i| format!("meanwhile{i}")).collect();
    all.sort();
    assert_eq!(done, all);
    machine.wait_for("the acks", |report| report.queues[0].acked == 100);
    becomes_empty(&server, "shoal_q_jobs");
}

#[test]
fn an_ack_without_a_responder_is_repeated_until_the_stream_s_server_is_back() {
    let mut cluster = Server::cluster(3);
    let begun = Instant::now();
    while !replicates(&cluster[0], 3) {
        assert!(begun.elapsed() < WATCHDOG, "the cluster does not form");
        std::thread::sleep(Duration::from_millis(100));
    }
    let url: Vec<String> = cluster.iter().map(Server::url).collect();
    let mut there = Machine::at(&url.join(","), &["--queue", "jobs"]);
    there.start();
    there.wait_for("the bridge", |report| report.connected);
    let of_stream = leader(&cluster[0], "shoal_q_jobs");
    let which = cluster.iter().position(|server| server.name() == of_stream);
    let which = which.expect("the leader is one of these servers");
    let here = Machine::up(&cluster[which], &["--queue", "jobs"]);
    let (mut near, mut far) = (here.agent(), there.agent());
    near.ask("put jobs once 1000");
    let (lease, ..) = leased(&near.ask("lease jobs 50000"));
    cluster[which].kill();
    // The bridge connects to one of the other servers, which do not have the consumer.
    assert_eq!(near.ask(&format!("ack {lease}")), "ok");
    here.wait_for("another server", |report| report.connects == 2);
    std::thread::sleep(Duration::from_secs(2));
    let report = here.wait_for("a report", |_| true);
    assert_eq!(report.queues[0].acked, 0, "{}", here.log());
    cluster[which].resume();
    // If the ack were lost, this worker would get the message.
    far.tell("lease jobs 90000");
    here.wait_for("the ack", |report| report.queues[0].acked == 1);
    becomes_empty(&cluster[which], "shoal_q_jobs");
}

#[test]
fn no_clock_that_can_jump_is_read() {
    let mut folders = vec![std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let to = if path.is_dir() {
                &mut folders
            } else {
                &mut files
            };
            to.push(path);
        }
    }
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        for clock in [
            "SystemTime",
            "UNIX_EPOCH",
            "chrono",
            "OffsetDateTime",
            "CLOCK_REALTIME",
        ] {
            assert!(!text.contains(clock), "{} reads {clock}", path.display());
        }
    }
}

#[test]
fn a_cluster_of_three_loses_nothing_when_its_servers_are_killed_in_turn() {
    let mut cluster = Server::cluster(3);
    // Until the servers know each other, a stream with three copies is refused, which ends a bridge.
    let begun = Instant::now();
    while !replicates(&cluster[0], 3) {
        assert!(begun.elapsed() < WATCHDOG, "the cluster does not form");
        std::thread::sleep(Duration::from_millis(100));
    }
    let url: Vec<String> = cluster.iter().map(Server::url).collect();
    let url = url.join(",");
    let args = [
        "--queue",
        "jobs:replicas=3",
        "--map",
        "config:replicas=3",
        "--replicas",
        "3",
    ];
    let mut machine = Machine::at(&url, &args);
    machine.start();
    machine.wait_for("the bridge", |report| {
        report.connected && report.role == "active"
    });
    let mut agent = machine.agent();
    // The cluster has formed once this message has been delivered and acked.
    agent.ask("set config turn none");
    agent.ask("put jobs first 1000");
    let (lease, ..) = leased(&agent.ask("lease jobs 50000"));
    agent.ask(&format!("ack {lease}"));
    for (turn, server) in cluster.iter_mut().enumerate() {
        agent.ask(&format!("puts jobs 100 {turn}-"));
        server.kill();
        // The elections, and the wait for the acks of messages that the killed server had sent.
        let limit = 2 * WATCHDOG;
        let begun = Instant::now();
        let mut done = 0;
        while done < 100 {
            assert!(begun.elapsed() < limit, "{done} of 100: {}", machine.log());
            done += agent
                .ask("work jobs 500")
                .split(',')
                .filter(|it| !it.is_empty())
                .count();
        }
        assert_eq!(agent.ask(&format!("set config turn {turn}")), "ok");
        while !agent.ask("get config turn").ends_with(&format!(" {turn}")) {
            assert!(
                begun.elapsed() < limit,
                "the map stays behind: {}",
                machine.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        server.resume();
    }
}

#[test]
fn a_server_that_has_no_jetstream_any_more_is_not_shown_as_connected() {
    let mut server = Server::start();
    for args in [["--queue", "jobs"], ["--map", "config"]] {
        let machine = Machine::up(&server, &args);
        server.kill();
        server.configure("jetstream {", "jetstream { enabled: false,");
        server.resume();
        machine.wait_for("the loss", |report| {
            !report.connected && report.connects == 2
        });
        server.kill();
        server.configure("jetstream { enabled: false,", "jetstream {");
        server.resume();
        machine.wait_for("the server", |report| report.connected);
    }
}
