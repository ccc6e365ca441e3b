//! Makes objects of this machine local ones again, which no bridge carries.

use std::sync::Arc;
use std::time::Duration;

use shoal::{Map, MapRelay, Queue, QueueRelay, RelayOptions, Timeout};

use crate::error::{Error, Result};

/// How long to wait for the bridge of the object, which may be ending.
const RELAY: Timeout = Timeout::Val(Duration::from_secs(1));
/// How long to wait for room in the object for what was put or set and not sent.
const ROOM: Timeout = Timeout::Val(Duration::from_secs(30));

/// Makes the queue or map a local one. What was put or set here and not sent goes into it. If an earlier call did not
/// complete that, this one does. False if it is a local object already, and nothing is left to complete.
///
/// # Errors
/// `Object`: there is no such queue or map; `Away`: a bridge carries it, or there is no room in it.
pub fn detach(name: &str) -> Result<bool> {
    match Queue::open(name) {
        Ok(queue) => {
            let queue = Arc::new(queue);
            if QueueRelay::finish_detach(queue.clone(), ROOM).map_err(no_room(name))? {
                return Ok(true);
            }
            if !queue.is_relayed() {
                return Ok(false);
            }
            let relay = QueueRelay::attach(queue, &RelayOptions::new(), RELAY);
            let relay = relay.map_err(is_carried(name))?;
            relay.detach(ROOM).map_err(no_room(name))?;
        }
        Err(shoal::Error::WrongKind { .. }) => {
            let map = Arc::new(Map::open(name).map_err(|why| Error::object(name, why))?);
            if MapRelay::finish_detach(map.clone(), ROOM).map_err(no_room(name))? {
                return Ok(true);
            }
            if !map.is_relayed() {
                return Ok(false);
            }
            let relay = MapRelay::attach(map, &RelayOptions::new(), RELAY);
            let relay = relay.map_err(is_carried(name))?;
            relay.detach(ROOM).map_err(no_room(name))?;
        }
        Err(why) => return Err(Error::object(name, why)),
    }
    Ok(true)
}

fn is_carried(name: &str) -> impl Fn(shoal::Error) -> Error {
    timeout_is(name, "a bridge carries it; stop the bridge first")
}

fn no_room(name: &str) -> impl Fn(shoal::Error) -> Error {
    let why = "it has no room for what was not sent, which stays in its companion; take messages or remove keys, \
               and detach it again";
    timeout_is(name, why)
}

/// The error of the bridge for one of the library, where a timeout has this cause.
fn timeout_is(name: &str, cause: &'static str) -> impl Fn(shoal::Error) -> Error {
    move |why| match why {
        shoal::Error::Timeout => Error::away(name, cause),
        why => Error::object(name, why),
    }
}
