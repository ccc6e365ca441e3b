//! `cargo xtask deb`: builds packages for Debian and Ubuntu with dpkg-deb, which every such system has.
//!
//! ```text
//! libshoal0      the shared library, under its soname: several versions can be installed together
//! libshoal-dev   the files to build programs: headers, static library, pkg-config, CMake, the manual
//! shoal          the command line
//! ```
//!
//! They contain the files that `cargo xtask install` installs under /usr, and no scripts: the system's own trigger
//! updates the loader's cache.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::command::{cargo, program, run as run_command};
use crate::files::{self, at, root, target};
use crate::header::package_version;
use crate::install::{self, Options};
use crate::installed::{files_below, is_there, on_path, say};
use crate::link::{soname, stays_loaded};

/// The beginning of the first line of each description. It is short, because lists of packages cut off long lines.
const SYNOPSIS: &str = "shared-memory queues, maps and locks";

/// The programs that build packages.
const TOOLS: [&str; 3] = ["dpkg", "dpkg-deb", "gzip"];

/// A package: its name, its description, its dependencies, and which of the installed files it contains.
struct Package {
    name: String,
    section: &'static str,
    about: &'static str,
    depends: String,
    has: fn(&str) -> bool,
}

/// Builds the packages and prints their paths.
pub(crate) fn run() -> Result<(), String> {
    needs_tools(on_path)?;
    run_command(&mut cargo("build --release --features cli --lib --bins"))?;
    for package in build("-Zxz")? {
        println!("{}", package.display());
    }
    Ok(())
}

/// Checks that the tools of Debian are there, before cargo builds anything.
fn needs_tools(is_there: fn(&str) -> bool) -> Result<(), String> {
    let missing: Vec<&str> = TOOLS.into_iter().filter(|it| !is_there(it)).collect();
    match missing.join(", ") {
        none if none.is_empty() => Ok(()),
        missing => Err(format!(
            "`cargo xtask deb` needs {missing}, which Debian and Ubuntu have; on other systems: cargo xtask install"
        )),
    }
}

/// Builds the packages in target/deb from the results of cargo, with this compression.
fn build(compression: &str) -> Result<Vec<PathBuf>, String> {
    let folder = target().join("deb");
    let _ = fs::remove_dir_all(&folder);
    let (all, version) = (folder.join("all"), package_version()?);
    let multiarch = output_of("cc", "-print-multiarch")?;
    install::install(&Options {
        prefix: PathBuf::from("/usr"),
        libdir: format!("lib/{multiarch}"),
        destdir: Some(all.clone()),
        ..Options::default()
    })?;
    arrange_for_debian(
        &all.join("usr"),
        &format!("lib/{multiarch}/libshoal.so.{version}"),
    )?;

    let architecture = output_of("dpkg", "--print-architecture")?;
    let libc = format!("libc6 (>= 2.{})", newest_libc(&all)?);
    let library = format!("libshoal{}", soname()?.rsplit('.').next().unwrap_or("0"));
    let packages = [
        Package {
            name: library.clone(),
            section: "libs",
            about: "shared library",
            depends: format!("{libc}, libgcc-s1"),
            has: |path| path.contains("/libshoal.so."),
        },
        Package {
            name: "libshoal-dev".to_owned(),
            section: "libdevel",
            about: "headers, static library and manual",
            depends: format!("{library} (= {version})"),
            has: |path| !path.contains("/libshoal.so.") && !of_command(path),
        },
        Package {
            name: "shoal".to_owned(),
            section: "utils",
            about: "command line",
            depends: format!("{libc}, libgcc-s1"),
            has: of_command,
        },
    ];
    let files = files_below(&all);
    let mut built = Vec::new();
    for package in packages {
        let tree = folder.join(&package.name);
        for file in &files {
            let path = file.strip_prefix(&all).unwrap_or(file);
            if (package.has)(&format!("/{}", path.display())) {
                let place = tree.join(path);
                files::create_dir(place.parent().unwrap_or(&tree))?;
                fs::rename(file, &place).map_err(at(&place))?;
            }
        }
        control(&tree, &package, &version, &architecture, &library)?;
        let name = format!("{}_{version}_{architecture}.deb", package.name);
        let mut make = program("dpkg-deb", "--root-owner-group");
        make.args([compression, "--build"])
            .arg(&tree)
            .arg(folder.join(&name))
            .stdout(Stdio::null());
        run_command(&mut make)?;
        built.push(folder.join(name));
    }
    let left = files_below(&all);
    match left.is_empty() {
        true => Ok(built),
        false => Err(format!("no package contains {left:?}")),
    }
}

