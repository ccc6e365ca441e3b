//! Other projects' queues. Their ends are programs of `benches/peers`, which are built apart
//! from this one, so that measuring beside them adds no dependency.
//!
//! `cargo xtask bench` builds those it can and says where they are. Their
//! arguments are explained in `benches/peers/worker.hpp`, and they report on the same [`Stage`].

use std::ffi::OsString;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use super::failure::{Failure, Why};
use super::load::{Load, Topology, Transport};
use super::pace::Pace;
use super::stage::Stage;
use super::stores::Store;
use super::workers::ends_with_us;

/// The variable with the folder of the programs. Without it these peers are not mentioned.
const FOLDER: &str = "SHOAL_BENCH_PEERS";

/// The name of each program; a part of the compiler's error if its library is missing, and the
/// name of that library.
const PROGRAMS: [(Transport, &str, &str, &str); 4] = [
    (
        Transport::Iceoryx2,
        "peer-iceoryx2",
        "failed to ",
        "its crates are not available",
    ),
    (
        Transport::Boost,
        "peer-boost",
        "boost/",
        "Boost is not installed (Debian: libboost1.81-dev)",
    ),
    (
        Transport::Zeromq,
        "peer-zeromq",
        "zmq.h: ",
        "ZeroMQ is not installed (Debian: libzmq3-dev)",
    ),
    (
        Transport::Nng,
        "peer-nng",
        "nng/",
        "nng is not installed (Debian: libnng-dev)",
    ),
];

/// The same for stores.
const STORES: [(Store, &str, &str, &str); 3] = [
    (
        Store::Boost,
        "peer-boost_map",
        "boost/",
        "Boost is not installed (Debian: libboost1.81-dev)",
    ),
    (
        Store::Lmdb,
        "peer-lmdb",
        "failed to ",
        "its crates are not available",
    ),
    (
        Store::Redis,
        "peer-redis",
        "failed to ",
        "its crates are not available",
    ),
];

/// The peers whose programs are there, and why the others are not. If none was built, only
/// those that were `asked` for are mentioned.
pub(super) fn all(asked: &[Transport]) -> (Vec<Transport>, Vec<(Transport, Why)>) {
    let (mut there, mut missing) = (Vec::new(), Vec::new());
    let built = std::env::var_os(FOLDER).is_some();
    for (transport, ..) in PROGRAMS {
        match find(transport) {
            Ok(_) => there.push(transport),
            Err(why) if built || asked.contains(&transport) => missing.push((transport, why)),
            Err(_) => {}
        }
    }
    (there, missing)
}

fn find(transport: Transport) -> Result<PathBuf, Why> {
    let mut programs = PROGRAMS.iter();
    let known = programs.find(|(other, ..)| *other == transport);
    let (_, name, sign, needs) = known.ok_or("it has no program")?;
    find_program(name, sign, needs)
}

fn find_program(name: &str, sign: &str, needs: &str) -> Result<PathBuf, Why> {
    let folder = std::env::var_os(FOLDER).ok_or("`cargo xtask bench` builds its program")?;
    let folder = PathBuf::from(folder);
    let path = folder.join(name);
    if path.is_file() {
        return Ok(path);
    }
    let log = folder.join(format!("{name}.log"));
    let said = std::fs::read_to_string(&log).unwrap_or_default();
    let needs = if said.contains(sign) {
        needs
    } else {
        "its program could not be compiled"
    };
    // A report must not name paths of this machine.
    let here = std::env::current_dir().unwrap_or_default();
    let log = log.strip_prefix(here).unwrap_or(&log);
    Err(format!("{needs}; more in {}", log.display()))
}

/// One channel, known here only by its name.
pub(super) struct Program {
    path: PathBuf,
    name: String,
    /// The number of messages that it can hold.
    depth: u64,
    server: Option<Child>,
}

impl Program {
    pub(super) fn new(transport: Transport, depth: u64) -> Result<Self, Why> {
        find(transport).map(|path| Self::named(path, depth))
    }

    fn named(path: PathBuf, depth: u64) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (pid, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Self {
            path,
            name: format!("shoal-bench-{pid}-{count}"),
            depth,
            server: None,
        }
    }

    /// A store that is still empty.
    pub(super) fn store(store: Store) -> Result<Self, Why> {
        let known = STORES.iter().find(|(other, ..)| *other == store);
        let (_, name, sign, needs) = known.ok_or("it has no program")?;
        let mut program = Self::named(find_program(name, sign, needs)?, 0);
        if store == Store::Redis {
            program.server = Some(redis_server(&program.folder())?);
        }
        Ok(program)
    }

