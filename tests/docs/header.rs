//! The C headers declare every function of the library, and follow the rules that they state.

use std::collections::BTreeSet;
use std::ffi::{CStr, c_char};
use std::fs;
use std::process::Command;

use crate::native::{Scratch, cargo, library, root, succeed, watched};
use shoal::Status;

unsafe extern "C" {
    fn shoal_status_name(status: u32) -> *const c_char;
    fn shoal_version() -> *const c_char;
    fn shoal_abi_version() -> u32;
}

fn header(name: &str) -> String {
    fs::read_to_string(root().join("include").join(name)).unwrap()
}

/// A function of a header.
#[derive(Debug)]
struct Function {
    name: String,
    comment: String,
    returns_status: bool,
    nodiscard: bool,
    parameters: Vec<Parameter>,
}

#[derive(Debug)]
struct Parameter {
    ctype: String,
    name: String,
}

/// The purpose of a parameter, in the order of parameters.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Handle,
    Input,
    Timeout,
    Output,
}

impl Parameter {
    fn role(&self, is_first: bool) -> Role {
        let (ctype, name) = (self.ctype.as_str(), self.name.as_str());
        let is_handle = ctype.matches('*').count() == 1
            && (OBJECTS
                .iter()
                .any(|object| ctype == format!("shoal_{object} *"))
                || name == "handle");
        match () {
            () if is_handle && is_first => Role::Handle,
            () if name == "timeout_ns" => Role::Timeout,
            // The size of a buffer.
            () if ["capacity", "max"].contains(&name) => Role::Output,
            () if is_handle
                || self.is_in_place()
                || ["arg", "entry", "compare"].contains(&name) =>
            {
                Role::Input
            }
            () if ctype.ends_with("**") => Role::Output,
            () if ctype.starts_with("const ") || !ctype.contains('*') => Role::Input,
            () => Role::Output,
        }
    }

    /// A message or a view that the function ends or changes.
    fn is_in_place(&self) -> bool {
        ["shoal_message *", "shoal_view *"].contains(&self.ctype.as_str()) && self.name != "out"
    }

    fn is_data(&self) -> bool {
        ["const void *", "const shoal_slice *"].contains(&self.ctype.as_str())
            && self.name != "handle"
    }

    /// An output beside the result.
    fn may_be_null(&self) -> bool {
        self.ctype == "bool *" && self.name != "out"
            || ["version", "index", "sum", "removed", "end"].contains(&self.name.as_str())
    }
}

const OBJECTS: [&str; 15] = [
    "queue",
    "pipe",
    "map",
    "map_iter",
    "list",
    "array",
    "lock",
    "rwlock",
    "semaphore",
    "event",
    "condition",
    "barrier",
    "process",
    "lease",
    "supervisor",
];

/// The functions of a header, each with the comment above it.
fn functions_of(header_name: &str) -> Vec<Function> {
    let text = header(header_name);
    let mut found = Vec::new();
    for part in text.split("\n/**").skip(1) {
        let Some((comment, code)) = part.split_once("*/") else {
            continue;
        };
        // Up to the next item: a function without a comment is found too.
        for declaration in code.split(';') {
            let Some(at) = declaration.find("SHOAL_API") else {
                continue;
            };
            let declaration = declaration[at..].replace('\n', " ");
            if declaration.contains('#') {
                continue;
            }
            let (before, rest) = declaration.split_once('(').unwrap();
            let (parameters, _) = rest.rsplit_once(')').unwrap();
            found.push(Function {
                name: before.rsplit([' ', '*']).next().unwrap().to_owned(),
                comment: comment.to_owned(),
                returns_status: before.contains("shoal_status "),
                nodiscard: before.contains("SHOAL_NODISCARD"),
                parameters: split(parameters)
                    .iter()
                    .filter_map(|text| parameter(text))
                    .collect(),
            });
        }
    }
    found
}

/// Splits at the commas that are in no parentheses.
fn split(parameters: &str) -> Vec<String> {
    let (mut parts, mut depth) = (vec![String::new()], 0);
    for c in parameters.chars() {
        depth += i32::from(c == '(') - i32::from(c == ')');
        match c {
            ',' if depth == 0 => parts.push(String::new()),
            c => parts.last_mut().unwrap().push(c),
        }
    }
    parts
}

fn parameter(text: &str) -> Option<Parameter> {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if text == "void" {
        return None;
    }
    // A pointer to a function is named inside.
    if let Some((_, rest)) = text.split_once("(*") {
        let (name, _) = rest.split_once(')').unwrap();
        let name = name.to_owned();
        return Some(Parameter { ctype: text, name });
    }
    let at = text.rfind([' ', '*']).unwrap() + 1;
    Some(Parameter {
        ctype: text[..at].trim().to_owned(),
        name: text[at..].to_owned(),
    })
}

