//! Conflict copies: entries that the view shows under a name that nobody gave them.
//!
//! A loser to which its user gave a name or place of its own is no conflict copy any more.

use zerocloud_crdt::id::FileId;
use zerocloud_crdt::index::IndexRead;
use zerocloud_crdt::name::Name;
use zerocloud_crdt::view::{View, ViewEntry, conflict, natural_place};

use super::paths::{entry_named, path_of_directory, path_of_entry};
use super::{byte_path, label_of, milliseconds, store_failed};
use crate::api::ApiError;
use crate::api::types::Conflict;
use crate::store::{Snapshot, StoreError};

/// Directories with conflicts that are read at a time.
const DIRECTORY_COUNT_MAX: usize = 256;

/// Every conflict copy of a space that is called `space` on this device, by the path of the file that won, with that
/// file. A copy without a time of its own (a directory, a link) has time 0.
///
/// # Errors
/// Failures of the store.
pub fn conflicts(snapshot: &Snapshot, space: &str) -> Result<Vec<Conflict>, ApiError> {
    let view = View::new(snapshot);
    let mut found = Vec::new();
    each_directory(snapshot, |directory| conflicts_in(&view, directory, space, &mut found)).map_err(store_failed)?;
    found.sort_by(|a, b| (&a.path, &a.copy).cmp(&(&b.path, &b.copy)));
    Ok(found)
}

/// How many entries of the view are conflict copies. Reads nothing but the items that share a name or have losers:
/// nothing at all where there are none.
///
/// # Errors
/// Those of the store.
pub fn conflict_count(snapshot: &Snapshot) -> Result<u64, StoreError> {
    let mut count = 0_u64;
    each_directory(snapshot, |directory| {
        count = count.saturating_add(conflict::count(snapshot, directory)?);
        Ok(())
    })?;
    Ok(count)
}

/// Whether an entry is shown under a conflict name.
pub(super) fn is_conflict(snapshot: &Snapshot, entry: &ViewEntry) -> Result<bool, StoreError> {
    Ok(natural_place(snapshot, entry.id)?.is_none_or(|(_, _, natural)| natural != entry.name))
}

/// Every directory in which items share a name or have losers.
///
/// # Errors
/// Those of the store.
pub fn contested_directories(snapshot: &Snapshot) -> Result<Vec<FileId>, StoreError> {
    let mut all = Vec::new();
    each_directory(snapshot, |directory| {
        all.push(directory);
        Ok(())
    })?;
    Ok(all)
}

fn each_directory(
    snapshot: &Snapshot,
    mut each: impl FnMut(FileId) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut last = None;
    loop {
        let directories = snapshot.contested_directories(last, DIRECTORY_COUNT_MAX)?;
        let Some(end) = directories.last() else { return Ok(()) };
        last = Some(*end);
        directories.into_iter().try_for_each(&mut each)?;
    }
}

fn conflicts_in(
    view: &View<'_, Snapshot>,
    directory: FileId,
    space: &str,
    found: &mut Vec<Conflict>,
) -> Result<(), StoreError> {
    let index = view.index();
    let Some(above) = path_of_directory(view, directory)? else { return Ok(()) };
    let path = |name: &Name| byte_path(&above.iter().chain([name]).cloned().collect::<Vec<_>>());
    for id in index.contested(directory)? {
        // The contested id of a loser that stands on its own has no entry under itself.
        for source in std::iter::once(id).chain(index.loser_of(id)?) {
            let entries = view.entries(source)?;
            for copy in &entries {
                let natural = natural_place(index, copy.id)?;
                let is_own = copy.id == id || (source == id && natural.is_none());
                if !is_own || copy.parent != directory || !is_conflict(index, copy)? {
                    continue;
                }
                let winner = match natural {
                    Some((_, _, natural)) => entry_named(view, directory, &natural)?,
                    None => entries.iter().find(|entry| entry.id == entry.source).cloned(),
                };
                let winner = match winner {
                    Some(entry) => path_of_entry(view, &entry)?.map(|path| byte_path(&path)),
                    None => None,
                };
                let copy_path = path(&copy.name);
                found.push(Conflict {
                    space: space.to_owned(),
                    path: winner.unwrap_or_else(|| copy_path.clone()),
                    copy: copy_path,
                    device_name: author(index, copy)?,
                    size: copy.len,
                    time_ms: copy.mtime.map_or(0, milliseconds),
                });
            }
        }
    }
    Ok(())
}

/// Who wrote an entry: its bytes first, or its place where it has none of its own.
fn author(snapshot: &Snapshot, entry: &ViewEntry) -> Result<String, StoreError> {
    let op = match entry.content_ops.first() {
        Some(op) => Some(*op),
        None => natural_place(snapshot, entry.id)?.map(|(op, ..)| op),
    };
    op.map_or(Ok(String::new()), |op| label_of(snapshot, op.actor))
}
