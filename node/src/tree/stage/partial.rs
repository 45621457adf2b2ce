//! A file whose chunks come one by one, in any order.

use std::sync::Arc;

use zerocloud_crdt::id::{ChunkId, ContentHash};
use zerocloud_crdt::limits::CHUNK_LEN_MAX;
use zerocloud_crdt::manifest::Chunk;
use zerocloud_crdt::register::Kind;

use super::super::serve::{read_exact, read_up_to};
use super::super::{Keyring, PUT, TempNames};
use super::{FileSpec, StageError, Staged, complete, write_sparse};
use crate::volume::{At, Volume, VolumeDirectory, VolumeError, VolumeFile, VolumeWriter};

/// A temporary file that is being filled. Dropping it leaves the file for [`Staging::resume`](super::Staging::resume).
pub struct PartialFile {
    tmp: Arc<dyn VolumeDirectory>,
    names: Arc<TempNames>,
    temp: String,
    file: Arc<dyn VolumeWriter>,
    spec: FileSpec,
    chunks: Arc<[Chunk]>,
    /// Where each chunk begins.
    offsets: Vec<u64>,
    is_present: Vec<bool>,
    missing_count: usize,
    /// Over the first `hashed_count` chunks: what comes in order is not read back.
    hasher: blake3::Hasher,
    hashed_count: usize,
}

impl PartialFile {
    pub(super) fn create(
        tmp: Arc<dyn VolumeDirectory>,
        names: Arc<TempNames>,
        temp: String,
        spec: FileSpec,
        chunks: Arc<[Chunk]>,
    ) -> Result<Self, StageError> {
        let mut offsets = Vec::with_capacity(chunks.len());
        let mut end: u64 = 0;
        for chunk in &*chunks {
            offsets.push(end);
            end = end.saturating_add(u64::from(chunk.len));
        }
        if end != spec.len || chunks.iter().any(|chunk| chunk.len as usize > CHUNK_LEN_MAX) {
            return Err(StageError::WrongContent);
        }
        let file = tmp.create_file(temp.as_bytes())?;
        let is_present = vec![false; chunks.len()];
        let hasher = blake3::Hasher::new();
        let missing_count = chunks.len();
        Ok(Self { tmp, names, temp, file, spec, chunks, offsets, is_present, missing_count, hasher, hashed_count: 0 })
    }

    /// The places of the chunks that are not there yet.
    pub fn missing(&self) -> impl Iterator<Item = (usize, &Chunk)> {
        let all = self.chunks.iter().enumerate().zip(&self.is_present);
        all.filter(|(_, is_present)| !**is_present).map(|(missing, _)| missing)
    }

    /// The places of the chunks that are not there yet, with where each begins, in bytes.
    pub fn missing_places(&self) -> impl Iterator<Item = (usize, u64)> {
        let all = self.offsets.iter().copied().enumerate().zip(&self.is_present);
        all.filter(|(_, is_present)| !**is_present).map(|(missing, _)| missing)
    }

    /// Whether all chunks are there.
    pub const fn is_complete(&self) -> bool {
        self.missing_count == 0
    }

    /// Writes a chunk at its place. `id` is what `plaintext` was opened under, which proved that they belong together.
    /// A chunk that is there already is not written again.
    ///
    /// # Errors
    /// [`StageError::WrongChunk`] if the manifest names another at `index`; [`StageError::Volume`].
    pub fn write(&mut self, index: usize, id: &ChunkId, plaintext: &[u8]) -> Result<(), StageError> {
        let offset = match (self.chunks.get(index), self.offsets.get(index)) {
            (Some(chunk), Some(offset)) if chunk.id == *id && chunk.len as usize == plaintext.len() => *offset,
            _ => return Err(StageError::WrongChunk { index }),
        };
        if self.is_present.get(index) == Some(&false) {
            write_sparse(&*self.file, plaintext, offset)?;
            self.note(index, plaintext)?;
        }
        Ok(())
    }

