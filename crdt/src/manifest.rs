//! Manifests: the ordered list of a file version's chunks.
//!
//! Here lives what a manifest is, how it is built ([`ManifestBuilder`]), read ([`Manifest::walk`]) and checked. A
//! manifest is authenticated by the signed entry whose content value holds it, so chunks can't be dropped, repeated,
//! reordered or mixed between versions. How chunks and pages are named and sealed is in [`crate::seal`].
//!
//! A short list stands in the manifest itself. A longer one is a tree of pages, each sealed like a chunk:
//!
//! ```text
//! page (opened) = format (1) | postcard of
//!   epochs      the epochs that this page names, in order of first use
//!   body        leaf: chunks in order, each (id, index into epochs, length)
//!               inner: pages in order, each (id, index into epochs, length of the page, length of the content below)
//! ```
//!
//! A page ends where the id of what it lists last says so ([`ManifestBuilder`]), and has a table of epochs of its own:
//! so a page depends on nothing but what it lists, and a change that moves later chunks by one, or brings the first
//! chunk of another epoch, rewrites the pages on the way to it and no others.

mod build;
mod page;
mod read;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use self::{
    build::{BuiltPage, ManifestBuilder},
    read::{ReadManifestError, Visited},
};
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
    /// Under which epoch it is named and sealed: an index into the table of epochs beside it.
    pub epoch_index: u16,
    /// Length of the plaintext, in bytes.
    pub len: u32,
}

/// One chunk with its epoch by name: what a manifest is built from and what reading one yields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Chunk {
    /// The chunk's address.
    pub id: ChunkId,
    /// Under which epoch it is named and sealed.
    pub epoch: EpochId,
    /// Length of the plaintext, in bytes.
    pub len: u32,
}

/// Where a page is to be found and how it opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageAddress {
    /// The page's address.
    pub id: ChunkId,
    /// Under which epoch it is named and sealed.
    pub epoch: EpochId,
    /// Length of the page's plaintext, in bytes.
    pub len: u32,
}

/// The manifest of one file version, as it stands in a content value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Manifest {
    /// How the file was cut.
    pub profile: Profile,
    /// Length of the file, in bytes.
    pub len: u64,
    /// The epochs under which chunks and pages are sealed, in order of first use: chunk by chunk, a page after all
    /// that it lists.
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

/// Why a manifest is not accepted, or can't be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// Written by a newer version.
    #[error("chunker {chunker} is unknown to this version; update ZeroCloud")]
    UnknownChunker {
        /// The chunker's number.
        chunker: u8,
    },
    /// Above [`crate::limits::FILE_LEN_MAX`].
    #[error("a file of {len} bytes is longer than ZeroCloud can store")]
    FileTooLong {
        /// The file's length, in bytes.
        len: u64,
    },
    /// Above [`crate::limits::MANIFEST_EPOCH_COUNT_MAX`].
    #[error("the file's chunks are of more epochs than one manifest can name; seal them all under the current one")]
    TooManyEpochs,
    /// More chunks than [`crate::limits::MANIFEST_DEPTH_MAX`] levels of pages hold, or a deeper tree.
    #[error("the tree of manifest pages is too deep")]
    TooDeep,
    /// Above [`crate::limits::MANIFEST_READ_COUNT_MAX`].
    #[error("the file has more chunks than can be listed at once")]
    TooManyChunks,
    /// The table of epochs is not that of the chunks and pages, in order of first use.
    #[error("the manifest's table of epochs is not the one of its chunks")]
    Epochs,
    /// A chunk is shorter or longer than the profile's class allows.
    #[error("a chunk of {len} bytes does not fit the manifest's profile")]
    ChunkLen {
        /// The chunk's length, in bytes.
        len: u32,
    },
    /// The list is empty, too long for its place, or short enough to stand in the value.
    #[error("{count} entries can't stand where the manifest has them")]
    Count {
        /// Chunks or pages listed.
        count: usize,
    },
    /// The parts don't add up to the whole.
    #[error("the manifest's parts have {found} bytes, not {declared}")]
    Sum {
        /// Length of the whole, in bytes.
        declared: u64,
        /// Sum of the parts, in bytes.
        found: u64,
    },
    /// A page is not as long as the reference to it says, or longer than any page.
    #[error("a manifest page has {len} bytes, which is not its declared length or above the limit")]
    PageLen {
        /// The page's length, in bytes.
        len: usize,
    },
    /// A leaf where an inner page belongs, or the other way round.
    #[error("a manifest page stands at the wrong height")]
    Height,
}
