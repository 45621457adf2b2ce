//! The store as the tree's ledger: base, intents, and the rows of what was taken out of the tree.

use std::collections::BTreeSet;
use std::sync::Arc;

use zerocloud_crdt::base::{BaseRead, BaseRow, RowKey};
use zerocloud_crdt::id::{ContentHash, FileId};
use zerocloud_crdt::name::Name;

use super::{Snapshot, SpaceStore, StoreError, Write};
use crate::tree::versions::VersionRow;
use crate::tree::{Commit, Displaced, Intents, Ledger};

/// The ledger of one folder. Reads one snapshot, which each of its own writes renews; what others write shows after a
/// [`refresh`](Self::refresh), which therefore comes before a scan or a batch.
///
/// If a write of its own does not show for sure, because the commit failed or no snapshot could be taken after it, all
/// reads fail until a refresh succeeds: who judged a batch by what was noted before it would take files of the user's
/// for garbage. After a failed commit it never succeeds, and the store must be opened again.
#[derive(Debug)]
pub struct StoreLedger {
    store: Arc<SpaceStore>,
    snapshot: Snapshot,
    is_behind: bool,
}

impl StoreLedger {
    /// A ledger over what the store holds now.
    ///
    /// # Errors
    /// [`StoreError::FailedBefore`] if a commit of this store failed, and those of the disk.
    pub fn new(store: Arc<SpaceStore>) -> Result<Self, StoreError> {
        let snapshot = certain(&store)?;
        Ok(Self { store, snapshot, is_behind: false })
    }

    /// Takes a new snapshot.
    ///
    /// # Errors
    /// [`StoreError::FailedBefore`] if a commit of this store failed, and those of the disk.
    pub fn refresh(&mut self) -> Result<(), StoreError> {
        self.snapshot = certain(&self.store)?;
        self.is_behind = false;
        Ok(())
    }

    /// The store.
    pub const fn store(&self) -> &Arc<SpaceStore> {
        &self.store
    }

    /// What was committed at the last refresh or write.
    pub const fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The displaced files that wait to be published, by their stored name.
    ///
    /// # Errors
    /// [`StoreError::Damaged`], [`StoreError::FailedBefore`] and those of the disk.
    pub fn displaced(&self) -> Result<Vec<Displaced>, StoreError> {
        self.current()?.displaced()
    }

    /// After a displaced file was published: it is a version like others, kept from `kept_at_ms` (milliseconds since
    /// 1970) on and found by the `hash` of what was published. Nothing is done if none is noted under that name.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and those of the disk.
    pub fn confirm_displaced(
        &mut self,
        stored: &str,
        kept_at_ms: i64,
        hash: Option<ContentHash>,
    ) -> Result<(), StoreError> {
        self.write(|write| write.confirm_displaced(stored, kept_at_ms, hash))
    }

    /// Forgets a version, after its file was removed; returns what was noted of it.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and those of the disk.
    pub fn remove_version(&mut self, stored: &str) -> Result<Option<VersionRow>, StoreError> {
        self.write(|write| write.remove_version(stored))
    }

    fn current(&self) -> Result<&Snapshot, StoreError> {
        if self.is_behind { Err(StoreError::FailedBefore) } else { Ok(&self.snapshot) }
    }

    fn write<V>(&mut self, body: impl FnOnce(&mut Write<'_>) -> Result<V, StoreError>) -> Result<V, StoreError> {
        self.is_behind = true;
        let outcome = self.store.write(body);
        let refreshed = self.refresh();
        // The first failure is the cause of the second.
        let value = outcome?;
        refreshed.map(|()| value)
    }
}

/// A snapshot that shows whatever the file would show if it were opened again.
fn certain(store: &SpaceStore) -> Result<Snapshot, StoreError> {
    let snapshot = store.snapshot()?;
    if store.is_unsure() { Err(StoreError::FailedBefore) } else { Ok(snapshot) }
}

impl BaseRead for StoreLedger {
    type Error = StoreError;

    fn row(&self, key: &RowKey) -> Result<Option<BaseRow>, StoreError> {
        self.current()?.row(key)
    }
    fn rows(&self, parent: FileId) -> Result<Vec<(Name, BaseRow)>, StoreError> {
        self.current()?.rows(parent)
    }
    fn has_rows(&self, parent: FileId) -> Result<bool, StoreError> {
        self.current()?.has_rows(parent)
    }
    fn of_source(&self, source: FileId) -> Result<Vec<(FileId, RowKey)>, StoreError> {
        self.current()?.of_source(source)
    }
    fn of_inode(&self, inode: u64) -> Result<Vec<RowKey>, StoreError> {
        self.current()?.of_inode(inode)
    }
    fn find(&self, id: FileId, source: FileId) -> Result<Option<RowKey>, StoreError> {
        self.current()?.find(id, source)
    }
}

impl Ledger for StoreLedger {
    fn intents(&self) -> Result<Option<Intents>, StoreError> {
        self.current()?.intents()
    }

    fn note_intents(&mut self, intents: Intents) -> Result<(), StoreError> {
        self.write(|write| write.put_intents(&intents))
    }

    fn commit(&mut self, commit: Commit) -> Result<(), StoreError> {
        self.write(|write| write.apply_commit(&commit))
    }

    fn is_stored(&self, stored: &str) -> Result<bool, StoreError> {
        self.current()?.is_stored(stored)
    }
}

impl Write<'_> {
    /// Writes what a batch or a recovery changed, and clears the intents. Items of which an action was done or a row
    /// changed are pending from now on, but for those that are settled.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and those of the disk.
    pub fn apply_commit(&mut self, commit: &Commit) -> Result<(), StoreError> {
        let mut touched: BTreeSet<FileId> = commit.done.clone();
        touched.extend(self.apply_base(&commit.base)?);
        touched.retain(|item| !commit.settled.contains_key(item));
        self.put_pending(&touched)?;
        self.remove_pending(commit.settled.iter().map(|(item, seen)| (*item, *seen)))?;
        self.put_versions(&commit.versions)?;
        for row in &commit.displaced {
            self.put_displaced(row)?;
        }
        self.clear_intents()
    }
}
