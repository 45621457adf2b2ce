//! Merging texts that were changed on two devices at the same time. What may be merged, what it makes and who does it is
//! decided in `zerocloud_crdt::merge`; here the three texts are had and the result is made durable.
//!
//! Both values are on this disk, as the view has them, before anything is done. The ancestor is what the texts that were
//! kept have of it (`texts`), the tree, the version store, or a member. The merged text goes to the version store, then
//! the operation into the log; the plan puts it in its place as it would any other, and what stood there becomes a
//! version. A crash in between leaves a version without a use, or a plan that is still to be done.

use std::collections::{BTreeMap, BTreeSet};

use zerocloud_crdt::base::{BaseRead, BaseRow, RowKey};
use zerocloud_crdt::id::{ActorId, ContentHash, FileId, OpId};
use zerocloud_crdt::limits::MERGE_TEXT_LEN_MAX;
use zerocloud_crdt::log::LogRead;
use zerocloud_crdt::merge::{Ancestor, Rivals, merge, rivals, text};
use zerocloud_crdt::plan::{Situation, is_settled};
use zerocloud_crdt::register::{FileContent, FileTime};
use zerocloud_crdt::scan::Seen;
use zerocloud_crdt::view::{View, ViewEntry};

use super::wanting::{NotBegun, Version};
use super::{Folder, FolderError};
use crate::answers::history::{HistoryError, content_op};
use crate::engine::fetch::JobId;
use crate::engine::found::{Found, FoundWith};
use crate::folder::NotStaged;
use crate::space::AppendError;
use crate::store::{IfFull, Snapshot, StoreError};
use crate::tree::Pool;
use crate::tree::scan::read_content;
use crate::tree::serve::{ChunkReader, Source, read_exact};
use crate::tree::stage::{FileSpec, StageError, Staged};
use crate::tree::versions::{self, UNTIL_IN_PLACE, VersionRow};
use crate::volume::{Permissions, VolumeFile};

/// Items that are looked at in one step.
const MERGE_COUNT: usize = 16;

/// What is to be merged.
#[derive(Debug, Default)]
pub(super) struct Merging {
    /// Items that show several values, all of them on disk, to be looked at.
    due: BTreeSet<FileId>,
    /// Whose ancestor is on its way, and what that is.
    fetching: BTreeMap<JobId, (FileId, ContentHash)>,
    /// Whose ancestor nobody who is connected has.
    starved: BTreeMap<FileId, ContentHash>,
}

impl Merging {
    /// Items whose values are on disk may be merged.
    pub(super) fn look_at(&mut self, items: impl IntoIterator<Item = FileId>) {
        self.due.extend(items);
    }

    /// A member's connection came: it may have what nobody had.
    pub(super) fn look_at_starved(&mut self) {
        self.due.extend(std::mem::take(&mut self.starved).into_keys());
    }

    /// A text was kept: it may be what nobody had.
    pub(super) fn look_at_starved_of(&mut self, kept: ContentHash) {
        let Self { due, starved, .. } = self;
        starved.retain(|item, of| {
            let is_had = *of == kept;
            due.extend(is_had.then_some(*item));
            !is_had
        });
    }

    /// Whether something is to be looked at now.
    pub(super) fn is_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// Whether nothing is to be looked at and no ancestor is on its way. While nobody can be asked, none is.
    pub(super) fn is_idle(&self, has_members: bool) -> bool {
        self.due.is_empty() && (self.fetching.is_empty() || !has_members)
    }

    /// Jobs that are on their way.
    pub(super) fn jobs(&self) -> impl Iterator<Item = JobId> {
        self.fetching.keys().copied()
    }

    /// A job is over; its item and what was to come, if it was one of an ancestor.
    fn end(&mut self, job: JobId) -> Option<(FileId, ContentHash)> {
        self.fetching.remove(&job)
    }
}

