//! The project's tasks: `cargo xtask <task>`. `USAGE` lists them.
//!
//! Their dependencies beyond Rust, a C and C++ compiler and Python go into `target/` and `.venv/` inside the
//! project. Nothing is installed system-wide.

mod abi;
mod bench;
mod bridge;
mod cheader;
mod cmake;
mod command;
mod consumers;
mod cpython;
mod deb;
mod demo;
mod dist;
mod files;
mod generated;
mod header;
mod html;
mod install;
mod installed;
mod languages;
mod leftovers;
mod link;
mod man;
mod manual;
mod proof;
mod python;
mod roff;
mod step;
mod symbols;
mod test;
mod tsan;
mod unusual;

use std::process::ExitCode;

use install::Options;
use test::Choice;

const USAGE: &str = "usage: cargo xtask <task>

  demo               build everything and run the example programs
  test               run every check and every test: Rust, C, C++ and Python
  test --only NAME   run the steps whose names contain NAME
  test --all-pythons the Python tests with every python3.N that is found, too
  proof [--only NAME]
                     forged bytes, Miri, sanitizers, 64-bit Arm: checks beyond the tests
  cpython-tests [--python NAME] [METHOD] [--only WORD]
                     the standard library's tests of multiprocessing, on Shoal's
  dist               build the Python wheel, and try it with every Python that is found
  deb                build packages for Debian and Ubuntu
  bench [ARGS]       measure, beside other queues and the machine's baseline
  bench --html FILE  the same, as a page with charts and all samples
  bench --compare FIRST SECOND
                     compare two reports
  budget [--update]  compare the instructions of hot paths with benches/budget.txt, or write it
  bench --python     measure the Python package; `--help` lists its options
  bench --python --busy 0,1,2,4
                     the same beside this many programs that compute
  header [--check]   write the files that are generated from src/ffi, or check that they are up to date:
                     the headers in include/, Python's declarations, and the versions of the library's
                     symbols (as `symbols` does)
  install [--prefix P] [--libdir lib] [--library-only] [-- ARGS]
                     build, with these arguments of cargo, and install; the environment variable DESTDIR is put
                     in front of all paths
  uninstall [--prefix P]
                     remove the files of `install`
  symbols [--check]  give new functions their version in packaging/libshoal.map
  compat             compare the C interface with that of the last release
  man [FOLDER]       write the manual pages, from the comments of the C headers
  man --html [FILE]  write the same as one page for a browser
  man --check        list the declarations in the headers that lack documentation";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let asks = |words: &[&str]| words.iter().any(|it| ["-h", "--help"].contains(it));
    let done = match words.as_slice() {
        ["help"] => help(),
        // The benchmark has its own help.
        [task, ..] if *task != "bench" && asks(&words) => help(),
        ["demo"] => demo::run(),
        ["dist"] => dist::run(),
        ["deb"] => deb::run(),
        ["test", rest @ ..] => choice(rest).and_then(|choice| test::run(&choice)),
        ["proof"] => proof::run(""),
        ["proof", "--only", name] => proof::run(name),
        ["cpython-tests", rest @ ..] => cpython::run_tests(rest),
        ["bench", "--python", rest @ ..] => bench::run_python(rest),
        ["bench", "--", rest @ ..] | ["bench", rest @ ..] => bench::run_bench(rest),
        ["budget"] => bench::budget(false),
        ["budget", "--update"] => bench::budget(true),
        ["header"] => generated::run(false),
        ["header", "--check"] => generated::run(true),
        ["install", rest @ ..] => Options::parse(rest).and_then(|it| install::run(&it)),
        ["uninstall", rest @ ..] => Options::parse(rest).and_then(|it| install::uninstall(&it)),
        ["symbols"] => symbols::run(false),
        ["symbols", "--check"] => symbols::run(true),
        ["compat"] => symbols::compat(),
        ["man"] => man::run(None),
        ["man", "--check"] => man::check(),
        ["man", "--html"] => html::run(None),
        ["man", "--html", file] if !file.starts_with('-') => html::run(Some(file)),
        ["man", folder] if !folder.starts_with('-') => man::run(Some(folder)),
        [] => Err(USAGE.to_owned()),
        words => Err(format!(
            "{USAGE}\n\n`cargo xtask {}` is none of these",
            words.join(" ")
        )),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn help() -> Result<(), String> {
    println!("{USAGE}");
    Ok(())
}

fn choice<'a>(mut args: &[&'a str]) -> Result<Choice<'a>, String> {
    let mut choice = Choice::default();
    loop {
        args = match args {
            [] => return Ok(choice),
            ["--only", name, rest @ ..] => {
                choice.only = name;
                rest
            }
            ["--all-pythons", rest @ ..] => {
                choice.all_pythons = true;
                rest
            }
            [other, ..] => {
                return Err(format!(
                    "{other:?} is none of --only NAME, --all-pythons, or lacks its name"
                ));
            }
        };
    }
}
