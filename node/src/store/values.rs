//! Single values of a space, each under a number and with a type of its own. A number is never given to another
//! value: add at the end.

use std::marker::PhantomData;

use serde::{Serialize, de::DeserializeOwned};

use zerocloud_crdt::id::{Incarnation, SpaceId};
use zerocloud_crdt::log::{Branches, Frontier};
use zerocloud_crdt::name::Name;

use super::homes::{Awaited, Notice};
use super::tables::{Table, Tables};
use super::{BaseCounts, StoreError, Transaction, VersionCounts, Write};
use crate::clock::WallTime;
use crate::volume::FilesystemId;

/// The name of a single value that has the type `V`.
pub struct Value<V> {
    number: u8,
    of: PhantomData<fn() -> V>,
}

impl<V> Clone for Value<V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<V> Copy for Value<V> {}

impl<V> std::fmt::Debug for Value<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Value({})", self.number)
    }
}

impl<V> Value<V> {
    const fn new(number: u8) -> Self {
        Self { number, of: PhantomData }
    }

    pub(super) const fn key(self) -> [u8; 1] {
        [self.number]
    }
}

pub(super) const FORMAT: Value<u32> = Value::new(0);
pub(super) const SPACE: Value<SpaceId> = Value::new(1);
pub(super) const GENERATION: Value<u64> = Value::new(2);
pub(super) const MAX_COUNTER: Value<u32> = Value::new(3);
pub(super) const BASE_COUNTS: Value<BaseCounts> = Value::new(4);
pub(super) const VERSION_COUNTS: Value<VersionCounts> = Value::new(5);

/// The marker's counter as it was when this store last wrote it (DESIGN.md §8).
pub const MARKER_COUNTER: Value<u64> = Value::new(16);
/// Which start of this device's history is written now.
pub const INCARNATION: Value<Incarnation> = Value::new(17);
/// This device's label, as the start of its log has it.
pub const LABEL: Value<Name> = Value::new(18);
/// The boot, as the system names it, in which the whole tree was last trusted.
pub const BOOT_ID: Value<Vec<u8>> = Value::new(19);
/// The file system of the root.
pub const FILESYSTEM: Value<FilesystemId> = Value::new(20);
/// What tells the home, at the last start, from a copy of it.
pub const HOME: Value<crate::home::Fingerprint> = Value::new(21);
/// Inode of the directory of temporary files.
pub const TEMPORARY_INODE: Value<u64> = Value::new(24);
/// When the last sync of the disk began of which it was noted that it ended.
pub const LAST_SYNC: Value<WallTime> = Value::new(25);
/// Whether the folder was closed, with the disk synced, and not opened again.
pub const CLEAN_STOP: Value<bool> = Value::new(26);
/// When a walk over the whole tree last ended.
pub const LAST_WALK: Value<WallTime> = Value::new(27);
/// Whose index is read before anything is scanned or materialised, while it was not.
pub const AWAITS_INDEX: Value<Awaited> = Value::new(28);
/// What this device last published of its own frontier.
pub const PUBLISHED: Value<Frontier> = Value::new(29);

/// What the space is called on this device.
pub const NAME: Value<Name> = Value::new(30);
/// The folder of the space on this device: its absolute path, by its bytes.
pub const FOLDER: Value<Vec<u8>> = Value::new(31);
/// Whether the user paused the space.
pub const PAUSED: Value<bool> = Value::new(32);
/// The ignore rules in force: directories and contents of their rules files.
pub const IGNORE_RULES: Value<Vec<(zerocloud_crdt::id::FileId, Vec<u8>)>> = Value::new(33);
/// Patterns of what does not come to this device, in gitignore's syntax.
pub const SELECTION: Value<Vec<u8>> = Value::new(35);
/// Files that lost their bytes to a power loss and wait for the user, by the ids of their rows.
pub const LOST: Value<std::collections::BTreeMap<zerocloud_crdt::id::FileId, crate::tree::scan::Lost>> = Value::new(34);
/// The branches of forked logs.
pub const BRANCHES: Value<Branches> = Value::new(41);
/// What the user is told of home, store and folder until the node is started anew.
pub const NOTICES: Value<std::collections::BTreeSet<Notice>> = Value::new(40);

/// The lengths of the texts that are kept together, in bytes.
pub(super) const TEXTS_LEN: Value<u64> = Value::new(42);

/// Members whose word and deeds differ.
pub const DISCREPANCIES: Value<
    std::collections::BTreeMap<zerocloud_crdt::id::DeviceId, crate::engine::replica::Discrepancy>,
> = Value::new(43);

impl<T: Tables> Transaction<T> {
    /// A single value; `None` if it was never set.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and those of the disk.
    pub fn value<V: Serialize + DeserializeOwned>(&self, value: Value<V>) -> Result<Option<V>, StoreError> {
        self.load(Table::Values, &value.key())
    }
}

impl Write<'_> {
    /// Sets a single value.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn set<V: Serialize>(&mut self, value: Value<V>, to: &V) -> Result<(), StoreError> {
        self.tables.store(Table::Values, &value.key(), to)
    }

    /// Forgets a single value.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn unset<V>(&mut self, value: Value<V>) -> Result<(), StoreError> {
        self.tables.remove(Table::Values, &value.key()).map(|_| ())
    }
}
