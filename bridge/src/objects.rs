//! The objects of a bridge: it becomes their relay, and sets up their streams and buckets on the server.

use std::sync::Arc;
use std::time::Duration;

use shoal::{Map, MapRelay, Queue, QueueRelay};

use crate::bridge::Settings;
use crate::error::{Error, Result};
use crate::link::Link;
use crate::map::{self, BridgedMap};
use crate::options::Carried;
use crate::queue::{self, BridgedQueue, SLICE};
use crate::status;
use crate::threads::Threads;

/// How often the names of the objects are checked.
const CHECK: Duration = Duration::from_secs(5);
/// How often it is checked whether other processes still relay objects of this bridge.
const WAIT: Duration = Duration::from_millis(200);

/// The objects that this bridge relays.
pub(crate) struct Objects {
    pub(crate) queues: Vec<(Arc<BridgedQueue>, queue::Inboxes)>,
    pub(crate) maps: Vec<Arc<BridgedMap>>,
    /// The names of those that were not relayed before.
    new: Vec<String>,
}

/// An object of this machine, opened.
enum Local {
    Queue(Arc<Queue>),
    Map(Arc<Map>),
}

/// An object of which this process is the relay.
enum Relay {
    Queue(QueueRelay),
    Map(MapRelay),
}

impl Local {
    fn name(&self) -> &str {
        match self {
            Local::Queue(queue) => queue.name(),
            Local::Map(map) => map.name(),
        }
    }

    /// The names of what this process has created by opening it.
    fn created(&self) -> Vec<String> {
        let (is_created, dead_letters) = match self {
            Local::Queue(queue) => (queue.created(), queue.dead_letters()),
            Local::Map(map) => (map.created(), None),
        };
        let dead_letters = dead_letters.filter(|queue| queue.created());
        let own = is_created.then(|| self.name().to_owned());
        let dead_letters = dead_letters.map(|queue| queue.name().to_owned());
        own.into_iter().chain(dead_letters).collect()
    }

    fn unlink_if_unused(&self) -> shoal::Result<bool> {
        match self {
            Local::Queue(queue) => queue.unlink_if_unused(),
            Local::Map(map) => map.unlink_if_unused(),
        }
    }

    fn is_relayed(&self) -> bool {
        match self {
            Local::Queue(queue) => queue.is_relayed(),
            Local::Map(map) => map.is_relayed(),
        }
    }

    /// Whether a process is its relay now.
    fn has_relay(&self) -> shoal::Result<bool> {
        let relay = match self {
            Local::Queue(queue) => queue.relay()?,
            Local::Map(map) => map.relay()?,
        };
        Ok(relay.is_some_and(|relay| relay.is_running))
    }

    fn attach(&self, carried: &Carried) -> shoal::Result<Relay> {
        match self {
            Local::Queue(queue) => {
                QueueRelay::attach(queue.clone(), &queue::relay_options(), SLICE).map(Relay::Queue)
            }
            Local::Map(map) => {
                MapRelay::attach(map.clone(), &map::relay_options(carried), SLICE).map(Relay::Map)
            }
        }
    }
}

impl Relay {
    /// Makes the object a local one again.
    fn detach(self) -> shoal::Result<()> {
        match self {
            Relay::Queue(relay) => relay.detach(SLICE),
            Relay::Map(relay) => relay.detach(SLICE),
        }
    }
}

/// Becomes the relay of all objects: of the queues in the order of their names, and then of the maps. While another
/// process is the relay of one of them, this one is the relay of none, so that no object is left without a bridge
/// that carries it, and no two bridges wait for each other.
pub(crate) async fn attach(
    queues: Vec<Carried>,
    mut maps: Vec<Carried>,
    settings: Settings,
    threads: &Arc<Threads>,
) -> Result<Objects> {
    let ending = threads.clone();
    let attached = tokio::task::spawn_blocking(move || {
        maps.sort_by(|a, b| a.name.cmp(&b.name));
        let mut all = Vec::new();
        let attached =
            open_all(queues, maps, &mut all).and_then(|()| relay_all(&all, &settings, &ending));
        let (relays, new) = match attached {
            Ok(attached) => attached,
            Err(why) => {
                remove_created(all.into_iter().map(|(_, local)| local));
                return Err(why);
            }
        };
        let mut objects = Objects {
            queues: Vec::new(),
            maps: Vec::new(),
            new,
        };
        for ((carried, _), relay) in all.into_iter().zip(relays) {
            match relay {
                Relay::Queue(relay) => {
                    let queue = BridgedQueue::new(carried, relay, &settings);
                    objects.queues.push(queue);
                }
                Relay::Map(relay) => {
                    let map = BridgedMap::new(carried, relay, &settings);
                    objects.maps.push(map);
                }
            }
        }
        Ok(objects)
    });
    let broken = |why: tokio::task::JoinError| Error::Broken {
        task: "attaching".to_owned(),
        why: why.to_string(),
    };
    attached.await.map_err(broken)?
}

