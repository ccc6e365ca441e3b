//! The licences of the dependencies. On the public repository, `cargo deny --workspace check` checks them.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use crate::root;

/// Whether an expression of licences, such as `(MIT OR Apache-2.0) AND ISC`, is met by those that are allowed.
fn is_allowed(expression: &str, allowed: &BTreeSet<&str>) -> bool {
    expression.replace('/', " OR ").split(" AND ").all(|all| {
        let mut one = all.trim_matches(['(', ')', ' ']).split(" OR ");
        one.any(|it| allowed.contains(it.trim()))
    })
}

#[test]
fn deny_toml_allows_the_licence_of_every_dependency() {
    let rules = fs::read_to_string(root().join("deny.toml")).unwrap();
    let (_, licences) = rules.split_once("[licenses]").unwrap();
    let (licences, _) = licences.split_once("[licenses.private]").unwrap();
    let lists = licences.split("allow = [").skip(1);
    let lists = lists.filter_map(|it| it.split(']').next());
    let allowed: BTreeSet<&str> = lists.flat_map(|it| it.split('"')).collect();

    let mut metadata = Command::new(env!("CARGO"));
    metadata.args(["metadata", "--format-version=1", "--locked"]);
    metadata.args([
        "--all-features",
        "--filter-platform=x86_64-unknown-linux-gnu",
    ]);
    let output = metadata.current_dir(root()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let found = text.split("\"license\":\"").skip(1);
    let found: BTreeSet<&str> = found.filter_map(|it| it.split('"').next()).collect();
    assert!(
        found.len() > 5,
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let others: Vec<_> = found
        .iter()
        .filter(|it| !is_allowed(it, &allowed))
        .collect();
    assert!(
        others.is_empty(),
        "deny.toml does not allow {others:?}; `cargo deny list` says who has them"
    );
}
