//! The keys by which one epoch names and seals chunks or manifest pages, derived once.

use std::borrow::Cow;

use zeroize::Zeroize;

use super::{OpenError, Suite};
use crate::{
    FORMAT,
    id::{ChunkId, EpochId, SpaceId},
    keys::{EpochSecret, Purpose, Secret},
    limits::{CHUNK_LEN_MAX, MANIFEST_PAGE_LEN_MAX, SEALED_CHUNK_LEN_MAX, SEALED_PAGE_LEN_MAX},
    manifest::Chunk,
};

/// Length of the context string of additional data, in bytes.
const CONTEXT_LEN: usize = 24;

/// What is sealed: both kinds have the same format and nothing else in common, neither keys nor context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Chunk,
    Page,
}

/// The keys of one epoch for chunks, or those for manifest pages.
///
/// Made once for each epoch and used for every chunk: naming costs one keyed hash, sealing 90 ns more for the chunk's
/// own key. The keys are overwritten when dropped.
#[derive(Clone)]
pub struct ChunkKeys {
    kind: Kind,
    space: SpaceId,
    epoch: EpochId,
    id_key: Secret,
    sealing_key: Secret,
}

impl std::fmt::Debug for ChunkKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ChunkKeys({:?}, {:?})", self.kind, self.epoch)
    }
}

impl ChunkKeys {
    /// The keys for the chunks of an epoch.
    pub fn of_chunks(secret: &EpochSecret) -> Self {
        Self::new(Kind::Chunk, secret, Purpose::ChunkId, Purpose::Sealing)
    }

    /// The keys for the manifest pages of an epoch.
    pub fn of_pages(secret: &EpochSecret) -> Self {
        Self::new(Kind::Page, secret, Purpose::ManifestId, Purpose::ManifestSealing)
    }

    fn new(kind: Kind, secret: &EpochSecret, id: Purpose, sealing: Purpose) -> Self {
        Self {
            kind,
            space: secret.space,
            epoch: secret.epoch,
            id_key: secret.key(id),
            sealing_key: secret.key(sealing),
        }
    }

    /// Whose keys these are.
    pub const fn epoch(&self) -> EpochId {
        self.epoch
    }

    /// In which space.
    pub const fn space(&self) -> SpaceId {
        self.space
    }

    /// The address of `plaintext`: keyed BLAKE3.
    pub fn id(&self, plaintext: &[u8]) -> ChunkId {
        if crate::mutated!(UnkeyedChunkIds) {
            return ChunkId(*blake3::hash(plaintext).as_bytes());
        }
        ChunkId(*blake3::keyed_hash(self.id_key.expose(), plaintext).as_bytes())
    }

    /// `plaintext` as a manifest lists it. A chunk is at most [`CHUNK_LEN_MAX`] bytes long.
    pub fn chunk(&self, plaintext: &[u8]) -> Chunk {
        Chunk { id: self.id(plaintext), epoch: self.epoch, len: u32::try_from(plaintext.len()).unwrap_or(u32::MAX) }
    }

    /// Names `plaintext`, to be sealed.
    pub fn name<'a>(&'a self, plaintext: &'a [u8]) -> Named<'a> {
        Named { keys: self, id: self.id(plaintext), plaintext: Cow::Borrowed(plaintext) }
    }

    /// Names `plaintext` if it is still what has this id; `None` if the file has changed since it was scanned.
    pub fn check<'a>(&'a self, id: &ChunkId, plaintext: impl Into<Cow<'a, [u8]>>) -> Option<Named<'a>> {
        let plaintext = plaintext.into();
        (self.id(&plaintext) == *id).then_some(Named { keys: self, id: *id, plaintext })
    }

    /// The longest plaintext, in bytes.
    pub(super) const fn len_max(&self) -> usize {
        match self.kind {
            Kind::Chunk => CHUNK_LEN_MAX,
            Kind::Page => MANIFEST_PAGE_LEN_MAX,
        }
    }

    /// The longest sealed object, in bytes.
    pub(super) const fn sealed_len_max(&self) -> usize {
        match self.kind {
            Kind::Chunk => SEALED_CHUNK_LEN_MAX,
            Kind::Page => SEALED_PAGE_LEN_MAX,
        }
    }

    pub(super) fn chunk_key(&self, id: &ChunkId) -> Secret {
        let mut hash = blake3::keyed_hash(self.sealing_key.expose(), id.as_bytes());
        let key = Secret::new(*hash.as_bytes());
        hash.zeroize();
        key
    }

    /// What the tag covers beside the text:
    ///
    /// ```text
    /// context (24: "zerocloud/1 sealed chunk" or "zerocloud/1 sealed pages") | format (1) | suite (1)
    /// | space (32) | epoch (32) | id (32)
    /// ```
    pub(super) fn additional(&self, suite: Suite, id: &ChunkId) -> [u8; CONTEXT_LEN + 2 + 3 * 32] {
        let context: &[u8; CONTEXT_LEN] = match self.kind {
            Kind::Chunk => b"zerocloud/1 sealed chunk",
            Kind::Page => b"zerocloud/1 sealed pages",
        };
        let mut additional = [0; CONTEXT_LEN + 2 + 3 * 32];
        let number = [FORMAT, suite.number()];
        let parts: [&[u8]; 5] = [context, &number, self.space.as_bytes(), self.epoch.as_bytes(), id.as_bytes()];
        for (place, byte) in additional.iter_mut().zip(parts.into_iter().flatten()) {
            *place = *byte;
        }
        additional
    }

    pub(super) const fn not_authentic(&self) -> OpenError {
        OpenError::NotAuthentic { epoch: self.epoch }
    }
}

/// A plaintext and its id under the keys that it is to be sealed with: the proof that the two belong together.
#[derive(Clone)]
pub struct Named<'a> {
    pub(super) keys: &'a ChunkKeys,
    pub(super) id: ChunkId,
    pub(super) plaintext: Cow<'a, [u8]>,
}

impl std::fmt::Debug for Named<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Named({:?}, {} bytes)", self.id, self.plaintext.len())
    }
}

impl Named<'_> {
    /// The address.
    pub const fn id(&self) -> ChunkId {
        self.id
    }

    /// The bytes.
    pub fn plaintext(&self) -> &[u8] {
        &self.plaintext
    }
}
