//! `shoal list get | ls | append | insert | set | pop | remove`

use clap::Subcommand;
use serde::Serialize;
use shoal::List;

use crate::input::{Sink, Source};
use crate::interrupt;
use crate::number::{any_index, number};
use crate::objects::{open, open_or_create};
use crate::output::{Failure, Format};
use crate::value::{Json, PartOf, one_line};

#[derive(clap::Args)]
pub(crate) struct ListCommand {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Print an element
    Get {
        /// The list
        name: String,
        /// Its index, from 0; a negative index counts from the end
        #[arg(allow_negative_numbers = true, value_parser = any_index)]
        index: i64,
        #[command(flatten)]
        sink: Sink,
    },
    /// List elements with their indexes
    Ls {
        /// The list
        name: String,
        /// The index of the first
        #[arg(long, default_value_t = 0, value_parser = any_index)]
        from: i64,
        /// How many at most
        #[arg(long, short = 'n', value_parser = number(0..=usize::MAX))]
        count: Option<usize>,
        #[command(flatten)]
        format: Format,
    },
    /// Append elements; without any, the standard input as one element
    Append {
        /// The list
        name: String,
        /// The elements
        #[arg(allow_negative_numbers = true)]
        values: Vec<String>,
        #[command(flatten)]
        source: Source,
        /// Create the list if it is missing; it stays until `shoal rm` removes it
        #[arg(long)]
        create: bool,
    },
    /// Insert an element before another
    Insert {
        /// The list
        name: String,
        /// The index of that other
        #[arg(allow_negative_numbers = true, value_parser = any_index)]
        index: i64,
        /// The element; without it, the standard input
        #[arg(allow_negative_numbers = true)]
        value: Option<String>,
        #[command(flatten)]
        source: Source,
    },
    /// Replace an element
    Set {
        /// The list
        name: String,
        /// Its index
        #[arg(allow_negative_numbers = true, value_parser = any_index)]
        index: i64,
        /// The new element; without it, the standard input
        #[arg(allow_negative_numbers = true)]
        value: Option<String>,
        #[command(flatten)]
        source: Source,
    },
    /// Remove an element and print it
    Pop {
        /// The list
        name: String,
        /// Its index
        #[arg(default_value_t = -1, allow_negative_numbers = true, value_parser = any_index)]
        index: i64,
        #[command(flatten)]
        sink: Sink,
    },
    /// Remove elements
    Remove {
        /// The list
        name: String,
        /// The index of the first
        #[arg(allow_negative_numbers = true, value_parser = any_index)]
        index: i64,
        /// How many
        #[arg(long, short = 'n', default_value_t = 1, value_parser = number(0..=usize::MAX))]
        count: usize,
    },
}

/// An element and its index.
#[derive(Serialize)]
struct Element<'a> {
    index: usize,
    value: Json<'a>,
}

impl ListCommand {
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self.verb {
            Verb::Get { name, index, sink } => get(&name, index, sink),
            Verb::Ls {
                name,
                from,
                count,
                format,
            } => ls(&name, from, count, format),
            Verb::Append {
                name,
                values,
                source,
                create,
            } => append(&name, &values, &source, create),
            Verb::Insert {
                name,
                index,
                value,
                source,
            } => insert(&name, index, value.as_deref(), &source),
            Verb::Set {
                name,
                index,
                value,
                source,
            } => set(&name, index, value.as_deref(), &source),
            Verb::Pop { name, index, sink } => pop(&name, index, sink),
            Verb::Remove { name, index, count } => remove(&name, index, count),
        }
    }
}

fn get(name: &str, index: i64, sink: Sink) -> Result<(), Failure> {
    let (at, value) = open(name, List::open)?.with(|list| {
        let at = index_in(index, list.len()?);
        Ok((at, at.map(|at| list.get_vec(at)).transpose()?.flatten()))
    })?;
    print(name, index, at.zip(value), sink).map(drop)
}

fn insert(name: &str, index: i64, value: Option<&str>, source: &Source) -> Result<(), Failure> {
    let value = source.read(value, PartOf::Element)?;
    let done = open(name, List::open)?.with(|list| {
        let len = list.len()?;
        let at = match index == len as i64 {
            true => Some(len),
            false => index_in(index, len),
        };
        let Some(at) = at else { return Ok(false) };
        list.splice(at..at, &[&value]).map(|()| true)
    })?;
    found(done, name, index)
}

