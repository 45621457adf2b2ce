//! The version store: what was displaced, until its time has come.
//!
//! Rows are kept by the ledger, and [`Retention`] says when they expire; here are the files, and the second look at what
//! another program may have had open when it was displaced.

mod retention;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use zerocloud_crdt::base::{BaseRow, Fingerprint, RowKey};
use zerocloud_crdt::id::ContentHash;
use zerocloud_crdt::register::Kind;

use super::{fingerprint, found, is_same_but_ctime};
use crate::clock::Moment;
use crate::volume::{At, Control, Stat, Volume, VolumeDirectory, VolumeError, VolumeErrorKind, VolumeFile};

pub use retention::{KEEP_DAY_COUNT, Retention};

/// How long after it was displaced an inode is looked at again: by then a program that saves has closed it.
pub const SECOND_LOOK_DELAY: Duration = Duration::from_secs(10);

/// [`VersionRow::kept_at_ms`] of a text that was merged here, so long as it is in no place of its own: it is kept until it
/// is, and its time has passed then.
pub const UNTIL_IN_PLACE: i64 = i64::MIN;

/// One file of the version store: as base had it, or a local edit that was published since.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionRow {
    /// Its name in the store.
    pub stored: String,
    /// Where it stood and what base had there; `None` for what was found without a row.
    pub origin: Option<(RowKey, BaseRow)>,
    /// Its state when it was displaced; the ctime means nothing.
    pub print: Fingerprint,
    /// When, in milliseconds since 1970.
    pub kept_at_ms: i64,
}

impl VersionRow {
    /// The same after it was published as a file's content with this hash: by that its bytes are found.
    #[must_use]
    pub(crate) fn published_as(mut self, hash: Option<ContentHash>) -> Self {
        if let (Some(hash), Some((_, row))) = (hash, &mut self.origin) {
            (row.kind, row.hash, row.print) = (Kind::File, hash, self.print);
            (row.len, row.mtime) = (self.print.len, Some(self.print.mtime));
        }
        self
    }
}

/// What a look at a stored file found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// As it was displaced.
    AsKept,
    /// Something wrote to it since: to be published as a conflict copy. The state that it has by now.
    Changed(Fingerprint),
    /// It is not there.
    Missing,
}

/// Looks at a stored file.
///
/// # Errors
/// The common ones of a volume.
pub fn look(control: &Control, row: &VersionRow) -> Result<Look, VolumeError> {
    let Some((_, stat)) = found(find(control, &row.stored))? else { return Ok(Look::Missing) };
    let print = fingerprint(&stat);
    Ok(if is_same_but_ctime(&row.print, &print) { Look::AsKept } else { Look::Changed(print) })
}

/// Removes a version whose time has passed, unless something wrote to it since it was displaced: that is told, and
/// the file stays. Whether the time has passed is the caller's to ask ([`Retention::is_over`]); no other reason, a
/// full disk least of all, makes anything go.
///
/// # Errors
/// The common ones of a volume.
pub fn prune(control: &Control, row: &VersionRow) -> Result<Look, VolumeError> {
    let outcome = look(control, row)?;
    if outcome == Look::AsKept {
        let (directory, _) = find(control, &row.stored)?;
        directory.remove_file(row.stored.as_bytes())?;
    }
    Ok(outcome)
}

/// Opens a stored file for reading: to restore it, or to serve its chunks.
///
/// # Errors
/// `NotFound`; `InvalidName` for what is no name; `IsALink` and `WrongKind` if it is no regular file.
pub fn open(control: &Control, stored: &str) -> Result<Arc<dyn VolumeFile>, VolumeError> {
    find(control, stored)?.0.open_file(stored.as_bytes())
}

/// The directory that a stored file is in: the store, or still that of temporary files if a crash came between.
pub(crate) fn find(control: &Control, stored: &str) -> Result<(Arc<dyn VolumeDirectory>, Stat), VolumeError> {
    match control.versions.stat(stored.as_bytes()) {
        Err(error) if error.kind() == VolumeErrorKind::NotFound => {
            Ok((control.tmp.clone(), control.tmp.stat(stored.as_bytes())?))
        }
        stat => Ok((control.versions.clone(), stat?)),
    }
}

/// Brings a displaced file from the temporary files to the version store, under the same name. Nothing to be done if
/// it is there already.
pub(crate) fn keep(volume: &dyn Volume, control: &Control, stored: &str) -> Result<(), VolumeError> {
    let name = stored.as_bytes();
    if zerocloud_crdt::mutated!(UnkeptVersion) {
        return found(control.tmp.remove_file(name)).map(drop);
    }
    let (from, to) = (At { directory: &*control.tmp, name }, At { directory: &*control.versions, name });
    found(volume.park(from, to)).map(drop)
}

/// Displaced files that wait for their second look. Lost in a crash, after which every version is looked at before it
/// goes all the same.
#[derive(Clone, Debug, Default)]
pub struct SecondLooks {
    waiting: BTreeMap<(Moment, String), VersionRow>,
}

impl SecondLooks {
    /// How many are to come.
    pub fn count(&self) -> usize {
        self.waiting.len()
    }

    /// Notes a file that was displaced at `now`.
    pub fn add(&mut self, now: Moment, row: VersionRow) {
        self.waiting.insert((now + SECOND_LOOK_DELAY, row.stored.clone()), row);
    }

    /// When the next look is due.
    pub fn deadline(&self) -> Option<Moment> {
        self.waiting.keys().next().map(|(at, _)| *at)
    }

    /// Takes out what is due at `now`, the earliest first.
    pub fn take_due(&mut self, now: Moment) -> Vec<VersionRow> {
        let mut due = Vec::new();
        while let Some(first) = self.waiting.first_entry().filter(|first| first.key().0 <= now) {
            due.push(first.remove());
        }
        due
    }
}
