//! How the tests are arranged, so that a filter finds those that need a feature.

use std::fs;

use crate::{code, files, shown};

/// In pieces, so that this file does not hold it.
const FEATURE: [&str; 2] = ["feature = \"crash", "-points\""];

#[test]
fn tests_that_need_crash_points_are_in_modules_called_crash() {
    let feature = FEATURE.concat();
    let mut found = 0;
    for path in files(&["tests"], &[".rs"]) {
        let name = shown(&path);
        // `common` has their shared code; `native` builds the library with the features of the test.
        if name.starts_with("tests/common/") || name.starts_with("tests/native/") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if line.contains(&feature) {
                let next = lines.next().unwrap_or_default().trim_start();
                assert!(
                    line.trim() == format!("#[cfg({feature})]") && next.starts_with("mod crash"),
                    "{name}: `cargo xtask test` does not find what needs crash points: {next}"
                );
                found += 1;
            }
        }
    }
    assert!(found > 10, "{found}");
}

#[test]
fn every_test_program_is_a_folder() {
    for path in files(&["tests"], &[".rs"]) {
        let name = shown(&path);
        assert!(
            name.matches('/').count() > 1,
            "{name} shall be a module of tests/<object>/main.rs"
        );
    }
}

#[test]
fn each_length_and_count_of_the_c_interface_is_0_after_a_failure() {
    let mut found = 0;
    for path in files(&["src/ffi"], &[".rs"]) {
        let text = code(&path);
        for function in text.split("extern \"C\" fn ").skip(1) {
            let (arguments, body) = function.split_once('{').unwrap();
            for argument in arguments.split([',', '(', ')']) {
                let Some((name, "*mut usize")) = argument.trim().split_once(": ") else {
                    continue;
                };
                // An array of lengths, of which a count says how many are valid; the index of what is ready.
                if matches!(name, "lens" | "out") {
                    continue;
                }
                let unset = |how: &str| body.contains(&format!("Out::{how}(\"{name}\""));
                let is_set = body.contains(&format!("{name}.set(0)"));
                let (function, _) = function.split_once('(').unwrap();
                assert!(
                    !unset("new") && (!unset("optional") || is_set),
                    "*{name} of {function}: use `Out::preset`"
                );
                found += 1;
            }
        }
    }
    assert!(found > 20, "{found}");
}
