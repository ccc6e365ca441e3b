//! Tests that CMake projects can use Shoal: the installed one, and one that is built as a part of the project. A part
//! of `cargo xtask test`.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use crate::command::run as run_command;
use crate::files::{self, at, root, target};
use crate::installed::{Installed, file_below, run_all, say, tool};
use crate::link::{needs_no_library, stays_loaded};

impl Installed {
    /// Builds the programs of tests/install in each way, and runs them.
    pub(crate) fn cmake(&self, tools: &Path) -> Result<(), String> {
        let prefix = format!("-DCMAKE_PREFIX_PATH={}", self.prefix.display());
        let all = [
            "c-shoal",
            "c-shared",
            "c-static",
            "cpp-shoal",
            "cpp-shared",
            "cpp-static",
        ];
        for how in ["package", "static", "subdirectory", "fetch"] {
            say(&format!("CMake, {how}"));
            let build = self.scratch.join(format!("cmake-{how}"));
            configure(
                tools,
                "tests/install",
                &build,
                &[&format!("-DHOW={how}"), &prefix],
            )?;
            // A fetched folder is built like any other, so one program is enough.
            let one = ["static", "fetch"].contains(&how);
            let names = if one { &all[..1] } else { &all[..] };
            make(tools, &build, names)?;
            run_all(&build, names)?;
            match how {
                "package" => {}
                "static" => needs_no_library(&build.join(names[0]))?,
                _ => stays_loaded(&file_below(&build, "libshoal.so")?)?,
            }
        }
        self.parent(tools)?;
        self.checkout(tools)
    }

    /// `cmake --install` of the checkout itself, with folders that are relative.
    fn checkout(&self, tools: &Path) -> Result<(), String> {
        say("CMake, the checkout is installed");
        let build = self.scratch.join("cmake-checkout");
        configure(
            tools,
            ".",
            &build,
            &["-DCMAKE_INSTALL_LIBDIR=lib/some-machine"],
        )?;
        let place = self.scratch.join("cmake-place");
        let _ = fs::remove_dir_all(&place);
        files::create_dir(&place)?;
        for (destdir, below) in [("", "relative"), ("destdir", "destdir/")] {
            let prefix = if destdir.is_empty() {
                "relative"
            } else {
                "/opt/shoal"
            };
            let mut install = tool(tools, "cmake", "--install");
            install.arg(&build).arg("--prefix").arg(prefix);
            install.current_dir(&place).env("DESTDIR", destdir);
            // The target folder is that of the build.
            install.env_remove("CARGO_TARGET_DIR").stdout(Stdio::null());
            run_command(&mut install)?;
            let library = file_below(&place.join(below), "libshoal.so")?;
            if !library.ends_with("lib/some-machine/libshoal.so") {
                return Err(format!("{} is in another folder", library.display()));
            }
        }
        Ok(())
    }

    /// A project with Shoal as a part installs a program and libraries, and another project uses them. Nothing is
    /// used from where it was built.
    fn parent(&self, tools: &Path) -> Result<(), String> {
        say("CMake, a project with Shoal as a part is installed and moved");
        let [build, moved, consumer] =
            ["parent", "moved", "consumer"].map(|it| self.scratch.join(format!("cmake-{it}")));
        configure(tools, "tests/install/parent", &build, &[])?;
        make(tools, &build, &["all"])?;
        let staged = self.scratch.join("cmake-staged");
        let _ = fs::remove_dir_all(&staged);
        let mut install = tool(tools, "cmake", "--install");
        install.arg(&build).arg("--prefix").arg(&staged);
        run_command(install.env_remove("DESTDIR").stdout(Stdio::null()))?;
        let _ = fs::remove_dir_all(&moved);
        fs::rename(&staged, &moved).map_err(at(&staged))?;
        fs::remove_dir_all(&build).map_err(at(&build))?;

        run_all(&moved.join("bin"), &["exchange"])?;
        let found = format!("-DCMAKE_PREFIX_PATH={}", moved.display());
        configure(tools, "tests/install/parent/consumer", &consumer, &[&found])?;
        make(tools, &consumer, &["all"])?;
        run_all(&consumer, &["with-static", "with-shared"])
    }
}

/// Configures the project of a folder of the checkout.
fn configure(tools: &Path, source: &str, build: &Path, args: &[&str]) -> Result<(), String> {
    let _ = fs::remove_dir_all(build);
    let mut configure = tool(tools, "cmake", "-G Ninja -DCMAKE_BUILD_TYPE=Release -S");
    configure.arg(source).arg("-B").arg(build).args(args);
    configure.arg(format!("-DSHOAL_SOURCE={}", root().display()));
    configure.arg(format!("-DSHOAL_CARGO_TARGET_DIR={}", target().display()));
    // The same features as before, so that cargo does not build again.
    configure.arg("-DSHOAL_CARGO_ARGS=--features;cli");
    run_command(configure.stdout(Stdio::null()))
}

fn make(tools: &Path, build: &Path, names: &[&str]) -> Result<(), String> {
    let mut make = tool(tools, "cmake", "--build");
    make.arg(build).arg("--target").args(names);
    run_command(make.stdout(Stdio::null()))
}
