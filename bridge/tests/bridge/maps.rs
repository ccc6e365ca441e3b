//! Maps, end to end: two machines and a server.

use std::time::{Duration, Instant};

use crate::agent::Agent;
use crate::direct::publish;
use crate::machine::{Machine, WATCHDOG};
use crate::server::{Server, Setup};

/// Waits until the agent reads what is wanted.
pub fn reads(agent: &mut Agent, key: &str, is_wanted: impl Fn(&str) -> bool) -> String {
    let begun = Instant::now();
    loop {
        let answer = agent.ask(&format!("get config {key}"));
        if is_wanted(&answer) {
            return answer;
        }
        assert!(begun.elapsed() < WATCHDOG, "{key} is {answer}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn version(answer: &str) -> u64 {
    answer
        .split(' ')
        .next()
        .and_then(|word| word.parse().ok())
        .unwrap_or_else(|| panic!("no version: {answer}"))
}

#[test]
fn a_value_set_on_one_machine_is_read_on_the_other_with_the_same_version() {
    let server = Server::start();
    let (here, there) = (
        Machine::up(&server, &["--map", "config"]),
        Machine::up(&server, &["--map", "config"]),
    );
    let (mut near, mut far) = (here.agent(), there.agent());
    assert_eq!(near.ask("set config a/b=c 7"), "ok");
    let read = reads(&mut far, "a/b=c", |answer| answer.ends_with(" 7"));
    assert_eq!(reads(&mut near, "a/b=c", |answer| answer != "none"), read);
    assert_eq!(near.ask("remove config a/b=c"), "true");
    reads(&mut far, "a/b=c", |answer| answer == "none");
    assert_eq!(far.ask("remove config a/b=c"), "false");
}

#[test]
fn a_swap_succeeds_on_one_machine_and_is_a_conflict_on_the_other() {
    let server = Server::start();
    let (here, there) = (
        Machine::up(&server, &["--map", "config"]),
        Machine::up(&server, &["--map", "config"]),
    );
    let (mut near, mut far) = (here.agent(), there.agent());
    near.ask("set config k 0");
    let seen = version(&reads(&mut near, "k", |answer| answer != "none"));
    reads(&mut far, "k", |answer| answer != "none");
    near.tell(&format!("swap config k {seen} near"));
    far.tell(&format!("swap config k {seen} far"));
    let (one, other) = (near.hear(), far.hear());
    assert!(
        matches!((&*one, &*other), ("true", "false") | ("false", "true")),
        "{one}, {other}"
    );
    let winner = if one == "true" { " near" } else { " far" };
    let read = reads(&mut near, "k", |answer| answer.ends_with(winner));
    assert_eq!(
        reads(&mut far, "k", |answer| answer.ends_with(winner)),
        read
    );
    // A removed key can be created again, by version 0.
    near.ask("remove config k");
    reads(&mut far, "k", |answer| answer == "none");
    assert_eq!(far.ask("swap config k 0 anew"), "true");
    reads(&mut near, "k", |answer| answer.ends_with(" anew"));
}

#[test]
fn a_key_expires_on_every_machine() {
    let server = Server::start();
    let (here, there) = (
        Machine::up(&server, &["--map", "config"]),
        Machine::up(&server, &["--map", "config"]),
    );
    let (mut near, mut far) = (here.agent(), there.agent());
    // The far program has opened the map by then, and has some seconds to see the value.
    assert_eq!(far.ask("get config short"), "none");
    near.ask("set-for config short x 5000");
    reads(&mut far, "short", |answer| answer.ends_with(" x"));
    reads(&mut near, "short", |answer| answer == "none");
    reads(&mut far, "short", |answer| answer == "none");
}

#[test]
fn a_key_with_a_lifetime_of_centuries_is_stored() {
    let server = Server::start();
    let machine = Machine::up(&server, &["--map", "config"]);
    let mut agent = machine.agent();
    const YEAR: u64 = 365 * 24 * 60 * 60 * 1000;
    for years in [100, 292, 293, 500] {
        let set = format!("set-for config for{years} x {}", years * YEAR);
        assert_eq!(agent.ask(&set), "ok");
        reads(&mut agent, &format!("for{years}"), |answer| {
            answer.ends_with(" x")
        });
    }
}

#[test]
fn a_watch_survives_restarts_of_the_server_and_of_the_bridge() {
    let mut server = Server::start();
    let here = Machine::up(&server, &["--map", "config"]);
    let mut there = Machine::up(&server, &["--map", "config"]);
    let (mut near, mut far) = (here.agent(), there.agent());
    for key in ["stays", "goes", "changes"] {
        near.ask(&format!("set config {key} old"));
        reads(&mut far, key, |answer| answer.ends_with(" old"));
    }
    server.kill();
    near.ask("set config changes new");
    assert!(
        far.ask("get config stays").ends_with(" old"),
        "it is read while the server is away"
    );
    server.resume();
    reads(&mut far, "changes", |answer| answer.ends_with(" new"));
    there.kill();
    assert_eq!(near.ask("remove config goes"), "true");
    near.ask("set config later 1");
    reads(&mut near, "later", |answer| answer.ends_with(" 1"));
    assert!(
        far.ask("get config goes").ends_with(" old"),
        "it is read while no bridge runs"
    );
    there.start();
    reads(&mut far, "goes", |answer| answer == "none");
    reads(&mut far, "later", |answer| answer.ends_with(" 1"));
    assert!(far.ask("get config stays").ends_with(" old"));
    assert_eq!(far.ask("count config"), "3");
}

#[test]
fn a_recreated_bucket_replaces_the_contents_of_the_maps() {
    let server = Server::start();
    let machine = Machine::up(&server, &["--map", "config"]);
    let mut agent = machine.agent();
    for i in 0..5 {
        agent.ask(&format!("set config old{i} 1"));
        reads(&mut agent, &format!("old{i}"), |answer| answer != "none");
    }
    crate::direct::on(&server, |jetstream| async move {
        jetstream.delete_stream("KV_shoal_m_config").await.unwrap();
    });
    agent.ask("set config fresh 1");
    reads(&mut agent, "fresh", |answer| answer.ends_with(" 1"));
    reads(&mut agent, "old3", |answer| answer == "none");
}

#[test]
fn a_map_whose_last_change_was_purged_is_not_behind_its_bucket() {
    let server = Server::start();
    let machine = Machine::up(&server, &["--map", "config"]);
    let mut agent = machine.agent();
    for key in ["stays", "goes"] {
        agent.ask(&format!("set config {key} 1"));
        reads(&mut agent, key, |answer| answer != "none");
    }
    crate::direct::on(&server, |jetstream| async move {
        let stream = jetstream.get_stream("KV_shoal_m_config").await.unwrap();
        let purge = stream.purge().filter("$KV.shoal_m_config.goes");
        purge.await.unwrap();
    });
    reads(&mut agent, "goes", |answer| answer == "none");
    // After the comparison its revision is the bucket's, and not that of the last change that the bucket still
    // has.
    machine.wait_for("the comparison", |report| {
        report.maps[0].resyncs > 1 && report.maps[0].revision == 2
    });
}

/// Sets three keys and removes one of them, so that the bucket has a marker. Then purges the first one.
fn with_a_purged_key(server: &Server, agent: &mut Agent) -> u64 {
    agent.ask("set config purged old");
    let seen = version(&reads(agent, "purged", |answer| answer != "none"));
    for key in ["stays", "goes"] {
        agent.ask(&format!("set config {key} 1"));
        reads(agent, key, |answer| answer != "none");
    }
    assert_eq!(agent.ask("remove config goes"), "true");
    reads(agent, "goes", |answer| answer == "none");
    crate::direct::on(server, |jetstream| async move {
        let stream = jetstream.get_stream("KV_shoal_m_config").await.unwrap();
        let purge = stream.purge().filter("$KV.shoal_m_config.purged");
        purge.await.unwrap();
    });
    seen
}

#[test]
fn a_purged_key_is_noticed_although_the_bucket_has_markers_of_others() {
    let server = Server::start();
    let machine = Machine::up(&server, &["--map", "config"]);
    let mut agent = machine.agent();
    with_a_purged_key(&server, &mut agent);
    reads(&mut agent, "purged", |answer| answer == "none");
    assert!(agent.ask("get config stays").ends_with(" 1"));
}

#[test]
fn a_swap_of_a_purged_key_is_one_conflict_and_then_the_key_is_new() {
    let server = Server::start();
    let machine = Machine::up(&server, &["--map", "config"]);
    let mut agent = machine.agent();
    let seen = with_a_purged_key(&server, &mut agent);
    assert_eq!(
        agent.ask(&format!("swap config purged {seen} new")),
        "false"
    );
    assert_eq!(agent.ask("get config purged"), "none");
    assert_eq!(agent.ask("swap config purged 0 new"), "true");
    reads(&mut agent, "purged", |answer| answer.ends_with(" new"));
}

#[test]
fn a_value_beyond_the_server_s_limit_is_refused_with_an_error_that_names_both_sizes() {
    let server = Server::start();
    let machine = Machine::up(&server, &["--map", "config"]);
    let mut agent = machine.agent();
    let answer = agent.ask("large-value config big 2000000");
    assert!(
        answer.contains("ErrTooLarge") && answer.contains("2000000"),
        "{answer}"
    );
    let limit = (1 << 20) - 8192;
    assert!(answer.contains(&limit.to_string()), "{answer}");
}

#[test]
fn a_value_beyond_the_limit_of_this_server_is_refused_at_the_call() {
    let server = with_max_payload("64KB");
    let machine = Machine::up(&server, &["--map", "config"]);
    let mut agent = machine.agent();
    let limit = 65536 - 8192;
    let answer = agent.ask(&format!("large-value config big {}", limit + 1));
    assert!(answer.contains("ErrTooLarge"), "{answer}");
    assert!(answer.contains(&limit.to_string()), "{answer}");
    assert_eq!(agent.ask(&format!("large-value config fits {limit}")), "ok");
    reads(&mut agent, "fits", |answer| answer != "none");
}

#[test]
fn a_server_whose_limit_leaves_no_room_for_values_is_refused() {
    let server = with_max_payload("8192");
    let (code, said) = Machine::new(&server, &["--map", "config"]).run_to_end();
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("max_payload is 8192 bytes"), "{said}");
}

#[test]
fn a_key_for_which_a_machine_has_no_room_is_there_again_when_it_has() {
    let server = Server::start();
    let here = Machine::up(&server, &["--map", "config"]);
    let mut there = Machine::new(&server, &["--map", "config"]);
    let (mut near, mut far) = (here.agent(), there.agent());
    assert_eq!(far.ask("bounded-map config 1048576"), "ok");
    there.start();
    there.wait_for("the bridge", |report| report.connected);
    near.ask("set config k old");
    near.ask("large-value config fill 200000");
    near.ask("large-value config large 500000");
    reads(&mut far, "large", |answer| answer != "none");
    near.ask("large-value config k 500000");
    there.wait_for("the missing key", |report| report.maps[0].missing == 1);
    assert_eq!(far.ask("get config k"), "none");
    for change in ["swap config k 0 new", "remove config k"] {
        let answer = far.ask(change);
        assert!(answer.contains("no room on this machine"), "{answer}");
    }
    near.ask("set config large small");
    reads(&mut far, "k", |answer| answer != "none");
    let report = there.wait_for("the key", |report| report.maps[0].missing == 0);
    assert_eq!((report.maps[0].watches, report.connects), (1, 1));
}

fn with_max_payload(limit: &str) -> Server {
    Server::with(&Setup {
        extra: format!("max_payload: {limit}"),
        ..Setup::default()
    })
}

#[test]
fn keys_of_other_programs_are_read_and_invalid_ones_are_counted() {
    let server = Server::start();
    let machine = Machine::up(&server, &["--map", "config"]);
    let mut agent = machine.agent();
    publish(&server, "$KV.shoal_m_config.limit", &[], "7");
    publish(&server, "$KV.shoal_m_config.=zz", &[], "7");
    reads(&mut agent, "limit", |answer| answer.ends_with(" 7"));
    machine.wait_for("the count", |report| report.maps[0].undecodable == 1);
}

#[test]
fn no_swap_is_lost_while_servers_and_bridges_are_killed() {
    let mut server = Server::start();
    let mut machines = [
        Machine::up(&server, &["--map", "config"]),
        Machine::up(&server, &["--map", "config"]),
    ];
    let mut agents: Vec<Agent> = machines.iter().map(Machine::agent).collect();
    agents[0].ask("set config count 0");
    for agent in &mut agents {
        reads(agent, "count", |answer| answer.ends_with(" 0"));
    }
    for agent in &mut agents {
        agent.tell("add config count 60");
    }
    for round in 0..3 {
        std::thread::sleep(Duration::from_millis(120));
        if round == 1 {
            machines[1].kill();
            machines[1].start();
        } else {
            server.kill();
            server.resume();
        }
    }
    // The swaps that were done, and those with an unknown outcome: the server was killed, and the key has been
    // changed too often since.
    let (mut done, mut unknown) = (0, 0);
    for agent in &mut agents {
        let told = agent.hear();
        let (some, others) = told.split_once(' ').unwrap();
        done += some.parse::<u64>().unwrap();
        unknown += others.parse::<u64>().unwrap();
    }
    assert_eq!(done + unknown, 120);
    // Each machine may be a little behind, within the limits.
    let begun = Instant::now();
    let read = loop {
        let [read, other] = [0, 1].map(|which: usize| agents[which].ask("get config count"));
        let count = read.rsplit(' ').next().and_then(|count| count.parse().ok());
        if read == other && count.is_some_and(|count| (done..=done + unknown).contains(&count)) {
            break read;
        }
        assert!(begun.elapsed() < WATCHDOG, "count is {read} and {other}");
        std::thread::sleep(Duration::from_millis(5));
    };
    println!("{done} done, {unknown} unknown: {read}");
}

#[test]
fn a_comparison_that_stores_nothing_is_not_counted_as_sent() {
    let server = Server::start();
    let machine = Machine::up(&server, &["--map", "config"]);
    let mut agent = machine.agent();
    assert_eq!(agent.ask("swap config a 0 x"), "true");
    assert_eq!(agent.ask("remove config b"), "false");
    // It is counted after the others.
    assert_eq!(agent.ask("swap config a 0 y"), "false");
    let report = machine.wait_for("the conflict", |report| report.maps[0].conflicts == 1);
    assert_eq!(report.maps[0].sent, 1, "{report:#?}");
}
