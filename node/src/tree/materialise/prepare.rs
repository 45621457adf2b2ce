//! From an action to what is noted before it is done.

use std::sync::Arc;

use zerocloud_crdt::base::{BaseRead, BaseRow, PARKED, RowKey};
use zerocloud_crdt::id::FileId;
use zerocloud_crdt::plan::{Action, parked_name};
use zerocloud_crdt::register::Kind;
use zerocloud_crdt::scan::Parent;
use zerocloud_crdt::view::ViewEntry;

use super::super::handles::{Handles, InBase, OpenError};
use super::super::ledger::Deed;
use super::super::stage::{FileSpec, StageError, Staged, Staging};
use super::super::{TreeError, fingerprint, found, is_fatal, is_same_but_ctime, kind_of};
use super::{Blocked, Job, Outcome};
use crate::volume::{Control, Stat, Volume, VolumeError, VolumeErrorKind, VolumeFile};

/// What is to become of a job.
pub(super) enum Planned {
    /// It is noted, then done.
    Deed(Box<Deed>),
    /// Base changes, the disk does not.
    Note(RowKey, Box<BaseRow>),
    /// It can't be done.
    Not(Outcome),
}

/// Looks at the disk and says what a job will do. Changes nothing but temporary files.
pub(super) fn prepare<B: BaseRead>(
    base: &B,
    control: &Control,
    handles: &mut Handles,
    job: &Job,
    temp: impl FnOnce() -> String,
    (volume, staging, has_exchange): (&dyn Volume, &Staging, bool),
) -> Result<Planned, TreeError<B::Error>> {
    let deed = match &job.action {
        Action::Note { key, row } => return Ok(Planned::Note(key.clone(), Box::new(row.clone()))),
        Action::Create { key, entry } if entry.kind == Kind::Directory => {
            Deed::CreateDirectory { key: key.clone(), new: BaseRow::of_entry(entry, super::act::UNKNOWN) }
        }
        Action::Create { key, entry } => match staged_of(control, job, entry)? {
            Some(staged) => {
                let new = BaseRow::of_entry(entry, staged.print);
                Deed::Create { key: key.clone(), new, temp: staged.temp.clone() }
            }
            None => return Ok(Planned::Not(Outcome::Blocked(Blocked::NotStaged))),
        },
        Action::Replace { key, old, entry } => match staged_of(control, job, entry)? {
            Some(staged) => Deed::Replace {
                key: key.clone(),
                new: in_place_of(old, BaseRow::of_entry(entry, staged.print)),
                old: old.clone(),
                temp: staged.temp.clone(),
                aside: (!has_exchange).then(temp),
            },
            None => return Ok(Planned::Not(Outcome::Blocked(Blocked::NotStaged))),
        },
        Action::SetMeta { key, old, entry } => {
            let new = |print| in_place_of(old, BaseRow::of_entry(entry, print));
            let copied = match named_file(base, handles, key)? {
                Some(file) => {
                    let mtime = entry.mtime.unwrap_or(old.print.mtime);
                    let spec = FileSpec { mtime, ..FileSpec::of_entry(entry, Some(old)) };
                    match staging.stage_copy(volume, spec, file) {
                        Err(StageError::Volume(error)) if is_fatal(error.kind()) => return Err(error.into()),
                        Err(StageError::Volume(error)) => return Ok(Planned::Not(Outcome::Failed(error.kind()))),
                        copied => copied.ok(),
                    }
                }
                None => None,
            };
            let (key, old) = (key.clone(), old.clone());
            match copied {
                Some(Staged { temp: copy, print, .. }) => {
                    Deed::Replace { key, new: new(print), temp: copy, aside: (!has_exchange).then(temp), old }
                }
                None => Deed::SetMeta { key, new: new(old.print) },
            }
        }
        Action::Delete { key, old } => Deed::Delete { key: key.clone(), old: old.clone(), stored: temp() },
        Action::RemoveDirectory { key, .. } => match look(base, handles, key)? {
            Looked::There(stat) if kind_of(stat.kind) != Some(Kind::Directory) => {
                return Ok(Planned::Not(Outcome::Blocked(Blocked::Changed)));
            }
            Looked::There(stat) => Deed::RemoveDirectory { key: key.clone(), inode: Some(stat.ino) },
            Looked::Nothing => Deed::RemoveDirectory { key: key.clone(), inode: None },
            Looked::Not(outcome) => return Ok(Planned::Not(outcome)),
        },
        Action::Move { from, to, old, at } => {
            let mut new = old.clone();
            (new.view_parent, new.view_name) = at.clone();
            return moved(base, handles, from, to, new);
        }
        Action::Park { from, old } => {
            let Some(local) = parked_name(old.id) else { return Ok(Planned::Not(Outcome::NotTried)) };
            return moved(base, handles, from, &RowKey { parent: PARKED, local }, old.clone());
        }
    };
    Ok(Planned::Deed(Box::new(deed)))
}

