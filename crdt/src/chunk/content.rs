//! What one pass over a file's bytes yields, and the check of bytes against it.

use super::{Chunker, Gear};
use crate::{
    id::{ChunkId, ContentHash},
    manifest::{Chunk, Profile},
};

/// What a scan learns of a file's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// Plain BLAKE3 of all the bytes.
    pub hash: ContentHash,
    /// How many they are.
    pub len: u64,
    /// The chunks, in order; none if the file is empty.
    pub chunks: Vec<Chunk>,
}

impl Content {
    /// Cuts, names and hashes content that is wholly at hand (a small file): as [`Chunker`] and [`Namer`] do, without a
    /// copy.
    pub fn of(profile: &Profile, gear: &Gear, mut name: impl FnMut(&[u8]) -> Chunk, content: &[u8]) -> Self {
        let mut chunks = Vec::new();
        Chunker::cut_whole(profile.class, gear, content, |chunk| chunks.push(name(chunk)));
        Self { hash: ContentHash::of(content), len: content.len() as u64, chunks }
    }
}

/// Names the chunks of a file that is read piece by piece, after a [`Chunker`] which cut the same pieces: it may run
/// behind, on a thread of its own. The content hash is made by whoever reads: in long runs, which BLAKE3 is fastest on.
#[derive(Debug)]
pub struct Namer<N> {
    name: N,
    /// Bytes behind `start` of which it is not known yet where they are cut: fewer than the longest chunk has.
    open: Vec<u8>,
    start: usize,
    chunks: Vec<Chunk>,
}

impl<N: FnMut(&[u8]) -> Chunk> Namer<N> {
    /// For one file. `name` says which chunk a plaintext is, by the keys of the epoch that is written under or of one under
    /// which it is known.
    pub const fn new(name: N) -> Self {
        Self { name, open: Vec::new(), start: 0, chunks: Vec::new() }
    }

    /// Takes the next bytes of the file, and the lengths of the chunks that the chunker handed over when it took them.
    pub fn update(&mut self, input: &[u8], lens: &[usize]) {
        let mut input = input;
        for len in lens {
            let (_, open) = self.open.split_at(self.start);
            let (near, rest) = input.split_at(len.saturating_sub(open.len()).min(input.len()));
            let chunk = if open.is_empty() {
                near
            } else {
                self.open.extend_from_slice(near);
                let start = self.start;
                self.start = self.open.len().min(start + len);
                self.open.get(start..self.start).unwrap_or_default()
            };
            self.chunks.push((self.name)(chunk));
            input = rest;
        }
        self.open.drain(..self.start);
        self.start = 0;
        self.open.extend_from_slice(input);
    }

    /// Ends the file, with the lengths of the chunks that remained; gives all its chunks, in order.
    pub fn finish(mut self, lens: &[usize]) -> Vec<Chunk> {
        self.update(&[], lens);
        self.chunks
    }
}

/// Why bytes are not the content that a manifest and a content hash name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ContentError {
    /// Another chunk stands at this place of the manifest, or none does.
    #[error("chunk number {index} is not the one that the manifest names")]
    NotTheNextChunk {
        /// The place in the file, from 0.
        index: usize,
    },
    /// The end came too early.
    #[error("only {found} of {expected} chunks are there")]
    Incomplete {
        /// Chunks accepted.
        found: usize,
        /// Chunks of the manifest.
        expected: usize,
    },
    /// The chunks are those of the manifest, and the file is another than its entry says.
    #[error("the content differs from the hash that its entry names")]
    WrongHash,
}

/// Checks a file's chunks, as they are written in order, against its manifest and its content hash.
///
/// Each chunk has been opened (see [`crate::seal::Opener`]), so its bytes fit its id; here its place in the file is
/// checked, and the whole. Nothing may be put in a user's tree before [`finish`](Self::finish) has said yes.
#[derive(Debug)]
pub struct ContentCheck<'m> {
    expected: &'m [Chunk],
    index: usize,
    hash: ContentHash,
    hasher: blake3::Hasher,
}

impl<'m> ContentCheck<'m> {
    /// A check of the file with these chunks and this hash.
    pub fn new(expected: &'m [Chunk], hash: ContentHash) -> Self {
        Self { expected, index: 0, hash, hasher: blake3::Hasher::new() }
    }

    /// Takes the next chunk: the id that it was opened under and its bytes.
    ///
    /// # Errors
    /// [`ContentError::NotTheNextChunk`]; the check then stays where it was.
    pub fn accept(&mut self, id: &ChunkId, plaintext: &[u8]) -> Result<(), ContentError> {
        match self.expected.get(self.index) {
            Some(next) if next.id == *id && next.len as usize == plaintext.len() => {
                self.hasher.update(plaintext);
                self.index += 1;
                Ok(())
            }
            _ => Err(ContentError::NotTheNextChunk { index: self.index }),
        }
    }

    /// Says whether the whole is what it should be.
    ///
    /// # Errors
    /// [`ContentError::Incomplete`] and [`ContentError::WrongHash`].
    pub fn finish(self) -> Result<(), ContentError> {
        if self.index < self.expected.len() {
            return Err(ContentError::Incomplete { found: self.index, expected: self.expected.len() });
        }
        if ContentHash(*self.hasher.finalize().as_bytes()) != self.hash {
            return Err(ContentError::WrongHash);
        }
        Ok(())
    }
}
