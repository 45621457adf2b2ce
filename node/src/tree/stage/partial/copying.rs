//! Copying from files of the same disk what they have of a file.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;

use zerocloud_crdt::id::ContentHash;
use zerocloud_crdt::manifest::Chunk;

use super::super::super::Keyring;
use super::super::super::reading::{read_content_hash, read_hashed};
use super::super::super::serve::read_up_to;
use super::super::{StageError, write_sparse};
use super::{LET_GO_LEN, PartialFile, space};
use crate::volume::{VolumeError, VolumeFile};

/// How many chunks are read before the first of them is written: another thread checks them meanwhile.
const AHEAD_COUNT: usize = 4;
/// At how many places it is looked whether a file is in memory.
const PROBE_COUNT: u64 = 16;
/// What is let go of before what was read, in bytes: the system lets go of whole pages, and of this one not before.
const PAGE_LEN: u64 = 4096;

/// A file of this volume of which something is copied.
#[derive(Clone)]
pub struct CopySource {
    file: Arc<dyn VolumeFile>,
    is_let_go: bool,
}

/// Where a chunk's bytes may lie: a file, and from which byte of it on.
pub type ChunkSource = (CopySource, u64);

/// A chunk that was read: the buffer, and how much of it counts.
type Read = (Vec<u8>, usize);

impl CopySource {
    /// To be made before anything of the file is read.
    ///
    /// # Errors
    /// The common ones of a volume.
    pub fn new(file: Arc<dyn VolumeFile>) -> Result<Self, VolumeError> {
        let len = file.stat()?.size;
        // What the system has in memory may be of use to others, and stays; some of a file is in it for long.
        let probes = (0..PROBE_COUNT).map(|probe| len / PROBE_COUNT * probe);
        let is_let_go =
            len >= LET_GO_LEN && probes.filter(|at| file.is_in_memory(*at)).count() < PROBE_COUNT as usize / 2;
        Ok(Self { file, is_let_go })
    }

    /// A part was read. Memory that is used again at once costs less than new memory.
    fn has_read(&self, offset: u64, len: u64) {
        if self.is_let_go {
            self.file.let_go(offset.saturating_sub(PAGE_LEN), len.saturating_add(PAGE_LEN));
        }
    }
}

impl PartialFile {
    /// Copies the whole content from a file of this volume that should have it, while nothing is there yet. Says whether
    /// it had: if not, everything is still missing.
    ///
    /// # Errors
    /// [`StageError::Volume`].
    pub fn copy_whole(&mut self, source: &CopySource) -> Result<bool, StageError> {
        if self.missing_count < self.chunks.len() || source.file.stat()?.size != self.spec.len {
            return Ok(false);
        }
        let is_same = if self.file.share(&*source.file)? {
            read_content_hash(&*self.file)? == self.spec.hash
        } else {
            self.copy_pieces(source)? == self.spec.hash
        };
        if is_same {
            self.is_present.fill(true);
            self.missing_count = 0;
            self.hashed_count = self.chunks.len();
            self.is_checked = true;
        } else {
            // What is written to it leaves out zeros.
            self.file.set_len(0)?;
            self.let_go_end = 0;
        }
        Ok(is_same)
    }

    /// Copies all of a file, and gives the hash of what was copied.
    fn copy_pieces(&mut self, source: &CopySource) -> Result<ContentHash, StageError> {
        let (len, mut end) = (self.spec.len, 0);
        let write = |piece: &[u8]| {
            let (start, len) = (end, piece.len() as u64);
            end += len;
            write_sparse(&*self.file, piece, start)?;
            self.let_go(end);
            source.has_read(start, len);
            Ok::<_, VolumeError>(())
        };
        let (hash, _) = read_hashed(&*source.file, len, write, |_, ()| ())?;
        Ok(hash)
    }

    /// Copies chunks, each from the first of its sources that has it; what none has is still missing.
    ///
    /// # Errors
    /// As [`copy`](Self::copy).
    pub fn copy_all(&mut self, wanted: &[(usize, Vec<ChunkSource>)], keyring: &Keyring) -> Result<(), StageError> {
        if wanted.len() > AHEAD_COUNT {
            let copied = thread::scope(|scope| {
                // What is read comes back in its order, so that the volume is asked for the same at the same time whatever
                // the threads' turns are.
                let (to_check, read) = mpsc::sync_channel::<(Chunk, Read)>(AHEAD_COUNT);
                let (to_write, checked) = mpsc::sync_channel(AHEAD_COUNT);
                let check = move || {
                    for (chunk, (buffer, len)) in read {
                        let is_it = buffer.get(..len).is_some_and(|plaintext| keyring.is_chunk(&chunk, plaintext));
                        if to_write.send((is_it, (buffer, len))).is_err() {
                            break;
                        }
                    }
                };
                // Without more threads it takes longer.
                thread::Builder::new().name("check".into()).spawn_scoped(scope, check).ok()?;
                Some(self.copy_ahead(wanted, keyring, to_check, &checked))
            });
            if let Some(copied) = copied {
                return copied;
            }
        }
        wanted.iter().try_for_each(|(index, sources)| self.copy_from(*index, sources, keyring))
    }

    fn copy_ahead(
        &mut self,
        wanted: &[(usize, Vec<ChunkSource>)],
        keyring: &Keyring,
        to_check: SyncSender<(Chunk, Read)>,
        checked: &Receiver<(bool, Read)>,
    ) -> Result<(), StageError> {
        let (mut spare, mut ahead, mut wanted) = (Vec::new(), VecDeque::new(), wanted.iter());
        loop {
            while ahead.len() < AHEAD_COUNT
                && let Some((index, sources)) = wanted.next()
            {
                let Some(chunk) = self.chunks.get(*index) else { return Err(StageError::WrongChunk { index: *index }) };
                let Some((source, offset)) = sources.first() else { continue };
                let mut buffer = spare.pop().unwrap_or_default();
                let len = read_up_to(&*source.file, space(&mut buffer, chunk.len as usize), *offset)?;
                source.has_read(*offset, len as u64);
                if to_check.send((*chunk, (buffer, len))).is_err() {
                    return Ok(());
                }
                ahead.push_back((*index, sources));
            }
            let Some((index, sources)) = ahead.pop_front() else { return Ok(()) };
            let Ok((is_it, (buffer, len))) = checked.recv() else { return Ok(()) };
            match (buffer.get(..len), sources.split_first()) {
                (Some(plaintext), _) if is_it => self.put(index, plaintext)?,
                (_, Some((_, others))) => self.copy_from(index, others, keyring)?,
                _ => {}
            }
            spare.push(buffer);
        }
    }

    fn copy_from(&mut self, index: usize, sources: &[ChunkSource], keyring: &Keyring) -> Result<(), StageError> {
        for (source, offset) in sources {
            if self.copy(index, &*source.file, *offset, keyring)? {
                break;
            }
        }
        Ok(())
    }
}
