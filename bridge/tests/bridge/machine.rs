//! A "machine": a folder of shared objects of its own, with a bridge and programs.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use shoal_bridge::counters::Report;

use crate::agent::Agent;
use crate::server::Server;

/// How long anything may take before a test fails because it hangs.
pub const WATCHDOG: Duration = Duration::from_secs(60);

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A machine. Its folder is removed and its bridge killed when it is dropped.
pub struct Machine {
    folder: PathBuf,
    url: String,
    args: Vec<String>,
    bridge: Option<Child>,
    /// Environment of the bridge in addition to the server's address.
    pub env: Vec<(String, String)>,
}

impl Machine {
    /// A machine without a running bridge.
    pub fn new(server: &Server, args: &[&str]) -> Self {
        Self::at(&server.url(), args)
    }

    pub fn at(url: &str, args: &[&str]) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = PathBuf::from(format!(
            "/dev/shm/shoal-bridge-test-{}-{number}",
            std::process::id()
        ));
        std::fs::create_dir_all(&folder).unwrap();
        let args = args.iter().map(|&arg| arg.to_owned()).collect();
        Self {
            folder,
            url: url.to_owned(),
            args,
            bridge: None,
            env: Vec::new(),
        }
    }

    /// A machine whose bridge has connected, and has set up its objects on the server.
    pub fn up(server: &Server, args: &[&str]) -> Self {
        let mut machine = Self::new(server, args);
        machine.start();
        machine.wait_for("the bridge", |report| {
            report.connected && report.role == "active"
        });
        machine
    }

    /// A server and two machines whose bridges are connected to it, each with an agent.
    pub fn pair(args: &[&str]) -> (Server, [Self; 2], [Agent; 2]) {
        let server = Server::start();
        let machines = [(); 2].map(|()| Self::up(&server, args));
        let agents = machines.each_ref().map(Self::agent);
        (server, machines, agents)
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn agent(&self) -> Agent {
        Agent::start(&self.folder)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_shoal-bridge"));
        command
            .env("SHOAL_DIR", &self.folder)
            .env("NATS_URL", &self.url);
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null());
        command
    }

    /// Starts a bridge, which may have to wait for the previous one.
    pub fn spawn(&self) -> Child {
        let mut log = std::fs::OpenOptions::new();
        let log = log.create(true).append(true).open(self.log_file()).unwrap();
        self.spawn_to(log)
    }

    /// The same, with its log in `log`.
    pub fn spawn_to(&self, log: impl Into<Stdio>) -> Child {
        let mut command = self.command();
        command.arg("run").args(&self.args);
        command.stdout(Stdio::null()).stderr(log).spawn().unwrap()
    }

    /// Starts a bridge of this machine with other arguments.
    pub fn spawn_with(&self, args: &[&str]) -> Child {
        let log = std::fs::OpenOptions::new()
            .append(true)
            .open(self.log_file());
        let mut command = self.command();
        command.arg("run").args(args).stdout(Stdio::null());
        command.stderr(log.unwrap()).spawn().unwrap()
    }

    /// Executes another command on this machine. Returns its exit code, and what it printed as errors.
    pub fn execute(&self, args: &[&str]) -> (Option<i32>, String) {
        let done = output(self.command().args(args));
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        (done.status.code(), said)
    }

    fn log_file(&self) -> PathBuf {
        self.folder.with_extension("log")
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    pub fn start(&mut self) {
        assert!(self.bridge.is_none());
        self.bridge = Some(self.spawn());
    }

    /// Kills the bridge with SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut bridge) = self.bridge.take() {
            let _ = bridge.kill();
            let _ = bridge.wait();
        }
    }

    /// Ends the bridge with SIGTERM. Returns its exit code.
    pub fn terminate(&mut self) -> Option<i32> {
        self.end_by("TERM")
    }

    /// The same with another signal.
    pub fn end_by(&mut self, signal: &str) -> Option<i32> {
        let mut bridge = self.bridge.take().expect("it runs");
        let pid = bridge.id().to_string();
        let told = Command::new("kill").args(["-s", signal, &pid]).status();
        assert!(told.unwrap().success());
        bridge.wait().unwrap().code()
    }

    /// Waits until the bridge ends by itself. Returns its exit code.
    pub fn ends(&mut self) -> Option<i32> {
        let mut bridge = self.bridge.take().expect("it runs");
        let begun = Instant::now();
        loop {
            if let Some(status) = bridge.try_wait().unwrap() {
                return status.code();
            }
            if begun.elapsed() > WATCHDOG {
                bridge.kill().unwrap();
                panic!("the bridge does not end: {}", self.log());
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Runs a bridge to its end. Returns its exit code, and what it printed.
    pub fn run_to_end(&self) -> (Option<i32>, String) {
        let done = output(self.command().arg("run").args(&self.args));
        (
            done.status.code(),
            String::from_utf8_lossy(&done.stderr).into_owned(),
        )
    }

    /// The state of this machine's bridges, from the command line.
    pub fn reports(&self) -> Vec<Report> {
        let done = output(self.command().args(["status", "--json"]));
        serde_json::from_slice(&done.stdout).unwrap_or_default()
    }

    /// Waits until the active bridge reports this, and returns its whole report.
    pub fn wait_for(&self, what: &str, is_so: impl Fn(&Report) -> bool) -> Report {
        let begun = Instant::now();
        loop {
            let reports = self.reports();
            if let Some(report) = reports.iter().find(|report| is_so(report)) {
                return report.clone();
            }
            assert!(
                begun.elapsed() < WATCHDOG,
                "{what} does not come: {reports:#?}\n{}",
                self.log()
            );
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// How much memory of its own a bridge has, in KiB.
pub fn own_memory(report: &Report) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", report.pid)).unwrap();
    let own = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = own.unwrap().trim().split(' ').next();
    kib.unwrap().parse().unwrap()
}

/// Runs a command to its end. Kills it if it takes too long.
fn output(command: &mut Command) -> Output {
    let piped = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = piped.spawn().unwrap();
    let pid = child.id().to_string();
    let (sender, receiver) = channel();
    thread::spawn(move || sender.send(child.wait_with_output()));
    let done = receiver.recv_timeout(2 * WATCHDOG).unwrap_or_else(|_| {
        let _ = Command::new("kill").args(["-KILL", &pid]).status();
        panic!("{command:?} does not end")
    });
    done.unwrap()
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("log of {}:\n{}", self.folder.display(), self.log());
        }
        let _ = std::fs::remove_file(self.log_file());
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
