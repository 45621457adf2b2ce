//! The author's side: numbers operations, makes the change, seals, signs, and checks its own work as any reader will.

use ed25519_dalek::SigningKey;

use super::EntryPoint;
use super::branch::Branches;
use super::check::{CheckError, Checked, EntryMeta, LogRead, Membership, Outcome, Past, Verdict, VoidReason, check};
use super::entry::{Entry, Head, Header, Kind};
use super::payload::{SealError, Start, seal};
use crate::change::{Change, ChangeError};
use crate::codec;
use crate::id::{ActorId, DeviceId, FileId, Incarnation, LogId, OpId, RecordHash, SpaceId};
use crate::keys::EpochSecret;
use crate::limits::ENTRY_HEADS_COUNT_MAX;
use crate::register::{Op, Write};

/// One operation that has no id yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DraftOp {
    /// The item.
    pub item: FileId,
    /// The register and what is put there.
    pub write: Write,
    /// The operations of that register that it supersedes, in any order.
    pub pred: Vec<OpId>,
}

/// What a next entry is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Draft {
    /// The beginning of the log.
    Start(Start),
    /// One change: its operations get the ids that follow the largest counter in the entry's past, in their order.
    Index(Vec<DraftOp>),
    /// Only the heads.
    Seen,
}

/// Under what a next entry is written.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'a> {
    /// Heads of other logs: [`super::heads::current_heads`], at most [`ENTRY_HEADS_COUNT_MAX`] of them. The entry may
    /// supersede no operation outside their pasts.
    pub heads: &'a [Head],
    /// The membership heads that the author knows; named in the entry only where they differ from those before.
    pub membership: &'a [RecordHash],
    /// The epoch under which the author writes.
    pub secret: &'a EpochSecret,
}

/// An entry that was written and checked. It is not in the log until it was applied there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The entry, to be stored and sent.
    pub entry: Entry,
    /// Its meta, and its operations with their ids.
    pub checked: Checked,
}

/// Why no entry was written.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError<E> {
    /// A log begins with a start, and has no other.
    #[error("a log begins with a start and has no other")]
    Start,
    /// The label or the earlier incarnations are out of bounds.
    #[error("label or earlier incarnations are out of bounds")]
    StartMalformed,
    /// Write `Seen` entries over parts of the heads first.
    #[error("{count} heads are above the limit of {ENTRY_HEADS_COUNT_MAX}")]
    TooManyHeads {
        /// How many.
        count: usize,
    },
    /// A head was not applied here.
    #[error("an entry that the new one would name is not in the log")]
    HeadMissing {
        /// Its place.
        point: EntryPoint,
    },
    /// The operations make no change.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// The body does not fit an entry.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// Every reader would find the entry void.
    #[error("entry would be void: {0}")]
    Void(VoidReason),
    /// The entry can't be checked here: records or the log's end are not what the setting says.
    #[error("entry does not follow what the log holds")]
    Unchecked,
    /// The store could not be read.
    #[error("log could not be read")]
    Store(E),
}

/// Writes the entries of one log.
#[derive(Debug)]
pub struct LogWriter<'k> {
    key: &'k SigningKey,
    space: SpaceId,
    log: LogId,
}

impl<'k> LogWriter<'k> {
    /// A writer for the log of the device with this key and of this incarnation.
    pub fn new(key: &'k SigningKey, space: SpaceId, incarnation: Incarnation) -> Self {
        let author = DeviceId(key.verifying_key().to_bytes());
        Self { key, space, log: LogId { author, incarnation } }
    }

    /// The log.
    pub const fn log(&self) -> LogId {
        self.log
    }

    /// The actor of its changes.
    pub fn actor(&self) -> ActorId {
        ActorId::of_log(self.space, self.log)
    }

    /// Writes the next entry of the log as `read` has it.
    ///
    /// # Errors
    /// A variant of [`WriteError`] for each reason; nothing that a reader would refuse or find void is returned.
    pub fn write<R: LogRead>(
        &self,
        read: &R,
        membership: &impl Membership,
        setting: &Setting<'_>,
        draft: Draft,
        rng: &mut impl rand_core::CryptoRng,
    ) -> Result<Written, WriteError<R::Error>> {
        if setting.heads.len() > ENTRY_HEADS_COUNT_MAX {
            return Err(WriteError::TooManyHeads { count: setting.heads.len() });
        }
        let previous = self.last(read).map_err(WriteError::Store)?;
        if matches!(draft, Draft::Start(_)) != previous.is_none() {
            return Err(WriteError::Start);
        }
        let branches = read.branches().map_err(WriteError::Store)?;
        let header = self.header(setting, &branches, previous.as_ref(), &draft);
        let body = match draft {
            Draft::Start(start) if start.is_well_formed(self.log.incarnation) => codec::encode(&start),
            Draft::Start(_) => return Err(WriteError::StartMalformed),
            Draft::Index(ops) => self.change(read, setting.heads, previous, ops)?.encode()?.bytes,
            Draft::Seen => Vec::new(),
        };
        let payload = seal(&header, &body, setting.secret, rng)?;
        let entry = Entry::sign(header, &payload, self.key);
        self.checked(entry, read, membership, setting)
    }

