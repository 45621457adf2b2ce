//! Base: what this device last saw or wrote in the tree, and which operations that showed.
//!
//! A row stands under the id of its directory and its local name, so that moving a directory of a million files
//! changes one row. Scan compares the tree with base, materialise compares the view with base; neither ever compares
//! tree and view directly. Here live the rows and how they are read; the comparisons are in [`crate::scan`] and
//! [`crate::plan`].

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::id::{ContentHash, FileId, OpId};
use crate::name::Name;
use crate::register::{FileTime, Kind};
use crate::view::ViewEntry;

/// The directory under which rows stand while their file is under a temporary name.
pub const PARKED: FileId = FileId([0xff; 16]);

/// Where a row stands on disk.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RowKey {
    /// The id of the directory's own row; [`FileId::ROOT`] or [`PARKED`] for those without one.
    pub parent: FileId,
    /// The name on this disk.
    pub local: Name,
}

/// What a file system says of a file; while it is the same, the content is taken to be the same.
///
/// That holds only if a later edit is sure to change it. A file system tells times to a tick of 4 ms, a second or two:
/// what is edited to the same length in the tick in which it was read looks as it did (git's "racily clean", see its
/// `Documentation/technical/racy-git`). Such a file is noted with an [unsettled](Self::unsettled) fingerprint, which
/// is that of no file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Inode number.
    pub inode: u64,
    /// Time of birth, where the file system knows it.
    pub birth: Option<FileTime>,
    /// Length in bytes; 0 for directories, whose length means nothing.
    pub len: u64,
    /// Time of last change of the content; of no meaning for directories.
    pub mtime: FileTime,
    /// Time of last change of the inode.
    pub ctime: FileTime,
    /// Permission bits.
    pub mode: u32,
}

impl Fingerprint {
    /// The owner's executable bit.
    pub const fn is_executable(&self) -> bool {
        self.mode & 0o100 != 0
    }

    /// The same, for a file that may be edited and look as it does now: it is read again wherever it is met, until it was
    /// read when its time was past. The mark stands in the place of the ctime, which a rename changes as well.
    #[must_use]
    pub const fn unsettled(self) -> Self {
        Self { ctime: FileTime { secs: i64::MIN, nanos: 0 }, ..self }
    }

    /// Whether this was noted of a file that may have been edited since and look the same.
    pub const fn is_unsettled(&self) -> bool {
        self.ctime.secs == i64::MIN
    }

    /// Whether nothing about the file changed. A directory's times and length change with its entries, which are
    /// compared by themselves; its inode and birth alone make it the same.
    pub fn is_unchanged(&self, now: &Self, kind: Kind) -> bool {
        match kind {
            Kind::Directory => self.inode == now.inode && self.birth == now.birth,
            Kind::File | Kind::Symlink => self == now,
        }
    }
}

/// One path that this device last wrote or scanned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseRow {
    /// The item or virtual id.
    pub id: FileId,
    /// The item in whose registers the content stands; differs from `id` for a loser that nobody touched.
    pub source: FileId,
    /// What it is.
    pub kind: Kind,
    /// The directory in the view.
    pub view_parent: FileId,
    /// The name in the view.
    pub view_name: Name,
    /// The content operations that the file shows.
    pub content_ops: BTreeSet<OpId>,
    /// The meta operations that the file shows.
    pub meta_ops: BTreeSet<OpId>,
    /// Hash of the content.
    pub hash: ContentHash,
    /// Length in bytes.
    pub len: u64,
    /// Time of last change as the view has it; the disk may be coarser.
    pub mtime: Option<FileTime>,
    /// Executable bit as the view has it; the disk may not have one.
    pub executable: bool,
    /// The disk's own words.
    pub print: Fingerprint,
}

impl BaseRow {
    /// The row of an entry that was just written with this fingerprint.
    pub fn of_entry(entry: &ViewEntry, print: Fingerprint) -> Self {
        Self {
            id: entry.id,
            source: entry.source,
            kind: entry.kind,
            view_parent: entry.parent,
            view_name: entry.name.clone(),
            content_ops: entry.content_ops.clone(),
            meta_ops: entry.meta_ops.clone(),
            hash: entry.hash,
            len: entry.len,
            mtime: entry.mtime,
            executable: entry.executable,
            print,
        }
    }

