//! The version store's register: which files are kept there, under which name, and since when. How long they are kept
//! is asked of [`Retention`](crate::tree::versions::Retention) when something is to go.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

use serde::{Deserialize, Serialize};
use zerocloud_crdt::codec;
use zerocloud_crdt::id::{ContentHash, FileId};
use zerocloud_crdt::register::Kind;

use super::base::hash_prefix;
use super::tables::{self, Table, Tables};
use super::{StoreError, Transaction, Write, values};
use crate::tree::Displaced;
use crate::tree::versions::VersionRow;

/// What the version store holds, local edits that are not published yet aside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionCounts {
    /// Versions.
    pub versions: u64,
    /// Their lengths together, in bytes.
    pub bytes: u64,
}

/// Whose version it is; [`FileId::ROOT`], which has none, if nothing is known of it.
fn item(row: &VersionRow) -> FileId {
    row.origin.as_ref().map_or(FileId::ROOT, |(_, row)| row.id)
}

/// The hash of a regular file's content. Of a local edit base never knew it, and it is told by length and time.
pub(crate) fn content_hash(version: &VersionRow) -> Option<ContentHash> {
    let (_, row) = version.origin.as_ref()?;
    let (print, noted) = (&version.print, &row.print);
    let is_as_noted = row.kind == Kind::File && print.len == noted.len && print.mtime == noted.mtime;
    is_as_noted.then_some(row.hash)
}

/// What the rows of an item's versions are ordered by.
fn prefix(row: &VersionRow) -> Vec<u8> {
    tables::joined(&[item(row).as_bytes(), &sortable(row.kept_at_ms)])
}

fn key(row: &VersionRow) -> Vec<u8> {
    tables::joined(&[&prefix(row), row.stored.as_bytes()])
}

/// The keys under which the row is found beside its own and its name.
fn marks(row: &VersionRow) -> impl Iterator<Item = (Table, Vec<u8>)> {
    let stored = row.stored.as_bytes();
    let hash = content_hash(row).map(|hash| (Table::VersionHashes, tables::joined(&[hash_prefix(&hash), stored])));
    [(Table::VersionEnds, tables::joined(&[&sortable(row.kept_at_ms), stored]))].into_iter().chain(hash)
}

/// Bytes that are ordered as the times are, negative ones included.
pub(super) fn sortable(time_ms: i64) -> [u8; 8] {
    (time_ms ^ i64::MIN).to_be_bytes()
}

/// What [`sortable`] was made of.
pub(super) fn unsortable(bytes: [u8; 8]) -> i64 {
    i64::from_be_bytes(bytes) ^ i64::MIN
}

fn stored_name(table: Table, bytes: &[u8]) -> Result<String, StoreError> {
    String::from_utf8(bytes.to_vec()).map_err(|_| StoreError::Damaged { table: table.name() })
}

impl<T: Tables> Transaction<T> {
    /// The versions of an item or virtual id, oldest first; of [`FileId::ROOT`] those of which it is not known.
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

    /// The regular files among the versions that have this content.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and those of the disk.
    pub fn versions_by_hash(&self, hash: ContentHash) -> Result<Vec<VersionRow>, StoreError> {
        let names = tables::collect(&self.tables, Table::VersionHashes, hash_prefix(&hash), |name, _| {
            stored_name(Table::VersionHashes, name)
        })?;
        let rows = self.named(Table::VersionHashes, &names)?;
        Ok(rows.into_iter().filter(|row| content_hash(row) == Some(hash)).collect())
    }

