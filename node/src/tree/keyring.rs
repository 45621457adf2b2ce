//! The keys of a space's epochs, derived once, by which content is cut and named.

use std::collections::BTreeMap;

use zerocloud_crdt::chunk::Gear;
use zerocloud_crdt::id::{ChunkId, EpochId};
use zerocloud_crdt::keys::EpochSecret;
use zerocloud_crdt::manifest::Chunk;
use zerocloud_crdt::seal::ChunkKeys;
use zerocloud_crdt::wire::What;

/// The keys of all epochs that this device knows, and which one it writes under.
#[derive(Debug)]
pub struct Keyring {
    epoch: EpochId,
    epochs: BTreeMap<EpochId, EpochKeys>,
}

#[derive(Debug)]
struct EpochKeys {
    gear: Gear,
    chunks: ChunkKeys,
    pages: ChunkKeys,
}

impl Keyring {
    /// A ring that writes under `current` and reads under `older` too.
    pub fn new<'s>(current: &'s EpochSecret, older: impl IntoIterator<Item = &'s EpochSecret>) -> Self {
        let keys = |secret: &EpochSecret| EpochKeys {
            gear: Gear::of_epoch(secret),
            chunks: ChunkKeys::of_chunks(secret),
            pages: ChunkKeys::of_pages(secret),
        };
        let secrets = older.into_iter().chain([current]);
        Self { epoch: current.epoch, epochs: secrets.map(|secret| (secret.epoch, keys(secret))).collect() }
    }

    /// The epoch that is written under.
    pub const fn epoch(&self) -> EpochId {
        self.epoch
    }

    /// The gear table of an epoch.
    pub fn gear(&self, epoch: &EpochId) -> Option<&Gear> {
        self.epochs.get(epoch).map(|keys| &keys.gear)
    }

    /// The keys of an epoch's chunks.
    pub fn chunks(&self, epoch: &EpochId) -> Option<&ChunkKeys> {
        self.epochs.get(epoch).map(|keys| &keys.chunks)
    }

    /// The keys of an epoch's manifest pages.
    pub fn pages(&self, epoch: &EpochId) -> Option<&ChunkKeys> {
        self.epochs.get(epoch).map(|keys| &keys.pages)
    }

    /// The keys by which what is asked for is named and sealed.
    pub fn keys_of(&self, what: What, epoch: &EpochId) -> Option<&ChunkKeys> {
        match what {
            What::Chunk => self.chunks(epoch),
            What::Page => self.pages(epoch),
        }
    }

    /// Whether `plaintext` is this chunk. Without the epoch's keys nothing is.
    pub fn is_chunk(&self, chunk: &Chunk, plaintext: &[u8]) -> bool {
        plaintext.len() == chunk.len as usize && self.id(&chunk.epoch, plaintext) == Some(chunk.id)
    }

    fn id(&self, epoch: &EpochId, plaintext: &[u8]) -> Option<ChunkId> {
        Some(self.chunks(epoch)?.id(plaintext))
    }
}
