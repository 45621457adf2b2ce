//! Opening and closing a folder: marker, recovery of what an earlier process left, and what is to be done first.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, mpsc};

use zerocloud_crdt::id::ContentHash;
use zerocloud_crdt::index::IndexRead;
use zerocloud_crdt::mutated;
use zerocloud_crdt::scan::{Parent, Seen, Sighting};

use super::ready::Ready;
use super::{Folder, FolderError, FolderParts, Message, pending_of};
use crate::answers::conflicts::contested_directories;
use crate::engine::found::{Found, FoundWith};
use crate::folder::work::guarding::Guard;
use crate::folder::work::ignoring::Ignoring;
use crate::folder::work::jobs::Jobs;
use crate::folder::work::merging::Merging;
use crate::folder::work::rebooting::Rebooting;
use crate::folder::work::texts::Texts;
use crate::store::{Awaited, Notice, StoreError, StoreLedger, values};
use crate::tree::marker::{Marker, MarkerError};
use crate::tree::materialise::{Materialiser, Trust};
use crate::tree::scan::{ReadError, read_stored};
use crate::tree::stage::Staging;
use crate::tree::versions::{SecondLooks, open};
use crate::tree::{Displaced, Ledger, Pool};
use crate::volume::Volume;
use crate::watch::debounce::Debounce;
use crate::watch::dirty::DirtySet;

impl<P: Pool> Folder<P> {
    /// Opens a folder: checks that it is the space's, finishes or undoes what an earlier process left in the middle, and
    /// has everything scanned.
    ///
    /// # Errors
    /// [`FolderError`]; it can be tried again.
    pub fn open(
        parts: &FolderParts,
        volume: Arc<dyn Volume>,
        inbox: mpsc::Sender<Message>,
        pool: P,
    ) -> Result<Self, FolderError> {
        let parts = parts.clone();
        let (trust, found) = check_marker(&parts, &*volume)?;
        note_unjudged(&parts, &*volume, trust)?;
        let names = parts.names.clone();
        let now = parts.clock.now();
        let mut folder = Self {
            ledger: StoreLedger::new(parts.store.clone())?,
            materialiser: Materialiser::new(volume.clone(), names.clone()),
            staging: Staging::new(&*volume, names)?,
            volume,
            inbox,
            pool,
            debounce: Debounce::new(),
            dirty: if mutated!(UnscannedStart) { DirtySet::default() } else { DirtySet::everything() },
            left_off: BTreeSet::new(),
            is_walking: false,
            again: BTreeMap::new(),
            rescans: Vec::new(),
            rescanned: Vec::new(),
            next_walk: now + super::WALK_INTERVAL,
            has_watcher: true,
            settling: BTreeMap::new(),
            looks: SecondLooks::default(),
            next_prune: now,
            thinned: None,
            scan_problems: BTreeMap::new(),
            scan_count: 0,
            ready: Ready::default(),
            settled: BTreeMap::new(),
            waiting: BTreeMap::new(),
            waiters: BTreeMap::new(),
            stuck: BTreeMap::new(),
            aside: BTreeMap::new(),
            guard: Guard::new(parts.guard, parts.retention, &parts.store.snapshot()?)?,
            rebooting: Rebooting::of_store(&parts)?,
            done_count: 0,
            next_batch: now,
            jobs: Jobs::default(),
            lists: Vec::new(),
            next_asking: None,
            starved_delay: std::time::Duration::ZERO,
            others: None,
            restores: BTreeMap::new(),
            merging: Merging::default(),
            texts: Texts::default(),
            ignoring: Ignoring::of_store(&parts.store)?,
            written: (0, 0),
            is_materialised: false,
            awaits_index: parts.store.snapshot()?.value(values::AWAITS_INDEX)?.is_some(),
            is_paused: false,
            must_check_root: false,
            warnings: BTreeSet::new(),
            parts,
        };
        folder.recover(trust)?;
        let opening = raise_marker(&folder.parts, &*folder.volume, found)?;
        folder.jobs = Jobs::new(opening << 32);
        folder.ready.extend(&pending_of(folder.ledger.snapshot())?);
        // What could not be merged before may be now: a plan that finds nothing to be done looks at it.
        let contested = contested_directories(folder.ledger.snapshot())?;
        for directory in contested.into_iter().filter(|_| folder.parts.merges) {
            folder.ready.extend(&folder.ledger.snapshot().contested(directory)?);
        }
        Ok(folder)
    }

