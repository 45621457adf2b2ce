//! The log: signed, sealed, hash-chained entries of each device, how one is checked, and how two devices find what
//! the other lacks.
//!
//! Here live the entry's format ([`entry`], [`payload`]), the checks against its causal past ([`check`]), the
//! author's side ([`writer`]), branches of forked logs ([`branch`]), the newest entries ([`heads`]), frontiers ([`frontier`]) and what follows from them ([`lacking`]), the pool of
//! entries that wait for their parents ([`waiting`]), and a log in memory ([`memory`]). What operations do to
//! registers is in [`crate::register`]; their encoding as one Automerge change is in [`crate::change`]; who may write
//! is known through [`check::Membership`]; what a removal excludes is decided above this module, which keeps such
//! entries in the causal past, so that no later record changes the outcome of a check.

pub mod branch;
pub mod check;
pub mod entry;
pub mod frontier;
pub mod heads;
pub mod lacking;
mod makers;
pub mod memory;
pub mod payload;
pub mod waiting;
pub mod writer;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::LogId;

pub use branch::{Branches, Link};
pub use check::{Checked, EntryMeta, Fork, LogRead, Membership, Missing, Outcome, Verdict, VoidReason};
pub use entry::{Entry, EntryError, Head, Header, Kind};
pub use frontier::{Frontier, Position, Relation, SignedFrontier};
pub use lacking::Lacking;
pub use memory::MemoryLog;
pub use payload::{Body, Start};
pub use waiting::WaitingPool;
pub use writer::{Draft, DraftOp, LogWriter, Setting, Written};

/// An entry by its place: which log, which number in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EntryPoint {
    /// The log.
    pub log: LogId,
    /// The entry's number there, from 1.
    pub number: u64,
}

/// A causal past, cut to one number for each log: of each log named, all entries up to that number are inside. A past
/// is closed: whatever an entry in it names is in it, too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock(BTreeMap<LogId, u64>);

impl Clock {
    /// How many entries of `log` are inside: their numbers are 1 to this.
    pub fn of(&self, log: LogId) -> u64 {
        self.0.get(&log).copied().unwrap_or(0)
    }

    /// Whether the entry at `point` is inside.
    pub fn includes(&self, point: EntryPoint) -> bool {
        self.of(point.log) >= point.number
    }

    /// Takes the entries of `log` up to `number` in.
    pub fn include(&mut self, point: EntryPoint) {
        let number = self.0.entry(point.log).or_default();
        *number = point.number.max(*number);
    }

    /// Takes in all that `other` includes.
    pub fn merge(&mut self, other: &Self) {
        for (&log, &number) in &other.0 {
            self.include(EntryPoint { log, number });
        }
    }

    /// The last entry of each log inside, in the order of their logs.
    pub fn ends(&self) -> impl Iterator<Item = EntryPoint> {
        self.0.iter().map(|(&log, &number)| EntryPoint { log, number })
    }
}

#[cfg(test)]
mod tests;
