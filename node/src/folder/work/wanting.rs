//! Having bytes brought: from this disk where they are, from members where not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use zerocloud_crdt::base::BaseRead;
use zerocloud_crdt::id::{ChunkId, ContentHash, DeviceId, EpochId, FileId, OpId};
use zerocloud_crdt::index::IndexRead;
use zerocloud_crdt::manifest::{Chunk, Manifest, PageAddress, ReadManifestError};
use zerocloud_crdt::register::{Content, FileContent};
use zerocloud_crdt::view::ViewEntry;
use zerocloud_crdt::wire::{What, Whereabouts};

use super::{Folder, FolderError};
use crate::engine::fetch::{JobId, Want};
use crate::fetcher::Receiver;
use crate::folder::arriving::{Arrivals, Offer};
use crate::folder::{Message, NotStaged};
use crate::store::{ChunkPlace, Snapshot, StoreError};
use crate::tree::Pool;
use crate::tree::serve::{ChunkReader, Source};
use crate::tree::stage::{ChunkSource, CopySource, FileSpec, PartialFile, StageError, Staged, Staging};
use crate::volume::{Volume, VolumeError, VolumeErrorKind, VolumeFile};

/// Why a job can't be begun.
pub(super) enum NotBegun {
    /// The index has this version no more: the next plan knows better.
    Superseded,
    /// A page of its manifest is asked for first.
    Page(PageAddress),
    /// What a member's program wrote makes no sense.
    Damaged(String),
    Stage(StageError),
    Folder(FolderError),
}

impl From<StoreError> for NotBegun {
    fn from(error: StoreError) -> Self {
        Self::Folder(error.into())
    }
}

impl From<FolderError> for NotBegun {
    fn from(error: FolderError) -> Self {
        Self::Folder(error)
    }
}

impl From<StageError> for NotBegun {
    fn from(error: StageError) -> Self {
        Self::Stage(error)
    }
}

impl<P: Pool> Folder<P> {
    /// Begins to have files brought, as many as may be on their way.
    pub(super) fn want_more(&mut self) -> Result<(), FolderError> {
        self.parts.arrivals.retain(|id, hash| self.jobs.wanted(id).is_some_and(|entry| entry.hash == hash));
        let mut reader = None;
        while let Some((job, entry)) = self.jobs.begin() {
            if reader.is_none() {
                reader = Some(ChunkReader::new(&*self.volume)?);
            }
            if let Some(reader) = &mut reader {
                self.begin_job(job, &entry, reader)?;
            }
        }
        self.keep_lists()
    }

    /// Notes where the chunks of what was begun will lie, in one write: each is a flush of the disk.
    fn keep_lists(&mut self) -> Result<(), FolderError> {
        let lists = std::mem::take(&mut self.lists);
        if lists.is_empty() {
            return Ok(());
        }
        Ok(self.parts.store.write::<_, StoreError>(|write| {
            lists.iter().try_for_each(|(content, chunks)| write.put_chunk_list(*content, chunks))
        })?)
    }

    fn begin_job(&mut self, job: JobId, entry: &ViewEntry, reader: &mut ChunkReader) -> Result<(), FolderError> {
        match self.bring_entry(job, entry, reader) {
            Ok(None) => {
                if self.is_alone() {
                    self.parts.supply.remove(job);
                    self.handle_staged(job, Err(NotStaged::Missing(BTreeSet::new())));
                }
            }
            Ok(Some(staged)) => {
                self.jobs.end(job);
                self.ready.put_off(entry.source);
                self.jobs.put_staged(entry.clone(), staged);
            }
            Err(NotBegun::Superseded) => {
                self.jobs.end(job);
                self.ready.insert(entry.source);
            }
            Err(NotBegun::Page(page)) => {
                if let Some(op) = entry.content_op() {
                    self.ask_for_page(job, entry.source, op, page);
                }
            }
            Err(NotBegun::Stage(error)) => {
                self.jobs.end(job);
                self.not_staged(entry, &error);
            }
            Err(NotBegun::Damaged(reason)) => {
                tracing::warn!(space = %self.space(), reason, "a version that a member wrote can't be read");
                self.jobs.end(job);
                self.not_staged(entry, &StageError::WrongContent);
            }
            Err(NotBegun::Folder(error)) => return Err(error),
        }
        Ok(())
    }

