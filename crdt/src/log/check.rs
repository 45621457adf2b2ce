//! Whether an entry counts: every check of an entry against its header and its causal past, and nothing else, so that
//! all devices agree whatever else they hold and in whatever order it came.
//!
//! # Rules
//! With P the causal past of entry E (the entry before and the heads, and what is in theirs), and *counting* for what
//! is not void:
//!
//! 1. **Start** is the kind of number 1 and of no other.
//! 2. **Void stays void**: what follows a void entry in its log is void.
//! 3. **Heads** are minimal: none is in the past of another head or of the entry before.
//! 4. **Membership**: the author may write in the table of the membership heads in force (E's own, or those in force
//!    at the entry before); these follow those in force at the entry before and at each head, void or not. Heads equal
//!    to those in force at the entry before are not named again.
//! 5. **Payload** opens with the epoch's secret and reads as its kind.
//! 6. **Actor** is [`ActorId::of_log`]; **`seq`** is 1 + the counting changes of the same log in P; **`start_op`** is
//!    1 + the largest operation counter of counting changes in P.
//! 7. **`deps`** are the hashes of the *tips* of P, ascending: the counting index entries in P that are in the past
//!    of no other counting index entry in P. So a head that is a start, a seen or a void entry stands for the tips of
//!    its own past, and a tip that another head has in its past is left out.
//! 8. Each operation that is superseded was made by a counting entry in P, on the same register; the operation that a
//!    meta is about likewise, on the content register of the same item.
//!
//! Places, operations and actors are those of branches where a log has forked ([`super::branch`]), but for rule 6, in
//! which actor and log are those of the header.
//!
//! A void entry is in the past of what names it, as entry; its operations, counters and change are not. What a later
//! removal excludes is *counting* here.

use serde::{Deserialize, Serialize};

use super::branch::Branches;
use super::entry::{Entry, Kind};
use super::heads::newest;
use super::makers::LastMaker;
use super::payload::{Body, OpenError};
use super::{Clock, EntryPoint};
use crate::change::{Change, Key};
use crate::id::{ActorId, ChangeHash, DeviceId, EntryHash, EpochId, LogId, OpId, RecordHash, SpaceId};
use crate::keys::EpochSecret;
use crate::register::Op;

/// What is kept of an entry that was checked, beside its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryMeta {
    /// The entry's hash.
    pub hash: EntryHash,
    /// The entry and its causal past, void entries included.
    pub clock: Clock,
    /// The membership heads in force.
    pub membership: Vec<RecordHash>,
    /// Whether the entry is void.
    pub is_void: bool,
    /// The entry's change, if it has one and is not void.
    pub change: Option<ChangeMeta>,
    /// Changes that count in this log, up to and with this entry.
    pub seq: u64,
    /// The largest operation counter that counts in `clock`; 0 if there is none.
    pub counter_max: u32,
    /// The newest changes that count in `clock`: of each log at most one, none in the past of another. Ascending.
    pub tips: Vec<EntryPoint>,
}

/// What is kept of a change that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeMeta {
    /// Its hash.
    pub hash: ChangeHash,
    /// Counter of its first operation.
    pub start_op: u32,
    /// Counter of its last operation.
    pub end_op: u32,
}

/// What a check reads of the entries that were applied. Entries are applied in causal order, each with its meta.
pub trait LogRead {
    /// Why the store could not be read.
    type Error;

    /// What is kept of the entry at `point`; `None` if it was not applied.
    ///
    /// # Errors
    /// Those of the store.
    fn entry(&self, point: EntryPoint) -> Result<Option<EntryMeta>, Self::Error>;

    /// Which counting entry made the operation `id`, found by actor and by [`ChangeMeta::start_op`] and `end_op`.
    ///
    /// # Errors
    /// Those of the store.
    fn maker(&self, id: OpId) -> Result<Option<EntryPoint>, Self::Error>;

    /// Whether a counting entry made the operation `id`, and it is on the register `key`.
    ///
    /// # Errors
    /// Those of the store.
    fn is_on(&self, id: OpId, key: Key) -> Result<bool, Self::Error>;

    /// The branches of forked logs.
    ///
    /// # Errors
    /// Those of the store.
    fn branches(&self) -> Result<Branches, Self::Error>;

    /// The last applied entry of each log.
    ///
    /// # Errors
    /// Those of the store.
    fn frontier(&self) -> Result<super::Frontier, Self::Error>;
}

/// What a check asks about who belongs to the space. Pure functions of the records in the pasts of the heads given.
pub trait Membership {
    /// Whether all of `heads`, and so all of their pasts, are here.
    fn knows(&self, heads: &[RecordHash]) -> bool;

