//! The tables of the file, opened when they are first used, for reading or within a write.

use std::cell::OnceCell;
use std::fmt;
use std::ops::{Bound, ControlFlow};
use std::sync::OnceLock;

use redb::{ReadOnlyTable, ReadTransaction, ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction};
use serde::{Serialize, de::DeserializeOwned};
use zerocloud_crdt::codec;
use zerocloud_crdt::id::LogId;
use zerocloud_crdt::log::EntryPoint;

use super::StoreError;

/// How many bytes a piece of a large value has: with a key of up to 52 bytes three stand in a page of 4 KiB.
pub(super) const PIECE_LEN: usize = 1_300;

macro_rules! tables {
    ($($table:ident = $name:literal),+ $(,)?) => {
        /// A table of the file.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Table {
            $(#[doc = concat!("`", $name, "`")] $table),+
        }

        impl Table {
            /// Every table.
            pub(super) const ALL: [Self; [$($name),+].len()] = [$(Self::$table),+];

            /// Its name in the file.
            pub(super) const fn name(self) -> &'static str {
                match self {
                    $(Self::$table => $name),+
                }
            }
        }
    };
}

tables! {
    Values = "values",
    Entries = "entries",
    Metas = "metas",
    Logs = "logs",
    Makers = "makers",
    Starts = "starts",
    Arrivals = "arrivals",
    Operations = "operations",
    OncePlaced = "once-placed",
    Records = "records",
    RecordPlaces = "record-places",
    Items = "items",
    Present = "present",
    Contested = "contested",
    Fallen = "fallen",
    Losers = "losers",
    Labels = "labels",
    Pending = "pending",
    Base = "base",
    BaseSources = "base-sources",
    BaseInodes = "base-inodes",
    BaseHashes = "base-hashes",
    ChunkLists = "chunk-lists",
    ChunkPlaces = "chunk-places",
    Pages = "pages",
    Versions = "versions",
    VersionNames = "version-names",
    VersionEnds = "version-ends",
    VersionHashes = "version-hashes",
    Displaced = "displaced",
    Peers = "peers",
    Intents = "intents",
    Held = "held",
    Problems = "problems",
    Tickets = "tickets",
    Texts = "texts",
    TextNumbers = "text-numbers",
}

const COUNT: usize = Table::ALL.len();

type Bytes = &'static [u8];

const fn definition(table: Table) -> TableDefinition<'static, Bytes, Bytes> {
    TableDefinition::new(table.name())
}

/// What is called for each row of a walk.
type Each<'e> = dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>, StoreError> + 'e;

