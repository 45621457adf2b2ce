//! Keeping texts as they are now: the next edit takes these bytes from the disk, and if another device edits the same
//! text at the same time, both came from them.
//!
//! What is kept is copied while nothing else is to be done. Whatever fails makes a conflict copy where there could have
//! been a merge, so nothing here is an error.

use std::collections::VecDeque;
use std::time::Duration;

use zerocloud_crdt::base::{BaseRead, RowKey};
use zerocloud_crdt::id::{ContentHash, FileId};
use zerocloud_crdt::merge::text;
use zerocloud_crdt::name::Name;
use zerocloud_crdt::plan::Action;
use zerocloud_crdt::register::Kind;
use zerocloud_crdt::scan::{Parent, Seen, Sighting};

use super::merging::read_text;
use super::{Folder, FolderError};
use crate::clock::Moment;
use crate::store::{IfFull, Snapshot, StoreError};
use crate::tree::Pool;
use crate::tree::serve::{ChunkReader, Source};
use crate::volume::VolumeFile;

/// A text above this length, in bytes, is not kept: what people write by hand is shorter, and many are kept.
const KEPT_LEN_MAX: u64 = 256 << 10;
/// Files that wait to be looked at. Of a large tree that comes at once not all are.
const WAITING_COUNT_MAX: usize = 10_000;
/// Files of a space, above which what was not kept when it came is not looked for.
const KNOWN_COUNT_MAX: u64 = 20_000;
/// Files that are looked at in one transaction.
const KEEP_COUNT: usize = 256;
/// Their lengths together, in bytes, above which no further one is read: all are in memory at once.
const KEEP_LEN: u64 = 2 << 20;
/// How long a file waits at least: what comes together is kept together.
const KEEP_DELAY: Duration = Duration::from_secs(1);
/// The first bytes of a file, by which most of what is no text is known.
const HEAD_LEN: u64 = 4 << 10;

/// A file that may be a text to be kept.
#[derive(Clone, Debug)]
struct Candidate {
    key: RowKey,
    hash: ContentHash,
    len: u64,
    if_full: IfFull,
}

/// Texts that are to be kept.
#[derive(Debug, Default)]
pub(super) struct Texts {
    waiting: VecDeque<Candidate>,
    /// When they are due; `None` if none waits.
    due: Option<Moment>,
}

impl Texts {
    /// How many wait to be kept.
    pub(super) fn count(&self) -> usize {
        self.waiting.len()
    }

    /// When something is to be kept, if something is.
    pub(super) const fn due(&self) -> Option<Moment> {
        self.due
    }

    fn add(&mut self, now: Moment, candidate: Candidate) {
        if candidate.len == 0 || candidate.len > KEPT_LEN_MAX {
            return;
        }
        if self.waiting.len() >= WAITING_COUNT_MAX {
            if candidate.if_full == IfFull::Leave {
                return;
            }
            self.waiting.pop_front();
        }
        self.waiting.push_back(candidate);
        self.due = self.due.or(Some(now + KEEP_DELAY));
    }
}

/// Files that a scan saw, and of each whether it is an edit.
pub(super) type SeenFiles = Vec<(Parent, Name, ContentHash, u64, IfFull)>;

/// The files among what a scan saw.
pub(super) fn files_in(sightings: &[Sighting]) -> SeenFiles {
    let file = |sighting: &Sighting| {
        let Seen::File { hash, manifest } = &sighting.seen else { return None };
        let if_full = if sighting.from.is_some() { IfFull::TakeOldest } else { IfFull::Leave };
        Some((sighting.parent, sighting.local.clone(), *hash, manifest.len, if_full))
    };
    sightings.iter().filter_map(file).collect()
}

impl<P: Pool> Folder<P> {
    /// Files were scanned; `ids` are those of all that was sighted.
    pub(super) fn keep_seen(&mut self, files: SeenFiles, ids: &[FileId]) {
        let now = self.now();
        for (parent, local, hash, len, if_full) in files {
            let parent = match parent {
                Parent::Known(parent) => Some(parent),
                Parent::New(of) => ids.get(of).copied(),
            };
            if let Some(parent) = parent.filter(|_| self.parts.merges) {
                self.texts.add(now, Candidate { key: RowKey { parent, local }, hash, len, if_full });
            }
        }
    }

