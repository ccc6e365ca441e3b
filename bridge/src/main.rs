//! `shoal-bridge`: carries queues and maps of this machine to others and back.

use std::fmt::Display;
use std::future::poll_fn;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::task::Poll;

use clap::{Args, Parser, Subcommand};
use shoal_bridge::bridge::{self, BridgeOptions};
use shoal_bridge::context::Context;
use shoal_bridge::options::Carried;
use shoal_bridge::{detach, error, names, options, status};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// Carries Shoal's queues and maps between machines, over NATS JetStream.
///
/// The address of the server, and the credentials for it, come from a context file or from the environment:
/// NATS_URL, NATS_CREDS, NATS_NKEY, NATS_USER, NATS_PASSWORD, NATS_TOKEN, NATS_CA, NATS_CERT, NATS_KEY,
/// NATS_CONTEXT. Without an address it is nats://127.0.0.1:4222. Logs go to standard error; RUST_LOG sets the
/// level (info by default).
///
/// Exit codes: 0 stopped by SIGTERM, SIGINT or SIGHUP, 1 failed, 2 wrong usage, 3 the server refuses, a
/// certificate is not trusted, or a stream has other settings, 4 no bridge runs (status).
#[derive(Parser)]
#[command(name = "shoal-bridge", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Carry objects until a signal comes
    Run(Run),
    /// Show the state of the bridges of this machine
    Status(Status),
    /// Make queues or maps local ones again, which no bridge carries
    Detach(Detach),
}

#[derive(Args)]
struct Detach {
    /// The queues or maps. No bridge may carry them
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

impl Detach {
    fn run(self) -> error::Result<()> {
        let mut done = Ok(());
        for name in &self.names {
            match detach::detach(name) {
                Ok(true) => {}
                Ok(false) => say(&format!("{name} is a local object already")),
                // The others are detached nevertheless. The caller prints the last error.
                Err(why) => {
                    if let Err(before) = std::mem::replace(&mut done, Err(why)) {
                        say(&before);
                    }
                }
            }
        }
        done
    }
}

#[derive(Args)]
struct Run {
    /// A queue: NAME or NAME:SETTING=VALUE,… with replicas, max-messages, max-bytes, dedup, ack-wait,
    /// in-flight, max-attempts
    #[arg(long = "queue", value_name = "QUEUE")]
    queues: Vec<Carried>,
    /// A map: NAME or NAME:SETTING=VALUE,… with replicas, max-bytes, dedup, and the settings
    /// sets-wait and discard, which have no value
    #[arg(long = "map", value_name = "MAP")]
    maps: Vec<Carried>,
    /// A context file of the nats command line, or the name of one
    #[arg(long, value_name = "FILE")]
    context: Option<PathBuf>,
    /// The prefix of all names on the server
    #[arg(long, default_value = names::DEFAULT_PREFIX)]
    prefix: String,
    /// Serve metrics in Prometheus text on this port of the loopback interface
    #[arg(long, value_name = "PORT", allow_negative_numbers = true)]
    metrics: Option<u16>,
    /// How many copies of large messages a cluster keeps
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = 1,
        value_parser = replicas,
        allow_negative_numbers = true
    )]
    replicas: usize,
    /// The limit of the server for all large messages together, such as 10GiB, when a bridge creates their store
    #[arg(long, value_name = "SIZE", value_parser = size)]
    large_max_bytes: Option<i64>,
    /// The name of this machine in logs and reports, instead of its host name
    #[arg(long, value_name = "NAME")]
    machine: Option<String>,
}

#[derive(Args)]
struct Status {
    /// As JSON
    #[arg(long)]
    json: bool,
}

fn size(text: &str) -> Result<i64, &'static str> {
    let given = options::bytes(text).filter(|it| *it > 0);
    given.ok_or("expected a size, such as 65536, 64KiB or 2GiB")
}

fn replicas(text: &str) -> Result<usize, &'static str> {
    let given = text.parse().ok().filter(|it| (1..=5).contains(it));
    given.ok_or("expected 1 to 5")
}

/// The arguments, or the exit code once help was printed or an error.
fn parse() -> Result<Cli, ExitCode> {
    Cli::try_parse().map_err(|err| {
        let printed = err.print().and_then(|()| std::io::stdout().flush());
        match (err.exit_code(), printed) {
            (0, Err(why)) if why.kind() != ErrorKind::BrokenPipe => {
                say(&format_args!("cannot write: {why}"));
                ExitCode::FAILURE
            }
            (0, _) => ExitCode::SUCCESS,
            _ => ExitCode::from(2),
        }
    })
}

