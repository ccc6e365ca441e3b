//! The contents of the manual: the headers, the examples beside them, and the check for missing documentation.
//!
//! What a kill leaves is the paragraph that starts with "Killed:" in the comment, or else in its section. The
//! example is that of the comment, or else one in the headers or in examples/c/manual_*.c that calls the function.
//! Tests compile all of these.

use std::collections::BTreeSet;

use crate::cheader::{Header, Item, Kind, Section};
use crate::files::{self, root};
use crate::roff::{Block, blocks};

/// Programs whose functions are examples: each is a comment and the function that follows it.
pub(crate) const EXAMPLES: [&str; 3] = [
    "examples/c/manual_objects.c",
    "examples/c/manual_sync.c",
    "examples/c/manual_workers.c",
];

/// The beginning of the paragraph about errors, and of that about kills.
const ERRORS: &str = "Errors: ";
const KILLED: &str = "Killed: ";

/// How a function fails.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// With these statuses, and when.
    Status(String, String),
    /// In words.
    Text(String),
}

/// The headers, and the examples beside them.
pub(crate) struct Manual {
    pub(crate) header: Header,
    /// Examples: a title, which may be empty, and the code.
    pub(crate) examples: Vec<(String, String)>,
    pub(crate) version: String,
}

impl Manual {
    pub(crate) fn read() -> Result<Self, String> {
        let mut text = String::new();
        for path in EXAMPLES.map(|name| root().join(name)) {
            text += &files::read(path)?;
        }
        let header = Header::read()?;
        let mut examples = Vec::new();
        let docs = header.sections.iter().map(|it| &it.doc);
        for doc in docs.chain(header.items().map(|(_, it)| &it.doc)) {
            let codes = blocks(doc).into_iter().filter_map(|block| match block {
                Block::Code(text) => Some((String::new(), text)),
                _ => None,
            });
            examples.extend(codes);
        }
        // `/* Title. */`, then a function up to the brace that ends it.
        for part in text.split("\n/* ").skip(1) {
            let (title, rest) = part.split_once(" */\n").unwrap_or((part, ""));
            let (body, _) = rest.split_once("\n}\n").unwrap_or((rest, ""));
            examples.push((title.to_owned(), format!("{body}\n}}")));
        }
        let version = crate::header::package_version()?;
        Ok(Self {
            header,
            examples,
            version,
        })
    }

    /// The comment of a status in the header.
    fn meaning(&self, status: &str) -> String {
        let values = self.header.items().flat_map(|(_, it)| &it.members);
        let mut named = values.filter(|it| it.code.split(' ').next() == Some(status));
        named.next().map(|it| it.doc.clone()).unwrap_or_default()
    }

