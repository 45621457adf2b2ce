//! Versions without a source: which of them another member may have, which nobody has, and how a user ends those.
//!
//! A version is *awaited* while a member that is not connected may have it. It is *lost* when every other member is
//! connected and said twice that it does not have it, with time in between to look at its files again. A lost version
//! keeps nothing from being idle, and is asked for as before: whoever comes to have it ends the loss.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use zerocloud_crdt::base::{BaseRead, RowKey};
use zerocloud_crdt::id::{DeviceId, FileId};
use zerocloud_crdt::mutated;
use zerocloud_crdt::register::{Content, Kind};
use zerocloud_crdt::rewind::{Change, REWIND_COUNT};
use zerocloud_crdt::view::{View, ViewEntry};

use super::{Folder, FolderError};
use crate::answers::members::devices;
use crate::api::path::BytePath;
use crate::engine::found::{Found, FoundWith};
use crate::folder::{Forgetting, GivenUp, Lacks, NotForgotten};
use crate::tree::serve::ChunkReader;
use crate::tree::stage::Staged;
use crate::tree::{Pool, read_content_hash};
use crate::volume::VolumeFile;

/// How long after nobody who is connected had a file they are asked again: a member between us and its author has it a
/// moment after we heard of it. Doubles each time.
const STARVED_DELAY: Duration = Duration::from_millis(250);
/// The most, when nobody has it time after time.
const STARVED_DELAY_MAX: Duration = Duration::from_secs(60);
/// Awaited files that are named.
const AWAITED_SHOWN_MAX: usize = 20;

/// The other devices of a space; `None` if its records can't be evaluated.
pub(super) type Others = Option<BTreeSet<DeviceId>>;

impl<P: Pool> Folder<P> {
    /// Nobody who was asked gives a file; `deniers` do not have it.
    pub(super) fn starve(&mut self, entry: ViewEntry, deniers: &BTreeSet<DeviceId>) {
        let now = self.now();
        let do_all_deny = self.others().is_some_and(|others| others.is_subset(deniers));
        self.jobs.starve(entry, do_all_deny.then_some(now));
        if self.next_asking.is_none() {
            self.starved_delay = (self.starved_delay * 2).clamp(STARVED_DELAY, STARVED_DELAY_MAX);
            self.next_asking = Some(now + self.starved_delay);
        }
    }

    /// Whether nobody can ever be asked: no other device belongs to the space.
    pub(super) fn is_alone(&mut self) -> bool {
        !self.parts.supply.has_members() && self.others().is_some_and(|others| others.is_empty())
    }

    pub(super) fn want_starved(&mut self) {
        self.next_asking = None;
        if !mutated!(StarvedForGood) {
            self.jobs.want_starved();
        }
    }

    /// Records come at any time, and are never fewer: of as many as there were, the same is known.
    fn others(&mut self) -> Others {
        // A store that fails is told by the next step.
        let snapshot = self.parts.store.snapshot().ok()?;
        let record_count = snapshot.records().ok()?.len();
        if let Some((_, others)) = self.others.as_ref().filter(|(count, _)| *count == record_count) {
            return others.clone();
        }
        let others = devices(&snapshot).ok()?.map(|mut devices| {
            devices.remove(&self.parts.device);
            devices
        });
        self.others = Some((record_count, others.clone()));
        others
    }

    /// What to say of versions without a source.
    pub(super) fn lacks(&self) -> Lacks {
        let awaited_paths = self.awaited().take(AWAITED_SHOWN_MAX).map(|entry| self.path_of_entry(entry)).collect();
        Lacks { awaited: self.awaited().count() as u64, awaited_paths, lost: self.jobs.lost_count() as u64 }
    }

