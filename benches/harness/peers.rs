//! Other projects' queues. Their ends are programs of `benches/peers`, which are built apart
//! from this one, so that measuring beside them costs nobody a dependency.
//!
//! `cargo xtask bench` builds those it can and says where they are. They are told what to do
//! in words, which `benches/peers/worker.hpp` explains, and they tell on the same [`Stage`].

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use super::Topology;
use super::channel::{Transport, Why};
use super::report::Skipped;
use super::stage::Stage;
use super::traffic::Load;

/// Where the folder with the programs is. Without it these peers are not spoken of.
const FOLDER: &str = "SHOAL_BENCH_PEERS";

/// What each program is called and needs.
const PROGRAMS: [(Transport, &str, &str); 3] = [
    (
        Transport::Iceoryx2,
        "peer-iceoryx2",
        "its crates could not be built",
    ),
    (
        Transport::Boost,
        "peer-boost",
        "Boost is not installed (Debian: libboost1.81-dev)",
    ),
    (
        Transport::Zeromq,
        "peer-zeromq",
        "ZeroMQ is not installed (Debian: libzmq3-dev)",
    ),
];

/// The peers whose programs are there, and why the others are not.
pub(super) fn all() -> (Vec<Transport>, Vec<Skipped>) {
    let (mut there, mut missing) = (Vec::new(), Vec::new());
    if std::env::var_os(FOLDER).is_some() {
        for (transport, ..) in PROGRAMS {
            match find(transport) {
                Ok(_) => there.push(transport),
                Err(why) => missing.push(Skipped {
                    what: "peer",
                    transport,
                    size: None,
                    topology: "any".to_owned(),
                    why,
                }),
            }
        }
    }
    (there, missing)
}

fn find(transport: Transport) -> Result<PathBuf, Why> {
    let mut programs = PROGRAMS.iter();
    let known = programs.find(|(other, ..)| *other == transport);
    let (_, name, needs) = known.ok_or("it has no program")?;
    let folder = PathBuf::from(std::env::var_os(FOLDER).unwrap_or_default());
    let path = folder.join(name);
    if path.is_file() {
        return Ok(path);
    }
    let log = folder.join(format!("{name}.log"));
    Err(format!("{needs}; more in {}", log.display()))
}

/// One channel, of which only its name is here.
pub(super) struct Program {
    path: PathBuf,
    name: String,
    /// Messages that it has room for.
    depth: u64,
}

impl Program {
    pub(super) fn new(transport: Transport, depth: u64) -> Result<Self, Why> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (pid, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Ok(Self {
            path: find(transport)?,
            name: format!("shoal-bench-{pid}-{count}"),
            depth,
        })
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

impl Drop for Program {
    fn drop(&mut self) {
        // Boost makes a file of this name, and leaves it; iceoryx2 makes several that begin so
        // and a folder, and leaves them if a worker is killed.
        for file in std::fs::read_dir("/dev/shm")
            .into_iter()
            .flatten()
            .flatten()
        {
            let name = file.file_name();
            let rest = name.to_str().and_then(|it| it.strip_prefix(&self.name));
            if rest.is_some_and(|it| it.is_empty() || it.starts_with('_')) {
                let _ = std::fs::remove_file(file.path());
            }
        }
        let _ = std::fs::remove_dir_all(self.path.with_file_name(&self.name));
    }
}
