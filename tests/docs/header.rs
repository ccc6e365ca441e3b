//! include/shoal.h promises what the library has, and all of it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CStr, c_char};
use std::fs;
use std::process::Command;

use crate::native::{Language, cargo, library, root, succeed, watched};
use shoal::Status;

unsafe extern "C" {
    fn shoal_status_name(status: u32) -> *const c_char;
    fn shoal_version() -> *const c_char;
    fn shoal_abi_version() -> u32;
}

fn header() -> String {
    fs::read_to_string(root().join("include/shoal.h")).unwrap()
}

/// Each function of the header with the comment above it.
fn functions() -> BTreeMap<String, String> {
    let header = header();
    let mut found = BTreeMap::new();
    for part in header.split("\n/**").skip(1) {
        let Some((comment, code)) = part.split_once("*/") else {
            continue;
        };
        let Some((before, _)) = code.split_once('(') else {
            continue;
        };
        if before.contains("SHOAL_API") && !before.contains('#') {
            let name = before.rsplit([' ', '*', '\n']).next().unwrap();
            found.insert(name.to_owned(), comment.to_owned());
        }
    }
    found
}

#[test]
fn the_committed_header_is_the_generated_one() {
    let mut check = cargo();
    check.args([
        "run",
        "--quiet",
        "--package",
        "xtask",
        "--",
        "header",
        "--check",
    ]);
    let (success, out, err) = watched(&mut check);
    assert!(success, "{out}{err}");
}

#[test]
fn the_library_exports_the_functions_of_the_header_and_nothing_else() {
    let symbols = succeed(
        Command::new("nm")
            .args(["-D", "--defined-only"])
            .arg(library()),
    );
    let exported: BTreeSet<String> = symbols
        .lines()
        .filter_map(|line| line.split_whitespace().last())
        .map(str::to_owned)
        .collect();
    let promised: BTreeSet<String> = functions().into_keys().collect();
    assert!(
        promised.len() > 40,
        "only {promised:?} were found in the header"
    );
    let missing: Vec<_> = promised.difference(&exported).collect();
    let extra: Vec<_> = exported.difference(&promised).collect();
    assert!(
        missing.is_empty() && extra.is_empty(),
        "in the header only: {missing:?}; in the library only: {extra:?}. Each \
         `#[unsafe(no_mangle)]` function belongs into a file that xtask/src/header.rs lists."
    );
}

#[test]
fn the_header_compiles_without_a_warning_in_c_and_cpp() {
    for (language, name) in [
        (Language::C99, "c/header.c"),
        (Language::Cpp17, "cpp/header.cpp"),
    ] {
        let mut compile = language.compiler();
        compile.args(["-Wshadow", "-Wconversion", "-Wundef", "-fsyntax-only"]);
        succeed(compile.arg(format!("tests/{name}")));
    }
}

#[test]
fn the_statuses_are_those_of_the_error_type() {
    let screaming = |name: &str| {
        name.chars().fold("SHOAL".to_owned(), |mut text, c| {
            if c.is_uppercase() {
                text.push('_');
            }
            text.push(c.to_ascii_uppercase());
            text
        })
    };
    let pairs = |text: &str| -> Vec<(String, u32)> {
        let lines = text
            .lines()
            .filter_map(|line| line.trim().strip_suffix(','));
        let pairs = lines.filter_map(|line| line.split_once(" = "));
        pairs
            .filter_map(|(name, code)| Some((name.to_owned(), code.parse().ok()?)))
            .collect()
    };

    let rust = fs::read_to_string(root().join("src/error.rs")).unwrap();
    let (_, rust) = rust.split_once("pub enum Status {").unwrap();
    let (rust, _) = rust.split_once("\n}").unwrap();
    let expected: Vec<(String, u32)> = pairs(rust)
        .into_iter()
        .map(|(name, code)| (screaming(&name), code))
        .collect();

    let header = header();
    let (_, in_header) = header.split_once("typedef enum {").unwrap();
    let (in_header, _) = in_header.split_once("} shoal_status;").unwrap();
    assert_eq!(pairs(in_header), expected);
    assert_eq!(expected.last().unwrap().1, Status::ErrExpired as u32);

    for (name, code) in &expected {
        // SAFETY: a constant string of the library.
        let told = unsafe { CStr::from_ptr(shoal_status_name(*code)) };
        assert_eq!(told.to_str().unwrap(), name);
    }
    for code in [expected.len() as u32, u32::MAX] {
        // SAFETY: as above.
        let told = unsafe { CStr::from_ptr(shoal_status_name(code)) };
        assert_eq!(told.to_str().unwrap(), "unknown status");
    }
}

#[test]
fn the_library_is_found_by_the_version_of_its_abi() {
    // SAFETY: no conditions.
    let abi = unsafe { shoal_abi_version() };
    let dynamic = succeed(Command::new("readelf").arg("-d").arg(library()));
    assert!(
        dynamic.contains(&format!("[libshoal.so.{abi}]")),
        "build.rs says otherwise:\n{dynamic}"
    );
    assert!(header().contains(&format!("#define SHOAL_ABI_VERSION {abi}\n")));
    // SAFETY: a constant string of the library.
    let version = unsafe { CStr::from_ptr(shoal_version()) };
    assert_eq!(version.to_str(), Ok(env!("CARGO_PKG_VERSION")));
}

/// The order in which a person looks for things is the same everywhere.
#[test]
fn every_function_says_when_it_blocks_and_how_it_fails() {
    for (name, comment) in functions() {
        let blocking = comment.find("Blocking, threads, fork:");
        let errors = comment.find("Errors:");
        let like_another = comment.contains(". As `shoal_");
        assert!(
            blocking.is_some() || like_another,
            "{name} does not say when it blocks"
        );
        if let (Some(blocking), Some(errors)) = (blocking, errors) {
            assert!(blocking < errors, "{name}: Errors come after Blocking");
        }
        let returns_status = !["_free", "_name", "_version", "_last_error"]
            .iter()
            .any(|suffix| name.ends_with(suffix));
        if returns_status || name == "shoal_device_family_name" {
            assert!(errors.is_some(), "{name} does not list its errors");
        }
    }
}