    /// The file that an entry of the view asks for, if all of it is here.
    fn bring_entry(
        &mut self,
        job: JobId,
        entry: &ViewEntry,
        reader: &mut ChunkReader,
    ) -> Result<Option<Staged>, NotBegun> {
        let snapshot = self.parts.store.snapshot()?;
        let op = entry.content_op().ok_or(NotBegun::Superseded)?;
        let item = snapshot.item(entry.source)?.ok_or(NotBegun::Superseded)?;
        let Some(Content::File(content)) = item.content.get(&op) else { return Err(NotBegun::Superseded) };
        let old = match snapshot.find(entry.id, entry.source)? {
            Some(key) => snapshot.row(&key)?,
            None => None,
        };
        let spec = FileSpec::of_entry(entry, old.as_ref());
        self.bring(job, &Version { source: entry.source, op, content, spec }, &snapshot, reader)
    }

    /// Takes what is on this disk of a version and asks for the rest. The file, if all of it was here.
    pub(super) fn bring(
        &mut self,
        job: JobId,
        version: &Version<'_>,
        snapshot: &Snapshot,
        reader: &mut ChunkReader,
    ) -> Result<Option<Staged>, NotBegun> {
        let Version { spec, content, .. } = *version;
        let chunks: Arc<[Chunk]> = chunks_of(snapshot, &content.manifest)?.into();
        if chunks.is_empty() {
            return Ok(Some(self.staging.stage_whole(&spec, &[])?));
        }
        if let [chunk] = *chunks {
            if let Some(plaintext) = self.read_here(snapshot, reader, content.hash, &chunk)? {
                return Ok(Some(self.staging.stage_whole(&spec, &plaintext)?));
            }
            let wants = vec![version.want(0, 0, &chunk)];
            self.check_room(&wants)?;
            let receiver = Whole { job, spec, staging: self.staging.clone(), inbox: self.inbox.clone() };
            self.parts.supply.add(job, wants, Arc::new(receiver));
            return Ok(None);
        }
        // Where its chunks will lie: the next version is put together from them.
        if snapshot.chunk_list(content.hash)?.is_none() {
            self.lists.push((content.hash, chunks.clone()));
        }
        let mut partial = self.staging.resume(spec, chunks.clone(), &self.parts.keyring)?;
        self.copy_here(snapshot, reader, content.hash, &mut partial)?;
        let mut places: BTreeMap<(EpochId, ChunkId), Vec<usize>> = BTreeMap::new();
        for (at, chunk) in partial.missing() {
            places.entry((chunk.epoch, chunk.id)).or_default().push(at);
        }
        if places.is_empty() {
            return Ok(Some(partial.finish(&*self.volume)?));
        }
        let mut wants = Vec::with_capacity(places.len());
        let mut offset = 0;
        for (at, chunk) in chunks.iter().enumerate() {
            if places.get(&(chunk.epoch, chunk.id)).and_then(|places| places.first()) == Some(&at) {
                wants.push(version.want(at as u64, offset, chunk));
            }
            offset += u64::from(chunk.len);
        }
        self.check_room(&wants)?;
        let arrivals = self.parts.arrivals.clone();
        let offer = arrivals.offer(spec.id, content.hash, partial.reader(), partial.is_present());
        let (partial, volume) = (Mutex::new(Some((partial, offer))), self.volume.clone());
        let receiver = Parts { job, partial, places, volume, arrivals, inbox: self.inbox.clone() };
        self.parts.supply.add(job, wants, Arc::new(receiver));
        Ok(None)
    }

    /// What the disk has no room for is not asked for: it would come again and again, each time for nothing.
    fn check_room(&self, wants: &[Want]) -> Result<(), StageError> {
        let len: u64 = wants.iter().map(|want| u64::from(want.at.len)).sum();
        if self.volume.free_space()?.bytes < len {
            return Err(VolumeError::new(VolumeErrorKind::NoSpace, "write", b"").into());
        }
        Ok(())
    }

    pub(super) fn ask_for_page(&self, job: JobId, source: FileId, op: OpId, page: PageAddress) {
        let at = Whereabouts { file: source, op, ordinal: 0, offset: 0, len: page.len };
        let want = Want { what: What::Page, epoch: page.epoch, id: page.id, at };
        self.parts.supply.add(job, vec![want], Arc::new(Page { job, inbox: self.inbox.clone() }));
    }

    /// A page has come: it is kept, and its job goes on.
    pub(super) fn handle_page(&mut self, job: JobId, id: ChunkId, plaintext: &[u8]) {
        let kept = self.parts.store.write(|write| write.put_page(id, plaintext)).map_err(FolderError::from);
        if self.restores.contains_key(&job) {
            return self.go_on_restoring(job);
        }
        if self.go_on_with_ancestor(job) {
            return;
        }
        let Some(entry) = self.jobs.entry(job).cloned() else { return };
        let begun = kept.and_then(|()| {
            let mut reader = ChunkReader::new(&*self.volume)?;
            self.begin_job(job, &entry, &mut reader)
        });
        if let Err(error) = begun {
            tracing::warn!(space = %self.space(), %error, "a file's list of chunks could not be kept");
            self.jobs.end(job);
            self.ready.insert(entry.source);
        }
    }

