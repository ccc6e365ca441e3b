//! `cargo xtask demo`: the main job on real input, in four languages, for people to watch.
//!
//! Each program has to succeed and to print what it should, or the demo fails.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::leftovers::Leftovers;
use crate::python::Environment;
use crate::step::{Steps, cargo, program, root, run as run_command, run_expecting, target};

pub(crate) fn run() -> Result<(), String> {
    println!("building the library, the command line and the examples …");
    let leftovers = Leftovers::before();
    let cargo_build = "build --release --features cli --lib --bins --examples";
    run_command(&mut cargo(cargo_build))?;
    let environment = Environment::prepare("python3")?;
    environment.install()?;
    let peers = native()?;

    let mut steps = Steps::new("");
    let example = |name: &str, args: &str, expected: &[&str]| {
        let mut run = program(environment.python(), "");
        run.arg(root().join("examples/python").join(name));
        run.args(args.split_whitespace());
        // The masks below count in what is visible: everything.
        run_expecting(run.env_remove("CUDA_VISIBLE_DEVICES"), expected)
    };
    steps.step("ten processes, started and joined", || {
        let last = "all ten are over, exit codes [0, 0, 0, 0, 0, 0, 0, 0, 0, 0]";
        example("processes.py", "", &[last])
    });
    for method in ["fork", "spawn"] {
        steps.step(&format!("ten processes share one queue ({method})"), || {
            let last = format!("{method}: 10 messages accounted for, 0 left");
            example("shared_queue.py", method, &[&last])
        });
    }
    steps.step("ten processes write into one dict", || {
        let expected = [
            "d['shared'] = 0",
            "d['like'] = 9",
            "10 words, from ten processes",
        ];
        example("manager_dict.py", "", &expected)
    });
    steps.step("a real text, counted word by word", || {
        let texts = "LICENSE-APACHE LICENSE-MIT README.md ARCHITECTURE.md";
        example(
            "wordcount.py",
            texts,
            &["one process alone counts the same"],
        )
    });
    steps.step("a picture whose painters are killed at random", || {
        example("killed_workers.py", "", &["24 rows of 24 are there"])
    });
    steps.step("a cache, counters and settings in one map", || {
        let worked_out = "80 squares were wanted, 20 were worked out";
        example("cache.py", "", &[worked_out])?;
        let counted = "4 workers were killed, 11 words and 42 letters counted";
        example("counters.py", "", &[counted])?;
        example("settings.py", "", &["all three are stop"])
    });
    steps.step("an event loop reads what processes find", || {
        let last = "the clock ticked all the while";
        example("event_loop.py", "", &["100 findings of cleo", last])
    });
    steps.step("C, C++, Rust and Python share a queue and a map", || {
        together(&peers, environment.python())
    });
    steps.step("device masks, three classic ways and two of ours", || {
        let expected = [
            "1. exported in the shell the child sees 0,1",
            "2. set before the command the child sees 1",
            "3. set in the script the child sees 2,3,5",
            "4. Process(devices=[0]), spawn the child sees 2",
            "5. shoal.spawn(devices=[1]) the child sees 3",
        ];
        example("devices.py", "", &expected)
    });
    steps.step("device masks from the command line", command_line);
    steps.step("nothing stays behind", || leftovers.none_after());
    steps.finish()
}

/// A shell that sees devices 2 and 3 and has the command line at hand.
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

/// Builds the C and C++ peers against the release library; the folder they are in.
fn native() -> Result<PathBuf, String> {
    let release = target().join("release");
    let out = release.join("native");
    std::fs::create_dir_all(&out).map_err(|err| format!("{}: {err}", out.display()))?;
    let flags = "-O2 -Wall -Wextra -Iinclude -Ibindings/cpp";
    for (compiler, standard, source, name) in [
        ("cc", "-std=c99", "examples/c/peer.c", "peer-c"),
        ("c++", "-std=c++17", "examples/cpp/peer.cpp", "peer-cpp"),
    ] {
        let mut compile = program(compiler, &format!("{standard} {flags} {source} -o"));
        compile.arg(out.join(name));
        compile.arg("-L").arg(&release).arg("-lshoal");
        // They look for the library by its soname, in their own folder.
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
    // From the top folder on, as `together` splits at spaces.
    let from_top = |path: &Path| {
        path.strip_prefix(root())
            .unwrap_or(path)
            .display()
            .to_string()
    };
    // Python first, as it takes longest to start.
    let python = from_top(python);
    run.arg(format!("python={python} examples/python/peer.py"));
    run.arg(format!("c={}", from_top(&native.join("peer-c"))));
    run.arg(format!("cpp={}", from_top(&native.join("peer-cpp"))));
    run.arg(format!("rust={}", from_top(&examples.join("peer"))));
    run_expecting(&mut run, &["the queues are empty, and nothing was lost"])
}
