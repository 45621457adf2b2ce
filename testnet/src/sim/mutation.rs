//! The mutation check: the simulator must find each deliberate fault of the engine within a few seeds.
//!
//! What each breaks is told where it is defined ([`Mutation`]). Here stands which runs must find it, and how many of them.

use zerocloud_crdt::mutation::{self, Mutation};

use super::faults::Faults;
use super::runner::{Broken, Effort, Failure, Report, run, run_one};
use super::scenario::{Manner, Selection};
use super::story::Story;
use super::user::VERB_COUNT;

/// Seconds after which a run that does not end counts as found to hang.
const PATIENCE: u64 = 300;

/// Which runs must find a fault.
#[derive(Clone, Copy, Debug)]
pub struct Trial {
    /// The fault.
    pub mutation: Mutation,
    /// Who acts when.
    pub manner: Manner,
    /// What else may break, as `--faults` takes it.
    pub faults: &'static str,
    /// How many steps a run has.
    pub length: u32,
    /// How many seeds it is given, from 0 on.
    pub seed_count: u64,
    /// The one that found it when this was written: tried before all others.
    pub seed: u64,
}

/// What a trial found.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The seed of the run that failed.
    pub seed: u64,
    /// What is broken.
    pub broken: Broken,
}

impl Trial {
    /// The runs.
    ///
    /// # Errors
    /// If there is no such class of faults.
    pub fn selection(&self) -> Result<Selection, String> {
        Ok(Selection {
            seeds: self.seed_count,
            first_seed: 0,
            devices: None,
            faults: Some(self.faults.parse::<Faults>()?),
            manner: Some(self.manner),
            length: Some(self.length),
            verbs: VERB_COUNT,
            steps: None,
        })
    }

    /// Whether the run that found the fault does so still; if not, the first of all that does.
    ///
    /// # Errors
    /// Those of [`selection`](Self::selection).
    pub fn find_again(&self) -> Result<Option<Finding>, String> {
        let all = self.selection()?;
        let known = Selection { seeds: 1, first_seed: self.seed, ..all.clone() };
        Ok(find(self.mutation, &known, Some(1)).or_else(|| find(self.mutation, &all, None)))
    }
}

/// Runs what is selected with a fault switched on until a run breaks a promise that it keeps without it. For the whole
/// process: one fault at a time.
pub fn find(mutation: Mutation, selection: &Selection, jobs: Option<usize>) -> Option<Finding> {
    let mut rest = selection.clone();
    loop {
        mutation::switch_to(Some(mutation));
        // As it was drawn: nobody looks into a fault that was made.
        let Report { failures, .. } = run(&rest, &Effort { jobs, failures: 1, patience: PATIENCE, trials: 0 });
        mutation::switch_to(None);
        // Seeds before it were begun before it, and have ended.
        let Failure { scenario, broken, .. } = failures.into_iter().next()?;
        let without = run_one(&scenario, &Story::default());
        if without.err().is_none_or(|other| other.at != broken.at) {
            return Some(Finding { seed: scenario.seed, broken });
        }
        rest.seeds -= scenario.seed + 1 - rest.first_seed;
        rest.first_seed = scenario.seed + 1;
    }
}

/// The rules of the oracle by letter (`docs/simulator.md`), each by words that it says.
const RULES: [(char, &[&str]); 9] = [
    ('a', &["has another tree", "has another log"]),
    (
        'b',
        &[
            "is lost",
            "left the tree and is in no version",
            "was a version and went before its time",
            "a power loss took what had come from another device",
            "became zeros by no act of a user",
            "was put into the tree and nobody wrote it",
        ],
    ),
    ('c', &["was deleted and came back", "was deleted here, nobody made it elsewhere, and it came back"]),
    ('d', &["tree changed by itself", "a conflict copy with"]),
    ('e', &["worked in the directory under its disk"]),
    ('f', &["no end", "has items to be planned", "can't start"]),
    ('g', &["without end", "still runs after", "left ["]),
    ('i', &["found something to say", "had something to say", "changed what had settled"]),
    ('j', &["names a member"]),
];

impl Finding {
    /// Which rule of the oracle was broken, and its words; `None` if it is none of its rules.
    pub fn rule(&self) -> Option<(char, &'static str)> {
        let said = |words: &&&str| self.broken.message.contains(**words);
        RULES.iter().find_map(|(letter, all)| Some((*letter, *all.iter().find(said)?)))
    }
}