    /// Whether `author` is in the table of `heads` with a role that writes.
    fn may_write(&self, heads: &[RecordHash], author: DeviceId) -> bool;

    /// Whether each of `earlier` is one of `later` or in the past of one.
    fn follows(&self, later: &[RecordHash], earlier: &[RecordHash]) -> bool;
}

/// What became of an entry that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is next in its log, and its past is here: apply it with its meta, void or not.
    Checked(Box<Checked>),
    /// It was applied before.
    Known,
    /// It waits for something that is not here.
    Waits(Missing),
    /// Two entries have one place: all that follows the place is applied anew, by [`Branches::of`] all entries.
    Fork(Fork),
}

/// An entry that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Its place: the header's, or that in a branch.
    pub point: EntryPoint,
    /// Of which log it begins a branch, if it does.
    pub fork_of: Option<LogId>,
    /// What is to be kept of it.
    pub meta: EntryMeta,
    /// Whether it counts.
    pub verdict: Verdict,
}

/// Whether an entry counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It does, and this is what it says; operations by their ids in branches.
    Applies(Body),
    /// It does not, and nothing after it in its log does.
    Void(VoidReason),
}

/// What an entry waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Missing {
    /// The entry before, or a head.
    Entry {
        /// Its place.
        point: EntryPoint,
        /// Its hash. An entry with another hash may be here at this place: then its author lies or has forked, which
        /// shows when this one comes.
        hash: EntryHash,
    },
    /// Records that the entry names.
    Records,
    /// The secret of this epoch.
    Epoch(EpochId),
}

/// Two signed entries, or one and a signed frontier, disagree about one place of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("log of device {} has two entries number {}", point.log.author, point.number)]
pub struct Fork {
    /// The place.
    pub point: EntryPoint,
    /// The hash of the entry that is here.
    pub ours: EntryHash,
    /// The hash of the other.
    pub other: EntryHash,
}

/// Why an entry was not checked at all.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError<E> {
    /// Written by a newer version: the space stops with what it has.
    #[error(transparent)]
    NeedsNewer(OpenError),
    /// The store could not be read.
    #[error("log could not be read")]
    Store(E),
}

/// Why an entry is void.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VoidReason {
    /// Rule 2.
    #[error("follows a void entry of its log")]
    AfterVoid,
    /// Rule 1.
    #[error("number 1 and only number 1 is a start")]
    KindAndNumber,
    /// Rule 3.
    #[error("names an entry that another one it names has in its past")]
    HeadsNotMinimal,
    /// Rule 4.
    #[error("names the membership of the entry before again")]
    MembershipRepeated,
    /// Rule 4.
    #[error("names older membership than the entries before it")]
    MembershipBehind,
    /// Rule 4.
    #[error("its author may not write")]
    MayNotWrite,
    /// Rule 5.
    #[error("payload: {0}")]
    Payload(#[from] OpenError),
    /// Rule 6.
    #[error("change of another actor")]
    Actor,
    /// Rule 6.
    #[error("change number {found} where {expected} is next")]
    Seq {
        /// As found.
        found: u64,
        /// As it must be.
        expected: u64,
    },
    /// Rule 6.
    #[error("operations begin at {found} where they must at {expected}")]
    StartOp {
        /// As found.
        found: u32,
        /// As it must be.
        expected: u64,
    },
    /// Rule 7.
    #[error("dependencies are not what the heads imply")]
    Deps,
    /// Rule 8.
    #[error("supersedes or is about {id:?}, which is not in its past")]
    UnknownOp {
        /// The operation.
        id: OpId,
    },
    /// Rule 8.
    #[error("supersedes or is about {id:?}, which is on another register")]
    OtherRegister {
        /// The operation.
        id: OpId,
    },
}

