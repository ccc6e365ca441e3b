//! `cargo xtask bench`: runs the benchmark of the command line, optimised and with peers.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::command::{cargo, program, run, run_for_long};
use crate::files::{self, at, target};
use crate::leftovers::Leftovers;
use crate::python::Environment;

/// The parts of the benchmark whose peers are separate programs.
const WITH_PEERS: [&str; 3] = ["queue", "map", "curves"];

pub(crate) fn run_bench(args: &[&str]) -> Result<(), String> {
    // Paths are relative to the directory in which the task was started.
    let here = std::env::current_dir().map_err(|err| err.to_string())?;
    let command = || {
        let run = "run --quiet --release --package shoal --features cli --bin shoal -- bench";
        let mut bench = cargo(run);
        bench.current_dir(&here);
        bench
    };
    let mut bench = command();
    let mut names = args.iter().filter_map(|arg| arg.split('=').next());
    let measures = !names.any(|name| ["--compare", "--from", "--help", "-h"].contains(&name));
    let only = args.iter().position(|arg| *arg == "--only");
    let part = only.and_then(|only| args.get(only + 1));
    if measures && part.is_none_or(|part| WITH_PEERS.contains(part)) {
        // The build of the peers takes minutes: before it, the benchmark only checks its arguments.
        run(command().args(args).arg("--help").stdout(Stdio::null()))?;
        bench
            .arg("--peers")
            .env("SHOAL_BENCH_PEERS", build_peers()?);
    }
    run_for_long(bench.args(args))
}

/// Compares the instructions of hot paths with the budget, or writes a new budget. Takes seconds after
/// `build --release --features cli`.
pub(crate) fn budget(update: bool) -> Result<(), String> {
    let mut compiler = program("rustc", "--version");
    let version = compiler.output().map_err(at("rustc"))?;
    let mut count = cargo("run --quiet --release --features cli --bin shoal -- bench");
    count.args(["--budget", BUDGET, "--compiler"]);
    count.arg(String::from_utf8_lossy(&version.stdout).trim());
    if update {
        count.arg("--update-budget");
    }
    run(&mut count)
}

const BUDGET: &str = "benches/budget.txt";

/// Measures queues of Python objects beside the standard library's and, if it can be installed, faster-fifo; then
/// pipes, locks, dictionaries and the latency of Ctrl-C beside the standard library's. Queues and the other
/// objects are measured by each backend. With `--busy`, only the measurements beside programs that compute are
/// made.
pub(crate) fn run_python(args: &[&str]) -> Result<(), String> {
    if args.iter().any(|arg| ["-h", "--help"].contains(arg)) {
        println!("{PYTHON_USAGE}");
        return Ok(());
    }
    let busy = check(args)?;
    run(&mut cargo("build --quiet --release --lib"))?;
    let environment = Environment::prepare("python3")?;
    environment.install()?;
    let before = Leftovers::before();
    // Each script has the value of SHOAL_PURE with which it runs: 1 chooses ctypes.
    let scripts: &[(&str, &str)] = if busy {
        &[("busy.py", "0")]
    } else {
        environment.install_peers();
        &[
            ("calls.py", "0"),
            ("queues.py", "0"),
            ("queues.py", "1"),
            ("objects.py", "0"),
            ("objects.py", "1"),
            ("dicts.py", "0"),
            ("interrupts.py", "0"),
        ]
    };
    for (script, pure) in scripts {
        let mut bench = program(environment.python(), &format!("benches/python/{script}"));
        run_for_long(bench.args(args).env("SHOAL_PURE", pure))?;
    }
    before.none_after()
}

const PYTHON_USAGE: &str = "usage: cargo xtask bench --python [--seconds S] [--repeat N]
       cargo xtask bench --python --busy 0,1,2,4 [--nice N | --idle-class] [--only WORD]
                                  [--seconds S] [--repeat N]";

