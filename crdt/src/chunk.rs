//! Cutting content into chunks, and what is learnt of a file in that one pass: its chunks and its content hash.
//!
//! Here live the size classes, the rule by which a new version keeps the profile of the one before, the cutter
//! ([`Chunker`]) and what goes with it: [`Namer`], which names what a scan reads, and [`ContentCheck`], which
//! accepts what a materialiser writes. How a chunk is named and sealed is in [`crate::seal`]; how its place in a file
//! is recorded is in [`crate::manifest`].

mod content;
mod cut;
#[cfg(test)]
mod tests;

pub use content::{Content, ContentCheck, ContentError, Namer};
pub use cut::{Chunker, Gear};

use crate::{
    id::EpochId,
    limits::FILE_LEN_MAX,
    manifest::{Class, Profile},
};

/// The number of this program's chunker: FastCDC, normalisation level 2, with a secret gear table.
pub const CHUNKER: u8 = 1;

const KIB: u32 = 1 << 10;

/// Lengths of the chunks of one class, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkLens {
    /// No chunk but a file's last is shorter.
    pub min: u32,
    /// What normalisation aims at.
    pub average: u32,
    /// No chunk is longer.
    pub max: u32,
}

impl Class {
    /// Every class, from the smallest files to the largest.
    pub const ALL: [Self; 4] = [Self::Single, Self::Small, Self::Medium, Self::Large];

    /// The class of a file of `len` bytes that has no earlier version.
    pub const fn of_len(len: u64) -> Self {
        if len < Self::Single.upper_len() {
            Self::Single
        } else if len <= Self::Small.upper_len() {
            Self::Small
        } else if len <= Self::Medium.upper_len() {
            Self::Medium
        } else {
            Self::Large
        }
    }

    /// The least length of a file that takes this class, in bytes.
    const fn lower_len(self) -> u64 {
        match self {
            Self::Single => 0,
            Self::Small => Self::Single.upper_len(),
            Self::Medium => Self::Small.upper_len(),
            Self::Large => Self::Medium.upper_len(),
        }
    }

    /// Where the next class begins, in bytes.
    const fn upper_len(self) -> u64 {
        match self {
            Self::Single => 128 << 10,
            Self::Small => 64 << 20,
            Self::Medium => 4 << 30,
            Self::Large => FILE_LEN_MAX,
        }
    }

    /// Whether a version of `len` bytes keeps this class from the version that it replaces: a file that grows and
    /// shrinks around a border is not cut anew each time.
    pub const fn keeps(self, len: u64) -> bool {
        self.lower_len() / 4 <= len && len <= self.upper_len().saturating_mul(4)
    }

    /// How long this class's chunks are. A single chunk is as long as the file; 512 KiB is the longest that keeps the
    /// class, and where a file that grew while it was read is cut.
    pub const fn chunk_lens(self) -> ChunkLens {
        let average = match self {
            Self::Single => return ChunkLens { min: 512 * KIB, average: 512 * KIB, max: 512 * KIB },
            Self::Small => 64 * KIB,
            Self::Medium => 256 * KIB,
            Self::Large => 1024 * KIB,
        };
        ChunkLens { min: average / 4, average, max: average * 4 }
    }
}

impl Profile {
    /// The profile of a file of `len` bytes that has no earlier version, cut under `epoch`.
    pub const fn of_new_file(len: u64, epoch: EpochId) -> Self {
        Self { chunker: CHUNKER, class: Class::of_len(len), epoch }
    }

    /// The profile of a version of `len` bytes that replaces one of this profile: the same while the length stays
    /// near the class, else a new one under `epoch`, the epoch that is written under. A profile of a chunker that is
    /// unknown here is not kept.
    pub fn of_next_version(&self, len: u64, epoch: EpochId) -> Self {
        if self.chunker == CHUNKER && self.class.keeps(len) { *self } else { Self::of_new_file(len, epoch) }
    }
}
