//! The version store's register: which displaced files are kept, under which name, and until when.

use std::ops::{Bound, ControlFlow};

use serde::{Deserialize, Serialize};
use zerocloud_crdt::id::{ContentHash, FileId, OpId};
use zerocloud_crdt::name::Name;
use zerocloud_crdt::register::FileTime;

use super::base::hash_prefix;
use super::tables::{self, Table, Tables};
use super::{StoreError, Transaction, Write, values};
use crate::clock::WallTime;

/// Why a file was displaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum VersionReason {
    /// A newer value took its place.
    Replaced,
    /// It was deleted elsewhere.
    Deleted,
    /// It was taken off this disk by selection or an ignore rule.
    Deselected,
    /// It was found after a crash, and nothing else holds its bytes for sure.
    Recovered,
}

/// A kept file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionRow {
    /// The item or virtual id that it was.
    pub id: FileId,
    /// When it was displaced.
    pub when: WallTime,
    /// Its name in the directory of versions: no other version has it.
    pub stored: Name,
    /// Where it stood in the view, from the root down.
    pub path: Vec<Name>,
    /// Hash of its content.
    pub hash: ContentHash,
    /// Length in bytes.
    pub len: u64,
    /// Time of last change.
    pub mtime: Option<FileTime>,
    /// Executable bit.
    pub executable: bool,
    /// The content operation that it showed, if it was one's.
    pub content_op: Option<OpId>,
    /// Why it is here.
    pub reason: VersionReason,
    /// When it may go; `None`: not by itself.
    pub expires: Option<WallTime>,
}

/// What the version store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionCounts {
    /// Versions.
    pub versions: u64,
    /// Their lengths together, in bytes.
    pub bytes: u64,
}

impl VersionRow {
    fn key(&self) -> Vec<u8> {
        tables::joined(&[self.id.as_bytes(), &sortable(self.when), self.stored.as_bytes()])
    }

    /// The keys under which the row is found beside its own.
    fn marks(&self) -> impl Iterator<Item = (Table, Vec<u8>)> {
        let stored = self.stored.as_bytes();
        let end = self.expires.map(|at| (Table::VersionEnds, tables::joined(&[&sortable(at), stored])));
        end.into_iter().chain([(Table::VersionHashes, tables::joined(&[hash_prefix(&self.hash), stored]))])
    }
}

/// Bytes that are ordered as the times are, negative ones included.
fn sortable(time: WallTime) -> [u8; 8] {
    (time.0 ^ i64::MIN).to_be_bytes()
}

fn stored_name(table: Table, bytes: &[u8]) -> Result<Name, StoreError> {
    Name::parse(bytes).map_err(|_| StoreError::Damaged { table: table.name() })
}

impl<T: Tables> Transaction<T> {
    /// The versions of an item, oldest first.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and those of the disk.
    pub fn versions(&self, id: FileId) -> Result<Vec<VersionRow>, StoreError> {
        tables::collect(&self.tables, Table::Versions, id.as_bytes(), |_, row| tables::decode(Table::Versions, row))
    }

    /// What the version store holds; known without a walk.
    pub const fn version_counts(&self) -> VersionCounts {
        self.cache.version_counts
    }

    /// Every version, by item and time.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and those of the disk.
    pub fn all_versions(&self) -> Result<Vec<VersionRow>, StoreError> {
        tables::collect(&self.tables, Table::Versions, &[], |_, row| tables::decode(Table::Versions, row))
    }

    /// The version that is stored under a name.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and those of the disk.
    pub fn version(&self, stored: &Name) -> Result<Option<VersionRow>, StoreError> {
        let prefix = self.tables.read(Table::VersionNames, stored.as_bytes(), <[u8]>::to_vec)?;
        let Some(prefix) = prefix else { return Ok(None) };
        let row = self.load(Table::Versions, &tables::joined(&[&prefix, stored.as_bytes()]))?;
        row.map(Some).ok_or(StoreError::Damaged { table: Table::VersionNames.name() })
    }

    /// The versions that have this content.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and those of the disk.
    pub fn versions_by_hash(&self, hash: ContentHash) -> Result<Vec<VersionRow>, StoreError> {
        let names = tables::collect(&self.tables, Table::VersionHashes, hash_prefix(&hash), |name, _| {
            stored_name(Table::VersionHashes, name)
        })?;
        let mut rows = Vec::new();
        for name in names {
            rows.extend(self.version(&name)?.filter(|row| row.hash == hash));
        }
        Ok(rows)
    }

    /// Up to `limit` versions that may go at `now`, those first that could go for the longest time.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and those of the disk.
    pub fn expired_versions(&self, now: WallTime, limit: usize) -> Result<Vec<VersionRow>, StoreError> {
        let mut names = Vec::new();
        if limit > 0 {
            self.tables.walk(Table::VersionEnds, (Bound::Unbounded, Bound::Unbounded), &mut |mut key, _| {
                if tables::take::<8>(Table::VersionEnds, &mut key)? > sortable(now) {
                    return Ok(ControlFlow::Break(()));
                }
                names.push(stored_name(Table::VersionEnds, key)?);
                Ok(if names.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
            })?;
        }
        let mut rows = Vec::with_capacity(names.len());
        for name in names {
            rows.push(self.version(&name)?.ok_or(StoreError::Damaged { table: Table::VersionEnds.name() })?);
        }
        Ok(rows)
    }
}

impl Write<'_> {
    /// Notes a version, in place of what was noted of that stored name.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and those of the disk.
    pub fn put_version(&mut self, row: &VersionRow) -> Result<(), StoreError> {
        self.remove_version(&row.stored)?;
        self.tables.store(Table::Versions, &row.key(), row)?;
        let prefix = tables::joined(&[row.id.as_bytes(), &sortable(row.when)]);
        self.tables.put(Table::VersionNames, row.stored.as_bytes(), &prefix)?;
        for (table, key) in row.marks() {
            self.tables.put(table, &key, &[])?;
        }
        let counts = self.cache.version_counts;
        self.set_version_counts(counts.versions.saturating_add(1), counts.bytes.saturating_add(row.len))
    }

    /// Forgets the version that is stored under a name; returns what was noted of it.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and those of the disk.
    pub fn remove_version(&mut self, stored: &Name) -> Result<Option<VersionRow>, StoreError> {
        let Some(row) = self.version(stored)? else { return Ok(None) };
        self.tables.remove(Table::Versions, &row.key())?;
        self.tables.remove(Table::VersionNames, stored.as_bytes())?;
        for (table, key) in row.marks() {
            self.tables.remove(table, &key)?;
        }
        let counts = self.cache.version_counts;
        self.set_version_counts(counts.versions.saturating_sub(1), counts.bytes.saturating_sub(row.len))?;
        Ok(Some(row))
    }

    fn set_version_counts(&mut self, versions: u64, bytes: u64) -> Result<(), StoreError> {
        self.cache.version_counts = VersionCounts { versions, bytes };
        let counts = self.cache.version_counts;
        self.set(values::VERSION_COUNTS, &counts)
    }
}