    /// The example of the comment, or else that of the section or the shortest one that calls the function.
    pub(crate) fn example(&self, section: &Section, item: &Item) -> Option<(String, String)> {
        let code = |doc| {
            let mut blocks = blocks(doc).into_iter();
            blocks.find_map(|block| match block {
                Block::Code(text) => Some((String::new(), text)),
                _ => None,
            })
        };
        let call = format!("{}(", item.name);
        let calls = |text: &str| {
            let mut at = text.match_indices(&call);
            at.any(|(at, _)| !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
        };
        let of_section = || code(&section.doc).filter(|(_, text)| calls(text));
        code(&item.doc).or_else(of_section).or_else(|| {
            let calling = self.examples.iter().filter(|(_, text)| calls(text));
            calling.min_by_key(|(_, text)| text.len()).cloned()
        })
    }

    /// The functions that a comment names.
    pub(crate) fn referred(&self, doc: &str) -> BTreeSet<&str> {
        let functions = self.header.functions().map(|(_, it)| &*it.name);
        let named = words(doc);
        functions.filter(|name| named.contains(*name)).collect()
    }

    /// How a function fails: the errors that its comment lists, and those that all functions have in common.
    pub(crate) fn errors(&self, item: &Item) -> Vec<Failure> {
        if !item.code.starts_with("shoal_status ") {
            return Vec::new();
        }
        let mut errors = Vec::new();
        for block in blocks(&item.doc) {
            if let Block::Paragraph(text) = block
                && let Some(text) = text.strip_prefix(ERRORS)
            {
                errors.extend(self.error_list(text));
            }
        }
        let waits = item.code.contains("timeout_ns");
        let timed = ", SHOAL_ERR_TIMEOUT, SHOAL_ERR_INTERRUPTED and SHOAL_ERR_CLOSED (the waits through the \
                     handle were ended)";
        errors.push(Failure::Text(format!(
            "In addition, as every function{}: SHOAL_ERR_INVALID (a handle or an argument){}; and \
             SHOAL_ERR_CORRUPT, SHOAL_ERR_POISONED and SHOAL_ERR_INTERNAL. After a failure \
             `shoal_last_error()` has a sentence about it.",
            if waits { " with a timeout" } else { "" },
            if waits { timed } else { "" },
        )));
        errors
    }

    /// Statuses that are separated by semicolons, each with its meaning.
    fn error_list(&self, text: &str) -> Vec<Failure> {
        let mut errors = Vec::new();
        for part in split_outside(text, ';') {
            let part = part.trim();
            let end = part
                .find(" (")
                .unwrap_or(part.len())
                .min(part.find(". ").unwrap_or(part.len()));
            let (names, detail) = part.split_at(end);
            let names = names.trim_end_matches('.');
            let first = names.split([',', ' ']).next().unwrap_or_default();
            if !first.starts_with("SHOAL_ERR_") {
                errors.extend(self.errors_of_others(part));
                continue;
            }
            let detail = detail.trim_start_matches(['.', ' ']);
            let detail = match detail.is_empty() {
                true => self.meaning(first),
                false => detail.to_owned(),
            };
            errors.push(Failure::Status(names.to_owned(), detail));
        }
        errors
    }

    /// "as `shoal_queue_put`": the errors of that function, where its comment lists any.
    fn errors_of_others(&self, text: &str) -> Vec<Failure> {
        let mut errors = vec![Failure::Text(capital(text))];
        for name in self.referred(text) {
            let mut functions = self.header.functions().map(|(_, it)| it);
            let listed = functions
                .find(|it| it.name == name)
                .and_then(|it| paragraph(&it.doc, ERRORS));
            errors.extend(
                listed
                    .map(|text| self.error_list(&text))
                    .unwrap_or_default(),
            );
        }
        errors
    }

    /// Missing documentation and broken references.
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let known: BTreeSet<&str> = self.header.items().map(|(_, it)| &*it.name).collect();
        let statuses = self.header.items().flat_map(|(_, it)| &it.members);
        let statuses = statuses.filter_map(|it| it.code.split(' ').next());
        let known: BTreeSet<&str> = known.into_iter().chain(statuses).collect();
        let refer = |place: &str, doc: &str| {
            let unknown = words(doc)
                .into_iter()
                .filter(|word| !known.contains(&**word));
            // Exceptions: `shoal_<object>_open`, files, and names that may be environment variables.
            let unknown = unknown.filter(|word| {
                !word.ends_with('_')
                    && !["shoal_bindings", "shoal_tsan"].contains(&&**word)
                    && (word.starts_with("shoal_") || word.starts_with("SHOAL_ERR_"))
            });
            unknown
                .map(|word| format!("{place} names {word}, which the headers do not declare"))
                .collect::<Vec<_>>()
        };
        faults.extend(refer("the introduction", &self.header.introduction));
        for section in &self.header.sections {
            faults.extend(refer(&section.title, &section.doc));
        }
        for (section, item) in self.header.items() {
            faults.extend(refer(&item.name, &item.doc));
            if item.doc.is_empty() {
                faults.push(format!("{} has no comment", item.name));
            }
            for member in item.members.iter().filter(|it| it.doc.is_empty()) {
                faults.push(format!("{}: {} has no comment", item.name, member.code));
            }
            if item.kind != Kind::Function {
                continue;
            }
            if killed(section, item).is_none() {
                faults.push(format!(
                    "{}: neither its comment nor that of its section ({}) has a paragraph that starts with \
                     {KILLED:?}, about what a kill during the call leaves",
                    item.name, section.title
                ));
            }
            if self.example(section, item).is_none() {
                faults.push(no_example(item));
            }
        }
        faults
    }
}

