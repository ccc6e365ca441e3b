//! iceoryx2, publish-subscribe of slices: a worker of Shoal's benchmark.
//!
//! The harness starts it with the arguments that `../worker.hpp` explains. No message is lost:
//! overflow is off, and a publisher retries while the subscriber's buffer is full. Waiting for a
//! message needs a second service for events, so receivers poll, and yield the processor after
//! every few polls.
//!
//! Messages are written where they are published from and read where they arrive.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::*;
use iceoryx2::sample::Sample;
use iceoryx2::sample_mut::SampleMut;
use iceoryx2::service::port_factory::PortFactory as _;
use iceoryx2::service::port_factory::publish_subscribe::PortFactory;

#[path = "../../harness/failure.rs"]
#[expect(dead_code, reason = "the rest of it is for the harness")]
mod failure;
#[path = "../../harness/pace.rs"]
mod pace;
#[path = "../../harness/payload.rs"]
mod payload;
#[path = "../../harness/stage.rs"]
#[expect(dead_code, reason = "the rest of it is for the harness")]
mod stage;

#[path = "../../harness/times.rs"]
#[expect(dead_code, reason = "the rest of it is for the harness")]
mod times;

use failure::Failure;
use pace::{Pace, now, sleep_exactly};
use payload::Touch::All;
use stage::Stage;
use times::Stopwatch;

type Service = PortFactory<ipc::Service, [u8], ()>;

/// How often a receiver polls before it yields the processor.
const POLLS: u32 = 64;

/// The arguments of the command line.
struct Job {
    stage: Stage,
    worker: usize,
    producers: usize,
    consumers: usize,
    size: usize,
    depth: usize,
}

fn main() {
    set_log_level(LogLevel::Error);
    if let Err(why) = work() {
        eprintln!("peer-iceoryx2: {why}");
        std::process::exit(1);
    }
}

fn work() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [
        role,
        stage,
        worker,
        producers,
        consumers,
        size,
        depth,
        there,
        back,
        rate @ ..,
    ] = words.as_slice()
    else {
        return Err("this is a part of `cargo xtask bench`".into());
    };
    let job = Job {
        stage: Stage::inherited(stage.parse()?)?,
        worker: worker.parse()?,
        producers: producers.parse()?,
        consumers: consumers.parse()?,
        size: size.parse()?,
        depth: depth.parse()?,
    };
    let config = apart(there)?;
    let node = NodeBuilder::new()
        .config(&config)
        .create::<ipc::Service>()?;
    // The caller's messages go out through `there` and return through `back`.
    match role.as_str() {
        "put" => job.put(&job.service(&node, there)?),
        "take" => job.take(&job.service(&node, there)?),
        "pace" => {
            let rate = rate.first().map_or(Ok(0.0), |rate| rate.parse::<f64>())?;
            let pace = if rate > 0.0 { Pace::Awake(rate) } else { Pace::Full };
            job.pace(&job.service(&node, there)?, pace)
        }
        "due" => job.due(&job.service(&node, there)?),
        "call" => job.call(&job.service(&node, there)?, &job.service(&node, back)?),
        _ => job.echo(&job.service(&node, there)?, &job.service(&node, back)?),
    }
}

/// The configuration of this measurement's files. They are separate from those of other programs, and have the
/// name by which the harness finds and removes them afterwards.
fn apart(name: &str) -> Result<Config, Failure> {
    let root = std::env::temp_dir().join(name);
    let root = root
        .to_str()
        .ok_or("the temporary folder has no proper name")?;
    let mut config = Config::default();
    config.global.prefix = FileName::new(format!("{name}_").as_bytes())?;
    config.global.set_root_path(&Path::new(root.as_bytes())?);
    Ok(config)
}

struct Sender<'a> {
    job: &'a Job,
    publisher: Publisher<ipc::Service, [u8], ()>,
}

struct Receiver<'a> {
    job: &'a Job,
    subscriber: Subscriber<ipc::Service, [u8], ()>,
}

impl Job {
    fn service(&self, node: &Node<ipc::Service>, name: &str) -> Result<Service, Failure> {
        let service = node
            .service_builder(&name.try_into()?)
            .publish_subscribe::<[u8]>();
        Ok(service
            .payload_alignment(Alignment::new(8).ok_or("8 is a power of two")?)
            .enable_safe_overflow(false)
            .subscriber_max_buffer_size(self.depth)
            .subscriber_max_borrowed_samples(2)
            .history_size(0)
            .max_subscribers(1)
            .max_publishers(self.producers)
            .max_nodes(self.producers + self.consumers)
            .open_or_create()?)
    }

