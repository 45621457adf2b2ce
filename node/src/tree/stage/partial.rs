//! A file whose chunks come one by one, in any order.

mod copying;

use std::sync::Arc;

use zerocloud_crdt::id::{ChunkId, ContentHash};
use zerocloud_crdt::limits::CHUNK_LEN_MAX;
use zerocloud_crdt::manifest::Chunk;
use zerocloud_crdt::register::Kind;

pub use self::copying::{ChunkSource, CopySource};
use super::super::serve::{read_exact, read_up_to};
use super::super::{Keyring, PUT, TempNames};
use super::left::Left;
use super::{FileSpec, StageError, Staged, Staging, complete, write_sparse};
use crate::volume::{At, Volume, VolumeDirectory, VolumeError, VolumeFile, VolumeWriter};

/// From this length on, in bytes, a file is brought to the disk while it comes.
const LET_GO_LEN: u64 = 64 << 20;
/// After how many bytes each time.
const LET_GO_STEP: u64 = 8 << 20;
/// How many bytes a disk may lag behind.
const LET_GO_LAG: u64 = 64 << 20;

/// A temporary file that is being filled. Dropping it leaves the file for [`Staging::resume`](super::Staging::resume).
pub struct PartialFile {
    tmp: Arc<dyn VolumeDirectory>,
    names: Arc<TempNames>,
    temp: String,
    left: Left,
    /// Whether the file has another name by now, or is gone.
    is_over: bool,
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
    /// Whether the whole is known to have the right hash, which the hasher then does not have.
    is_checked: bool,
    /// Up to where the system was told that it need not keep what was written.
    let_go_end: u64,
}

impl PartialFile {
    pub(super) fn create(
        staging: &Staging,
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
        let mut begun = Self::create_whole(staging, temp, spec)?;
        begun.is_present = vec![false; chunks.len()];
        begun.missing_count = chunks.len();
        (begun.chunks, begun.offsets) = (chunks, offsets);
        Ok(begun)
    }

    /// A file that is copied as a whole, if at all.
    pub(super) fn create_whole(staging: &Staging, temp: String, spec: FileSpec) -> Result<Self, StageError> {
        let Staging { tmp, names, left } = staging.clone();
        let file = tmp.create_file(temp.as_bytes())?;
        Ok(Self {
            tmp,
            names,
            temp,
            left,
            is_over: false,
            file,
            spec,
            chunks: Arc::default(),
            offsets: Vec::new(),
            is_present: Vec::new(),
            missing_count: 0,
            hasher: blake3::Hasher::new(),
            hashed_count: 0,
            is_checked: false,
            let_go_end: 0,
        })
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

    /// The file as far as it has come, to be read while it is written.
    pub fn reader(&self) -> Arc<dyn VolumeFile> {
        self.file.clone()
    }

    /// Of each chunk, whether it is there.
    pub fn is_present(&self) -> &[bool] {
        &self.is_present
    }

    /// Whether the chunk at a place is there.
    pub fn has(&self, index: usize) -> bool {
        self.is_present.get(index) == Some(&true)
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
        match self.chunks.get(index) {
            Some(chunk) if chunk.id == *id && chunk.len as usize == plaintext.len() => self.put(index, plaintext),
            _ => Err(StageError::WrongChunk { index }),
        }
    }

    /// Copies a chunk from a file of this volume that should have it. Says whether it was that chunk; if not, it is still
    /// missing.
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
        let Some(chunk) = self.chunks.get(index).copied() else { return Err(StageError::WrongChunk { index }) };
        if self.is_present.get(index) == Some(&true) {
            return Ok(true);
        }
        let mut plaintext = vec![0; chunk.len as usize];
        if !read_exact(source, &mut plaintext, source_offset)? || !keyring.is_chunk(&chunk, &plaintext) {
            return Ok(false);
        }
        self.put(index, &plaintext)?;
        Ok(true)
    }

    /// Writes a chunk that was checked.
    fn put(&mut self, index: usize, plaintext: &[u8]) -> Result<(), StageError> {
        if let (Some(offset), Some(false)) = (self.offsets.get(index), self.is_present.get(index)) {
            write_sparse(&*self.file, plaintext, *offset)?;
            self.note(index, plaintext)?;
        }
        Ok(())
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
            self.let_go(self.offsets.get(self.hashed_count).copied().unwrap_or(self.spec.len));
        }
        Ok(())
    }

    /// Lets the system bring a long file to the disk while the rest comes, and take its memory back: what the user works
    /// with is not pushed out by what arrives, and little is left to be flushed at the end. All up to `end` was hashed.
    fn let_go(&mut self, end: u64) {
        if self.spec.len >= LET_GO_LEN && end.saturating_sub(self.let_go_end) >= LET_GO_STEP {
            // Told again: what was dirty the first time is let go once it is written.
            let start = self.let_go_end.saturating_sub(LET_GO_LAG);
            self.file.let_go(start, end.saturating_sub(start));
            self.let_go_end = end;
        }
    }

    /// Hashes what came before its turn, while the system still has it in memory.
    fn hash_what_follows(&mut self) -> Result<(), VolumeError> {
        let mut buffer = Vec::new();
        while self.is_present.get(self.hashed_count) == Some(&true) {
            let (Some(chunk), Some(offset)) = (self.chunks.get(self.hashed_count), self.offsets.get(self.hashed_count))
            else {
                break;
            };
            let plaintext = space(&mut buffer, chunk.len as usize);
            let read_len = read_up_to(&*self.file, plaintext, *offset)?;
            // What is not yet as long as it will be ends in zeros that were left out.
            plaintext.get_mut(read_len..).unwrap_or_default().fill(0);
            self.hasher.update(plaintext);
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
        let is_checked = self.is_checked || zerocloud_crdt::mutated!(ReorderedManifest);
        if !is_checked && ContentHash(*self.hasher.finalize().as_bytes()) != self.spec.hash {
            self.discard()?;
            return Err(StageError::WrongContent);
        }
        complete(&*self.file, &self.spec)?;
        let temp = self.names.next(PUT);
        let at = |name| At { directory: &*self.tmp, name };
        volume.rename_noreplace(at(self.temp.as_bytes()), at(temp.as_bytes()))?;
        self.is_over = true;
        let print = super::fingerprint(&self.file.stat()?);
        Ok(Staged { temp, kind: Kind::File, hash: self.spec.hash, print })
    }

    /// Gives the file up.
    ///
    /// # Errors
    /// The common ones of a volume.
    pub fn discard(mut self) -> Result<(), VolumeError> {
        self.tmp.remove_file(self.temp.as_bytes())?;
        self.is_over = true;
        Ok(())
    }
}

/// The first `len` bytes of a buffer that is used again and grows if need be; what is in them is of no meaning.
fn space(buffer: &mut Vec<u8>, len: usize) -> &mut [u8] {
    if buffer.len() < len {
        buffer.resize(len, 0);
    }
    buffer.get_mut(..len).unwrap_or_default()
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        if !self.is_over {
            self.left.note(&self.temp);
        }
    }
}
