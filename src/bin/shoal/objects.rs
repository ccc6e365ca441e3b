//! `ls`, `stat`, `rm` and `gc`.

use std::io::{self, Write};

use serde::Serialize;
use shoal::{Kind, Map, ObjectInfo, Queue};

use crate::output::{Failure, Format, bytes};

/// An object as the commands print it.
#[derive(Serialize)]
struct Object {
    name: String,
    kind: Option<String>,
    state: &'static str,
    participants: Vec<Participant>,
    committed_bytes: u64,
    max_bytes: u64,
    problem: Option<String>,
    #[serde(flatten)]
    content: Option<Content>,
}

#[derive(Serialize)]
struct Participant {
    slot: u16,
    pid: u32,
    command: String,
}

/// What only an open handle can tell.
#[derive(Serialize)]
struct Content {
    len: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    capacity_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    closed: Option<bool>,
}

impl Object {
    fn new(info: ObjectInfo) -> Self {
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
            content: None,
        }
    }

    fn kind(&self) -> &str {
        self.kind.as_deref().unwrap_or("?")
    }
}

/// `shoal ls`
pub(crate) fn ls(format: Format) -> Result<(), Failure> {
    let objects: Vec<Object> = shoal::list()?.into_iter().map(Object::new).collect();
    format.print(&objects, |out| {
        let widest = objects
            .iter()
            .map(|it| it.name.len())
            .max()
            .unwrap_or(0)
            .max(4);
        let head = ["KIND", "STATE", "ATTACHED", "MEMORY"];
        writeln!(
            out,
            "{:widest$}  {:6} {:10} {:>8} {:>10}",
            "NAME", head[0], head[1], head[2], head[3]
        )?;
        for it in &objects {
            let attached = it.participants.len();
            let memory = bytes(it.committed_bytes);
            writeln!(
                out,
                "{:widest$}  {:6} {:10} {attached:>8} {memory:>10}",
                it.name,
                it.kind(),
                it.state
            )?;
        }
        Ok(())
    })
}

/// `shoal stat NAME`
#[derive(clap::Args)]
pub(crate) struct Stat {
    /// The object's name
    name: String,
    #[command(flatten)]
    format: Format,
}

impl Stat {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let info = shoal::stat(&self.name)?;
        // Opening a stale object would remove it, and looking must not change anything.
        let content = match info.kind {
            _ if info.stale || info.problem.is_some() => None,
            Some(kind) => content(&self.name, kind)?,
            None => None,
        };
        let object = Object {
            content,
            ..Object::new(info)
        };
        self.format.print(&object, |out| show(&object, out))
    }
}

fn content(name: &str, kind: Kind) -> Result<Option<Content>, Failure> {
    Ok(match kind {
        Kind::Queue => {
            let queue = Queue::open(name)?;
            Some(Content {
                len: queue.len() as u64,
                bytes: Some(queue.bytes()),
                capacity_bytes: Some(queue.capacity()),
                closed: Some(queue.is_closed()),
            })
        }
        Kind::Map => {
            let len = Map::open(name)?.len()? as u64;
            Some(Content {
                len,
                bytes: None,
                capacity_bytes: None,
                closed: None,
            })
        }
        _ => None,
    })
}

fn show(it: &Object, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "name      {}", it.name)?;
    writeln!(out, "kind      {}", it.kind())?;
    writeln!(out, "state     {}", it.state)?;
    if let Some(problem) = &it.problem {
        writeln!(out, "problem   {problem}")?;
    }
    let (memory, most) = (bytes(it.committed_bytes), bytes(it.max_bytes));
    writeln!(out, "memory    {memory} of at most {most}")?;
    if let Some(content) = &it.content {
        writeln!(out, "length    {}", content.len)?;
        if let (Some(held), Some(capacity)) = (content.bytes, content.capacity_bytes) {
            writeln!(
                out,
                "content   {} in a ring of {}",
                bytes(held),
                bytes(capacity)
            )?;
        }
        if content.closed == Some(true) {
            writeln!(out, "closed    yes")?;
        }
    }
    writeln!(out, "attached  {}", it.participants.len())?;
    for who in &it.participants {
        writeln!(
            out,
            "  slot {:4}  pid {:7}  {}",
            who.slot, who.pid, who.command
        )?;
    }
    Ok(())
}

/// `shoal rm NAME…`
#[derive(clap::Args)]
pub(crate) struct Rm {
    /// The objects' names
    #[arg(required = true)]
    names: Vec<String>,
}

impl Rm {
    /// Removes all it can and reports the first failure.
    pub(crate) fn run(self) -> Result<(), Failure> {
        let mut first = Ok(());
        for name in &self.names {
            if let Err(err) = shoal::unlink(name) {
                if first.is_err() {
                    eprintln!("shoal: {err}");
                } else {
                    first = Err(err.into());
                }
            }
        }
        first
    }
}

/// `shoal gc`
#[derive(clap::Args)]
pub(crate) struct Gc {
    /// Only tell what would be removed
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    format: Format,
}

impl Gc {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let removed = shoal::gc(self.dry_run)?;
        self.format.print(&removed, |out| {
            for name in &removed {
                writeln!(out, "{name}")?;
            }
            Ok(())
        })
    }
}