/// Changes what is installed below `usr` to what the rules of Debian ask for.
fn arrange_for_debian(usr: &Path, library: &str) -> Result<(), String> {
    // The package manager has its own list.
    let list = usr.join("share/shoal/installed.txt");
    fs::remove_file(&list).map_err(at(&list))?;
    // Debian's libraries are not executable.
    let library = usr.join(library);
    fs::set_permissions(&library, fs::Permissions::from_mode(0o644)).map_err(at(&library))?;
    // Debian's zsh searches vendor-completions instead of site-functions.
    let zsh = usr.join("share/zsh");
    let moved = fs::rename(zsh.join("site-functions"), zsh.join("vendor-completions"));
    moved.map_err(at(&zsh))?;
    let pages = usr.join("share/man");
    run_command(program("gzip", "-9n").args(files_below(&pages)))?;
    links_to_pages(&pages)
}

fn of_command(path: &str) -> bool {
    ["/usr/bin/", "/man1/", "completion", "/zsh/", "/fish/"]
        .iter()
        .any(|it| path.contains(it))
}

/// Writes the control files of a package, its licence and the list of changes.
fn control(
    tree: &Path,
    package: &Package,
    version: &str,
    architecture: &str,
    library: &str,
) -> Result<(), String> {
    let size: u64 = files_below(tree)
        .iter()
        .filter_map(|it| it.symlink_metadata().ok())
        .map(|it| it.len())
        .sum();
    let text = format!(
        "Package: {}\nVersion: {version}\nArchitecture: {architecture}\nSection: {}\nPriority: optional\n\
         Multi-Arch: {}\nMaintainer: The developers of Shoal <shoal@localhost>\nInstalled-Size: {}\n\
         Depends: {}\nDescription: {SYNOPSIS} - {}\n A process may be killed at any instruction, and the \
         others continue with\n nothing committed lost.\n",
        package.name,
        package.section,
        if package.section == "utils" {
            "foreign"
        } else {
            "same"
        },
        size.div_ceil(1024),
        package.depends,
        package.about,
    );
    let mut files = vec![("DEBIAN/control".to_owned(), text)];
    if package.section == "libs" {
        let shlibs = format!(
            "libshoal {} {library} (>= {version})\n",
            library.trim_start_matches("libshoal")
        );
        files.push(("DEBIAN/shlibs".to_owned(), shlibs));
        files.push((
            "DEBIAN/triggers".to_owned(),
            "activate-noawait ldconfig\n".to_owned(),
        ));
    }
    let documents = format!("usr/share/doc/{}", package.name);
    let read = |name: &str| files::read(root().join(name));
    // Debian's packages refer to its copy of the Apache licence.
    let licence = format!(
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\n\
         Files: *\nCopyright: the developers of Shoal\nLicense: Expat or Apache-2.0\n\n\
         License: Expat\n{}\n\
         License: Apache-2.0\n On Debian systems the text is in /usr/share/common-licenses/Apache-2.0.\n",
        indented(&read("LICENSE-MIT")?)
    );
    files.push((format!("{documents}/copyright"), licence));
    let changes = format!("{documents}/changelog");
    files.push((changes.clone(), read("CHANGELOG.md")?));
    for (name, text) in files {
        let path = tree.join(&name);
        files::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).map_err(at(&path))?;
    }
    run_command(program("gzip", "-9n").arg(tree.join(changes)))?;
    // The modes in a package must not depend on the builder's umask.
    run_command(program("chmod", "-R go-w,go+rX").arg(tree))
}

/// A field of several lines: each line begins with a space, and an empty line is a dot.
fn indented(text: &str) -> String {
    let lines = text.lines().map(|line| match line.trim() {
        "" => " .\n".to_owned(),
        _ => format!(" {line}\n"),
    });
    lines.collect()
}

/// Replaces pages that only refer to another page by links, because the files that they name are compressed.
fn links_to_pages(folder: &Path) -> Result<(), String> {
    for page in files_below(folder) {
        let output = Command::new("gzip").arg("-dc").arg(&page).output();
        let text = output.map(|it| it.stdout).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        if let Some(to) = text.trim().strip_prefix(".so ") {
            let linked = fs::remove_file(&page)
                .and_then(|()| std::os::unix::fs::symlink(format!("../{to}.gz"), &page));
            linked.map_err(at(&page))?;
        }
    }
    Ok(())
}

