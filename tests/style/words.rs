//! How long a file may be, and words that no file may have.

use std::collections::BTreeSet;
use std::fs;

use crate::{files, root, shown};

#[test]
fn files_are_short() {
    let folders = [
        "src", "tests", "benches", "examples", "xtask", "bindings", "bridge",
    ];
    for path in files(&folders, &[".rs", ".py", ".c", ".h", ".cpp", ".hpp"]) {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= 600, "{} has {lines} lines", shown(&path));
    }
}

#[test]
fn no_file_has_marks_of_unfinished_work() {
    // In pieces, so that this file does not hold them.
    let marks = [
        ["TO", "DO"],
        ["FIX", "ME"],
        ["XX", "X"],
        ["HA", "CK"],
        ["todo", "!("],
        ["unimpl", "emented!("],
    ];
    let folders = [
        "src", "tests", "benches", "examples", "xtask", "bindings", "bridge", "include",
    ];
    for path in files(&folders, &[".rs", ".py", ".c", ".h", ".cpp", ".hpp", ".md"]) {
        let text = fs::read_to_string(&path).unwrap();
        for mark in marks.map(|halves| halves.concat()) {
            assert!(!text.contains(&mark), "{} says {mark}", shown(&path));
        }
    }
}

/// Such calls read numbers by the locale of the program, which may have a decimal comma.
#[test]
fn the_cpp_headers_call_nothing_that_depends_on_the_locale() {
    for path in files(&["bindings/cpp"], &[".hpp"]) {
        let text = fs::read_to_string(&path).unwrap();
        for call in ["strtod", "strtof", "atof", "stod(", "stof(", "scanf"] {
            assert!(!text.contains(call), "{} calls {call}", shown(&path));
        }
    }
}

/// Words that once had a private meaning here, each with what is said in its place.
const PRIVATE: [(&str, &str); 35] = [
    ("broom", "sweep_cursor"),
    ("bury", "dead_letter"),
    ("crew", "workers"),
    ("crews", "workers"),
    ("crowded", "shared_slot"),
    ("doom", "crash"),
    ("doomed", "killed"),
    ("entrance", "admission"),
    ("glance", "probe"),
    ("heir", "recoverer"),
    ("heirs", "recoverers"),
    ("kin", "related processes"),
    ("line_up", "insert_due"),
    ("luck", "fairness"),
    ("luckiest", "the one served most"),
    ("lucky", "served most"),
    ("mortal", "expiring"),
    ("outrun", "starved"),
    ("patience", "wait policy"),
    ("renounce", "invalidate"),
    ("roster", "waiter table"),
    ("seat", "slot"),
    ("seats", "slots"),
    ("shelf", "message store"),
    ("shelves", "message stores"),
    ("sit_down", "register"),
    ("sitting", "generation"),
    ("sittings", "generations"),
    ("whoever", "the process that"),
    ("widen", "auto_grow"),
    ("widens", "grows"),
    ("wound", "corruption"),
    ("wounded", "corrupted"),
    ("wounding", "corrupting"),
    ("wounds", "corruptions"),
];

#[test]
fn words_with_a_private_meaning_are_not_used() {
    let folders = [
        "src", "include", "bindings", "tests", "benches", "examples", "xtask", "docs", "bridge",
    ];
    let folders: Vec<_> = folders
        .into_iter()
        .filter(|it| root().join(it).is_dir())
        .collect();
    let endings = [".rs", ".py", ".c", ".h", ".cpp", ".hpp", ".md"];
    let mut all = files(&folders, &endings);
    all.extend(
        [
            "README.md",
            "ARCHITECTURE.md",
            "CHANGELOG.md",
            "CONTRIBUTING.md",
        ]
        .map(|it| root().join(it)),
    );
    let mut found = BTreeSet::new();
    for path in all {
        let name = shown(&path);
        // This file has all of them.
        if name == "tests/style/words.rs" {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        for (number, line) in text.lines().enumerate() {
            for (word, instead) in private(line) {
                found.insert(format!("{name}:{}: {word}: say {instead}", number + 1));
            }
        }
    }
    let found: Vec<_> = found.into_iter().collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Those of [`PRIVATE`] in a line: whole words, or parts of a name.
fn private(line: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
    let mut plain = String::new();
    for c in line.chars() {
        // `SomeName` has two words.
        if c.is_ascii_uppercase() && plain.ends_with(|it: char| it.is_ascii_lowercase()) {
            plain.push(' ');
        }
        plain.push(c.to_ascii_lowercase());
    }
    let is_letter = |c: char| c.is_ascii_alphabetic();
    PRIVATE.into_iter().filter(move |(word, _)| {
        let mut places = plain.match_indices(word);
        places.any(|(at, _)| {
            let (before, after) = (&plain[..at], &plain[at + word.len()..]);
            !before.ends_with(is_letter) && !after.starts_with(is_letter)
        })
    })
}

#[test]
fn a_private_word_is_found_in_a_name_and_not_in_another_word() {
    let found = |line: &str| private(line).map(|(word, _)| word).collect::<Vec<_>>();
    assert_eq!(found("struct TheShelf;"), ["shelf"]);
    assert_eq!(found("let shelf_at = SHELF;"), ["shelf"]);
    assert_eq!(found("their heirloom; hairy; reseated"), [""; 0]);
}
