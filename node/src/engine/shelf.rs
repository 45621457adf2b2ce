//! What the engine keeps durable, and how it reads it back.
//!
//! [`Shelf`] is implemented by the store on disk and by [`MemoryShelf`], on which tests and models run. What one
//! transaction holds becomes durable as a whole or not at all.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use zerocloud_crdt::base::{BaseChanges, BaseRead, BaseRow, MemoryBase, RowKey};
use zerocloud_crdt::change::Key;
use zerocloud_crdt::id::{ActorId, DeviceId, FileId, OpId, RecordHash, SpaceId};
use zerocloud_crdt::index::{IndexChanges, IndexRead, MemoryIndex};
use zerocloud_crdt::log::{Checked, Entry, EntryMeta, EntryPoint, Frontier, LogRead, MemoryLog};
use zerocloud_crdt::name::Name;
use zerocloud_crdt::register::Item;

/// Where the engine keeps what must survive.
pub trait Shelf {
    /// Why reading or writing failed.
    type Error: std::error::Error + 'static;
    /// A transaction: sees its own writes, and nothing of it stays unless it is committed.
    type Transaction<'a>: Transaction<Error = Self::Error>
    where
        Self: 'a;

    /// Begins a transaction. There is one at a time.
    ///
    /// # Errors
    /// Those of the store.
    fn begin(&self) -> Result<Self::Transaction<'_>, Self::Error>;
}

/// Reads and writes of one transaction.
pub trait Transaction:
    LogRead<Error = <Self as Transaction>::Error>
    + IndexRead<Error = <Self as Transaction>::Error>
    + BaseRead<Error = <Self as Transaction>::Error>
{
    /// Why reading or writing failed.
    type Error;

    /// Keeps an entry that was checked against this very transaction.
    ///
    /// # Errors
    /// Those of the store.
    fn put_entry(&mut self, entry: &Entry, checked: &Checked) -> Result<(), <Self as Transaction>::Error>;
    /// The bytes of an entry, as received.
    ///
    /// # Errors
    /// Those of the store.
    fn entry_bytes(&self, point: EntryPoint) -> Result<Option<Vec<u8>>, <Self as Transaction>::Error>;
    /// Keeps what an overlay changed; the items that it touched wait to be planned.
    ///
    /// # Errors
    /// Those of the store.
    fn put_index(&mut self, changes: IndexChanges) -> Result<(), <Self as Transaction>::Error>;
    /// Keeps new and removed rows of base.
    ///
    /// # Errors
    /// Those of the store.
    fn put_base(&mut self, changes: BaseChanges) -> Result<(), <Self as Transaction>::Error>;
    /// Adds items to those that wait to be planned.
    ///
    /// # Errors
    /// Those of the store.
    fn put_unsettled(&mut self, items: BTreeSet<FileId>) -> Result<(), <Self as Transaction>::Error>;
    /// Keeps a record's bytes, as received.
    ///
    /// # Errors
    /// Those of the store.
    fn put_record(&mut self, hash: RecordHash, bytes: &[u8]) -> Result<(), <Self as Transaction>::Error>;
    /// The last frontier that a peer signed.
    ///
    /// # Errors
    /// Those of the store.
    fn peer_frontier(&self, peer: DeviceId) -> Result<Option<Vec<u8>>, <Self as Transaction>::Error>;
    /// Keeps the last frontier that a peer signed.
    ///
    /// # Errors
    /// Those of the store.
    fn put_peer_frontier(&mut self, peer: DeviceId, bytes: &[u8]) -> Result<(), <Self as Transaction>::Error>;
    /// Makes all of it durable.
    ///
    /// # Errors
    /// Those of the store; then nothing of it was kept.
    fn commit(self) -> Result<(), <Self as Transaction>::Error>;
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
    /// Records, as received.
    pub records: BTreeMap<RecordHash, Vec<u8>>,
    /// Items that wait to be planned.
    pub unsettled: BTreeSet<FileId>,
    /// Signed frontiers of peers.
    pub frontiers: BTreeMap<DeviceId, Vec<u8>>,
}

impl MemoryShelf {
    /// An empty shelf.
    pub fn new(space: SpaceId) -> Self {
        let state = MemoryState {
            log: MemoryLog::default(),
            index: MemoryIndex::new(space),
            base: MemoryBase::default(),
            records: BTreeMap::new(),
            unsettled: BTreeSet::new(),
            frontiers: BTreeMap::new(),
        };
        Self { state: RefCell::new(state) }
    }

    /// A copy of all that is kept.
    pub fn state(&self) -> MemoryState {
        self.state.borrow().clone()
    }
}

impl Shelf for MemoryShelf {
    type Error = Infallible;
    type Transaction<'a> = MemoryTransaction<'a>;

    fn begin(&self) -> Result<MemoryTransaction<'_>, Infallible> {
        Ok(MemoryTransaction { shelf: self, state: self.state() })
    }
}

