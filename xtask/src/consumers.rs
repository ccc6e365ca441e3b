//! Tests that programs can use an installed Shoal, in each way in which programs are built. A part of `cargo xtask
//! test`.
//!
//! The programs are those of tests/install and those of the manual. If a tool is missing, one line says so.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::command::{cargo, program, run as run_command};
use crate::deb;
use crate::files::{self, at, target};
use crate::install::{self, Options};
use crate::installed::{Installed, files_below, is_there, run_all, run_program, say, tool};
use crate::languages;
use crate::link::stays_loaded;
use crate::manual::EXAMPLES;
use crate::python::Environment;
use crate::{symbols, unusual};

const WARNINGS: [&str; 6] = [
    "-pedantic",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wconversion",
    "-Wno-unused-result",
];

/// Installs the library, and builds and runs all programs with it.
pub(crate) fn run() -> Result<(), String> {
    let installed = Installed::fresh()?;
    installed.exports_what_the_headers_declare()?;
    stays_loaded(&target().join("release/libshoal.so"))?;
    stays_loaded(&installed.lib().join("libshoal.so"))?;
    installed.compilers()?;
    installed.pkg_config()?;
    installed.sanitizers()?;
    installed.build_systems()?;
    installed.rust()?;
    languages::run(&installed)?;
    deb::try_out()?;
    unusual::run()?;
    uninstall_leaves_nothing()
}

impl Installed {
    /// Checks that the shared library exports each function of the headers with its version, and nothing else.
    fn exports_what_the_headers_declare(&self) -> Result<(), String> {
        say("the symbols of the shared library");
        let mut nm = program("nm", "-D --defined-only");
        let output = nm.arg(self.lib().join("libshoal.so")).output();
        let output = output.map_err(at("nm"))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let functions = text.lines().filter(|line| line.contains(" T "));
        let found: BTreeSet<String> = functions
            .filter_map(|line| line.split(' ').next_back())
            .map(str::to_owned)
            .collect();
        let others: Vec<&str> = text
            .lines()
            .filter(|line| !line.contains(" T ") && !line.contains(" A SHOAL_"))
            .collect();
        let expected = symbols::versioned()?;
        match found == expected && others.is_empty() {
            true => Ok(()),
            false => Err(format!(
                "the shared library exports {:?} beyond {}, lacks {:?}, and has {others:?}",
                found.difference(&expected).collect::<Vec<_>>(),
                symbols::MAP,
                expected.difference(&found).collect::<Vec<_>>(),
            )),
        }
    }

    /// Compiles one source file with the shared or the static library, and runs it.
    fn try_out(
        &self,
        compiler: &str,
        flags: &[&str],
        source: &str,
        how: Linked,
    ) -> Result<(), String> {
        say(&format!("{compiler} {} {source}, {how:?}", flags.join(" ")));
        let out = self.scratch.join("program");
        let mut compile = program(compiler, "");
        compile
            .args(flags)
            .args(WARNINGS)
            .arg(source)
            .arg("-o")
            .arg(&out);
        compile.arg("-I").arg(self.prefix.join("include"));
        match how {
            Linked::Shared => {
                compile
                    .arg("-L")
                    .arg(self.lib())
                    .args(["-lshoal", "-pthread"]);
                compile.arg(format!("-Wl,-rpath,{}", self.lib().display()));
            }
            Linked::Static => {
                compile
                    .arg(self.lib().join("libshoal.a"))
                    .args(["-pthread", "-ldl", "-lm"]);
            }
        }
        run_command(&mut compile)?;
        match flags.iter().any(|it| it.starts_with("-fsanitize")) {
            true => run_program(&mut at_fixed_addresses(&out), source),
            false => run_program(&mut Command::new(&out), source),
        }
    }

    /// Tests the oldest and the newest standard of each language. Other tests compile the headers with the
    /// standards in between.
    fn compilers(&self) -> Result<(), String> {
        let [objects, sync, workers] = EXAMPLES;
        for compiler in ["gcc", "clang"].into_iter().filter(|it| is_there(it)) {
            self.try_out(compiler, &["-std=c99"], objects, Linked::Shared)?;
            self.try_out(compiler, &["-std=c99"], sync, Linked::Static)?;
            self.try_out(compiler, &["-std=c99"], workers, Linked::Shared)?;
            let exchange = "tests/install/exchange.c";
            self.try_out(compiler, &["-std=c2x"], exchange, Linked::Shared)?;
        }
        for compiler in ["g++", "clang++"].into_iter().filter(|it| is_there(it)) {
            let exchange = "tests/install/exchange.cpp";
            self.try_out(compiler, &["-std=c++17"], exchange, Linked::Static)?;
            self.try_out(compiler, &["-std=c++2b"], exchange, Linked::Shared)?;
        }
        Ok(())
    }

    /// Tests the flags of pkg-config: for the shared library, and for a statically linked program.
    fn pkg_config(&self) -> Result<(), String> {
        if !is_there("pkg-config") {
            return Ok(());
        }
        for (asked, also) in [
            ("--cflags --libs", ""),
            ("--static --cflags --libs", "-static"),
        ] {
            say(&format!("pkg-config {asked} shoal, {also}"));
            let mut ask = program("pkg-config", &format!("{asked} shoal"));
            let output = ask
                .env("PKG_CONFIG_PATH", self.lib().join("pkgconfig"))
                .output();
            let output = output.map_err(at("pkg-config"))?;
            let flags = String::from_utf8_lossy(&output.stdout).into_owned();
            let out = self.scratch.join("program");
            // The linker only warns that some functions of a static C library need the shared one.
            let mut compile = program("cc", "-std=c99 tests/install/exchange.c -pthread");
            compile
                .args(also.split_whitespace())
                .args(flags.split_whitespace());
            compile
                .arg(format!("-Wl,-rpath,{}", self.lib().display()))
                .arg("-o")
                .arg(&out);
            run_command(&mut compile)?;
            run_program(&mut Command::new(&out), "")?;
        }
        Ok(())
    }

