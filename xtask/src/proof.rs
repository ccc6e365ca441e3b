//! `cargo xtask proof`: checks beyond the tests. The code is interpreted, instrumented, given forged bytes, and run
//! on another processor.
//!
//! A step whose tools are missing is skipped, with a line that names what to install. Each step builds in its own
//! folder below `target/proof`.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::command::{self, cargo, program};
use crate::files::target;
use crate::leftovers::Leftovers;
use crate::step::Steps;

const X86: &str = "x86_64-unknown-linux-gnu";
const ARM: &str = "aarch64-unknown-linux-gnu";
/// The folder in which Debian installs the libraries for 64-bit Arm.
const ARM_LIBRARIES: &str = "/usr/aarch64-linux-gnu";

/// How many seconds the fuzzer runs, unless `SHOAL_SOAK_SECONDS` sets another number.
const FORGED_SECONDS: &str = "120";

/// The tests that Miri interprets: those of the modules that make no system calls, except tests that open objects or
/// take minutes.
const INTERPRETED: &str = "heap:: list:: map:: queue:: device:: \
    --skip map::many --skip map::readers --skip map::tests::hostile";

/// The tests of queues that are fast enough for an emulator.
const QUEUES: &str = "--test queue -- basics::";

/// The tests that are left out for 64-bit Arm: those of objects with the default bound, whose address space qemu
/// cannot reserve (maps are tested on a heap buffer), and those that take minutes there.
const NOT_EMULATED: [&str; 13] = [
    "a_closed_queue_is_not_drained",
    "a_million_messages",
    "a_put_no_longer_writes",
    "a_queue_that_grew",
    "a_try_does_not_wait",
    "invalid_options",
    "length_and_bytes",
    "map::many",
    "map::readers",
    "one_of_many_processes",
    "queue::model::cursors",
    "queue::model::growth",
    "the_ring_of_a_stream",
];

/// Targets that are not supported, and a word of the sentence with which each is refused.
const REFUSED: [(&str, &str); 2] = [
    ("x86_64-unknown-linux-musl", "glibc"),
    ("i686-unknown-linux-gnu", "64-bit"),
];

pub(crate) fn run(only: &str) -> Result<(), String> {
    let leftovers = Leftovers::before();
    let mut steps = Steps::new(only);
    steps.step("forged bytes", forged);
    steps.step("miri", miri);
    steps.step("address sanitizer", address_sanitizer);
    steps.step("thread sanitizer", thread_sanitizer);
    steps.step("64-bit Arm", arm);
    steps.step("what is not supported is refused", refused);
    steps.step("nothing stays behind", || leftovers.none_after());
    steps.finish()
}

fn forged() -> Result<(), String> {
    let mut fuzzer = cargo("test --release --test hostile -- --ignored --nocapture");
    if std::env::var_os("SHOAL_SOAK_SECONDS").is_none() {
        fuzzer.env("SHOAL_SOAK_SECONDS", FORGED_SECONDS);
    }
    command::run_for_long(&mut fuzzer)
}

fn miri() -> Result<(), String> {
    if !has_source() || !works(&mut nightly("miri --version")) {
        return skip("rustup toolchain install nightly --component rust-src,miri");
    }
    let mut miri = nightly("miri test --lib --");
    miri.args(INTERPRETED.split_whitespace());
    // Addresses are made from offsets and a pointer to the region, which has their provenance.
    // The models read variables of the environment. Blocks of a heap are used again for words of other sizes,
    // with which Miri's emulation of weak memory ends in an internal error.
    let flags = "-Zmiri-strict-provenance -Zmiri-disable-isolation \
                 -Zmiri-disable-weak-memory-emulation";
    miri.env("MIRIFLAGS", flags)
        .env("PROPTEST_CASES", "2")
        .env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "1");
    command::run_for_long(in_folder(&mut miri, "miri"))
}

fn address_sanitizer() -> Result<(), String> {
    if !works(&mut nightly("--version")) {
        return skip("rustup toolchain install nightly");
    }
    for what in ["--lib --test hostile", QUEUES] {
        let mut tests = nightly(&format!("test --target {X86} --no-fail-fast {what}"));
        tests.env("RUSTFLAGS", "-Zsanitizer=address");
        // Some tests leak a handle on purpose.
        tests.env("ASAN_OPTIONS", "detect_leaks=0");
        command::run_for_long(in_folder(&mut tests, "address"))?;
    }
    Ok(())
}