/// Checks an entry whose signature holds. `secret` gives the secret of an epoch if it is here.
///
/// # Errors
/// [`CheckError::NeedsNewer`] if a newer version wrote it, [`CheckError::Store`] if the log could not be read.
pub fn check<'s, R: LogRead>(
    entry: &Entry,
    log: &R,
    membership: &impl Membership,
    secret: impl FnOnce(EpochId) -> Option<&'s EpochSecret>,
) -> Result<Outcome, CheckError<R::Error>> {
    let past = match Past::gather(entry, log).map_err(CheckError::Store)? {
        Ok(past) => past,
        Err(outcome) => return Ok(outcome),
    };
    let header = entry.header();
    if !membership.knows(&header.membership) {
        return Ok(Outcome::Waits(Missing::Records));
    }
    let secret = secret(header.epoch);
    let header_checked = past.check_header(entry, membership);
    if let Some(fork) = past.fork {
        // Nothing is applied anew for an entry that must wait. One that is void by its header waits for no secret, or
        // it would depend on the order in which the two come whether there is a fork.
        let must_wait = header_checked.is_ok() && secret.is_none();
        return Ok(if must_wait { Outcome::Waits(Missing::Epoch(header.epoch)) } else { Outcome::Fork(fork) });
    }
    if let Err(reason) = header_checked {
        return Ok(past.conclude(entry, Verdict::Void(reason)));
    }
    let Some(secret) = secret else { return Ok(Outcome::Waits(Missing::Epoch(header.epoch))) };
    let mut body = match entry.open(secret) {
        Ok(body) => body,
        Err(error) if error.is_unknown() => return Err(CheckError::NeedsNewer(error)),
        Err(error) => return Ok(past.conclude(entry, Verdict::Void(error.into()))),
    };
    if let Body::Index(change, _) = &mut body {
        match past.check_change(entry, change, log).map_err(CheckError::Store)? {
            Ok(()) => past.name_ops(entry, change),
            Err(reason) => return Ok(past.conclude(entry, Verdict::Void(reason))),
        }
    }
    Ok(past.conclude(entry, Verdict::Applies(body)))
}

/// What an entry names, gathered: its causal past.
pub(super) struct Past {
    point: EntryPoint,
    fork: Option<Fork>,
    fork_of: Option<LogId>,
    branches: Branches,
    previous: Option<EntryMeta>,
    heads: Vec<(EntryPoint, EntryMeta)>,
    clock: Clock,
    pub(super) counter_max: u32,
    pub(super) tips: Vec<(EntryPoint, ChangeHash)>,
    pub(super) seq: u64,
}

impl Past {
    /// Looks up what the entry names, or says why that can't be.
    fn gather<R: LogRead>(entry: &Entry, log: &R) -> Result<Result<Self, Outcome>, R::Error> {
        let header = entry.header();
        let branches = log.branches()?;
        let (mut previous, mut before) = (None, header.log);
        if let Some(hash) = header.previous {
            let point = EntryPoint { number: header.number - 1, ..entry.point() };
            let Some((point, meta)) = branches.locate(log, point, hash)? else {
                return Ok(Err(Outcome::Waits(Missing::Entry { point, hash })));
            };
            (previous, before) = (Some(meta), point.log);
        }
        let (own, fork_of) = branches.holder(before, header.number, entry.hash());
        let point = EntryPoint { log: own, number: header.number };
        let here = log.entry(point)?.map(|meta| meta.hash);
        if here == Some(entry.hash()) {
            return Ok(Err(Outcome::Known));
        }
        let mut heads = Vec::new();
        for head in &header.heads {
            match branches.locate(log, head.point, head.hash)? {
                Some(located) => heads.push(located),
                None if crate::mutated!(AppliedBeforeHeads) => {}
                None => return Ok(Err(Outcome::Waits(Missing::Entry { point: head.point, hash: head.hash }))),
            }
        }
        let fork = here.map(|ours| Fork { point, ours, other: entry.hash() });
        Ok(Ok(Self { fork, fork_of, ..Self::new(point, previous, heads, log)? }))
    }

    /// The past that a predecessor and heads make together.
    pub(super) fn new<R: LogRead>(
        point: EntryPoint,
        previous: Option<EntryMeta>,
        heads: Vec<(EntryPoint, EntryMeta)>,
        log: &R,
    ) -> Result<Self, R::Error> {
        let mut clock = Clock::default();
        let (mut counter_max, mut candidates) = (0, std::collections::BTreeSet::new());
        for meta in previous.iter().chain(heads.iter().map(|(_, meta)| meta)) {
            clock.merge(&meta.clock);
            counter_max = counter_max.max(meta.counter_max);
            candidates.extend(&meta.tips);
        }
        let seq = previous.as_ref().map_or(0, |meta| meta.seq);
        let tips = newest(&candidates.into_iter().copied().collect::<Vec<_>>(), log)?;
        let branches = log.branches()?;
        Ok(Self { point, fork: None, fork_of: None, branches, previous, heads, clock, counter_max, tips, seq })
    }

