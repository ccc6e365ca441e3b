//! `cargo xtask demo`: runs the example programs on real input, in four languages.
//!
//! Each program has to succeed and to print the expected lines, or the demo fails.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::command::{cargo, program, run as run_command, run_expecting};
use crate::files::{self, root, target};
use crate::leftovers::Leftovers;
use crate::python::Environment;
use crate::step::Steps;

/// A program in `examples/python`, what it shows, and lines that it has to print.
pub(crate) struct Example {
    pub(crate) what: &'static str,
    program: &'static str,
    args: &'static str,
    expected: &'static [&'static str],
}

pub(crate) const EXAMPLES: &[Example] = &[
    Example {
        what: "ten processes, started and joined",
        program: "processes.py",
        args: "",
        expected: &["all ten are over, exit codes [0, 0, 0, 0, 0, 0, 0, 0, 0, 0]"],
    },
    Example {
        what: "ten processes share one queue (fork)",
        program: "shared_queue.py",
        args: "fork",
        expected: &["fork: 10 messages accounted for, 0 left"],
    },
    Example {
        what: "ten processes share one queue (spawn)",
        program: "shared_queue.py",
        args: "spawn",
        expected: &["spawn: 10 messages accounted for, 0 left"],
    },
    Example {
        what: "ten processes write into one dict",
        program: "manager_dict.py",
        args: "",
        expected: &[
            "d['shared'] = 0",
            "d['like'] = 9",
            "10 words, from ten processes",
        ],
    },
    Example {
        what: "a real text, counted word by word",
        program: "wordcount.py",
        args: TEXTS,
        expected: &["one process alone counts the same"],
    },
    Example {
        what: "a picture whose painters are killed at random",
        program: "killed_workers.py",
        args: "",
        expected: &["24 rows of 24 are there"],
    },
    Example {
        what: "a cache in a map",
        program: "cache.py",
        args: "",
        expected: &["80 squares were wanted, 20 were worked out"],
    },
    Example {
        what: "counters that several processes add to, one of which is killed",
        program: "counters.py",
        args: "",
        expected: &["bea was killed, and no addition is missing"],
    },
    Example {
        what: "settings that programs watch",
        program: "settings.py",
        args: "",
        expected: &["all three are stop"],
    },
    Example {
        what: "an event loop reads what processes find",
        program: "event_loop.py",
        args: "",
        expected: &["100 findings of cleo", "the clock ticked all the while"],
    },
    Example {
        what: "device masks, three classic ways and two of ours",
        program: "devices.py",
        args: "",
        expected: &[
            "1. exported in the shell the child sees 0,1",
            "2. set before the command the child sees 1",
            "3. set in the script the child sees 2,3,5",
            "4. Process(devices=[0]), spawn the child sees 2",
            "5. shoal.spawn(devices=[1]) the child sees 3",
        ],
    },
];

/// The texts whose words an example counts.
pub(crate) const TEXTS: &str = "LICENSE-APACHE LICENSE-MIT README.md ARCHITECTURE.md";

/// Runs an example in `folder`, which has `examples/python` and the [`TEXTS`].
pub(crate) fn run_example(example: &Example, python: &Path, folder: &Path) -> Result<(), String> {
    let mut run = program(python, "");
    run.arg(folder.join("examples/python").join(example.program));
    run.args(example.args.split_whitespace())
        .current_dir(folder);
    // The masks of the example are relative to the visible devices, which must be all of them.
    run_expecting(run.env_remove("CUDA_VISIBLE_DEVICES"), example.expected)
}

pub(crate) fn run() -> Result<(), String> {
    println!("building the library, the command line and the examples …");
    let leftovers = Leftovers::before();
    let cargo_build = "build --release --features cli --lib --bins --examples";
    run_command(&mut cargo(cargo_build))?;
    let environment = Environment::prepare("python3")?;
    environment.install()?;
    let peers = native()?;

    let mut steps = Steps::new("");
    for example in EXAMPLES {
        steps.step(example.what, || {
            run_example(example, environment.python(), &root())
        });
    }
    steps.step("C, C++, Rust and Python share a queue and a map", || {
        together(&peers, environment.python())
    });
    steps.step("device masks from the command line", command_line);
    steps.step("two machines share a queue and a map over a server", || {
        crate::bridge::demo(&environment)
    });
    steps.step("nothing stays behind", || leftovers.none_after());
    steps.finish()
}

/// Runs a shell that sees devices 2 and 3 and has the command line in its PATH.
fn command_line() -> Result<(), String> {
    let show = r#"echo "CUDA_VISIBLE_DEVICES=$CUDA_VISIBLE_DEVICES""#;
    let script = format!(
        "set -eu
        echo 'given device 1 of 2,3, a command sees'
        shoal run --devices 1 -- sh -c '{show}'
        echo 'after eval \"$(shoal devices export 0)\" this shell sees'
        eval \"$(shoal devices export 0)\"
        {show}
        shoal devices show"
    );
    let mut shell = program("sh", "-c");
    shell.arg(script);
    shell.env("CUDA_VISIBLE_DEVICES", "2,3");
    let mut path = target().join("release").into_os_string();
    if let Some(rest) = std::env::var_os("PATH") {
        path.push(":");
        path.push(rest);
    }
    shell.env("PATH", path);
    let expected = ["CUDA_VISIBLE_DEVICES=3", "CUDA_VISIBLE_DEVICES=2", "cuda 2"];
    run_expecting(&mut shell, &expected)
}

/// Builds the C and C++ peers with the release library. Returns their folder.
fn native() -> Result<PathBuf, String> {
    let release = target().join("release");
    let out = release.join("native");
    files::create_dir(&out)?;
    let flags = "-O2 -Wall -Wextra -Iinclude -Ibindings/cpp";
    for (compiler, standard, source, name) in [
        ("cc", "-std=c99", "examples/c/peer.c", "peer-c"),
        ("c++", "-std=c++17", "examples/cpp/peer.cpp", "peer-cpp"),
    ] {
        let mut compile = program(compiler, &format!("{standard} {flags} {source} -o"));
        compile.arg(out.join(name));
        compile.arg("-L").arg(&release).arg("-lshoal");
        // The programs look for the library by its soname, in their own folder.
        compile.arg("-Wl,-rpath,$ORIGIN");
        run_command(&mut compile)?;
    }
    let link = out.join("libshoal.so.0");
    match symlink("../libshoal.so", &link) {
        Err(err) if err.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(format!("{}: {err}", link.display()))
        }
        _ => Ok(out),
    }
}

fn together(native: &Path, python: &Path) -> Result<(), String> {
    let examples = target().join("release/examples");
    let mut run = program(examples.join("together"), "");
    // Paths are relative to the top folder, because `together` splits at spaces.
    let from_top = |path: &Path| {
        path.strip_prefix(root())
            .unwrap_or(path)
            .display()
            .to_string()
    };
    // Python comes first, because it takes longest to start.
    let python = from_top(python);
    run.arg(format!("python={python} examples/python/peer.py"));
    run.arg(format!("c={}", from_top(&native.join("peer-c"))));
    run.arg(format!("cpp={}", from_top(&native.join("peer-cpp"))));
    run.arg(format!("rust={}", from_top(&examples.join("peer"))));
    run_expecting(&mut run, &["the queues are empty, and nothing was lost"])
}
