//! A whole bridge: it becomes the relay of its objects, connects, sets up streams and buckets on the server,
//! and runs until it is stopped or an error is permanent.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use shoal::Kind;
use tokio::sync::{mpsc, watch};

use crate::context::Context;
use crate::counters::Counters;
use crate::error::{Error, Result};
use crate::exchange::Pause;
use crate::large::Large;
use crate::link::{Link, Links};
use crate::metrics;
use crate::names;
use crate::objects::{self, Objects};
use crate::options::Carried;
use crate::status::{self, Board};
use crate::threads::{Ended, Threads};

/// How often the client is checked.
const CHECK: Duration = Duration::from_secs(5);
/// How often the report is written.
const REPORT: Duration = Duration::from_secs(1);

/// What the server refuses if the user may not use a subject.
const PERMISSION: &str = "a permission that the bridge needs (docs/bridge.md lists them)";

/// The options of a bridge.
#[derive(Debug, Clone)]
pub struct BridgeOptions {
    /// The server, and the credentials for it.
    pub context: Context,
    /// The prefix of all names on the server.
    pub prefix: String,
    /// The name of this machine in logs and reports.
    pub machine: String,
    /// The queues to carry.
    pub queues: Vec<Carried>,
    /// The maps to carry.
    pub maps: Vec<Carried>,
    /// The loopback port for metrics.
    pub metrics: Option<u16>,
    /// How many copies of the object store for large messages a cluster keeps.
    pub replicas: usize,
    /// The largest size of the object store in bytes; `None` is unlimited.
    pub large_max_bytes: Option<i64>,
}

impl BridgeOptions {
    /// A bridge to this server, without objects.
    pub fn new(context: Context) -> Self {
        Self {
            context,
            prefix: names::DEFAULT_PREFIX.to_owned(),
            machine: machine(),
            queues: Vec::new(),
            maps: Vec::new(),
            metrics: None,
            replicas: 1,
            large_max_bytes: None,
        }
    }

    fn check(&self) -> Result<()> {
        if !names::is_prefix(&self.prefix) {
            let why = format!(
                "{:?} is not 1 to 32 letters, digits and dashes",
                self.prefix
            );
            return Err(Error::invalid("prefix", why));
        }
        if self.queues.is_empty() && self.maps.is_empty() {
            return Err(Error::invalid(
                "objects",
                "there is no queue and no map to carry",
            ));
        }
        if !(1..=5).contains(&self.replicas) {
            let why = format!("{} is not 1 to 5", self.replicas);
            return Err(Error::invalid("replicas", why));
        }
        self.queues.iter().try_for_each(Carried::check_queue)?;
        self.maps.iter().try_for_each(Carried::check_map)?;
        let too_long = |of: &Carried| {
            let why = "it is too long for the server, where each '.' and '_' takes three bytes";
            Error::invalid(format!("name {:?}", of.name), why)
        };
        let is_queue = |of: &&Carried| names::is_queue(&self.prefix, &of.name);
        let is_map = |of: &&Carried| names::is_map(&self.prefix, &of.name);
        let queue = self.queues.iter().find(|of| !is_queue(of));
        let map = self.maps.iter().find(|of| !is_map(of));
        if let Some(of) = queue.or(map) {
            return Err(too_long(of));
        }
        let mut queues = self.queues.iter();
        queues.try_for_each(|of| of.check_name(Kind::Queue))?;
        let mut maps = self.maps.iter();
        maps.try_for_each(|of| of.check_name(Kind::Map))?;
        let mut all: Vec<&str> = self
            .queues
            .iter()
            .chain(&self.maps)
            .map(|of| &*of.name)
            .collect();
        all.sort_unstable();
        if let Some(twice) = all.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Error::invalid(
                "objects",
                format!("{:?} is named twice", twice[0]),
            ));
        }
        if all.contains(&status::STATUS_MAP) {
            let why = format!(
                "{:?} is the map of the bridges themselves",
                status::STATUS_MAP
            );
            return Err(Error::invalid("objects", why));
        }
        Ok(())
    }
}

/// The host name.
fn machine() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname");
    name.map_or_else(|_| "unnamed".to_owned(), |name| name.trim().to_owned())
}

/// The state that all objects of a bridge share.
pub(crate) struct Settings {
    pub(crate) prefix: String,
    pub(crate) counters: Arc<Counters>,
    pub(crate) large: Arc<Large>,
    /// All queues of the bridge.
    pub(crate) queues: Vec<Carried>,
}

