//! The records of one space, in memory: verified, bounded, in causal order.
//!
//! A record whose author had the right in the table of its own past is kept for ever; any other is refused when its
//! past is complete, and nothing that is kept can follow it. So what is kept is a function of what was received, and
//! a table one of what is kept. Storing the bytes is the caller's.

use std::collections::{BTreeMap, BTreeSet};

use ed25519_dalek::SigningKey;

use super::past::Past;
use super::table::may_add;
use super::{
    AddRefusal, Genesis, GenesisError, Given, Identity, LEVEL_MIN, Member, NeedsNewerVersion, Newer, Operation, Record,
    RecordError, Role, Row, Table, TableError,
};
use crate::id::{DeviceId, EpochId, PersonId, RecordHash, SpaceId};
use crate::keys::{Secret, commitment};
use crate::limits::{
    RECORD_BYTES_MAX, RECORD_COUNT_MAX, RECORD_LEN_MAX, RECORD_PREVIOUS_COUNT_MAX, WAITING_RECORD_COUNT_MAX,
};

/// Who is no owner is refused when the bounds are reached by this part: another member that adds devices without end
/// can't keep an owner from removing it.
const OTHERS_SHARE: usize = 2;
/// The rank of the recovery key.
const RECOVERY_RANK: u32 = 0;
/// The rank of the creator's device.
const CREATOR_RANK: u32 = 1;

/// All records of one space that are known and count or may come to count.
#[derive(Clone, Debug)]
pub struct Records {
    genesis: Genesis,
    /// In causal order; the genesis is the first.
    nodes: Vec<Node>,
    indices: BTreeMap<RecordHash, usize>,
    heads: BTreeSet<RecordHash>,
    /// Which nodes add a device.
    adds: BTreeMap<DeviceId, Vec<usize>>,
    /// Which devices were ever added under a person.
    people: BTreeMap<PersonId, BTreeSet<DeviceId>>,
    /// The nodes at which the space stops. Nothing that is kept follows one.
    stops: Vec<(usize, NeedsNewerVersion)>,
    /// Records that lack a previous one.
    waiting: BTreeMap<RecordHash, Record>,
    bytes_len: usize,
}

#[derive(Clone, Debug)]
struct Node {
    /// `None`: the genesis.
    record: Option<Record>,
    /// Itself and all that it follows.
    past: Past,
    /// The author's rank in the table of the record's past.
    author_rank: u32,
    level: u16,
}

/// What became of a record that is not refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// It was here already.
    Known,
    /// A record that it follows has not arrived.
    Waiting,
    /// It is kept, and so are these that had waited for it: all of them, in causal order, to be stored.
    Kept(Vec<RecordHash>),
}

/// Why a record is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InsertError {
    /// By itself.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Its author had not the right in the table of its past.
    #[error("membership record does not count: {0}")]
    NoRight(#[from] AddRefusal),
    /// Its needed level is below that of a record that it follows.
    #[error("membership record asks for an older construction than one that it follows")]
    LevelFell,
    /// It follows a record that can't be evaluated here.
    #[error(transparent)]
    NeedsNewerVersion(#[from] NeedsNewerVersion),
    /// The space has as many records as it can have.
    #[error("the space has reached the limit of its membership records")]
    Full,
    /// Too many records wait for others.
    #[error("too many membership records wait for others; they are accepted in causal order")]
    TooManyWaiting,
}

/// A record that is named but not here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("membership record {0} is not known here")]
pub struct UnknownRecord(pub RecordHash);

/// One device's row in the table of some past.
struct Standing<'a> {
    identity: &'a Identity,
    given: Given,
}

impl Records {
    /// Begins with the bytes of the genesis of `space`.
    ///
    /// # Errors
    /// As [`Genesis::decode`].
    pub fn new(space: SpaceId, genesis: &[u8]) -> Result<Self, GenesisError> {
        Genesis::decode(space, genesis).map(Self::begin)
    }

    /// Begins with a verified genesis.
    pub fn begin(genesis: Genesis) -> Self {
        let mut past = Past::default();
        past.insert(0);
        let body = genesis.body();
        let (creator, recovery) = (body.creator.identity.device, body.recovery.device);
        let name = genesis.space().genesis_record();
        Self {
            nodes: vec![Node { record: None, past, author_rank: RECOVERY_RANK, level: body.level }],
            indices: BTreeMap::from([(name, 0)]),
            heads: BTreeSet::from([name]),
            adds: BTreeMap::from([(creator, vec![0]), (recovery, vec![0])]),
            people: BTreeMap::from([(body.person, BTreeSet::from([creator, recovery]))]),
            stops: Vec::new(),
            waiting: BTreeMap::new(),
            bytes_len: genesis.bytes().len(),
            genesis,
        }
    }