fn moved<B: BaseRead>(
    base: &B,
    handles: &mut Handles,
    from: &RowKey,
    to: &RowKey,
    new: BaseRow,
) -> Result<Planned, TreeError<B::Error>> {
    Ok(match look(base, handles, from)? {
        Looked::There(stat) if kind_of(stat.kind) == Some(new.kind) => {
            Planned::Deed(Box::new(Deed::Move { from: from.clone(), to: to.clone(), inode: stat.ino, new }))
        }
        Looked::There(_) => Planned::Not(Outcome::Blocked(Blocked::Changed)),
        Looked::Nothing => Planned::Not(Outcome::Blocked(Blocked::Missing)),
        Looked::Not(outcome) => Planned::Not(outcome),
    })
}

/// The file at a place, if it has other names, too (hard links): what is set there for one name shows at all.
fn named_file<B: BaseRead>(
    base: &B,
    handles: &mut Handles,
    key: &RowKey,
) -> Result<Option<Arc<dyn VolumeFile>>, TreeError<B::Error>> {
    let Looked::There(stat) = look(base, handles, key)? else { return Ok(None) };
    if kind_of(stat.kind) != Some(Kind::File) || stat.link_count < 2 {
        return Ok(None);
    }
    let Ok(directory) = open(base, handles, key.parent)? else { return Ok(None) };
    match directory.open_file(key.local.as_bytes()) {
        Err(error) if is_fatal(error.kind()) => Err(error.into()),
        // What can't be opened is told by the action.
        file => Ok(file.ok()),
    }
}

/// What was staged for an entry, if it is still there: a temporary name that holds nothing means done to a recovery.
fn staged_of<'j>(control: &Control, job: &'j Job, entry: &ViewEntry) -> Result<Option<&'j Staged>, VolumeError> {
    let Some(staged) = job.staged.as_ref().filter(|staged| staged.kind == entry.kind && staged.hash == entry.hash)
    else {
        return Ok(None);
    };
    let stat = found(control.tmp.stat(staged.temp.as_bytes()))?;
    Ok(stat.is_some_and(|stat| is_same_but_ctime(&fingerprint(&stat), &staged.print)).then_some(staged))
}

/// A row that takes another's path stands for the place that the other notes: moving is an action of its own.
fn in_place_of(old: &BaseRow, mut new: BaseRow) -> BaseRow {
    (new.view_parent, new.view_name) = (old.view_parent, old.view_name.clone());
    new
}

enum Looked {
    There(Stat),
    Nothing,
    Not(Outcome),
}

fn look<B: BaseRead>(base: &B, handles: &mut Handles, key: &RowKey) -> Result<Looked, TreeError<B::Error>> {
    let directory = match open(base, handles, key.parent)? {
        Ok(directory) => directory,
        Err(outcome) => return Ok(Looked::Not(outcome)),
    };
    match directory.stat(key.local.as_bytes()) {
        Ok(stat) => Ok(Looked::There(stat)),
        Err(error) if error.kind() == VolumeErrorKind::NotFound => Ok(Looked::Nothing),
        Err(error) if is_fatal(error.kind()) => Err(error.into()),
        Err(error) => Ok(Looked::Not(Outcome::Failed(error.kind()))),
    }
}

pub(super) type Directory = Arc<dyn crate::volume::VolumeDirectory>;

/// Opens the directory of a row, or says why its action can't be done.
pub(super) fn open<B: BaseRead>(
    base: &B,
    handles: &mut Handles,
    directory: FileId,
) -> Result<Result<Directory, Outcome>, TreeError<B::Error>> {
    match handles.open(&InBase(base), Parent::Known(directory)) {
        Ok(handle) => Ok(Ok(handle)),
        Err(OpenError::Store(error)) => Err(TreeError::Store(error)),
        Err(OpenError::NotAsNoted) => Ok(Err(Outcome::Blocked(Blocked::NoDirectory))),
        Err(OpenError::Volume(error)) if is_fatal(error.kind()) => Err(error.into()),
        Err(OpenError::Volume(error)) => Ok(Err(match error.kind() {
            VolumeErrorKind::NotFound
            | VolumeErrorKind::IsALink
            | VolumeErrorKind::NotADirectory
            | VolumeErrorKind::CrossDevice => Outcome::Blocked(Blocked::NoDirectory),
            kind => Outcome::Failed(kind),
        })),
    }
}