    /// The tree was walked for the first time since the folder was opened: what an earlier process did not come to keep,
    /// or took over from another folder, is kept if there is room. Of a space with very many files nothing is.
    pub(super) fn keep_known(&mut self) -> Result<(), FolderError> {
        let snapshot = self.parts.store.snapshot()?;
        let is_small = snapshot.base_counts().files <= KNOWN_COUNT_MAX;
        if !self.parts.merges || !is_small || !snapshot.has_room_for_text(KEPT_LEN_MAX)? {
            return Ok(());
        }
        let now = self.now();
        let mut directories = vec![FileId::ROOT];
        while let Some(parent) = directories.pop() {
            for (local, row) in snapshot.rows(parent)? {
                match row.kind {
                    Kind::Directory => directories.push(row.id),
                    Kind::File if !snapshot.has_text(row.hash)? => {
                        let key = RowKey { parent, local };
                        self.texts.add(now, Candidate { key, hash: row.hash, len: row.len, if_full: IfFull::Leave });
                    }
                    Kind::File | Kind::Symlink => {}
                }
            }
        }
        Ok(())
    }

    /// An action was done.
    pub(super) fn keep_written(&mut self, action: &Action) {
        let (key, entry, if_full) = match action {
            Action::Create { key, entry } => (key, entry, IfFull::Leave),
            Action::Replace { key, entry, .. } => (key, entry, IfFull::TakeOldest),
            _ => return,
        };
        if self.parts.merges {
            let now = self.now();
            self.texts.add(now, Candidate { key: key.clone(), hash: entry.hash, len: entry.len, if_full });
        }
    }

    /// Keeps some of the texts that wait, if they are due.
    pub(super) fn keep_texts(&mut self, now: Moment) -> Result<(), FolderError> {
        if self.texts.due.is_none_or(|due| now < due) {
            return Ok(());
        }
        let snapshot = self.parts.store.snapshot()?;
        let mut reader = ChunkReader::new(&*self.volume)?;
        let (mut kept, mut len) = (Vec::new(), 0);
        for _ in 0..KEEP_COUNT {
            let Some(candidate) = self.texts.waiting.pop_front() else { break };
            let has_room = candidate.if_full == IfFull::TakeOldest || snapshot.has_room_for_text(candidate.len)?;
            if has_room && let Some(bytes) = text_of(&snapshot, &mut reader, &candidate)? {
                len += candidate.len;
                kept.push((candidate, bytes));
            }
            if len >= KEEP_LEN {
                break;
            }
        }
        self.texts.due = (!self.texts.waiting.is_empty()).then_some(now);
        if !kept.is_empty() {
            self.parts.store.write::<_, StoreError>(|write| {
                kept.iter().try_for_each(|(of, bytes)| write.put_text(of.hash, bytes, of.if_full))
            })?;
            kept.iter().for_each(|(of, _)| self.merging.look_at_starved_of(of.hash));
        }
        Ok(())
    }

    /// The folder is closed: keeps what waits, if that is not so much that the end would have to wait for it.
    pub(super) fn keep_last_texts(&mut self) {
        let Some(due) = self.texts.due else { return };
        if let Err(error) = self.keep_texts(due) {
            tracing::warn!(space = %self.space(), %error, "texts could not be kept for merges");
        }
    }
}

/// The bytes of a candidate, if it is a text and still what it was.
fn text_of(
    snapshot: &Snapshot,
    reader: &mut ChunkReader,
    candidate: &Candidate,
) -> Result<Option<Vec<u8>>, FolderError> {
    if snapshot.has_text(candidate.hash)? {
        return Ok(None);
    }
    let Some(file) = reader.open(snapshot, Source::Row(&candidate.key))? else { return Ok(None) };
    if !begins_as_text(&*file, candidate.len) {
        return Ok(None);
    }
    // A file that can't be read now is no reason to stop.
    let bytes = read_text(&*file, candidate.len).unwrap_or_default();
    Ok(bytes.filter(|bytes| ContentHash::of(bytes) == candidate.hash && text(bytes).is_some()))
}

fn begins_as_text(file: &dyn VolumeFile, len: u64) -> bool {
    let head = read_text(file, len.min(HEAD_LEN)).unwrap_or_default();
    head.is_some_and(|head| !head.contains(&0))
}
