//! What a power loss may have cost: when the disk was last synced, whether the system came down as it should, and the
//! files that lost their bytes, which wait for the user.
//!
//! How such a file is told from an edit stands in [`crate::tree::scan`]. It is not published and nothing is done with it
//! until its row shows something else: the user wrote to it, touched it, restored or deleted it.

use std::collections::{BTreeMap, BTreeSet};

use zerocloud_crdt::base::{BaseRead, PARKED};
use zerocloud_crdt::id::FileId;
use zerocloud_crdt::mutated;
use zerocloud_crdt::scan::Seen;

use super::acting::key_path;
use super::{Folder, FolderError, FolderParts};
use crate::api::path::BytePath;
use crate::clock::WallTime;
use crate::store::{Snapshot, StoreError, values};
use crate::tree::scan::{Doubt, LostFile, Read, Reason, ends_in_zeros, is_untouched};
use crate::tree::versions::find;
use crate::tree::{Displaced, Pool};
use crate::volume::Control;

/// How much earlier than the last sync a file may say that it was written: clocks are set, and some file systems note
/// two seconds at a time. In nanoseconds.
const MARGIN_NS: i64 = 60_000_000_000;
/// The least time between two notes of a sync, in nanoseconds: a note costs a flush.
const NOTE_INTERVAL_NS: i64 = 60_000_000_000;

/// What is known of power losses.
#[derive(Debug)]
pub(super) struct Rebooting {
    pub(super) doubt: Doubt,
    /// When the last sync began that was noted.
    noted_sync: Option<WallTime>,
}

impl Rebooting {
    /// Finds out whether power was lost since the folder was last open, and notes that it is open now.
    pub(super) fn of_store(parts: &FolderParts) -> Result<Self, StoreError> {
        let snapshot = parts.store.snapshot()?;
        let is_other_boot = snapshot.value(values::BOOT_ID)?.is_some_and(|boot| boot != parts.boot_id);
        let is_clean = snapshot.value(values::CLEAN_STOP)?.unwrap_or(false);
        let noted_sync = snapshot.value(values::LAST_SYNC)?;
        let is_doubted = is_other_boot && !is_clean;
        parts.store.write::<_, StoreError>(|write| {
            write.set(values::CLEAN_STOP, &false)?;
            // While the files are not read, the next start must doubt them too.
            if is_doubted { Ok(()) } else { write.set(values::BOOT_ID, &parts.boot_id) }
        })?;
        let since = noted_sync.map_or(WallTime(i64::MIN), |at| WallTime(at.0.saturating_sub(MARGIN_NS)));
        let lost = snapshot.value(values::LOST)?.unwrap_or_default();
        Ok(Self { doubt: Doubt { since: is_doubted.then_some(since), lost }, noted_sync })
    }

    /// The files that lost their bytes and stand where their user can see them. One that was moved aside goes on its way.
    pub(super) fn lost_in_tree(&self, base: &Snapshot) -> Result<BTreeSet<FileId>, StoreError> {
        let mut in_tree = BTreeSet::new();
        for (id, lost) in &self.doubt.lost {
            let is_aside = base.find(*id, lost.source)?.is_some_and(|key| key.parent == PARKED);
            in_tree.extend((!is_aside).then_some(*id));
        }
        Ok(in_tree)
    }

    /// The files that lost their bytes, and the directories that they are in: under a temporary name their user would not
    /// see them.
    pub(super) fn lost_and_above(&self, base: &Snapshot) -> Result<BTreeSet<FileId>, StoreError> {
        let mut all = BTreeSet::new();
        for (id, lost) in &self.doubt.lost {
            all.insert(*id);
            let mut at = base.find(*id, lost.source)?;
            while let Some(parent) = at.map(|key| key.parent).filter(|parent| all.insert(*parent)) {
                at = base.find(parent, parent)?;
            }
        }
        Ok(all)
    }

    /// What the user is told of files that lost their bytes.
    pub(super) fn problems(&self) -> impl Iterator<Item = (BytePath, String)> {
        self.doubt.lost.values().map(|lost| (BytePath::from(lost.path.to_vec()), Reason::Lost.to_string()))
    }
}

impl<P: Pool> Folder<P> {
    /// Syncs the disk and notes it, with the end of a walk over the whole tree or of all work: whatever was doubted was
    /// read.
    pub(super) fn note_walk(&mut self) -> Result<(), FolderError> {
        self.rebooting.doubt.since = None;
        let begun = self.parts.clock.wall_time();
        if !mutated!(UnsyncedWalk) {
            self.volume.sync_all()?;
        }
        self.write_sync(begun, false)
    }

