//! An object as the commands print it, for people and as JSON.

use std::collections::BTreeMap;

use serde::Serialize;
use shoal::{ObjectContents, Observation};

use crate::output::{Paint, bytes, plain};

/// An object. As JSON, fields that are unknown or do not apply are left out.
#[derive(Serialize)]
pub(crate) struct Object {
    pub(crate) name: String,
    pub(crate) kind: Option<String>,
    pub(crate) state: &'static str,
    pub(crate) participants: Vec<Participant>,
    pub(crate) committed_bytes: u64,
    pub(crate) max_bytes: u64,
    pub(crate) problem: Option<String>,
    #[serde(flatten)]
    pub(crate) content: Option<Content>,
}

#[derive(Serialize)]
pub(crate) struct Participant {
    pub(crate) slot: u16,
    pub(crate) pid: u32,
    pub(crate) command: String,
}

#[derive(Serialize)]
pub(crate) struct Content {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) len: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bytes: Option<u64>,
    #[serde(flatten)]
    pub(crate) traffic: Option<Traffic>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) set: Option<bool>,
    pub(crate) poisoned: bool,
    pub(crate) holders: Vec<Holder>,
    pub(crate) asleep: Vec<&'static str>,
}

/// What queues and pipes have.
#[derive(Serialize)]
pub(crate) struct Traffic {
    pub(crate) capacity_bytes: u64,
    pub(crate) closed: bool,
    pub(crate) leased: u64,
    pub(crate) waiting: u64,
    pub(crate) put: u64,
    pub(crate) put_bytes: u64,
    pub(crate) taken: u64,
    pub(crate) taken_bytes: u64,
}

/// A process that holds a lock or permits. A dead process has no id.
#[derive(Serialize)]
pub(crate) struct Holder {
    pub(crate) slot: u16,
    pub(crate) pid: Option<u32>,
    pub(crate) what: &'static str,
    pub(crate) count: u64,
}

impl Object {
    pub(crate) fn new(seen: Observation) -> Self {
        let info = seen.info;
        let state = match (&info.problem, info.stale, info.persistent) {
            (Some(_), ..) => "unreadable",
            (_, true, _) => "stale",
            (_, _, true) => "persistent",
            _ => "live",
        };
        let participants = info.participants.into_iter();
        Self {
            name: info.name,
            kind: info.kind.map(|kind| kind.to_string()),
            state,
            participants: participants
                .map(|it| Participant {
                    slot: it.slot,
                    pid: it.pid,
                    command: it.command,
                })
                .collect(),
            committed_bytes: info.committed,
            max_bytes: info.max_size,
            problem: info.problem.map(|why| why.to_string()),
            content: seen.contents.map(Content::new),
        }
    }

    pub(crate) fn kind(&self) -> &str {
        self.kind.as_deref().unwrap_or("?")
    }

    pub(crate) fn paint(&self) -> Paint {
        match self.state {
            "unreadable" => Paint::Bad,
            "stale" => Paint::Warn,
            _ => Paint::Plain,
        }
    }

    /// Its length, or the state of an event.
    pub(crate) fn depth(&self) -> String {
        let Some(content) = &self.content else {
            return "-".to_owned();
        };
        match (content.len, content.set) {
            (Some(len), _) => len.to_string(),
            (_, Some(true)) => "set".to_owned(),
            (_, Some(false)) => "clear".to_owned(),
            _ => "-".to_owned(),
        }
    }

    /// The processes of the participants, each once: `312 python3 (4 handles)`.
    pub(crate) fn processes(&self) -> Vec<String> {
        let mut handles: BTreeMap<(u32, &str), usize> = BTreeMap::new();
        for who in &self.participants {
            *handles.entry((who.pid, &who.command)).or_default() += 1;
        }
        let shown = |((pid, command), count)| match count {
            1 => format!("{pid} {}", plain(command)),
            _ => format!("{pid} {} ({count} handles)", plain(command)),
        };
        handles.into_iter().map(shown).collect()
    }

