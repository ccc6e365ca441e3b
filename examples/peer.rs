//! One of several processes, in any language, that share a queue and a map.
//!
//! `peer <queue-in> <queue-out> <map> <who> <count>` puts `count` messages `<who>:<i>` into
//! the one queue, takes `count` messages from the other, and for each adds one to the
//! counter `from:<sender>` of the map. `together` starts four of these in four languages.

use shoal::{Map, Queue, Timeout};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [from, to, map, who, count] = args.as_slice() else {
        return Err("usage: peer <queue-in> <queue-out> <map> <who> <count>".into());
    };
    let (from, to, map) = (Queue::open(from)?, Queue::open(to)?, Map::open(map)?);
    let count: usize = count.parse()?;

    for i in 0..count {
        to.put(format!("{who}:{i}").as_bytes(), Timeout::Infinite)?;
    }
    for _ in 0..count {
        let message = from.get_vec(Timeout::Infinite)?;
        let sender = message
            .split(|&byte| byte == b':')
            .next()
            .unwrap_or_default();
        map.add(&[b"from:", sender].concat(), 1)?;
    }
    println!("{who} (Rust) put {count} messages and took {count}");
    Ok(())
}
