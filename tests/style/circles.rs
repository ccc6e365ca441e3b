//! No import cycles: two files that import from each other, directly or through others, cannot be understood one
//! after the other.
//!
//! The graphs are read from the source text. A name that a module passes on, by `pub use`, counts as
//! an import from the file that it comes from, and not from the one that passes it on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::{code, files, root, shown};

/// For each file those that it imports from.
type Graph = BTreeMap<String, BTreeSet<String>>;

/// A path, the name it is known by here, and whether it is passed on.
struct Use {
    path: Vec<String>,
    name: String,
    passed_on: bool,
}

/// A file of Rust: what it declares, what it imports, and its text without the imports.
struct Source {
    file: String,
    uses: Vec<Use>,
    rest: String,
}

type Module = Vec<String>;

/// The modules of a crate, or of a part of one.
struct Modules(BTreeMap<Module, Source>);

fn words(path: &str) -> Vec<String> {
    path.split("::").map(|it| it.trim().to_owned()).collect()
}

/// The paths in a tree of imports, with the names they get.
fn expand(prefix: &str, tree: &str, found: &mut Vec<(String, String)>) {
    let tree = tree.trim();
    if let Some((before, inside)) = tree.split_once('{') {
        let inside = inside.strip_suffix('}').expect("a closing brace");
        let (mut depth, mut start) = (0, 0);
        for (at, c) in inside.char_indices().chain([(inside.len(), ',')]) {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    let part = &inside[start..at];
                    if !part.trim().is_empty() {
                        expand(&format!("{prefix}{before}"), part, found);
                    }
                    start = at + 1;
                }
                _ => {}
            }
        }
        return;
    }
    let (path, alias) = match tree.split_once(" as ") {
        Some((path, alias)) => (path, Some(alias)),
        None => (tree, None),
    };
    let path = format!("{prefix}{path}");
    let path = path.strip_suffix("::self").unwrap_or(&path);
    let last = path.rsplit("::").next().unwrap_or(path);
    found.push((path.to_owned(), alias.unwrap_or(last).to_owned()));
}

impl Source {
    fn read(path: &Path) -> Self {
        let (mut uses, mut rest) = (Vec::new(), String::new());
        let code = code(path);
        let mut lines = code.lines();
        while let Some(line) = lines.next() {
            let Some((visibility, tree)) = statement(line) else {
                rest.push_str(line);
                rest.push('\n');
                continue;
            };
            let mut tree = tree.to_owned();
            while !tree.contains(';') {
                tree.push_str(lines.next().expect("the end of an import"));
            }
            let mut found = Vec::new();
            expand("", tree.trim_end_matches(';'), &mut found);
            uses.extend(found.into_iter().map(|(path, name)| Use {
                path: words(&path),
                name,
                passed_on: !visibility.is_empty(),
            }));
        }
        let file = shown(path);
        Self { file, uses, rest }
    }

    /// Whether its own code has this word.
    fn says(&self, word: &str) -> bool {
        let is_part = |c: char| c == '_' || c.is_ascii_alphanumeric();
        self.rest.split(|c| !is_part(c)).any(|it| it == word)
    }

    /// Paths in its code that begin with one of these words.
    fn paths_from(&self, first: &[&str]) -> Vec<Vec<String>> {
        let is_part = |c: char| c == '_' || c == ':' || c.is_ascii_alphanumeric();
        let paths = self
            .rest
            .split(|c| !is_part(c))
            .filter(|it| it.contains("::"));
        paths
            .map(words)
            .filter(|path| first.contains(&&*path[0]))
            .collect()
    }
}

/// The visibility of an import that begins in this line, and its tree.
fn statement(line: &str) -> Option<(&str, &str)> {
    let (before, tree) = line.trim_start().split_once("use ")?;
    let before = before.trim_end();
    let is_visibility = before.is_empty()
        || before == "pub"
        || (before.starts_with("pub(") && before.ends_with(')'));
    is_visibility.then_some((before, tree))
}