    fn sanitizers(&self) -> Result<(), String> {
        let (c, cpp) = ("tests/install/exchange.c", "tests/install/exchange.cpp");
        for (compiler, standard, source) in [("gcc", "-std=c99", c), ("g++", "-std=c++17", cpp)] {
            if !is_there(compiler) || !has_sanitizers(compiler, &self.scratch) {
                continue;
            }
            let address = ["-g", standard, "-fsanitize=address,undefined"];
            self.try_out(compiler, &address, source, Linked::Shared)?;
            self.try_out(compiler, &address, source, Linked::Static)?;
            let thread = ["-g", standard, "-fsanitize=thread"];
            self.try_out(compiler, &thread, source, Linked::Shared)?;
            // Without the annotations of the header the sanitizer must report a race. This shows that it checks
            // the data.
            let unannotated = ["-g", standard, "-fsanitize=thread", "-DSHOAL_TSAN_H"];
            if source == cpp {
                continue;
            }
            match self.try_out(compiler, &unannotated, source, Linked::Shared) {
                Ok(()) => return Err("the sanitizer finds no race without shoal_tsan.h".to_owned()),
                Err(why) => println!(
                    "   a race, as expected: {}",
                    why.lines().next().unwrap_or("")
                ),
            }
        }
        Ok(())
    }

    fn build_systems(&self) -> Result<(), String> {
        let environment = Environment::prepare("python3")?;
        let Some(tools) = environment.build_tools() else {
            println!("-- cmake, ninja and meson cannot be installed: their tests are skipped");
            return Ok(());
        };
        self.cmake(&tools)?;
        say("Meson");
        let build = self.scratch.join("meson");
        let _ = fs::remove_dir_all(&build);
        let mut configure = tool(&tools, "meson", "setup");
        configure.arg(&build).arg("tests/install");
        configure.env("PKG_CONFIG_PATH", self.lib().join("pkgconfig"));
        configure.arg(format!("-Dc_link_args=-Wl,-rpath,{}", self.lib().display()));
        configure.arg(format!(
            "-Dcpp_link_args=-Wl,-rpath,{}",
            self.lib().display()
        ));
        run_command(configure.stdout(Stdio::null()))?;
        run_command(
            tool(&tools, "ninja", "-C")
                .arg(&build)
                .stdout(Stdio::null()),
        )?;
        run_all(
            &build,
            &["c-shared", "c-static", "cpp-shared", "cpp-static"],
        )
    }

    /// Tests a separate project that depends on the checkout by its path.
    fn rust(&self) -> Result<(), String> {
        say("a Rust program by path");
        let mut run =
            cargo("run --quiet --manifest-path tests/install/rust/Cargo.toml --target-dir");
        run_program(run.arg(self.scratch.join("rust")), "")
    }
}

#[derive(Debug, Clone, Copy)]
enum Linked {
    Shared,
    Static,
}

/// Runs the program without address randomisation, if that is allowed: some kernels choose addresses that the
/// sanitizers' memory layout does not allow.
fn at_fixed_addresses(path: &Path) -> Command {
    let is_allowed = Command::new("setarch")
        .args(["-R", "true"])
        .stderr(Stdio::null())
        .status();
    match is_allowed.is_ok_and(|it| it.success()) {
        true => {
            let mut run = program("setarch", "-R");
            run.arg(path);
            run
        }
        false => Command::new(path),
    }
}

/// Whether the compiler has the libraries of the sanitizers.
fn has_sanitizers(compiler: &str, scratch: &Path) -> bool {
    let empty = scratch.join("empty.c");
    let written = fs::write(&empty, "int main(void) { return 0; }\n").is_ok();
    let links = |what: &str| {
        let mut compile = program(compiler, &format!("-fsanitize={what} -o /dev/null"));
        compile.arg(&empty).stderr(Stdio::null());
        compile.status().is_ok_and(|it| it.success())
    };
    let has = written && links("address,undefined") && links("thread");
    if !has {
        println!("-- {compiler} has no sanitizers: they are skipped");
    }
    has
}

/// Installs below DESTDIR, uninstalls, and checks that nothing is left.
fn uninstall_leaves_nothing() -> Result<(), String> {
    say("uninstall");
    let destdir = target().join("consumers/destdir");
    let _ = fs::remove_dir_all(&destdir);
    let options = Options {
        prefix: PathBuf::from("/opt/shoal"),
        libdir: "lib/some-machine".to_owned(),
        destdir: Some(destdir.clone()),
        ..Options::default()
    };
    let own = destdir.join("opt/shoal/share/man/of-another-program");
    files::create_dir(&own)?;
    install::install(&options)?;
    let config = destdir.join("opt/shoal/lib/some-machine/cmake/shoal/shoal-config.cmake");
    let text = files::read(&config)?;
    if !text.contains("\"${_shoal_prefix}/../../../..\"") {
        return Err(format!(
            "{} does not lead up to the prefix",
            config.display()
        ));
    }
    install::uninstall(&options)?;
    let left = files_below(&destdir);
    let stays = own.is_dir();
    let _ = fs::remove_dir_all(&destdir);
    match (left.is_empty(), stays) {
        (true, true) => Ok(()),
        (false, _) => Err(format!("uninstall leaves {left:?}")),
        (_, false) => Err("uninstall removes a folder that is not its own".to_owned()),
    }
}
