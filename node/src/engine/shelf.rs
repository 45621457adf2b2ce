//! What the engine keeps durable, and how it reads it back.
//!
//! [`Shelf`] is implemented by the store on disk and by [`MemoryShelf`], on which tests and models run. What one
//! transaction holds becomes durable as a whole or not at all.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;

use zerocloud_crdt::base::{BaseChanges, BaseRead, BaseRow, MemoryBase, RowKey};
use zerocloud_crdt::change::Key;
use zerocloud_crdt::id::{ActorId, ContentHash, DeviceId, FileId, Incarnation, OpId, RecordHash, SpaceId};
use zerocloud_crdt::index::{IndexChanges, IndexRead, MemoryIndex};
use zerocloud_crdt::log::{Branches, Checked, Entry, EntryMeta, EntryPoint, Frontier, LogRead, MemoryLog};
use zerocloud_crdt::manifest::{BuiltPage, Chunk};
use zerocloud_crdt::name::Name;
use zerocloud_crdt::register::Item;

use super::replica::Discrepancy;

/// What is stored of a file beside its content value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// All chunks, in order.
    pub chunks: Vec<Chunk>,
    /// Manifest pages, if the list is too long for the value.
    pub pages: Vec<BuiltPage>,
}

/// Where the engine keeps what must survive.
pub trait Shelf {
    /// Why reading or writing failed.
    type Error: std::error::Error + 'static;
    /// One state, in which all reads agree.
    type Snapshot: ShelfRead<Fault = Self::Error>;
    /// A transaction: it reads its own writes.
    type Write<'t>: ShelfWrite<Fault = Self::Error>;

    /// What is kept now.
    ///
    /// # Errors
    /// Those of the store.
    fn snapshot(&self) -> Result<Self::Snapshot, Self::Error>;

    /// Runs `body` in one transaction. What it wrote is durable when this returns; if it fails, nothing of it is kept.
    /// `fail` makes an error of the store one of the caller's.
    ///
    /// # Errors
    /// Those of `body`, and those of the store.
    fn write<V, X>(
        &self,
        fail: impl Fn(Self::Error) -> X,
        body: impl FnOnce(&mut Self::Write<'_>) -> Result<V, X>,
    ) -> Result<V, X>;
}

/// The replica's thread writes; others read the same store.
impl<S: Shelf> Shelf for Arc<S> {
    type Error = S::Error;
    type Snapshot = S::Snapshot;
    type Write<'t> = S::Write<'t>;

    fn snapshot(&self) -> Result<S::Snapshot, S::Error> {
        S::snapshot(self)
    }

