//! After a restart: what of a batch was done, judged by what stands under its temporary names and by inodes.

use std::collections::BTreeSet;

use zerocloud_crdt::base::{BaseOverlay, BaseRead, BaseRow, RowKey};
use zerocloud_crdt::mutated;
use zerocloud_crdt::register::{FileTime, Kind};

use super::super::handles::Handles;
use super::super::ledger::{Commit, Deed, Displaced, Intents, Ledger};
use super::super::stage::Staging;
use super::super::versions::VersionRow;
use super::super::{DEL, PUT, TreeError, fingerprint, found, kind_of};
use super::act::{Actor, Room, is_listed, renewed, settled};
use super::compare::Verdict;
use super::prepare::{Directory, open};
use super::{Batch, Materialiser};
use crate::clock::WallTime;
use crate::volume::{At, Control, Stat, VolumeDirectory, VolumeError};

/// Whether store and tree belong together, as far as the caller can tell: the fingerprint of the home and the marker's
/// counter are those that were noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// They do.
    Same,
    /// One of them was restored or copied.
    Other,
}

/// What a recovery found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Local edits that the batch had displaced: to be published.
    pub displaced: Vec<Displaced>,
    /// What went to the version store: to be looked at again.
    pub versions: Vec<VersionRow>,
    /// If no intent could be judged: rows that left base with what is below them. What the log knows of them must be
    /// read before the next scan.
    pub forgotten: BTreeSet<RowKey>,
    /// Temporary files that were removed.
    pub garbage_count: usize,
}

impl Materialiser {
    /// Judges what an earlier process noted and did not finish, and clears up after it. To be called at each start,
    /// and after a batch that ended with an error; may be called again at any time.
    ///
    /// # Errors
    /// [`TreeError::Volume`] and [`TreeError::Store`]: nothing was decided, and it can be called again.
    pub fn recover<L: Ledger>(
        &self,
        ledger: &mut L,
        trust: Trust,
        now: WallTime,
    ) -> Result<Recovered, TreeError<L::Error>> {
        self.volume.check_root()?;
        let control = self.volume.control()?;
        let intents = ledger.intents().map_err(TreeError::Store)?;
        let tmp_inode = control.tmp.stat_self()?.ino;
        let is_trusted = trust == Trust::Same && intents.as_ref().is_none_or(|noted| noted.tmp_inode == tmp_inode);
        let has_intents = intents.is_some();
        let mut recovered = Recovered::default();
        let mut actor = Actor {
            volume: &*self.volume,
            control: &control,
            is_few: false,
            is_changed: false,
            overlay: BaseOverlay::new(&*ledger),
            handles: Handles::new(self.volume.root(), control.tmp.clone()),
            touched: Vec::new(),
            written: Vec::new(),
            versions: Vec::new(),
            displaced: Vec::new(),
            unkept: Vec::new(),
            staging: Staging::within(&control, self.names.clone()),
            now,
        };
        let deeds = intents.map(|Intents { deeds, .. }| deeds).unwrap_or_default();
        let mut done = BTreeSet::new();
        if is_trusted {
            for deed in &deeds {
                if !mutated!(UnjudgedIntents) && actor.judge(deed)? {
                    done.insert(source_of(deed, &actor.overlay).map_err(TreeError::Store)?);
                }
            }
        } else {
            for deed in &deeds {
                actor.forget(deed, &mut recovered.forgotten).map_err(TreeError::Store)?;
            }
            actor.keep_unknown(ledger)?;
        }
        if has_intents {
            self.volume.sync_all()?;
        }
        let Actor { overlay, versions, displaced, unkept, .. } = actor;
        let base = overlay.into_changes();
        if has_intents || !versions.is_empty() {
            let done = done.into_iter().flatten().collect();
            let commit = Commit { base, versions, displaced, done, ..Commit::default() };
            let Batch { displaced, versions, .. } = self.commit(ledger, &control, commit, &unkept, Batch::default())?;
            (recovered.displaced, recovered.versions) = (displaced, versions);
        }
        recovered.garbage_count = self.sweep(ledger, &control)?;
        Ok(recovered)
    }