    /// Whether this is the loser of a conflict, shown from another item's registers.
    pub fn is_virtual(&self) -> bool {
        self.id != self.source
    }
}

/// What the diffs read of base.
pub trait BaseRead {
    /// Why reading failed.
    type Error;

    /// The row at a path.
    fn row(&self, key: &RowKey) -> Result<Option<BaseRow>, Self::Error>;
    /// The rows of a directory, by local name.
    fn rows(&self, parent: FileId) -> Result<Vec<(Name, BaseRow)>, Self::Error>;
    /// Gives the rows of a directory one after the other, by local name: of a large one, nobody need hold all.
    fn each_row(&self, parent: FileId, each: &mut dyn FnMut(Name, BaseRow)) -> Result<(), Self::Error> {
        self.rows(parent)?.into_iter().for_each(|(local, row)| each(local, row));
        Ok(())
    }
    /// Whether a directory has rows.
    fn has_rows(&self, parent: FileId) -> Result<bool, Self::Error>;
    /// The rows that show content of the item `source`, with their ids: its own, and its losers'.
    fn of_source(&self, source: FileId) -> Result<Vec<(FileId, RowKey)>, Self::Error>;
    /// The rows that noted this inode.
    fn of_inode(&self, inode: u64) -> Result<Vec<RowKey>, Self::Error>;

    /// Where the row of `id` stands, which shows content of `source`.
    fn find(&self, id: FileId, source: FileId) -> Result<Option<RowKey>, Self::Error> {
        Ok(self.of_source(source)?.into_iter().find(|(of, _)| *of == id).map(|(_, key)| key))
    }

    /// If the directory `parent` is `id` or below it: the one just below `id` on the way, or `id` itself.
    fn way_below(&self, parent: FileId, id: FileId) -> Result<Option<FileId>, Self::Error> {
        let (mut at, mut last, mut seen) = (parent, id, BTreeSet::new());
        while at != FileId::ROOT && at != PARKED && seen.insert(at) {
            if at == id {
                return Ok(Some(last));
            }
            last = at;
            match self.find(at, at)? {
                Some(key) => at = key.parent,
                None => break,
            }
        }
        Ok(None)
    }
}

/// Changes of base: a row to put, or `None` to remove what stands there.
pub type BaseChanges = BTreeMap<RowKey, Option<BaseRow>>;

/// A base in memory: for tests and the simulator's models.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryBase {
    rows: BTreeMap<RowKey, BaseRow>,
}

impl MemoryBase {
    /// Makes changes part of the base.
    pub fn commit(&mut self, changes: BaseChanges) {
        for (key, row) in changes {
            match row {
                Some(row) => drop(self.rows.insert(key, row)),
                None => drop(self.rows.remove(&key)),
            }
        }
    }

    /// Every row.
    pub const fn all(&self) -> &BTreeMap<RowKey, BaseRow> {
        &self.rows
    }
}

impl BaseRead for MemoryBase {
    type Error = std::convert::Infallible;

    fn row(&self, key: &RowKey) -> Result<Option<BaseRow>, Self::Error> {
        Ok(self.rows.get(key).cloned())
    }

    fn rows(&self, parent: FileId) -> Result<Vec<(Name, BaseRow)>, Self::Error> {
        let rows = self.rows.iter().filter(|(key, _)| key.parent == parent);
        Ok(rows.map(|(key, row)| (key.local.clone(), row.clone())).collect())
    }

    fn has_rows(&self, parent: FileId) -> Result<bool, Self::Error> {
        Ok(self.rows.keys().any(|key| key.parent == parent))
    }

    fn of_source(&self, source: FileId) -> Result<Vec<(FileId, RowKey)>, Self::Error> {
        let rows = self.rows.iter().filter(|(_, row)| row.source == source);
        Ok(rows.map(|(key, row)| (row.id, key.clone())).collect())
    }

