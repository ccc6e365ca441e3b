//! `cargo xtask header`: generates include/shoal.h and include/shoal_bindings.h from src/ffi.
//!
//! A header is an introduction and sections. A section is the output of cbindgen for some files, under the
//! documentation of the first of them. Types are declared in an earlier section than their use.

use std::fs;

use crate::files::{self, root};
use crate::tsan;

/// The sections of shoal.h: the file that introduces each, and the others.
pub(crate) const SECTIONS: [&[&str]; 17] = [
    &["general.rs", "../error.rs", "args.rs", "options.rs"],
    &["queue.rs", "message.rs"],
    &["pipe.rs"],
    &["map.rs", "keys.rs", "view.rs"],
    &["list.rs"],
    &["array.rs"],
    &["lock.rs"],
    &["rwlock.rs"],
    &["semaphore.rs"],
    &["event.rs"],
    &["condition.rs"],
    &["barrier.rs"],
    &["wait.rs"],
    &["device.rs"],
    &["lease.rs"],
    &["process.rs", "spawn.rs"],
    &["supervisor.rs"],
];

const MACROS: &str = "#if defined(__GNUC__)
#define SHOAL_API __attribute__((visibility(\"default\")))
#define SHOAL_NODISCARD __attribute__((warn_unused_result))
#else
#define SHOAL_API
#define SHOAL_NODISCARD
#endif

/** In `shoal_spawn_options.stdio`: descriptor n of this process, which stays yours. */
#define SHOAL_STDIO_FD(n) ((n) ^ SHOAL_STDIO_IS_FD)
";

/// The longest line of a declaration.
const WIDTH: usize = 100;

const RULE: &str =
    "---------------------------------------------------------------------------------------------";

/// The end of shoal.h. GCC defines a macro under the sanitizer; Clang has `__has_feature`.
const SANITIZER: &str = "#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SHOAL_WITH_TSAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__) || defined(SHOAL_WITH_TSAN)
#include \"shoal_tsan.h\"
#endif
";

/// Writes the C headers, or with `check` only checks that they are up to date.
pub(crate) fn headers(check: bool) -> Result<(), String> {
    let (main, bindings) = (main_header()?, bindings_header()?);
    write("include/shoal.h", &main, check)?;
    write("include/shoal_bindings.h", &bindings, check)?;
    write(
        "include/shoal_tsan.h",
        &tsan::header(&main, &bindings),
        check,
    )
}

pub(crate) fn write(name: &str, text: &str, check: bool) -> Result<(), String> {
    let path = root().join(name);
    let old = fs::read_to_string(&path).unwrap_or_default();
    if old == text {
        return Ok(());
    }
    if !check {
        return files::write(path, text);
    }
    let pairs = old.lines().zip(text.lines());
    let line = pairs.take_while(|(old, new)| old == new).count();
    Err(format!(
        "{name} is not what src/ffi says, from line {} on:\n  has:    {}\n  should: {}\n\
         Run `cargo xtask header` and commit what it writes.",
        line + 1,
        old.lines().nth(line).unwrap_or("(its end)"),
        text.lines().nth(line).unwrap_or("(its end)"),
    ))
}

fn main_header() -> Result<String, String> {
    let (mut contents, mut sections) = (String::new(), String::new());
    for files in SECTIONS {
        let doc = documentation(files[0])?;
        let (title, rest) = doc.split_once('\n').unwrap_or((&doc, ""));
        let about = rest.trim().split_inclusive('.').next().unwrap_or("");
        let about = about.split_whitespace().collect::<Vec<_>>().join(" ");
        contents += &format!("- {title}: {}\n", lower_first(&about));
        sections += &format!("/* {RULE}\n{}   {RULE} */\n\n", indented("   ", &doc));
        sections += &generate(files)?;
        sections.push('\n');
    }
    let introduction = documentation("mod.rs")?.replace("@contents\n", &contents);
    let body = format!("{}\n{MACROS}\n", version()?);
    let includes = "#include <stdbool.h>\n#include <stddef.h>\n#include <stdint.h>\n";
    Ok(around(
        "SHOAL_H",
        &introduction,
        &format!("{includes}\n{body}"),
        &sections,
        SANITIZER,
    ))
}

fn bindings_header() -> Result<String, String> {
    let introduction = documentation("bindings.rs")?;
    let functions = generate(&["bindings.rs"])?;
    let header = around(
        "SHOAL_BINDINGS_H",
        &introduction,
        "",
        &format!("{functions}\n"),
        "",
    );
    // Before the guard, because shoal.h includes this header for the sanitizer.
    Ok(header.replacen(
        "#ifndef SHOAL_BINDINGS_H",
        "#include \"shoal.h\"\n\n#ifndef SHOAL_BINDINGS_H",
        1,
    ))
}

/// Wraps declarations into a complete header.
fn around(guard: &str, introduction: &str, top: &str, declarations: &str, end: &str) -> String {
    format!(
        "/*\n * SPDX-License-Identifier: MIT OR Apache-2.0\n \
         * Generated from src/ffi by `cargo xtask header`; edit there.\n */\n\n\
         /**\n{} */\n\n#ifndef {guard}\n#define {guard}\n\n{top}\
         #ifdef __cplusplus\nextern \"C\" {{\n#endif\n\n{declarations}\
         #ifdef __cplusplus\n}}\n#endif\n\n{end}{}#endif /* {guard} */\n",
        indented(" * ", introduction),
        if end.is_empty() { "" } else { "\n" },
    )
}

