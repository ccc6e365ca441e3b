//! The bridge beside a bare `async-nats` program, in one run, on one server of this machine.
//!
//! ```text
//! NATS_SERVER=.venv/bin/nats-server cargo bench -p shoal-bridge
//! ```
//! `BRIDGE_STORE` names the folder of the server's data; `sync always` costs what its disk costs.
#![allow(missing_docs, unreachable_pub, dead_code)]

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use async_nats::jetstream::{self, consumer, stream};
use futures_util::StreamExt;
use shoal::{Map, Queue, Timeout};
use tokio::runtime::Runtime;

#[path = "../tests/bridge/server.rs"]
mod server;

use server::{Server, Setup};

const SIZE: usize = 128;
/// Enough that the growth of the credit at the beginning is a small part.
const PUBLISHES: usize = 200_000;
const TRIPS: usize = 1000;
const ROLE: &str = "SHOAL_BRIDGE_BENCH";
const WATCHDOG: Duration = Duration::from_secs(120);

fn main() {
    if let Ok(role) = std::env::var(ROLE) {
        return play(&role);
    }
    let runtime = Runtime::new().unwrap();
    for sync_always in [true, false] {
        let what = if sync_always {
            "sync always"
        } else {
            "sync every 2 minutes"
        };
        println!("\n{what}");
        rates(&runtime, sync_always);
        trips(&runtime, sync_always);
    }
    println!("\nwithout work");
    idle();
    reads();
}

fn now() -> u64 {
    let mut time = std::mem::MaybeUninit::<[i64; 2]>::uninit();
    unsafe extern "C" {
        fn clock_gettime(clock: i32, time: *mut [i64; 2]) -> i32;
    }
    // SAFETY: CLOCK_MONOTONIC, which all processes of the machine read alike, and room for its answer.
    let [seconds, nanos] = unsafe {
        clock_gettime(1, time.as_mut_ptr());
        time.assume_init()
    };
    seconds as u64 * 1_000_000_000 + nanos as u64
}

/// A folder of shared objects, with a bridge.
struct Machine {
    folder: PathBuf,
    bridge: Child,
}

impl Machine {
    fn start(name: &str, server: &Server, args: &[&str]) -> Self {
        let folder = PathBuf::from(format!(
            "/dev/shm/shoal-bench-{}-{name}",
            std::process::id()
        ));
        std::fs::create_dir_all(&folder).unwrap();
        let bridge = Command::new(env!("CARGO_BIN_EXE_shoal-bridge"))
            .arg("run")
            .args(args)
            .env("SHOAL_DIR", &folder)
            .env("NATS_URL", server.url())
            .env("RUST_LOG", "warn")
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(1500));
        Self { folder, bridge }
    }

    fn play(&self, role: &str) -> Child {
        Command::new(std::env::current_exe().unwrap())
            .env(ROLE, role)
            .env("SHOAL_DIR", &self.folder)
            .stdout(Stdio::inherit())
            .spawn()
            .unwrap()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.bridge.kill();
        let _ = self.bridge.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// What the programs of a machine do.
fn play(role: &str) {
    let queue = || Queue::create("jobs").unwrap();
    match role {
        "put" => {
            let queue = queue();
            for _ in 0..PUBLISHES {
                queue.put(&[7; SIZE], Timeout::Infinite).unwrap();
            }
        }
        "work" => {
            let queue = queue();
            loop {
                queue.lease(Timeout::Infinite).unwrap().ack().unwrap();
            }
        }
        "ping" => {
            let queue = queue();
            std::thread::sleep(Duration::from_millis(500));
            for _ in 0..TRIPS {
                queue.put(&now().to_le_bytes(), Timeout::Infinite).unwrap();
                std::thread::sleep(Duration::from_millis(3));
            }
        }
        "pong" => {
            let queue = queue();
            let mut trips = Vec::new();
            while trips.len() < TRIPS {
                let lease = queue.lease(Timeout::Infinite).unwrap();
                let sent = u64::from_le_bytes(lease[..8].try_into().unwrap());
                trips.push(now() - sent);
                lease.ack().unwrap();
            }
            show("local put to a remote worker's lease", trips);
        }
        other => panic!("{other}"),
    }
}

fn show(what: &str, mut trips: Vec<u64>) {
    trips.sort_unstable();
    let at = |part: usize| trips[trips.len() * part / 100] / 1000;
    println!("  {what:<44} p50 {:>6} us   p90 {:>6} us", at(50), at(90));
}

/// The processor time that a process has used, in hundredths of a second.
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name of the program is before the last bracket.
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let of = |at: usize| fields[at].parse::<u64>().unwrap();
    of(11) + of(12)
}