/// Two values whose bytes were read.
struct Pair {
    rivals: Rivals,
    /// The row of the one that won.
    row: (RowKey, BaseRow),
    winner: Vec<u8>,
    loser: Vec<u8>,
}

impl<P: Pool> Folder<P> {
    /// Merges what is due, a few at a time.
    pub(super) fn merge_what_is_due(&mut self) -> Result<(), FolderError> {
        for _ in 0..MERGE_COUNT {
            let Some(item) = self.merging.due.pop_first() else { break };
            self.merge_item(item)?;
        }
        Ok(())
    }

    fn merge_item(&mut self, item: FileId) -> Result<(), FolderError> {
        let snapshot = self.parts.store.snapshot()?;
        let Some(rivals) = rivals(&View::new(&snapshot), item)? else { return Ok(()) };
        if !self.is_own(&snapshot, rivals.merger())? {
            return Ok(());
        }
        let Some(pair) = self.read_pair(&snapshot, rivals)? else { return Ok(()) };
        let ancestor = match pair.rivals.ancestor(|op| content_op(&snapshot, &self.parts.secrets, item, op)) {
            Ok(Some(ancestor)) if ancestor.content.manifest.len <= MERGE_TEXT_LEN_MAX as u64 => ancestor,
            Ok(_) => return Ok(()),
            Err(HistoryError::Store(error)) => return Err(error.into()),
            Err(error) => {
                tracing::warn!(space = %self.space(), %error, "two changes of a text are not merged");
                return Ok(());
            }
        };
        let Some(bytes) = self.ancestor_bytes(&snapshot, item, &ancestor)? else { return Ok(()) };
        match merge(&bytes, &pair.winner, &pair.loser) {
            Ok(merged) => self.write_merged(&snapshot, pair, &ancestor.content, &merged),
            Err(reason) => {
                tracing::debug!(space = %self.space(), %item, %reason, "two changes of a text are not merged");
                Ok(())
            }
        }
    }

    /// Whether this device wrote an operation, in whichever of its logs.
    fn is_own(&self, snapshot: &Snapshot, op: OpId) -> Result<bool, StoreError> {
        let Some(maker) = snapshot.maker(op)? else { return Ok(false) };
        let (space, actor) = (self.space(), self.parts.actor);
        let own =
            LogRead::frontier(snapshot)?.iter().map(|(log, _)| log).find(|log| ActorId::of_log(space, *log) == actor);
        Ok(own.is_some_and(|own| own.author == maker.log.author))
    }

    /// Reads both values; `None` if one of them is not on disk as the view has it, or is no text.
    fn read_pair(&mut self, snapshot: &Snapshot, rivals: Rivals) -> Result<Option<Pair>, FolderError> {
        let mut reader = ChunkReader::new(&*self.volume)?;
        let Some((_, loser)) = self.read_settled(snapshot, &mut reader, &rivals.loser)? else { return Ok(None) };
        let Some((row, winner)) = self.read_settled(snapshot, &mut reader, &rivals.winner)? else { return Ok(None) };
        Ok(Some(Pair { rivals, row, winner, loser }))
    }

    #[expect(clippy::type_complexity, reason = "used twice, next to where it is made")]
    fn read_settled(
        &mut self,
        snapshot: &Snapshot,
        reader: &mut ChunkReader,
        entry: &ViewEntry,
    ) -> Result<Option<((RowKey, BaseRow), Vec<u8>)>, FolderError> {
        let Some(key) = snapshot.find(entry.id, entry.source)? else { return Ok(None) };
        let Some(row) = snapshot.row(&key)?.filter(|row| is_settled(entry, &key, row)) else { return Ok(None) };
        if self.is_left_alone(snapshot, &key, &row)? {
            return Ok(None);
        }
        let Some(file) = reader.open(snapshot, Source::Row(&key))? else { return Ok(None) };
        let bytes = read_text(&*file, row.len)?;
        let is_other_len = file.stat()?.size != row.len;
        if is_other_len || bytes.as_deref().map(ContentHash::of) != Some(row.hash) {
            // It was changed since the last scan, which must tell of it first.
            self.mark_dirty(entry.source)?;
            return Ok(None);
        }
        Ok(bytes.filter(|bytes| text(bytes).is_some()).map(|bytes| ((key, row), bytes)))
    }

