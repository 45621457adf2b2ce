//! The store of one space: its log, registers, base, peers and versions in one redb file.
//!
//! Here live the file, its transactions and what each table holds. Nothing here decides: what an entry means, what
//! the view shows and what is to be done about it are in `zerocloud_crdt` and in the engine. Only this module touches
//! the database. It runs over redb's own [`StorageBackend`], so that the simulator can hand in a disk that fails.
//!
//! A [`Snapshot`] reads one committed state for as long as it lives; a [`Write`] reads what it has written so far.
//! Both answer [`IndexRead`](zerocloud_crdt::index::IndexRead), [`BaseRead`](zerocloud_crdt::base::BaseRead) and
//! [`LogRead`](zerocloud_crdt::log::LogRead), so that an entry is checked and applied within one transaction.
//!
//! # Format
//! All keys are fixed ids and big-endian numbers side by side, so that rows stand together that are read together;
//! all values are [`codec`](zerocloud_crdt::codec) unless drawn here. *row* = parent:16 ‖ local name.
//!
//! ```text
//! table          key                                           value
//! values         number of the value:1                         by the value; 0 = format version, u32
//! entries        log:40 ‖ number:8 ‖ piece:4                   the entry's bytes, in pieces of 1,300
//! metas          log:40 ‖ number:8                             EntryMeta
//! logs           log:40                                        Position of the last entry
//! makers         actor:16 ‖ start_op:4                         log:40 ‖ number:8
//! starts         log:40                                        Start
//! arrivals       log:40 ‖ came:8                               the numbers of the first and last entry that came
//! operations     item:16 ‖ register:1 ‖ counter:4 ‖ actor:16   put:1
//! once-placed    parent:16 ‖ name key:8 ‖ item:16              –        all but creations
//! records        position:8                                    hash:32 ‖ the record's bytes
//! record-places  hash:32                                       position:8
//! items          item:16                                       Item
//! present        parent:16 ‖ name key:8 ‖ item:16              –
//! contested      parent:16 ‖ item:16                           –
//! fallen         item:16                                       effective parent:16
//! losers         virtual id:16                                 item:16
//! labels         actor:16                                      Name
//! pending        item:16                                       the commit that marked it:8
//! base           row                                           BaseRow
//! base-sources   source:16 ‖ id:16 ‖ row                       –
//! base-inodes    inode:8 ‖ row                                 –
//! base-hashes    content hash, first 16 ‖ row                  –        regular files alone
//! chunk-lists    content hash:32 ‖ piece:4                     (epochs, [(chunk, index of epoch, len)]), in pieces
//! chunk-places   chunk, first 8 ‖ content hash:32              (offset, len)
//! pages          chunk:32 ‖ piece:4                            a manifest page's plaintext, in pieces
//! versions       file:16 ‖ kept:8 ‖ stored name                VersionRow; file = 0 if none is known
//! version-names  stored name                                   file:16 ‖ kept:8
//! version-ends   kept:8 ‖ stored name                          –
//! version-hashes content hash, first 16 ‖ stored name          –        regular files as base had them alone
//! displaced      stored name                                   Displaced
//! peers          device:32                                     PeerRow
//! intents        piece:4                                       Intents, in pieces; no row if there are none
//! held           item:16                                       HeldRow
//! problems       (path, kind)                                  ProblemRow
//! tickets        ticket:16                                     TicketRow
//! texts          number:8 ‖ content hash:32 ‖ piece:4          a text, in pieces
//! text-numbers   content hash:32                               number:8
//! ```
//!
//! *kept* and *came* are in milliseconds since 1970, the sign bit turned over, so that times before stand
//! before.
//!
//! redb gives a value above a page a power of two of pages, which wastes up to half; pieces of 1,300 bytes stand
//! three to a page of 4 KiB.

mod arrivals;
mod base;
mod cache;
mod content;
mod error;
mod homes;
mod index;
mod ledger;
mod log;
mod notes;
mod shelf;
mod tables;
mod texts;
mod tickets;
pub mod values;
mod versions;

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use redb::backends::FileBackend;
use redb::{Builder, Database, ReadableDatabase, StorageBackend};
use zerocloud_crdt::id::{DeviceId, SpaceId};

use arrivals::Watch;
use cache::{Cache, Caches};
use tables::{ReadTables, Table, WriteTables};

use crate::clock::Clock;
use crate::home::put_complete;

pub use crate::tree::Generation;
pub use base::BaseCounts;
pub use content::ChunkPlace;
pub use error::StoreError;
pub use homes::{Awaited, Notice};
pub use ledger::StoreLedger;
pub use log::Operation;
pub use notes::{HeldRow, PeerRow, ProblemRow};
pub use tables::Tables;
pub use texts::IfFull;
pub use tickets::TicketRow;
pub use values::Value;
pub use versions::VersionCounts;
pub(crate) use versions::content_hash;