/// The table of `docs/simulator.md`: for each trial what is stated, and what was found.
pub fn table<'t>(found: impl IntoIterator<Item = (&'t Trial, &'t Finding)>) -> String {
    let mut lines = vec![
        "| fault | what is broken | manner | faults | steps | seeds | at | rule |".to_owned(),
        "|---|---|---|---|---|---|---|---|".to_owned(),
    ];
    for (trial, finding) in found {
        let Trial { mutation, manner, faults, length, seed_count, .. } = trial;
        let manner = clap::ValueEnum::to_possible_value(manner);
        let manner = manner.as_ref().map_or("", |value| value.get_name());
        let rule = finding.rule().map_or("?".to_owned(), |(letter, words)| format!("{letter}: *{words}*"));
        lines.push(format!(
            "| `{}` | {} | {manner} | {} | {length} | {seed_count} | {} | {rule} |",
            mutation.name(),
            mutation.broken(),
            faults.replace(',', ", "),
            finding.seed,
        ));
    }
    lines.join("\n") + "\n"
}

const fn trial(
    mutation: Mutation,
    manner: Manner,
    faults: &'static str,
    length: u32,
    (seed_count, seed): (u64, u64),
) -> Trial {
    Trial { mutation, manner, faults, length, seed_count, seed }
}

/// What is tried.
pub const TRIALS: &[Trial] = &[
    trial(Mutation::UnsyncedStaging, Manner::AtOnce, "power-losses", 400, (20, 1)),
    trial(Mutation::UnsyncedWalk, Manner::AtOnce, "power-losses", 250, (40, 8)),
    trial(Mutation::UnsyncedStore, Manner::AtOnce, "kills,power-losses", 250, (20, 1)),
    trial(Mutation::UnmarkedItems, Manner::AtOnce, "kills", 250, (60, 46)),
    trial(Mutation::UncomparedDisplaced, Manner::AtOnce, "aims", 250, (50, 36)),
    trial(Mutation::UnpublishedDisplaced, Manner::AtOnce, "aims", 250, (50, 36)),
    trial(Mutation::UnkeptVersion, Manner::AtOnce, "none", 250, (10, 0)),
    trial(Mutation::TouchedOverEdit, Manner::AtOnce, "watchers,interruptions", 250, (300, 122)),
    trial(Mutation::UnaskedObstacle, Manner::AtOnce, "interruptions", 400, (240, 213)),
    trial(Mutation::EditPredOfRegister, Manner::AtOnce, "partitions", 120, (20, 6)),
    trial(Mutation::DeletePredOfRegister, Manner::AtOnce, "partitions", 120, (20, 1)),
    trial(Mutation::EditWithoutPred, Manner::OneByOne, "none", 20, (10, 0)),
    trial(Mutation::NotedWithoutBytes, Manner::AtOnce, "none", 120, (10, 1)),
    trial(Mutation::AppliedBeforeHeads, Manner::AtOnce, "cuts", 250, (40, 11)),
    trial(Mutation::UnsupersededContent, Manner::OneByOne, "none", 20, (10, 0)),
    trial(Mutation::ReusedIncarnation, Manner::AtOnce, "rollbacks", 120, (20, 5)),
    trial(Mutation::ReorderedManifest, Manner::AtOnce, "none", 120, (10, 1)),
    trial(Mutation::HiddenLosers, Manner::AtOnce, "partitions", 120, (10, 1)),
    trial(Mutation::UnbrokenCycle, Manner::AtOnce, "partitions", 400, (300, 266)),
    trial(Mutation::UnlistedIsEmpty, Manner::AtOnce, "unreadable", 250, (100, 93)),
    trial(Mutation::UnreadIsDeleted, Manner::AtOnce, "unreadable", 250, (60, 31)),
    trial(Mutation::UnmountedIsEmpty, Manner::AtOnce, "unmounted", 250, (40, 1)),
    trial(Mutation::TrustedTick, Manner::AtOnce, "coarse-times", 250, (120, 102)),
    trial(Mutation::PublishedFixedMode, Manner::OneWriter, "no-modes", 250, (20, 10)),
    trial(Mutation::GoneWithMove, Manner::AtOnce, "watchers", 250, (300, 214)),
    trial(Mutation::UnheldLost, Manner::AtOnce, "power-losses", 400, (60, 32)),
    trial(Mutation::PrunedAtOnce, Manner::AtOnce, "none", 120, (10, 1)),
    trial(Mutation::StarvedForGood, Manner::AtOnce, "slow-chunks,cuts", 250, (20, 8)),
    trial(Mutation::LostAsks, Manner::AtOnce, "cuts,slow-chunks", 250, (40, 18)),
    trial(Mutation::StaleCursor, Manner::AtOnce, "cuts", 250, (10, 1)),
    trial(Mutation::UnpassedEntries, Manner::AtOnce, "line", 120, (10, 0)),
    trial(Mutation::LostRescan, Manner::AtOnce, "watchers", 120, (60, 32)),
    trial(Mutation::UnscannedStart, Manner::AtOnce, "kills", 120, (30, 9)),
    trial(Mutation::UnscannedRest, Manner::AtOnce, "none", 250, (60, 42)),
    trial(Mutation::DroppedHunk, Manner::AtOnce, "partitions,merges", 250, (20, 0)),
    trial(Mutation::DroppedBranch, Manner::AtOnce, "clones", 250, (40, 0)),
];