    /// Whether a row is held, lost, asleep, or was refused by the disk.
    fn is_left_alone(&self, snapshot: &Snapshot, key: &RowKey, row: &BaseRow) -> Result<bool, FolderError> {
        self.in_situation(snapshot, |situation| situation.is_held(row.id) || situation.is_asleep(key, row))
    }

    /// The ancestor's bytes, if they are here; else they are asked for, or awaited.
    fn ancestor_bytes(
        &mut self,
        snapshot: &Snapshot,
        item: FileId,
        ancestor: &Ancestor,
    ) -> Result<Option<Vec<u8>>, FolderError> {
        let Ancestor { op, content } = ancestor;
        if let Some(kept) = snapshot.text(content.hash)?.filter(|kept| ContentHash::of(kept) == content.hash) {
            return Ok(Some(kept));
        }
        if self.merging.fetching.values().any(|(of, _)| *of == item) {
            return Ok(None);
        }
        let job = self.jobs.next_job();
        let permissions = Permissions::New { executable: false };
        let (hash, len, mtime) = (content.hash, content.manifest.len, content.mtime);
        let spec = FileSpec { id: item, hash, len, mtime, permissions };
        let mut reader = ChunkReader::new(&*self.volume)?;
        match self.bring(job, &Version { source: item, op: *op, content, spec }, snapshot, &mut reader) {
            Ok(Some(staged)) => return self.take_ancestor(&staged),
            Ok(None) if self.parts.supply.has_members() => drop(self.merging.fetching.insert(job, (item, hash))),
            Ok(None) => {
                self.parts.supply.remove(job);
                self.merging.starved.insert(item, hash);
            }
            Err(NotBegun::Page(page)) => {
                self.merging.fetching.insert(job, (item, hash));
                self.ask_for_page(job, item, *op, page);
            }
            Err(NotBegun::Folder(error)) => return Err(error),
            Err(NotBegun::Stage(error)) => self.not_had(&error.to_string()),
            Err(NotBegun::Damaged(reason)) => self.not_had(&reason),
            Err(NotBegun::Superseded) => {}
        }
        Ok(None)
    }

    fn not_had(&self, reason: &str) {
        tracing::warn!(space = %self.space(), reason, "what two changes of a text came from could not be had");
    }

    /// Reads what was staged of an ancestor, which is not to be put anywhere.
    fn take_ancestor(&self, staged: &Staged) -> Result<Option<Vec<u8>>, FolderError> {
        let bytes = read_text(&*self.volume.control()?.tmp.open_file(staged.temp.as_bytes())?, staged.print.len)?;
        self.staging.discard(staged)?;
        Ok(bytes)
    }

    /// An ancestor came, or will not, if the job was one's. It is kept, so that it is found when the item is looked at.
    pub(super) fn end_ancestor(
        &mut self,
        job: JobId,
        staged: Result<Staged, NotStaged>,
    ) -> Option<Result<Staged, NotStaged>> {
        let Some((item, hash)) = self.merging.end(job) else { return Some(staged) };
        match staged {
            Ok(staged) => {
                let kept = self.take_ancestor(&staged).and_then(|bytes| {
                    let bytes = bytes.unwrap_or_default();
                    let put =
                        |write: &mut crate::store::Write<'_>| write.put_text(staged.hash, &bytes, IfFull::TakeOldest);
                    Ok(self.parts.store.write::<_, StoreError>(put)?)
                });
                match kept {
                    Ok(()) => drop(self.merging.due.insert(item)),
                    Err(error) => self.not_had(&error.to_string()),
                }
            }
            Err(NotStaged::Missing(_)) => drop(self.merging.starved.insert(item, hash)),
            Err(NotStaged::Failed(error)) => self.not_had(&error.to_string()),
        }
        None
    }

