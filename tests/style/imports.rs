//! What may be imported from where, and what may be called where.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::{code, files, root, shown};

/// The layers, from the bottom up. Modules in one line do not import from each other.
const LAYERS: [&[&str]; 13] = [
    &["error"],
    &["layout", "copy", "cache"],
    &["sys"],
    &["sync"],
    &["segment"],
    &["heap", "relay"],
    &["queue", "primitives"],
    // A relayed map's requests are a queue.
    &["map", "list"],
    &["array", "pipe"],
    &["device"],
    &["process"],
    &["wait", "observe"],
    &["ffi"],
];

/// Source files of the library without its tests, with the module each belongs to. `lib.rs` belongs to none.
fn sources() -> impl Iterator<Item = (PathBuf, String)> {
    files(&["src"], &[".rs"]).into_iter().filter_map(|path| {
        let inside = path.strip_prefix(root().join("src")).unwrap();
        let first = inside.iter().next().unwrap().to_str().unwrap();
        let module = first.strip_suffix(".rs").unwrap_or(first).to_owned();
        let test = inside.iter().any(|part| part == "tests");
        (module != "lib" && module != "bin" && !test).then_some((path, module))
    })
}

/// The names that follow `prefix` directly, or stand in the braces that do.
fn names_after<'a>(code: &'a str, prefix: &str) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    let word = |text: &'a str| {
        let end = text.find(|c: char| c != '_' && !c.is_ascii_alphanumeric());
        &text[..end.unwrap_or(text.len())]
    };
    for (at, _) in code.match_indices(prefix) {
        let rest = &code[at + prefix.len()..];
        let Some(group) = rest.strip_prefix('{') else {
            found.insert(word(rest));
            continue;
        };
        let mut depth = 0;
        let mut fresh = true;
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => fresh = true,
                _ if fresh && !c.is_whitespace() => {
                    found.insert(word(&group[at..]));
                    fresh = false;
                }
                _ => {}
            }
        }
    }
    found.remove("");
    found
}

/// Which module each name comes from that `lib.rs` exports.
fn exported() -> BTreeMap<String, String> {
    let lib = code(&root().join("src/lib.rs"));
    let mut origins = BTreeMap::new();
    for line in lib.split(';') {
        let Some(path) = line.trim().strip_prefix("pub use ") else {
            continue;
        };
        let (module, names) = path.split_once("::").unwrap();
        for name in names_after(&format!("use {names}"), "use ") {
            origins.insert(name.to_owned(), module.to_owned());
        }
    }
    assert_eq!(origins.get("Queue").map(String::as_str), Some("queue"));
    origins
}

