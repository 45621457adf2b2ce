//! Pages, tables of epochs, and the checks that are common to building and reading.

use serde::{Deserialize, Serialize};

use super::{Chunk, ChunkRef, ManifestError, PageAddress, Profile};
use crate::{
    chunk::CHUNKER,
    id::{ChunkId, EpochId},
    limits::{FILE_LEN_MAX, MANIFEST_EPOCH_COUNT_MAX, MANIFEST_PAGE_LEN_MAX},
};

/// An opened page: see the format in the module's first lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Page {
    pub(super) epochs: Vec<EpochId>,
    pub(super) body: PageBody,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum PageBody {
    /// Chunks, in order.
    Leaf(Vec<ChunkRef>),
    /// Pages of the height below, in order.
    Inner(Vec<ChildRef>),
}

/// A page as its parent lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ChildRef {
    pub(super) id: ChunkId,
    /// Index into the parent's table.
    pub(super) epoch_index: u16,
    /// Length of the page's plaintext, in bytes.
    pub(super) len: u32,
    /// Length of the content that the page and all below it list, in bytes.
    pub(super) content_len: u64,
}

/// What a page or an inline body lists.
pub(super) trait Reference: Copy {
    fn epoch_index(&self) -> u16;
    /// Bytes of the file that it stands for.
    fn content_len(&self) -> u64;
}

impl Reference for ChunkRef {
    fn epoch_index(&self) -> u16 {
        self.epoch_index
    }

    fn content_len(&self) -> u64 {
        u64::from(self.len)
    }
}

impl Reference for ChildRef {
    fn epoch_index(&self) -> u16 {
        self.epoch_index
    }

    fn content_len(&self) -> u64 {
        self.content_len
    }
}

/// A table of epochs while it is filled.
#[derive(Clone, Debug, Default)]
pub(super) struct EpochTable {
    epochs: Vec<EpochId>,
    /// The index asked for last: neighbours are mostly of one epoch.
    last: usize,
}

impl EpochTable {
    pub(super) const fn new() -> Self {
        Self { epochs: Vec::new(), last: 0 }
    }

    pub(super) fn epochs(&self) -> &[EpochId] {
        &self.epochs
    }

    /// The index of `epoch`, which is added if it is not there.
    pub(super) fn index_of(&mut self, epoch: EpochId) -> Result<u16, ManifestError> {
        if self.epochs.get(self.last) != Some(&epoch) {
            self.last = match self.epochs.iter().position(|known| *known == epoch) {
                Some(index) => index,
                None if self.epochs.len() >= MANIFEST_EPOCH_COUNT_MAX => return Err(ManifestError::TooManyEpochs),
                None => {
                    self.epochs.push(epoch);
                    self.epochs.len() - 1
                }
            };
        }
        u16::try_from(self.last).map_err(|_| ManifestError::TooManyEpochs)
    }

    pub(super) fn into_epochs(self) -> Vec<EpochId> {
        self.epochs
    }
}

/// Checks that a list names its table's epochs in order of first use, all of them, and none twice; and that its
/// entries have content that adds up to `content_len`.
pub(super) fn check_list<R: Reference>(epochs: &[EpochId], refs: &[R], content_len: u64) -> Result<(), ManifestError> {
    check_distinct(epochs)?;
    let mut used = 0;
    let mut sum = 0u64;
    for reference in refs {
        match usize::from(reference.epoch_index()) {
            index if index < used => {}
            index if index == used => used += 1,
            _ => return Err(ManifestError::Epochs),
        }
        sum = sum.saturating_add(reference.content_len());
    }
    if used != epochs.len() {
        return Err(ManifestError::Epochs);
    }
    if sum != content_len {
        return Err(ManifestError::Sum { declared: content_len, found: sum });
    }
    Ok(())
}

/// Checks that a table is within its bound and has no epoch twice.
pub(super) fn check_distinct(epochs: &[EpochId]) -> Result<(), ManifestError> {
    if epochs.len() > MANIFEST_EPOCH_COUNT_MAX {
        return Err(ManifestError::TooManyEpochs);
    }
    let mut sorted = epochs.to_vec();
    sorted.sort_unstable();
    if sorted.windows(2).any(|pair| pair.first() == pair.last()) {
        return Err(ManifestError::Epochs);
    }
    Ok(())
}

/// Checks what a profile and a length say of themselves.
pub(super) fn check_profile(profile: &Profile, len: u64) -> Result<(), ManifestError> {
    if profile.chunker != CHUNKER {
        return Err(ManifestError::UnknownChunker { chunker: profile.chunker });
    }
    if len > FILE_LEN_MAX {
        return Err(ManifestError::FileTooLong { len });
    }
    Ok(())
}

/// Checks the length of a chunk of a profile's class: only a file's last may be shorter than the minimum. This is
/// also what bounds the number of chunks of a file of a given length.
pub(super) fn check_chunk_len(profile: &Profile, len: u32, is_last: bool) -> Result<(), ManifestError> {
    let lens = profile.class.chunk_lens();
    let min = if is_last { 1 } else { lens.min };
    if (min..=lens.max).contains(&len) { Ok(()) } else { Err(ManifestError::ChunkLen { len }) }
}

impl ChunkRef {
    /// The chunk with its epoch by name, if `epochs` has it.
    pub(super) fn resolve(&self, epochs: &[EpochId]) -> Result<Chunk, ManifestError> {
        let epoch = *epochs.get(usize::from(self.epoch_index)).ok_or(ManifestError::Epochs)?;
        Ok(Chunk { id: self.id, epoch, len: self.len })
    }
}

impl ChildRef {
    pub(super) fn resolve(&self, epochs: &[EpochId]) -> Result<PageAddress, ManifestError> {
        let epoch = *epochs.get(usize::from(self.epoch_index)).ok_or(ManifestError::Epochs)?;
        let len = self.len as usize;
        if len == 0 || len > MANIFEST_PAGE_LEN_MAX {
            return Err(ManifestError::PageLen { len });
        }
        Ok(PageAddress { id: self.id, epoch, len: self.len })
    }
}
