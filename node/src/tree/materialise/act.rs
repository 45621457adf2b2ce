//! Doing what was noted, one action after the other.

use std::collections::BTreeSet;
use std::sync::Arc;

use zerocloud_crdt::base::{BaseOverlay, BaseRead, BaseRow, Fingerprint, PARKED, RowKey};
use zerocloud_crdt::id::FileId;
use zerocloud_crdt::mutated;
use zerocloud_crdt::plan::obstacle;
use zerocloud_crdt::register::{FileTime, Kind};

use super::super::handles::Handles;
use super::super::ledger::{Deed, Displaced};
use super::super::stage::{FileSpec, Staging};
use super::super::versions::VersionRow;
use super::super::{TreeError, fingerprint, found, is_fatal, is_same_but_ctime, kind_of, racy, volume_time};
use super::compare::{Verdict, compare};
use super::prepare::{Planned, open};
use super::{Blocked, Job, Outcome};
use crate::clock::WallTime;
use crate::volume::{
    At, Control, Permissions, Stat, Volume, VolumeDirectory, VolumeError, VolumeErrorKind, VolumeFile,
};

/// Stands for a fingerprint that is not known yet.
pub(super) const UNKNOWN: Fingerprint = Fingerprint {
    inode: 0,
    birth: None,
    len: 0,
    mtime: FileTime { secs: 0, nanos: 0 },
    ctime: FileTime { secs: 0, nanos: 0 },
    mode: 0,
};

/// One batch in progress.
pub(super) struct Actor<'a, B: BaseRead> {
    pub(super) volume: &'a dyn Volume,
    pub(super) control: &'a Control,
    /// Whether each directory and file is synced by itself.
    pub(super) is_few: bool,
    /// Whether anything was changed on disk.
    pub(super) is_changed: bool,
    /// Base with what was done so far.
    pub(super) overlay: BaseOverlay<'a, B>,
    pub(super) handles: Handles,
    /// Directories whose names changed, if they are few: each is a file descriptor.
    pub(super) touched: Vec<Arc<dyn VolumeDirectory>>,
    /// Files whose time or mode changed, if they are few.
    pub(super) written: Vec<Arc<dyn VolumeFile>>,
    pub(super) versions: Vec<VersionRow>,
    pub(super) displaced: Vec<Displaced>,
    /// The names of those that are not in the version store yet.
    pub(super) unkept: Vec<String>,
    pub(super) staging: Staging,
    pub(super) now: WallTime,
}

/// Where a displaced file is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    /// Among the temporary files, from where it goes to the version store once its row is there.
    Tmp,
    /// In the version store.
    Versions,
}

/// Why an action was not done.
pub(super) enum Refusal {
    Blocked(Blocked),
    Volume(VolumeError),
    /// In the middle of an action: only a recovery can tell what became of it.
    Unfinished(VolumeError),
}

impl From<VolumeError> for Refusal {
    fn from(error: VolumeError) -> Self {
        match error.kind() {
            VolumeErrorKind::NotFound => Self::Blocked(Blocked::Missing),
            VolumeErrorKind::Exists => Self::Blocked(Blocked::Occupied),
            VolumeErrorKind::NotEmpty => Self::Blocked(Blocked::NotEmpty),
            VolumeErrorKind::IsALink | VolumeErrorKind::WrongKind | VolumeErrorKind::NotADirectory => {
                Self::Blocked(Blocked::Changed)
            }
            VolumeErrorKind::IntoItself => Self::Blocked(Blocked::NoDirectory),
            _ => Self::Volume(error),
        }
    }
}

/// The outcomes, and the items of which an action was done.
type Acted = (Vec<Outcome>, BTreeSet<FileId>);
type Done = Result<Option<BaseRow>, Refusal>;