/// Runs a bridge until `stop` is ready. The next bridge of this machine continues its unfinished work, so it
/// may be stopped, or killed, at any time.
///
/// # Errors
/// Errors that a retry does not resolve: an invalid option, credentials that the server refuses, a stream with
/// other settings, an error of an object of this machine; or a part of the bridge that has failed.
pub async fn run(options: BridgeOptions, stop: impl Future<Output = ()>) -> Result<()> {
    // Before anything of this machine changes: an object that was carried once stays, and its programs wait for
    // the next bridge.
    options.check()?;
    options.context.check().await?;
    let counters = Arc::new(Counters::default());
    let (threads, mut ended) = Threads::new();
    let threads = Arc::new(threads);
    let servers = options.context.servers();
    if let Some(port) = options.metrics {
        let listener = metrics::listen(port).await?;
        // With 0, the kernel has chosen one.
        let port = listener.local_addr().map_or(port, |at| at.port());
        counters.metrics.store(port, Ordering::Relaxed);
        tracing::info!(port, "metrics are served on the loopback interface");
        let (counters, machine, servers) =
            (counters.clone(), options.machine.clone(), servers.clone());
        let text = move || status::prometheus(&counters.report(&machine, &servers));
        threads.task("metrics".to_owned(), metrics::serve(listener, text));
    }
    let board = Arc::new(Board::open()?);
    {
        let (counters, machine) = (counters.clone(), options.machine.clone());
        let board = board.clone();
        threads.task("status".to_owned(), async move {
            loop {
                if let Err(why) = board.write(&counters.report(&machine, &servers)) {
                    tracing::warn!(%why, "the status could not be written");
                }
                tokio::time::sleep(REPORT).await;
            }
        });
    }
    let done = {
        let working = work(options, counters.clone(), &threads, &mut ended);
        tokio::pin!(working, stop);
        let done = tokio::select! {
            done = &mut working => done,
            () = &mut stop => Ok(()),
        };
        // Before the connection is closed, whose loss is no news then.
        counters.link.is_ending.store(true, Ordering::Relaxed);
        done
    };
    threads.end();
    if let Err(why) = board.close() {
        tracing::warn!(%why, "the last status could not be removed; it expires in some seconds");
    }
    done
}

async fn work(
    options: BridgeOptions,
    counters: Arc<Counters>,
    threads: &Arc<Threads>,
    ended: &mut mpsc::UnboundedReceiver<Ended>,
) -> Result<()> {
    let bucket = names::object_bucket(&options.prefix);
    let large = Arc::new(Large::new(
        bucket,
        options.replicas,
        options.large_max_bytes,
    ));
    let settings = Settings {
        prefix: options.prefix.clone(),
        counters: counters.clone(),
        large: large.clone(),
        queues: options.queues.clone(),
    };
    let (queues, maps) = (options.queues.clone(), options.maps.clone());
    let objects = objects::attach(queues, maps, settings, threads).await?;
    counters.is_active.store(true, Ordering::Relaxed);
    tracing::info!(servers = ?options.context.servers(), "the objects of this machine are relayed by this bridge");

    let (sender, links) = Links::new();
    {
        let (links, counters) = (links.clone(), counters.clone());
        threads.task("the object store".to_owned(), async move {
            large.keep_clean(links, &counters).await;
        });
    }
    let first = {
        let gone = objects.wait_for_lost_name();
        tokio::select! {
            first = connect(&options, &counters, &objects) => first,
            gone = gone => Err(gone),
        }
    };
    let first = match first {
        Ok(first) => first,
        Err(why) => {
            let _ = tokio::task::spawn_blocking(move || objects.undo()).await;
            return Err(why);
        }
    };
    let gone = objects.wait_for_lost_name();
    counters.is_set_up.store(true, Ordering::Relaxed);
    for (queue, inboxes) in objects.queues {
        queue.start(&links, inboxes, threads)?;
    }
    for map in &objects.maps {
        map.start(&links, threads);
    }
    let done = carry(&options, &counters, first, sender, ended);
    tokio::select! {
        done = done => done,
        gone = gone => Err(gone),
    }
}

/// Carries until an error is permanent.
async fn carry(
    options: &BridgeOptions,
    counters: &Arc<Counters>,
    mut first: Link,
    sender: watch::Sender<Option<Link>>,
    ended: &mut mpsc::UnboundedReceiver<Ended>,
) -> Result<()> {
    loop {
        sender.send_replace(Some(first.clone()));
        watch_client(&first, counters, ended).await?;
        sender.send_replace(None);
        first = connect_client(options, counters).await?;
    }
}

/// Connects and sets up the objects on the server. Retries after temporary errors.
async fn connect(
    options: &BridgeOptions,
    counters: &Arc<Counters>,
    objects: &Objects,
) -> Result<Link> {
    let mut pause = Pause::new();
    loop {
        let link = connect_client(options, counters).await?;
        while link.is_up() {
            match objects.set_up(&link).await {
                Ok(()) => return Ok(link),
                Err(why) => {
                    let denied = counters.link.denied();
                    let why = match why.is_temporary() && !denied.is_empty() {
                        true => Error::refused(PERMISSION, denied),
                        false => why,
                    };
                    pause_or_fail(why, counters, &mut pause).await?;
                }
            }
        }
    }
}