fn set(name: &str, index: i64, value: Option<&str>, source: &Source) -> Result<(), Failure> {
    let value = source.read(value, PartOf::Element)?;
    let list = open(name, List::open)?;
    let done = list.with(|list| match index_in(index, list.len()?) {
        Some(at) => list.set(at, &value),
        None => Ok(false),
    })?;
    found(done, name, index)
}

fn pop(name: &str, index: i64, sink: Sink) -> Result<(), Failure> {
    let list = open(name, List::open)?;
    let popped = list.with(|list| match index_in(index, list.len()?) {
        Some(at) => Ok(list.pop_at(at)?.map(|value| (at, value))),
        None => Ok(None),
    })?;
    let put_back = popped.clone();
    let printed = print(name, index, popped, sink);
    // Printing may wait for a slow reader, so it is not done under the list's lock.
    if let (Ok(false) | Err(_), Some((at, value))) = (&printed, put_back) {
        list.insert(at, &value)?;
    }
    printed.map(drop)
}

fn remove(name: &str, index: i64, count: usize) -> Result<(), Failure> {
    let done = open(name, List::open)?.with(|list| {
        let len = list.len()?;
        let Some(at) = index_in(index, len) else {
            return Ok(false);
        };
        let end = at.saturating_add(count).min(len);
        list.splice::<&[u8]>(at..end, &[]).map(|()| true)
    })?;
    found(done, name, index)
}

/// `index`, counted from 0, in a list of `len` elements; `None` if there is no such element.
fn index_in(index: i64, len: usize) -> Option<usize> {
    let at = match index {
        0.. => index,
        _ => index.checked_add(i64::try_from(len).ok()?)?,
    };
    usize::try_from(at).ok().filter(|&at| at < len)
}

fn found(done: bool, name: &str, index: i64) -> Result<(), Failure> {
    match done {
        true => Ok(()),
        false => Err(Failure::Missing(format!(
            "the list {name:?} has no element {index}"
        ))),
    }
}

fn print(
    name: &str,
    index: i64,
    element: Option<(usize, Vec<u8>)>,
    sink: Sink,
) -> Result<bool, Failure> {
    found(element.is_some(), name, index)?;
    let (index, value) = element.unwrap_or_default();
    let shown = Element {
        index,
        value: Json(&value, PartOf::Element),
    };
    sink.print(&value, PartOf::Element, &shown)
}

/// How many elements are copied at a time. Other processes wait for the list's lock meanwhile.
const BATCH: usize = 256;

fn ls(name: &str, from: i64, count: Option<usize>, format: Format) -> Result<(), Failure> {
    let list = open(name, List::open)?;
    let first = match from {
        0.. => usize::try_from(from).unwrap_or(usize::MAX),
        _ => index_in(from, list.len()?).unwrap_or(0),
    };
    let end = count.map_or(usize::MAX, |count| first.saturating_add(count));
    let (mut elements, mut at) = (Vec::new(), first);
    while at < end {
        interrupt::check()?;
        let more = list.range_vec(at..end.min(at.saturating_add(BATCH)))?;
        if more.is_empty() {
            break;
        }
        at += more.len();
        elements.extend(more);
    }
    let shown = (first..).zip(&elements).map(|(index, value)| Element {
        index,
        value: Json(value, PartOf::Element),
    });
    format.print(&shown.collect::<Vec<_>>(), |out| {
        for (index, value) in (first..).zip(&elements) {
            writeln!(out, "{index}\t{}", one_line(value, PartOf::Element))?;
        }
        Ok(())
    })
}

fn append(name: &str, values: &[String], source: &Source, create: bool) -> Result<(), Failure> {
    let values: Vec<Vec<u8>> = match values.is_empty() {
        true => vec![source.read(None, PartOf::Element)?],
        false => values
            .iter()
            .map(|it| source.read(Some(it), PartOf::Element))
            .collect::<Result<_, _>>()?,
    };
    let list = open_or_create(name, create, List::with_options)?;
    Ok(list.extend(&values)?)
}
