//! Runs the commands of docs/languages.md exactly as the page has them. A part of `cargo xtask test`.
//!
//! A program in C holds the queue meanwhile. Each program puts a message after the one that is in the queue and
//! gets that one, so each reads the message of the language before it.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::command::{program, run as run_command, run_expecting};
use crate::files::{self, at, root, target};
use crate::installed::{Installed, is_there, say};
use crate::python::Environment;

const PAGE: &str = "docs/languages.md";

/// The languages of the page, and the tools that their programs need.
const LANGUAGES: [(&str, &[&str]); 8] = [
    ("C", &["cc", "pkg-config"]),
    ("C++", &["c++", "pkg-config"]),
    ("Python", &[]),
    ("Rust", &[]),
    ("Node", &["node", "npm"]),
    ("Java", &["java"]),
    ("Go", &["go", "pkg-config"]),
    ("Ruby", &["ruby"]),
];

/// Runs the programs of all languages that are installed.
pub(crate) fn run(installed: &Installed) -> Result<(), String> {
    let folder = target().join("consumers/languages");
    let _ = fs::remove_dir_all(folder.join("examples"));
    copy(&root().join("examples"), &folder.join("examples"))?;
    let objects = PathBuf::from(format!("/dev/shm/shoal-languages-{}", std::process::id()));
    files::create_dir(&objects)?;
    let done = chain(installed, &folder, &objects);
    let left = fs::read_dir(&objects).map_or(0, Iterator::count);
    let _ = fs::remove_dir_all(&objects);
    match left {
        0 => done,
        _ => done.and(Err("the programs leave objects behind".to_owned())),
    }
}

fn chain(installed: &Installed, folder: &Path, objects: &Path) -> Result<(), String> {
    let text = files::read(root().join(PAGE))?;
    let holder = folder.join("holder");
    let mut compile = program("cc", "-std=c99 tests/install/holder.c -pthread -ldl -lm -o");
    compile
        .arg(&holder)
        .arg("-I")
        .arg(installed.prefix.join("include"));
    run_command(compile.arg(installed.prefix.join("lib/libshoal.a")))?;
    let mut hold = Command::new(&holder);
    hold.arg("jobs").env("SHOAL_DIR", objects);
    let mut held = hold
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(at(&holder))?;
    let mut output = BufReader::new(held.stdout.take().ok_or("no output")?);
    let mut ready = String::new();
    let _ = output.read_line(&mut ready);

    let mut before = "the test";
    let mut result = Ok(());
    for (language, needs) in LANGUAGES {
        if !needs.iter().all(|it| is_there(it)) {
            continue;
        }
        let Some(mut command) = command(language, &text, installed)? else {
            continue;
        };
        say(language);
        if language != "Rust" {
            command.current_dir(folder);
        }
        command.env("SHOAL_DIR", objects);
        let expected = format!("{language} got: hello from {before}");
        result = result.and(run_expecting(&mut command, &[&expected]));
        before = language;
    }
    // The holder ends at the end of its input.
    drop(held.stdin.take());
    let mut last = String::new();
    let _ = output.read_to_string(&mut last);
    let _ = held.wait();
    result?;
    match last.trim() == format!("last: hello from {before}") {
        true => Ok(()),
        false => Err(format!("{before} put another message: {last:?}")),
    }
}

/// The command of the page for a language, with its environment.
fn command(language: &str, page: &str, installed: &Installed) -> Result<Option<Command>, String> {
    let script =
        script(page, language).ok_or_else(|| format!("{PAGE} has no command for {language}"))?;
    let mut command = Command::new("sh");
    let mut path = std::env::var("PATH").unwrap_or_default();
    match language {
        // The package is installed in the project's environment.
        "Python" => {
            let environment = Environment::prepare("python3")?;
            environment.install()?;
            let program = script
                .rsplit("&& python3 ")
                .next()
                .unwrap_or_default()
                .to_owned();
            return Ok(Some(crate::command::program(
                environment.python(),
                &program,
            )));
        }
        // The same features and profile as before, so that cargo does not build again.
        "Rust" => {
            let script = script.replace("cargo run", "run --quiet --release --features cli");
            return Ok(Some(crate::command::cargo(&script)));
        }
        "Java" => match java() {
            Some(folder) => path = format!("{}:{path}", folder.display()),
            None => {
                println!("-- Java is older than 22: it is skipped");
                return Ok(None);
            }
        },
        _ => {}
    }
    command.args(["-euc", &script]).env("PATH", path);
    command.env("PKG_CONFIG_PATH", installed.prefix.join("lib/pkgconfig"));
    command.env("LD_LIBRARY_PATH", installed.prefix.join("lib"));
    command
        .env("GOCACHE", target().join("go"))
        .env("GOFLAGS", "-mod=mod");
    Ok(Some(command))
}

/// The first shell block under the heading of a language.
fn script(page: &str, language: &str) -> Option<String> {
    let (_, rest) = page.split_once(&format!("\n## {language}\n"))?;
    let part = rest.split("\n## ").next()?;
    let (_, code) = part.split_once("```sh\n")?;
    Some(code.split("\n```").next()?.to_owned())
}

/// The folder of a Java that is new enough: the one on PATH, or one of those in the folder that Debian uses.
fn java() -> Option<PathBuf> {
    let installed = fs::read_dir("/usr/lib/jvm").into_iter().flatten().flatten();
    let installed = installed.map(|entry| entry.path().join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all = std::env::split_paths(&path).chain(installed);
    all.into_iter().find(|folder| {
        // "java 25.0.1 2025-10-21", or "openjdk 17.0.15 …".
        let output = Command::new(folder.join("java")).arg("--version").output();
        let printed = output.map(|it| String::from_utf8_lossy(&it.stdout).into_owned());
        let version = printed.unwrap_or_default();
        let major = version
            .split(' ')
            .nth(1)
            .and_then(|it| it.split('.').next());
        major
            .and_then(|it| it.parse::<u32>().ok())
            .is_some_and(|it| it >= 22)
    })
}

/// Copies a folder without `node_modules`.
fn copy(from: &Path, to: &Path) -> Result<(), String> {
    files::create_dir(to)?;
    for path in files::entries(from)? {
        match path.file_name() {
            Some(name) if path.is_dir() && name != "node_modules" => copy(&path, &to.join(name))?,
            _ if path.is_dir() => {}
            _ => files::copy_into(&path, to)?,
        }
    }
    Ok(())
}
