//! `shoal map get | set | del | ls | watch`

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use clap::Subcommand;
use serde::Serialize;
use shoal::{Error, Map};

use crate::input::{Sink, Source};
use crate::interrupt;
use crate::number::any_count;
use crate::objects::{open, open_or_create};
use crate::output::{Failure, Format, Paint, Progress, duration, has_colours};
use crate::queue::may_change;
use crate::value::{Json, JsonKey, KeyEncoding, PartOf, key, one_line};

#[derive(clap::Args)]
pub(crate) struct MapCommand {
    #[command(subcommand)]
    verb: Verb,
}

/// How keys are written.
#[derive(clap::Args, Clone, Copy)]
struct Keys {
    /// How keys are written
    #[arg(
        long = "key-as",
        id = "key_as",
        value_enum,
        value_name = "ENCODING",
        default_value = "text"
    )]
    encoding: KeyEncoding,
}

#[derive(Subcommand)]
enum Verb {
    /// Print the value of a key
    Get {
        /// The map
        name: String,
        /// The key
        key: String,
        #[command(flatten)]
        keys: Keys,
        #[command(flatten)]
        sink: Sink,
    },
    /// Set a key; without a value, to the standard input
    Set(Set),
    /// Remove keys; exit code 3 if one of them is missing
    Del {
        /// The map
        name: String,
        /// The keys
        #[arg(required = true, allow_negative_numbers = true)]
        wanted: Vec<String>,
        #[command(flatten)]
        keys: Keys,
    },
    /// List the keys and their values
    Ls {
        /// The map
        name: String,
        /// Only keys that begin with this
        prefix: Option<String>,
        /// Only the keys
        #[arg(long)]
        keys: bool,
        #[command(flatten)]
        format: Format,
    },
    /// Print changes: of one key, or of all
    ///
    /// Several changes in quick succession are seen as one. If the map is not persistent, it ends when no
    /// other process has the map open.
    Watch {
        /// The map
        name: String,
        /// The key
        #[arg(allow_negative_numbers = true)]
        key: Option<String>,
        /// Number of changes after which it ends
        #[arg(long, short = 'n', value_parser = any_count)]
        count: Option<u64>,
        #[command(flatten)]
        keys: Keys,
        #[command(flatten)]
        format: Format,
    },
}

#[derive(clap::Args)]
struct Set {
    /// The map
    name: String,
    /// The key
    #[arg(allow_negative_numbers = true)]
    key: String,
    /// Its value; if it begins with "-" and is not a number, put "--" before it
    #[arg(allow_negative_numbers = true)]
    value: Option<String>,
    #[command(flatten)]
    keys: Keys,
    #[command(flatten)]
    source: Source,
    /// Only if the map does not have the key; otherwise exit code 1
    #[arg(long)]
    new: bool,
    /// The key is removed after this time
    #[arg(long, value_parser = duration, conflicts_with = "new")]
    ttl: Option<Duration>,
    /// Create the map if it is missing; it stays until `shoal rm` removes it
    #[arg(long)]
    create: bool,
}

impl MapCommand {
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self.verb {
            Verb::Get {
                name,
                key,
                keys,
                sink,
            } => get(&name, &key, keys, sink),
            Verb::Set(set) => set.run(),
            Verb::Del { name, wanted, keys } => del(&name, &wanted, keys),
            Verb::Ls {
                name,
                prefix,
                keys,
                format,
            } => ls(&name, prefix.as_deref(), keys, format),
            Verb::Watch {
                name,
                key,
                count,
                keys,
                format,
            } => {
                let map = open(&name, Map::open)?;
                let key = key.map(|it| keys.encoding.read(&it)).transpose()?;
                let mut left = count.unwrap_or(u64::MAX);
                let mut show = |change: &Change<'_>| {
                    let goes_on = change.print(format)?;
                    left -= 1;
                    Ok(goes_on && left > 0)
                };
                match key {
                    _ if count == Some(0) => Ok(()),
                    Some(key) => watch_key(&map, &key, &mut show),
                    None => watch_all(&map, &mut show),
                }
            }
        }
    }
}

fn missing(name: &str, wanted: &[u8]) -> Failure {
    Failure::Missing(format!("the map {name:?} has no key {:?}", key(wanted)))
}

/// A key and its value.
#[derive(Serialize)]
struct Entry<'a> {
    key: JsonKey<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Json<'a>>,
}

fn get(name: &str, wanted: &str, keys: Keys, sink: Sink) -> Result<(), Failure> {
    let wanted = keys.encoding.read(wanted)?;
    let value = open(name, Map::open)?.get_vec(&wanted)?;
    let value = value.ok_or_else(|| missing(name, &wanted))?;
    let shown = Entry {
        key: JsonKey(&wanted),
        value: Some(Json(&value, PartOf::Element)),
    };
    sink.print(&value, PartOf::Element, &shown).map(drop)
}

impl Set {
    fn run(self) -> Result<(), Failure> {
        let wanted = self.keys.encoding.read(&self.key)?;
        let value = self.source.read(self.value.as_deref(), PartOf::Element)?;
        let map = open_or_create(&self.name, self.create, Map::with_options)?;
        match (self.ttl, self.new) {
            (Some(life), _) => map.set_for(&wanted, &value, life)?,
            (None, false) => map.set(&wanted, &value)?,
            (None, true) if map.insert(&wanted, &value)? => {}
            (None, true) => {
                let (name, key) = (&self.name, key(&wanted));
                let why = format!("the map {name:?} has the key {key:?} already");
                return Err(Failure::Other(why));
            }
        }
        Ok(())
    }
}

