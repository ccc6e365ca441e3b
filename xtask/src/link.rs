//! Links the shared library from the static one: the linker gives each symbol its version (packaging/libshoal.map)
//! and hides all others. Cargo has no option for that.

use std::path::Path;

use crate::command::{program, run};
use crate::files::{self, at, root};
use crate::symbols;

/// The flags of the linker, which CMakeLists.txt reads too.
const FLAGS: &str = "packaging/libshoal.link";

/// Links `out` from `archive`.
pub(crate) fn link(archive: &Path, out: &Path) -> Result<(), String> {
    let given = std::env::var("CC").unwrap_or_default();
    let (compiler, own) = words_of(&given);
    let mut link = program(compiler, own);
    link.args(["-shared", "-Wl,-z,defs", "-Wl,--whole-archive"]);
    link.arg(archive).arg("-Wl,--no-whole-archive");
    link.arg(format!("-Wl,-soname,{}", soname()?));
    link.arg(format!("-Wl,--version-script={}", symbols::MAP));
    let flags = files::read(root().join(FLAGS))?;
    link.args(flags.lines().filter(|line| line.starts_with('-')));
    run(link.arg("-o").arg(out)).map_err(|why| match given.trim() {
        "" => format!("the shared library cannot be linked: {why}"),
        _ => format!("the shared library cannot be linked with CC={given:?}: {why}"),
    })
}

/// The compiler that the environment variable CC names, and its arguments: `gcc -m64`, `ccache gcc`.
fn words_of(given: &str) -> (&str, &str) {
    let given = given.trim();
    match given.split_once(char::is_whitespace) {
        Some(words) => words,
        None if given.is_empty() => ("cc", ""),
        None => (given, ""),
    }
}

/// The name by which programs find the library at run time, from build.rs.
pub(crate) fn soname() -> Result<String, String> {
    let text = files::read(root().join("build.rs"))?;
    let (_, rest) = text
        .split_once("-soname,")
        .ok_or("build.rs has no soname")?;
    Ok(rest.split('"').next().unwrap_or_default().to_owned())
}

/// Checks that a program which unloads this library keeps it in memory, where the library's threads execute it.
pub(crate) fn stays_loaded(library: &Path) -> Result<(), String> {
    match dynamic(library)?.contains("NODELETE") {
        true => Ok(()),
        false => Err(format!(
            "{} is not linked with -z nodelete: a program that unloads it would crash",
            library.display()
        )),
    }
}

/// Checks that a program has the library inside.
pub(crate) fn needs_no_library(program: &Path) -> Result<(), String> {
    match dynamic(program)?.contains("libshoal.so") {
        false => Ok(()),
        true => Err(format!("{} needs libshoal.so", program.display())),
    }
}

/// What a program or a library tells the loader, as text.
fn dynamic(file: &Path) -> Result<String, String> {
    let mut read = program("readelf", "--dynamic --wide");
    let output = read.arg(file).output();
    let output = output.map_err(at("readelf"))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compiler_may_have_arguments() {
        assert_eq!(words_of(" gcc -m64  -pipe "), ("gcc", "-m64  -pipe"));
        assert_eq!(words_of("ccache gcc"), ("ccache", "gcc"));
        assert_eq!(words_of("clang"), ("clang", ""));
        assert_eq!(words_of(" "), ("cc", ""));
    }
}