    /// Copies a chunk from a file of this volume that should have it, and reads it back: `source` may have changed.
    /// Says whether it was that chunk; if not, it is still missing.
    ///
    /// # Errors
    /// [`StageError::WrongChunk`] if there is no such place; [`StageError::Volume`].
    pub fn copy(
        &mut self,
        index: usize,
        source: &dyn VolumeFile,
        source_offset: u64,
        keyring: &Keyring,
    ) -> Result<bool, StageError> {
        let (Some(chunk), Some(offset)) = (self.chunks.get(index).copied(), self.offsets.get(index).copied()) else {
            return Err(StageError::WrongChunk { index });
        };
        if self.is_present.get(index) == Some(&true) {
            return Ok(true);
        }
        // Read before anything is written, so that a wrong source costs nothing.
        let mut plaintext = vec![0; chunk.len as usize];
        if !read_exact(source, &mut plaintext, source_offset)? || !keyring.is_chunk(&chunk, &plaintext) {
            return Ok(false);
        }
        self.file.copy_from(source, source_offset, offset, u64::from(chunk.len))?;
        let end = offset.saturating_add(u64::from(chunk.len));
        if self.file.stat()?.size < end {
            self.file.set_len(end)?;
        }
        let mut copied = vec![0; plaintext.len()];
        if !read_exact(&*self.file, &mut copied, offset)? || copied != plaintext {
            // It changed between two reads: what was read first is right, and is written whole, zeros too.
            self.file.write_at(&plaintext, offset)?;
        }
        self.note(index, &plaintext)?;
        Ok(true)
    }

    /// Takes over whatever of an earlier file of the same chunks is right.
    pub(super) fn take_over(&mut self, left: &dyn VolumeFile, keyring: &Keyring) -> Result<(), StageError> {
        let len = left.stat()?.size;
        for index in 0..self.chunks.len() {
            let offset = self.offsets.get(index).copied().unwrap_or(len);
            // What lies behind the end was never written, or is a hole that costs nothing to have again.
            if offset < len {
                self.copy(index, left, offset, keyring)?;
            }
        }
        Ok(())
    }

    fn note(&mut self, index: usize, plaintext: &[u8]) -> Result<(), VolumeError> {
        if let Some(is_present) = self.is_present.get_mut(index)
            && !std::mem::replace(is_present, true)
        {
            self.missing_count -= 1;
        }
        if index == self.hashed_count {
            self.hasher.update(plaintext);
            self.hashed_count += 1;
            self.hash_what_follows()?;
        }
        Ok(())
    }

    /// Hashes what came before its turn, while the system still has it in memory.
    fn hash_what_follows(&mut self) -> Result<(), VolumeError> {
        while self.is_present.get(self.hashed_count) == Some(&true) {
            let (Some(chunk), Some(offset)) = (self.chunks.get(self.hashed_count), self.offsets.get(self.hashed_count))
            else {
                break;
            };
            let mut plaintext = vec![0; chunk.len as usize];
            // What is not yet as long as it will be ends in zeros that were left out.
            let len = read_up_to(&*self.file, &mut plaintext, *offset)?;
            debug_assert!(len <= plaintext.len());
            self.hasher.update(&plaintext);
            self.hashed_count += 1;
        }
        Ok(())
    }

    /// Checks the whole content, gives the file its time and mode, and the name of something complete.
    ///
    /// # Errors
    /// [`StageError::Incomplete`], and the file stays; [`StageError::WrongContent`], and it is removed;
    /// [`StageError::Volume`].
    pub fn finish(mut self, volume: &dyn Volume) -> Result<Staged, StageError> {
        if self.missing_count > 0 {
            return Err(StageError::Incomplete { count: self.missing_count });
        }
        self.file.set_len(self.spec.len)?;
        self.hash_what_follows()?;
        if ContentHash(*self.hasher.finalize().as_bytes()) != self.spec.hash {
            self.discard()?;
            return Err(StageError::WrongContent);
        }
        complete(&*self.file, &self.spec)?;
        let temp = self.names.next(PUT);
        let at = |name| At { directory: &*self.tmp, name };
        volume.rename_noreplace(at(self.temp.as_bytes()), at(temp.as_bytes()))?;
        let print = super::fingerprint(&self.file.stat()?);
        Ok(Staged { temp, kind: Kind::File, hash: self.spec.hash, print })
    }

    /// Gives the file up.
    ///
    /// # Errors
    /// The common ones of a volume.
    pub fn discard(self) -> Result<(), VolumeError> {
        self.tmp.remove_file(self.temp.as_bytes())
    }
}