fn del(name: &str, wanted: &[String], keys: Keys) -> Result<(), Failure> {
    let encoded = wanted.iter().map(|it| keys.encoding.read(it));
    let encoded: Vec<Vec<u8>> = encoded.collect::<Result<_, _>>()?;
    let map = open(name, Map::open)?;
    let mut first = Ok(());
    for key in &encoded {
        if !map.remove(key)? && first.is_ok() {
            first = Err(missing(name, key));
        }
    }
    first
}

fn ls(name: &str, prefix: Option<&str>, keys: bool, format: Format) -> Result<(), Failure> {
    let map = open(name, Map::open)?;
    let (mut progress, mut entries) = (Progress::new(), Vec::new());
    for entry in map.iter() {
        interrupt::check()?;
        let (key, value) = entry?;
        if prefix.is_none_or(|prefix| key.starts_with(prefix.as_bytes())) {
            entries.push((key, value));
            progress.tick(|| format!("{} keys", entries.len()));
        }
    }
    drop(progress);
    // An ordered map lists its keys in the order of their insertion.
    if !map.is_ordered() {
        entries.sort_unstable();
    }
    let shown = entries.iter().map(|(key, value)| Entry {
        key: JsonKey(key),
        value: (!keys).then_some(Json(value, PartOf::Element)),
    });
    format.print(&shown.collect::<Vec<_>>(), |out| {
        for (name, value) in &entries {
            match keys {
                true => writeln!(out, "{}", key(name))?,
                false => writeln!(out, "{}\t{}", key(name), one_line(value, PartOf::Element))?,
            }
        }
        Ok(())
    })
}

/// A change of a key.
#[derive(Serialize)]
struct Change<'a> {
    change: &'static str,
    #[serde(flatten)]
    entry: Entry<'a>,
}

impl<'a> Change<'a> {
    fn new(change: &'static str, key: &'a [u8], value: Option<&'a [u8]>) -> Self {
        let value = value.map(|it| Json(it, PartOf::Element));
        Self {
            change,
            entry: Entry {
                key: JsonKey(key),
                value,
            },
        }
    }

    /// Returns false once the reader has closed the pipe.
    fn print(&self, format: Format) -> Result<bool, Failure> {
        format.line(self, |out| {
            let (mark, paint) = match self.change {
                "new" => ("+", Paint::Good),
                "removed" => ("-", Paint::Bad),
                "changed" => ("~", Paint::Warn),
                _ => ("=", Paint::Plain),
            };
            let mark = paint.on(mark, has_colours());
            let name = key(self.entry.key.0);
            match &self.entry.value {
                Some(value) => writeln!(out, "{mark} {name}\t{}", one_line(value.0, value.1)),
                None => writeln!(out, "{mark} {name}"),
            }
        })
    }
}

/// Called with each change; returns whether to go on.
type Show<'a> = &'a mut dyn FnMut(&Change<'_>) -> Result<bool, Failure>;

/// How long a wait for a change lasts before it checks whether another process has the map open.
const WAIT: Duration = Duration::from_secs(1);

fn watch_key(map: &Map, key: &[u8], show: Show<'_>) -> Result<(), Failure> {
    let found = map.get_versioned(key)?;
    let mut seen = found.as_ref().map_or(0, |(_, version)| *version);
    let value = found.map(|(value, _)| value);
    let mut had = value.is_some();
    if let Some(value) = &value
        && !show(&Change::new("now", key, Some(value)))?
    {
        return Ok(());
    }
    loop {
        match interrupt::wait_to_print(Some(WAIT), |slice| map.wait_key(key, seen, slice)) {
            Err(Failure::Shoal(Error::Timeout)) if may_change(map.name()) => continue,
            Err(Failure::Shoal(Error::Timeout)) => return Ok(()),
            changed => drop(changed?),
        }
        let found = map.get_versioned(key)?;
        seen = found.as_ref().map_or(0, |(_, version)| *version);
        let change = match (had, &found) {
            (false, None) => continue,
            (true, None) => "removed",
            (false, Some(_)) => "new",
            (true, Some(_)) => "changed",
        };
        had = found.is_some();
        let value = found.as_ref().map(|(value, _)| value.as_slice());
        if !show(&Change::new(change, key, value))? {
            return Ok(());
        }
    }
}

/// A watch of all keys reads the whole map after a change. The pause after that is this many times as long as the
/// reading took.
const PAUSE: u32 = 10;

fn watch_all(map: &Map, show: Show<'_>) -> Result<(), Failure> {
    let mut seen = map.version();
    // The keys, with hashes of their values, because values may be large.
    let mut known: HashMap<Vec<u8>, u64> = HashMap::new();
    for entry in map.iter() {
        let (key, value) = entry?;
        known.insert(key, hash(&value));
    }
    loop {
        match interrupt::wait_to_print(Some(WAIT), |slice| map.wait_change(seen, slice)) {
            // The expiry of a key wakes no process.
            Err(Failure::Shoal(Error::Timeout)) if may_change(map.name()) => {}
            Err(Failure::Shoal(Error::Timeout)) => return Ok(()),
            changed => seen = changed?,
        }
        let start = Instant::now();
        let mut gone = std::mem::take(&mut known);
        for entry in map.iter() {
            interrupt::check()?;
            let (key, value) = entry?;
            let new = hash(&value);
            let change = match gone.remove(&key) {
                Some(old) if old == new => None,
                Some(_) => Some("changed"),
                None => Some("new"),
            };
            if let Some(change) = change
                && !show(&Change::new(change, &key, Some(&value)))?
            {
                return Ok(());
            }
            known.insert(key, new);
        }
        for key in gone.keys() {
            if !show(&Change::new("removed", key, None))? {
                return Ok(());
            }
        }
        interrupt::sleep(start.elapsed() * PAUSE)?;
    }
}

fn hash(value: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
