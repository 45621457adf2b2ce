//! The version store's register: which displaced files are kept, under which name, and since when.
//!
//! When a version may go is asked of [`Retention`](crate::tree::versions::Retention) at the time, not noted here.

use std::ops::{Bound, ControlFlow};

use serde::{Deserialize, Serialize};
use zerocloud_crdt::id::{ContentHash, FileId};

use super::base::hash_prefix;
use super::tables::{self, Table, Tables};
use super::{StoreError, Transaction, Write, values};
use crate::tree::Displaced;
use crate::tree::versions::VersionRow;

/// What the version store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionCounts {
    /// Versions.
    pub versions: u64,
    /// Their lengths together, in bytes.
    pub bytes: u64,
}

/// The item that a version was; that of the root for what was found without a row.
fn item_of(row: &VersionRow) -> FileId {
    row.origin.as_ref().map_or(FileId::ROOT, |(_, origin)| origin.id)
}

/// Length of a version's content, in bytes.
fn len_of(row: &VersionRow) -> u64 {
    row.print.len
}

fn key_of(row: &VersionRow) -> Vec<u8> {
    tables::joined(&[item_of(row).as_bytes(), &sortable(row.kept_at_ms), row.stored.as_bytes()])
}

/// The keys under which a row is found beside its own.
fn marks(row: &VersionRow) -> impl Iterator<Item = (Table, Vec<u8>)> {
    let stored = row.stored.as_bytes();
    let kept = (Table::VersionTimes, tables::joined(&[&sortable(row.kept_at_ms), stored]));
    let hash = row.origin.as_ref().map(|(_, origin)| tables::joined(&[hash_prefix(&origin.hash), stored]));
    std::iter::once(kept).chain(hash.map(|key| (Table::VersionHashes, key)))
}

/// Bytes that are ordered as the times are, negative ones included.
fn sortable(ms: i64) -> [u8; 8] {
    (ms ^ i64::MIN).to_be_bytes()
}

fn stored_name(table: Table, bytes: &[u8]) -> Result<String, StoreError> {
    String::from_utf8(bytes.to_vec()).map_err(|_| StoreError::Damaged { table: table.name() })
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
    pub fn version(&self, stored: &str) -> Result<Option<VersionRow>, StoreError> {
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
            let version = self.version(&name)?;
            rows.extend(version.filter(|row| row.origin.as_ref().is_some_and(|(_, origin)| origin.hash == hash)));
        }
        Ok(rows)
    }

    /// Up to `limit` versions that have been kept since `ms` (milliseconds since 1970) or longer, the oldest first.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and those of the disk.
    pub fn versions_kept_since(&self, ms: i64, limit: usize) -> Result<Vec<VersionRow>, StoreError> {
        let mut names = Vec::new();
        if limit > 0 {
            self.tables.walk(Table::VersionTimes, (Bound::Unbounded, Bound::Unbounded), &mut |mut key, _| {
                if tables::take::<8>(Table::VersionTimes, &mut key)? > sortable(ms) {
                    return Ok(ControlFlow::Break(()));
                }
                names.push(stored_name(Table::VersionTimes, key)?);
                Ok(if names.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
            })?;
        }
        let mut rows = Vec::with_capacity(names.len());
        for name in names {
            rows.push(self.version(&name)?.ok_or(StoreError::Damaged { table: Table::VersionTimes.name() })?);
        }
        Ok(rows)
    }

    /// Every local edit that was displaced and not yet published, by stored name.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and those of the disk.
    pub fn displaced(&self) -> Result<Vec<Displaced>, StoreError> {
        tables::collect(&self.tables, Table::Displaced, &[], |_, row| tables::decode(Table::Displaced, row))
    }

    /// The displaced edit that is stored under a name.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and those of the disk.
    pub fn displaced_as(&self, stored: &str) -> Result<Option<Displaced>, StoreError> {
        self.load(Table::Displaced, stored.as_bytes())
    }
}

impl Write<'_> {
    /// Notes a version, in place of what was noted of that stored name.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and those of the disk.
    pub fn put_version(&mut self, row: &VersionRow) -> Result<(), StoreError> {
        self.remove_version(&row.stored)?;
        self.tables.store(Table::Versions, &key_of(row), row)?;
        let prefix = tables::joined(&[item_of(row).as_bytes(), &sortable(row.kept_at_ms)]);
        self.tables.put(Table::VersionNames, row.stored.as_bytes(), &prefix)?;
        for (table, key) in marks(row) {
            self.tables.put(table, &key, &[])?;
        }
        let counts = self.cache.version_counts;
        self.set_version_counts(counts.versions.saturating_add(1), counts.bytes.saturating_add(len_of(row)))
    }

    /// Forgets the version that is stored under a name; returns what was noted of it.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and those of the disk.
    pub fn remove_version(&mut self, stored: &str) -> Result<Option<VersionRow>, StoreError> {
        let Some(row) = self.version(stored)? else { return Ok(None) };
        self.tables.remove(Table::Versions, &key_of(&row))?;
        self.tables.remove(Table::VersionNames, stored.as_bytes())?;
        for (table, key) in marks(&row) {
            self.tables.remove(table, &key)?;
        }
        let counts = self.cache.version_counts;
        self.set_version_counts(counts.versions.saturating_sub(1), counts.bytes.saturating_sub(len_of(&row)))?;
        Ok(Some(row))
    }

    /// Notes a local edit that was displaced.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn put_displaced(&mut self, displaced: &Displaced) -> Result<(), StoreError> {
        self.tables.store(Table::Displaced, displaced.stored.as_bytes(), displaced)
    }

    /// Forgets a displaced edit; returns what was noted of it.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and those of the disk.
    pub fn remove_displaced(&mut self, stored: &str) -> Result<Option<Displaced>, StoreError> {
        let displaced = self.load(Table::Displaced, stored.as_bytes())?;
        self.tables.remove(Table::Displaced, stored.as_bytes())?;
        Ok(displaced)
    }

    fn set_version_counts(&mut self, versions: u64, bytes: u64) -> Result<(), StoreError> {
        self.cache.version_counts = VersionCounts { versions, bytes };
        let counts = self.cache.version_counts;
        self.set(values::VERSION_COUNTS, &counts)
    }
}