/// How a transaction reads its tables.
pub trait Tables {
    /// Calls `each` with the rows of `range`, ascending, until it breaks.
    ///
    /// # Errors
    /// Those of `each` and of the disk.
    fn walk(&self, table: Table, range: (Bound<&[u8]>, Bound<&[u8]>), each: &mut Each<'_>) -> Result<(), StoreError>;

    /// The value at `key`, as `read` makes it.
    ///
    /// # Errors
    /// Those of the disk.
    fn read<V>(&self, table: Table, key: &[u8], read: impl FnOnce(&[u8]) -> V) -> Result<Option<V>, StoreError>;

    /// The last row of `range`.
    ///
    /// # Errors
    /// Those of the disk.
    fn last(&self, table: Table, range: (Bound<&[u8]>, Bound<&[u8]>)) -> Result<Option<Row>, StoreError>;

    /// How many rows there are; takes no walk.
    ///
    /// # Errors
    /// Those of the disk.
    fn count(&self, table: Table) -> Result<u64, StoreError>;
}

/// Key and value.
type Row = (Vec<u8>, Vec<u8>);

fn walk(
    table: &impl ReadableTable<Bytes, Bytes>,
    range: (Bound<&[u8]>, Bound<&[u8]>),
    each: &mut Each<'_>,
) -> Result<(), StoreError> {
    for row in table.range::<&[u8]>(range).map_err(StoreError::of_redb)? {
        let (key, value) = row.map_err(StoreError::of_redb)?;
        if each(key.value(), value.value())?.is_break() {
            break;
        }
    }
    Ok(())
}

fn read<V>(
    table: &impl ReadableTable<Bytes, Bytes>,
    key: &[u8],
    read: impl FnOnce(&[u8]) -> V,
) -> Result<Option<V>, StoreError> {
    Ok(table.get(key).map_err(StoreError::of_redb)?.map(|value| read(value.value())))
}

fn last(
    table: &impl ReadableTable<Bytes, Bytes>,
    range: (Bound<&[u8]>, Bound<&[u8]>),
) -> Result<Option<Row>, StoreError> {
    let mut rows = table.range::<&[u8]>(range).map_err(StoreError::of_redb)?;
    let Some(row) = rows.next_back() else { return Ok(None) };
    let (key, value) = row.map_err(StoreError::of_redb)?;
    Ok(Some((key.value().to_vec(), value.value().to_vec())))
}

/// The tables as a snapshot reads them.
pub struct ReadTables {
    transaction: ReadTransaction,
    open: [OnceLock<ReadOnlyTable<Bytes, Bytes>>; COUNT],
}

impl ReadTables {
    pub(super) fn new(transaction: ReadTransaction) -> Self {
        Self { transaction, open: std::array::from_fn(|_| OnceLock::new()) }
    }

    fn table(&self, table: Table) -> Result<&ReadOnlyTable<Bytes, Bytes>, StoreError> {
        let missing = StoreError::Damaged { table: table.name() };
        let cell = self.open.get(table as usize).ok_or(missing)?;
        if let Some(open) = cell.get() {
            return Ok(open);
        }
        let opened = self.transaction.open_table(definition(table)).map_err(StoreError::of_redb)?;
        Ok(cell.get_or_init(|| opened))
    }
}

impl fmt::Debug for ReadTables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadTables").finish_non_exhaustive()
    }
}

impl Tables for ReadTables {
    fn walk(&self, table: Table, range: (Bound<&[u8]>, Bound<&[u8]>), each: &mut Each<'_>) -> Result<(), StoreError> {
        walk(self.table(table)?, range, each)
    }

    fn read<V>(&self, table: Table, key: &[u8], reader: impl FnOnce(&[u8]) -> V) -> Result<Option<V>, StoreError> {
        read(self.table(table)?, key, reader)
    }

    fn last(&self, table: Table, range: (Bound<&[u8]>, Bound<&[u8]>)) -> Result<Option<Row>, StoreError> {
        last(self.table(table)?, range)
    }

    fn count(&self, table: Table) -> Result<u64, StoreError> {
        self.table(table)?.len().map_err(StoreError::of_redb)
    }
}

/// The tables as a write reads and changes them.
pub struct WriteTables<'t> {
    transaction: &'t WriteTransaction,
    open: [OnceCell<redb::Table<'t, Bytes, Bytes>>; COUNT],
    is_changed: bool,
}

impl<'t> WriteTables<'t> {
    pub(super) fn new(transaction: &'t WriteTransaction) -> Self {
        Self { transaction, open: std::array::from_fn(|_| OnceCell::new()), is_changed: false }
    }

    /// Whether anything was put or removed.
    pub(super) const fn is_changed(&self) -> bool {
        self.is_changed
    }

    /// Makes an empty table.
    pub(super) fn create(&mut self, table: Table) -> Result<(), StoreError> {
        self.is_changed = true;
        self.table(table).map(|_| ())
    }

