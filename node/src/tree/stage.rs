//! Files on their way: written under a temporary name, checked as a whole, ready to be put in their place.
//!
//! Nothing that is staged is in the user's tree. What is complete has a name that begins with `put-`, and nothing gets
//! such a name whose content hash was not found right. A file whose chunks are still being had begins with `get-` and
//! is found again after a restart.

mod left;
mod partial;

use std::sync::Arc;

use zerocloud_crdt::base::{BaseRow, Fingerprint};
use zerocloud_crdt::id::{ContentHash, FileId};
use zerocloud_crdt::manifest::Chunk;
use zerocloud_crdt::register::{FileTime, Kind};
use zerocloud_crdt::view::ViewEntry;

use self::left::Left;
pub use self::partial::{ChunkSource, CopySource, PartialFile};
use super::{GET, Keyring, PUT, TempNames, fingerprint, volume_time};
use crate::volume::{
    Control, Permissions, Volume, VolumeDirectory, VolumeError, VolumeErrorKind, VolumeFile, VolumeWriter,
};

/// Length of what is left out of a sparse file, in bytes: a block of nearly every file system.
const BLOCK_LEN: usize = 4096;

/// What a file is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileSpec {
    /// The item or virtual id.
    pub id: FileId,
    /// BLAKE3 of the content.
    pub hash: ContentHash,
    /// Length in bytes.
    pub len: u64,
    /// Time of last change.
    pub mtime: FileTime,
    /// Permission bits.
    pub permissions: Permissions,
}

impl FileSpec {
    /// What an entry of the view asks for, in place of `old` if base has something there.
    pub fn of_entry(entry: &ViewEntry, old: Option<&BaseRow>) -> Self {
        let executable = entry.executable;
        let permissions = match old {
            Some(old) if old.kind == Kind::File => Permissions::Like { mode: old.print.mode, executable },
            _ => Permissions::New { executable },
        };
        let mtime = entry.mtime.unwrap_or(FileTime { secs: 0, nanos: 0 });
        Self { id: entry.id, hash: entry.hash, len: entry.len, mtime, permissions }
    }
}

/// A file or link that is complete under a temporary name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Staged {
    /// The name in `tmp`.
    pub temp: String,
    /// What it is.
    pub kind: Kind,
    /// Hash of its content, which was checked.
    pub hash: ContentHash,
    /// Its state.
    pub print: Fingerprint,
}

/// Why a file could not be staged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StageError {
    /// The chunk is not the one that the manifest names at this place.
    #[error("chunk number {index} is not the one that the manifest names; it will be tried again")]
    WrongChunk {
        /// Its place, from 0.
        index: usize,
    },
    /// Chunks are missing.
    #[error("{count} chunks of the file are not there yet; it will be tried again")]
    Incomplete {
        /// How many.
        count: usize,
    },
    /// The chunks are those of the manifest, and the file is another than its entry says. It was removed.
    #[error(
        "the content differs from the hash that its entry names; save the file once more on the device that wrote it"
    )]
    WrongContent,
    /// The disk. If it is full, nothing of a whole file is left; a partial one stays until it is discarded.
    #[error(transparent)]
    Volume(#[from] VolumeError),
}

/// Where files are staged.
#[derive(Clone)]
pub struct Staging {
    tmp: Arc<dyn VolumeDirectory>,
    names: Arc<TempNames>,
    left: Left,
}

impl Staging {
    /// Staging on a volume. `names` is shared with the materialiser.
    ///
    /// # Errors
    /// Those of [`Volume::control`].
    pub fn new(volume: &dyn Volume, names: Arc<TempNames>) -> Result<Self, VolumeError> {
        Ok(Self { tmp: volume.control()?.tmp, names, left: Left::default() })
    }

    /// Staging in our own directories of a volume.
    pub(super) fn within(control: &Control, names: Arc<TempNames>) -> Self {
        Self { tmp: control.tmp.clone(), names, left: Left::default() }
    }

    /// Stages a file whose content is wholly at hand.
    ///
    /// # Errors
    /// [`StageError::WrongContent`] before anything is written; [`StageError::Volume`], and nothing is left then.
    pub fn stage_whole(&self, spec: &FileSpec, content: &[u8]) -> Result<Staged, StageError> {
        if content.len() as u64 != spec.len || ContentHash::of(content) != spec.hash {
            return Err(StageError::WrongContent);
        }
        let temp = self.names.next(PUT);
        let file = self.tmp.create_file(temp.as_bytes())?;
        let written = write_sparse(&*file, content, 0).and_then(|end| {
            if end < spec.len {
                file.set_len(spec.len)?;
            }
            complete(&*file, spec)
        });
        match written {
            Ok(print) => Ok(Staged { temp, kind: Kind::File, hash: spec.hash, print }),
            Err(error) => {
                drop(file);
                // The error that matters is the first; a name that stays is garbage at the next start.
                self.tmp.remove_file(temp.as_bytes()).ok();
                Err(error.into())
            }
        }
    }

    /// Stages a file whose content another file of this disk has, on stable storage.
    ///
    /// # Errors
    /// [`StageError::WrongContent`] if that has another by now; [`StageError::Volume`].
    pub(super) fn stage_copy(
        &self,
        volume: &dyn Volume,
        spec: FileSpec,
        source: Arc<dyn VolumeFile>,
    ) -> Result<Staged, StageError> {
        let source = CopySource::new(source)?;
        let temp = self.names.next(&get_prefix(&spec));
        let mut copy = PartialFile::create_whole(self, temp, spec)?;
        match copy.copy_whole(&source) {
            Ok(true) => {}
            Ok(false) => {
                copy.discard()?;
                return Err(StageError::WrongContent);
            }
            Err(error) => {
                // The error that matters is the first.
                copy.discard().ok();
                return Err(error);
            }
        }
        let staged = copy.finish(volume)?;
        self.tmp.open_file(staged.temp.as_bytes())?.sync()?;
        Ok(staged)
    }