/// Connects a client: the first one, or one that replaces a client that has failed.
async fn connect_client(options: &BridgeOptions, counters: &Arc<Counters>) -> Result<Link> {
    let mut pause = Pause::new();
    loop {
        match Link::connect(&options.context, &client_name(options), counters).await {
            Ok(link) => return Ok(link),
            Err(why) => pause_or_fail(why, counters, &mut pause).await?,
        }
    }
}

async fn pause_or_fail(why: Error, counters: &Counters, pause: &mut Pause) -> Result<()> {
    if !why.is_temporary() {
        // The bridge ends, and closes the connection.
        counters.link.is_ending.store(true, Ordering::Relaxed);
        return Err(why);
    }
    counters.record_error(&format!("{why}; tried again"));
    tokio::time::sleep(pause.next()).await;
    Ok(())
}

fn client_name(options: &BridgeOptions) -> String {
    format!("shoal-bridge {} {}", options.machine, std::process::id())
}

/// Watches the client and the parts of the bridge. Returns when the client has to be replaced: if it reports
/// that it is connected but cannot reach the server, if the server refuses it, or if its task has ended.
async fn watch_client(
    link: &Link,
    counters: &Counters,
    ended: &mut mpsc::UnboundedReceiver<Ended>,
) -> Result<()> {
    let mut check = tokio::time::interval(CHECK);
    let mut failures = 0;
    let mut received = link.received();
    loop {
        tokio::select! {
            Some(Ended(why)) = ended.recv() => return Err(why),
            () = link.refused() => {
                tracing::warn!("the server refuses the connection; the credentials are read again");
                return Ok(());
            }
            _ = check.tick() => {
                // A client that is not connected reconnects by itself.
                if !link.is_up() && link.is_alive() {
                    failures = 0;
                    continue;
                }
                let checked = link.check(received).await;
                received = link.received();
                match checked {
                    Ok(()) => failures = 0,
                    // The client has noticed the loss meanwhile.
                    Err(_) if !link.is_up() && link.is_alive() => failures = 0,
                    Err(why) => {
                        failures += 1;
                        counters.record_error(&why.to_string());
                    }
                }
                if failures > 1 || !link.is_alive() {
                    tracing::error!("the client has failed; it is replaced");
                    return Ok(());
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "../tests/bridge/server.rs"]
#[allow(unreachable_pub, dead_code)]
pub(crate) mod server;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_client_whose_task_has_ended_is_noticed_and_replaced() {
        let server = server::Server::start();
        let options = BridgeOptions::new(Context::at(server.url()));
        let counters = Arc::new(Counters::default());
        let link = Link::connect(&options.context, "test", &counters)
            .await
            .unwrap();
        assert!(link.is_up() && link.is_alive());
        link.check(link.received()).await.unwrap();
        // This has the same effect as a panic of its task.
        link.client.drain().await.unwrap();
        let (_threads, mut ended) = Threads::new();
        watch_client(&link, &counters, &mut ended).await.unwrap();
        let link = connect_client(&options, &counters).await.unwrap();
        link.check(link.received()).await.unwrap();
    }

    #[tokio::test]
    async fn the_end_of_a_client_that_was_replaced_does_not_count() {
        let server = server::Server::start();
        let options = BridgeOptions::new(Context::at(server.url()));
        let counters = Arc::new(Counters::default());
        let first = connect_client(&options, &counters).await.unwrap();
        let _second = connect_client(&options, &counters).await.unwrap();
        let mut ended = first.clone();
        let epoch = ended.epoch();
        first.client.drain().await.unwrap();
        ended.changed(epoch).await;
        let report = counters.report("here", &[]);
        assert_eq!((report.connects, report.losses), (2, 0));
        assert!(counters.link.is_up.load(Ordering::Relaxed));
    }

    #[tokio::test]
    async fn a_part_that_panics_ends_the_bridge_with_an_error_that_names_it() {
        let server = server::Server::start();
        let counters = Arc::new(Counters::default());
        let link = Link::connect(&Context::at(server.url()), "test", &counters)
            .await
            .unwrap();
        let (threads, mut ended) = Threads::new();
        threads.task("pulling jobs".to_owned(), async { panic!("on purpose") });
        let why = watch_client(&link, &counters, &mut ended)
            .await
            .unwrap_err();
        assert!(why.to_string().contains("pulling jobs"), "{why}");
        threads.spawn("acks jobs".to_owned(), || panic!("on purpose"));
        let why = watch_client(&link, &counters, &mut ended)
            .await
            .unwrap_err();
        assert!(
            why.to_string().contains("acks jobs ended: it panicked"),
            "{why}"
        );
    }
}