fn main() -> ExitCode {
    let command = match parse() {
        Ok(cli) => cli.command,
        Err(code) => return code,
    };
    let done = match command {
        Command::Run(run) => run.run(),
        Command::Status(status) => return status.run(),
        Command::Detach(detach) => detach.run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            say(&why);
            match why {
                error::Error::Invalid { .. } => ExitCode::from(2),
                error::Error::Refused { .. }
                | error::Error::Certificate { .. }
                | error::Error::Differs { .. } => ExitCode::from(3),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

/// One line on standard error. A failure to write it changes nothing, least of all the exit code.
fn say(what: &dyn Display) {
    let _ = std::io::stderr().write_all(format!("shoal-bridge: {what}\n").as_bytes());
}

impl Run {
    fn run(self) -> error::Result<()> {
        let logs = tracing_subscriber::fmt().with_env_filter(filter()?);
        let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
        logs.with_writer(std::io::stderr)
            .with_ansi(is_terminal)
            .with_target(false)
            // An internal error would be printed to standard error, which panics if its reader has gone.
            .log_internal_errors(false)
            .init();
        let mut options = BridgeOptions::new(Context::load(self.context.as_deref())?);
        options.prefix = self.prefix;
        options.queues = self.queues;
        options.maps = self.maps;
        options.metrics = self.metrics;
        options.replicas = self.replicas;
        options.large_max_bytes = self.large_max_bytes;
        if let Some(machine) = self.machine {
            options.machine = machine;
        }
        // A quarter of the cores: the others are for the programs whose messages it carries. On two cores, one
        // thread publishes more than two threads do.
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads((cores / 4).max(1))
            .enable_all()
            .build();
        let runtime = runtime.map_err(|why| error::Error::Broken {
            task: "the runtime".to_owned(),
            why: why.to_string(),
        })?;
        let done = runtime.block_on(bridge::run(options, stopped()));
        // This does not wait for threads that wait in shared memory: the next bridge continues their work.
        runtime.shutdown_background();
        done
    }
}

/// What is logged. An empty variable counts as none.
fn filter() -> error::Result<EnvFilter> {
    let text = std::env::var_os("RUST_LOG").unwrap_or_default();
    let text = text.to_string_lossy();
    let filter = match text.trim() {
        "" => EnvFilter::try_new("info,async_nats=warn"),
        text => EnvFilter::try_new(text),
    };
    let filter = filter.map_err(|why| error::Error::Invalid {
        what: format!("RUST_LOG {text:?}"),
        why: why.to_string(),
    })?;
    // At a lower level, the client logs addresses with their passwords.
    let connects = "async_nats::connector=info".parse();
    match (filter.max_level_hint(), connects) {
        (Some(level), Ok(connects)) if level > LevelFilter::INFO => {
            Ok(filter.add_directive(connects))
        }
        _ => Ok(filter),
    }
}

/// Ready when a signal stops the bridge. Those that its caller ignores, such as `nohup`, do not stop it.
async fn stopped() {
    let ending = [
        SignalKind::terminate(),
        SignalKind::interrupt(),
        SignalKind::hangup(),
    ];
    let ending = ending.into_iter().filter(|kind| !is_ignored(*kind));
    // Where no handler can be installed, the signal ends the process.
    let mut ending: Vec<_> = ending.filter_map(|kind| signal(kind).ok()).collect();
    poll_fn(|context| {
        let came = ending.iter_mut().any(|it| it.poll_recv(context).is_ready());
        if came { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

fn is_ignored(kind: SignalKind) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    ignored.unwrap_or(0) & 1 << (kind.as_raw_value() - 1) != 0
}

impl Status {
    fn run(self) -> ExitCode {
        let reports = match status::reports() {
            Ok(reports) => reports,
            Err(why) => {
                say(&why);
                return ExitCode::FAILURE;
            }
        };
        let text = if self.json {
            serde_json::to_string_pretty(&reports).unwrap_or_default() + "\n"
        } else {
            status::table(&reports)
        };
        let mut to = std::io::stdout().lock();
        match to.write_all(text.as_bytes()).and_then(|()| to.flush()) {
            // The reader has closed the pipe: it needs no more.
            Err(why) if why.kind() != ErrorKind::BrokenPipe => {
                say(&format!("standard output: {why}"));
                return ExitCode::FAILURE;
            }
            _ => {}
        }
        if reports.is_empty() && !self.json {
            say(&"no bridge runs on this machine");
        }
        if reports.is_empty() {
            ExitCode::from(4)
        } else {
            ExitCode::SUCCESS
        }
    }
}