/// A measurement of [`PUBLISHES`] messages, and the processes that handle them.
struct Measurement {
    begun: Instant,
    processes: Vec<Process>,
}

/// A process, and the processor time that it had used when the measurement began.
struct Process {
    name: &'static str,
    pid: u32,
    ticks: u64,
}

impl Measurement {
    fn begin() -> Self {
        Self {
            begun: Instant::now(),
            processes: Vec::new(),
        }
    }

    /// Adds a process.
    fn of(mut self, name: &'static str, pid: u32) -> Self {
        let ticks = ticks(pid);
        self.processes.push(Process { name, pid, ticks });
        self
    }

    /// Prints the rate, and the processor time of each process for one message. Returns the rate. A process that has
    /// ended must not have been waited for.
    fn end(self, what: &str) -> f64 {
        let rate = PUBLISHES as f64 / self.begun.elapsed().as_secs_f64();
        print!("  {what:<44} {rate:>9.0} /s  ");
        for Process { name, pid, ticks } in self.processes {
            let used = (self::ticks(pid) - ticks) as f64 * 10_000.0 / PUBLISHES as f64;
            print!(" {name} {used:.1} us");
        }
        println!();
        rate
    }
}

fn compare(what: &str, bare: f64, bridge: f64) {
    println!("  {what:<44} {:>9.0} %", 100.0 * bridge / bare);
}

async fn bare_stream(jetstream: &jetstream::Context, name: &str) -> stream::Stream {
    let config = stream::Config {
        name: name.to_owned(),
        subjects: vec![name.to_owned()],
        retention: stream::RetentionPolicy::WorkQueue,
        ..Default::default()
    };
    jetstream.create_stream(config).await.unwrap()
}

async fn bare_consumer(stream: &stream::Stream) -> consumer::PullConsumer {
    let config = consumer::pull::Config {
        durable_name: Some("bare".to_owned()),
        ack_policy: consumer::AckPolicy::Explicit,
        max_ack_pending: -1,
        ..Default::default()
    };
    stream.create_consumer(config).await.unwrap()
}