/// The version of this format, which holds objects of format 1 ([`zerocloud_crdt::FORMAT`]). Nothing reads another one.
pub const STORE_FORMAT: u32 = 2;
/// What redb may keep of the file in memory, in bytes, at least: enough for 100,000 files.
const CACHE_LEN_MIN: u64 = 8 << 20;
/// The same at most. At a million files, 8 MiB cost a third more CPU than 64 MiB.
const CACHE_LEN_MAX: u64 = 32 << 20;
/// The part of the file that is kept in memory.
const CACHE_PART: u64 = 16;
/// Room on the disk below which nothing is written, in bytes. redb writes no more after a write that failed until the
/// file is opened again (`PreviousIo`), so the disk must not fill up under it; one transaction takes less than this.
const FREE_LEN_MIN: u64 = 16 << 20;
/// How often a snapshot is begun again when commits come between, before it loads its cache from the file.
const SNAPSHOT_TRY_COUNT: usize = 4;

/// The store of one space.
#[derive(Debug)]
pub struct SpaceStore {
    database: Database,
    /// Held by the one who writes, from before the transaction until its cache is in place.
    writer: Mutex<()>,
    caches: Mutex<Caches>,
    /// Whether a commit failed: the file may hold it all the same, which shows when it is opened again.
    is_unsure: AtomicBool,
    /// The database's file, to ask for the room on its disk; none of a storage of another kind.
    file: Option<File>,
    /// Says when entries come; nothing does in a store that only others' tests see.
    watch: Option<Watch>,
    /// The last member that told its frontier since this was opened. Held for a moment.
    heard: Mutex<Option<DeviceId>>,
    space: SpaceId,
}

/// One state of a space's store, in which all reads agree with each other.
#[derive(Debug)]
pub struct Transaction<T> {
    tables: T,
    cache: Cache,
    /// When this is written, in milliseconds since 1970; `None` while reading.
    at_ms: Option<i64>,
    /// The last member that told its frontier since the store was opened.
    heard: Option<DeviceId>,
    space: SpaceId,
}

/// What was committed when the snapshot was taken. Later commits don't show. Old pages of the file stay in use while
/// it lives: let it go after minutes, not hours.
pub type Snapshot = Transaction<ReadTables>;

/// What is being written; it reads its own changes.
pub type Write<'t> = Transaction<WriteTables<'t>>;

impl SpaceStore {
    /// Opens the store of `space` at `path`, or makes an empty one if nothing is there. The file is readable by its
    /// owner alone. A new one comes to its path complete: one that a crash left half made would never open.
    ///
    /// # Errors
    /// [`StoreError::InUse`] if another process has it open, [`StoreError::NewerVersion`], [`StoreError::WrongSpace`],
    /// and those of the disk.
    pub fn open(path: &Path, space: SpaceId) -> Result<Self, StoreError> {
        if !path.try_exists().map_err(StoreError::of_io)? {
            let new = path.with_added_extension("new");
            put_complete(path, &new, StoreError::of_io, |new| Self::open_file(new, space).map(drop))?;
        }
        Self::open_file(path, space)
    }

    fn open_file(path: &Path, space: SpaceId) -> Result<Self, StoreError> {
        let mut options = std::fs::OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(path).map_err(StoreError::of_io)?;
        let shared = file.try_clone().map_err(StoreError::of_io)?;
        let backend = FileBackend::new(file).map_err(StoreError::of_redb)?;
        Self::with_storage(backend, Some(shared), space)
    }