impl<B: BaseRead> Actor<'_, B> {
    pub(super) fn act_all(&mut self, jobs: &[Job], plans: Vec<Planned>) -> Result<Acted, TreeError<B::Error>> {
        let (mut outcomes, mut done, mut is_full) = (Vec::with_capacity(jobs.len()), BTreeSet::new(), false);
        for (job, planned) in jobs.iter().zip(plans) {
            let outcome = match planned {
                Planned::Not(outcome) => outcome,
                Planned::Note(key, row) => {
                    self.overlay.put(key, (*row).clone());
                    Outcome::Done(Some(row))
                }
                Planned::Deed(_) if is_full => Outcome::NotTried,
                Planned::Deed(deed) => match obstacle(&self.overlay, &job.action).map_err(TreeError::Store)? {
                    Some(obstacle) if !mutated!(UnaskedObstacle) => Outcome::Blocked(obstacle.into()),
                    _ => self.act(&deed)?,
                },
            };
            match &outcome {
                Outcome::Done(_) => drop(done.insert(job.action.source())),
                Outcome::Failed(VolumeErrorKind::NoSpace) => is_full = true,
                Outcome::Failed(_) | Outcome::Blocked(_) | Outcome::NotTried => {}
            }
            outcomes.push(outcome);
        }
        Ok((outcomes, done))
    }

    fn act(&mut self, deed: &Deed) -> Result<Outcome, TreeError<B::Error>> {
        let key = match deed {
            Deed::Create { key, .. }
            | Deed::CreateDirectory { key, .. }
            | Deed::Replace { key, .. }
            | Deed::Delete { key, .. }
            | Deed::RemoveDirectory { key, .. }
            | Deed::SetMeta { key, .. } => key,
            Deed::Move { to, .. } => to,
        };
        let directory = match open(&self.overlay, &mut self.handles, key.parent)? {
            Ok(directory) => directory,
            Err(outcome) => return Ok(outcome),
        };
        let outcome = match deed {
            Deed::Create { new, temp, .. } => self.create(&*directory, key, new, temp),
            Deed::CreateDirectory { new, .. } => create_directory(&*directory, key, new),
            Deed::Replace { old, new, temp, aside, .. } => match aside {
                None => self.exchange(&*directory, key, old, new, temp),
                Some(aside) => self.put_aside(&*directory, key, old, new, temp, aside),
            },
            Deed::Delete { old, stored, .. } => self.delete(&*directory, key, old, stored),
            Deed::Move { from, new, .. } => match open(&self.overlay, &mut self.handles, from.parent)? {
                Ok(source) => {
                    let outcome = self.rename(&*source, from, &*directory, key, new);
                    self.touch(source);
                    outcome
                }
                Err(outcome) => return Ok(outcome),
            },
            Deed::RemoveDirectory { .. } => {
                found(directory.remove_directory(key.local.as_bytes())).map(|_| None).map_err(Refusal::from)
            }
            Deed::SetMeta { new, .. } => self.set_meta(&*directory, key, new),
        };
        let row = match outcome {
            Ok(row) => row,
            Err(Refusal::Blocked(blocked)) => return Ok(Outcome::Blocked(blocked)),
            Err(Refusal::Unfinished(error)) => return Err(error.into()),
            Err(Refusal::Volume(error)) if is_fatal(error.kind()) => return Err(error.into()),
            Err(Refusal::Volume(error)) => return Ok(Outcome::Failed(error.kind())),
        };
        self.touch(directory);
        if let Deed::Move { from, .. } = deed {
            self.overlay.remove(from.clone());
        }
        if let Deed::RemoveDirectory { .. } = deed
            && let Some(gone) = self.overlay.row(key).map_err(TreeError::Store)?
        {
            self.handles.forget(gone.id);
        }
        let row = row.map(|row| self.noted(row));
        match &row {
            Some(row) => self.overlay.put(key.clone(), row.clone()),
            None => self.overlay.remove(key.clone()),
        }
        Ok(Outcome::Done(row.map(Box::new)))
    }

    /// A row as base is to have it: what may be edited from now on and look the same is noted so.
    pub(super) fn noted(&self, mut row: BaseRow) -> BaseRow {
        if row.kind != Kind::Directory && racy::is_racy(&row.print, self.now, WallTime(i64::MAX)) {
            row.print = row.print.unsettled();
        }
        row
    }

    fn touch(&mut self, directory: Arc<dyn VolumeDirectory>) {
        self.is_changed = true;
        if self.is_few && !self.touched.iter().any(|touched| Arc::ptr_eq(touched, &directory)) {
            self.touched.push(directory);
        }
    }

    pub(super) fn tmp<'n>(&'n self, name: &'n str) -> At<'n> {
        self.at(Room::Tmp, name)
    }

    pub(super) fn directory(&self, room: Room) -> &dyn VolumeDirectory {
        match room {
            Room::Tmp => &*self.control.tmp,
            Room::Versions => &*self.control.versions,
        }
    }

    pub(super) fn at<'n>(&'n self, room: Room, name: &'n str) -> At<'n> {
        At { directory: self.directory(room), name: name.as_bytes() }
    }

    fn create(&self, directory: &dyn VolumeDirectory, key: &RowKey, new: &BaseRow, temp: &str) -> Done {
        let to = At { directory, name: key.local.as_bytes() };
        self.volume.rename_noreplace(self.tmp(temp), to).map_err(|error| match error.kind() {
            VolumeErrorKind::Exists => Refusal::Blocked(who_has(directory, key.local.as_bytes())),
            _ => occupied(error),
        })?;
        Ok(Some(settled(directory, key, new)))
    }

    /// Puts the new file in place and the old one under its temporary name, in one step; then looks at what it was.
    fn exchange(
        &mut self,
        directory: &dyn VolumeDirectory,
        key: &RowKey,
        old: &BaseRow,
        new: &BaseRow,
        temp: &str,
    ) -> Done {
        check_as_base(directory, key, old)?;
        let place = At { directory, name: key.local.as_bytes() };
        self.volume.exchange(self.tmp(temp), place)?;
        let (stat, verdict) = self.look_at_displaced(Room::Tmp, temp, old).map_err(Refusal::Unfinished)?;
        if verdict == Verdict::OtherKind && self.volume.exchange(self.tmp(temp), place).is_ok() {
            return Err(Refusal::Blocked(Blocked::Changed));
        }
        self.keep(Room::Tmp, temp, key, old, &stat, verdict);
        Ok(Some(settled(directory, key, new)))
    }

    /// The same where names can't be exchanged: for a moment nothing stands there.
    fn put_aside(
        &mut self,
        directory: &dyn VolumeDirectory,
        key: &RowKey,
        old: &BaseRow,
        new: &BaseRow,
        temp: &str,
        aside: &str,
    ) -> Done {
        check_as_base(directory, key, old)?;
        let place = At { directory, name: key.local.as_bytes() };
        self.volume.park(place, self.tmp(aside))?;
        let (stat, verdict) = self.look_at_displaced(Room::Tmp, aside, old).map_err(Refusal::Unfinished)?;
        let put = match verdict {
            Verdict::OtherKind => Err(Refusal::Blocked(Blocked::Changed)),
            Verdict::AsBase | Verdict::Edited => self.volume.rename_noreplace(self.tmp(temp), place).map_err(occupied),
        };
        if let Err(refusal) = put {
            // Back, unless somebody has made something there: then that is what the next scan sees.
            if self.volume.rename_noreplace(self.tmp(aside), place).is_err() {
                self.keep(Room::Tmp, aside, key, old, &stat, verdict);
            }
            return Err(refusal);
        }
        self.keep(Room::Tmp, aside, key, old, &stat, verdict);
        Ok(Some(settled(directory, key, new)))
    }

    /// Puts a file in the version store, and looks there at what it was.
    fn delete(&mut self, directory: &dyn VolumeDirectory, key: &RowKey, old: &BaseRow, stored: &str) -> Done {
        check_as_base(directory, key, old)?;
        let place = At { directory, name: key.local.as_bytes() };
        self.volume.park(place, self.at(Room::Versions, stored))?;
        let (stat, verdict) = self.look_at_displaced(Room::Versions, stored, old).map_err(Refusal::Unfinished)?;
        let stands = self.at(Room::Versions, stored);
        if verdict == Verdict::OtherKind && self.volume.rename_noreplace(stands, place).is_ok() {
            return Err(Refusal::Blocked(Blocked::Changed));
        }
        self.keep(Room::Versions, stored, key, old, &stat, verdict);
        self.touch(self.control.versions.clone());
        Ok(None)
    }

    fn rename(
        &self,
        source: &dyn VolumeDirectory,
        from: &RowKey,
        target: &dyn VolumeDirectory,
        to: &RowKey,
        new: &BaseRow,
    ) -> Done {
        let before = source.stat(from.local.as_bytes())?;
        if kind_of(before.kind) != Some(new.kind) {
            return Err(Refusal::Blocked(Blocked::Changed));
        }
        let old = At { directory: source, name: from.local.as_bytes() };
        let place = At { directory: target, name: to.local.as_bytes() };
        if to.parent == PARKED {
            self.volume.park(old, place)?;
        } else {
            self.volume.rename_noreplace(old, place).map_err(|error| {
                if error.kind() != VolumeErrorKind::Exists {
                    return error.into();
                }
                let blocked = who_has(target, place.name);
                let is_itself = || target.stat(place.name).is_ok_and(|there| there.ino == before.ino);
                let is_respelled = blocked == Blocked::Collides && from.parent == to.parent && is_itself();
                Refusal::Blocked(if is_respelled { Blocked::Itself } else { blocked })
            })?;
        }
        // An edit that no scan has seen moves with the file, and the row keeps what tells of it.
        if fingerprint(&before) != new.print {
            return Ok(Some(new.clone()));
        }
        Ok(Some(settled(target, to, new)))
    }

    fn set_meta(&mut self, directory: &dyn VolumeDirectory, key: &RowKey, new: &BaseRow) -> Done {
        let file = directory.open_file(key.local.as_bytes())?;
        let stat = file.stat()?;
        if !is_as_noted(&new.print, &fingerprint(&stat)) && !mutated!(TouchedOverEdit) {
            return Err(Refusal::Blocked(Blocked::Changed));
        }
        if stat.is_executable() != new.executable {
            file.set_executable(new.executable)?;
        }
        if let Some(mtime) = new.mtime {
            file.set_mtime(volume_time(mtime))?;
        }
        let mut row = new.clone();
        row.print = renewed(&new.print, fingerprint(&file.stat()?));
        if self.is_few {
            self.written.push(file);
        }
        Ok(Some(row))
    }

    /// What was displaced, and whether it is what base had.
    pub(super) fn look_at_displaced(
        &self,
        room: Room,
        stored: &str,
        old: &BaseRow,
    ) -> Result<(Stat, Verdict), VolumeError> {
        let At { directory, name } = self.at(room, stored);
        let stat = directory.stat(name)?;
        let verdict = compare(directory, name, &stat, old)?;
        Ok((stat, verdict))
    }

    /// Notes a displaced file: a version, or a local edit.
    pub(super) fn keep(
        &mut self,
        room: Room,
        stored: &str,
        key: &RowKey,
        row: &BaseRow,
        stat: &Stat,
        verdict: Verdict,
    ) {
        let print = self.set_apart(self.at(room, stored), row, stat, verdict).unwrap_or_else(|| fingerprint(stat));
        let stored = stored.to_owned();
        if room == Room::Tmp {
            self.unkept.push(stored.clone());
        }
        if verdict == Verdict::AsBase {
            let origin = Some((key.clone(), row.clone()));
            self.versions.push(VersionRow { stored, origin, print, kept_at_ms: self.now.as_milliseconds() });
        } else {
            let (key, row, kind) = (key.clone(), row.clone(), kind_of(stat.kind));
            self.displaced.push(Displaced { stored, key, row, kind, print });
        }
    }

    /// Gives a version that has other names, too (hard links), bytes of its own, under the same stored name: what is done to
    /// the file by its other names is no edit of the version, and leaves it as it is. Gives its state; `None` where it stays
    /// as it was, also where there is no room for a copy.
    fn set_apart(&self, at: At<'_>, row: &BaseRow, stat: &Stat, verdict: Verdict) -> Option<Fingerprint> {
        if verdict != Verdict::AsBase || row.kind != Kind::File || stat.link_count < 2 {
            return None;
        }
        let permissions = Permissions::Like { mode: stat.mode, executable: stat.is_executable() };
        let (id, hash, mtime) = (row.id, row.hash, fingerprint(stat).mtime);
        let file = at.directory.open_file(at.name).ok()?;
        let spec = FileSpec { id, hash, len: stat.size, mtime, permissions };
        let copy = self.staging.stage_copy(self.volume, spec, file).ok()?;
        self.put_in_place_of_name(&copy.temp, at).ok()?;
        at.directory.stat(at.name).ok().map(|stat| fingerprint(&stat))
    }

    /// Puts a copy, which has a temporary name, in place of one of a file's names.
    fn put_in_place_of_name(&self, copy: &str, name: At<'_>) -> Result<(), VolumeError> {
        match self.volume.exchange(self.tmp(copy), name) {
            Err(error) if error.kind() == VolumeErrorKind::Unsupported => {
                // If all ends between the two, its other names still have the bytes.
                name.directory.remove_file(name.name)?;
                self.volume.rename_noreplace(self.tmp(copy), name)
            }
            exchanged => {
                // Either the file, which has its other names, or a copy that is of no use.
                self.control.tmp.remove_file(copy.as_bytes()).ok();
                exchanged
            }
        }
    }

    /// Brings what was done to stable storage.
    pub(super) fn sync(&self) -> Result<(), VolumeError> {
        if !self.is_changed || mutated!(UnsyncedBatch) {
            return Ok(());
        }
        if !self.is_few {
            return self.volume.sync_all();
        }
        for file in &self.written {
            file.sync()?;
        }
        for directory in &self.touched {
            directory.sync()?;
        }
        self.control.tmp.sync()
    }
}