    /// The space.
    pub const fn space(&self) -> SpaceId {
        self.genesis.space()
    }

    /// The genesis.
    pub const fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    /// Verifies a record and keeps it, with those that waited for it.
    ///
    /// # Errors
    /// One variant of [`InsertError`] for each reason. A refused record changes nothing; so does each refused one of
    /// those that had waited.
    pub fn insert(&mut self, bytes: &[u8]) -> Result<Inserted, InsertError> {
        if bytes.len() <= RECORD_LEN_MAX {
            let is_genesis = bytes == self.genesis.bytes();
            let hash = Record::hash_of(bytes);
            if is_genesis || self.contains(hash) || self.waiting.contains_key(&hash) {
                return Ok(Inserted::Known);
            }
        }
        let record = Record::decode(self.space(), bytes)?;
        let hash = record.hash();
        if !self.lacks(&record).is_empty() {
            if self.waiting.len() >= WAITING_RECORD_COUNT_MAX {
                return Err(InsertError::TooManyWaiting);
            }
            self.waiting.insert(hash, record);
            return Ok(Inserted::Waiting);
        }
        self.keep(record)?;
        let mut kept = vec![hash];
        while let Some(ready) = self.next_ready() {
            let hash = ready.hash();
            if self.keep(ready).is_ok() {
                kept.push(hash);
            }
        }
        Ok(Inserted::Kept(kept))
    }

    /// Writes, signs and keeps an `add` on the present heads.
    ///
    /// # Errors
    /// As [`Self::insert`]. Nothing has changed then.
    pub fn add(&mut self, key: &SigningKey, row: Row) -> Result<Record, InsertError> {
        let previous: Vec<_> = self.heads.iter().copied().take(RECORD_PREVIOUS_COUNT_MAX).collect();
        let levels = previous.iter().filter_map(|hash| self.node(*hash)).map(|node| node.level);
        let level = levels.max().unwrap_or(LEVEL_MIN);
        let record = Record::make(key, self.space(), level, previous, Operation::Add(row), None)?;
        self.keep(record.clone())?;
        Ok(record)
    }

    /// Whether a record is kept.
    pub fn contains(&self, hash: RecordHash) -> bool {
        self.indices.contains_key(&hash)
    }

    /// How many records are kept, with the genesis.
    pub fn count(&self) -> usize {
        self.nodes.len()
    }

    /// The records that no other one follows, ascending.
    pub fn heads(&self) -> Vec<RecordHash> {
        self.heads.iter().copied().collect()
    }

    /// What the waiting records lack: to be asked for. Ascending.
    pub fn missing(&self) -> Vec<RecordHash> {
        let lacked = self.waiting.values().flat_map(|record| self.lacks(record));
        let lacked: BTreeSet<_> = lacked.filter(|hash| !self.waiting.contains_key(hash)).collect();
        lacked.into_iter().collect()
    }

    /// The bytes of a kept record.
    pub fn bytes(&self, hash: RecordHash) -> Option<&[u8]> {
        self.node(hash).map(|node| self.bytes_of(node))
    }

    /// Whether each record in `earlier` is one of `later` or in the past of one.
    ///
    /// # Errors
    /// [`UnknownRecord`] if one of either is not kept.
    pub fn follows(&self, later: &[RecordHash], earlier: &[RecordHash]) -> Result<bool, UnknownRecord> {
        let past = self.past_of(later)?;
        let mut is_following = true;
        for hash in earlier {
            is_following &= past.contains(*self.indices.get(hash).ok_or(UnknownRecord(*hash))?);
        }
        Ok(is_following)
    }

    /// The bytes of what someone lacks who has `known` and all that these follow, in causal order. What of `known` is
    /// not kept here is passed over. Nothing known: everything, the genesis first.
    pub fn lacked_by(&self, known: &[RecordHash]) -> impl Iterator<Item = &[u8]> {
        let mut past = Past::default();
        for node in known.iter().filter_map(|hash| self.node(*hash)) {
            past.union(&node.past);
        }
        let nodes = self.nodes.iter().enumerate();
        nodes.filter(move |(index, _)| !past.contains(*index)).map(|(_, node)| self.bytes_of(node))
    }

