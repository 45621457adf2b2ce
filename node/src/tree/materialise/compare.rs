//! Whether what was displaced is what base had.

use zerocloud_crdt::base::BaseRow;
use zerocloud_crdt::id::ContentHash;
use zerocloud_crdt::mutated;
use zerocloud_crdt::register::Kind;

use super::super::reading::read_content_hash;
use super::super::{fingerprint, is_same_but_ctime, kind_of};
use crate::volume::{Stat, VolumeDirectory, VolumeError};

/// What a displaced thing is, beside what base had there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Just that.
    AsBase,
    /// Something that a user wrote, or touched, since.
    Edited,
    /// A directory, FIFO or the like, or a link for a file.
    OtherKind,
}

/// Compares what stands at `name` with a row: by fingerprint, and by content where that differs or can't be trusted.
pub(super) fn compare(
    directory: &dyn VolumeDirectory,
    name: &[u8],
    stat: &Stat,
    row: &BaseRow,
) -> Result<Verdict, VolumeError> {
    if kind_of(stat.kind) != Some(row.kind) {
        return Ok(Verdict::OtherKind);
    }
    let print = fingerprint(stat);
    if is_same_but_ctime(&print, &row.print) && !row.print.is_unsettled() || mutated!(UncomparedDisplaced) {
        return Ok(Verdict::AsBase);
    }
    let is_touched = row.kind == Kind::File
        && (print.mtime != row.print.mtime || print.is_executable() != row.print.is_executable());
    if is_touched || print.len != row.print.len {
        return Ok(Verdict::Edited);
    }
    let hash = match row.kind {
        Kind::Symlink => directory.read_link(name).map(|target| ContentHash::of(&target)),
        Kind::File | Kind::Directory => directory.open_file(name).and_then(|file| read_content_hash(&*file)),
    };
    match hash {
        Ok(hash) if hash == row.hash => Ok(Verdict::AsBase),
        Err(error) if super::super::is_fatal(error.kind()) => Err(error),
        // What can't be read may be anything.
        Ok(_) | Err(_) => Ok(Verdict::Edited),
    }
}