/// A transaction on a [`MemoryShelf`].
#[derive(Debug)]
pub struct MemoryTransaction<'a> {
    shelf: &'a MemoryShelf,
    state: MemoryState,
}

impl Transaction for MemoryTransaction<'_> {
    type Error = Infallible;

    fn put_entry(&mut self, entry: &Entry, checked: &Checked) -> Result<(), Infallible> {
        self.state.log.apply(entry.clone(), checked);
        Ok(())
    }

    fn entry_bytes(&self, point: EntryPoint) -> Result<Option<Vec<u8>>, Infallible> {
        Ok(self.state.log.stored(point).map(|entry| entry.as_bytes().to_vec()))
    }

    fn put_index(&mut self, changes: IndexChanges) -> Result<(), Infallible> {
        self.state.unsettled.extend(&changes.touched);
        self.state.index.commit(changes);
        Ok(())
    }

    fn put_base(&mut self, changes: BaseChanges) -> Result<(), Infallible> {
        self.state.base.commit(changes);
        Ok(())
    }

    fn put_unsettled(&mut self, items: BTreeSet<FileId>) -> Result<(), Infallible> {
        self.state.unsettled.extend(items);
        Ok(())
    }

    fn put_record(&mut self, hash: RecordHash, bytes: &[u8]) -> Result<(), Infallible> {
        self.state.records.insert(hash, bytes.to_vec());
        Ok(())
    }

    fn peer_frontier(&self, peer: DeviceId) -> Result<Option<Vec<u8>>, Infallible> {
        Ok(self.state.frontiers.get(&peer).cloned())
    }

    fn put_peer_frontier(&mut self, peer: DeviceId, bytes: &[u8]) -> Result<(), Infallible> {
        self.state.frontiers.insert(peer, bytes.to_vec());
        Ok(())
    }

    fn commit(self) -> Result<(), Infallible> {
        *self.shelf.state.borrow_mut() = self.state;
        Ok(())
    }
}

impl LogRead for MemoryTransaction<'_> {
    type Error = Infallible;

    fn entry(&self, point: EntryPoint) -> Result<Option<EntryMeta>, Infallible> {
        self.state.log.entry(point)
    }

    fn maker(&self, id: OpId) -> Result<Option<EntryPoint>, Infallible> {
        self.state.log.maker(id)
    }

    fn is_on(&self, maker: EntryPoint, id: OpId, key: Key) -> Result<bool, Infallible> {
        self.state.log.is_on(maker, id, key)
    }

    fn frontier(&self) -> Result<Frontier, Infallible> {
        self.state.log.frontier()
    }
}

impl IndexRead for MemoryTransaction<'_> {
    type Error = Infallible;

    fn space(&self) -> SpaceId {
        self.state.index.space()
    }

    fn item(&self, id: FileId) -> Result<Option<Item>, Infallible> {
        self.state.index.item(id)
    }

    fn children(&self, parent: FileId) -> Result<Vec<FileId>, Infallible> {
        self.state.index.children(parent)
    }

    fn keyed(&self, parent: FileId, name_key: u64) -> Result<Vec<FileId>, Infallible> {
        self.state.index.keyed(parent, name_key)
    }

    fn has_children(&self, parent: FileId) -> Result<bool, Infallible> {
        self.state.index.has_children(parent)
    }

    fn contested(&self, parent: FileId) -> Result<BTreeSet<FileId>, Infallible> {
        self.state.index.contested(parent)
    }

    fn fallen(&self) -> Result<BTreeMap<FileId, FileId>, Infallible> {
        self.state.index.fallen()
    }

    fn loser_of(&self, virtual_id: FileId) -> Result<Option<FileId>, Infallible> {
        self.state.index.loser_of(virtual_id)
    }

    fn losers(&self, item: FileId) -> Result<Vec<FileId>, Infallible> {
        self.state.index.losers(item)
    }

    fn label(&self, actor: ActorId) -> Result<Option<Name>, Infallible> {
        self.state.index.label(actor)
    }

    fn max_counter(&self) -> Result<u32, Infallible> {
        self.state.index.max_counter()
    }
}

impl BaseRead for MemoryTransaction<'_> {
    type Error = Infallible;

    fn row(&self, key: &RowKey) -> Result<Option<BaseRow>, Infallible> {
        self.state.base.row(key)
    }

    fn rows(&self, parent: FileId) -> Result<Vec<(Name, BaseRow)>, Infallible> {
        self.state.base.rows(parent)
    }

    fn has_rows(&self, parent: FileId) -> Result<bool, Infallible> {
        self.state.base.has_rows(parent)
    }

    fn of_source(&self, source: FileId) -> Result<Vec<(FileId, RowKey)>, Infallible> {
        self.state.base.of_source(source)
    }

    fn of_inode(&self, inode: u64) -> Result<Vec<RowKey>, Infallible> {
        self.state.base.of_inode(inode)
    }
}