/// The functions of both headers.
fn functions() -> Vec<Function> {
    let mut all = functions_of("shoal.h");
    all.extend(functions_of("shoal_bindings.h"));
    all
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
    let promised: BTreeSet<String> = functions().into_iter().map(|it| it.name).collect();
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
fn the_headers_compile_without_a_warning_in_every_c_and_cpp() {
    let programs = [
        "#include \"shoal.h\"\nint main(void) { return SHOAL_OK; }\n",
        "#include \"shoal_bindings.h\"\n#include \"shoal.h\"\n#include \"shoal_bindings.h\"\n\
         int main(void) { return SHOAL_OK; }\n",
    ];
    let standards = [
        ("cc", "c", vec!["c99", "c11", "c17", "c2x"]),
        (
            "c++",
            "cpp",
            vec!["c++11", "c++14", "c++17", "c++20", "c++2b"],
        ),
    ];
    for (compiler, ending, standards) in standards {
        for program in programs {
            let scratch = Scratch::new(&format!("header.{ending}"), program);
            for standard in &standards {
                let mut compile = Command::new(compiler);
                compile
                    .arg(format!("-std={standard}"))
                    .arg("-Iinclude")
                    .current_dir(root());
                compile.args(["-pedantic", "-Wall", "-Wextra", "-Werror", "-Wshadow"]);
                compile.args(["-Wconversion", "-Wundef", "-fsyntax-only"]);
                succeed(compile.arg(scratch.source()));
            }
        }
    }
}

/// Declarations that the examples of the headers use and do not contain.
const AROUND_EXAMPLES: &str = "
#include <assert.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include \"shoal_bindings.h\"

extern shoal_queue *q, *jobs, *answers;
extern shoal_map *m;
extern shoal_pipe *p;
extern shoal_lock *lock;
extern shoal_condition *changed;
extern shoal_process *worker;
extern pthread_t thread;
extern char buf[4096];
extern size_t len, frame_size;
extern int client;
extern volatile bool *ready;
void work_on(const void *data, size_t len);
int work();
size_t grab_frame(void *data, size_t len);
void show(const void *data, size_t len);
double add_up(const void *data, size_t len);
void talk_to(int client);
void check_the_ledger(void);
void work_on_the_ledger(void);
void look_up(void);
";

#[test]
fn the_examples_of_the_headers_compile() {
    let mut program = AROUND_EXAMPLES.to_owned();
    let mut count = 0;
    for name in ["shoal.h", "shoal_bindings.h"] {
        let text = header(name);
        // Inside of comments, whose lines begin with " *" or are indented.
        for part in text.split("```c\n").skip(1) {
            let (code, _) = part.split_once("```").unwrap();
            let lines = code
                .lines()
                .map(|line| line.strip_prefix(" * ").unwrap_or(line).trim_end());
            let lines: Vec<&str> = lines.filter(|line| *line != " *").collect();
            // What comes before "..." is a function of its own.
            let code = lines.join("\n");
            let (before, code) = code.split_once("\n...\n").unwrap_or(("", &code));
            let code = format!(
                "{before}\nvoid example{count}(void);\nvoid example{count}(void)\n{{\n{code}\n}}\n"
            );
            program += &code;
            count += 1;
        }
    }
    assert!(count >= 20, "only {count} examples were found");
    let scratch = Scratch::new("examples.c", &program);
    let mut compile = Command::new("cc");
    compile
        .args(["-std=c99", "-D_GNU_SOURCE", "-Iinclude", "-fsyntax-only"])
        .current_dir(root());
    compile.args([
        "-pedantic",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-Wno-old-style-definition",
    ]);
    compile.args([
        "-Wno-unused-but-set-variable",
        "-Wno-strict-prototypes",
        "-Wno-unused-function",
    ]);
    succeed(compile.arg(scratch.source()));
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

    let header = header("shoal.h");
    let (_, in_header) = header.split_once("typedef enum shoal_status {").unwrap();
    let (in_header, _) = in_header.split_once("} shoal_status;").unwrap();
    assert_eq!(pairs(in_header), expected);
    assert_eq!(expected.last().unwrap().1, Status::ErrInternal as u32);

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
    assert!(header("shoal.h").contains(&format!("#define SHOAL_ABI_VERSION {abi}\n")));
    // SAFETY: a constant string of the library.
    let version = unsafe { CStr::from_ptr(shoal_version()) };
    assert_eq!(version.to_str(), Ok(env!("CARGO_PKG_VERSION")));
}

#[test]
fn the_version_of_the_header_is_that_of_the_package() {
    let header = header("shoal.h");
    for (name, value) in [
        (
            "SHOAL_VERSION_MAJOR",
            env!("CARGO_PKG_VERSION_MAJOR").to_owned(),
        ),
        (
            "SHOAL_VERSION_MINOR",
            env!("CARGO_PKG_VERSION_MINOR").to_owned(),
        ),
        (
            "SHOAL_VERSION_PATCH",
            env!("CARGO_PKG_VERSION_PATCH").to_owned(),
        ),
        ("SHOAL_VERSION", format!("{:?}", env!("CARGO_PKG_VERSION"))),
    ] {
        assert!(
            header.contains(&format!("#define {name} {value}\n")),
            "{name} is not {value}"
        );
    }
}

#[test]
fn the_handle_comes_first_then_inputs_the_timeout_and_outputs() {
    for function in functions() {
        let roles = function.parameters.iter().enumerate();
        let roles: Vec<Role> = roles.map(|(at, it)| it.role(at == 0)).collect();
        assert!(
            roles.is_sorted(),
            "{}: {roles:?} of {:?}",
            function.name,
            function.parameters
        );
        let names: Vec<&str> = function
            .parameters
            .iter()
            .map(|it| it.name.as_str())
            .collect();
        if let Some(at) = names.iter().position(|name| *name == "buf") {
            assert_eq!(names.get(at + 1), Some(&"capacity"), "{}", function.name);
            let then: Vec<_> = names[at + 2..].to_vec();
            assert!(
                then.first() == Some(&"len") || then.starts_with(&["lens", "max", "n"]),
                "{}: {then:?} after buf and capacity",
                function.name
            );
        }
        let timeouts = function
            .parameters
            .iter()
            .filter(|it| it.name.contains("timeout"));
        for timeout in timeouts {
            assert_eq!(
                (timeout.ctype.as_str(), timeout.name.as_str()),
                ("int64_t", "timeout_ns")
            );
        }
    }
}

#[test]
fn exactly_the_statuses_that_must_be_checked_are_marked() {
    for function in functions() {
        let parameters = || function.parameters.iter().enumerate();
        let must_be = function.returns_status
            && parameters().any(|(at, it)| match it.role(at == 0) {
                Role::Timeout => true,
                Role::Output if it.name == "owner_died" => true,
                Role::Output => !it.may_be_null(),
                _ => it.is_data() || it.is_in_place(),
            });
        // A call that tries may do nothing.
        let must_be = must_be || function.returns_status && function.name.contains("_try");
        assert_eq!(function.nodiscard, must_be, "{}", function.name);
    }
}

#[test]
fn every_object_is_opened_and_freed_in_the_same_way() {
    let all = functions();
    let find = |name: &str| all.iter().find(|function| function.name == name);
    for object in OBJECTS {
        let free = find(&format!("shoal_{object}_free")).expect(object);
        assert_eq!(free.parameters.len(), 1, "{object}");
        let Some(open) = find(&format!("shoal_{object}_open")) else {
            let started = ["map_iter", "process", "lease", "supervisor"];
            assert!(started.contains(&object), "{object}");
            continue;
        };
        let last: Vec<_> = open.parameters.iter().rev().take(2).collect();
        assert_eq!(
            (last[0].ctype.as_str(), last[0].name.as_str()),
            ("bool *", "created")
        );
        assert_eq!(
            (last[1].ctype.as_str(), last[1].name.as_str()),
            (&*format!("shoal_{object} **"), "out")
        );
        assert_eq!(open.parameters[0].name, "name");
        assert!(open.comment.contains("see \"Opening\""), "{object}");
        for gone in ["name", "unlink"] {
            assert!(
                find(&format!("shoal_{object}_{gone}")).is_none(),
                "{object}_{gone}"
            );
        }
    }
}

#[test]
fn options_and_statistics_begin_with_their_size() {
    let mut found = 0;
    for part in header("shoal.h").split("\ntypedef struct ").skip(1) {
        let Some((name, fields)) = part.split_once(" {") else {
            continue;
        };
        if name.ends_with("_options") || name.ends_with("_stats") {
            let code = fields
                .lines()
                .find(|line| !line.trim().is_empty() && !line.contains('*'));
            assert_eq!(code.map(str::trim), Some("size_t size;"), "{name}");
            found += 1;
        }
    }
    assert!(found >= 16, "{found}");
}

#[test]
fn every_function_is_documented_once_and_stands_with_those_of_its_object() {
    let all = functions();
    let names: BTreeSet<&str> = all.iter().map(|function| function.name.as_str()).collect();
    assert_eq!(names.len(), all.len(), "a function is there twice");
    let comments: BTreeSet<&str> = all.iter().map(|it| it.comment.as_str()).collect();
    for function in &all {
        assert!(
            function.comment.trim().len() > 10,
            "{} has no comment",
            function.name
        );
    }
    // Of objects whose opening, freeing and statistics are the same the comments are, too.
    assert!(comments.len() > all.len() / 2);

    let mut order = Vec::new();
    for function in functions_of("shoal.h") {
        let object = function.name.split('_').nth(1).unwrap().to_owned();
        if order.last() != Some(&object) {
            order.push(object);
        }
    }
    let known = |name: &String| OBJECTS.contains(&name.as_str()) || name == "device";
    let order: Vec<String> = order.into_iter().filter(known).collect();
    let once: BTreeSet<&String> = order.iter().collect();
    assert_eq!(once.len(), order.len(), "{order:?}");
}