    fn write<V, X>(
        &self,
        fail: impl Fn(S::Error) -> X,
        body: impl FnOnce(&mut S::Write<'_>) -> Result<V, X>,
    ) -> Result<V, X> {
        S::write(self, fail, body)
    }
}

/// What the engine reads.
pub trait ShelfRead:
    LogRead<Error = Self::Fault> + IndexRead<Error = Self::Fault> + BaseRead<Error = Self::Fault>
{
    /// Why reading or writing failed: the one error of all that is read here.
    type Fault;

    /// The bytes of an entry, as received.
    ///
    /// # Errors
    /// Those of the store.
    fn entry_bytes(&self, point: EntryPoint) -> Result<Option<Vec<u8>>, Self::Fault>;
    /// The last frontier that a peer signed.
    ///
    /// # Errors
    /// Those of the store.
    fn peer_frontier(&self, peer: DeviceId) -> Result<Option<Vec<u8>>, Self::Fault>;
    /// Which incarnation this device writes; `None`: its next entry begins a new one.
    ///
    /// # Errors
    /// Those of the store.
    fn incarnation(&self) -> Result<Option<Incarnation>, Self::Fault>;
    /// Members whose word and deeds differ.
    ///
    /// # Errors
    /// Those of the store.
    fn discrepancies(&self) -> Result<BTreeMap<DeviceId, Discrepancy>, Self::Fault>;
}

/// What the engine writes.
pub trait ShelfWrite: ShelfRead {
    /// Keeps an entry that was checked against this very transaction.
    ///
    /// # Errors
    /// Those of the store.
    fn put_entry(&mut self, entry: &Entry, checked: &Checked) -> Result<(), Self::Fault>;
    /// Takes all entries away, and all that was made of them, and notes the branches of those that are to be kept next.
    ///
    /// # Errors
    /// Those of the store.
    fn clear_log(&mut self, branches: Branches) -> Result<(), Self::Fault>;
    /// Keeps what an overlay changed; the items that it touched wait to be planned.
    ///
    /// # Errors
    /// Those of the store.
    fn put_index(&mut self, changes: IndexChanges) -> Result<(), Self::Fault>;
    /// Keeps new and removed rows of base.
    ///
    /// # Errors
    /// Those of the store.
    fn put_base(&mut self, changes: BaseChanges) -> Result<(), Self::Fault>;
    /// Adds items to those that wait to be planned.
    ///
    /// # Errors
    /// Those of the store.
    fn put_unsettled(&mut self, items: BTreeSet<FileId>) -> Result<(), Self::Fault>;
    /// Keeps which chunks a content is made of, and the pages of its manifest.
    ///
    /// # Errors
    /// Those of the store.
    fn put_contents(&mut self, content: ContentHash, chunks: &[Chunk], pages: &[BuiltPage]) -> Result<(), Self::Fault>;
    /// Keeps a record's bytes, as received.
    ///
    /// # Errors
    /// Those of the store.
    fn put_record(&mut self, hash: RecordHash, bytes: &[u8]) -> Result<(), Self::Fault>;
    /// Keeps the last frontier that a peer signed.
    ///
    /// # Errors
    /// Those of the store.
    fn put_peer_frontier(&mut self, peer: DeviceId, bytes: &[u8]) -> Result<(), Self::Fault>;
    /// Keeps which incarnation this device writes.
    ///
    /// # Errors
    /// Those of the store.
    fn put_incarnation(&mut self, incarnation: Incarnation) -> Result<(), Self::Fault>;
    /// Keeps which members' word and deeds differ.
    ///
    /// # Errors
    /// Those of the store.
    fn put_discrepancies(&mut self, all: &BTreeMap<DeviceId, Discrepancy>) -> Result<(), Self::Fault>;
    /// A peer has entries of the own log that are not here, so what is here is an older state: the next own entry begins
    /// a new incarnation, and the folder takes over what the log knows when what the peer has is here.
    ///
    /// # Errors
    /// Those of the store.
    fn begin_anew(&mut self, peer: DeviceId) -> Result<(), Self::Fault>;
}

/// A shelf in memory.
#[derive(Debug)]
pub struct MemoryShelf {
    state: RefCell<MemoryState>,
}

/// What a [`MemoryShelf`] holds.
#[derive(Clone, Debug)]
pub struct MemoryState {
    /// Entries.
    pub log: MemoryLog,
    /// Registers.
    pub index: MemoryIndex,
    /// Base.
    pub base: MemoryBase,
    /// Chunks and pages of contents.
    pub contents: BTreeMap<ContentHash, Contents>,
    /// Records, as received.
    pub records: BTreeMap<RecordHash, Vec<u8>>,
    /// Items that wait to be planned.
    pub unsettled: BTreeSet<FileId>,
    /// Signed frontiers of peers.
    pub frontiers: BTreeMap<DeviceId, Vec<u8>>,
    /// Which incarnation is written.
    pub incarnation: Option<Incarnation>,
    /// Members whose word and deeds differ.
    pub discrepancies: BTreeMap<DeviceId, Discrepancy>,
}

impl MemoryShelf {
    /// An empty shelf.
    pub fn new(space: SpaceId) -> Self {
        let state = MemoryState {
            log: MemoryLog::default(),
            index: MemoryIndex::new(space),
            base: MemoryBase::default(),
            contents: BTreeMap::new(),
            records: BTreeMap::new(),
            unsettled: BTreeSet::new(),
            frontiers: BTreeMap::new(),
            incarnation: None,
            discrepancies: BTreeMap::new(),
        };
        Self { state: RefCell::new(state) }
    }

    /// A shelf that holds this.
    pub fn of(state: MemoryState) -> Self {
        Self { state: RefCell::new(state) }
    }

    /// A copy of all that is kept.
    pub fn state(&self) -> MemoryState {
        self.state.borrow().clone()
    }
}

impl Shelf for MemoryShelf {
    type Error = Infallible;
    type Snapshot = MemoryState;
    type Write<'t> = MemoryState;

    fn snapshot(&self) -> Result<MemoryState, Infallible> {
        Ok(self.state())
    }

    fn write<V, X>(
        &self,
        _: impl Fn(Infallible) -> X,
        body: impl FnOnce(&mut MemoryState) -> Result<V, X>,
    ) -> Result<V, X> {
        let mut state = self.state();
        let value = body(&mut state)?;
        *self.state.borrow_mut() = state;
        Ok(value)
    }
}

impl ShelfRead for MemoryState {
    type Fault = Infallible;

    fn entry_bytes(&self, point: EntryPoint) -> Result<Option<Vec<u8>>, Infallible> {
        Ok(self.log.stored(point).map(|entry| entry.as_bytes().to_vec()))
    }

    fn peer_frontier(&self, peer: DeviceId) -> Result<Option<Vec<u8>>, Infallible> {
        Ok(self.frontiers.get(&peer).cloned())
    }

    fn incarnation(&self) -> Result<Option<Incarnation>, Infallible> {
        Ok(self.incarnation)
    }

    fn discrepancies(&self) -> Result<BTreeMap<DeviceId, Discrepancy>, Infallible> {
        Ok(self.discrepancies.clone())
    }
}

impl ShelfWrite for MemoryState {
    fn put_entry(&mut self, entry: &Entry, checked: &Checked) -> Result<(), Infallible> {
        self.log.apply(entry.clone(), checked);
        Ok(())
    }

