//! From a path to what it names, and back.
//!
//! A directory of the view is never listed to find one name in it: items stand under a key of their natural name, and
//! the few that show under another one are in the table of contested items.

use std::collections::BTreeSet;

use zerocloud_crdt::base::{BaseRead, PARKED, RowKey};
use zerocloud_crdt::change::{Key, Register};
use zerocloud_crdt::id::{FileId, OpId};
use zerocloud_crdt::index::{IndexRead, name_key};
use zerocloud_crdt::limits::PATH_DEPTH_MAX;
use zerocloud_crdt::name::Name;
use zerocloud_crdt::register::{Item, Kind};
use zerocloud_crdt::view::{View, ViewEntry, file_id};

use super::{not_found, store_failed};
use crate::api::ApiError;
use crate::store::{Snapshot, StoreError};

/// Items that were made with one name in one directory, one after the other moved away, among which a deleted one is
/// looked for.
const SAME_NAME_COUNT_MAX: u32 = 64;
/// Directories of one path that are looked at: a deleted one may have stood where another stands now.
const SAME_PATH_COUNT_MAX: usize = 16;

/// What a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spot {
    /// The space's root.
    Root,
    /// An entry of the view.
    Here(Box<ViewEntry>),
    /// An item that stood there last and was deleted. The one that was written last, if there were several.
    Gone(FileId),
}

/// Finds what a path of the view names, or last named.
///
/// # Errors
/// [`ErrorKind::NotFound`](crate::api::ErrorKind::NotFound) if nothing ever had this path as its last one, and
/// failures of the store.
pub fn find(snapshot: &Snapshot, path: &[Vec<u8>]) -> Result<Spot, ApiError> {
    look(snapshot, path).map_err(store_failed)?.ok_or_else(|| not_found(path))
}

fn look(snapshot: &Snapshot, path: &[Vec<u8>]) -> Result<Option<Spot>, StoreError> {
    let Some((last, above)) = path.split_last() else { return Ok(Some(Spot::Root)) };
    if path.len() > PATH_DEPTH_MAX {
        return Ok(None);
    }
    let view = View::new(snapshot);
    // What the view shows comes first, so that nothing deleted stands before it.
    let mut parents = vec![FileId::ROOT];
    for name in above {
        let Ok(name) = Name::parse(name) else { return Ok(None) };
        let mut below = Vec::new();
        for parent in &parents {
            below.extend(shown_as(&view, *parent, &name)?.filter(is_directory).map(|entry| entry.id));
        }
        for parent in &parents {
            below.extend(gone_named(snapshot, *parent, &name)?);
        }
        below.truncate(SAME_PATH_COUNT_MAX);
        parents = below;
    }
    let Ok(name) = Name::parse(last) else { return Ok(None) };
    for parent in &parents {
        if let Some(entry) = shown_as(&view, *parent, &name)? {
            return Ok(Some(Spot::Here(Box::new(entry))));
        }
    }
    let mut newest: Option<(OpId, FileId)> = None;
    for parent in parents {
        for id in gone_named(snapshot, parent, &name)? {
            newest = newest.max(Some((last_written(snapshot, id)?, id)));
        }
    }
    Ok(newest.map(|(_, id)| Spot::Gone(id)))
}

fn is_directory(entry: &ViewEntry) -> bool {
    entry.kind == Kind::Directory
}

/// The entry that a directory of the view shows under a name, or, where none has it, that stands under it on this disk.
fn shown_as(view: &View<'_, Snapshot>, parent: FileId, name: &Name) -> Result<Option<ViewEntry>, StoreError> {
    if let Some(entry) = entry_named(view, parent, name)? {
        return Ok(Some(entry));
    }
    let row = BaseRead::row(view.index(), &RowKey { parent, local: name.clone() })?;
    row.map_or(Ok(None), |row| view.entry(row.id, row.source))
}

/// The entry that a directory of the view shows under a name, conflict names included.
pub(super) fn entry_named<I: IndexRead>(
    view: &View<'_, I>,
    parent: FileId,
    name: &Name,
) -> Result<Option<ViewEntry>, I::Error> {
    let index = view.index();
    let natural = index.keyed(parent, name_key(name))?;
    if let Some(entry) = among(view, natural, parent, name)? {
        return Ok(Some(entry));
    }
    among(view, index.contested(parent)?, parent, name)
}