    /// Up to `limit` versions that were kept at `at_ms` (milliseconds since 1970) or before, the oldest first. Whether
    /// their time is over is to be asked of each.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and those of the disk.
    pub fn versions_kept_before(&self, at_ms: i64, limit: usize) -> Result<Vec<VersionRow>, StoreError> {
        let mut names = Vec::new();
        if limit > 0 {
            self.tables.walk(Table::VersionEnds, (Bound::Unbounded, Bound::Unbounded), &mut |mut key, _| {
                if tables::take::<8>(Table::VersionEnds, &mut key)? > sortable(at_ms) {
                    return Ok(ControlFlow::Break(()));
                }
                names.push(stored_name(Table::VersionEnds, key)?);
                Ok(if names.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
            })?;
        }
        self.named(Table::VersionEnds, &names)
    }

    /// The versions of some files, each with all of its own, oldest first: of those with an id above `after`, until they
    /// are `limit` versions or more; none when there are no more files. Under [`FileId::ROOT`] stand those of which it
    /// is not known whose they are.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and those of the disk.
    pub fn versions_by_file(
        &self,
        after: Option<FileId>,
        limit: usize,
    ) -> Result<Vec<(FileId, Vec<VersionRow>)>, StoreError> {
        // Above every row of a file: a stored name has no such bytes.
        let past = after.map(|file| tables::joined(&[file.as_bytes(), &[0xff; 9]]));
        let from = past.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let (mut files, mut count): (Vec<(FileId, Vec<VersionRow>)>, usize) = (Vec::new(), 0);
        self.tables.walk(Table::Versions, (from, Bound::Unbounded), &mut |mut key, row| {
            let file = FileId(tables::take(Table::Versions, &mut key)?);
            let row: VersionRow = tables::decode(Table::Versions, row)?;
            match files.last_mut().filter(|(last, _)| *last == file) {
                Some((_, versions)) => versions.push(row),
                None if count >= limit => return Ok(ControlFlow::Break(())),
                None => files.push((file, vec![row])),
            }
            count += 1;
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(files)
    }

    /// The versions that an index names.
    fn named(&self, index: Table, names: &[String]) -> Result<Vec<VersionRow>, StoreError> {
        let damaged = || StoreError::Damaged { table: index.name() };
        names.iter().map(|name| self.version(name)?.ok_or_else(damaged)).collect()
    }

    /// The displaced files that wait to be published, by their stored name.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and those of the disk.
    pub fn displaced(&self) -> Result<Vec<Displaced>, StoreError> {
        tables::collect(&self.tables, Table::Displaced, &[], |_, row| tables::decode(Table::Displaced, row))
    }

    /// Whether a version or a displaced file is kept under this name.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn is_stored(&self, stored: &str) -> Result<bool, StoreError> {
        let is_in = |table| Ok(self.tables.read(table, stored.as_bytes(), |_| ())?.is_some());
        Ok(is_in(Table::VersionNames)? || is_in(Table::Displaced)?)
    }
}

impl Write<'_> {
    /// Notes a version, in place of what was noted of that stored name.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and those of the disk.
    pub fn put_version(&mut self, row: &VersionRow) -> Result<(), StoreError> {
        self.put_versions(std::slice::from_ref(row))
    }

    /// Notes versions, each in place of what was noted of its stored name, which is in `versions` once; each table in the
    /// order of its keys.
    ///
    /// # Errors
    /// As [`put_version`](Self::put_version).
    pub fn put_versions(&mut self, versions: &[VersionRow]) -> Result<(), StoreError> {
        let mut rows = BTreeMap::new();
        for version in versions {
            self.remove_version(&version.stored)?;
            let name = version.stored.as_bytes();
            rows.insert((Table::Versions, key(version)), codec::encode(version));
            rows.insert((Table::VersionNames, name.to_vec()), prefix(version));
            rows.extend(marks(version).map(|mark| (mark, Vec::new())));
        }
        for ((table, key), row) in &rows {
            self.tables.put(*table, key, row)?;
        }
        let VersionCounts { versions: count, bytes } = self.cache.version_counts;
        let len = versions.iter().fold(bytes, |len, version| len.saturating_add(version.print.len));
        self.set_version_counts(count.saturating_add(versions.len() as u64), len)
    }

    /// Forgets the version that is stored under a name; returns what was noted of it.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and those of the disk.
    pub fn remove_version(&mut self, stored: &str) -> Result<Option<VersionRow>, StoreError> {
        let Some(row) = self.version(stored)? else { return Ok(None) };
        self.tables.remove(Table::Versions, &key(&row))?;
        self.tables.remove(Table::VersionNames, stored.as_bytes())?;
        for (table, key) in marks(&row) {
            self.tables.remove(table, &key)?;
        }
        let counts = self.cache.version_counts;
        self.set_version_counts(counts.versions.saturating_sub(1), counts.bytes.saturating_sub(row.print.len))?;
        Ok(Some(row))
    }

    /// Notes a displaced file, in place of what was noted of that stored name.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn put_displaced(&mut self, row: &Displaced) -> Result<(), StoreError> {
        self.tables.store(Table::Displaced, row.stored.as_bytes(), row)
    }

    /// Makes a displaced file, which was published, a version like others, kept from `kept_at_ms` on and found by the `hash`
    /// of what was published. Nothing is done if none is noted under that name.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and those of the disk.
    pub fn confirm_displaced(
        &mut self,
        stored: &str,
        kept_at_ms: i64,
        hash: Option<ContentHash>,
    ) -> Result<(), StoreError> {
        let Some(row) = self.load::<Displaced>(Table::Displaced, stored.as_bytes())? else { return Ok(()) };
        self.tables.remove(Table::Displaced, stored.as_bytes())?;
        self.put_version(&row.confirmed(kept_at_ms, hash))
    }

    fn set_version_counts(&mut self, versions: u64, bytes: u64) -> Result<(), StoreError> {
        self.cache.version_counts = VersionCounts { versions, bytes };
        let counts = self.cache.version_counts;
        self.set(values::VERSION_COUNTS, &counts)
    }
}
