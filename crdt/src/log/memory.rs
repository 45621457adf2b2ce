//! A log in memory: what tests and the simulator read and write, and what a store on disk is held against.

use std::collections::BTreeMap;
use std::convert::Infallible;

use super::branch::Branches;
use super::check::{CheckError, Checked, EntryMeta, LogRead, Membership, Outcome, Verdict, check};
use super::entry::Entry;
use super::frontier::{Frontier, Position};
use super::payload::{Body, Start};
use super::{EntryPoint, Lacking};
use crate::change::Key;
use crate::id::{ActorId, EpochId, FileId, LogId, OpId};
use crate::keys::EpochSecret;
use crate::register::{Item, Op};

/// All entries of a space that were applied, and the registers that they make.
#[derive(Clone, Debug, Default)]
pub struct MemoryLog {
    /// From the first number of each.
    logs: BTreeMap<LogId, Vec<Stored>>,
    branches: Branches,
    /// Of each actor: its log, and by the counter of its first operation, which entry made a change.
    makers: BTreeMap<ActorId, (LogId, BTreeMap<u32, u64>)>,
    items: BTreeMap<FileId, Item>,
}

#[derive(Clone, Debug)]
struct Stored {
    entry: Entry,
    meta: EntryMeta,
    start: Option<Start>,
    /// The registers of the operations, in order.
    keys: Vec<Key>,
}

impl MemoryLog {
    /// Checks an entry, and applies it if its past is here.
    ///
    /// # Errors
    /// As [`check`]; reading memory does not fail.
    pub fn receive<'s>(
        &mut self,
        entry: Entry,
        membership: &impl Membership,
        secret: impl FnOnce(EpochId) -> Option<&'s EpochSecret>,
    ) -> Result<Outcome, CheckError<Infallible>> {
        let outcome = check(&entry, self, membership, secret)?;
        if let Outcome::Checked(checked) = &outcome {
            self.apply(entry, checked);
        }
        Ok(outcome)
    }

    /// An empty log in which these branches are known.
    pub fn with_branches(branches: Branches) -> Self {
        Self { branches, ..Self::default() }
    }

    /// Applies an entry that was checked against this very log.
    pub fn apply(&mut self, entry: Entry, checked: &Checked) {
        let log = checked.point.log;
        if let Some(of) = checked.fork_of {
            self.branches.add(of, checked.meta.hash);
        }
        let mut stored = Stored { entry, meta: checked.meta.clone(), start: None, keys: Vec::new() };
        match &checked.verdict {
            Verdict::Applies(Body::Index(change, _)) => {
                for op in &change.ops {
                    self.items.entry(op.item).or_default().apply(op);
                }
                stored.keys = change.ops.iter().map(Op::key).collect();
                let (_, numbers) = self.makers.entry(change.actor).or_insert_with(|| (log, BTreeMap::new()));
                numbers.insert(change.start_op, stored.entry.header().number);
            }
            Verdict::Applies(Body::Start(start)) => stored.start = Some(start.clone()),
            Verdict::Applies(Body::Seen) | Verdict::Void(_) => {}
        }
        self.logs.entry(log).or_default().push(stored);
    }

    /// The entry at `point`.
    pub fn stored(&self, point: EntryPoint) -> Option<&Entry> {
        self.at(point).map(|stored| &stored.entry)
    }

    /// What the log began with, unless it is void or not here.
    pub fn start(&self, log: LogId) -> Option<&Start> {
        self.at(EntryPoint { log, number: self.branches.first_number(log) })?.start.as_ref()
    }

    /// The registers, by item.
    pub const fn items(&self) -> &BTreeMap<FileId, Item> {
        &self.items
    }

    /// The entries that whoever has `theirs` lacks, each after all that it names.
    pub fn lacked_by(&self, theirs: &Frontier) -> Vec<&Entry> {
        let Ok(points) = Lacking::new(self, theirs);
        points.filter_map(|Ok(point)| self.stored(point)).collect()
    }

    fn at(&self, point: EntryPoint) -> Option<&Stored> {
        let index = usize::try_from(point.number.checked_sub(self.branches.first_number(point.log))?).ok()?;
        self.logs.get(&point.log)?.get(index)
    }
}

impl LogRead for MemoryLog {
    type Error = Infallible;

    fn entry(&self, point: EntryPoint) -> Result<Option<EntryMeta>, Infallible> {
        Ok(self.at(point).map(|stored| stored.meta.clone()))
    }

    fn maker(&self, id: OpId) -> Result<Option<EntryPoint>, Infallible> {
        let Some((log, numbers)) = self.makers.get(&id.actor) else { return Ok(None) };
        let last = numbers.range(..=id.counter).next_back();
        let point = last.map(|(_, &number)| EntryPoint { log: *log, number });
        let is_inside = |stored: &Stored| stored.meta.change.is_some_and(|change| id.counter <= change.end_op);
        Ok(point.filter(|&point| self.at(point).is_some_and(is_inside)))
    }

    fn is_on(&self, id: OpId, key: Key) -> Result<bool, Infallible> {
        let Some(stored) = self.maker(id)?.and_then(|maker| self.at(maker)) else { return Ok(false) };
        let index = stored.meta.change.and_then(|change| id.counter.checked_sub(change.start_op));
        Ok(index.and_then(|index| stored.keys.get(index as usize)) == Some(&key))
    }

    fn branches(&self) -> Result<Branches, Infallible> {
        Ok(self.branches.clone())
    }

    fn frontier(&self) -> Result<Frontier, Infallible> {
        let mut frontier = Frontier::default();
        for (&log, entries) in &self.logs {
            if let Some(last) = entries.last() {
                let number = self.branches.first_number(log) - 1 + entries.len() as u64;
                frontier.advance(log, Position { number, hash: last.meta.hash });
            }
        }
        Ok(frontier)
    }
}
