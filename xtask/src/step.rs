//! The steps of a task, which are reported one by one.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::command::{WATCHDOG, end_of, run_quietly};

/// Runs one step of the tests in a separate process, and prints its output when it has ended.
fn by_itself(name: &str) -> (Duration, Result<(), String>) {
    let started = Instant::now();
    let (printed, result) = match std::env::current_exe() {
        Ok(task) => run_quietly(
            Command::new(task).args(["test", "--only", name]),
            6 * WATCHDOG,
        ),
        Err(err) => (String::new(), Err(format!("this task's program: {err}"))),
    };
    println!("{printed}");
    let result = result.map_err(|why| format!("{why}\n{}", end_of(&printed)));
    (started.elapsed(), result)
}

/// The work of a step.
type Work = fn() -> Result<(), String>;

/// What a task does, step by step, and how long each step took.
pub(crate) struct Steps {
    only: String,
    /// The names of the steps that were not selected.
    others: Vec<String>,
    done: Vec<(String, Duration, Result<(), String>)>,
}

impl Steps {
    /// Runs only the steps whose names contain `only`.
    pub(crate) fn new(only: &str) -> Self {
        Self {
            only: only.to_owned(),
            others: Vec::new(),
            done: Vec::new(),
        }
    }

    /// Runs one step. A failure is recorded, and the next steps still run.
    pub(crate) fn step(&mut self, name: &str, work: impl FnOnce() -> Result<(), String>) {
        if !name.contains(&self.only) {
            self.others.push(name.to_owned());
            return;
        }
        println!("\n==== {name}");
        let started = Instant::now();
        let result = work();
        if let Err(why) = &result {
            eprintln!("{why}");
        }
        self.done.push((name.to_owned(), started.elapsed(), result));
    }

    /// Runs these steps at the same time, each in a separate process, whose output is printed when it has ended. If
    /// only some steps are selected, they run here, one after the other.
    pub(crate) fn side_by_side(&mut self, steps: &[(&str, Work)]) {
        if !self.only.is_empty() {
            for (name, work) in steps {
                self.step(name, work);
            }
            return;
        }
        std::thread::scope(|scope| {
            let all: Vec<_> = steps
                .iter()
                .map(|(name, _)| (name, scope.spawn(|| by_itself(name))))
                .collect();
            for (name, work) in all {
                let panicked = |_| (Duration::ZERO, Err("its thread panicked".to_owned()));
                let (took, result) = work.join().unwrap_or_else(panicked);
                self.done.push(((*name).to_owned(), took, result));
            }
        });
    }

    /// Prints the table of steps and counts the failures.
    pub(crate) fn finish(self) -> Result<(), String> {
        println!("\n==== summary");
        for (name, took, result) in &self.done {
            let word = if result.is_ok() { "ok    " } else { "FAILED" };
            println!("{word} {:>7.1} s  {name}", took.as_secs_f64());
        }
        // Repeated, for readers who see only the end of the output.
        for (name, _, result) in &self.done {
            if let Err(why) = result {
                println!("-- {name}: {why}");
            }
        }
        let failed = self.done.iter().filter(|(_, _, it)| it.is_err()).count();
        println!("{} passed, {failed} failed", self.done.len() - failed);
        match (failed, self.done.len()) {
            (0, 1..) => Ok(()),
            (0, 0) => Err(format!(
                "no step's name contains {:?}; the steps are: {}",
                self.only,
                self.others.join("; ")
            )),
            (1, _) => Err("1 step failed".to_owned()),
            _ => Err(format!("{failed} steps failed")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_fails_fails_the_task_and_not_the_next_step() {
        let mut steps = Steps::new("");
        let mut reached = false;
        steps.step("first", || Err("it broke".to_owned()));
        steps.step("second", || {
            reached = true;
            Ok(())
        });
        assert_eq!(steps.finish(), Err("1 step failed".to_owned()));
        assert!(reached);
        assert!(Steps::new("no such step").finish().is_err());
    }
}
