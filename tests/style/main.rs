//! The rules of ARCHITECTURE.md that a compiler does not check.

mod arrangement;
mod circles;
mod imports;
mod licences;
mod threads;
mod words;

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below these folders with one of these endings. Not what is built or installed there.
fn files(folders: &[&str], endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left: Vec<PathBuf> = folders.iter().map(|folder| root().join(folder)).collect();
    while let Some(folder) = left.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() {
                if !["target", "build", "node_modules"].contains(&name) && !name.starts_with('.') {
                    left.push(path);
                }
            } else if endings.iter().any(|ending| name.ends_with(ending)) {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty());
    found.sort();
    found
}

/// A path relative to the repository.
fn shown(path: &Path) -> String {
    let path = path.strip_prefix(root()).unwrap_or(path);
    path.display().to_string()
}

/// The code of a Rust file that is shipped. Lines that are comments, and items after `#[cfg(test)]`, are blank. As
/// `cargo fmt` formats the file, such an item ends at the first line that closes it at its own indentation.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    shipped(&text)
}

fn shipped(text: &str) -> String {
    let mut kept = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let indent = &line[..line.len() - line.trim_start().len()];
        if line.trim_start() == "#[cfg(test)]" {
            let ends = |line: &str| {
                let at_own_level = line
                    .strip_prefix(indent)
                    .is_some_and(|rest| !rest.starts_with(' '));
                at_own_level && line.ends_with(['}', ';'])
            };
            lines.by_ref().find(|line| ends(line));
        } else if !line.trim_start().starts_with("//") {
            kept.push_str(line);
        }
        kept.push('\n');
    }
    kept
}

#[test]
fn the_code_of_tests_is_left_out() {
    let text = "a;\n    #[cfg(test)]\n    mod t {\n        b;\n    }\nc; // d\n// e\n#[cfg(test)]\nuse f;\ng;\n";
    let words: Vec<_> = shipped(text)
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    assert_eq!(words, ["a;", "c;", "//", "d", "g;"]);
}
