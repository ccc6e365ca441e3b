//! The programs of the user guide (`docs/`) compile without a warning and print what the guide shows.

use std::fs;
use std::path::PathBuf;
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

#[test]
fn every_error_is_in_the_troubleshooting_page() {
    let page = fs::read_to_string(root().join("docs/troubleshooting.md")).unwrap();
    let errors = fs::read_to_string(root().join("src/error.rs")).unwrap();
    let (_, statuses) = errors.split_once("pub enum Status {").unwrap();
    let (statuses, _) = statuses.split_once("\n}").unwrap();
    let mut count = 0;
    for line in statuses.lines() {
        // `    ErrNotFound = 2,`
        let Some((name, _)) = line.trim().split_once(" = ") else {
            continue;
        };
        let Some(name) = name.strip_prefix("Err") else {
            continue;
        };
        let mut status = String::new();
        for c in name.chars() {
            if c.is_ascii_uppercase() && !status.is_empty() {
                status.push('_');
            }
            status.push(c.to_ascii_uppercase());
        }
        assert!(page.contains(&format!("| `{status}` |")), "{status}");
        count += 1;
    }
    assert!(count > 15, "{count}");
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
