//! Forked logs: two entries of one author with one number of one incarnation, and what follows each of them. A copied
//! home makes such a log, or a device that lies.
//!
//! Every branch counts. From the first number on at which a log has two entries, each of these begins a *branch*: a log
//! of its own, named by [`branch_of`], whose numbers go on; the log itself ends before. A branch may fork again. So
//! which log holds an entry is a pure function of the entries that are here, and each log stays a chain. Actors,
//! operations, clocks and frontiers of what is here go by these logs. An entry's header names only logs as their authors
//! know them, and each entry by its hash as well.
//!
//! An operation id in an entry means the operation in that entry's past. Where the past has several branches of a log,
//! the id of an operation in one of them has the branch's actor.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::check::{EntryMeta, LogRead};
use super::entry::Entry;
use super::frontier::{Frontier, Position};
use super::{Clock, EntryPoint};
use crate::id::{ActorId, DeviceId, EntryHash, Incarnation, LogId, OpId, SpaceId};

/// The log of a branch of `log` that begins with the entry `first`: 40 bytes of BLAKE3 under a context of its own. Its
/// author is no device, so no log on the wire has this name.
pub fn branch_of(log: LogId, first: EntryHash) -> LogId {
    let mut hasher = blake3::Hasher::new_derive_key("zerocloud/1 branch");
    hasher.update(log.author.as_bytes()).update(log.incarnation.as_bytes()).update(first.as_bytes());
    let (mut author, mut incarnation) = ([0; 32], [0; 8]);
    let mut reader = hasher.finalize_xof();
    reader.fill(&mut author);
    reader.fill(&mut incarnation);
    LogId { author: DeviceId(author), incarnation: Incarnation(incarnation) }
}

/// An entry's place in its author's words, and what it follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Log and number as the header names them.
    pub point: EntryPoint,
    /// Hash of the entry before.
    pub previous: Option<EntryHash>,
    /// Its hash.
    pub hash: EntryHash,
}

impl Link {
    /// That of an entry.
    pub fn of(entry: &Entry) -> Self {
        Self { point: entry.point(), previous: entry.header().previous, hash: entry.hash() }
    }
}

/// The forked logs of a space, and where each forks. Few: most spaces have none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Branches(BTreeMap<LogId, Forked>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Forked {
    /// The first number that has several entries.
    number: u64,
    /// These entries.
    firsts: BTreeSet<EntryHash>,
}

impl Branches {
    /// The branches of these entries, of which none is without the one before it, and the log that holds each entry.
    pub fn of(links: impl IntoIterator<Item = Link>) -> (Self, BTreeMap<EntryHash, LogId>) {
        let mut after: BTreeMap<(LogId, Option<EntryHash>), BTreeSet<EntryHash>> = BTreeMap::new();
        for Link { point, previous, hash } in links {
            after.entry((point.log, previous)).or_default().insert(hash);
        }
        let (mut branches, mut holders) = (Self::default(), BTreeMap::new());
        let roots: Vec<LogId> = after.keys().filter(|(_, previous)| previous.is_none()).map(|(log, _)| *log).collect();
        for root in roots {
            let mut open = vec![(root, 1, None)];
            while let Some((log, mut number, mut previous)) = open.pop() {
                while let Some(next) = after.get(&(root, previous)) {
                    if next.len() > 1 {
                        open.extend(next.iter().map(|first| (branch_of(log, *first), number + 1, Some(*first))));
                        holders.extend(next.iter().map(|first| (*first, branch_of(log, *first))));
                        branches.0.insert(log, Forked { number, firsts: next.clone() });
                        break;
                    }
                    previous = next.first().copied();
                    holders.extend(previous.map(|hash| (hash, log)));
                    number += 1;
                }
            }
        }
        (branches, holders)
    }

    /// Whether no log has forked.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The logs that have forked, and where.
    pub fn forks(&self) -> impl Iterator<Item = EntryPoint> {
        self.0.iter().map(|(&log, forked)| EntryPoint { log, number: forked.number })
    }

    /// Notes one more branch of a log that has forked. Says whether it is new.
    pub fn add(&mut self, log: LogId, first: EntryHash) -> bool {
        self.0.get_mut(&log).is_some_and(|forked| forked.firsts.insert(first))
    }

    /// Of which log this one is a branch.
    pub fn parent_of(&self, branch: LogId) -> Option<LogId> {
        let is_of = |log: LogId| self.of_log(log).any(|other| other == branch);
        self.0.keys().copied().find(|log| is_of(*log))
    }

    /// The log of which this one is a branch in the end, as its author knows it.
    pub fn root_of(&self, log: LogId) -> LogId {
        let mut root = log;
        while let Some(parent) = self.parent_of(root) {
            root = parent;
        }
        root
    }

