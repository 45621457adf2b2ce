//! What every read of a hot loop asks, kept in memory beside the file: small maps that share their content between
//! snapshots.
//!
//! A cache belongs to one committed state, known by its generation: a number in the file that each commit raises. A
//! snapshot takes the cache of the generation that it reads, never another.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use zerocloud_crdt::id::{ActorId, FileId, Incarnation, LogId};
use zerocloud_crdt::log::Frontier;
use zerocloud_crdt::name::Name;

use super::StoreError;
use super::base::BaseCounts;
use super::tables::{self, Table, Tables, WriteTables};
use super::values::{self, Value};
use super::versions::VersionCounts;

/// The small tables of one committed state, and what a write has made of them so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cache {
    /// Of which commit.
    pub(super) generation: u64,
    /// The largest counter applied.
    pub(super) max_counter: u32,
    /// What base holds.
    pub(super) counts: BaseCounts,
    /// What the version store holds.
    pub(super) version_counts: VersionCounts,
    /// Item → effective parent.
    pub(super) fallen: Arc<BTreeMap<FileId, FileId>>,
    /// Virtual ids and their items.
    pub(super) losers: Arc<Losers>,
    /// Of each actor.
    pub(super) labels: Arc<BTreeMap<ActorId, Name>>,
    /// The last entry of each log.
    pub(super) frontier: Arc<Frontier>,
}

/// Virtual ids, by themselves and by item.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Losers {
    items: BTreeMap<FileId, FileId>,
    by_item: BTreeSet<(FileId, FileId)>,
}

impl Losers {
    /// The item of `virtual_id`.
    pub(super) fn item(&self, virtual_id: FileId) -> Option<FileId> {
        self.items.get(&virtual_id).copied()
    }

    /// The virtual ids of `item`, ascending.
    pub(super) fn of(&self, item: FileId) -> Vec<FileId> {
        let range = (item, FileId([0; 16]))..=(item, FileId([0xff; 16]));
        self.by_item.range(range).map(|(_, id)| *id).collect()
    }

    pub(super) fn insert(&mut self, virtual_id: FileId, item: FileId) {
        if let Some(before) = self.items.insert(virtual_id, item) {
            self.by_item.remove(&(before, virtual_id));
        }
        self.by_item.insert((item, virtual_id));
    }
}

impl Cache {
    /// Reads the cache of a state from its tables.
    pub(super) fn load(tables: &impl Tables) -> Result<Self, StoreError> {
        let mut cache = Self {
            generation: generation(tables)?,
            max_counter: value(tables, values::MAX_COUNTER)?.unwrap_or_default(),
            counts: value(tables, values::BASE_COUNTS)?.unwrap_or_default(),
            version_counts: value(tables, values::VERSION_COUNTS)?.unwrap_or_default(),
            ..Self::default()
        };
        let fallen = tables::collect(tables, Table::Fallen, &[], |id, parent| {
            Ok((FileId(tables::exactly(Table::Fallen, id)?), FileId(tables::exactly(Table::Fallen, parent)?)))
        })?;
        cache.fallen = Arc::new(fallen.into_iter().collect());
        let mut losers = Losers::default();
        tables::each_under(tables, Table::Losers, &[], |id, item| {
            losers.insert(FileId(tables::exactly(Table::Losers, id)?), FileId(tables::exactly(Table::Losers, item)?));
            Ok(ControlFlow::Continue(()))
        })?;
        cache.losers = Arc::new(losers);
        let labels = tables::collect(tables, Table::Labels, &[], |actor, label| {
            Ok((ActorId(tables::exactly(Table::Labels, actor)?), tables::decode(Table::Labels, label)?))
        })?;
        cache.labels = Arc::new(labels.into_iter().collect());
        let mut frontier = Frontier::default();
        tables::each_under(tables, Table::Logs, &[], |mut log, position| {
            frontier.advance(take_log(Table::Logs, &mut log)?, tables::decode(Table::Logs, position)?);
            Ok(ControlFlow::Continue(()))
        })?;
        cache.frontier = Arc::new(frontier);
        Ok(cache)
    }
}

/// Reads a log's key off the front of `bytes`.
pub(super) fn take_log(table: Table, bytes: &mut &[u8]) -> Result<LogId, StoreError> {
    let author = zerocloud_crdt::id::DeviceId(tables::take(table, bytes)?);
    Ok(LogId { author, incarnation: Incarnation(tables::take(table, bytes)?) })
}

fn value<V: serde::Serialize + serde::de::DeserializeOwned>(
    tables: &impl Tables,
    value: Value<V>,
) -> Result<Option<V>, StoreError> {
    tables::load(tables, Table::Values, &value.key())
}

/// Of which commit the state is that `tables` reads.
pub(super) fn generation(tables: &impl Tables) -> Result<u64, StoreError> {
    Ok(value(tables, values::GENERATION)?.unwrap_or_default())
}

/// Notes of which commit the state will be that `tables` writes.
pub(super) fn put_generation(tables: &mut WriteTables<'_>, generation: u64) -> Result<(), StoreError> {
    tables.store(Table::Values, &values::GENERATION.key(), &generation)
}

/// The cache of the last commit that is known to have ended, and that of the commit under way.
#[derive(Debug, Default)]
pub(super) struct Caches {
    current: Cache,
    next: Option<Cache>,
}

impl Caches {
    pub(super) fn new(current: Cache) -> Self {
        Self { current, next: None }
    }

    /// The cache of the last commit.
    pub(super) fn current(&self) -> Cache {
        self.current.clone()
    }

    /// The cache of this generation, if it is one of the two.
    pub(super) fn of(&self, generation: u64) -> Option<Cache> {
        std::iter::once(&self.current).chain(&self.next).find(|cache| cache.generation == generation).cloned()
    }

    /// Notes the cache of a commit that is about to begin. If it fails, the next one takes its place.
    pub(super) fn prepare(&mut self, next: Cache) {
        self.next = Some(next);
    }

    /// The commit has ended.
    pub(super) fn promote(&mut self) {
        if let Some(next) = self.next.take() {
            self.current = next;
        }
    }
}