    /// Puts a row, in place of what stood at `key`.
    pub(super) fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.table_mut(table)?.insert(key, value).map_err(StoreError::of_redb)?;
        Ok(())
    }

    /// Puts `value` encoded, or removes the row; gives what it had.
    pub(super) fn exchange<V: Serialize + DeserializeOwned>(
        &mut self,
        table: Table,
        key: &[u8],
        value: Option<&V>,
    ) -> Result<Option<V>, StoreError> {
        let rows = self.table_mut(table)?;
        let old = match value {
            Some(value) => rows.insert(key, codec::encode(value).as_slice()),
            None => rows.remove(key),
        };
        old.map_err(StoreError::of_redb)?.map(|old| decode(table, old.value())).transpose()
    }

    /// Removes a row; returns whether there was one.
    pub(super) fn remove(&mut self, table: Table, key: &[u8]) -> Result<bool, StoreError> {
        Ok(self.table_mut(table)?.remove(key).map_err(StoreError::of_redb)?.is_some())
    }

    /// Puts `value` encoded.
    pub(super) fn store(&mut self, table: Table, key: &[u8], value: &impl Serialize) -> Result<(), StoreError> {
        self.put(table, key, &codec::encode(value))
    }

    /// Removes every row of which the key begins with `prefix`.
    pub(super) fn clear(&mut self, table: Table, prefix: &[u8]) -> Result<(), StoreError> {
        if prefix.is_empty() {
            return self.table_mut(table)?.retain(|_, _| false).map_err(StoreError::of_redb);
        }
        for key in keys(self, table, prefix)? {
            self.remove(table, &key)?;
        }
        Ok(())
    }

    /// Puts a large value in pieces, in place of what stood at `key`.
    pub(super) fn put_pieces(&mut self, table: Table, key: &[u8], bytes: &[u8]) -> Result<(), StoreError> {
        self.clear(table, key)?;
        if bytes.is_empty() {
            return self.put(table, &joined(&[key, &[0; 4]]), &[]);
        }
        for (index, piece) in bytes.chunks(PIECE_LEN).enumerate() {
            let index = u32::try_from(index).map_err(|_| StoreError::TooLong { len: bytes.len() })?;
            self.put(table, &joined(&[key, &index.to_be_bytes()]), piece)?;
        }
        Ok(())
    }

    fn cell(&self, table: Table) -> Result<&OnceCell<redb::Table<'t, Bytes, Bytes>>, StoreError> {
        self.open.get(table as usize).ok_or(StoreError::Damaged { table: table.name() })
    }

    fn table(&self, table: Table) -> Result<&redb::Table<'t, Bytes, Bytes>, StoreError> {
        let cell = self.cell(table)?;
        if let Some(open) = cell.get() {
            return Ok(open);
        }
        let opened = self.transaction.open_table(definition(table)).map_err(StoreError::of_redb)?;
        Ok(cell.get_or_init(|| opened))
    }

    fn table_mut(&mut self, table: Table) -> Result<&mut redb::Table<'t, Bytes, Bytes>, StoreError> {
        self.is_changed = true;
        self.table(table)?;
        let damaged = StoreError::Damaged { table: table.name() };
        self.open.get_mut(table as usize).and_then(OnceCell::get_mut).ok_or(damaged)
    }
}

impl fmt::Debug for WriteTables<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteTables").field("is_changed", &self.is_changed).finish_non_exhaustive()
    }
}

impl Tables for WriteTables<'_> {
    fn walk(&self, table: Table, range: (Bound<&[u8]>, Bound<&[u8]>), each: &mut Each<'_>) -> Result<(), StoreError> {
        walk(self.table(table)?, range, each)
    }

    fn read<V>(&self, table: Table, key: &[u8], reader: impl FnOnce(&[u8]) -> V) -> Result<Option<V>, StoreError> {
        read(self.table(table)?, key, reader)
    }

    fn last(&self, table: Table, range: (Bound<&[u8]>, Bound<&[u8]>)) -> Result<Option<Row>, StoreError> {
        last(self.table(table)?, range)
    }

    fn count(&self, table: Table) -> Result<u64, StoreError> {
        self.table(table)?.len().map_err(StoreError::of_redb)
    }
}

/// Decodes a value of our own.
pub(super) fn decode<V: Serialize + DeserializeOwned>(table: Table, bytes: &[u8]) -> Result<V, StoreError> {
    codec::decode(bytes, bytes.len()).map_err(|_| StoreError::Damaged { table: table.name() })
}