/// The fault of a function without an example.
pub(crate) fn no_example(item: &Item) -> String {
    format!(
        "{} has no example: add a call to its comment or to {}",
        item.name,
        EXAMPLES.join(" or ")
    )
}

/// The names of the library in a text.
fn words(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let ours = words.filter(|word| {
        word.strip_prefix("shoal_")
            .or_else(|| word.strip_prefix("SHOAL_"))
            .is_some_and(|it| !it.is_empty())
    });
    ours.map(str::to_owned).collect()
}

/// A comment without its errors, its kills and its example.
pub(crate) fn description(item: &Item) -> Vec<Block> {
    let mut parts = blocks(&item.doc);
    parts.retain(|block| match block {
        Block::Paragraph(text) => !text.starts_with(ERRORS) && !text.starts_with(KILLED),
        Block::Code(_) => false,
        _ => true,
    });
    parts
}

/// What a kill during the call leaves.
pub(crate) fn killed(section: &Section, item: &Item) -> Option<String> {
    paragraph(&item.doc, KILLED).or_else(|| paragraph(&section.doc, KILLED))
}

/// The parts between separators, except separators in parentheses.
pub(crate) fn split_outside(text: &str, separator: char) -> Vec<String> {
    let (mut parts, mut depth) = (vec![String::new()], 0);
    for c in text.chars() {
        depth += i32::from(c == '(') - i32::from(c == ')');
        match parts.last_mut() {
            Some(last) if c != separator || depth > 0 => last.push(c),
            _ => parts.push(String::new()),
        }
    }
    parts
}

/// The first sentence of a comment, for a list of pages.
pub(crate) fn first_sentence(doc: &str) -> String {
    let first = blocks(doc).into_iter().find_map(|block| match block {
        Block::Paragraph(text) => Some(text),
        _ => None,
    });
    let first = first.unwrap_or_default();
    let end = [". ", "; ", ": "]
        .iter()
        .filter_map(|it| first.find(it))
        .min();
    let sentence = first[..end.unwrap_or(first.len())].trim_end_matches('.');
    with_first(sentence, |c| c.to_lowercase().collect())
}

fn capital(text: &str) -> String {
    with_first(text, |c| c.to_uppercase().collect())
}

/// The text with another first letter.
fn with_first(text: &str, letter: fn(char) -> String) -> String {
    let mut chars = text.chars();
    chars.next().map(letter).unwrap_or_default() + chars.as_str()
}

/// The paragraph that starts like this, without its beginning.
fn paragraph(doc: &str, start: &str) -> Option<String> {
    blocks(doc).into_iter().find_map(|block| match block {
        Block::Paragraph(text) => text.strip_prefix(start).map(str::to_owned),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_documentation_is_found() {
        let mut manual = Manual::read().unwrap();
        assert_eq!(manual.faults(), [""; 0]);
        let section = &mut manual.header.sections[1];
        section.doc.clear();
        let at = section
            .items
            .iter()
            .position(|it| it.name == "shoal_queue_put")
            .unwrap();
        section.items[at].doc = "See `shoal_queue_putt`.".to_owned();
        section.items[0].doc.clear();
        manual
            .examples
            .retain(|(_, text)| !text.contains("shoal_queue_len("));
        let faults = manual.faults().join("\n");
        for fault in [
            "shoal_queue_put names shoal_queue_putt, which the headers do not declare",
            "shoal_queue has no comment",
            "shoal_queue_len has no example",
            "shoal_queue_put: neither its comment nor that of its section (Queue)",
        ] {
            assert!(faults.contains(fault), "{fault}\n{faults}");
        }
    }

    #[test]
    fn errors_are_split_at_their_separators() {
        let manual = Manual::read().unwrap();
        let list =
            manual.error_list("SHOAL_ERR_CLOSED (one; two); SHOAL_ERR_NO_SPACE. Nothing was put.");
        let status = |name: &str, when: &str| Failure::Status(name.to_owned(), when.to_owned());
        assert_eq!(
            list,
            [
                status("SHOAL_ERR_CLOSED", "(one; two)"),
                status("SHOAL_ERR_NO_SPACE", "Nothing was put.")
            ]
        );
    }
}