/// The version in Cargo.toml.
pub(crate) fn package_version() -> Result<String, String> {
    let manifest = root().join("Cargo.toml");
    let text = files::read(&manifest)?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("version = \""));
    let version = line.and_then(|line| line.strip_suffix('"'));
    Ok(version.ok_or("Cargo.toml has no version")?.to_owned())
}

/// The version as macros.
fn version() -> Result<String, String> {
    let version = package_version()?;
    let mut numbers = version.split('.');
    let mut out = String::new();
    for (part, about) in [
        ("MAJOR", "The first number of the version of this header."),
        ("MINOR", "The second number."),
        ("PATCH", "The third number."),
    ] {
        let number = numbers.next().ok_or("the version is not three numbers")?;
        out += &format!("/** {about} */\n#define SHOAL_VERSION_{part} {number}\n");
    }
    let about = "The version of this header as text; `shoal_version()` is that of the library.";
    Ok(out + &format!("/** {about} */\n#define SHOAL_VERSION \"{version}\"\n"))
}

/// The output of cbindgen for some files of src/ffi.
fn generate(files: &[&str]) -> Result<String, String> {
    let config = cbindgen::Config::from_file(root().join("cbindgen.toml"))?;
    let mut builder = cbindgen::Builder::new().with_config(config);
    for file in files {
        builder = builder.with_src(root().join("src/ffi").join(file));
    }
    let bindings = builder.generate().map_err(|err| err.to_string())?;
    let mut text = Vec::new();
    bindings.write(&mut text);
    let text = String::from_utf8(text).map_err(|err| err.to_string())?;
    Ok(tidy(text.trim_start()))
}

/// Changes the output of cbindgen where it has no setting.
fn tidy(text: &str) -> String {
    // cbindgen prefixes each variant with the name of its type, or with nothing. Statuses have the library's prefix.
    let text = text.replace("SHOAL_STATUS_", "SHOAL_");
    // Tags are for programs that declare a type themselves: the header uses the typedefs.
    let text = text
        .replace("typedef struct ", "typedef@")
        .replace("typedef enum ", "typedef#");
    let text = text
        .replace("struct shoal_", "shoal_")
        .replace("enum shoal_", "shoal_");
    let text = text
        .replace("typedef@", "typedef struct ")
        .replace("typedef#", "typedef enum ");
    // Processes are used before their section; C99 allows only one typedef of a name.
    let (process, tagged) = (
        "    shoal_process *process;",
        "    struct shoal_process *process;",
    );
    let text = text.replace(process, tagged);
    // Links are syntax of rustdoc.
    let text = text.replace("[`", "`").replace("`]", "`");
    let mut lines = text.lines().peekable();
    let mut out = String::new();
    while let Some(line) = lines.next() {
        if line.starts_with("SHOAL_API") {
            let mut whole = line.to_owned();
            while !whole.ends_with(';') {
                let Some(next) = lines.next() else { break };
                whole.push(' ');
                whole += next.trim_start();
            }
            out += &function(&whole);
            continue;
        }
        if line.trim_start() == "/**" {
            let body = lines.next().unwrap_or("");
            let indent = &line[..line.len() - line.trim_start().len()];
            match (body.trim_start().strip_prefix("* "), lines.peek()) {
                // A comment of one line takes one line.
                (Some(body), Some(end)) if end.trim() == "*/" => {
                    out += &format!("{indent}/** {body} */\n");
                    lines.next();
                }
                _ => out += &format!("{line}\n{body}\n"),
            }
            continue;
        }
        out += &match line.rsplit_once(" -") {
            Some((name, digits)) if line.starts_with("#define") => format!("{name} (-{digits})\n"),
            _ => format!("{line}\n"),
        };
    }
    out
}

/// A declaration. If it is long, its attributes are on a separate line, and each line has as many parameters as
/// fit.
fn function(declaration: &str) -> String {
    let mut rest = declaration;
    let mut attributes = Vec::new();
    for attribute in ["SHOAL_API", "SHOAL_NODISCARD"] {
        if let Some(after) = rest.strip_prefix(attribute) {
            attributes.push(attribute);
            rest = after.trim_start();
        }
    }
    let attributes = attributes.join(" ");
    if attributes.len() + 1 + rest.len() <= WIDTH {
        return format!("{attributes} {rest}\n");
    }
    let open = rest.find('(').map_or(0, |at| at + 1);
    let (mut out, mut line) = (format!("{attributes}\n"), String::new());
    for part in rest.split_inclusive(", ") {
        if !line.is_empty() && line.len() + part.trim_end().len() > WIDTH {
            out += &format!("{}\n", line.trim_end());
            line = " ".repeat(open);
        }
        line += part;
    }
    out + &format!("{line}\n")
}

/// The documentation of a file of src/ffi: the lines at its beginning that start with `//!`.
fn documentation(file: &str) -> Result<String, String> {
    let path = root().join("src/ffi").join(file);
    let source = files::read(&path)?;
    let lines = source.lines().map_while(|line| line.strip_prefix("//!"));
    let lines = lines.map(|line| line.strip_prefix(' ').unwrap_or(line));
    Ok(lines.map(|line| format!("{line}\n")).collect())
}

/// Puts `prefix` before each line, and removes white space at its end.
fn indented(prefix: &str, text: &str) -> String {
    let lines = text.lines().map(|line| format!("{prefix}{line}"));
    lines.map(|line| format!("{}\n", line.trim_end())).collect()
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars
        .next()
        .map(|first| first.to_lowercase().collect::<String>());
    first.unwrap_or_default() + chars.as_str()
}