impl Modules {
    /// Those below `folder`, whose root module is the file `top`.
    fn of(folder: &str, top: &str) -> Self {
        let below = root().join(folder);
        let mut modules = BTreeMap::new();
        for path in files(&[folder], &[".rs"]) {
            let inside = path.strip_prefix(&below).unwrap().with_extension("");
            let mut module: Module = inside
                .iter()
                .map(|it| it.to_str().unwrap().into())
                .collect();
            if module.iter().any(|it| it == "tests" || it == "bin") {
                continue;
            }
            if module.last().is_some_and(|it| it == "mod")
                || shown(&path) == format!("{folder}/{top}")
            {
                module.pop();
            }
            modules.insert(module, Source::read(&path));
        }
        Self(modules)
    }

    /// The module in which what a path names is written, seen from the module `from`.
    fn written(&self, from: &Module, path: &[String], depth: usize) -> Option<Module> {
        let mut path = path;
        let mut at = from.clone();
        match path[0].as_str() {
            "crate" => at.clear(),
            "self" => {}
            "super" => drop(at.pop()),
            first => {
                at.push(first.to_owned());
                self.0.get(&at)?;
            }
        }
        path = &path[1..];
        while let Some((first, rest)) = path.split_first() {
            if first == "super" {
                at.pop();
                path = rest;
                continue;
            }
            at.push(first.clone());
            if self.0.contains_key(&at) {
                path = rest;
                continue;
            }
            at.pop();
            let passed = self.0.get(&at)?.uses.iter().find(|it| it.name == *first);
            if let Some(passed) = passed.filter(|_| depth < 8) {
                return self.written(&at, &passed.path, depth + 1).or(Some(at));
            }
            break;
        }
        Some(at)
    }

    fn graph(&self) -> Graph {
        let mut graph = Graph::new();
        for (module, source) in &self.0 {
            let mut targets = BTreeSet::new();
            let is_child = |it: &Module| it.len() > module.len() && it.starts_with(module);
            for it in &source.uses {
                let target = self.written(module, &it.path, 0);
                // A module that only re-exports items of its own modules does not use them.
                let door = it.passed_on && target.as_ref().is_some_and(is_child);
                if !door || source.says(&it.name) {
                    targets.extend(target);
                }
            }
            let children = self.0.keys().filter(|it| is_child(it));
            let mut first: Vec<&str> = children.map(|it| &*it[module.len()]).collect();
            first.extend(["crate", "super", "self"]);
            for path in source.paths_from(&first) {
                targets.extend(self.written(module, &path, 0));
            }
            let files = targets.iter().filter(|it| *it != module);
            let files = files.filter_map(|it| Some(self.0.get(it)?.file.clone()));
            graph.insert(source.file.clone(), files.collect());
        }
        graph
    }
}

/// The files of the Python package, and what they import when they are imported themselves.
fn python(folder: &str) -> Graph {
    let package = root().join(folder);
    let above = package.parent().unwrap();
    let file_of = |parts: &[&str]| -> Option<PathBuf> {
        let path = parts
            .iter()
            .fold(above.to_owned(), |path, it| path.join(it));
        let module = path.with_extension("py");
        let package = path.join("__init__.py");
        [module, package].into_iter().find(|it| it.is_file())
    };
    let mut graph = Graph::new();
    for path in files(&[folder], &[".py"]) {
        let inside = path.strip_prefix(above).unwrap();
        let mut here: Vec<&str> = inside.iter().map(|it| it.to_str().unwrap()).collect();
        here.pop();
        let text = std::fs::read_to_string(&path).unwrap();
        let mut targets = BTreeSet::new();
        for (at, _) in text.match_indices("\nfrom ") {
            let Some((from, names)) = text[at + 6..].split_once(" import ") else {
                continue;
            };
            let up = from.len() - from.trim_start_matches('.').len();
            let mut parts = match up {
                0 => Vec::new(),
                _ => here[..here.len() + 1 - up].to_vec(),
            };
            parts.extend(
                from.trim_start_matches('.')
                    .split('.')
                    .filter(|it| !it.is_empty()),
            );
            let names = match names.strip_prefix('(') {
                Some(many) => many.split(')').next(),
                None => names.lines().next(),
            };
            for name in names.unwrap_or_default().split(',') {
                let name = name.trim().split(' ').next().unwrap_or_default();
                let inner = [&parts[..], &[name]].concat();
                targets.extend(file_of(&inner).or_else(|| file_of(&parts)));
            }
        }
        for (at, _) in text.match_indices("\nimport ") {
            let names = text[at + 8..].lines().next().unwrap_or_default();
            for name in names.split(',') {
                let name = name.trim().split(' ').next().unwrap_or_default();
                targets.extend(file_of(&name.split('.').collect::<Vec<_>>()));
            }
        }
        let inside = targets
            .iter()
            .filter(|it| it.starts_with(&package) && **it != path);
        graph.insert(shown(&path), inside.map(|it| shown(it)).collect());
    }
    graph
}