#[test]
fn imports_point_down() {
    let level = |module: &str| LAYERS.iter().position(|layer| layer.contains(&module));
    let exported = exported();
    let mut wrong = Vec::new();
    for (path, module) in sources() {
        let Some(own) = level(&module) else {
            wrong.push(format!("{} is in no layer", shown(&path)));
            continue;
        };
        let code = code(&path);
        for name in names_after(&code, "crate::") {
            let other = exported.get(name).map_or(name, String::as_str);
            let allowed = match level(other) {
                Some(theirs) => other == module || theirs < own,
                // Other crates, by way of ours, and the test-only door to crash points.
                None => matches!(other, "raw_sync" | "crash"),
            };
            if !allowed {
                wrong.push(format!("{} uses crate::{name}", shown(&path)));
            }
        }
        // The only other path to another module.
        let inside = path.strip_prefix(root().join("src")).unwrap();
        let depth = inside.iter().count() - usize::from(path.ends_with("mod.rs"));
        let up = format!("use {}", "super::".repeat(depth));
        if code.lines().any(|line| line.starts_with(&up)) {
            wrong.push(format!("{} climbs out of its module", shown(&path)));
        }
    }
    assert!(
        wrong.is_empty(),
        "imports point down:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn no_file_imports_what_the_crate_exports() {
    let exported = exported();
    let imports = |code: &str| {
        let mut names = names_after(code, "crate::").into_iter();
        // `list` is both a function that the crate exports and a module.
        names.any(|name| exported.contains_key(name) && !LAYERS.concat().contains(&name))
    };
    let found = sources().filter(|(path, _)| imports(&code(path)));
    let found: Vec<_> = found.map(|(path, _)| shown(&path)).collect();
    assert!(
        found.is_empty(),
        "import from where it is defined:\n{}",
        found.join("\n")
    );
}

/// `name(` as a call, as opposed to a type or a constant.
fn calls(code: &str, krate: &str) -> Vec<String> {
    let prefix = format!("{krate}::");
    let uses = code
        .match_indices(&prefix)
        .map(|(at, _)| &code[at + prefix.len()..]);
    uses.filter_map(|rest| {
        let end = rest.find(|c: char| c != '_' && !c.is_ascii_alphanumeric())?;
        rest[end..].starts_with('(').then(|| rest[..end].to_owned())
    })
    .collect()
}

#[test]
fn only_sys_calls_the_system() {
    let mut wrong = Vec::new();
    for (path, _) in sources().filter(|(_, module)| module != "sys") {
        let code = code(&path);
        for name in calls(&code, "libc") {
            wrong.push(format!("{} calls libc::{name}", shown(&path)));
        }
    }
    assert!(wrong.is_empty(), "only src/sys may:\n{}", wrong.join("\n"));
}

/// Where else `libc` is named, for a type or a number of the system and never for a call.
const NAMES_OF_LIBC: [(&str, &str); 7] = [
    ("src/error.rs", "error numbers"),
    ("src/process/handle.rs", "signals, error numbers, pid_t"),
    ("src/process/lookup.rs", "error numbers"),
    ("src/process/spawn.rs", "error numbers"),
    ("src/process/supervisor/engine.rs", "signals"),
    ("src/process/supervisor/handle.rs", "signals"),
    ("src/process/supervisor/marked.rs", "signals"),
];

fn names_libc(code: &str) -> bool {
    code.contains("libc::") || code.contains("use libc")
}

#[test]
fn the_names_of_libc_stay_where_they_are_needed() {
    let used = sources()
        .filter(|(path, module)| module != "sys" && names_libc(&code(path)))
        .map(|(path, _)| shown(&path));
    let allowed = NAMES_OF_LIBC.map(|(file, _)| file.to_owned());
    // In both directions, so that no entry remains without a reason.
    assert_eq!(used.collect::<BTreeSet<_>>(), BTreeSet::from(allowed));
}

#[test]
fn raw_sync_is_used_only_for_timeouts() {
    let used = sources()
        .filter(|(path, _)| code(path).contains("raw_sync"))
        .map(|(path, _)| shown(&path));
    // The others import it from there.
    let expected = ["src/sys/clock.rs"].map(str::to_owned);
    assert_eq!(used.collect::<BTreeSet<_>>(), BTreeSet::from(expected));
}

#[test]
fn pure_modules_neither_lock_nor_call_the_system() {
    let pure = [
        "queue/record",
        "queue/ring",
        "queue/cursors",
        "queue/commit",
        "map/table",
        "heap/slab",
        "heap/arena",
        "list/shape",
        "list/splice",
        "device/mask",
    ];
    for name in pure {
        let path = root().join(format!("src/{name}.rs"));
        let code = code(&path);
        for tool in [".lock(", ".wait(", "crate::segment", "sys::", "libc::"] {
            assert!(!code.contains(tool), "{} has {tool}", shown(&path));
        }
    }
}

#[test]
fn names_in_braces_are_found_as_well_as_plain_ones() {
    let code = "use crate::{Error, map::{self, Map}, sys};\nlet x = crate::queue::f(crate::A);";
    let expected = ["A", "Error", "map", "queue", "sys"];
    assert_eq!(names_after(code, "crate::"), BTreeSet::from(expected));
    assert_eq!(
        calls("libc::fork() + libc::EIO + libc::pid_t", "libc"),
        ["fork"]
    );
}