    /// Ends with a disk that is synced, and a note and a marker that say so.
    ///
    /// # Errors
    /// [`FolderError`]: nothing is lost, the next start finds it out.
    pub fn close(&mut self) -> Result<(), FolderError> {
        self.keep_last_texts();
        self.note_stop()?;
        raise_marker(&self.parts, &*self.volume, 0).map(drop)
    }

    /// Judges what was begun and not finished, and publishes local edits that it had displaced.
    pub(super) fn recover(&mut self, trust: Trust) -> Result<(), FolderError> {
        let wall_time = self.parts.clock.wall_time();
        self.jobs.forget_staged();
        self.ledger.refresh()?;
        let recovered = self.materialiser.recover(&mut self.ledger, trust, wall_time)?;
        for version in recovered.versions {
            self.looks.add(self.now(), version);
        }
        for displaced in self.ledger.displaced()? {
            self.publish(&displaced)?;
        }
        Ok(())
    }

    /// Publishes a file that was displaced and is not what base had there. Gives the hash of the content that it is published
    /// with.
    pub(super) fn publish(&mut self, displaced: &Displaced) -> Result<Option<ContentHash>, FolderError> {
        let kept_at_ms = self.parts.clock.wall_time().as_milliseconds();
        let mut hash = None;
        if let Some(kind) = displaced.kind {
            let control = self.volume.control()?;
            let previous = super::scanning::previous(self.ledger.snapshot(), &displaced.row);
            let read = match read_stored(&control, &displaced.stored, previous.as_ref(), &self.parts.keyring) {
                Ok(read) => read,
                // What can't be read stays where it is, and is tried again at the next start.
                Err(error @ (ReadError::Unstable | ReadError::NoKeys | ReadError::TooLong(_))) => {
                    tracing::warn!(stored = displaced.stored, %error, "a local edit waits in the version store");
                    return Ok(None);
                }
                Err(ReadError::Volume(error)) => return Err(error.into()),
            };
            if self.is_lost(&control, displaced, &read)? {
                tracing::warn!(
                    stored = displaced.stored,
                    "a file that a power loss emptied is kept as a version alone"
                );
                self.ledger.confirm_displaced(&displaced.stored, kept_at_ms, None)?;
                return Ok(None);
            }
            let contents = super::scanning::contents_of(&read.seen, read.contents);
            if let Seen::File { hash: seen, .. } = &read.seen {
                // Nobody but us has them any more: what a power loss put in their place would pass for another edit.
                open(&control, &displaced.stored)?.sync()?;
                hash = Some(*seen);
            }
            let sighting = Sighting {
                parent: Parent::Known(displaced.key.parent),
                local: displaced.key.local.clone(),
                kind,
                print: read.print,
                links: 1,
                from: Some(displaced.key.clone()),
                seen: read.seen,
            };
            let found = Found::Displaced { sighting: Box::new(sighting), row: Box::new(displaced.row.clone()) };
            self.parts.log.append(vec![FoundWith { found, contents }])?;
        }
        self.ledger.confirm_displaced(&displaced.stored, kept_at_ms, hash)?;
        Ok(hash)
    }
}

impl<P> Drop for Folder<P> {
    fn drop(&mut self) {
        self.merging.jobs().for_each(|job| self.parts.supply.remove(job));
        self.jobs.abandon(&*self.parts.supply);
    }
}

