//! `cargo xtask install`: installs the library, its headers, the command line and the manual. `cargo xtask
//! uninstall` removes them.
//!
//! ```text
//! PREFIX/include/          shoal.h  shoal_bindings.h  shoal_tsan.h  shoal.hpp  shoal/*.hpp
//! PREFIX/lib/              libshoal.so -> libshoal.so.0 -> libshoal.so.0.1.0   libshoal.a
//! PREFIX/lib/pkgconfig/    shoal.pc
//! PREFIX/lib/cmake/shoal/  shoal-config.cmake  shoal-config-version.cmake
//! PREFIX/bin/              shoal
//! PREFIX/share/man/        man1  man3  man7
//! PREFIX/share/doc/shoal/  manual.html
//! PREFIX/share/            completions of bash, fish and zsh
//! PREFIX/share/shoal/      installed.txt: what was installed, for `uninstall`
//! ```
//!
//! The shared library is not cargo's: `link` links it from the static one.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use crate::command::{cargo, run as run_command};
use crate::files::{self, at, root, target};
use crate::header::package_version;
use crate::link::{link, soname};
use crate::{html, man};

/// The list of installed files, relative to the prefix.
const MANIFEST: &str = "share/shoal/installed.txt";

/// The options of `install` and `uninstall`.
#[derive(Debug)]
pub(crate) struct Options {
    /// The folder of the installation, as programs see it.
    pub(crate) prefix: PathBuf,
    /// The folder of libraries in the prefix.
    pub(crate) libdir: String,
    /// A folder in front of all paths, for packages.
    pub(crate) destdir: Option<PathBuf>,
    /// Whether to install the command line and the manual in addition to the files for building programs.
    pub(crate) all: bool,
    /// More arguments of `cargo build`.
    pub(crate) cargo: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            prefix: PathBuf::from("/usr/local"),
            libdir: "lib".to_owned(),
            destdir: None,
            all: true,
            cargo: Vec::new(),
        }
    }
}

impl Options {
    /// Parses the arguments. A relative folder is relative to the folder in which the task was started.
    pub(crate) fn parse(args: &[&str]) -> Result<Self, String> {
        let destdir = std::env::var_os("DESTDIR").filter(|it| !it.is_empty());
        let mut options = Self {
            destdir: destdir.and_then(|it| std::path::absolute(it).ok()),
            ..Self::default()
        };
        let mut parts = args.splitn(2, |arg| *arg == "--");
        let args = parts.next().unwrap_or_default();
        let cargo = parts.next().unwrap_or_default().iter();
        options.cargo = cargo.map(|it| (*it).to_owned()).collect();
        // `--prefix P`, and `--prefix=P`.
        let mut words = args.iter().flat_map(|arg| match arg.split_once('=') {
            Some((name, value)) if name.starts_with("--") => vec![name, value],
            _ => vec![*arg],
        });
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            match word {
                "--prefix" => options.prefix = prefix(value()?)?,
                "--libdir" => options.libdir = libdir(value()?)?,
                "--library-only" => options.all = false,
                other => {
                    return Err(format!(
                        "{other:?} is none of --prefix P, --libdir lib, --library-only, -- ARGUMENTS"
                    ));
                }
            }
        }
        Ok(options)
    }

    /// The command for a shell that removes this installation.
    fn removal(&self) -> String {
        let prefix = quoted(&self.prefix);
        match &self.destdir {
            None => format!("cargo xtask uninstall --prefix {prefix}"),
            Some(destdir) => {
                let destdir = quoted(destdir);
                format!("DESTDIR={destdir} cargo xtask uninstall --prefix {prefix}")
            }
        }
    }

    /// The prefix as a folder of this machine.
    pub(crate) fn folder(&self) -> PathBuf {
        match &self.destdir {
            None => self.prefix.clone(),
            Some(destdir) => destdir.join(self.prefix.strip_prefix("/").unwrap_or(&self.prefix)),
        }
    }
}

/// A path as one word of a shell.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    match is_plain(&text) {
        true => text,
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

/// Whether no character of a path has a meaning for a shell, pkg-config or CMake.
fn is_plain(path: &str) -> bool {
    path.chars()
        .all(|it| it.is_ascii_alphanumeric() || "/._-+".contains(it))
}

/// The absolute path of the prefix.
fn prefix(text: &str) -> Result<PathBuf, String> {
    let wrong = |why: &str| format!("--prefix {text:?}: {why}");
    let path = std::path::absolute(text).map_err(|err| wrong(&err.to_string()))?;
    if text.contains('\n') {
        return Err(wrong(
            "the files of pkg-config cannot name a folder with a line break",
        ));
    }
    // The checkout's headers are where an installation puts its own, so `uninstall` would remove them.
    let checkout = fs::canonicalize(root()).map_err(|err| wrong(&err.to_string()))?;
    match fs::canonicalize(&path).is_ok_and(|it| it == checkout) {
        true => Err(wrong("this is the checkout itself")),
        false => Ok(path),
    }
}