    /// Who is in, by all that is kept.
    ///
    /// # Errors
    /// [`NeedsNewerVersion`] if one of the records can't be evaluated here.
    pub fn table(&self) -> Result<Table, NeedsNewerVersion> {
        let mut past = Past::default();
        (0..self.nodes.len()).for_each(|index| past.insert(index));
        self.table_in(&past)
    }

    /// Who is in, by these records and all that they follow.
    ///
    /// # Errors
    /// Both variants of [`TableError`].
    pub fn table_at(&self, heads: &[RecordHash]) -> Result<Table, TableError> {
        let past = self.past_of(heads).map_err(|UnknownRecord(hash)| TableError::Unknown(hash))?;
        Ok(self.table_in(&past)?)
    }

    /// The role of one device in [`Self::table_at`], without making the whole table; `None` if it is not in.
    ///
    /// # Errors
    /// Both variants of [`TableError`].
    pub fn role_at(&self, heads: &[RecordHash], device: DeviceId) -> Result<Option<Role>, TableError> {
        let past = self.past_of(heads).map_err(|UnknownRecord(hash)| TableError::Unknown(hash))?;
        match self.newer_in(&past) {
            Some(newer) => Err(newer.into()),
            None => Ok(self.standing(&past, device).map(|standing| standing.given.role)),
        }
    }

    /// Whether `device` was ever added with a role that reads: it may hold secrets of that time and grant them on.
    pub fn was_reader(&self, device: DeviceId) -> bool {
        let adds = self.adds.get(&device).into_iter().flatten();
        adds.filter_map(|index| self.added(*index, device)).any(|(_, given)| given.role.can_read())
    }

    /// The epoch under which is written.
    ///
    /// # Errors
    /// [`NeedsNewerVersion`] if one of the records can't be evaluated here.
    pub fn epoch(&self) -> Result<EpochId, NeedsNewerVersion> {
        match self.stops.first() {
            Some((_, newer)) => Err(*newer),
            None => Ok(self.space().first_epoch()),
        }
    }

    /// Whether `secret` is the one to which the record that opened `epoch` is committed. `None` if no record that is
    /// kept opened it.
    pub fn is_secret_of(&self, epoch: EpochId, secret: &Secret) -> Option<bool> {
        let (expected, binding) = match &self.node(RecordHash(epoch.0))?.record {
            None => (self.genesis.body().commitment, self.genesis.body().random),
            Some(record) => (record.opens()?.commitment, self.space().0),
        };
        // Equality of two BLAKE3 hashes is compared in constant time.
        Some(blake3::Hash::from(commitment(secret, &binding)) == blake3::Hash::from(expected))
    }

    fn node(&self, hash: RecordHash) -> Option<&Node> {
        self.nodes.get(*self.indices.get(&hash)?)
    }

    fn bytes_of<'a>(&'a self, node: &'a Node) -> &'a [u8] {
        node.record.as_ref().map_or(self.genesis.bytes(), Record::bytes)
    }

    fn lacks(&self, record: &Record) -> Vec<RecordHash> {
        record.head().previous.iter().filter(|hash| !self.contains(**hash)).copied().collect()
    }

    fn next_ready(&mut self) -> Option<Record> {
        let hash = self.waiting.values().find(|record| self.lacks(record).is_empty())?.hash();
        self.waiting.remove(&hash)
    }

    fn past_of(&self, heads: &[RecordHash]) -> Result<Past, UnknownRecord> {
        let mut past = Past::default();
        for hash in heads {
            past.union(&self.node(*hash).ok_or(UnknownRecord(*hash))?.past);
        }
        Ok(past)
    }

