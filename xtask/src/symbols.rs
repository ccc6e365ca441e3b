//! `cargo xtask symbols`: the versions of the shared library's symbols, in packaging/libshoal.map. `cargo xtask
//! compat` checks whether programs that were built with the last release can use the C interface.
//!
//! The map is a linker's version script. It has a node for each release that added functions, named
//! `SHOAL_<major>.<minor>`; a function stays in its node. A program that uses a function of a later release
//! then fails to start with a message that names the release, not in the middle of its work.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use crate::cheader::{Header, Item, Kind};
use crate::files::{self, at, root};
use crate::header::{package_version, write};

/// The version script.
pub(crate) const MAP: &str = "packaging/libshoal.map";

/// Adds new functions to the map, or with `check` only checks that it is complete.
pub(crate) fn run(check: bool) -> Result<(), String> {
    let header = Header::read()?;
    let declared: BTreeSet<&str> = header.functions().map(|(_, it)| &*it.name).collect();
    let path = root().join(MAP);
    let nodes = parse(&fs::read_to_string(&path).unwrap_or_default());
    write(
        MAP,
        &render(&updated(nodes, &declared, &package_version()?)?),
        check,
    )
}

/// A release and the functions that it added.
type Node = (String, BTreeSet<String>);

/// The nodes of a version script, in their order.
fn parse(text: &str) -> Vec<Node> {
    let mut nodes: Vec<Node> = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_suffix(" {") {
            nodes.push((name.to_owned(), BTreeSet::new()));
        } else if let (Some(name), Some(node)) = (line.strip_suffix(';'), nodes.last_mut())
            && name.starts_with("shoal_")
        {
            node.1.insert(name.to_owned());
        }
    }
    nodes
}

/// The nodes, with functions that have no node added to the node of this version.
fn updated(
    mut nodes: Vec<Node>,
    declared: &BTreeSet<&str>,
    version: &str,
) -> Result<Vec<Node>, String> {
    let known: BTreeSet<&str> = nodes.iter().flat_map(|it| &it.1).map(|it| &**it).collect();
    let gone: Vec<&&str> = known.difference(declared).collect();
    if !gone.is_empty() {
        return Err(format!(
            "{MAP} has {gone:?}, which the headers do not declare. Programs that call them would not start: \
             a release without them needs a higher SHOAL_ABI_VERSION and a new map"
        ));
    }
    let new: BTreeSet<String> = declared
        .iter()
        .filter(|it| !known.contains(**it))
        .map(|it| (*it).to_owned())
        .collect();
    let name = version.rsplit_once('.').map_or(version, |(minor, _)| minor);
    let name = format!("SHOAL_{name}");
    match nodes.last_mut().filter(|last| last.0 == name) {
        _ if new.is_empty() => {}
        Some(last) => last.1.extend(new),
        None => nodes.push((name, new)),
    }
    Ok(nodes)
}

/// Each function with its version, in the form of `nm`.
pub(crate) fn versioned() -> Result<BTreeSet<String>, String> {
    let text = files::read(root().join(MAP))?;
    let nodes = parse(&text).into_iter();
    let names =
        nodes.flat_map(|(node, names)| names.into_iter().map(move |it| format!("{it}@@{node}")));
    Ok(names.collect())
}

fn render(nodes: &[Node]) -> String {
    let mut out =
        "# The versions of the symbols of libshoal.so. `cargo xtask symbols` adds new functions; \
                   what a release\n# had stays as it is.\n"
            .to_owned();
    let mut before = "";
    for (name, functions) in nodes {
        out += &format!("\n{name} {{\nglobal:\n");
        out.extend(functions.iter().map(|it| format!("    {it};\n")));
        // The wildcard is only in the first node, because it applies to all symbols that no node names.
        out += &match before {
            "" => "local:\n    *;\n};\n".to_owned(),
            before => format!("}} {before};\n"),
        };
        before = name;
    }
    out
}

/// Compares the headers and the map with those of the last release.
pub(crate) fn compat() -> Result<(), String> {
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).current_dir(root()).output();
        let output = output.map_err(at("git"))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok::<_, String>(output.status.success().then_some(text))
    };
    let Some(tag) = git(&["describe", "--tags", "--abbrev=0", "--match", "v[0-9]*"])? else {
        println!("there is no release yet (no tag v…): nothing to compare with");
        return Ok(());
    };
    let tag = tag.trim();
    let file = |name: &str| {
        let text = git(&["show", &format!("{tag}:{name}")])?;
        text.ok_or_else(|| format!("{tag} has no {name}"))
    };
    let mut faults = Vec::new();
    for name in ["shoal.h", "shoal_bindings.h"] {
        let path = format!("include/{name}");
        let now = files::read(root().join(&path))?;
        let parse = |text: &str| Header::parse("shoal.h", "General", text);
        faults.extend(changes(&parse(&file(&path)?), &parse(&now)));
    }
    let map = files::read(root().join(MAP))?;
    let now: BTreeMap<String, BTreeSet<String>> = parse(&map).into_iter().collect();
    for (node, functions) in parse(&file(MAP)?) {
        if !now
            .get(&node)
            .is_some_and(|now| now.is_superset(&functions))
        {
            faults.push(format!(
                "{MAP}: {node} lacks functions that it had in {tag}"
            ));
        }
    }
    match faults.is_empty() {
        true => {
            println!("programs that were built with {tag} continue to work");
            Ok(())
        }
        false => Err(format!(
            "programs that were built with {tag} do not work with this library:\n  {}\nA release with such \
             changes needs a higher SHOAL_ABI_VERSION (src/ffi/general.rs) and another soname (build.rs)",
            faults.join("\n  ")
        )),
    }
}

