//! Makes objects of this machine local ones again, which no bridge carries.

use std::sync::Arc;
use std::time::Duration;

use shoal::{Map, MapRelay, Queue, QueueRelay, RelayOptions, Timeout};

use crate::error::{Error, Result};

/// How long to wait for the bridge of the object, which may be ending.
const RELAY: Timeout = Timeout::Val(Duration::from_secs(1));
/// How long to wait for room in the object for what was put or set and not sent.
const ROOM: Timeout = Timeout::Val(Duration::from_secs(30));

/// Makes the queue or map a local one. What was put or set here and not sent goes into it. False if it was one.
///
/// # Errors
/// `Object`: there is no such queue or map, a bridge carries it, or there is no room in it.
pub fn detach(name: &str) -> Result<bool> {
    let failed = |why| {
        match why {
        shoal::Error::Timeout => Error::Away {
            what: name.to_owned(),
            why: "a bridge carries it, or it has no room for what was not sent; stop the bridge first"
                .to_owned(),
        },
        why => Error::object(name, why),
    }
    };
    let options = RelayOptions::new();
    match Queue::open(name) {
        Ok(queue) if !queue.is_relayed() => Ok(false),
        Ok(queue) => {
            let relay = QueueRelay::attach(Arc::new(queue), &options, RELAY).map_err(failed)?;
            relay.detach(ROOM).map_err(failed)?;
            Ok(true)
        }
        Err(shoal::Error::WrongKind { .. }) => {
            let map = Map::open(name).map_err(failed)?;
            if !map.is_relayed() {
                return Ok(false);
            }
            let relay = MapRelay::attach(Arc::new(map), &options, RELAY).map_err(failed)?;
            relay.detach(ROOM).map_err(failed)?;
            Ok(true)
        }
        Err(why) => Err(failed(why)),
    }
}