/// Checks the arguments of the Python benchmark before anything is built. Returns whether they have `--busy`.
fn check(args: &[&str]) -> Result<bool, String> {
    let wrong = |why: String| format!("{why}\n{PYTHON_USAGE}");
    let busy = args
        .iter()
        .any(|arg| arg.split('=').next() == Some("--busy"));
    // `--repeat 3`, and `--repeat=3`.
    let mut words = args.iter().flat_map(|arg| arg.splitn(2, '='));
    while let Some(word) = words.next() {
        let is_valid: fn(&str) -> bool = match word {
            "--seconds" => |it| it.parse().is_ok_and(|it: f64| it > 0.0 && it.is_finite()),
            "--repeat" => |it| it.parse().is_ok_and(|it: u32| it > 0),
            "--busy" => |it| it.split(',').all(|it| it.parse::<u32>().is_ok()),
            "--nice" if busy => |it| it.parse::<i32>().is_ok(),
            "--only" if busy => |it| !it.is_empty(),
            "--idle-class" if busy => continue,
            other => return Err(wrong(format!("{other:?} is none of the options"))),
        };
        match words.next() {
            Some(value) if is_valid(value) => {}
            Some(value) => return Err(wrong(format!("{value:?} is no value of {word}"))),
            None => return Err(wrong(format!("{word} needs a value"))),
        }
    }
    Ok(busy)
}

/// Builds the programs of `benches/peers` that can be built, and returns their folder. The benchmark names the
/// missing ones; a log beside them has the reason.
fn build_peers() -> Result<PathBuf, String> {
    let folder = target().join("peers");
    files::create_dir(&folder)?;
    eprintln!("building the peers …");
    for (name, library) in [
        ("boost", "-lrt"),
        ("boost_map", "-lrt"),
        ("zeromq", "-lzmq"),
        ("nng", "-lnng"),
    ] {
        let path = folder.join(format!("peer-{name}"));
        // The level of optimisation is that of our own workers, whose loops write and read messages in the same
        // way.
        let mut compile = program("c++", "-std=c++17 -O3 -Wall -Wextra -pthread");
        compile.arg(format!("benches/peers/{name}.cpp"));
        attempt(compile.arg("-o").arg(&path).arg(library), &path)?;
    }
    let build = folder.join("build");
    for name in ["peer-iceoryx2", "peer-lmdb", "peer-redis"] {
        let path = folder.join(name);
        let mut compile = cargo("build --release --quiet --locked");
        compile.args(["--manifest-path", "benches/peers/Cargo.toml", "--bin", name]);
        if attempt(compile.arg("--target-dir").arg(&build), &path)? {
            let built = build.join("release").join(name);
            std::fs::copy(&built, &path).map_err(at(&built))?;
        }
    }
    Ok(folder)
}

/// Runs the command, which makes `path`, with its output in a log. Returns whether it succeeded.
fn attempt(command: &mut Command, path: &Path) -> Result<bool, String> {
    // If the build fails now, an earlier result is not measured.
    let _ = std::fs::remove_file(path);
    let log = path.with_extension("log");
    let failed = at(&log);
    let mut file = File::create(&log).map_err(&failed)?;
    let copy = file.try_clone().map_err(&failed)?;
    let done = run(command.stdout(Stdio::null()).stderr(copy));
    if let Err(why) = &done {
        // Without a compiler the log would be empty.
        writeln!(file, "{why}").map_err(&failed)?;
        eprintln!("a peer is left out: {}", log.display());
    }
    Ok(done.is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_arguments_of_the_python_benchmark_are_named_before_the_build() {
        let words = |line: &'static str| line.split(' ').collect::<Vec<_>>();
        for (line, busy) in [
            ("--seconds 0.2 --repeat=3", false),
            ("--busy=0,1 --nice 19 --only queue", true),
            ("--idle-class --busy 2", true),
        ] {
            assert_eq!(check(&words(line)), Ok(busy), "{line}");
        }
        for (line, why) in [
            ("--bogus", "\"--bogus\" is none"),
            ("--only queue", "\"--only\" is none"),
            ("--busy a,b", "\"a,b\" is no value of --busy"),
            ("--busyness 1", "\"--busyness\" is none"),
            ("--seconds -1", "\"-1\" is no value of --seconds"),
            ("--repeat", "--repeat needs a value"),
        ] {
            let error = check(&words(line)).unwrap_err();
            assert!(error.starts_with(why), "{line}: {error}");
        }
    }
}
