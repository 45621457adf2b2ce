//! The store as the ledger of the tree: what is about to be done on the disk, and what came of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use zerocloud_crdt::base::{BaseRead, BaseRow, RowKey};
use zerocloud_crdt::id::FileId;
use zerocloud_crdt::name::Name;

use super::{Snapshot, SpaceStore, StoreError};
use crate::tree::versions::VersionRow;
use crate::tree::{Commit, Displaced, Intents, Ledger};

/// A ledger in a space's store. Reads one state, which is that after its own last write or [`Self::refresh`]: between
/// the two nobody else may write base.
#[derive(Debug)]
pub struct StoreLedger {
    store: Arc<SpaceStore>,
    snapshot: Snapshot,
}

impl StoreLedger {
    /// A ledger that reads what is committed now.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn new(store: Arc<SpaceStore>) -> Result<Self, StoreError> {
        let snapshot = store.snapshot()?;
        Ok(Self { store, snapshot })
    }

    /// Reads what is committed now.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn refresh(&mut self) -> Result<(), StoreError> {
        self.snapshot = self.store.snapshot()?;
        Ok(())
    }

    /// The state that is read.
    pub const fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Local edits that were displaced and not yet published.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and those of the disk.
    pub fn displaced(&self) -> Result<Vec<Displaced>, StoreError> {
        self.snapshot.displaced()
    }

    /// A displaced edit was published: from `kept_at_ms` (milliseconds since 1970) on it is a version like others.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and those of the disk.
    pub fn confirm_displaced(&mut self, stored: &str, kept_at_ms: i64) -> Result<(), StoreError> {
        self.store.write::<_, StoreError>(|write| {
            if let Some(Displaced { stored, key, row, print, .. }) = write.remove_displaced(stored)? {
                write.put_version(&VersionRow { stored, origin: Some((key, row)), print, kept_at_ms })?;
            }
            Ok(())
        })?;
        self.refresh()
    }
}

impl BaseRead for StoreLedger {
    type Error = StoreError;

    fn row(&self, key: &RowKey) -> Result<Option<BaseRow>, StoreError> {
        self.snapshot.row(key)
    }

    fn rows(&self, parent: FileId) -> Result<Vec<(Name, BaseRow)>, StoreError> {
        self.snapshot.rows(parent)
    }

    fn has_rows(&self, parent: FileId) -> Result<bool, StoreError> {
        self.snapshot.has_rows(parent)
    }

    fn of_source(&self, source: FileId) -> Result<Vec<(FileId, RowKey)>, StoreError> {
        self.snapshot.of_source(source)
    }

    fn of_inode(&self, inode: u64) -> Result<Vec<RowKey>, StoreError> {
        self.snapshot.of_inode(inode)
    }

    fn find(&self, id: FileId, source: FileId) -> Result<Option<RowKey>, StoreError> {
        self.snapshot.find(id, source)
    }
}

impl Ledger for StoreLedger {
    fn intents(&self) -> Result<Option<Intents>, StoreError> {
        self.snapshot.intents()
    }

    fn note_intents(&mut self, intents: Intents) -> Result<(), StoreError> {
        self.store.write(|write| write.put_intents(&intents))?;
        self.refresh()
    }

    fn commit(&mut self, commit: Commit) -> Result<(), StoreError> {
        let Commit { base, versions, displaced, done } = commit;
        self.store.write::<_, StoreError>(|write| {
            let mut touched: BTreeSet<FileId> = done;
            for (key, row) in &base {
                touched.extend(write.row(key)?.iter().chain(row).map(|row| row.source));
            }
            write.apply_base(&base)?;
            for version in &versions {
                write.put_version(version)?;
            }
            for displaced in &displaced {
                write.put_displaced(displaced)?;
            }
            // Whether something is left to be done with them is for the next plan to say.
            write.put_pending(&touched)?;
            write.clear_intents()
        })?;
        self.refresh()
    }

    fn is_stored(&self, stored: &str) -> Result<bool, StoreError> {
        Ok(self.snapshot.version(stored)?.is_some() || self.snapshot.displaced_as(stored)?.is_some())
    }
}