    fn clear_log(&mut self, branches: Branches) -> Result<(), Infallible> {
        self.log = MemoryLog::with_branches(branches);
        self.index = MemoryIndex::new(self.index.space());
        Ok(())
    }

    fn put_index(&mut self, changes: IndexChanges) -> Result<(), Infallible> {
        self.unsettled.extend(&changes.touched);
        self.index.commit(changes);
        Ok(())
    }

    fn put_base(&mut self, changes: BaseChanges) -> Result<(), Infallible> {
        self.base.commit(changes);
        Ok(())
    }

    fn put_unsettled(&mut self, items: BTreeSet<FileId>) -> Result<(), Infallible> {
        self.unsettled.extend(items);
        Ok(())
    }

    fn put_contents(&mut self, content: ContentHash, chunks: &[Chunk], pages: &[BuiltPage]) -> Result<(), Infallible> {
        self.contents.insert(content, Contents { chunks: chunks.to_vec(), pages: pages.to_vec() });
        Ok(())
    }

    fn put_record(&mut self, hash: RecordHash, bytes: &[u8]) -> Result<(), Infallible> {
        self.records.insert(hash, bytes.to_vec());
        Ok(())
    }

    fn put_peer_frontier(&mut self, peer: DeviceId, bytes: &[u8]) -> Result<(), Infallible> {
        self.frontiers.insert(peer, bytes.to_vec());
        Ok(())
    }

    fn put_incarnation(&mut self, incarnation: Incarnation) -> Result<(), Infallible> {
        self.incarnation = Some(incarnation);
        Ok(())
    }

    fn put_discrepancies(&mut self, all: &BTreeMap<DeviceId, Discrepancy>) -> Result<(), Infallible> {
        self.discrepancies.clone_from(all);
        Ok(())
    }

    fn begin_anew(&mut self, _: DeviceId) -> Result<(), Infallible> {
        self.incarnation = None;
        Ok(())
    }
}

impl LogRead for MemoryState {
    type Error = Infallible;

    fn entry(&self, point: EntryPoint) -> Result<Option<EntryMeta>, Infallible> {
        self.log.entry(point)
    }

    fn maker(&self, id: OpId) -> Result<Option<EntryPoint>, Infallible> {
        self.log.maker(id)
    }

    fn is_on(&self, id: OpId, key: Key) -> Result<bool, Infallible> {
        self.log.is_on(id, key)
    }

    fn branches(&self) -> Result<Branches, Infallible> {
        self.log.branches()
    }

    fn frontier(&self) -> Result<Frontier, Infallible> {
        self.log.frontier()
    }
}

impl IndexRead for MemoryState {
    type Error = Infallible;

    fn space(&self) -> SpaceId {
        self.index.space()
    }

    fn item(&self, id: FileId) -> Result<Option<Item>, Infallible> {
        self.index.item(id)
    }

    fn look_at<V>(&self, id: FileId, look: impl FnOnce(Option<&Item>) -> V) -> Result<V, Infallible> {
        self.index.look_at(id, look)
    }

    fn children(&self, parent: FileId) -> Result<Vec<FileId>, Infallible> {
        self.index.children(parent)
    }

    fn keyed(&self, parent: FileId, name_key: u64) -> Result<Vec<FileId>, Infallible> {
        self.index.keyed(parent, name_key)
    }

    fn has_children(&self, parent: FileId) -> Result<bool, Infallible> {
        self.index.has_children(parent)
    }

    fn contested(&self, parent: FileId) -> Result<BTreeSet<FileId>, Infallible> {
        self.index.contested(parent)
    }

    fn fallen(&self) -> Result<BTreeMap<FileId, FileId>, Infallible> {
        self.index.fallen()
    }

    fn loser_of(&self, virtual_id: FileId) -> Result<Option<FileId>, Infallible> {
        self.index.loser_of(virtual_id)
    }

    fn losers(&self, item: FileId) -> Result<Vec<FileId>, Infallible> {
        self.index.losers(item)
    }

    fn label(&self, actor: ActorId) -> Result<Option<Name>, Infallible> {
        self.index.label(actor)
    }

    fn max_counter(&self) -> Result<u32, Infallible> {
        self.index.max_counter()
    }
}

impl BaseRead for MemoryState {
    type Error = Infallible;

    fn row(&self, key: &RowKey) -> Result<Option<BaseRow>, Infallible> {
        self.base.row(key)
    }

    fn rows(&self, parent: FileId) -> Result<Vec<(Name, BaseRow)>, Infallible> {
        self.base.rows(parent)
    }

    fn has_rows(&self, parent: FileId) -> Result<bool, Infallible> {
        self.base.has_rows(parent)
    }

    fn of_source(&self, source: FileId) -> Result<Vec<(FileId, RowKey)>, Infallible> {
        self.base.of_source(source)
    }

    fn of_inode(&self, inode: u64) -> Result<Vec<RowKey>, Infallible> {
        self.base.of_inode(inode)
    }
}
