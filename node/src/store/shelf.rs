//! The store as the engine's shelf.

use std::collections::{BTreeMap, BTreeSet};

use zerocloud_crdt::base::BaseChanges;
use zerocloud_crdt::id::{ContentHash, DeviceId, FileId, Incarnation, RecordHash};
use zerocloud_crdt::index::IndexChanges;
use zerocloud_crdt::log::{Branches, Checked, Entry, EntryPoint};
use zerocloud_crdt::manifest::{BuiltPage, Chunk};

use super::homes::{Awaited, Notice};
use super::tables::Tables;
use super::{Snapshot, SpaceStore, StoreError, Transaction, Write, values};
use crate::engine::replica::Discrepancy;
use crate::engine::shelf::{Shelf, ShelfRead, ShelfWrite};

/// An error of the store's own, or of what was done in its transaction.
enum Failure<X> {
    Store(StoreError),
    Body(X),
}

impl<X> From<StoreError> for Failure<X> {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Shelf for SpaceStore {
    type Error = StoreError;
    type Snapshot = Snapshot;
    type Write<'t> = Write<'t>;

    fn snapshot(&self) -> Result<Snapshot, StoreError> {
        Self::snapshot(self)
    }

    fn write<V, X>(
        &self,
        fail: impl Fn(StoreError) -> X,
        body: impl FnOnce(&mut Write<'_>) -> Result<V, X>,
    ) -> Result<V, X> {
        Self::write(self, |write| body(write).map_err(Failure::Body)).map_err(|failure| match failure {
            Failure::Store(error) => fail(error),
            Failure::Body(error) => error,
        })
    }
}

impl<T: Tables> ShelfRead for Transaction<T> {
    type Fault = StoreError;

    fn entry_bytes(&self, point: EntryPoint) -> Result<Option<Vec<u8>>, StoreError> {
        Self::entry_bytes(self, point)
    }

    fn peer_frontier(&self, peer: DeviceId) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.peer(peer)?.map(|row| row.frontier).filter(|frontier| !frontier.is_empty()))
    }

    fn incarnation(&self) -> Result<Option<Incarnation>, StoreError> {
        self.value(values::INCARNATION)
    }

    fn discrepancies(&self) -> Result<BTreeMap<DeviceId, Discrepancy>, StoreError> {
        Ok(self.value(values::DISCREPANCIES)?.unwrap_or_default())
    }
}

impl ShelfWrite for Write<'_> {
    fn put_entry(&mut self, entry: &Entry, checked: &Checked) -> Result<(), StoreError> {
        Self::put_entry(self, entry, checked)
    }

    fn clear_log(&mut self, branches: Branches) -> Result<(), StoreError> {
        Self::clear_log(self, &branches)
    }

    fn put_index(&mut self, changes: IndexChanges) -> Result<(), StoreError> {
        self.apply_index(changes)
    }

    fn put_base(&mut self, changes: BaseChanges) -> Result<(), StoreError> {
        self.apply_base(&changes).map(drop)
    }

    fn put_unsettled(&mut self, items: BTreeSet<FileId>) -> Result<(), StoreError> {
        self.put_pending(&items)
    }

    fn put_contents(&mut self, content: ContentHash, chunks: &[Chunk], pages: &[BuiltPage]) -> Result<(), StoreError> {
        for page in pages {
            self.put_page(page.id, &page.plaintext)?;
        }
        // A content of one chunk is found by its value.
        if chunks.len() > 1 { self.put_chunk_list(content, chunks) } else { Ok(()) }
    }

    fn put_record(&mut self, hash: RecordHash, bytes: &[u8]) -> Result<(), StoreError> {
        Self::put_record(self, hash, bytes).map(drop)
    }

    fn put_peer_frontier(&mut self, peer: DeviceId, bytes: &[u8]) -> Result<(), StoreError> {
        let mut row = self.peer(peer)?.unwrap_or_default();
        row.frontier = bytes.to_vec();
        self.put_peer(peer, &row)?;
        self.heard = Some(peer);
        // From here on it is known how far to read.
        match self.value(values::AWAITS_INDEX)? {
            Some(Awaited::AnyMember) => self.set(values::AWAITS_INDEX, &Awaited::Member(peer)),
            _ => Ok(()),
        }
    }

    fn put_incarnation(&mut self, incarnation: Incarnation) -> Result<(), StoreError> {
        self.set(values::INCARNATION, &incarnation)
    }

    fn put_discrepancies(&mut self, all: &BTreeMap<DeviceId, Discrepancy>) -> Result<(), StoreError> {
        if all.is_empty() { self.unset(values::DISCREPANCIES) } else { self.set(values::DISCREPANCIES, all) }
    }

    fn begin_anew(&mut self, peer: DeviceId) -> Result<(), StoreError> {
        Self::begin_anew(self, Notice::PeerKnewMore, Awaited::Member(peer))
    }
}