    /// What a member may have that is not connected. While nobody is, that is all that is wanted.
    fn awaited(&self) -> Box<dyn Iterator<Item = &ViewEntry> + '_> {
        if self.parts.supply.has_members() { Box::new(self.jobs.awaited()) } else { Box::new(self.jobs.not_lost()) }
    }

    /// Lost versions as the user is told of them.
    pub(super) fn lost_problems(&self) -> impl Iterator<Item = (BytePath, String)> {
        self.jobs.lost().map(|entry| {
            let reason = "no device has this version any more: `zerocloud restore` brings an older one back, \
                          `zerocloud forget` ends the wait";
            (self.path_of_entry(entry), reason.to_owned())
        })
    }

    fn path_of_entry(&self, entry: &ViewEntry) -> BytePath {
        self.path_of(&RowKey { parent: entry.parent, local: entry.name.clone() })
    }

    /// Gives up what is lost: what this disk has in its place stands instead, or nothing.
    pub(super) fn end_wait(&mut self, forgetting: Forgetting) {
        let given_up = if self.is_paused {
            Err(NotForgotten::Failed("the space is paused; resume it first".to_owned()))
        } else {
            self.give_up(&forgetting)
        };
        // Whoever asked may have gone.
        let _ = forgetting.done.send(given_up);
    }

    fn give_up(&mut self, forgetting: &Forgetting) -> Result<Vec<GivenUp>, NotForgotten> {
        let is_below = |entry: &&ViewEntry| is_at_or_below(self.path_of_entry(entry).as_bytes(), &forgetting.path);
        let mut entries: Vec<ViewEntry> = self.jobs.lost().filter(is_below).cloned().collect();
        let awaited: Vec<ViewEntry> = self.awaited().filter(is_below).cloned().collect();
        if forgetting.is_awaited_too {
            entries.extend(awaited);
        } else if entries.is_empty() && !awaited.is_empty() {
            return Err(NotForgotten::Awaited { count: awaited.len() });
        }
        let failed = |error: FolderError| NotForgotten::Failed(error.to_string());
        let here = self.keep_what_is_here(&mut entries).map_err(failed)?;
        for entry in here {
            drop(self.jobs.remove(entry.id, &*self.parts.supply));
            self.jobs.want(entry, &*self.parts.supply);
        }
        if entries.is_empty() {
            return Err(NotForgotten::NothingLost);
        }
        self.write_given_up(entries).map_err(failed)
    }

    /// Takes out of `entries` what this disk has by now, and gives it: it could not be read when it was looked for, or came
    /// since.
    fn keep_what_is_here(&self, entries: &mut Vec<ViewEntry>) -> Result<Vec<ViewEntry>, FolderError> {
        let snapshot = self.parts.store.snapshot()?;
        let mut reader = ChunkReader::new(&*self.volume)?;
        let (mut lacking, mut here) = (Vec::with_capacity(entries.len()), Vec::new());
        for entry in entries.drain(..) {
            // What was noted of a file may be wrong: it was not found there before.
            let has_bytes =
                |file: &Arc<dyn VolumeFile>| read_content_hash(&**file).is_ok_and(|hash| hash == entry.hash);
            let is_here = self.files_here(&snapshot, &mut reader, entry.hash)?.iter().any(has_bytes);
            if is_here { here.push(entry) } else { lacking.push(entry) }
        }
        *entries = lacking;
        Ok(here)
    }

    fn write_given_up(&mut self, entries: Vec<ViewEntry>) -> Result<Vec<GivenUp>, FolderError> {
        // What was done here since the last scan is what stands in its place.
        self.scan_all()?;
        self.is_materialised = false;
        let mut all = Vec::with_capacity(entries.len());
        for some in entries.chunks(REWIND_COUNT) {
            let snapshot = self.parts.store.snapshot()?;
            let mut reader = ChunkReader::new(&*self.volume)?;
            let (mut changes, mut contents) = (Vec::with_capacity(some.len()), BTreeMap::new());
            for shown in some {
                let key = snapshot.find(shown.id, shown.source)?.filter(|_| !shown.is_virtual());
                let row = match &key {
                    Some(key) => snapshot.row(key)?.filter(|row| row.kind != Kind::Directory),
                    None => None,
                };
                let older = match key.as_ref().zip(row) {
                    Some((key, row)) => self.content_here(&snapshot, &mut reader, key, &row)?,
                    None => None,
                };
                let content = older.map(|(content, of_content)| {
                    contents.extend(of_content);
                    content
                });
                all.push(GivenUp { path: self.path_of_entry(shown), is_older_kept: content.is_some() });
                changes.push(Change::GivenUp { shown: shown.clone(), content });
            }
            self.let_pass(changes.iter().map(Change::id));
            self.parts.log.append(vec![FoundWith { found: Found::Rewound(changes), contents }])?;
        }
        Ok(all)
    }

    /// Puts a version in place of one that is not here, if that is what stands at a path. An edit of the file would be
    /// concurrent with what is not here, and that would be waited for as before.
    pub(super) fn put_in_place_of_missing(
        &mut self,
        source: FileId,
        path: &[u8],
        content: Content,
        staged: &Staged,
    ) -> Result<bool, FolderError> {
        let shown = self.jobs.missing_of(source).find(|entry| self.path_of_entry(entry).as_bytes() == path).cloned();
        let Some(shown) = shown else { return Ok(false) };
        self.is_materialised = false;
        let (id, hash) = (shown.id, content.hash());
        self.let_pass([id]);
        let change = Change::GivenUp { shown, content: Some(content) };
        self.parts.log.append(vec![Found::Rewound(vec![change]).into()])?;
        let snapshot = self.parts.store.snapshot()?;
        match View::new(&snapshot).entry(id, source)?.filter(|entry| entry.hash == hash && entry.kind == staged.kind) {
            Some(entry) if entry.kind == Kind::File => {
                drop(self.jobs.remove(id, &*self.parts.supply));
                self.jobs.put_staged(entry, staged.clone());
            }
            // A link is staged anew; what another edit took the place of is a version like any other.
            _ => self.staging.discard(staged)?,
        }
        self.ready.insert(source);
        Ok(true)
    }
}

/// Whether a path is another or lies below it.
fn is_at_or_below(path: &[u8], top: &[u8]) -> bool {
    let Some(rest) = path.strip_prefix(top) else { return false };
    top.is_empty() || rest.is_empty() || rest.starts_with(b"/")
}
