//! The values of registers as bytes, and the shapes that they must have.

use serde::Serialize;

use super::{ChangeError, Register};
use crate::codec;
use crate::id::EpochId;
use crate::limits::{
    CHUNK_LEN_MAX, FILE_LEN_MAX, LINK_TARGET_LEN_MAX, MANIFEST_DEPTH_MAX, MANIFEST_EPOCH_COUNT_MAX,
    MANIFEST_INLINE_COUNT_MAX, MANIFEST_PAGE_LEN_MAX, VALUE_LEN_MAX,
};
use crate::manifest::{Body, Manifest};
use crate::register::{Content, FileTime, Meta, Place, Write};

/// The one chunker of this format.
const CHUNKER: u8 = 1;
/// Content kinds of this format: directory, file, symlink.
const KIND_COUNT: u32 = 3;

/// Why bytes are no value of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ValueError {
    /// Not the canonical encoding of a place, content or meta, or above [`VALUE_LEN_MAX`].
    #[error("malformed value")]
    Malformed,
    /// A kind of content that this version does not know.
    #[error("content kind {kind} is unknown to this version; update ZeroCloud")]
    UnknownKind {
        /// Its number.
        kind: u32,
    },
    /// A chunker that this version does not know.
    #[error("chunker {chunker} is unknown to this version; update ZeroCloud")]
    UnknownChunker {
        /// Its number.
        chunker: u8,
    },
    /// Nanoseconds of 10^9 and above.
    #[error("time with {nanos} nanoseconds")]
    Nanoseconds {
        /// The nanoseconds.
        nanos: u32,
    },
    /// A symlink without a target, above [`LINK_TARGET_LEN_MAX`] bytes, or with NUL inside.
    #[error("link target of {len} bytes is not allowed")]
    LinkTarget {
        /// Length in bytes.
        len: usize,
    },
    /// A manifest whose parts don't fit each other or are above their bounds.
    #[error("manifest does not add up")]
    Manifest,
    /// A meta that is about no operation.
    #[error("meta is about no operation")]
    About,
}

/// The bytes of what `write` puts; `None` for a delete.
pub(super) fn encode(write: &Write) -> Option<Vec<u8>> {
    match write {
        Write::Place(place) => Some(codec::encode(place)),
        Write::Content(content) => content.as_ref().map(codec::encode),
        Write::Meta(meta) => meta.as_ref().map(codec::encode),
    }
}

/// Reads and checks what is put on a register; `None` is a delete.
pub(super) fn decode(register: Register, bytes: Option<&[u8]>) -> Result<Write, ChangeError> {
    fn value<T: Serialize + serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, ValueError> {
        codec::decode(bytes, VALUE_LEN_MAX).map_err(|_| ValueError::Malformed)
    }
    let write = match (register, bytes) {
        (Register::Place, None) => return Err(ChangeError::PlaceDeleted),
        (Register::Content, None) => Write::Content(None),
        (Register::Meta, None) => Write::Meta(None),
        (Register::Place, Some(bytes)) => Write::Place(value::<Place>(bytes)?),
        (Register::Content, Some(bytes)) => {
            if let Ok((kind, _)) = postcard::take_from_bytes::<u32>(bytes)
                && kind >= KIND_COUNT
            {
                return Err(ValueError::UnknownKind { kind }.into());
            }
            Write::Content(Some(value::<Content>(bytes)?))
        }
        (Register::Meta, Some(bytes)) => Write::Meta(Some(value::<Meta>(bytes)?)),
    };
    check(&write)?;
    Ok(write)
}

/// The rules that the types don't carry.
pub(super) fn check(write: &Write) -> Result<(), ValueError> {
    match write {
        // A name is only made by its own gate.
        Write::Place(_) | Write::Content(None | Some(Content::Directory)) | Write::Meta(None) => Ok(()),
        Write::Content(Some(Content::Symlink { target })) => {
            let is_allowed = (1..=LINK_TARGET_LEN_MAX).contains(&target.len()) && !target.contains(&0);
            if is_allowed { Ok(()) } else { Err(ValueError::LinkTarget { len: target.len() }) }
        }
        Write::Content(Some(Content::File(file))) => {
            check_time(file.mtime)?;
            check_manifest(&file.manifest)
        }
        Write::Meta(Some(meta)) => {
            check_time(meta.mtime)?;
            if meta.about.counter == 0 { Err(ValueError::About) } else { Ok(()) }
        }
    }
}

const fn check_time(time: FileTime) -> Result<(), ValueError> {
    if time.nanos < 1_000_000_000 { Ok(()) } else { Err(ValueError::Nanoseconds { nanos: time.nanos }) }
}

/// What can be said of a manifest without its pages: epochs are named once each, in order of first use, and none
/// without use; inline chunks are not empty and add up to the length.
fn check_manifest(manifest: &Manifest) -> Result<(), ValueError> {
    if manifest.profile.chunker != CHUNKER {
        return Err(ValueError::UnknownChunker { chunker: manifest.profile.chunker });
    }
    let mut epochs: Vec<EpochId> = manifest.epochs.clone();
    epochs.sort_unstable();
    epochs.dedup();
    let is_bounded = manifest.len <= FILE_LEN_MAX && manifest.epochs.len() <= MANIFEST_EPOCH_COUNT_MAX;
    if !is_bounded || epochs.len() != manifest.epochs.len() {
        return Err(ValueError::Manifest);
    }
    let adds_up = match &manifest.body {
        Body::Inline(chunks) => {
            let (mut total, mut used) = (0, 0);
            let mut are_chunks_right = chunks.len() <= MANIFEST_INLINE_COUNT_MAX;
            for chunk in chunks {
                are_chunks_right &= chunk.len > 0 && chunk.len as usize <= CHUNK_LEN_MAX;
                are_chunks_right &= usize::from(chunk.epoch_index) <= used;
                used = used.max(usize::from(chunk.epoch_index) + 1);
                total += u64::from(chunk.len);
            }
            are_chunks_right && used == manifest.epochs.len() && total == manifest.len
        }
        Body::Paged(root) => {
            usize::from(root.epoch_index) < manifest.epochs.len()
                && root.len > 0
                && root.len as usize <= MANIFEST_PAGE_LEN_MAX
                && usize::from(root.height) < MANIFEST_DEPTH_MAX
        }
    };
    if adds_up { Ok(()) } else { Err(ValueError::Manifest) }
}