fn among<I: IndexRead>(
    view: &View<'_, I>,
    ids: impl IntoIterator<Item = FileId>,
    parent: FileId,
    name: &Name,
) -> Result<Option<ViewEntry>, I::Error> {
    for id in ids {
        for source in std::iter::once(id).chain(view.index().loser_of(id)?) {
            let entries = view.entries(source)?;
            if let Some(entry) = entries.into_iter().find(|entry| entry.parent == parent && entry.name == *name) {
                return Ok(Some(entry));
            }
        }
    }
    Ok(None)
}

/// The items without content whose last place was this one.
fn gone_named(snapshot: &Snapshot, parent: FileId, name: &Name) -> Result<BTreeSet<FileId>, StoreError> {
    let present = snapshot.keyed(parent, name_key(name))?;
    let mut gone = BTreeSet::new();
    for id in ever_named(snapshot, parent, name)? {
        let item = snapshot.item(id)?.unwrap_or_default();
        if item.content.is_empty() && !present.contains(&id) && stands_at(&item, parent, name) {
            gone.insert(id);
        }
    }
    Ok(gone)
}

/// The items that stand or may once have stood at this place: those made there, whose ids follow from the place, and
/// those once moved there.
///
/// # Errors
/// Those of the store.
pub fn ever_named(snapshot: &Snapshot, parent: FileId, name: &Name) -> Result<BTreeSet<FileId>, StoreError> {
    let name_key = name_key(name);
    let mut ids: BTreeSet<FileId> = snapshot.once_placed(parent, name_key)?.into_iter().collect();
    ids.extend(snapshot.keyed(parent, name_key)?);
    for is_directory in [false, true] {
        for n in 0..SAME_NAME_COUNT_MAX {
            let id = file_id(IndexRead::space(snapshot), parent, is_directory, n, name.as_bytes());
            if snapshot.item(id)?.is_none() {
                break;
            }
            ids.insert(id);
        }
    }
    Ok(ids)
}

fn stands_at(item: &Item, parent: FileId, name: &Name) -> bool {
    item.winning_place().is_some_and(|(_, place)| place.parent == parent && place.name == *name)
}

fn last_written(snapshot: &Snapshot, id: FileId) -> Result<OpId, StoreError> {
    let operations = snapshot.operations(Key { item: id, register: Register::Content })?;
    Ok(operations.last().map_or(OpId::ZERO, |operation| operation.id))
}

/// Where an entry of the view stands, from the root down; `None` if the view does not show it. One view for many
/// paths: it keeps the conflict names of the directories that it was asked about.
///
/// # Errors
/// Those of the store.
pub fn path_of<I: IndexRead>(view: &View<'_, I>, id: FileId, source: FileId) -> Result<Option<Vec<Name>>, I::Error> {
    match view.entry(id, source)? {
        Some(entry) => path_of_entry(view, &entry),
        None => Ok(None),
    }
}

/// As [`path_of`], of an entry that is at hand.
pub(super) fn path_of_entry<I: IndexRead>(
    view: &View<'_, I>,
    entry: &ViewEntry,
) -> Result<Option<Vec<Name>>, I::Error> {
    let Some(mut path) = path_of_directory(view, entry.parent)? else { return Ok(None) };
    path.push(entry.name.clone());
    Ok(Some(path))
}

/// Where a directory of the view stands; no names for the root.
pub(super) fn path_of_directory<I: IndexRead>(view: &View<'_, I>, id: FileId) -> Result<Option<Vec<Name>>, I::Error> {
    let (mut path, mut at) = (Vec::new(), id);
    while at != FileId::ROOT {
        let Some(entry) = view.entry_of(at)?.filter(|_| path.len() < PATH_DEPTH_MAX) else { return Ok(None) };
        path.push(entry.name);
        at = entry.parent;
    }
    path.reverse();
    Ok(Some(path))
}

/// Where a row of base stands on this disk, from the folder down, by local names; `None` while it or a directory
/// above it is under a temporary name.
///
/// # Errors
/// Those of the store.
pub fn path_of_row<B: BaseRead>(base: &B, key: &RowKey) -> Result<Option<Vec<Name>>, B::Error> {
    let (mut path, mut at) = (vec![key.local.clone()], key.parent);
    while at != FileId::ROOT {
        if at == PARKED || path.len() >= PATH_DEPTH_MAX {
            return Ok(None);
        }
        let Some(above) = base.find(at, at)? else { return Ok(None) };
        path.push(above.local);
        at = above.parent;
    }
    path.reverse();
    Ok(Some(path))
}
