//! Tests of `cargo xtask install` as a command, under unusual conditions. A part of `cargo xtask test`.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::files::{root, target};
use crate::installed::{files_below, is_there, say};

pub(crate) fn run() -> Result<(), String> {
    let folder = target().join("consumers/unusual");
    let _ = fs::remove_dir_all(&folder);
    a_failure_installs_nothing(&folder)?;
    with_a_private_umask(&folder)?;
    let _ = fs::remove_dir_all(&folder);
    at_a_strange_place(&folder)?;
    let _ = fs::remove_dir_all(&folder);
    Ok(())
}

/// Without a linker.
fn a_failure_installs_nothing(prefix: &Path) -> Result<(), String> {
    say("an installation without a linker");
    let mut install = Command::new(program()?);
    install.arg("install").arg("--prefix").arg(prefix);
    let output = output_of(
        install
            .env("CC", "no-such-compiler -pipe")
            .env_remove("DESTDIR"),
    )?;
    let why = String::from_utf8_lossy(&output.stderr);
    let names = why.contains("CC=\"no-such-compiler -pipe\"");
    match (output.status.success(), names, prefix.exists()) {
        (false, true, false) => Ok(()),
        (_, _, exists) => Err(format!(
            "without a linker, `install` says {why:?}, and its prefix exists: {exists}"
        )),
    }
}

/// By a user whose new files are private.
fn with_a_private_umask(folder: &Path) -> Result<(), String> {
    say("an installation with umask 077");
    let mut shell = Command::new("sh");
    shell.args(["-c", "umask 077; exec \"$@\"", "sh"]);
    shell.arg(program()?).arg("install");
    shell.arg("--prefix").arg(folder.join("opt/shoal"));
    let output = output_of(shell.env_remove("DESTDIR"))?;
    let files = files_below(folder);
    let all = files.iter().flat_map(|it| it.ancestors());
    let unreadable: BTreeSet<&Path> = all
        .filter(|it| it.starts_with(folder) && !is_readable(it))
        .collect();
    match (
        output.status.success(),
        files.is_empty(),
        unreadable.is_empty(),
    ) {
        (true, false, true) => Ok(()),
        _ => Err(format!("others cannot read {unreadable:?}: {output:?}")),
    }
}

/// Whether all users can read a file, or list a folder.
fn is_readable(path: &Path) -> bool {
    let needed = if path.is_dir() { 0o755 } else { 0o644 };
    fs::metadata(path).is_ok_and(|it| it.permissions().mode() & needed == needed)
}

/// In a folder whose name has characters with a meaning. pkg-config finds it, and what the installation prints removes it.
fn at_a_strange_place(folder: &Path) -> Result<(), String> {
    say("an installation at a strange place");
    let (destdir, prefix) = (folder.join("a' b\"$c"), "/opt/it's a #1 \\ \"shoal\"\t!");
    let mut install = Command::new(program()?);
    install.args(["install", "--prefix", prefix]);
    let output = output_of(install.env("DESTDIR", &destdir))?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    if files_below(&destdir).is_empty() {
        return Err(format!(
            "nothing is installed in {}: {output:?}",
            destdir.display()
        ));
    }
    if is_there("pkg-config") {
        // The output of pkg-config is quoted for a shell.
        let script = "eval \"set -- $(pkg-config --cflags --libs shoal)\" && printf '%s\\n' \"$@\"";
        let packages = format!("{}{prefix}/lib/pkgconfig", destdir.display());
        let mut ask = Command::new("sh");
        let output = output_of(ask.args(["-c", script]).env("PKG_CONFIG_PATH", packages))?;
        let found = String::from_utf8_lossy(&output.stdout).into_owned();
        if found != format!("-I{prefix}/include\n-L{prefix}/lib\n-lshoal\n") {
            return Err(format!(
                "pkg-config finds {found:?} for {prefix:?}: {output:?}"
            ));
        }
    }
    let removal = printed.lines().last().unwrap_or_default();
    let output = output_of(
        Command::new("sh")
            .args(["-c", removal])
            .env_remove("DESTDIR"),
    )?;
    let left = files_below(folder);
    match (output.status.success(), left.is_empty()) {
        (true, true) => Ok(()),
        _ => Err(format!("{removal} leaves {left:?}: {output:?}")),
    }
}

/// This program.
fn program() -> Result<PathBuf, String> {
    std::env::current_exe().map_err(|err| format!("this task's program: {err}"))
}

/// Runs the command in the checkout.
fn output_of(command: &mut Command) -> Result<Output, String> {
    let output = command.current_dir(root()).output();
    output.map_err(|err| format!("{command:?}: {err}"))
}
