//! The programs of the user guide (`docs/`) compile without a warning and print what the guide shows.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::native::{Language, Scratch, library, root, succeed, unique};
use crate::readme::{c_program, rust_program};

/// A directory for the objects of one program, so that its names are its own. It is removed when the value is dropped.
struct Objects(PathBuf);

impl Objects {
    fn new() -> Self {
        let folder = PathBuf::from("/dev/shm").join(unique("guide"));
        fs::create_dir(&folder).unwrap();
        Self(folder)
    }
}

impl Drop for Objects {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A program of the guide.
struct Program<'a> {
    language: &'a str,
    code: &'a str,
    /// The output that the guide shows.
    printed: &'a str,
}

/// The blocks marked `run` of a page, each with the block of text that follows.
fn programs(page: &str) -> Vec<Program<'_>> {
    let mut found = Vec::new();
    for (at, opening) in page.match_indices("\n```") {
        let rest = &page[at + opening.len()..];
        let Some((first_line, rest)) = rest.split_once('\n') else {
            continue;
        };
        let Some(language) = first_line.strip_suffix(" run") else {
            continue;
        };
        let (code, behind) = rest.split_once("\n```\n").expect("the block's end");
        let printed = behind.strip_prefix("\n```text\n").expect("what it prints");
        let (printed, _) = printed.split_once("```").expect("the end of that");
        found.push(Program {
            language,
            code,
            printed,
        });
    }
    found
}

/// Runs the programs in one language of all pages.
fn run_all(language: &str, prepare: impl Fn(&Scratch) -> Command) {
    let mut count = 0;
    for page in fs::read_dir(root().join("docs")).unwrap() {
        let page = page.unwrap().path();
        if page.extension().is_none_or(|it| it != "md") {
            continue;
        }
        let text = fs::read_to_string(&page).unwrap();
        for program in programs(&text) {
            if program.language != language {
                continue;
            }
            let ending = match language {
                "python" => "py",
                "rust" => "rs",
                other => other,
            };
            let code = format!("{}\n", program.code);
            let scratch = Scratch::new(&format!("guide.{ending}"), &code);
            let objects = Objects::new();
            let mut command = prepare(&scratch);
            let printed = succeed(command.env("SHOAL_DIR", &objects.0));
            assert_eq!(printed, program.printed, "{}: {code}", page.display());
            count += 1;
        }
    }
    assert!(count > 0, "the guide has no program in {language}");
}

#[test]
fn the_guides_programs_in_python_print_the_shown_output() {
    run_all("python", |scratch| {
        let mut python = Command::new("python3");
        python
            .arg(scratch.source())
            .env("PYTHONPATH", root().join("bindings/python/src"))
            .env("SHOAL_LIBRARY", library());
        python
    });
}

#[test]
fn the_guides_programs_in_rust_print_the_shown_output() {
    run_all("rust", rust_program);
}

#[test]
fn the_guides_programs_in_c_print_the_shown_output() {
    run_all("c", |scratch| c_program(Language::C99, scratch));
}

#[test]
fn the_guides_programs_in_cpp_print_the_shown_output() {
    run_all("cpp", |scratch| c_program(Language::Cpp17, scratch));
}

/// The rows of the first table of the troubleshooting page: the messages and the status.
fn rows_of_errors() -> Vec<(Vec<String>, String)> {
    let page = fs::read_to_string(root().join("docs/troubleshooting.md")).unwrap();
    let (table, _) = page.split_once("\n## ").unwrap();
    let rows = table
        .lines()
        .filter(|line| line.starts_with("| `") || line.starts_with("| …"));
    let row = |line: &str| {
        let mut cells = line.split(" | ");
        let quoted = |cell: &str| -> Vec<String> {
            let texts = cell.split('`').skip(1).step_by(2);
            texts.map(str::to_owned).collect()
        };
        let messages = quoted(cells.next().unwrap());
        (messages, quoted(cells.next().unwrap()).remove(0))
    };
    rows.map(row).collect()
}

/// Whether `text` is `pattern`, in which `…` is anything.
fn is_like(text: &str, pattern: &str) -> bool {
    let mut parts = pattern.split('…');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap()) else {
        return false;
    };
    for part in parts {
        let Some(at) = rest.find(part) else {
            return false;
        };
        rest = &rest[at + part.len()..];
    }
    rest.is_empty() || pattern.ends_with('…')
}

