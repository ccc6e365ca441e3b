//! The bridge's part of `cargo xtask demo`: two "machines", which are directories, and a server on this one.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::command::{self, program, run as run_command, run_expecting};
use crate::files::{self, at, root, target};
use crate::python::Environment;

/// The time limit for the start of the server and the bridges.
const WATCHDOG: Duration = Duration::from_secs(60);

/// Cargo's command for the bridge's package, in its own target folder. The bridge needs the library with other
/// features, and cargo gives both builds the same file name (`libshoal.so` has no hash in it): in one folder each
/// build would overwrite the other.
pub(crate) fn cargo(command: &str) -> Command {
    let mut cargo = command::cargo(command);
    cargo.args(["--package", "shoal-bridge", "--target-dir"]);
    cargo.arg(built());
    cargo
}

fn built() -> PathBuf {
    target().join("bridge")
}

/// Processes and a folder, which are removed when this is dropped.
struct Demo {
    folder: PathBuf,
    processes: Vec<Child>,
}

impl Drop for Demo {
    fn drop(&mut self) {
        for process in self.processes.iter_mut().rev() {
            let _ = process.kill();
            let _ = process.wait();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A producer on one machine, a worker on the other, and a map that both read.
pub(crate) fn demo(environment: &Environment) -> Result<(), String> {
    let server = environment.install_server()?;
    run_command(&mut cargo("build --release"))?;
    let bridge = built().join("release/shoal-bridge");
    let folder = PathBuf::from(format!("/dev/shm/shoal-demo-{}", std::process::id()));
    let mut demo = Demo {
        folder: folder.clone(),
        processes: Vec::new(),
    };
    let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(at("a port"))?;
    let port = listener.local_addr().map_err(at("a port"))?.port();
    drop(listener);
    for name in ["one", "two", "store"] {
        files::create_dir(folder.join(name))?;
    }
    let config = format!(
        "listen: 127.0.0.1:{port}\njetstream {{ store_dir: {:?}\n sync_interval: always }}\n",
        folder.join("store")
    );
    let file = folder.join("server.conf");
    files::write(&file, config)?;
    let mut start = program(server, "-c");
    start.arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
    demo.processes
        .push(start.spawn().map_err(at("nats-server"))?);
    let begun = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if begun.elapsed() > WATCHDOG {
            return Err("nats-server does not answer".to_owned());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let url = format!("nats://127.0.0.1:{port}");
    for machine in ["one", "two"] {
        let mut start = program(&bridge, "run --queue jobs --map done --machine");
        start.arg(machine).env("NATS_URL", &url);
        start.env("SHOAL_DIR", folder.join(machine));
        demo.processes
            .push(start.spawn().map_err(at("shoal-bridge"))?);
    }
    let example = |machine: &str, role: &str| {
        let mut run = program(environment.python(), "");
        run.arg(root().join("examples/python/two_machines.py"))
            .args([role, "10"]);
        run.env("SHOAL_DIR", folder.join(machine));
        run
    };
    let mut worker = example("two", "work").spawn().map_err(at("the worker"))?;
    let produced = run_expecting(
        &mut example("one", "produce"),
        &["10 results came back, the last is 81"],
    );
    let _ = worker.kill();
    let _ = worker.wait();
    produced?;
    // A bridge writes its report once a second.
    std::thread::sleep(Duration::from_millis(1500));
    let mut status = program(&bridge, "status");
    run_command(status.env("SHOAL_DIR", folder.join("one")))
}
