//! The pool of one peer's entries that wait for something. Each peer has a pool of its own, so that one who sends
//! orphans without end takes no room from others.

use std::collections::{BTreeMap, BTreeSet};

use super::check::Missing;
use super::entry::Entry;
use crate::id::{EntryHash, EpochId};
use crate::limits::{WAITING_ENTRY_BYTES_MAX, WAITING_ENTRY_COUNT_MAX};
use crate::mutated;

/// Entries that were received before what they need, at most [`WAITING_ENTRY_COUNT_MAX`] of them and
/// [`WAITING_ENTRY_BYTES_MAX`] bytes.
#[derive(Clone, Debug, Default)]
pub struct WaitingPool {
    entries: BTreeMap<EntryHash, (Entry, Missing)>,
    waiting: BTreeMap<What, BTreeSet<EntryHash>>,
    bytes: usize,
}

/// What is waited for. An entry is known by its hash alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Entry(EntryHash),
    Records,
    Epoch(EpochId),
}

/// The peer has sent more without its past than is kept for it: ask it for what is missing, in causal order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many entries of one peer wait for others")]
pub struct PoolFull;

impl From<Missing> for What {
    fn from(missing: Missing) -> Self {
        match missing {
            Missing::Entry { hash, .. } => Self::Entry(hash),
            Missing::Records => Self::Records,
            Missing::Epoch(epoch) => Self::Epoch(epoch),
        }
    }
}

impl WaitingPool {
    /// Keeps `entry` until `missing` is there. One that is here already takes no second place.
    ///
    /// # Errors
    /// [`PoolFull`]; then nothing has changed.
    pub fn insert(&mut self, entry: Entry, missing: Missing) -> Result<(), PoolFull> {
        let (hash, len) = (entry.hash(), entry.as_bytes().len());
        self.remove(hash);
        let is_full = self.entries.len() >= WAITING_ENTRY_COUNT_MAX || self.bytes + len > WAITING_ENTRY_BYTES_MAX;
        if is_full && !mutated!(UnboundedOrphans) {
            return Err(PoolFull);
        }
        self.bytes += len;
        self.waiting.entry(missing.into()).or_default().insert(hash);
        self.entries.insert(hash, (entry, missing));
        Ok(())
    }

    /// Takes out what waited for the entry with this hash, which was applied. Check each again: it may wait for more.
    pub fn take_after_entry(&mut self, hash: EntryHash) -> Vec<Entry> {
        self.take(What::Entry(hash))
    }

    /// Takes out what waited for records, of which some came.
    pub fn take_after_records(&mut self) -> Vec<Entry> {
        self.take(What::Records)
    }

    /// Takes out what waited for the secret of `epoch`.
    pub fn take_after_epoch(&mut self, epoch: EpochId) -> Vec<Entry> {
        self.take(What::Epoch(epoch))
    }

    /// What is waited for, once each, without what is itself in the pool.
    pub fn missing(&self) -> BTreeSet<Missing> {
        let is_here =
            |missing: &Missing| matches!(missing, Missing::Entry { hash, .. } if self.entries.contains_key(hash));
        self.entries.values().map(|(_, missing)| *missing).filter(|missing| !is_here(missing)).collect()
    }

    /// How many entries wait.
    pub fn count(&self) -> usize {
        self.entries.len()
    }

    /// How many bytes they have together.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    fn take(&mut self, what: What) -> Vec<Entry> {
        let hashes = self.waiting.remove(&what).unwrap_or_default();
        hashes.into_iter().filter_map(|hash| self.remove(hash)).collect()
    }

    fn remove(&mut self, hash: EntryHash) -> Option<Entry> {
        let (entry, missing) = self.entries.remove(&hash)?;
        self.bytes -= entry.as_bytes().len();
        if let Some(hashes) = self.waiting.get_mut(&missing.into()) {
            hashes.remove(&hash);
            if hashes.is_empty() {
                self.waiting.remove(&missing.into());
            }
        }
        Some(entry)
    }
}
