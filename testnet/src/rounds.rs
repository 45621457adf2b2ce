//! Rounds on real disks: the users of the simulator, on real folders, beside real nodes as processes that are killed at
//! any moment.
//!
//! A seed makes a *world*: two or three nodes on one `ground`, for some rounds of acts and kills, each of which ends
//! with all nodes settled. What is drawn depends on the seed alone; which moment of a node's work it meets does not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a round ends where a promise is broken")]
#![allow(clippy::print_stderr, clippy::print_stdout, reason = "this is what a tool of developers says")]

mod folding;
mod ground;
pub mod hour;
mod owner;
mod world;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use self::ground::Ground;
pub use self::ground::{GroundError, VolumeKind, VolumeKinds};
pub use self::world::Tally;
use self::world::World;
use crate::nodes::program_beside;
use crate::sim::runner::{Broken, catch};
use crate::sim::story::Story;

/// Rounds of one world: to pair nodes takes as long as some of them.
const WORLD_ROUND_COUNT: u64 = 10;

/// Which rounds are wanted.
#[derive(Clone, Debug, clap::Args)]
pub struct Wanted {
    /// How many rounds are played on each kind of volume.
    #[arg(long, default_value_t = 20)]
    pub rounds: u64,
    /// The seed of the first world; each has ten rounds at most, and the next has the next seed.
    #[arg(long, default_value_t = 0)]
    pub first_seed: u64,
    /// On what homes and folders lie: `all`, or kinds with commas between them.
    #[arg(long, default_value = "all")]
    pub volume: VolumeKinds,
    /// The program; without it the one that was built beside this one.
    #[arg(long)]
    pub zerocloud_bin: Option<PathBuf>,
}

/// A world that broke a promise.
#[derive(Debug)]
pub struct Failure {
    /// On what it stood.
    pub kind: VolumeKind,
    /// What all was drawn from.
    pub seed: u64,
    /// In which of its rounds, from 0.
    pub round: u32,
    /// What is wrong.
    pub broken: Broken,
    /// What happened.
    pub lines: Vec<String>,
    /// Where homes and folders are.
    pub kept: PathBuf,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { kind, seed, round, broken, lines, kept } = self;
        for line in lines {
            writeln!(f, "    {line}")?;
        }
        writeln!(f, "{kind}, seed {seed}, round {round}: {} ({})", broken.message, broken.at)?;
        writeln!(f, "homes and folders: {}", kept.display())?;
        let count = round + 1;
        write!(
            f,
            "replay: cargo run -p zerocloud-testnet -- rounds --volume {kind} --first-seed {seed} --rounds {count}"
        )
    }
}

/// What came of the rounds on one kind of volume.
#[derive(Debug)]
pub struct Played {
    /// On what.
    pub kind: VolumeKind,
    /// What that is on this machine.
    pub on: String,
    /// What happened.
    pub tally: Tally,
    /// The time that it took.
    pub elapsed: Duration,
}

impl std::fmt::Display for Played {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { kind, on, tally, elapsed } = self;
        write!(
            f,
            "{kind} ({on}): {} rounds in {:.0} s, {} acts of users, {} nodes killed, {} conflict copies",
            tally.round_count,
            elapsed.as_secs_f64(),
            tally.act_count,
            tally.kill_count,
            tally.copy_count
        )?;
        let rarely = [
            (tally.full_count, "times the disk was filled"),
            (tally.end_count, "nodes ended on a full disk"),
            (tally.collision_count, "trees without a place for all names"),
            (tally.unsure_count, "acts on what changed at that moment"),
        ];
        rarely.iter().filter(|(count, _)| *count > 0).try_for_each(|(count, what)| write!(f, ", {count} {what}"))
    }
}

/// What came of rounds.
#[derive(Debug, Default)]
pub struct Report {
    /// By kind of volume.
    pub played: Vec<Played>,
    /// Kinds of volumes that this machine can't make, and why.
    pub skipped: Vec<(VolumeKind, GroundError)>,
    /// The world that failed, after which nothing else was played.
    pub failure: Option<Failure>,
}

/// Plays the rounds that are wanted, until one fails.
pub fn run(wanted: &Wanted) -> Report {
    let mut report = Report::default();
    for &kind in &wanted.volume.0 {
        let mut played = Played { kind, on: String::new(), tally: Tally::default(), elapsed: Duration::ZERO };
        let begin = Instant::now();
        let mut seed = wanted.first_seed;
        while played.tally.round_count < wanted.rounds {
            let count = (wanted.rounds - played.tally.round_count).min(WORLD_ROUND_COUNT);
            let ground = match Ground::make(kind) {
                Ok(ground) => ground,
                Err(error) => {
                    report.skipped.push((kind, error));
                    break;
                }
            };
            ground.describe().clone_into(&mut played.on);
            report.failure = play(wanted, ground, seed, u32::try_from(count).unwrap_or(u32::MAX), &mut played.tally);
            if report.failure.is_some() {
                break;
            }
            seed += 1;
        }
        played.elapsed = begin.elapsed();
        if !played.on.is_empty() {
            report.played.push(played);
        }
        if report.failure.is_some() {
            break;
        }
    }
    report
}

/// Plays one world, and keeps what it stood on if it fails.
fn play(wanted: &Wanted, ground: Ground, seed: u64, round_count: u32, tally: &mut Tally) -> Option<Failure> {
    let program = wanted.zerocloud_bin.clone().unwrap_or_else(program_beside);
    let story = Story::kept();
    let (mut round, mut found) = (0, Tally::default());
    let outcome = catch(|| {
        let mut world = World::found(&ground, &program, seed, story.clone());
        while round < round_count {
            world.play(round);
            found = world.tally();
            round += 1;
        }
    });
    // What a round that failed counted went with it.
    tally.add(&found);
    let broken = outcome.err()?;
    let kind = ground.kind();
    Some(Failure { kind, seed, round, broken, lines: story.lines(), kept: ground.keep() })
}
