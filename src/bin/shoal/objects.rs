//! `ls`, `stat`, `rm` and `gc`.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::Serialize;
use shoal::{Kind, List, Map, ObjectInfo, Queue};

use crate::output::{Failure, Format, bytes, plain};

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

/// Properties that need an open handle.
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

    /// The processes behind the participants, each once: `312 python3 (4 handles)`.
    fn processes(&self) -> Vec<String> {
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
}

/// How many processes `ls` names before it counts the rest.
const NAMED: usize = 4;

/// `shoal ls`
pub(crate) fn ls(format: Format) -> Result<(), Failure> {
    let objects: Vec<Object> = shoal::list()?.into_iter().map(Object::new).collect();
    format.print(&objects, |out| {
        let widest = objects
            .iter()
            .map(|it| it.name.chars().count())
            .max()
            .unwrap_or(0)
            .max(4);
        writeln!(
            out,
            "{:widest$}  KIND   STATE           MEMORY     AT MOST  ATTACHED",
            "NAME"
        )?;
        for it in &objects {
            let (memory, most) = (bytes(it.committed_bytes), bytes(it.max_bytes));
            let mut attached = it.processes();
            let more = attached.len().saturating_sub(NAMED);
            attached.truncate(NAMED);
            if more > 0 {
                attached.push(format!("{more} more"));
            }
            attached.extend(it.problem.as_deref().map(plain));
            writeln!(
                out,
                "{:widest$}  {:6} {:10} {memory:>11} {most:>11}  {}",
                plain(&it.name),
                it.kind(),
                it.state,
                if attached.is_empty() {
                    "-".to_owned()
                } else {
                    attached.join(", ")
                },
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
        let kind = info.kind;
        let mut object = Object::new(info);
        // Opening a stale object would remove it, and looking must not change anything.
        if let (Some(kind), "live" | "persistent") = (kind, object.state) {
            match content(&self.name, kind) {
                Ok(content) => object.content = content,
                Err(gone @ shoal::Error::NotFound { .. }) => return Err(gone.into()),
                // The properties that are known without opening it are shown nevertheless.
                Err(err) => object.problem = Some(err.to_string()),
            }
        }
        self.format.print(&object, |out| show(&object, out))
    }
}

fn content(name: &str, kind: Kind) -> shoal::Result<Option<Content>> {
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
        Kind::List => {
            let len = List::open(name)?.len()? as u64;
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
        writeln!(out, "problem   {}", plain(problem))?;
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
            who.slot,
            who.pid,
            plain(&who.command)
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
    /// Removes all that it can, and returns the first failure.
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
    /// Only print what would be removed
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
                writeln!(out, "{}", plain(name))?;
            }
            Ok(())
        })
    }
}
