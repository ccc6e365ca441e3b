//! A fuzzer of segment bytes: whatever an object's file contains, every call returns.
//!
//! A *case* is one object, some [corruptions](common::corruption), and a seed that determines all calls on the
//! object. Each case runs in a process of its own. If it crashes, panics or hangs, the case has failed, and is
//! reduced, corruption by corruption, until none can be left out. The result is printed as one line;
//! `corpus.txt` has such lines, and they are tried first.
//!
//! The tests here try some cases, the same ones each time. To search for new ones, and to try one:
//!
//! ```sh
//! SHOAL_SOAK_SECONDS=600 cargo test --release --test hostile -- --ignored
//! SHOAL_CASE='list 1 nudge:h97:1' cargo test --test hostile once
//! ```

#[path = "../common/mod.rs"]
mod common;
mod relatives;
mod victims;

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use common::corruption::{Body, Corruption, number, some_corruption};
use common::{Name, Random, fork, soak_length, watchdog};
use proptest::prelude::*;
use proptest::test_runner::{TestCaseError, TestError, TestRng, TestRunner};
use shoal::Kind;
use victims::{KINDS, Victim, Visitor, is_refusal, visit};

/// A case takes milliseconds. If it takes this long, it hangs, even on a busy machine.
const HANGS_SECONDS: u32 = 60;

/// An object, its corruptions, and the seed of the calls.
#[derive(Clone)]
struct Case {
    kind: Kind,
    seed: u64,
    corruptions: Vec<Corruption>,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.seed)?;
        self.corruptions
            .iter()
            .try_for_each(|it| write!(f, " {it}"))
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Case {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let mut words = line.split_whitespace();
        let kind = words.next().ok_or("no kind of object")?;
        let kind = KINDS.into_iter().find(|it| it.to_string() == kind);
        let seed = words.next().ok_or("no seed")?;
        Ok(Self {
            kind: kind.ok_or("no such kind of object")?,
            seed: number(seed)?,
            corruptions: words.map(str::parse).collect::<Result<_, _>>()?,
        })
    }
}

/// What a case does in its process.
struct Corrupting<'a> {
    case: &'a Case,
    name: &'a Name,
}

impl Visitor for Corrupting<'_> {
    fn visit<V: Victim>(&self) {
        let mut random = Random(self.case.seed | 1);
        let victim = V::make(self.name, &mut random);
        let mut body = Body::open(&self.name.path(), V::anatomy());
        // Some at a time: what is done in between spreads them.
        for corruptions in self.case.corruptions.chunks(4) {
            body.look();
            for corruption in corruptions {
                body.apply(corruption);
            }
            victim.use_everything(&mut random);
        }
        // Calls of a later process return too.
        match V::open(self.name) {
            Ok(other) => (0..3).for_each(|_| other.use_everything(&mut random)),
            Err(err) => assert!(is_refusal(&err), "{err}"),
        }
        victim.use_everything(&mut random);
    }
}

/// The same while the object is in use: a thread repeatedly writes the corruptions and restores the bytes.
struct Writing<'a>(Corrupting<'a>);

impl Visitor for Writing<'_> {
    fn visit<V: Victim>(&self) {
        let Corrupting { case, name } = &self.0;
        let mut random = Random(case.seed | 1);
        let victim = V::make(name, &mut random);
        let body = Body::open(&name.path(), V::anatomy());
        let heal = body.healer();
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut random = Random(case.seed | 1);
                while !over.load(Ordering::Relaxed) {
                    for corruption in &case.corruptions {
                        // Rarely, because a lock whose owner does not exist causes a repair of what it
                        // guards, which would take most of the time.
                        if !body.hits_a_lock(corruption) || random.below(500) == 0 {
                            body.apply(corruption);
                        }
                    }
                    heal();
                }
            });
            // A panic ends the writing too.
            let _ends = Ends(&over);
            (0..20).for_each(|_| victim.use_everything(&mut random));
        });
    }
}

/// Ends the writing when dropped.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs `work` in a process of its own. The error says how it failed.
fn survives(name: &Name, work: impl FnOnce()) -> Result<(), String> {
    // Each case restarts the watchdog, as the start of a test does.
    watchdog();
    let mut child = fork(|| {
        // SAFETY: a watchdog for this process.
        unsafe { libc::alarm(HANGS_SECONDS) };
        work();
    });
    let status = child.wait();
    if status != 0 {
        // The files that it did not remove.
        let _ = std::fs::remove_file(name.path());
        let _ = shoal::gc(false);
    }
    match status {
        0 => Ok(()),
        _ if libc::WIFEXITED(status) => Err("it panicked".to_owned()),
        _ => match libc::WTERMSIG(status) {
            libc::SIGALRM => Err("it hung".to_owned()),
            signal => Err(format!("signal {signal} ended it")),
        },
    }
}

