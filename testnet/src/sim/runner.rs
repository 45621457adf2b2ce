//! Runs scenarios, many at a time, and says what came of them; a panic in one is that one's failure.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use super::scenario::{Scenario, Selection};
use super::shrink::shrink;
use super::story::Story;
use super::world::World;

/// What happened in runs, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Acts of users.
    pub act_count: u64,
    /// Messages between devices, and chunks that were asked for.
    pub message_count: u64,
    /// Processes that stopped without being asked to.
    pub crash_count: u64,
    /// Files that lost their bytes to a power loss and waited for their users.
    pub lost_count: u64,
    /// Conflict copies at the end.
    pub copy_count: u64,
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.act_count += other.act_count;
        self.message_count += other.message_count;
        self.crash_count += other.crash_count;
        self.lost_count += other.lost_count;
        self.copy_count += other.copy_count;
    }
}

/// How a run ended that broke a promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Where, in the sources.
    pub at: String,
    /// What.
    pub message: String,
}

/// A run that failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// As it was drawn.
    pub scenario: Scenario,
    /// As small as it became.
    pub smallest: Scenario,
    /// What is wrong with the smallest.
    pub broken: Broken,
    /// What happened in the smallest.
    pub lines: Vec<String>,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { scenario, smallest, broken, lines } = self;
        for line in lines {
            writeln!(f, "    {line}")?;
        }
        writeln!(f, "seed {}: {} ({})", scenario.seed, broken.message, broken.at)?;
        writeln!(f, "replay: cargo run --release -p zerocloud-testnet -- sim {smallest}")?;
        write!(f, "in full: {scenario}")
    }
}

/// What came of many runs.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Seeds that were run.
    pub seed_count: u64,
    /// What happened in those that hold.
    pub tally: Tally,
    /// The run with the most acts: how many, and its seed.
    pub longest: (u64, u64),
    /// The run that took longest, and its seed.
    pub slowest: (Duration, u64),
    /// Those that failed, by seed.
    pub failures: Vec<Failure>,
    /// The time that all took.
    pub elapsed: Duration,
}

/// Runs one scenario.
///
/// # Errors
/// What is broken.
pub fn run_one(scenario: &Scenario, story: &Story) -> Result<Tally, Broken> {
    hear_panics();
    IS_RUNNING.set(true);
    let outcome = catch_unwind(AssertUnwindSafe(|| World::play(scenario, story.clone())));
    IS_RUNNING.set(false);
    outcome.map_err(|panic| Broken { at: PANICKED_AT.take(), message: message_of(&*panic) })
}

/// Runs what is selected on so many threads. After `failure_count_max` failures no other run is begun.
pub fn run(selection: &Selection, jobs: usize, failure_count_max: usize) -> Report {
    let (next, is_enough) = (AtomicU64::new(0), AtomicBool::new(false));
    let report = Mutex::new(Report::default());
    let begin = Instant::now();
    let work = || {
        while !is_enough.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= selection.seeds {
                return;
            }
            let scenario = Scenario::new(selection.first_seed + number, selection);
            let begin = Instant::now();
            let outcome = run_one(&scenario, &Story::default());
            let elapsed = begin.elapsed();
            let failure = outcome.as_ref().err().map(|broken| failure(&scenario, broken));
            let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
            report.seed_count += 1;
            report.slowest = report.slowest.max((elapsed, scenario.seed));
            if let Ok(tally) = outcome {
                report.tally.add(&tally);
                report.longest = report.longest.max((tally.act_count, scenario.seed));
            }
            report.failures.extend(failure);
            if report.failures.len() >= failure_count_max {
                is_enough.store(true, Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        (0..jobs.max(1)).for_each(|_| drop(scope.spawn(work)));
    });
    let mut report = report.into_inner().unwrap_or_else(PoisonError::into_inner);
    report.elapsed = begin.elapsed();
    report.failures.sort_by_key(|failure| failure.scenario.seed);
    report
}

/// Makes a failing scenario small and has it told.
fn failure(scenario: &Scenario, broken: &Broken) -> Failure {
    let smallest = shrink(scenario, broken);
    let story = Story::kept();
    let broken = match run_one(&smallest, &story) {
        Err(broken) => broken,
        Ok(_) => Broken {
            at: broken.at.clone(),
            message: format!(
                "{} (but not when it was run again: something is not drawn from the seed)",
                broken.message
            ),
        },
    };
    Failure { scenario: scenario.clone(), smallest, broken, lines: story.lines() }
}

thread_local! {
    static IS_RUNNING: Cell<bool> = const { Cell::new(false) };
    static PANICKED_AT: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Has the place of a panic in a run noted instead of told.
fn hear_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let told = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if IS_RUNNING.get() {
                PANICKED_AT.set(panic.location().map(ToString::to_string).unwrap_or_default());
            } else {
                told(panic);
            }
        }));
    });
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words").to_owned()
}