    /// A chunk of a content, where a file of this disk or the version store still has it.
    fn read_here(
        &self,
        snapshot: &Snapshot,
        reader: &mut ChunkReader,
        content: ContentHash,
        chunk: &Chunk,
    ) -> Result<Option<Vec<u8>>, NotBegun> {
        for file in self.files_here(snapshot, reader, content)? {
            let mut plaintext = vec![0; chunk.len as usize];
            let is_read = crate::tree::serve::read_exact(&*file, &mut plaintext, 0).unwrap_or(false);
            if is_read && self.parts.keyring.is_chunk(chunk, &plaintext) {
                return Ok(Some(plaintext));
            }
        }
        Ok(None)
    }

    /// Copies what is missing of a file from files of this disk that have it.
    fn copy_here(
        &self,
        snapshot: &Snapshot,
        reader: &mut ChunkReader,
        content: ContentHash,
        partial: &mut PartialFile,
    ) -> Result<(), NotBegun> {
        for file in self.files_here(snapshot, reader, content)? {
            let file = CopySource::new(file).map_err(FolderError::from)?;
            if partial.copy_whole(&file)? {
                return Ok(());
            }
            let missing: Vec<(usize, Vec<ChunkSource>)> =
                partial.missing_places().map(|(at, offset)| (at, vec![(file.clone(), offset)])).collect();
            partial.copy_all(&missing, &self.parts.keyring)?;
        }
        // Other contents may have some of the chunks: files are kept open as long as they are of use.
        let mut open = BTreeMap::new();
        let missing: Vec<(usize, ChunkId)> = partial.missing().map(|(at, chunk)| (at, chunk.id)).collect();
        for missing in missing.chunks(COPY_COUNT) {
            let (mut wanted, mut elsewhere) = (Vec::with_capacity(missing.len()), Vec::new());
            for (at, chunk) in missing {
                let places = snapshot.find_chunk(*chunk)?;
                let Some((first, others)) = places.split_first() else { continue };
                if open.len() >= OPEN_COUNT_MAX && !open.contains_key(&first.content) {
                    // Until it is copied from, a file is open.
                    partial.copy_all(&std::mem::take(&mut wanted), &self.parts.keyring)?;
                }
                wanted.push((*at, self.sources_at(first, &mut open, snapshot, reader)?));
                elsewhere.extend(others.iter().map(|place| (*at, *place)));
            }
            partial.copy_all(&std::mem::take(&mut wanted), &self.parts.keyring)?;
            for (at, place) in elsewhere {
                if !partial.has(at) {
                    let sources = self.sources_at(&place, &mut open, snapshot, reader)?;
                    partial.copy_all(&[(at, sources)], &self.parts.keyring)?;
                }
            }
        }
        Ok(())
    }

    /// Where a chunk may lie in the files of a place. `open`: those that are open already.
    fn sources_at(
        &self,
        place: &ChunkPlace,
        open: &mut BTreeMap<ContentHash, Vec<CopySource>>,
        snapshot: &Snapshot,
        reader: &mut ChunkReader,
    ) -> Result<Vec<ChunkSource>, FolderError> {
        if !open.contains_key(&place.content) {
            if open.len() >= OPEN_COUNT_MAX {
                open.clear();
            }
            let files = self.files_here(snapshot, reader, place.content)?.into_iter();
            open.insert(place.content, files.map(CopySource::new).collect::<Result<_, _>>()?);
        }
        let files = open.get(&place.content).into_iter().flatten();
        Ok(files.map(|file| (file.clone(), place.offset)).collect())
    }

    /// Files that had this content when they were last looked at.
    pub(super) fn files_here(
        &self,
        snapshot: &Snapshot,
        reader: &mut ChunkReader,
        content: ContentHash,
    ) -> Result<Vec<Arc<dyn VolumeFile>>, FolderError> {
        let mut files = Vec::new();
        for (key, _) in snapshot.by_hash(content)?.into_iter().take(SOURCE_COUNT_MAX) {
            files.extend(reader.open(snapshot, Source::Row(&key))?);
        }
        for version in snapshot.versions_by_hash(content)?.into_iter().take(SOURCE_COUNT_MAX) {
            files.extend(reader.open(snapshot, Source::Stored(&version.stored))?);
        }
        Ok(files)
    }
}