/// The declarations on which an old program relies and which have changed.
fn changes(old: &Header, new: &Header) -> Vec<String> {
    let all: BTreeMap<&str, &Item> = new.items().map(|(_, it)| (&*it.name, it)).collect();
    let mut faults = Vec::new();
    for (_, was) in old.items() {
        let Some(is) = all.get(&*was.name) else {
            faults.push(format!("{} is gone", was.name));
            continue;
        };
        let codes = |item: &Item| {
            item.members
                .iter()
                .map(|it| it.code.clone())
                .collect::<Vec<_>>()
        };
        let (before, after) = (codes(was), codes(is));
        // Fields may be added at the end of a struct that begins with its size, and values to an enum.
        let may_grow =
            was.kind == Kind::Enum || before.first().is_some_and(|first| first == "size_t size");
        let fits = match may_grow {
            true => after.starts_with(&before),
            false => after == before,
        };
        if was.name == "SHOAL_ABI_VERSION" && was.code != is.code {
            return vec![];
        }
        if was.code != is.code {
            faults.push(format!(
                "{} was {:?} and is {:?}",
                was.name, was.code, is.code
            ));
        } else if !fits {
            faults.push(format!("{} had {before:?} and has {after:?}", was.name));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "/** A. */\n#define SHOAL_ABI_VERSION 0\n\
        /** O. */\ntypedef struct shoal_o {\n    /** S. */\n    size_t size;\n} shoal_o;\n\
        /** P. */\ntypedef struct shoal_p {\n    /** X. */\n    int x;\n} shoal_p;\n\
        /** E. */\ntypedef enum shoal_e {\n    /** One. */\n    SHOAL_ONE = 1,\n} shoal_e;\n\
        /** F. */\nSHOAL_API void shoal_f(int a);\n";

    fn changed(from: &str, to: &str) -> Vec<String> {
        let text = format!("/** T. */\n{OLD}");
        assert!(text.contains(from), "{from}");
        let parse = |text: &str| Header::parse("shoal.h", "General", text);
        changes(&parse(&text), &parse(&text.replace(from, to)))
    }

    #[test]
    fn declarations_on_which_an_old_program_relies_are_compared() {
        let none: [&str; 0] = [];
        assert_eq!(changed("/** F. */", "/** Another comment. */"), none);
        assert_eq!(
            changed("    size_t size;\n", "    size_t size;\n    int more;\n"),
            none
        );
        assert_eq!(
            changed("SHOAL_ONE = 1,\n", "SHOAL_ONE = 1,\n    SHOAL_TWO = 2,\n"),
            none
        );
        assert_eq!(
            changed("    int x;\n", "    int x;\n    int more;\n").len(),
            1
        );
        assert_eq!(changed("SHOAL_ONE = 1", "SHOAL_ONE = 2").len(), 1);
        let of_f = changed("(int a)", "(long a)");
        assert_eq!(of_f.len(), 1);
        assert!(
            of_f[0].starts_with("shoal_f was \"void shoal_f(int a);\""),
            "{of_f:?}"
        );
        assert_eq!(changed("shoal_f(", "shoal_g("), ["shoal_f is gone"]);
    }

    #[test]
    fn a_new_function_is_added_to_the_node_of_its_version() {
        let add = |nodes, names: &[&str], version| {
            updated(nodes, &names.iter().copied().collect(), version)
        };
        let first = add(Vec::new(), &["shoal_a", "shoal_b"], "0.1.0").unwrap();
        let same = add(first.clone(), &["shoal_a", "shoal_b", "shoal_c"], "0.1.7").unwrap();
        assert_eq!(same.len(), 1);
        let second = add(first.clone(), &["shoal_a", "shoal_b", "shoal_c"], "0.2.0").unwrap();
        let text = render(&second);
        assert!(
            text.contains("SHOAL_0.1 {\nglobal:\n    shoal_a;\n    shoal_b;\nlocal:\n    *;\n};\n"),
            "{text}"
        );
        assert!(
            text.ends_with("SHOAL_0.2 {\nglobal:\n    shoal_c;\n} SHOAL_0.1;\n"),
            "{text}"
        );
        assert_eq!(parse(&text), second);
        let why = add(second, &["shoal_a"], "0.3.0").unwrap_err();
        assert!(
            why.contains("shoal_b") && why.contains("SHOAL_ABI_VERSION"),
            "{why}"
        );
    }
}
