//! `cargo xtask header`: src/ffi becomes include/shoal.h.

use std::fs;
use std::path::{Path, PathBuf};

/// What the header is made from, in the order in which it appears there.
const SOURCES: [&str; 24] = [
    "src/error.rs",
    "src/ffi/status.rs",
    "src/ffi/args.rs",
    "src/ffi/options.rs",
    "src/ffi/queue.rs",
    "src/ffi/reserve.rs",
    "src/ffi/lease.rs",
    "src/ffi/map.rs",
    "src/ffi/keys.rs",
    "src/ffi/watched.rs",
    "src/ffi/list.rs",
    "src/ffi/pipe.rs",
    "src/ffi/spawn.rs",
    "src/ffi/process.rs",
    "src/ffi/wait.rs",
    "src/ffi/waits.rs",
    "src/ffi/device.rs",
    "src/ffi/lock.rs",
    "src/ffi/semaphore.rs",
    "src/ffi/event.rs",
    "src/ffi/condition.rs",
    "src/ffi/barrier.rs",
    "src/ffi/rwlock.rs",
    "src/ffi/array.rs",
];

const HEADER: &str = "include/shoal.h";

/// Writes include/shoal.h, or with `check` only says whether it is what it should be.
pub(crate) fn header(check: bool) -> Result<(), String> {
    let path = root().join(HEADER);
    let text = generate()?;
    let old = fs::read_to_string(&path).unwrap_or_default();
    if old == text {
        return Ok(());
    }
    if !check {
        let dir = path.parent().ok_or("the header has no directory")?;
        fs::create_dir_all(dir).map_err(|err| format!("{}: {err}", dir.display()))?;
        return fs::write(&path, text).map_err(|err| format!("{}: {err}", path.display()));
    }
    let pairs = old.lines().zip(text.lines());
    let line = pairs.take_while(|(old, new)| old == new).count();
    Err(format!(
        "{HEADER} is not what src/ffi says, from line {} on:\n  has:    {}\n  should: {}\n\
         Run `cargo xtask header` and commit what it writes.",
        line + 1,
        old.lines().nth(line).unwrap_or("(its end)"),
        text.lines().nth(line).unwrap_or("(its end)"),
    ))
}

/// The repository.
fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).to_owned()
}

fn generate() -> Result<String, String> {
    let mut config = cbindgen::Config::from_file(root().join("cbindgen.toml"))?;
    config.header = Some(introduction()?);
    let mut builder = cbindgen::Builder::new().with_config(config);
    for source in SOURCES {
        builder = builder.with_src(root().join(source));
    }
    let bindings = builder.generate().map_err(|err| err.to_string())?;
    let mut text = Vec::new();
    bindings.write(&mut text);
    let text = String::from_utf8(text).map_err(|err| err.to_string())?;
    Ok(tidy(&text))
}

/// What cbindgen has no setting for.
fn tidy(text: &str) -> String {
    // It puts the name of the type before each variant, or nothing; we want the library's.
    let text = text.replace("SHOAL_STATUS_", "SHOAL_");
    // Links are rustdoc's.
    let text = text.replace("[`", "`").replace("`]", "`");
    let lines: Vec<&str> = text.lines().collect();
    let mut out = String::new();
    let mut at = 0;
    while at < lines.len() {
        let line = lines[at];
        let indent = &line[..line.len() - line.trim_start().len()];
        let comment = lines
            .get(at + 1)
            .and_then(|body| body.trim_start().strip_prefix("* "));
        match (
            line.trim_start(),
            comment,
            lines.get(at + 2).map(|end| end.trim()),
        ) {
            // A comment of one line takes one line.
            ("/**", Some(body), Some("*/")) => {
                out += &format!("{indent}/** {body} */\n");
                at += 3;
            }
            _ => {
                out += &match line.rsplit_once(" -") {
                    Some((name, digits)) if line.starts_with("#define") => {
                        format!("{name} (-{digits})\n")
                    }
                    _ => format!("{line}\n"),
                };
                at += 1;
            }
        }
    }
    out
}

/// The documentation of src/ffi/mod.rs as the header's opening comment.
fn introduction() -> Result<String, String> {
    let path = root().join("src/ffi/mod.rs");
    let source = fs::read_to_string(&path).map_err(|err| format!("{}: {err}", path.display()))?;
    let lines = source.lines().map_while(|line| line.strip_prefix("//!"));
    let body: String = lines.map(|line| format!(" *{line}\n")).collect();
    Ok(format!(
        "/*\n * SPDX-License-Identifier: MIT OR Apache-2.0\n\
         \x20* Generated from src/ffi by `cargo xtask header`; edit there.\n */\n\n\
         /**\n{body} */"
    ))
}