    /// The number of the first entry of a log: 1, but for branches.
    pub fn first_number(&self, log: LogId) -> u64 {
        let parent = self.parent_of(log).and_then(|parent| self.0.get(&parent));
        parent.map_or(1, |forked| forked.number)
    }

    /// The branches of a log.
    fn of_log(&self, log: LogId) -> impl Iterator<Item = LogId> {
        let firsts = self.0.get(&log).into_iter().flat_map(|forked| &forked.firsts);
        firsts.map(move |first| branch_of(log, *first))
    }

    /// A log and the branches of it and of those, each after the one that it is of.
    fn below(&self, log: LogId) -> Vec<LogId> {
        let mut all = vec![log];
        let mut at = 0;
        while let Some(&log) = all.get(at) {
            all.extend(self.of_log(log));
            at += 1;
        }
        all
    }

    /// The log that holds the entry which follows one of `log` and has this number and hash. If it begins a branch, the
    /// log of which.
    pub(super) fn holder(&self, log: LogId, number: u64, hash: EntryHash) -> (LogId, Option<LogId>) {
        match self.0.get(&log) {
            Some(forked) if forked.number == number => (branch_of(log, hash), Some(log)),
            _ => (log, None),
        }
    }

    /// Finds an entry that a header names, by its place in its author's words and its hash.
    ///
    /// # Errors
    /// Those of the store.
    pub fn locate<R: LogRead>(
        &self,
        read: &R,
        point: EntryPoint,
        hash: EntryHash,
    ) -> Result<Option<(EntryPoint, EntryMeta)>, R::Error> {
        for log in self.below(point.log) {
            let point = EntryPoint { log, ..point };
            if let Some(meta) = read.entry(point)?.filter(|meta| meta.hash == hash) {
                return Ok(Some((point, meta)));
            }
        }
        Ok(None)
    }

    /// What a peer has that says `theirs` of itself, by the logs as they are here. Of a log of which it has something
    /// else than is here, it is taken to have nothing, so that it is shown all: then both learn of the fork.
    ///
    /// # Errors
    /// Those of the store.
    pub fn translate<R: LogRead>(&self, read: &R, theirs: &Frontier) -> Result<Frontier, R::Error> {
        let mut translated = Frontier::default();
        for (log, position) in theirs.iter() {
            let point = EntryPoint { log, number: position.number };
            match self.0.get(&log) {
                Some(forked) if forked.number <= position.number => {
                    if let Some((point, _)) = self.locate(read, point, position.hash)? {
                        translated.advance(point.log, position);
                        self.advance_above(read, point.log, &mut translated)?;
                    }
                }
                _ if read.entry(point)?.is_some_and(|meta| meta.hash != position.hash) => {}
                _ => {
                    translated.advance(log, position);
                    self.advance_above(read, log, &mut translated)?;
                }
            }
        }
        Ok(translated)
    }

    /// Whoever has something of a branch has what stands before it.
    fn advance_above<R: LogRead>(&self, read: &R, branch: LogId, frontier: &mut Frontier) -> Result<(), R::Error> {
        let mut log = branch;
        while let Some(parent) = self.parent_of(log) {
            let number = self.first_number(log) - 1;
            if let Some(meta) = read.entry(EntryPoint { log: parent, number })? {
                frontier.advance(parent, Position { number, hash: meta.hash });
            }
            log = parent;
        }
        Ok(())
    }

    /// The operation that an entry with this past means by `id`, and the entry that made it. `None` if there is none, or
    /// more than one.
    ///
    /// # Errors
    /// Those of the store.
    pub fn resolve<R: LogRead>(
        &self,
        read: &R,
        space: SpaceId,
        past: &Clock,
        id: OpId,
    ) -> Result<Option<(EntryPoint, OpId)>, R::Error> {
        let mut found = None;
        for actor in self.meant_by(space, past, id.actor) {
            let id = OpId { actor, ..id };
            if let Some(maker) = read.maker(id)?.filter(|maker| past.includes(*maker))
                && found.replace((maker, id)).is_some()
            {
                return Ok(None);
            }
        }
        Ok(found)
    }

    /// The actors of an entry's past for which an actor in it may stand.
    fn meant_by(&self, space: SpaceId, past: &Clock, actor: ActorId) -> Vec<ActorId> {
        let is_named = |log: &LogId| ActorId::of_log(space, *log) == actor;
        let mut all = self.0.keys().copied().chain(self.0.keys().flat_map(|log| self.of_log(*log)));
        let Some(log) = all.find(is_named) else { return vec![actor] };
        // Who has one branch alone does not know of it as one.
        let is_seen = |parent: LogId| self.of_log(parent).filter(|branch| past.of(*branch) > 0).count() > 1;
        if self.parent_of(log).is_some_and(|parent| !is_seen(parent)) {
            return Vec::new();
        }
        self.below(log).into_iter().map(|log| ActorId::of_log(space, log)).collect()
    }
}