fn try_case(case: &Case) -> Result<(), String> {
    let name = Name::new("hostile");
    survives(&name, || {
        let name = &name;
        visit(case.kind, &Corrupting { case, name });
    })
}

fn try_case_while_used(case: &Case) -> Result<(), String> {
    let name = Name::new("written-over");
    survives(&name, || {
        let name = &name;
        visit(case.kind, &Writing(Corrupting { case, name }));
    })
}

/// Cases of one kind. A smaller one has fewer corruptions, and is else the same.
fn cases(kind: Kind, most: usize) -> impl Strategy<Value = Case> {
    let corruption = any::<u64>().prop_map(|seed| some_corruption(&mut Random(seed | 1)));
    let corruptions = prop::collection::vec(corruption.no_shrink(), 1..most);
    (any::<u32>().no_shrink(), corruptions).prop_map(move |(seed, corruptions)| Case {
        kind,
        seed: seed.into(),
        corruptions,
    })
}

/// Tries so many cases of one kind, and fails with the smallest that fails.
fn try_cases(
    count: u32,
    strategy: &impl Strategy<Value = Case>,
    rng: Option<TestRng>,
    attempt: fn(&Case) -> Result<(), String>,
) {
    let config = ProptestConfig {
        cases: count,
        failure_persistence: None,
        max_shrink_iters: 300,
        ..ProptestConfig::default()
    };
    let mut runner = match rng {
        Some(rng) => TestRunner::new_with_rng(config, rng),
        None => TestRunner::new(config),
    };
    let done = runner.run(strategy, |case| attempt(&case).map_err(TestCaseError::fail));
    match done {
        Ok(()) => {}
        Err(TestError::Fail(why, case)) => panic!("{why}; for tests/hostile/corpus.txt:\n{case}"),
        Err(err) => panic!("{err}"),
    }
}

/// Tries so many cases of each kind, the same ones each time.
fn corrupted(kinds: &[Kind], count: u32) {
    for &kind in kinds {
        let rng = TestRng::deterministic_rng(Default::default());
        try_cases(count, &cases(kind, 24), Some(rng), try_case);
        let rng = TestRng::deterministic_rng(Default::default());
        let few = count / 10;
        try_cases(few, &cases(kind, 60), Some(rng), try_case_while_used);
    }
}

#[test]
fn cases_that_once_crashed_or_hung_return() {
    let one = std::env::var("SHOAL_CASE");
    let corpus = one.unwrap_or_else(|_| include_str!("corpus.txt").to_owned());
    for line in corpus.lines() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let case: Case = line.parse().unwrap_or_else(|why| panic!("{line}: {why}"));
        assert_eq!(case.to_string(), line);
        if let Err(why) = try_case(&case) {
            panic!("{why}: {line}");
        }
    }
}

#[test]
fn calls_on_a_corrupted_queue_return() {
    corrupted(&[Kind::Queue], 150);
}

#[test]
fn calls_on_a_corrupted_pipe_return() {
    corrupted(&[Kind::Pipe], 80);
}

#[test]
fn calls_on_a_corrupted_map_return() {
    corrupted(&[Kind::Map], 80);
}

#[test]
fn calls_on_a_corrupted_list_return() {
    corrupted(&[Kind::List], 120);
}

#[test]
fn calls_on_corrupted_primitives_return() {
    corrupted(&KINDS[4..], 60);
}

// A thousand cases, which take four times as long with the checks of a debug build.
#[test]
#[cfg_attr(debug_assertions, ignore = "the optimised program runs it")]
fn calls_return_whatever_a_word_of_the_header_is() {
    // The headers with most content. Those of queues and maps have 64 shards, or only locks.
    for (kind, words) in [(Kind::List, 144), (Kind::Queue, 232), (Kind::Barrier, 20)] {
        for at in 0..words {
            let anything = [1, 9 << 32 | 1, u64::MAX];
            let put = |word| Corruption::Put(common::corruption::Place::Head(at), word);
            for corruption in anything.map(put) {
                let case = Case {
                    kind,
                    seed: u64::from(at),
                    corruptions: vec![corruption],
                };
                if let Err(why) = try_case(&case) {
                    panic!("{why}; for tests/hostile/corpus.txt:\n{case}");
                }
            }
        }
    }
}

#[test]
#[ignore = "runs for a minute, or as long as SHOAL_SOAK_SECONDS says"]
fn calls_return_after_new_corruptions() {
    let began = Instant::now();
    let mut tried = 0;
    while began.elapsed() < soak_length() {
        for kind in KINDS {
            // Few corruptions pass more checks, many meet each other.
            for (count, most) in [(20, 3), (20, 12), (5, 60)] {
                try_cases(count, &cases(kind, most), None, try_case);
                tried += count;
            }
            try_cases(2, &cases(kind, 60), None, try_case_while_used);
            tried += 2;
        }
    }
    println!("{tried} cases answered");
}