    fn of_inode(&self, inode: u64) -> Result<Vec<RowKey>, Self::Error> {
        let rows = self.rows.iter().filter(|(_, row)| row.print.inode == inode);
        Ok(rows.map(|(key, _)| key.clone()).collect())
    }
}

/// Changes on top of a base, not yet part of it.
pub struct BaseOverlay<'a, B: BaseRead> {
    below: &'a B,
    changes: BaseChanges,
    /// (source, id) → key of the rows that were put.
    put: BTreeMap<(FileId, FileId), RowKey>,
}

impl<'a, B: BaseRead> BaseOverlay<'a, B> {
    /// An overlay without changes.
    pub const fn new(below: &'a B) -> Self {
        Self { below, changes: BTreeMap::new(), put: BTreeMap::new() }
    }

    /// What was changed.
    pub const fn changes(&self) -> &BaseChanges {
        &self.changes
    }

    /// What was changed, to be written.
    pub fn into_changes(self) -> BaseChanges {
        self.changes
    }

    /// Puts a row, in place of what stood there.
    pub fn put(&mut self, key: RowKey, row: BaseRow) {
        self.forget(&key);
        self.put.insert((row.source, row.id), key.clone());
        self.changes.insert(key, Some(row));
    }

    /// Removes what stands at `key`.
    pub fn remove(&mut self, key: RowKey) {
        self.forget(&key);
        self.changes.insert(key, None);
    }

    fn forget(&mut self, key: &RowKey) {
        if let Some(Some(old)) = self.changes.get(key)
            && self.put.get(&(old.source, old.id)) == Some(key)
        {
            self.put.remove(&(old.source, old.id));
        }
    }

    /// The changes under one directory.
    fn under(&self, parent: FileId) -> impl Iterator<Item = (&RowKey, &Option<BaseRow>)> {
        // No name sorts before the one that is a single byte of value 1.
        let first = Name::parse(&[1]).ok().map(|local| RowKey { parent, local });
        let range = match first {
            Some(first) => self.changes.range(first..),
            None => self.changes.range(..),
        };
        range.take_while(move |(key, _)| key.parent == parent)
    }
}

impl<B: BaseRead> BaseRead for BaseOverlay<'_, B> {
    type Error = B::Error;

    fn row(&self, key: &RowKey) -> Result<Option<BaseRow>, B::Error> {
        match self.changes.get(key) {
            Some(row) => Ok(row.clone()),
            None => self.below.row(key),
        }
    }

    fn rows(&self, parent: FileId) -> Result<Vec<(Name, BaseRow)>, B::Error> {
        let mut rows: BTreeMap<Name, BaseRow> = self.below.rows(parent)?.into_iter().collect();
        for (key, row) in self.under(parent) {
            match row {
                Some(row) => drop(rows.insert(key.local.clone(), row.clone())),
                None => drop(rows.remove(&key.local)),
            }
        }
        Ok(rows.into_iter().collect())
    }

    fn has_rows(&self, parent: FileId) -> Result<bool, B::Error> {
        let mut is_changed = false;
        for (_, row) in self.under(parent) {
            if row.is_some() {
                return Ok(true);
            }
            is_changed = true;
        }
        if is_changed { Ok(!self.rows(parent)?.is_empty()) } else { self.below.has_rows(parent) }
    }

    fn of_source(&self, source: FileId) -> Result<Vec<(FileId, RowKey)>, B::Error> {
        let mut rows: BTreeMap<FileId, RowKey> =
            self.below.of_source(source)?.into_iter().filter(|(_, key)| !self.changes.contains_key(key)).collect();
        let put = self.put.range((source, FileId([0; 16]))..=(source, FileId([0xff; 16])));
        rows.extend(put.map(|((_, id), key)| (*id, key.clone())));
        Ok(rows.into_iter().collect())
    }

    fn of_inode(&self, inode: u64) -> Result<Vec<RowKey>, B::Error> {
        let mut keys = self.below.of_inode(inode)?;
        keys.retain(|key| !self.changes.contains_key(key));
        for (key, row) in &self.changes {
            if row.as_ref().is_some_and(|row| row.print.inode == inode) {
                keys.push(key.clone());
            }
        }
        Ok(keys)
    }
}