    /// The last entry of the log.
    fn last<R: LogRead>(&self, read: &R) -> Result<Option<(EntryPoint, EntryMeta)>, R::Error> {
        let Some(position) = read.frontier()?.position(self.log) else { return Ok(None) };
        let point = EntryPoint { log: self.log, number: position.number };
        Ok(read.entry(point)?.map(|meta| (point, meta)))
    }

    fn header(
        &self,
        setting: &Setting<'_>,
        branches: &Branches,
        previous: Option<&(EntryPoint, EntryMeta)>,
        draft: &Draft,
    ) -> Header {
        let mut heads = setting.heads.to_vec();
        heads.iter_mut().for_each(|head| head.point.log = branches.root_of(head.point.log));
        heads.sort_unstable();
        let mut membership = setting.membership.to_vec();
        membership.sort_unstable();
        if previous.is_some_and(|(_, meta)| meta.membership == membership) {
            membership.clear();
        }
        Header {
            space: self.space,
            log: self.log,
            number: previous.map_or(1, |(point, _)| point.number + 1),
            previous: previous.map(|(_, meta)| meta.hash),
            heads,
            membership,
            epoch: setting.secret.epoch,
            kind: match draft {
                Draft::Start(_) => Kind::Start,
                Draft::Index(_) => Kind::Index,
                Draft::Seen => Kind::Seen,
            },
        }
    }

    fn change<R: LogRead>(
        &self,
        read: &R,
        named: &[Head],
        previous: Option<(EntryPoint, EntryMeta)>,
        drafts: Vec<DraftOp>,
    ) -> Result<Change, WriteError<R::Error>> {
        let mut heads = Vec::new();
        for head in named {
            let meta = read.entry(head.point).map_err(WriteError::Store)?;
            heads.push((head.point, meta.ok_or(WriteError::HeadMissing { point: head.point })?));
        }
        let (number, previous) = previous.map_or((1, None), |(point, meta)| (point.number + 1, Some(meta)));
        let point = EntryPoint { log: self.log, number };
        let past = Past::new(point, previous, heads, read).map_err(WriteError::Store)?;
        let actor = self.actor();
        let start_op = past.counter_max.checked_add(1).ok_or(ChangeError::Counter)?;
        let mut ops = Vec::with_capacity(drafts.len());
        for (index, draft) in drafts.into_iter().enumerate() {
            let counter = u32::try_from(index).ok().and_then(|index| start_op.checked_add(index));
            let id = OpId { counter: counter.ok_or(ChangeError::Counter)?, actor };
            let mut pred = draft.pred;
            pred.sort_unstable();
            ops.push(Op { id, item: draft.item, write: draft.write, pred });
        }
        Ok(Change { actor, seq: past.seq + 1, deps: past.deps(), start_op, ops })
    }

    /// Reads the entry back as everyone else will.
    fn checked<R: LogRead>(
        &self,
        entry: Entry,
        read: &R,
        membership: &impl Membership,
        setting: &Setting<'_>,
    ) -> Result<Written, WriteError<R::Error>> {
        let entry = Entry::decode_stored(self.space, entry.into_bytes()).map_err(|_| WriteError::Unchecked)?;
        let secret = |epoch| (epoch == setting.secret.epoch).then_some(setting.secret);
        match check(&entry, read, membership, secret) {
            Ok(Outcome::Checked(checked)) => match checked.verdict {
                Verdict::Applies(_) => Ok(Written { entry, checked: *checked }),
                Verdict::Void(reason) => Err(WriteError::Void(reason)),
            },
            Ok(Outcome::Known | Outcome::Waits(_) | Outcome::Fork(_)) => Err(WriteError::Unchecked),
            Err(CheckError::NeedsNewer(error)) => Err(WriteError::Void(VoidReason::Payload(error))),
            Err(CheckError::Store(error)) => Err(WriteError::Store(error)),
        }
    }
}

/// Puts an entry together as it is told: for tests of what readers do with entries that no honest author writes.
#[cfg(test)]
pub(super) fn forge(
    key: &SigningKey,
    header: Header,
    body: &[u8],
    secret: &EpochSecret,
    rng: &mut impl rand_core::CryptoRng,
) -> Entry {
    let payload = seal(&header, body, secret, rng).unwrap();
    Entry::sign(header, &payload, key)
}
