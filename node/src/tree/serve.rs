//! One chunk for a peer, read where its plaintext lies: in the tree, or in the version store.
//!
//! Which file holds it, and whether the peer may have it, was decided by whoever calls: from rows of this space
//! alone. Here the bytes are read by handle, no link followed, and given only if they are still that chunk.

use std::sync::Arc;

use zerocloud_crdt::base::{BaseRead, RowKey};
use zerocloud_crdt::limits::CHUNK_LEN_MAX;
use zerocloud_crdt::manifest::Chunk;
use zerocloud_crdt::register::Kind;
use zerocloud_crdt::scan::Parent;
use zerocloud_crdt::seal::Named;

use super::handles::{Handles, InBase, OpenError};
use super::{Keyring, TreeError, is_fatal, versions};
use crate::volume::{Control, Volume, VolumeError, VolumeErrorKind, VolumeFile};

/// Where a file's bytes lie.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// At a row of base.
    Row(&'a RowKey),
    /// In the version store, under the name that a version's or displaced file's row gives.
    Stored(&'a str),
}

/// What a peer is answered.
#[derive(Clone, Debug)]
pub enum Answer<'k> {
    /// The plaintext, which hashes to the chunk's id.
    Chunk(Named<'k>),
    /// It is not there, or not what it was at the last scan: which is worth a new one.
    Missing,
}

/// Reads the chunks of one space's files. Keeps directories open: made for one run of requests.
pub struct ChunkReader {
    control: Control,
    handles: Handles,
}

impl ChunkReader {
    /// A reader over a volume.
    ///
    /// # Errors
    /// Those of [`Volume::control`]; `Gone`.
    pub fn new(volume: &dyn Volume) -> Result<Self, VolumeError> {
        volume.check_root()?;
        let control = volume.control()?;
        Ok(Self { handles: Handles::new(volume.root(), control.tmp.clone()), control })
    }

    /// Opens the file of a source, if it is a regular file that base or the version store has.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub(crate) fn open<B: BaseRead>(
        &mut self,
        base: &B,
        source: Source<'_>,
    ) -> Result<Option<Arc<dyn VolumeFile>>, TreeError<B::Error>> {
        let outcome = match source {
            Source::Stored(stored) => versions::open(&self.control, stored),
            Source::Row(key) => {
                let row = base.row(key).map_err(TreeError::Store)?;
                if row.is_none_or(|row| row.kind != Kind::File) {
                    return Ok(None);
                }
                match self.handles.open(&InBase(base), Parent::Known(key.parent)) {
                    Ok(directory) => directory.open_file(key.local.as_bytes()),
                    Err(OpenError::Volume(error)) => Err(error),
                    Err(OpenError::Store(error)) => return Err(TreeError::Store(error)),
                    Err(OpenError::NotAsNoted) => return Ok(None),
                }
            }
        };
        match outcome {
            Ok(file) => Ok(Some(file)),
            Err(error) if is_fatal(error.kind()) || error.kind() == VolumeErrorKind::TooManyOpenFiles => {
                Err(error.into())
            }
            Err(_) => Ok(None),
        }
    }

    /// Reads the chunk that begins at `offset` of a source. Reads nothing for a chunk that is too long or whose epoch
    /// is unknown.
    ///
    /// # Errors
    /// [`TreeError::Volume`] if the root is gone or there are too many open files; [`TreeError::Store`].
    pub fn read<'k, B: BaseRead>(
        &mut self,
        base: &B,
        source: Source<'_>,
        offset: u64,
        chunk: &Chunk,
        keyring: &'k Keyring,
    ) -> Result<Answer<'k>, TreeError<B::Error>> {
        let len = chunk.len as usize;
        let Some(keys) = keyring.chunks(&chunk.epoch).filter(|_| len <= CHUNK_LEN_MAX) else {
            return Ok(Answer::Missing);
        };
        let Some(file) = self.open(base, source)? else { return Ok(Answer::Missing) };
        let mut plaintext = vec![0; len];
        let named = match read_exact(&*file, &mut plaintext, offset)? {
            true => keys.check(&chunk.id, plaintext),
            false => None,
        };
        Ok(named.map_or(Answer::Missing, Answer::Chunk))
    }
}

/// Whether the whole buffer could be filled.
pub(crate) fn read_exact(file: &dyn VolumeFile, buffer: &mut [u8], offset: u64) -> Result<bool, VolumeError> {
    Ok(read_up_to(file, buffer, offset)? == buffer.len())
}

/// Fills the buffer as far as the file goes; gives how much that was, in bytes.
pub(crate) fn read_up_to(file: &dyn VolumeFile, buffer: &mut [u8], offset: u64) -> Result<usize, VolumeError> {
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
        let len = file.read_at(rest, offset.saturating_add(done as u64))?;
        if len == 0 {
            break;
        }
        done += len;
    }
    Ok(done)
}