    /// Lowers the note of the last sync where the clock was set back behind it: what is written from now on says that it
    /// was written before, and a power loss may take it all the same.
    pub(super) fn mind_clock(&mut self) -> Result<(), FolderError> {
        let now = self.parts.clock.wall_time();
        // Where files are doubted, the walk that reads them notes the clock as it is then.
        if self.rebooting.doubt.since.is_none() && is_behind(now, self.rebooting.noted_sync) {
            self.write_sync(now, false)?;
        }
        Ok(())
    }

    /// Notes that the disk was synced by a batch which began at `begun`.
    pub(super) fn note_batch_sync(&mut self, begun: WallTime) -> Result<(), FolderError> {
        let is_due = self.rebooting.noted_sync.is_none_or(|at| begun.0.saturating_sub(at.0) >= NOTE_INTERVAL_NS);
        if is_due && self.rebooting.doubt.since.is_none() { self.write_sync(begun, false) } else { Ok(()) }
    }

    /// Syncs the disk and notes that the folder was closed. Nothing is noted where files are doubted still.
    pub(super) fn note_stop(&mut self) -> Result<(), FolderError> {
        if self.rebooting.doubt.since.is_some() {
            return Ok(());
        }
        let begun = self.parts.clock.wall_time();
        self.volume.sync_all()?;
        self.write_sync(begun, true)
    }

    fn write_sync(&mut self, begun: WallTime, is_stop: bool) -> Result<(), FolderError> {
        self.parts.store.write::<_, StoreError>(|write| {
            write.set(values::LAST_SYNC, &begun)?;
            write.set(values::BOOT_ID, &self.parts.boot_id)?;
            write.set(values::CLEAN_STOP, &is_stop)
        })?;
        self.rebooting.noted_sync = Some(begun);
        Ok(())
    }

    /// Notes files that a scan found without their bytes, before anything that was found with them is published.
    pub(super) fn note_lost(&mut self, found: Vec<LostFile>) -> Result<(), FolderError> {
        let lost = &mut self.rebooting.doubt.lost;
        let before = lost.clone();
        lost.extend(found.into_iter().map(|LostFile { id, lost }| (id, lost)));
        if *lost != before {
            let lost = &self.rebooting.doubt.lost;
            self.parts.store.write::<_, StoreError>(|write| write.set(values::LOST, lost))?;
        }
        Ok(())
    }

    /// Whether a displaced file is not what its row has because a power loss took its bytes.
    pub(super) fn is_lost(&self, control: &Control, displaced: &Displaced, read: &Read) -> Result<bool, FolderError> {
        let Seen::File { hash, .. } = &read.seen else { return Ok(false) };
        let ends_in_zeros = || {
            let (directory, stat) = find(control, &displaced.stored)?;
            ends_in_zeros(&*directory.open_file(displaced.stored.as_bytes())?, stat.size)
        };
        Ok(self.rebooting.doubt.is_lost(&displaced.row, *hash, &read.print, ends_in_zeros)?)
    }

    /// Lets go of files whose rows show something else by now.
    pub(super) fn forget_lost(&mut self) -> Result<(), FolderError> {
        if self.rebooting.doubt.lost.is_empty() {
            return Ok(());
        }
        let snapshot = self.parts.store.snapshot()?;
        let mut kept = BTreeMap::new();
        for (id, lost) in &self.rebooting.doubt.lost {
            let Some(key) = snapshot.find(*id, lost.source)? else { continue };
            let Some(row) = snapshot.row(&key)?.filter(|row| is_untouched(&lost.noted, &row.print)) else { continue };
            let mut lost = lost.clone();
            if is_untouched(&row.print, &lost.print) {
                lost.path = key_path(&snapshot, &key).into();
            }
            kept.insert(*id, lost);
        }
        if kept != self.rebooting.doubt.lost {
            self.parts.store.write::<_, StoreError>(|write| write.set(values::LOST, &kept))?;
            let before = std::mem::replace(&mut self.rebooting.doubt.lost, kept);
            let gone = before.into_iter().filter(|(id, _)| !self.rebooting.doubt.lost.contains_key(id));
            // What was held back goes on, and what waited for its place.
            gone.for_each(|(_, lost)| self.ready.insert(lost.source));
            self.done_count += 1;
        }
        Ok(())
    }
}

/// Whether a file that is written now says that it was written before the sync that was noted.
fn is_behind(now: WallTime, noted_sync: Option<WallTime>) -> bool {
    noted_sync.is_some_and(|noted| now < noted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_back_is_behind_the_sync_that_was_noted() {
        let noted = Some(WallTime(10));
        assert!(is_behind(WallTime(9), noted));
        assert!(!is_behind(WallTime(10), noted), "time stands still between two ticks");
        assert!(!is_behind(WallTime(i64::MIN), None), "nothing was noted, and everything is doubted");
    }
}
