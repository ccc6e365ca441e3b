//! The objects of a bridge: it becomes their relay, and sets up their streams and buckets on the server.

use std::sync::Arc;
use std::time::Duration;

use shoal::Queue;

use crate::bridge::Settings;
use crate::error::{Error, Result};
use crate::link::Link;
use crate::map::{self, BridgedMap};
use crate::options::Carried;
use crate::queue::{self, BridgedQueue};
use crate::threads::Threads;

/// How often the names of the objects are checked.
const CHECK: Duration = Duration::from_secs(5);

/// The objects that this bridge relays.
pub(crate) struct Objects {
    pub(crate) queues: Vec<(Arc<BridgedQueue>, queue::Inboxes)>,
    pub(crate) maps: Vec<Arc<BridgedMap>>,
}

/// Becomes the relay of all objects, one after the other: of the queues in the order of their names, and then of
/// the maps. All bridges have this order, so two bridges of one machine never wait for each other.
pub(crate) async fn attach(
    queues: Vec<Carried>,
    mut maps: Vec<Carried>,
    settings: Settings,
    threads: &Arc<Threads>,
) -> Result<Objects> {
    let ending = threads.clone();
    let attached = tokio::task::spawn_blocking(move || {
        let mut objects = Objects {
            queues: Vec::new(),
            maps: Vec::new(),
        };
        let ends = || Error::away("the objects", "the bridge ends");
        for (carried, local) in in_order(queues)? {
            let relay = queue::attach(&local, &ending)?.ok_or_else(ends)?;
            let bridged = BridgedQueue::new(carried, relay, &settings);
            objects.queues.push(bridged);
        }
        maps.sort_by(|a, b| a.name.cmp(&b.name));
        for carried in maps {
            let relay = map::attach(&carried, &ending)?.ok_or_else(ends)?;
            let bridged = BridgedMap::new(carried, relay, &settings);
            objects.maps.push(bridged);
        }
        Ok(objects)
    });
    let broken = |why: tokio::task::JoinError| Error::Broken {
        task: "attaching".to_owned(),
        why: why.to_string(),
    };
    attached.await.map_err(broken)?
}

/// The queues and their dead-letter queues, opened, in the order of their names. A dead-letter queue does not
/// follow its queue: `a.b` comes between `a` and `a.dead`.
fn in_order(queues: Vec<Carried>) -> Result<Vec<(Carried, Arc<Queue>)>> {
    let mut all = Vec::new();
    for carried in queues {
        let local = queue::open_local(&carried)?;
        all.push((carried, local));
    }
    let mut dead = Vec::new();
    for letters in all.iter().filter_map(|(_, local)| local.dead_letters()) {
        if all.iter().all(|(other, _)| other.name != letters.name()) {
            let carried = Carried::new(letters.name());
            let local = queue::open_local(&carried)?;
            dead.push((carried, local));
        }
    }
    all.extend(dead);
    all.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
    Ok(all)
}

impl Objects {
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
        let all = in_order(vec![Carried::new(name(".e")), with_dead_letters]).unwrap();
        let between = in_order(vec![Carried::new(name(".dead")), Carried::new(name(".b"))]);
        let names = |all: &[(Carried, Arc<Queue>)]| -> Vec<String> {
            all.iter()
                .map(|(carried, _)| carried.name.clone())
                .collect()
        };
        let ordered = [names(&all), names(&between.unwrap())];
        for suffix in ["", ".b", ".dead", ".e"] {
            shoal::unlink(&name(suffix)).unwrap();
        }
        assert_eq!(ordered[0], [name(""), name(".dead"), name(".e")]);
        assert_eq!(ordered[1], [name(".b"), name(".dead")]);
    }
}