/// The relays of all these objects, and the names of those that were not relayed before.
fn relay_all(
    all: &[(Carried, Local)],
    settings: &Settings,
    threads: &Threads,
) -> Result<(Vec<Relay>, Vec<String>)> {
    while !threads.is_ending() {
        if let Some((carried, _)) = busy(all)? {
            settings.counters.record_error(&waits_for(&carried.name));
            std::thread::sleep(WAIT);
            continue;
        }
        let (mut relays, mut new) = (Vec::new(), Vec::new());
        let failed = all.iter().find_map(|(carried, local)| {
            let is_new = !local.is_relayed();
            match local.attach(carried) {
                Ok(relay) => {
                    relays.push(relay);
                    new.extend(is_new.then(|| carried.name.clone()));
                    None
                }
                Err(why) => Some(Error::object(&carried.name, why)),
            }
        });
        let Some(why) = failed else {
            return Ok((relays, new));
        };
        for (relay, (carried, _)) in relays.into_iter().zip(all) {
            if new.contains(&carried.name) {
                detach(&carried.name, relay);
            }
        }
        match why {
            Error::Object {
                name,
                why: shoal::Error::Timeout,
            } => settings.counters.record_error(&format!(
                "waits for {name}: it has no room for what an earlier bridge left, or another process attaches"
            )),
            Error::Object {
                why: shoal::Error::Interrupted,
                ..
            } => {}
            why => return Err(why),
        }
    }
    Err(Error::away("the objects", "the bridge ends"))
}

/// The first object of which another process is the relay.
fn busy(all: &[(Carried, Local)]) -> Result<Option<&(Carried, Local)>> {
    for object in all {
        let (carried, local) = object;
        match local.has_relay() {
            Ok(false) => {}
            Ok(true) => return Ok(Some(object)),
            // Its companions have lost their names, and are made anew.
            Err(shoal::Error::NotFound { .. } | shoal::Error::Exists { .. }) => {}
            Err(why) => return Err(Error::object(&carried.name, why)),
        }
    }
    Ok(None)
}

/// What a bridge tells while it waits for another one.
fn waits_for(name: &str) -> String {
    let carries = |report: &&crate::counters::Report| {
        let queue = report.queues.iter().any(|queue| queue.name == name);
        queue || report.maps.iter().any(|map| map.name == name)
    };
    let reports = status::reports().unwrap_or_default();
    match reports.iter().find(carries) {
        Some(report) => format!(
            "waits for {name}, which the bridge with process number {} relays",
            report.pid
        ),
        None => format!("waits for {name}, which another process relays"),
    }
}

fn detach(name: &str, relay: Relay) {
    if let Err(why) = relay.detach() {
        tracing::warn!(name, %why, "it is not a local object again; `shoal-bridge detach` makes it one");
    }
}

/// Opens all objects: the queues and their dead-letter queues in the order of their names, and then the maps. A
/// dead-letter queue does not follow its queue: `a.b` comes between `a` and `a.dead`. After an error, `all` has those
/// that were opened.
fn open_all(
    queues: Vec<Carried>,
    maps: Vec<Carried>,
    all: &mut Vec<(Carried, Local)>,
) -> Result<()> {
    for carried in queues {
        let local = Local::Queue(queue::open_local(&carried)?);
        all.push((carried, local));
    }
    let letters = |(_, local): &(Carried, Local)| match local {
        Local::Queue(queue) => queue.dead_letters().map(|it| it.name().to_owned()),
        Local::Map(_) => None,
    };
    let mut dead: Vec<String> = all.iter().filter_map(letters).collect();
    dead.retain(|name| all.iter().all(|(other, _)| other.name != *name));
    for name in dead {
        let carried = Carried::new(name);
        let local = Local::Queue(queue::open_local(&carried)?);
        all.push((carried, local));
    }
    all.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
    for carried in maps {
        let local = Local::Map(map::open_local(&carried)?);
        all.push((carried, local));
    }
    Ok(())
}