/// The newest version 2.N of the C library that one of the files needs; returns N.
fn newest_libc(folder: &Path) -> Result<u32, String> {
    let mut newest = 0;
    for file in files_below(folder) {
        let name = file.to_string_lossy().into_owned();
        if !name.contains("/libshoal.so.") && !name.ends_with("/bin/shoal") || file.is_symlink() {
            continue;
        }
        let bytes = fs::read(&file).map_err(at(name))?;
        let text = String::from_utf8_lossy(&bytes);
        let versions = text.split("GLIBC_2.").skip(1);
        let numbers = versions.filter_map(|rest| {
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            digits.parse::<u32>().ok()
        });
        newest = newest.max(numbers.max().unwrap_or(0));
    }
    match newest {
        0 => Err("no file names the version of the C library that it needs".to_owned()),
        newest => Ok(newest),
    }
}

fn output_of(name: &str, args: &str) -> Result<String, String> {
    let output = program(name, args).output().map_err(at(name))?;
    match String::from_utf8_lossy(&output.stdout).trim() {
        "" => Err(format!("{name} {args} prints nothing")),
        printed => Ok(printed.to_owned()),
    }
}

/// Installs the packages into an empty system, builds a program with them, and removes them.
pub(crate) fn try_out() -> Result<(), String> {
    if !TOOLS.into_iter().all(is_there) {
        return Ok(());
    }
    say("Debian packages");
    // The packages are not compressed: that would take longer than everything else here.
    let packages = build("-Znone")?;
    let system = target().join("consumers/system");
    let _ = fs::remove_dir_all(&system);
    let database = system.join("var/lib/dpkg");
    for name in ["info", "updates"] {
        files::create_dir(database.join(name))?;
    }
    files::write(database.join("status"), "")?;
    // The programs use the C library of this system, so the dependencies of the packages are not in the empty one.
    let dpkg = |args: &str| {
        let mut dpkg = program(
            "dpkg",
            "--force-depends --force-not-root --force-script-chrootless",
        );
        dpkg.arg(format!("--root={}", system.display()));
        dpkg.args(args.split_whitespace())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        dpkg
    };
    run_command(dpkg("--install").args(&packages))?;
    let completions = system.join("usr/share/zsh/vendor-completions/_shoal");
    if !completions.is_file() {
        return Err(format!("{} does not exist", completions.display()));
    }

    let multiarch = output_of("cc", "-print-multiarch")?;
    let library = system.join("usr/lib").join(multiarch);
    stays_loaded(&library.join(soname()?))?;
    let mut ask = program("pkg-config", "--cflags --libs shoal");
    ask.env("PKG_CONFIG_SYSROOT_DIR", &system)
        .env("PKG_CONFIG_LIBDIR", library.join("pkgconfig"));
    ask.env("PKG_CONFIG_ALLOW_SYSTEM_CFLAGS", "1")
        .env("PKG_CONFIG_ALLOW_SYSTEM_LIBS", "1");
    let output = ask.output().map_err(at("pkg-config"))?;
    let out = target().join("consumers/program");
    let mut compile = program("cc", "-std=c99 examples/c/exchange.c -o");
    compile
        .arg(&out)
        .args(String::from_utf8_lossy(&output.stdout).split_whitespace());
    run_command(&mut compile)?;
    let mut run = Command::new(&out);
    run.arg(format!("deb-{}", std::process::id()))
        .env("LD_LIBRARY_PATH", &library);
    crate::command::run_expecting(&mut run, &["C got: hello from C"])?;
    let mut version = Command::new(system.join("usr/bin/shoal"));
    run_command(version.arg("--version"))?;

    let names = packages
        .iter()
        .filter_map(|it| it.file_name()?.to_str()?.split('_').next());
    run_command(dpkg("--purge").args(names))?;
    let left: Vec<PathBuf> = files_below(&system)
        .into_iter()
        .filter(|it| !it.starts_with(&database))
        .collect();
    match left.is_empty() && !system.join("usr").exists() {
        true => Ok(()),
        false => Err(format!(
            "removing the packages leaves {left:?} in {}",
            system.display()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tools_that_are_missing_are_named() {
        assert_eq!(needs_tools(|_| true), Ok(()));
        let why = needs_tools(|it| it == "gzip").unwrap_err();
        assert!(why.contains("needs dpkg, dpkg-deb, which"), "{why}");
    }
}
