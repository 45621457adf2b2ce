//! Runs scenarios, many at a time, and says what came of them; a panic in one is that one's failure.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::thread::JoinHandle;
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
    /// Texts that no user wrote, merged from two.
    pub merge_count: u64,
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.act_count += other.act_count;
        self.message_count += other.message_count;
        self.crash_count += other.crash_count;
        self.lost_count += other.lost_count;
        self.copy_count += other.copy_count;
        self.merge_count += other.merge_count;
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
    catch(|| World::play(scenario, story.clone()))
}

/// Does what ends with a panic where a promise is broken.
///
/// # Errors
/// What is broken.
pub fn catch<T>(play: impl FnOnce() -> T) -> Result<T, Broken> {
    hear_panics();
    IS_RUNNING.set(true);
    let outcome = catch_unwind(AssertUnwindSafe(play));
    IS_RUNNING.set(false);
    outcome.map_err(|panic| Broken { at: PANICKED_AT.take(), message: message_of(&*panic) })
}

/// How many runs are made at a time, and when no more.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Effort {
    /// Runs at a time; without it as many as there are cores.
    #[arg(long)]
    pub jobs: Option<usize>,
    /// Failures after which no other run is begun.
    #[arg(long, default_value_t = 1)]
    pub failures: usize,
    /// Seconds after which a run that has not ended counts as one that hangs.
    #[arg(long, default_value_t = 300)]
    pub patience: u64,
    /// Runs that are made at most to find a smaller one that fails as well.
    #[arg(long, default_value_t = 400)]
    pub trials: usize,
}

/// Runs what is selected. One that goes on for longer than whoever waits is patient is a failure too; its thread is left
/// to itself.
pub fn run(selection: &Selection, effort: &Effort) -> Report {
    let cores = || std::thread::available_parallelism().map_or(1, Into::into);
    let (jobs, patience) = (effort.jobs.unwrap_or_else(cores), Duration::from_secs(effort.patience));
    let runs = Arc::new(Runs {
        selection: selection.clone(),
        effort: *effort,
        next: AtomicU64::new(0),
        is_enough: AtomicBool::new(false),
        report: Mutex::default(),
    });
    let begin = Instant::now();
    let mut workers: Vec<Worker> = (0..jobs.max(1)).map(|_| Worker::start(runs.clone())).collect();
    while !workers.is_empty() {
        std::thread::sleep(WATCH_INTERVAL);
        for worker in std::mem::take(&mut workers) {
            if worker.thread.is_finished() {
                worker.thread.join().unwrap_or_else(|panic| resume_unwind(panic));
                continue;
            }
            match hang(&worker.present, patience) {
                Some(failure) => runs.add_failure(failure),
                None => workers.push(worker),
            }
        }
    }
    let mut report = runs.report.lock().unwrap_or_else(PoisonError::into_inner).clone();
    report.elapsed = begin.elapsed();
    report.failures.sort_by_key(|failure| failure.scenario.seed);
    report
}

/// How often it is looked whether a run hangs.
const WATCH_INTERVAL: Duration = Duration::from_millis(20);

/// What the threads of one call of [`run`] share.
struct Runs {
    selection: Selection,
    effort: Effort,
    next: AtomicU64,
    is_enough: AtomicBool,
    /// Held for one run's outcome.
    report: Mutex<Report>,
}

impl Runs {
    fn work(&self, present: &Present) {
        while !self.is_enough.load(Ordering::Relaxed) {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.selection.seeds {
                return;
            }
            let scenario = Scenario::new(self.selection.first_seed + number, &self.selection);
            let begin = Instant::now();
            let outcome = run_watched(&scenario, &Story::default(), present);
            let elapsed = begin.elapsed();
            let failure = outcome.as_ref().err().map(|broken| failure(&scenario, broken, present, self.effort.trials));
            let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
            report.seed_count += 1;
            report.slowest = report.slowest.max((elapsed, scenario.seed));
            if let Ok(tally) = outcome {
                report.tally.add(&tally);
                report.longest = report.longest.max((tally.act_count, scenario.seed));
            }
            drop(report);
            failure.into_iter().for_each(|failure| self.add_failure(failure));
        }
    }

    fn add_failure(&self, failure: Failure) {
        let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        report.failures.push(failure);
        if report.failures.len() >= self.effort.failures {
            self.is_enough.store(true, Ordering::Relaxed);
        }
    }
}

/// The run that a thread is in, and since when. Held for one note or one look.
pub(super) type Present = Mutex<Option<(Scenario, Instant)>>;

struct Worker {
    thread: JoinHandle<()>,
    present: Arc<Present>,
}

impl Worker {
    fn start(runs: Arc<Runs>) -> Self {
        let present = Arc::<Present>::default();
        let noted = present.clone();
        Self { thread: std::thread::spawn(move || runs.work(&noted)), present }
    }
}

/// Runs one scenario and notes when it began, for whoever watches.
pub(super) fn run_watched(scenario: &Scenario, story: &Story, present: &Present) -> Result<Tally, Broken> {
    let note = |run| *present.lock().unwrap_or_else(PoisonError::into_inner) = run;
    note(Some((scenario.clone(), Instant::now())));
    let outcome = run_one(scenario, story);
    note(None);
    outcome
}

/// The failure of a run that does not end, if it is one.
fn hang(present: &Present, patience: Duration) -> Option<Failure> {
    let present = present.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let (scenario, _) = present.filter(|(_, begin)| begin.elapsed() >= patience)?;
    let message = format!("still runs after {} s", patience.as_secs());
    let broken = Broken { at: "it hangs".to_owned(), message };
    Some(Failure { smallest: scenario.clone(), scenario, broken, lines: Vec::new() })
}

/// Makes a failing scenario small and has it told.
fn failure(scenario: &Scenario, broken: &Broken, present: &Present, trial_count_max: usize) -> Failure {
    let smallest = shrink(scenario, broken, present, trial_count_max);
    let story = Story::kept();
    let broken = match run_watched(&smallest, &story, present) {
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

#[cfg(test)]
mod tests {
    use super::super::scenario::Steps;
    use super::*;

    #[test]
    fn a_run_that_does_not_end_is_a_failure_with_its_seed() {
        let selection = Selection {
            seeds: 1,
            first_seed: 7,
            devices: Some(2),
            faults: None,
            manner: None,
            length: Some(3),
            verbs: 1,
            steps: Some(Steps::default()),
        };
        let scenario = Scenario::new(7, &selection);
        let present = Present::new(Some((scenario.clone(), Instant::now())));
        let failure = hang(&present, Duration::ZERO).unwrap();
        assert_eq!(failure.smallest, scenario);
        assert!(failure.to_string().contains("--first-seed 7 "));
        assert!(hang(&present, Duration::MAX).is_none());
        assert!(hang(&Present::new(None), Duration::ZERO).is_none(), "no run, no failure");
    }
}
