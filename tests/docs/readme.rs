//! What README.md shows compiles without a warning and does what it says.

use std::fs;
use std::process::Command;

use crate::native::{Language, Scratch, library, link, root, succeed, unique};

/// The README's block in this language, about an object that no other test uses.
fn block(language: &str) -> String {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let opening = format!("\n```{language}\n");
    let (_, rest) = readme
        .split_once(&opening)
        .expect("a block in each language");
    let (code, _) = rest.split_once("\n```").unwrap();
    assert!(code.contains("\"jobs\""), "{code}");
    code.replace("\"jobs\"", &format!("\"{}\"", unique("readme")))
}

#[test]
fn the_rust_lines_put_and_take_a_job() {
    let code = block("rust");
    let code = code.replace('\n', "\n    ");
    let program = format!(
        "fn main() -> Result<(), shoal::Error> {{
    {code}
    assert_eq!(job, b\"resize 17.png\");
    Ok(())
}}
"
    );
    succeed(&mut rust_program(&Scratch::new("readme.rs", &program)));
}

/// Compiles a program in Rust against the library, without a warning.
pub(crate) fn rust_program(scratch: &Scratch) -> Command {
    let built = library().parent().unwrap();
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut compile = Command::new(rustc);
    compile.args(["--edition", "2024", "-D", "warnings", "--extern"]);
    compile.arg(format!("shoal={}", built.join("libshoal.rlib").display()));
    compile
        .arg("-L")
        .arg(format!("dependency={}", built.join("deps").display()));
    compile
        .arg("-o")
        .arg(scratch.program())
        .arg(scratch.source());
    succeed(&mut compile);
    Command::new(scratch.program())
}

#[test]
fn the_c_lines_put_a_job() {
    let code = block("c").replace('\n', "\n    ");
    let program = format!(
        "#include <stdio.h>
#include \"shoal.h\"

int main(void)
{{
    {code}
    return 0;
}}
"
    );
    succeed(&mut c_program(
        Language::C99,
        &Scratch::new("readme.c", &program),
    ));
}

#[test]
fn the_cpp_lines_put_and_take_a_job() {
    let code = block("cpp");
    let (includes, code) = code.split_once("\n\n").unwrap();
    let code = code.replace('\n', "\n    ");
    let program = format!(
        "{includes}

int main()
{{
    {code}
    return job == \"resize 17.png\" ? 0 : 1;
}}
"
    );
    succeed(&mut c_program(
        Language::Cpp17,
        &Scratch::new("readme.cpp", &program),
    ));
}

/// Compiles a program in C or C++ against the library, without a warning.
pub(crate) fn c_program(language: Language, scratch: &Scratch) -> Command {
    let mut compile = language.compiler();
    compile
        .arg(scratch.source())
        .arg("-o")
        .arg(scratch.program());
    link(&mut compile);
    succeed(&mut compile);
    Command::new(scratch.program())
}