/// Waits until a stream has so many messages.
async fn until(jetstream: &jetstream::Context, name: &str, messages: u64) {
    let begun = Instant::now();
    let stream = jetstream.get_stream_no_info(name).await.unwrap();
    while stream.get_info().await.unwrap().state.messages != messages {
        assert!(begun.elapsed() < WATCHDOG, "{name} hangs");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn rates(runtime: &Runtime, sync_always: bool) {
    let server = start(sync_always);
    let client = runtime.block_on(async { async_nats::connect(server.url()).await.unwrap() });
    let jetstream = runtime.block_on(async { jetstream::new(client) });
    let begin = || {
        let measurement = Measurement::begin().of("server", server.pid());
        measurement.of("client", std::process::id())
    };
    let bare = runtime.block_on(async {
        let stream = bare_stream(&jetstream, "bare").await;
        let measurement = begin();
        let (sender, mut acks) = tokio::sync::mpsc::channel(4096);
        let publishing = jetstream.clone();
        let publisher = tokio::spawn(async move {
            for number in 0..PUBLISHES {
                let mut headers = HeaderMap::new();
                headers.insert("Nats-Msg-Id", format!("bare-{number}"));
                let ack = publishing
                    .publish_with_headers("bare", headers, vec![7; SIZE].into())
                    .await;
                sender.send(ack.unwrap()).await.unwrap();
            }
        });
        while let Some(ack) = acks.recv().await {
            ack.await.unwrap();
        }
        publisher.await.unwrap();
        let publishes = measurement.end("pipelined publishes, bare");
        let consumer = bare_consumer(&stream).await;
        let mut messages = consumer
            .stream()
            .max_messages_per_batch(1024)
            .messages()
            .await
            .unwrap();
        let measurement = begin();
        for _ in 0..PUBLISHES {
            messages.next().await.unwrap().unwrap().ack().await.unwrap();
        }
        until(&jetstream, "bare", 0).await;
        let acks = measurement.end("pulled and acked, bare");
        (publishes, acks)
    });
    let here = Machine::start("here", &server, &["--queue", "jobs"]);
    let measurement = Measurement::begin();
    let mut producer = here.play("put");
    let measurement = measurement
        .of("server", server.pid())
        .of("bridge", here.bridge.id())
        .of("program", producer.id());
    runtime.block_on(until(&jetstream, "shoal_q_jobs", PUBLISHES as u64));
    let publishes = measurement.end("put here and stored, bridge");
    producer.wait().unwrap();
    compare("of bare", bare.0, publishes);
    let there = Machine::start("there", &server, &["--queue", "jobs"]);
    let measurement = Measurement::begin();
    let mut worker = there.play("work");
    let measurement = measurement
        .of("server", server.pid())
        .of("bridge", there.bridge.id())
        .of("program", worker.id())
        .of("other bridge", here.bridge.id());
    runtime.block_on(until(&jetstream, "shoal_q_jobs", 0));
    let acks = measurement.end("leased and acked by a worker, bridge");
    compare("of bare", bare.1, acks);
    worker.kill().unwrap();
    worker.wait().unwrap();
}

fn trips(runtime: &Runtime, sync_always: bool) {
    let server = start(sync_always);
    let bare = runtime.block_on(async {
        let (one, two) = (
            async_nats::connect(server.url()).await.unwrap(),
            async_nats::connect(server.url()).await.unwrap(),
        );
        let stream = bare_stream(&jetstream::new(one.clone()), "bare").await;
        let _ = bare_consumer(&stream).await;
        let far = jetstream::new(two);
        let reader = tokio::spawn(async move {
            let stream = far.get_stream("bare").await.unwrap();
            let consumer: consumer::PullConsumer = stream.get_consumer("bare").await.unwrap();
            let mut messages = consumer
                .stream()
                .max_messages_per_batch(64)
                .messages()
                .await
                .unwrap();
            let mut trips = Vec::new();
            while trips.len() < TRIPS {
                let message = messages.next().await.unwrap().unwrap();
                trips.push(now() - u64::from_le_bytes(message.payload[..8].try_into().unwrap()));
                message.ack().await.unwrap();
            }
            trips
        });
        tokio::time::sleep(Duration::from_millis(500)).await;
        let near = jetstream::new(one);
        for _ in 0..TRIPS {
            near.publish("bare", now().to_le_bytes().to_vec().into())
                .await
                .unwrap();
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        reader.await.unwrap()
    });
    show("publish to a message at the other end, bare", bare);
    let here = Machine::start("here", &server, &["--queue", "jobs"]);
    let there = Machine::start("there", &server, &["--queue", "jobs"]);
    let (mut pong, mut ping) = (there.play("pong"), here.play("ping"));
    pong.wait().unwrap();
    ping.wait().unwrap();
}

fn start(sync_always: bool) -> Server {
    Server::with(&Setup {
        sync_always,
        ..Setup::default()
    })
}

fn idle() {
    let server = Server::start();
    let machine = Machine::start(
        "idle",
        &server,
        &["--queue", "jobs", "--queue", "mail", "--map", "config"],
    );
    let before = ticks(machine.bridge.id());
    std::thread::sleep(Duration::from_secs(10));
    let used = ticks(machine.bridge.id()) - before;
    let status = std::fs::read_to_string(format!("/proc/{}/status", machine.bridge.id())).unwrap();
    let memory = status
        .lines()
        .find(|line| line.starts_with("VmRSS"))
        .unwrap_or_default();
    // A tick is a hundredth of a second.
    println!(
        "  two queues and a map, of one core {:>10} %, {memory}",
        used as f64 / 10.0
    );
}

fn reads() {
    let read = |map: &Map| {
        const READS: u32 = 1_000_000;
        let mut to = [0; 64];
        let begun = Instant::now();
        for _ in 0..READS {
            map.get(b"key", &mut to).unwrap().unwrap();
        }
        begun.elapsed().as_nanos() as f64 / f64::from(READS)
    };
    let plain = Map::anonymous().unwrap();
    plain.set(b"key", &[7; 64]).unwrap();
    let relayed = std::sync::Arc::new(Map::anonymous().unwrap());
    let relay = shoal::MapRelay::attach(
        relayed.clone(),
        &shoal::RelayOptions::new(),
        Timeout::Infinite,
    )
    .unwrap();
    relay.deliver(b"key", &[7; 64], 1, None).unwrap();
    let (plain, bridged) = (read(&plain), read(&relayed));
    relay.detach(Timeout::Infinite).unwrap();
    println!("  a read of a plain map {plain:>22.0} ns, of a bridged one {bridged:.0} ns");
}
