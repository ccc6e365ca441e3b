//! A NATS server for tests: on a loopback port of its own, stopped by its pid.

use std::fmt::Write;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::net::TcpSocket;

/// What a test may change about the server.
#[derive(Clone)]
pub struct Setup {
    /// Additional lines of its configuration.
    pub extra: String,
    /// Whether each publish is on the disk before it is acked.
    pub sync_always: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            extra: String::new(),
            sync_always: true,
        }
    }
}

/// A running server. Its process is killed and its folder removed when this is dropped.
pub struct Server {
    folder: PathBuf,
    /// The port of its clients, and in a cluster that of its routes.
    ports: Vec<Port>,
    child: Option<Child>,
}

impl Server {
    pub fn start() -> Self {
        Self::with(&Setup::default())
    }

    /// Starts it with these settings.
    pub fn with(setup: &Setup) -> Self {
        let mut server = Self::prepare(setup, Port::free());
        server.resume();
        server
    }

    /// Starts this many servers that form a cluster.
    pub fn cluster(number: usize) -> Vec<Self> {
        let ports: Vec<Port> = (0..number).map(|_| Port::free()).collect();
        let routes: Vec<String> = ports
            .iter()
            .map(|port| format!("nats://127.0.0.1:{}", port.number()))
            .collect();
        let start = |route: Port| {
            let (port, routes) = (route.number(), routes.join(", "));
            let extra = format!(
                "cluster {{ name: tests, listen: \"127.0.0.1:{port}\", routes: [{routes}] }}"
            );
            let setup = Setup {
                extra,
                ..Setup::default()
            };
            let mut server = Self::prepare(&setup, Port::free());
            server.ports.push(route);
            server
        };
        let mut servers: Vec<Self> = ports.into_iter().map(start).collect();
        servers.iter_mut().for_each(Self::resume);
        servers
    }

    fn prepare(setup: &Setup, held: Port) -> Self {
        let port = held.number();
        // The files are in memory: a killed process loses nothing that it wrote to a file, whether or not the file
        // is on a disk.
        let store = std::env::var_os("BRIDGE_STORE").unwrap_or_else(|| "/dev/shm".into());
        let folder = Path::new(&store).join(format!("shoal-nats-{}-{port}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut text = String::new();
        writeln!(text, "listen: 127.0.0.1:{port}").unwrap();
        writeln!(text, "server_name: s{port}").unwrap();
        let sync = if setup.sync_always {
            "sync_interval: always"
        } else {
            ""
        };
        writeln!(
            text,
            "jetstream {{ store_dir: {:?}\n {sync} }}",
            folder.join("store")
        )
        .unwrap();
        writeln!(text, "{}", setup.extra).unwrap();
        std::fs::write(folder.join("server.conf"), text).unwrap();
        Self {
            folder,
            ports: vec![held],
            child: None,
        }
    }

    /// The port of its clients.
    pub fn port(&self) -> u16 {
        self.ports[0].number()
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port())
    }

    /// Its name in the cluster.
    pub fn name(&self) -> String {
        format!("s{}", self.port())
    }

    /// The number of its process, while it runs.
    #[allow(dead_code, reason = "only the benchmark calls it")]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// Kills it with SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Removes its streams, after it was killed.
    pub fn wipe(&self) {
        assert!(self.child.is_none());
        std::fs::remove_dir_all(self.folder.join("store")).unwrap();
    }

    /// Replaces a text in its configuration, which is read when it starts.
    pub fn configure(&self, from: &str, to: &str) {
        let file = self.folder.join("server.conf");
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(&file, text.replace(from, to)).unwrap();
    }

    /// Starts the process with the files of its folder.
    pub fn resume(&mut self) {
        assert!(self.child.is_none());
        let log = std::fs::File::create(self.folder.join("log")).unwrap();
        let child = Command::new(binary())
            .arg("-c")
            .arg(self.folder.join("server.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        self.child = Some(child.expect("nats-server starts"));
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port())).is_err() {
            let child = self.child.as_mut().unwrap();
            let ended = child.try_wait().unwrap();
            let log = || std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            assert!(ended.is_none(), "nats-server ended: {}", log());
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "no nats-server: {}",
                log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A port that no other program gets while this lives, even while its server does not run. A socket is bound to it
/// and does not listen; a program that sets `SO_REUSEADDR`, as the server and the bridge do, can listen there.
pub struct Port(TcpSocket);

impl Port {
    /// A port that is free according to the kernel.
    pub fn free() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        Self(socket)
    }

    pub fn number(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }
}

/// The server's program: the one that `NATS_SERVER` names, or the one in the checkout's virtual environment
/// (`cargo xtask test` installs it there), or the one on PATH.
pub fn binary() -> PathBuf {
    if let Some(named) = std::env::var_os("NATS_SERVER") {
        return named.into();
    }
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let own = checkout.join(".venv/bin/nats-server");
    if own.exists() {
        own
    } else {
        "nats-server".into()
    }
}
