//! Base, with the tables by which its rows are found, and what is counted of it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};
use zerocloud_crdt::base::{BaseChanges, BaseRead, BaseRow, RowKey};
use zerocloud_crdt::id::{ContentHash, FileId};
use zerocloud_crdt::name::Name;
use zerocloud_crdt::register::Kind;

use super::tables::{self, Table, Tables};
use super::{StoreError, Transaction, Write, values};

/// How many bytes of a content hash stand in a key.
pub(super) const HASH_PREFIX_LEN: usize = 16;

/// What base holds: what of the space is on this disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseCounts {
    /// Regular files.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Lengths of the regular files together, in bytes.
    pub bytes: u64,
}

impl BaseCounts {
    fn add(&mut self, row: &BaseRow) {
        let count = self.count_mut(row.kind);
        *count = count.saturating_add(1);
        if row.kind == Kind::File {
            self.bytes = self.bytes.saturating_add(row.len);
        }
    }

    fn subtract(&mut self, row: &BaseRow) {
        let count = self.count_mut(row.kind);
        *count = count.saturating_sub(1);
        if row.kind == Kind::File {
            self.bytes = self.bytes.saturating_sub(row.len);
        }
    }

    const fn count_mut(&mut self, kind: Kind) -> &mut u64 {
        match kind {
            Kind::Directory => &mut self.directories,
            Kind::File => &mut self.files,
            Kind::Symlink => &mut self.symlinks,
        }
    }
}

/// The keys under which a row is found.
struct Found {
    source: Vec<u8>,
    inode: Vec<u8>,
    hash: Option<Vec<u8>>,
}

impl Found {
    fn of(key: &[u8], row: &BaseRow) -> Self {
        Self {
            source: tables::joined(&[row.source.as_bytes(), row.id.as_bytes(), key]),
            inode: tables::joined(&[&row.print.inode.to_be_bytes(), key]),
            hash: (row.kind == Kind::File).then(|| tables::joined(&[hash_prefix(&row.hash), key])),
        }
    }

    fn keys(&self) -> impl Iterator<Item = (Table, &[u8])> {
        [(Table::BaseSources, Some(&self.source)), (Table::BaseInodes, Some(&self.inode))]
            .into_iter()
            .chain([(Table::BaseHashes, self.hash.as_ref())])
            .filter_map(|(table, key)| Some((table, key?.as_slice())))
    }
}

pub(super) fn hash_prefix(hash: &ContentHash) -> &[u8] {
    hash.as_bytes().get(..HASH_PREFIX_LEN).unwrap_or_default()
}

fn row_bytes(key: &RowKey) -> Vec<u8> {
    tables::joined(&[key.parent.as_bytes(), key.local.as_bytes()])
}

fn row_key(table: Table, mut bytes: &[u8]) -> Result<RowKey, StoreError> {
    let parent = FileId(tables::take(table, &mut bytes)?);
    let local = Name::parse(bytes).map_err(|_| StoreError::Damaged { table: table.name() })?;
    Ok(RowKey { parent, local })
}

impl<T: Tables> BaseRead for Transaction<T> {
    type Error = StoreError;

    fn row(&self, key: &RowKey) -> Result<Option<BaseRow>, StoreError> {
        self.load(Table::Base, &row_bytes(key))
    }

    fn rows(&self, parent: FileId) -> Result<Vec<(Name, BaseRow)>, StoreError> {
        let mut rows = Vec::new();
        self.each_row(parent, &mut |local, row| rows.push((local, row)))?;
        Ok(rows)
    }

    fn each_row(&self, parent: FileId, each: &mut dyn FnMut(Name, BaseRow)) -> Result<(), StoreError> {
        tables::each_under(&self.tables, Table::Base, parent.as_bytes(), |name, row| {
            let name = Name::parse(name).map_err(|_| StoreError::Damaged { table: Table::Base.name() })?;
            each(name, tables::decode(Table::Base, row)?);
            Ok(ControlFlow::Continue(()))
        })
    }

    fn has_rows(&self, parent: FileId) -> Result<bool, StoreError> {
        tables::any(&self.tables, Table::Base, parent.as_bytes())
    }