fn thread_sanitizer() -> Result<(), String> {
    if !has_source() {
        return skip("rustup toolchain install nightly --component rust-src");
    }
    // The standard library is instrumented as well; otherwise its locks are invisible to the sanitizer.
    for what in ["--lib --", QUEUES] {
        let mut tests = nightly(&format!(
            "test -Zbuild-std --target {X86} --no-fail-fast {what}"
        ));
        // This test needs more speed than an instrumented program has.
        tests.args(["--skip", "the_ring_of_a_stream"]);
        tests.env("RUSTFLAGS", "-Zsanitizer=thread");
        command::run_for_long(in_folder(&mut tests, "thread"))?;
    }
    Ok(())
}

fn arm() -> Result<(), String> {
    if !has_target(ARM) {
        return skip(&format!("rustup target add {ARM}"));
    }
    let mut compiler = program("aarch64-linux-gnu-gcc", "--version");
    let mut emulator = program("qemu-aarch64", "--version");
    if !works(&mut compiler) || !works(&mut emulator) {
        return skip("apt install gcc-aarch64-linux-gnu qemu-user");
    }
    for what in ["--lib --", QUEUES, "--test locks -- lock::"] {
        let mut tests = cargo(&format!("test --target {ARM} --no-fail-fast {what}"));
        tests.args(NOT_EMULATED.iter().flat_map(|name| ["--skip", *name]));
        let variable = "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU";
        tests.env(format!("{variable}_LINKER"), "aarch64-linux-gnu-gcc");
        let runner = format!("qemu-aarch64 -L {ARM_LIBRARIES}");
        tests.env(format!("{variable}_RUNNER"), runner);
        command::run_for_long(in_folder(&mut tests, "arm"))?;
    }
    Ok(())
}

fn refused() -> Result<(), String> {
    for (target, word) in REFUSED {
        if !has_target(target) {
            skip(&format!("rustup target add {target}"))?;
            continue;
        }
        let mut check = cargo(&format!("check --quiet --lib --target {target}"));
        let output = in_folder(&mut check, "refused").output();
        let output = output.map_err(|err| err.to_string())?;
        let printed = String::from_utf8_lossy(&output.stderr);
        let sentence = printed
            .lines()
            .find(|line| line.starts_with("error: shoal "));
        match sentence {
            Some(line) if line.contains(word) && !output.status.success() => {
                println!("{target}: {line}");
            }
            _ => return Err(format!("{target} was not refused:\n{printed}")),
        }
    }
    Ok(())
}

/// Prints how to install what is missing, and succeeds.
fn skip(install: &str) -> Result<(), String> {
    println!("skipped: a tool is missing on this machine; try: {install}");
    Ok(())
}

/// `cargo` of the nightly toolchain with these arguments.
fn nightly(args: &str) -> Command {
    let mut command = program("rustup", "run nightly cargo");
    command.args(args.split_whitespace());
    // These variables belong to the toolchain that runs this task.
    for name in ["CARGO", "RUSTC", "RUSTDOC", "RUSTUP_TOOLCHAIN"] {
        command.env_remove(name);
    }
    command
}

/// Sets a separate target folder, so that the results of the plain tests are not overwritten.
fn in_folder<'a>(command: &'a mut Command, name: &str) -> &'a mut Command {
    command.env("CARGO_TARGET_DIR", target().join("proof").join(name))
}

/// Whether the program runs and succeeds.
fn works(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// The folder of this compiler for `part`: a target, or the source of the standard library.
fn library(compiler: &mut Command, part: &str) -> Option<PathBuf> {
    let output = compiler.args(["--print", "sysroot"]).output().ok()?;
    let sysroot = String::from_utf8(output.stdout).ok()?;
    let folder = PathBuf::from(sysroot.trim()).join("lib/rustlib").join(part);
    (output.status.success() && folder.is_dir()).then_some(folder)
}

/// Whether the standard library of a target is installed.
fn has_target(target: &str) -> bool {
    library(&mut program("rustc", ""), target).is_some()
}

/// Whether the nightly toolchain has the source of the standard library.
fn has_source() -> bool {
    library(
        &mut program("rustup", "run nightly rustc"),
        "src/rust/library",
    )
    .is_some()
}
