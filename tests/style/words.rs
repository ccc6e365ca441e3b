//! How long a file may be, and words that shall not stand in one.

use std::fs;

use crate::{files, shown};

#[test]
fn a_file_holds_one_idea() {
    let folders = ["src", "tests", "benches", "examples", "xtask", "bindings"];
    for path in files(&folders, &[".rs", ".py", ".c", ".h", ".cpp", ".hpp"]) {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= 600, "{} has {lines} lines", shown(&path));
    }
}

#[test]
fn nothing_is_left_for_later() {
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
        "src", "tests", "benches", "examples", "xtask", "bindings", "include",
    ];
    for path in files(&folders, &[".rs", ".py", ".c", ".h", ".cpp", ".hpp", ".md"]) {
        let text = fs::read_to_string(&path).unwrap();
        for mark in marks.map(|halves| halves.concat()) {
            assert!(!text.contains(&mark), "{} says {mark}", shown(&path));
        }
    }
}