/// The folder of libraries, which has to be below the prefix.
fn libdir(text: &str) -> Result<String, String> {
    let path = Path::new(text);
    let is_below = path
        .components()
        .all(|it| matches!(it, Component::Normal(_)));
    let parts: Vec<&str> = path.iter().filter_map(|it| it.to_str()).collect();
    // The files for pkg-config and CMake contain it as it is.
    match is_below && !parts.is_empty() && is_plain(text) {
        true => Ok(parts.join("/")),
        false => Err(format!(
            "--libdir {text:?}: it must be a folder below the prefix, such as lib64, with a name of letters, digits \
             and . _ - +"
        )),
    }
}

/// Builds everything and installs it.
pub(crate) fn run(options: &Options) -> Result<(), String> {
    let what = if options.all {
        "--features cli --lib --bins"
    } else {
        "--lib"
    };
    run_command(cargo(&format!("build --release {what}")).args(&options.cargo))?;
    install(options)?;
    println!(
        "installed in {}. This removes it:\n{}",
        options.folder().display(),
        options.removal()
    );
    Ok(())
}

/// Installs the results of cargo. Everything is made in another folder first, so that most failures, such as those of
/// the linker, leave the prefix as it was.
pub(crate) fn install(options: &Options) -> Result<(), String> {
    let stage = target().join(format!("install-{}", std::process::id()));
    let _ = fs::remove_dir_all(&stage);
    let mut made = Installation::into(stage);
    let done = put_all(&mut made, options, &package_version()?).and_then(|()| {
        let mut to = Installation::into(options.folder());
        let done = to.copy_of(&made);
        // The list is written after a failure as well, so that `uninstall` removes the files that were installed.
        let listed = to.finish();
        done.and(listed)
    });
    let _ = fs::remove_dir_all(&made.folder);
    done
}

fn put_all(to: &mut Installation, options: &Options, version: &str) -> Result<(), String> {
    headers(to)?;
    libraries(to, &options.libdir, version)?;
    packages(to, options, version)?;
    if options.all {
        let command = target().join("release/shoal");
        to.file(&command, "bin/shoal", 0o755)?;
        strip(&to.folder.join("bin/shoal"), "--strip-all")?;
        manual(to)?;
        of_command(to, &command)?;
    }
    Ok(())
}

fn headers(to: &mut Installation) -> Result<(), String> {
    for name in ["shoal.h", "shoal_bindings.h", "shoal_tsan.h"] {
        to.file(
            &root().join("include").join(name),
            &format!("include/{name}"),
            0o644,
        )?;
    }
    let cpp = root().join("bindings/cpp");
    to.file(&cpp.join("shoal.hpp"), "include/shoal.hpp", 0o644)?;
    to.tree(&cpp.join("shoal"), "include/shoal")
}

fn libraries(to: &mut Installation, libdir: &str, version: &str) -> Result<(), String> {
    let archive = target().join("release/libshoal.a");
    to.file(&archive, &format!("{libdir}/libshoal.a"), 0o644)?;
    // The names of symbols stay, because programs are linked by them.
    strip(&to.folder.join(libdir).join("libshoal.a"), "--strip-debug")?;

    let file = format!("libshoal.so.{version}");
    let linked = target().join("release").join(&file);
    link(&archive, &linked)?;
    to.file(&linked, &format!("{libdir}/{file}"), 0o755)?;
    strip(&to.folder.join(libdir).join(&file), "--strip-unneeded")?;
    to.link(&file, &format!("{libdir}/{}", soname()?))?;
    to.link(&soname()?, &format!("{libdir}/libshoal.so"))
}

/// Removes debugging information, if `strip` is installed.
fn strip(file: &Path, what: &str) -> Result<(), String> {
    match Command::new("strip").arg(what).arg(file).status() {
        Ok(status) if !status.success() => Err(format!("strip {}: {status}", file.display())),
        _ => Ok(()),
    }
}

/// The files for pkg-config and CMake.
fn packages(to: &mut Installation, options: &Options, version: &str) -> Result<(), String> {
    let libdir = &options.libdir;
    let prefix = for_pkg_config(&options.prefix);
    // From lib/cmake/shoal up to the prefix.
    let up = vec![".."; 2 + libdir.split('/').count()].join("/");
    let (soname, library) = (soname()?, format!("libshoal.so.{version}"));
    let marks = [
        ("@PREFIX@", &prefix),
        ("@LIBDIR@", libdir),
        ("@UP@", &up),
        ("@VERSION@", &version.to_owned()),
        ("@SONAME@", &soname),
        ("@LIBRARY@", &library),
    ];
    for (name, folder) in [
        ("shoal.pc", "pkgconfig"),
        ("shoal-config.cmake", "cmake/shoal"),
        ("shoal-config-version.cmake", "cmake/shoal"),
    ] {
        let template = root().join("packaging").join(format!("{name}.in"));
        let text = files::read(&template)?;
        let text = marks
            .iter()
            .fold(text, |text, (mark, value)| text.replace(mark, value));
        to.text(&text, &format!("{libdir}/{folder}/{name}"))?;
    }
    Ok(())
}