/// Nothing of this name to be found means for a temporary file that it was taken away.
fn occupied(error: VolumeError) -> Refusal {
    match error.kind() {
        VolumeErrorKind::NotFound => Refusal::Blocked(Blocked::NotStaged),
        _ => error.into(),
    }
}

/// What has a name that can't be given: something of this name, or, where the disk takes names for one that differ in
/// case or Unicode form, something of another. The disk is asked, because only it knows what it takes for one, which may
/// differ from directory to directory.
fn who_has(directory: &dyn VolumeDirectory, name: &[u8]) -> Blocked {
    match is_listed(directory, name) {
        Ok(false) if directory.stat(name).is_ok() => Blocked::Collides,
        // A scan finds out what else it is.
        _ => Blocked::Occupied,
    }
}

/// Whether something in a directory has exactly this name.
pub(super) fn is_listed(directory: &dyn VolumeDirectory, name: &[u8]) -> Result<bool, VolumeError> {
    Ok(directory.list()?.iter().any(|entry| *entry.name == *name))
}

fn create_directory(directory: &dyn VolumeDirectory, key: &RowKey, new: &BaseRow) -> Done {
    directory.create_directory(key.local.as_bytes()).map_err(|error| match error.kind() {
        VolumeErrorKind::Exists => Refusal::Blocked(who_has(directory, key.local.as_bytes())),
        _ => error.into(),
    })?;
    let mut row = new.clone();
    // Without it the directory counts as another one until the next scan.
    row.print = directory.stat(key.local.as_bytes()).map_or(UNKNOWN, |stat| fingerprint(&stat));
    Ok(Some(row))
}

