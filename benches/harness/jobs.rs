//! The start of a worker process: it finds its job and runs it.

use std::io::Write;

use super::busy::Busy;
use super::failure::Failure;
use super::stage::Stage;
use super::workers::{JOB, Job, Part};
use super::{baseline, cores, handover, idle, latency, map, paced, traffic};

/// If this process is a worker: does its job and ends. Returns in every other process.
pub(crate) fn worker() {
    let Some(job) = std::env::var_os(JOB) else {
        return;
    };
    let code = match work(&job.to_string_lossy()) {
        Ok(()) => 0,
        Err(why) => {
            // Not by `eprintln!`, which panics if this cannot be written.
            let _ = writeln!(std::io::stderr(), "a benchmark's worker failed: {why}");
            1
        }
    };
    std::process::exit(code);
}

fn work(job: &str) -> Result<(), Failure> {
    let job: Job = serde_json::from_str(job)?;
    let stage = Stage::inherited(job.stage)?;
    if let Some(core) = job.core {
        cores::pin(core)?;
    }
    type Run = fn(Job, &Stage) -> Result<(), Failure>;
    let parts: [(&str, Run); 8] = [
        (traffic::Part::NAME, run::<traffic::Part>),
        (latency::Part::NAME, run::<latency::Part>),
        (baseline::Part::NAME, run::<baseline::Part>),
        (map::Part::NAME, run::<map::Part>),
        (idle::Part::NAME, run::<idle::Part>),
        (handover::Part::NAME, run::<handover::Part>),
        (paced::Part::NAME, run::<paced::Part>),
        (Busy::NAME, run::<Busy>),
    ];
    let known = parts.iter().find(|(name, _)| *name == job.name);
    let (_, run) = known.ok_or("there is no such part")?;
    run(job, &stage)
}

fn run<P: Part>(job: Job, stage: &Stage) -> Result<(), Failure> {
    serde_json::from_value::<P>(job.part)?.work(stage)
}