    /// Brings displaced files that a crash left under their temporary names to the version store, and removes what no
    /// row names. Partial files stay, and so does whatever is not ours.
    fn sweep<L: Ledger>(&self, ledger: &L, control: &Control) -> Result<usize, TreeError<L::Error>> {
        let mut count = 0;
        for (name, stat) in displaceable(&*control.tmp)? {
            if ledger.is_stored(&name).map_err(TreeError::Store)? {
                super::versions::keep(&*self.volume, control, &name)?;
            } else if kind_of(stat.kind).is_some_and(|kind| kind != Kind::Directory) {
                control.tmp.remove_file(name.as_bytes())?;
                count += 1;
            }
        }
        Ok(count)
    }
}

/// A directory, and what stands at a name in it.
type Stands = (Directory, Option<Stat>);

/// The files in a directory of ours that were to be put in place or were taken away, in order.
fn displaceable(directory: &dyn VolumeDirectory) -> Result<Vec<(String, Stat)>, VolumeError> {
    let mut names: Vec<String> =
        directory.list()?.into_iter().filter_map(|entry| String::from_utf8(entry.name.into()).ok()).collect();
    names.retain(|name| name.starts_with(PUT) || name.starts_with(DEL));
    names.sort_unstable();
    let mut files = Vec::with_capacity(names.len());
    for name in names {
        if let Some(stat) = found(directory.stat(name.as_bytes()))? {
            files.push((name, stat));
        }
    }
    Ok(files)
}

/// The item whose plan changes with a deed.
fn source_of<B: BaseRead>(
    deed: &Deed,
    base: &BaseOverlay<'_, B>,
) -> Result<Option<zerocloud_crdt::id::FileId>, B::Error> {
    Ok(match deed {
        Deed::Create { new, .. }
        | Deed::CreateDirectory { new, .. }
        | Deed::Replace { new, .. }
        | Deed::Move { new, .. }
        | Deed::SetMeta { new, .. } => Some(new.source),
        Deed::Delete { old, .. } => Some(old.source),
        Deed::RemoveDirectory { key, .. } => base.row(key)?.map(|row| row.source),
    })
}

