//! `cargo xtask demo`: the main job on real input, in four languages, for people to watch.
//!
//! Each program checks its own result and fails if it is wrong.

use std::path::Path;
use std::process::Command;

use crate::python;
use crate::step::{self, Steps, cargo, program, root, target};

pub(crate) fn run() -> Result<(), String> {
    println!("building the library, the command line and the examples …");
    step::run(&mut cargo(
        "build --quiet --release --features cli --lib --bins --examples",
    ))?;
    let python = python::install()?;
    native()?;

    let mut steps = Steps::new("");
    let example = |name: &str, args: &str| {
        let script = root().join("examples/python").join(name);
        step::run(
            program(&python, "")
                .arg(script)
                .args(args.split_whitespace()),
        )
    };
    steps.step("ten processes, started and joined", || {
        example("processes.py", "")
    });
    steps.step("ten processes share one queue (fork)", || {
        example("shared_queue.py", "fork")
    });
    steps.step("ten processes share one queue (spawn)", || {
        example("shared_queue.py", "spawn")
    });
    steps.step("ten processes write one dict", || {
        example("manager_dict.py", "")
    });
    steps.step("a real text, counted word by word", || {
        example("wordcount.py", "LICENSE-APACHE LICENSE-MIT README.md")
    });
    steps.step("C, C++, Rust and Python share a queue and a map", || {
        together(&python)
    });
    steps.step("device masks, three classic ways and one of ours", || {
        example("devices.py", "")
    });
    steps.step("device masks from the command line", || {
        let shoal = target().join("release/shoal");
        let show = "echo \"the child sees CUDA_VISIBLE_DEVICES=$CUDA_VISIBLE_DEVICES\"";
        step::run(
            program(shoal, "run --devices 1 -- sh -c")
                .arg(show)
                .env("CUDA_VISIBLE_DEVICES", "2,3"),
        )
    });
    steps.finish()
}

/// Builds the C and C++ examples against the release library.
fn native() -> Result<(), String> {
    let release = target().join("release");
    let out = release.join("native");
    std::fs::create_dir_all(&out).map_err(|err| format!("{}: {err}", out.display()))?;
    for (compiler, standard, source) in [
        ("cc", "-std=c99", "examples/c/peer.c"),
        ("c++", "-std=c++17", "examples/cpp/peer.cpp"),
    ] {
        let name = if compiler == "cc" {
            "peer-c"
        } else {
            "peer-cpp"
        };
        let mut compile = program(compiler, standard);
        compile.args([
            "-O2",
            "-Wall",
            "-Wextra",
            "-Iinclude",
            "-Ibindings/cpp",
            source,
            "-o",
        ]);
        compile
            .arg(out.join(name))
            .arg("-L")
            .arg(&release)
            .arg("-lshoal");
        // They look for the library by its soname, in their own folder.
        compile.arg("-Wl,-rpath,$ORIGIN");
        step::run(&mut compile)?;
    }
    let link = out.join("libshoal.so.0");
    match std::os::unix::fs::symlink("../libshoal.so", &link) {
        Err(err) if err.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(format!("{}: {err}", link.display()))
        }
        _ => Ok(()),
    }
}

fn together(python: &Path) -> Result<(), String> {
    let release = target().join("release");
    let peer = |path: &str| release.join(path).display().to_string();
    let script = root().join("examples/python/peer.py");
    let mut run = Command::new(release.join("examples/together"));
    run.arg(format!("c={}", peer("native/peer-c")));
    run.arg(format!("cpp={}", peer("native/peer-cpp")));
    run.arg(format!("rust={}", peer("examples/peer")));
    run.arg(format!("python={} {}", python.display(), script.display()));
    step::run(&mut run)
}