/// Chunks that are looked for before they are copied.
const COPY_COUNT: usize = 256;
/// Files of other contents that are open while one is put together.
const OPEN_COUNT_MAX: usize = 32;
/// Files of one content that are tried.
const SOURCE_COUNT_MAX: usize = 3;

/// A version of a file that is to be had.
pub(super) struct Version<'a> {
    /// In whose registers the operation is.
    pub(super) source: FileId,
    /// The operation that put it.
    pub(super) op: OpId,
    /// What it put.
    pub(super) content: &'a FileContent,
    /// What the file is to be.
    pub(super) spec: FileSpec,
}

impl Version<'_> {
    fn want(&self, ordinal: u64, offset: u64, chunk: &Chunk) -> Want {
        let at = Whereabouts { file: self.source, op: self.op, ordinal, offset, len: chunk.len };
        Want { what: What::Chunk, epoch: chunk.epoch, id: chunk.id, at }
    }
}

/// The chunks of a manifest, by the pages that are kept.
fn chunks_of(snapshot: &Snapshot, manifest: &Manifest) -> Result<Vec<Chunk>, NotBegun> {
    let page =
        |address: &PageAddress| snapshot.page(address.id).map_err(NotBegun::from)?.ok_or(NotBegun::Page(*address));
    manifest.chunks(page).map_err(|error| match error {
        ReadManifestError::Source(error) => error,
        ReadManifestError::Manifest(error) => NotBegun::Damaged(error.to_string()),
        ReadManifestError::Page(error) => NotBegun::Damaged(error.to_string()),
        // A kind of a newer version of the crate below.
        _ => NotBegun::Damaged("the list of its chunks can't be read; restart ZeroCloud and report this".into()),
    })
}

/// Receives a file of one chunk.
struct Whole {
    job: JobId,
    spec: FileSpec,
    staging: Staging,
    inbox: mpsc::Sender<Message>,
}

impl Receiver for Whole {
    fn receive(&self, _: &Want, plaintext: &[u8]) {
        let staged = self.staging.stage_whole(&self.spec, plaintext).map_err(NotStaged::Failed);
        // A folder that is closed wants nothing more.
        drop(self.inbox.send(Message::Staged { job: self.job, staged }));
    }

    fn give_up(&self, deniers: &BTreeSet<DeviceId>) {
        drop(self.inbox.send(Message::Staged { job: self.job, staged: Err(NotStaged::Missing(deniers.clone())) }));
    }
}

/// Receives a file of several chunks.
struct Parts {
    job: JobId,
    /// `None` once it is complete or given up.
    partial: Mutex<Option<(PartialFile, Offer)>>,
    places: BTreeMap<(EpochId, ChunkId), Vec<usize>>,
    volume: Arc<dyn Volume>,
    arrivals: Arc<Arrivals>,
    inbox: mpsc::Sender<Message>,
}

impl Receiver for Parts {
    fn receive(&self, want: &Want, plaintext: &[u8]) {
        let mut held = self.partial.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((partial, offer)) = held.as_mut() else { return };
        let places = self.places.get(&(want.epoch, want.id)).map(Vec::as_slice).unwrap_or_default();
        let written = places.iter().try_for_each(|at| partial.write(*at, &want.id, plaintext));
        if written.is_ok() {
            offer.note(places);
        }
        let is_complete = partial.is_complete();
        let staged = match written {
            Ok(()) if !is_complete => return,
            Ok(()) => held.take().map(|(partial, offer)| {
                let finished = partial.finish(&*self.volume);
                if finished.is_ok() {
                    self.arrivals.keep(offer);
                }
                finished
            }),
            Err(error) => {
                // What is there is found again when it is tried again.
                *held = None;
                Some(Err(error))
            }
        };
        if let Some(staged) = staged {
            drop(self.inbox.send(Message::Staged { job: self.job, staged: staged.map_err(NotStaged::Failed) }));
        }
    }

    fn give_up(&self, deniers: &BTreeSet<DeviceId>) {
        *self.partial.lock().unwrap_or_else(PoisonError::into_inner) = None;
        drop(self.inbox.send(Message::Staged { job: self.job, staged: Err(NotStaged::Missing(deniers.clone())) }));
    }
}

/// Receives a manifest page.
struct Page {
    job: JobId,
    inbox: mpsc::Sender<Message>,
}

impl Receiver for Page {
    fn receive(&self, want: &Want, plaintext: &[u8]) {
        drop(self.inbox.send(Message::Page { job: self.job, id: want.id, plaintext: plaintext.to_vec() }));
    }

    fn give_up(&self, deniers: &BTreeSet<DeviceId>) {
        drop(self.inbox.send(Message::Staged { job: self.job, staged: Err(NotStaged::Missing(deniers.clone())) }));
    }
}