    /// Stages a link, as it is: no target is looked at.
    ///
    /// # Errors
    /// Those of [`VolumeDirectory::create_symlink`].
    pub fn stage_symlink(&self, target: &[u8]) -> Result<Staged, StageError> {
        let temp = self.names.next(PUT);
        self.tmp.create_symlink(temp.as_bytes(), target)?;
        let print = fingerprint(&self.tmp.stat(temp.as_bytes())?);
        Ok(Staged { temp, kind: Kind::Symlink, hash: ContentHash::of(target), print })
    }

    /// Begins a file of these chunks, with nothing of it there.
    ///
    /// # Errors
    /// [`StageError::WrongContent`] if the chunks don't add up to the file's length; [`StageError::Volume`].
    pub fn begin(&self, spec: FileSpec, chunks: Arc<[Chunk]>) -> Result<PartialFile, StageError> {
        let temp = self.names.next(&get_prefix(&spec));
        PartialFile::create(self, temp, spec, chunks)
    }

    /// Begins a file of these chunks with what an earlier process left of it: what is there is read, and what is right
    /// is kept. As [`begin`](Self::begin) if nothing was left.
    ///
    /// # Errors
    /// As [`begin`](Self::begin). If the disk is full, what was left stays.
    pub fn resume(&self, spec: FileSpec, chunks: Arc<[Chunk]>, keyring: &Keyring) -> Result<PartialFile, StageError> {
        let prefix = get_prefix(&spec);
        let left = self.left.with_prefix(&*self.tmp, prefix.as_bytes())?;
        let mut partial = self.begin(spec, chunks)?;
        for name in &left {
            let taken = match self.tmp.open_file(name) {
                Err(error) if error.kind() == VolumeErrorKind::NotFound => Ok(()),
                Err(error) => Err(error.into()),
                Ok(file) => partial.take_over(&*file, keyring),
            };
            if let Err(error) = taken {
                partial.discard()?;
                return Err(error);
            }
        }
        for name in &left {
            self.remove(name)?;
            self.left.forget(name);
        }
        Ok(partial)
    }

    /// Removes what is left of files that were begun and are not complete. To be called while none is on its way.
    ///
    /// # Errors
    /// The common ones of a volume.
    pub fn discard_partial(&self) -> Result<(), VolumeError> {
        for entry in self.tmp.list()?.into_iter().filter(|entry| entry.name.starts_with(GET.as_bytes())) {
            self.remove(&entry.name)?;
            self.left.forget(&entry.name);
        }
        Ok(())
    }

    /// Removes what was staged and is not wanted any more.
    ///
    /// # Errors
    /// The common ones of a volume. What is not there is no error.
    pub fn discard(&self, staged: &Staged) -> Result<(), VolumeError> {
        self.remove(staged.temp.as_bytes())
    }

    /// Removes a file if it is there.
    fn remove(&self, name: &[u8]) -> Result<(), VolumeError> {
        match self.tmp.remove_file(name) {
            Err(error) if error.kind() != VolumeErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// What the names of a partial file begin with: file and content, so that it is found again.
fn get_prefix(spec: &FileSpec) -> String {
    let hash = spec.hash.to_string();
    format!("{GET}{}-{}-", spec.id, hash.get(..16).unwrap_or(&hash))
}

/// Writes bytes, but for whole blocks of zeros: the file must have nothing there yet. Returns where the last that was
/// written ends, or `offset`.
fn write_sparse(file: &dyn VolumeWriter, bytes: &[u8], offset: u64) -> Result<u64, VolumeError> {
    let block_len = BLOCK_LEN as u64;
    // Up to the first border of a block in the file, then block by block.
    let first = usize::try_from((block_len - offset % block_len) % block_len).unwrap_or(0).min(bytes.len());
    let (head, rest) = bytes.split_at(first);
    let mut run: Option<(usize, usize)> = None;
    let (mut at, mut written_end) = (0, 0);
    for block in std::iter::once(head).chain(rest.chunks(BLOCK_LEN)) {
        let end = at + block.len();
        if block.iter().any(|&byte| byte != 0) {
            run = Some((run.map_or(at, |(start, _)| start), end));
        } else if let Some((start, end)) = run.take() {
            write_run(file, bytes, offset, start, end)?;
            written_end = end;
        }
        at = end;
    }
    if let Some((start, end)) = run {
        write_run(file, bytes, offset, start, end)?;
        written_end = end;
    }
    Ok(offset.saturating_add(written_end as u64))
}

fn write_run(file: &dyn VolumeWriter, bytes: &[u8], offset: u64, start: usize, end: usize) -> Result<(), VolumeError> {
    let run = bytes.get(start..end).unwrap_or_default();
    file.write_at(run, offset.saturating_add(start as u64))
}

/// Gives a file that has its content mode and time. The time comes last: all else changes it.
fn complete(file: &dyn VolumeWriter, spec: &FileSpec) -> Result<Fingerprint, VolumeError> {
    file.set_permissions(spec.permissions)?;
    file.set_mtime(volume_time(spec.mtime))?;
    Ok(fingerprint(&file.stat()?))
}