/// Checks that the folder is the space's and the one that was noted; gives its marker's counter, 0 without one.
fn check_marker(parts: &FolderParts, volume: &dyn Volume) -> Result<(Trust, u64), FolderError> {
    volume.check_root()?;
    let snapshot = parts.store.snapshot()?;
    let filesystem = volume.filesystem_id()?;
    let is_other = snapshot.value(values::FILESYSTEM)?.is_some_and(|noted| !noted.is_same(&filesystem));
    if is_other && !mutated!(UnmountedIsEmpty) {
        return Err(FolderError::OtherFilesystem);
    }
    let counter = snapshot.value(values::MARKER_COUNTER)?;
    let found = match Marker::read(volume) {
        // It was checked that the folder is nobody's when the space was stored; it gets its marker now. What can't be read
        // is a first one that a crash left half written.
        Err(MarkerError::Missing | MarkerError::Damaged(_)) if counter.is_none() || mutated!(UnmountedIsEmpty) => {
            return Ok((Trust::Same, 0));
        }
        marker => marker?,
    };
    // The first marker comes before the store's counter: where that is missing, a crash came between, or the store was
    // lost and the space joined again.
    let noted = Marker { space: parts.store.space(), counter: counter.unwrap_or(FIRST_COUNTER) };
    let trust = match found.check(&noted) {
        Ok(()) => Trust::Same,
        // The folder was restored from a copy, which is an act of the user: what is there now counts.
        Err(MarkerError::Lower { marker, store }) => {
            tracing::warn!(space = %parts.store.space(), marker, store, "the folder is older than the store");
            // Behind by one is what a crash between the two leaves as well.
            if store - marker > 1 {
                parts.store.write(|write| write.put_notice(Notice::FolderOlder))?;
            }
            Trust::Other
        }
        Err(MarkerError::Higher { .. }) if counter.is_none() => Trust::Other,
        Err(MarkerError::Higher { marker, store }) => {
            tracing::warn!(space = %parts.store.space(), marker, store, "the store is older than the folder");
            parts.store.write(|write| write.begin_anew(Notice::StoreOlder, Awaited::AnyMember))?;
            Trust::Other
        }
        Err(error) => return Err(error.into()),
    };
    Ok((trust, found.counter))
}

/// Notes, before they leave base, that the log knows what was begun in the folder and can't be judged.
fn note_unjudged(parts: &FolderParts, volume: &dyn Volume, trust: Trust) -> Result<(), FolderError> {
    let Some(intents) = StoreLedger::new(parts.store.clone())?.intents()? else { return Ok(()) };
    if trust == Trust::Other || volume.control()?.tmp.stat_self()?.ino != intents.tmp_inode {
        parts.store.write::<_, StoreError>(|write| {
            write.await_index(Awaited::Nobody)?;
            write.put_notice(Notice::Unjudged)
        })?;
    }
    Ok(())
}

/// The counter of a folder that was never opened before.
const FIRST_COUNTER: u64 = 1;

/// Raises the counter in the store and then in the marker, above `found`, which the marker has. A crash between the two
/// leaves a marker that is behind by one, and nothing to be judged. Only the first marker comes first: a store that
/// counts never finds none.
fn raise_marker(parts: &FolderParts, volume: &dyn Volume, found: u64) -> Result<u64, FolderError> {
    let filesystem = volume.filesystem_id()?;
    let space = parts.store.space();
    if found == 0 && parts.store.snapshot()?.value(values::MARKER_COUNTER)?.is_none() {
        Marker { space, counter: FIRST_COUNTER }.write(volume)?;
    }
    let counter = parts.store.write::<_, StoreError>(|write| {
        let noted = write.value(values::MARKER_COUNTER)?.unwrap_or_default();
        let counter = noted.max(found).saturating_add(1);
        write.set(values::MARKER_COUNTER, &counter)?;
        write.set(values::FILESYSTEM, &filesystem)?;
        Ok(counter)
    })?;
    Marker { space, counter }.write(volume)?;
    Ok(counter)
}