/// Reads and decodes the value at `key`.
pub(super) fn load<V: Serialize + DeserializeOwned>(
    tables: &impl Tables,
    table: Table,
    key: &[u8],
) -> Result<Option<V>, StoreError> {
    tables.read(table, key, |bytes| decode(table, bytes))?.transpose()
}

/// Calls `each` with what follows `prefix` in the key, and the value, of every row whose key begins with `prefix`.
pub(super) fn each_under(
    tables: &impl Tables,
    table: Table,
    prefix: &[u8],
    mut each: impl FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>, StoreError>,
) -> Result<(), StoreError> {
    tables.walk(table, (Bound::Included(prefix), Bound::Unbounded), &mut |key, value| match key.strip_prefix(prefix) {
        Some(rest) => each(rest, value),
        None => Ok(ControlFlow::Break(())),
    })
}

/// What `each` makes of every row whose key begins with `prefix`; it gets what follows the prefix in the key.
pub(super) fn collect<V>(
    tables: &impl Tables,
    table: Table,
    prefix: &[u8],
    mut each: impl FnMut(&[u8], &[u8]) -> Result<V, StoreError>,
) -> Result<Vec<V>, StoreError> {
    let mut all = Vec::new();
    each_under(tables, table, prefix, |key, value| {
        all.push(each(key, value)?);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(all)
}

/// The keys that begin with `prefix`, whole.
pub(super) fn keys(tables: &impl Tables, table: Table, prefix: &[u8]) -> Result<Vec<Vec<u8>>, StoreError> {
    collect(tables, table, prefix, |rest, _| Ok(joined(&[prefix, rest])))
}

/// Whether any key begins with `prefix`.
pub(super) fn any(tables: &impl Tables, table: Table, prefix: &[u8]) -> Result<bool, StoreError> {
    let mut found = false;
    each_under(tables, table, prefix, |_, _| {
        found = true;
        Ok(ControlFlow::Break(()))
    })?;
    Ok(found)
}

/// Reads what [`WriteTables::put_pieces`] put at `key`.
pub(super) fn pieces(tables: &impl Tables, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
    let (mut whole, mut count) = (Vec::new(), 0_u32);
    each_under(tables, table, key, |index, piece| {
        if index != count.to_be_bytes() {
            return Err(StoreError::Damaged { table: table.name() });
        }
        count = count.saturating_add(1);
        whole.extend_from_slice(piece);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok((count > 0).then_some(whole))
}

/// The parts of a key, side by side.
pub(super) fn joined(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

/// The key of an entry.
pub(super) fn point_key(point: EntryPoint) -> [u8; 48] {
    let mut key = [0; 48];
    let (log, number) = key.split_at_mut(40);
    log.copy_from_slice(&log_key(point.log));
    number.copy_from_slice(&point.number.to_be_bytes());
    key
}

/// The key of a log.
pub(super) fn log_key(log: LogId) -> [u8; 40] {
    let mut key = [0; 40];
    let (author, incarnation) = key.split_at_mut(32);
    author.copy_from_slice(log.author.as_bytes());
    incarnation.copy_from_slice(log.incarnation.as_bytes());
    key
}

/// Reads a fixed number of bytes off the front of a key or value of ours.
pub(super) fn take<const N: usize>(table: Table, bytes: &mut &[u8]) -> Result<[u8; N], StoreError> {
    let damaged = StoreError::Damaged { table: table.name() };
    let (head, rest) = bytes.split_first_chunk::<N>().ok_or(damaged)?;
    *bytes = rest;
    Ok(*head)
}

/// Reads exactly a fixed number of bytes.
pub(super) fn exactly<const N: usize>(table: Table, bytes: &[u8]) -> Result<[u8; N], StoreError> {
    bytes.try_into().map_err(|_| StoreError::Damaged { table: table.name() })
}