    /// A page of an ancestor's list of chunks is here, if the job was one's: it is asked for again.
    pub(super) fn go_on_with_ancestor(&mut self, job: JobId) -> bool {
        let item = self.merging.end(job).map(|(item, _)| item);
        self.merging.due.extend(item);
        item.is_some()
    }

    /// Makes the merged text durable, then writes the operation.
    fn write_merged(
        &mut self,
        snapshot: &Snapshot,
        Pair { rivals, row, .. }: Pair,
        ancestor: &FileContent,
        merged: &[u8],
    ) -> Result<(), FolderError> {
        let wall_time = self.parts.clock.wall_time();
        let secs = wall_time.0.div_euclid(1_000_000_000);
        let nanos = u32::try_from(wall_time.0.rem_euclid(1_000_000_000)).unwrap_or(0);
        let (mtime, executable) = (FileTime { secs, nanos }, rivals.is_executable(ancestor));
        let (hash, len) = (ContentHash::of(merged), merged.len() as u64);
        let spec = FileSpec { id: rivals.item(), hash, len, mtime, permissions: Permissions::New { executable } };
        let staged = match self.staging.stage_whole(&spec, merged) {
            Ok(staged) => staged,
            Err(StageError::Volume(error)) if error.kind() != crate::volume::VolumeErrorKind::NoSpace => {
                return Err(error.into());
            }
            Err(error) => {
                tracing::warn!(space = %self.space(), %error, "a merged text can't be written");
                return Ok(());
            }
        };
        let control = self.volume.control()?;
        let file = control.tmp.open_file(staged.temp.as_bytes())?;
        let previous = super::scanning::previous(snapshot, &row.1);
        let read = match read_content(&*file, previous.as_ref(), &self.parts.keyring) {
            Ok(read) => read,
            Err(error) => {
                tracing::warn!(space = %self.space(), %error, "a merged text can't be read");
                return Ok(self.staging.discard(&staged)?);
            }
        };
        let contents = super::scanning::contents_of(&read.seen, read.contents);
        let Seen::File { hash, manifest } = read.seen else { return Ok(()) };
        file.sync()?;
        control.tmp.sync()?;
        let (key, row) = row;
        let row = BaseRow { hash, len, print: staged.print, ..row };
        let origin = Some((key, row));
        let version = VersionRow { stored: staged.temp, origin, print: staged.print, kept_at_ms: UNTIL_IN_PLACE };
        self.parts.store.write::<_, StoreError>(|write| write.put_version(&version))?;
        versions::keep(&*self.volume, &control, &version.stored)?;
        self.ledger.refresh()?;
        tracing::info!(space = %self.space(), item = %rivals.item(), "two changes of a text are merged");
        let content = FileContent { mtime, executable, hash, manifest };
        let found = Found::Merged { rivals: Box::new(rivals), content };
        match self.parts.log.append(vec![FoundWith { found, contents }]) {
            // Both values stay as they are, which is no reason to stop.
            Err(AppendError::Failed(reason)) => {
                tracing::warn!(space = %self.space(), reason, "a merge can't be written");
                Ok(())
            }
            appended => Ok(appended.map(drop)?),
        }
    }
}

/// The first `len` bytes of a file; `None` if it has fewer, or they are above the bound.
pub(super) fn read_text(file: &dyn VolumeFile, len: u64) -> Result<Option<Vec<u8>>, FolderError> {
    let Some(len) = usize::try_from(len).ok().filter(|len| *len <= MERGE_TEXT_LEN_MAX) else { return Ok(None) };
    let mut bytes = vec![0; len];
    Ok(read_exact(file, &mut bytes, 0)?.then_some(bytes))
}