/// A path in the file of pkg-config, which splits at spaces, and for which quotes, `#` and `\` have meanings.
fn for_pkg_config(path: &Path) -> String {
    let mut text = String::new();
    for character in path.display().to_string().chars() {
        if " \t'\"#\\".contains(character) {
            text.push('\\');
        }
        text.push(character);
    }
    text
}

fn manual(to: &mut Installation) -> Result<(), String> {
    let pages = target().join("man");
    let _ = fs::remove_dir_all(&pages);
    man::write(&pages)?;
    to.tree(&pages, "share/man")?;
    let page = target().join("manual.html");
    html::write(&page)?;
    to.file(&page, "share/doc/shoal/manual.html", 0o644)
}

/// The manual pages of the command line, and its completions for three shells.
fn of_command(to: &mut Installation, command: &Path) -> Result<(), String> {
    let run = |args: &[&str]| {
        let output = Command::new(command).args(args).output();
        let output = output.map_err(at(&command))?;
        match output.status.success() {
            true => Ok(output.stdout),
            false => Err(format!(
                "shoal {}: {}",
                args.join(" "),
                String::from_utf8_lossy(&output.stderr)
            )),
        }
    };
    let pages = target().join("man1");
    let _ = fs::remove_dir_all(&pages);
    files::create_dir(&pages)?;
    run(&["man", &pages.to_string_lossy()])?;
    to.tree(&pages, "share/man/man1")?;
    for (shell, path) in [
        ("bash", "share/bash-completion/completions/shoal"),
        ("fish", "share/fish/vendor_completions.d/shoal.fish"),
        ("zsh", "share/zsh/site-functions/_shoal"),
    ] {
        let script = run(&["completions", shell])?;
        to.text(&String::from_utf8_lossy(&script), path)?;
    }
    Ok(())
}

/// Removes the files that were installed in a prefix, and the folders that become empty.
pub(crate) fn uninstall(options: &Options) -> Result<(), String> {
    let folder = options.folder();
    let list = folder.join(MANIFEST);
    let text = fs::read_to_string(&list).map_err(|err| {
        format!(
            "nothing of Shoal is installed in {}: {}: {err}",
            folder.display(),
            list.display()
        )
    })?;
    let is_inside = |path: &&str| !path.starts_with('/') && !path.split('/').any(|it| it == "..");
    let mut parents = BTreeSet::new();
    for path in text.lines().filter(is_inside).chain([MANIFEST]) {
        let path = folder.join(path);
        match fs::remove_file(&path) {
            Err(err) if err.kind() != std::io::ErrorKind::NotFound => {
                return Err(format!("{}: {err}", path.display()));
            }
            _ => {}
        }
        let above = path.ancestors().skip(1).take_while(|it| *it != folder);
        parents.extend(above.map(Path::to_path_buf));
    }
    // Deepest first. A folder that contains other files stays.
    for parent in parents.iter().rev() {
        let _ = fs::remove_dir(parent);
    }
    println!("removed from {}", folder.display());
    Ok(())
}

/// Creates a folder and those above it. Everyone can read them, whatever the umask of the user who installs.
fn make_folder(folder: &Path) -> std::io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(above) = folder.parent() {
        make_folder(above)?;
    }
    fs::create_dir(folder)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))
}

/// An installation in progress. Each file is written under another name and renamed, so that running programs keep
/// the old one.
struct Installation {
    folder: PathBuf,
    files: Vec<String>,
}

impl Installation {
    fn into(folder: PathBuf) -> Self {
        Self {
            folder,
            files: Vec::new(),
        }
    }

    /// Puts all files and links of another installation here.
    fn copy_of(&mut self, other: &Self) -> Result<(), String> {
        for path in &other.files {
            let from = other.folder.join(path);
            if let Ok(to) = fs::read_link(&from) {
                self.put(path, |scratch| symlink(&to, scratch))?;
                continue;
            }
            let mode = fs::metadata(&from).map_err(at(&from))?.permissions().mode();
            self.file(&from, path, mode)?;
        }
        Ok(())
    }