    /// Judges a record whose past is complete, and keeps it.
    fn keep(&mut self, record: Record) -> Result<(), InsertError> {
        let previous = &record.head().previous;
        let mut past = self.past_of(previous).map_err(|_| RecordError::Shape)?;
        let level = record.head().level;
        for node in previous.iter().filter_map(|hash| self.node(*hash)) {
            if level < node.level {
                return Err(InsertError::LevelFell);
            }
        }
        if let Some(newer) = self.newer_in(&past) {
            return Err(newer.into());
        }
        let author = self.standing(&past, record.head().author).ok_or(AddRefusal::NotMember)?.given;
        let share = if author.role.can_add_members() { 1 } else { OTHERS_SHARE };
        let bytes_len = self.bytes_len + record.bytes().len();
        if self.nodes.len() >= RECORD_COUNT_MAX / share || bytes_len > RECORD_BYTES_MAX / share {
            return Err(InsertError::Full);
        }
        let newer = match record.operation() {
            Ok(Operation::Add(Row { introduction, given })) => {
                let standing = self.standing(&past, introduction.identity.device).map(|standing| standing.given);
                may_add(author, standing, *given, || self.has_person(&past, given.person))?;
                None
            }
            Ok(_) => Some(NeedsNewerVersion { what: Newer::Operation }),
            Err(newer) => Some(newer),
        };

        let index = self.nodes.len();
        past.insert(index);
        for hash in previous {
            self.heads.remove(hash);
        }
        self.heads.insert(record.hash());
        self.indices.insert(record.hash(), index);
        if let Some(newer) = newer {
            self.stops.push((index, newer));
        } else if let Ok(Operation::Add(Row { introduction, given })) = record.operation() {
            let device = introduction.identity.device;
            self.adds.entry(device).or_default().push(index);
            self.people.entry(given.person).or_default().insert(device);
        }
        self.bytes_len = bytes_len;
        self.nodes.push(Node { record: Some(record), past, author_rank: author.rank, level });
        Ok(())
    }

    fn newer_in(&self, past: &Past) -> Option<NeedsNewerVersion> {
        self.stops.iter().find(|(index, _)| past.contains(*index)).map(|(_, newer)| *newer)
    }

    fn table_in(&self, past: &Past) -> Result<Table, NeedsNewerVersion> {
        if let Some(newer) = self.newer_in(past) {
            return Err(newer);
        }
        let standings = self.adds.keys().filter_map(|device| self.standing(past, *device));
        Ok(Table::from_rows(standings.map(|Standing { identity, given }| Member { identity: identity.clone(), given })))
    }

    /// What node `index` says of `device`, if it adds it.
    fn added(&self, index: usize, device: DeviceId) -> Option<(&Identity, Given)> {
        let Some(record) = &self.nodes.get(index)?.record else {
            let body = self.genesis.body();
            let (identity, rank) = match &body.creator.identity {
                creator if creator.device == device => (creator, CREATOR_RANK),
                _ => (&body.recovery, RECOVERY_RANK),
            };
            return Some((identity, Given { person: body.person, rank, role: Role::Owner }));
        };
        match record.operation() {
            Ok(Operation::Add(row)) => Some((&row.introduction.identity, row.given)),
            _ => None,
        }
    }

    /// The row of a device in the table of `past`. Added more than once: the best rank of all, the lowest role of the
    /// latest, and person and keys of that latest `add` whose (author's rank, hash) is lowest.
    fn standing(&self, past: &Past, device: DeviceId) -> Option<Standing<'_>> {
        let mut rank = u32::MAX;
        let mut role = Role::Owner;
        let mut chosen: Option<((u32, RecordHash), &Identity, PersonId)> = None;
        // Nodes are in causal order: walking back, an `add` is one of the latest unless one that was met follows it.
        let mut followed = Past::default();
        for index in self.adds.get(&device)?.iter().rev().copied().filter(|index| past.contains(*index)) {
            let (Some((identity, given)), Some(node)) = (self.added(index, device), self.nodes.get(index)) else {
                continue;
            };
            rank = rank.min(given.rank);
            if followed.contains(index) {
                continue;
            }
            followed.union(&node.past);
            role = role.min(given.role);
            let hash = node.record.as_ref().map_or(self.space().genesis_record(), Record::hash);
            let order = (node.author_rank, hash);
            if chosen.as_ref().is_none_or(|(lowest, ..)| order < *lowest) {
                chosen = Some((order, identity, given.person));
            }
        }
        chosen.map(|(_, identity, person)| Standing { identity, given: Given { person, rank, role } })
    }

    fn has_person(&self, past: &Past, person: PersonId) -> bool {
        let devices = self.people.get(&person).into_iter().flatten();
        devices.filter_map(|device| self.standing(past, *device)).any(|standing| standing.given.person == person)
    }
}