/// Whether a file looks as it was noted. Of one that was noted as unsettled no more is known; whoever displaces it
/// compares the bytes.
fn is_as_noted(noted: &Fingerprint, now: &Fingerprint) -> bool {
    if noted.is_unsettled() { is_same_but_ctime(noted, now) } else { noted == now }
}

/// The fingerprint by which a file is noted after something of ours changed it that says nothing of its bytes: what was
/// unsettled stays so.
pub(super) const fn renewed(noted: &Fingerprint, now: Fingerprint) -> Fingerprint {
    if noted.is_unsettled() { now.unsettled() } else { now }
}

/// Whether exactly what base has stands at a row's path.
fn check_as_base(directory: &dyn VolumeDirectory, key: &RowKey, old: &BaseRow) -> Result<(), Refusal> {
    let stat = directory.stat(key.local.as_bytes())?;
    let is_same = kind_of(stat.kind) == Some(old.kind) && is_as_noted(&old.print, &fingerprint(&stat));
    if is_same { Ok(()) } else { Err(Refusal::Blocked(Blocked::Changed)) }
}

/// A row with the fingerprint that the file has at its place: a rename has changed its ctime. If something else stands
/// there already, the row keeps what it was written with, and the next scan sees the difference.
pub(super) fn settled(directory: &dyn VolumeDirectory, key: &RowKey, new: &BaseRow) -> BaseRow {
    let mut row = new.clone();
    if let Ok(stat) = directory.stat(key.local.as_bytes()) {
        let print = fingerprint(&stat);
        let is_same = match new.kind {
            Kind::Directory => print.inode == new.print.inode,
            Kind::File | Kind::Symlink => is_same_but_ctime(&print, &new.print),
        };
        if is_same && kind_of(stat.kind) == Some(new.kind) {
            row.print = renewed(&new.print, print);
        }
    }
    row
}
