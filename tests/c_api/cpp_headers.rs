//! The C++ headers under each standard, part by part, and without exceptions.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

use crate::native::{Language, Program, Scratch, link, root, succeed, watched};

const NO_EXCEPTIONS: [&str; 2] = ["-fno-exceptions", "-fno-rtti"];

/// clang++ if it is there, else c++, with the flags of every test in C++. The last standard given counts.
fn second_compiler() -> Command {
    let first = Language::Cpp17.compiler();
    let clang = Command::new("clang++").arg("--version").output();
    if clang.is_ok_and(|version| version.status.success()) {
        let mut second = Command::new("clang++");
        second.current_dir(root()).args(first.get_args());
        return second;
    }
    first
}

/// Compiles a file without making a program of it.
fn compiles(mut compiler: Command, source: &Path, flags: &[&str]) {
    succeed(compiler.arg("-fsyntax-only").args(flags).arg(source));
}

/// Runs `check` for each of `items` on two threads.
fn for_each<T: Send>(items: Vec<T>, check: impl Fn(T) + Sync) {
    let items = Mutex::new(items.into_iter());
    let next = || items.lock().unwrap().next();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(item) = next() {
                    check(item);
                }
            });
        }
    });
}

/// The headers that a program can include.
fn headers() -> Vec<String> {
    let folder = fs::read_dir(root().join("bindings/cpp/shoal")).unwrap();
    let mut parts: Vec<String> = folder
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .map(|name| format!("shoal/{name}"))
        .collect();
    assert!(parts.len() >= 14, "{parts:?}");
    parts.push("shoal.hpp".to_owned());
    parts
}

#[test]
fn before_cpp17_each_header_says_what_it_needs_and_nothing_else() {
    for_each(headers(), |header| {
        let source = Scratch::new("old.cpp", &format!("#include <{header}>\n"));
        let mut compiler = second_compiler();
        compiler.args(["-std=c++14", "-fsyntax-only"]);
        let (success, _, errors) = watched(compiler.arg(source.source()));
        assert!(!success, "{header}");
        let found: Vec<&str> = errors.lines().filter(|it| it.contains("error:")).collect();
        // The second one ends the compilation.
        assert!(found.len() == 2, "{header}: {errors}");
        assert!(
            found[0].contains("compile with -std=c++17"),
            "{header}: {errors}"
        );
    });
}

#[test]
fn each_part_of_the_headers_compiles_by_itself() {
    let strict = ["-Wshadow", "-Wconversion", "-Wold-style-cast"];
    for_each(headers(), |part| {
        let include = format!("#include <{part}>\n");
        let text = format!("{include}{include}int main() {{ return SHOAL_OK; }}\n");
        let source = Scratch::new("part.cpp", &text);
        compiles(Language::Cpp17.compiler(), source.source(), &strict);
        if part == "shoal.hpp" {
            compiles(second_compiler(), source.source(), &strict);
        }
    });
}

// By the compiler that does not build them as C++17, if there is another one.
#[test]
fn the_cpp_tests_compile_under_later_standards() {
    let mut tests = vec![("wrapper", "-std=c++20"), ("no_exceptions", "-std=c++20")];
    let names = ["wrapper", "objects", "processes", "locks", "no_exceptions"];
    // The spelling of C++23 that all these compilers accept.
    tests.extend(names.map(|name| (name, "-std=c++2b")));
    for_each(tests, |(name, std)| {
        let mut flags = vec![std];
        if name == "no_exceptions" {
            flags.extend(NO_EXCEPTIONS);
        }
        let source = format!("tests/cpp/{name}.cpp");
        compiles(second_compiler(), Path::new(&source), &flags);
    });
}

#[test]
fn locks_work_under_the_guards_of_the_standard() {
    let program = Program::build(Language::Cpp17, "tests/cpp/locks.cpp");
    assert_eq!(program.run(&[]), "locks: ok\n");
}

#[test]
fn a_program_without_exceptions_handles_failures_and_expected_outcomes() {
    // One of its two files has exceptions.
    let object = Scratch::new("throwing.cpp", "");
    let mut compiler = Language::Cpp17.compiler();
    compiler.args(["-c", "tests/cpp/throwing.cpp", "-o"]);
    succeed(compiler.arg(object.program()));

    let program = Scratch::new("no-exceptions.cpp", "");
    let mut compiler = Language::Cpp17.compiler();
    compiler.args(NO_EXCEPTIONS);
    compiler.arg("tests/cpp/no_exceptions.cpp");
    compiler
        .arg(object.program())
        .arg("-o")
        .arg(program.program());
    link(&mut compiler);
    succeed(&mut compiler);
    assert_eq!(
        succeed(&mut Command::new(program.program())),
        "no_exceptions: ok\n"
    );
}