    /// At most `most` of the processes and the number of the others, and what is wrong with the object.
    pub(crate) fn attached(&self, most: usize) -> String {
        let mut attached = self.processes();
        let more = attached.len().saturating_sub(most);
        attached.truncate(most);
        if more > 0 {
            attached.push(format!("{more} more"));
        }
        attached.extend(self.problem.as_deref().map(plain));
        match attached.is_empty() {
            true => "-".to_owned(),
            false => attached.join(", "),
        }
    }

    /// The processes that hold a lock or permits, for a table: `17 write, 21 3 permits`.
    pub(crate) fn holders(&self) -> String {
        let holders = self.content.iter().flat_map(|it| &it.holders);
        let shown = holders.map(Holder::shown).collect::<Vec<_>>();
        shown.join(", ")
    }
}

impl Holder {
    fn shown(&self) -> String {
        let who = match self.pid {
            Some(pid) => pid.to_string(),
            None => "dead".to_owned(),
        };
        match self.count {
            1 => format!("{who} {}", self.what.trim_end_matches('s')),
            count => format!("{who} {count} {}", self.what),
        }
    }
}

impl Content {
    fn new(found: ObjectContents) -> Self {
        let holders = found.holders.into_iter().map(|it| Holder {
            slot: it.slot,
            pid: it.pid,
            what: it.what,
            count: it.count,
        });
        Self {
            len: found.len,
            bytes: found.bytes,
            traffic: found.totals.map(|totals| Traffic {
                capacity_bytes: found.capacity.unwrap_or(0),
                closed: found.closed,
                leased: found.leased,
                waiting: found.waiting,
                put: totals.put,
                put_bytes: totals.put_bytes,
                taken: totals.taken,
                taken_bytes: totals.taken_bytes,
            }),
            set: found.set,
            poisoned: found.poisoned,
            holders: holders.collect(),
            asleep: found.asleep,
        }
    }
}

/// A line of a description: a label and a text.
pub(crate) type Fact = (&'static str, String);

/// The description of an object, line by line.
pub(crate) fn facts(it: &Object) -> Vec<Fact> {
    let mut facts: Vec<Fact> = vec![
        ("name", plain(&it.name)),
        ("kind", it.kind().to_owned()),
        ("state", it.state.to_owned()),
    ];
    facts.extend(it.problem.as_deref().map(|why| ("problem", plain(why))));
    let (memory, most) = (bytes(it.committed_bytes), bytes(it.max_bytes));
    facts.push(("memory", format!("{memory} of at most {most}")));
    if let Some(content) = &it.content {
        facts.extend(content.facts());
        if !it.holders().is_empty() {
            facts.push(("held by", it.holders()));
        }
    }
    facts.push(("attached", it.participants.len().to_string()));
    facts
}

impl Content {
    fn facts(&self) -> Vec<Fact> {
        let mut facts = Vec::new();
        facts.extend(self.len.map(|len| ("length", len.to_string())));
        match (self.bytes, &self.traffic) {
            (Some(held), Some(it)) => {
                let (held, ring) = (bytes(held), bytes(it.capacity_bytes));
                facts.push(("content", format!("{held} in a ring of {ring}")));
                let (put, taken) = (bytes(it.put_bytes), bytes(it.taken_bytes));
                facts.push(("put", format!("{} messages, {put}", it.put)));
                facts.push(("taken", format!("{} messages, {taken}", it.taken)));
                if it.leased > 0 {
                    facts.push(("leased", it.leased.to_string()));
                }
                if it.waiting > 0 {
                    facts.push(("again", format!("{} to be delivered again", it.waiting)));
                }
                if it.closed {
                    facts.push(("closed", "yes".to_owned()));
                }
            }
            (Some(held), None) => facts.push(("content", bytes(held))),
            _ => {}
        }
        let set = self.set.map(|it| if it { "yes" } else { "no" });
        facts.extend(set.map(|it| ("set", it.to_owned())));
        if self.poisoned {
            facts.push(("poisoned", "yes".to_owned()));
        }
        if !self.asleep.is_empty() {
            facts.push(("asleep", self.asleep.join(", ")));
        }
        facts
    }
}