impl<B: BaseRead> Actor<'_, B> {
    /// Judges one intent and brings base to what it finds. Says whether it was done.
    fn judge(&mut self, deed: &Deed) -> Result<bool, TreeError<B::Error>> {
        match deed {
            Deed::Create { key, new, temp } => self.judge_create(key, new, temp),
            Deed::CreateDirectory { key, new } => self.judge_create_directory(key, new),
            Deed::Replace { key, old, new, temp, aside: None } => self.judge_exchange(key, old, new, temp),
            Deed::Replace { key, old, new, temp, aside: Some(aside) } => self.judge_aside(key, old, new, temp, aside),
            Deed::Delete { key, old, stored } => self.judge_delete(key, old, stored),
            Deed::Move { from, to, inode, new } => self.judge_move(from, to, *inode, new),
            Deed::RemoveDirectory { key, inode } => {
                let at_place = self.place(key)?.and_then(|(_, stat)| stat).map(|stat| stat.ino);
                let is_done = (inode.is_none() || at_place != *inode) && !self.has_rows_below(key)?;
                if is_done {
                    self.overlay.remove(key.clone());
                }
                Ok(is_done)
            }
            Deed::SetMeta { key, new } => {
                let Some((_, Some(stat))) = self.place(key)? else { return Ok(false) };
                let print = fingerprint(&stat);
                let is_done = stat.ino == new.print.inode
                    && print.is_executable() == new.executable
                    && new.mtime.is_none_or(|wanted| is_rounded(print.mtime, wanted));
                if is_done {
                    let row = self.noted(BaseRow { print: renewed(&new.print, print), ..new.clone() });
                    self.overlay.put(key.clone(), row);
                }
                Ok(is_done)
            }
        }
    }

    /// Whether base has something in the directory at `key`.
    fn has_rows_below(&self, key: &RowKey) -> Result<bool, TreeError<B::Error>> {
        let row = self.overlay.row(key).map_err(TreeError::Store)?;
        row.map_or(Ok(false), |row| self.overlay.has_rows(row.id)).map_err(TreeError::Store)
    }

    /// The directory of a row as far as it was judged, and what stands at its name.
    fn place(&mut self, key: &RowKey) -> Result<Option<Stands>, TreeError<B::Error>> {
        let Ok(directory) = open(&self.overlay, &mut self.handles, key.parent)? else { return Ok(None) };
        let stat = found(directory.stat(key.local.as_bytes()))?;
        Ok(Some((directory, stat)))
    }

    fn temp(&self, name: &str) -> Result<Option<Stat>, VolumeError> {
        found(self.control.tmp.stat(name.as_bytes()))
    }

    /// Notes in base what came to a place.
    fn came(&mut self, key: &RowKey, new: &BaseRow) -> Result<(), TreeError<B::Error>> {
        let row = match self.place(key)? {
            Some((directory, Some(_))) => settled(&*directory, key, new),
            _ => new.clone(),
        };
        let row = self.noted(row);
        self.overlay.put(key.clone(), row);
        Ok(())
    }

    fn judge_create(&mut self, key: &RowKey, new: &BaseRow, temp: &str) -> Result<bool, TreeError<B::Error>> {
        let holds = self.temp(temp)?.is_some_and(|stat| stat.ino == new.print.inode);
        // A rename by link and unlink can leave both names.
        let stands =
            |place: Option<Stands>| place.and_then(|(_, stat)| stat).is_some_and(|stat| stat.ino == new.print.inode);
        if holds && !stands(self.place(key)?) {
            return Ok(false);
        }
        self.came(key, new)?;
        Ok(true)
    }

    fn judge_create_directory(&mut self, key: &RowKey, new: &BaseRow) -> Result<bool, TreeError<B::Error>> {
        if self.overlay.row(key).map_err(TreeError::Store)?.is_some() {
            return Ok(false);
        }
        let Some((directory, Some(stat))) = self.place(key)? else { return Ok(false) };
        // Where names fold, another directory may be what the name leads to.
        let is_done = kind_of(stat.kind) == Some(Kind::Directory) && is_listed(&*directory, key.local.as_bytes())?;
        if is_done {
            self.overlay.put(key.clone(), BaseRow { print: fingerprint(&stat), ..new.clone() });
        }
        Ok(is_done)
    }

    fn judge_exchange(
        &mut self,
        key: &RowKey,
        old: &BaseRow,
        new: &BaseRow,
        temp: &str,
    ) -> Result<bool, TreeError<B::Error>> {
        let at_temp = self.temp(temp)?;
        if at_temp.is_some_and(|stat| stat.ino == new.print.inode) {
            return Ok(false);
        }
        if at_temp.is_some() {
            let (stat, verdict) = self.look_at_displaced(Room::Tmp, temp, old)?;
            if verdict == Verdict::OtherKind
                && let Some((directory, Some(at_place))) = self.place(key)?
                && at_place.ino == new.print.inode
            {
                let place = At { directory: &*directory, name: key.local.as_bytes() };
                self.volume.exchange(self.tmp(temp), place)?;
                return Ok(false);
            }
            self.keep(Room::Tmp, temp, key, old, &stat, verdict);
        }
        self.came(key, new)?;
        Ok(true)
    }

    fn judge_aside(
        &mut self,
        key: &RowKey,
        old: &BaseRow,
        new: &BaseRow,
        temp: &str,
        aside: &str,
    ) -> Result<bool, TreeError<B::Error>> {
        let is_done = self.temp(temp)?.is_none_or(|stat| stat.ino != new.print.inode);
        if self.temp(aside)?.is_some() && (is_done || !self.put_back(key, Room::Tmp, aside)?) {
            let (stat, verdict) = self.look_at_displaced(Room::Tmp, aside, old)?;
            self.keep(Room::Tmp, aside, key, old, &stat, verdict);
        }
        if is_done {
            self.came(key, new)?;
        }
        Ok(is_done)
    }

    fn judge_delete(&mut self, key: &RowKey, old: &BaseRow, stored: &str) -> Result<bool, TreeError<B::Error>> {
        if found(self.control.versions.stat(stored.as_bytes()))?.is_none() {
            return Ok(false);
        }
        let (stat, verdict) = self.look_at_displaced(Room::Versions, stored, old)?;
        if verdict == Verdict::OtherKind && self.put_back(key, Room::Versions, stored)? {
            return Ok(false);
        }
        self.keep(Room::Versions, stored, key, old, &stat, verdict);
        self.overlay.remove(key.clone());
        Ok(true)
    }

    /// Puts a displaced thing back where it was, if nothing is there. Says whether it could.
    fn put_back(&mut self, key: &RowKey, room: Room, stored: &str) -> Result<bool, TreeError<B::Error>> {
        let Some((directory, None)) = self.place(key)? else { return Ok(false) };
        let place = At { directory: &*directory, name: key.local.as_bytes() };
        match self.volume.rename_noreplace(self.at(room, stored), place) {
            Ok(()) => Ok(true),
            Err(error) if super::super::is_fatal(error.kind()) => Err(error.into()),
            Err(_) => Ok(false),
        }
    }

    fn judge_move(
        &mut self,
        from: &RowKey,
        to: &RowKey,
        inode: u64,
        new: &BaseRow,
    ) -> Result<bool, TreeError<B::Error>> {
        let stands_at =
            |place: &Option<Stands>| place.as_ref().map(|(_, stat)| stat.is_some_and(|stat| stat.ino == inode));
        let is_done = match stands_at(&self.place(from)?) {
            Some(is_at_old) => !is_at_old,
            // The directory that it left was moved or removed in turn.
            None => stands_at(&self.place(to)?) == Some(true),
        };
        if is_done {
            self.overlay.remove(from.clone());
            self.came(to, new)?;
        }
        Ok(is_done)
    }

    /// Takes the paths of a deed that can't be judged out of base, with all that is below.
    fn forget(&mut self, deed: &Deed, forgotten: &mut BTreeSet<RowKey>) -> Result<(), B::Error> {
        let mut keys: Vec<RowKey> = match deed {
            Deed::Create { key, .. }
            | Deed::CreateDirectory { key, .. }
            | Deed::Replace { key, .. }
            | Deed::Delete { key, .. }
            | Deed::RemoveDirectory { key, .. }
            | Deed::SetMeta { key, .. } => vec![key.clone()],
            Deed::Move { from, to, .. } => vec![from.clone(), to.clone()],
        };
        while let Some(key) = keys.pop() {
            let Some(row) = self.overlay.row(&key)? else { continue };
            if row.kind == Kind::Directory {
                let below = self.overlay.rows(row.id)?;
                keys.extend(below.into_iter().map(|(local, _)| RowKey { parent: row.id, local }));
            }
            self.overlay.remove(key.clone());
            forgotten.insert(key);
        }
        Ok(())
    }

    /// Nothing tells what the temporary files are, and the deleted ones of which there is no row: they may be the user's only
    /// bytes.
    fn keep_unknown<L: Ledger<Error = B::Error>>(&mut self, ledger: &L) -> Result<(), TreeError<B::Error>> {
        for room in [Room::Tmp, Room::Versions] {
            for (stored, stat) in displaceable(self.directory(room))? {
                if ledger.is_stored(&stored).map_err(TreeError::Store)? {
                    continue;
                }
                if room == Room::Tmp {
                    self.unkept.push(stored.clone());
                }
                let (print, kept_at_ms) = (fingerprint(&stat), self.now.as_milliseconds());
                self.versions.push(VersionRow { stored, origin: None, print, kept_at_ms });
            }
        }
        Ok(())
    }
}

/// Whether a file system that keeps times of some granularity shows `wanted` as `shown`: 100 ns, 1 µs, 1 ms, 1 s or
/// 2 s.
fn is_rounded(shown: FileTime, wanted: FileTime) -> bool {
    let is_cut = |unit: u32| shown.secs == wanted.secs && shown.nanos == wanted.nanos - wanted.nanos % unit;
    [1, 100, 1_000, 1_000_000, 1_000_000_000].into_iter().any(is_cut)
        || (shown.nanos == 0 && shown.secs == wanted.secs - wanted.secs.rem_euclid(2))
}