    /// Rules 1 to 4.
    fn check_header(&self, entry: &Entry, membership: &impl Membership) -> Result<(), VoidReason> {
        let header = entry.header();
        if self.previous.as_ref().is_some_and(|meta| meta.is_void) {
            return Err(VoidReason::AfterVoid);
        }
        if (header.kind == Kind::Start) != (header.number == 1) {
            return Err(VoidReason::KindAndNumber);
        }
        let is_covered = |point: EntryPoint| {
            let mut others = self.heads.iter().filter(|(other, _)| *other != point).map(|(_, meta)| meta);
            self.previous.as_ref().is_some_and(|meta| meta.clock.includes(point))
                || others.any(|meta| meta.clock.includes(point))
        };
        if self.heads.iter().any(|(point, _)| is_covered(*point)) {
            return Err(VoidReason::HeadsNotMinimal);
        }
        let before = self.previous.as_ref().map_or(&[][..], |meta| &meta.membership);
        if !header.membership.is_empty() && header.membership == before {
            return Err(VoidReason::MembershipRepeated);
        }
        let in_force = self.membership(entry);
        let follows = |meta: &EntryMeta| in_force == meta.membership || membership.follows(in_force, &meta.membership);
        if !self.previous.iter().chain(self.heads.iter().map(|(_, meta)| meta)).all(follows) {
            return Err(VoidReason::MembershipBehind);
        }
        if !membership.may_write(in_force, header.log.author) {
            return Err(VoidReason::MayNotWrite);
        }
        Ok(())
    }

    /// Rules 6 to 8. Gives the operations that others are about and supersede their ids in branches.
    fn check_change<R: LogRead>(
        &self,
        entry: &Entry,
        change: &mut Change,
        log: &R,
    ) -> Result<Result<(), VoidReason>, R::Error> {
        let header = entry.header();
        if change.actor != ActorId::of_log(header.space, header.log) {
            return Ok(Err(VoidReason::Actor));
        }
        if change.seq != self.seq + 1 {
            return Ok(Err(VoidReason::Seq { found: change.seq, expected: self.seq + 1 }));
        }
        let expected = u64::from(self.counter_max) + 1;
        if u64::from(change.start_op) != expected {
            return Ok(Err(VoidReason::StartOp { found: change.start_op, expected }));
        }
        if change.deps != self.deps() {
            return Ok(Err(VoidReason::Deps));
        }
        let log = LastMaker::new(log);
        for op in &mut change.ops {
            if let Err(reason) = self.check_op(header.space, op, &log)? {
                return Ok(Err(reason));
            }
        }
        Ok(Ok(()))
    }

    fn check_op<R: LogRead>(&self, space: SpaceId, op: &mut Op, log: &R) -> Result<Result<(), VoidReason>, R::Error> {
        for (id, key) in op.named_mut() {
            let resolved = self.branches.resolve(log, space, &self.clock, *id)?;
            let Some((_, meant)) = resolved else { return Ok(Err(VoidReason::UnknownOp { id: *id })) };
            if !log.is_on(meant, key)? {
                return Ok(Err(VoidReason::OtherRegister { id: *id }));
            }
            *id = meant;
        }
        op.pred.sort_unstable();
        Ok(Ok(()))
    }

    /// Gives a change's operations their ids in the branch that holds it.
    fn name_ops(&self, entry: &Entry, change: &mut Change) {
        if self.point.log != entry.header().log {
            change.actor = ActorId::of_log(entry.header().space, self.point.log);
            change.ops.iter_mut().for_each(|op| op.id.actor = change.actor);
        }
    }

    /// The dependencies that a change with this past has.
    pub(super) fn deps(&self) -> Vec<ChangeHash> {
        let mut deps: Vec<ChangeHash> = self.tips.iter().map(|(_, hash)| *hash).collect();
        deps.sort_unstable();
        // Before the fork, an entry is one of the log's and one of each branch's.
        deps.dedup();
        deps
    }

    /// The membership heads in force at `entry`.
    fn membership<'a>(&'a self, entry: &'a Entry) -> &'a [RecordHash] {
        match (&entry.header().membership, &self.previous) {
            (own, _) if !own.is_empty() => own,
            (own, previous) => previous.as_ref().map_or(own, |meta| &meta.membership),
        }
    }

    /// The meta that goes with a verdict.
    fn conclude(self, entry: &Entry, verdict: Verdict) -> Outcome {
        let membership = self.membership(entry).to_vec();
        let mut clock = self.clock;
        clock.include(self.point);
        let mut meta = EntryMeta {
            hash: entry.hash(),
            clock,
            membership,
            is_void: matches!(verdict, Verdict::Void(_)),
            change: None,
            seq: self.seq,
            counter_max: self.counter_max,
            tips: self.tips.into_iter().map(|(point, _)| point).collect(),
        };
        if let Verdict::Applies(Body::Index(change, hash)) = &verdict {
            let (start_op, end_op) = (change.start_op, change.end_op());
            meta.change = Some(ChangeMeta { hash: *hash, start_op, end_op });
            meta.seq = change.seq;
            meta.counter_max = end_op;
            meta.tips = vec![self.point];
        }
        Outcome::Checked(Box::new(Checked { point: self.point, fork_of: self.fork_of, meta, verdict }))
    }
}
