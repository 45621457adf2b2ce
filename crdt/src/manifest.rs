//! Manifests: the ordered list of a file version's chunks.
//!
//! Here lives what a manifest is and how it is checked. A manifest is authenticated by the signed entry whose content
//! value holds it, so chunks can't be dropped, repeated, reordered or mixed between versions.

use serde::{Deserialize, Serialize};

use crate::id::{ChunkId, EpochId};

/// How a version of a file was cut. Belongs to the version and passes to the next while its size stays near.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Profile {
    /// Which chunker; `1` is FastCDC with a secret gear table.
    pub chunker: u8,
    /// Which average, minimum and maximum.
    pub class: Class,
    /// Whose chunking secret made the gear table.
    pub epoch: EpochId,
}

/// The size class of a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Class {
    /// One chunk: files below 128 KiB.
    Single,
    /// Average 64 KiB: up to 64 MiB.
    Small,
    /// Average 256 KiB: up to 4 GiB.
    Medium,
    /// Average 1 MiB: above.
    Large,
}

/// One chunk of a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ChunkRef {
    /// The chunk's address.
    pub id: ChunkId,
    /// Under which epoch it is named and sealed: an index into the manifest's table of epochs.
    pub epoch_index: u16,
    /// Length of the plaintext, in bytes.
    pub len: u32,
}

/// The manifest of one file version, as it stands in a content value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Manifest {
    /// How the file was cut.
    pub profile: Profile,
    /// Length of the file, in bytes.
    pub len: u64,
    /// The epochs that the chunks (or pages) name, in order of first use.
    pub epochs: Vec<EpochId>,
    /// The chunks, or the root of the tree of pages that lists them.
    pub body: Body,
}

/// Where the chunks of a manifest stand.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Body {
    /// At most [`crate::limits::MANIFEST_INLINE_COUNT_MAX`] chunks, in order; none for an empty file.
    Inline(Vec<ChunkRef>),
    /// The root page of a tree of pages.
    Paged(PageRef),
}

/// A page of a manifest: sealed like a chunk, under an id key and a sealing key of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PageRef {
    /// The page's address: keyed BLAKE3 of its plaintext.
    pub id: ChunkId,
    /// Under which epoch it is named and sealed: an index into the manifest's table of epochs.
    pub epoch_index: u16,
    /// Length of the page's plaintext, in bytes.
    pub len: u32,
    /// Height above the leaves: 0 is a leaf, which lists chunks.
    pub height: u8,
}