    /// The folder of the files of a store that needs one.
    fn folder(&self) -> PathBuf {
        Path::new("/dev/shm").join(&self.name)
    }

    /// The server of the store, if it has one.
    pub(super) fn server(&self) -> Option<u32> {
        self.server.as_ref().map(Child::id)
    }

    /// Puts this many keys into a store.
    pub(super) fn fill(&self, keys: u64) -> Result<(), Failure> {
        let words = self.keys("fill", 0, 0, 1, keys);
        let status = Command::new(&self.path).args(&words[1..]).status()?;
        if !status.success() {
            return Err(format!("{} ended with {status}", self.path.display()).into());
        }
        Ok(())
    }

    /// The command line of a worker that uses a store.
    pub(super) fn keys(
        &self,
        role: &str,
        stage: RawFd,
        worker: usize,
        workers: usize,
        keys: u64,
    ) -> Vec<OsString> {
        let mut words = vec![self.path.clone().into(), role.into()];
        words.push(stage.to_string().into());
        words.extend([worker, workers].map(|number| number.to_string().into()));
        words.extend([keys.to_string().into(), self.name.as_str().into()]);
        words
    }

    /// The command line of one end.
    pub(super) fn traffic(
        &self,
        role: &str,
        stage: &Stage,
        worker: usize,
        load: &Load,
    ) -> Vec<OsString> {
        self.words(role, stage, worker, load.topology, load.size, &self.name)
    }

    /// The command line of one end of two channels, `back` being the other.
    pub(super) fn trips(
        &self,
        role: &str,
        stage: &Stage,
        back: &Self,
        size: usize,
    ) -> Vec<OsString> {
        let worker = usize::from(role == "echo");
        self.words(role, stage, worker, Topology::PAIR, size, &back.name)
    }

    /// The command line of one end of messages at a fixed rate. A rate of 0 is full speed.
    pub(super) fn paced(
        &self,
        role: &str,
        stage: &Stage,
        worker: usize,
        size: usize,
        pace: Pace,
    ) -> Vec<OsString> {
        let mut words = self.words(role, stage, worker, Topology::PAIR, size, &self.name);
        let (Pace::Asleep(rate) | Pace::Awake(rate)) = pace else {
            words.push("0".into());
            return words;
        };
        words.push(rate.to_string().into());
        words
    }

    fn words(
        &self,
        role: &str,
        stage: &Stage,
        worker: usize,
        topology: Topology,
        size: usize,
        back: &str,
    ) -> Vec<OsString> {
        let numbers = [worker, topology.producers, topology.consumers, size];
        let mut words = vec![self.path.clone().into(), role.into()];
        words.push(stage.fd().to_string().into());
        words.extend(numbers.map(|number| number.to_string().into()));
        words.push(self.depth.to_string().into());
        words.extend([self.name.as_str().into(), back.into()]);
        words
    }
}

/// A server that stores nothing on a disk and listens in `folder`.
fn redis_server(folder: &Path) -> Result<Child, Why> {
    let failed = |err: std::io::Error| match err.kind() {
        std::io::ErrorKind::NotFound => "there is no redis-server (Debian: redis-server)".into(),
        _ => format!("redis-server: {err}"),
    };
    std::fs::create_dir_all(folder).map_err(failed)?;
    let mut command = Command::new("redis-server");
    command.args(["--port", "0", "--save", "", "--appendonly", "no"]);
    command.arg("--unixsocket").arg(folder.join("redis.sock"));
    command.stdin(Stdio::null()).stdout(Stdio::null());
    ends_with_us(&mut command).spawn().map_err(failed)
}

impl Drop for Program {
    /// Removes what the workers left, whether or not they were killed: all files with this channel's name, which
    /// contains the pid of this process.
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            let _ = server.kill();
            let _ = server.wait();
        }
        // The files of iceoryx2's services.
        let _ = std::fs::remove_dir_all(std::env::temp_dir().join(&self.name));
        // Boost's queue has exactly this name. The files of iceoryx2 begin with it. Boost's named mutex is a
        // semaphore, whose file has `sem.` before the name.
        let prefix = format!("{}_", self.name);
        for file in std::fs::read_dir("/dev/shm")
            .into_iter()
            .flatten()
            .flatten()
        {
            let name = file.file_name();
            let name = name.to_string_lossy();
            let name = name.trim_start_matches("sem.");
            if name == self.name || name.starts_with(&prefix) {
                let _ = std::fs::remove_file(file.path());
                // The entries of LMDB and Redis are folders.
                let _ = std::fs::remove_dir_all(file.path());
            }
        }
    }
}