    /// Opens the store of `space` on a storage of any kind, or makes an empty one if the storage is empty.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn with_backend(backend: impl StorageBackend, space: SpaceId) -> Result<Self, StoreError> {
        Self::with_storage(backend, None, space)
    }

    fn with_storage(backend: impl StorageBackend, file: Option<File>, space: SpaceId) -> Result<Self, StoreError> {
        let mut builder = Builder::new();
        let cache_len = (backend.len().map_err(StoreError::of_io)? / CACHE_PART).clamp(CACHE_LEN_MIN, CACHE_LEN_MAX);
        builder.set_cache_size(usize::try_from(cache_len).unwrap_or(usize::MAX));
        let database = builder.create_with_backend(backend).map_err(StoreError::of_redb)?;
        let (writer, caches, is_unsure) = (Mutex::default(), Mutex::default(), AtomicBool::new(false));
        let mut store = Self { database, writer, caches, is_unsure, file, watch: None, heard: Mutex::default(), space };
        store.begin()?;
        Ok(store)
    }

    /// Notes from now on when entries come, by `clock`.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.watch = Some(Watch(clock));
        self
    }

    /// The space.
    pub const fn space(&self) -> SpaceId {
        self.space
    }

    /// What is committed now.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn snapshot(&self) -> Result<Snapshot, StoreError> {
        for _ in 0..SNAPSHOT_TRY_COUNT {
            let tables = self.read_tables()?;
            let generation = cache::generation(&tables)?;
            let caches = self.caches.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(cache) = caches.of(generation) {
                return Ok(Transaction { tables, cache, at_ms: None, heard: None, space: self.space });
            }
        }
        let tables = self.read_tables()?;
        let cache = Cache::load(&tables)?;
        Ok(Transaction { tables, cache, at_ms: None, heard: None, space: self.space })
    }

    /// Whether a commit failed since the store was opened, so that its file may hold more than snapshots show.
    fn is_unsure(&self) -> bool {
        self.is_unsure.load(Ordering::Relaxed)
    }

    /// Runs `body` in one transaction and commits what it wrote; it is durable when this returns. If `body` fails,
    /// nothing of it is kept. Writers take turns: a `body` that writes to the same store would wait for itself.
    ///
    /// # Errors
    /// Those of `body`, and those of the disk: [`StoreError::DiskFull`] already while there is some room left, so that
    /// it can be tried again.
    pub fn write<V, E: From<StoreError>>(&self, body: impl FnOnce(&mut Write<'_>) -> Result<V, E>) -> Result<V, E> {
        let _turn = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        self.check_room()?;
        let mut transaction = self.database.begin_write().map_err(StoreError::of_redb)?;
        transaction.set_quick_repair(true);
        if zerocloud_crdt::mutated!(UnsyncedStore) {
            drop(transaction.set_durability(redb::Durability::None));
        }
        let cache = self.caches.lock().unwrap_or_else(PoisonError::into_inner).current();
        let at_ms = self.watch.as_ref().map(|watch| watch.0.wall_time().as_milliseconds());
        let heard = *self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let (value, heard, cache) = {
            let tables = WriteTables::new(&transaction);
            let mut write = Transaction { tables, cache, at_ms, heard, space: self.space };
            let value = body(&mut write)?;
            if write.tables.is_changed() {
                write.cache.generation += 1;
                cache::put_generation(&mut write.tables, write.cache.generation)?;
                (value, write.heard, Some(write.cache))
            } else {
                (value, write.heard, None)
            }
        };
        let Some(cache) = cache else {
            transaction.abort().map_err(StoreError::of_redb)?;
            return Ok(value);
        };
        // A snapshot may see the commit before this thread runs again: it finds its cache among the two.
        self.caches.lock().unwrap_or_else(PoisonError::into_inner).prepare(cache);
        transaction.commit().map_err(|error| {
            self.is_unsure.store(true, Ordering::Relaxed);
            StoreError::of_redb(error)
        })?;
        self.caches.lock().unwrap_or_else(PoisonError::into_inner).promote();
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = heard;
        Ok(value)
    }

    fn check_room(&self) -> Result<(), StoreError> {
        let Some(file) = &self.file else { return Ok(()) };
        let disk = rustix::fs::fstatvfs(file).map_err(|errno| StoreError::of_io(errno.into()))?;
        // A file system that counts no blocks grows as it likes.
        if disk.f_blocks > 0 && disk.f_bavail.saturating_mul(disk.f_frsize) < FREE_LEN_MIN {
            return Err(StoreError::DiskFull);
        }
        Ok(())
    }

    fn read_tables(&self) -> Result<ReadTables, StoreError> {
        Ok(ReadTables::new(self.database.begin_read().map_err(StoreError::of_redb)?))
    }

    /// Checks the format of what is there, or makes the tables of an empty store.
    fn begin(&mut self) -> Result<(), StoreError> {
        let mut table_count = {
            let transaction = self.database.begin_read().map_err(StoreError::of_redb)?;
            transaction.list_tables().map_err(StoreError::of_redb)?.count()
        };
        if table_count == 0 {
            table_count = Table::ALL.len();
            let space = self.space;
            self.write(|write| {
                for table in Table::ALL {
                    write.tables.create(table)?;
                }
                write.set(values::FORMAT, &STORE_FORMAT)?;
                write.set(values::SPACE, &space)
            })?;
        }
        let tables = self.read_tables()?;
        let read = Transaction { tables, cache: Cache::default(), at_ms: None, heard: None, space: self.space };
        match read.value(values::FORMAT)? {
            Some(STORE_FORMAT) => {}
            Some(found) if found > STORE_FORMAT => return Err(StoreError::NewerVersion { found }),
            Some(found) => return Err(StoreError::Draft { found }),
            None => return Err(StoreError::Damaged { table: Table::Values.name() }),
        }
        match read.value(values::SPACE)? {
            Some(space) if space == self.space => {}
            Some(found) => return Err(StoreError::WrongSpace { found }),
            None => return Err(StoreError::Damaged { table: Table::Values.name() }),
        }
        let caches = self.caches.get_mut().unwrap_or_else(PoisonError::into_inner);
        *caches = Caches::new(Cache::load(&read.tables)?);
        drop(read);
        if table_count < Table::ALL.len() {
            // An earlier version made it, which had fewer of them.
            self.write(|write| Table::ALL.into_iter().try_for_each(|table| write.tables.create(table)))?;
        }
        Ok(())
    }
}

impl<T: Tables> Transaction<T> {
    /// Reads and decodes the value at `key`.
    fn load<V: serde::Serialize + serde::de::DeserializeOwned>(
        &self,
        table: Table,
        key: &[u8],
    ) -> Result<Option<V>, StoreError> {
        tables::load(&self.tables, table, key)
    }
}

#[cfg(test)]
mod tests;