/// Removes those of these objects that this process has created and that no other one uses: a program that creates
/// them later chooses their settings.
fn remove_created(all: impl Iterator<Item = Local>) {
    let mut all: Vec<Local> = all.collect();
    let created: Vec<String> = all.iter().flat_map(Local::created).collect();
    // A queue has its dead-letter queue open, and comes first.
    all.sort_by(|a, b| a.name().cmp(b.name()));
    for local in all {
        if created.iter().any(|name| name == local.name())
            && let Err(why) = local.unlink_if_unused()
        {
            tracing::debug!(name = local.name(), %why, "it stays");
        }
    }
}

impl Objects {
    /// Makes those objects local ones again that were not relayed before, and removes those that this process has
    /// created and nothing else uses: this bridge ends before it has carried anything, and programs would wait for the
    /// next one.
    pub(crate) fn undo(self) {
        let is_new = |name: &String| self.new.contains(name);
        let mut locals = Vec::new();
        for (queue, _) in self.queues {
            let queue = Arc::into_inner(queue).filter(|queue| is_new(&queue.carried.name));
            if let Some(queue) = queue
                && let Some(relay) = Arc::into_inner(queue.relay)
            {
                locals.push(Local::Queue(relay.queue().clone()));
                detach(&queue.carried.name, Relay::Queue(relay));
            }
        }
        for map in self.maps {
            let map = Arc::into_inner(map).filter(|map| is_new(&map.carried.name));
            if let Some(map) = map
                && let Some(relay) = Arc::into_inner(map.relay)
            {
                locals.push(Local::Map(relay.map().clone()));
                detach(&map.carried.name, Relay::Map(relay));
            }
        }
        remove_created(locals.into_iter());
    }

    /// Creates or checks the streams and buckets.
    pub(crate) async fn set_up(&self, link: &Link) -> Result<()> {
        for (queue, _) in &self.queues {
            queue.set_up(link).await?;
        }
        for map in &self.maps {
            map.set_up(link).await?;
        }
        Ok(())
    }

    /// Waits until an object of this machine has lost its name. From then on programs that open the name get
    /// another object, which this bridge does not carry.
    pub(crate) fn wait_for_lost_name(&self) -> impl Future<Output = Error> + use<> {
        let queues: Vec<_> = self.queues.iter().map(|(it, _)| it.relay.clone()).collect();
        let maps: Vec<_> = self.maps.iter().map(|it| it.relay.clone()).collect();
        async move {
            loop {
                tokio::time::sleep(CHECK).await;
                let queue = queues.iter().find(|relay| !relay.is_named());
                let map = maps.iter().find(|relay| !relay.is_named());
                let name = queue
                    .map(|relay| relay.queue().name().to_owned())
                    .or_else(|| map.map(|relay| relay.map().name().to_owned()));
                if let Some(name) = name {
                    return Error::Nameless { name };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dead_letter_queues_are_attached_in_the_order_of_all_names() {
        let name = |suffix: &str| format!("ordered-{}{suffix}", std::process::id());
        let with_dead_letters = Carried {
            max_attempts: Some(2),
            ..Carried::new(name(""))
        };
        let opened = |queues| {
            let mut all = Vec::new();
            open_all(queues, Vec::new(), &mut all).unwrap();
            all
        };
        let all = opened(vec![Carried::new(name(".e")), with_dead_letters]);
        let between = opened(vec![Carried::new(name(".dead")), Carried::new(name(".b"))]);
        let names = |all: &[(Carried, Local)]| -> Vec<String> {
            all.iter()
                .map(|(carried, _)| carried.name.clone())
                .collect()
        };
        let ordered = [names(&all), names(&between)];
        for suffix in ["", ".b", ".dead", ".e"] {
            shoal::unlink(&name(suffix)).unwrap();
        }
        assert_eq!(ordered[0], [name(""), name(".dead"), name(".e")]);
        assert_eq!(ordered[1], [name(".b"), name(".dead")]);
    }
}
