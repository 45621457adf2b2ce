//! A listing against the rows of its directory, of which only one at a time need be in memory.

use super::Listed;
use crate::base::BaseRow;
use crate::id::FileId;
use crate::name::Name;
use crate::register::Kind;

/// What a listing says of the rows of its directory.
pub(super) struct Comparison {
    /// The indices of the listing in the order of names.
    by_name: Vec<usize>,
    /// For each entry of the listing.
    pub(super) standings: Vec<Standing>,
    /// Rows of which the listing says nothing; of a directory, with its id.
    pub(super) missing: Vec<(Name, Option<FileId>)>,
}

/// What stands at a path, against its row.
#[derive(Clone, Copy)]
pub(super) enum Standing {
    /// It has none.
    New,
    /// As the row has it.
    AsBefore,
    /// The directory of the row, with this id.
    Directory(FileId),
    /// Not as the row has it: of which item and kind that is.
    Other(FileId, Kind),
}

impl Comparison {
    pub(super) fn of(listing: &[Listed]) -> Self {
        let mut by_name: Vec<usize> = (0..listing.len()).collect();
        by_name.sort_by_key(|at| listing.get(*at).map(|listed| &listed.local));
        Self { by_name, standings: vec![Standing::New; listing.len()], missing: Vec::new() }
    }

    /// Takes one row.
    pub(super) fn take(&mut self, listing: &[Listed], local: Name, row: BaseRow) {
        let found = self.by_name.binary_search_by_key(&Some(&local), |at| listing.get(*at).map(|listed| &listed.local));
        let at = found.ok().and_then(|found| self.by_name.get(found)).copied();
        let (Some(listed), Some(standing)) =
            (at.and_then(|at| listing.get(at)), at.and_then(|at| self.standings.get_mut(at)))
        else {
            return self.missing.push((local, (row.kind == Kind::Directory).then_some(row.id)));
        };
        let is_as_before =
            row.kind == listed.kind && !listed.is_doubted && row.print.is_unchanged(&listed.print, listed.kind);
        *standing = match row.kind {
            _ if !is_as_before => Standing::Other(row.id, row.kind),
            Kind::Directory => Standing::Directory(row.id),
            Kind::File | Kind::Symlink => Standing::AsBefore,
        };
    }
}