    fn of_source(&self, source: FileId) -> Result<Vec<(FileId, RowKey)>, StoreError> {
        tables::collect(&self.tables, Table::BaseSources, source.as_bytes(), |mut rest, _| {
            let id = FileId(tables::take(Table::BaseSources, &mut rest)?);
            Ok((id, row_key(Table::BaseSources, rest)?))
        })
    }

    fn of_inode(&self, inode: u64) -> Result<Vec<RowKey>, StoreError> {
        tables::collect(&self.tables, Table::BaseInodes, &inode.to_be_bytes(), |key, _| row_key(Table::BaseInodes, key))
    }

    fn find(&self, id: FileId, source: FileId) -> Result<Option<RowKey>, StoreError> {
        let prefix = tables::joined(&[source.as_bytes(), id.as_bytes()]);
        let mut key = None;
        tables::each_under(&self.tables, Table::BaseSources, &prefix, |rest, _| {
            key = Some(row_key(Table::BaseSources, rest)?);
            Ok(ControlFlow::Break(()))
        })?;
        Ok(key)
    }
}

impl<T: Tables> Transaction<T> {
    /// The regular files of base that have this content.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and those of the disk.
    pub fn by_hash(&self, hash: ContentHash) -> Result<Vec<(RowKey, BaseRow)>, StoreError> {
        let keys = tables::collect(&self.tables, Table::BaseHashes, hash_prefix(&hash), |key, _| {
            row_key(Table::BaseHashes, key)
        })?;
        let mut rows = Vec::with_capacity(keys.len());
        for key in keys {
            let row = self.row(&key)?.ok_or(StoreError::Damaged { table: Table::BaseHashes.name() })?;
            if row.hash == hash {
                rows.push((key, row));
            }
        }
        Ok(rows)
    }

    /// The items of which rows with these ids show content. Walks all of base: for ids of which nothing else tells
    /// the item.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and those of the disk.
    pub fn sources_in_base(&self, ids: &BTreeSet<FileId>) -> Result<BTreeMap<FileId, FileId>, StoreError> {
        let mut sources = BTreeMap::new();
        tables::each_under(&self.tables, Table::BaseSources, &[], |mut key, _| {
            let source = FileId(tables::take(Table::BaseSources, &mut key)?);
            let id = FileId(tables::take(Table::BaseSources, &mut key)?);
            if ids.contains(&id) {
                sources.insert(id, source);
            }
            Ok(if sources.len() < ids.len() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        Ok(sources)
    }

    /// What base holds; known without a walk.
    pub const fn base_counts(&self) -> BaseCounts {
        self.cache.counts
    }
}

impl Write<'_> {
    /// Makes changes part of base; gives the items of the rows that were there and that are there now.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and those of the disk.
    pub fn apply_base(&mut self, changes: &BaseChanges) -> Result<BTreeSet<FileId>, StoreError> {
        let before = self.cache.counts;
        let (mut gone, mut come, mut sources) = (Vec::new(), Vec::new(), BTreeSet::new());
        for (key, row) in changes {
            let key = row_bytes(key);
            if let Some(old) = self.tables.exchange(Table::Base, &key, row.as_ref())? {
                self.cache.counts.subtract(&old);
                gone.push(Found::of(&key, &old));
                sources.insert(old.source);
            }
            if let Some(row) = row {
                self.cache.counts.add(row);
                come.push(Found::of(&key, row));
                sources.insert(row.source);
            }
        }
        self.update_found(&gone, &come)?;
        if self.cache.counts != before {
            let counts = self.cache.counts;
            self.set(values::BASE_COUNTS, &counts)?;
        }
        Ok(sources)
    }

    /// Removes and adds the keys under which rows are found, each table in the order of its keys.
    fn update_found(&mut self, gone: &[Found], come: &[Found]) -> Result<(), StoreError> {
        let mut marks: BTreeMap<(Table, &[u8]), (bool, bool)> = BTreeMap::new();
        for key in gone.iter().flat_map(Found::keys) {
            marks.entry(key).or_default().0 = true;
        }
        for key in come.iter().flat_map(Found::keys) {
            marks.entry(key).or_default().1 = true;
        }
        for ((table, key), (was, is)) in marks {
            if was != is {
                self.mark(table, key, is)?;
            }
        }
        Ok(())
    }
}