/// What `src/error.rs` has for each error: its name, and the text of its message, with `…` for what varies.
fn messages() -> Vec<(String, String)> {
    let errors = fs::read_to_string(root().join("src/error.rs")).unwrap();
    let (errors, _) = errors.split_once("pub enum Status {").unwrap();
    let mut found = Vec::new();
    for part in errors.split("#[error(").skip(1) {
        let (attribute, rest) = part.split_once(")]\n").unwrap();
        let (_, text) = attribute.split_once('"').unwrap();
        let text = text.replace("\\\n", "");
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let (text, _) = text.split_once('"').unwrap();
        let mut message = String::new();
        for piece in text.split('{') {
            match piece.split_once('}') {
                Some((value, rest)) if value.ends_with(":?") => message += &format!("\"…\"{rest}"),
                Some((_, rest)) => message += &format!("…{rest}"),
                None => message += piece,
            }
        }
        let name = rest.trim_start().split(|c: char| !c.is_alphanumeric());
        found.push((name.clone().next().unwrap().to_owned(), message));
    }
    found
}

#[test]
fn the_message_of_every_error_is_in_the_troubleshooting_page_with_its_status() {
    let errors = fs::read_to_string(root().join("src/error.rs")).unwrap();
    let rows = rows_of_errors();
    let messages = messages();
    for (name, message) in &messages {
        // `Error::Os { .. } | Error::GuardianKilled => Status::ErrOs,`
        let is_of = |line: &&str| {
            line.contains(&format!("Error::{name} {{")) || line.contains(&format!("Error::{name} "))
        };
        let mut lines = errors
            .lines()
            .filter(|line| line.contains("=> Status::Err"));
        let line = lines.find(is_of).unwrap_or_else(|| panic!("{name}"));
        let (_, status) = line.split_once("Status::Err").unwrap();
        let status = shouted(status.trim_end_matches(','));
        let is_row = |(patterns, its): &(Vec<String>, String)| {
            // A row may be of some of the errors with this message only.
            let is_it = |it: &String| is_like(message, it) || is_like(it, message);
            *its == status && patterns.iter().any(is_it)
        };
        assert!(rows.iter().any(is_row), "{name}, {status}: {message}");
    }
    assert!(messages.len() > 20, "{}", messages.len());
}

/// `BufferTooSmall` as `BUFFER_TOO_SMALL`.
fn shouted(name: &str) -> String {
    let mut shouted = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !shouted.is_empty() {
            shouted.push('_');
        }
        shouted.push(c.to_ascii_uppercase());
    }
    shouted
}

#[test]
fn all_that_can_be_missing_and_every_limit_with_a_hint_are_in_the_troubleshooting_page() {
    let rows = rows_of_errors();
    let begins = |with: &str| {
        let mut messages = rows.iter().flat_map(|(messages, _)| messages);
        messages.any(|message| message.starts_with(with))
    };
    let mut count = 0;
    each_source(&root().join("src"), &mut |text| {
        for part in text.split("what: \"").skip(1) {
            let (what, rest) = part.split_once('"').unwrap();
            // The fields of `NotFound` are `what` and `name`.
            if rest
                .trim_start_matches(',')
                .trim_start()
                .starts_with("name")
            {
                assert!(begins(&format!("no {what} is named")), "{what}");
                count += 1;
            } else if what.contains(" (see ") {
                assert!(begins(&format!("{what} of …")), "{what}");
                count += 1;
            }
        }
    });
    assert!(count > 12, "{count}");
}

/// Calls `read` with each file of Rust below `folder`.
fn each_source(folder: &Path, read: &mut impl FnMut(&str)) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            each_source(&path, read);
        } else if path.extension().is_some_and(|it| it == "rs") {
            read(&fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn links_between_the_pages_have_targets() {
    for page in fs::read_dir(root().join("docs")).unwrap() {
        let page = page.unwrap().path();
        if page.extension().is_none_or(|it| it != "md") {
            continue;
        }
        let text = fs::read_to_string(&page).unwrap();
        for link in text.split("](").skip(1) {
            let target = link.split(')').next().unwrap_or_default();
            let file = target.split('#').next().unwrap_or_default();
            if !file.is_empty() && !file.contains("://") {
                let path = root().join("docs").join(file);
                assert!(path.exists(), "{}: {target}", page.display());
            }
        }
    }
}
