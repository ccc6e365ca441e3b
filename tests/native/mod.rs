//! Building C and C++ programs against the header and the library, and running them.

// Each test file uses a part of this.
#![allow(dead_code)]

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A program that runs this long hangs.
const WATCHDOG: Duration = Duration::from_secs(120);

/// The two languages, and how they are compiled: no warning is let pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    C99,
    Cpp17,
}

impl Language {
    pub(crate) fn compiler(self) -> Command {
        let (compiler, standard) = match self {
            Language::C99 => ("cc", "-std=c99"),
            Language::Cpp17 => ("c++", "-std=c++17"),
        };
        let mut command = Command::new(compiler);
        command
            .current_dir(root())
            .args([standard, "-pedantic", "-Wall", "-Wextra", "-Werror", "-g"])
            .args(["-Iinclude", "-Ibindings/cpp", "-Itests/c"]);
        command
    }
}

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// `cargo`, as this test was built by it.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(root());
    command
}

/// Where cargo put this test: `<target>/<profile>`.
fn profile_dir() -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    exe.parent().and_then(Path::parent).unwrap().to_path_buf()
}

/// Builds more of this package, with the features and in the profile of this test.
fn build(what: &str) {
    let dir = profile_dir();
    let profile = match dir.file_name().and_then(|name| name.to_str()).unwrap() {
        "debug" => "dev",
        profile => profile,
    };
    let mut build = cargo();
    build.args(["build", "--quiet", what, "--profile", profile]);
    build.arg("--target-dir").arg(dir.parent().unwrap());
    for (feature, on) in [
        ("cli", cfg!(feature = "cli")),
        ("crash-points", cfg!(feature = "crash-points")),
    ] {
        if on {
            build.args(["--features", feature]);
        }
    }
    succeed(&mut build);
}

/// The shared library.
pub(crate) fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        build("--lib");
        let library = profile_dir().join("libshoal.so");
        assert!(library.exists(), "{} was not built", library.display());
        library
    })
}

/// The folder of the examples in Rust.
pub(crate) fn examples() -> &'static Path {
    static EXAMPLES: OnceLock<PathBuf> = OnceLock::new();
    EXAMPLES.get_or_init(|| {
        build("--examples");
        profile_dir().join("examples")
    })
}

/// A folder with the library under the name that programs look for at run time.
fn run_time_dir() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("native");
        fs::create_dir_all(&dir).unwrap();
        // By rename, as tests in other processes may do the same.
        let (made, link) = (dir.join(unique("link")), dir.join("libshoal.so.0"));
        std::os::unix::fs::symlink(library(), &made).unwrap();
        fs::rename(made, link).unwrap();
        dir
    })
}

/// Links what is compiled against the shared library, and lets it find that at run time.
pub(crate) fn link(compiler: &mut Command) {
    compiler.arg(library()).arg("-pthread");
    compiler.arg(format!("-Wl,-rpath,{}", run_time_dir().display()));
}

/// A source file written by a test, and the program made from it. Both go with it.
pub(crate) struct Scratch {
    source: PathBuf,
    program: PathBuf,
}

impl Scratch {
    pub(crate) fn new(name: &str, text: &str) -> Self {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let source = dir.join(format!("{}-{name}", unique("scratch")));
        let program = source.with_extension("out");
        fs::write(&source, text).unwrap();
        Self { source, program }
    }

    pub(crate) fn source(&self) -> &Path {
        &self.source
    }

    pub(crate) fn program(&self) -> &Path {
        &self.program
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.source);
        let _ = fs::remove_file(&self.program);
    }
}

/// A name that no other test uses.
pub(crate) fn unique(stem: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{stem}-{}-{count}", std::process::id())
}

/// A program that was built for a test and goes with it.
pub(crate) struct Program(PathBuf);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

impl Program {
    /// Compiles and links one source file.
    pub(crate) fn build(language: Language, source: &str) -> Self {
        let stem = Path::new(source).file_stem().unwrap().to_str().unwrap();
        let program = run_time_dir().join(unique(stem));
        let mut compiler = language.compiler();
        compiler.arg(source).arg("-o").arg(&program);
        link(&mut compiler);
        succeed(&mut compiler);
        Self(program)
    }

    /// [`build`](Self::build) with the static library.
    pub(crate) fn build_static(language: Language, source: &str) -> Self {
        let program = run_time_dir().join(unique("static"));
        let mut compiler = language.compiler();
        compiler.arg(source).arg("-o").arg(&program);
        compiler.arg(library().with_extension("a"));
        // What `rustc --print native-static-libs` asks for.
        succeed(compiler.args(["-pthread", "-ldl", "-lm"]));
        Self(program)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Runs it until it ends with exit code 0, and returns its output.
    pub(crate) fn run(&self, args: &[&str]) -> String {
        succeed(Command::new(&self.0).args(args))
    }
}

/// Runs a command that must succeed, and returns what it printed.
pub(crate) fn succeed(command: &mut Command) -> String {
    let (success, out, err) = watched(command);
    assert!(success, "{command:?} failed\n{out}{err}");
    out
}

/// Runs a command to its end: whether it succeeded, its output, its errors.
pub(crate) fn watched(command: &mut Command) -> (bool, String, String) {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|err| panic!("{command:?}: {err}"));
    let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let out = std::thread::spawn(move || read_all(&mut out));
    let err = std::thread::spawn(move || read_all(&mut err));
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if started.elapsed() > WATCHDOG {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("{command:?} hung");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    (status.success(), out.join().unwrap(), err.join().unwrap())
}

fn read_all(from: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}