/// All files that each can be reached from: directly, or by way of others.
fn reached<'a>(graph: &'a Graph, from: &str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut left: Vec<&str> = vec![graph.get_key_value(from).unwrap().0];
    while let Some(file) = left.pop() {
        for next in &graph[file] {
            if reached.insert(next.as_str()) {
                left.push(next);
            }
        }
    }
    reached
}

/// The files of each circle.
fn circles(graph: &Graph) -> BTreeSet<BTreeSet<&str>> {
    let all: BTreeMap<&str, _> = graph.keys().map(|it| (&**it, reached(graph, it))).collect();
    let in_circle = all.iter().filter(|(file, reached)| reached.contains(*file));
    in_circle
        .map(|(file, reached)| {
            let back = reached.iter().filter(|it| all[*it].contains(file));
            back.copied().collect()
        })
        .collect()
}

fn has_no_circles(graph: &Graph) {
    let found = circles(graph);
    let mut imports = String::new();
    for circle in &found {
        imports.push_str("a circle:\n");
        for file in circle {
            let inside = graph[*file].iter().filter(|it| circle.contains(&***it));
            let inside: Vec<_> = inside.map(String::as_str).collect();
            imports.push_str(&format!("  {file} imports from {}\n", inside.join(", ")));
        }
    }
    assert!(found.is_empty(), "{imports}");
}

#[test]
fn no_files_of_the_library_import_from_each_other() {
    has_no_circles(&Modules::of("src", "lib.rs").graph());
}

#[test]
fn no_files_of_the_command_line_import_from_each_other() {
    has_no_circles(&Modules::of("src/bin/shoal", "main.rs").graph());
}

#[test]
fn no_files_of_the_benchmark_import_from_each_other() {
    has_no_circles(&Modules::of("benches/harness", "mod.rs").graph());
}

#[test]
fn no_files_of_the_tasks_import_from_each_other() {
    has_no_circles(&Modules::of("xtask/src", "main.rs").graph());
}

#[test]
fn no_modules_of_the_python_package_import_from_each_other() {
    has_no_circles(&python("bindings/python/src/shoal"));
}

#[test]
fn a_tree_of_imports_is_expanded() {
    let mut found = Vec::new();
    expand("", "a::{b, c::{self, d as e}, f::*}", &mut found);
    let found: Vec<_> = found
        .iter()
        .map(|(path, name)| (&**path, &**name))
        .collect();
    let expected = [
        ("a::b", "b"),
        ("a::c", "c"),
        ("a::c::d", "e"),
        ("a::f::*", "*"),
    ];
    assert_eq!(found, expected);
    assert_eq!(
        statement("pub(crate) use a::b;"),
        Some(("pub(crate)", "a::b;"))
    );
    assert_eq!(statement("pub use a;"), Some(("pub", "a;")));
    assert_eq!(statement("    use a;"), Some(("", "a;")));
    assert_eq!(statement("let it = use_a;"), None);
}

#[test]
fn a_cycle_through_other_files_is_found() {
    let edges = [("a", "b"), ("b", "c"), ("c", "a"), ("d", "a"), ("e", "d")];
    let mut graph = Graph::new();
    for (from, to) in edges {
        graph.entry(from.into()).or_default().insert(to.into());
    }
    assert_eq!(
        circles(&graph),
        BTreeSet::from([BTreeSet::from(["a", "b", "c"])])
    );
}