    /// Waits for the subscriber: messages without a subscriber are lost.
    fn sender(&self, service: &Service) -> Result<Sender<'_>, Failure> {
        let publisher = service
            .publisher_builder()
            .initial_max_slice_len(self.size)
            .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
            .create()?;
        while service.dynamic_config().number_of_subscribers() == 0 {
            std::thread::yield_now();
        }
        Ok(Sender {
            job: self,
            publisher,
        })
    }

    fn receiver(&self, service: &Service) -> Result<Receiver<'_>, Failure> {
        let subscriber = service.subscriber_builder().buffer_size(self.depth);
        Ok(Receiver {
            job: self,
            subscriber: subscriber.create()?,
        })
    }

    /// Whether every message was taken and no producer will put another one.
    fn is_over(&self) -> bool {
        if self.stage.turn().load(Acquire) < self.producers as u32 && !self.stage.is_ended() {
            return false;
        }
        // No process puts any more, so the first sum is final. Callers count nothing.
        let total = |workers: std::ops::Range<usize>| -> u64 {
            let tallies = workers.map(|worker| self.stage.tally(worker));
            tallies.map(|tally| tally.messages.load(Acquire)).sum()
        };
        let all = self.producers + self.consumers;
        total(0..self.producers) == total(self.producers..all)
    }

    fn put(&self, service: &Service) -> Result<(), Failure> {
        let sender = self.sender(service)?;
        let tally = self.stage.tally(self.worker);
        let (mut messages, mut sum, first) = (0u64, 0u64, (self.worker as u64) << 48);
        self.stage.wait_for_start();
        while !self.stage.is_stopped() {
            let mut sample = sender.loan()?;
            let words = payload::write(sample.payload_mut(), first + messages, All);
            // No subscriber got it: retrying does not help while the buffer is full and the
            // subscriber has not found this publisher yet.
            if sample.send()? == 0 {
                std::thread::yield_now();
                continue;
            }
            (messages, sum) = (messages + 1, sum.wrapping_add(words));
            tally.messages.store(messages, Release);
        }
        tally.sum.store(sum, Release);
        self.stay();
        Ok(())
    }

    /// Messages in the buffer of a publisher that ends can be lost.
    fn stay(&self) {
        self.stage.turn().fetch_add(1, AcqRel);
        while !self.is_over() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The first word of each message is the time at which it was due.
    fn pace(&self, service: &Service, pace: Pace) -> Result<(), Failure> {
        let sender = self.sender(service)?;
        let tally = self.stage.tally(self.worker);
        sleep_exactly();
        self.stage.wait_for_start();
        let (began, mut number) = (now(), 0);
        loop {
            let due = pace.wait(began, number, &self.stage);
            if self.stage.is_stopped() {
                break;
            }
            let mut sample = sender.loan()?;
            payload::write(sample.payload_mut(), due, All);
            if sample.send()? == 0 {
                std::thread::yield_now();
                continue;
            }
            number += 1;
            tally.messages.store(number, Release);
        }
        self.stay();
        Ok(())
    }

    fn due(&self, service: &Service) -> Result<(), Failure> {
        let receiver = self.receiver(service)?;
        let tally = self.stage.tally(self.worker);
        let (mut stopwatch, mut expected) = (Stopwatch::new()?, vec![1u8; self.size]);
        let mut messages = 0;
        self.stage.wait_for_start();
        while let Some(sample) = receiver.receive()? {
            let (sum, now) = (payload::read(&sample, All), now());
            let due = u64::from_ne_bytes(*sample.first_chunk().ok_or("it has no first word")?);
            if sum != payload::write(&mut expected, due, All) {
                return Err("a message arrived changed".into());
            }
            messages += 1;
            tally.messages.store(messages, Release);
            if self.stage.has_begun() {
                stopwatch.record(Duration::from_nanos(now.saturating_sub(due)))?;
                self.stage.announce_result();
            }
        }
        stopwatch.share(&self.stage);
        Ok(())
    }

    fn take(&self, service: &Service) -> Result<(), Failure> {
        let receiver = self.receiver(service)?;
        let tally = self.stage.tally(self.worker);
        let (mut messages, mut sum) = (0u64, 0u64);
        self.stage.wait_for_start();
        while let Some(sample) = receiver.receive()? {
            sum = sum.wrapping_add(payload::read(&sample, All));
            messages += 1;
            tally.messages.store(messages, Release);
        }
        tally.sum.store(sum, Release);
        Ok(())
    }

    fn call(&self, there: &Service, back: &Service) -> Result<(), Failure> {
        let receiver = self.receiver(back)?;
        let sender = self.sender(there)?;
        let (mut seed, mut times) = (
            0u64,
            Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3)?,
        );
        self.stage.wait_for_start();
        while !self.stage.is_stopped() {
            let start = Instant::now();
            let mut sample = sender.loan()?;
            let sum = payload::write(sample.payload_mut(), seed, All);
            sample.send()?;
            let came = receiver.receive()?;
            let same = came.is_some_and(|came| payload::read(&came, All) == sum);
            let took = start.elapsed();
            if !same {
                return Err("a message came back changed".into());
            }
            if self.stage.is_measuring() {
                times.record((took.as_nanos() as u64).max(1))?;
                self.stage.announce_result();
            }
            seed += 1;
        }
        let at = |quantile| times.value_at_quantile(quantile) as f64;
        self.stage.report(&[at(0.5), at(0.99), times.len() as f64]);
        Ok(())
    }

    fn echo(&self, there: &Service, back: &Service) -> Result<(), Failure> {
        let receiver = self.receiver(there)?;
        let sender = self.sender(back)?;
        let mut sum = 0u64;
        self.stage.wait_for_start();
        while let Some(came) = receiver.receive()? {
            sum = sum.wrapping_add(payload::read(&came, All));
            let mut sample = sender.loan()?;
            sample.payload_mut().copy_from_slice(&came);
            sample.send()?;
        }
        std::hint::black_box(sum);
        Ok(())
    }
}

impl Sender<'_> {
    fn loan(&self) -> Result<SampleMut<ipc::Service, [u8], ()>, Failure> {
        let sample = self.publisher.loan_slice_uninit(self.job.size)?;
        // SAFETY: the slice is mapped shared memory, so its bytes are initialised, and every value of a byte is
        // valid.
        Ok(unsafe { sample.assume_init() })
    }
}

impl Receiver<'_> {
    /// The next message; none at the end.
    fn receive(&self) -> Result<Option<Sample<ipc::Service, [u8], ()>>, Failure> {
        loop {
            for _ in 0..POLLS {
                if let Some(sample) = self.subscriber.receive()? {
                    if sample.len() != self.job.size {
                        return Err("a message of another length arrived".into());
                    }
                    return Ok(Some(sample));
                }
                std::hint::spin_loop();
            }
            if self.job.is_over() {
                return Ok(None);
            }
            std::thread::yield_now();
        }
    }
}
