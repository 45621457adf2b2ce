//! What is noted beside index and base: peers, intents, holds and problems.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use zerocloud_crdt::address::{AddressHint, SignedAddresses};
use zerocloud_crdt::codec;
use zerocloud_crdt::id::{DeviceId, FileId};
use zerocloud_crdt::name::Name;

use super::tables::{self, Table, Tables};
use super::{StoreError, Transaction, Write};
use crate::clock::WallTime;
use crate::tree::Intents;

/// What is known of another device of the space.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerRow {
    /// What people call it.
    pub name: Option<Name>,
    /// Where it can be reached by the word of a ticket, best first.
    pub hints: Vec<AddressHint>,
    /// When it was last connected.
    pub last_seen: Option<WallTime>,
    /// The last frontier that it signed, as it came; empty if it never did.
    pub frontier: Vec<u8>,
    /// Its newest [`AddressRecord`](zerocloud_crdt::address::AddressRecord), as it signed it; empty if none has come.
    pub addresses: Vec<u8>,
}

impl PeerRow {
    /// Where its own newest word says that it can be reached.
    pub fn signed_addresses(&self) -> Option<SignedAddresses> {
        if self.addresses.is_empty() { None } else { SignedAddresses::decode(&self.addresses).ok() }
    }

    /// Takes over a record of the device, if it is newer than the one that is here; returns whether it was.
    pub fn take_addresses(&mut self, addresses: &SignedAddresses) -> bool {
        let is_news = self.signed_addresses().is_none_or(|known| addresses.record().replaces(known.record()));
        if is_news {
            self.addresses = addresses.as_bytes().to_vec();
        }
        is_news
    }
}

/// An item that the mass-change guard holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldRow {
    /// Since when.
    pub since: WallTime,
}

/// Something that keeps a path from being the same everywhere; the user is told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProblemRow {
    /// Where, from the root down.
    pub path: Vec<Name>,
    /// Which problem, for programs.
    pub kind: String,
    /// What happened and what to do about it, for people.
    pub text: String,
    /// Since when.
    pub since: WallTime,
}

fn problem_key(path: &[Name], kind: &str) -> Vec<u8> {
    codec::encode(&(path, kind))
}

impl<T: Tables> Transaction<T> {
    /// What is known of a device.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and those of the disk.
    pub fn peer(&self, device: DeviceId) -> Result<Option<PeerRow>, StoreError> {
        self.load(Table::Peers, device.as_bytes())
    }

    /// Every device of which something is known.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and those of the disk.
    pub fn peers(&self) -> Result<BTreeMap<DeviceId, PeerRow>, StoreError> {
        let peers = tables::collect(&self.tables, Table::Peers, &[], |device, row| {
            Ok((DeviceId(tables::exactly(Table::Peers, device)?), tables::decode(Table::Peers, row)?))
        })?;
        Ok(peers.into_iter().collect())
    }

    /// The intents that were noted and not cleared.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and those of the disk.
    pub fn intents(&self) -> Result<Option<Intents>, StoreError> {
        let bytes = tables::pieces(&self.tables, Table::Intents, &[])?;
        bytes.map(|bytes| tables::decode(Table::Intents, &bytes)).transpose()
    }

    /// The items that are held.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and those of the disk.
    pub fn held(&self) -> Result<BTreeMap<FileId, HeldRow>, StoreError> {
        let held = tables::collect(&self.tables, Table::Held, &[], |id, row| {
            Ok((FileId(tables::exactly(Table::Held, id)?), tables::decode(Table::Held, row)?))
        })?;
        Ok(held.into_iter().collect())
    }

    /// Whether an item is held.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn is_held(&self, id: FileId) -> Result<bool, StoreError> {
        Ok(self.tables.read(Table::Held, id.as_bytes(), |_| ())?.is_some())
    }

    /// How many items are held.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn held_count(&self) -> Result<u64, StoreError> {
        self.tables.count(Table::Held)
    }

    /// The problems of the space, ascending by path.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and those of the disk.
    pub fn problems(&self) -> Result<Vec<ProblemRow>, StoreError> {
        let mut problems: Vec<ProblemRow> =
            tables::collect(&self.tables, Table::Problems, &[], |_, row| tables::decode(Table::Problems, row))?;
        problems.sort_unstable();
        Ok(problems)
    }
}

impl Write<'_> {
    /// Notes what is known of a device, in place of what was.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn put_peer(&mut self, device: DeviceId, row: &PeerRow) -> Result<(), StoreError> {
        self.tables.store(Table::Peers, device.as_bytes(), row)
    }

    /// Forgets a device.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn remove_peer(&mut self, device: DeviceId) -> Result<(), StoreError> {
        self.tables.remove(Table::Peers, device.as_bytes()).map(|_| ())
    }

    /// Notes intents, in place of what was noted.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn put_intents(&mut self, intents: &Intents) -> Result<(), StoreError> {
        self.tables.put_pieces(Table::Intents, &[], &codec::encode(intents))
    }

    /// Forgets the intents: base says what came of them.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn clear_intents(&mut self) -> Result<(), StoreError> {
        self.tables.clear(Table::Intents, &[])
    }

    /// Holds an item.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn put_held(&mut self, id: FileId, row: HeldRow) -> Result<(), StoreError> {
        self.tables.store(Table::Held, id.as_bytes(), &row)
    }

    /// Holds an item no longer; returns whether it was held.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn remove_held(&mut self, id: FileId) -> Result<bool, StoreError> {
        self.tables.remove(Table::Held, id.as_bytes())
    }

    /// Notes a problem; one of the same path and kind stays since when it was noted first.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and those of the disk.
    pub fn put_problem(&mut self, row: &ProblemRow) -> Result<(), StoreError> {
        let key = problem_key(&row.path, &row.kind);
        let since = self.load::<ProblemRow>(Table::Problems, &key)?.map_or(row.since, |before| before.since);
        self.tables.store(Table::Problems, &key, &ProblemRow { since, ..row.clone() })
    }

    /// The problem is gone; returns whether it was noted.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn remove_problem(&mut self, path: &[Name], kind: &str) -> Result<bool, StoreError> {
        self.tables.remove(Table::Problems, &problem_key(path, kind))
    }
}