    fn put(
        &mut self,
        path: &str,
        make: impl FnOnce(&Path) -> std::io::Result<()>,
    ) -> Result<(), String> {
        let place = self.folder.join(path);
        let scratch = self.folder.join(format!("{path}.new"));
        let parent = place.parent().unwrap_or(&self.folder);
        let put = make_folder(parent).and_then(|()| {
            let _ = fs::remove_file(&scratch);
            make(&scratch)?;
            fs::rename(&scratch, &place)
        });
        put.map_err(at(&place))?;
        self.files.push(path.to_owned());
        Ok(())
    }

    fn file(&mut self, source: &Path, path: &str, mode: u32) -> Result<(), String> {
        if !source.is_file() {
            return Err(format!("{} does not exist", source.display()));
        }
        self.put(path, |scratch| {
            fs::copy(source, scratch)?;
            fs::set_permissions(scratch, fs::Permissions::from_mode(mode))
        })
    }

    fn text(&mut self, text: &str, path: &str) -> Result<(), String> {
        self.put(path, |scratch| {
            fs::write(scratch, text)?;
            fs::set_permissions(scratch, fs::Permissions::from_mode(0o644))
        })
    }

    fn link(&mut self, to: &str, path: &str) -> Result<(), String> {
        self.put(path, |scratch| symlink(to, scratch))
    }

    /// All files of a folder and its subfolders.
    fn tree(&mut self, source: &Path, path: &str) -> Result<(), String> {
        for from in files::entries(source)? {
            let name = from.file_name().unwrap_or_default();
            let path = format!("{path}/{}", name.to_string_lossy());
            match from.is_dir() {
                true => self.tree(&from, &path)?,
                false => self.file(&from, &path, 0o644)?,
            }
        }
        Ok(())
    }

    /// Writes the list of files. It includes those of earlier installations that this one has not replaced: they
    /// may have another version, or another folder of libraries.
    fn finish(mut self) -> Result<(), String> {
        if self.files.is_empty() {
            return Ok(());
        }
        let before = fs::read_to_string(self.folder.join(MANIFEST)).unwrap_or_default();
        let files = self.files.iter().map(String::as_str);
        let all: BTreeSet<&str> = files.chain(before.lines()).collect();
        let list: String = all.iter().map(|path| format!("{path}\n")).collect();
        self.text(&list, MANIFEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(args: &[&str]) -> Result<(PathBuf, String, bool), String> {
        Options::parse(args).map(|it| (it.prefix, it.libdir, it.all))
    }

    #[test]
    fn a_relative_prefix_is_relative_to_the_folder_in_which_the_task_was_started() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(
            of(&["--prefix", "out"]),
            Ok((here.join("out"), "lib".to_owned(), true))
        );
        let all = of(&["--prefix=/a=b", "--libdir", "lib64/", "--library-only"]);
        assert_eq!(all, Ok((PathBuf::from("/a=b"), "lib64".to_owned(), false)));
    }

    #[test]
    fn what_follows_two_dashes_is_for_cargo() {
        let options = Options::parse(&["--library-only", "--", "--offline", "--prefix=/a"]);
        let options = options.unwrap();
        assert_eq!(options.cargo, ["--offline", "--prefix=/a"]);
        assert_eq!(options.prefix, Options::default().prefix);
    }

    #[test]
    fn a_folder_that_uninstall_could_not_clear_is_refused_and_named() {
        let checkout = root().join("docs/..").display().to_string();
        for (args, why) in [
            (&["--prefix", ""][..], "--prefix \"\""),
            (&["--prefix", &checkout], "the checkout itself"),
            (&["--prefix"], "--prefix needs a value"),
            (&["--libdir", "/usr/lib64"], "--libdir \"/usr/lib64\""),
            (&["--libdir", "lib/../.."], "--libdir"),
            (&["--libdir", ""], "--libdir"),
            (&["--libdir", "lib 64"], "letters, digits"),
            (&["--prefix", "/a\nb"], "a line break"),
            (&["--prefx", "/usr"], "\"--prefx\""),
        ] {
            let error = of(args).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn uninstall_removes_the_files_of_every_installation_into_the_prefix() {
        let folder = std::env::temp_dir().join(format!("shoal-install-{}", std::process::id()));
        let put = |path: &str| {
            let mut to = Installation::into(folder.clone());
            to.text("", path).and_then(|()| to.finish())
        };
        put("lib/libshoal.so.0.1.0").unwrap();
        put("lib64/libshoal.so.0.2.0").unwrap();
        let options = Options {
            prefix: folder.clone(),
            ..Options::default()
        };
        fs::write(folder.join("of-another-program"), "").unwrap();
        uninstall(&options).unwrap();
        let left = crate::installed::files_below(&folder);
        assert_eq!(left, [folder.join("of-another-program")]);
        fs::remove_dir_all(&folder).unwrap();
    }
}
